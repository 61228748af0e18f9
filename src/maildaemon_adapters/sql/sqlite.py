"""A store in a file: how SQLite is opened, how its transactions begin, what its errors mean.

It runs with a write-ahead log: readers and the writer do not wait for each other.  Writing transactions take the lock
when they begin (BEGIN IMMEDIATE): one that reads first and writes later is refused whenever another wrote in between.
Every commit is on the disk before it counts (synchronous=FULL): a power cut forgets no stored mail.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from maildaemon_adapters.sql.database import Synchronous, unknown_url
from maildaemon_adapters.sql.schema import missing
from maildaemon_core.errors import StoreUnavailable

BUSY_SECONDS = 30.0
"""So long a transaction waits for that of another thread or process."""

PREFIX = "sqlite:///"
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


class Sqlite:
    """The database in one file."""

    upgrades_itself = True

    def __init__(self, url: str, synchronous: Synchronous = "full", *, make: bool = True) -> None:
        self._path = _path_of(url)
        self._make = make
        self.name = f"the store {self._path}"
        self._writing = threading.Lock()  # threads queue up here: SQLite lets them poll, some of them for very long
        self.engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(self._path)),
            connect_args={"timeout": BUSY_SECONDS},
            max_overflow=-1,
            hide_parameters=True,
        )
        self._settings = (
            f"busy_timeout={BUSY_SECONDS * 1000:.0f}",
            f"synchronous={synchronous.upper()}",
            "foreign_keys=ON",
        )
        event.listen(self.engine, "connect", self._connected)
        event.listen(self.engine, "begin", _begun)
        self.reader = self.engine.execution_options(**{_BEGIN: "BEGIN"})

    def turn(self) -> threading.Lock:
        return self._writing

    def patience(self, _connection: sa.Connection) -> AbstractContextManager[Any]:
        return nullcontext()

    def clock(self) -> None:
        return None

    def own_turn_to_make(self, connection: sa.Connection) -> None:
        """There is only one writer anyway."""

    def greet(self) -> None:
        """Makes the file if need be and turns on the write-ahead log; it stays on.

        SQLite does not wait for its lock here when two processes make the same file at once, so we do.
        """
        if not self._make and not self._path.exists():
            raise missing(self.name)
        _make_private(self._path, self.name)
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                with self.engine.connect() as connection:
                    driver = connection.connection.driver_connection
                    assert isinstance(driver, sqlite3.Connection)
                    (mode,) = driver.execute("PRAGMA journal_mode=WAL").fetchone()
            except (sa.exc.DBAPIError, sqlite3.Error) as error:
                if not _busy(error) or time.monotonic() > deadline:
                    what, remedy = self.meaning(getattr(error, "orig", None) or error)
                    raise StoreUnavailable(f"{self.name} {what}", remedy=remedy) from error
                time.sleep(0.02)
                continue
            if mode != "wal":
                raise StoreUnavailable(
                    f"{self.name} lies on a file system that cannot share memory between programs",
                    remedy="name a file on a local disk, not on a network share",
                )
            return

    def meaning(self, error: BaseException) -> tuple[str, str]:
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        what, remedy = _MEANINGS.get(code, ("failed", "if it goes on, report it with this message"))
        return f"{what} ({error})", remedy

    def _connected(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        for setting in self._settings:
            connection.execute(f"PRAGMA {setting}")


def _path_of(url: str) -> Path:
    if not url.startswith(PREFIX) or len(url) == len(PREFIX) or "\0" in url:
        raise unknown_url(url, f"{PREFIX}FILE")
    return Path(url.removeprefix(PREFIX)).absolute()


def _make_private(path: Path, name: str) -> None:
    """Makes the file readable by its owner only: it tells who writes to whom about what.  One that is there stays."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        what, remedy = _FILE_MEANINGS.get(error.errno or 0, (f"cannot be made ({error.strerror})", "correct the path"))
        raise StoreUnavailable(f"{name} {what}", remedy=remedy) from error


def _busy(error: BaseException) -> bool:
    cause = getattr(error, "orig", None) or error
    return getattr(cause, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_BUSY


def _begun(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"))
