"""The right to work on one mailbox: every write is one transaction that first looks at the fencing token (law 7)."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import exc

from maildaemon_adapters.sql import ledger
from maildaemon_adapters.sql.database import Database
from maildaemon_adapters.sql.recent import Recent
from maildaemon_adapters.sql.rows import moment, report_document
from maildaemon_adapters.sql.tables import (
    entry,
    folder,
    in_a_hand,
    is_open,
    lease,
    since_ever,
    storable,
)
from maildaemon_core.errors import LeaseLost
from maildaemon_core.message import Cursor, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import SweepReport, SweepState
from maildaemon_core.progress import Entry, EntryId, Outcome, Stage
from maildaemon_core.store_port import FolderState, Holder


class SqlLease:
    """A lease as given by ``SqlStore.lease``; it may be used by several threads.

    What it writes is on the disk when a method returns.  Every method raises ``StoreUnavailable`` when the database
    cannot be used.
    """

    def __init__(self, database: Database, mailbox: MailboxId, token: int) -> None:
        self._database = database
        self._mailbox = mailbox
        self._token = token
        self._recent = Recent()
        self._using = threading.RLock()  # what one thread reads must not be remembered over what another one writes

    def __repr__(self) -> str:
        return f"<lease {self._token} of mailbox {self._mailbox}>"

    @property
    def mailbox(self) -> MailboxId:
        return self._mailbox

    @property
    def token(self) -> int:
        return self._token

    @contextmanager
    def _fenced(self) -> Iterator[sa.Connection]:
        """A writing transaction under a lease that is still this one's."""
        mine = sa.select(lease.c.token).where(
            lease.c.mailbox == self._mailbox, lease.c.token == self._token, lease.c.owner.is_not(None)
        )
        with self._using, self._recent.unless_it_fails(), self._database.write() as connection:
            if connection.scalar(mine.with_for_update()) is None:
                raise LeaseLost(
                    f"lease {self._token} of mailbox {self._mailbox} has ended; nothing was written",
                    remedy="let the worker who has the lease now do the rest",
                )
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._using, self._database.read() as connection:
            yield connection

    def _load(self, connection: sa.Connection, numbers: Iterable[int]) -> Sequence[Entry]:
        entries = ledger.load(connection, sorted(numbers))
        self._recent.keep(entries)
        return entries

    def folder(self, folder_: FolderRef, /) -> FolderState | None:
        with self._database.read() as connection:
            row = connection.execute(sa.select(folder.c.cursor, folder.c.older).where(*self._state_of(folder_))).first()
        return None if row is None else FolderState(cursor=Cursor(row.cursor), older=row.older)

    def known(self, identities: Sequence[Identity]) -> Sequence[Entry]:
        strong = sorted({storable(identity.strong) for identity in identities if identity.strong})
        fingerprints = sorted({identity.fingerprint for identity in identities})
        numbers: set[int] = set()
        with self._reading() as connection:
            for column, values in ((entry.c.strong, strong), (entry.c.fingerprint, fingerprints)):
                for portion in ledger.portions(values):
                    alike = sa.select(entry.c.id).where(entry.c.mailbox == self._mailbox, column.in_(portion))
                    numbers.update(connection.scalars(alike))
            return self._load(connection, numbers)

    def at(self, refs: Sequence[MessageRef]) -> Sequence[Entry]:
        wanted: dict[tuple[str, str], list[str]] = defaultdict(list)
        for ref in dict.fromkeys(refs):
            wanted[storable(ref.folder), storable(ref.uidvalidity)].append(storable(ref.uid))
        numbers: set[int] = set()
        with self._reading() as connection:
            for (name, uidvalidity), uids in wanted.items():
                for portion in ledger.portions(uids):
                    there = sa.select(entry.c.id).where(
                        entry.c.mailbox == self._mailbox,
                        entry.c.folder == name,
                        entry.c.uidvalidity == uidvalidity,
                        entry.c.uid.in_(portion),
                    )
                    numbers.update(connection.scalars(there))
            return self._load(connection, numbers)

    def open_in(self, folder: FolderRef) -> Sequence[Entry]:
        return self._select(entry.c.folder == storable(folder), is_open, since_ever)

    def in_hand(self) -> Sequence[Entry]:
        return self._select(in_a_hand)

    def dismissed(self) -> Sequence[Entry]:
        return self._select(is_open, entry.c.outcome == Outcome.FAILED.value, entry.c.dismissed == sa.true())

    def due(
        self, stages: Collection[Stage], now: datetime, *, after: EntryId | None = None, limit: int
    ) -> Sequence[Entry]:
        due = (
            sa.select(entry.c.id)
            .where(entry.c.mailbox == self._mailbox, is_open, entry.c.due_at <= moment(now), entry.c.id > (after or 0))
            .order_by(entry.c.id)
            .limit(limit)
        )
        numbers: list[int] = []
        with self._reading() as connection:
            # One question per stage, since each walks the index in the order of the numbers and stops at the limit.
            for stage in set(stages):
                numbers += connection.scalars(due.where(entry.c.stage == stage.value))
            return self._load(connection, sorted(numbers)[: max(limit, 0)])

    def _select(self, *conditions: sa.ColumnElement[bool]) -> Sequence[Entry]:
        wanted = sa.select(entry.c.id).where(entry.c.mailbox == self._mailbox, *conditions)
        with self._reading() as connection:
            return self._load(connection, connection.scalars(wanted))

    def admit(self, folder: FolderRef, entries: Sequence[Entry], state: FolderState) -> Sequence[Entry]:
        numbered = [each for each in entries if each.id is not None]
        with self._using:
            with self._fenced() as connection:
                if numbered:
                    ledger.write(connection, self._mailbox, numbered, self._recent)
                admitted = ledger.insert_new(connection, self._mailbox, [each for each in entries if each.id is None])
                self._remember(connection, folder, state)
            self._recent.keep([*numbered, *admitted])
        return admitted

    def record(self, entries: Sequence[Entry]) -> None:
        with self._using:
            with self._fenced() as connection:
                if entries:
                    ledger.write(connection, self._mailbox, entries, self._recent)
            self._recent.keep(entries)

    def renew(self, seconds: float) -> None:
        with self._fenced() as connection:
            until = moment(self._database.now(connection) + timedelta(seconds=seconds))
            connection.execute(sa.update(lease).where(lease.c.mailbox == self._mailbox).values(until=until))

    def give_back(self, next_due: datetime | None = None, report: SweepReport | None = None) -> None:
        values: dict[str, object] = {"owner": None}
        if next_due is not None:
            values["next_due"] = moment(next_due)
        if report is not None:
            values["report"] = report_document(report)
            if report.state is SweepState.DONE:
                values |= {"last_success": moment(report.ended), "failing_since": None}
            else:
                values["failing_since"] = sa.func.coalesce(lease.c.failing_since, moment(report.started))
        with self._fenced() as connection:
            connection.execute(sa.update(lease).where(lease.c.mailbox == self._mailbox).values(**values))

    def _remember(self, connection: sa.Connection, name: FolderRef, state: FolderState) -> None:
        here = self._state_of(name)
        values = {"cursor": storable(state.cursor), "older": state.older}
        if connection.scalar(sa.select(folder.c.older).where(*here)) is None:
            connection.execute(sa.insert(folder).values(mailbox=self._mailbox, folder=storable(name), **values))
        else:
            connection.execute(sa.update(folder).where(*here).values(**values))

    def _state_of(self, name: FolderRef) -> tuple[sa.ColumnElement[bool], ...]:
        return (folder.c.mailbox == self._mailbox, folder.c.folder == storable(name))


def take(
    connection: sa.Connection,
    mailbox: MailboxId,
    clock: Callable[[sa.Connection], datetime],
    seconds: float,
    *,
    owner: str,
    over: Holder | None,
) -> int | None:
    """The token of a lease given just now; None while somebody else has it."""
    there = sa.select(lease.c.token, lease.c.owner, lease.c.until).where(lease.c.mailbox == mailbox).with_for_update()
    row = connection.execute(there).first()
    if row is None:
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(lease).values(mailbox=mailbox, token=0, until=0))
        except exc.IntegrityError:
            pass  # somebody was faster by a moment
        row = connection.execute(there).one()
    now = clock(connection)  # only now: who waited for the row must not judge by when it began to wait
    values = {"owner": storable(owner), "until": moment(now + timedelta(seconds=seconds))}
    held = row.owner is not None and row.until > moment(now)
    if held and (over is None or (over.owner, over.token) != (row.owner, row.token)):
        return None
    token: int = row.token + 1
    connection.execute(sa.update(lease).where(lease.c.mailbox == mailbox).values(token=token, **values))
    return token
