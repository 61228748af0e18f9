"""The store on SQL: which configurations there are, what became of each mail, who works on what.

``sqlite:///FILE`` or ``postgresql://USER@HOST/DATABASE``; the statements are the same for both.
"""

from __future__ import annotations

from maildaemon_adapters.sql.database import SqlSettings
from maildaemon_adapters.sql.store import SqlStore
from maildaemon_core.ports import Kind
from maildaemon_core.store_port import Store

KIND: Kind[SqlSettings, Store] = Kind(settings=SqlSettings, open=SqlStore.open)

__all__ = ["KIND", "SqlSettings", "SqlStore"]
