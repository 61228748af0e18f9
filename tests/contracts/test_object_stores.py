"""The destinations ``s3``, ``azure`` and ``gcs`` keep the laws of trees and of destinations, each on an emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from maildaemon_adapters.files.tree import Tree
from maildaemon_core.ports import Destination
from maildaemon_core.testing.destination_conformance import Consumer, DestinationConformance
from tests.contracts.dying import DiesInside
from tests.contracts.object_grounds import (
    Ground,
    Outside,
    Shelf,
    closing,
    opened,
    tree_of,
)
from tests.contracts.tree_laws import TreeLaws

pytestmark = pytest.mark.server


class Laws(TreeLaws):
    real_folders = False

    @pytest.fixture
    def bucket(self, ground: Ground) -> str:
        return ground.fresh()

    @pytest.fixture
    def tree(self, ground: Ground, bucket: str) -> Iterator[Tree]:
        with closing(tree_of(ground.options(bucket))) as tree:
            yield tree

    @pytest.fixture
    def outside(self, ground: Ground, bucket: str) -> Outside:
        return ground.outside(bucket)


class TestS3Tree(Laws):
    @pytest.fixture
    def ground(self, grounds: Callable[[str], Ground]) -> Ground:
        return grounds("s3")


class TestAzureTree(Laws):
    @pytest.fixture
    def ground(self, grounds: Callable[[str], Ground]) -> Ground:
        return grounds("azure")


class TestGcsTree(Laws):
    @pytest.fixture
    def ground(self, grounds: Callable[[str], Ground]) -> Ground:
        return grounds("gcs")


class Conformance(DiesInside, DestinationConformance):
    exactly_once = False

    @pytest.fixture
    def bucket(self, ground: Ground) -> str:
        return ground.fresh()

    @pytest.fixture
    def destination(self, ground: Ground, bucket: str) -> Iterator[Destination]:
        with closing(opened(ground, ground.options(bucket))) as destination:
            yield destination

    @pytest.fixture
    def colleague(self, ground: Ground, bucket: str) -> Iterator[Any]:
        with closing(opened(ground, ground.options(bucket))) as destination:
            yield destination

    @pytest.fixture
    def consumer(self, ground: Ground, bucket: str) -> Consumer:
        return Shelf(ground.outside(bucket))


class TestS3Destination(Conformance):
    @pytest.fixture
    def ground(self, grounds: Callable[[str], Ground]) -> Ground:
        return grounds("s3")


class TestAzureDestination(Conformance):
    @pytest.fixture
    def ground(self, grounds: Callable[[str], Ground]) -> Ground:
        return grounds("azure")


class TestGcsDestination(Conformance):
    @pytest.fixture
    def ground(self, grounds: Callable[[str], Ground]) -> Ground:
        return grounds("gcs")
