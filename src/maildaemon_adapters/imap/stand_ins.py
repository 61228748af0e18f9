"""Mails that a server makes up in place of one that it cannot give: never stored as if they were it, never tidied.

Courier does so for a mail that another session has removed (``imap/fetch.c``), Exchange for an item that it cannot
write as MIME, a calendar's mostly (MailKit issue 1451).
"""

from __future__ import annotations

from typing import Final

import attrs

from maildaemon_core.headers import read_headers
from maildaemon_core.message import Content, Headers

LARGEST: Final = 1 << 14
"""Bytes; they are a few lines."""


@attrs.frozen
class StandIn:
    """``gone``: it stands for a mail that was removed.  ``words`` say for people what the server did."""

    gone: bool
    words: str


_REMOVED: Final = StandIn(True, "the server gives a notice in its place, that it is no longer available")
_UNWRITABLE: Final = StandIn(False, "Exchange gives a notice in its place, that it could not be written as a mail")

_MARKS: Final = (b"message unavailable", b"Retrieval using the IMAP4 protocol")


def stand_in(headers: Headers) -> StandIn | None:
    """What the mail with these headers stands for; None for a mail.

    Whoever writes such headers into a mail of theirs only keeps it from being processed.
    """
    if headers.message_id:
        return None
    subject, sender = " ".join(headers.subject.split()), " ".join(headers.from_.split())
    if subject == "message unavailable" and sender == "System Administrator <root@localhost>" and not headers.date:
        return _REMOVED
    of_exchange = sender.strip('"').startswith("Microsoft Exchange Server")
    if of_exchange and subject.startswith("Retrieval using the IMAP4 protocol failed for the following message"):
        return _UNWRITABLE
    return None


def stand_in_for(content: Content) -> StandIn | None:
    """The same of a whole mail; hardly a glance for nearly all."""
    if content.size > LARGEST:
        return None
    raw = b"".join(content.chunks())
    if not any(mark in raw for mark in _MARKS):
        return None
    head = raw.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    return stand_in(read_headers(head + b"\n\n"))
