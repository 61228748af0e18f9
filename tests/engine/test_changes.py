"""What people want of the loop takes effect at once: a sweep now, another configuration, a mailbox that is gone."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event as Signal
from threading import current_thread
from typing import Any

import pytest

from maildaemon_core.confinement import Confinement
from maildaemon_core.engine.catalog import UnknownMailbox
from maildaemon_core.engine.confining import confining
from maildaemon_core.engine.daemon import FROM_FILE
from maildaemon_core.engine.roster import Member, NotSwept, Roster
from maildaemon_core.engine.sweep import STOPPED, Bounds
from maildaemon_core.errors import InvalidOptions, LeaseLost, Trouble
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import EntryQuery, SweepState
from maildaemon_core.options import Secret
from maildaemon_core.progress import Outcome
from tests.engine.story import mail
from tests.engine.town import ONE, TWO, WAIT, A, B, Batches, Town, adopted, document, options, still, until, watched

# --------------------------------------------------------------------------------------------------------- sweep soon


def test_a_sweep_that_is_asked_for_begins_at_once_and_tells_what_it_did(town: Town) -> None:
    daemon = adopted(town)
    daemon.start()
    town.server(A).plant(mail("invoice"))
    assert daemon.sweep_soon(ONE).result(WAIT).counts.stored == 1


def test_several_who_ask_during_a_sweep_share_the_one_directly_after_it(town: Town) -> None:
    daemon = adopted(town)
    go_on = Signal()
    town.trouble[A] = lambda: None if go_on.wait(WAIT) else pytest.fail("forgotten")
    daemon.start()
    first = daemon.sweep_soon(ONE)
    until(lambda: A in town.inside)
    late = [daemon.sweep_soon(ONE) for _ in range(3)]
    cancelled = daemon.sweep_soon(ONE)
    assert cancelled.cancel()
    town.server(A).plant(mail("invoice"))
    go_on.set()
    reports = [future.result(WAIT) for future in late]
    assert first.result(WAIT) is not reports[0]
    assert reports[0] is reports[1] is reports[2]
    assert town.begun(ONE) == 2
    assert not town.twice


def test_who_asks_waits_behind_nobody_though_many_are_due_and_lets_these_wait_no_longer(town: Town) -> None:
    daemon = town.daemon()
    go_on = Signal()
    for number in range(10):
        name = f"{number}@our.example"
        daemon.adopt(MailboxId(name), options(name))
        town.trouble[name] = lambda: None if go_on.wait(WAIT) else pytest.fail("forgotten")
    daemon.start(at_once=2)
    town.later(seconds=10)
    until(lambda: len(town.inside) == 2)
    (free, *_) = [each.mailbox for each in daemon.watched() if each.running_since is None]
    future = daemon.sweep_soon(free)
    until(lambda: free in town.inside)
    assert len(town.inside) == 3
    go_on.set()
    future.result(WAIT)
    until(lambda: all(town.ended(each.mailbox) for each in daemon.watched()))


def test_a_mailbox_that_nobody_knows_or_a_daemon_that_was_not_started_sweeps_nothing(town: Town) -> None:
    daemon = adopted(town)
    with pytest.raises(NotSwept, match="was not started"):
        daemon.sweep_soon(ONE)
    daemon.start()
    with pytest.raises(UnknownMailbox):
        daemon.sweep_soon(TWO)
    with pytest.raises(RuntimeError, match="started already"):
        daemon.start()
    daemon.stop()
    with pytest.raises(NotSwept, match="is stopping"):
        daemon.sweep_soon(ONE)


def test_skipped_mail_is_decided_anew_when_somebody_asks_for_that_and_only_then(town: Town) -> None:
    daemon = town.daemon()
    catalog = town.catalog(daemon)
    one = catalog.create(document(A, allowedEmailExtensions=["@else.example"]), by="admin").configuration.id
    for number in range(450):
        town.server(A).plant(mail(f"mail {number}"))
    daemon.start(catalog)
    assert daemon.sweep_soon(one).result(WAIT).counts.skipped == 450
    catalog.change(one, {"allowedEmailExtensions": None}, by="admin")
    daemon.refreshed(one)
    assert daemon.sweep_soon(one).result(WAIT).counts.seen == 0
    again = frozenset({Outcome.SKIPPED})
    futures = [daemon.sweep_soon(one), daemon.sweep_soon(one, again=again)]
    assert futures[-1].result(WAIT).counts.stored == 450
    assert daemon.sweep_soon(one, again=again).result(WAIT).counts.seen == 0


def test_failed_mail_is_tried_again_when_somebody_asks_for_that(town: Town) -> None:
    daemon = adopted(town)
    town.server(A).plant(mail("bad"))
    refused = Trouble(error="NameRefused", message="no such names", transient=False)
    town.place().refuse = lambda path: refused
    daemon.start()
    assert daemon.sweep_soon(ONE).result(WAIT).counts.failed == 1
    town.place().refuse = lambda path: None
    assert daemon.sweep_soon(ONE).result(WAIT).counts.seen == 0
    assert daemon.sweep_soon(ONE, again=frozenset({Outcome.FAILED})).result(WAIT).counts.stored == 1


# ------------------------------------------------------------------------------------------------------------- changes


def test_a_change_ends_the_batch_of_a_running_sweep_and_the_next_begins_at_once_with_the_new_options(
    town: Town,
) -> None:
    daemon = town.daemon(bounds=Bounds(mails=2))
    catalog = town.catalog(daemon)
    one = catalog.create(document(A), by="admin").configuration.id
    batches = Batches(town)
    daemon.start(catalog)
    future = daemon.sweep_soon(one)
    assert batches.reached.wait(WAIT)
    elsewhere = [{"type": "memory", "name": "one", "url": "memory:two"}]
    catalog.change(one, {"destinations": elsewhere}, by="admin")
    daemon.refreshed(one)
    begun = len(town.opened)
    batches.go_on.set()
    assert future.result(WAIT).well, "who waited gets the report of the whole sweep"
    assert [report.trouble for report in town.ended(one)] == [STOPPED, None]
    first, second = len(town.place().published), len(town.place("memory:two").published)
    assert first + second == 10
    assert 0 < first <= 4
    assert all(opened.destinations[0].url == "memory:two" for _, opened in town.opened[begun:])
    assert town.begun(one) == 2, "at once, though the interval is not over"


def test_after_deletion_was_turned_off_nothing_more_is_deleted_though_a_sweep_goes_on(town: Town) -> None:
    daemon = town.daemon(bounds=Bounds(mails=2))
    catalog = town.catalog(daemon)
    one = catalog.create(document(A, deleteMailsOnServer=True), by="admin").configuration.id
    batches = Batches(town)
    daemon.start(catalog)
    future = daemon.sweep_soon(one)
    assert batches.reached.wait(WAIT)
    catalog.change(one, {"deleteMailsOnServer": False}, by="admin")
    daemon.refreshed(one)
    batches.go_on.set()
    assert future.result(WAIT).well
    assert len(town.place().published) == 10
    assert len(town.server(A).contents()) == 10


def test_after_another_process_has_turned_deletion_off_nothing_more_is_deleted(town: Town) -> None:
    daemon, other = town.daemon(bounds=Bounds(mails=2)), town.daemon()
    catalog = town.catalog(daemon)
    one = catalog.create(document(A, deleteMailsOnServer=True), by="admin").configuration.id
    batches = Batches(town)
    daemon.start(catalog)
    future = daemon.sweep_soon(one)
    assert batches.reached.wait(WAIT)
    town.catalog(other).change(one, {"deleteMailsOnServer": False}, by="admin")
    batches.go_on.set()
    assert future.result(WAIT).well
    assert len(town.place().published) == 10
    assert len(town.server(A).contents()) == 10


def test_a_mailbox_that_is_made_inactive_while_it_is_swept_is_swept_no_more(town: Town) -> None:
    daemon = town.daemon(bounds=Bounds(mails=2))
    catalog = town.catalog(daemon)
    one = catalog.create(document(A), by="admin").configuration.id
    batches = Batches(town)
    daemon.start(catalog)
    futures = [daemon.sweep_soon(one)]
    assert batches.reached.wait(WAIT)
    futures.append(daemon.sweep_soon(one))
    catalog.change(one, {"active": False}, by="admin")
    daemon.refreshed(one)
    batches.go_on.set()
    for future in futures:
        with pytest.raises(NotSwept, match="is not active"):
            future.result(WAIT)
    assert town.ended(one)[0].trouble == STOPPED
    town.later(hours=1)
    still(town)
    assert town.begun(one) == 1


def test_a_mailbox_that_is_removed_while_it_is_swept_is_swept_no_more(town: Town) -> None:
    daemon = town.daemon(bounds=Bounds(mails=2))
    catalog = town.catalog(daemon)
    one = catalog.create(document(A), by="admin").configuration.id
    batches = Batches(town)
    daemon.start(catalog)
    futures = [daemon.sweep_soon(one)]
    assert batches.reached.wait(WAIT)
    futures.append(daemon.sweep_soon(one))
    assert not daemon.halt(one, seconds=0.01)
    catalog.remove(one, forget=True)
    daemon.refreshed(one)
    batches.go_on.set()
    assert futures[0].result(WAIT).state is SweepState.LOST, "it wrote nothing more"
    with pytest.raises(UnknownMailbox):
        futures[1].result(WAIT)
    until(lambda: not daemon.watched())
    town.later(hours=1)
    still(town)
    assert town.begun(one) == 1
    assert not town.store.all()


def test_a_mailbox_that_is_made_and_refreshed_is_swept_at_once(town: Town) -> None:
    daemon = town.daemon()
    catalog = town.catalog(daemon)
    daemon.start(catalog)
    one = catalog.create(document(A), by="admin").configuration.id
    daemon.refreshed(one)
    until(lambda: town.ended(one))
    daemon.refreshed(MailboxId("nobody"))
    assert [each.mailbox for each in daemon.watched()] == [one]


def test_a_mailbox_that_was_just_made_can_be_swept_before_it_was_refreshed(town: Town) -> None:
    daemon = town.daemon()
    catalog = town.catalog(daemon)
    daemon.start(catalog)
    one = catalog.create(document(A), by="admin").configuration.id
    assert daemon.sweep_soon(one).result(WAIT).well


@pytest.mark.parametrize("late", [False, True], ids=["before it is read", "after it is read"])
def test_a_sweep_does_not_begin_with_options_that_were_read_before_they_were_refreshed(
    town: Town, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    daemon = town.daemon()
    catalog = town.catalog(daemon)
    one = catalog.create(document(A), by="admin").configuration.id
    daemon.start(catalog)
    daemon.sweep_soon(one).result(WAIT)
    town.opened.clear()
    right, sweeping = town.store.configuration, Signal()

    def configuration(mailbox: MailboxId) -> Any:
        if current_thread().name != "sweep" or sweeping.is_set():
            return right(mailbox)
        sweeping.set()
        read = right(mailbox) if late else None
        changing.submit(change).result(WAIT)
        return read or right(mailbox)

    def change() -> None:
        catalog.change(one, {"destinations": [{"type": "memory", "name": "one", "url": "memory:two"}]}, by="admin")
        daemon.refreshed(one)

    monkeypatch.setattr(town.store, "configuration", configuration)
    town.server(A).plant(mail("invoice"))
    with ThreadPoolExecutor(1) as changing:
        assert daemon.sweep_soon(one).result(WAIT).well
    assert town.begun(one) == 2, "nothing at all is done with the older ones"
    assert [opened.destinations[0].url for _, opened in town.opened] == ["memory:two"]
    assert not town.place().published


def test_what_was_read_before_somebody_told_of_a_change_is_read_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = town.daemon()
    catalog = town.catalog(daemon)
    one = catalog.create(document(A, active=False), by="admin").configuration.id
    roster = Roster(town.store, lambda options: ())
    roster.catalog = catalog
    right = town.store.configuration

    def configuration(mailbox: MailboxId) -> Any:
        read = right(mailbox)
        monkeypatch.setattr(town.store, "configuration", right)
        catalog.change(one, {"active": True}, by="admin")
        assert roster.changed(one).active
        return read

    monkeypatch.setattr(town.store, "configuration", configuration)
    member, kept = roster.current(one)
    assert (member.active, kept.version) == (True, 2)
    assert roster.member(one) == member


def test_a_mailbox_that_is_changed_again_and_again_while_it_is_swept_is_swept_as_it_is_in_the_end(town: Town) -> None:
    daemon = town.daemon()
    catalog = town.catalog(daemon)
    one = catalog.create(document(A, pollIntervalSeconds=5), by="admin").configuration.id
    daemon.start(catalog)
    for interval in range(6, 60):
        daemon.sweep_soon(one)
        time.sleep(0.0007 * (interval % 5))
        catalog.change(one, {"pollIntervalSeconds": interval}, by="admin")
        daemon.refreshed(one)
    assert daemon.sweep_soon(one).result(WAIT).well
    swept = [opened.poll_interval_seconds for _, opened in town.opened]
    assert swept == sorted(swept)
    assert swept[-1] == 59
    assert not town.twice


def test_what_another_process_has_changed_is_noticed(town: Town) -> None:
    first, second = town.daemon(), town.daemon()
    mine, others = town.catalog(first), town.catalog(second)
    one = mine.create(document(A), by="admin").configuration.id
    first.start(mine)
    town.passing(lambda: town.ended(one))
    two = others.create(document(B), by="admin").configuration.id
    town.passing(lambda: town.ended(two))
    others.change(two, {"active": False}, by="admin")
    town.passing(lambda: not watched(first, two).active)
    swept = len(town.ended(two))
    others.change(two, {"active": True}, by="admin")
    town.passing(lambda: len(town.ended(two)) > swept)
    others.remove(two)
    town.passing(lambda: [each.mailbox for each in first.watched()] == [one])


def test_what_another_process_has_changed_counts_for_the_next_sweep_though_nobody_has_noticed_yet(town: Town) -> None:
    first, second = town.daemon(), town.daemon()
    mine, others = town.catalog(first), town.catalog(second)
    one = mine.create(document(A), by="admin").configuration.id
    first.start(mine)
    first.sweep_soon(one).result(WAIT)
    others.change(one, {"destinations": [{"type": "memory", "name": "one", "url": "memory:two"}]}, by="admin")
    town.server(A).plant(mail("invoice"))
    first.sweep_soon(one).result(WAIT)
    assert not town.place().published
    assert town.place("memory:two").published
    others.change(one, {"active": False}, by="admin")
    with pytest.raises(NotSwept, match="is not active"):
        first.sweep_soon(one).result(WAIT)
    others.remove(one)
    with pytest.raises(UnknownMailbox):
        first.sweep_soon(one)


def test_two_daemons_on_one_store_never_sweep_one_mailbox_at_once(town: Town) -> None:
    daemons = [town.daemon(), town.daemon()]
    catalogs = [town.catalog(each) for each in daemons]
    names = [f"{number}@our.example" for number in range(6)]
    made = [catalogs[0].create(document(name, pollIntervalSeconds=5), by="admin") for name in names]
    town.trouble = dict.fromkeys(names, lambda: time.sleep(0.003))
    for daemon, catalog in zip(daemons, catalogs, strict=True):
        daemon.start(catalog)
    for _ in range(60):
        town.later(seconds=1)
        for daemon in daemons:
            daemon.sweep_soon(made[0].configuration.id)
        time.sleep(0.01)
    assert not town.twice
    until(lambda: all(len(town.ended(each.configuration.id)) > 2 for each in made))
    states = {report.state for each in made for report in town.ended(each.configuration.id)}
    assert states == {SweepState.DONE}


def test_a_configuration_that_is_refused_now_was_no_reason_to_lose_who_waits(town: Town) -> None:
    daemon = adopted(town)
    with pytest.raises(InvalidOptions):
        daemon.adopt(ONE, options(A, type="nothing"))
    daemon.start()
    assert daemon.sweep_soon(ONE).result(WAIT).well


def test_many_threads_may_ask_for_everything_at_once(town: Town) -> None:
    daemon = adopted(town)
    daemon.start()

    def ask(number: int) -> object:
        match number % 4:
            case 0:
                return daemon.sweep_soon(ONE).result(WAIT)
            case 1:
                daemon.refreshed(ONE)
                return None
            case 2:
                return daemon.watched()
            case _:
                try:
                    return daemon.retry_all(EntryQuery(outcome=Outcome.FAILED))
                except LeaseLost as error:
                    return error

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(80)))
    assert not town.twice


# --------------------------------------------------------------------------------------------- whose mailboxes they are


def test_a_mailbox_of_a_file_that_this_process_was_not_given_is_left_alone_and_told(town: Town) -> None:
    elsewhere = town.daemon()
    saved = elsewhere.adopt(ONE, options(A))
    assert (saved.changed_by, FROM_FILE) == (FROM_FILE, "configuration file")
    daemon = town.daemon()
    catalog = town.catalog(daemon)
    daemon.start(catalog)
    town.later(seconds=30)
    still(town)
    assert not town.told
    found = watched(daemon, ONE)
    assert (found.active, found.next_due) == (False, None)
    assert found.trouble is not None
    assert found.trouble.error == "FromFile"
    assert "a configuration file that this process was not given" in found.trouble.message
    with pytest.raises(NotSwept, match="was not given"):
        daemon.sweep_soon(ONE)


def test_a_mailbox_that_cannot_be_used_is_told_and_harms_no_other(town: Town) -> None:
    daemon = town.daemon()
    catalog = town.catalog(daemon)
    bad = catalog.create(document(A, password="pa55word"), by="admin").configuration
    town.store.reseal(bad.id, {"password": "mangled"}, expected=bad.version)
    good = catalog.create(document(B), by="admin").configuration.id
    daemon.start(catalog)
    town.later(seconds=10)
    until(lambda: town.ended(good))
    found = watched(daemon, bad.id)
    assert found.active
    assert found.trouble is not None
    assert found.trouble.error == "Sealed"
    assert "pa55word" not in repr(daemon.watched())
    with pytest.raises(NotSwept, match="a stored secret is damaged"):
        daemon.sweep_soon(bad.id)
    assert not town.begun(bad.id)
    catalog.change(bad.id, {"password": "again"}, by="admin")
    daemon.refreshed(bad.id)
    until(lambda: town.ended(bad.id))


def test_a_mailbox_that_cannot_even_be_looked_at_keeps_no_other_from_being_swept(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = town.daemon()
    catalog = town.catalog(daemon)
    ids = [catalog.create(document(f"{name}@our.example"), by="admin").configuration.id for name in "abc"]
    changed = Roster.changed

    def broken(roster: Roster, mailbox: MailboxId) -> Member:
        if mailbox == ids[1]:
            raise AttributeError("whatever it is")
        return changed(roster, mailbox)

    monkeypatch.setattr(Roster, "changed", broken)
    daemon.start(catalog)
    assert {each.mailbox for each in daemon.watched()} == {ids[0], ids[2]}
    town.passing(lambda: town.ended(ids[0]) and town.ended(ids[2]))


def test_mailboxes_of_a_catalog_are_confined_in_all_that_they_do_and_the_service_itself_is_not(town: Town) -> None:
    limits = Confinement(destinations=("memory",))
    daemon = town.daemon(confinement=limits)
    catalog = town.catalog(daemon)
    with pytest.raises(InvalidOptions, match="destinations"):
        catalog.create(document(A, destinations=[{"type": "file", "url": "/tmp"}]), by="admin")
    one = catalog.create(document(A), by="admin").configuration.id
    daemon.adopt(TWO, options(B))
    daemon.start(catalog)
    for mailbox, name, expected in ((one, A, limits), (TWO, B, None)):
        found: dict[str, Confinement | None] = {}
        town.fuse.hook = lambda place: found.update({place: confining()})  # noqa: B023
        town.server(name).plant(mail("invoice"))
        assert daemon.sweep_soon(mailbox).result(WAIT).counts.stored == 1
        for place in ("source.list", "source.fetch", "destination.stage", "destination.publish"):
            assert found[place] == expected
        assert not any(found[place] for place in found if place.startswith("store."))
        assert {"store.lease", "store.admit", "store.record", "store.give_back"} <= found.keys()


def test_mailboxes_of_a_catalog_read_secrets_in_the_limited_way_and_adopted_ones_freely(town: Town) -> None:
    def limited(secret: Secret) -> Secret:
        return Secret(f"limited {secret.value}")

    def free(secret: Secret) -> Secret:
        return Secret(f"free {secret.value}")

    daemon = town.daemon(read_secret=free, limited_secrets=limited)
    catalog = town.catalog(daemon)
    one = catalog.create(document(A, password="x"), by="admin").configuration.id
    daemon.adopt(TWO, options(B, password=Secret("x")))
    daemon.start(catalog)
    for mailbox in (one, TWO):
        daemon.sweep_soon(mailbox).result(WAIT)
    passwords = {name: opened.password.value for name, opened in town.opened if opened.password}
    assert passwords == {A: "limited x", B: "free x"}
    town.opened.clear()
    daemon.validate(TWO, options(B, password=Secret("x")))
    daemon.validate(MailboxId("new"), options(A, password=Secret("x")))
    daemon.validate(MailboxId("new"), options(A, password=Secret("x")), trusted=True)
    daemon.validate(TWO, options(B, password=Secret("x")), trusted=False)
    assert [opened.password.value for _, opened in town.opened if opened.password] == [
        "free x",
        "limited x",
        "free x",
        "limited x",
    ]
