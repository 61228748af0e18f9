"""A destination in a SQLite database: staged parts and letters are tables, and publishing is one transaction."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from threading import Lock
from typing import TypeVar

import attrs

from maildaemon_core.errors import DestinationUnavailable, MaildaemonError, Trouble
from maildaemon_core.message import BatchId
from maildaemon_core.options import DestinationOptions
from maildaemon_core.ports import Finding, Kind, Level, Occupied, Put, Staged, StillStaged, Unknown, WasPublished
from maildaemon_core.progress import Receipt

A = TypeVar("A")

TABLES = """
CREATE TABLE IF NOT EXISTS batches (batch TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS parts (batch TEXT, part TEXT, data BLOB, PRIMARY KEY (batch, part));
CREATE TABLE IF NOT EXISTS letters (path TEXT PRIMARY KEY, data BLOB);
"""


@attrs.frozen(kw_only=True)
class Settings:
    """``timeout``: seconds to wait for another worker."""

    timeout: float = 5.0


class Shoebox:
    def __init__(self, options: DestinationOptions, settings: Settings) -> None:
        self._url = options.url or ""
        self._lock = Lock()
        try:
            self._db = sqlite3.connect(
                self._url, timeout=settings.timeout, isolation_level=None, check_same_thread=False
            )
            self._db.executescript(TABLES)
        except sqlite3.Error as error:
            raise DestinationUnavailable(f"{self._url}: {error}", remedy="correct `url`") from error

    @property
    def place(self) -> str:
        return f"shoebox:{self._url}"

    def check(self) -> Sequence[Finding]:
        if trouble := self.probe():
            return [Finding(level=Level.FAULT, subject=self.place, message=trouble.message, remedy=trouble.remedy)]
        return [Finding(level=Level.FINE, subject=self.place, message="can be written")]

    def probe(self) -> Trouble | None:
        try:
            with self._lock:
                self._db.executescript("BEGIN IMMEDIATE; INSERT INTO batches VALUES ('probe'); ROLLBACK;")
        except sqlite3.Error as error:
            return self._down(error).trouble()
        return None

    def stage(self, batch: BatchId, puts: Sequence[Put]) -> Mapping[str, Staged | Trouble]:
        def all_() -> dict[str, Staged | Trouble]:
            self._do("INSERT OR IGNORE INTO batches VALUES (?)", str(batch))
            return {put.part: self._stage(batch, put) for put in puts}

        return self._within(all_)

    def publish(self, batch: BatchId, staged: Sequence[Staged]) -> Mapping[str, Receipt | Occupied | Unknown | Trouble]:
        return self._within(lambda: {part.part: self._publish(batch, part) for part in staged})

    def recover(
        self, batch: BatchId, staged: Sequence[Staged]
    ) -> Mapping[str, StillStaged | WasPublished | Unknown | Trouble]:
        return self._within(lambda: {part.part: self._state(batch, part) for part in staged})

    def forget(self, batch: BatchId) -> None:
        def both() -> None:
            self._do("DELETE FROM parts WHERE batch = ?", str(batch))
            self._do("DELETE FROM batches WHERE batch = ?", str(batch))

        self._within(both)

    def batches(self) -> Collection[BatchId]:
        found = (BatchId.parse(name) for (name,) in self._do("SELECT batch FROM batches"))
        return [batch for batch in found if batch is not None]

    def close(self) -> None:
        self._db.close()

    def _stage(self, batch: BatchId, put: Put) -> Staged | Trouble:
        if fault := _path_fault(put.path):
            return fault
        try:
            data = b"".join(put.content.chunks())
        except MaildaemonError as error:
            return error.trouble()
        except Exception as error:  # noqa: BLE001  (whatever a content raises, the others go on)
            return Trouble(error=type(error).__name__, message=f"the letter cannot be read: {error}")
        self._do("INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", str(batch), put.part, data)
        return Staged(part=put.part, path=put.path, size=len(data), sha256=hashlib.sha256(data).hexdigest())

    def _publish(self, batch: BatchId, staged: Staged) -> Receipt | Occupied | Unknown | Trouble:
        if fault := _path_fault(staged.path):
            return fault
        match self._state(batch, staged):
            case WasPublished(receipt):
                return receipt
            case Unknown():
                return Unknown()
        if self._do("SELECT 1 FROM letters WHERE path = ?", staged.path):
            return Occupied()
        self._do(
            "INSERT INTO letters SELECT ?, data FROM parts WHERE batch = ? AND part = ?",
            staged.path,
            str(batch),
            staged.part,
        )
        self._do("DELETE FROM parts WHERE batch = ? AND part = ?", str(batch), staged.part)
        return Receipt(size=staged.size, at=datetime.now(UTC))

    def _state(self, batch: BatchId, staged: Staged) -> StillStaged | WasPublished | Unknown:
        if not self._do("SELECT 1 FROM batches WHERE batch = ?", str(batch)):
            return Unknown()
        if self._do("SELECT 1 FROM parts WHERE batch = ? AND part = ?", str(batch), staged.part):
            return StillStaged()
        return WasPublished(Receipt(size=staged.size, at=datetime.now(UTC)))

    def _within(self, work: Callable[[], A]) -> A:
        """In one transaction."""
        with self._lock:
            self._do("BEGIN IMMEDIATE")
            try:
                answer = work()
            except BaseException:
                self._db.rollback()
                raise
            self._do("COMMIT")
            return answer

    def _do(self, statement: str, *values: object) -> list[tuple[str, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._down(error) from error

    def _down(self, error: sqlite3.Error) -> DestinationUnavailable:
        return DestinationUnavailable(f"{self._url}: {error}", remedy="look at the database")


def _path_fault(path: str) -> Trouble | None:
    if all(name and not name.startswith(".") and "\0" not in name for name in path.split("/")):
        return None
    return Trouble(error="PathRefused", message=f"{path!r} is no path for a letter", transient=False)


KIND = Kind(settings=Settings, open=Shoebox)
