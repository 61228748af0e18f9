"""A mailbox on a real server, the configuration that archives it, and what must have come of it in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.proofs.runner import READY
from tests.proofs.samples import WANTED, Print, Sample, print_of
from tests.servers.dovecot import Dovecot

PATIENCE = 900.0
"""Seconds that a run to the end may take, in the worst case."""

STAGING = ".maildaemon"
ROOT = Path(__file__).resolve().parents[2]

RUNNER = (sys.executable, "-m", "tests.proofs.runner")
COMMAND_LINE = (sys.executable, "-m", "maildaemon_http.cli", "run", "--once", "--json")

CONFIGURATION = """\
[[mailboxes]]
name = "proof"
host = "localhost"
port = {port}
username = "{user}"
password = "{password}"
deleteMailsOnServer = {delete}
allowedEmailExtensions = ["{wanted}"]
exportAttachments = true
mailArchiving = {{ active = true }}
destinations = [{{ type = "file", url = "{target}" }}]
options = {{ caFile = "{ca}", connectSeconds = 10, stallSeconds = {stall} }}
"""


@attrs.frozen(kw_only=True)
class Run:
    """How a process ended, and what it said."""

    exit_code: int
    output: str
    errors: str
    seconds: float

    @property
    def answer(self) -> dict[str, Any]:
        """The runner's document."""
        lines = self.output.splitlines()
        assert len(lines) == 2, f"exit {self.exit_code}: {self.output}\n{self.errors}"
        answer: dict[str, Any] = json.loads(lines[1])
        return answer


class Box:
    """``home`` is a folder for the configuration, the store and the target.  ``port`` is that of something in between.

    ``stall``: seconds of silence after which the connection is given up.
    """

    def __init__(
        self, server: Dovecot, user: str, home: Path, *, delete: bool, port: int | None = None, stall: int = 60
    ) -> None:
        self.server = server
        self.user = user
        self.target = home / "target"
        self.configuration = home / "maildaemon.toml"
        self.configuration.write_text(
            CONFIGURATION.format(
                port=server.imaps if port is None else port,
                user=user,
                password=server.password,
                delete=str(delete).lower(),
                wanted=WANTED,
                target=self.target,
                ca=server.ca,
                stall=stall,
            )
        )
        self.known: set[Print] = set()
        """Every file that may ever appear."""
        self._mails: dict[str, tuple[Print, ...]] = {}
        self._maildir = server.root / "mail" / user / "Maildir"

    def deliver(self, mails: Iterable[Sample]) -> None:
        for mail in mails:
            self.known.update(mail.files)  # before it lies there: whoever watches may see its files at once
            self._mails[self.server.deliver(self.user, mail.raw).name] = mail.files

    # ---- what is to be, and what is ----

    @property
    def expected(self) -> Counter[Print]:
        """The files that must be there in the end, each so many times."""
        return Counter(file for files in self._mails.values() for file in files)

    @property
    def wanted(self) -> int:
        """How many mails are to be stored."""
        return sum(bool(files) for files in self._mails.values())

    @property
    def refused(self) -> int:
        """How many mails nobody wants."""
        return len(self._mails) - self.wanted

    def left_on_server(self) -> list[tuple[Print, ...]]:
        """The mails that the server still holds, each as the files that come of it."""
        return [files for name, files in self._mails.items() if name in self._names()]

    def must_be_stored(self) -> Counter[Print]:
        """The files of every mail that the server holds no more."""
        there = self._names()
        return Counter(file for name, files in self._mails.items() if name not in there for file in files)

    def _names(self) -> set[str]:
        # Dovecot renames while we list: what is in neither folder at once is looked for again.
        names: set[str] = set()
        for _ in range(2):
            for part in ("new", "cur", "new"):
                names.update(file.name.partition(":")[0] for file in (self._maildir / part).iterdir())
        return names

    def visible(self) -> list[Path]:
        """The files that consumers see."""
        return list(visible(self.target))

    def stored(self) -> Counter[Print]:
        """The files as they lie there, read anew."""
        return Counter(print_of(path.read_bytes()) for path in self.visible())

    def staged(self) -> list[Path]:
        """What is left of work in progress: nothing, once a run has come to its end."""
        return sorted((self.target / STAGING).rglob("*"))

    # ---- processes ----

    def run(self, *more: str, command: Sequence[str] = RUNNER) -> Run:
        """A run to its end."""
        began = time.monotonic()
        done = subprocess.run(
            [*command, str(self.configuration), *more],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=PATIENCE,
            check=False,
        )
        return Run(exit_code=done.returncode, output=done.stdout, errors=done.stderr, seconds=time.monotonic() - began)

    def run_and_kill(self, moment: float, *, command: Sequence[str] = RUNNER) -> bool:
        """Kills a run after so many seconds (of the runner: after it was ready); False if it had ended before that."""
        child = subprocess.Popen(
            [*command, str(self.configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        assert child.stdout is not None
        with child.stdout:
            if command is RUNNER:
                assert child.stdout.readline().decode().strip() == READY
            time.sleep(moment)
            alive = child.poll() is None
            child.kill()  # does nothing if it has ended
            child.wait()
        return alive


def visible(folder: Path) -> Iterator[Path]:
    """The files below a folder that is not there yet, or whose folders come and go; ``.maildaemon`` aside."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name == STAGING:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from visible(Path(entry.path))
        else:
            yield Path(entry.path)
