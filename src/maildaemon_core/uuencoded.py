"""Which files stand in the text of a mail itself, uuencoded, as mailers sent them before there was MIME."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import attrs

from maildaemon_core.headers import raw_text
from maildaemon_core.message import Content
from maildaemon_core.structure import Lines

BLOCKS_CAP: Final = 100
"""Files in the text of one part that are taken out."""

_BEGIN = re.compile(rb"begin [0-7]{3,4} ([^\r\n]*[^\s])\s*\Z")
_SOMEWHERE: Final = b"\nbegin "
_FILLING: Final = 2  # characters by which some encoders make a line longer than it need be


@attrs.frozen(kw_only=True)
class Block:
    """A file from its line ``begin`` at ``start`` to after its line ``end``, or to the end of the text without one."""

    name: str
    start: int
    stop: int


def may_have_some(text: Content) -> bool:
    """Whether a line of this text looks like the beginning of a file: in nearly every text, none does."""
    tail = b"\n"
    for piece in text.chunks():
        joined = tail + piece
        if _SOMEWHERE in joined:
            return True
        tail = joined[-len(_SOMEWHERE) + 1 :]
    return False


def blocks(text: Content) -> Iterator[Block]:
    """The files in a text, in their order; one is known by ``begin``, mode and name before a line of its code."""
    lines = Lines(text.chunks())
    begun: Block | None = None
    sure = False
    while True:
        fresh, at = lines.fresh, lines.offset
        if not (line := lines.line()):
            break
        if not fresh:  # the rest of a very long line
            continue
        if begun is not None and not sure:
            sure = _is_code(line)
            begun = begun if sure else None
        if begun is None:
            if found := _BEGIN.match(line):
                begun, sure = Block(name=raw_text(found[1]), start=at, stop=at), False
        elif line.strip() == b"end":
            yield attrs.evolve(begun, stop=lines.offset)
            begun = None
    if begun is not None and sure:
        yield attrs.evolve(begun, stop=lines.offset)


def _is_code(line: bytes) -> bool:
    """Whether the letter at its beginning says how long the line is."""
    line = line.rstrip(b"\r\n")
    if not line or not all(ord(" ") <= octet <= ord("`") for octet in line[:100]):
        return False
    needed = ((line[0] - ord(" ")) & 63) + 2
    length = needed // 3 * 4
    # Blanks at its end may have been lost on the way.
    return len(line.rstrip()) - 1 <= length + _FILLING and (len(line) - 1 >= length - _FILLING or length == 0)
