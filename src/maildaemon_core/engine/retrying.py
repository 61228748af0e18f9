"""What people decide about mails: to have them tried again, or to hear no more of them; written under a lease."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime

import attrs

from maildaemon_core.engine.catalog import UnknownMailbox
from maildaemon_core.engine.leasing import Leasing
from maildaemon_core.errors import LeaseLost, Permanent, StillPending
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.progress import STEPS, Again, Dismissed, Entry, EntryId, LetGo, Outcome, Stage, advance
from maildaemon_core.store_port import Lease, Store

PAGE = 200
"""So many entries are changed by one commit."""


class NotFailed(Permanent):
    """The mail did not fail, or is being tried again anyway: there is nothing to try again."""


class PerhapsDelivered(Permanent):
    """The mail may have been delivered and nobody can tell: tried again, it may come twice."""


@attrs.frozen(kw_only=True)
class Retrying:
    """``alone`` keeps this process's own sweeps away from a mailbox for so many seconds at most."""

    store: Store
    leasing: Leasing
    clock: Callable[[], datetime]
    alone: Callable[[MailboxId, float], AbstractContextManager[None]]

    def one(self, number: EntryId, *, unconfirmed: bool, seconds: float) -> Entry | None:
        """Has one failed mail tried again; answers with it as it is then, None if there is none of that number.

        Raises ``NotFailed``, ``PerhapsDelivered``, ``UnknownMailbox`` if its mailbox was removed, ``LeaseLost`` naming
        who works on it.
        """
        entry = self.store.entry(number)
        if entry is None:
            return None
        _refuse(entry, unconfirmed=unconfirmed)
        self._require(entry.mailbox)
        now = self.clock()
        with self.alone(entry.mailbox, seconds), self.leasing.for_a_moment(entry.mailbox, next_due=now) as lease:
            entry = self.store.entry(number)  # as it is under the lease
            if entry is None:
                return None
            _refuse(entry, unconfirmed=unconfirmed)
            lease.record([_again(entry, now)])
        return self.store.entry(number)

    def all(self, query: EntryQuery, *, unconfirmed: bool, seconds: float) -> int:
        """Has all that the query finds, on whatever page, tried again; answers how many those are.

        A mailbox that another one works on keeps no other from it: ``LeaseLost`` names it afterwards.  Raises
        ``NotFailed`` for a query of others than failed mails, and ``UnknownMailbox``.
        """
        if query.outcome is not Outcome.FAILED:
            raise NotFailed(f"mails that are {query.outcome} are not tried again", remedy="ask for those that failed")
        if query.mailbox is not None:
            self._require(query.mailbox)
            mailboxes = [query.mailbox]
        else:
            mailboxes = [configuration.id for configuration in self.store.configurations()]
        number, busy = 0, []
        for mailbox in mailboxes:
            its = attrs.evolve(query, mailbox=mailbox)
            if not any(_chosen(page, unconfirmed=unconfirmed) for page in pages(self.store, its)):
                continue  # nobody is asked to stop for nothing
            try:
                number += self.all_of(mailbox, its, unconfirmed=unconfirmed, seconds=seconds)
            except LeaseLost as error:
                busy.append(error.message)
        if busy:
            done = [f"{_mails(number)} tried again in others"] if number else []
            raise LeaseLost("; ".join([*dict.fromkeys(busy), *done]), remedy="try again when it has finished")
        return number

    def all_of(self, mailbox: MailboxId, query: EntryQuery, *, unconfirmed: bool, seconds: float) -> int:
        """Has all that the query finds of one mailbox tried again; answers how many those are.

        Raises ``LeaseLost`` naming who works on it, even if there are none.
        """
        query = attrs.evolve(query, mailbox=mailbox)
        now, number = self.clock(), 0
        with self.alone(mailbox, seconds), self.leasing.for_a_moment(mailbox, next_due=now) as lease:
            for page in pages(self.store, query):
                again = [_again(entry, now) for entry in _chosen(page, unconfirmed=unconfirmed)]
                if again:
                    lease.record(again)
                number += len(again)
        return number

    def dismiss(self, number: EntryId) -> Entry | None:
        """As ``MailDaemon.dismiss``."""
        entry = self.store.dismiss(number)
        if entry is None:
            return None
        if not entry.dismissed:
            raise StillPending(
                f"mail {number} is still pending: nothing was decided about it",
                remedy="wait for the next sweep; what failed, was stored or skipped can be dismissed",
            )
        if not entry.open or entry.outcome is not Outcome.FAILED or entry.stage is Stage.PLANNED:
            return entry
        lease = self.leasing.take(entry.mailbox)
        if lease is None:
            return entry
        with suppress(LeaseLost):  # whoever has it now will end the retries
            try:
                now = self.clock()
                mine = [one for one in lease.dismissed() if one.id == number and one.stage is not Stage.PLANNED]
                lease.record([advance(one, Dismissed(), now) for one in mine])
            finally:
                self.leasing.give_back(lease)
        return self.store.entry(number)

    def _require(self, mailbox: MailboxId) -> None:
        if self.store.configuration(mailbox) is None:
            raise UnknownMailbox(
                f"there is no mailbox {mailbox} any more", remedy="create it again, and its mails are known again"
            )


def take_back(
    store: Store,
    lease: Lease,
    outcomes: frozenset[Outcome],
    *,
    clock: Callable[[], datetime],
    stopping: Callable[[], bool],
) -> bool:
    """Has mails of a mailbox decided anew, skipped ones or failed ones; False if it was stopped before it was through.

    Of the failed ones those stay as they are which may have been delivered, or which a person has dismissed.
    """
    stages: list[tuple[Outcome, frozenset[Stage]]] = []
    if Outcome.SKIPPED in outcomes:
        # Those that could not be moved away as unwanted count as failed.
        stages += [(outcome, frozenset({Stage.SKIPPED})) for outcome in (Outcome.SKIPPED, Outcome.FAILED)]
    if Outcome.FAILED in outcomes:
        stages.append((Outcome.FAILED, frozenset(Stage) - {Stage.UNCONFIRMED}))
    for outcome, among in stages:
        query = EntryQuery(outcome=outcome, mailbox=lease.mailbox, dismissed=outcome is Outcome.SKIPPED)
        for page in pages(store, query):
            if stopping():
                return False
            again = [entry for entry in page if entry.stage in among and Again in STEPS[entry.stage]]
            if again:
                lease.record([advance(entry, Again(), clock()) for entry in again])
    return True


def pages(store: Store, query: EntryQuery) -> Iterator[Sequence[Entry]]:
    """All that a query finds, a page at a time, wherever it was to begin."""
    before: EntryId | None = None
    while True:
        page = store.entries(attrs.evolve(query, before=before, limit=PAGE))
        yield page.entries
        if page.next is None:
            return
        before = page.next


def _chosen(entries: Sequence[Entry], *, unconfirmed: bool) -> list[Entry]:
    return [
        entry
        for entry in entries
        if Again in STEPS[entry.stage] and (unconfirmed or entry.stage is not Stage.UNCONFIRMED)
    ]


def _refuse(entry: Entry, *, unconfirmed: bool) -> None:
    """Raises why an entry is not tried again, if it is not."""
    if entry.outcome is not Outcome.FAILED:
        raise NotFailed(f"mail {entry.id} is {entry.outcome}", remedy="only a mail that failed can be tried again")
    if entry.stage is Stage.PLANNED and entry.dismissed:
        raise NotFailed(
            f"mail {entry.id} was dismissed, and what is staged of it is yet to be cleared away",
            remedy="try it again after the next sweep of its mailbox",
        )
    if entry.stage is Stage.UNCONFIRMED and not unconfirmed:
        raise PerhapsDelivered(
            f"nobody can tell whether mail {entry.id} was delivered; if it was, it would come twice",
            remedy='look whether it arrived; if it did not, have it tried again with "unconfirmed"',
        )


def _again(entry: Entry, now: datetime) -> Entry:
    # What is staged already is not begun anew: it is only due now.
    return advance(entry, LetGo() if entry.stage is Stage.PLANNED else Again(), now)


def _mails(number: int) -> str:
    return "1 mail is" if number == 1 else f"{number} mails are"
