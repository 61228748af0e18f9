"""The database behind the store: its transactions are the only way in, and its errors come out as errors of ours.

What differs between the databases is in a ``Backend`` each; everything else is one text for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import attrs
import sqlalchemy as sa
from sqlalchemy import exc

from maildaemon_adapters.sql import schema
from maildaemon_core.errors import InvalidOptions, MaildaemonError, Problem, StoreUnavailable
from maildaemon_core.options import Secret, Within, a_secret

Synchronous = Literal["full", "normal"]


@attrs.frozen(kw_only=True)
class SqlSettings:
    """How a store is kept.

    ``synchronous``: with ``full`` every commit is on the disk before it counts.  ``normal`` is faster, and a power cut
    forgets the last commits: mails may be delivered twice then, and one that was stored and deleted on the server is
    shown as vanished.  Neither loses mail.
    ``upgrade``: whether a store of an older release is upgraded when it is opened; by default one in a file is, and
    one on a server is not, since others may be using it.
    ``make``: whether a store that is not there is made; without it, a wrong address is an error and no new beginning.
    ``connections``: so many at most to a database server.
    ``answer_seconds``: a database server that takes longer for an answer counts as gone.
    ``password``: for the server, instead of one in the URL; it may be a reference.
    """

    synchronous: Synchronous = "full"
    upgrade: Literal["automatic", "never"] | None = None
    make: bool = True
    connections: int = attrs.field(default=10, validator=Within(2, 1000))
    answer_seconds: float = attrs.field(default=120.0, validator=Within(1, 86_400))
    password: Secret | None = attrs.field(default=None, converter=a_secret)


class Backend(Protocol):
    """One kind of database."""

    @property
    def name(self) -> str:
        """What people know the store by: without a login."""
        ...

    @property
    def engine(self) -> sa.Engine: ...

    @property
    def reader(self) -> sa.Engine:
        """The same, whose transactions see one state of everything and write nothing."""
        ...

    @property
    def upgrades_itself(self) -> bool:
        """Whether a store of an older release is upgraded when it is opened, unless the operator says otherwise."""
        ...

    def turn(self, *, writing: bool) -> AbstractContextManager[Any]:
        """Held while a transaction goes on; threads have theirs in the order in which they came.

        Raises TimeoutError.
        """
        ...

    def patience(self, connection: sa.Connection) -> AbstractContextManager[Any]:
        """While it is held, an answer may take as long as it likes."""
        ...

    def greet(self) -> None:
        """Sees that the database is there and fit; raises ``StoreUnavailable``, or the database's own errors."""
        ...

    def clock(self) -> sa.ColumnElement[int] | None:
        """The database's own time in microseconds since 1970; None where that is this machine's anyway."""
        ...

    def own_turn_to_make(self, connection: sa.Connection) -> None:
        """Waits until nobody else makes or upgrades tables, for this transaction."""
        ...

    def meaning(self, error: BaseException) -> tuple[str, str]:
        """What an error says, and what to do about it."""
        ...


class Database:
    """One database, used by many threads; its transactions are the only way in.

    ``clock`` decides instead of the database's own time.
    """

    def __init__(self, backend: Backend, settings: SqlSettings, clock: Callable[[], datetime] | None = None) -> None:
        self._backend = backend
        self._clock = clock
        self.name = backend.name
        try:
            with self._translated():
                backend.greet()
            automatic = backend.upgrades_itself if settings.upgrade is None else settings.upgrade == "automatic"
            before = schema.prepare(self, upgrade=automatic, make=settings.make)
            self.made_anew = before is None
            self.upgraded_from = None if before in {None, schema.HEAD} else before
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of everything and writes nothing; it neither waits nor makes wait."""
        with self._translated(), self._backend.turn(writing=False), self._backend.reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self, *, patient: bool = False) -> Iterator[sa.Connection]:
        """A writing transaction: committed durably at its end, undone by any exception.

        ``patient``: for statements that concern millions of rows, which a server may take its time for.
        """
        with (
            self._translated(),
            self._backend.turn(writing=True),
            self._backend.engine.begin() as connection,
            self._backend.patience(connection) if patient else nullcontext(),
        ):
            yield connection

    @contextmanager
    def make(self) -> Iterator[sa.Connection]:
        """A writing transaction that may make and change tables, one at a time."""
        with self.write(patient=True) as connection:
            self._backend.own_turn_to_make(connection)
            yield connection

    def now(self, connection: sa.Connection) -> datetime:
        """The time that decides on leases: the database's own, so that machines whose clocks differ agree."""
        if self._clock is not None:
            return self._clock()
        clock = self._backend.clock()
        if clock is None:
            return datetime.now(UTC)
        return datetime.fromtimestamp(connection.execute(sa.select(clock)).scalar_one() / 1_000_000, UTC)

    def close(self) -> None:
        self._backend.engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.DBAPIError, TimeoutError) as error:
            cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
            what, remedy = self._backend.meaning(cause)
            raise StoreUnavailable(f"{self.name} {what}", remedy=remedy) from error


def unknown_url(url: str, wanted: str) -> MaildaemonError:
    """The refusal of a URL, without what may be a password in it."""
    scheme = url.partition(":")[0]
    what = "this is not the URL of a store" if wanted.startswith(f"{scheme}:") else f"{scheme!r} is no kind of store"
    return InvalidOptions([Problem(path="$.store", message=f"{what}; write {wanted}")])
