"""The tables that stores had before there were migrations.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_json = sa.JSON(none_as_null=True)


def upgrade() -> None:
    op.create_table(
        "configuration",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("document", _json, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_configuration")),
        sa.UniqueConstraint("name", name=op.f("uq_configuration_name")),
    )
    op.create_table(
        "lease",
        sa.Column("mailbox", sa.Text, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("next_due", sa.BigInteger),
        sa.Column("report", _json),
        sa.Column("last_success", sa.BigInteger),
        sa.Column("failing_since", sa.BigInteger),
        sa.PrimaryKeyConstraint("mailbox", name=op.f("pk_lease")),
    )
    op.create_table(
        "folder",
        sa.Column("mailbox", sa.Text, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("cursor", sa.Text, nullable=False),
        sa.Column("older", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("mailbox", "folder", name=op.f("pk_folder")),
    )
    _create_entry()
    op.create_table(
        "artifact",
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("entry", _number, nullable=False),
        sa.Column("position", sa.Integer),
        sa.Column("destination", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("part", sa.Text, nullable=False),
        sa.Column("receipt_size", sa.BigInteger),
        sa.Column("receipt_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("place", "path", name=op.f("pk_artifact")),
        sa.ForeignKeyConstraint(["entry"], ["entry.id"], name=op.f("fk_artifact_entry")),
    )
    op.create_index(op.f("ix_artifact_entry"), "artifact", ["entry"])
    version = op.create_table(
        "maildaemon_schema",
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_maildaemon_schema")),
    )
    op.bulk_insert(version, [{"version": 1}])


def _create_entry() -> None:
    op.create_table(
        "entry",
        sa.Column("id", _number, nullable=False, autoincrement=True),
        sa.Column("mailbox", sa.Text, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("uidvalidity", sa.Text, nullable=False),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("strong", sa.Text),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("first_seen", sa.BigInteger, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("sender_folded", sa.Text, nullable=False),
        sa.Column("subject_folded", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("suspect", sa.Boolean, nullable=False),
        sa.Column("in_hand", sa.BigInteger, nullable=False),
        sa.Column("last_tried", sa.BigInteger),
        sa.Column("batch", sa.Text),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Column("care", sa.SmallInteger, nullable=False),
        sa.Column("care_folder", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("trouble", _json),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("defects", _json),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entry")),
        sa.UniqueConstraint(
            "mailbox", "folder", "uidvalidity", "uid", name=op.f("uq_entry_mailbox_folder_uidvalidity_uid")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_entry_fingerprint", "entry", ["mailbox", "fingerprint"])
    _create_partial("ix_entry_strong", ["mailbox", "strong"], "strong IS NOT NULL")
    _create_partial("ix_entry_due", ["mailbox", "stage", "id", "due_at"], "due_at IS NOT NULL")
    _create_partial("ix_entry_open", ["mailbox", "folder", "due_at"], "due_at IS NOT NULL")
    _create_partial("ix_entry_in_hand", ["mailbox", "in_hand"], "in_hand > 0")
    op.create_index("ix_entry_outcome", "entry", ["outcome", "id"])
    op.create_index("ix_entry_mailbox_outcome", "entry", ["mailbox", "outcome", "id"])


def _create_partial(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "entry", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
