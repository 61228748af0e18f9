"""The bytes of a file in blocks of the size that a protocol likes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def blocks(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in blocks of ``size``, the last one shorter.

    That comes only after ``pieces`` came to its end without an error: until then nobody has the whole file.
    """
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) > size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
