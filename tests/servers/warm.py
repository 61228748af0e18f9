"""Processes that have loaded their program already: one that was started as anybody starts it, forked for each call.

Most of what a short run costs is loading.  A forked process has a life of its own all the same: its arguments,
environment, folder, streams, threads, signals and exit code, and it ends as the interpreter ends.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

GREETING = b"call"
ROOT = Path(__file__).parents[2]


class Warm:
    """``python -m PROGRAM`` that has loaded itself and ``more`` already.  It ends with the process that made it.

    ``PROGRAM`` has a function ``main`` that takes nothing, and gives the exit code.  ``flags`` are for the interpreter.
    """

    def __init__(self, program: str, more: Sequence[str] = (), *, flags: Sequence[str] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        self._address = str(Path(self._folder.name, "calls"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._address)
            listener.listen()
            # Its stdin ends with this process, however that ends; then nobody calls any more.
            self._process = subprocess.Popen(
                [sys.executable, *flags, "-m", __name__, str(listener.fileno()), program, *more],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        atexit.register(self.close)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._folder.cleanup()

    def begin(self, *arguments: str, cwd: Path, env: Mapping[str, str], out: int, err: int) -> Begun:
        """A process with these files for its streams, and nothing on stdin."""
        line = socket.socket(socket.AF_UNIX)
        line.connect(self._address)
        socket.send_fds(line, [GREETING], [out, err])
        call = {"arguments": arguments, "cwd": str(cwd.absolute()), "env": dict(env)}
        line.sendall(json.dumps(call).encode() + b"\n")
        return Begun(line)

    def call(self, *arguments: str, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run`` has it: to its end, with its output as text."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            code = self.begin(*arguments, cwd=cwd, env=env, out=out.fileno(), err=err.fileno()).wait()
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode("utf-8"))
        return subprocess.CompletedProcess(arguments, code, *texts)


class Begun:
    """A process that runs, in the words of ``subprocess.Popen``; it is killed when nobody knows this any more."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._answers = line.makefile("r")
        self.pid = int(self._answers.readline())
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None and select.select([self._line], [], [], 0)[0]:
            self.wait()
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(["process", str(self.pid)], timeout or 0)
            self._code = int(self._answers.readline())
            self._answers.close()
            self._line.close()
        return self._code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def wait_for_a_call(listener: socket.socket, name: str) -> None:
    """Returns in a new process for each call, which is then as if it had been started for it; else ends with stdin."""
    waiting = set[int]()
    while True:
        if listener not in select.select([sys.stdin, listener], [], [])[0]:
            sys.exit()
        line, _ = listener.accept()
        if not (child := os.fork()):
            break
        line.close()
        waiting = {one for one in {*waiting, child} if not os.waitpid(one, os.WNOHANG)[0]}
    listener.close()
    with line, line.makefile("r") as words:
        _, streams, _, _ = socket.recv_fds(line, len(GREETING), 2)
        call = json.loads(words.readline())
        if child := os.fork():
            for stream in streams:
                os.close(stream)
            _stand_by(line, child)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, stream in enumerate([nothing, *streams]):
        os.dup2(stream, number)
        os.close(stream)
    os.setsid()
    os.chdir(call["cwd"])
    os.environ.clear()
    os.environ.update(call["env"])
    sys.path[0] = call["cwd"]
    sys.argv[:] = [name, *call["arguments"]]


def _stand_by(line: socket.socket, child: int) -> None:
    """Tells the number of the process, and how it ends; ends it when nobody wants to know.  Does not return."""
    try:
        line.sendall(f"{child}\n".encode())
        end = os.pidfd_open(child)
        if end not in select.select([end, line.fileno()], [], [])[0]:
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        line.sendall(f"{code}\n".encode())
    finally:
        os._exit(0)


def main() -> int:
    number, *names = sys.argv[1:]
    program, *_ = [importlib.import_module(name) for name in names]
    gc.collect()
    gc.freeze()  # so that a forked process need not copy all of it only to look through it
    with socket.socket(fileno=int(number)) as listener:
        wait_for_a_call(listener, program.__file__ or names[0])
    code: int = program.main()
    return code


if __name__ == "__main__":
    sys.exit(main())
