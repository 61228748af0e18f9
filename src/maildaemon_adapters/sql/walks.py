"""The entries of an outcome in the order of their numbers, as an index has them: from there on, and no further."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from maildaemon_adapters.sql.tables import entry, storable
from maildaemon_core.message import MailboxId
from maildaemon_core.progress import Outcome

_BEHIND_ALL = 2**63 - 1


class Walk:
    """The entries of an outcome, of one mailbox or all, dismissed or not.

    PostgreSQL is asked for one range of the index over all of its columns.  Conditions on each of them mean the same,
    but then it may walk through the whole table by its primary key instead, which is in the same order, hoping to find
    enough on the way.  SQLite takes the index by conditions, and of a range not all columns.
    """

    def __init__(
        self, connection: sa.Connection, outcome: Outcome, *, dismissed: bool, mailbox: MailboxId | None = None
    ) -> None:
        chosen: list[tuple[sa.Column[Any], object]] = [(entry.c.outcome, outcome.value)]
        if mailbox is not None:
            chosen.insert(0, (entry.c.mailbox, storable(mailbox)))
        chosen.append((entry.c.dismissed, dismissed))
        self._columns = [column for column, _ in chosen]
        self._values = [sa.literal(value, column.type) for column, value in chosen]
        self._as_range = connection.dialect.name == "postgresql"

    def newest(self, before: int | None) -> sa.Select[int]:
        """Numbers below ``before``, newest first."""
        order = [column.desc() for column in self._order()]
        return sa.select(entry.c.id).where(*self._between(0, before or _BEHIND_ALL)).order_by(*order)

    def oldest(self, since: int) -> sa.Select[int, int, int | None]:
        """Number, first sight and due time from ``since`` on, oldest first."""
        shown = sa.select(entry.c.id, entry.c.first_seen, entry.c.due_at)
        return shown.where(*self._between(since, _BEHIND_ALL)).order_by(*self._order())

    def _order(self) -> list[sa.Column[Any]]:
        return [*self._columns, entry.c.id] if self._as_range else [entry.c.id]

    def _between(self, since: int, before: int) -> list[sa.ColumnElement[bool]]:
        if not self._as_range:
            alike = [column == value for column, value in zip(self._columns, self._values, strict=True)]
            return [*alike, entry.c.id >= since, entry.c.id < before]
        row = sa.tuple_(*self._columns, entry.c.id)
        return [row >= self._at(since), row < self._at(before)]

    def _at(self, number: int) -> sa.Tuple:
        return sa.tuple_(*self._values, sa.literal(number, entry.c.id.type))
