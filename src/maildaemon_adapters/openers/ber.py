"""Walking through BER (X.690 §8) without holding it: elements, and octet strings in one piece or in many."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from maildaemon_adapters.openers.cursor import Cursor, Ended

END, INTEGER, OCTETS, OID = 0x00, 0x02, 0x04, 0x06
SEQUENCE, SET = 0x30, 0x31
EXPLICIT_0 = 0xA0  # [0], constructed
_CONSTRUCTED = 0x20
_OCTETS_IN_PIECES = OCTETS | _CONSTRUCTED
_NESTING = 16  # octet strings within each other
_BLOCK = 1 << 16  # what comes of damaged compressed data must not depend on how the octets were cut


class Malformed(Exception):
    """It is no BER, or not the BER that was expected."""


@attrs.frozen(kw_only=True)
class Element:
    """The beginning of an element: its first octet, and where its content lies; ``stop`` is None if it ends itself."""

    tag: int
    start: int
    stop: int | None

    @property
    def is_end(self) -> bool:
        """Whether it is the mark that ends an element of indefinite length (X.690 §8.1.5)."""
        return self.tag == END and self.stop == self.start


def read_element(cursor: Cursor) -> Element:
    """The element at the cursor, which then stands before its content; raises ``Malformed`` and ``Ended``."""
    tag = cursor.number(1)
    if tag & 0x1F == 0x1F:  # noqa: PLR2004 - a number in octets of its own, the last of which has no high bit
        for _ in range(5):
            if not cursor.number(1) & 0x80:
                break
        else:
            raise Malformed("a tag that is too long")
    length = cursor.number(1)
    if length == 0x80:  # noqa: PLR2004
        if not tag & _CONSTRUCTED:
            raise Malformed("a primitive element without a length")
        return Element(tag=tag, start=cursor.position, stop=None)
    if length > 0x80:  # noqa: PLR2004
        if length > 0x88:  # noqa: PLR2004
            raise Malformed("a length that is too long")
        length = int.from_bytes(cursor.take(length & 0x7F), "big")
    return Element(tag=tag, start=cursor.position, stop=cursor.position + length)


def expect(cursor: Cursor, *tags: int) -> Element:
    """The element at the cursor, which must be one of these; raises ``Malformed`` and ``Ended``."""
    element = read_element(cursor)
    if element.tag not in tags:
        raise Malformed(f"an element {element.tag:#04x} that does not belong there")
    return element


def has_more(cursor: Cursor, parent: Element) -> Element | None:
    """The next element in ``parent``, or None at its end; raises ``Malformed`` and ``Ended``."""
    if parent.stop is not None and cursor.position >= parent.stop:
        return None
    element = read_element(cursor)
    return None if parent.stop is None and element.is_end else element


def leave(cursor: Cursor, element: Element) -> None:
    """Moves behind the element; raises ``Malformed`` and ``Ended``."""
    if element.stop is not None:
        _go_to(cursor, element.stop)
        return
    deep = 1
    while deep:
        inner = read_element(cursor)
        if inner.is_end:
            deep -= 1
        elif inner.stop is None:
            deep += 1
        else:
            _go_to(cursor, inner.stop)


def small(cursor: Cursor, element: Element, most: int = 64) -> bytes:
    """The content of a small primitive element; raises ``Malformed`` and ``Ended``."""
    if element.stop is None or element.stop - element.start > most:
        raise Malformed("an element that should be small")
    return cursor.take(element.stop - element.start)


class OctetString:
    """An octet string at the cursor.  ``flaw`` says, once it has been read, why it may not be whole."""

    def __init__(self, cursor: Cursor, element: Element) -> None:
        if element.tag not in {OCTETS, _OCTETS_IN_PIECES}:
            raise Malformed(f"an element {element.tag:#04x} in the place of an octet string")
        self._cursor = cursor
        self._element = element
        self.flaw: str | None = None

    def span(self) -> tuple[int, int] | None:
        """Where it lies if it is in one piece; None if it is in many."""
        if self._element.tag == _OCTETS_IN_PIECES or self._element.stop is None:
            return None
        stop = min(self._element.stop, self._cursor.size)
        if stop < self._element.stop:
            self.flaw = "it ends early"
        return self._element.start, stop

    def pieces(self) -> Iterator[bytes]:
        """Its octets, in blocks of one length; can be read once, and raises nothing of its own."""
        held: list[bytes] = []
        size = 0
        try:
            for piece in self._segments():
                held.append(piece)
                size += len(piece)
                while size >= _BLOCK:
                    joined = b"".join(held)
                    yield joined[:_BLOCK]
                    held, size = [joined[_BLOCK:]], size - _BLOCK
        except Ended:
            self.flaw = "it ends early"
        except Malformed as error:
            self.flaw = str(error)
        if size:
            yield b"".join(held)

    def _segments(self) -> Iterator[bytes]:
        cursor = self._cursor
        if self._element.tag == OCTETS:
            yield from self._primitive(self._element)
            return
        open_ones = [self._element]
        while open_ones:
            element = has_more(cursor, open_ones[-1])
            if element is None:
                open_ones.pop()
            elif element.tag == OCTETS:
                yield from self._primitive(element)
            elif element.tag == _OCTETS_IN_PIECES and len(open_ones) < _NESTING:
                open_ones.append(element)
            else:
                raise Malformed("an octet string with something else in it")

    def _primitive(self, element: Element) -> Iterator[bytes]:
        stop = element.start if element.stop is None else element.stop
        while self._cursor.position < stop:
            yield self._cursor.some(stop)


def _go_to(cursor: Cursor, position: int) -> None:
    if position < cursor.position:
        raise Malformed("an element that ends before its own content")
    cursor.go_to(position)
