"""Identities and values of mail: what travels between the rooms of the house."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from typing import NewType, Protocol

import attrs

MailboxId = NewType("MailboxId", str)
"""Which configuration: a UUID in its canonical text form."""

_NAMES = uuid.UUID("6f9ad0a4-3f0c-5a58-9d4e-0f6c1c2f7a11")


def mailbox_id(name: str) -> MailboxId:
    """The id of the mailbox that a configuration file calls ``name``: the same for ever (RFC 9562 §5.5)."""
    return MailboxId(str(uuid.uuid5(_NAMES, name)))


FolderRef = NewType("FolderRef", str)
"""A folder's name as people read it (Unicode, with the server's own separator)."""

Cursor = NewType("Cursor", str)
"""How far a folder has been read; only the source that made it can read it."""

CHUNK = 1 << 18
"""No piece that crosses a port is longer than this many bytes."""


@attrs.frozen(order=True)
class MessageRef:
    """Where a mail lies on its server.

    ``uidvalidity`` is the folder's UIDVALIDITY (RFC 9051 §2.3.1.1); protocols whose ids never change use ``""``.
    ``uid`` is the IMAP UID in decimal, or whatever id the protocol has.
    """

    folder: FolderRef
    uidvalidity: str
    uid: str


@attrs.frozen
class Identity:
    """What a mail is recognised by after its reference has become void.

    ``strong`` is an id that the server promises to keep (EMAILID, X-GM-MSGID, an immutable id), if there is one;
    ``fingerprint`` is a digest over decoded headers, the same through any protocol.
    """

    fingerprint: str
    strong: str | None = None


@attrs.frozen(kw_only=True)
class Headers:
    """The few headers that everybody needs, decoded to text that is always valid Unicode.

    ``sender`` is the address (``local@domain``, domain in lower case) of the first mailbox in From, ``""`` when From
    cannot be read; the others are the decoded header, ``""`` when absent.
    """

    message_id: str = ""
    date: str = ""
    from_: str = ""
    to: str = ""
    subject: str = ""
    sender: str = ""

    @property
    def fingerprint(self) -> str:
        """32 hex digits over Message-ID, Date, From, To and Subject, white space folded.

        No size, no INTERNALDATE and no Received: they differ between protocols for one and the same mail.
        """
        fields = (self.message_id, self.date, self.from_, self.to, self.subject)
        folded = "\0".join(" ".join(field.split()) for field in fields)
        return hashlib.sha256(folded.encode("utf-8", "replace")).hexdigest()[:32]


@attrs.frozen(kw_only=True)
class Envelope:
    """What is known of a mail before its body has been fetched.

    ``size`` is what the server says (some lie), in bytes; ``received`` is when the server got it (aware, UTC).
    """

    ref: MessageRef
    headers: Headers
    received: datetime
    size: int | None = None
    strong_id: str | None = None

    @property
    def identity(self) -> Identity:
        return Identity(fingerprint=self.headers.fingerprint, strong=self.strong_id)


class Content(Protocol):
    """Bytes that can be read again and again, in pieces, without being held in memory as one."""

    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> str:
        """64 hex digits."""
        ...

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` to before ``stop`` (the end), none of the pieces empty or longer than ``CHUNK``."""
        ...

    def close(self) -> None:
        """Gives back what holds the bytes; they cannot be read any more.  Twice is the same as once."""
        ...


class BytesContent:
    """Content that is small enough to be held in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __repr__(self) -> str:
        return f"BytesContent({self.size} bytes)"

    @property
    def size(self) -> int:
        return len(self._data)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self._data).hexdigest()

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        end = len(self._data) if stop is None else min(stop, len(self._data))
        for at in range(start, end, CHUNK):
            yield self._data[at : min(at + CHUNK, end)]

    def close(self) -> None:
        pass


@attrs.frozen(kw_only=True)
class Attachment:
    """A part of a mail that counts as an attachment.

    ``index`` is its number among the mail's attachments, from 1; ``name`` the decoded name as sent, never sanitised;
    ``content_type`` in lower case without parameters; ``content`` the decoded bytes; ``within`` the index of the
    attachment (a container, a mail) in which it was found, None if it was in none.
    """

    index: int
    name: str | None
    content_type: str
    content: Content
    within: int | None = None


@attrs.frozen(kw_only=True)
class Message:
    """A mail as read.

    ``complete`` is whether it was read to its end: every part found, decoded and opened (law 6).  ``encrypted``:
    something of it can only be read by somebody who has a key.  ``further`` are header fields worth keeping besides
    ``headers``, each with its name in lower case and its decoded value (``noteworthy``).
    """

    headers: Headers
    content: Content
    attachments: tuple[Attachment, ...] = ()
    defects: tuple[str, ...] = ()
    complete: bool = True
    encrypted: bool = False
    further: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class BatchId:
    """The name of a batch folder: which mailbox, under which lease, the how-many-eth.

    ``nonce`` tells the batches of one store from those of another that uses the same place under the same name.
    """

    mailbox: MailboxId
    token: int
    number: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.mailbox}.{self.token}.{self.number}.{self.nonce}"

    @classmethod
    def parse(cls, text: str) -> BatchId | None:
        """The batch that a folder's name stands for; None for any other name."""
        match text.rsplit(".", 3):  # whatever an id of a mailbox looks like
            case [mailbox, token, number, nonce] if token.isdecimal() and number.isdecimal():
                batch = cls(MailboxId(mailbox), int(token), int(number), nonce)
                return batch if str(batch) == text else None
        return None
