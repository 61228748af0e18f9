"""The mail source ``eml``: a folder of files with one mail each, its subfolders being folders of the mailbox.

A mail is known by its file's name, size and time: a file that is put in the place of another is another mail.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import PurePath
from types import TracebackType
from typing import Final, Self

from maildaemon_adapters.local import headers
from maildaemon_adapters.local.answers import settle_each
from maildaemon_adapters.local.disk import Disk, relink, sync, under_a_free_name
from maildaemon_adapters.local.paging import Look, Paging, Unlisted
from maildaemon_adapters.local.settings import EmlSettings
from maildaemon_adapters.local.shelf import (
    LONGEST_UID,
    File,
    Shelf,
    Steps,
    another_mail,
    folder_fault,
    missing,
    only_read,
    pieces,
    printable,
    reason,
    steps_below,
    trouble,
    unprintable,
    unread,
)
from maildaemon_adapters.local.walk import Item
from maildaemon_core.errors import MaildaemonError, Trouble
from maildaemon_core.folders import INBOX
from maildaemon_core.headers import read_headers
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

KIND: Final = "eml"
_DEEPEST: Final = 20
"""So many levels of folders are looked into for their names."""

_OTHERS: Final = {".msg": "Outlook's own format", ".emlx": "Apple Mail's own format", ".mbox": "use type mbox"}


class EmlSource:
    """A session with a folder of mails."""

    def __init__(self, shelf: Shelf, settings: EmlSettings, spool: Spool) -> None:
        self._shelf = shelf
        self._disk = shelf if isinstance(shelf, Disk) else None
        self._endings = tuple(ending.casefold() for ending in settings.endings)
        self._quiet = int(settings.quiet_seconds * 1e9)
        self._spool = spool
        self._paging = Paging(KIND)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._shelf.close()

    # ------------------------------------------------------------------------------------------------------- looking

    def folders(self) -> Sequence[FolderInfo]:
        try:
            return [FolderInfo(name=name) for name in self._below(())]
        except OSError as error:
            raise folder_fault(FolderRef(INBOX), self._shelf.where, error) from error

    def _below(self, steps: Steps) -> Iterator[FolderRef]:
        yield FolderRef("/".join(steps) or INBOX)
        for name in sorted(self._shelf.folders(steps)) if len(steps) < _DEEPEST else ():
            if steps_below(FolderRef(name)) == (name,):
                try:
                    yield from self._below((*steps, name))
                except OSError:
                    if not isinstance(self._shelf, Disk):
                        raise  # else it is one that we may not look into: who names it is told so

    def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
        return self._paging.page(
            folder,
            cursor,
            limit,
            look=lambda: self._look(folder),
            describe=lambda item: self._describe(folder, item),
        )

    def server(self) -> str:
        return f"mail files in {printable(self._shelf.where)}{'' if self._disk else ' (only read)'}"

    def check(self, folders: Sequence[FolderRef], care: Aftercare) -> Sequence[Finding]:
        found = [each for folder in folders for each in self._check(folder, care)]
        if care.action is Action.MOVE and steps_below(FolderRef(care.folder or "")) is None:
            found.append(
                Finding(
                    level=Level.FAULT,
                    subject=f"target {care.folder}",
                    message="no folder can have this name",
                    remedy="name a folder below `path`, such as Done or Done/2026",
                )
            )
        return found

    def _check(self, folder: FolderRef, care: Aftercare) -> Iterator[Finding]:
        subject = f"folder {folder}"
        try:
            files = self._files(folder)
        except MaildaemonError as error:
            yield Finding.of(subject, error)
            return
        mails = sum(map(self._is_mail, files))
        said = "can be read; 1 mail" if mails == 1 else f"can be read; {mails} mails"
        if care.action is not Action.KEEP and not self._may_change(folder):
            yield Finding(
                level=Level.FAULT,
                subject=subject,
                message=f"{said}, and they may not be tidied: no right to change the folder",
                remedy="give the user who runs maildaemon the right to write there, or do without aftercare",
            )
        else:
            yield Finding(level=Level.FINE, subject=subject, message=said)
        others = Counter(PurePath(file.name).suffix.casefold() for file in files if not self._is_mail(file))
        for ending, what in _OTHERS.items():
            if others[ending]:
                one = others[ending] == 1
                number, verb = ("1 file", "is") if one else (f"{others[ending]} files", "are")
                yield Finding(
                    level=Level.WARNING,
                    subject=subject,
                    message=f"{number} with the ending {ending} {verb} not read ({what})",
                    remedy="save these mails as .eml (MIME), or leave them",
                )

    def _may_change(self, folder: FolderRef) -> bool:
        if self._disk is None:
            return False
        try:
            with self._disk.folder(steps_below(folder) or ()) as inside:
                return os.access(".", os.W_OK | os.X_OK, dir_fd=inside)
        except OSError:
            return False

    def _files(self, folder: FolderRef) -> Sequence[File]:
        steps = steps_below(folder)
        if steps is None:
            raise missing(folder, self._shelf.where)
        try:
            return self._shelf.files(steps)
        except OSError as error:
            raise folder_fault(folder, self._shelf.where, error) from error

    def _is_mail(self, file: File) -> bool:
        return not file.name.startswith(".") and file.name.casefold().endswith(self._endings)

    def _look(self, folder: FolderRef) -> Look:
        items, unlisted = [], []
        now = time.time_ns()
        for file in self._files(folder):
            if not self._is_mail(file) or self._is_being_written(file, now):
                continue
            uid = uid_of(file)
            if len(uid.encode()) > LONGEST_UID:
                unlisted.append(Unlisted(uid[:60], "its name is too long to be remembered"))
            else:
                items.append(Item((file.modified, uid), uid))
        return Look(items, unlisted=unlisted)

    def _is_being_written(self, file: File, now: int) -> bool:
        """Whether it was changed, or put there, within the last seconds.  A date far in the future says nothing."""
        return any(abs(now - each) < self._quiet for each in (file.modified, file.changed))

    def _describe(self, folder: FolderRef, item: Item) -> Envelope | Unlisted | None:
        steps = steps_below(folder) or ()
        name = name_of(item.uid)
        try:
            with self._shelf.open(steps, name) as reader:
                block, file = headers.header_block(reader.read), reader.file
        except FileNotFoundError:
            return None
        except OSError as error:
            return Unlisted(printable(name), reason(error))
        if uid_of(file) != item.uid:
            return None  # another mail by now, which the next look finds
        otherwise = headers.at(file.modified)
        return headers.envelope(folder, item.uid, block, otherwise=otherwise, size=file.size)

    # ------------------------------------------------------------------------------------------------------ fetching

    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished | Unfetched]:
        for ref in refs:
            yield self._fetch(ref)

    def _fetch(self, ref: MessageRef) -> Fetched | Vanished | Unfetched:
        steps = self._existing(ref.folder)
        name = name_of(ref.uid)
        try:
            with self._shelf.open(steps, name) as reader:
                if uid_of(reader.file) != ref.uid:
                    return Vanished(ref=ref)  # another file has taken its name
                content = self._spool.keep(pieces(reader))
                after = reader.file
        except FileNotFoundError:
            return Vanished(ref=ref)
        except OSError as error:
            return Unfetched(ref=ref, trouble=unread(name, error))
        if uid_of(after) == ref.uid and content.size == after.size:
            return Fetched(ref=ref, content=content)
        content.close()
        return Unfetched(
            ref=ref,
            trouble=trouble(
                "ChangedMeanwhile", f"{printable(name)} was written to while it was read", "it will be tried again"
            ),
        )

    def _existing(self, folder: FolderRef) -> Steps:
        """The way to a folder that is there.  Raises ``FolderMissing`` and what else keeps us from it."""
        steps = steps_below(folder)
        if steps is None:
            raise missing(folder, self._shelf.where)
        if self._disk is not None:
            try:
                with self._disk.folder(steps):
                    pass
            except OSError as error:
                raise folder_fault(folder, self._shelf.where, error) from error
        return steps

    # ------------------------------------------------------------------------------------------------------- tidying

    def settle(self, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Settled | Trouble]:
        if care.action is Action.KEEP:
            return {mail.ref: Settled() for mail in mails}
        if self._disk is None:
            return {mail.ref: only_read(self._shelf.where) for mail in mails}
        steps = steps_below(mails[0].ref.folder) if mails else ()
        act, sync = partial(self._settle, self._disk, care), partial(_sync, self._disk, steps or ())
        return settle_each(mails, act, named=name_of, sync=sync)

    def _settle(self, disk: Disk, care: Aftercare, mail: Known) -> Settled | Trouble:
        name = name_of(mail.ref.uid)
        with ExitStack() as stack:
            steps = self._existing(mail.ref.folder)
            source = stack.enter_context(disk.folder(steps))
            try:
                reader = stack.enter_context(disk.open(steps, name))
            except FileNotFoundError:
                return Settled(gone=True)
            if uid_of(reader.file) != mail.ref.uid:
                return Settled(gone=True)  # that mail is not there any more; the one that took its name is not touched
            if read_headers(headers.header_block(reader.read)).fingerprint != mail.identity.fingerprint:
                return another_mail(name)
            if not os.path.samestat(os.lstat(name, dir_fd=source), os.fstat(reader.descriptor)):
                return Settled(gone=True)
            if care.action is Action.DELETE:
                os.unlink(name, dir_fd=source)
            elif care.action is Action.MOVE:
                target = steps_below(FolderRef(care.folder or ""))
                if target is None:
                    return _no_such_name(care.folder or "")
                if target == steps:
                    return Settled()
                into = stack.enter_context(disk.made(target))
                under_a_free_name(name, lambda new: relink(source, name, into, new))
            else:
                return _no_flags(name)
        return Settled()


def _sync(disk: Disk, steps: Steps) -> None:
    with disk.folder(steps) as inside:
        sync(inside)


def uid_of(file: File) -> str:
    return f"{printable(file.name)}:{file.size}:{file.modified}:{file.version}"


def name_of(uid: str) -> str:
    """The name of the file of which a mail is known by this text."""
    return unprintable(uid.rsplit(":", 3)[0])


def _no_such_name(name: str) -> Trouble:
    return trouble(
        "NoSuchName",
        f"no folder below `path` can be called {name!r}",
        "name one such as Done or Done/2026",
        transient=False,
    )


def _no_flags(name: str) -> Trouble:
    return trouble(
        "NoFlags", f"{printable(name)} is a file and has no flags", "do without afterStore: seen", transient=False
    )
