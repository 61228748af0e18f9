"""A mailbox on a real server, the configuration that archives it, and what must have come of it in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from maildaemon_core.engine.daemon import open_store
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.progress import Entry, Outcome
from tests.proofs.runner import READY, store_of
from tests.proofs.samples import WANTED, Print, Sample, print_of
from tests.servers.dovecot import Dovecot
from tests.servers.warm import Begun, Warm

PATIENCE = 900.0
"""Seconds that a run to the end may take, in the worst case."""

STAGING = ".maildaemon"
ROOT = Path(__file__).resolve().parents[2]

RUNNER = (sys.executable, "-m", "tests.proofs.runner")
LOADED = (
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "maildaemon_adapters.files",
    "maildaemon_adapters.imap",
    "maildaemon_adapters.openers.smime",
    "maildaemon_adapters.openers.tnef",
    "maildaemon_adapters.sql",
)
"""What each of its runs loads."""

COMMAND_LINE = (sys.executable, "-m", "maildaemon_http.cli", "run", "--once", "--json")

STORE = """\
[store]
url = "{url}"
options = {{ {options} }}

"""

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
destinations = [{destination}]
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
    def document(self) -> dict[str, Any]:
        """The command line's document."""
        document: dict[str, Any] = json.loads(self.output)
        return document

    @property
    def answer(self) -> dict[str, Any]:
        """The runner's document."""
        lines = self.output.splitlines()
        assert len(lines) == 2, f"exit {self.exit_code}: {self.output}\n{self.errors}"
        answer: dict[str, Any] = json.loads(lines[1])
        return answer


class Box:
    """``home`` is a folder for the configuration, the store and the target.  ``port`` is that of something in between.

    ``stall``: seconds of silence after which the connection is given up.  ``store``: the URL of one elsewhere, and
    ``answer`` the seconds of silence after which a database server is given up.  ``destination``: how the configuration
    has another one than the folder ``target``, which then is where its files lie on the server's own disk.
    """

    def __init__(
        self,
        server: Dovecot,
        user: str,
        home: Path,
        *,
        delete: bool,
        port: int | None = None,
        stall: int = 60,
        store: str | None = None,
        answer: int | None = None,
        destination: Mapping[str, Any] | None = None,
        target: Path | None = None,
    ) -> None:
        self.server = server
        self.user = user
        self.target = home / "target" if target is None else target
        self.configuration = home / "maildaemon.toml"
        self.configuration.touch(mode=0o600)
        self.configuration.write_text(
            (STORE.format(url=store, options=f"answerSeconds = {answer}" if answer else "") if store else "")
            + CONFIGURATION.format(
                port=server.imaps if port is None else port,
                user=user,
                password=server.password,
                delete=str(delete).lower(),
                wanted=WANTED,
                destination=inline(destination or {"type": "file", "url": str(self.target)}),
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

    @property
    def store(self) -> str:
        """The URL of the store."""
        return store_of(self.configuration)[0]

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

    def entries(self, outcome: Outcome) -> list[Entry]:
        """What the ledger says, all of it."""
        store = open_store(self.store)
        try:
            return list(store.entries(EntryQuery(outcome=outcome, limit=1_000_000)).entries)
        finally:
            store.close()

    def committed(self) -> Counter[Print]:
        """The files of every mail that is stored, as the ledger says."""
        return Counter(
            (artifact.size, artifact.sha256) for entry in self.entries(Outcome.STORED) for artifact in entry.artifacts
        )

    # ---- processes ----

    def begin(self, *more: str, command: Sequence[str] = RUNNER) -> Running:
        """A run that goes on while other things happen.  End it, or have it killed."""
        return Running([*command, str(self.configuration), *more], self.configuration.parent)

    def run(self, *more: str, command: Sequence[str] = RUNNER) -> Run:
        """A run to its end."""
        return self.begin(*more, command=command).end()

    def run_and_kill(self, moment: float, *, command: Sequence[str] = RUNNER) -> bool:
        """Kills a run after so many seconds (of the runner: after it was ready); False if it had ended before that."""
        running = self.begin(command=command)
        if command is RUNNER:
            running.wait_until_ready()
        time.sleep(moment)
        return running.kill()


class Running:
    """A run as a process of its own, its output in files."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._output, self._errors = folder / "run.out", folder / "run.err"
        self._began = time.monotonic()
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self._child: subprocess.Popen[bytes] | Begun
            if tuple(command[: len(RUNNER)]) == RUNNER and os.environ.get("MAILDAEMON_HEAVY") != "1":
                streams = {"out": output.fileno(), "err": errors.fileno()}
                self._child = runner().begin(*command[len(RUNNER) :], cwd=ROOT, env=os.environ, **streams)
            else:
                self._child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, cwd=ROOT
                )

    def wait_until_ready(self) -> None:
        """Of the runner: until it has loaded everything."""
        deadline = time.monotonic() + PATIENCE
        while not self._output.read_text().startswith(f"{READY}\n"):
            assert self._child.poll() is None, self._errors.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.005)

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def kill(self) -> bool:
        """Ends it by SIGKILL; False if it had ended before that."""
        alive = self.alive
        self._child.kill()  # does nothing if it has ended
        self._child.wait()
        return alive

    def end(self, *, within: float = PATIENCE) -> Run:
        """What it said, once it has ended by itself; ``TimeoutExpired`` if it does not in so many seconds."""
        try:
            exit_code = self._child.wait(within)
        finally:
            self.kill()
        return Run(
            exit_code=exit_code,
            output=self._output.read_text(),
            errors=self._errors.read_text(),
            seconds=time.monotonic() - self._began,
        )


@cache
def runner() -> Warm:
    """The runner, loaded once, and not again after each blow."""
    return Warm(RUNNER[2], LOADED)


def inline(value: Mapping[str, Any] | list[str] | str | int) -> str:
    """As TOML has it: its strings, lists and numbers are JSON's, but for the names in tables."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {inline(each)}' for name, each in value.items())} }}"
    return json.dumps(value)


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
