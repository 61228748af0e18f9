"""The JSON beside an archived mail: what the mail was, what was found in it, and what of that is stored.

Every property is described in ``docs/reference/sidecar.md``.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any, Final

from maildaemon_core.filters import Unwanted, attachment_verdict
from maildaemon_core.message import Attachment, Message
from maildaemon_core.options import MailboxOptions
from maildaemon_core.progress import Entry

FORMAT: Final = 1
"""Grows when a property changes its meaning; properties may be added without that."""


def sidecar(entry: Entry, message: Message, options: MailboxOptions) -> bytes:
    """The sidecar of a mail: UTF-8, always the same bytes for the same mail under the same options."""
    headers = message.headers
    further: dict[str, list[str]] = {}
    for name, value in message.further:
        further.setdefault(name, []).append(value)
    document: dict[str, Any] = {
        "format": FORMAT,
        "mailbox": entry.mailbox,
        "folder": entry.ref.folder,
        "uidvalidity": entry.ref.uidvalidity,
        "uid": entry.ref.uid,
        "key": entry.key,
        "received": entry.received.astimezone(UTC).isoformat(),
        "messageId": headers.message_id,
        "date": headers.date,
        "from": headers.from_,
        "sender": headers.sender,
        "to": headers.to,
        "subject": headers.subject,
        "headers": further,
        "size": message.content.size,
        "sha256": message.content.sha256,
        "complete": message.complete,
        "encrypted": message.encrypted,
        "defects": list(message.defects),
        "attachments": [_attachment(attachment, options) for attachment in message.attachments],
    }
    return json.dumps(document, ensure_ascii=False, indent=2).encode("utf-8", "replace") + b"\n"


def _attachment(attachment: Attachment, options: MailboxOptions) -> dict[str, Any]:
    why_not = _why_not(attachment, options)
    return {
        "index": attachment.index,
        "name": attachment.name,
        "contentType": attachment.content_type,
        "size": attachment.content.size,
        "sha256": attachment.content.sha256,
        "within": attachment.within,
        "stored": why_not is None,
        "whyNot": why_not,
    }


def _why_not(attachment: Attachment, options: MailboxOptions) -> str | None:
    """Why it is not stored as a file of its own; None if it is."""
    if not options.exports:
        return "exportAttachments is not on"
    verdict = attachment_verdict(attachment.name, attachment.content_type, options.allowed_attachments)
    return verdict.reason if isinstance(verdict, Unwanted) else None
