"""How programs that share an mbox keep out of each other's way: a lock on the file (fcntl) and a file beside it
(``NAME.lock``), each tried without waiting and both given back if one is not to be had, so that nobody waits for ever.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from maildaemon_adapters.local.disk import Disk, DiskFile
from maildaemon_adapters.local.shelf import Steps

STALE: Final = 600.0
"""Seconds after which a lock file that nobody touched was left behind by a program that died (Postfix: 500, procmail:
1024)."""

TOUCH: Final = 30.0
"""Seconds after which we touch our own."""

_OURS: Final = "maildaemon"
"""What our lock files hold in their second line; in the first is our process id, as is customary."""

_PAUSE: Final = 0.1
_HELD: Final = frozenset({errno.EAGAIN, errno.EACCES})
_OFD: Final = getattr(fcntl, "F_OFD_SETLK", None)


class Busy(Exception):
    """Somebody else has locked the file all the time."""


class Locks:
    """What is held on a file that may be written to."""

    def __init__(self, file: DiskFile, folder: int, lock_file: str) -> None:
        self.file = file
        self.folder = folder
        self._lock_file = lock_file
        self._touched = time.monotonic()

    def touch(self) -> None:
        """Tells others, once in a while, that we are still at it."""
        if time.monotonic() - self._touched > TOUCH:
            self._touched = time.monotonic()
            with suppress(OSError):
                os.utime(self._lock_file, dir_fd=self.folder)


@contextmanager
def reading(disk: Disk, steps: Steps, name: str, seconds: float) -> Iterator[DiskFile]:
    """The file, while nobody who locks writes to it; nothing is made beside it.

    Where there are no locks (some network file systems) it goes without.  Raises ``Busy`` and OSError.
    """
    until = time.monotonic() + seconds
    with disk.folder(steps) as folder:
        while True:
            with disk.opened(steps, name) as file:
                if _locked(file.descriptor, fcntl.F_RDLCK) and not _has_lock_file(folder, name):
                    yield file
                    return
            _wait(until)


@contextmanager
def writing(disk: Disk, steps: Steps, name: str, seconds: float) -> Iterator[Locks]:
    """The file, with both locks held.  Raises ``Busy`` and OSError: what is not locked is not to be changed."""
    until = time.monotonic() + seconds
    lock_file = f"{name}.lock"
    with disk.folder(steps) as folder:
        while True:
            with disk.opened(steps, name, writable=True) as file:
                if _locked(file.descriptor, fcntl.F_WRLCK, needed=True) and _made(folder, lock_file):
                    try:
                        if _is_still(file, folder, name):
                            yield Locks(file, folder, lock_file)
                            return
                    finally:
                        with suppress(FileNotFoundError):
                            os.unlink(lock_file, dir_fd=folder)
            _wait(until)


def _wait(until: float) -> None:
    if time.monotonic() >= until:
        raise Busy
    time.sleep(_PAUSE)


def _locked(descriptor: int, sort: int, *, needed: bool = False) -> bool:
    """Locks the whole file if nobody else has.

    On Linux the lock is of this descriptor: others of the same process neither share it nor give it back (fcntl(2)).
    """
    try:
        if _OFD is None:
            fcntl.lockf(descriptor, (fcntl.LOCK_SH if sort == fcntl.F_RDLCK else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        else:
            fcntl.fcntl(descriptor, _OFD, struct.pack("hhqqi0q", sort, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in _HELD:
            return False
        if needed:
            raise
    return True


def _made(folder: int, lock_file: str) -> bool:
    """Makes the lock file, unless somebody else has one that is not stale.  Raises OSError."""
    try:
        descriptor = os.open(lock_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=folder)
    except FileExistsError:
        _remove_if_stale(folder, lock_file)
        return False
    try:
        os.write(descriptor, f"{os.getpid()}\n{_OURS}\n".encode())
    finally:
        os.close(descriptor)
    return True


def _has_lock_file(folder: int, name: str) -> bool:
    try:
        return not _is_stale(folder, f"{name}.lock", os.lstat(f"{name}.lock", dir_fd=folder))
    except OSError:
        return False


def _is_stale(folder: int, lock_file: str, found: os.stat_result) -> bool:
    """Whether whoever made it is gone.  One of our own is while we hold the other lock: it would hold that itself."""
    if time.time() - found.st_mtime > STALE:
        return True
    try:
        descriptor = os.open(lock_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    try:
        return os.read(descriptor, 100).split(b"\n")[1:2] == [_OURS.encode()]
    finally:
        os.close(descriptor)


def _remove_if_stale(folder: int, lock_file: str) -> None:
    """It is renamed first: of several that want to remove it, one gets it, and sees whether it was the stale one."""
    try:
        found = os.lstat(lock_file, dir_fd=folder)
        if not _is_stale(folder, lock_file, found):
            return
        aside = f"{lock_file}.{uuid.uuid4().hex[:12]}"
        os.rename(lock_file, aside, src_dir_fd=folder, dst_dir_fd=folder)
    except FileNotFoundError:
        return
    taken = os.lstat(aside, dir_fd=folder)
    if (taken.st_ino, taken.st_mtime_ns) != (found.st_ino, found.st_mtime_ns):
        with suppress(FileExistsError):  # somebody's own, made in between: it is given back
            os.link(aside, lock_file, src_dir_fd=folder, dst_dir_fd=folder)
    os.unlink(aside, dir_fd=folder)


def _is_still(file: DiskFile, folder: int, name: str) -> bool:
    """Whether the name is still that of the file which was locked: another may have been put in its place."""
    try:
        return os.path.samestat(os.fstat(file.descriptor), os.lstat(name, dir_fd=folder))
    except FileNotFoundError:
        return False
