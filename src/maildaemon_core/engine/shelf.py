"""Where what is found in containers is held: it costs one file and little memory, however many pieces it comes in."""

from __future__ import annotations

import os
from collections.abc import Iterable

from maildaemon_core.engine.spool import MEMORY_LIMIT, FileContent, FolderSpool, gathered
from maildaemon_core.message import BytesContent, Content


class Shelf:
    """Holds contents in memory up to ``memory_limit`` bytes of all together, and the others in one file of ``spool``.

    A mail of a few KiB may hold a thousand files that compress well, each too small for a file of its own.  Memory and
    file are given back when every content is closed.  Used by one thread; what it gave may be read by many.
    """

    def __init__(self, spool: FolderSpool, *, memory_limit: int = MEMORY_LIMIT) -> None:
        self._spool = spool
        self._memory_limit = memory_limit
        self._in_memory = 0
        self._descriptor: int | None = None
        self._end = 0
        self._open = 0
        self._busy = False

    def keep(self, pieces: Iterable[bytes]) -> Content:
        """All of the pieces as one content; raises ``SpoolFull`` when there is no room, and what ``pieces`` raises."""
        held = gathered(pieces, lambda: self._memory_limit - self._in_memory)
        if not isinstance(held, bytes):
            return self._spill(held)
        self._in_memory += len(held)
        self._open += 1
        return _InMemory(held, self)

    def _spill(self, pieces: Iterable[bytes]) -> Content:
        if self._busy:  # these come while others are being written, which must not be torn apart
            return self._spool.keep(pieces)
        self._busy = True
        self._open += 1
        try:
            if self._descriptor is None:
                self._descriptor, self._end = self._spool.open(), 0
            descriptor = self._descriptor
            os.lseek(descriptor, self._end, os.SEEK_SET)
            size, sha256 = self._spool.fill(descriptor, pieces)
        except BaseException:
            self.gave_back()
            raise
        finally:
            self._busy = False
        start, self._end = self._end, self._end + size
        return FileContent(descriptor, size, sha256, start=start, give_back=lambda _: self.gave_back())

    def gave_back(self) -> None:
        """One of the contents is closed."""
        self._open -= 1
        if not self._open:
            self._in_memory = 0
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


class _InMemory(BytesContent):
    def __init__(self, data: bytes, shelf: Shelf) -> None:
        super().__init__(data)
        self._shelf: Shelf | None = shelf

    def close(self) -> None:
        shelf, self._shelf = self._shelf, None
        if shelf is not None:
            shelf.gave_back()
