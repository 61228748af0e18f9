"""The SQL store on SQLite against the laws of the port, and what only a database in a file can go through."""

from __future__ import annotations

import atexit
import multiprocessing
import re
import sqlite3
import stat
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
from hypothesis import settings

from maildaemon_adapters.sql import KIND, SqlStore, connection, recent
from maildaemon_core.errors import (
    InvalidOptions,
    LeaseLost,
    MaildaemonError,
    PathsTaken,
    StoreTooNew,
    StoreUnavailable,
    Trouble,
)
from maildaemon_core.message import FolderRef, Identity, MessageRef
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.ports import Configuration, Lease, Store
from maildaemon_core.progress import Entry, EntryId, Outcome, Stage
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
from tests.contracts.store_workers import MAILBOXES, work


def opened(folder: Path, **other: Any) -> SqlStore:
    return SqlStore(f"sqlite:///{folder}/maildaemon.db", **other)


class TestSqliteStore(StoreConformance):
    @pytest.fixture
    def store(self, clock: ManualClock, tmp_path: Path) -> Iterator[SqlStore]:
        store = opened(tmp_path, clock=clock)
        yield store
        store.close()


class SqliteMachine(StoreMachine):
    def open_store(self) -> Store:
        return _shared_store(self.clock)


@cache
def _shared_store(clock: ManualClock) -> SqlStore:
    """One store for all examples: to make one costs more than a history does."""
    folder = TemporaryDirectory(prefix="maildaemon-")
    store = opened(Path(folder.name), clock=clock)
    atexit.register(folder.cleanup)
    atexit.register(store.close)
    return store


class TestSqliteMachine(SqliteMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=max(10, settings().max_examples // 4), stateful_step_count=25)


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def store(self, clock: ManualClock) -> MemoryStore:
        return MemoryStore(clock)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = opened(tmp_path)
    yield store
    store.close()


@pytest.fixture
def lease(store: SqlStore) -> Lease:
    return leased(store, some_mailbox())


# ------------------------------------------------------------------------------------------------------------- the file


def test_the_store_is_made_once_and_remembers_across_openings(tmp_path: Path) -> None:
    mailbox = some_mailbox()
    first = KIND.open(f"sqlite:///{tmp_path}/größe 100%?.db")
    assert isinstance(first, SqlStore)
    assert first.made_anew
    admitted = leased(first, mailbox).admit(INBOX, [mail(mailbox, 1)], STATE)
    first.close()
    first.close()
    assert [path.name for path in tmp_path.iterdir()] == ["größe 100%?.db"]
    again = SqlStore.open(f"sqlite:///{tmp_path}/größe 100%?.db")
    assert not again.made_anew
    assert again.entries(EntryQuery(outcome=Outcome.PENDING)).entries == tuple(admitted)
    again.close()


def test_a_relative_path_is_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    SqlStore("sqlite:///mail.db").close()
    assert (tmp_path / "mail.db").is_file()


def test_a_new_store_can_be_read_by_its_owner_only(store: SqlStore, lease: Lease, tmp_path: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("maildaemon.db", "maildaemon.db-shm", "maildaemon.db-wal"), 0o600)


def test_commits_reach_the_disk_and_readers_do_not_wait(store: SqlStore, lease: Lease) -> None:
    with store._database.write() as writing:
        for setting, value in (
            ("synchronous", 2),
            ("foreign_keys", 1),
            ("journal_mode", "wal"),
            ("busy_timeout", 10_000),
        ):
            assert writing.exec_driver_sql(f"PRAGMA {setting}").scalar() == value
        begun = time.monotonic()
        assert lease.in_hand() == []
        assert store.infos() == []
        assert time.monotonic() - begun < 5


def test_a_store_of_a_newer_release_is_refused(store: SqlStore, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "maildaemon.db") as database:
        database.execute("UPDATE maildaemon_schema SET version = version + 1")
    database.close()
    with pytest.raises(StoreTooNew, match=r"maildaemon\.db.*newer release"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "postgresql://u:hunter2@host/db", "mail.db", "sqlite:///a\0b", ""]
)
def test_a_url_that_is_no_file_is_refused_without_saying_its_password(url: str) -> None:
    with pytest.raises(InvalidOptions, match="sqlite:///FILE") as refusal:
        SqlStore(url)
    assert "hunter2" not in str(refusal.value)


def test_what_is_in_the_way_of_the_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("This is no database, and long enough to see that at once. " * 20)
    (tmp_path / "folder").mkdir()
    with sqlite3.connect(tmp_path / "foreign") as foreign:
        foreign.execute("CREATE TABLE customers (id)")
    foreign.close()
    expected = {
        "text": "not a database",
        "folder": "cannot be opened",
        "foreign": "another program.*customers",
        "missing/mail.db": "folder does not exist",
        "text/mail.db": "folder is a file",
    }
    for name, message in expected.items():
        with pytest.raises(StoreUnavailable, match=message) as refusal:
            SqlStore(f"sqlite:///{tmp_path}/{name}")
        assert str(tmp_path / name) in refusal.value.message
        assert refusal.value.remedy
    assert (tmp_path / "text").read_text().startswith("This is no database")


def test_a_store_that_others_keep_locked_is_unavailable_but_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.2)
    store = opened(tmp_path)
    lease = leased(store, some_mailbox())
    other = sqlite3.connect(tmp_path / "maildaemon.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"maildaemon\.db has been locked") as refusal:
        lease.record([])
    assert "try again" in refusal.value.remedy
    assert refusal.value.transient
    opened(tmp_path).close()
    assert lease.in_hand() == []
    other.execute("ROLLBACK")
    other.close()
    lease.record([])
    store.close()


def test_a_full_disk_is_said_and_writes_nothing(tmp_path: Path) -> None:
    opened(tmp_path).close()
    full = "PRAGMA max_page_count=1"  # no more than there are

    def limit(driver: sqlite3.Connection, _record: object) -> None:
        driver.execute(full)

    sa.event.listen(sa.Engine, "connect", limit)
    try:
        store = opened(tmp_path)
        lease = leased(store, some_mailbox())
        with pytest.raises(StoreUnavailable, match=r"maildaemon\.db cannot grow: the disk is full"):
            lease.admit(INBOX, [mail(lease.mailbox, number) for number in range(500)], STATE)
        assert lease.folder(INBOX) is None
        assert everything(lease) == []
        store.close()
    finally:
        sa.event.remove(sa.Engine, "connect", limit)


def test_a_damaged_file_is_unavailable_never_a_raw_error(tmp_path: Path) -> None:
    store = opened(tmp_path)
    lease = leased(store, some_mailbox())
    lease.admit(INBOX, [mail(lease.mailbox, number) for number in range(500)], STATE)
    store.close()
    path = tmp_path / "maildaemon.db"
    data = bytearray(path.read_bytes())
    data[4096 * 4 :] = b"\xa5" * (len(data) - 4096 * 4)
    path.write_bytes(data)
    with pytest.raises(StoreUnavailable, match="damaged") as refusal:
        opened(tmp_path).entries(EntryQuery(outcome=Outcome.PENDING, limit=500))
    assert "backup" in refusal.value.remedy


# ------------------------------------------------------------------------------------------------------ what it decides


def test_two_mailboxes_cannot_have_the_same_name(store: SqlStore) -> None:
    first = store.save(Configuration(id=some_mailbox(), name="one", document={}))
    with pytest.raises(InvalidOptions, match="names are unique"):
        store.save(Configuration(id=some_mailbox(), name="one", document={}))
    assert list(store.configurations()) == [first]


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


def test_paths_of_one_entry_stay_with_what_they_were_planned_for(store: SqlStore, lease: Lease) -> None:
    (entry,) = lease.admit(INBOX, [mail(lease.mailbox, 1)], STATE)
    lease.record([attrs.evolve(entry, artifacts=(file("a.eml"),))])
    suffixed = attrs.evolve(entry, artifacts=(file("a-key.eml"), file("b.pdf", index=1)))
    lease.record([suffixed])
    with pytest.raises(PathsTaken) as refusal:
        lease.record([attrs.evolve(entry, artifacts=(file("a-key.eml"), file("a.eml", index=1), file("c", index=2)))])
    assert refusal.value.taken == {("/srv/mail", "a.eml")}
    assert everything(lease) == [suffixed]
    lease.record([attrs.evolve(entry, artifacts=(file("a.eml"),))])


def test_text_that_no_database_takes_is_replaced_instead_of_failing_the_mail(lease: Lease) -> None:
    bad, good = "a\udc80b", "a\ufffdb"
    folder = FolderRef(bad)
    trouble = Trouble(error="OSError", message=bad)
    given = mail(
        lease.mailbox, 1, ref=MessageRef(folder, "7", "1"), subject=bad, sender=bad, reason=bad, trouble=trouble
    )
    (entry,) = lease.admit(folder, [given], STATE)
    assert lease.admit(folder, [given], STATE) == []
    assert lease.folder(folder) == STATE
    planned = attrs.evolve(entry, artifacts=(file(f"{bad}.eml", name=bad),))
    for _ in range(2):
        lease.record([planned])
    (found,) = lease.open_in(folder)
    assert (found.ref.folder, found.subject, found.sender, found.reason) == (good, good, good, good)
    assert [(artifact.path, artifact.name) for artifact in found.artifacts] == [(f"{good}.eml", good)]


# ----------------------------------------------------------------------------------------------------------- its speed


def test_no_question_reads_a_whole_table(store: SqlStore, lease: Lease, tmp_path: Path) -> None:
    """Each statement's plan searches by an index, and by as much of it as there is to know."""
    asked: dict[str, Any] = {}

    def note(_connection: sa.Connection, _cursor: object, statement: str, values: Any, *_: object) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            asked[statement] = values[0] if isinstance(values, list) else values

    found = lease.admit(INBOX, [mail(lease.mailbox, number) for number in range(50)], STATE)
    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        planned = [attrs.evolve(each, artifacts=(file(f"{each.key}.eml"),), in_hand=1) for each in found]
        lease.record(planned)
        lease.admit(INBOX, [attrs.evolve(planned[0], ref=_ref("x")), mail(lease.mailbox, 100)], STATE)
        with pytest.raises(PathsTaken):
            lease.record([attrs.evolve(planned[1], artifacts=planned[2].artifacts)])
        lease.due({Stage.FOUND, Stage.STORED}, NOW, after=found[3].id, limit=5)
        lease.known([Identity("a", "S"), Identity("b")])
        lease.open_in(INBOX)
        lease.in_hand()
        lease.folder(INBOX)
        lease.renew(60)
        for query in (
            EntryQuery(outcome=Outcome.PENDING, sender="x", before=found[9].id),
            EntryQuery(outcome=Outcome.FAILED),
        ):
            store.entries(query)
            store.entries(attrs.evolve(query, mailbox=lease.mailbox))
        store.holder(lease.mailbox)
        lease.give_back(NOW)
        store.drop(lease.mailbox, forget=True)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    database = sqlite3.connect(tmp_path / "maildaemon.db")
    plans = {
        statement: [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        for statement, values in asked.items()
    }
    database.close()
    steps = [step for plan in plans.values() for step in plan]
    assert not [plan for plan in plans.items() if re.search(r"\bSCAN (entry|artifact|folder|lease)", str(plan))]
    assert not [step for step in steps if "TEMP B-TREE" in step and "ORDER BY" in step and "entry" in step]
    used = Counter(re.sub(r"^SEARCH | COVERING", "", step) for step in steps)
    for needed in (
        "entry USING INDEX ix_entry_due (mailbox=? AND stage=? AND id>?)",
        "entry USING INDEX ix_entry_fingerprint (mailbox=? AND fingerprint=?)",
        "entry USING INDEX ix_entry_strong (mailbox=? AND strong=?)",
        "entry USING INDEX ix_entry_open (mailbox=? AND folder=? AND due_at>?)",
        "entry USING INDEX ix_entry_in_hand (mailbox=? AND in_hand>?)",
        "entry USING INDEX ix_entry_outcome (outcome=? AND id<?)",
        "entry USING INDEX ix_entry_mailbox_outcome (mailbox=? AND outcome=? AND id<?)",
        "entry USING INDEX sqlite_autoindex_entry_1 (mailbox=? AND folder=? AND uidvalidity=? AND uid=?)",
        "entry USING INTEGER PRIMARY KEY (rowid=?)",
        "entry USING INTEGER PRIMARY KEY (rowid>?)",
        "artifact USING INDEX ix_artifact_entry (entry=?)",
        "artifact USING INDEX sqlite_autoindex_artifact_1 (place=? AND path=?)",
    ):
        assert used[needed], f"{needed} is not among {sorted(used)}"


def test_a_batch_is_recorded_in_a_few_statements_and_one_commit(lease: Lease) -> None:
    counted: Counter[str] = Counter()

    def statement(_connection: sa.Connection, _cursor: object, text: str, *_: object) -> None:
        counted[text.split(maxsplit=1)[0]] += 1

    def commit(_connection: sa.Connection) -> None:
        counted["COMMIT"] += 1

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


def test_threads_and_processes_share_one_file(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for mailbox in MAILBOXES:
        store.save(Configuration(id=mailbox, name=mailbox, document={"number": 0}))
        lease = leased(store, mailbox)
        lease.admit(INBOX, [mail(mailbox, 1, in_hand=1)], STATE)
        lease.give_back(NOW)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as processes, ThreadPoolExecutor(4) as threads:
        jobs = [processes.submit(work, tmp_path, f"process {number}") for number in range(2)]
        jobs += [threads.submit(work, tmp_path, f"thread {number}", store) for number in range(4)]
        done = sum((job.result() for job in jobs), Counter[str]())
        each = [sum(job.result().values()) for job in jobs]
    assert min(each) > 0
    for mailbox in MAILBOXES:
        configuration = store.configuration(mailbox)
        assert configuration is not None
        assert configuration.document["number"] == configuration.version - 1 == done[f"saved {mailbox}"]
        (entry,) = leased(store, mailbox).in_hand()
        assert entry.attempts == done[f"counted {mailbox}"] > 0
    store.close()


def test_several_processes_can_make_the_store_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(lambda _: opened(tmp_path), range(8)))
    assert Counter(store.made_anew for store in stores) == {True: 1, False: 7}
    for store in stores:
        store.close()


def test_every_error_of_the_store_is_one_of_ours(tmp_path: Path) -> None:
    store = opened(tmp_path)
    lease = leased(store, some_mailbox())
    with sqlite3.connect(tmp_path / "maildaemon.db") as database:
        database.execute("DROP TABLE artifact")
        database.execute("ALTER TABLE entry RENAME TO elsewhere")
    database.close()
    for call in (lease.in_hand, store.infos, lambda: lease.admit(INBOX, [mail(lease.mailbox, 1)], STATE)):
        with pytest.raises(MaildaemonError, match=r"maildaemon\.db failed \(no such table"):
            call()
    store.close()


# ------------------------------------------------------------------------------------------------- what is remembered


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
