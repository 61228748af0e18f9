"""The mail source ``mbox``: one mbox file, or a folder of them, each a folder of the mailbox.

A mail is known by a digest over its bytes, so it may lie anywhere in the file.  A file that has not changed since it
was listed is not read again; one that has is read once from its beginning.
"""

from __future__ import annotations

import os
import stat
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Final, Self

import attrs

from maildaemon_adapters.local import headers, locking, rewriting
from maildaemon_adapters.local.disk import Disk, DiskFile, make_inside, open_inside
from maildaemon_adapters.local.mbox_format import (
    BLOCK,
    Mail,
    NotMbox,
    Piece,
    ReadAt,
    dated,
    header_block,
    mails,
    of_equal_ones,
    unquoted,
)
from maildaemon_adapters.local.paging import Look, Paging, Unlisted
from maildaemon_adapters.local.rewriting import Reached, Torn
from maildaemon_adapters.local.settings import MboxSettings
from maildaemon_adapters.local.shelf import (
    File,
    Steps,
    folder_fault,
    missing,
    not_tidied,
    printable,
    reason,
    steps_below,
    trouble,
    unread,
)
from maildaemon_adapters.local.walk import Item
from maildaemon_core.errors import FolderMissing, FolderRefused, MaildaemonError, Trouble
from maildaemon_core.folders import INBOX
from maildaemon_core.message import Cursor, Envelope, FolderRef, MessageRef
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.ports import (
    Fetched,
    Finding,
    FolderInfo,
    Known,
    Level,
    Page,
    Settled,
    Spool,
    Unfetched,
    Vanished,
)

KIND: Final = "mbox"
UNENDED: Final = 60.0
"""Seconds for which a last mail without an empty line behind it waits for more."""

_DEEPEST: Final = 20
_NO_MAIL: Final = (".lock", ".msf", ".dat", ".tmp", ".part", "~")
"""What mail programs have beside their mbox files."""


@attrs.frozen
class Lying:
    """A file as it was read, and the mails in it.  ``waits``: all but the last, which may still be written to."""

    stamp: str
    mails: Mapping[str, Mail]
    waits: bool


class MboxSource:
    """A session with mbox files below ``disk``; ``only``: the name of the one file that is the whole mailbox.

    ``reached`` is told of each step of a rewriting.
    """

    def __init__(
        self,
        disk: Disk,
        settings: MboxSettings,
        spool: Spool,
        *,
        only: str | None = None,
        reached: Reached = lambda _: None,
    ) -> None:
        self._disk = disk
        self._only = only
        self._settings = settings
        self._spool = spool
        self._reached = reached
        self._paging = Paging(KIND)
        self._lying: dict[FolderRef, Lying] = {}
        self._inbox_name = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._disk.close()

    # ------------------------------------------------------------------------------------------------------- looking

    def folders(self) -> Sequence[FolderInfo]:
        if self._only is not None:
            return [FolderInfo(name=FolderRef(INBOX))]
        try:
            return [FolderInfo(name=name) for name in self._below(())]
        except OSError as error:
            raise folder_fault(FolderRef(INBOX), self._disk.where, error) from error

    def _below(self, steps: Steps) -> Iterator[FolderRef]:
        for file in sorted(self._disk.files(steps), key=lambda file: file.name):
            inbox = not steps and file.name == self._inbox()
            folder = FolderRef(INBOX if inbox else "/".join((*steps, file.name)))
            if steps_below(folder) is not None and not file.name.endswith(_NO_MAIL) and self._begins_well(steps, file):
                yield folder
        for name in sorted(self._disk.folders(steps)) if len(steps) < _DEEPEST else ():
            if not name.startswith("."):
                try:
                    yield from self._below((*steps, name))
                except OSError:
                    continue  # one that we may not look into: who names it is told so

    def _begins_well(self, steps: Steps, file: File) -> bool:
        try:
            with self._disk.open(steps, file.name) as opened:
                return file.size == 0 or opened.read(5) == b"From "
        except OSError:
            return False

    def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
        return self._paging.page(
            folder,
            cursor,
            limit,
            look=lambda: self._look(folder),
            describe=lambda item: self._describe(folder, item),
            stamp=lambda: self._stamp(folder),
        )

    def _look(self, folder: FolderRef) -> Look:
        lying = self._lying[folder] = self._read(folder)
        found = [Item((number, ""), mail.uid) for number, mail in enumerate(lying.mails.values()) if not mail.internal]
        return Look(found, stamp="" if lying.waits else lying.stamp)

    def _stamp(self, folder: FolderRef) -> str:
        steps, name = self._way(folder)
        try:
            with self._disk.folder(steps) as inside:
                if rewriting.has_journal(inside, name):
                    return ""
                return _stamp(os.lstat(name, dir_fd=inside))
        except OSError:
            return ""

    def _read(self, folder: FolderRef) -> Lying:
        """All mails of a file, read from its beginning."""
        with self._opened(folder) as file:
            try:
                return self._mails(file)
            except NotMbox as error:
                raise FolderRefused(
                    f"the file of the folder {folder!r} in {self._disk.where} is no mbox: {error}",
                    remedy="correct `folders` or `path`, or take the file away",
                ) from error
            except OSError as error:
                raise folder_fault(folder, self._disk.where, error) from error

    def _mails(self, file: DiskFile) -> Lying:
        """As far as the last is not still being written."""
        found = os.fstat(file.descriptor)
        now = time.time()
        read = partial(_read_at, file.descriptor)
        listed = {mail.uid: mail for mail in mails(read, found.st_size)}
        waits = False
        if listed:
            uid, last = listed.popitem()
            seconds = self._settings.quiet_seconds
            if not last.piece.ended and seconds:
                seconds = max(seconds, UNENDED)
            waits = abs(now - found.st_mtime) < seconds
            if not waits:
                listed[uid] = last
        return Lying(_stamp(found), listed, waits)

    def _find(self, file: DiskFile, folder: FolderRef, uid: str) -> Mail | None:
        """Where the mail lies in the file as it is now.  Raises ``NotMbox`` and OSError."""
        lying = self._lying.get(folder)
        if lying is None or lying.stamp != _stamp(os.fstat(file.descriptor)):
            lying = self._lying[folder] = self._mails(file)
        return lying.mails.get(uid)

    def _describe(self, folder: FolderRef, item: Item) -> Envelope | Unlisted | None:
        with self._opened(folder) as file:
            try:
                mail = self._find(file, folder, item.uid)
                if mail is None:
                    return None
                read, piece = partial(_read_at, file.descriptor), mail.piece
                line, block = read(piece.start, piece.body - piece.start), header_block(read, piece)
                modified = os.fstat(file.descriptor).st_mtime_ns
            except (OSError, NotMbox) as error:
                return Unlisted(item.uid, reason(error))
        return Envelope(
            ref=MessageRef(folder, "", item.uid),
            headers=headers.headers_of(block),
            received=headers.received(block, otherwise=dated(line) or headers.at(modified)),
            size=piece.end - piece.body,
        )

    def _way(self, folder: FolderRef) -> tuple[Steps, str]:
        """The folders on the way to a file, and its name.  Raises ``FolderMissing``."""
        if self._only is not None:
            if folder != INBOX:
                raise missing(folder, f"{self._disk.where}/{self._only}", there=[INBOX])
            return (), self._only
        steps = (INBOX,) if folder == INBOX else steps_below(folder)
        if steps is None:
            raise missing(folder, self._disk.where)
        if folder == INBOX:
            steps = (self._inbox(),)
        return steps[:-1], steps[-1]

    def _inbox(self) -> str:
        """INBOX is written in any case (RFC 9051 §5.1), the name of a file is not."""
        if self._inbox_name:
            return self._inbox_name
        try:
            names = [file.name for file in self._disk.files(())]
        except OSError:
            return INBOX
        alike = [name for name in names if name.upper() == INBOX]
        if len(alike) != 1:
            return INBOX
        self._inbox_name = alike[0]
        return self._inbox_name

    @contextmanager
    def _opened(self, folder: FolderRef) -> Iterator[DiskFile]:
        """The file, locked against those who write to it; a rewriting that was interrupted is finished first."""
        steps, name = self._way(folder)
        self._finish(folder, steps, name)
        with self._faults(folder):
            opened = locking.reading(self._disk, steps, name, self._settings.lock_seconds)
            file = opened.__enter__()
        try:
            yield file
        finally:
            opened.__exit__(None, None, None)

    def _finish(self, folder: FolderRef, steps: Steps, name: str) -> None:
        with self._faults(folder):
            with self._disk.folder(steps) as inside:
                if not rewriting.has_journal(inside, name):
                    return
            with locking.writing(self._disk, steps, name, self._settings.lock_seconds) as locks:
                if rewriting.has_journal(locks.folder, name):
                    rewriting.finish(locks, name, self._reached)

    @contextmanager
    def _faults(self, folder: FolderRef) -> Iterator[None]:
        """Faults of a file as those of its folder."""
        try:
            yield
        except locking.Busy as error:
            raise FolderRefused(
                f"the folder {folder!r} in {self._disk.where} is locked by another program",
                remedy="it will be tried again; if no program uses it, remove the file with its name and .lock",
            ) from error
        except Torn as error:
            _, name = self._way(folder)
            raise FolderRefused(
                f"the folder {folder!r} in {self._disk.where} was being rewritten when that was interrupted, and "
                "another program has changed it since",
                remedy=f"look into the file; what was to follow in it is in {rewriting.journal_of(name)} beside it, "
                "behind its first line; then remove that",
            ) from error
        except OSError as error:
            raise folder_fault(folder, self._disk.where, error) from error

    # ------------------------------------------------------------------------------------------------------ fetching

    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished | Unfetched]:
        for ref in refs:
            yield self._fetch(ref)

    def _fetch(self, ref: MessageRef) -> Fetched | Vanished | Unfetched:
        with self._opened(ref.folder) as file:
            try:
                mail = self._find(file, ref.folder, ref.uid)
                if mail is None:
                    return self._not_there(ref)
                pieces = _pieces(file.descriptor, mail.piece)
                return Fetched(ref=ref, content=self._spool.keep(unquoted(pieces, self._settings.quoting)))
            except (OSError, NotMbox) as error:
                return Unfetched(ref=ref, trouble=unread(f"a mail in {ref.folder}", error))

    def _not_there(self, ref: MessageRef) -> Vanished | Unfetched:
        if not self._lying[ref.folder].waits:
            return Vanished(ref=ref)
        return Unfetched(
            ref=ref,
            trouble=trouble("StillWritten", f"{ref.folder!r} is being written to just now", "it will be tried again"),
        )

    # ------------------------------------------------------------------------------------------------------- tidying

    def settle(self, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Settled | Trouble]:
        if not mails or care.action is Action.KEEP:
            return {mail.ref: Settled() for mail in mails}
        if care.action is Action.SEEN:
            return {mail.ref: _NO_FLAGS for mail in mails}
        folder = mails[0].ref.folder
        try:
            if care.action is Action.MOVE and self._only is not None:
                return {mail.ref: _ONE_FILE for mail in mails}
            steps, name = self._way(folder)
            self._finish(folder, steps, name)
            if not self._disk_has(steps, name):
                raise missing(folder, self._disk.where)
            with self._faults(folder), ExitStack() as stack:
                locks = stack.enter_context(locking.writing(self._disk, steps, name, self._settings.lock_seconds))
                return self._settle(locks, name, mails, care)
        except MaildaemonError as error:
            if isinstance(error.__cause__, OSError) and not isinstance(error, FolderMissing):
                return {mail.ref: not_tidied(f"the folder {folder}", error.__cause__) for mail in mails}
            return {mail.ref: error.trouble() for mail in mails}

    def _disk_has(self, steps: Steps, name: str) -> bool:
        try:
            with self._disk.folder(steps) as inside:
                os.lstat(name, dir_fd=inside)
                return True
        except FileNotFoundError:
            return False
        except OSError:
            return True  # why it cannot be opened is said when it is

    def _settle(
        self, locks: locking.Locks, name: str, wanted: Sequence[Known], care: Aftercare
    ) -> Mapping[MessageRef, Settled | Trouble]:
        file = locks.file.descriptor
        try:
            there = {mail.uid: mail for mail in mails(partial(_read_at, file), os.fstat(file).st_size)}
        except NotMbox as error:
            return {mail.ref: unread(f"the folder {mail.ref.folder}", error) for mail in wanted}
        answers, doomed = _judged(wanted, there, partial(_read_at, file))
        if doomed and care.action is Action.MOVE:
            target = FolderRef(care.folder or "")
            if target == wanted[0].ref.folder:
                return answers
            if refused := self._append(locks, doomed, target):
                return {ref: answer if answer != Settled() else refused for ref, answer in answers.items()}
        if doomed:
            rewriting.remove(locks, name, [(mail.piece.start, mail.piece.stop) for mail in doomed], self._reached)
        return answers

    def _append(self, locks: locking.Locks, doomed: Sequence[Mail], target: FolderRef) -> Trouble | None:
        """Appends the mails to another file, which is made if it is missing."""
        way = steps_below(target)
        if not way or target.endswith(_NO_MAIL):
            return trouble(
                "NoSuchName",
                f"no file of a mailbox can be called {target!r}",
                "name one such as Done or Done/2026",
                transient=False,
            )
        *above, name = way
        mode = stat.S_IMODE(os.fstat(locks.file.descriptor).st_mode)
        with ExitStack() as stack:
            at = stack.enter_context(self._disk.folder(()))
            for step in above:
                make_inside(step, at)
                at = open_inside(step, at)
                stack.callback(os.close, at)
            try:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=at))
                os.fsync(at)
            except FileExistsError:
                pass
            self._finish(target, tuple(above), name)
            try:
                into = stack.enter_context(locking.writing(self._disk, tuple(above), name, self._settings.lock_seconds))
            except locking.Busy:
                return trouble("MailboxLocked", f"{target!r} is locked by another program", "it will be tried again")
            self._reached("append")
            rewriting.append(into, [_with_end(locks.file.descriptor, mail.piece) for mail in doomed])
            self._reached("appended")
        return None

    # ------------------------------------------------------------------------------------------------------ checking

    def check(self, folders: Sequence[FolderRef], care: Aftercare) -> Sequence[Finding]:
        found = [self._check(folder, care) for folder in folders]
        if care.action is Action.MOVE and self._only is not None:
            found.append(Finding.of(f"target {care.folder}", _ONE_FILE))
        return found

    def _check(self, folder: FolderRef, care: Aftercare) -> Finding:
        subject = f"folder {folder}"
        try:
            number = len(self._read(folder).mails)
        except FolderMissing as error:
            there = ", ".join(sorted(info.name for info in self.folders())[:20])
            remedy = f"{error.remedy}; there are: {there}" if there else error.remedy
            return Finding(level=Level.FAULT, subject=subject, message=error.message, remedy=remedy)
        except MaildaemonError as error:
            return Finding.of(subject, error)
        number_of = "1 mail" if number == 1 else f"{number} mails"
        if care.action is not Action.KEEP and not self._may_change(folder):
            return Finding(
                level=Level.FAULT,
                subject=subject,
                message=f"{number_of}, and they may not be tidied: for that the file and the folder in which it lies "
                "must be writable, since a lock is made beside it",
                remedy="give the user who runs maildaemon these rights, or do without aftercare",
            )
        return Finding(level=Level.FINE, subject=subject, message=f"can be read; {number_of}")

    def _may_change(self, folder: FolderRef) -> bool:
        steps, name = self._way(folder)
        try:
            with self._disk.folder(steps) as inside:
                return os.access(name, os.R_OK | os.W_OK, dir_fd=inside) and os.access(
                    ".", os.W_OK | os.X_OK, dir_fd=inside
                )
        except OSError:
            return False

    def server(self) -> str:
        where = self._disk.where if self._only is None else f"{self._disk.where}/{self._only}"
        return f"mbox in {printable(where)}"


def _judged(
    wanted: Sequence[Known], there: Mapping[str, Mail], read: ReadAt
) -> tuple[dict[MessageRef, Settled | Trouble], list[Mail]]:
    """What to answer about each mail, and which are to go.

    Equal mails cannot be told from each other once one of them is gone, so they go together or not at all.
    """
    asked = {mail.ref.uid for mail in wanted}
    alike: dict[str, set[str]] = defaultdict(set)
    for uid in there:
        alike[of_equal_ones(uid)].add(uid)
    answers: dict[MessageRef, Settled | Trouble] = {}
    doomed: dict[int, Mail] = {}
    for known in wanted:
        mail = there.get(known.ref.uid)
        if mail is None:
            answers[known.ref] = Settled(gone=True)
        elif headers.headers_of(header_block(read, mail.piece)).fingerprint != known.identity.fingerprint:
            answers[known.ref] = _ANOTHER
        elif not alike[of_equal_ones(mail.uid)] <= asked:
            answers[known.ref] = _EQUAL
        else:
            answers[known.ref] = Settled()
            doomed[mail.piece.start] = mail
    return answers, [doomed[start] for start in sorted(doomed)]


def _read_at(descriptor: int, at: int, number: int) -> bytes:
    return os.pread(descriptor, number, at)


def _pieces(descriptor: int, piece: Piece) -> Iterator[bytes]:
    for at in range(piece.body, piece.end, BLOCK // 4):
        got = os.pread(descriptor, min(BLOCK // 4, piece.end - at), at)
        if not got:
            raise OSError("the file became shorter while it was read")
        yield got


def _with_end(descriptor: int, piece: Piece) -> tuple[int, tuple[int, int], bytes]:
    """A mail for another file, with the empty line behind it that it may lack."""
    if piece.ended:
        return descriptor, (piece.start, piece.stop), b""
    last = os.pread(descriptor, 1, piece.stop - 1)
    return descriptor, (piece.start, piece.stop), b"\n" if last == b"\n" else b"\n\n"


def _stamp(found: os.stat_result) -> str:
    """What changes with the bytes of the file."""
    return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


_NO_FLAGS = trouble("NoFlags", "mails of an mbox have no flags", "do without afterStore: seen", transient=False)
_ONE_FILE = trouble(
    "OneFile",
    "the mailbox is one file, and there is no other to move mails to",
    "name the folder in which it lies as `path`, and the file in `folders`",
    transient=False,
)
_ANOTHER = trouble(
    "AnotherMail", "there is another mail than the one that was stored; it was kept", "nothing to do", transient=False
)
_EQUAL = trouble(
    "EqualMails",
    "the file holds several mails that are equal to the last byte, and not all of them are stored yet; they were kept",
    "it will be tried again when all of them are",
)
