"""Entries and their artifacts in the database: read and written by the hundred, with no statement per mail.

All of these run inside a transaction of the caller's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import merge
from itertools import islice
from typing import Any, TypeVar

import attrs
import sqlalchemy as sa
from sqlalchemy import exc

from maildaemon_adapters.sql.recent import Recent
from maildaemon_adapters.sql.rows import (
    ALL_BUT_ID,
    ARTIFACT_COLUMNS,
    ENTRY_COLUMNS,
    ArtifactRow,
    artifact_from,
    artifact_row,
    changed_columns,
    entry_from,
    entry_values,
)
from maildaemon_adapters.sql.tables import THINNED, artifact, entry, storable
from maildaemon_adapters.sql.walks import Walk
from maildaemon_core.errors import PathsTaken
from maildaemon_core.message import MailboxId
from maildaemon_core.progress import Artifact, Entry, EntryId, Outcome

AT_ONCE = 500
"""So many values are looked up by one statement; every database takes that many parameters."""

T = TypeVar("T")

Path = tuple[str, str]
"""(place, path)."""

Ref = tuple[str, str, str]
"""(folder, uidvalidity, uid), as stored."""

_POSITION = ARTIFACT_COLUMNS.index(artifact.c.position)
_ENTRY = ARTIFACT_COLUMNS.index(artifact.c.entry)
_ARTIFACT_NAMES = tuple(column.name for column in ARTIFACT_COLUMNS)

_NEW_ENTRY = sa.insert(entry)
_NEW_ARTIFACT = sa.insert(artifact)
_CHANGE_ENTRY = sa.update(entry).where(entry.c.id == sa.bindparam("the_id"))
_CHANGE_ARTIFACT = sa.update(artifact).where(
    artifact.c.place == sa.bindparam("the_place"), artifact.c.path == sa.bindparam("the_path")
)


def portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def many(
    connection: sa.Connection,
    statement: sa.Insert | sa.Update,
    names: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """One statement for many rows of values, in the order of ``names``, which are as the driver takes them.

    The same as ``connection.execute``, without its work on every single value.
    """
    text, arranged = _text(statement, connection.dialect, names)
    for portion in portions(rows):  # a server is given its time for each answer, however many rows there are
        connection.exec_driver_sql(text, [arranged(row) for row in portion])


@lru_cache(maxsize=256)
def _text(
    statement: sa.Insert | sa.Update, dialect: sa.Dialect, names: tuple[str, ...]
) -> tuple[str, Callable[[tuple[Any, ...]], Any]]:
    """The statement with these columns as the driver's text, and how it wants the values of a row."""
    compiled = statement.compile(dialect=dialect, column_keys=list(names))
    if compiled.positiontup is None:  # a driver that wants them by name
        return compiled.string, lambda row: dict(zip(names, row, strict=True))
    order = [names.index(name) for name in compiled.positiontup]
    return compiled.string, lambda row: tuple([row[at] for at in order])


def load(connection: sa.Connection, numbers: Iterable[int]) -> list[Entry]:
    """The entries of these numbers, in the same order."""
    wanted = list(numbers)
    artifacts: dict[int, list[Artifact]] = defaultdict(list)
    rows: dict[int, sa.Row[Any]] = {}
    for portion in portions(wanted):
        held = (
            sa.select(*ARTIFACT_COLUMNS)
            .where(artifact.c.entry.in_(portion), artifact.c.position.is_not(None))
            .order_by(artifact.c.entry, artifact.c.position)
        )
        for row in connection.execute(held).all():
            artifacts[row.entry].append(artifact_from(row))
        for row in connection.execute(sa.select(*ENTRY_COLUMNS).where(entry.c.id.in_(portion))).all():
            rows[row.id] = row
    return [entry_from(rows[number], artifacts.get(number, ())) for number in wanted if number in rows]


def insert_new(connection: sa.Connection, mailbox: MailboxId, entries: Sequence[Entry]) -> list[Entry]:
    """Those of these entries whose reference was not known, with their new numbers.

    Nobody else may write entries of this mailbox meanwhile.
    """
    new: dict[Ref, Entry] = {}
    for each in entries:
        new.setdefault(_ref(each), each)
    for ref in _known_refs(connection, mailbox, list(new)):
        del new[ref]
    if not new:
        return []
    last = connection.scalar(sa.select(sa.func.max(entry.c.id))) or 0
    many(connection, _NEW_ENTRY, ALL_BUT_ID, [entry_values(each, ALL_BUT_ID) for each in new.values()])
    # Numbers only grow: those given just now lie behind the last one, in the order of the insertion.  The mailbox is
    # compared here, lest the database look for it by an index that holds all of its entries.
    behind = connection.execute(sa.select(entry.c.id, entry.c.mailbox).where(entry.c.id > last).order_by(entry.c.id))
    given = [EntryId(number) for number, whose in behind if whose == mailbox]
    numbered = [
        attrs.evolve(each, id=number, dismissed=False) for each, number in zip(new.values(), given, strict=True)
    ]
    _write_artifacts(connection, [each for each in numbered if each.artifacts], {})
    return numbered


def write(connection: sa.Connection, mailbox: MailboxId, entries: Sequence[Entry], recent: Recent) -> None:
    """Writes entries that have their numbers; the last one wins where two are of one number.

    Raises ``PathsTaken``; ValueError for an entry that is not of this mailbox, or whose reference is another's.
    """
    latest = {each.id: each for each in entries if each.id is not None}
    # What is closed may have been thinned out since it was read, without a lease: it is looked at again.
    before = {number: each for number, each in recent.of(latest).items() if each.open}
    before |= {each.id: each for each in load(connection, latest.keys() - before.keys()) if each.id is not None}
    if len(before) != len({each.id for each in entries}) or any(
        each.mailbox != mailbox for each in (*latest.values(), *before.values())
    ):
        raise ValueError(f"only entries that were admitted to mailbox {mailbox} can be recorded under its lease")
    # Only what differs is written, in one statement for all rows that differ in the same columns, as those of a batch
    # mostly do: a column that is not named leaves its indexes in peace.
    alike: dict[tuple[str, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for number, each in latest.items():
        if names := changed_columns(before[number], each):
            alike[names].append((*entry_values(each, names), number))
    _step_aside(connection, [number for names, rows in alike.items() if "uid" in names for *_, number in rows])
    try:
        with connection.begin_nested():
            for names, rows in alike.items():
                many(connection, _CHANGE_ENTRY, (*names, "the_id"), rows)
    except exc.IntegrityError as error:
        raise ValueError("one of these references is another entry's") from error
    _write_artifacts(
        connection, [each for number, each in latest.items() if each.artifacts != before[number].artifacts], before
    )


def _step_aside(connection: sa.Connection, numbers: Sequence[int]) -> None:
    """Frees the references of entries that are about to be given others: these may be each other's."""
    if numbers:
        aside = [(f"stepping aside {number}", number) for number in numbers]
        many(connection, _CHANGE_ENTRY, ("uid", "the_id"), aside)


def thin(connection: sa.Connection, outcome: Outcome, before: int, limit: int) -> int:
    """Thins out the oldest closed entries of an outcome first seen before then; how many there were.

    Numbers grow with the time, so a page of which one is younger is the last.
    """
    closed = entry.c.outcome == outcome.value, entry.c.due_at.is_(None)
    nothing = {"sender": "", "subject": "", "sender_folded": "", "subject_folded": "", "message_id": "", "reason": ""}
    gone = {"outcome": THINNED, "dismissed": False, "defects": sa.null(), **nothing}
    numbers = _oldest(connection, outcome, before, limit)
    thinned = 0
    for portion in portions(numbers):
        # A lease may write any of them at this moment.  What it has in its hand is left alone, so nobody waits for
        # anybody in a circle; what it has written is looked at again.
        these = sa.select(entry.c.id).where(entry.c.id.in_(portion), *closed)
        mine = connection.scalars(these.with_for_update(skip_locked=True, key_share=True)).all()
        connection.execute(sa.update(entry).where(entry.c.id.in_(mine)).values(gone))
        connection.execute(sa.update(artifact).where(artifact.c.entry.in_(mine)).values(name=None))
        thinned += len(mine)
    return thinned


def _oldest(connection: sa.Connection, outcome: Outcome, before: int, limit: int) -> list[int]:
    """The numbers of up to ``limit`` closed entries first seen before then."""
    # One question for each state, since each walks its own part of the index and stops at the limit.
    walks = [Walk(connection, outcome, dismissed=state) for state in (False, True)]
    numbers: list[int] = []
    behind = 0
    while len(numbers) < limit:
        found = [connection.execute(walk.oldest(behind + 1).limit(limit)).all() for walk in walks]
        page = list(islice(merge(*found, key=lambda row: row.id), limit))
        old = [row for row in page if row.first_seen < before]
        numbers += [row.id for row in old if row.due_at is None][: limit - len(numbers)]
        if len(old) < limit:
            break
        behind = page[-1].id
    return numbers


def _ref(each: Entry) -> Ref:
    return storable(each.ref.folder), storable(each.ref.uidvalidity), storable(each.ref.uid)


def _known_refs(connection: sa.Connection, mailbox: MailboxId, refs: Sequence[Ref]) -> Iterator[Ref]:
    by_numbering: dict[tuple[str, str], list[str]] = defaultdict(list)
    for folder, uidvalidity, uid in refs:
        by_numbering[folder, uidvalidity].append(uid)
    for (folder, uidvalidity), uids in by_numbering.items():
        for portion in portions(uids):
            known = sa.select(entry.c.uid).where(
                entry.c.mailbox == mailbox,
                entry.c.folder == folder,
                entry.c.uidvalidity == uidvalidity,
                entry.c.uid.in_(portion),
            )
            for uid in connection.scalars(known):
                yield folder, uidvalidity, uid


def _write_artifacts(connection: sa.Connection, entries: Sequence[Entry], before: Mapping[EntryId, Entry]) -> None:
    """Brings the artifacts of these entries to what they say, touching only rows that differ.

    ``before``: what is stored of these entries, of those that are not new.
    """
    stored = _stored_artifacts(connection, entries, before)
    new: dict[Path, ArtifactRow] = {}
    changed: dict[tuple[str, ...], list[tuple[Any, ...]]] = defaultdict(list)

    def change(there: ArtifactRow, row: ArtifactRow) -> None:
        values = {name: value for name, value, old in zip(_ARTIFACT_NAMES, row, there, strict=True) if value != old}
        changed[tuple(values)].append((*values.values(), *row[:2]))

    kept: set[Path] = set()
    taken: set[Path] = set()
    for each in entries:
        assert each.id is not None
        for position, one in enumerate(each.artifacts):
            row = artifact_row(each.id, position, one)
            path: Path = row[:2]
            there = stored.get(path)
            if path in kept or (there is not None and there[_ENTRY] != row[_ENTRY]):
                taken.add(path)
            elif there is None:
                new[path] = row
            elif there != row:
                change(there, row)
            kept.add(path)
    # It is asked before it is tried: names are often taken, and psycopg warns of every statement that is refused.
    if taken := taken | _reserved(connection, list(new)):
        raise PathsTaken(frozenset(taken))
    # New ones first: who waits for another's path has changed none that the other one may wait for.
    if new:
        _reserve(connection, new)
    for path, row in stored.items():
        if path not in kept and row[_POSITION] is not None:
            change(row, (*row[:_POSITION], None, *row[_POSITION + 1 :]))
    for names, rows in changed.items():
        many(connection, _CHANGE_ARTIFACT, (*names, "the_place", "the_path"), rows)


def _reserve(connection: sa.Connection, new: dict[Path, ArtifactRow]) -> None:
    for is_last in (False, True):
        try:
            with connection.begin_nested():
                # Always in the same order: two mailboxes must not wait for each other's paths.
                many(connection, _NEW_ARTIFACT, _ARTIFACT_NAMES, [new[path] for path in sorted(new)])
        except exc.IntegrityError as error:
            if taken := _reserved(connection, list(new)):
                raise PathsTaken(taken) from error
            if is_last:
                raise
            # Whoever had one of them was forgotten just then.
        else:
            return


def _reserved(connection: sa.Connection, paths: Sequence[Path]) -> frozenset[Path]:
    by_place: dict[str, list[str]] = defaultdict(list)
    for place, path in paths:
        by_place[place].append(path)
    return frozenset(
        (place, path)
        for place, wanted in by_place.items()
        for portion in portions(wanted)
        for path in connection.scalars(
            sa.select(artifact.c.path).where(artifact.c.place == place, artifact.c.path.in_(portion))
        )
    )


def _stored_artifacts(
    connection: sa.Connection, entries: Sequence[Entry], before: Mapping[EntryId, Entry]
) -> dict[Path, ArtifactRow]:
    """The rows of these entries, but for paths that an entry has let go of and does not come back to."""
    rows: list[ArtifactRow] = []
    renamed: list[EntryId] = []
    for each in entries:
        assert each.id is not None
        there = before[each.id].artifacts if each.id in before else ()
        if {(one.place, one.path) for one in there} == {(one.place, one.path) for one in each.artifacts}:
            rows += [artifact_row(each.id, position, one) for position, one in enumerate(there)]
        else:
            renamed.append(each.id)
    for portion in portions(renamed):
        held = sa.select(*ARTIFACT_COLUMNS).where(artifact.c.entry.in_(portion))
        rows += [tuple(row) for row in connection.execute(held).all()]
    return {row[:2]: row for row in rows}
