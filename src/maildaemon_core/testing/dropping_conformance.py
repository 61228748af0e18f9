"""What every store must do about mailboxes that are dropped, come back or are forgotten.

A part of ``StoreConformance``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest

from maildaemon_core.errors import LeaseLost, MaildaemonError, PathsTaken, StaleVersion
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import EntryQuery, SweepState
from maildaemon_core.progress import Outcome
from maildaemon_core.store_port import Configuration, Lease, Store
from maildaemon_core.testing.lease_conformance import (
    INBOX,
    NOW,
    STATE,
    WRITES,
    LeaseConformance,
    ManualClock,
    everything,
    file,
    leased,
    mail,
    report,
    some_mailbox,
)

DOCUMENT = {"mailbox": "jörg@example.com", "password": "•••", "port": 0}
THREADS = 8


def one(mailbox: MailboxId, **other: Any) -> Configuration:
    """A configuration with a secret."""
    given = {"name": "one", "document": DOCUMENT, "secrets": {"password": "sealed"}}
    return Configuration(id=mailbox, **{**given, **other})


def said_of(store: Store, mailbox: MailboxId) -> tuple[Any, ...]:
    """What a store says of a mailbox's configuration, wherever it can be asked."""
    return (
        store.configuration(mailbox),
        [each for each in store.configurations() if each.id == mailbox],
        [each.mailbox for each in store.infos() if each.mailbox == mailbox],
        [each for each in store.former() if each.id == mailbox],
    )


class DroppingConformance(LeaseConformance):
    """A mailbox that is dropped leaves a trace and no work behind; it may come back; what is forgotten is gone."""

    def test_what_was_dropped_is_nowhere_but_among_the_former_ones_without_secrets(
        self, store: Store, mailbox: MailboxId, clock: ManualClock
    ) -> None:
        saved = store.save(one(mailbox), by="jane")
        other = store.save(one(some_mailbox(), name="other"))
        clock.pass_time(10)
        store.drop(mailbox)
        trace = attrs.evolve(saved, secrets={}, dropped=clock.now)
        assert said_of(store, mailbox) == (None, [], [], [trace])
        assert said_of(store, other.id) == (other, [other], [other.id], [])
        clock.pass_time(10)
        store.drop(mailbox)
        assert list(store.former()) == [trace]
        for _ in range(2):
            store.drop(mailbox, forget=True)
            assert said_of(store, mailbox) == (None, [], [], [])
            assert list(store.former()) == []

    def test_former_ones_are_listed_from_the_last_dropped_on(self, store: Store, clock: ManualClock) -> None:
        mailboxes = sorted(some_mailbox() for _ in range(5))
        for mailbox in mailboxes:
            store.save(one(mailbox))
        for number in (3, 0, 4, 1):
            clock.pass_time(0 if number == 1 else 1)
            store.drop(mailboxes[number])
        assert [mailboxes.index(each.id) for each in store.former()] == [1, 4, 0, 3]
        assert [each.id for each in store.configurations()] == [mailboxes[2]]

    @pytest.mark.parametrize("forget", [False, True])
    def test_a_version_that_is_not_there_is_not_dropped_and_its_lease_goes_on(
        self, store: Store, mailbox: MailboxId, clock: ManualClock, forget: bool
    ) -> None:
        for expected in (1, 2):
            with pytest.raises(StaleVersion):
                store.drop(mailbox, expected=expected, forget=forget)
        store.drop(mailbox, expected=0, forget=forget)
        store.save(one(mailbox))
        saved = store.save(one(mailbox, name="two"))
        lease = leased(store, mailbox)
        (entry,) = lease.admit(INBOX, [mail(mailbox, 1)], STATE)
        for expected in (0, 1, 3):
            with pytest.raises(StaleVersion):
                store.drop(mailbox, expected=expected, forget=forget)
        assert said_of(store, mailbox) == (saved, [saved], [mailbox], [])
        lease.record([attrs.evolve(entry, attempts=1)])
        store.drop(mailbox, expected=2, forget=forget)
        former = [] if forget else [attrs.evolve(saved, secrets={}, dropped=clock.now)]
        assert said_of(store, mailbox) == (None, [], [], former)
        for expected in (1, 2, 3):
            with pytest.raises(StaleVersion):
                store.drop(mailbox, expected=expected, forget=forget)
        assert said_of(store, mailbox) == (None, [], [], former)
        store.drop(mailbox, expected=0, forget=forget)
        assert said_of(store, mailbox) == (None, [], [], former)

    @pytest.mark.parametrize("write", WRITES)
    @pytest.mark.parametrize("forget", [False, True])
    @pytest.mark.parametrize("there", ["there", "not there", "dropped before"])
    def test_whoever_works_on_what_is_dropped_writes_nothing_more(
        self, store: Store, mailbox: MailboxId, write: str, forget: bool, there: str
    ) -> None:
        if there != "not there":
            store.save(one(mailbox))
        if there == "dropped before":
            store.drop(mailbox)
        lease = leased(store, mailbox)
        (entry,) = lease.admit(INBOX, [mail(mailbox, 1)], STATE)
        store.drop(mailbox, forget=forget)
        assert store.holder(mailbox) is None
        with pytest.raises(LeaseLost):
            WRITES[write](lease, entry)
        assert store.holder(mailbox) is None
        heir = leased(store, mailbox)
        assert heir.token > lease.token
        assert everything(heir) == ([] if forget else [entry])
        assert heir.folder(INBOX) == (None if forget else STATE)
        with pytest.raises(LeaseLost):
            WRITES[write](lease, entry)

    def test_dropping_a_configuration_keeps_what_was_processed(self, store: Store, mailbox: MailboxId) -> None:
        store.save(one(mailbox))
        lease = leased(store, mailbox)
        (entry,) = lease.admit(INBOX, [mail(mailbox, 1)], STATE)
        named = attrs.evolve(entry, artifacts=(file("a.eml"),))
        lease.record([named])
        store.drop(mailbox)
        assert lease.folder(INBOX) == STATE
        assert list(lease.known([entry.identity])) == [named]
        assert store.entries(EntryQuery(outcome=Outcome.PENDING, mailbox=mailbox)).entries == (named,)
        other = leased(store, some_mailbox())
        (stranger,) = other.admit(INBOX, [mail(other.mailbox, 1)], STATE)
        with pytest.raises(PathsTaken):
            other.record([attrs.evolve(stranger, artifacts=(file("a.eml"),))])

    # -------------------------------------------------------------------------------------------------- coming back

    @pytest.mark.parametrize("expected", [None, 0])
    def test_what_comes_back_is_new_but_its_versions_go_on(
        self, store: Store, mailbox: MailboxId, clock: ManualClock, expected: int | None
    ) -> None:
        store.save(one(mailbox), by="jane")
        store.save(one(mailbox, name="two"), by="jane")
        for version in (3, 4):
            clock.pass_time(10)
            store.drop(mailbox)
            for stale in (1, 2, 3, 4):
                with pytest.raises(StaleVersion):
                    store.save(one(mailbox), expected=stale)
                with pytest.raises(StaleVersion):
                    store.reseal(mailbox, {"password": "other"}, expected=stale)
            with pytest.raises(StaleVersion):
                store.reseal(mailbox, {"password": "other"}, expected=0)
            clock.pass_time(10)
            back = store.save(one(mailbox, name="two"), expected=expected, by=f"joe {version}")
            who = {"created_by": f"joe {version}", "changed_by": f"joe {version}"}
            new = one(mailbox, name="two", version=version, created=clock.now, changed=clock.now, **who)
            assert back == new
            assert said_of(store, mailbox) == (new, [new], [mailbox], [])
        clock.pass_time(10)
        back = store.save(one(mailbox), expected=4, by="ann")
        assert (back.version, back.created_by, back.changed_by, back.changed) == (5, "joe 4", "ann", clock.now)

    def test_what_comes_back_even_unchanged_has_no_secret_of_before(self, store: Store, mailbox: MailboxId) -> None:
        saved = store.save(one(mailbox))
        store.drop(mailbox)
        (trace,) = store.former()
        back = store.save(trace)
        assert (back.version, back.secrets, back.dropped) == (2, {}, None)
        assert back.document == saved.document

    @pytest.mark.parametrize("late", [False, True])
    def test_what_comes_back_is_not_shown_with_the_sweeps_of_before(
        self, store: Store, mailbox: MailboxId, late: bool
    ) -> None:
        """Nor with those of somebody who began when it had been dropped already, and who ends with it."""
        store.save(one(mailbox))
        for state in (SweepState.DONE, SweepState.FAILED):
            leased(store, mailbox).give_back(NOW, report(mailbox, state, NOW))
        store.drop(mailbox)
        leases = []
        if late:
            leased(store, mailbox).give_back(NOW, report(mailbox, SweepState.FAILED, NOW))
            leases.append(leased(store, mailbox))
        store.save(one(mailbox))
        (info,) = store.infos()
        assert (info.report, info.next_due, info.held_by) == (None, None, None)
        assert (info.last_success, info.failing_since) == (None, None)
        for lease in leases:
            with pytest.raises(LeaseLost):
                lease.renew(1)

    def test_work_goes_on_where_it_was_when_a_mailbox_comes_back(
        self, store: Store, lease: Lease, mailbox: MailboxId
    ) -> None:
        store.save(one(mailbox))
        admitted = lease.admit(INBOX, [mail(mailbox, 1), mail(mailbox, 2)], STATE)
        store.drop(mailbox)
        store.save(one(mailbox))
        heir = leased(store, mailbox)
        assert everything(heir) == admitted
        assert heir.admit(INBOX, [mail(mailbox, 1)], STATE) == []
        (info,) = store.infos()
        assert dict(info.backlog) == {INBOX: 2}

    # --------------------------------------------------------------------------------------------------- forgetting

    def test_forgetting_starts_over_but_numbers_only_grow(self, store: Store, mailbox: MailboxId) -> None:
        lease = leased(store, mailbox)
        first = lease.admit(INBOX, [mail(mailbox, 1), mail(mailbox, 2)], STATE)
        lease.record([attrs.evolve(first[0], artifacts=(file("a.eml"),))])
        token = lease.token
        lease.give_back(NOW)
        store.drop(mailbox, forget=True)
        again = leased(store, mailbox)
        assert again.token > token
        assert again.folder(INBOX) is None
        assert everything(again) == []
        assert list(again.known([first[0].identity])) == []
        (entry,) = again.admit(INBOX, [mail(mailbox, 1)], STATE)
        assert entry.id is not None
        assert all(entry.id > (each.id or 0) for each in first)
        again.record([attrs.evolve(entry, artifacts=(file("a.eml"),))])

    def test_what_was_dropped_can_be_forgotten_later(self, store: Store, lease: Lease, mailbox: MailboxId) -> None:
        store.save(one(mailbox))
        lease.admit(INBOX, [mail(mailbox, 1)], STATE)
        store.drop(mailbox)
        store.drop(mailbox, forget=True)
        assert said_of(store, mailbox) == (None, [], [], [])
        assert store.entries(EntryQuery(outcome=Outcome.PENDING)).entries == ()
        assert store.save(one(mailbox), expected=0).version == 1

    # --------------------------------------------------------------------------------------------------- all at once

    @pytest.mark.parametrize("forget", [False, True])
    def test_of_many_who_drop_a_version_at_once_exactly_one_does(
        self, store: Store, mailbox: MailboxId, forget: bool
    ) -> None:
        store.save(one(mailbox))

        def drop(_number: int) -> bool:
            try:
                store.drop(mailbox, expected=1, forget=forget)
            except StaleVersion:
                return False
            return True

        with ThreadPoolExecutor(THREADS) as threads:
            assert sorted(threads.map(drop, range(THREADS))) == [False] * (THREADS - 1) + [True]
        assert len(store.former()) == (0 if forget else 1)

    def test_of_many_who_bring_a_mailbox_back_at_once_exactly_one_does(self, store: Store, mailbox: MailboxId) -> None:
        store.save(one(mailbox))
        store.drop(mailbox)

        def bring_back(number: int) -> Configuration | None:
            try:
                return store.save(one(mailbox, name=f"{number}"), expected=0)
            except StaleVersion:
                return None

        with ThreadPoolExecutor(THREADS) as threads:
            back = [each for each in threads.map(bring_back, range(THREADS)) if each is not None]
        assert [each.version for each in back] == [2]
        assert said_of(store, mailbox) == (back[0], back, [mailbox], [])

    @pytest.mark.parametrize("forget", [False, True])
    def test_a_mailbox_may_be_dropped_brought_back_and_worked_on_at_once(
        self, store: Store, mailbox: MailboxId, forget: bool
    ) -> None:
        """Nobody waits for anybody in a circle, and what was dropped is not written by those of before."""

        def work() -> int:
            lost = 0
            for number in range(15):
                lease = store.lease(mailbox, 60, owner="worker")
                if lease is None:
                    continue
                try:
                    admitted = lease.admit(INBOX, [mail(mailbox, number)], STATE)
                    lease.record([attrs.evolve(each, artifacts=(file(f"{each.key}.eml"),)) for each in admitted])
                    lease.give_back(NOW)
                except LeaseLost:
                    lost += 1
            return lost

        def drop() -> None:
            for _ in range(15):
                store.drop(mailbox, forget=forget)

        def save() -> None:
            for number in range(15):
                store.save(one(mailbox, name=f"{number}"))

        with ThreadPoolExecutor(THREADS) as threads:
            jobs = [threads.submit(job) for job in (work, work, drop, save)]
            assert [error for job in jobs if isinstance(error := job.exception(60), MaildaemonError)] == []
            for job in jobs:
                job.result()
        lease = store.lease(mailbox, 60, owner="heir", over=store.holder(mailbox))
        assert lease is not None
        store.drop(mailbox, forget=True)
        assert everything(lease) == []
        assert said_of(store, mailbox) == (None, [], [], [])
