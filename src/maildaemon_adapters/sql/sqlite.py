"""The database behind the store: how it is opened and made, how transactions begin, what its errors mean.

SQLite runs with a write-ahead log: readers and the writer do not wait for each other.  Writing transactions take the
lock when they begin (BEGIN IMMEDIATE): one that reads first and writes later is refused whenever another wrote in
between.  Every commit is on the disk before it counts (synchronous=FULL): a power cut forgets no stored mail.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event, exc

from maildaemon_adapters.sql import tables
from maildaemon_core.errors import InvalidOptions, MaildaemonError, Problem, StoreTooNew, StoreUnavailable

BUSY_SECONDS = 10.0
"""So long a transaction waits for that of another thread or process."""

_PREFIX = "sqlite:///"
_BEGIN = "maildaemon_begin"

_PRIMARY = 0xFF
"""The low byte of SQLite's extended result codes (sqlite.org/rescode.html) is the code itself."""

_MEANINGS = {
    sqlite3.SQLITE_BUSY: (
        f"has been locked by another program for more than {BUSY_SECONDS:.0f} s",
        "end the other program, or try again later",
    ),
    sqlite3.SQLITE_LOCKED: ("is locked", "try again later"),
    sqlite3.SQLITE_FULL: ("cannot grow: the disk is full", "make room on the disk"),
    sqlite3.SQLITE_READONLY: (
        "cannot be written",
        "give this user the right to write the file, its -wal and -shm files and their folder",
    ),
    sqlite3.SQLITE_PERM: ("may not be used by this user", "give this user the right to read and write it"),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened",
        "check that it is a file in a folder which exists and in which this user may write",
    ),
    sqlite3.SQLITE_NOTADB: ("is not a database", "name another file as the store, or move this one away"),
    sqlite3.SQLITE_CORRUPT: (
        "is damaged",
        "restore it from a backup, or save what can be read with: sqlite3 FILE .recover",
    ),
    sqlite3.SQLITE_IOERR: ("could not be read or written", "check the disk, and that it is not full"),
}

_FILE_MEANINGS = {
    errno.ENOENT: ("cannot be made: its folder does not exist", "make the folder, or correct the path"),
    errno.ENOTDIR: ("cannot be made: its folder is a file", "correct the path"),
    errno.EISDIR: ("is a folder", "name a file in it"),
    errno.EACCES: ("cannot be made: this user may not write in its folder", "give this user the right to"),
    errno.EPERM: ("cannot be made: this user may not write in its folder", "give this user the right to"),
    errno.EROFS: ("cannot be made: the file system is read-only", "name a file on another one"),
    errno.ENOSPC: ("cannot be made: the disk is full", "make room on the disk"),
    errno.EDQUOT: ("cannot be made: the disk quota is used up", "make room on the disk"),
}


class Database:
    """One database, used by many threads; its transactions are the only way in."""

    def __init__(self, url: str) -> None:
        self._path = _path_of(url)
        self.name = f"the store {self._path}"
        _make_private(self._path, self.name)
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(self._path)),
            connect_args={"timeout": BUSY_SECONDS},
            max_overflow=-1,
        )
        self._writing = threading.Lock()  # threads queue up here: SQLite lets them poll, some of them for very long
        event.listen(self._engine, "connect", _connected)
        event.listen(self._engine, "begin", _begun)
        self._reader = self._engine.execution_options(**{_BEGIN: "BEGIN"})
        try:
            self._wait_for_wal()
            self.made_anew = self._prepare()
        except BaseException:
            self._engine.dispose()
            raise

    def __repr__(self) -> str:
        return f"<Database {self._path}>"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of everything and writes nothing; it neither waits nor makes wait."""
        with self._translated(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction of the only writer: committed durably at its end, undone by any exception."""
        with self._writing, self._translated(), self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.DBAPIError, sqlite3.Error) as error:
            raise self._meaning(error) from error

    def _meaning(self, error: exc.DBAPIError | sqlite3.Error) -> MaildaemonError:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        code = getattr(cause, "sqlite_errorcode", 0) & _PRIMARY
        what, remedy = _MEANINGS.get(code, ("failed", "if it goes on, report it with this message"))
        return StoreUnavailable(f"{self.name} {what} ({cause})", remedy=remedy)

    def _wait_for_wal(self) -> None:
        """Turns on the write-ahead log; it stays on.

        SQLite does not wait for its lock here when two processes make the same file at once, so we do.
        """
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                with self._translated(), self._engine.connect() as connection:
                    driver = connection.connection.driver_connection
                    assert isinstance(driver, sqlite3.Connection)
                    (mode,) = driver.execute("PRAGMA journal_mode=WAL").fetchone()
            except StoreUnavailable as error:
                if not _busy(error.__cause__) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
                continue
            if mode != "wal":
                raise StoreUnavailable(
                    f"{self.name} lies on a file system that cannot share memory between programs",
                    remedy="name a file on a local disk, not on a network share",
                )
            return

    def _prepare(self) -> bool:
        """Makes the tables if there are none, and says whether it did."""
        with self.read() as connection:
            if self._tables_are_there(connection):
                return False
        with self.write() as connection:
            if self._tables_are_there(connection):
                return False
            tables.metadata.create_all(connection)
            connection.execute(sa.insert(tables.schema).values(version=tables.SCHEMA_VERSION))
            return True

    def _tables_are_there(self, connection: sa.Connection) -> bool:
        there = sa.inspect(connection).get_table_names()
        if not there:
            return False
        if tables.schema.name not in there:
            raise StoreUnavailable(
                f"{self.name} is the database of another program (its tables: {', '.join(there[:5])})",
                remedy="name another file as the store",
            )
        version = connection.scalar(sa.select(sa.func.max(tables.schema.c.version))) or 0
        if version > tables.SCHEMA_VERSION:
            raise StoreTooNew(
                f"{self.name} was written by a newer release: it has version {version}, "
                f"this release knows {tables.SCHEMA_VERSION}",
                remedy="install the newer release again, or use a backup from before",
            )
        return True


def _path_of(url: str) -> Path:
    if not url.startswith(_PREFIX) or len(url) == len(_PREFIX) or "\0" in url:
        scheme = url.partition(":")[0]  # what follows may hold a password
        problem = Problem(path="$.store", message=f"a store of the kind {scheme!r} is not known; write {_PREFIX}FILE")
        raise InvalidOptions([problem])
    return Path(url.removeprefix(_PREFIX)).absolute()


def _make_private(path: Path, name: str) -> None:
    """Makes the file readable by its owner only: it tells who writes to whom about what.  One that is there stays."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        what, remedy = _FILE_MEANINGS.get(error.errno or 0, (f"cannot be made ({error.strerror})", "correct the path"))
        raise StoreUnavailable(f"{name} {what}", remedy=remedy) from error


def _busy(error: BaseException | None) -> bool:
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return getattr(cause, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_BUSY


def _connected(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for setting in (f"busy_timeout={BUSY_SECONDS * 1000:.0f}", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {setting}")


def _begun(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"))
