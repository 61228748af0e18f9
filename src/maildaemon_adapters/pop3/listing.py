"""Which mails were not listed before: no mail is passed over because another one came, went, or has its id now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import attrs

from maildaemon_adapters.pop3.heads import Head
from maildaemon_adapters.pop3.maildrop import Maildrop
from maildaemon_adapters.pop3.position import Position, id_of, look_of, read_cursor, write_cursor
from maildaemon_adapters.pop3.session import Session, shown
from maildaemon_adapters.pop3.settings import INBOX
from maildaemon_core.errors import FolderRefused
from maildaemon_core.message import Cursor, Envelope, FolderRef, Headers, MessageRef
from maildaemon_core.ports import Page

LOOKS = 200
"""So many mails at most are looked at again because their id is suspicious."""


@attrs.frozen(kw_only=True)
class _Rest:
    """What a look found behind a page: the next page needs no new one."""

    cursor: Cursor
    position: Position
    uids: Sequence[str]


@attrs.frozen(kw_only=True)
class _Judged:
    """Where to list from.  ``anew``: from the beginning.  ``turned``: nothing that was there is there any more."""

    position: Position
    anew: bool = False
    turned: bool = False


def reference(folder: FolderRef, numbering: int, uid: str) -> MessageRef:
    """Where a mail lies: ids that were given anew are as good as another UIDVALIDITY."""
    return MessageRef(folder, f"uidl:{numbering}", uid)


class Listing:
    """Pages of envelopes, as ``MailSource.list_since`` wants them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rest: _Rest | None = None
        self._first = True

    def page(self, folder: FolderRef, cursor: Cursor | None, limit: int) -> Page:
        first, self._first = self._first, False
        self._session.only_inbox(folder)
        with self._session.translated(f"listing {INBOX}"):
            rest, self._rest = self._rest, None
            if rest is not None and rest.cursor == cursor:
                return self._listed(folder, rest.position, rest.uids, limit)
            # What is shown is as old as the login, which was just before the first page was asked for.
            maildrop = self._session.maildrop() if first else self._session.fresh()
            return self._fresh_page(folder, cursor, limit, maildrop)

    def _fresh_page(self, folder: FolderRef, cursor: Cursor | None, limit: int, maildrop: Maildrop) -> Page:
        before = Position() if cursor is None else read_cursor(cursor)
        ids = {uid: id_of(uid) for uid in maildrop.numbers}
        judged = _Judged(position=Position(), anew=True) if before is None else self._judge(before, maildrop, ids)
        new = [uid for uid in maildrop.numbers if judged.anew or ids[uid] not in judged.position.seen]
        position = judged.position.among(ids.values())
        page = self._listed(folder, position, new, limit)
        if judged.turned and before is not None and _same_again(before, page.envelopes):
            judged = attrs.evolve(judged, position=before.anew(numbering=before.numbering + 1), anew=True)
            page = self._listed(folder, judged.position, new, limit)
        self._session.numbering = judged.position.numbering
        return attrs.evolve(page, renumbered=judged.anew)

    def _judge(self, before: Position, maildrop: Maildrop, ids: Mapping[str, bytes]) -> _Judged:
        """Whether the ids still mean what they meant; ``ids``: what ``id_of`` makes of each that is there.

        Looked at again are: ids that come back, ids that several mails share, and the last mail that was known, behind
        which everything moves where ids are mere numbers.
        """
        uids = {each: uid for uid, each in ids.items()}
        known = [uid for each, uid in uids.items() if each in before.seen]
        back = [uid for each, uid in uids.items() if each in before.gone]
        shared = [uid for uid in known if uid in maildrop.shared]
        if len(shared) > LOOKS:
            raise FolderRefused(
                f"{self._session.where} gives {len(maildrop.shared)} mails ids (UIDL) that others have as well: "
                f"{shown(sorted(maildrop.shared))}",
                remedy="such ids mean nothing: read this mailbox through imap, or have the server mended",
            )
        looks = {**before.gone, **before.seen}
        heads = self._heads([*dict.fromkeys([*known[-1:], *shared, *back[:LOOKS]])])
        if any(look_of(head.headers.fingerprint) != looks[ids[uid]] for uid, head in heads.items()):
            return _Judged(position=before.anew(numbering=before.numbering + 1), anew=True)
        if back:
            return _Judged(position=before.anew(), anew=True)
        return _Judged(position=before, turned=bool(before.seen and uids and not known))

    def _listed(self, folder: FolderRef, position: Position, uids: Sequence[str], limit: int) -> Page:
        now, rest = uids[:limit], uids[limit:]
        envelopes = tuple(self._envelopes(folder, position.numbering, now))
        after = position.after((id_of(each.ref.uid), look_of(each.headers.fingerprint)) for each in envelopes)
        cursor = write_cursor(after)
        self._rest = _Rest(cursor=cursor, position=after, uids=rest) if rest else None
        return Page(envelopes=envelopes, cursor=cursor, more=bool(rest))

    def _envelopes(self, folder: FolderRef, numbering: int, uids: Sequence[str]) -> Iterator[Envelope]:
        if not uids:
            return
        heads = self._heads(uids)
        if missing := [uid for uid in uids if uid not in heads]:
            # Perhaps another program has deleted them; only a new login tells.
            self._session.fresh()
            heads |= self._heads(missing)
        maildrop = self._session.maildrop()
        sizes = self._session.sizes()
        seen = datetime.now(UTC)
        for uid in uids:
            number = maildrop.numbers.get(uid)
            head = heads.get(uid)
            if number is not None:
                yield Envelope(
                    ref=reference(folder, numbering, uid),
                    headers=head.headers if head is not None else Headers(),
                    received=head.received if head is not None and head.received is not None else seen,
                    size=sizes.get(number),
                )

    def _heads(self, uids: Iterable[str]) -> dict[str, Head]:
        """What those say that are there and can be read."""
        maildrop = self._session.maildrop()
        numbered = {maildrop.numbers[uid]: uid for uid in uids if uid in maildrop.numbers}
        answers = self._session.heads().read(list(numbered))
        return {numbered[number]: head for number, head in answers.items() if isinstance(head, Head)}


def _same_again(before: Position, envelopes: Sequence[Envelope]) -> bool:
    """Whether mails that were listed under other ids are among these."""
    looks = set(before.seen.values())
    return any(look_of(each.headers.fingerprint) in looks for each in envelopes)
