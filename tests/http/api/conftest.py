"""A service for each test, and a client with a key for everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.api.house import Client, House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.daemon.start(made.catalog)
    yield made
    made.daemon.close(deadline=5)


@pytest.fixture
def client(house: House) -> Iterator[Client]:
    with house.client(name="the tests") as client:
        yield client
