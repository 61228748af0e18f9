"""A store on a PostgreSQL server: how it is reached, how its transactions begin, what its errors mean.

Writing transactions are READ COMMITTED and lock the row that they decide by; reading ones see one state (REPEATABLE
READ).  Whatever waits, for a lock or for a silent line, ends in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa
from sqlalchemy import event, exc

from maildaemon_adapters.sql.database import SqlSettings, unknown_url
from maildaemon_adapters.sql.turns import Turns
from maildaemon_core.errors import StoreUnavailable, UnknownKind

LOCK_SECONDS = 30
"""So long a transaction waits for a row that another one has locked."""

IDLE_SECONDS = 60
"""After so long the server ends a transaction in which nothing happens: a frozen worker must not keep its locks."""

CONNECT_SECONDS = 10
DEAD_LINE_SECONDS = 60
"""After so long without an answer to what was sent, a line counts as dead."""

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")

_SHAPE = "postgresql://USER@HOST/DATABASE, with %40 for an @ in the password"

_MAKING = 0x6D61_696C
"""The key of the advisory lock under which tables are made; spells "mail"."""

_ASKS = "no password"
"""No SQLSTATE, but libpq's own refusal."""

_MEANINGS = {
    "28P01": ("refuses the login: the password is wrong", "correct the user and password of the store"),
    "28000": ("refuses the login", "correct the user and password, or let this user in through pg_hba.conf"),
    _ASKS: (
        "asks for a password, and there is none",
        "give it as `password` in [store.options], or in the variable PGPASSWORD",
    ),
    "3D000": ("is not there: the server has no database of that name", "make it: createdb -E UTF8 -T template0 NAME"),
    "42501": ("may not be used like this by this user", "make this user the owner of the database"),
    "53100": ("cannot grow: the server's disk is full", "make room on the disk of the database server"),
    "53200": ("failed: the server is out of memory", "give the database server more memory, or try again later"),
    "53300": ("takes no more connections", "raise max_connections of the server, or lower `connections` of the store"),
    "25006": ("cannot be written: the server is read-only, a standby perhaps", "name the primary server"),
    "55P03": (f"was kept locked by another program for more than {LOCK_SECONDS} s", "end it, or try again later"),
    "40P01": ("found two transactions waiting for each other and ended one", "try again"),
    "25P03": (f"ended a transaction in which nothing happened for {IDLE_SECONDS} s", "try again"),
    "54000": ("cannot keep a name that long", "shorten the path template, or the url of the destination"),
    "57014": ("ended a statement before it was done", "raise statement_timeout for this user, or try again"),
    "57P01": ("ended the connection: it is shutting down, or an administrator did that", "see that it runs, try again"),
    "57P02": ("has crashed", "see the log of the database server; it recovers when it is started again"),
    "57P03": ("is starting up or shutting down", "try again in a moment"),
    "58030": ("could not be read or written", "check the disk of the database server"),
    "XX001": ("is damaged", "restore it from a backup"),
    "XX002": ("is damaged: an index of it", "stop the service, make a backup, and rebuild it with: REINDEX DATABASE"),
    "42P01": ("lacks a table", "restore it from a backup, or name another database as the store"),
    "url": ("has a URL that is not right", "correct the url of the store"),
    "tls": ("does not agree on TLS", "correct sslmode and sslrootcert in the url of the store"),
}
"""By SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html), and two that are no SQLSTATE."""

_SAYINGS = {
    "password authentication failed": "28P01",
    "no password supplied": _ASKS,
    "no pg_hba.conf entry": "28000",
    "authentication failed": "28000",
    "permission denied for database": "42501",
    'FATAL:  database "': "3D000",
    'FATAL:  role "': "28000",
    "too many clients": "53300",
    "too many connections": "53300",
    "remaining connection slots": "53300",
    "is starting up": "57P03",
    "is shutting down": "57P03",
    "not yet accepting connections": "57P03",
    "is not currently accepting connections": "57P03",
    "invalid connection option": "url",
    "invalid sslmode value": "url",
    "invalid port number": "url",
    "invalid integer value": "url",
    "SSL": "tls",
    "certificate": "tls",
}
"""What libpq says when a connection fails, for it does not tell the SQLSTATE then; the first that fits counts."""

_REFUSED = ("does not let this program in", "see what it says, and pg_hba.conf on the server")
_UNREACHABLE = ("cannot be reached", "check host and port; see that the database server runs, and firewalls")
_LOST = ("went away in the middle", "see that the database server runs; what was committed is safe")


class Postgresql:
    """One database of a server.  Every connection is looked at before it is used again."""

    upgrades_itself = False

    def __init__(self, url: str, settings: SqlSettings) -> None:
        where = _url_of(url)
        if settings.password is not None:
            where = where.set(password=settings.password.value)
        self.name = f"the store postgresql://{_server_of(where)}/{where.database}"
        self._asynchronous = settings.synchronous == "normal"
        wanted = {
            "application_name": "maildaemon",
            "client_encoding": "UTF8",
            "connect_timeout": CONNECT_SECONDS,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": DEAD_LINE_SECONDS * 1000,
        }
        try:
            if find_spec("psycopg") is None:
                raise ImportError("psycopg is not there")
            self.engine = sa.create_engine(
                where,
                pool_size=settings.connections,
                max_overflow=0,
                pool_timeout=LOCK_SECONDS,
                pool_pre_ping=True,
                hide_parameters=True,
                connect_args={name: value for name, value in wanted.items() if name not in where.query},
            )
            self.engine.dialect.create_connect_args(where)  # a port that is no number, say
        except exc.ArgumentError:
            raise unknown_url(url, _SHAPE) from None
        except ImportError as error:  # also from psycopg itself, where it finds no libpq
            raise UnknownKind(
                "a store on PostgreSQL needs psycopg, not installed here", remedy="pip install 'maildaemon[postgresql]'"
            ) from error
        self._turns = Turns(settings.connections)
        self._answer_seconds = settings.answer_seconds
        event.listen(self.engine, "do_connect", self._connect)
        event.listen(self.engine, "connect", self._connected)
        # Not as READ ONLY: SQLAlchemy would say READ WRITE in all others then, over what the server is set to.
        self.reader = self.engine.execution_options(isolation_level="REPEATABLE READ")

    def patience(self, connection: sa.Connection) -> AbstractContextManager[Any]:
        from maildaemon_adapters.sql.answering import AnsweringConnection

        driver = connection.connection.driver_connection
        assert isinstance(driver, AnsweringConnection)
        return driver.without_haste()

    def turn(self, *, writing: bool) -> AbstractContextManager[Any]:
        """A connection for each; the pool itself lets the latest have it first, and others wait for ever."""
        return self._turns.turn(LOCK_SECONDS)

    def clock(self) -> sa.ColumnElement[int]:
        return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * 1_000_000, sa.BigInteger)

    def own_turn_to_make(self, connection: sa.Connection) -> None:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING)))

    def greet(self) -> None:
        with self.engine.connect() as connection:
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise StoreUnavailable(
                f"{self.name} is encoded as {encoding}, which cannot hold every subject",
                remedy="make the database anew: createdb -E UTF8 -T template0 NAME",
            )

    def meaning(self, error: BaseException) -> tuple[str, str]:
        if isinstance(error, TimeoutError):
            return "was busy: no connection came free", "raise `connections` of the store, or try again later"
        said = _said(error)
        state = getattr(error, "sqlstate", None)
        if state is None:
            state = next((state for saying, state in _SAYINGS.items() if saying in said), None)
        if state in _MEANINGS:
            what, remedy = _MEANINGS[state]
        elif "FATAL:" in said:
            what, remedy = _REFUSED
        elif _was_connecting(error):
            what, remedy = _UNREACHABLE
        elif _has_lost(error, state):
            what, remedy = _LOST
        else:
            what, remedy = "failed", "if it goes on, report it with this message"
        return f"{what} ({said})", remedy

    def _connect(self, _dialect: object, _record: object, arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        from maildaemon_adapters.sql.answering import AnsweringConnection

        connection = AnsweringConnection.connect(*arguments, **named)
        connection.answer_seconds = self._answer_seconds
        return connection

    def _connected(self, connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            # A server that is set to more than "on" knows why.
            wanted = "'off'" if self._asynchronous else "replace(current_setting('synchronous_commit'), 'off', 'on')"
            cursor.execute(
                f"SELECT set_config('synchronous_commit', {wanted}, false), "
                f"set_config('lock_timeout', '{LOCK_SECONDS}s', false), "
                f"set_config('idle_in_transaction_session_timeout', '{IDLE_SECONDS}s', false)"
            )
        connection.commit()


def _url_of(url: str) -> sa.URL:
    """The URL as PostgreSQL reads it (postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS).

    An @ behind the login is most likely of a password, which would then be taken for a host that may be named.
    """
    scheme, _, rest = url.partition("://")
    try:
        parsed = sa.make_url(f"postgresql://{rest}")
    except (exc.ArgumentError, ValueError):
        parsed = None
    if (
        scheme not in SCHEMES
        or parsed is None
        or not parsed.database
        or "\0" in unquote(url)
        or "@" in f"{parsed.host}{parsed.database}"
    ):
        raise unknown_url(url, _SHAPE) from None
    host = None if parsed.host is None else unquote(parsed.host)
    return parsed.set(drivername="postgresql+psycopg", host=host, database=unquote(parsed.database))


def _server_of(url: sa.URL) -> str:
    hosts = url.host or url.query.get("host") or "local"
    if not isinstance(hosts, str):
        hosts = ",".join(hosts)
    return f"{hosts}:{url.port}" if url.port else hosts


def _said(error: BaseException) -> str:
    """The first line of what the server says: the further ones hold values of rows."""
    diagnosis = getattr(error, "diag", None)
    primary = getattr(diagnosis, "message_primary", None)
    return primary or str(error).strip().partition("\n")[0] or type(error).__name__


def _was_connecting(error: BaseException) -> bool:
    """Whether there was no connection yet (psycopg.org/psycopg3/docs/api/errors.html: ``pgconn``)."""
    said = str(error)
    return getattr(error, "pgconn", None) is not None or "resolve host" in said or "timeout expired" in said


def _has_lost(error: BaseException, state: str | None) -> bool:
    import psycopg

    return (state or "08").startswith("08") and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
