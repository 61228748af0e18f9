"""Where a mail is held while it is worked off: in memory while small, else in a file that is unlinked at once."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path
from threading import Lock

from maildaemon_core.errors import SpoolFull
from maildaemon_core.message import CHUNK, BytesContent, Content

MEMORY_LIMIT = 1 << 20
"""Mails up to this many bytes stay in memory."""


class FileContent:
    """Content in an unlinked file: it is gone with its last reader, whatever happens to the process.

    ``start`` is where it begins there; ``give_back`` is told the descriptor when the content is closed.
    """

    def __init__(
        self, descriptor: int, size: int, sha256: str, *, start: int = 0, give_back: Callable[[int], None] = os.close
    ) -> None:
        self._descriptor = descriptor
        self._start = start
        self._give_back = give_back
        self._size = size
        self._sha256 = sha256
        self._closed = False

    def __repr__(self) -> str:
        return f"FileContent({self._size} bytes)"

    @property
    def size(self) -> int:
        return self._size

    @cached_property
    def sha256(self) -> str:
        return self._sha256

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        end = self._size if stop is None else min(stop, self._size)
        at = start
        while at < end:
            if self._closed:  # its number may be another file's by now
                raise ValueError("this content is closed")
            # pread: several readers may be at different places of one file.
            piece = os.pread(self._descriptor, min(CHUNK, end - at), self._start + at)
            if not piece:
                raise OSError(f"the spool file ended at {at} of {self._size} bytes")
            yield piece
            at += len(piece)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._give_back(self._descriptor)

    def __del__(self) -> None:
        self.close()


def gathered(pieces: Iterable[bytes], room: Callable[[], int]) -> bytes | Iterator[bytes]:
    """The pieces as one if there is ``room`` for so many bytes in memory, else all of them again, one after another.

    ``room`` is asked anew with each piece.
    """
    small: deque[bytes] = deque()
    size = 0
    pieces = iter(pieces)
    for piece in pieces:
        small.append(piece)
        size += len(piece)
        if size > room():
            return chain(_emptied(small), pieces)
    return b"".join(small)


def _emptied(pieces: deque[bytes]) -> Iterator[bytes]:
    while pieces:
        yield pieces.popleft()


class FolderSpool:
    """A spool in a folder, which must be private enough for mail; the system's own for temporary files if None."""

    def __init__(self, folder: Path | None = None, *, memory_limit: int = MEMORY_LIMIT) -> None:
        self._folder = folder
        self._memory_limit = memory_limit
        self._made = Lock()

    def keep(self, pieces: Iterable[bytes]) -> Content:
        """All of the pieces as one content; raises ``SpoolFull`` when the folder has no room for them."""
        held = gathered(pieces, lambda: self._memory_limit)
        return BytesContent(held) if isinstance(held, bytes) else self._spill(held)

    def check(self) -> Path:
        """Whether a large mail could be held here just now; the folder in which that was tried.

        A folder that is not there is not made: it counts if the one above it can be written.  Leaves nothing behind.
        Raises ``SpoolFull``.
        """
        folder = self._folder or Path(tempfile.gettempdir())
        while not os.path.lexists(folder) and folder.parent != folder:
            folder = folder.parent
        try:
            descriptor = self._nameless(folder)
        except OSError as error:
            raise self._full(error) from error
        try:
            self.fill(descriptor, [b"maildaemon looks whether it can hold mail here"])
        finally:
            os.close(descriptor)
        return folder

    def _spill(self, pieces: Iterable[bytes]) -> Content:
        descriptor = self.open()
        try:
            size, sha256 = self.fill(descriptor, pieces)
        except BaseException:
            os.close(descriptor)
            raise
        return FileContent(descriptor, size, sha256)

    def open(self) -> int:
        """A new file that has no name; raises ``SpoolFull``."""
        try:
            if self._folder is not None:
                with self._made:
                    self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._nameless(self._folder)
        except OSError as error:
            raise self._full(error) from error

    def _nameless(self, folder: Path | None) -> int:
        """A new file that has no name any more.  Raises OSError."""
        descriptor, name = tempfile.mkstemp(prefix="maildaemon-", dir=folder)
        Path(name).unlink()
        return descriptor

    def fill(self, descriptor: int, pieces: Iterable[bytes]) -> tuple[int, str]:
        """Writes all of the pieces where the file stands; gives their size and SHA-256.

        Raises ``SpoolFull``, and what ``pieces`` raises.
        """
        size, digest = 0, hashlib.sha256()
        for piece in pieces:
            left = memoryview(piece)
            try:
                while left:
                    left = left[os.write(descriptor, left) :]
            except OSError as error:
                raise self._full(error) from error
            size += len(piece)
            digest.update(piece)
        return size, digest.hexdigest()

    def _full(self, error: OSError) -> SpoolFull:
        where = self._folder or Path(tempfile.gettempdir())
        return SpoolFull(
            f"a large mail cannot be held in {where}: {error.strerror}",
            remedy=f"make room in {where}, or see to it that it can be written",
        )
