"""The state of the loop: for each mailbox when it is due, what goes on, who waits; and what follows from that.

Nothing here knows threads or a clock; ``Watching`` uses it under one lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from threading import Event as Signal
from typing import Final

import attrs

from maildaemon_core.engine.catalog import UnknownMailbox
from maildaemon_core.engine.roster import Member, NotSwept
from maildaemon_core.engine.sweep import STOPPED
from maildaemon_core.engine.watched import Watched
from maildaemon_core.errors import LoginRefused, MaildaemonError, StoreUnavailable
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import SweepReport, SweepState
from maildaemon_core.progress import Outcome
from maildaemon_core.schedule import (
    Watch,
    due_watches,
    first_watch,
    next_watch,
    watch_when_busy,
    watch_without_store,
    when_put_back,
)

HANGING: Final = timedelta(minutes=10)
"""A sweep of which nothing was heard for so long keeps no other from beginning."""

MOST_HANGING: Final = 100
"""Each of those has threads, so their number has an end."""

Waiting = list[Future[SweepReport]]


@attrs.define(eq=False, kw_only=True)
class Run:
    """A sweep that goes on: who waits for it, what was asked of it, when it last did something.

    ``asked``: somebody waited for it when it began.
    """

    began: datetime
    heard: datetime
    waiting: Waiting
    again: frozenset[Outcome]
    asked: bool
    stop: Signal = attrs.field(factory=Signal)


@attrs.define(eq=False, kw_only=True)
class Seat:
    """A mailbox in the loop.

    ``since``: from when on a sweep that goes through is waited for.  ``asked_at``: since when somebody wants it swept
    at once.  ``held``: how many want it left alone; ``halted_until``: so does somebody who does not come back.
    """

    watch: Watch
    since: datetime
    run: Run | None = None
    waiting: Waiting = attrs.field(factory=list)
    again: frozenset[Outcome] = frozenset()
    asked_at: datetime | None = None
    held: int = 0
    halted_until: datetime | None = None
    last: SweepReport | None = None
    last_success: datetime | None = None

    @property
    def due_at(self) -> datetime:
        return self.watch.due_at if self.asked_at is None else min(self.asked_at, self.watch.due_at)

    def may_begin(self, now: datetime) -> bool:
        return self.run is None and not self.held and (self.halted_until is None or self.halted_until <= now)

    def ask(self, at: datetime) -> None:
        """Somebody wants it swept then, at the latest."""
        self.asked_at = min(self.asked_at or at, at)

    def renew(self, now: datetime) -> None:
        """It was changed: what was before does not count any more."""
        self.watch = attrs.evolve(self.watch, failures=0)
        self.since, self.halted_until = now, None
        self.ask(now)

    def begin(self, now: datetime) -> Run:
        """A sweep begins, for all who wait."""
        self.run = Run(began=now, heard=now, waiting=self.waiting, again=self.again, asked=bool(self.waiting))
        self.waiting, self.again, self.asked_at = [], frozenset(), None
        return self.run

    def not_begun(self, now: datetime) -> None:
        """It could not be begun after all."""
        if self.run is not None:
            self.waiting, self.again, self.run = self.run.waiting, self.run.again, None
            self.watch = next_watch(self.watch, failed=True, now=now)

    def after(self, report: SweepReport, until: datetime | None, now: datetime) -> datetime:
        """When it is due after this sweep; ``until``: the end of somebody else's lease."""
        if was_stopped(report):
            self.watch = attrs.evolve(self.watch, due_at=now)
            return self.due_at
        if is_of_store(report):
            self.watch = watch_without_store(self.watch, now=now)
        elif report.state in {SweepState.BUSY, SweepState.LOST}:
            self.watch = watch_when_busy(self.watch, until=until, now=now)
            self.since = now  # somebody else sees to it
        elif report.state is SweepState.DONE:
            self.watch = next_watch(self.watch, failed=False, now=now)
            self.last_success = self.since = now
        else:
            asked = report.trouble.retry_after if report.trouble else None
            refused = report.trouble is not None and report.trouble.error == LoginRefused.__name__
            self.watch = next_watch(self.watch, failed=True, now=now, retry_after=asked, refused=refused)
        self.last = report
        return self.due_at

    def over(self, now: datetime, *, cut: bool) -> Waiting:
        """The sweep has ended; answers with those who get its report.

        If it was cut short, but not for ever, they wait on for one that is not.
        """
        run, self.run = self.run, None
        if run is None or not cut:
            return run.waiting if run else []
        self.waiting = [*run.waiting, *self.waiting]
        self.again |= run.again
        if self.waiting:
            self.ask(now)
        return []


class Seats:
    """The seats of all mailboxes."""

    def __init__(self) -> None:
        self._seats: dict[MailboxId, Seat] = {}

    def get(self, mailbox: MailboxId) -> Seat | None:
        return self._seats.get(mailbox)

    def runs(self) -> Sequence[Run]:
        return [seat.run for seat in self._seats.values() if seat.run is not None]

    def all_waiting(self) -> Waiting:
        """Everybody who waits for a sweep that has not begun; they wait no longer."""
        waiting = [future for seat in self._seats.values() for future in seat.waiting]
        for seat in self._seats.values():
            seat.waiting = []
        return waiting

    def all_cut(self) -> Waiting:
        """Everybody who waits for a sweep that goes on; they wait no longer."""
        waiting = [future for run in self.runs() for future in run.waiting]
        for run in self.runs():
            run.waiting = []
        return waiting

    def settle(
        self, members: Mapping[MailboxId, Member], now: datetime, *, at_start: bool = False
    ) -> Sequence[tuple[Waiting, MaildaemonError]]:
        """Gives each mailbox its seat, and takes it from those that are gone; answers who waits for nothing, and why.

        At the start the first sweeps are spread a little; a mailbox that comes later is due at once.
        """
        for mailbox, member in members.items():
            seat = self._seats.get(mailbox)
            if seat is None:
                first = first_watch(mailbox, member.interval, now=now)
                self._seats[mailbox] = Seat(watch=first if at_start else attrs.evolve(first, due_at=now), since=now)
            elif seat.watch.interval != member.interval:
                due = min(seat.watch.due_at, now + member.interval)
                seat.watch = attrs.evolve(seat.watch, interval=member.interval, due_at=due)
        refused: list[tuple[Waiting, MaildaemonError]] = []
        for mailbox, seat in list(self._seats.items()):
            if seat.waiting and (refusal := _refusal(mailbox, members.get(mailbox))) is not None:
                refused.append((seat.waiting, refusal))
                seat.waiting, seat.again = [], frozenset()
            if mailbox not in members and seat.run is None and not seat.held:
                del self._seats[mailbox]
        return refused

    def chosen(self, members: Mapping[MailboxId, Member], now: datetime, *, at_once: int) -> Sequence[MailboxId]:
        """Which to sweep now: those that wait longest, and one more of those that somebody asked for.

        Else these would wait long behind many, or many behind one who asks again and again.
        """
        runs = self.runs()
        hanging = sum(now - run.heard > HANGING for run in runs)
        free = at_once - len(runs) + min(hanging, MOST_HANGING)
        ready = {mailbox: seat for mailbox, seat in self._ready(members, now).items() if seat.due_at <= now}
        watches = {mailbox: attrs.evolve(seat.watch, due_at=seat.due_at) for mailbox, seat in ready.items()}
        chosen = [watch.mailbox for watch in due_watches([*watches.values()], now, free=free)]
        asked = [watches[mailbox] for mailbox, seat in ready.items() if seat.asked_at is not None]
        more = due_watches(asked, now, free=free + 1 - len(chosen), busy=chosen)
        return [*chosen, *(watch.mailbox for watch in more)]

    def later(self, members: Mapping[MailboxId, Member], now: datetime) -> Collection[datetime]:
        """When something will be due that is not yet."""
        times = [seat.due_at for seat in self._ready(members, now).values()]
        times += [seat.halted_until for seat in self._seats.values() if seat.halted_until is not None]
        return [time for time in times if time > now]

    def put_back(self, by: timedelta, now: datetime) -> None:
        """The clock was put back by so much: nobody waits any longer for that."""
        for seat in self._seats.values():
            seat.watch = when_put_back(seat.watch, by)
            seat.since = min(seat.since, now)
            seat.asked_at = seat.asked_at and min(seat.asked_at, now)
            seat.halted_until = None
            if seat.run is not None:
                seat.run.heard = min(seat.run.heard, now)

    def watched(self, member: Member, now: datetime) -> Watched:
        """How a mailbox fares."""
        seat = self._seats.get(member.mailbox)
        run = seat.run if seat else None
        last = seat.last.trouble if seat and seat.last else None
        return Watched(
            mailbox=member.mailbox,
            label=member.label,
            active=member.active and not member.elsewhere,
            interval=member.interval,
            since=seat.since if seat else now,
            next_due=seat.due_at if seat and member.is_due_here else None,
            running_since=run.began if run else None,
            heard=run.heard if run else None,
            failures=seat.watch.failures if seat else 0,
            last_success=seat.last_success if seat else None,
            trouble=member.trouble or last,
        )

    def _ready(self, members: Mapping[MailboxId, Member], now: datetime) -> Mapping[MailboxId, Seat]:
        """Those that could begin if they were due."""
        return {
            mailbox: seat
            for mailbox, seat in self._seats.items()
            if seat.may_begin(now) and mailbox in members and members[mailbox].is_due_here
        }


def was_stopped(report: SweepReport) -> bool:
    """Whether it was cut short because somebody wanted it."""
    return report.trouble == STOPPED


def is_of_store(report: SweepReport) -> bool:
    """Whether it was cut short because the store could not be used."""
    return report.trouble is not None and report.trouble.error == StoreUnavailable.__name__


def _refusal(mailbox: MailboxId, member: Member | None) -> MaildaemonError | None:
    """Why a mailbox is not swept any more, if it is not."""
    if member is None:
        return UnknownMailbox(f"mailbox {mailbox} was removed", remedy="create it again if it is still wanted")
    try:
        member.wanted()
    except NotSwept as error:
        return error
    return None
