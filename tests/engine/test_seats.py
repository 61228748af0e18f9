"""The state of the loop, without threads: who is swept next, who is answered, who is stuck."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from threading import Event as Signal
from typing import Any

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from maildaemon_core.engine.roster import Member
from maildaemon_core.engine.seats import HANGING, MOST_HANGING, Seat, Seats
from maildaemon_core.engine.sweep import STOPPED
from maildaemon_core.engine.watched import LONGEST_SILENCE, Watched, is_dead, is_stuck
from maildaemon_core.errors import LoginRefused, Trouble
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import EntriesRecorded, Event, SweepReport, SweepState
from maildaemon_core.options import MailboxOptions
from maildaemon_core.progress import Outcome
from tests.engine.town import ONE, WAIT, A, Batches, Town, adopted, until, watched

NOW = datetime(2026, 6, 1, tzinfo=UTC)


# ------------------------------------------------------------------------------------------------------ how they fare


def test_what_is_watched_tells_how_each_mailbox_fares(town: Town) -> None:
    daemon = adopted(town)
    assert [each.label for each in daemon.watched()] == [A]
    go_on = Signal()
    town.trouble[A] = lambda: None if go_on.wait(WAIT) else pytest.fail("forgotten")
    daemon.start()
    began = town.now
    future = daemon.sweep_soon(ONE)
    until(lambda: A in town.inside)
    assert watched(daemon, ONE).running_since == watched(daemon, ONE).heard == began
    town.later(minutes=5)
    go_on.set()
    future.result(WAIT)
    found = watched(daemon, ONE)
    assert (found.running_since, found.heard, found.trouble, found.failures) == (None, None, None, 0)
    assert found.last_success == found.since == town.now
    until(lambda: daemon.last_tick == town.now)


def test_a_sweep_that_does_something_is_heard(town: Town) -> None:
    heard: list[bool] = []

    def listen(event: Event) -> None:
        if isinstance(event, EntriesRecorded):
            heard.append(watched(daemon, ONE).heard == town.now)

    daemon = adopted(town, monitors=[listen])
    batches = Batches(town)
    daemon.start()
    future = daemon.sweep_soon(ONE)
    assert batches.reached.wait(WAIT)
    heard.clear()
    town.later(minutes=5)
    assert watched(daemon, ONE).heard != town.now
    batches.go_on.set()
    future.result(WAIT)
    assert heard
    assert all(heard)


def stands(**others: Any) -> Watched:
    return Watched(mailbox=ONE, label="one", active=True, interval=timedelta(minutes=1), since=NOW, **others)


def test_a_mailbox_is_stuck_when_nothing_went_through_for_three_intervals_and_ten_minutes() -> None:
    minute = timedelta(minutes=1)
    assert not is_stuck(stands(), NOW + 10 * minute)
    assert is_stuck(stands(), NOW + 11 * minute)
    slow = attrs.evolve(stands(), interval=timedelta(hours=1))
    assert not is_stuck(slow, NOW + 180 * minute)
    assert is_stuck(slow, NOW + 181 * minute)
    assert not is_stuck(attrs.evolve(stands(), active=False), NOW + timedelta(days=9))


def test_a_sweep_is_stuck_when_nothing_was_heard_of_it_for_an_hour() -> None:
    long = NOW + timedelta(hours=9)
    assert not is_stuck(stands(running_since=NOW, heard=long - LONGEST_SILENCE), long)
    assert is_stuck(stands(running_since=NOW, heard=long - LONGEST_SILENCE - timedelta(seconds=1)), long)
    assert is_stuck(stands(running_since=NOW), long)


def test_a_mailbox_whose_attempts_fail_one_after_the_other_is_stuck_during_them_too() -> None:
    late = NOW + timedelta(minutes=11)
    assert is_stuck(stands(running_since=late, heard=late, failures=1), late)
    assert not is_stuck(stands(running_since=late, heard=late), late)


def test_a_loop_that_has_not_looked_around_for_a_minute_is_dead() -> None:
    assert not is_dead(None, NOW)
    assert not is_dead(NOW, NOW + timedelta(seconds=60))
    assert is_dead(NOW, NOW + timedelta(seconds=61))


# --------------------------------------------------------------------------------------------------------------- laws


def members(count: int, interval: int = 60) -> Mapping[MailboxId, Member]:
    return {
        MailboxId(str(number)): Member(
            mailbox=MailboxId(str(number)), label=str(number), options=MailboxOptions(poll_interval_seconds=interval)
        )
        for number in range(count)
    }


def ended(state: SweepState, now: datetime, trouble: Trouble | None = None) -> SweepReport:
    return SweepReport(mailbox=ONE, state=state, started=now, ended=now, trouble=trouble)


class Loop(RuleBasedStateMachine):
    """Some mailboxes, sweeps that begin and end in any order, people who ask, hold and change, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.seats = Seats()
        self.at_once = 1
        self.asked: list[Future[SweepReport]] = []
        self.answered: set[Future[SweepReport]] = set()

    @initialize(count=st.integers(1, 6), at_once=st.integers(1, 3))
    def opens(self, count: int, at_once: int) -> None:
        self.members, self.at_once = members(count), at_once
        self.seats.settle(self.members, self.now, at_start=True)

    def seat(self, number: int) -> Seat:
        seat = self.seats.get(MailboxId(str(number % len(self.members))))
        assert seat is not None
        return seat

    @rule(seconds=st.integers(0, 120))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def what_is_due_begins(self) -> None:
        for mailbox in self.seats.chosen(self.members, self.now, at_once=self.at_once):
            seat = self.seat(int(mailbox))
            assert seat.run is None
            assert not seat.held
            assert seat.due_at <= self.now
            seat.begin(self.now)
        lively = [run for run in self.seats.runs() if self.now - run.heard <= HANGING]
        assert len(lively) <= self.at_once + 1

    @rule(number=st.integers(0, 5), state=st.sampled_from(SweepState))
    def a_sweep_ends(self, number: int, state: SweepState) -> None:
        seat = self.seat(number)
        if seat.run is not None:
            seat.after(ended(state, self.now), None, self.now)
            assert seat.watch.due_at > self.now
            self.answered.update(seat.over(self.now, cut=False))

    @rule(number=st.integers(0, 5))
    def a_sweep_is_cut(self, number: int) -> None:
        seat = self.seat(number)
        if seat.run is not None:
            seat.after(ended(SweepState.PAUSED, self.now, STOPPED), None, self.now)
            assert seat.due_at <= self.now
            self.answered.update(seat.over(self.now, cut=True))

    @rule(number=st.integers(0, 5))
    def somebody_asks(self, number: int) -> None:
        self.asked.append(Future())
        seat = self.seat(number)
        seat.waiting.append(self.asked[-1])
        seat.ask(self.now)

    @rule(number=st.integers(0, 5), change=st.sampled_from([1, -1]))
    def somebody_holds_it_or_lets_it_go(self, number: int, change: int) -> None:
        seat = self.seat(number)
        seat.held = max(seat.held + change, 0)

    @rule(number=st.integers(0, 5))
    def it_is_changed(self, number: int) -> None:
        self.seat(number).renew(self.now)

    @invariant()
    def nobody_is_answered_who_did_not_ask(self) -> None:
        assert self.answered <= set(self.asked)

    def teardown(self) -> None:
        """Then comes calm: everybody is swept, and everybody who waits is answered."""
        if not hasattr(self, "members"):
            return
        every = [self.seat(int(mailbox)) for mailbox in self.members]
        for seat in every:
            seat.held = 0
        for _ in range(4 * len(every)):
            self.now += timedelta(seconds=300)
            for seat in every:
                if seat.run is not None:
                    seat.after(ended(SweepState.DONE, self.now), None, self.now)
                    self.answered.update(seat.over(self.now, cut=False))
            self.what_is_due_begins()
        assert self.answered == set(self.asked)
        assert all(seat.last_success is not None for seat in every)


TestLoop = Loop.TestCase


def test_hanging_sweeps_make_room_but_not_without_end() -> None:
    seats, every = Seats(), members(MOST_HANGING + 50)
    seats.settle(every, NOW)
    now = NOW
    for _ in range(MOST_HANGING):
        for name in seats.chosen(every, now, at_once=4):
            seat = seats.get(name)
            assert seat is not None
            seat.begin(now)
        now += HANGING + timedelta(seconds=1)
    assert len(seats.runs()) == MOST_HANGING + 4


def test_what_was_asked_of_a_sweep_that_is_cut_short_is_asked_of_the_next() -> None:
    seats = Seats()
    seats.settle(members(1), NOW)
    seat = seats.get(MailboxId("0"))
    assert seat is not None
    future: Future[SweepReport] = Future()
    seat.waiting.append(future)
    seat.again |= {Outcome.SKIPPED}
    for _ in range(2):
        run = seat.begin(NOW)
        assert (run.waiting, run.again) == ([future], frozenset({Outcome.SKIPPED}))
        assert (seat.waiting, seat.again) == ([], frozenset())
        assert seat.over(NOW, cut=True) == []
    seat.begin(NOW)
    assert seat.over(NOW, cut=False) == [future]
    assert (seat.waiting, seat.again) == ([], frozenset())


def test_a_sweep_for_which_no_thread_is_to_be_had_is_tried_later_and_forgets_nobody() -> None:
    seats = Seats()
    seats.settle(members(1), NOW)
    seat = seats.get(MailboxId("0"))
    assert seat is not None
    future: Future[SweepReport] = Future()
    seat.waiting.append(future)
    seat.begin(NOW)
    seat.not_begun(NOW)
    assert (seat.run, seat.waiting) == (None, [future])
    assert NOW < seat.due_at < NOW + timedelta(minutes=2)


def test_a_mailbox_whose_interval_becomes_shorter_is_not_waited_for_any_longer() -> None:
    seats = Seats()
    seats.settle(members(1, interval=86400), NOW)
    seat = seats.get(MailboxId("0"))
    assert seat is not None
    seat.after(ended(SweepState.DONE, NOW), None, NOW)
    assert seat.due_at >= NOW + timedelta(days=1)
    seats.settle(members(1, interval=60), NOW)
    assert seat.due_at == NOW + timedelta(minutes=1)


def test_a_refused_login_is_tried_rarely_unless_somebody_asks_or_something_was_changed() -> None:
    seats = Seats()
    seats.settle(members(1), NOW)
    seat = seats.get(MailboxId("0"))
    assert seat is not None
    refused = attrs.evolve(ended(SweepState.FAILED, NOW), trouble=LoginRefused("no").trouble())
    for minutes in (5, 10, 20, 40, 60, 60):
        seat.after(refused, None, NOW)
        assert timedelta(minutes=minutes) <= seat.due_at - NOW <= timedelta(minutes=minutes * 1.1)
    seat.ask(NOW)
    assert seat.due_at == NOW
    seat.begin(NOW)
    seat.after(refused, None, NOW)
    assert seat.due_at - NOW >= timedelta(hours=1)
    seat.renew(NOW)
    assert seat.due_at == NOW
    seat.begin(NOW)
    seat.after(refused, None, NOW)
    assert seat.due_at - NOW <= timedelta(minutes=5.5), "it begins anew"
