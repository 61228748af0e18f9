"""How tests call the command: as a process of its own, the way people do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

TRACE = "Traceback"


@attrs.frozen
class Called:
    """What a call of the command gave."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document that is all of stdout."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


def call(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None, code: int | None = 0) -> Called:
    """Calls ``maildaemon`` in a folder; the exit code must be ``code`` (None: any).  A trace is never right."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "maildaemon_http.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert TRACE not in done.stdout + done.stderr, done.stderr
    assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return Called(done.returncode, done.stdout, done.stderr)
