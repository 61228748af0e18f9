"""What the tests of the stores share: the right to work on a mailbox of whatever store a test has."""

from __future__ import annotations

import pytest

from maildaemon_adapters.sql import SqlStore
from maildaemon_core.store_port import Lease
from maildaemon_core.testing.lease_conformance import leased, some_mailbox


@pytest.fixture
def lease(store: SqlStore) -> Lease:
    """On a mailbox that nobody else has."""
    return leased(store, some_mailbox())
