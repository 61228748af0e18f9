"""What a file tells of the mail in it before it is read as a whole: its headers, and when it was received."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from maildaemon_core.headers import date_time, headers_of, split_fields
from maildaemon_core.message import Envelope, FolderRef, MessageRef

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


def envelope(folder: FolderRef, uid: str, block: bytes, *, otherwise: datetime, size: int) -> Envelope:
    """What the header block of a mail says of it.

    It was received when the last server wrote so into the first ``Received`` (RFC 5321 §4.4), which stays with the mail
    however its file is copied; else at the time ``otherwise``.
    """
    fields = list(split_fields(block))
    first = next((value for name, value in fields if name == "received"), b"")
    return Envelope(
        ref=MessageRef(folder, "", uid),
        headers=headers_of(fields),
        received=date_time(first.rpartition(b";")[2]) or otherwise,
        size=size,
    )


def at(nanoseconds: int) -> datetime:
    """The time of a file, in UTC; that of nobody knows when is the beginning of 1970."""
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
