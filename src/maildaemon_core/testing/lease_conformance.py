"""What every store must do about configurations, leases and fencing; a part of ``StoreConformance``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maildaemon_core.errors import LeaseLost, StaleVersion
from maildaemon_core.message import Cursor, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import SweepReport, SweepState
from maildaemon_core.progress import Artifact, Entry, Role, Stage
from maildaemon_core.store_port import Configuration, FolderState, Holder, Lease, Store
from maildaemon_core.testing.entry_strategies import sweep_reports

NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, tzinfo=UTC)
INBOX = FolderRef("INBOX")
STATE = FolderState(cursor=Cursor("1"), older=3)
LONG = 60.0
"""Seconds: longer than any of these checks takes."""

any_store = settings(
    max_examples=max(10, settings().max_examples // 2),  # each is several commits that reach the disk
    suppress_health_check=[
        HealthCheck.differing_executors,  # one check serves several stores
        HealthCheck.function_scoped_fixture,  # every example takes a mailbox of its own, so one store serves them all
        HealthCheck.too_slow,
    ],
)


class ManualClock:
    """A clock that stands until it is told to go on."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def some_mailbox() -> MailboxId:
    return MailboxId(str(uuid.uuid4()))


def mail(mailbox: MailboxId, number: int, **other: Any) -> Entry:
    """A mail in INBOX that was just found."""
    given = {
        "ref": MessageRef(INBOX, "7", str(number)),
        "identity": Identity(f"{number:032x}"),
        "key": f"{number:012x}",
        "received": NOW + timedelta(minutes=number),
        "first_seen": NOW,
        "due_at": NOW,
    }
    return Entry(mailbox=mailbox, **{**given, **other})


def file(path: str, *, index: int = 0, **other: Any) -> Artifact:
    role = Role.ATTACHMENT if index else Role.MAIL
    given = {"destination": "archive", "place": "/srv/mail", "role": role, "size": 3, "sha256": "ab" * 32}
    return Artifact(path=path, index=index, **{**given, **other})


def report(mailbox: MailboxId, state: SweepState, at: datetime) -> SweepReport:
    return SweepReport(mailbox=mailbox, state=state, started=at, ended=at + timedelta(seconds=5))


def leased(store: Store, mailbox: MailboxId, *, owner: str = "worker") -> Lease:
    lease = store.lease(mailbox, LONG, owner=owner)
    assert lease is not None
    return lease


def everything(lease: Lease) -> list[Entry]:
    """All open and closed entries of a mailbox, through the port, as far as they have a due time in any stage."""
    return list(lease.due(set(Stage), datetime(9999, 1, 1, tzinfo=UTC), limit=10_000))


WRITES: dict[str, Callable[[Lease, Entry], object]] = {
    "admit": lambda lease, entry: lease.admit(
        INBOX, [mail(entry.mailbox, 99), attrs.evolve(entry, attempts=9)], FolderState(cursor=Cursor("99"))
    ),
    "record": lambda lease, entry: lease.record([attrs.evolve(entry, attempts=9, artifacts=(file("stale.eml"),))]),
    "record nothing": lambda lease, entry: lease.record([]),
    "renew": lambda lease, entry: lease.renew(1_000_000),
    "give back": lambda lease, entry: lease.give_back(NOW, report(entry.mailbox, SweepState.FAILED, NOW)),
}


class LeaseConformance:
    """Leases and fencing (law 7), and configurations."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def store(self, clock: ManualClock) -> Store:
        """An empty store that reads this clock."""
        raise NotImplementedError("give a fixture named store")

    @pytest.fixture
    def mailbox(self) -> MailboxId:
        return some_mailbox()

    @pytest.fixture
    def lease(self, store: Store, mailbox: MailboxId) -> Lease:
        return leased(store, mailbox)

    # ---------------------------------------------------------------------------------------------- configurations

    def test_a_configuration_comes_back_as_it_was_saved(self, store: Store, mailbox: MailboxId) -> None:
        document = {"mailbox": "jörg@example.com", "folders": ["INBOX", "Entwürfe"], "port": 0, "since": None}
        wanted = Configuration(id=mailbox, name="one", document=document, secrets={"destinations/a/password": "sealed"})
        saved = store.save(wanted, expected=0, by="key ab")
        dated = attrs.evolve(wanted, created=NOW, changed=NOW, created_by="key ab", changed_by="key ab")
        assert saved == attrs.evolve(dated, version=1)
        assert store.configuration(mailbox) == saved
        assert list(store.configurations()) == [saved]
        assert store.configuration(some_mailbox()) is None

    def test_version_date_and_who_change_only_with_name_document_or_secrets(
        self, store: Store, mailbox: MailboxId, clock: ManualClock
    ) -> None:
        wanted = Configuration(id=mailbox, name="one", document={"active": True}, secrets={"password": "sealed"})
        saved = store.save(wanted, by="first")
        changes: list[dict[str, Any]] = [
            {"document": {"active": False}},
            {"name": "two"},
            {"secrets": {"password": "sealed anew"}},
            {"secrets": {}},
        ]
        for number, change in enumerate(changes, start=2):
            clock.pass_time(10)
            # What the store itself knows of a configuration is never taken over from what it is given.
            told = attrs.evolve(wanted, version=9, created=None, changed=None, created_by="x", changed_by="x")
            assert store.save(told, by="nobody") == saved
            wanted = attrs.evolve(wanted, **change)
            saved = attrs.evolve(saved, version=number, changed=clock.now, changed_by=f"by {number}", **change)
            assert store.save(wanted, expected=number - 1, by=f"by {number}") == saved
            assert store.configuration(mailbox) == saved

    def test_secrets_are_sealed_anew_without_a_trace(
        self, store: Store, mailbox: MailboxId, clock: ManualClock
    ) -> None:
        saved = store.save(
            Configuration(id=mailbox, name="one", document={"a": 1}, secrets={"password": "old"}), by="me"
        )
        clock.pass_time(10)
        store.reseal(mailbox, {"password": "new"}, expected=1)
        resealed = attrs.evolve(saved, secrets={"password": "new"})
        assert store.configuration(mailbox) == resealed
        for missing, expected in ((mailbox, 0), (mailbox, 2), (some_mailbox(), 1), (some_mailbox(), 0)):
            with pytest.raises(StaleVersion):
                store.reseal(missing, {"password": "newer"}, expected=expected)
        assert list(store.configurations()) == [resealed]
        assert store.save(attrs.evolve(resealed, document={"a": 2}), expected=1).version == resealed.version + 1

    def test_two_mailboxes_may_have_one_name(self, store: Store) -> None:
        for _ in range(2):
            store.save(Configuration(id=some_mailbox(), name="one", document={}), expected=0)
        ids = [each.id for each in store.configurations()]
        assert ids == sorted(ids)
        assert [each.mailbox for each in store.infos()] == ids

    @pytest.mark.parametrize("expected", [None, 0])
    def test_only_one_of_many_threads_creates_a_configuration(
        self, store: Store, mailbox: MailboxId, expected: int | None
    ) -> None:
        def create(number: int) -> Configuration | None:
            try:
                return store.save(Configuration(id=mailbox, name="one", document={"n": number}), expected=expected)
            except StaleVersion:
                return None

        with ThreadPoolExecutor(8) as threads:
            saved = [each for each in threads.map(create, range(8)) if each is not None]
        versions = sorted(each.version for each in saved)
        assert versions == ([1] if expected == 0 else list(range(1, 9)))
        assert store.configuration(mailbox) == max(saved, key=lambda each: each.version)

    def test_a_version_that_is_not_there_is_stale_and_changes_nothing(self, store: Store, mailbox: MailboxId) -> None:
        wanted = Configuration(id=mailbox, name="one", document={})
        with pytest.raises(StaleVersion):
            store.save(wanted, expected=1)
        assert store.configuration(mailbox) is None
        saved = store.save(wanted)
        for expected in (0, 2):
            with pytest.raises(StaleVersion):
                store.save(attrs.evolve(wanted, document={"active": False}), expected=expected)
        assert store.configuration(mailbox) == saved

    def test_configurations_and_infos_are_listed_by_name(self, store: Store) -> None:
        for name in ("zwei", "drei", "eins"):
            store.save(Configuration(id=some_mailbox(), name=name, document={}))
        assert [each.name for each in store.configurations()] == ["drei", "eins", "zwei"]
        assert [each.name for each in store.infos()] == ["drei", "eins", "zwei"]

    # ------------------------------------------------------------------------------------------------------ leases

    def test_a_mailbox_has_one_lease_at_a_time(self, store: Store, mailbox: MailboxId) -> None:
        lease = leased(store, mailbox)
        assert lease.mailbox == mailbox
        assert lease.token > 0
        assert store.lease(mailbox, LONG, owner="other") is None
        assert store.lease(mailbox, LONG, owner="worker") is None
        assert store.lease(some_mailbox(), LONG, owner="other") is not None

    def test_only_one_of_many_threads_gets_the_lease(self, store: Store, mailbox: MailboxId) -> None:
        with ThreadPoolExecutor(8) as threads:
            got = list(threads.map(lambda number: store.lease(mailbox, LONG, owner=str(number)), range(8)))
        assert len([lease for lease in got if lease is not None]) == 1

    def test_the_holder_is_told_until_the_time_is_up(
        self, store: Store, mailbox: MailboxId, clock: ManualClock
    ) -> None:
        assert store.holder(mailbox) is None
        lease = leased(store, mailbox)
        holder = Holder(owner="worker", token=lease.token, until=NOW + timedelta(seconds=LONG))
        assert store.holder(mailbox) == holder
        clock.pass_time(LONG)
        assert store.holder(mailbox) is None
        assert leased(store, mailbox, owner="other").token > lease.token

    def test_a_renewed_lease_lasts_longer(self, store: Store, mailbox: MailboxId, clock: ManualClock) -> None:
        lease = leased(store, mailbox)
        clock.pass_time(LONG - 1)
        lease.renew(LONG)
        clock.pass_time(LONG - 1)
        assert store.lease(mailbox, LONG, owner="other") is None

    def test_a_lease_that_nobody_took_over_still_writes(
        self, store: Store, mailbox: MailboxId, clock: ManualClock
    ) -> None:
        lease = leased(store, mailbox)
        clock.pass_time(LONG * 2)
        assert len(lease.admit(INBOX, [mail(mailbox, 1)], STATE)) == 1

    def test_a_lease_given_back_can_be_had_at_once(self, store: Store, mailbox: MailboxId) -> None:
        lease = leased(store, mailbox)
        lease.give_back(NOW)
        assert store.holder(mailbox) is None
        assert leased(store, mailbox, owner="other").token > lease.token

    def test_a_lease_is_taken_over_from_exactly_the_holder_named(self, store: Store, mailbox: MailboxId) -> None:
        lease = leased(store, mailbox)
        holder = store.holder(mailbox)
        assert holder is not None
        for wrong in (attrs.evolve(holder, owner="other"), attrs.evolve(holder, token=holder.token - 1)):
            assert store.lease(mailbox, LONG, owner="heir", over=wrong) is None
        heir = store.lease(mailbox, LONG, owner="heir", over=holder)
        assert heir is not None
        assert heir.token > lease.token
        assert store.lease(mailbox, LONG, owner="third", over=holder) is None

    @pytest.mark.parametrize("write", WRITES)
    @pytest.mark.parametrize("ending", ["taken over", "given back", "given back and had by another"])
    def test_a_lease_that_has_ended_writes_nothing(
        self, store: Store, mailbox: MailboxId, write: str, ending: str
    ) -> None:
        store.save(Configuration(id=mailbox, name="one", document={}))
        lease = leased(store, mailbox)
        (entry,) = lease.admit(INBOX, [mail(mailbox, 1)], STATE)
        heir: Lease | None = None
        if ending == "taken over":
            heir = store.lease(mailbox, LONG, owner="heir", over=store.holder(mailbox))
        else:
            lease.give_back(NOW, report(mailbox, SweepState.DONE, NOW))
            heir = leased(store, mailbox) if ending.endswith("another") else None
        before = (store.infos(), store.holder(mailbox))
        with pytest.raises(LeaseLost):
            WRITES[write](lease, entry)
        assert (store.infos(), store.holder(mailbox)) == before
        heir = heir or leased(store, mailbox)
        assert everything(heir) == [entry]
        assert heir.folder(INBOX) == STATE
        heir.record([attrs.evolve(entry, artifacts=(file("stale.eml"),))])  # its path was not reserved

    def test_what_a_sweep_did_is_remembered(self, store: Store, mailbox: MailboxId) -> None:
        store.save(Configuration(id=mailbox, name="one", document={"username": "u@example.com", "active": False}))
        minutes = [NOW + timedelta(minutes=number) for number in range(6)]
        states = [SweepState.DONE, SweepState.FAILED, SweepState.PAUSED, SweepState.LOST, SweepState.DONE]
        since = []
        for state, at in zip(states, minutes, strict=False):
            lease = leased(store, mailbox)
            lease.give_back(minutes[5], report(mailbox, state, at))
            (info,) = store.infos()
            assert info.report == report(mailbox, state, at)
            assert (info.next_due, info.held_by) == (minutes[5], None)
            since.append((info.last_success, info.failing_since))
        first, last = (report(mailbox, SweepState.DONE, minutes[at]).ended for at in (0, 4))
        assert since == [(first, None), *[(first, minutes[1])] * 3, (last, None)]
        leased(store, mailbox).give_back(minutes[4])
        (info,) = store.infos()
        assert info.report == report(mailbox, SweepState.DONE, minutes[4])
        assert (info.next_due, info.address, info.active) == (minutes[4], "u@example.com", False)

    @any_store
    @given(data=st.data())
    def test_every_field_of_a_report_comes_back(self, store: Store, data: st.DataObject) -> None:
        mailbox = some_mailbox()
        given_ = data.draw(sweep_reports(mailbox))
        store.save(Configuration(id=mailbox, name=mailbox, document={}))
        leased(store, mailbox).give_back(NOW, given_)
        (info,) = [each for each in store.infos() if each.mailbox == mailbox]
        assert info.report == given_
        store.drop(mailbox, forget=True)
