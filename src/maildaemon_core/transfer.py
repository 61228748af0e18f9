"""What the bytes of a part are without its transfer encoding, block by block, nothing copied (RFC 2045 §6)."""

from __future__ import annotations

import binascii
import enum
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Protocol

import attrs

from maildaemon_core.message import Content

BLOCK = 1 << 16
"""Encoded bytes that are decoded in one go."""

_WHITE = b" \t\r\n"
_FOREIGN = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_BAD_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2})")
_NAME_END = re.compile(r"[\s;,(]")
_UU_BEGIN = re.compile(rb"begin [0-7]{3,4} ")
_LONGEST_UU_LINE = 128  # bytes; 61 and the line break are usual


class Encoding(enum.Enum):
    """The transfer encodings that are understood."""

    IDENTITY = "8bit"
    BASE64 = "base64"
    QUOTED_PRINTABLE = "quoted-printable"
    UUENCODE = "x-uuencode"


_ENCODINGS = {
    **dict.fromkeys(("", "7bit", "8bit", "binary", "7-bit", "8-bit", "7bits", "8bits"), Encoding.IDENTITY),
    "base64": Encoding.BASE64,
    "quoted-printable": Encoding.QUOTED_PRINTABLE,
    **dict.fromkeys(("x-uuencode", "x-uue", "uuencode", "uue"), Encoding.UUENCODE),
}


def encoding_named(raw: bytes) -> Encoding | None:
    """The encoding that a Content-Transfer-Encoding means, spaces, quotes and comments aside; None if it is unknown."""
    text = raw.decode("latin-1").strip()
    if (usual := _ENCODINGS.get(text)) is not None:
        return usual
    word = _NAME_END.split(text, maxsplit=1)[0]
    return _ENCODINGS.get(word.strip('"').lower())


class _Decoder(Protocol):
    flaws: set[str]

    def feed(self, block: bytes) -> bytes: ...
    def finish(self) -> bytes: ...


class _Base64:
    """RFC 2045 §6.8; what is foreign is left out, and what follows padding is decoded as a new beginning."""

    def __init__(self) -> None:
        self.flaws: set[str] = set()
        self._rest = b""
        self._owed = 0  # how many more "=" the last group must have
        self._padded = False

    def feed(self, block: bytes) -> bytes:
        dense = block.translate(None, _WHITE)
        known = dense.translate(None, _FOREIGN)
        if len(known) != len(dense):
            self.flaws.add("base64 with characters that do not belong there")
        if b"=" not in known:
            return self._take(known)
        first, *others = known.split(b"=")
        pieces = [self._take(first)]
        for run in others:
            pieces += (self._pad(), self._take(run))
        return b"".join(pieces)

    def _take(self, run: bytes) -> bytes:
        if not run:
            return b""
        if self._padded:
            self.flaws.add("base64 that goes on after its padding")
        if self._owed:
            self.flaws.add("base64 that ends early")
            self._owed = 0
        run = self._rest + run
        whole = len(run) & ~3
        self._rest = run[whole:]
        return binascii.a2b_base64(run[:whole])

    def _pad(self) -> bytes:
        self._padded = True
        if not self._rest:
            if not self._owed:
                self.flaws.add("base64 with padding that does not belong there")
            self._owed = max(0, self._owed - 1)
            return b""
        owed = 3 - len(self._rest)
        data = self._flush()
        self._owed = max(0, owed)
        return data

    def _flush(self) -> bytes:
        rest, self._rest = self._rest, b""
        if len(rest) == 1:  # six bits make no byte
            self.flaws.add("base64 that ends early")
            return b""
        return binascii.a2b_base64(rest + b"=" * (4 - len(rest))) if rest else b""

    def finish(self) -> bytes:
        if self._rest or self._owed:
            self.flaws.add("base64 that ends early")
        return self._flush()


class _QuotedPrintable:
    """RFC 2045 §6.7; an escape that is none stays as it was sent."""

    def __init__(self) -> None:
        self.flaws: set[str] = set()
        self._rest = b""

    def feed(self, block: bytes) -> bytes:
        *lines, rest = (self._rest + block).split(b"\n")
        pieces = [self._line(line, b"\r\n" if line.endswith(b"\r") else b"\n") for line in lines]
        if len(rest) >= BLOCK:  # no line of a mail is that long: pass it on, but cut no escape in two
            cut = rest.rfind(b"=", len(rest) - 2)
            cut = len(rest) if cut < 0 else cut
            pieces.append(self._escapes(rest[:cut]))
            rest = rest[cut:]
        self._rest = rest
        return b"".join(pieces)

    def _line(self, line: bytes, line_end: bytes) -> bytes:
        kept = line.rstrip(_WHITE)  # blanks at the end were added on the way (rule 3)
        if kept.endswith(b"="):
            return self._escapes(kept[:-1])
        return self._escapes(kept) + line_end

    def _escapes(self, text: bytes) -> bytes:
        if b"=" not in text:
            return text
        if _BAD_ESCAPE.search(text):
            self.flaws.add("quoted-printable with an escape that is none")
            return re.sub(rb"=([0-9A-Fa-f]{2})", lambda found: bytes((int(found[1], 16),)), text)
        return binascii.a2b_qp(text)

    def finish(self) -> bytes:
        return self._line(self._rest, b"") if self._rest else b""


class _Uuencode:
    """What stands between ``begin`` and ``end`` (POSIX uuencode): in no standard of mail, yet sent by old mailers."""

    def __init__(self) -> None:
        self.flaws: set[str] = set()
        self._rest = b""
        self._begun = self._ended = False

    def feed(self, block: bytes) -> bytes:
        *lines, rest = (self._rest + block).split(b"\n")
        self._rest = rest[:_LONGEST_UU_LINE]  # one that is longer is no line of this code
        return b"".join(map(self._line, lines))

    def _line(self, line: bytes) -> bytes:
        line = line.rstrip(b"\r")
        if not self._begun:
            self._begun = _UU_BEGIN.match(line) is not None
            return b""
        if self._ended or line.strip() in {b"", b"`", b"end"}:
            self._ended = self._ended or line.strip() == b"end"
            return b""
        size = (line[0] - ord(" ")) & 63
        try:
            # Some pad lines with more than blanks: only what the length at their beginning asks for is looked at.
            return binascii.a2b_uu(line[: 1 + (size + 2) // 3 * 4])
        except binascii.Error:
            self.flaws.add("uuencoded text with a line that is none")
            return b""

    def finish(self) -> bytes:
        last = self.feed(b"\n")
        if not self._ended:
            self.flaws.add("uuencoded text that ends early" if self._begun else "uuencoded text without its beginning")
        return last


_DECODERS: Mapping[Encoding, Callable[[], _Decoder]] = {
    Encoding.BASE64: _Base64,
    Encoding.QUOTED_PRINTABLE: _QuotedPrintable,
    Encoding.UUENCODE: _Uuencode,
}


def decode_base64(data: bytes) -> bytes:
    """All that can be decoded of a short piece of base64; never raises."""
    decoder = _Base64()
    return decoder.feed(data) + decoder.finish()


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of one length, so that what is decoded never depends on how the bytes came in."""
    held: list[bytes] = []
    length = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= BLOCK:
            joined = b"".join(held)
            whole = length - length % BLOCK
            for at in range(0, whole, BLOCK):
                yield joined[at : at + BLOCK]
            held, length = [joined[whole:]], length - whole
    if length:
        yield b"".join(held)


@attrs.frozen
class _Measure:
    size: int
    sha256: str
    flaws: tuple[str, ...]


class PartContent:
    """The decoded bytes of a part: a view over the mail's own content, decoded anew each time it is read.

    ``start`` and ``stop`` are where the encoded bytes lie in ``parent``.  Reading from the middle of an encoded part
    decodes what comes before it; closing leaves the mail open, and the mail must stay open while this is read.
    """

    def __init__(self, parent: Content, start: int, stop: int, encoding: Encoding) -> None:
        self._parent = parent
        self._start = start
        self._stop = max(start, stop)
        self._encoding = encoding

    def __repr__(self) -> str:
        return f"PartContent({self._start}:{self._stop}, {self._encoding.value})"

    @cached_property
    def _measured(self) -> _Measure:
        flaws: set[str] = set()
        digest, size = hashlib.sha256(), 0
        for piece in self._decoded(flaws):
            digest.update(piece)
            size += len(piece)
        return _Measure(size, digest.hexdigest(), tuple(sorted(flaws)))

    @property
    def size(self) -> int:
        return self._measured.size

    @property
    def sha256(self) -> str:
        return self._measured.sha256

    @property
    def flaws(self) -> tuple[str, ...]:
        """What was wrong with the encoding; decoded is what could be."""
        return self._measured.flaws

    @property
    def as_sent(self) -> PartContent:
        """The same bytes with their transfer encoding."""
        return PartContent(self._parent, self._start, self._stop, Encoding.IDENTITY)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        if self._encoding is Encoding.IDENTITY:
            first = self._start + start
            last = self._stop if stop is None else min(self._stop, self._start + stop)
            if first < last:
                yield from self._parent.chunks(first, last)
            return
        at = 0
        for piece in self._decoded(set()):
            if stop is not None and at >= stop:
                return
            wanted = piece[max(0, start - at) : None if stop is None else stop - at]
            at += len(piece)
            if wanted:
                yield wanted

    def _decoded(self, flaws: set[str]) -> Iterator[bytes]:
        if self._start >= self._stop:
            return
        encoded = self._parent.chunks(self._start, self._stop)
        if self._encoding is Encoding.IDENTITY:
            yield from encoded
            return
        decoder = _DECODERS[self._encoding]()
        decoder.flaws = flaws
        for block in _blocks(encoded):
            if piece := decoder.feed(block):
                yield piece
        if piece := decoder.finish():
            yield piece

    def close(self) -> None:
        pass
