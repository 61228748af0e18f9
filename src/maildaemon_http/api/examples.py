"""Examples of the API's document, which work as they stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from maildaemon_core import codec
from maildaemon_core.options import MailboxOptions

MAILBOXES: Final[Mapping[str, Any]] = {
    "invoices": {
        "active": True,
        "mailbox": "invoices@example.com",
        "host": "imap.example.com",
        "password": "a password of this mailbox",
        "exportAttachments": True,
        "allowedAttachments": ["pdf", "xml"],
        "mailArchiving": {"active": True},
        "destinations": [{"name": "archive", "type": "file", "url": "invoices"}],
    },
    "incomplete": {"active": False, "mailbox": "user@example.com", "port": 0, "useSsl": True},
}
"""Bodies that make a mailbox."""

CONFIGURATION: Final[Mapping[str, Any]] = {
    **codec.write(codec.read(MailboxOptions, MAILBOXES["invoices"])),
    "uuid": "2b7e1516-28ae-42a6-abf7-158809cf4f3c",
    "version": 1,
    "created": "2026-01-31T08:00:00Z",
    "changed": "2026-01-31T08:00:00Z",
    "createdBy": "the desk",
    "changedBy": "the desk",
    "managedBy": "api",
    "adopted": False,
    "warnings": [],
    "trouble": None,
}
"""What is answered of the first of them."""

OF_SCHEMAS: Final[Mapping[str, Any]] = {
    "MailboxConfiguration": CONFIGURATION,
    "MailboxOptions": MAILBOXES["invoices"],
    "MailboxOptionsUpdate": {"folders": ["INBOX", "Orders"]},
}
"""By the name of the schema."""
