"""How large the proofs are, and by which seed they can be repeated."""

from __future__ import annotations

import os
import random

import pytest

from tests.proofs.samples import FULL, SMALL, Size


@pytest.fixture(scope="session")
def size(heavy: bool) -> Size:
    return FULL if heavy else SMALL


@pytest.fixture
def seed() -> int:
    """Printed, so that a failure says it; ``MAILDAEMON_SEED`` repeats it."""
    chosen = int(os.environ.get("MAILDAEMON_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"MAILDAEMON_SEED={chosen}")
    return chosen
