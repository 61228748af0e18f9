"""Which mails lie behind a cursor: no UID is passed that was neither listed nor proven gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from maildaemon_adapters.imap.session import Renumbered, Session
from maildaemon_adapters.imap.translate import (
    HEADER_FIELDS,
    envelope,
    header_block,
    is_temporary,
    read_cursor,
    strong_items,
    write_cursor,
)
from maildaemon_adapters.imap.wire import Opened, Refused, Unparsable
from maildaemon_core.message import Cursor, Envelope, FolderRef, MessageRef
from maildaemon_core.ports import Page

HEADERS_AT_ONCE = 500
"""As many as a page has: each question more is a round trip more."""


@attrs.frozen
class _Rest:
    """What a search found behind a page: the next page needs no new one."""

    folder: FolderRef
    uidvalidity: str
    cursor: Cursor
    uids: Sequence[int]


class Listing:
    """Pages of envelopes, as ``MailSource.list_since`` wants them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rest: _Rest | None = None
        self._uidnext = 0
        self._known: dict[FolderRef, tuple[str, int]] = {}

    def missed(self, folder: FolderRef, opened: Opened) -> bool:
        """Whether mail may have come to the folder, which was just opened, since it was listed to its end."""
        uidvalidity, first_unknown = self._known.get(folder, ("", 0))
        if uidvalidity != opened.uidvalidity:
            return True
        if opened.uidnext is not None:
            return opened.uidnext > first_unknown
        return opened.exists > 0 and bool(self._session.connection.uids_after(first_unknown - 1))

    def page(self, folder: FolderRef, cursor: Cursor | None, limit: int) -> Page:
        with self._session.translated(f"listing {folder!r}"):
            return self._next_page(folder, cursor, limit) or self._fresh_page(folder, cursor, limit)

    def _next_page(self, folder: FolderRef, cursor: Cursor | None, limit: int) -> Page | None:
        """The page behind the one that was given last, from the same search; None if that is not what is asked for."""
        rest, self._rest = self._rest, None
        if rest is None or (rest.folder, rest.cursor) != (folder, cursor):
            return None
        try:
            return self._listed(folder, rest.uidvalidity, rest.uids, limit)
        except Renumbered:
            return None

    def _fresh_page(self, folder: FolderRef, cursor: Cursor | None, limit: int) -> Page:
        opened = self._session.open(folder)
        self._uidnext = opened.uidnext or 0
        known = read_cursor(cursor)
        same = known is not None and known[0] == opened.uidvalidity
        renumbered = cursor is not None and not same
        last = known[1] if known is not None and same else 0
        uids = self._session.at(folder, opened.uidvalidity).uids_after(last) if opened.exists else []
        if not uids:
            self._known[folder] = (opened.uidvalidity, max(self._uidnext, last + 1))
            # Not up to UIDNEXT, though that would be right by the letter: a server that gets it wrong would cost mail.
            return Page(envelopes=(), cursor=write_cursor(opened.uidvalidity, last), renumbered=renumbered)
        return attrs.evolve(self._listed(folder, opened.uidvalidity, uids, limit), renumbered=renumbered)

    def _listed(self, folder: FolderRef, uidvalidity: str, uids: Sequence[int], limit: int) -> Page:
        now, rest = uids[:limit], uids[limit:]
        envelopes = tuple(self._envelopes(folder, uidvalidity, now))
        cursor = write_cursor(uidvalidity, now[-1])
        self._rest = _Rest(folder, uidvalidity, cursor, rest) if rest else None
        self._known[folder] = (uidvalidity, now[-1] + 1 if rest else max(self._uidnext, now[-1] + 1))
        return Page(envelopes=envelopes, cursor=cursor, more=bool(rest))

    def _envelopes(self, folder: FolderRef, uidvalidity: str, uids: Sequence[int]) -> Iterator[Envelope]:
        answers: dict[int, Mapping[bytes, Any]] = {}
        for at in range(0, len(uids), HEADERS_AT_ONCE):
            answers |= self._headers(folder, uidvalidity, uids[at : at + HEADERS_AT_ONCE])
        there: set[int] = set()
        if missing := [uid for uid in uids if header_block(answers.get(uid, {})) is None]:
            # Dovecot gives NIL for a mail that has just gone.  But no answer is no proof: some servers leave out mails
            # that exist, and these must not be lost.
            there = self._session.still_there(folder, uidvalidity, missing)
            answers |= self._headers(folder, uidvalidity, sorted(there))
        gone = set(missing) - there
        seen = datetime.now(UTC)
        for uid in uids:
            if uid not in gone:
                yield envelope(MessageRef(folder, uidvalidity, str(uid)), answers.get(uid, {}), otherwise=seen)

    def _headers(self, folder: FolderRef, uidvalidity: str, uids: Sequence[int]) -> dict[int, Mapping[bytes, Any]]:
        """What the server says of these mails; an answer that cannot be read costs only itself."""
        if not uids:
            return {}
        strong = strong_items(self._session.abilities)
        try:
            items = f"(UID RFC822.SIZE INTERNALDATE {strong}{HEADER_FIELDS})"
            return dict(self._session.at(folder, uidvalidity).headers(uids, items))
        except (Unparsable, Refused) as error:
            if is_temporary(str(error)):
                raise
            if len(uids) == 1:
                return {}
        half = len(uids) // 2
        return self._headers(folder, uidvalidity, uids[:half]) | self._headers(folder, uidvalidity, uids[half:])
