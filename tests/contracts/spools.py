"""A spool as small as can be: every mail in a file of its own that nobody else sees."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator

from maildaemon_core.errors import SpoolFull
from maildaemon_core.message import CHUNK, Content


class FileContent:
    """What was kept, read from its file piece by piece."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._digest.update(piece)
        self.size += len(piece)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        end = self.size if stop is None else min(stop, self.size)
        for at in range(start, end, CHUNK):
            self._file.seek(at)
            yield self._file.read(min(CHUNK, end - at))

    def close(self) -> None:
        self._file.close()

    def __del__(self) -> None:
        self.close()


class FileSpool:
    """Keeps everything until ``room`` bytes are taken; ``kept`` holds what it gave out."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.kept: list[FileContent] = []
        self._room = room

    def keep(self, pieces: Iterable[bytes]) -> Content:
        content = FileContent()
        try:
            for piece in pieces:
                if content.size + len(piece) > self._room:
                    raise SpoolFull("the spool is full", remedy="make room")
                content.write(piece)
        except BaseException:
            content.close()
            raise
        self.kept.append(content)
        return content
