"""Mails can be dismissed and thinned out; API keys; secrets beside a configuration, and who changed it.

Nothing copies the rows of ``entry`` or ``artifact``: what takes its time is to build two indexes over all entries.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_json = sa.JSON(none_as_null=True)


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("scopes", _json, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger),
        sa.Column("last_used", sa.BigInteger),
        sa.Column("revoked", sa.BigInteger),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_api_key")),
    )
    good = sa.text("revoked IS NULL")
    op.create_index("ix_api_key_name", "api_key", ["name"], unique=True, sqlite_where=good, postgresql_where=good)
    _change_configuration()
    _change_entry()
    op.drop_table("maildaemon_schema")  # alembic's own table has the version now


def _change_configuration() -> None:
    new: dict[str, tuple[sa.types.TypeEngine[Any], str]] = {
        "secrets": (_json, "{}"),
        "created_by": (sa.Text(), ""),
        "changed_by": (sa.Text(), ""),
    }
    for name, (kind, default) in new.items():
        op.add_column("configuration", sa.Column(name, kind, nullable=False, server_default=default))
    with op.batch_alter_table("configuration") as batch:  # there are few: SQLite may copy them
        batch.drop_constraint(op.f("uq_configuration_name"), type_="unique")
        for name, (kind, _) in new.items():
            batch.alter_column(name, existing_type=kind, existing_nullable=False, server_default=None)


def _change_entry() -> None:
    op.add_column("entry", sa.Column("dismissed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.drop_index("ix_entry_outcome", "entry")
    op.create_index("ix_entry_outcome", "entry", ["outcome", "dismissed", "id"])
    op.drop_index("ix_entry_mailbox_outcome", "entry")
    op.create_index("ix_entry_mailbox_outcome", "entry", ["mailbox", "outcome", "dismissed", "id"])
