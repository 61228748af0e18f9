"""The store on SQL: configurations, the ledger as people see it, and who gets a lease."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from maildaemon_adapters.sql import ledger
from maildaemon_adapters.sql.connection import Database
from maildaemon_adapters.sql.lease import SqlLease, take
from maildaemon_adapters.sql.rows import (
    at_moment,
    at_moment_or_none,
    configuration_from,
    folded,
    moment,
    report_from,
)
from maildaemon_adapters.sql.tables import artifact, configuration, entry, folder, is_open, lease, storable
from maildaemon_core.errors import InvalidOptions, Problem, StaleVersion
from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.monitoring import EntryPage, EntryQuery, MailboxInfo
from maildaemon_core.ports import Configuration, Holder
from maildaemon_core.progress import Entry, EntryId

_LONGEST_PATTERN = 1000
"""SQLite refuses patterns of more than 50,000 bytes; the first so many characters narrow down enough."""


def _now() -> datetime:
    return datetime.now(UTC)


class SqlStore:
    """A store in a database, used by many threads and, in one file, by several processes.

    It takes documents as they are given: nothing secret may be in them; callers mask secrets before.
    ``made_anew``: opening made the tables, there was no store before.
    Every method raises ``StoreUnavailable`` when the database cannot be used; opening also raises ``StoreTooNew``.
    """

    def __init__(self, url: str, *, clock: Callable[[], datetime] = _now) -> None:
        self._database = Database(url)
        self._clock = clock
        self.made_anew = self._database.made_anew

    @classmethod
    def open(cls, url: str) -> SqlStore:
        """The store at ``sqlite:///FILE``, made if it is not there; its folder must be."""
        return cls(url)

    def __repr__(self) -> str:
        return f"<{self._database.name}>"

    def save(self, configuration: Configuration, *, expected: int | None = None) -> Configuration:
        """As in the port; raises ``InvalidOptions`` if another configuration has that name."""
        return self._save(configuration, expected)

    def _save(self, wanted: Configuration, expected: int | None) -> Configuration:
        row = {"name": wanted.name, "document": dict(wanted.document)}
        this = configuration.c.id == wanted.id
        with self._database.write() as connection:
            now = moment(self._clock())
            found = connection.execute(sa.select(configuration).where(this)).first()
            there = None if found is None else configuration_from(found)
            version = 0 if there is None else there.version
            if expected is not None and expected != version:
                raise StaleVersion(
                    f"mailbox {wanted.name!r} has version {version}, not {expected}: somebody changed it meanwhile",
                    remedy="read it again and apply the change to what is there now",
                )
            namesake = sa.select(configuration.c.id).where(
                configuration.c.name == wanted.name, configuration.c.id != wanted.id
            )
            if connection.scalar(namesake) is not None:
                problem = Problem(path="$.name", message=f"another mailbox is called {wanted.name!r}; names are unique")
                raise InvalidOptions([problem])
            if there is None:
                connection.execute(
                    sa.insert(configuration).values(id=wanted.id, version=1, created=now, changed=now, **row)
                )
            elif (there.name, there.document) != (row["name"], row["document"]):
                connection.execute(sa.update(configuration).where(this).values(version=version + 1, changed=now, **row))
            return configuration_from(connection.execute(sa.select(configuration).where(this)).one())

    def configuration(self, mailbox: MailboxId) -> Configuration | None:
        with self._database.read() as connection:
            row = connection.execute(sa.select(configuration).where(configuration.c.id == mailbox)).first()
        return None if row is None else configuration_from(row)

    def configurations(self) -> Sequence[Configuration]:
        """By name."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(configuration).order_by(configuration.c.name)).all()
        return [configuration_from(row) for row in rows]

    def drop(self, mailbox: MailboxId, *, forget: bool = False) -> None:
        """As in the port.  Forgetting ends a lease that somebody has: nothing of before is written afterwards."""
        with self._database.write() as connection:
            connection.execute(sa.delete(configuration).where(configuration.c.id == mailbox))
            if forget:
                mine = sa.select(entry.c.id).where(entry.c.mailbox == mailbox)
                connection.execute(sa.delete(artifact).where(artifact.c.entry.in_(mine)))
                connection.execute(sa.delete(entry).where(entry.c.mailbox == mailbox))
                connection.execute(sa.delete(folder).where(folder.c.mailbox == mailbox))
                nothing = dict.fromkeys(("owner", "next_due", "report", "last_success", "failing_since"))
                connection.execute(sa.update(lease).where(lease.c.mailbox == mailbox).values(**nothing))

    def lease(self, mailbox: MailboxId, seconds: float, *, owner: str, over: Holder | None = None) -> SqlLease | None:
        with self._database.write() as connection:
            token = take(connection, mailbox, self._clock(), seconds, owner=owner, over=over)
        return None if token is None else SqlLease(self._database, self._clock, mailbox, token)

    def holder(self, mailbox: MailboxId) -> Holder | None:
        held = sa.select(lease.c.owner, lease.c.token, lease.c.until).where(
            lease.c.mailbox == mailbox, lease.c.owner.is_not(None), lease.c.until > moment(self._clock())
        )
        with self._database.read() as connection:
            row = connection.execute(held).first()
        return None if row is None else Holder(owner=row.owner, token=row.token, until=at_moment(row.until))

    def entries(self, query: EntryQuery) -> EntryPage:
        """As in the port: the database narrows down, ``EntryQuery.matches`` decides."""
        limit = max(query.limit, 1)
        narrowed = sa.select(entry.c.id).where(*_conditions(query)).order_by(entry.c.id.desc()).limit(limit + 1)
        found: list[Entry] = []
        before = query.before
        with self._database.read() as connection:
            while len(found) <= limit:
                older = narrowed if before is None else narrowed.where(entry.c.id < before)
                numbers = [EntryId(number) for number in connection.scalars(older)]
                found += [each for each in ledger.load(connection, numbers) if query.matches(each)]
                if len(numbers) <= limit:
                    break
                before = numbers[-1]
        page = tuple(found[:limit])
        return EntryPage(entries=page, next=page[-1].id if len(found) > limit else None)

    def infos(self) -> Sequence[MailboxInfo]:
        now = moment(self._clock())
        each_with_lease = (
            sa.select(configuration.c.id, configuration.c.name, configuration.c.document, lease)
            .select_from(configuration.outerjoin(lease, lease.c.mailbox == configuration.c.id))
            .order_by(configuration.c.name)
        )
        opened = (
            sa.select(entry.c.mailbox, entry.c.folder, sa.func.count())
            .where(is_open)
            .group_by(entry.c.mailbox, entry.c.folder)
        )
        backlog: dict[str, dict[FolderRef, int]] = defaultdict(dict)
        with self._database.read() as connection:
            rows = connection.execute(each_with_lease).all()
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

    def close(self) -> None:
        """Lets go of the file; twice is the same as once."""
        self._database.close()


def _conditions(query: EntryQuery) -> list[sa.ColumnElement[bool]]:
    conditions = [entry.c.outcome == query.outcome.value]
    for column, value in (
        (entry.c.mailbox, query.mailbox),
        (entry.c.folder, query.folder),
        (entry.c.error, query.error),
    ):
        if value is not None:
            conditions.append(column == storable(value))
    for column, part in ((entry.c.sender_folded, query.sender), (entry.c.subject_folded, query.subject)):
        if part:
            conditions.append(column.contains(folded(part)[:_LONGEST_PATTERN], autoescape=True))
    if query.received_from is not None:
        conditions.append(entry.c.received >= moment(query.received_from))
    if query.received_to is not None:
        conditions.append(entry.c.received < moment(query.received_to))
    return conditions
