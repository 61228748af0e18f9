"""Which file each folder of an mbox mailbox is, and how it is opened: locked, whole, and with its faults in words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Final

from maildaemon_adapters.local import locking, rewriting
from maildaemon_adapters.local.disk import Disk, DiskFile
from maildaemon_adapters.local.locking import Locks
from maildaemon_adapters.local.mbox_format import ReadAt
from maildaemon_adapters.local.rewriting import Foreign, Reached, Torn
from maildaemon_adapters.local.shelf import File, Steps, folder_fault, missing, steps_below
from maildaemon_core.errors import FolderRefused
from maildaemon_core.folders import INBOX
from maildaemon_core.message import FolderRef
from maildaemon_core.ports import FolderInfo

_DEEPEST: Final = 20
NO_MAIL: Final = (".lock", ".msf", ".dat", ".tmp", ".part", "~")
"""What mail programs have beside their mbox files."""


class MboxFiles:
    """The files below ``disk``; ``only``: the name of the one that is the whole mailbox.

    ``lock_seconds``: how long others are waited for.  ``reached`` is told of each step of a rewriting.
    """

    def __init__(self, disk: Disk, only: str | None, *, lock_seconds: float, reached: Reached) -> None:
        self.disk = disk
        self.only = only
        self.reached = reached
        self._lock_seconds = lock_seconds
        self._inbox_name = ""

    @property
    def where(self) -> str:
        """For people."""
        return self.disk.where if self.only is None else f"{self.disk.where}/{self.only}"

    def folders(self) -> Sequence[FolderInfo]:
        """Every file that begins as an mbox does.  Raises as ``folder_fault`` says."""
        if self.only is not None:
            return [FolderInfo(name=FolderRef(INBOX))]
        try:
            return [FolderInfo(name=name) for name in self._below(())]
        except OSError as error:
            raise folder_fault(FolderRef(INBOX), self.disk.where, error) from error

    def _below(self, steps: Steps) -> Iterator[FolderRef]:
        for file in sorted(self.disk.files(steps), key=lambda file: file.name):
            inbox = not steps and file.name == self._inbox()
            folder = FolderRef(INBOX if inbox else "/".join((*steps, file.name)))
            if steps_below(folder) is not None and not file.name.endswith(NO_MAIL) and self._begins_well(steps, file):
                yield folder
        for name in sorted(self.disk.folders(steps)) if len(steps) < _DEEPEST else ():
            if not name.startswith("."):
                try:
                    yield from self._below((*steps, name))
                except OSError:
                    continue  # one that we may not look into: who names it is told so

    def _begins_well(self, steps: Steps, file: File) -> bool:
        try:
            with self.disk.open(steps, file.name) as opened:
                return file.size == 0 or opened.read(5) == b"From "
        except OSError:
            return False

    def way(self, folder: FolderRef) -> tuple[Steps, str]:
        """The folders on the way to a file, and its name.  Raises ``FolderMissing``."""
        if self.only is not None:
            if folder != INBOX:
                raise missing(folder, self.where, there=[INBOX])
            return (), self.only
        if folder == INBOX:
            return (), self._inbox()
        steps = steps_below(folder)
        if steps is None:
            raise missing(folder, self.disk.where)
        return steps[:-1], steps[-1]

    def _inbox(self) -> str:
        """INBOX is written in any case (RFC 9051 §5.1), the name of a file is not."""
        if self._inbox_name:
            return self._inbox_name
        try:
            names = [file.name for file in self.disk.files(())]
        except OSError:
            return INBOX
        alike = [name for name in names if name.upper() == INBOX]
        if len(alike) != 1:
            return INBOX
        self._inbox_name = alike[0]
        return self._inbox_name

    @contextmanager
    def reading(self, folder: FolderRef) -> Iterator[DiskFile]:
        """The file, locked against those who write to it; a rewriting that was interrupted is finished first."""
        steps, name = self.way(folder)
        with ExitStack() as stack:
            with self.faults(folder):
                self.finish(steps, name)
                file = stack.enter_context(locking.reading(self.disk, steps, name, self._lock_seconds))
            yield file

    def writing(self, steps: Steps, name: str) -> AbstractContextManager[Locks]:
        """The file with both locks.  Raises ``Busy`` and OSError."""
        return locking.writing(self.disk, steps, name, self._lock_seconds)

    def finish(self, steps: Steps, name: str) -> None:
        """Finishes a rewriting that was interrupted.  Raises ``Busy``, ``Torn`` and OSError."""
        with self.disk.folder(steps) as inside:
            if not rewriting.has_journal(inside, name):
                return
        with self.writing(steps, name) as locks:
            if rewriting.has_journal(locks.folder, name):
                rewriting.finish(locks, name, self.reached)

    @contextmanager
    def faults(self, folder: FolderRef) -> Iterator[None]:
        """Faults of a file as those of its folder."""
        try:
            yield
        except locking.Busy as error:
            raise FolderRefused(
                f"the folder {folder!r} in {self.disk.where} is locked by another program",
                remedy="it will be tried again; if no program uses it, remove the file with its name and .lock",
            ) from error
        except Torn as error:
            _, name = self.way(folder)
            raise FolderRefused(
                f"the folder {folder!r} in {self.disk.where} was being rewritten when that was interrupted, and "
                "another program has changed it since",
                remedy=f"look into the file; what was to follow in it is in {rewriting.journal_of(name)} beside it, "
                "behind its first line; then remove that",
            ) from error
        except Foreign as error:
            _, name = self.way(folder)
            raise FolderRefused(
                f"beside the folder {folder!r} in {self.disk.where} lies {rewriting.journal_of(name)}, which another "
                "user has made: nothing that it tells is done",
                remedy="remove it, and let nobody else make files in that folder",
            ) from error
        except OSError as error:
            raise folder_fault(folder, self.disk.where, error) from error

    def stamp(self, folder: FolderRef) -> str:
        """What changes with the bytes of the file; ``""`` if nobody can tell, or a rewriting is to be finished."""
        steps, name = self.way(folder)
        try:
            with self.disk.folder(steps) as inside:
                return "" if rewriting.has_journal(inside, name) else stamp_of(os.lstat(name, dir_fd=inside))
        except OSError:
            return ""

    def may_change(self, folder: FolderRef) -> bool:
        """Whether mails can be taken out of the file: for that a lock is made beside it."""
        steps, name = self.way(folder)
        try:
            with self.disk.folder(steps) as inside:
                return os.access(name, os.R_OK | os.W_OK, dir_fd=inside) and os.access(
                    ".", os.W_OK | os.X_OK, dir_fd=inside
                )
        except OSError:
            return False


def stamp_of(found: os.stat_result) -> str:
    """What changes with the bytes of the file."""
    return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def reader_of(descriptor: int) -> ReadAt:
    """An open file as it is read to find the mails in it."""
    return lambda at, number: os.pread(descriptor, number, at)
