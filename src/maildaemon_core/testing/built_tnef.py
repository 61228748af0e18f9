"""Containers of TNEF (winmail.dat) to test with, written by hand ([MS-OXTNEF])."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import attrs
from hypothesis import strategies as st

from maildaemon_core.testing.built_containers import BuiltContainer
from maildaemon_core.testing.mails import Named

TNEF = "application/ms-tnef"
_UNKNOWN = "application/octet-stream"
_BEGINNING = struct.pack("<IH", 0x223E9F78, 0x1234)
_STRING8, _UNICODE, _BINARY, _OBJECT = 0x1E, 0x1F, 0x0102, 0x0D
_STORAGE = bytes.fromhex("0b00000000000000c000000000000046")  # IID_IStorage
_MESSAGE = bytes.fromhex("0703020000000000c000000000000046")  # IID_IMessage
_PYTHONS = {1252: "cp1252", 1251: "cp1251", 932: "cp932", 65001: "utf-8"}


@attrs.frozen(kw_only=True)
class TnefAttachment:
    """An attachment and how it is written.

    ``place`` is where its bytes stand: ``data`` (attAttachData), ``binary`` or ``storage`` (a property), ``message``
    (they are TNEF).  ``long`` is whether the name is a property, in Unicode or in the code page; else it is a title.
    """

    name: str | None
    content: bytes
    content_type: str = ""
    place: str = "data"
    long: str = "unicode"
    noise: bool = False

    @property
    def truth(self) -> Named:
        """What an opener must find."""
        if self.place == "message":
            return f"{self.name or 'message'}.tnef", TNEF, self.content
        return self.name, self.content_type or _UNKNOWN, self.content


def attribute(name: int, data: bytes, *, level: int = 2, kind: int = 6) -> bytes:
    """An attribute with its checksum; ``name`` and ``kind`` are the lower and the upper half of its number."""
    return struct.pack("<BHHI", level, name, kind, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)


def variable(tag: int, kind: int, *values: bytes) -> bytes:
    """A property of a type without a fixed length."""
    padded = b"".join(struct.pack("<I", len(value)) + value + bytes(-len(value) % 4) for value in values)
    return struct.pack("<HHI", kind, tag, len(values)) + padded


def text(tag: int, value: str, code_page: int | None = None) -> bytes:
    """A property that is a text, in Unicode or in a code page."""
    if code_page is None:
        return variable(tag, _UNICODE, f"{value}\0".encode("utf-16-le"))
    return variable(tag, _STRING8, value.encode(_PYTHONS[code_page]) + b"\0")


def properties(*written: bytes) -> bytes:
    """A list of properties."""
    return struct.pack("<I", len(written)) + b"".join(written)


_NOISE = (
    struct.pack("<HHI", 0x0003, 0x3705, 1),  # how it is attached: by value
    struct.pack("<HHHH", 0x000B, 0x7FFE, 1, 0),  # a truth value, padded
    struct.pack("<HHIII", 0x1002, 0x6601, 2, 7, 8),  # two short numbers, each padded
    struct.pack("<HH16sIIQ", 0x0040, 0x8001, bytes(16), 0, 99, 1 << 60),  # named by a number
    struct.pack("<HH16sII", 0x001F, 0x8002, bytes(16), 1, 6) + "ab\0".encode("utf-16-le") + bytes(2)
    + variable(0, 0)[4:],  # named by a text; no value at all
    struct.pack("<HH", 0x101E, 0x6602) + variable(0, 0, b"one\0", b"three\0")[4:],
    struct.pack("<HH16s", 0x0048, 0x6603, bytes(range(16))),
)  # fmt: skip


def attributes_of(attachment: TnefAttachment, code_page: int) -> list[bytes]:
    """The attributes of one attachment."""
    made = [attribute(0x9002, struct.pack("<HIHHI", 1, 0xFFFFFFFF, 0, 0, 0))]
    written = list(_NOISE) if attachment.noise else []
    if attachment.name is not None and attachment.long:
        tag = 0x3001 if attachment.place == "message" else 0x3707
        written.append(text(tag, attachment.name, None if attachment.long == "unicode" else code_page))
    elif attachment.name is not None:
        made.append(attribute(0x8010, attachment.name.encode(_PYTHONS[code_page]) + b"\0", kind=1))
    if attachment.content_type:
        written.append(text(0x370E, attachment.content_type, code_page))
    match attachment.place:
        case "data":
            made.append(attribute(0x800F, attachment.content))
        case "binary":
            written.append(variable(0x3701, _BINARY, attachment.content))
        case "storage":
            written.append(variable(0x3701, _OBJECT, _STORAGE + attachment.content))
        case _:
            made.append(attribute(0x800F, b"This attachment is a message, which this program does not know."))
            written.append(variable(0x3701, _OBJECT, _MESSAGE + attachment.content))
    if attachment.noise:
        made.append(attribute(0x8011, b"a picture of it", kind=6))
        made.append(attribute(0x8013, bytes(14), kind=3))
    return [*made, attribute(0x9005, properties(*written))]


def tnef(attachments: Sequence[TnefAttachment], *, code_page: int = 1252, body: str = "") -> BuiltContainer:
    """A winmail.dat with these attachments; ``body`` is the text of its message, in HTML."""
    message = [
        attribute(0x9006, struct.pack("<I", 0x10000), level=1, kind=8),
        attribute(0x9007, struct.pack("<II", code_page, 0), level=1),
        attribute(0x8008, b"IPM.Microsoft Mail.Note\0", level=1, kind=7),
    ]
    if body:
        message.append(attribute(0x9003, properties(variable(0x1013, _BINARY, body.encode())), level=1))
    made = [*message, *(written for found in attachments for written in attributes_of(found, code_page))]
    ends = [len(_BEGINNING)]
    for written in made:
        ends.append(ends[-1] + len(written))
    return BuiltContainer(
        raw=_BEGINNING + b"".join(made),
        content_type=TNEF,
        name="winmail.dat",
        files=tuple(found.truth for found in attachments),
        seams=frozenset(ends[:-1]),
    )


_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=30)


@st.composite
def _attachments(draw: st.DrawFn, code_page: int, depth: int) -> TnefAttachment:
    name = draw(st.none() | _TEXTS | st.sampled_from(("a.pdf", "../x", "Rechnung März.pdf", "請求書.pdf")))
    place = draw(st.sampled_from(("data", "data", "binary", "storage", *(["message"] if depth else []))))
    if place == "message":
        content = draw(built_tnef(depth=depth - 1)).raw
    else:
        content = draw(st.binary(max_size=200) | st.binary(max_size=20).map(lambda data: data * 30))
    ways = ["unicode"]
    if name is not None and _is_in(name, code_page):
        ways += ["8-bit", ""]
    kind = "" if place == "message" else draw(st.sampled_from(("", "application/pdf", "image/png", "text/x+y")))
    return TnefAttachment(
        name=name,
        content=content,
        content_type=kind,
        place=place,
        long=draw(st.sampled_from(ways)),
        noise=draw(st.booleans()),
    )


def _is_in(name: str, code_page: int) -> bool:
    """Whether the code page has all of these characters, and gives them back as they were."""
    try:
        return name.encode(_PYTHONS[code_page]).decode(_PYTHONS[code_page]) == name
    except UnicodeError:
        return False


@st.composite
def built_tnef(draw: st.DrawFn, depth: int = 2) -> BuiltContainer:
    """Correct TNEF of many shapes: places of contents, kinds of names, code pages, messages within each other."""
    code_page = draw(st.sampled_from(tuple(_PYTHONS)))
    attachments = draw(st.lists(_attachments(code_page, depth), max_size=3))
    return tnef(attachments, code_page=code_page, body=draw(st.sampled_from(("", "<p>Hi</p>"))))
