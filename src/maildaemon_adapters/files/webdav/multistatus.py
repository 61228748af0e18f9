"""What a WebDAV server says that there is: its answers to PROPFIND (RFC 4918 §13), read piece by piece.

They come from a server that may be anybody's: no document type is taken (so no entity can blow them up), and nothing is
kept but paths, sizes and what is a folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import unquote
from xml.parsers import expat

import attrs

MOST: Final = 1 << 26
"""Bytes of an answer; more is a server that does not come to an end."""

ASKED: Final = (
    b'<?xml version="1.0" encoding="utf-8"?>\n'
    b'<propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/></prop></propfind>'
)
"""The body of the question."""

_LONGEST_TEXT: Final = 1 << 16
_DAV: Final = "DAV: "


class Unreadable(Exception):
    """It is no such answer."""


@attrs.frozen(kw_only=True)
class Resource:
    """One file or folder: ``steps`` are the names that its path consists of; ``size`` in bytes if it was told."""

    steps: tuple[str, ...]
    is_folder: bool
    size: int | None


def resources(pieces: Iterable[bytes]) -> Sequence[Resource]:
    """What an answer tells of, without what it says is missing.  Raises ``Unreadable``."""
    reader = _Reader()
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > MOST:
            raise Unreadable(f"it has more than {MOST} bytes")
        reader.feed(piece)
    return reader.finished()


def inside(found: Sequence[Resource]) -> Sequence[Resource]:
    """What lies directly in the folder that was asked about; nothing if that is a file.

    Servers behind others tell of paths that are not those of the URL; so the folder is known by being above the rest.
    """
    if not found:
        return ()
    top = min(found, key=lambda each: len(each.steps))
    return [each for each in found if len(each.steps) == len(top.steps) + 1 and _is_name(each.steps[-1])]


def _is_name(step: str) -> bool:
    return "/" not in step and step not in {"", ".", ".."}


class _Reader:
    def __init__(self) -> None:
        self._found: list[Resource] = []
        self._open: list[str] = []
        self._text = ""
        self._of_response: dict[str, Any] = {}
        self._of_properties: dict[str, Any] = {}
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def feed(self, piece: bytes, *, last: bool = False) -> None:
        try:
            self._parser.Parse(piece, last)
        except expat.ExpatError as error:
            raise Unreadable(f"it is no XML: {expat.ErrorString(error.code)}") from None

    def finished(self) -> Sequence[Resource]:
        self.feed(b"", last=True)
        return self._found

    def _doctype(self, *_: object) -> None:
        raise Unreadable("it has a document type, which no answer needs")

    def _start(self, name: str, _: object) -> None:
        if not self._open and name != f"{_DAV}multistatus":
            raise Unreadable("it is XML, but no answer to PROPFIND")
        self._open.append(name)
        self._text = ""
        if name == f"{_DAV}response":
            self._of_response = {}
        elif name == f"{_DAV}propstat":
            self._of_properties = {}
        elif self._open[-2:] == [f"{_DAV}resourcetype", f"{_DAV}collection"]:
            self._of_properties["folder"] = True

    def _characters(self, text: str) -> None:
        if len(self._text) < _LONGEST_TEXT:
            self._text += text

    def _end(self, name: str) -> None:
        self._open.pop()
        above = self._open[-1] if self._open else ""
        text, self._text = self._text.strip(), ""
        if name == f"{_DAV}href" and above == f"{_DAV}response":
            self._of_response.setdefault("href", text)
        elif name == f"{_DAV}getcontentlength":
            self._of_properties["size"] = int(text) if text.isascii() and text.isdecimal() else None
        elif name == f"{_DAV}status" and above in {f"{_DAV}response", f"{_DAV}propstat"}:
            told = self._of_response if above == f"{_DAV}response" else self._of_properties
            told["good"] = text.partition(" ")[2].startswith("2")  # HTTP/1.1 200 OK
        elif name == f"{_DAV}propstat":
            if self._of_properties.pop("good", True):
                self._of_response.update(self._of_properties)
        elif name == f"{_DAV}response":
            self._keep(self._of_response)

    def _keep(self, told: dict[str, Any]) -> None:
        if told.get("good", True) and told.get("href"):
            self._found.append(
                Resource(steps=_steps(told["href"]), is_folder=told.get("folder", False), size=told.get("size"))
            )


def _steps(href: str) -> tuple[str, ...]:
    """The names in the path of a URL, or of one without a server (RFC 4918 §8.3)."""
    scheme, apart, rest = href.partition("://")
    path = rest.partition("/")[2] if apart and "/" not in scheme else href
    return tuple(unquote(step, errors="surrogateescape") for step in path.split("/") if step)
