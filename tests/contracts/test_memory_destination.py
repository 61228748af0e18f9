"""The memory twin of a destination keeps the same laws as the real ones."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from maildaemon_core.ports import Destination
from maildaemon_core.testing.destination_conformance import Breaking, Consumer, DestinationConformance
from maildaemon_core.testing.memory_destination import MemoryDestination


class Taker:
    """A consumer of a memory destination."""

    def __init__(self, destination: MemoryDestination) -> None:
        self._destination = destination

    def files(self) -> Mapping[str, bytes]:
        return dict(self._destination.visible)

    def take(self, path: str) -> bytes:
        return self._destination.take(path)


class TestMemory(DestinationConformance):
    bounded_memory = False  # it is what the files lie in

    @pytest.fixture
    def place(self) -> MemoryDestination:
        return MemoryDestination()

    @pytest.fixture
    def destination(self, place: MemoryDestination) -> Destination:
        return place

    @pytest.fixture
    def breaking(self, place: MemoryDestination) -> Breaking:
        def broken(step: int) -> Destination:
            place.fuse.arm(step)
            return place

        return broken

    @pytest.fixture
    def consumer(self, place: MemoryDestination) -> Consumer:
        return Taker(place)
