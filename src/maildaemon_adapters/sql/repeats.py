"""Requests that were made with an ``Idempotency-Key``, in the database: the primary key decides who was the first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from maildaemon_adapters.sql.database import Database
from maildaemon_adapters.sql.ledger import portions
from maildaemon_adapters.sql.rows import at_moment, moment, storable_document
from maildaemon_adapters.sql.tables import repeat as repeats
from maildaemon_adapters.sql.tables import storable
from maildaemon_core.message import MailboxId
from maildaemon_core.store_port import Repeat


class SqlRepeats:
    """The part of ``SqlStore`` that keeps them.  Every method raises ``StoreUnavailable``."""

    _database: Database

    def begin(self, repeat: Repeat) -> Repeat | None:
        with self._database.write() as connection:
            while True:
                # It is asked before it is tried: a server writes to its log of whatever it has to refuse.
                row = connection.execute(sa.select(repeats).where(_is(repeat.key))).first()
                if row is not None:
                    return _repeat_from(row)
                if _inserted(connection, repeat):
                    return None

    def answer(self, key: str, answer: Mapping[str, Any]) -> None:
        with self._database.write() as connection:
            connection.execute(sa.update(repeats).where(_is(key)).values(answer=storable_document(answer)))

    def withdraw(self, key: str) -> None:
        with self._database.write() as connection:
            connection.execute(sa.delete(repeats).where(_is(key)))

    def forget_repeats(self, before: datetime, *, limit: int) -> int:
        old = sa.select(repeats.c.key).where(repeats.c.at < moment(before)).order_by(repeats.c.at, repeats.c.key)
        with self._database.write() as connection:
            # What somebody else forgets at this moment is left to them.
            keys = connection.scalars(old.limit(max(limit, 0)).with_for_update(skip_locked=True)).all()
            for portion in portions(keys):
                connection.execute(sa.delete(repeats).where(repeats.c.key.in_(portion)))
            return len(keys)


def _inserted(connection: sa.Connection, new: Repeat) -> bool:
    """Whether this was the first, and not somebody who was faster by a moment."""
    values = {
        "key": storable(new.key),
        "request": storable(new.request),
        "mailbox": storable(new.mailbox),
        "at": moment(new.at),
        "answer": None if new.answer is None else storable_document(new.answer),
    }
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(repeats).values(values))
    except exc.IntegrityError:
        return False
    return True


def _is(key: str) -> sa.ColumnElement[bool]:
    return repeats.c.key == storable(key)


def _repeat_from(row: Any) -> Repeat:
    return Repeat(
        key=row.key,
        request=row.request,
        mailbox=MailboxId(row.mailbox),
        at=at_moment(row.at),
        answer=row.answer,
    )
