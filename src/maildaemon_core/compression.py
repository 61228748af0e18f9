"""A content as gzip: made anew on each reading, always the same bytes."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from functools import cached_property

from maildaemon_core.message import CHUNK, Content

_GZIP = 16 + zlib.MAX_WBITS


class Gzipped:
    """The gzip form (RFC 1952) of another content, without a time stamp, so that equal mails give equal files."""

    def __init__(self, content: Content) -> None:
        self._content = content

    def __repr__(self) -> str:
        return f"Gzipped({self._content!r})"

    @cached_property
    def _measured(self) -> tuple[int, str]:
        size, digest = 0, hashlib.sha256()
        for piece in self._compressed():
            size += len(piece)
            digest.update(piece)
        return size, digest.hexdigest()

    @property
    def size(self) -> int:
        return self._measured[0]

    @property
    def sha256(self) -> str:
        return self._measured[1]

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        at = 0
        for piece in self._compressed():
            cut = piece[max(start - at, 0) : None if stop is None else max(stop - at, 0)]
            at += len(piece)
            if cut:
                yield cut
            if stop is not None and at >= stop:
                return

    def close(self) -> None:
        self._content.close()

    def _compressed(self) -> Iterator[bytes]:
        # Input pieces are at most CHUNK long and gzip adds less than a thousandth, held back until it is a block.
        deflate = zlib.compressobj(wbits=_GZIP)
        for piece in self._content.chunks():
            if out := deflate.compress(piece):
                yield from _bounded(out)
        yield from _bounded(deflate.flush())


def _bounded(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), CHUNK):
        yield data[at : at + CHUNK]
