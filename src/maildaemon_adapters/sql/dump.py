"""All that a store remembers, as lines of JSON: how it leaves one database, and comes into another that is empty.

The first line says what follows, then come the rows of each table below the names of their columns, and the last line
has their numbers and a digest of everything before it: what was cut off or altered is noticed before it counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy import exc

from maildaemon_adapters.sql import tables
from maildaemon_adapters.sql.database import Database
from maildaemon_adapters.sql.ledger import many
from maildaemon_adapters.sql.rows import at_moment, folded, moment
from maildaemon_adapters.sql.schema import HEAD
from maildaemon_core.errors import BadExport, StoreNotEmpty
from maildaemon_core.store_port import Holder, Moved

FORMAT = 1
"""Changes when the lines do; that the tables have changed is told by their version."""

AT_ONCE = 2000
"""So many rows are in memory."""

TABLES = (tables.configuration, tables.api_key, tables.lease, tables.folder, tables.entry, tables.artifact)
"""In an order in which they can be filled."""

_LEFT_OUT = {
    "lease": {"owner", "until"},  # nobody has a lease where it comes in
    "entry": {"sender_folded", "subject_folded"},  # follow from the texts
}
_MADE_ANEW: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    "lease": lambda row: {"owner": None, "until": 0},
    "entry": lambda row: {"sender_folded": folded(row["sender"]), "subject_folded": folded(row["subject"])},
}

_INSERT = {table.name: sa.insert(table) for table in TABLES}

_UNFIT = (
    exc.DataError,
    exc.IntegrityError,
    exc.InterfaceError,
    exc.NotSupportedError,
    exc.ProgrammingError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What is raised over a value that no export of ours has."""


def _columns(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.c if column.name not in _LEFT_OUT.get(table.name, ())]


def _names(table: sa.Table) -> list[str]:
    return [column.name for column in _columns(table)]


# ------------------------------------------------------------------------------------------------------------- leaving


def leave(database: Database, write: Callable[[bytes], object], *, secrets: bool) -> Moved:
    """As in ``Movable``: one state of everything, read by one transaction, a few rows at a time."""
    digest = hashlib.sha256()

    def put(values: Iterable[object]) -> None:
        data = b"".join(json.dumps(value, separators=(",", ":")).encode() + b"\n" for value in values)
        digest.update(data)
        write(data)

    rows: dict[str, int] = {}
    with database.read() as connection:
        _be_patient(connection)
        header = _header(connection, database.now(connection), secrets=secrets)
        put([header])
        for table in TABLES:
            put([{"table": table.name, "columns": _names(table)}])
            rows[table.name] = 0
            for portion in _portions(connection, table, secrets=secrets):
                put(portion)
                rows[table.name] += len(portion)
        put([{"rows": rows, "sha256": digest.hexdigest()}])
        before = _tokens(connection)
    with database.read() as connection:
        meanwhile = sorted({name for name, _mailbox, _token in _tokens(connection) - before})
    return attrs.evolve(_moved(header, rows), meanwhile=tuple(meanwhile))


def _tokens(connection: sa.Connection) -> set[tuple[str, str, int]]:
    """How often each mailbox was leased; its name first."""
    configuration, lease = tables.configuration, tables.lease
    leased = sa.select(lease.c.mailbox, configuration.c.name, lease.c.token).select_from(
        lease.outerjoin(configuration, configuration.c.id == lease.c.mailbox)
    )
    return {(row.name or row.mailbox, row.mailbox, row.token) for row in connection.execute(leased)}


def _portions(connection: sa.Connection, table: sa.Table, *, secrets: bool) -> Iterator[list[Sequence[Any]]]:
    columns = _columns(table)
    everything = sa.select(*columns).order_by(*table.primary_key)
    if table is tables.configuration and not secrets:
        bare = [
            sa.literal({}, column.type).label("secrets") if column.name == "secrets" else column for column in columns
        ]
        everything = sa.select(*bare).order_by(*table.primary_key)
    found = connection.execute(everything, execution_options={"stream_results": True, "yield_per": AT_ONCE})
    for portion in found.partitions():
        yield [tuple(row) for row in portion]


def _header(connection: sa.Connection, now: datetime, *, secrets: bool) -> dict[str, Any]:
    configuration, lease = tables.configuration, tables.lease
    known = connection.execute(sa.select(configuration.c.id, configuration.c.name, configuration.c.secrets)).all()
    names = {row.id: row.name for row in known}
    having = sorted(row.name for row in known if row.secrets)
    held = sa.select(lease).where(lease.c.owner.is_not(None), lease.c.until > moment(now)).order_by(lease.c.mailbox)
    return {
        "maildaemon": "store",
        "format": FORMAT,
        "version": HEAD,
        "release": version("maildaemon"),
        "made": now.isoformat(),
        "lastNumber": _last_number(connection),
        "atWork": {
            names.get(row.mailbox, row.mailbox): {"owner": row.owner, "token": row.token, "until": row.until}
            for row in connection.execute(held)
        },
        "sealed": having if secrets else [],
        "withoutSecrets": [] if secrets else having,
    }


def _moved(header: Mapping[str, Any], rows: Mapping[str, int]) -> Moved:
    return Moved(
        rows=dict(rows),
        at_work={
            name: Holder(owner=held["owner"], token=held["token"], until=at_moment(held["until"]))
            for name, held in header["atWork"].items()
        },
        sealed=tuple(header["sealed"]),
        without_secrets=tuple(header["withoutSecrets"]),
    )


# ---------------------------------------------------------------------------------------------------------- coming in


def bring_in(database: Database, lines: Iterable[bytes]) -> Moved:
    """As in ``Movable``: one transaction, a few rows at a time, committed when the last line has proved right."""
    reading = _Reading(lines)
    header = _checked(reading.value())
    with database.make() as connection:
        _be_patient(connection)
        _refuse_others(connection)
        _refuse_unless_empty(connection, database.name)
        with _without_indexes(connection), reading.fit():
            rows = {table.name: _fill(connection, table, reading) for table in TABLES}
            expected = {"rows": rows, "sha256": reading.digest()}
            if reading.value() != expected:
                raise _damaged("its last line does not agree with the others")
            reading.end()
        _go_on_behind(connection, header["lastNumber"])
        return _moved(header, rows)


def _checked(header: Any) -> Mapping[str, Any]:
    """The first line, if what it announces can be taken up here."""
    if not isinstance(header, dict) or header.get("maildaemon") != "store":
        raise BadExport("this is no export of a store", remedy="name a file that `maildaemon store export` has written")
    if header.get("format") != FORMAT:
        raise BadExport(
            f"the export was written by release {header.get('release')!r}, in a form that this one does not know",
            remedy="install that release, or a newer one",
        )
    if header.get("version") != HEAD:
        raise BadExport(
            f"the export has version {header.get('version')!r} (release {header.get('release')!r}), this release needs "
            f"{HEAD}",
            remedy="upgrade the store that it came from with this release (maildaemon store upgrade) and export that; "
            "if it is of a newer release, install the newer one here",
        )
    return header


class _Reading:
    """The values of the lines, one after the other, and what they amount to so far."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._digest = hashlib.sha256()
        self._number = 0
        self._held: tuple[bytes, Any] | None = None

    def digest(self) -> str:
        """Of all lines that were read until now."""
        return self._digest.hexdigest()

    def value(self) -> Any:
        line, value = self._held or self._next()
        self._held = None
        self._digest.update(line)
        return value

    def row(self) -> list[Any] | None:
        """The next row; None if what follows is none."""
        self._held = self._held or self._next()
        return self.value() if isinstance(self._held[1], list) else None

    def end(self) -> None:
        if next(self._lines, None) is not None:
            raise _damaged("something follows its last line")

    @contextmanager
    def fit(self) -> Iterator[None]:
        """Whatever the database or we cannot do with a value is a fault of the export."""
        try:
            yield
        except _UNFIT as error:
            if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
                raise
            raise _damaged(f"something before line {self._number} is not what it should be") from error

    def _next(self) -> tuple[bytes, Any]:
        line = next(self._lines, b"")
        self._number += 1
        if not line.endswith(b"\n"):
            raise _damaged(f"it is cut off at line {self._number}")
        try:
            return line, json.loads(line)
        except (ValueError, RecursionError):
            raise _damaged(f"line {self._number} is not JSON") from None


def _fill(connection: sa.Connection, table: sa.Table, reading: _Reading) -> int:
    """Fills a table; how many rows it has."""
    names = _names(table)
    if reading.value() != {"table": table.name, "columns": names}:
        raise _damaged(f"the table {table.name!r} is missing, or has other columns")
    documents = [number for number, column in enumerate(_columns(table)) if tables.is_document(column)]
    made_anew = _MADE_ANEW.get(table.name, _nothing)
    number = 0
    while row := reading.row():
        portion: list[tuple[Any, ...]] = []
        all_names: tuple[str, ...] = ()
        while row:
            more = made_anew(dict(zip(names, row, strict=True)))
            for at in documents:
                row[at] = None if row[at] is None else json.dumps(row[at])
            portion.append((*row, *more.values()))
            all_names = (*names, *more)
            row = reading.row() if len(portion) < AT_ONCE else None
        many(connection, _INSERT[table.name], all_names, portion)
        number += len(portion)
    return number


def _nothing(_row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


def _damaged(what: str) -> BadExport:
    return BadExport(f"the export is damaged: {what}", remedy="export the store anew; nothing was taken up")


def _refuse_unless_empty(connection: sa.Connection, name: str) -> None:
    for table in TABLES:
        if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
            raise StoreNotEmpty(
                f"{name} holds something already",
                remedy="name a file that is not there yet, or an empty database: an export is never mixed with others",
            )


@contextmanager
def _without_indexes(connection: sa.Connection) -> Iterator[None]:
    """They are made when all rows are there: to keep them up to date for each row takes many times as long."""
    indexes = [index for table in TABLES for index in sorted(table.indexes, key=lambda each: str(each.name))]
    for index in indexes:
        index.drop(connection)
    yield
    for index in indexes:
        index.create(connection)


# ------------------------------------------------------------------------------------------------------- what differs


def _on_server(connection: sa.Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _be_patient(connection: sa.Connection) -> None:
    """Whoever takes the lines, or gives them, may need longer for some than a transaction may usually stand still."""
    if _on_server(connection):
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def _refuse_others(connection: sa.Connection) -> None:
    """Nobody else writes meanwhile; in a file that is so anyway."""
    if _on_server(connection):
        names = ", ".join(table.name for table in TABLES)
        connection.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")


def _last_number(connection: sa.Connection) -> int:
    """The highest number that an entry was ever given, though it may be forgotten since."""
    if _on_server(connection):
        sequence = connection.scalar(sa.select(sa.func.pg_get_serial_sequence("entry", "id")))
        last = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}"  # noqa: S608  (a name of ours)
    else:
        last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'entry'"
    return int(connection.exec_driver_sql(last).scalar_one())


def _go_on_behind(connection: sa.Connection, number: int) -> None:
    """The next entry is given a number higher than this one, and higher than all that are there."""
    highest = max(number, connection.scalar(sa.select(sa.func.max(tables.entry.c.id))) or 0)
    if highest <= 0:
        return
    if _on_server(connection):
        sequence = sa.func.pg_get_serial_sequence("entry", "id")
        connection.execute(sa.select(sa.func.setval(sequence, highest)))
        connection.exec_driver_sql("ANALYZE")  # else the first questions are answered by way of reading everything
    else:
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = 'entry'")
        connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES ('entry', ?)", (highest,))
