"""Containers to test openers with that know the truth about themselves, and contents that come in odd pieces.

Shipped for authors of openers; ``opener_conformance`` takes them as samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from maildaemon_core.containers import Container, InnerFile, Opened
from maildaemon_core.message import BytesContent, Content
from maildaemon_core.testing.mails import Named


@attrs.frozen(kw_only=True)
class BuiltContainer:
    """A container and what an opener must find in it.

    ``files`` are in order, each with name, content type and bytes; ``entity`` is the MIME entity in it, if there is
    one.  ``whole`` is whether nothing is missing: then there is no loss.  ``seams`` are the lengths to which it can be
    cut so that nobody can tell (a format that does not say how long it is).
    """

    raw: bytes
    content_type: str = "application/octet-stream"
    name: str | None = None
    smime_type: str = ""
    files: Sequence[Named] = ()
    entity: bytes | None = None
    encrypted: bool = False
    whole: bool = True
    seams: frozenset[int] = frozenset()

    def container(self, content: Content | None = None) -> Container:
        """What an opener is given; ``content`` is in the place of its own bytes."""
        return Container(
            content_type=self.content_type,
            name=self.name,
            smime_type=self.smime_type,
            content=BytesContent(self.raw) if content is None else content,
        )


class Crumbled:
    """A content whose pieces have the given lengths, over and over; ``read`` counts the bytes that were read."""

    def __init__(self, data: bytes, lengths: Sequence[int] = (1,)) -> None:
        self._content = BytesContent(data)
        self._lengths = lengths
        self.read = 0

    @property
    def size(self) -> int:
        return self._content.size

    @property
    def sha256(self) -> str:
        return self._content.sha256

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        end = self.size if stop is None else min(stop, self.size)
        at = start
        while at < end:
            for length in self._lengths:
                for piece in self._content.chunks(at, min(at + length, end)):
                    self.read += len(piece)
                    yield piece
                at += length

    def close(self) -> None:
        pass


def whole(content: Content) -> bytes:
    """All of it; for small ones."""
    return b"".join(content.chunks())


def taken(file: InnerFile) -> Named:
    """A file in the form in which ``BuiltContainer`` knows it."""
    return file.name, file.content_type, whole(file.content)


def told(opened: Opened) -> tuple[object, ...]:
    """All that came out, comparable."""
    entity = None if opened.entity is None else whole(opened.entity)
    files = tuple(taken(file) for file in opened.files)
    return files, entity, tuple(opened.losses), tuple(opened.notes), opened.encrypted
