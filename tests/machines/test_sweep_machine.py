"""The whole way of a mail under crashes, faults, renumbering and impatient consumers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from maildaemon_adapters.sql import SqlStore
from maildaemon_core.store_port import Store
from maildaemon_core.testing.sweep_machine import SweepMachine

pytestmark = pytest.mark.heavy
"""Small and always the same on every change; ``nox -s heavy`` runs it at random, and large."""


class SweepMachineOnSqlite(SweepMachine):
    """The same, with the real ledger in a file."""

    def open_store(self) -> Store:
        self.folder = tempfile.TemporaryDirectory(prefix="machine-")
        return SqlStore(f"sqlite:///{Path(self.folder.name) / 'machine.db'}", clock=lambda: self.now)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.store.close()
            self.folder.cleanup()


TestTheWayOfAMail = SweepMachine.TestCase
TestTheWayOfAMailOnSqlite = SweepMachineOnSqlite.TestCase
TestTheWayOfAMailOnSqlite.settings = settings(
    max_examples=max(settings().max_examples // 10, 15), stateful_step_count=25, deadline=None
)
