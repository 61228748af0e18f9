"""Which further header fields of a mail are worth keeping beside it, within bounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from maildaemon_core.headers import decode_text

FIELDS_CAP: Final = 64
"""So many fields are kept of one mail."""

FIELD_CAP: Final = 4096
"""Bytes that are kept of one field, as it was sent; what was cut ends in an ellipsis."""

TOTAL_CAP: Final = 32 << 10
"""Bytes that are kept of all of them together."""

NOTEWORTHY: Final = frozenset({
    # who else has to do with it (RFC 5322 §3.6), and where it really went
    *("cc", "bcc", "reply-to", "sender", "return-path", "resent-from", "resent-to", "delivered-to", "envelope-to"),
    *("x-original-to", "x-envelope-to", "x-forwarded-to", "x-forwarded-for"),
    # what it belongs to
    *("in-reply-to", "references", "thread-topic", "list-id", "list-post", "resent-message-id"),
    # whether a person wrote it (RFC 3834), and how urgent it is
    *("auto-submitted", "precedence", "x-auto-response-suppress", "x-autoreply", "importance", "priority"),
    *("x-priority", "sensitivity", "disposition-notification-to"),
    # what others found out about it (RFC 8601), and what wrote it
    *("authentication-results", "x-spam-flag", "x-spam-status", "x-spam-score", "x-virus-scanned"),
    *("x-mailer", "user-agent", "organization", "content-language"),
})  # fmt: skip
"""The names of these fields."""


def noteworthy(fields: Iterable[tuple[str, bytes]]) -> tuple[tuple[str, str], ...]:
    """The noteworthy ones of the fields that ``split_fields`` gives, decoded, in the order in which they stand.

    Never raises; what is beyond a cap is left out.
    """
    kept: list[tuple[str, str]] = []
    room = TOTAL_CAP
    for name, value in fields:
        if name not in NOTEWORTHY or not value:
            continue
        cut = value[: min(FIELD_CAP, room)]
        if not cut or len(kept) == FIELDS_CAP:
            break
        room -= len(cut)
        kept.append((name, decode_text(cut) + ("…" if len(cut) < len(value) else "")))
    return tuple(kept)
