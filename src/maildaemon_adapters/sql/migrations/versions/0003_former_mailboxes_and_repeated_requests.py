"""A configuration that is dropped leaves a trace; requests that must not be carried out twice.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("configuration", sa.Column("dropped", sa.BigInteger))
    op.create_index("ix_configuration_dropped", "configuration", ["dropped"])
    op.create_table(
        "repeat",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("mailbox", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("answer", sa.JSON(none_as_null=True)),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_repeat")),
    )
    op.create_index("ix_repeat_at", "repeat", ["at", "key"])
