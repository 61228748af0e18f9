"""Sessions that wait for news: new mail is swept at once, nobody hears twice, and what waits is in nobody's way."""

from __future__ import annotations

import select
import socket
import time
from datetime import timedelta
from threading import Thread
from threading import enumerate as threads

import pytest

from maildaemon_core.engine import sessions
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, Registry
from maildaemon_core.errors import DestinationUnavailable, LeaseLost, SourceUnavailable, StoreUnavailable
from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.monitoring import EntryQuery, SweepState
from maildaemon_core.options import DestinationOptions
from maildaemon_core.ports import Armed, Destination, Kind, MailSource, Spool
from maildaemon_core.progress import Outcome
from maildaemon_core.testing.memory_store import MemoryStore
from tests.engine.story import mail
from tests.engine.town import (
    FACTS,
    ONE,
    TWO,
    WAIT,
    A,
    B,
    Settings,
    Town,
    TownSource,
    adopted,
    document,
    options,
    quiet,
    still,
    until,
    watched,
)

HOUR = 3600


def waits(daemon: MailDaemon, mailbox: MailboxId = ONE) -> bool:
    return watched(daemon, mailbox).waiting


def having(town: Town, **others: object) -> MailDaemon:
    """A daemon that has adopted one mailbox, which is swept once an hour."""
    daemon = town.daemon()
    daemon.adopt(ONE, options(A, **{"poll_interval_seconds": HOUR, **others}))
    return daemon


def waiting(town: Town, **others: object) -> MailDaemon:
    """A daemon whose mailbox waits for news, and is swept once an hour."""
    town.told_by(A)
    daemon = having(town, **others)
    daemon.start()
    town.passing(lambda: waits(daemon))
    return daemon


def stored(town: Town) -> int:
    return len(town.place().visible)


def test_new_mail_is_stored_at_once_though_the_mailbox_is_swept_once_an_hour(town: Town) -> None:
    waiting(town)
    began = town.now
    for number in range(1, 4):
        town.server(A).plant(mail(str(number)))
        town.passing(lambda: stored(town) == number)  # noqa: B023  (it is over within this turn)
    assert town.now - began < timedelta(seconds=HOUR)
    assert town.server(A).opened == 1, "it is one session all the time"


def test_without_idle_a_session_ends_with_its_sweep(town: Town) -> None:
    town.told_by(A)
    daemon = having(town, idle=False)
    daemon.start()
    town.passing(lambda: len(town.ended(ONE)) == 1)
    until(lambda: not town.inside)
    assert not waits(daemon)


def test_a_server_that_cannot_tell_is_left_after_the_sweep(town: Town) -> None:
    daemon = having(town)
    daemon.start()
    town.passing(lambda: len(town.ended(ONE)) == 1)
    until(lambda: not town.inside)
    assert not waits(daemon)


def test_one_sweep_alone_waits_for_nothing(town: Town) -> None:
    town.told_by(A)
    daemon = adopted(town)
    assert daemon.sweep_once(ONE).state is SweepState.DONE
    assert not town.inside
    assert not waits(daemon)


def test_a_mailbox_that_waits_is_swept_at_its_interval_all_the_same(town: Town) -> None:
    waiting(town)
    town.server(A).tells = False
    town.server(A).lines.clear()  # the line still stands, and says nothing any more
    town.server(A).plant(mail("unheard"))
    town.later(seconds=HOUR + HOUR // 10)
    until(lambda: stored(town) == 1)


def test_many_that_wait_cost_one_thread(town: Town) -> None:
    daemon = town.daemon()
    names = [f"{number}@our.example" for number in range(40)]
    town.told_by(*names)
    for name in names:
        daemon.adopt(MailboxId(name), options(name, poll_interval_seconds=HOUR))
    daemon.start()
    town.passing(lambda: all(each.waiting for each in daemon.watched()))
    until(lambda: not any(thread.name in {"sweep", "heartbeat"} for thread in threads()))
    assert sum(thread.name == "waiting" for thread in threads()) == 1
    for name in names:
        town.server(name).plant(mail("invoice"))
    town.passing(lambda: stored(town) == len(names))


def test_an_ended_session_is_made_anew_by_the_next_sweep_and_not_at_once_again_and_again(town: Town) -> None:
    daemon = waiting(town)
    before = len(town.ended(ONE))
    town.server(A).hang_up()
    until(lambda: not waits(daemon))
    town.later(minutes=5)
    assert len(town.ended(ONE)) == before
    town.server(A).plant(mail("invoice"))
    town.later(seconds=HOUR + HOUR // 10)
    until(lambda: stored(town) == 1)
    assert all(report.state is SweepState.DONE for report in town.ended(ONE)), "nobody is troubled by it"
    town.passing(lambda: waits(daemon))
    assert town.server(A).opened == 2


def test_a_session_that_ended_after_a_while_is_made_anew_at_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SHORTEST_WAIT", 0.0)
    daemon = waiting(town)
    town.server(A).hang_up()
    town.passing(lambda: town.server(A).opened == 2 and waits(daemon))


def test_a_session_that_ends_in_the_moment_when_it_is_taken_up_is_no_failure(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = waiting(town)

    def ended(_: object) -> None:
        raise SourceUnavailable("it ended just now")

    monkeypatch.setattr(sessions.WaitingSession, "wakeable", property(lambda _: type("Gone", (), {"disarm": ended})()))
    assert daemon.sweep_soon(ONE).result(WAIT).state is SweepState.DONE
    assert town.server(A).opened == 2


def test_another_process_leaves_a_mailbox_alone_that_waits(town: Town) -> None:
    waiting(town)
    other = having(town)
    other.start()
    town.passing(lambda: watched(other, ONE).trouble)
    trouble = watched(other, ONE).trouble
    assert trouble is not None
    assert "watched by" in trouble.message
    assert "nothing to do" in trouble.remedy
    assert town.server(A).opened == 1
    assert not town.twice


def test_a_sweep_that_a_person_asks_another_service_for_is_done_there_and_one_of_them_waits(
    town: Town,
) -> None:
    town.server(A).plant(mail("unwanted"))
    daemon = waiting(town, allowed_email_extensions=(".nowhere",))
    other = having(town)
    other.start()
    report = other.sweep_soon(ONE, again=frozenset({Outcome.SKIPPED})).result(WAIT)
    assert report.state is SweepState.DONE
    assert stored(town) == 1
    town.passing(lambda: waits(other))
    town.server(A).plant(mail("invoice"))
    town.passing(lambda: stored(town) == 2)
    town.passing(lambda: waits(daemon) != waits(other))


def test_what_a_person_asks_of_another_process_is_done_though_this_one_waits(town: Town) -> None:
    town.server(A).unreadable.add(mail("broken"))
    town.server(A).plant(mail("broken"))
    daemon = waiting(town)
    other = adopted(town)
    assert other.retry_failed(ONE) == 1
    town.server(A).unreadable.clear()
    assert other.sweep_once(ONE).counts.stored == 1
    town.server(A).plant(mail("invoice"))
    town.passing(lambda: stored(town) == 2)
    town.passing(lambda: waits(daemon))


def test_a_mail_is_tried_again_by_hand_while_its_mailbox_waits(town: Town) -> None:
    town.server(A).unreadable.add(mail("broken"))
    town.server(A).plant(mail("broken"))
    daemon = waiting(town)
    (failed,) = daemon.entries(EntryQuery(outcome=Outcome.FAILED)).entries
    town.server(A).unreadable.clear()
    assert failed.id is not None
    daemon.retry(failed.id)
    town.passing(lambda: stored(town) == 1)
    town.passing(lambda: waits(daemon))


def test_a_removed_mailbox_waits_no_longer(town: Town) -> None:
    town.told_by(A)
    daemon = town.daemon()
    catalog = town.catalog(daemon)
    kept = catalog.create(document(A, pollIntervalSeconds=HOUR), by="test")
    daemon.start(catalog)
    mailbox = kept.configuration.id
    town.passing(lambda: waits(daemon, mailbox))
    assert daemon.halt(mailbox, seconds=WAIT)
    catalog.remove(mailbox)
    daemon.refreshed(mailbox)
    until(lambda: not town.inside)
    assert town.store.holder(mailbox) is None


def test_changed_options_take_effect_in_a_session_of_their_own(town: Town) -> None:
    daemon = waiting(town)
    daemon.adopt(ONE, options(A, poll_interval_seconds=HOUR, allowed_email_extensions=(".nowhere",)))
    town.passing(lambda: town.server(A).opened == 2 and waits(daemon))
    town.server(A).plant(mail("unwanted"))
    town.passing(lambda: any(report.counts.skipped for report in town.ended(ONE)))
    assert stored(town) == 0


def test_who_stops_leaves_no_lease_and_no_session_behind(town: Town) -> None:
    daemon = waiting(town)
    store: MemoryStore = town.store
    assert store.holder(ONE) is not None
    daemon.close(WAIT)
    assert store.holder(ONE) is None
    assert not town.inside


def test_who_waits_makes_room_for_who_has_work_to_do(town: Town) -> None:
    town.told_by(A, B)
    daemon = town.daemon()
    for mailbox, name in ((ONE, A), (TWO, B)):
        daemon.adopt(mailbox, options(name, host="mail.example", poll_interval_seconds=HOUR))
    daemon.start(at_once=1, connections_per_host=1)
    town.passing(lambda: town.ended(ONE) and town.ended(TWO))
    town.passing(lambda: sum(each.waiting for each in daemon.watched()) == 1)
    assert town.most == 1
    for name in (A, B):
        town.server(name).plant(mail("invoice"))
    town.later(seconds=HOUR + HOUR // 10)
    town.passing(lambda: stored(town) == 2)
    assert town.most == 1


def test_nobody_waits_without_end_for_a_connection_to_a_host_that_is_in_full_use(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "TURN_SECONDS", 0.05)
    daemon = town.daemon()
    for mailbox, name in ((ONE, A), (TWO, B)):
        daemon.adopt(mailbox, options(name, host="mail.example", poll_interval_seconds=HOUR))
    town.trouble[A] = town.hang
    daemon.start(connections_per_host=1)
    daemon.sweep_soon(ONE)
    until(lambda: A in town.inside)
    report = daemon.sweep_soon(TWO).result(WAIT)
    assert report.trouble is not None
    assert report.trouble.message == "1 connections to mail.example are open, and more are not allowed"


def test_a_lease_that_was_lost_while_waiting_is_no_harm(town: Town) -> None:
    daemon = waiting(town)
    holder = town.store.holder(ONE)
    assert holder is not None
    thief = town.store.lease(ONE, 60, owner="somebody", over=holder)
    assert thief is not None
    town.server(A).plant(mail("invoice"))
    town.passing(lambda: any(report.state is SweepState.BUSY for report in town.ended(ONE)) or not waits(daemon))
    with pytest.raises(LeaseLost):
        daemon.retry_failed(ONE)
    thief.give_back()
    town.passing(lambda: stored(town) == 1)


@pytest.mark.parametrize("halted", [True, False])
def test_a_mailbox_that_is_removed_in_the_moment_before_it_waits_does_not_wait(town: Town, halted: bool) -> None:
    town.told_by(A)
    daemon = town.daemon()
    catalog = town.catalog(daemon)
    kept = catalog.create(document(A, pollIntervalSeconds=HOUR), by="test")
    mailbox = kept.configuration.id

    def removed(place: str) -> None:
        if place == "source.arm":
            town.fuse.hook = None
            if halted:
                assert not daemon.halt(mailbox, seconds=0)
            else:
                catalog.remove(mailbox)
                daemon.refreshed(mailbox)

    town.fuse.hook = removed
    daemon.start(catalog)
    town.passing(lambda: town.ended(mailbox))
    until(lambda: town.fuse.hook is None and not town.inside)
    assert town.store.holder(mailbox) is None
    assert not daemon._sessions.waiting()


class _Odd(TownSource):
    """A plug-in that does something which no source should do when it waits."""

    def __init__(self, town: Town, spool: Spool, does: str) -> None:
        super().__init__(town, A, spool)
        self._does = does

    def arm(self, folder: FolderRef) -> Armed | None:
        if self._does == "arm":
            raise ZeroDivisionError
        found = super().arm(folder)
        assert found is not None
        return Armed(descriptor=-1, seconds=1740) if self._does == "descriptor" else found

    def drain(self) -> bool:
        if self._does == "drain":
            raise ZeroDivisionError
        return super().drain()

    def disarm(self) -> None:
        super().disarm()
        if self._does == "disarm":
            raise ZeroDivisionError


@pytest.mark.parametrize("does", ["arm", "descriptor", "drain", "disarm"])
def test_a_source_that_fails_at_waiting_is_polled_and_nothing_of_it_stays_behind(town: Town, does: str) -> None:
    town.told_by(A)
    sources: Registry[MailSource] = Registry(
        SOURCES,
        entries=(),
        memory=Kind(settings=Settings, open=lambda _, __, spool: _Odd(town, spool, does), facts=FACTS),
    )
    daemon = town.daemon(sources=sources)
    daemon.adopt(ONE, options(A, host="mail.example", poll_interval_seconds=HOUR))
    daemon.start(connections_per_host=1)
    for number in range(1, 4):
        town.server(A).plant(mail(str(number)))
        town.later(seconds=2 * HOUR)
        until(lambda: stored(town) == number)  # noqa: B023  (it is over within this turn)
        quiet(daemon)
    assert all(report.state is SweepState.DONE for report in town.ended(ONE))
    assert not town.twice
    assert sum(daemon._sessions._connections.values()) == len(town.inside) <= 1


def test_what_was_closed_twice_writes_into_nothing_that_was_opened_since(town: Town) -> None:
    daemon = waiting(town)
    daemon.close(WAIT)
    until(lambda: not any(thread.name == "waiting" for thread in threads()))
    ends = [end for _ in range(20) for end in socket.socketpair()]  # they get the numbers that have become free
    try:
        daemon.close(WAIT)
        ready, _, _ = select.select(ends, [], [], 0)
        assert not ready
    finally:
        for end in ends:
            end.close()


def test_news_do_not_hammer_a_destination_that_cannot_be_opened(town: Town) -> None:
    refuse = False

    def destination(options: DestinationOptions, settings: Settings) -> Destination:
        if refuse:
            raise DestinationUnavailable("the password is refused")
        return town.place(options.url or "")

    town.told_by(A)
    registry: Registry[Destination] = Registry(
        DESTINATIONS, entries=(), memory=Kind(settings=Settings, open=destination)
    )
    daemon = town.daemon(destinations=registry)
    daemon.adopt(ONE, options(A, poll_interval_seconds=HOUR))
    daemon.start()
    town.passing(lambda: waits(daemon))
    refuse = True
    before = len(town.ended(ONE))
    for number in range(5):
        town.server(A).plant(mail(str(number)))
        town.passing(lambda: len(town.ended(ONE)) > before)
        quiet(daemon)
        still(town)
    assert len(town.ended(ONE)) == before + 1
    assert not town.inside
    refuse = False
    town.later(seconds=2 * HOUR)
    until(lambda: stored(town) == 5)


def test_news_that_turn_out_to_be_none_are_heeded_less_and_less(town: Town) -> None:
    """Servers that tell of what is there as soon as one begins to wait."""
    daemon = waiting(town)
    pauses: list[float] = []
    news = daemon._sessions._news

    def noted(mailbox: MailboxId, seconds: float) -> None:
        pauses.append(seconds)
        news(mailbox, seconds)

    daemon._sessions._news = noted
    for _ in range(9):
        swept = len(town.ended(ONE))
        for line in list(town.server(A).lines):
            line.send(b"!")
        town.passing(lambda: len(town.ended(ONE)) > swept)  # noqa: B023
        quiet(daemon)
        assert waits(daemon)
    assert pauses[-1] > 30
    town.server(A).plant(mail("true"))
    town.passing(lambda: stored(town) == 1)


def test_who_stops_does_not_wait_for_a_store_that_is_slow(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = town.daemon()
    names = [f"{number}@our.example" for number in range(40)]
    town.told_by(*names)
    for name in names:
        daemon.adopt(MailboxId(name), options(name, poll_interval_seconds=HOUR))
    daemon.start()
    town.passing(lambda: all(each.waiting for each in daemon.watched()))
    quiet(daemon)

    def away(*_: object) -> None:
        time.sleep(0.2)
        raise StoreUnavailable("it does not answer")

    monkeypatch.setattr(daemon._leasing, "give_back", away)
    left = [each.source for each in daemon._sessions._waiting.values()]
    began = time.monotonic()
    daemon.close(1.0)
    assert time.monotonic() - began < 4
    for each in left:
        each.__exit__(None, None, None)


def test_whoever_hears_of_a_sweep_that_never_comes_holds_nobody_up(town: Town) -> None:
    """News are told outside of the lock: what happens then may be anything."""
    daemon = waiting(town)
    free: list[bool] = []

    def look(mailbox: MailboxId, seconds: float) -> None:
        thread = Thread(target=lambda: free.append(bool(daemon._sessions.waiting()) or True))
        thread.start()
        thread.join(2)
        free.append(not thread.is_alive())

    daemon._sessions._news = look
    town.server(A).plant(mail("invoice"))
    until(lambda: free)
    until(lambda: len(free) == 2)
    assert all(free)
