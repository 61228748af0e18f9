"""What contracts share: the right to work on a mailbox of whatever store a test has, and how much is tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

import pytest

from maildaemon_adapters.sql import SqlStore
from maildaemon_core.store_port import Lease
from maildaemon_core.testing.lease_conformance import leased, some_mailbox
from tests.contracts.sizes import HEAVY, MUCH_ALIKE, TELLING

if TYPE_CHECKING:
    from tests.contracts.object_grounds import Ground


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of classes that differ little from another only what tells most is run on every change."""
    if HEAVY:
        return
    dropped = [
        item
        for item in items
        if isinstance(item, pytest.Function)
        and getattr(item.cls, MUCH_ALIKE, False)
        and item.originalname not in TELLING
    ]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in set(dropped)]


@pytest.fixture
def lease(store: SqlStore) -> Lease:
    """On a mailbox that nobody else has."""
    return leased(store, some_mailbox())


@pytest.fixture(scope="session")
def grounds() -> Iterator[Callable[[str], Ground]]:
    """A server of objects of each kind that is asked for; one for each worker process, as they take long to start."""
    from tests.contracts.object_grounds import AzureGround, GcsGround, S3Ground

    made: dict[str, Callable[[], AbstractContextManager[Ground]]] = {
        "s3": S3Ground,
        "azure": AzureGround,
        "gcs": GcsGround,
    }
    running: dict[str, Ground] = {}
    with ExitStack() as stack:

        def ground(kind: str) -> Ground:
            if kind not in running:
                running[kind] = stack.enter_context(made[kind]())
            return running[kind]

        yield ground
