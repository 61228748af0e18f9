"""A kind of container for tests, and what opens it: files, or an entity, in a form that is written in a few lines."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from maildaemon_core.containers import Budget, Container, InnerFile, Opened, SliceContent
from maildaemon_core.message import Content

BOX: Final = "application/x-box"
"""``NAME|TYPE|LENGTH`` and so many bytes, over and over; a name of ``entity`` alone is an entity."""


def boxed(*files: tuple[str, str, bytes]) -> bytes:
    return b"".join(f"{name}|{kind}|{len(data)}\n".encode() + data for name, kind, data in files)


def part(kind: str, data: bytes, *, encoding: str = "base64", name: str | None = None) -> bytes:
    """A part of a mail."""
    head = f"Content-Type: {kind}\r\n" + (f"Content-Disposition: attachment; filename={name}\r\n" if name else "")
    body = base64.encodebytes(data).replace(b"\n", b"\r\n") if encoding == "base64" else data
    return head.encode() + f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body


def mail_of(*parts: bytes, subject: str = "s", boundary: str = "b") -> bytes:
    head = f"From: a@b.example\r\nSubject: {subject}\r\nContent-Type: multipart/mixed; boundary={boundary}\r\n\r\n"
    divided = b"".join(b"--" + boundary.encode() + b"\r\n" + each + b"\r\n" for each in parts)
    return head.encode() + divided + b"--" + boundary.encode() + b"--\r\n"


@attrs.frozen(kw_only=True)
class BoxOpener:
    """Opens boxes.  ``also`` is called with the budget before anything is opened."""

    name: str = "Box"
    losses: Sequence[str] = ()
    notes: Sequence[str] = ()
    encrypted: bool = False
    also: Callable[[Container, Budget], object] = lambda container, budget: None

    def recognises(self, container: Container) -> bool:
        return container.content_type == BOX

    def open(self, container: Container, budget: Budget) -> Opened:
        self.also(container, budget)
        files: list[InnerFile] = []
        entity: Content | None = None
        for name, kind, at, size in _entries(container.content):
            budget.file()
            inside = SliceContent(container.content, at, at + size)
            if name == "entity":
                entity = inside
            else:
                files.append(InnerFile(name=name or None, content_type=kind, content=inside))
        return Opened(files=files, entity=entity, losses=self.losses, notes=self.notes, encrypted=self.encrypted)


def _entries(content: Content) -> Iterator[tuple[str, str, int, int]]:
    at = 0
    while at < content.size:
        line = b"".join(content.chunks(at, at + 200)).partition(b"\n")[0]
        name, kind, size = line.decode().split("|")
        at += len(line) + 1
        yield name, kind, at, int(size)
        at += int(size)


@attrs.frozen
class Faulty:
    """An opener that raises, when it recognises or when it opens."""

    error: BaseException
    early: bool = False
    name: str = "Faulty"

    def recognises(self, container: Container) -> bool:
        if self.early:
            raise self.error
        return container.content_type == BOX

    def open(self, container: Container, budget: Budget) -> Opened:
        raise self.error
