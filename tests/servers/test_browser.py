"""The browser of the tests sees what a page asks for and complains about; without one, that is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.browser import window

ROOT = Path(__file__).parents[2]


@pytest.mark.server
def test_every_request_and_every_complaint_of_a_page_is_seen() -> None:
    with window() as opened:
        opened.page.goto(
            "data:text/html,<img src='http://127.0.0.1:1/picture'><script>console.warn('so'); nothing()</script>"
        )
        opened.page.wait_for_load_state()
        assert "http://127.0.0.1:1/picture" in opened.asked
        assert any(said.startswith("so (") for said in opened.complaints)
        assert any("nothing is not defined" in said for said in opened.complaints)
        assert any("ERR_CONNECTION_REFUSED" in said or "ERR_UNSAFE_PORT" in said for said in opened.complaints)


@pytest.mark.parametrize(("ci", "code", "said"), [("", 0, "NOT RUN ON THIS MACHINE: 1 test: "), ("true", 1, "")])
def test_a_missing_chromium_is_said_aloud_and_a_failure_in_ci(ci: str, code: int, said: str) -> None:
    test = f"{Path(__file__).relative_to(ROOT)}::test_every_request_and_every_complaint_of_a_page_is_seen"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", test],
        cwd=ROOT,
        env={
            **os.environ,
            "MAILDAEMON_CHROMIUM": "/nowhere/chromium",
            "CI": ci,
            "PYTEST_ADDOPTS": "",
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code, run.stdout
    assert f"{said}Chromium is not installed; " in run.stdout
    assert "apt-get install -y --no-install-recommends chromium" in run.stdout
