"""Whether a listed mail is remembered, and as what: found, or refused already by its headers."""

from __future__ import annotations

from datetime import datetime

from maildaemon_core.message import Envelope, MailboxId
from maildaemon_core.options import MailboxOptions
from maildaemon_core.plan import envelope_refusal, key_of, too_large
from maildaemon_core.progress import Entry, GaveUp, Withheld, advance


def is_older(envelope: Envelope, options: MailboxOptions) -> bool:
    """The mail is from before ``since``: it is left alone, and only counted.  ``"now"`` has been made a time by now."""
    return isinstance(options.since, datetime) and envelope.received < options.since


def admitted(envelope: Envelope, mailbox: MailboxId, options: MailboxOptions, now: datetime) -> Entry:
    """The entry that a mail begins with."""
    headers = envelope.headers
    entry = Entry(
        mailbox=mailbox,
        ref=envelope.ref,
        identity=envelope.identity,
        key=key_of(mailbox, envelope.ref),
        received=envelope.received,
        first_seen=now,
        sender=headers.sender,
        subject=headers.subject,
        message_id=headers.message_id,
        size=envelope.size,
        due_at=now,
    )
    if reason := envelope_refusal(envelope, options):
        return advance(entry, Withheld(reason, options.no_match_care), now)
    if trouble := too_large(envelope.size, options):
        return advance(entry, GaveUp(trouble), now)
    return entry
