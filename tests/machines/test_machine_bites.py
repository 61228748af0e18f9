"""The state machine catches every fault that is planted: a machine that finds nothing might just be blind."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from maildaemon_core.testing.sweep_machine import SweepMachine
from tests.machines.planted_faults import FAULTS, planted

SEARCH = settings(
    max_examples=3000,
    stateful_step_count=30,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],  # to find it is enough, nobody reads the smallest example
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    print_blob=False,
)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_machine_catches(fault: str) -> None:
    with planted(fault), pytest.raises(AssertionError):
        run_state_machine_as_test(SweepMachine, settings=SEARCH)
