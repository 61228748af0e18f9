"""A source that reads mail from a table of a SQLite database: ``mails(id, received, raw)``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import attrs

from maildaemon_core.errors import FolderMissing, SourceUnavailable, Trouble
from maildaemon_core.message import Cursor, Envelope, FolderRef, MessageRef
from maildaemon_core.mime import read_headers
from maildaemon_core.options import Action, Aftercare, KindFacts, MailboxOptions
from maildaemon_core.ports import Fetched, Finding, FolderInfo, Kind, Known, Level, Page, Settled, Spool, Vanished

HOLE = FolderRef("INBOX")


@attrs.frozen(kw_only=True)
class Settings:
    """``table``: where the mails are."""

    table: str = attrs.field(default="mails", validator=attrs.validators.matches_re("[a-z]+"))


class Pigeonhole:
    def __init__(self, options: MailboxOptions, settings: Settings, spool: Spool) -> None:
        self._table = settings.table
        self._spool = spool
        try:
            # The engine uses a source from one thread at a time, which need not be the one that opened it.
            where = f"file:{options.path}?mode=rw"
            self._db = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise SourceUnavailable(f"{options.path} cannot be opened: {error}", remedy="correct `path`") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def folders(self) -> Sequence[FolderInfo]:
        return [FolderInfo(name=HOLE)]

    def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
        self._look(folder)
        after = int(cursor or 0)
        rows = self._rows("id > ? ORDER BY id LIMIT ?", after, limit)
        return Page(
            envelopes=tuple(self._envelope(*row) for row in rows),
            cursor=Cursor(str(rows[-1][0] if rows else after)),
            more=len(rows) == limit,
        )

    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished]:
        for ref in refs:
            rows = self._rows("id = ?", int(ref.uid))
            yield Fetched(ref=ref, content=self._spool.keep([rows[0][2]])) if rows else Vanished(ref=ref)

    def settle(self, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Settled | Trouble]:
        there = {mail.ref: bool(self._rows("id = ?", int(mail.ref.uid))) for mail in mails}
        if care.action is Action.DELETE:
            self._db.executemany(f"DELETE FROM {self._table} WHERE id = ?", [(mail.ref.uid,) for mail in mails])
        return {ref: Settled(gone=not found) for ref, found in there.items()}

    def check(self, folders: Sequence[FolderRef], care: Aftercare) -> Sequence[Finding]:
        return [
            Finding(level=Level.FINE, subject=f"folder {folder}", message="can be read")
            if folder == HOLE
            else Finding(level=Level.FAULT, subject=f"folder {folder}", message="does not exist", remedy="use INBOX")
            for folder in folders
        ]

    def server(self) -> str:
        return "a pigeonhole"

    def _look(self, folder: FolderRef) -> None:
        if folder != HOLE:
            raise FolderMissing(f"a pigeonhole has no folder {folder!r}", remedy="leave `folders` out")

    def _rows(self, where: str, *values: int) -> list[Any]:
        return self._db.execute(f"SELECT id, received, raw FROM {self._table} WHERE {where}", values).fetchall()

    def _envelope(self, number: int, received: float, raw: bytes) -> Envelope:
        return Envelope(
            ref=MessageRef(HOLE, "", str(number)),
            headers=read_headers(raw.partition(b"\r\n\r\n")[0]),
            received=datetime.fromtimestamp(received, UTC),
            size=len(raw),
        )


KIND = Kind(
    settings=Settings,
    open=Pigeonhole,
    facts=KindFacts(
        needs_host=False, needs_login=False, needs_path=True, actions=frozenset({Action.KEEP, Action.DELETE})
    ),
)
