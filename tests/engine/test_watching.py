"""The loop of the service: each mailbox at its interval, nobody in another's way, and an end when it is stopped."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from datetime import datetime, timedelta
from threading import Event as Signal
from threading import current_thread
from typing import Any

import pytest

from maildaemon_core.engine.roster import NotSwept, Roster
from maildaemon_core.engine.seats import HANGING
from maildaemon_core.engine.sweep import STOPPED, Bounds
from maildaemon_core.engine.watching import Watching
from maildaemon_core.errors import LoginRefused, StoreUnavailable
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import SweepReport, SweepState
from maildaemon_core.store_port import Configuration
from tests.engine.story import mail
from tests.engine.town import (
    ONE,
    TWO,
    WAIT,
    A,
    B,
    Batches,
    Town,
    adopted,
    document,
    options,
    quiet,
    still,
    until,
    watched,
)

# ------------------------------------------------------------------------------------------------------ at its interval


def test_each_mailbox_is_swept_at_its_interval_and_not_before(town: Town) -> None:
    daemon = adopted(town)
    daemon.adopt(TWO, options(B, poll_interval_seconds=600))
    town.server(A).plant(mail("invoice"))
    daemon.start()
    town.later(seconds=10)
    until(lambda: town.ended(ONE) and town.ended(TWO))
    quiet(daemon)
    assert list(town.place().visible) == [f"{A}/invoice.eml"]
    town.later(seconds=59)
    still(town)
    assert (town.begun(ONE), town.begun(TWO)) == (1, 1)
    town.later(seconds=8)
    until(lambda: len(town.ended(ONE)) == 2)
    assert town.begun(TWO) == 1
    until(lambda: town.store.holder(ONE) is None)
    (info, _) = daemon.infos()
    assert info.next_due is not None
    assert timedelta(seconds=60) <= info.next_due - town.now <= timedelta(seconds=66)


def test_an_inactive_mailbox_is_not_swept(town: Town) -> None:
    daemon = adopted(town)
    daemon.adopt(TWO, options(B, active=False))
    daemon.start()
    town.later(seconds=10)
    until(lambda: town.ended(ONE))
    still(town)
    assert not town.begun(TWO)
    assert not watched(daemon, TWO).active
    assert watched(daemon, TWO).next_due is None
    with pytest.raises(NotSwept, match="is not active") as caught:
        daemon.sweep_soon(TWO)
    assert caught.value.remedy == "set active to true"


def test_a_mailbox_that_is_adopted_while_the_loop_runs_is_swept_at_once(town: Town) -> None:
    daemon = town.daemon()
    daemon.start()
    daemon.adopt(ONE, options(A))
    until(lambda: town.ended(ONE))
    daemon.adopt(ONE, options(A, name="office"))
    until(lambda: len(town.ended(ONE)) == 2)
    assert [each.label for each in daemon.watched()] == ["office"]


def test_of_fifty_mailboxes_one_that_hangs_and_some_that_raise_harm_no_other(town: Town) -> None:
    def leave() -> None:
        raise SystemExit(3)

    def refuse() -> None:
        raise LoginRefused("no", remedy="correct it")

    def divide() -> None:
        raise ZeroDivisionError

    daemon = town.daemon()
    names = [f"{number}@our.example" for number in range(50)]
    for number, name in enumerate(names):
        daemon.adopt(MailboxId(str(number)), options(name))
        town.server(name).plant(mail("first"))
    town.trouble = {names[0]: town.hang, names[1]: leave, names[2]: refuse, names[3]: divide}
    daemon.start()
    town.later(seconds=10)
    good = [MailboxId(str(number)) for number in range(4, 50)]
    for times in range(1, 4):
        until(lambda times=times: all(len(town.ended(each)) == times for each in good))  # type: ignore[misc]
        until(lambda: sum(each.running_since is not None for each in daemon.watched()) == 1)
        assert all(town.ended(each)[-1].well for each in good)
        town.later(seconds=67)
    assert sorted(town.place().visible) == sorted(f"{name}/first.eml" for name in names[4:])
    assert town.most <= 4
    assert not town.twice
    assert watched(daemon, MailboxId("0")).running_since is not None
    for number, error in ((1, "InternalError"), (2, "LoginRefused"), (3, "InternalError")):
        found = watched(daemon, MailboxId(str(number)))
        assert found.trouble is not None
        assert found.trouble.error == error
        assert found.failures >= 1
        assert found.last_success is None


def test_as_many_hanging_mailboxes_as_are_swept_at_once_hold_the_others_up_only_for_a_while(town: Town) -> None:
    daemon = town.daemon()
    for number in range(3):
        name = f"{number}@our.example"
        daemon.adopt(MailboxId(name), options(name))
        if number < 2:
            town.trouble[name] = town.hang
    daemon.start(at_once=2)
    daemon.halt(MailboxId("2@our.example"), seconds=0)  # the two are to come first
    town.later(seconds=10)
    until(lambda: len(town.inside) == 2)
    town.later(seconds=40)
    still(town)
    assert not town.begun(MailboxId("2@our.example"))
    town.later(seconds=HANGING.total_seconds())
    until(lambda: town.ended(MailboxId("2@our.example")))


def test_a_plug_in_that_ends_its_thread_keeps_the_mailbox_from_nobody(town: Town) -> None:
    def leave() -> None:
        raise SystemExit(3)

    daemon = adopted(town)
    town.trouble[A] = leave
    daemon.start()
    assert daemon.sweep_soon(ONE).result(WAIT).state is SweepState.FAILED
    del town.trouble[A]
    assert daemon.sweep_soon(ONE).result(WAIT).well, "its lease is taken over at once"


def test_a_mailbox_that_fails_waits_longer_each_time_and_comes_back_when_it_works(town: Town) -> None:
    daemon = adopted(town)
    town.server(A).down = True
    daemon.start()
    waits = []
    for failures in range(1, 5):
        assert daemon.sweep_soon(ONE).result(WAIT).state is SweepState.FAILED
        found = watched(daemon, ONE)
        assert found.next_due is not None
        assert found.failures == failures
        waits.append(found.next_due - town.now)
    assert waits == sorted(waits)
    assert waits[-1] > timedelta(minutes=8)
    town.server(A).down = False
    daemon.sweep_soon(ONE).result(WAIT)
    found = watched(daemon, ONE)
    assert (found.failures, found.trouble, found.last_success) == (0, None, town.now)


def test_a_mail_that_fails_does_not_keep_new_mail_waiting(town: Town) -> None:
    daemon = adopted(town)
    town.server(A).plant(mail("bad"))
    town.server(A).unreadable.add(mail("bad"))
    daemon.start()
    assert daemon.sweep_soon(ONE).result(WAIT).counts.failed == 1
    found = watched(daemon, ONE)
    assert found.failures == 0
    assert found.next_due is not None
    assert found.next_due <= town.now + timedelta(seconds=66)


def test_while_another_process_has_the_mailbox_that_is_no_failure(town: Town) -> None:
    daemon = adopted(town)
    lease = town.store.lease(ONE, 30, owner="farhost pid 7 boot/ns 99 abcd")
    assert lease is not None
    daemon.start()
    report = daemon.sweep_soon(ONE).result(WAIT)
    assert report.state is SweepState.BUSY
    found = watched(daemon, ONE)
    assert (found.failures, found.next_due) == (0, town.now + timedelta(seconds=30)), "when its lease ends"
    assert found.trouble is not None
    assert "farhost pid 7" in found.trouble.message
    town.later(seconds=31)
    until(lambda: town.ended(ONE))


def test_a_loop_that_meets_an_error_of_its_own_goes_on(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    broken = Signal()

    def clock() -> datetime:
        if broken.is_set():
            broken.clear()
            raise OSError("no clock")
        return town.now

    daemon = adopted(town, clock=clock)
    daemon.start()
    town.later(seconds=10)
    until(lambda: watched(daemon, ONE).last_success)
    broken.set()
    until(lambda: not broken.is_set())
    town.later(seconds=67)
    until(lambda: len(town.ended(ONE)) == 2)
    assert "no clock" in caplog.text


def test_a_clock_that_is_put_back_lets_nobody_wait_for_that(town: Town) -> None:
    daemon = adopted(town)
    daemon.start()
    daemon.sweep_soon(ONE).result(WAIT)
    town.later(hours=-5)
    until(lambda: (watched(daemon, ONE).next_due or town.now) <= town.now + timedelta(seconds=66))
    town.later(seconds=67)
    until(lambda: len(town.ended(ONE)) == 2)


# --------------------------------------------------------------------------------------------------- the store is away


def test_while_the_store_is_away_all_wait_and_then_go_on_by_themselves(town: Town) -> None:
    daemon = adopted(town)
    daemon.adopt(TWO, options(B))
    away = Signal()

    def refuse(place: str) -> None:
        if away.is_set() and place.startswith("store."):
            raise StoreUnavailable("the store is away")

    right = town.store.configurations

    def configurations() -> Any:
        refuse("store.configurations")
        return right()

    town.store.configurations = configurations  # type: ignore[method-assign]
    town.fuse.hook = refuse
    daemon.start()
    town.later(seconds=10)
    until(lambda: watched(daemon, ONE).last_success and watched(daemon, TWO).last_success)
    quiet(daemon)
    away.set()
    future = daemon.sweep_soon(ONE)
    with pytest.raises(StoreUnavailable):
        future.result(WAIT)
    opened = len(town.opened)
    for _ in range(20):
        town.later(seconds=10)
        still(town, 0.02)
    assert len(town.opened) == opened, "nobody connects for nothing"
    away.clear()
    town.passing(lambda: len(town.ended(ONE)) == 2 and len(town.ended(TWO)) == 2)
    quiet(daemon)
    assert watched(daemon, ONE).failures == 0
    away.set()  # the next time begins from the beginning
    with pytest.raises(StoreUnavailable):
        daemon.sweep_soon(ONE).result(WAIT)
    away.clear()
    swept = len(town.ended(ONE))
    town.later(seconds=3)
    until(lambda: len(town.ended(ONE)) > swept)


def test_a_store_that_is_away_at_the_start_is_waited_for(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = adopted(town)
    catalog = town.catalog(daemon)
    two = catalog.create(document(B), by="admin").configuration.id
    away = Signal()
    away.set()
    right = town.store.configurations

    def configurations() -> Any:
        if away.is_set():
            raise StoreUnavailable("the store is away")
        return right()

    monkeypatch.setattr(town.store, "configurations", configurations)
    daemon.start(catalog)
    still(town, 0.05)
    assert not town.told
    away.clear()
    town.later(seconds=10)
    until(lambda: town.ended(ONE) and town.ended(two))


def test_a_sweep_that_the_store_cuts_short_comes_again_soon_and_harms_nobody(town: Town) -> None:
    daemon = adopted(town)
    daemon.adopt(TWO, options(B))
    town.server(A).plant(mail("invoice"))
    town.fuse.arm(0, place="store.record", error=lambda _: StoreUnavailable("the store is away"))
    daemon.start()
    town.later(seconds=10)
    until(lambda: not town.fuse.armed)
    until(lambda: watched(daemon, ONE).running_since is None)
    assert watched(daemon, ONE).failures == 1
    town.passing(lambda: list(town.place().visible) == [f"{A}/invoice.eml"])
    until(lambda: town.ended(TWO))


# ------------------------------------------------------------------------------------------------------------ stopping


def test_a_halted_sweep_ends_its_batch_and_no_other_begins_for_a_while(town: Town) -> None:
    daemon = adopted(town, bounds=Bounds(mails=2))
    batches = Batches(town)
    daemon.start()
    town.later(seconds=10)
    assert batches.reached.wait(WAIT)
    assert not daemon.halt(ONE, seconds=0.01)
    batches.go_on.set()
    assert daemon.halt(ONE, seconds=WAIT)
    assert daemon.halt(TWO, seconds=0)
    assert town.ended(ONE)[-1].trouble == STOPPED
    assert len(town.place().published) < 10
    still(town)
    assert town.begun(ONE) == 1
    town.later(seconds=31)
    until(lambda: len(town.place().published) == 10)


def test_stopping_lets_running_sweeps_end_their_batch_and_begins_no_other(town: Town) -> None:
    daemon = adopted(town, bounds=Bounds(mails=2))
    batches = Batches(town)
    daemon.start()
    going_on = daemon.sweep_soon(ONE)
    assert batches.reached.wait(WAIT)
    waiting = daemon.sweep_soon(ONE)
    daemon.stop()
    with pytest.raises(NotSwept, match="is stopping"):
        waiting.result(WAIT)
    batches.go_on.set()
    assert daemon.close(WAIT)
    assert going_on.result(0).trouble == STOPPED
    assert len(town.place().published) in {2, 4}
    assert town.store.holder(ONE) is None
    town.later(hours=1)
    still(town)
    assert town.begun(ONE) == 1


def test_closing_waits_no_longer_than_the_deadline_and_what_is_cut_writes_nothing_more(town: Town) -> None:
    daemon = adopted(town)
    town.server(A).plant(mail("invoice"))
    reached, go_on = Signal(), Signal()

    def hook(place: str) -> None:
        if place == "destination.staged":
            reached.set()
            assert go_on.wait(WAIT)

    town.fuse.hook = hook
    daemon.start()
    future = daemon.sweep_soon(ONE)
    assert reached.wait(WAIT)
    before = time.monotonic()
    assert not daemon.close(0.2)
    assert time.monotonic() - before < 5
    with pytest.raises(NotSwept, match="is stopping"):
        future.result(WAIT)
    assert town.store.holder(ONE) is not None, "its lease ends by itself"
    entries = town.store.all()
    town.fuse.hook = None
    go_on.set()
    assert daemon.close(WAIT), "it has ended in the end"
    assert town.store.all() == entries
    assert not town.place().published
    town.later(seconds=61)
    another = adopted(town)
    assert another.sweep_once(ONE).well
    assert [path for path, _ in town.place().published] == [f"{A}/invoice.eml"]


def test_a_process_with_a_hanging_sweep_ends_all_the_same() -> None:
    program = """
        import sys, time
        from tests.engine.town import Town, options, until
        from maildaemon_core.message import MailboxId
        town = Town()
        town.trouble["a@our.example"] = lambda: time.sleep(60)
        daemon = town.daemon()
        daemon.adopt(MailboxId("one"), options("a@our.example"))
        daemon.start()
        daemon.sweep_soon(MailboxId("one"))
        until(lambda: town.inside)
        assert not daemon.close(0.2)
        print("closed")
    """
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True, timeout=50
    )
    assert (done.stdout, done.stderr) == ("closed\n", "")
    assert time.monotonic() - before < 40


def test_closing_twice_or_without_having_started_is_fine(town: Town) -> None:
    with town.daemon() as daemon:
        daemon.adopt(ONE, options(A))
    assert daemon.close(0)
    assert daemon.last_tick is None


def test_a_sweep_that_is_cut_in_the_very_moment_of_stopping_leaves_nobody_waiting(town: Town) -> None:
    class InThisMoment(Signal):
        """It is set right after the sweep has seen that it is not."""

        def is_set(self) -> bool:
            was_set = super().is_set()
            if current_thread().name == "sweep":
                watching.stop()
            return was_set

    def cut(mailbox: MailboxId, **_: object) -> SweepReport:
        return SweepReport(mailbox=mailbox, state=SweepState.PAUSED, started=town.now, ended=town.now, trouble=STOPPED)

    roster = Roster(town.store, lambda _: ())
    roster.adopt(town.store.save(Configuration(id=ONE, name=A, document={})), options(A))
    watching = Watching(roster, cut, clock=lambda: town.now, stopping=InThisMoment())
    watching.start(at_once=1)
    future = watching.sweep_soon(ONE, frozenset())
    assert watching.ended(WAIT)
    with pytest.raises(NotSwept, match="stopping"):
        future.result(WAIT)
