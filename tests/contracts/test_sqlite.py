"""What only a store in a file can go through: its file, its locks, its damage, and the plans of its questions."""

from __future__ import annotations

import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
import sqlalchemy as sa

from maildaemon_adapters.sql import SqlSettings, SqlStore, sqlite
from maildaemon_core.errors import InvalidOptions, MaildaemonError, PathsTaken, StoreUnavailable
from maildaemon_core.message import Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.progress import Outcome, Stage
from maildaemon_core.store_port import Configuration, Lease
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


def opened(folder: Path, **other: Any) -> SqlStore:
    return SqlStore(f"sqlite:///{folder}/maildaemon.db", **other)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = opened(tmp_path)
    yield store
    store.close()


# ------------------------------------------------------------------------------------------------------------- the file


def test_a_store_that_is_closed_is_one_file_whatever_its_name(tmp_path: Path) -> None:
    for _ in range(2):
        SqlStore(f"sqlite:///{tmp_path}/größe 100%?.db").close()
        assert [path.name for path in tmp_path.iterdir()] == ["größe 100%?.db"]


def test_a_relative_path_is_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    SqlStore("sqlite:///mail.db").close()
    assert (tmp_path / "mail.db").is_file()


def test_a_new_store_can_be_read_by_its_owner_only(store: SqlStore, lease: Lease, tmp_path: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("maildaemon.db", "maildaemon.db-shm", "maildaemon.db-wal"), 0o600)


@pytest.mark.parametrize("instead", ["nothing", "another", "a copy of the file alone"])
def test_a_file_that_is_removed_while_it_is_in_use_takes_nothing_more_until_it_is_back(
    store: SqlStore, lease: Lease, tmp_path: Path, instead: str
) -> None:
    file, away = tmp_path / "maildaemon.db", tmp_path / "away.db"
    copy = file.read_bytes()
    file.rename(away)
    if instead == "another":
        with sqlite3.connect(file) as other:
            other.execute("CREATE TABLE entry (id INTEGER)")
        other.close()
    elif instead != "nothing":
        file.write_bytes(copy)
    before = file.read_bytes() if file.exists() else None
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="removed, moved or replaced") as error:
            lease.admit(INBOX, [mail(lease.mailbox, 1)], STATE)
        assert "put the file back" in error.value.remedy
        with pytest.raises(StoreUnavailable, match="removed, moved or replaced"):
            store.infos()
    store._database._backend.engine.dispose()  # as when all connections are in use: the next one is new
    with pytest.raises(StoreUnavailable, match="removed, moved or replaced"):
        store.infos()
    assert (file.read_bytes() if file.exists() else None) == before, "nothing was made or changed there"
    if instead == "nothing":
        away.rename(file)
        assert len(lease.admit(INBOX, [mail(lease.mailbox, 1)], STATE)) == 1


def test_no_statement_is_for_more_rows_than_a_server_can_answer_for_in_time(store: SqlStore, lease: Lease) -> None:
    rows: list[int] = []

    def count(_connection: object, _cursor: object, text: str, values: Any, _context: object, several: bool) -> None:
        if several and text.startswith("INSERT"):
            rows.append(len(values))

    sa.event.listen(sa.Engine, "before_cursor_execute", count)
    try:
        lease.admit(INBOX, [mail(lease.mailbox, at) for at in range(1201)], STATE)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", count)
    assert rows == [500, 500, 201]


@pytest.mark.parametrize(("synchronous", "value"), [("full", 2), ("normal", 1)])
def test_commits_reach_the_disk_as_wanted(tmp_path: Path, synchronous: Literal["full", "normal"], value: int) -> None:
    store = opened(tmp_path, settings=SqlSettings(synchronous=synchronous))
    expected = {"synchronous": value, "foreign_keys": 1, "journal_mode": "wal", "busy_timeout": 30_000}
    for begin in (store._database.write, store._database.read):
        with begin() as connection:
            for setting, wanted in expected.items():
                assert connection.exec_driver_sql(f"PRAGMA {setting}").scalar() == wanted
    store.close()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "mysql://u:hunter2@host/db", "mail.db", "sqlite:///a\0b", ""]
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
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
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
        lease.admit(INBOX, [attrs.evolve(planned[0], ref=MessageRef(INBOX, "7", "x")), mail(lease.mailbox, 100)], STATE)
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
        lease.dismissed()
        lease.at([each.ref for each in found])
        number = found[0].id
        assert number is not None
        store.dismiss(number)
        store.entry(number)
        store.thin(Outcome.STORED, NOW, limit=10)
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
    used = sorted({re.sub(r"^SEARCH | COVERING", "", step) for step in steps})
    for needed in (
        "entry USING INDEX ix_entry_due (mailbox=? AND stage=? AND id>?)",
        "entry USING INDEX ix_entry_fingerprint (mailbox=? AND fingerprint=?)",
        "entry USING INDEX ix_entry_strong (mailbox=? AND strong=?)",
        "entry USING INDEX ix_entry_open (mailbox=? AND folder=? AND due_at>?)",
        "entry USING INDEX ix_entry_in_hand (mailbox=? AND in_hand>?)",
        "entry USING INDEX ix_entry_outcome (outcome=? AND dismissed=? AND id",
        "entry USING INDEX ix_entry_mailbox_outcome (mailbox=? AND outcome=? AND dismissed=? AND id",
        "entry USING INDEX sqlite_autoindex_entry_1 (mailbox=? AND folder=? AND uidvalidity=? AND uid=?)",
        "entry USING INTEGER PRIMARY KEY (rowid=?)",
        "entry USING INTEGER PRIMARY KEY (rowid>?)",
        "artifact USING INDEX ix_artifact_entry (entry=?)",
        "artifact USING INDEX sqlite_autoindex_artifact_1 (place=? AND path=?)",
    ):
        assert any(step.startswith(needed) for step in used), f"{needed} is not among {used}"


# ------------------------------------------------------------------------------------------- what others wrote into it


@pytest.mark.parametrize("column", ["document", "secrets"])
@pytest.mark.parametrize("written", ["[]", "null", '"text"', "7", "no JSON", "", "{"])
def test_a_configuration_that_somebody_has_damaged_is_read_as_empty_and_the_others_as_they_are(
    store: SqlStore, tmp_path: Path, column: str, written: str
) -> None:
    whole: dict[str, Any] = {"document": {"mailbox": "a@our.example"}, "secrets": {"password": "sealed"}}
    for name in ("one", "two"):
        store.save(Configuration(id=MailboxId(name), name=name, **whole))
    with closing(sqlite3.connect(tmp_path / "maildaemon.db")) as other, other:
        other.execute(f"UPDATE configuration SET {column} = ? WHERE id = 'one'", [written])
    one, two = store.configurations()
    damaged = {**whole, column: {}}
    assert (one.document, one.secrets) == (damaged["document"], damaged["secrets"])
    assert (two.document, two.secrets) == (whole["document"], whole["secrets"])
    assert len(store.infos()) == 2
    healed = store.save(Configuration(id=one.id, name="one", **whole), expected=1)
    assert store.configuration(one.id) == healed
    assert (healed.document, healed.secrets) == (whole["document"], whole["secrets"])
