"""Which tables a store has: made when there are none, upgraded when they are old, refused when they are too new.

The version is the number of the last migration; it stands in ``maildaemon_version``.  What a database of another
program holds is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from maildaemon_adapters.sql import tables
from maildaemon_core.errors import StoreMissing, StoreTooNew, StoreTooOld, StoreUnavailable

if TYPE_CHECKING:
    from maildaemon_adapters.sql.database import Database

HEAD = "0005"
"""The last migration, whose tables are those of ``tables``."""

VERSION_TABLE = "maildaemon_version"
FIRST_VERSION_TABLE = "maildaemon_schema"
"""Where stores had their version before there were migrations; they are of version 0001."""

_SEEN_FROM_HERE = """
    SELECT c.relname, n.nspname, n.nspname = current_schema()
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_catalog.pg_table_is_visible(c.oid)
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""


def prepare(database: Database, *, upgrade: bool, make: bool = True) -> str | None:
    """Makes or upgrades the tables if need be; says which version there was before, None if there were no tables.

    Raises ``StoreMissing`` if there are none (unless ``make``), ``StoreTooNew``, ``StoreTooOld`` (unless ``upgrade``),
    ``StoreUnavailable`` for another program's.
    """
    with database.read() as connection:
        version = version_of(connection, database.name)
    if version is None and not make:
        raise missing(database.name)
    if version is None:
        with database.make() as connection:
            version = version_of(connection, database.name)
            if version is None:
                _make(connection)
                return None
    if version == HEAD:
        return version
    if version > HEAD:
        raise too_new(database.name, version)
    if not upgrade:
        raise StoreTooOld(
            f"{database.name} was written by an older release: it has version {version}, this release needs {HEAD}",
            remedy="stop everything that uses it, make a backup, then: maildaemon store upgrade, with --store URL or "
            "--config FILE",
        )
    from maildaemon_adapters.sql import migrations  # alembic takes its time

    return migrations.upgrade(database)


def version_of(connection: sa.Connection, name: str) -> str | None:
    """The version of a store; None where there are no tables yet.

    Raises ``StoreUnavailable`` for another program's database, and for a damaged one.
    """
    there, own = _tables_there(connection)
    if VERSION_TABLE in there:
        _all_in_one_schema(there, VERSION_TABLE, name)
        versions = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalars().all()  # noqa: S608
        if len(versions) != 1:
            raise StoreUnavailable(
                f"{name} is damaged: {VERSION_TABLE} has {len(versions)} rows instead of one",
                remedy="restore it from a backup",
            )
        return str(versions[0])
    if FIRST_VERSION_TABLE in there:
        return "0001"
    if own:
        raise StoreUnavailable(
            f"{name} is the database of another program (its tables: {', '.join(sorted(own)[:5])})",
            remedy="name another file or database as the store",
        )
    return None


def has_version_table(connection: sa.Connection) -> bool:
    return VERSION_TABLE in _tables_there(connection)[0]


def write_version(connection: sa.Connection, version: str) -> None:
    """Makes the version table, as alembic would, with this version in it."""
    connection.exec_driver_sql(
        f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL, "
        f"CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num))"
    )
    connection.execute(sa.text(f"INSERT INTO {VERSION_TABLE} VALUES (:version)"), {"version": version})  # noqa: S608


def missing(name: str) -> StoreMissing:
    return StoreMissing(f"{name} is not there", remedy="correct its URL; or let it be made: `make` in its options")


def too_new(name: str, version: str) -> StoreTooNew:
    return StoreTooNew(
        f"{name} was written by a newer release: it has version {version}, this release knows {HEAD}",
        remedy="install the newer release again, or use a backup from before",
    )


def _make(connection: sa.Connection) -> None:
    # Not only what is missing: a table of the same name in a schema further along the path is not ours.
    tables.metadata.create_all(connection, checkfirst=False)
    write_version(connection, HEAD)


def _tables_there(connection: sa.Connection) -> tuple[dict[str, str], list[str]]:
    """The tables that a plain name means, each with its schema, and those of them that lie where new ones would be.

    PostgreSQL looks for a name in all schemas of ``search_path`` and makes tables in the first one that exists.  A
    store is found wherever a name finds it, even if a schema comes to stand before it later; and a schema of one's own
    may be put before one that other programs use.
    """
    if connection.dialect.name != "postgresql":
        names = sa.inspect(connection).get_table_names()
        return dict.fromkeys(names, ""), names
    rows = connection.exec_driver_sql(_SEEN_FROM_HERE).all()
    return {name: where for name, where, _ in rows}, [name for name, _, own in rows if own]


def _all_in_one_schema(there: dict[str, str], first: str, name: str) -> None:
    astray = sorted(table for table in tables.metadata.tables if there.get(table, there[first]) != there[first])
    if astray:
        raise StoreUnavailable(
            f"{name} has its tables in the schema {there[first]}, but {astray[0]} is found in {there[astray[0]]}",
            remedy=f"put {there[first]} first in the search_path of the store's user",
        )
