"""What the laws of destinations are tried with: a consumer, contents, batches, and stories that have to go well."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from maildaemon_core.message import CHUNK, BatchId, BytesContent, Content, MailboxId
from maildaemon_core.ports import Destination, Put, Staged
from maildaemon_core.progress import Receipt

HUGE: Final = 48 * 2**20
"""Bytes of a file that is too large to be held in memory, for this purpose."""


class Consumer(Protocol):
    """Whoever uses the files: sees everything but the staging folder, and knows nothing of the adapter."""

    def files(self) -> Mapping[str, bytes]:
        """All files in sight, by path relative to the destination, with ``/``."""
        ...

    def take(self, path: str) -> bytes:
        """Takes a file away."""
        ...


class Torn:
    """A content that breaks off in the middle: after one piece it raises ``error``."""

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self.size = 2 * CHUNK
        self.sha256 = hashlib.sha256(bytes(self.size)).hexdigest()

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        yield bytes(CHUNK)
        raise self._error

    def close(self) -> None:
        pass


def batch_of(number: int, *, token: int = 1) -> BatchId:
    """A batch as the engine names them."""
    return BatchId(MailboxId("0b8f9a4e-6a0c-4d4e-9b8e-5a3c1f2d7e60"), token, number, "c0ffee00")


def put_of(part: str, path: str, content: bytes | Content = b"content") -> Put:
    """What is to be stored; bytes become a content."""
    return Put(part=part, path=path, content=BytesContent(content) if isinstance(content, bytes) else content)


class Huge:
    """A content of so many bytes that takes no memory."""

    def __init__(self, size: int = HUGE) -> None:
        self.size = size // CHUNK * CHUNK
        digest = hashlib.sha256()
        for piece in self.chunks():
            digest.update(piece)
        self.sha256 = digest.hexdigest()

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        assert (start, stop) == (0, None), "files are read from their beginning to their end"
        for number in range(self.size // CHUNK):
            yield hashlib.sha256(b"%d" % number).digest() * (CHUNK // 32)

    def close(self) -> None:
        pass


def staged_of(destination: Destination, batch: BatchId, puts: Sequence[Put]) -> list[Staged]:
    """Stages, and takes only success for an answer."""
    answers = destination.stage(batch, puts)
    staged = [answer for put in puts if isinstance(answer := answers[put.part], Staged)]
    assert len(staged) == len(puts) == len(answers), answers
    return staged


def published_of(destination: Destination, batch: BatchId, puts: Sequence[Put]) -> list[Staged]:
    """Stages and publishes, and takes only success for an answer."""
    staged = staged_of(destination, batch, puts)
    answers = destination.publish(batch, staged)
    assert set(answers) == {put.part for put in puts}
    assert all(isinstance(answer, Receipt) for answer in answers.values()), answers
    return staged
