"""A connection to PostgreSQL that does not wait for ever: a server that stays silent for too long counts as gone.

Keepalives do not find it: the kernel answers them, also for a server that hangs on its disk or behind a proxy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg


class AnsweringConnection(psycopg.Connection[Any]):
    """``answer_seconds``: so long one answer may take; None is without limit."""

    answer_seconds: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """As its parent's (psycopg.org/psycopg3/docs/api/connections.html).

        Raises ``OperationalError`` after the silence, and nobody can use the connection again: what became of the
        statement is not known.
        """
        limit = self.answer_seconds if timeout is None else None
        if limit is None:
            return super().wait(gen, interval, timeout)
        began = time.monotonic()
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError as error:
            if error.sqlstate is not None or time.monotonic() - began < limit:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {limit:g} s") from error

    @contextmanager
    def without_haste(self) -> Iterator[None]:
        """For what may take long, such as indexes over millions of rows."""
        limit, self.answer_seconds = self.answer_seconds, None
        try:
            yield
        finally:
            self.answer_seconds = limit
