"""What a file tells of the mail in it before it is read as a whole: its headers, and when it was received."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from maildaemon_core.headers import read_headers, split_fields
from maildaemon_core.message import Headers

LONGEST: Final = 1 << 18
"""Bytes of headers that are read; what is behind them counts as part of the body here."""

_PIECE: Final = 1 << 14
_END: Final = re.compile(rb"\A\r?\n|\n\r?\n")


def header_block(read: Callable[[int], bytes]) -> bytes:
    """The mail up to the end of its headers, from a function that gives the next bytes."""
    block = bytearray()
    looked = 0
    while len(block) < LONGEST:
        piece = read(min(_PIECE, LONGEST - len(block)))
        if not piece:
            break
        block += piece
        if found := _END.search(block, looked):
            del block[found.end() :]
            break
        looked = max(0, len(block) - 2)
    return bytes(block)


def headers_of(block: bytes) -> Headers:
    """The headers that everybody needs.  They can be read as they are written in, with either sort of line ends."""
    return read_headers(block)


def received(block: bytes, *, otherwise: datetime) -> datetime:
    """When the mail was received, in UTC: what the last server wrote into the first ``Received`` (RFC 5321 §4.4), as it
    stays with the mail however its file is copied; else ``otherwise``.
    """
    for name, value in split_fields(block):
        if name == "received":
            return moment(value.rpartition(b";")[2].decode("ascii", "replace")) or otherwise
    return otherwise


def moment(text: str) -> datetime | None:
    """A date-time as mails have it (RFC 5322 §3.3), in UTC; None for anything else."""
    try:
        found = parsedate_to_datetime(text.strip())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def at(nanoseconds: int) -> datetime:
    """The time of a file, in UTC; that of nobody knows when is the beginning of 1970."""
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
