"""How large the proofs are, by which seed they can be repeated, and on which stores they are made."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.proofs.samples import FULL, SMALL, Size
from tests.servers.postgres import Postgres


@pytest.fixture(scope="session")
def size(heavy: bool) -> Size:
    return FULL if heavy else SMALL


@pytest.fixture
def seed() -> int:
    """Printed, so that a failure says it; ``MAILDAEMON_SEED`` repeats it."""
    chosen = int(os.environ.get("MAILDAEMON_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"MAILDAEMON_SEED={chosen}")
    return chosen


@pytest.fixture(scope="session")
def durable() -> Iterator[Postgres]:
    """A server that may be crashed: what it has committed is on the disk.  Who stops it starts it again."""
    with Postgres(durable=True) as server:
        yield server


@pytest.fixture
def durable_url(durable: Postgres) -> Iterator[str]:
    """An empty database of it."""
    url = durable.fresh_database()
    yield url
    durable.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> str | None:
    """The URL of a store on a server; None stands for the file beside the configuration."""
    url: str | None = None if request.param == "sqlite" else request.getfixturevalue("durable_url")
    return url
