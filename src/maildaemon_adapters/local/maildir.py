"""The mail source ``maildir``: a Maildir with its subfolders (Maildir++), as mail servers and clients keep it.

A mail is known by the unique part of its file's name, which stays when its flags change and when it goes from ``new``
to ``cur``.  ``tmp``, where mails are still being written, is never looked into.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple, Self

from maildaemon_adapters.local import headers
from maildaemon_adapters.local.answers import check_folder, settle_each
from maildaemon_adapters.local.disk import Disk, make_inside, open_inside, relink, sync, under_a_free_name
from maildaemon_adapters.local.maildir_names import (
    SPECIAL,
    flags_of,
    folder_of,
    seen_name,
    steps_of,
    unique_part,
)
from maildaemon_adapters.local.paging import Look, Paging, Unlisted
from maildaemon_adapters.local.shelf import (
    LONGEST_UID,
    File,
    Reader,
    Shelf,
    Steps,
    another_mail,
    folder_fault,
    missing,
    only_read,
    pieces,
    printable,
    reason,
    trouble,
    unread,
)
from maildaemon_adapters.local.walk import Item
from maildaemon_core.errors import Trouble
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

KIND: Final = "maildir"
_LOOKS: Final = 5
"""So often a mail is looked for while the folder changes; only a look at one that is at rest says that it is gone."""
_TICK: Final = 20_000_000
"""Nanoseconds: what happens within them may bear the same time (Linux: at most 10 ms)."""


class Restless(OSError):
    """A folder changed so often that nobody can tell whether a mail is in it."""


class Lying(NamedTuple):
    """Where a mail lies: ``new`` or ``cur``, and the file as it is named just now."""

    subfolder: str
    file: File


class MaildirSource:
    """A session with a Maildir; ``disk`` is None where it can only be read."""

    def __init__(self, shelf: Shelf, spool: Spool) -> None:
        self._shelf = shelf
        self._disk = shelf if isinstance(shelf, Disk) else None
        self._spool = spool
        self._paging = Paging(KIND)
        self._found: dict[FolderRef, dict[str, Lying]] = {}
        self._at_rest: dict[FolderRef, Sequence[int] | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._shelf.close()

    # ------------------------------------------------------------------------------------------------------- looking

    def folders(self) -> Sequence[FolderInfo]:
        try:
            names = self._shelf.folders(())
        except OSError as error:
            raise folder_fault(FolderRef(INBOX), self._shelf.where, error) from error
        found = [FolderInfo(name=FolderRef(INBOX))] if {"cur", "new"} & set(names) else []
        for name in sorted(names):
            folder = folder_of(name)
            if folder is not None and self._is_maildir((name,)):
                use = SPECIAL.get(folder.casefold())
                found.append(FolderInfo(name=folder, special_use=frozenset(filter(None, [use]))))
        return found

    def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
        return self._paging.page(
            folder,
            cursor,
            limit,
            look=lambda: self._look(folder),
            describe=lambda item: self._describe(folder, item),
        )

    def server(self) -> str:
        return f"Maildir in {printable(self._shelf.where)}{'' if self._disk else ' (only read)'}"

    def check(self, folders: Sequence[FolderRef], care: Aftercare) -> Sequence[Finding]:
        found = [self._check(folder, care) for folder in folders]
        if care.action is Action.MOVE and steps_of(FolderRef(care.folder or "")) is None:
            found.append(
                Finding(
                    level=Level.FAULT,
                    subject=f"target {care.folder}",
                    message="no folder of a Maildir can have this name",
                    remedy="write levels with a dot between them, such as Done.2026",
                )
            )
        return found

    def _check(self, folder: FolderRef, care: Aftercare) -> Finding:
        return check_folder(
            folder,
            lambda: len(self._scan(folder)),
            self.folders,
            how=_HOW_ONE_LOOKS,
            may_tidy=lambda: care.action is Action.KEEP or self._may_change(folder),
            lacking=_NO_RIGHT,
        )

    def _may_change(self, folder: FolderRef) -> bool:
        steps = steps_of(folder) or ()
        if self._disk is None:
            return False
        try:
            with self._disk.folder(steps) as inside:
                return all(os.access(each, os.W_OK | os.X_OK, dir_fd=inside) for each in ("new", "cur"))
        except OSError:
            return False

    def _is_maildir(self, steps: Steps) -> bool:
        try:
            return bool({"new", "cur"} & set(self._shelf.folders(steps)))
        except OSError:
            return False

    def _look(self, folder: FolderRef) -> Look:
        found = self._scan(folder)
        self._found[folder] = found
        items, unlisted = [], []
        for uid, lying in found.items():
            if len(uid.encode()) > LONGEST_UID:
                unlisted.append(Unlisted(uid[:60], "its name is too long to be remembered"))
            else:
                items.append(Item((lying.file.modified, uid), uid))
        return Look(items, unlisted=unlisted)

    def _scan(self, folder: FolderRef) -> dict[str, Lying]:
        """All mails of a folder by their unique parts.  ``new`` comes first: mails go from there to ``cur``."""
        steps = steps_of(folder)
        if steps is None:
            raise missing(folder, self._shelf.where)
        found: dict[str, Lying] = {}
        now = time.time_ns()
        try:
            before = self._times(folder)
            for subfolder in ("new", "cur"):
                for file in self._files(steps, subfolder):
                    if not file.name.startswith("."):
                        found[printable(unique_part(file.name))] = Lying(subfolder, file)
            # Two changes within a tick of the file system's clock look like one; a time to come is some other clock's.
            at_rest = before == self._times(folder) and not any(0 <= now - each < _TICK for each in before)
        except OSError as error:
            raise folder_fault(folder, self._shelf.where, error) from error
        self._at_rest[folder] = before if at_rest else None
        return found

    def _files(self, steps: Steps, subfolder: str) -> Sequence[File]:
        """What lies in ``new`` or ``cur``.  One of them may be missing: archives leave out empty folders."""
        try:
            return self._shelf.files((*steps, subfolder))
        except FileNotFoundError:
            if self._is_maildir(steps):
                return ()
            raise

    def _describe(self, folder: FolderRef, item: Item) -> Envelope | Unlisted | None:
        try:
            with ExitStack() as stack:
                opened = self._open(folder, item.uid, stack)
                if opened is None:
                    return None
                reader, _ = opened
                block, file = headers.header_block(reader.read), reader.file
        except Restless:
            return None  # the next look finds it, if it is still there
        except OSError as error:
            return Unlisted(item.uid, reason(error))
        otherwise = headers.at(file.modified)
        return headers.envelope(folder, item.uid, block, otherwise=otherwise, size=file.size)

    def _open(self, folder: FolderRef, uid: str, stack: ExitStack) -> tuple[Reader, Lying] | None:
        """The mail, wherever it lies by now; None if a look at the folder at rest did not find it.  Raises OSError."""
        steps = steps_of(folder) or ()
        looked = False
        for _ in range(_LOOKS):
            lying = self._found[folder].get(uid) if folder in self._found else None
            if lying is not None:
                try:
                    return stack.enter_context(self._shelf.open((*steps, lying.subfolder), lying.file.name)), lying
                except FileNotFoundError:
                    pass  # it goes by another name by now
            elif self._is_as_it_was(folder, looked=looked):
                return None
            if looked:
                time.sleep(_TICK / 1e9)
            self._found[folder], looked = self._scan(folder), True
        raise Restless(errno.EBUSY, "the folder changes all the time")

    def _is_as_it_was(self, folder: FolderRef, *, looked: bool) -> bool:
        """Whether what is not in the last look is gone; ``looked``: that was just now."""
        at_rest = self._at_rest.get(folder)
        if self._disk is None:
            return looked
        return at_rest is not None and at_rest == self._times(folder)

    def _times(self, folder: FolderRef) -> Sequence[int]:
        """What changes when anything is renamed in the folder."""
        times: list[int] = []
        if self._disk is None:
            return times
        for subfolder in ("new", "cur"):
            with (
                suppress(FileNotFoundError),
                self._disk.folder((*(steps_of(folder) or ()), subfolder)) as inside,
            ):
                times.append(os.fstat(inside).st_mtime_ns)
        return times

    # ------------------------------------------------------------------------------------------------------ fetching

    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished | Unfetched]:
        for ref in refs:
            try:
                with ExitStack() as stack:
                    opened = self._open(ref.folder, ref.uid, stack)
                    if opened is None:
                        yield Vanished(ref=ref)
                        continue
                    answer = Fetched(ref=ref, content=self._spool.keep(pieces(opened[0])))
            except OSError as error:
                yield Unfetched(ref=ref, trouble=unread(ref.uid, error))
            else:
                yield answer

    # ------------------------------------------------------------------------------------------------------- tidying

    def settle(self, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Settled | Trouble]:
        if care.action is Action.KEEP:
            return {mail.ref: Settled() for mail in mails}
        if self._disk is None:
            return {mail.ref: only_read(self._shelf.where) for mail in mails}
        steps = steps_of(mails[0].ref.folder) if mails else ()
        act, sync = partial(self._settle, self._disk, care), partial(_sync, self._disk, steps or ())
        return settle_each(mails, act, named=str, sync=sync)

    def _settle(self, disk: Disk, care: Aftercare, mail: Known) -> Settled | Trouble:
        with ExitStack() as stack:
            opened = self._open(mail.ref.folder, mail.ref.uid, stack)
            if opened is None:
                return Settled(gone=True)
            reader, lying = opened
            if read_headers(headers.header_block(reader.read)).fingerprint != mail.identity.fingerprint:
                return another_mail(lying.file.name)
            steps = steps_of(mail.ref.folder) or ()
            source = stack.enter_context(disk.folder((*steps, lying.subfolder)))
            try:
                match care.action:
                    case Action.DELETE:
                        os.unlink(lying.file.name, dir_fd=source)
                    case Action.SEEN:
                        self._mark_seen(disk, steps, lying, source)
                    case Action.MOVE:
                        target = steps_of(FolderRef(care.folder or ""))
                        if target is None:
                            return _no_such_name(care.folder or "")
                        if target == steps:
                            return Settled()
                        _move(disk, source, lying, target)
            except FileNotFoundError:
                return _renamed_meanwhile(lying.file.name)
        return Settled()

    def _mark_seen(self, disk: Disk, steps: Steps, lying: Lying, source: int) -> None:
        name = seen_name(lying.file.name)
        if lying.subfolder == "cur" and "S" in (flags_of(lying.file.name) or ""):
            return
        with disk.folder(steps) as inside:
            make_inside("cur", inside)
        with disk.folder((*steps, "cur")) as seen:
            # One rename: whoever reads this Maildir sees the mail once at any time.  Nobody else has its unique name.
            os.rename(lying.file.name, name, src_dir_fd=source, dst_dir_fd=seen)


def _sync(disk: Disk, steps: Steps) -> None:
    for subfolder in ("new", "cur"):
        with suppress(FileNotFoundError), disk.folder((*steps, subfolder)) as inside:
            sync(inside)


def _move(disk: Disk, source: int, lying: Lying, target: Steps) -> None:
    """Into a folder that is made as a Maildir where it is missing; what nobody has seen yet stays new."""
    with ExitStack() as stack:
        top = stack.enter_context(disk.folder(()))
        inside = top
        for step in target:
            fresh = make_inside(step, top)
            inside = open_inside(step, top)
            stack.callback(os.close, inside)
            if fresh:  # Maildir++: so that others know it for a folder of a Maildir
                os.close(os.open("maildirfolder", os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o666, dir_fd=inside))
        for each in ("tmp", "new", "cur"):
            make_inside(each, inside)
        into = open_inside(lying.subfolder, inside)
        stack.callback(os.close, into)
        under_a_free_name(lying.file.name, lambda name: relink(source, lying.file.name, into, name))


def _renamed_meanwhile(name: str) -> Trouble:
    return trouble(
        "RenamedMeanwhile", f"{printable(name)} was renamed while it was to be tidied", "it will be tried again"
    )


def _no_such_name(name: str) -> Trouble:
    return trouble(
        "NoSuchName",
        f"no folder of a Maildir can be called {name!r}",
        "write levels with a dot between them, such as Done.2026",
        transient=False,
    )


_HOW_ONE_LOOKS = "name a folder with cur, new and tmp in it as `path`, or make one: mkdir -p FOLDER/{cur,new,tmp}"

_NO_RIGHT = (
    "no right to change the folder",
    "give the user who runs maildaemon the right to write there, or do without aftercare",
)
