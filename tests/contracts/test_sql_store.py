"""The SQL store against the laws of the port, on SQLite and on PostgreSQL, alone and with many at once."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Barrier
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
from hypothesis import settings

from maildaemon_adapters.sql import KIND, SqlSettings, SqlStore, recent
from maildaemon_core.errors import LeaseLost, PathsTaken, Trouble
from maildaemon_core.message import FolderRef, MessageRef
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.progress import Entry, EntryId, Outcome, Stage
from maildaemon_core.store_port import Configuration, Lease, Store
from maildaemon_core.testing.lease_conformance import (
    INBOX,
    NOW,
    STATE,
    ManualClock,
    everything,
    file,
    leased,
    mail,
    some_mailbox,
)
from maildaemon_core.testing.memory_store import MemoryStore
from maildaemon_core.testing.store_conformance import StoreConformance
from maildaemon_core.testing.store_machine import StoreMachine
from tests.contracts.store_workers import COUNTED, MAILBOXES, found_mail, make, refused, work

some_histories = settings(max_examples=max(10, settings().max_examples // 4), stateful_step_count=25)


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def store(self, clock: ManualClock) -> MemoryStore:
        return MemoryStore(clock)


class TestSqliteStore(StoreConformance):
    @pytest.fixture
    def store(self, clock: ManualClock, tmp_path: Path) -> Iterator[SqlStore]:
        store = SqlStore(f"sqlite:///{tmp_path}/maildaemon.db", clock=clock)
        yield store
        store.close()


@pytest.mark.server
class TestPostgresqlStore(StoreConformance):
    @pytest.fixture
    def store(self, clock: ManualClock, emptied_url: str) -> Iterator[SqlStore]:
        store = SqlStore(emptied_url, clock=clock)
        yield store
        store.close()


class SqlMachine(StoreMachine):
    """One store serves all examples: to make one costs more than a history does."""

    shared: SqlStore

    def open_store(self) -> Store:
        return self.shared


class SqliteMachine(SqlMachine):
    pass


class PostgresqlMachine(SqlMachine):
    pass


class TestSqliteMachine(SqliteMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = some_histories

    @pytest.fixture(autouse=True)
    def _one_store(self, tmp_path: Path) -> Iterator[None]:
        SqliteMachine.shared = SqlStore(f"sqlite:///{tmp_path}/maildaemon.db", clock=SqliteMachine.clock)
        yield
        SqliteMachine.shared.close()


@pytest.mark.server
class TestPostgresqlMachine(PostgresqlMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(some_histories, max_examples=min(100, some_histories.max_examples // 2))

    @pytest.fixture(autouse=True)
    def _one_store(self, postgres_url: str) -> Iterator[None]:
        PostgresqlMachine.shared = SqlStore(postgres_url, clock=PostgresqlMachine.clock)
        yield
        PostgresqlMachine.shared.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each kind that is not there yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/maildaemon.db"
    there: str = request.getfixturevalue("postgres_url")
    return there


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    store = SqlStore(url)
    yield store
    store.close()


# ------------------------------------------------------------------------------------------------- what is remembered


def test_the_store_is_made_once_and_remembers_across_openings(url: str) -> None:
    mailbox = some_mailbox()
    first = KIND.open(url, SqlSettings())
    assert isinstance(first, SqlStore)
    assert first.made_anew
    admitted = leased(first, mailbox).admit(INBOX, [mail(mailbox, 1)], STATE)
    first.close()
    first.close()
    again = SqlStore.open(url, SqlSettings())
    assert not again.made_anew
    assert again.entries(EntryQuery(outcome=Outcome.PENDING)).entries == tuple(admitted)
    again.close()


def test_forgetting_ends_a_lease_that_is_at_work(store: SqlStore, lease: Lease) -> None:
    (entry,) = lease.admit(INBOX, [mail(lease.mailbox, 1)], STATE)
    store.drop(lease.mailbox, forget=True)
    for write in (lambda: lease.record([entry]), lambda: lease.admit(INBOX, [entry], STATE)):
        with pytest.raises(LeaseLost):
            write()
    assert store.entries(EntryQuery(outcome=Outcome.PENDING)).entries == ()


def test_a_lease_writes_only_entries_of_its_own_mailbox(store: SqlStore, lease: Lease) -> None:
    (entry,) = lease.admit(INBOX, [mail(lease.mailbox, 1)], STATE)
    other = leased(store, some_mailbox())
    for foreign in (entry, attrs.evolve(entry, mailbox=other.mailbox), mail(other.mailbox, 1)):
        with pytest.raises(ValueError, match="only entries that were admitted"):
            other.record([attrs.evolve(foreign, attempts=3)])
    with pytest.raises(ValueError, match="another entry's"):
        lease.admit(INBOX, [*lease.admit(INBOX, [mail(lease.mailbox, 2, ref=_ref("2"))], STATE), _taking(lease)], STATE)
    assert [each.attempts for each in everything(lease)] == [0, 0]


def _ref(uid: str) -> MessageRef:
    return MessageRef(INBOX, "7", uid)


def _taking(lease: Lease) -> Entry:
    return attrs.evolve(everything(lease)[0], ref=_ref("2"))


def test_a_write_after_one_that_was_refused_is_whole(store: SqlStore, lease: Lease) -> None:
    one, two = lease.admit(INBOX, [mail(lease.mailbox, number) for number in (1, 2)], STATE)
    lease.record([attrs.evolve(one, artifacts=(file("a.eml"),))])
    refused = attrs.evolve(two, attempts=3, stage=Stage.WAITING, artifacts=(file("a.eml"),))
    with pytest.raises(PathsTaken):
        lease.record([attrs.evolve(one, attempts=7, artifacts=(file("a.eml", size=4),)), refused])
    assert everything(lease) == [attrs.evolve(one, artifacts=(file("a.eml"),)), two]
    accepted = attrs.evolve(refused, artifacts=(file("b.eml"),))
    lease.record([attrs.evolve(one, attempts=7, artifacts=(file("a.eml", size=4),)), accepted])
    assert everything(lease) == [attrs.evolve(one, attempts=7, artifacts=(file("a.eml", size=4),)), accepted]


@pytest.mark.parametrize("most", [1, 2, recent.MOST])
def test_a_lease_writes_the_same_however_little_it_remembers(
    store: SqlStore, lease: Lease, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(recent, "MOST", most)
    wanted = list(lease.admit(INBOX, [mail(lease.mailbox, number) for number in range(1, 6)], STATE))
    for change in (
        lambda each: {"artifacts": (file(f"{each.key}.eml"),), "stage": Stage.PLANNED},
        lambda each: {"artifacts": (file(f"{each.key}.eml", size=9), file(f"{each.key}.txt", index=1))},
        lambda each: {"artifacts": (), "trouble": Trouble(error="E", message="m"), "defects": ("torn",)},
        lambda each: {"artifacts": (file(f"{each.key}.eml"),), "trouble": None, "subject": "\u00c4", "defects": ()},
    ):
        wanted = [attrs.evolve(each, **change(each)) for each in wanted]
        lease.record(wanted)
        assert everything(lease) == wanted


def test_only_so_many_entries_are_remembered_and_of_each_the_latest() -> None:
    remembered = recent.Recent()
    mailbox = some_mailbox()
    entries = [mail(mailbox, number, id=EntryId(number)) for number in range(recent.MOST + 2)]
    remembered.keep(entries)
    remembered.keep([attrs.evolve(entries[2], attempts=1), mail(mailbox, 0, id=EntryId(recent.MOST + 2))])
    known = remembered.of(EntryId(number) for number in range(recent.MOST + 3))
    assert set(known) == {2, *range(4, recent.MOST + 3)}
    assert known[EntryId(2)].attempts == 1
    with pytest.raises(ZeroDivisionError), remembered.unless_it_fails():
        raise ZeroDivisionError
    assert remembered.of(known) == {}


def test_paths_and_folders_of_any_length_that_there_may_be_can_be_kept(lease: Lease) -> None:
    """Nothing in these repeats, so no index can make it shorter."""
    words = "".join(chr(0x4E00 + at * 7919 % 20_000) for at in range(900))
    ref = MessageRef(FolderRef(words[:300]), "7", words[300:380])
    (entry,) = lease.admit(ref.folder, [mail(lease.mailbox, 1, ref=ref)], STATE)
    long = file(words[:682], place=f"/{words[682:870]}")  # 2,046 bytes, and 565
    lease.record([attrs.evolve(entry, artifacts=(long,))])
    assert list(lease.at([ref])) == [attrs.evolve(entry, artifacts=(long,))]


def test_a_size_that_a_server_made_up_is_no_reason_to_stop(lease: Lease) -> None:
    found = [mail(lease.mailbox, at, size=size) for at, size in enumerate((2**63 - 1, 2**63, 10**30))]
    lease.admit(INBOX, found, STATE)
    assert {each.size for each in everything(lease)} == {2**63 - 1}


# ----------------------------------------------------------------------------------------------------------- its speed


def test_a_batch_is_recorded_in_a_few_statements_and_one_commit(lease: Lease) -> None:
    counted: Counter[str] = Counter()

    def statement(_connection: sa.Connection, _cursor: object, text: str, *_: object) -> None:
        counted[text.split(maxsplit=1)[0]] += 1

    def commit(_connection: sa.Connection) -> None:
        counted["COMMIT"] += 1

    leased_once = lease.folder(INBOX)  # a connection is made when it is first needed
    assert leased_once is None
    mails = [mail(lease.mailbox, number) for number in range(200)]
    sa.event.listen(sa.Engine, "before_cursor_execute", statement)
    sa.event.listen(sa.Engine, "commit", commit)
    try:
        found = lease.admit(INBOX, mails, STATE)
        admission = dict(counted)
        counted.clear()
        lease.record([attrs.evolve(each, artifacts=(file(f"{each.key}.eml"),), stage=Stage.PLANNED) for each in found])
        recording = dict(counted)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", statement)
        sa.event.remove(sa.Engine, "commit", commit)
    assert admission["COMMIT"] == recording["COMMIT"] == 1
    assert sum(admission.values()) <= 12
    assert sum(recording.values()) <= 12


# -------------------------------------------------------------------------------------------------------- many at once


@pytest.mark.heavy
@pytest.mark.timeout(200)
def test_eight_threads_and_four_processes_share_one_store(
    store: SqlStore, url: str, tmp_path: Path, heavy: bool
) -> None:
    """Nobody is told to try again, no mailbox is held by two, no update is lost; whoever waits gets its turn."""
    for mailbox in MAILBOXES:
        store.save(Configuration(id=mailbox, name=mailbox, document={"number": 0}))
        lease = leased(store, mailbox)
        lease.admit(COUNTED, [found_mail(mailbox, COUNTED, 1)], STATE)
        lease.give_back(NOW)
    crew, seconds = 12, 60 if heavy else 3
    with _processes(4) as processes, ThreadPoolExecutor(8) as threads:
        jobs = [processes.submit(work, tmp_path, f"process {at}", url, crew, seconds) for at in range(4)]
        jobs += [threads.submit(work, tmp_path, f"thread {at}", url, crew, seconds, store) for at in range(8)]
        each = _results(jobs)
    done = sum(each, Counter[str]())
    assert min(sum(one.values()) for one in each) > 0
    assert min(done[what] for what in ("reserved", "stale", "dismissed", "thinned")) > 0, done
    for mailbox in MAILBOXES:
        configuration = store.configuration(mailbox)
        assert configuration is not None
        assert configuration.document["number"] == configuration.version - 1 == done[f"saved {mailbox}"]
        (entry,) = leased(store, mailbox).open_in(COUNTED)
        assert entry.attempts == done[f"counted {mailbox}"] > 0


def test_several_processes_make_the_store_at_once_and_one_has_made_it(url: str, tmp_path: Path) -> None:
    with _processes(3) as processes, ThreadPoolExecutor(3) as threads:
        jobs = [processes.submit(make, tmp_path, f"process {at}", url, 6) for at in range(3)]
        jobs += [threads.submit(make, tmp_path, f"thread {at}", url, 6) for at in range(3)]
        assert sorted(_results(jobs)) == [False] * 5 + [True]


def _processes(number: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(number, mp_context=multiprocessing.get_context("spawn"))


def _results(jobs: list[Future[Any]]) -> list[Any]:
    return [job.result(timeout=180) for job in jobs]


def test_a_lease_passes_on_only_between_two_writes(store: SqlStore, lease: Lease) -> None:
    (entry,) = lease.admit(INBOX, [mail(lease.mailbox, 1)], STATE)
    recorded, holder = attrs.evolve(entry, attempts=1), store.holder(lease.mailbox)
    heirs: list[Future[Lease | None]] = []
    too_early: list[bool] = []

    def take_over(_connection: sa.Connection, _cursor: object, text: str, *_: object) -> None:
        if text.startswith("UPDATE entry") and not heirs:
            heirs.append(threads.submit(store.lease, lease.mailbox, 60, owner="heir", over=holder))
            too_early.append(bool(wait(heirs, timeout=0.5).done))

    with ThreadPoolExecutor(1) as threads:
        sa.event.listen(sa.Engine, "before_cursor_execute", take_over)
        try:
            lease.record([recorded])
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", take_over)
        heir = heirs[0].result(timeout=60)
    assert too_early == [False]
    assert heir is not None
    assert everything(heir) == [recorded]
    with pytest.raises(LeaseLost):
        lease.record([entry])


def test_mails_admitted_at_once_to_several_mailboxes_get_their_own_numbers(store: SqlStore) -> None:
    at_once = Barrier(4)

    def admit(number: int) -> bool:
        lease = leased(store, some_mailbox())
        admitted: list[Entry] = []
        for page in range(8):
            at_once.wait(60)
            found = [mail(lease.mailbox, page * 20 + at, subject=f"{number}") for at in range(20)]
            admitted += lease.admit(INBOX, found, STATE)
        return everything(lease) == admitted == sorted(admitted, key=lambda entry: entry.id or 0)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(admit, range(4)))


def test_mailboxes_that_want_the_same_paths_in_another_order_never_wait_in_a_circle(store: SqlStore) -> None:
    at_once = Barrier(2)
    names = [f"{at}.eml" for at in range(40)]

    def reserve(number: int) -> list[set[str]]:
        """The paths that it could not have, in each turn."""
        lease, lost = leased(store, some_mailbox()), []
        for turn in range(10):
            found = lease.admit(INBOX, [mail(lease.mailbox, turn * 40 + at) for at in range(40)], STATE)
            wanted = [f"{turn}/{name}" for name in (names if number else reversed(names))]
            planned = [attrs.evolve(each, artifacts=(file(path),)) for each, path in zip(found, wanted, strict=True)]
            at_once.wait(60)
            lost.append({path for _, path in refused(lease, planned)})
        return lost

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(reserve, range(2))
    for turn, lost in enumerate(zip(one, other, strict=True)):
        assert sorted(lost, key=len) == [set(), {f"{turn}/{name}" for name in names}]


def test_people_may_look_while_somebody_writes(store: SqlStore, lease: Lease) -> None:
    (entry,) = lease.admit(INBOX, [mail(lease.mailbox, 1)], STATE)
    with store._database.write() as writing, ThreadPoolExecutor(1) as another:
        writing.execute(sa.text("UPDATE entry SET attempts = 7"))
        writing.execute(sa.text("UPDATE lease SET owner = 'x'"))

        def look() -> list[Entry]:
            assert store.holder(lease.mailbox) is not None
            return [*store.entries(EntryQuery(outcome=Outcome.PENDING)).entries, *lease.in_hand()]

        assert another.submit(look).result(timeout=20) == [entry]


def test_a_transaction_that_reads_sees_one_state(store: SqlStore, lease: Lease) -> None:
    with store._database.read() as reading:
        assert reading.scalar(sa.text("SELECT count(*) FROM entry")) == 0
        lease.admit(INBOX, [mail(lease.mailbox, 1)], STATE)
        assert reading.scalar(sa.text("SELECT count(*) FROM entry")) == 0
    assert len(everything(lease)) == 1
