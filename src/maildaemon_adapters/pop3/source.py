"""The mail source ``pop3``: one session with one maildrop, as the port ``MailSource`` wants it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from maildaemon_adapters.pop3.fetching import fetch
from maildaemon_adapters.pop3.findings import findings
from maildaemon_adapters.pop3.listing import Listing
from maildaemon_adapters.pop3.session import Session
from maildaemon_adapters.pop3.settings import INBOX, Pop3Settings
from maildaemon_adapters.pop3.settling import settle
from maildaemon_adapters.pop3.words import for_people
from maildaemon_core.errors import Trouble
from maildaemon_core.message import Cursor, FolderRef, MessageRef
from maildaemon_core.options import Aftercare, MailboxOptions
from maildaemon_core.ports import Fetched, Finding, FolderInfo, Known, Page, Settled, Spool, Unfetched, Vanished

_TLS_WORDS = {"implicit": "TLS", "starttls": "STLS", "none": "plain text"}

_TELLING = ("UIDL", "TOP", "PIPELINING")
"""The abilities that make a difference to us (RFC 2449 §6)."""


class Pop3Source:
    """RFC 1939.  A connection that broke, or was ended to delete mails, is made anew by the next call."""

    def __init__(self, options: MailboxOptions, settings: Pop3Settings, spool: Spool) -> None:
        self._tls = _TLS_WORDS[options.tls_mode]
        self._at_once = settings.fetch_count
        self._spool = spool
        self._session = Session(options, settings)
        self._listing = Listing(self._session)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._session.drop()

    def folders(self) -> Sequence[FolderInfo]:
        return [FolderInfo(name=INBOX)]

    def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
        return self._listing.page(folder, cursor, limit)

    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished | Unfetched]:
        return fetch(self._session, refs, self._spool, at_once=self._at_once)

    def settle(self, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Settled | Trouble]:
        return settle(self._session, mails, care)

    def check(self, folders: Sequence[FolderRef], care: Aftercare) -> Sequence[Finding]:
        return findings(self._session, folders, care)

    def server(self) -> str:
        connection = self._session.connection
        can = connection.abilities
        greeting = for_people(connection.greeting)
        named = for_people(can.get("IMPLEMENTATION", ""))
        having = [each for each in _TELLING if each in can]
        lacking = [each for each in _TELLING if each not in can]
        said = [greeting, named, f"has {', '.join(having)}" if having else ""]
        if can:
            said.append(f"lacks {', '.join(lacking)}" if lacking else "")
        else:
            said.append("does not say what it can do")
        return f"{self._session.where} ({self._tls}): {'; '.join(filter(None, said))}"


def open_pop3(options: MailboxOptions, settings: Pop3Settings, spool: Spool) -> Pop3Source:
    """Connects and logs in.  Raises ``LoginRefused``, ``OutOfBounds`` and ``SourceUnavailable``."""
    return Pop3Source(options, settings, spool)
