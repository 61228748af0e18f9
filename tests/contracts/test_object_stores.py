"""The destinations ``s3``, ``azure`` and ``gcs`` keep the laws of trees and of destinations, each on an emulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from maildaemon_adapters.files.tree import Tree
from maildaemon_core.ports import Destination
from maildaemon_core.testing.destination_conformance import Consumer, DestinationConformance
from tests.contracts.dying import DiesInside
from tests.contracts.object_grounds import (
    AzureGround,
    GcsGround,
    Ground,
    Outside,
    S3Ground,
    Shelf,
    closing,
    opened,
    tree_of,
)
from tests.contracts.tree_laws import TreeLaws

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def s3_ground() -> Iterator[S3Ground]:
    with S3Ground() as ground:
        yield ground


@pytest.fixture(scope="module")
def azure_ground() -> Iterator[AzureGround]:
    with AzureGround() as ground:
        yield ground


@pytest.fixture(scope="module")
def gcs_ground() -> Iterator[GcsGround]:
    with GcsGround() as ground:
        yield ground


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
    def ground(self, s3_ground: S3Ground) -> Ground:
        return s3_ground


class TestAzureTree(Laws):
    @pytest.fixture
    def ground(self, azure_ground: AzureGround) -> Ground:
        return azure_ground


class TestGcsTree(Laws):
    @pytest.fixture
    def ground(self, gcs_ground: GcsGround) -> Ground:
        return gcs_ground


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
    def ground(self, s3_ground: S3Ground) -> Ground:
        return s3_ground


class TestAzureDestination(Conformance):
    @pytest.fixture
    def ground(self, azure_ground: AzureGround) -> Ground:
        return azure_ground


class TestGcsDestination(Conformance):
    @pytest.fixture
    def ground(self, gcs_ground: GcsGround) -> Ground:
        return gcs_ground
