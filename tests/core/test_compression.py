"""A content as gzip: what any reader unpacks, in bounded pieces, always the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.compression import Gzipped
from maildaemon_core.message import CHUNK, BytesContent

NOISE = random.Random(1).randbytes(3 * CHUNK + 17)


class Closable(BytesContent):
    closed = False

    def close(self) -> None:
        self.closed = True


@given(st.binary(max_size=5000))
def test_it_unpacks_to_the_original(data: bytes) -> None:
    packed = Gzipped(BytesContent(data))
    raw = b"".join(packed.chunks())
    assert gzip.decompress(raw) == data
    assert (packed.size, packed.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert raw == b"".join(packed.chunks()) == b"".join(Gzipped(BytesContent(data)).chunks())


@given(st.integers(0, len(NOISE) + 100), st.none() | st.integers(0, len(NOISE) + 100))
def test_any_piece_of_it_can_be_read(start: int, stop: int | None) -> None:
    packed = Gzipped(BytesContent(NOISE))
    pieces = list(packed.chunks(start, stop))
    assert b"".join(pieces) == b"".join(packed.chunks())[start:stop]
    assert all(0 < len(piece) <= CHUNK for piece in pieces)


def test_what_a_highly_compressible_mail_unpacks_from_is_small_and_never_held_as_a_whole() -> None:
    class Zeros(BytesContent):
        most = 0

        def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
            for _ in range(64):
                yield bytes(CHUNK)

    packed = Gzipped(Zeros(b""))
    assert packed.size < CHUNK
    assert all(len(piece) <= CHUNK for piece in packed.chunks())


def test_it_holds_no_time_and_no_name() -> None:
    header = b"".join(Gzipped(BytesContent(b"x")).chunks())[:10]
    assert header[:8] == b"\x1f\x8b\x08\0\0\0\0\0"  # RFC 1952 §2.3: no flags, MTIME 0


def test_to_close_it_is_to_close_the_original() -> None:
    original = Closable(b"x")
    Gzipped(original).close()
    assert original.closed
