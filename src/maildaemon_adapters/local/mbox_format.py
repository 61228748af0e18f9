"""Where each mail of an mbox begins and ends, and what it is known by (RFC 4155, and what writers of today do).

A mail begins at a line ``From `` with a date, at the start of the file or behind an empty line, and ends before the
empty line in front of the next.  Where the first such line of a file has no date, those of the others need none either.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final

import attrs

from maildaemon_adapters.local import headers
from maildaemon_core.headers import date_time

ReadAt = Callable[[int, int], bytes]
"""From an offset and a number to so many bytes there, fewer at the end of the file.  Raises OSError."""

BLOCK: Final = 1 << 20
_LONGEST_LINE: Final = 1000
_DAY: Final = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH: Final = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DATED: Final = re.compile(
    rb"From (?:.*[ \t])??(?P<date>" + _DAY + rb",? +(?:" + _MONTH + rb" +\d{1,2}|\d{1,2} " + _MONTH + rb" \d{4})"
    rb" +\d{1,2}:\d\d(?::\d\d)?\b.*)",
    re.DOTALL,
)

# What mail clients and servers write into the headers of mails that lie in an mbox, each time that they use it.
_CLIENTS_OWN: Final = re.compile(
    rb"^(?:Content-Length|Lines|Status|X-Evolution|X-IMAP|X-IMAPbase|X-Keywords|X-Mozilla-Keys|X-Mozilla-Status2?"
    rb"|X-Status|X-UID)[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*",
    re.IGNORECASE | re.MULTILINE,
)
_INTERNAL: Final = re.compile(rb"^Subject: DON'T DELETE THIS MESSAGE", re.MULTILINE)
_INTERNAL_TOO: Final = re.compile(rb"^X-IMAP(?:base)?:", re.MULTILINE)


class NotMbox(Exception):
    """The file does not begin as an mbox does."""


@attrs.frozen
class Piece:
    """A mail: from ``start`` its ``From `` line, from ``body`` to ``end`` its bytes, at ``stop`` begins the next.

    ``ended``: an empty line is behind it, as behind every mail that was written to its end.
    """

    start: int
    body: int
    end: int
    stop: int
    ended: bool


def split(read: ReadAt, size: int) -> Iterator[Piece]:
    """The mails of a file of ``size`` bytes, of which only a block is held at a time.

    Raises ``NotMbox``, and OSError.
    """
    if size == 0:
        return
    first = _line(read, 0)
    if not first.startswith(b"From "):
        raise NotMbox("it does not begin with a line 'From '")
    starts = _starts(read, size, dated=_DATED.match(first) is not None)
    start = 0
    for stop in (*starts, size):
        body = min(start + len(_line(read, start)), stop)
        blank = _blank_before(read, stop)
        ended = blank > 0 and stop - blank >= body
        yield Piece(start, body, stop - blank if ended else stop, stop, ended)
        start = stop


def _starts(read: ReadAt, size: int, *, dated: bool) -> Sequence[int]:
    """Where ``From `` lines begin, but for the first of the file."""
    found = []
    mark = b"\nFrom "
    for at in range(0, size, BLOCK):
        block = read(at, BLOCK + len(mark) - 1)
        here = block.find(mark)
        while here >= 0:
            start = at + here + 1
            if _blank_before(read, start) and (not dated or _DATED.match(_line(read, start))):
                found.append(start)
            here = block.find(mark, here + 1)
    return [start for start in found if start < size]


def _line(read: ReadAt, at: int) -> bytes:
    """The line there with its end, if it is not too long to be one of ours."""
    head, end, _ = read(at, _LONGEST_LINE).partition(b"\n")
    return head + end


def _blank_before(read: ReadAt, at: int) -> int:
    """How many bytes the empty line in front of this place has; 0 if there is none."""
    before = read(at - 3, 3) if at >= 3 else read(0, at)  # noqa: PLR2004 - an empty line, and the end of that before
    if before.endswith(b"\n\n"):
        return 1
    return 2 if before == b"\n\r\n" else 0


@attrs.frozen(kw_only=True)
class Mail:
    """A mail of an mbox: ``uid`` is a digest over all of it but what clients write into its headers.

    ``internal``: it is none; servers of the University of Washington keep their own data in one.
    """

    uid: str
    piece: Piece
    internal: bool = False


def mails(read: ReadAt, size: int) -> Iterator[Mail]:
    """All mails of a file, each with a ``uid`` of its own: equal ones are numbered in their order.

    Raises ``NotMbox``, and OSError.
    """
    times: dict[str, int] = {}
    for piece in split(read, size):
        line = read(piece.start, piece.body - piece.start)
        block = header_block(read, piece)
        digest = digest_of(line, block)
        for at in range(piece.body + len(block), piece.end, BLOCK):
            digest.update(read(at, min(BLOCK, piece.end - at)))
        uid = digest.hexdigest()
        times[uid] = times.get(uid, 0) + 1
        yield Mail(
            uid=uid if times[uid] == 1 else f"{uid}:{times[uid]}",
            piece=piece,
            internal=bool(_INTERNAL.search(block) and _INTERNAL_TOO.search(block)),
        )


def dated(line: bytes) -> datetime | None:
    """The date in a ``From `` line, which by RFC 4155 is in UTC; None if there is none."""
    found = _DATED.match(line)
    return date_time(found["date"]) if found else None


def header_block(read: ReadAt, piece: Piece) -> bytes:
    at = piece.body

    def following(number: int) -> bytes:
        nonlocal at
        got = read(at, min(number, piece.end - at))
        at += len(got)
        return got

    return headers.header_block(following)


def digest_of(line: bytes, block: bytes) -> hashlib._Hash:
    """The digest of a mail as far as its headers; the rest of it is to be added."""
    digest = hashlib.sha256(line.rstrip(b"\r\n") + b"\n")
    digest.update(_CLIENTS_OWN.sub(b"", block))
    return digest


def of_equal_ones(uid: str) -> str:
    """What equal mails have in common."""
    return uid.partition(":")[0]


_QUOTED: Final = {"mboxrd": re.compile(rb"^>(>*From )", re.MULTILINE), "mboxo": re.compile(rb"^>(From )", re.MULTILINE)}


def unquoted(pieces: Iterator[bytes], quoting: str) -> Iterator[bytes]:
    """The mail with its ``>From `` lines as they were before they were quoted in this way; ``keep``: as they are."""
    pattern = _QUOTED.get(quoting)
    if pattern is None:
        yield from pieces
        return
    rest, inside = b"", False
    for piece in pieces:
        text = rest + piece
        cut = text.rfind(b"\n") + 1
        if len(text) - cut > _LONGEST_LINE:  # more than ``>`` and ``From `` is in hand already
            cut = len(text)
        done, rest = text[:cut], text[cut:]
        if done:
            yield _without_quotes(pattern, done, inside=inside)
            inside = not done.endswith(b"\n")
    if rest:
        yield _without_quotes(pattern, rest, inside=inside)


def _without_quotes(pattern: re.Pattern[bytes], text: bytes, *, inside: bool) -> bytes:
    """``inside``: the text begins within a line."""
    return pattern.sub(rb"\1", b" " + text)[1:] if inside else pattern.sub(rb"\1", text)
