"""Whole mails, one answer for each: a bad one costs only itself, and none is called gone without a fresh look."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

from maildaemon_adapters.pop3.session import Session
from maildaemon_adapters.pop3.settings import INBOX
from maildaemon_adapters.pop3.wire import Broken, OutOfStep, Refused, Unparsable
from maildaemon_adapters.pop3.words import for_people, response
from maildaemon_core.errors import SourceUnavailable, Trouble
from maildaemon_core.message import Content, MessageRef
from maildaemon_core.ports import Fetched, Spool, Unfetched, Vanished


def fetch(
    session: Session, refs: Sequence[MessageRef], spool: Spool, *, at_once: int
) -> Iterator[Fetched | Vanished | Unfetched]:
    """As ``MailSource.fetch``; ``at_once`` mails are asked for at once, where the server allows that."""
    if not refs:
        return
    session.only_inbox(refs[0].folder)
    with session.translated(f"fetching from {INBOX}"):
        maildrop = session.maildrop()
    wanted = {ref.uid: ref for ref in dict.fromkeys(refs) if of_this_numbering(session, ref)}
    if session.numbering is None and maildrop.numbers and not wanted.keys() & maildrop.numbers.keys():
        wanted = {}  # all of them gone while others are there: or the ids were given anew, which nobody has looked at
    for ref in dict.fromkeys(refs):
        if wanted.get(ref.uid) != ref:
            yield Unfetched(ref=ref, trouble=renumbered())
    for uid, got in _Fetching(session, spool, at_once).answers(list(wanted)):
        match got:
            case None:
                yield Vanished(ref=wanted[uid])
            case Trouble():
                yield Unfetched(ref=wanted[uid], trouble=got)
            case _:
                yield Fetched(ref=wanted[uid], content=got)


def of_this_numbering(session: Session, ref: MessageRef) -> bool:
    """Whether the reference is of the present ids, as far as that was looked at."""
    return session.numbering is None or ref.uidvalidity == f"uidl:{session.numbering}"


def renumbered() -> Trouble:
    """What becomes of a mail whose reference is void."""
    return Trouble(
        error="FolderRenumbered",
        message="the server has given its mails other ids (UIDL): this reference means nothing there any more",
        remedy="nothing to do: the next sweep recognises the mail by its headers",
    )


class _Fetching:
    """It knows whether the connection has broken before."""

    def __init__(self, session: Session, spool: Spool, at_once: int) -> None:
        self._session = session
        self._spool = spool
        self._at_once = at_once
        self._broken = False

    def answers(self, uids: Sequence[str]) -> Iterator[tuple[str, Content | Trouble | None]]:
        """Each mail, or the trouble with it, or None if a fresh look does not find it."""
        refused: dict[str, str] = {}
        left = list(uids)
        while left:
            done: set[str] = set()
            try:
                there = self._there(left)
                yield from ((uid, None) for uid in left if uid not in there and not self._doubtful(uid))
                yield from ((uid, _unclear(uid)) for uid in left if uid not in there and self._doubtful(uid))
                done |= set(left) - set(there)
                for uid, got in self._bodies(there, 1 if self._broken else self._at_once):
                    done.add(uid)
                    if isinstance(got, Refused):
                        refused[uid] = str(got)
                    else:
                        yield uid, got
            except Broken as error:
                self._broke(error)
            left = [uid for uid in left if uid not in done]
        if refused:
            yield from self._once_more(refused)

    def _bodies(self, uids: Sequence[str], at_once: int) -> Iterator[tuple[str, Content | Trouble | Refused]]:
        """Each mail as soon as what follows it shows that it ended where it seemed to."""
        waiting: tuple[str, Content | Trouble | Refused] | None = None
        numbers = self._session.maildrop().numbers
        lines = [f"RETR {numbers[uid]}" for uid in uids]
        try:
            with contextlib.closing(self._session.connection.mails(lines, at_once=at_once)) as answers:
                for answer, uid in zip(answers, uids, strict=False):
                    before, waiting = waiting, None
                    if before is not None:
                        yield before
                    waiting = (uid, answer if isinstance(answer, Refused) else self._spool.keep(answer))
            before, waiting = waiting, None
            if before is not None:
                yield before
        except (OutOfStep, Unparsable) as error:
            if waiting is None:
                raise Broken(str(error)) from None
            uid, got = waiting
            _close(got)
            waiting = None
            yield uid, unread(uid, for_people(str(error)))
        finally:
            if waiting is not None:
                _close(waiting[1])

    def _once_more(self, refused: dict[str, str]) -> Iterator[tuple[str, Content | Trouble | None]]:
        """Mails that the server would not give: a new login tells whether they are gone."""
        with self._session.translated(f"looking again into {INBOX}"):
            there = self._session.fresh().numbers
        for uid, said in refused.items():
            if uid not in there:
                yield uid, (_unclear(uid) if self._doubtful(uid) else None)
                continue
            if response(said)[0] in {"SYS/PERM", "SYS/TEMP"}:
                yield uid, unread(uid, for_people(said))
                continue
            with self._session.translated(f"fetching from {INBOX}"):
                for _, got in self._bodies([uid], 1):
                    yield uid, unread(uid, for_people(str(got))) if isinstance(got, Refused) else got

    def _there(self, uids: Collection[str]) -> Sequence[str]:
        with self._session.translated(f"fetching from {INBOX}"):
            numbers = self._session.maildrop().numbers
        return [uid for uid in uids if uid in numbers]

    def _doubtful(self, uid: str) -> bool:
        """Whether the mail may lie there as the only one of those that shared their id."""
        return self._session.maildrop().ambiguous(uid)

    def _broke(self, error: Broken) -> None:
        if self._broken:
            raise SourceUnavailable(
                f"fetching from {INBOX} at {self._session.where}: the connection broke twice: {for_people(str(error))}",
                remedy="it will be tried again",
            ) from None
        self._broken = True


def _close(got: Content | Trouble | Refused) -> None:
    if not isinstance(got, Trouble | Refused):
        got.close()


def unread(uid: str, why: str) -> Trouble:
    """A mail that is there, or may be, and cannot be read."""
    return Trouble(
        error="MailNotRead",
        message=f"the mail with the id {uid} could not be read: {why}",
        remedy="open it with a mail program; if that fails as well, the server's copy is damaged",
    )


def _unclear(uid: str) -> Trouble:
    return Trouble(
        error="MailNotRead",
        message=f"several mails had the id {uid.partition(' ')[0]}, one of them is gone, and nobody can tell which",
        remedy="look into the mailbox whether anything is missing; read it through imap, whose numbers are unique",
    )
