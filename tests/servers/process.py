"""A server as a child process: a free port to listen on, waiting until it answers, and its end by pid."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"


class ServerFailed(Exception):
    """A server did not start, or went away; the text ends with what it wrote last."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment.  Another may be faster: start soon, or again."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def run_as(user: str | None) -> dict[str, Any]:
    """What ``subprocess`` is told so that a child is this user's, in a folder that anybody may be in; None: ours."""
    if user is None:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], "cwd": "/"}


class Process:
    """One child process with its output in a file; it is ended by its pid alone, and by nobody's name.

    It is told to end as well, by ``farewell``, when the thread that started it ends without having done so (killed test
    workers), where the machine has ``setpriv``.  So start servers in threads that outlive them.  ``user`` (only root
    may) is whose process it is.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        farewell: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.log = log
        setpriv = shutil.which("setpriv")
        # Run as the user already: a change of user would make the kernel forget the tether.
        tether = [setpriv, "--pdeathsig", farewell.name.removeprefix("SIG"), "--"] if setpriv else []
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [*tether, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                **run_as(user),
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._child.poll()

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def wait_for(self, port: int, greeting: bytes = b"", *, seconds: float = 20.0) -> None:
        """Returns when the port accepts connections, and greets with ``greeting`` somewhere in its first bytes.

        Raises ServerFailed when the process has ended, or ``seconds`` have passed.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.exit_code is not None:
                raise ServerFailed(f"ended with {self.exit_code}: {self.last_words()}")
            try:
                with socket.create_connection((LOOPBACK, port), timeout=2) as probe:
                    if not greeting or greeting in probe.recv(512):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise ServerFailed(f"port {port} did not answer within {seconds:g} s: {self.last_words()}")

    def stop(self, word: signal.Signals = signal.SIGTERM, *, seconds: float = 10.0) -> int:
        """Asks it to end, insists after ``seconds`` (SIGKILL), and gives its exit code.  Twice is fine."""
        if self._child.poll() is None:
            os.kill(self.pid, word)
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                os.kill(self.pid, signal.SIGKILL)
        return self._child.wait()
