"""What reaches behind a mail source: the server as the world sees it, and the mails that tests plant there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from maildaemon_core.ports import MailSource


class Post(Protocol):
    """The server as the world sees it, not through the source under test."""

    def plant(self, folder: str, raw: bytes) -> None:
        """A mail arrives, behind all that lie there.  Its lines end with CRLF, so every server keeps it as it is."""
        ...

    def peek(self, folder: str) -> Sequence[tuple[bytes, frozenset[str]]]:
        r"""The mails of a folder, oldest first, each with its flags as IMAP writes them (``\Seen``)."""
        ...

    def remove(self, folder: str, raw: bytes) -> None:
        """Another client deletes the mail (one of them, if there are equal ones)."""
        ...

    def renumber(self, folder: str) -> None:
        """The folder's mails stay, and every reference to them becomes void (another UIDVALIDITY)."""
        ...


OpenSource = Callable[[], MailSource]


def a_mail(number: int, *, body: bytes = b"hello\r\n") -> bytes:
    """A small mail, another one for each number."""
    head = (
        f"Message-ID: <{number}@conformance.example>\r\n"
        f"Date: Thu, 01 Jan 2026 10:{number % 60:02}:00 +0000\r\n"
        f"From: =?utf-8?q?J=C3=B6rg?= <joerg{number}@firm.example>\r\n"
        f"To: archive@conformance.example\r\n"
        f"Subject: number {number}\r\n\r\n"
    )
    return head.encode() + body
