"""Folders of this machine, reached name by name through open descriptors: no link leads out, no pipe makes us wait."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from maildaemon_adapters.local.shelf import File, Steps
from maildaemon_core.errors import SourceUnavailable

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Opening a pipe would wait for its other end, were it not for O_NONBLOCK (fifo(7))."""

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_NO_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})


class DiskFile:
    """An open file of this machine."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self._name = name

    @property
    def file(self) -> File:
        return file_of(self._name, os.fstat(self.descriptor))

    def read(self, number: int, /) -> bytes:
        return os.read(self.descriptor, number)


class Disk:
    """The folder ``path``, which is kept open: what is put in its place afterwards is another folder.

    Links in ``path`` itself are followed, those below it never.  Raises ``SourceUnavailable``.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._top = os.open(path, _FOLDER)
        except OSError as error:
            raise unopened(path, error) from error

    @property
    def where(self) -> str:
        return self._path

    def folders(self, steps: Steps) -> Sequence[str]:
        with self.folder(steps) as inside, os.scandir(inside) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]

    def files(self, steps: Steps) -> Sequence[File]:
        found = []
        with self.folder(steps) as inside, os.scandir(inside) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it went away meanwhile
                    if entry.is_file(follow_symlinks=False):
                        found.append(file_of(entry.name, entry.stat(follow_symlinks=False)))
        return found

    @contextmanager
    def open(self, steps: Steps, name: str) -> Iterator[DiskFile]:
        with self.opened(steps, name) as found:
            yield found

    @contextmanager
    def opened(self, steps: Steps, name: str, *, writable: bool = False) -> Iterator[DiskFile]:
        """An existing regular file.  Raises OSError: ELOOP for a link, EINVAL for what is no file."""
        with self.folder(steps) as inside:
            descriptor = os.open(name, _FILE | (os.O_RDWR if writable else os.O_RDONLY), dir_fd=inside)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no file", name)
            yield DiskFile(descriptor, name)
        finally:
            os.close(descriptor)

    @contextmanager
    def folder(self, steps: Steps) -> Iterator[int]:
        """A descriptor of the folder.  Raises OSError; a link on the way counts as no folder."""
        at = os.dup(self._top)
        try:
            for each in steps:
                inner = open_inside(each, at)
                os.close(at)
                at = inner
            yield at
        finally:
            os.close(at)

    @contextmanager
    def made(self, steps: Steps) -> Iterator[int]:
        """A descriptor of the folder, which is made where it is missing.  Raises OSError as ``folder`` does."""
        with ExitStack() as stack:
            at = stack.enter_context(self.folder(()))
            for each in steps:
                make_inside(each, at)
                at = open_inside(each, at)
                stack.callback(os.close, at)
            yield at

    def close(self) -> None:
        top, self._top = self._top, -1
        if top >= 0:
            os.close(top)


def file_of(name: str, found: os.stat_result) -> File:
    return File(name, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def open_inside(name: str, inside: int) -> int:
    """The descriptor of a folder in an open one.  Raises OSError; a link counts as no folder."""
    if "/" in name or name in {"", ".", ".."}:
        raise NotADirectoryError(errno.ENOTDIR, "no name of a folder", name)
    return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=inside)


def make_inside(name: str, inside: int) -> bool:
    """Makes a folder durably; False if there is something of that name already.  Raises OSError."""
    try:
        os.mkdir(name, 0o777, dir_fd=inside)
    except FileExistsError:
        return False
    sync(inside)
    return True


def sync(descriptor: int) -> None:
    """What was done in a folder, or written to a file, reaches the disk; nothing where folders cannot be synced."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def relink(source: int, name: str, target: int, new: str) -> None:
    """Moves a file between open folders, never over another; if we die in between, it lies in both.

    Raises OSError: FileExistsError, with nothing changed, if another file has the new name.
    """
    try:
        os.link(name, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except FileExistsError:
        if not os.path.samestat(os.lstat(name, dir_fd=source), os.lstat(new, dir_fd=target)):
            raise  # else we died in between the last time
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_where_nothing_links(source, name, target, new)
        return
    sync(target)
    os.unlink(name, dir_fd=source)


def _rename_where_nothing_links(source: int, name: str, target: int, new: str) -> None:
    """The name is taken by a file of ours first, so that of two who want it only one gets it."""
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target))
    try:
        os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
    except OSError:
        os.unlink(new, dir_fd=target)
        raise
    sync(target)


def free_name(name: str, attempt: int) -> str:
    """Another name for a file whose own is taken: ``mail.eml``, then ``mail-2.eml``, and so on."""
    if not attempt:
        return name
    stem, dot, ending = name.rpartition(".")
    mark = f"-{attempt + 1}" if attempt < _TRIES - 1 else f"-{uuid.uuid4().hex}"
    return f"{stem}{mark}.{ending}" if dot and stem else f"{name}{mark}"


_TRIES: Final = 20


def under_a_free_name(name: str, act: Callable[[str], None]) -> None:
    """Does it under the name, or under the first one like it that is free.  Raises what ``act`` raises."""
    for attempt in range(_TRIES):
        try:
            act(free_name(name, attempt))
        except FileExistsError:
            if attempt == _TRIES - 1:
                raise
        else:
            return


def unopened(path: str, error: OSError) -> SourceUnavailable:
    """What is to be raised when the mailbox itself cannot be opened."""
    match error:
        case FileNotFoundError():
            return SourceUnavailable(f"there is nothing at {path}", remedy="create it, or correct `path`")
        case NotADirectoryError():
            return SourceUnavailable(f"{path} is no folder", remedy="correct `path`")
        case PermissionError():
            return SourceUnavailable(
                f"{path} may not be opened", remedy="give the user who runs maildaemon the right to read it"
            )
    return SourceUnavailable(f"{path} cannot be opened: {error.strerror}", remedy="look at the file system")
