"""Pages of entries as people ask for them: newest first, by key and never by offset, each with a bounded effort.

By outcome and mailbox an index gives the page as it is.  Everything else (a sender, a part of a subject, a time) is
looked for within that, in so many entries at most: then the page ends, and the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge

import sqlalchemy as sa

from maildaemon_adapters.sql import ledger
from maildaemon_adapters.sql.rows import folded, moment
from maildaemon_adapters.sql.tables import entry, storable
from maildaemon_adapters.sql.walks import Walk
from maildaemon_core.monitoring import EntryPage, EntryQuery
from maildaemon_core.progress import Entry, EntryId

PORTION, LARGE = 1000, 5000
"""So many of them are looked at by the first statement, and by each that follows.  Of more at once PostgreSQL sorts the
whole outcome instead of walking through its index."""

MOST = 5_000
"""So many entries are looked at for one page, that of a rare sender among millions say."""

_LONGEST_PATTERN = 1000
"""SQLite refuses patterns of more than 50,000 bytes; the first so many characters narrow down enough."""


def find(connection: sa.Connection, query: EntryQuery) -> EntryPage:
    """A page: the database narrows down, ``EntryQuery.matches`` decides."""
    limit = max(query.limit, 1)
    filters = _filters(query)
    found: list[Entry] = []
    before: int | None = query.before
    for step in _steps(PORTION if filters else limit + 1):
        suitable, before = _portion(connection, query, filters, before, step)
        for start in range(0, len(suitable), limit + 1):
            some = suitable[start : start + limit + 1]
            found += [each for each in ledger.load(connection, some) if query.matches(each)]
            if len(found) > limit:
                return EntryPage(entries=tuple(found[:limit]), next=found[limit - 1].id)
        if before is None:
            return EntryPage(entries=tuple(found))
    return EntryPage(entries=tuple(found), next=EntryId(before or 0))


def _steps(first: int) -> Iterator[int]:
    """How many to look at with one statement after the other."""
    step, left = min(first, MOST), MOST
    while left > 0:
        yield step
        left -= step
        step = min(LARGE, left)


def _portion(
    connection: sa.Connection,
    query: EntryQuery,
    filters: Sequence[sa.ColumnElement[bool]],
    before: int | None,
    step: int,
) -> tuple[list[int], int | None]:
    """Of the next entries, ``step`` of them at least unless they end, the numbers of those that pass the filters,
    newest first; and the number down to which they were looked at, None if that was to the end."""
    # One question for each state, since each walks its own part of the index in order and stops at the limit.
    states = sorted({False, query.dismissed})
    walks = [Walk(connection, query.outcome, dismissed=state, mailbox=query.mailbox) for state in states]
    parts = [_part(connection, walk.newest(before).limit(step), filters, step) for walk in walks]
    down_to = max((end for _, end in parts if end is not None), default=None)
    numbers = merge(*(passing for passing, _ in parts), reverse=True)
    return [number for number in numbers if down_to is None or number >= down_to], down_to


def _part(
    connection: sa.Connection, walk: sa.Select[int], filters: Sequence[sa.ColumnElement[bool]], step: int
) -> tuple[Sequence[int], int | None]:
    """Of the entries of one walk those that pass, and the last of all; None if the walk ends before ``step``."""
    if not filters:
        numbers = connection.scalars(walk).all()
        return numbers, numbers[-1] if len(numbers) == step else None
    # Whether one passes is asked of each, and is no condition: for that a database may leave the index, and read all.
    passes = sa.case((sa.and_(*filters), 1), else_=0).label("passes")
    looked_at = walk.add_columns(passes).cte("looked_at")
    last = sa.select(sa.func.min(looked_at.c.id)).scalar_subquery()
    number = sa.select(sa.func.count()).select_from(looked_at).scalar_subquery()
    told = (
        sa.select(looked_at.c.id, looked_at.c.passes, number)
        .where(sa.or_(looked_at.c.passes == 1, looked_at.c.id == last))
        .order_by(looked_at.c.id.desc())
    )
    rows = connection.execute(told).all()
    is_full = bool(rows) and rows[-1][2] == step
    return [number for number, passing, _ in rows if passing], rows[-1][0] if is_full else None


def _filters(query: EntryQuery) -> list[sa.ColumnElement[bool]]:
    filters = []
    for column, value in ((entry.c.folder, query.folder), (entry.c.error, query.error)):
        if value is not None:
            filters.append(column == storable(value))
    for column, part in ((entry.c.sender_folded, query.sender), (entry.c.subject_folded, query.subject)):
        if part:
            filters.append(column.contains(folded(part)[:_LONGEST_PATTERN], autoescape=True))
    if query.received_from is not None:
        filters.append(entry.c.received >= moment(query.received_from))
    if query.received_to is not None:
        filters.append(entry.c.received < moment(query.received_to))
    return filters
