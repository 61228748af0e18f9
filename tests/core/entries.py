"""Entries and envelopes that tests begin with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from maildaemon_core.message import Envelope, FolderRef, Headers, Identity, MailboxId, MessageRef
from maildaemon_core.progress import Artifact, Entry, EntryId, Receipt, Role, Stage

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BOX = MailboxId("00000000-0000-0000-0000-0000000000aa")
RECEIPT = Receipt(size=3, at=THEN)


def ref(uid: int | str = 1, *, validity: str = "1", folder: str = "INBOX") -> MessageRef:
    return MessageRef(FolderRef(folder), validity, str(uid))


def headers(subject: str = "invoice", **others: str) -> Headers:
    return Headers(
        **{
            "message_id": f"<{subject}@firm.example>",
            "date": "today",
            "from_": "Jane <jane@firm.example>",
            "to": "in@our.example",
            "subject": subject,
            "sender": "jane@firm.example",
            **others,
        }
    )


def envelope(
    subject: str = "invoice",
    *,
    uid: int = 1,
    validity: str = "2",
    received: datetime = THEN,
    size: int | None = 100,
    strong: str | None = None,
    **others: str,
) -> Envelope:
    return Envelope(
        ref=ref(uid, validity=validity),
        headers=headers(subject, **others),
        received=received,
        size=size,
        strong_id=strong,
    )


def entry(subject: str = "invoice", *, uid: int = 1, strong: str | None = None, **others: Any) -> Entry:
    fields = {
        "mailbox": BOX,
        "ref": ref(uid),
        "identity": Identity(headers(subject).fingerprint, strong),
        "key": f"{uid:012x}",
        "received": THEN,
        "first_seen": THEN,
        "id": EntryId(uid),
        "sender": "jane@firm.example",
        "subject": subject,
        "message_id": f"<{subject}@firm.example>",
        "due_at": THEN,
        **others,
    }
    if fields.get("stage") in {Stage.SETTLED, Stage.SET_ASIDE, Stage.GIVEN_UP, Stage.UNCONFIRMED}:
        fields["due_at"] = None
    return Entry(**fields)


def artifact(path: str = "invoice.eml", *, done: bool = False, **others: Any) -> Artifact:
    return Artifact(
        **{
            "destination": "one",
            "place": "/srv/one",
            "role": Role.MAIL,
            "index": 0,
            "path": path,
            "size": 3,
            "sha256": "a" * 64,
            "part": "" if done else "1-1",
            "receipt": RECEIPT if done else None,
            **others,
        }
    )
