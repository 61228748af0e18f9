"""How tests call the command: as a process of its own, the way people do, or warm, which is what takes less time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from tests.servers.warm import Warm

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
    whole = {**os.environ, "COLUMNS": "200", **(env or {})}
    done = (started if is_cold(env or {}) else warm().call)(*arguments, cwd=cwd, env=whole)
    assert TRACE not in done.stdout + done.stderr, done.stderr
    assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return Called(done.returncode, done.stdout, done.stderr)


def is_cold(env: Mapping[str, str]) -> bool:
    """Whether it must be started, and not forked: when there is time, or if an interpreter would heed what is said."""
    return os.environ.get("MAILDAEMON_HEAVY") == "1" or any(name.startswith("PYTHON") for name in env)


def started(*arguments: str, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The command as people start it."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "maildaemon_http.cli", *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


LOADED = (
    "cattrs",
    "imapclient",
    "rich.progress",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "maildaemon_adapters.files",
    "maildaemon_adapters.imap",
    "maildaemon_adapters.sql",
    "maildaemon_http.commands",
    "maildaemon_http.compose",
    "maildaemon_http.log",
    "maildaemon_http.looking",
    "maildaemon_http.running",
    "maildaemon_http.serving",
)
"""What most calls load, of a command or of the service."""


@cache
def warm() -> Warm:
    """The command, since the first call of this process."""
    return Warm("maildaemon_http.cli", LOADED, flags=("-W", "error"))
