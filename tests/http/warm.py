"""Processes that have loaded the command already: one that was started as anybody starts it, forked once for each call.

Most of what a call costs is loading.  A forked process has a life of its own all the same: its arguments, environment,
folder, streams, threads and exit code, and it ends as the interpreter ends.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from maildaemon_http import cli

GREETING = b"call"

LOADED = (
    "cattrs",
    "cyclopts",
    "imapclient",
    "rich.progress",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "sqlite3",
    "maildaemon_adapters.files",
    "maildaemon_adapters.imap",
    "maildaemon_adapters.sql",
    "maildaemon_http.commands",
    "maildaemon_http.compose",
    "maildaemon_http.looking",
    "maildaemon_http.running",
)
"""What nearly every call loads."""


class Warm:
    """The process that is forked; it ends with the one that made it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        self._address = str(Path(self._folder.name, "calls"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._address)
            listener.listen()
            # Its stdin ends with this process, however that ends; then nobody calls any more.
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", __name__, str(listener.fileno())],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
            )
        atexit.register(self.close)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._folder.cleanup()

    def call(self, *arguments: str, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run`` would have it, with nothing on stdin."""
        with (
            socket.socket(socket.AF_UNIX) as line,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            line.connect(self._address)
            call = json.dumps({"arguments": arguments, "cwd": str(cwd.absolute()), "env": dict(env)})
            socket.send_fds(line, [GREETING], [out.fileno(), err.fileno()])
            line.sendall(call.encode())
            line.shutdown(socket.SHUT_WR)
            code = _everything(line)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode("utf-8").replace("\r\n", "\n"))
        return subprocess.CompletedProcess(arguments, int(code), *texts)


def _everything(line: socket.socket) -> str:
    return b"".join(iter(lambda: line.recv(1 << 16), b"")).decode()


def wait_for_a_call(listener: socket.socket) -> None:
    """Returns in a new process for each call, which is then as if it had been started for it; else ends with stdin."""
    waiting = set[int]()
    while listener in select.select([sys.stdin, listener], [], [])[0]:
        line, _ = listener.accept()
        if not (child := os.fork()):
            break
        line.close()
        waiting = {one for one in {*waiting, child} if not os.waitpid(one, os.WNOHANG)[0]}
    else:
        sys.exit()
    listener.close()
    with line:
        _, streams, _, _ = socket.recv_fds(line, len(GREETING), 2)
        call = json.loads(_everything(line))
        if child := os.fork():
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            line.sendall(str(code).encode())
            os._exit(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, stream in enumerate([nothing, *streams]):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(call["cwd"])
    os.environ.clear()
    os.environ.update(call["env"])
    sys.path[0] = call["cwd"]
    sys.argv[:] = [cli.__file__, *call["arguments"]]


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that a forked process need not copy all of it only to look through it
    with socket.socket(fileno=int(sys.argv[1])) as calls:
        wait_for_a_call(calls)
    sys.exit(cli.main())
