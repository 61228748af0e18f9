"""The store on SQL: which configurations there are, what became of each mail, who works on what.

``sqlite:///FILE`` at present; the statements are the same for PostgreSQL.
"""

from __future__ import annotations

import attrs

from maildaemon_adapters.sql.store import SqlStore
from maildaemon_core.ports import Kind, Store


@attrs.frozen(kw_only=True)
class SqlSettings:
    """A store of this kind has no settings beyond its URL."""


KIND: Kind[SqlSettings, Store] = Kind(settings=SqlSettings, open=SqlStore.open)

__all__ = ["KIND", "SqlSettings", "SqlStore"]
