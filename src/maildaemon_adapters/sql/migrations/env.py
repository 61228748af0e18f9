"""How alembic runs the steps: on the connection that it is handed, in the transaction that goes on there already."""

from __future__ import annotations

from alembic import context

from maildaemon_adapters.sql import tables
from maildaemon_adapters.sql.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,  # for its naming convention; a step names everything itself
    version_table=VERSION_TABLE,
    render_as_batch=True,
    transactional_ddl=True,  # SQLite's too, since we say BEGIN ourselves
    transaction_per_migration=False,
)
context.run_migrations()
