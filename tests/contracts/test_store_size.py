"""However much the ledger holds, every question that is asked again and again goes by an index to what it wants.

Each call of the port is made on a store of many entries; the plan of every statement that it sent is looked at.  Under
``nox -s heavy`` there are five million, and what each call takes is printed beside what it takes with a hundredth of
that: figures to be read, not a test, for machines differ.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa

from maildaemon_adapters.sql import SqlSettings, SqlStore, tables
from maildaemon_core.message import Cursor, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.progress import Entry, EntryId, Outcome, Stage
from maildaemon_core.store_port import Configuration, FolderState, Lease, Repeat
from maildaemon_core.testing.lease_conformance import INBOX, NOW, file, leased, mail

FULL, SMALL = 5_000_000, 20_000
PORTION = 500_000
FORMER = 200
"""So many mailboxes were dropped, and requests made."""
BIG = MailboxId("box 0")
"""It has half of all entries; the others share the rest."""

SERIES = "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})"

ENTRIES = """
INSERT INTO entry (
    mailbox, folder, uidvalidity, uid, fingerprint, strong, key, received, first_seen, sender, subject, sender_folded,
    subject_folded, message_id, size, stage, outcome, dismissed, due_at, attempts, suspect, in_hand, last_tried, batch,
    complete, care, care_folder, error, trouble, reason, defects
)
{series}
SELECT
    'box ' || CASE WHEN i % 2 = 0 THEN 0 ELSE i % 100 END, CASE WHEN i % 10 = 0 THEN 'Sent' ELSE 'INBOX' END, '7',
    CAST(i AS TEXT), CAST((CAST(i AS BIGINT) * 2654435761) % 4294967296 AS TEXT), CASE WHEN i % 3 = 0 THEN 'M' || i END,
    CAST(i AS TEXT), CAST(i AS BIGINT) * 1000000, CAST(i AS BIGINT) * 1000000, 'sender' || (i % 1000) || '@example.com',
    'Invoice number ' || i, 'sender' || (i % 1000) || '@example.com', 'invoice number ' || i,
    '<' || i || '@example.com>', 5000,
    CASE WHEN i % 1000 = 1 THEN 'given up' WHEN i % 5000 = 2 THEN 'found' WHEN i % 10 = 3 THEN 'skipped'
         ELSE 'settled' END,
    CASE WHEN i % 1000 = 1 THEN 'failed' WHEN i % 5000 = 2 THEN 'pending' WHEN i % 10 = 3 THEN 'skipped'
         ELSE 'stored' END,
    i % 10000 = 1, CASE WHEN i % 1000 <> 1 AND i % 5000 = 2 THEN 1 END, 0, false, 0, NULL, NULL, true, 0, NULL,
    CASE WHEN i % 1000 = 1 THEN 'SpoolFull' END, CASE WHEN i % 1000 = 1 THEN {trouble} END, '', NULL
FROM n
"""

TROUBLE = """'{"error": "SpoolFull", "message": "", "remedy": "", "transient": false, "retry_after": null}'"""

ARTIFACTS = """
INSERT INTO artifact (
    place, path, entry, position, destination, role, number, size, sha256, name, part, receipt_size, receipt_at
)
SELECT '/srv/mail', '2026/' || key || '.eml', id, 0, 'archive', 'mail', 0, 5000, 'ab', NULL, '', 5000, received
FROM entry WHERE outcome = 'stored'
"""

Ask = Callable[[SqlStore, Lease], object]


def _identities(number: int) -> list[Identity]:
    every = range(0, number, max(number // 100, 1))
    return [Identity(str(i * 2654435761 % 4294967296), f"M{i}") for i in every]


def _entries_of(lease: Lease, number: int) -> Sequence[Entry]:
    return lease.at([MessageRef(INBOX, "7", str(i)) for i in range(2, min(number, 2000), 20)])


def _new(lease: Lease, prefix: str) -> list[Entry]:
    return [mail(lease.mailbox, i, ref=MessageRef(INBOX, "8", f"{prefix}{i}")) for i in range(100)]


def _record(lease: Lease, number: int) -> None:
    found = _entries_of(lease, number)
    assert len(found) > 50
    lease.record([attrs.evolve(each, attempts=each.attempts + 1, stage=Stage.WAITING) for each in found])
    name = time.monotonic_ns()
    lease.record([attrs.evolve(each, artifacts=(file(f"{name}/{each.key}.eml"),)) for each in found])


def _pages() -> Iterator[tuple[str, EntryQuery]]:
    for outcome in Outcome:
        yield f"page {outcome}", EntryQuery(outcome=outcome)
        yield f"page {outcome} of a mailbox", EntryQuery(outcome=outcome, mailbox=BIG)
    stored = EntryQuery(outcome=Outcome.STORED)
    yield "page deep below", attrs.evolve(stored, before=EntryId(5_000))
    yield "page with dismissed ones", EntryQuery(outcome=Outcome.FAILED, dismissed=True)
    yield "page of a folder", attrs.evolve(stored, mailbox=BIG, folder=FolderRef("Sent"))
    yield "page of a sender", attrs.evolve(stored, sender="SENDER7@")
    yield "page of a sender who never wrote", attrs.evolve(stored, sender="nobody@example.org")
    yield "page of a subject nobody had", attrs.evolve(stored, mailbox=BIG, subject="no such thing")
    yield "page of an error", EntryQuery(outcome=Outcome.FAILED, error="SpoolFull")
    yield "page of a time", attrs.evolve(stored, received_to=datetime(1970, 1, 1, 1, tzinfo=UTC))


def _questions(number: int) -> Iterator[tuple[str, Ask]]:
    refs = [MessageRef(INBOX, "7", str(i)) for i in range(0, number, max(number // 100, 1))]
    yield "due", lambda _, lease: lease.due({Stage.FOUND, Stage.WAITING}, NOW, limit=500)
    yield "due to be tidied", lambda _, lease: lease.due({Stage.STORED, Stage.SKIPPED}, NOW, limit=500)
    yield "known (100)", lambda _, lease: lease.known(_identities(number))
    yield "at (100)", lambda _, lease: lease.at(refs)
    yield "admit (100)", lambda _, lease: lease.admit(INBOX, _new(lease, str(time.monotonic_ns())), _STATE)
    yield "admit known ones (100)", lambda _, lease: lease.admit(INBOX, _new(lease, ""), _STATE)
    yield "record (50 to 100, twice)", lambda _, lease: _record(lease, number)
    yield "open in a folder", lambda _, lease: lease.open_in(FolderRef("Sent"))
    yield "in hand", lambda _, lease: lease.in_hand()
    yield "dismissed", lambda _, lease: lease.dismissed()
    yield "folder", lambda _, lease: lease.folder(INBOX)
    yield "renew", lambda _, lease: lease.renew(3600)
    for name, query in _pages():
        yield name, lambda store, _, query=query: store.entries(query)  # type: ignore[misc]
    yield "entry", lambda store, _: store.entry(EntryId(number // 2))
    yield "dismiss", lambda store, _: store.dismiss(EntryId(number // 2))
    yield "infos", lambda store, _: store.infos()
    yield "holder", lambda store, _: store.holder(BIG)
    yield "configurations", lambda store, _: store.configurations()
    yield "configuration", lambda store, _: store.configuration(BIG)
    yield "former", lambda store, _: store.former()
    yield "bring back and drop", lambda store, _: _back_and_away(store)
    yield "begin", lambda store, _: store.begin(_repeat(0))
    yield "begin a new one", lambda store, _: store.begin(_repeat(time.monotonic_ns()))
    yield "answer", lambda store, _: store.answer(_repeat(0).key, {"status": 201})
    yield "forget repeats", lambda store, _: store.forget_repeats(datetime(1960, 1, 1, tzinfo=UTC), limit=500)
    yield "thin (500)", lambda store, _: store.thin(Outcome.SKIPPED, NOW, limit=500)
    yield "thin, nothing old", lambda store, _: store.thin(Outcome.STORED, datetime(1960, 1, 1, tzinfo=UTC), limit=500)


def _repeat(number: int) -> Repeat:
    return Repeat(key=f"{number:064x}", request="x", mailbox=BIG, at=NOW)


def _back_and_away(store: SqlStore) -> None:
    back = store.save(store.former()[0], expected=0)
    store.drop(back.id, expected=back.version)


_STATE = FolderState(cursor=Cursor("1"))


def fill(store: SqlStore, number: int) -> None:
    """So many entries as if a hundred mailboxes had been watched for years, nearly all of them settled."""
    indexes = [index for table in (tables.entry, tables.artifact) for index in table.indexes]
    with store._database.make() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        connection.exec_driver_sql(
            "PRAGMA cache_size=-2000000" if is_sqlite else "SET LOCAL maintenance_work_mem = '512MB'"
        )
        for index in indexes:  # it is quicker to sort once than to insert in no order
            index.drop(connection)
        for first in range(0, number, PORTION):
            series = SERIES.format(first=first, last=min(first + PORTION, number) - 1)
            text = ENTRIES.format(series=series, trouble=TROUBLE if is_sqlite else f"{TROUBLE}::json")
            connection.exec_driver_sql(text if is_sqlite else text.replace("%", "%%"))
        connection.exec_driver_sql(ARTIFACTS)
        for index in indexes:
            index.create(connection)
    for box in range(100):
        store.save(Configuration(id=MailboxId(f"box {box}"), name=f"box {box}", document={}))
    for gone in range(FORMER):
        store.drop(store.save(Configuration(id=MailboxId(f"gone {gone}"), name=f"gone {gone}", document={})).id)
        store.begin(_repeat(gone))
    if not is_sqlite:  # the server's own autovacuum would do this in its time; SQLite knows nothing of the kind
        with store._database.make() as connection:
            connection.exec_driver_sql("ANALYZE")


class Watch:
    """Notes the statements that calls of the port send, and asks the database how it would do them."""

    def __init__(self, store: SqlStore, *, without_scans: bool) -> None:
        self._engine = store._database._backend.engine
        self._without_scans = without_scans

    def plans(self, call: Callable[[], object]) -> dict[str, list[str]]:
        asked: dict[str, Any] = {}

        def note(_connection: sa.Connection, _cursor: object, statement: str, values: Any, *_: object) -> None:
            if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                asked.setdefault(statement, values[0] if isinstance(values, list) else values)

        sa.event.listen(self._engine, "before_cursor_execute", note)
        try:
            call()
        finally:
            sa.event.remove(self._engine, "before_cursor_execute", note)
        with self._engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                return {text: self._of_sqlite(connection, text, values) for text, values in asked.items()}
            if self._without_scans:  # of a small table PostgreSQL rightly reads the whole; not when it is dear
                connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            return {
                text: [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {text}", values)]
                for text, values in asked.items()
            }

    def _of_sqlite(self, connection: sa.Connection, text: str, values: Any) -> list[str]:
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]


READS_ALL = re.compile(
    r"SCAN (entry|artifact|lease|folder|configuration|repeat)"
    r"(?! USING COVERING INDEX ix_entry_open)"  # that one holds the open ones only
    r"|Seq Scan on (entry|artifact|repeat)"
)
WALKS_ALL = re.compile(r"using pk_entry (?!.*Index Cond: \(id = ).*Filter: .*outcome")
"""By its key through the whole table in the hope to meet enough on the way."""
SORTS = re.compile(r"TEMP B-TREE FOR ORDER BY|-> +Sort .* rows=\d{6,} ")
"""PostgreSQL says how many rows it expects to sort: the thousands that one page may look at are soon sorted."""


def faults(plans: dict[str, list[str]]) -> list[str]:
    """Steps that read a whole table, or that sort what an index should give in order."""
    return [
        f"{step}: {text}"
        for text, plan in plans.items()
        for step in [*plan, " ".join(plan)]
        if READS_ALL.search(step) or WALKS_ALL.search(step) or (SORTS.search(step) and "LIMIT" in text)
    ]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/large.db"
    return str(request.getfixturevalue("postgres_url"))


def _timed(store: SqlStore, number: int) -> dict[str, float]:
    """The median of three calls each, in milliseconds."""
    lease = leased(store, BIG)
    taken: dict[str, float] = {}
    for name, ask in _questions(number):
        rounds = []
        for _ in range(3):
            began = time.perf_counter()
            ask(store, lease)
            rounds.append(time.perf_counter() - began)
        taken[name] = sorted(rounds)[1] * 1000
    lease.give_back(NOW + timedelta(days=1))
    return taken


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_every_hot_question_goes_by_an_index(url: str, heavy: bool) -> None:
    number = FULL if heavy else SMALL
    store = SqlStore(url, SqlSettings(synchronous="normal"))
    try:
        figures: list[dict[str, float]] = []
        if heavy:
            fill(store, number // 100)
            figures.append(_timed(store, number // 100))
            for box in range(100):
                store.drop(MailboxId(f"box {box}"), forget=True)
        fill(store, number)
        lease = leased(store, BIG)
        watch = Watch(store, without_scans=not heavy)
        found: list[str] = []
        for name, ask in _questions(number):
            plans = watch.plans(lambda ask=ask: ask(store, lease))  # type: ignore[misc]
            found += [f"{name}: {fault}" for fault in faults(plans)]
            if heavy:
                print(f"\n{name}")
                for text, plan in plans.items():
                    print("   ", " ".join(text.split())[:200], *plan, sep="\n        ")
        lease.give_back(NOW)
        assert found == []
        if heavy:
            figures.append(_timed(store, number))
            print(f"\n{'ms a call with':34}{number // 100:>12,}{number:>12,} entries")
            for name, small in figures[0].items():
                print(f"{name:34}{small:12.1f}{figures[1][name]:12.1f}")
    finally:
        store.close()
