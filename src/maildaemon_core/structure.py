"""Where the parts of a mail begin and end: one pass over its bytes, in blocks, each looked at a few times at most."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import attrs

from maildaemon_core.headers import FIELD, Note, raw_text, split_fields
from maildaemon_core.message import Content
from maildaemon_core.parameters import Parameterized, read_parameters
from maildaemon_core.transfer import Encoding, encoding_named

HEADER_CAP = 1 << 20
"""Bytes of one header block that are read; the rest of it is passed over."""

HEADERS_CAP = 8 << 20
"""Bytes of all header blocks of one mail that are read."""

DEPTH_CAP = 64
"""Multiparts within each other; a deeper one is kept as one undivided part."""

PARTS_CAP = 10_000
"""Parts of one mail, multiparts included; nothing after them is read."""

_BLOCK = 1 << 16
_LONGEST_BOUNDARY = 1000  # bytes; RFC 2046 §5.1.1 allows 70
_DEFECTS_CAP = 100
_PLAIN_HEADER = re.compile(rb"((?:(?!--)[!-9;-~]++:[^\r\n]*+\r?\n(?:[ \t][^\r\n]*+\r?\n)*+)*+)\r?\n")
_DESCRIBING = {"content-type", "content-disposition", "content-transfer-encoding", "content-id"}


class Defects:
    """What could not be understood; ``complete`` becomes False with the first defect by which something may be lost."""

    def __init__(self) -> None:
        self.complete = True
        self.encrypted = False
        self._texts: dict[str, None] = {}
        self._dropped = 0

    def note(self, text: str) -> None:
        """Remembers a defect that loses nothing."""
        if text in self._texts:
            return
        if len(self._texts) < _DEFECTS_CAP:
            self._texts[text] = None
        else:
            self._dropped += 1

    def loss(self, text: str) -> None:
        """Remembers a defect after which the mail does not count as read to its end."""
        self.complete = False
        self.note(text)

    def sealed(self, text: str) -> None:
        """Remembers that something can only be read by somebody who has a key."""
        self.encrypted = True
        self.loss(text)

    def texts(self) -> tuple[str, ...]:
        more = (f"and {self._dropped} more",) if self._dropped else ()
        return (*self._texts, *more)


@attrs.frozen(kw_only=True)
class Part:
    """A part as its header describes it; ``start`` and ``stop`` are where its encoded body lies in the mail.

    ``content_type`` is in lower case without parameters; ``name`` None when the sender gave none; ``content_id`` bare
    and in lower case; ``encoding`` None when it is unknown; ``within`` the type of the multipart around it, ``""`` for
    the mail itself.
    """

    content_type: str
    name: str | None
    declared_attachment: bool
    encoding: Encoding | None
    content_id: str
    smime_type: bytes
    within: str
    start: int
    stop: int = 0


@attrs.frozen(kw_only=True)
class Outline:
    """A mail taken apart: the fields of its own header as ``split_fields`` gives them, and its leaves in order."""

    fields: Sequence[tuple[str, bytes]]
    leaves: tuple[Part, ...]


def read_outline(content: Content, defects: Defects) -> Outline:
    """Finds the leaves of a mail.  Never raises; a multipart without its delimiters is a leaf: nothing gets lost."""
    return _Outliner(content, defects).outline()


@attrs.define
class _Block:
    """A header block, the delimiter that cut it off if one did, and where the body begins."""

    raw: bytes
    body: int
    hit: _Hit | None = None
    fields: Sequence[tuple[str, bytes]] = ()


@attrs.define
class _Multipart:
    part: Part
    boundary: bytes
    seen: bool = False
    closed: bool = False


@attrs.frozen
class _Hit:
    """A delimiter line: whose (index on the stack), whether the closing one, and where the bytes before it end."""

    index: int
    closing: bool
    stop: int


class Lines:
    """Walks over content by lines, or from one line that begins with two dashes to the next."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer = b""
        self._at = 0
        self._base = 0
        self._ended = False
        self.fresh = True  # whether the cursor is at the beginning of a line
        self.line_end = 0  # how many bytes the line break before the cursor has

    @property
    def offset(self) -> int:
        return self._base + self._at

    def _fill(self) -> bool:
        blocks = [self._buffer[self._at :]]
        length = 0
        while length < _BLOCK and not self._ended:
            piece = next(self._pieces, None)
            self._ended = piece is None
            blocks.append(piece or b"")
            length += len(blocks[-1])
        self._base, self._at, self._buffer = self._base + self._at, 0, b"".join(blocks)
        return length > 0

    def line(self) -> bytes:
        """The next line with its break, in pieces if it is very long; ``b""`` at the end."""
        end = self._buffer.find(b"\n", self._at) + 1
        if not end and len(self._buffer) - self._at < _BLOCK and self._fill():
            end = self._buffer.find(b"\n") + 1
        end = end or len(self._buffer)
        line = self._buffer[self._at : end]
        self._at = end
        self.fresh = line.endswith(b"\n")
        self.line_end = (2 if line.endswith(b"\r\n") else 1) if self.fresh else 0
        return line

    def plain_header(self, room: int) -> bytes | None:
        """The header block at the cursor, if it is as it should be, at hand and not longer than ``room``.

        None for any other, and the cursor stays where it is.  This is nearly every header, read at one go.
        """
        found = _PLAIN_HEADER.match(self._buffer, self._at)
        if found is None and len(self._buffer) - self._at < _BLOCK and not self._ended and self._fill():
            found = _PLAIN_HEADER.match(self._buffer, self._at)
        if found is None or not self.fresh or len(found[1]) > room:
            return None
        self._at = found.end()
        self.line_end = 2 if found[0].endswith(b"\r\n") else 1
        return found[1]

    def seek_dashes(self) -> bool:
        """Goes to the next line that begins with ``--``, this one included; False when there is none."""
        if self.fresh:
            if len(self._buffer) - self._at < 2:  # noqa: PLR2004 - two dashes
                self._fill()
            if self._buffer.startswith(b"--", self._at):
                return True
        while (found := self._buffer.find(b"\n--", self._at)) < 0:
            self._at = max(self._at, len(self._buffer) - 3)  # a line break with its first dash may end here
            if not self._fill():
                self._at = len(self._buffer)
                return False
        self.line_end = 2 if found > 0 and self._buffer[found - 1] == ord("\r") else 1
        self._at, self.fresh = found + 1, True
        return True


class _Outliner:
    def __init__(self, content: Content, defects: Defects) -> None:
        self._content = content
        self._lines = Lines(content.chunks())
        self._defects = defects
        self._stack: list[_Multipart] = []
        self._by_boundary: dict[bytes, list[int]] = {}
        self._leaves: list[Part] = []
        self._open: Part | None = None
        self._parts = 0
        self._header_bytes = 0
        self._capped = False

    def outline(self) -> Outline:
        block = self._header_block()
        if not block.raw and self._content.size:
            self._defects.loss("the mail has no header")
        self._begin(block, "", "text/plain")
        while self._stack and (hit := self._next_delimiter()) is not None and self._follow(hit):
            pass
        self._end_leaf(self._content.size)
        self._leave(0, self._content.size, at_end=True)
        return Outline(fields=block.fields, leaves=tuple(self._leaves))

    def _next_delimiter(self) -> _Hit | None:
        while self._lines.seek_dashes():
            at = self._lines.offset - self._lines.line_end
            if (hit := self._delimiter(self._lines.line(), at)) is not None:
                return hit
        return None

    def _delimiter(self, line: bytes, stop: int) -> _Hit | None:
        text = line[2:].rstrip(b" \t\r\n")
        for boundary, closing in ((text, False), (text[:-2], True)):
            if (indices := self._by_boundary.get(boundary)) and (not closing or text.endswith(b"--")):
                # Multiparts within each other may share a boundary: then it is that of the innermost still open.
                still_open = (index for index in reversed(indices) if not self._stack[index].closed)
                return _Hit(next(still_open, indices[-1]), closing, stop)
        return None

    def _follow(self, hit: _Hit) -> bool:
        """Acts on a delimiter and on those that cut off the header after it; False when nothing more is to be read."""
        following: _Hit | None = hit
        while following is not None:
            hit = following
            self._end_leaf(hit.stop)
            self._leave(hit.index + 1, hit.stop)
            multipart = self._stack[hit.index]
            if hit.closing:
                multipart.closed = True
                return True
            if self._parts >= PARTS_CAP:
                self._capped = True
                self._defects.loss(f"more than {PARTS_CAP} parts")
                return False
            if multipart.closed:
                self._defects.loss("a part after the closing delimiter of its multipart")
                multipart.closed = False
            multipart.seen = True
            within = multipart.part.content_type
            block = self._header_block()
            self._begin(block, within, "message/rfc822" if within == "multipart/digest" else "text/plain")
            following = block.hit
        return True

    def _begin(self, block: _Block, within: str, default: str) -> None:
        self._parts += 1
        part, boundary = _describe(block, within, default, self._defects)
        if not part.content_type.startswith("multipart/"):
            self._open = part
            return
        if part.content_type == "multipart/encrypted":
            self._defects.sealed("encrypted")
        if not boundary or len(boundary) > _LONGEST_BOUNDARY:
            self._defects.loss(f"{part.content_type} without a usable boundary")
            self._open = part
        elif len(self._stack) >= DEPTH_CAP:
            self._defects.loss(f"multiparts nested more than {DEPTH_CAP} deep")
            self._open = part
        else:
            self._by_boundary.setdefault(boundary, []).append(len(self._stack))
            self._stack.append(_Multipart(part, boundary))

    def _end_leaf(self, stop: int) -> None:
        if self._open is not None:
            self._leaves.append(attrs.evolve(self._open, stop=max(self._open.start, stop)))
            self._open = None

    def _leave(self, depth: int, stop: int, *, at_end: bool = False) -> None:
        """Leaves the multiparts from ``depth`` inwards, which end at ``stop`` at the latest."""
        while len(self._stack) > depth:
            multipart = self._stack.pop()
            indices = self._by_boundary[multipart.boundary]
            indices.pop()
            if not indices:
                del self._by_boundary[multipart.boundary]
            kind = multipart.part.content_type
            if not multipart.seen:
                self._defects.loss(f"{kind} whose boundary never comes")
                if stop > multipart.part.start:
                    self._leaves.append(attrs.evolve(multipart.part, stop=stop))
            elif not multipart.closed and not self._capped:
                # What follows shows that the mail was not cut off here.
                (self._defects.loss if at_end else self._defects.note)(f"{kind} that is never closed")

    def _header_block(self) -> _Block:
        """Reads on to the empty line, the delimiter or the end that ends a header block."""
        room = min(HEADER_CAP, HEADERS_CAP - self._header_bytes)
        raw = self._lines.plain_header(room)
        if raw is None:
            block = self._unusual_header_block(room)
        else:
            self._header_bytes += len(raw)
            block = _Block(raw, self._lines.offset)
        block.fields = tuple(split_fields(block.raw))
        return block

    def _unusual_header_block(self, room: int) -> _Block:
        """Reads a header block line by line.

        Lines that are no header are passed over if a header follows; else the body begins with the first of them: the
        empty line is missing.
        """
        kept: list[bytes] = []
        size = 0
        gap: int | None = None
        interrupted = False
        block: _Block | None = None
        while block is None:
            start, line_end, fresh = self._lines.offset, self._lines.line_end, self._lines.fresh
            line = self._lines.line()
            if fresh and (not line or line in {b"\r\n", b"\n", b"\r\r\n"}):
                block = _Block(b"", self._lines.offset)
            elif not line:
                block = _Block(b"", start)
            elif fresh and line.startswith(b"--") and (hit := self._delimiter(line, start - line_end)) is not None:
                block = _Block(b"", start, hit)
            else:
                if fresh and FIELD.match(line):
                    interrupted, gap = interrupted or gap is not None, None
                elif fresh and gap is None and not (line[:1] in {b" ", b"\t"} and kept) and not _envelope(line, start):
                    gap = start
                if size < room:
                    kept.append(line[: room - size])
                size += len(line)
        self._header_bytes += min(size, room)
        if size > room:
            self._defects.loss(f"a header block of {size} bytes, more than the {room} that are read")
        if interrupted:
            self._defects.note("a header block interrupted by a line that is no header")
        if gap is not None:
            self._defects.loss("no empty line between a header and its body")
            block.body = gap
        block.raw = b"".join(kept)
        if b"\r" in block.raw.replace(b"\r\n", b""):
            self._defects.loss("a header block with carriage returns that end no line")
        return block


def _envelope(line: bytes, start: int) -> bool:
    """Whether this is the line that separates the mails of an mbox file."""
    return start == 0 and line.startswith((b"From ", b">From "))


def _describe(block: _Block, within: str, default: str, defects: Defects) -> tuple[Part, bytes]:
    """A part and its boundary; of a field that comes twice the first counts."""
    fields: dict[str, bytes] = {}
    for name, value in block.fields:
        if name in _DESCRIBING and fields.setdefault(name, value) != value and name != "content-id":
            defects.loss(f"a part with two different headers {name}")  # by the other it might be an attachment
    kind, disposition = (read_parameters(fields.get(name, b"")) for name in ("content-type", "content-disposition"))
    main, _, sub = kind.value.partition("/")
    part = Part(
        # RFC 2045 §5.2: text is what a type that cannot be read stands for
        content_type=kind.value if main and sub else "text/plain" if kind.value else default,
        name=_name(kind, disposition, defects.note),
        declared_attachment=disposition.value == "attachment",
        encoding=encoding_named(fields.get("content-transfer-encoding", b"")),
        content_id=raw_text(fields["content-id"]).strip("<> ").lower() if "content-id" in fields else "",
        smime_type=kind.plain("smime-type").lower(),
        within=within,
        start=block.body,
    )
    return part, kind.plain("boundary")


def _name(kind: Parameterized, disposition: Parameterized, note: Note) -> str | None:
    """The name that the sender gave; both headers are asked for both parameters, since senders mix them up."""
    places = ((disposition, "filename"), (kind, "name"), (disposition, "name"), (kind, "filename"))
    return next((name for header, parameter in places if (name := header.text(parameter, note))), None)
