"""A child process of the tests ends, whatever it thinks of it."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from tests.servers.process import Process


def test_a_process_that_does_not_end_when_asked_is_ended(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    process = Process([sys.executable, "-c", deaf], log=tmp_path / "log")
    while "deaf" not in process.last_words():
        assert process.exit_code is None
        time.sleep(0.01)
    assert process.stop(signal.SIGINT, seconds=0.2) == -signal.SIGKILL
    assert process.stop(signal.SIGINT) == -signal.SIGKILL
