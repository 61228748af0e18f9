"""A machine without a server: the tests are counted aloud, and in CI they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.availability import NOT_RUN, loud_lines

ROOT = Path(__file__).parents[2]
DOVECOT = {"MAILDAEMON_DOVECOT": "/nowhere/dovecot"}
ONE_TEST = "tests/servers/test_dovecot.py::test_renumbering_changes_the_uidvalidity"
POSTGRES = {"MAILDAEMON_POSTGRES": "/nowhere"}
ANOTHER_TEST = "tests/servers/test_postgres.py::test_a_wrong_password_is_refused"


def run_without(
    instead: dict[str, str], *, ci: str, workers: str = "0", test: str = ONE_TEST
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", workers, test],
        cwd=ROOT,
        env={**os.environ, **instead, "CI": ci, "PYTEST_ADDOPTS": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_missing_server_is_said_aloud_with_a_count_and_the_line_that_helps(workers: str) -> None:
    run = run_without(DOVECOT, ci="", workers=workers)
    assert run.returncode == 0, run.stdout
    assert "NOT RUN ON THIS MACHINE: 1 test: dovecot is not installed; to run them: as root: apt-get" in run.stdout


def test_in_ci_a_missing_server_is_a_failure() -> None:
    run = run_without(DOVECOT, ci="true")
    assert run.returncode == 1, run.stdout
    assert "dovecot is not installed" in run.stdout


@pytest.mark.parametrize(("ci", "code", "said"), [("", 0, "NOT RUN ON THIS MACHINE: 1 test: "), ("true", 1, "")])
def test_a_missing_postgresql_is_said_aloud_and_a_failure_in_ci(ci: str, code: int, said: str) -> None:
    run = run_without(POSTGRES, ci=ci, test=ANOTHER_TEST)
    assert run.returncode == code, run.stdout
    assert f"{said}PostgreSQL is not installed; " in run.stdout
    assert "apt-get install -y --no-install-recommends postgresql" in run.stdout


def test_a_dovecot_of_another_line_is_not_taken_for_ours(tmp_path: Path) -> None:
    other = tmp_path / "dovecot"
    other.write_text("#!/bin/sh\necho '2.4.1-4 (7d8c0e5759)'\n")
    other.chmod(0o755)
    run = run_without({"MAILDAEMON_DOVECOT": str(other)}, ci="")
    assert run.returncode == 0, run.stdout
    assert f"NOT RUN ON THIS MACHINE: 1 test: {other} is Dovecot 2.4.1-4" in run.stdout


def test_tests_are_counted_by_their_reason_and_other_skips_are_left_alone() -> None:
    reasons = [
        f"Skipped: {NOT_RUN}no b",
        f"Skipped: {NOT_RUN}no a",
        f"Skipped: {NOT_RUN}no b",
        "Skipped: another reason",
    ]
    assert loud_lines(reasons) == [
        "NOT RUN ON THIS MACHINE: 1 test: no a",
        "NOT RUN ON THIS MACHINE: 2 tests: no b",
    ]
