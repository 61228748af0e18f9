"""The tree in memory keeps the laws of trees, whichever way it shows files."""

from __future__ import annotations

import pytest

from maildaemon_adapters.files.tree import Showing, Tree
from tests.contracts.memory_tree import MemoryDisk, MemoryTree
from tests.contracts.tree_laws import Outside, TreeLaws


class TestMemoryTree(TreeLaws):
    many = 120

    @pytest.fixture
    def disk(self) -> MemoryDisk:
        return MemoryDisk()

    @pytest.fixture
    def tree(self, disk: MemoryDisk) -> Tree:
        return MemoryTree(disk, at_once=4)

    @pytest.fixture
    def outside(self, disk: MemoryDisk) -> Outside:
        return disk


class TestMemoryObjects(TestMemoryTree):
    """As an object store has it: copied to be seen, and folders only as parts of names."""

    real_folders = False

    @pytest.fixture
    def tree(self, disk: MemoryDisk) -> Tree:
        return MemoryTree(disk, Showing.COPY, real_folders=False)
