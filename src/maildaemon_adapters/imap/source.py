"""The mail source ``imap``: one session with one mailbox, as the port ``MailSource`` wants it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from maildaemon_adapters.imap.fetching import fetch
from maildaemon_adapters.imap.findings import findings
from maildaemon_adapters.imap.idling import Idling
from maildaemon_adapters.imap.listing import Listing
from maildaemon_adapters.imap.session import Session
from maildaemon_adapters.imap.settings import ImapSettings
from maildaemon_adapters.imap.tidy import settle
from maildaemon_adapters.imap.translate import for_people
from maildaemon_core.errors import Trouble
from maildaemon_core.message import Cursor, FolderRef, MessageRef
from maildaemon_core.options import Aftercare, MailboxOptions
from maildaemon_core.ports import (
    Armed,
    Fetched,
    Finding,
    FolderInfo,
    Known,
    Page,
    Settled,
    Spool,
    Unfetched,
    Vanished,
)

_SPECIAL = frozenset({"\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Important", "\\Junk", "\\Sent", "\\Trash"})
"""RFC 6154 §2 and RFC 8457."""

_NO_MAILS = frozenset({"\\noselect", "\\nonexistent"})

_TLS_WORDS = {"implicit": "TLS", "starttls": "STARTTLS", "none": "plain text"}


_TELLING = ("UIDPLUS", "MOVE", "IDLE", "CONDSTORE", "OBJECTID")
"""The abilities that make a difference to us (RFC 4315, 6851, 2177, 7162, 8474)."""


class ImapSource:
    """RFC 9051 and RFC 3501; it can wait to be told of new mail (``Wakeable``).

    A connection that broke is made anew by the next call.
    """

    def __init__(self, options: MailboxOptions, settings: ImapSettings, spool: Spool) -> None:
        self._tls = _TLS_WORDS[options.tls_mode]
        self._at_once = settings.fetch_count
        self._spool = spool
        self._session = Session(options, settings)
        self._listing = Listing(self._session)
        self._idle_seconds = settings.idle_seconds
        self._idling: Idling | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._idling is not None:
            self._idling.abandon()
        self._session.drop()

    def folders(self) -> Sequence[FolderInfo]:
        with self._session.translated("listing the folders"):
            found = self._session.connection.listed()
        canonical = {special.lower(): special for special in _SPECIAL}
        return [
            FolderInfo(
                name=FolderRef(name),
                special_use=frozenset(canonical[each.lower()] for each in attributes if each.lower() in canonical),
                selectable=not {each.lower() for each in attributes} & _NO_MAILS,
            )
            for attributes, _, name in found
        ]

    def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
        return self._listing.page(folder, cursor, limit)

    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished | Unfetched]:
        return fetch(self._session, refs, self._spool, at_once=self._at_once)

    def settle(self, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Settled | Trouble]:
        return settle(self._session, mails, care)

    def check(self, folders: Sequence[FolderRef], care: Aftercare) -> Sequence[Finding]:
        return findings(self._session, folders, care)

    def arm(self, folder: FolderRef) -> Armed | None:
        with self._session.translated(f"beginning to wait for news of {folder!r}"):
            connection = self._session.connection
            if "IDLE" not in self._session.abilities:
                return None
            idling = Idling(connection, news=self._listing.missed(folder, self._session.open(folder)))
            if not idling.begin():
                return None
        self._idling = idling
        return Armed(descriptor=connection.transport.sock.fileno(), seconds=self._idle_seconds)

    def drain(self) -> bool:
        assert self._idling is not None, "nothing waits"
        with self._session.translated("waiting for news"):
            return self._idling.drain()

    def disarm(self) -> None:
        assert self._idling is not None, "nothing waits"
        idling, self._idling = self._idling, None
        with self._session.translated("waiting for news"):
            idling.end()

    def server(self) -> str:
        greeting = for_people(self._session.connection.greeting)
        abilities = [each for each in _TELLING if each in self._session.abilities]
        lacking = [each for each in _TELLING if each not in self._session.abilities]
        can = f"has {', '.join(abilities)}" if abilities else ""
        cannot = f"lacks {', '.join(lacking)}" if lacking else ""
        return f"{self._session.where} ({self._tls}): {'; '.join(filter(None, (greeting, can, cannot)))}"


def open_imap(options: MailboxOptions, settings: ImapSettings, spool: Spool) -> ImapSource:
    """Connects and logs in.  Raises ``LoginRefused``, ``OutOfBounds`` and ``SourceUnavailable``."""
    return ImapSource(options, settings, spool)
