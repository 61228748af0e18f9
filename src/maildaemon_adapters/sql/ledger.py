"""Entries and their artifacts in the database: read and written by the hundred, with no statement per mail.

All of these run inside a transaction of the caller's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import attrs
import sqlalchemy as sa
from sqlalchemy import exc

from maildaemon_adapters.sql.rows import (
    ARTIFACT_COLUMNS,
    ENTRY_COLUMNS,
    ArtifactRow,
    artifact_from,
    artifact_row,
    entry_from,
    entry_row,
)
from maildaemon_adapters.sql.tables import artifact, entry, storable
from maildaemon_core.errors import PathsTaken
from maildaemon_core.message import MailboxId
from maildaemon_core.progress import Artifact, Entry, EntryId

AT_ONCE = 500
"""So many values are looked up by one statement; every database takes that many parameters."""

T = TypeVar("T")

Path = tuple[str, str]
"""(place, path)."""

Ref = tuple[str, str, str]
"""(folder, uidvalidity, uid), as stored."""

_POSITION = ARTIFACT_COLUMNS.index(artifact.c.position)
_OWNER = tuple(ARTIFACT_COLUMNS.index(column) for column in (artifact.c.entry, artifact.c.role, artifact.c.number))
_ARTIFACT_NAMES = tuple(column.name for column in ARTIFACT_COLUMNS)

_REF = ("folder", "uidvalidity", "uid")
_CHANGE_ENTRY = sa.update(entry).where(entry.c.id == sa.bindparam("the_id"))
_CHANGE_ARTIFACT = sa.update(artifact).where(
    artifact.c.place == sa.bindparam("the_place"), artifact.c.path == sa.bindparam("the_path")
)


def portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


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
    connection.execute(sa.insert(entry), [entry_row(each) for each in new.values()])
    # Numbers only grow: those given just now lie behind the last one, in the order of the insertion.  The mailbox is
    # compared here, lest the database look for it by an index that holds all of its entries.
    behind = connection.execute(sa.select(entry.c.id, entry.c.mailbox).where(entry.c.id > last).order_by(entry.c.id))
    given = [EntryId(number) for number, whose in behind if whose == mailbox]
    numbered = [attrs.evolve(each, id=number) for each, number in zip(new.values(), given, strict=True)]
    _write_artifacts(connection, [each for each in numbered if each.artifacts])
    return numbered


def write(connection: sa.Connection, mailbox: MailboxId, entries: Sequence[Entry]) -> None:
    """Writes entries that have their numbers; the last one wins where two are of one number.

    Raises ``PathsTaken``; ValueError for an entry that is not of this mailbox, or whose reference is another's.
    """
    latest = {each.id: each for each in entries}
    stored = _stored_rows(connection, mailbox, [number for number in latest if number is not None])
    if len(stored) != len(latest) or any(each.mailbox != mailbox for each in latest.values()):
        raise ValueError(f"only entries that were admitted to mailbox {mailbox} can be recorded under its lease")
    # Only what differs is written, in one statement for all rows that differ in the same columns, as those of a batch
    # mostly do: a column that is not named leaves its indexes in peace.
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for number, each in latest.items():
        whole = entry_row(each)
        row = {
            name: value for (name, value), there in zip(whole.items(), stored[number], strict=True) if value != there
        }
        if any(name in row for name in _REF):
            row |= {name: whole[name] for name in _REF}
        if row:
            alike[tuple(row)].append({"the_id": number, **row})
    _step_aside(connection, [row for names, rows in alike.items() if "uid" in names for row in rows])
    try:
        with connection.begin_nested():
            for rows in alike.values():
                connection.execute(_CHANGE_ENTRY, rows)
    except exc.IntegrityError as error:
        raise ValueError("one of these references is another entry's") from error
    _write_artifacts(connection, list(latest.values()))


def _stored_rows(
    connection: sa.Connection, mailbox: MailboxId, numbers: Sequence[int]
) -> dict[int | None, Sequence[Any]]:
    """What ``entry_row`` gives, as stored.

    The mailbox is compared here, lest the database look for it by an index that holds all of its entries.
    """
    columns = tuple(entry.c)
    assert columns[:2] == (entry.c.id, entry.c.mailbox)
    return {
        row[0]: row[1:]
        for portion in portions(numbers)
        for row in connection.execute(sa.select(*columns).where(entry.c.id.in_(portion))).all()
        if row[1] == mailbox
    }


def _step_aside(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Frees the references of entries that are about to be given others: these may be each other's."""
    if rows:
        aside = [{"the_id": row["the_id"], "uid": f"stepping aside {row['the_id']}"} for row in rows]
        connection.execute(_CHANGE_ENTRY, aside)


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


def _write_artifacts(connection: sa.Connection, entries: Sequence[Entry]) -> None:
    """Brings the artifacts of these entries to what they say, touching only rows that differ."""
    stored = _stored_artifacts(connection, [each.id for each in entries if each.id is not None])
    new: dict[Path, ArtifactRow] = {}
    changed: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)

    def change(there: ArtifactRow, row: ArtifactRow) -> None:
        values = {name: value for name, value, old in zip(_ARTIFACT_NAMES, row, there, strict=True) if value != old}
        changed[tuple(values)].append({"the_place": row[0], "the_path": row[1], **values})

    kept: set[Path] = set()
    taken: set[Path] = set()
    for each in entries:
        assert each.id is not None
        for position, one in enumerate(each.artifacts):
            row = artifact_row(each.id, position, one)
            path: Path = row[:2]
            there = stored.get(path)
            if path in kept or (there is not None and _owner(there) != _owner(row)):
                taken.add(path)
            elif there is None:
                new[path] = row
            elif there != row:
                change(there, row)
            kept.add(path)
    if taken:
        raise PathsTaken(frozenset(taken) | _reserved(connection, list(new)))
    for path, row in stored.items():
        if path not in kept and row[_POSITION] is not None:
            change(row, (*row[:_POSITION], None, *row[_POSITION + 1 :]))
    for rows in changed.values():
        connection.execute(_CHANGE_ARTIFACT, rows)
    if new:
        _reserve(connection, new)


def _reserve(connection: sa.Connection, new: dict[Path, ArtifactRow]) -> None:
    try:
        with connection.begin_nested():
            connection.execute(
                sa.insert(artifact), [dict(zip(_ARTIFACT_NAMES, row, strict=True)) for row in new.values()]
            )
    except exc.IntegrityError as error:
        taken = _reserved(connection, list(new))
        if not taken:
            raise
        raise PathsTaken(taken) from error


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


def _stored_artifacts(connection: sa.Connection, numbers: Sequence[EntryId]) -> dict[Path, ArtifactRow]:
    return {
        (row.place, row.path): tuple(row)
        for portion in portions(numbers)
        for row in connection.execute(sa.select(*ARTIFACT_COLUMNS).where(artifact.c.entry.in_(portion))).all()
    }


def _owner(row: ArtifactRow) -> tuple[Any, ...]:
    return tuple(row[at] for at in _OWNER)
