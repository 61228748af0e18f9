"""The service as a process that may be killed at any moment, and a clerk who changes its mailbox all the time."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from maildaemon_adapters.sealing import VARIABLE, new_master_key
from maildaemon_core.access import ALL_SCOPES, CHANCE_BYTES, make_key
from maildaemon_core.engine.daemon import open_store
from tests.proofs.box import PATIENCE, ROOT, Box
from tests.proofs.samples import WANTED
from tests.servers.dovecot import Dovecot
from tests.servers.process import Process

ANNOUNCED = re.compile(r"^maildaemon serves (http://\S+) \(store", re.MULTILINE)

SETTLED = 1.5
"""Seconds in which a batch is deleted: what goes on when deletion is turned off comes to its end."""

CONFIGURATION = """\
[store]
url = "{store}"

[service.confinement]
allowNetworks = ["127.0.0.0/8", "::1/128"]
roots = ["srv"]
files = ["{certificates}"]
"""


class ServedBox(Box):
    """A box of which the mailbox is made over the API; the service is started, stopped and killed at will."""

    def __init__(self, server: Dovecot, user: str, home: Path, *, store: str | None = None) -> None:
        super().__init__(server, user, home, delete=True)
        self.target = home / "srv" / "target"
        self.configuration.write_text(
            CONFIGURATION.format(store=store or f"sqlite:///{home / 'maildaemon.db'}", certificates=server.ca.parent)
        )
        self.document = {
            "mailbox": user,
            "host": "localhost",
            "port": server.imaps,
            "username": user,
            "password": server.password,
            "deleteMailsOnServer": True,
            "allowedEmailExtensions": [WANTED],
            "exportAttachments": True,
            "mailArchiving": {"active": True},
            "pollIntervalSeconds": 5,
            "destinations": [{"type": "file", "url": str(self.target)}],
            "options": {"caFile": str(server.ca), "connectSeconds": 10},
        }
        made, kept = make_key(os.urandom(CHANCE_BYTES), "clerk", now=datetime.now(UTC), scopes=ALL_SCOPES)
        self.key = made.value
        with closing(open_store(self.store)) as keeper:
            keeper.add_key(kept)
        self.environment = {**os.environ, VARIABLE: new_master_key(), "COLUMNS": "200"}

    def serve(self) -> Serving:
        return Serving(self)

    def names(self) -> set[str]:
        """What lies on the server."""
        return self._names()


class Serving:
    """``maildaemon serve``, from its first moment on."""

    def __init__(self, box: ServedBox) -> None:
        self._box = box
        home = box.configuration.parent
        self._log = home / f"serve-{len(list(home.glob('serve-*.log')))}.log"
        command: list[str | Path] = [
            "env",
            "-C",
            ROOT,
            sys.executable,
            "-m",
            "maildaemon_http.cli",
            "serve",
            box.configuration,
        ]
        self._process = Process([*command, "--port", "0"], log=self._log, environment=box.environment)

    def url(self) -> str:
        """Where it listens, once it does."""
        deadline = time.monotonic() + PATIENCE
        while (found := ANNOUNCED.search(self._log.read_text())) is None:
            assert self._process.exit_code is None, self._process.last_words()
            assert time.monotonic() < deadline, self._process.last_words()
            time.sleep(0.01)
        return found[1]

    def kill(self) -> None:
        """Ends it by SIGKILL; it must have been alive until then."""
        assert self._process.exit_code is None, self._process.last_words()
        self._process.stop(signal.SIGKILL)

    def end(self) -> None:
        """Ends it somehow, if it runs."""
        self._process.stop(signal.SIGKILL)

    def stop(self) -> None:
        """Asks it to end, which it must do well, and without ever having met an error of its own."""
        assert self._process.stop(signal.SIGTERM, seconds=60) == 0, self._process.last_words()
        self.is_sound()

    def is_sound(self) -> None:
        assert "Traceback" not in self._log.read_text(), self._log.read_text()[-4000:]


class Clerk:
    """Somebody who changes the mailbox again and again: removes it and makes it anew, turns deletion off and on.

    ``faults`` is what must not be; ``deleted_late``: how many mails at most went after it was answered that deletion is
    off, which were being deleted in that moment.
    """

    def __init__(self, box: ServedBox, seed: int) -> None:
        self._box = box
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="clerk", daemon=True)
        self.url: str | None = None
        self.faults: list[str] = []
        self.deleted_late = 0
        self.done: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rest()

    def rest(self) -> None:
        """Changes nothing any more."""
        self._over.set()
        self._thread.join()

    def client(self, url: str) -> httpx.Client:
        return httpx.Client(base_url=url, headers={"x-api-key": self._box.key}, trust_env=False, timeout=60)

    def mailbox(self, client: httpx.Client) -> str:
        """The path of the mailbox, which is made if it is not there."""
        items = self._asked(client.get("/mailboxes")).json()["items"]
        if len(items) > 1:
            self.faults.append(f"one account has {len(items)} mailboxes")
        if items:
            return f"/mailboxes/{items[0]['uuid']}"
        return self._asked(client.post("/mailboxes", json=self._box.document)).headers["location"]

    def swept(self, client: httpx.Client) -> dict[str, Any]:
        """The report of a sweep that begins now."""
        answer = client.post(f"{self.mailbox(client)}/sweeps?wait=120", json={"again": "failed"}, timeout=150)
        report: dict[str, Any] = self._asked(answer).json()["report"]
        return report

    def _work(self) -> None:
        acts: list[Callable[[httpx.Client, str], None]] = [
            *(self._remove, self._remove, self._turn_off, self._turn_on, self._turn_on, self._sweep, self._sweep),
            self._slow_down,
        ]
        while not self._over.wait(self._chance.uniform(0, 0.1)):
            if (url := self.url) is None:
                continue
            try:
                with self.client(url) as client:
                    act = self._chance.choice(acts)
                    act(client, self.mailbox(client))
                    self.done[act.__name__] = self.done.get(act.__name__, 0) + 1
            except httpx.TransportError:
                continue  # it was killed
            except Exception as error:  # noqa: BLE001  (whatever it is, the test is to say so)
                self.faults.append(repr(error))

    def _asked(self, answer: httpx.Response) -> httpx.Response:
        if not answer.is_success:
            self.faults.append(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
        return answer

    def _remove(self, client: httpx.Client, path: str) -> None:
        self._asked(client.delete(path))
        self._over.wait(self._chance.choice([0, 0, 0.3]))
        if self.mailbox(client) != path:
            self.faults.append("the account did not get its memory back")

    def _turn_off(self, client: httpx.Client, path: str) -> None:
        before = self._box.names()
        self._asked(client.patch(path, json={"deleteMailsOnServer": False}))
        answered = self._box.names()
        self._over.wait(SETTLED)
        then = self._box.names()
        self.deleted_late = max(self.deleted_late, len(answered - then))
        self._over.wait(SETTLED)
        if gone := then - self._box.names():
            self.faults.append(f"{len(gone)} of {len(before)} mails were deleted long after that was turned off")

    def _turn_on(self, client: httpx.Client, path: str) -> None:
        self._asked(client.patch(path, json={"deleteMailsOnServer": True}))

    def _slow_down(self, client: httpx.Client, path: str) -> None:
        self._asked(client.patch(path, json={"pollIntervalSeconds": self._chance.randrange(5, 60)}))

    def _sweep(self, client: httpx.Client, path: str) -> None:
        self._asked(client.post(f"{path}/sweeps", json={"again": "failed"}))
