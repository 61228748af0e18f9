"""How a store of an older release gets the tables of this one: every step that is missing, in one transaction.

The steps are alembic's, in ``versions``; how to add one is in docs/how-to/change-the-tables.md.  Whatever goes wrong in
between, a kill of the process included, leaves the store as it was.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from maildaemon_adapters.sql import schema
from maildaemon_core.errors import StoreUnavailable

if TYPE_CHECKING:
    from maildaemon_adapters.sql.database import Database

SCRIPTS = "maildaemon_adapters.sql:migrations"
"""Where alembic finds ``env.py`` and ``versions``: package and folder in it, wherever that is installed."""

_alembic_in_use = threading.Lock()  # ``alembic.op`` and ``alembic.context`` are the process's


def upgrade(database: Database) -> str | None:
    """Brings the store to this release's version; says which one it had, this release's if somebody was faster.

    Raises ``StoreTooNew``, or ``StoreUnavailable``, with the store as it was: it cannot be used, others keep it busy,
    or its version is one that no release had.
    """
    with _alembic_in_use, database.make() as connection:
        before = schema.version_of(connection, database.name)
        if before is not None and before > schema.HEAD:
            raise schema.too_new(database.name, before)
        if before == "0001":
            _stamp(connection)
        try:
            run(connection)
        except CommandError as error:
            raise StoreUnavailable(
                f"{database.name} cannot be upgraded from version {before}: {error}",
                remedy="restore it from a backup; if it goes on, report it with this message",
            ) from error
    return before


def run(connection: sa.Connection, to: str = "head") -> None:
    """The steps up to ``to``, within the transaction of this connection, from whichever version it has; if it has none,
    from the beginning."""
    config = _configured()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def script_directory() -> ScriptDirectory:
    """All steps, for those who want to know them."""
    return ScriptDirectory.from_config(_configured())


def _configured() -> Config:
    """Alembic's settings: there is no file of them, and nothing is written anywhere."""
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    return config


def _stamp(connection: sa.Connection) -> None:
    """Tells alembic of a store that is older than its version table."""
    if not schema.has_version_table(connection):
        schema.write_version(connection, "0001")
