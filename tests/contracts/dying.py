"""A destination on a server whose user dies at its steps, on the connection of another worker; and how much is tried.

On every change fewer steps, parts and bytes than under ``nox -s heavy``; on the memory tree it is all of them always.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import ClassVar

import pytest

from maildaemon_adapters.files.publishing import PublishingDestination
from maildaemon_core.ports import Destination
from maildaemon_core.testing.destination_conformance import Breaking, DestinationConformance
from tests.contracts.broken_tree import BrokenTree
from tests.contracts.sizes import HEAVY

EACH = 12
"""One step of so many on every change, others each time."""


class DiesInside:
    """Comes before ``DestinationConformance`` among the bases of a test of a kind that is made of a tree."""

    pytestmark = pytest.mark.heavy

    many: ClassVar[int] = DestinationConformance.many if HEAVY else 40
    huge: ClassVar[int] = DestinationConformance.huge if HEAVY else 28 * 2**20

    @pytest.fixture
    def breaking(self, colleague: Destination) -> Breaking:
        assert isinstance(colleague, PublishingDestination)
        tree = colleague.tree
        return lambda step: PublishingDestination(BrokenTree(tree, step))

    @pytest.fixture
    def steps(self) -> Iterable[int]:
        if HEAVY:
            return itertools.count()
        first = random.SystemRandom().randrange(EACH)
        print(f"dies at the steps {first}, {first + EACH}, ...")
        return itertools.count(first, EACH)
