"""What the tests of the loop stand on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from maildaemon_core.engine import watching
from tests.engine.town import Town


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """Its loops notice at once that a test has put the clock forward; they have all ended afterwards."""
    monkeypatch.setattr(watching, "TICK", 0.01)
    town = Town()
    yield town
    town.close()
