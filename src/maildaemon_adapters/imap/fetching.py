"""Whole mails, one answer for each: a bad one costs only itself, and none is called gone without a fresh look."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from maildaemon_adapters.imap.session import Renumbered, Session
from maildaemon_adapters.imap.stand_ins import stand_in_for
from maildaemon_adapters.imap.translate import asks_to_wait, for_people, pause
from maildaemon_adapters.imap.wire import Broken, Refused, Unparsable
from maildaemon_core.errors import SourceUnavailable, Trouble
from maildaemon_core.message import Content, FolderRef, MessageRef
from maildaemon_core.ports import Fetched, Spool, Unfetched, Vanished

_UID = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)


def fetch(
    session: Session, refs: Sequence[MessageRef], spool: Spool, *, at_once: int
) -> Iterator[Fetched | Vanished | Unfetched]:
    """As ``MailSource.fetch``; ``at_once`` mails are asked for by one command."""
    if not refs:
        return
    folder = refs[0].folder
    with session.translated(f"fetching from {folder!r}"):
        uidvalidity = session.view(folder).uidvalidity
    wanted: dict[int, MessageRef] = {}
    for ref in dict.fromkeys(refs):
        if ref.uidvalidity == uidvalidity and _UID.fullmatch(ref.uid):
            wanted[int(ref.uid)] = ref
        else:
            yield Unfetched(ref=ref, trouble=_renumbered(folder))
    yield from _Fetching(session, folder, uidvalidity, spool).answers(wanted, at_once)


class _Fetching:
    """Fetching from one folder under one UIDVALIDITY; it knows whether the connection has broken before."""

    def __init__(self, session: Session, folder: FolderRef, uidvalidity: str, spool: Spool) -> None:
        self._session = session
        self._folder = folder
        self._uidvalidity = uidvalidity
        self._spool = spool
        self._broken = False
        self._renewed = False

    def answers(self, wanted: Mapping[int, MessageRef], at_once: int) -> Iterator[Fetched | Vanished | Unfetched]:
        missing = []
        for uid, got in self._bodies(sorted(wanted), at_once):
            answer, perhaps_gone = self._answer(wanted[uid], got)
            if perhaps_gone:
                missing.append(uid)
            else:
                yield answer
        there = self._looked_for(missing)
        for uid in missing:
            if isinstance(there, Trouble):
                yield Unfetched(ref=wanted[uid], trouble=there)
            elif uid not in there:
                yield Vanished(ref=wanted[uid])
            else:
                for _, got in self._bodies([uid], 1):
                    yield self._answer(wanted[uid], got)[0]

    def _answer(self, ref: MessageRef, got: Content | Trouble | None) -> tuple[Fetched | Unfetched, bool]:
        """What to answer if the mail is there, and whether only a fresh look tells that."""
        if isinstance(got, Trouble):
            return Unfetched(ref=ref, trouble=got), False
        if got is None:
            words, perhaps_gone = "the server gives nothing for it", True
        elif (notice := stand_in_for(got)) is None:
            return Fetched(ref=ref, content=got), False
        else:
            got.close()
            words, perhaps_gone = notice.words, notice.gone
        return Unfetched(ref=ref, trouble=_unread(self._folder, int(ref.uid), words)), perhaps_gone

    def _bodies(self, uids: Sequence[int], at_once: int) -> Iterator[tuple[int, Content | Trouble | None]]:
        """Each mail, or the trouble with it, or None where the server gave nothing for it.

        What goes wrong with several is tried again one by one.
        """
        waiting = deque(uids[at : at + at_once] for at in range(0, len(uids), at_once))
        while waiting:
            now = waiting.popleft()
            try:
                found = self._session.at(self._folder, self._uidvalidity).bodies(now, self._spool)
            except Renumbered:
                yield from ((uid, _renumbered(self._folder)) for uid in now)
            except Broken as error:
                self._broke(error)
                waiting.extendleft([uid] for uid in reversed(now))
            except (Unparsable, Refused) as error:
                if isinstance(error, Refused) and asks_to_wait(str(error)):
                    raise self._unavailable(error) from None
                if len(now) == 1:
                    yield now[0], _unread(self._folder, now[0], for_people(str(error)))
                    continue
                if isinstance(error, Unparsable) and not self._renewed:
                    self._session.drop()  # who knows what else of that answer is still to come
                    self._renewed = True
                waiting.extendleft([uid] for uid in reversed(now))
            else:
                try:
                    for uid in now:
                        yield uid, found.pop(uid, None)
                finally:
                    for left in found.values():
                        left.close()

    def _unavailable(self, error: Refused) -> SourceUnavailable:
        return SourceUnavailable(
            f"fetching from {self._folder!r} at {self._session.where}: the server wants to be left alone for a while: "
            f"{for_people(str(error))}",
            remedy="it will be tried again",
            retry_after=pause(str(error)),
        )

    def _broke(self, error: Broken) -> None:
        if self._broken:
            raise SourceUnavailable(
                f"fetching from {self._folder!r} at {self._session.where}: the connection broke twice: "
                f"{for_people(str(error))}",
                remedy="it will be tried again",
            ) from None
        self._broken = True

    def _looked_for(self, missing: Sequence[int]) -> set[int] | Trouble:
        """Which of these are there, by a fresh look; or why nobody can tell."""
        if not missing:
            return set()
        with self._session.translated(f"looking again into {self._folder!r}"):
            try:
                return self._session.still_there(self._folder, self._uidvalidity, missing)
            except Renumbered:
                return _renumbered(self._folder)
            except (Unparsable, Refused) as error:
                return _unread(self._folder, missing[0], for_people(str(error)))


def _renumbered(folder: FolderRef) -> Trouble:
    return Trouble(
        error="FolderRenumbered",
        message=f"{folder!r} was renumbered (another UIDVALIDITY): this reference means nothing there any more",
        remedy="nothing to do: the next sweep looks for the mail under its new number",
    )


def _unread(folder: FolderRef, uid: int, why: str) -> Trouble:
    return Trouble(
        error="MailNotRead",
        message=f"the mail with UID {uid} in {folder!r} could not be read: {why}",
        remedy="open it with a mail program; if that fails as well, the server's copy is damaged",
    )
