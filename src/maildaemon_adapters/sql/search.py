"""Pages of entries as people ask for them: newest first, by key and never by offset, each with a bounded effort.

By outcome and mailbox an index gives the page as it is.  Everything else (a sender, a part of a subject, a time) is
looked for within that, in so many entries at most: then the page ends, and the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice

import sqlalchemy as sa

from maildaemon_adapters.sql import ledger
from maildaemon_adapters.sql.rows import folded, moment
from maildaemon_adapters.sql.tables import entry, storable
from maildaemon_adapters.sql.walks import Walk
from maildaemon_core.monitoring import EntryPage, EntryQuery
from maildaemon_core.progress import Entry, EntryId

PORTION = 1000
"""So many of them are looked at by one statement."""

MOST = 20_000
"""So many entries are looked at for one page, that of a rare sender among millions say."""

_LONGEST_PATTERN = 1000
"""SQLite refuses patterns of more than 50,000 bytes; the first so many characters narrow down enough."""


def find(connection: sa.Connection, query: EntryQuery) -> EntryPage:
    """A page: the database narrows down, ``EntryQuery.matches`` decides."""
    limit = max(query.limit, 1)
    filters = _filters(query)
    step = min(PORTION, MOST) if filters else limit + 1
    found: list[Entry] = []
    before, looked = query.before, 0
    for numbers in _portions(connection, query, step):
        suitable = _suitable(connection, numbers, filters) if filters else numbers
        for some in ledger.portions(suitable):
            found += [each for each in ledger.load(connection, some) if query.matches(each)]
            if len(found) > limit:
                return EntryPage(entries=tuple(found[:limit]), next=found[limit - 1].id)
        before, looked = EntryId(numbers[-1]), looked + len(numbers)
        if len(numbers) < step:
            break
        if looked >= MOST:
            return EntryPage(entries=tuple(found), next=before)
    return EntryPage(entries=tuple(found))


def _portions(connection: sa.Connection, query: EntryQuery, step: int) -> Iterator[list[int]]:
    """The numbers that an index gives in order, so many at once."""
    # One question for each state, since each walks its own part of the index in order and stops at the limit.
    states = sorted({False, query.dismissed})
    walks = [Walk(connection, query.outcome, dismissed=state, mailbox=query.mailbox) for state in states]
    before: int | None = query.before
    while True:
        parts = [connection.scalars(walk.newest(before).limit(step)).all() for walk in walks]
        numbers = list(islice(merge(*parts, reverse=True), step))
        if not numbers:
            return
        yield numbers
        before = numbers[-1]


def _suitable(
    connection: sa.Connection, numbers: Sequence[int], filters: Sequence[sa.ColumnElement[bool]]
) -> Sequence[int]:
    """Those of these that pass the filters, in the same order.

    They are named one by one: a database that is given a range instead may take it for a reason to read everything.
    """
    passing = sa.select(entry.c.id).where(entry.c.id.in_(numbers), *filters).order_by(entry.c.id.desc())
    return connection.scalars(passing).all()


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
