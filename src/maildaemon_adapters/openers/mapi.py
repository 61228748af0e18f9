"""What lists of MAPI properties say, as TNEF writes them ([MS-OXTNEF] §2.1.3.4), read property by property."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import attrs

from maildaemon_adapters.openers.cursor import Cursor
from maildaemon_core.headers import charset_text, raw_text

LONGEST = 2048
"""More bytes than this of a text are not kept; a path on Windows has 260 characters."""

_NAMED = 0x8000  # from here on a property has a name in the list itself
_MANY = 0x1000  # the flag of types that have several values
_STRING8, _UNICODE, _OBJECT, _BINARY = 0x1E, 0x1F, 0x0D, 0x0102
_VARIABLE = {_STRING8, _UNICODE, _OBJECT, _BINARY}
# Each value is padded to four bytes ([MS-OXTNEF] §2.1.3.4), also where there are several of them.
_FIXED = {
    **dict.fromkeys((0x00, 0x01), 0),
    **dict.fromkeys((0x02, 0x03, 0x04, 0x0A, 0x0B), 4),
    **dict.fromkeys((0x05, 0x06, 0x07, 0x14, 0x40), 8),
    0x48: 16,
}
_INTERFACE = 16  # bytes of the interface identifier before an object
_MESSAGE_INTERFACE = bytes.fromhex("0703020000000000c000000000000046")  # IID_IMessage

_CODE_PAGES = {
    1200: "utf-16-le",
    1201: "utf-16-be",
    10000: "mac-roman",
    20127: "us-ascii",
    20866: "koi8-r",
    20932: "euc-jp",
    21866: "koi8-u",
    50220: "iso-2022-jp",
    50221: "iso-2022-jp",
    50222: "iso-2022-jp",
    50225: "iso-2022-kr",
    51932: "euc-jp",
    51936: "gb18030",
    51949: "euc-kr",
    52936: "hz",
    54936: "gb18030",
    65000: "utf-7",
    65001: "utf-8",
    **{28590 + number: f"iso-8859-{number}" for number in range(1, 17)},
}


class Tag(enum.IntEnum):
    """The properties that are looked at ([MS-OXPROPS], [MS-OXCMSG] §2.2.2)."""

    BODY = 0x1000
    RTF = 0x1009
    HTML = 0x1013
    DISPLAY_NAME = 0x3001
    DATA = 0x3701
    EXTENSION = 0x3703
    FILE_NAME = 0x3704
    METHOD = 0x3705
    LONG_FILE_NAME = 0x3707
    TRANSPORT_NAME = 0x370C
    MIME_TAG = 0x370E
    MESSAGE_CODE_PAGE = 0x3FFD


_TAGS = {int(tag): tag for tag in Tag}


class Unreadable(Exception):
    """The list is not what it should be; what follows in it cannot be found."""


@attrs.frozen(kw_only=True)
class Text:
    """Characters as they stand in the list; their code page may only be known later."""

    raw: bytes
    unicode: bool

    def decoded(self, code_page: int | None) -> str:
        """What it says, without what follows a NUL; never raises, and never holds a lone surrogate."""
        if self.unicode:
            text = self.raw[: len(self.raw) & ~1].decode("utf-16-le", "replace")
        else:
            text = decoded(self.raw, code_page)
        return text.partition("\0")[0]


@attrs.frozen(kw_only=True)
class Property:
    """One value of a property: a number or a text where it is one, and where its bytes lie.

    ``message`` is whether it is a message, which is TNEF itself.  ``cut`` is whether the end of the list came first.
    """

    tag: Tag
    start: int
    stop: int
    number: int | None = None
    text: Text | None = None
    message: bool = False
    cut: bool = False


def decoded(raw: bytes, code_page: int | None) -> str:
    """Bytes in a code page of Windows as text; as whatever they look like where the code page is unknown."""
    if not code_page:
        return raw_text(raw)
    return charset_text(raw, _CODE_PAGES.get(code_page, f"cp{code_page}"))


def read_properties(cursor: Cursor, stop: int) -> Iterator[Property]:
    """The properties of a list that are looked at.

    ``stop`` must lie in the content.  Raises ``Unreadable``.
    """
    for _ in range(_number(cursor, stop)):
        kind, number = _number(cursor, stop, 2), _number(cursor, stop, 2)
        if number >= _NAMED:
            _pass_name(cursor, stop)
        several = bool(kind & _MANY)
        kind &= ~_MANY
        if kind in _VARIABLE:
            for _ in range(_number(cursor, stop)):
                yield from _variable(cursor, stop, kind, _TAGS.get(number))
        elif kind in _FIXED:
            values = _number(cursor, stop) if several else 1
            start = cursor.position
            if not several and _TAGS.get(number) in {Tag.METHOD, Tag.MESSAGE_CODE_PAGE} and _FIXED[kind] == 4:  # noqa: PLR2004
                yield Property(tag=_TAGS[number], start=start, stop=start + 4, number=_number(cursor, stop))
            _go_to(cursor, start + values * _FIXED[kind], stop)
        else:
            raise Unreadable(f"a property of the unknown type {kind:#06x}")


def _variable(cursor: Cursor, stop: int, kind: int, tag: Tag | None) -> Iterator[Property]:
    length = _number(cursor, stop)
    start = cursor.position
    end = min(start + length, stop)
    cut = end < start + length
    if tag is not None:
        if kind in {_STRING8, _UNICODE}:
            text = Text(raw=cursor.take(min(end - start, LONGEST)), unicode=kind == _UNICODE)
            yield Property(tag=tag, start=start, stop=end, text=text, cut=cut)
        else:
            message = False
            if kind == _OBJECT and end - start >= _INTERFACE:
                message = cursor.take(_INTERFACE) == _MESSAGE_INTERFACE
                start += _INTERFACE
            yield Property(tag=tag, start=start, stop=end, message=message, cut=cut)
    if cut:
        raise Unreadable("a property that is cut off")
    _go_to(cursor, min(end + -length % 4, stop), stop)  # some leave out the padding of the last one


def _pass_name(cursor: Cursor, stop: int) -> None:
    _go_to(cursor, cursor.position + 16, stop)
    if _number(cursor, stop) == 0:
        _number(cursor, stop)
    else:
        length = _number(cursor, stop)
        _go_to(cursor, cursor.position + length + -length % 4, stop)


def _number(cursor: Cursor, stop: int, length: int = 4) -> int:
    if cursor.position + length > stop:
        raise Unreadable("fewer properties than announced")
    return cursor.number(length)


def _go_to(cursor: Cursor, position: int, stop: int) -> None:
    if position > stop:
        raise Unreadable("a property that is cut off")
    cursor.go_to(position)
