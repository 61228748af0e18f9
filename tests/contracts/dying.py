"""A destination on a server whose user dies at each of its steps, on the connection of another worker."""

from __future__ import annotations

import pytest

from maildaemon_adapters.files.publishing import PublishingDestination
from maildaemon_core.ports import Destination
from maildaemon_core.testing.destination_conformance import Breaking
from tests.contracts.broken_tree import BrokenTree


class DiesInside:
    """Comes before ``DestinationConformance`` among the bases of a test of a kind that is made of a tree."""

    @pytest.fixture
    def breaking(self, colleague: Destination) -> Breaking:
        assert isinstance(colleague, PublishingDestination)
        tree = colleague.tree
        return lambda step: PublishingDestination(BrokenTree(tree, step))
