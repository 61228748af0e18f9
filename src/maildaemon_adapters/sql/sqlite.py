"""A store in a file: how SQLite is opened, how its transactions begin, what its errors mean.

It runs with a write-ahead log: readers and the writer do not wait for each other.  Writing transactions take the lock
when they begin (BEGIN IMMEDIATE): one that reads first and writes later is refused whenever another wrote in between.
Every commit is on the disk before it counts (synchronous=FULL): a power cut forgets no stored mail.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from maildaemon_adapters.sql.database import Synchronous, unknown_url
from maildaemon_adapters.sql.schema import missing
from maildaemon_adapters.sql.turns import Turns
from maildaemon_core.errors import StoreUnavailable

BUSY_SECONDS = 30.0
"""So long a transaction waits for that of another thread or process."""

WAL_BYTES = 64 << 20
"""The write-ahead log is cut back to this once it could be emptied, after a long reader has let it grow."""

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
        self._writing = Turns(1)  # threads queue up here: SQLite lets them poll, some of them for very long
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
            f"journal_size_limit={WAL_BYTES}",
        )
        self._file: tuple[int, int] | None = None  # device and number of the file, once it is in use
        event.listen(self.engine, "do_connect", self._connecting)
        event.listen(self.engine, "connect", self._connected)
        event.listen(self.engine, "begin", self._begun)
        self.reader = self.engine.execution_options(**{_BEGIN: "BEGIN"})

    def turn(self, *, writing: bool) -> AbstractContextManager[Any]:
        return self._writing.turn() if writing else nullcontext()

    def patience(self, _connection: sa.Connection) -> AbstractContextManager[Any]:
        return nullcontext()

    def clock(self) -> None:
        return None

    def own_turn_to_make(self, connection: sa.Connection) -> None:
        """There is only one writer anyway."""

    def greet(self) -> None:
        """Makes the file if need be and turns on the write-ahead log; it stays on.

        SQLite does not wait for its lock here when two processes make the same file at once, so we do; and while one
        of them removes the log and another opens it, it may call that an error of the disk.
        """
        if not self._make and not self._path.exists():
            raise missing(self.name)
        _make_private(self._path, self.name)
        began = time.monotonic()
        while True:
            try:
                with self.engine.connect() as connection:
                    driver = connection.connection.driver_connection
                    assert isinstance(driver, sqlite3.Connection)
                    (mode,) = driver.execute("PRAGMA journal_mode=WAL").fetchone()
            except (sa.exc.DBAPIError, sqlite3.Error) as error:
                if time.monotonic() - began > _PATIENCE.get(_primary_code(error), 0.0):
                    what, remedy = self.meaning(getattr(error, "orig", None) or error)
                    raise StoreUnavailable(f"{self.name} {what}", remedy=remedy) from error
                time.sleep(0.02)
                continue
            if mode != "wal":
                raise StoreUnavailable(
                    f"{self.name} lies on a file system that cannot share memory between programs",
                    remedy="name a file on a local disk, not on a network share",
                )
            self._file = self._file_there()
            return

    def meaning(self, error: BaseException) -> tuple[str, str]:
        code = _primary_code(error)
        what, remedy = _MEANINGS.get(code, ("failed", "if it goes on, report it with this message"))
        return f"{what} ({error})", remedy

    def _connecting(self, *_: object) -> None:
        self._see_that_it_is_the_same()  # SQLite would make a new file where there is none

    def _connected(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        for setting in self._settings:
            connection.execute(f"PRAGMA {setting}")

    def _begun(self, connection: sa.Connection) -> None:
        self._see_that_it_is_the_same()
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"))

    def _see_that_it_is_the_same(self) -> None:
        """A file that was removed can still be written, and nobody ever sees that again; with another one in its place,
        old connections write the one and new ones the other (sqlite.org/howtocorrupt.html, 4.3)."""
        if self._file is not None and self._file_there() != self._file:
            raise StoreUnavailable(
                f"{self.name} was removed, moved or replaced while it was in use; nothing was written",
                remedy="put the file back together with its -wal and -shm files; or stop the service, restore the file "
                "from a backup, and start it again",
            )

    def _file_there(self) -> tuple[int, int] | None:
        try:
            there = os.stat(self._path)  # noqa: PTH116  (it is asked for each transaction)
        except OSError:
            return None
        return there.st_dev, there.st_ino


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


def _primary_code(error: BaseException) -> int:
    cause = getattr(error, "orig", None) or error
    return int(getattr(cause, "sqlite_errorcode", 0)) & _PRIMARY


_PATIENCE = {sqlite3.SQLITE_BUSY: BUSY_SECONDS, sqlite3.SQLITE_IOERR: 1.0}
"""How long an error may go on, in seconds, while several make the same file."""
