"""The store on SQL: configurations, the ledger as people see it, and who gets a lease."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy import exc

from maildaemon_adapters.sql import dump, ledger, schema, search
from maildaemon_adapters.sql.database import Database, SqlSettings
from maildaemon_adapters.sql.keys import SqlKeys
from maildaemon_adapters.sql.lease import SqlLease, take
from maildaemon_adapters.sql.postgresql import SCHEMES, Postgresql
from maildaemon_adapters.sql.repeats import SqlRepeats
from maildaemon_adapters.sql.rows import (
    LARGEST,
    at_moment,
    at_moment_or_none,
    configuration_from,
    moment,
    report_from,
    storable_document,
)
from maildaemon_adapters.sql.sqlite import Sqlite
from maildaemon_adapters.sql.tables import (
    THINNED,
    artifact,
    configuration,
    entry,
    folder,
    is_open,
    is_there,
    lease,
    storable,
    was_dropped,
)
from maildaemon_core.errors import StaleVersion
from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.monitoring import EntryPage, EntryQuery, MailboxInfo
from maildaemon_core.progress import Entry, EntryId, Outcome
from maildaemon_core.store_port import Configuration, Holder, Moved

_AS_USUAL = SqlSettings()
_NUMBERS = range(1, LARGEST + 1)
"""Those that an entry can have; databases fail at others instead of not finding them."""


class SqlStore(SqlKeys, SqlRepeats):
    """A store in a database, used by many threads and several processes.

    It takes documents as they are given: nothing secret may be in them; callers mask secrets before.
    ``clock`` decides on leases and dates, by default the database's own.
    ``made_anew``: opening made the tables, there was no store before.  ``version`` is that of the tables;
    ``upgraded_from`` the one that they had until opening upgraded them, None if it did not.
    Every method raises ``StoreUnavailable`` when the database cannot be used; opening also raises ``StoreMissing``,
    ``StoreTooNew`` and ``StoreTooOld``.
    """

    def __init__(
        self, url: str, settings: SqlSettings = _AS_USUAL, *, clock: Callable[[], datetime] | None = None
    ) -> None:
        on_server = url.partition(":")[0] in SCHEMES
        backend = Postgresql(url, settings) if on_server else Sqlite(url, settings.synchronous, make=settings.make)
        self._database = Database(backend, settings, clock)
        self.made_anew = self._database.made_anew
        self.version = schema.HEAD
        self.upgraded_from = self._database.upgraded_from

    @classmethod
    def open(cls, url: str, settings: SqlSettings) -> SqlStore:
        """The store at ``sqlite:///FILE``, made if it is not there (its folder must be), or at
        ``postgresql://USER@HOST/DATABASE``."""
        return cls(url, settings)

    def __repr__(self) -> str:
        return f"<{self._database.name}>"

    def save(self, configuration: Configuration, *, expected: int | None = None, by: str = "") -> Configuration:
        return self._save(configuration, expected, by)

    def _save(self, wanted: Configuration, expected: int | None, by: str) -> Configuration:
        content = {
            "name": storable(wanted.name),
            "document": storable_document(wanted.document),
            "secrets": storable_document(wanted.secrets),
        }
        this = configuration.c.id == wanted.id
        with self._database.write() as connection:
            there, new = _locked(connection, wanted.id), False
            while there is None and not expected and not new:
                new = _created(connection, wanted.id, content, moment(self._database.now(connection)), storable(by))
                there = _locked(connection, wanted.id)
            version = _version(there)
            if there is None or (not new and expected is not None and expected != version):
                raise _stale(wanted.name, version, expected)
            if not new and (not version or (there.name, there.document, there.secrets) != tuple(content.values())):
                # Only now, for it may have waited for somebody who changed it later than it began.
                now, by = moment(self._database.now(connection)), storable(by)
                values: dict[str, Any] = {"version": there.version + 1, **content, "changed": now, "changed_by": by}
                if not version:
                    values |= {"created": now, "created_by": by, "dropped": None}
                    _end_lease(connection, wanted.id)  # of somebody who began after it was dropped
                connection.execute(sa.update(configuration).where(this).values(values))
            return configuration_from(connection.execute(sa.select(configuration).where(this)).one())

    def reseal(self, mailbox: MailboxId, secrets: Mapping[str, str], *, expected: int) -> None:
        with self._database.write() as connection:
            version = _version(_locked(connection, mailbox))
            if not version or version != expected:
                raise _stale(mailbox, version, expected)
            this = configuration.c.id == mailbox
            connection.execute(sa.update(configuration).where(this).values(secrets=storable_document(secrets)))

    def configuration(self, mailbox: MailboxId) -> Configuration | None:
        this = sa.select(configuration).where(configuration.c.id == storable(mailbox), is_there)
        with self._database.read() as connection:
            row = connection.execute(this).first()
        return None if row is None else configuration_from(row)

    def configurations(self) -> Sequence[Configuration]:
        """By name, then by id."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(configuration).where(is_there)).all()
        return sorted(map(configuration_from, rows), key=lambda each: (each.name, each.id))

    def drop(self, mailbox: MailboxId, *, expected: int | None = None, forget: bool = False) -> None:
        mailbox = MailboxId(storable(mailbox))
        with self._database.write(patient=forget) as connection:
            # A configuration before its lease, and that before its entries: nobody waits for anybody in a circle.
            there = _locked(connection, mailbox)
            version = _version(there)
            if expected is not None and expected != version:
                raise _stale(mailbox if there is None else there.name, version, expected)
            _end_lease(connection, mailbox)
            this = configuration.c.id == mailbox
            if forget:
                connection.execute(sa.delete(configuration).where(this))
                _forget(connection, mailbox)
            elif version:
                gone = {"dropped": moment(self._database.now(connection)), "secrets": {}}
                connection.execute(sa.update(configuration).where(this).values(gone))

    def former(self) -> Sequence[Configuration]:
        """The last dropped first; those that were dropped at the same moment by id."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(configuration).where(was_dropped)).all()
        return [configuration_from(row) for row in sorted(rows, key=lambda row: (-row.dropped, row.id))]

    def lease(self, mailbox: MailboxId, seconds: float, *, owner: str, over: Holder | None = None) -> SqlLease | None:
        mailbox = MailboxId(storable(mailbox))
        with self._database.write() as connection:
            token = take(connection, mailbox, self._database.now, seconds, owner=owner, over=over)
        return None if token is None else SqlLease(self._database, mailbox, token)

    def holder(self, mailbox: MailboxId) -> Holder | None:
        with self._database.read() as connection:
            now = moment(self._database.now(connection))
            held = sa.select(lease.c.owner, lease.c.token, lease.c.until).where(
                lease.c.mailbox == storable(mailbox), lease.c.owner.is_not(None), lease.c.until > now
            )
            row = connection.execute(held).first()
        return None if row is None else Holder(owner=row.owner, token=row.token, until=at_moment(row.until))

    def entries(self, query: EntryQuery) -> EntryPage:
        if query.before is not None:
            query = attrs.evolve(query, before=EntryId(min(max(query.before, _NUMBERS[0]), _NUMBERS[-1])))
        with self._database.read() as connection:
            return search.find(connection, query)

    def entry(self, number: EntryId) -> Entry | None:
        if number not in _NUMBERS:
            return None
        with self._database.read() as connection:
            return self._visible(connection, number)

    def dismiss(self, number: EntryId) -> Entry | None:
        if number not in _NUMBERS:
            return None
        with self._database.write() as connection:
            connection.execute(
                sa.update(entry)
                .where(entry.c.id == number, entry.c.outcome.not_in((THINNED, Outcome.PENDING.value)))
                .values(dismissed=True)
            )
            return self._visible(connection, number)

    def _visible(self, connection: sa.Connection, number: EntryId) -> Entry | None:
        shown = sa.select(entry.c.id).where(entry.c.id == number, entry.c.outcome != THINNED)
        found = ledger.load(connection, connection.scalars(shown).all())
        return found[0] if found else None

    def thin(self, outcome: Outcome, before: datetime, *, limit: int) -> int:
        with self._database.write() as connection:
            return ledger.thin(connection, outcome, moment(before), limit)

    def infos(self) -> Sequence[MailboxInfo]:
        each_with_lease = (
            sa.select(configuration.c.id, configuration.c.name, configuration.c.document, lease)
            .select_from(configuration.outerjoin(lease, lease.c.mailbox == configuration.c.id))
            .where(is_there)
        )
        opened = (
            sa.select(entry.c.mailbox, entry.c.folder, sa.func.count())
            .where(is_open)
            .group_by(entry.c.mailbox, entry.c.folder)
        )
        backlog: dict[str, dict[FolderRef, int]] = defaultdict(dict)
        with self._database.read() as connection:
            now = moment(self._database.now(connection))
            rows = sorted(connection.execute(each_with_lease), key=lambda row: (row.name, row.id))
            for mailbox, name, number in connection.execute(opened):
                backlog[mailbox][FolderRef(name)] = number
        return [
            MailboxInfo(
                mailbox=MailboxId(row.id),
                name=row.name,
                address=row.document.get("mailbox") or row.document.get("username") or row.name,
                active=row.document.get("active") is not False,
                report=None if row.report is None else report_from(row.report),
                last_success=at_moment_or_none(row.last_success),
                failing_since=at_moment_or_none(row.failing_since),
                next_due=at_moment_or_none(row.next_due),
                held_by=row.owner if row.owner is not None and row.until > now else None,
                backlog=backlog.get(row.id, {}),
            )
            for row in rows
        ]

    def leave(self, write: Callable[[bytes], object], *, secrets: bool = False) -> Moved:
        return dump.leave(self._database, write, secrets=secrets)

    def bring_in(self, lines: Iterable[bytes]) -> Moved:
        return dump.bring_in(self._database, lines)

    def close(self) -> None:
        """Lets go of the file; twice is the same as once."""
        self._database.close()


def _locked(connection: sa.Connection, mailbox: MailboxId) -> Configuration | None:
    """The configuration, a dropped one too, which nobody else changes in the meantime."""
    this = sa.select(configuration).where(configuration.c.id == storable(mailbox))
    row = connection.execute(this.with_for_update()).first()
    return None if row is None else configuration_from(row)


def _version(there: Configuration | None) -> int:
    """That of the configuration; 0 if there is none, or if it was dropped."""
    return 0 if there is None or there.dropped is not None else there.version


def _end_lease(connection: sa.Connection, mailbox: MailboxId) -> None:
    """Whoever has the lease writes nothing more, and nothing is left of what its sweeps said."""
    nothing = dict.fromkeys(("owner", "next_due", "report", "last_success", "failing_since"))
    connection.execute(sa.update(lease).where(lease.c.mailbox == mailbox).values(nothing))


def _forget(connection: sa.Connection, mailbox: MailboxId) -> None:
    """Everything that was processed; the lease must have been ended before."""
    mine = sa.select(entry.c.id).where(entry.c.mailbox == mailbox)
    # As thinning out does: an entry before its artifacts.
    connection.execute(sa.select(sa.func.count()).select_from(mine.with_for_update().subquery()))
    connection.execute(sa.delete(artifact).where(artifact.c.entry.in_(mine)))
    connection.execute(sa.delete(entry).where(entry.c.mailbox == mailbox))
    connection.execute(sa.delete(folder).where(folder.c.mailbox == mailbox))


def _created(connection: sa.Connection, mailbox: MailboxId, content: Mapping[str, Any], now: int, by: str) -> bool:
    """Whether this made the configuration, and not somebody who was faster by a moment."""
    first = {"version": 1, "created": now, "changed": now, "created_by": by, "changed_by": by}
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(configuration).values(id=mailbox, **content, **first))
    except exc.IntegrityError:
        return False
    return True


def _stale(name: str, version: int, expected: int | None) -> StaleVersion:
    return StaleVersion(
        f"mailbox {name!r} has version {version}, not {expected}: somebody changed it meanwhile",
        remedy="read it again and apply the change to what is there now",
    )
