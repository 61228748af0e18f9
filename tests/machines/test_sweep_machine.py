"""The whole way of a mail under crashes, faults, renumbering and impatient consumers."""

from __future__ import annotations

from maildaemon_core.testing.sweep_machine import SweepMachine

TestTheWayOfAMail = SweepMachine.TestCase
