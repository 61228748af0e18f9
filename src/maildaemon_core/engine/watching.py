"""The loop of a service: due ─► lease ─► sweep ─► give back, and what people want in between.

One thread decides.  Every sweep has a thread of its own, and so has the look at what others have changed: whatever
hangs, the loop goes on.  None of these threads keeps the process from ending.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from threading import Condition, RLock, Thread
from threading import Event as Signal
from typing import Final, Protocol

from maildaemon_core.engine.catalog import UnknownMailbox
from maildaemon_core.engine.confining import trusted
from maildaemon_core.engine.roster import NotSwept, Roster
from maildaemon_core.engine.seats import Run, Seat, Seats, Waiting, is_of_store, was_stopped
from maildaemon_core.engine.targets import internal_trouble
from maildaemon_core.engine.watched import Watched
from maildaemon_core.errors import MaildaemonError, StoreUnavailable, Trouble
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import Event, SweepEnded, SweepReport, SweepState
from maildaemon_core.progress import Outcome
from maildaemon_core.schedule import SOON, wait_for_store

logger = logging.getLogger(__name__)

TICK = 5.0
"""The loop looks around after so many seconds at the latest: whether the clock was changed, and to show that it
lives."""

LOOK_EVERY: Final = timedelta(seconds=15)
"""So often the store is looked through for what other processes have changed."""

HALTED: Final = timedelta(seconds=30)
"""So long no sweep of a halted mailbox begins, unless it is said to be refreshed: time enough to remove it."""


class Turn(Protocol):
    """``Sweeping.turn``."""

    def __call__(
        self,
        mailbox: MailboxId,
        *,
        stopping: Callable[[], bool],
        due: Callable[[SweepReport, datetime | None], datetime],
        again: frozenset[Outcome] = frozenset(),
        asked: bool = False,
    ) -> SweepReport: ...


class Watching:
    """Sweeps the mailboxes of a roster, each by ``turn``.

    ``stopping`` is set by whoever stops everything; ``leave`` ends what is open to a mailbox between its sweeps.
    """

    def __init__(
        self,
        roster: Roster,
        turn: Turn,
        *,
        clock: Callable[[], datetime],
        stopping: Signal,
        leave: Callable[[MailboxId], None] = lambda mailbox: None,
    ) -> None:
        self._roster = roster
        self._turn = turn
        self._leave = leave
        self._clock = clock
        self._stopping = stopping
        self._changed = Condition(RLock())
        self._seats = Seats()
        self._at_once = 0
        self._loop: Thread | None = None
        self._last_tick: datetime | None = None
        self._looking = False
        self._look_at: datetime | None = None
        self._paused_until: datetime | None = None
        self._store_failures = 0
        self._refused: list[tuple[Waiting, MaildaemonError]] = []

    @property
    def last_tick(self) -> datetime | None:
        """When the loop last looked around; None if it was not started."""
        return self._last_tick

    # ------------------------------------------------------------------------------------------- start and stop

    def start(self, *, at_once: int) -> None:
        """Begins.  If the store cannot be used at present, it goes on when it can.  Raises RuntimeError if it began."""
        with self._changed:
            if self._loop is not None:
                raise RuntimeError("it was started already")
            self._at_once = at_once
            self._last_tick = self._clock()
            self._loop = Thread(target=self._run_loop, name="watching", daemon=True)
        self._look(self._roster.changed, at_start=True)
        self._loop.start()

    def stop(self) -> None:
        """No sweep begins any more; those that go on end their batch; who waits for one that has not begun is told."""
        self._stopping.set()
        with self._changed:
            waiting = self._seats.all_waiting()
            self._changed.notify_all()
        _fail(waiting, _stopped())

    def ended(self, deadline: float | None) -> bool:
        """Whether everything has ended within so many seconds.  Who still waits for a sweep is told that it was cut."""
        with self._changed:
            over = self._changed.wait_for(lambda: not self._looking and not self._seats.runs(), deadline)
            # Who waited for a sweep that was cut short in the very moment of stopping waits for one that never begins.
            cut = [*self._seats.all_cut(), *self._seats.all_waiting()]
        _fail(cut, _stopped())
        if over and self._loop is not None:
            self._loop.join(deadline)
        return over

    # ----------------------------------------------------------------------------------------- what people want

    def hear(self, event: Event) -> None:
        """A sweep does something."""
        mailbox = event.report.mailbox if isinstance(event, SweepEnded) else event.mailbox
        with self._changed:
            seat = self._seats.get(mailbox)
            if seat is not None and seat.run is not None:
                seat.run.heard = self._clock()

    def news(self, mailbox: MailboxId, seconds: float) -> None:
        """There is something new in the mailbox: it is swept after so many seconds."""
        with self._deciding():
            seat = self._seats.get(mailbox)
            if seat is not None:
                seat.ask(self._clock() + timedelta(seconds=seconds))

    def refreshed(self, mailbox: MailboxId) -> None:
        """The mailbox was made, changed or removed: from now on it is swept as it is now, at once, or not any more.

        Never raises: if the store cannot be asked just now, the next sweep asks it.
        """
        if self._loop is None:
            return
        try:
            self._refresh(mailbox)
        except StoreUnavailable:
            with self._changed:
                self._look_at = self._clock()
                self._changed.notify_all()

    def sweep_soon(self, mailbox: MailboxId, again: frozenset[Outcome]) -> Future[SweepReport]:
        """Sweeps now, or directly after the sweep that goes on; all who wait for the same one get the same report.

        Raises ``UnknownMailbox``, ``NotSwept``, ``StoreUnavailable``; the future raises them too.
        """
        if self._loop is None:
            raise NotSwept("nothing is swept: the daemon was not started", remedy="call start() first")
        member = self._roster.member(mailbox)
        if member is None or not member.is_due_here:
            member, _ = self._roster.current(mailbox)
        member.wanted()
        future: Future[SweepReport] = Future()
        with self._deciding():
            if self._stopping.is_set():
                raise _stopped()
            self._settle()
            seat = self._seats.get(mailbox)
            if seat is None:
                raise UnknownMailbox(f"mailbox {mailbox} was removed", remedy="create it again if it is still wanted")
            seat.waiting.append(future)
            seat.again |= again
            seat.ask(self._clock())
        return future

    @contextmanager
    def alone(self, mailbox: MailboxId, seconds: float) -> Iterator[None]:
        """In here no sweep of this process begins on the mailbox; one that goes on is asked to end its batch.

        It is waited for up to so many seconds.  Afterwards the mailbox is due.
        """
        with self._changed:
            seat = self._seats.get(mailbox)
            if seat is not None:
                seat.held += 1
                self._end(seat, seconds)
        try:
            yield
        finally:
            if seat is not None:
                with self._deciding():
                    seat.held -= 1
                    seat.ask(self._clock())

    def halt(self, mailbox: MailboxId, seconds: float) -> bool:
        """Whether no sweep goes on any more after so many seconds; for a while none begins."""
        self._stop_run(mailbox)
        self._leave(mailbox)
        with self._changed:
            seat = self._seats.get(mailbox)
            if seat is None:
                return True
            seat.halted_until = self._clock() + HALTED
            return self._end(seat, seconds)

    def watched(self) -> Sequence[Watched]:
        """Every mailbox of the roster, by label."""
        with self._changed:
            now = self._clock()
            found = [self._seats.watched(member, now) for member in self._roster.members().values()]
        return sorted(found, key=lambda each: (each.label, each.mailbox))

    # ------------------------------------------------------------------------------------------------- the loop

    def _run_loop(self) -> None:
        with trusted():
            while not self._stopping.is_set():
                try:
                    with self._changed:
                        wait = self._step()
                        if not self._stopping.is_set():
                            self._changed.wait(wait)
                except Exception:
                    logger.exception("the loop met what it should never meet; it goes on")
                    self._stopping.wait(1)

    def _step(self) -> float:
        """Begins what is due; answers for how many seconds there is nothing to be done."""
        now = self._clock()
        self._mind_the_clock(now)
        self._last_tick = now
        if self._paused_until is not None and now < self._paused_until:
            return _until([self._paused_until], now)
        if not self._looking and (self._paused_until is not None or self._look_at is None or self._look_at <= now):
            Thread(target=self._look, args=(self._refresh,), name="looking", daemon=True).start()
            self._looking = True  # it ends under the lock that is held here
        if self._paused_until is not None:  # the look will tell
            return TICK
        members = self._roster.members()
        for mailbox in self._seats.chosen(members, now, at_once=self._at_once):
            self._begin(mailbox, now)
        look = [self._look_at] if self._look_at is not None and self._look_at > now else []
        # What is due and cannot begin waits for something to end, and that wakes the loop.
        return _until([*self._seats.later(members, now), *look], now)

    def _begin(self, mailbox: MailboxId, now: datetime) -> None:
        seat = self._seats.get(mailbox)
        assert seat is not None
        run = seat.begin(now)
        try:
            Thread(target=self._sweep, args=(mailbox, seat, run), name="sweep", daemon=True).start()
        except RuntimeError:  # no more threads are to be had
            seat.not_begun(now)
            raise

    def _sweep(self, mailbox: MailboxId, seat: Seat, run: Run) -> None:
        def after(report: SweepReport, until: datetime | None) -> datetime:
            with self._changed:
                return seat.after(report, until, self._clock())

        def stopping() -> bool:
            return run.stop.is_set() or self._stopping.is_set()

        try:
            with trusted():
                report = self._turn(mailbox, stopping=stopping, due=after, again=run.again, asked=run.asked)
        except StoreUnavailable as error:
            after(_failed(mailbox, run.began, self._clock(), error.trouble()), None)
            self._over(seat, answer=partial(_fail, error=error), of_store=True)
        except (NotSwept, UnknownMailbox) as error:
            self._over(seat, answer=partial(_fail, error=error))
        except BaseException as error:  # even a plug-in's SystemExit ends no more than this sweep
            logger.error("the sweep of mailbox %s failed unexpectedly", mailbox, exc_info=error)
            trouble = error.trouble() if isinstance(error, MaildaemonError) else internal_trouble("the sweep", error)
            report = _failed(mailbox, run.began, self._clock(), trouble)
            after(report, None)
            self._over(seat, answer=partial(_answer, report=report))
        else:
            self._over(
                seat,
                answer=partial(_answer, report=report),
                cut=was_stopped(report) and not self._stopping.is_set(),
                of_store=is_of_store(report),
            )

    def _over(
        self,
        seat: Seat,
        *,
        answer: Callable[[Sequence[Future[SweepReport]]], None],
        cut: bool = False,
        of_store: bool = False,
    ) -> None:
        with self._deciding():
            now = self._clock()
            waiting = seat.over(now, cut=cut)
            if of_store:
                self._pause(now)
            elif not cut:
                self._store_failures = 0
        answer(waiting)

    # -------------------------------------------------------------------------------------- what others change

    def _refresh(self, mailbox: MailboxId) -> None:
        self._stop_run(mailbox)
        self._leave(mailbox)
        with suppress(UnknownMailbox):  # it is no member any more
            self._roster.changed(mailbox)
        with self._deciding():
            self._settle()
            seat = self._seats.get(mailbox)
            if seat is not None:
                seat.renew(self._clock())

    def _stop_run(self, mailbox: MailboxId) -> None:
        """Whichever options it has: one that begins later reads what there is now.

        Before ``leave``: a sweep that was not stopped may wait for news in the very moment after it.
        """
        with self._changed:
            seat = self._seats.get(mailbox)
            if seat is not None and seat.run is not None:
                seat.run.stop.set()

    def _look(self, take_up: Callable[[MailboxId], object], *, at_start: bool = False) -> None:
        """Takes up what others have changed in the store; whether it can be used shows by the way."""
        works = True
        try:
            with trusted():
                for mailbox in self._roster.differing():
                    self._take_up(take_up, mailbox)
        except StoreUnavailable as error:
            works = False
            logger.warning("the store cannot be used: %s", error)
        except Exception:
            logger.exception("what others have changed could not be taken up")
        with self._deciding():
            now = self._clock()
            self._settle(at_start=at_start)
            self._looking, self._look_at = False, now + LOOK_EVERY
            if works:
                self._paused_until = None
            else:
                self._pause(now)

    def _take_up(self, take_up: Callable[[MailboxId], object], mailbox: MailboxId) -> None:
        try:
            take_up(mailbox)
        except UnknownMailbox:  # removed in this moment
            pass
        except StoreUnavailable:
            raise
        except Exception:  # the others are taken up all the same (law 9)
            logger.exception("what has become of mailbox %s could not be taken up", mailbox)

    # ---------------------------------------------------------------------------------------------------- parts

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        """The state is changed in here; afterwards the loop looks at it, and who waits for nothing is told."""
        refused: list[tuple[Waiting, MaildaemonError]] = []
        try:
            with self._changed:
                try:
                    yield
                    self._settle()
                finally:
                    refused, self._refused = self._refused, []
                    self._changed.notify_all()
        finally:
            for waiting, error in refused:  # not under the lock: who hears of it may do anything
                _fail(waiting, error)

    def _settle(self, *, at_start: bool = False) -> None:
        self._refused += self._seats.settle(self._roster.members(), self._clock(), at_start=at_start)

    def _end(self, seat: Seat, seconds: float) -> bool:
        """Asks the sweep that goes on to end its batch; whether it has within so many seconds."""
        run = seat.run
        if run is None:
            return True
        run.stop.set()
        return self._changed.wait_for(lambda: seat.run is not run, seconds)

    def _pause(self, now: datetime) -> None:
        """The store is away: nothing begins until it was asked again."""
        if self._paused_until is None or self._paused_until <= now:
            self._store_failures += 1
            self._paused_until = now + wait_for_store(self._store_failures)

    def _mind_the_clock(self, now: datetime) -> None:
        by = (self._last_tick or now) - now
        if by > SOON:
            logger.warning("the clock was put back by %s", by)
            self._seats.put_back(by, now)
            self._look_at, self._paused_until = now, self._paused_until and now


def _until(times: Sequence[datetime], now: datetime) -> float:
    wait = min(((at - now).total_seconds() for at in times), default=TICK)
    return min(max(wait, 0.001), TICK)


def _failed(mailbox: MailboxId, started: datetime, ended: datetime, trouble: Trouble) -> SweepReport:
    return SweepReport(mailbox=mailbox, state=SweepState.FAILED, started=started, ended=ended, trouble=trouble)


def _stopped() -> NotSwept:
    return NotSwept("the service is stopping", remedy="ask again when it runs again; nothing is lost")


def _answer(futures: Sequence[Future[SweepReport]], report: SweepReport) -> None:
    for future in futures:
        if future.set_running_or_notify_cancel():
            future.set_result(report)


def _fail(futures: Sequence[Future[SweepReport]], error: Exception) -> None:
    for future in futures:
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
