"""The tables in which everything is remembered, and which questions they can answer without reading all of it.

Points in time are whole microseconds since 1970 in UTC: exact, sortable and the same on every database.
A row of ``artifact`` is at the same time the reservation of its path (law 3): it stays when its entry has let go of the
artifact, with ``position`` NULL, so that no other mail is ever given a name under which something may have been seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> str:
    """The text with NUL and lone surrogates, which not every database takes, replaced by U+FFFD."""
    return text if text.isascii() and "\0" not in text else _UNSTORABLE.sub("\ufffd", text)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

_json = sa.JSON(none_as_null=True)


class _Object(sa.TypeDecorator[dict[str, Any]]):
    """An object in JSON.  Whatever else somebody has written into the database is read as an empty one.

    Such a mailbox lacks everything, and is told so; the others are read as ever (law 9).
    """

    impl = sa.JSON
    cache_ok = True

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], dict[str, Any]]:
        decoded = super().result_processor(dialect, coltype) or (lambda value: value)

        def read(value: Any) -> dict[str, Any]:
            try:
                found = decoded(value)
            except (TypeError, ValueError):
                return {}
            return found if isinstance(found, dict) else {}

        return read


_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # only INTEGER counts by itself there


def is_document(column: sa.Column[Any]) -> bool:
    """Whether it holds JSON."""
    return isinstance(column.type, sa.JSON | _Object)


def _column(name: str, kind: Any, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null)


configuration = sa.Table(
    "configuration",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    _column("name", sa.Text),
    _column("document", _Object()),
    _column("secrets", _Object()),
    _column("version", sa.Integer),
    _column("created", sa.BigInteger),
    _column("changed", sa.BigInteger),
    _column("created_by", sa.Text),
    _column("changed_by", sa.Text),
    _column("dropped", sa.BigInteger, null=True),
)
"""``document`` has no secret in it; ``secrets`` are these, sealed, by where they belong.

The row of a configuration that was dropped stays, without secrets, until the mailbox is forgotten.
"""

is_there = configuration.c.dropped.is_(None)
was_dropped = configuration.c.dropped > -(2**63)
"""As a range, for which SQLite takes the index: of IS NOT NULL it does not know how few that are."""

sa.Index("ix_configuration_dropped", configuration.c.dropped)
"""Of those that are there and of those that are not: neither are read in search of the others."""

repeat = sa.Table(
    "repeat",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    _column("request", sa.Text),
    _column("mailbox", sa.Text),
    _column("at", sa.BigInteger),
    _column("answer", _json, null=True),
)
"""Requests that must not be carried out twice; ``answer`` is NULL until they were carried out."""

sa.Index("ix_repeat_at", repeat.c.at, repeat.c.key)

api_key = sa.Table(
    "api_key",
    metadata,
    sa.Column("prefix", sa.Text, primary_key=True),
    _column("name", sa.Text),
    _column("digest", sa.Text),
    _column("scopes", _json),
    _column("created", sa.BigInteger),
    _column("expires", sa.BigInteger, null=True),
    _column("last_used", sa.BigInteger, null=True),
    _column("revoked", sa.BigInteger, null=True),
)

is_not_revoked = api_key.c.revoked.is_(None)

sa.Index("ix_api_key_name", api_key.c.name, unique=True, sqlite_where=is_not_revoked, postgresql_where=is_not_revoked)
"""A name is taken for as long as its key is not revoked, whoever asks at the same moment."""

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("mailbox", sa.Text, primary_key=True),
    _column("token", sa.BigInteger),
    _column("owner", sa.Text, null=True),  # NULL: given back
    _column("until", sa.BigInteger),
    _column("next_due", sa.BigInteger, null=True),
    _column("report", _json, null=True),
    _column("last_success", sa.BigInteger, null=True),
    _column("failing_since", sa.BigInteger, null=True),
)
"""One row for each mailbox that was ever leased; it outlives its configuration, for tokens only grow."""

folder = sa.Table(
    "folder",
    metadata,
    sa.Column("mailbox", sa.Text, primary_key=True),
    sa.Column("folder", sa.Text, primary_key=True),
    _column("cursor", sa.Text),
    _column("older", sa.BigInteger),
)

entry = sa.Table(
    "entry",
    metadata,
    sa.Column("id", _number, primary_key=True, autoincrement=True),
    _column("mailbox", sa.Text),
    _column("folder", sa.Text),
    _column("uidvalidity", sa.Text),
    _column("uid", sa.Text),
    _column("fingerprint", sa.Text),
    _column("strong", sa.Text, null=True),
    _column("key", sa.Text),
    _column("received", sa.BigInteger),
    _column("first_seen", sa.BigInteger),
    _column("sender", sa.Text),
    _column("subject", sa.Text),
    _column("sender_folded", sa.Text),
    _column("subject_folded", sa.Text),
    _column("message_id", sa.Text),
    _column("size", sa.BigInteger, null=True),
    _column("stage", sa.Text),
    _column("outcome", sa.Text),  # THINNED: there is nothing left to show
    sa.Column("dismissed", sa.Boolean, nullable=False, server_default=sa.false()),
    _column("due_at", sa.BigInteger, null=True),
    _column("attempts", sa.Integer),
    _column("suspect", sa.Boolean),
    _column("in_hand", sa.BigInteger),
    _column("last_tried", sa.BigInteger, null=True),
    _column("batch", sa.Text, null=True),
    _column("complete", sa.Boolean),
    _column("care", sa.SmallInteger),
    _column("care_folder", sa.Text, null=True),
    _column("error", sa.Text, null=True),
    _column("trouble", _json, null=True),
    _column("reason", sa.Text),
    _column("defects", _json, null=True),
    _column("moved_to", _json, null=True),  # folder, UIDVALIDITY, UID
    sa.UniqueConstraint("mailbox", "folder", "uidvalidity", "uid"),
    sqlite_autoincrement=True,  # a number that people have seen never comes to mean another mail
)
"""What is remembered of each mail.  ``outcome`` and ``error`` follow from the rest; they are there to be looked up by.

The folded texts are what people search in: neither database folds case as Unicode does.
"""

THINNED = ""
"""The outcome of an entry of which the history was thinned out."""

is_open = entry.c.due_at.is_not(None)
since_ever = entry.c.due_at > -(2**63)
"""The same as ``is_open``, as a range: SQLite then prefers the index of open entries to others that fit as well."""

in_a_hand = entry.c.in_hand > sa.literal_column("0")  # a parameter would keep SQLite from using the partial index

sa.Index("ix_entry_fingerprint", entry.c.mailbox, entry.c.fingerprint)
sa.Index(
    "ix_entry_strong",
    entry.c.mailbox,
    entry.c.strong,
    sqlite_where=entry.c.strong.is_not(None),
    postgresql_where=entry.c.strong.is_not(None),
)
sa.Index(
    "ix_entry_due",
    entry.c.mailbox,
    entry.c.stage,
    entry.c.id,
    entry.c.due_at,
    sqlite_where=is_open,
    postgresql_where=is_open,
)
sa.Index(
    "ix_entry_open",
    entry.c.mailbox,
    entry.c.folder,
    entry.c.due_at,
    sqlite_where=is_open,
    postgresql_where=is_open,
)
sa.Index(
    "ix_entry_in_hand",
    entry.c.mailbox,
    entry.c.in_hand,
    sqlite_where=in_a_hand,
    postgresql_where=in_a_hand,
)
sa.Index("ix_entry_outcome", entry.c.outcome, entry.c.dismissed, entry.c.id)
sa.Index("ix_entry_mailbox_outcome", entry.c.mailbox, entry.c.outcome, entry.c.dismissed, entry.c.id)

artifact = sa.Table(
    "artifact",
    metadata,
    sa.Column("place", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("entry", _number, sa.ForeignKey("entry.id"), nullable=False, index=True),
    _column("position", sa.Integer, null=True),  # its number among the entry's artifacts; NULL: only reserved
    _column("destination", sa.Text),
    _column("role", sa.Text),
    _column("number", sa.Integer),
    _column("size", sa.BigInteger),
    _column("sha256", sa.Text),
    _column("name", sa.Text, null=True),
    _column("part", sa.Text),
    _column("receipt_size", sa.BigInteger, null=True),
    _column("receipt_at", sa.BigInteger, null=True),
    _column("receipt_etag", sa.Text, null=True),
)
