"""A store on a server in trouble: errors say what to do, nothing half is written, and it goes on when that is over."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import attrs
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from maildaemon_adapters.sql import SqlSettings, SqlStore, postgresql
from maildaemon_core.errors import PathsTaken, StoreUnavailable
from maildaemon_core.message import MessageRef
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.progress import Entry, Outcome, Rebound, Stage, advance
from maildaemon_core.store_port import Lease
from maildaemon_core.testing.lease_conformance import (
    INBOX,
    NOW,
    STATE,
    everything,
    file,
    leased,
    mail,
    some_mailbox,
)
from tests.servers.availability import not_available
from tests.servers.mounting import REMEDY
from tests.servers.postgres import Postgres
from tests.servers.proxy import NO_FAULT, ChaosProxy, Fault

pytestmark = pytest.mark.server


@pytest.fixture
def store(postgres_url: str) -> Iterator[SqlStore]:
    store = SqlStore(postgres_url)
    yield store
    store.close()


@pytest.fixture(scope="module")
def own_server() -> Iterator[Postgres]:
    """One that may be stopped."""
    with Postgres() as server:
        yield server


@pytest.fixture
def small_disk(own_server: Postgres) -> Iterator[Path]:
    """A file system with little room, whose owner is the server's user."""
    with TemporaryDirectory(prefix="maildaemon-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        command = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", name]
        if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
            not_available("no file system can be mounted here", REMEDY)
        shutil.chown(folder, own_server.data.owner())
        yield folder
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def when(name: str, act: Callable[[str], object]) -> Iterator[None]:
    """Calls ``act`` with each statement that is about to be sent, or with "COMMIT"."""

    def statement(_connection: sa.Connection, _cursor: object, text: str, *_: object) -> None:
        act(text)

    def commit(_connection: sa.Connection) -> None:
        act("COMMIT")

    event, listener = ("commit", commit) if name == "COMMIT" else ("before_cursor_execute", statement)
    sa.event.listen(sa.Engine, event, listener)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, event, listener)


def end_sessions(url: str, server: Postgres) -> None:
    """As an administrator would: each of them in the middle of whatever it does."""
    with psycopg.connect(server.superuser_url, autocommit=True) as administrator:
        administrator.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s",
            (url.rpartition("/")[2],),
        )


PENDING = EntryQuery(outcome=Outcome.PENDING)


def some_plans(lease: Lease, number: int = 3) -> list[Entry]:
    found = lease.admit(INBOX, [mail(lease.mailbox, at) for at in range(number)], STATE)
    return [attrs.evolve(each, stage=Stage.PLANNED, artifacts=(file(f"{each.key}.eml"),)) for each in found]


@pytest.mark.parametrize("moment", ["SELECT", "UPDATE entry", "INSERT INTO artifact", "RELEASE", "COMMIT"])
def test_a_session_that_is_ended_in_mid_transaction_has_written_nothing(
    store: SqlStore, lease: Lease, postgres: Postgres, postgres_url: str, moment: str
) -> None:
    plans = some_plans(lease)
    before = everything(lease)
    hits: list[str] = []

    def strike(text: str) -> None:
        if text.startswith(moment) and not hits:
            hits.append(text)
            end_sessions(postgres_url, postgres)

    with when(moment, strike), pytest.raises(StoreUnavailable, match=r"ended the connection|went away") as error:
        lease.record(plans)
    assert hits
    assert error.value.remedy
    assert everything(lease) == before
    lease.record(plans)
    assert everything(lease) == plans


def test_a_commit_of_which_the_answer_is_lost_can_be_made_again(postgres: Postgres, postgres_url: str) -> None:
    with ChaosProxy(postgres.port) as proxy:
        store = SqlStore(postgres_url.replace(f":{postgres.port}/", f":{proxy.port}/"))
        lease = leased(store, some_mailbox())
        plans = some_plans(lease)

        def cut(_text: str) -> None:
            proxy.fault = Fault(cut_after=0)

        with when("COMMIT", cut), pytest.raises(StoreUnavailable, match="went away in the middle"):
            lease.record(plans)
        assert proxy.bytes_down > 0
        proxy.fault = NO_FAULT
        assert list(reversed(store.entries(PENDING).entries)) == plans  # it was committed, and nobody was told
        # Had the lease kept what it believed of them, it would leave out what it takes for unchanged.
        again = [attrs.evolve(each, stage=Stage.FOUND, artifacts=()) for each in plans]
        lease.record(again)
        assert everything(lease) == again
        lease.record(plans)
        assert everything(lease) == plans
        store.close()


def test_connections_are_checked_before_they_are_used(
    store: SqlStore, lease: Lease, postgres: Postgres, postgres_url: str
) -> None:
    for _ in range(2):
        end_sessions(postgres_url, postgres)
        lease.record([])
        end_sessions(postgres_url, postgres)
        assert store.infos() == []


def test_a_server_that_was_started_again_is_used_again_and_one_that_stands_is_said(own_server: Postgres) -> None:
    store = SqlStore(own_server.fresh_database())
    lease = leased(store, some_mailbox())
    plans = some_plans(lease)
    own_server.stop()
    own_server.start()
    lease.record(plans)
    for end in (own_server.stop, own_server.crash):
        end()
        for call in (store.infos, lambda: lease.record(plans), lease.in_hand):
            with pytest.raises(StoreUnavailable, match=r"cannot be reached.*refused") as error:
                call()
            assert "see that the database server runs" in error.value.remedy
        own_server.start()
        assert everything(lease) == plans

    def crash_in_between() -> None:
        with store._database.write() as connection:
            connection.execute(sa.text("UPDATE entry SET attempts = 9"))
            own_server.crash()
            connection.execute(sa.text("UPDATE entry SET attempts = 10"))

    with pytest.raises(StoreUnavailable):
        crash_in_between()
    own_server.start()
    assert everything(lease) == plans
    store.close()


def test_a_row_that_stays_locked_is_said_and_can_be_read(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "LOCK_SECONDS", 1)
    store = SqlStore(postgres_url)
    lease = leased(store, some_mailbox())
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT * FROM lease FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="was kept locked by another program") as error:
            lease.record([])
        assert lease.in_hand() == []
        assert store.holder(lease.mailbox) is not None
    assert "try again" in error.value.remedy
    lease.record([])
    store.close()


def test_a_pool_that_is_used_up_is_said(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "LOCK_SECONDS", 1)
    store = SqlStore(postgres_url, SqlSettings(connections=2))
    with store._database.read(), store._database.read(), pytest.raises(StoreUnavailable, match="was busy") as error:
        store.infos()
    assert "connections" in error.value.remedy
    assert store.infos() == []
    store.close()


def test_a_frozen_worker_does_not_keep_its_locks(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "IDLE_SECONDS", 1)
    store = SqlStore(postgres_url)
    lease = leased(store, some_mailbox())

    def freeze() -> None:
        with store._database.write() as frozen:
            frozen.execute(sa.text("UPDATE lease SET owner = NULL"))
            lease.record([])  # waits until the other is ended
            frozen.execute(sa.text("UPDATE lease SET owner = NULL"))

    with pytest.raises(StoreUnavailable, match="nothing happened"):
        freeze()
    lease.record([])
    store.close()


def test_two_that_wait_for_each_other_are_parted(store: SqlStore, lease: Lease, postgres_url: str) -> None:
    one, two = lease.admit(INBOX, [mail(lease.mailbox, 1), mail(lease.mailbox, 2)], STATE)
    touch = sa.text("UPDATE entry SET attempts = attempts + 1 WHERE id = :id")
    begun = Event()

    def wait_first() -> None:
        with store._database.write() as connection:
            connection.execute(touch, {"id": one.id})
            begun.set()
            connection.execute(touch, {"id": two.id})

    with psycopg.connect(postgres_url) as other, ThreadPoolExecutor(1) as thread:
        other.execute("UPDATE entry SET attempts = attempts + 1 WHERE id = %s", (two.id,))
        job = thread.submit(wait_first)
        assert begun.wait(20)
        time.sleep(0.3)  # who waits first looks first whether somebody waits for it
        other.execute("UPDATE entry SET attempts = attempts + 1 WHERE id = %s", (one.id,))
        other.rollback()
        with pytest.raises(StoreUnavailable, match="waiting for each other") as error:
            job.result()
    assert "try again" in error.value.remedy
    assert everything(lease) == [one, two]


def test_what_a_lease_has_in_its_hand_is_not_thinned_out_now(store: SqlStore, lease: Lease) -> None:
    found = [mail(lease.mailbox, at, stage=Stage.SETTLED, due_at=None) for at in range(3)]
    numbers = [each.id for each in lease.admit(INBOX, found, STATE)]
    later = NOW + timedelta(days=1)
    with store._database.write() as working:
        working.execute(sa.text("UPDATE entry SET attempts = 1 WHERE id = :id"), {"id": numbers[1]})
        assert store.thin(Outcome.STORED, later, limit=10) == 2
    assert [each.id for each in store.entries(EntryQuery(outcome=Outcome.STORED)).entries] == [numbers[1]]
    assert store.thin(Outcome.STORED, later, limit=10) == 1


def test_a_mailbox_can_be_forgotten_while_its_history_is_thinned_out(store: SqlStore, lease: Lease) -> None:
    found = lease.admit(INBOX, [mail(lease.mailbox, at) for at in range(3)], STATE)
    lease.record(
        [attrs.evolve(each, stage=Stage.SETTLED, due_at=None, artifacts=(file(f"{each.id}.eml"),)) for each in found]
    )
    hits: list[str] = []

    def forget(text: str) -> None:
        if text.startswith("UPDATE artifact") and not hits:
            hits.append(text)
            forgotten.append(thread.submit(store.drop, lease.mailbox, forget=True))
            time.sleep(0.5)  # it has locked by now whatever it locks

    forgotten: list[Future[None]] = []
    with when("UPDATE", forget), ThreadPoolExecutor(1) as thread:
        assert store.thin(Outcome.STORED, NOW + timedelta(days=1), limit=10) == 3
        forgotten[0].result(20)
    assert everything(leased(store, lease.mailbox)) == []


def test_new_paths_are_reserved_before_rows_are_changed_that_others_may_wait_for(store: SqlStore, lease: Lease) -> None:
    one, two = some_plans(lease, 2)
    lease.record([one])
    texts: list[str] = []
    with when("UPDATE", lambda text: texts.append(text[:15])):
        lease.record([attrs.evolve(one, artifacts=(attrs.evolve(one.artifacts[0], part="other"),)), two])
    assert [text for text in texts if "art" in text and "SELECT" not in text] == ["INSERT INTO art", "UPDATE artifact"]


def test_a_name_that_is_taken_is_no_statement_that_fails(store: SqlStore, lease: Lease) -> None:
    one, two = some_plans(lease, 2)
    lease.record([one])
    texts: list[str] = []
    with when("INSERT", texts.append), pytest.raises(PathsTaken):
        lease.record([attrs.evolve(two, artifacts=(*one.artifacts, *two.artifacts))])
    assert texts
    assert not any(text.startswith("INSERT") for text in texts)


def test_what_comes_to_life_at_this_moment_is_not_thinned_out(store: SqlStore, lease: Lease) -> None:
    gone = [mail(lease.mailbox, at, stage=Stage.VANISHED, due_at=None, subject="s") for at in range(2)]
    first, second = lease.admit(INBOX, gone, STATE)
    alive = advance(first, Rebound(MessageRef(INBOX, "8", "1")), NOW)
    hits: list[str] = []

    def come_to_life(text: str) -> None:
        if "SKIP LOCKED" in text and not hits:
            hits.append(text)
            lease.record([alive])

    with when("SELECT", come_to_life):
        assert store.thin(Outcome.SKIPPED, NOW + timedelta(days=1), limit=10) == 1
    assert hits
    assert store.entries(PENDING).entries == (alive,)
    assert second.id is not None
    assert store.entry(second.id) is None


def test_a_server_that_only_reads_is_said_and_can_be_read(
    store: SqlStore, lease: Lease, postgres: Postgres, postgres_url: str
) -> None:
    (entry,) = lease.admit(INBOX, [mail(lease.mailbox, 1)], STATE)
    name = postgres_url.rpartition("/")[2]
    postgres.execute("ALTER DATABASE {} SET default_transaction_read_only = on", name)
    end_sessions(postgres_url, postgres)
    assert lease.in_hand() == []  # a session that has read must not forget what the server is set to
    with pytest.raises(StoreUnavailable, match="cannot be written: the server is read-only") as error:
        lease.record([attrs.evolve(entry, attempts=5)])
    assert "primary" in error.value.remedy
    assert everything(lease) == [entry]
    reader = SqlStore(postgres_url)
    assert reader.entries(PENDING).entries == (entry,)
    reader.close()
    postgres.execute("ALTER DATABASE {} RESET default_transaction_read_only", name)
    end_sessions(postgres_url, postgres)
    lease.record([attrs.evolve(entry, attempts=5)])


def test_every_error_of_the_store_is_one_of_ours(store: SqlStore, lease: Lease, postgres_url: str) -> None:
    plans = some_plans(lease)
    with psycopg.connect(postgres_url) as other:
        other.execute("DROP TABLE artifact")
    for call in (lambda: everything(lease), lambda: lease.record(plans)):
        with pytest.raises(StoreUnavailable, match=r'lacks a table \(relation "artifact"'):
            call()
    with psycopg.connect(postgres_url) as other:
        other.execute("ALTER TABLE entry DROP COLUMN care")
    with pytest.raises(StoreUnavailable, match="failed") as error:
        lease.admit(INBOX, [mail(lease.mailbox, 9)], STATE)
    assert "report it" in error.value.remedy


def test_a_name_that_no_index_takes_is_said_and_nothing_half_is_written(store: SqlStore, lease: Lease) -> None:
    one, two = lease.admit(INBOX, [mail(lease.mailbox, 1), mail(lease.mailbox, 2)], STATE)
    long = "".join(chr(0x4E00 + at * 7919 % 20_000) for at in range(1000))
    with pytest.raises(StoreUnavailable, match="cannot keep a name that long") as error:
        lease.record([attrs.evolve(one, artifacts=(file("a"),)), attrs.evolve(two, artifacts=(file(long),))])
    assert "shorten" in error.value.remedy
    assert everything(lease) == [one, two]


def test_a_disk_that_is_full_is_said_and_nothing_half_is_written(own_server: Postgres, small_disk: Path) -> None:
    with psycopg.connect(own_server.superuser_url, autocommit=True) as administrator:
        administrator.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(str(small_disk)))
        administrator.execute("CREATE DATABASE small OWNER maildaemon TEMPLATE template0 TABLESPACE small")
    filler = small_disk / "filler"
    try:
        store = SqlStore(own_server.url_of("small"))
        lease = leased(store, some_mailbox())
        plans = some_plans(lease)
        many = [mail(lease.mailbox, at, subject="x" * 500) for at in range(100, 2000)]
        with suppress(OSError), filler.open("wb", buffering=0) as rest:
            while True:
                rest.write(bytes(4096))
        with pytest.raises(StoreUnavailable, match="cannot grow: the server's disk is full") as error:
            lease.admit(INBOX, many, STATE)
        assert "make room" in error.value.remedy
        assert [each.ref.uid for each in everything(lease)] == ["0", "1", "2"]
        filler.unlink()
        assert len(lease.admit(INBOX, many, STATE)) == len(many)
        lease.record(plans)
        store.close()
    finally:
        filler.unlink(missing_ok=True)
        own_server.execute("DROP DATABASE IF EXISTS small WITH (FORCE)")
        own_server.execute("DROP TABLESPACE small")
