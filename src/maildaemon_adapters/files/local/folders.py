"""How folders below a root are reached: name by name through open descriptors, so that no link leads out of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import attrs

from maildaemon_adapters.files.local.durability import sync_folder
from maildaemon_adapters.files.paths import PathBlocked

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
MODE = 0o777
"""Of new folders, before the umask."""


def open_folder(name: str, inside: int | None = None) -> int:
    """The descriptor of a folder.  With ``inside``, an open one too, a link is not followed.  Raises OSError."""
    return os.open(name, _FOLDER if inside is None else _FOLDER | os.O_NOFOLLOW, dir_fd=inside)


@contextmanager
def opened(name: str, inside: int | None = None) -> Iterator[int]:
    """As ``open_folder``, and closes it."""
    descriptor = open_folder(name, inside)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def made(name: str, inside: int) -> bool:
    """Makes a folder; False if there is something of that name already.  Raises OSError."""
    try:
        os.mkdir(name, MODE, dir_fd=inside)
    except FileExistsError:
        return False
    return True


def look(name: str, inside: int) -> os.stat_result | None:
    """What lies under a name, not following a link; None if nothing does.  Raises other OSErrors."""
    try:
        return os.lstat(name, dir_fd=inside)
    except FileNotFoundError:
        return None


def names_in(folder: int) -> list[str]:
    """All names in an open folder.  Raises OSError."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


@contextmanager
def opened_root(root: str) -> Iterator[int]:
    """The descriptor of a folder by its real path, and closes it.

    Raises OSError: ELOOP for a link on the way, which was put there since the path was made out, and leads anywhere.
    """
    with _reached(root) as (above, name), opened(name, above) as folder:
        yield folder


def make_root(root: str) -> None:
    """Makes the folder and those above it that are missing, durably.  Follows no link.  Raises OSError."""
    parent, name = os.path.split(root)
    if not name:
        return
    try:
        with _reached(root) as (above, _), opened(".", above) as folder:
            if made(name, folder):
                sync_folder(folder)
    except FileNotFoundError:
        make_root(parent)
        make_root(root)


_SEARCH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Linux needs no right to read a folder for passing through it."""


@contextmanager
def _reached(path: str) -> Iterator[tuple[int, str]]:
    """The open folder that a full path lies in, without a link on the way, and the path's last name in it."""
    *above, name = [each for each in path.split("/") if each] or ["."]
    at = os.open("/", _SEARCH)
    try:
        for each in above:
            try:
                inner = os.open(each, _SEARCH, dir_fd=at)
            except NotADirectoryError:
                _refuse_link(each, at)
                raise
            os.close(at)
            at = inner
        _refuse_link(name, at)
        yield at, name
    finally:
        os.close(at)


def _refuse_link(name: str, inside: int) -> None:
    found = look(name, inside)
    if found is not None and stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)


@attrs.frozen
class Way:
    """The open folders from a root to one below it, both included; ``fresh``: at which depths one was just made."""

    folders: tuple[int, ...]
    names: tuple[str, ...]
    fresh: frozenset[int] = frozenset()

    @property
    def end(self) -> int:
        return self.folders[-1]

    def sync(self, done: set[tuple[str, ...]]) -> None:
        """The names along the way reach the disk; ``done`` are the folders above the end that need it no more.

        Those above too, even if they were there: whoever made them a moment ago may not have come to this yet.
        """
        sync_folder(self.end)
        for depth in reversed(range(len(self.names))):
            if depth in self.fresh or self.names[:depth] not in done:
                sync_folder(self.folders[depth])
                done.add(self.names[:depth])


@contextmanager
def way(root: int, names: Sequence[str], *, make: bool) -> Iterator[Way]:
    """Opens the way from the root to a folder below it; ``make`` makes what is missing.

    Raises ``PathBlocked`` if a link or a file stands in the way, ``FileNotFoundError`` if a folder is missing (also one
    that somebody removes meanwhile), other OSErrors.
    """
    with ExitStack() as stack:
        folders = [root]
        fresh = set()
        for depth, name in enumerate(names):
            try:
                below, new = _step(name, folders[-1], make=make)
            except OSError as error:
                _refuse(error, name, folders[-1], names[: depth + 1])
                raise
            stack.callback(os.close, below)
            folders.append(below)
            if new:
                fresh.add(depth)
        yield Way(tuple(folders), tuple(names), frozenset(fresh))


def _step(name: str, inside: int, *, make: bool) -> tuple[int, bool]:
    """The folder of that name, opened, and whether it was made for that."""
    try:
        return open_folder(name, inside), False
    except FileNotFoundError:
        if not make:
            raise
    new = made(name, inside)
    return open_folder(name, inside), new


def _refuse(error: OSError, name: str, inside: int, names: Sequence[str]) -> None:
    """Raises ``PathBlocked`` if that is why a folder did not open."""
    if error.errno not in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}:  # EMLINK: FreeBSD
        return
    found = look(name, inside)
    if found is None or stat.S_ISDIR(found.st_mode):
        return
    path = "/".join(names)
    if stat.S_ISLNK(found.st_mode):
        raise PathBlocked(
            f"{path} is a symbolic link, and links below the root are not followed: they could lead anywhere",
            remedy=f"replace {path} by a folder, or make where it leads a destination of its own; "
            "it then goes on by itself",
        ) from error
    raise PathBlocked(
        f"{path} is not a folder, so that nothing can lie below it",
        remedy=f"move {path} away, or change the path template; it then goes on by itself",
    ) from error


def empty(name: str, inside: int) -> None:
    """Removes a folder and the regular files in it; whatever else lies there stays, and the folder with it.

    Follows no link; fine if it is gone or somebody else removes it meanwhile.  Raises other OSErrors.
    """
    try:
        with opened(name, inside) as folder:
            for entry in names_in(folder):
                found = look(entry, folder)
                if found is not None and stat.S_ISREG(found.st_mode):
                    with suppress(FileNotFoundError):
                        os.unlink(entry, dir_fd=folder)
        os.rmdir(name, dir_fd=inside)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ELOOP}:
            raise
