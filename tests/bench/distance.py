"""How round trips count: archiving from a server that is far away, and a poll where everything is handled already.

python -m tests.bench.distance --mails 10000 --handled 100000
"""

from __future__ import annotations

import argparse
import imaplib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maildaemon_adapters.imap import ImapSettings
from maildaemon_core import codec
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.message import MailboxId
from maildaemon_core.options import MailboxOptions
from tests.bench.__main__ import MAILDAEMON, Bench, run, small_mails
from tests.servers.distance import FarAway
from tests.servers.dovecot import Dovecot

USER, HANDLED, EMPTY = "bench@example.com", "handled@example.com", "empty@example.com"


class Far(Bench):
    """The same archiving through a proxy."""

    def __init__(self, server: Dovecot, home: Path, mails: int, proxy: FarAway, template: str) -> None:
        super().__init__(server, home, mails)
        self._proxy = proxy
        self._template = template.replace("{port}", str(proxy.port))

    def archive(self, name: str, round_trip: float) -> float:
        self._proxy.round_trip = round_trip
        folder = self.folder(name, self._template)
        began = time.perf_counter()
        run([sys.executable, "-m", "tests.proofs.runner", str(folder / "configuration")])
        seconds = time.perf_counter() - began
        self._complete(folder / "archive")
        return seconds


def far_away(server: Dovecot, home: Path, mails: int, rounds: int, round_trip: float) -> float:
    """The median of how many times as long it takes."""
    for raw in small_mails(mails, 1):
        server.deliver(USER, raw)
    run(["doveadm", "-c", str(server.configuration), "fetch", "-u", USER, "size.virtual", "all"])  # indexes
    print(f"\n{mails} small mails archived through TLS and a proxy that adds {round_trip * 1000:g} ms to a round trip")
    print(f"{'round':>8} {'without':>12} {'with':>12} {'ratio':>8}")
    ratios = []
    with FarAway(server.imaps) as proxy:
        bench = Far(server, home, mails, proxy, MAILDAEMON)
        for number in range(1, rounds + 1):
            near, far = bench.archive(f"near-{number}", 0.0), bench.archive(f"far-{number}", round_trip)
            ratios.append(far / near)
            print(f"{number:8} {near:10.2f} s {far:10.2f} s {ratios[-1]:8.2f}", flush=True)
    print(f"{'median':>8} {'':12} {'':12} {statistics.median(ratios):8.2f}")
    return statistics.median(ratios)


@contextmanager
def counted() -> Iterator[list[int]]:
    """How many IMAP commands are sent in here."""
    tag = imaplib.IMAP4._new_tag  # type: ignore[attr-defined]
    count = [0]

    def counting(client: imaplib.IMAP4) -> object:
        count[0] += 1
        return tag(client)

    imaplib.IMAP4._new_tag = counting  # type: ignore[attr-defined]
    try:
        yield count
    finally:
        imaplib.IMAP4._new_tag = tag  # type: ignore[attr-defined]


def polls(server: Dovecot, home: Path, handled: int, rounds: int) -> None:
    """A poll of a folder in which so many mails were handled, next to one of an empty folder."""
    print(f"\n{handled} mails that are handled already, next to an empty mailbox")
    for raw in (b"From: jane@example.com\r\nMessage-ID: <%d@x>\r\n\r\nhello\r\n" % at for at in range(handled)):
        server.deliver(HANDLED, raw)
    settings = codec.write(ImapSettings(ca_file=str(server.ca)))
    with MailDaemon.open(f"sqlite:///{home / 'polls.db'}") as daemon:
        for user in (HANDLED, EMPTY):
            document = {
                "name": user,
                "host": "localhost",
                "port": server.imaps,
                "username": user,
                "password": server.password,
                "mailArchiving": {"active": True},
                "allowedEmailExtensions": ["@nobody.example"],
                "destinations": [{"type": "file", "url": str(home / "polls")}],
                "options": settings,
            }
            daemon.adopt(MailboxId(user), codec.read(MailboxOptions, document))
            began = time.perf_counter()
            report = daemon.sweep_once(MailboxId(user))
            print(f"{user}: first sweep {time.perf_counter() - began:.1f} s, {report.counts}")
        print(f"{'round':>8} {'handled':>12} {'empty':>12}   IMAP commands")
        for number in range(1, rounds + 1):
            seconds, commands = [], []
            for user in (HANDLED, EMPTY):
                with counted() as count:
                    began = time.perf_counter()
                    daemon.sweep_once(MailboxId(user))
                    seconds.append(time.perf_counter() - began)
                commands.append(count[0])
            print(f"{number:8} {seconds[0] * 1000:9.1f} ms {seconds[1] * 1000:9.1f} ms   {commands[0]}, {commands[1]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.distance", description=__doc__)
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--handled", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--round-trip", type=float, default=0.05, help="seconds that are added to it")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on a real disk, not a tmpfs")
    chosen = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="maildaemon-bench-", dir=chosen.folder))
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    try:
        with Dovecot() as server:
            if chosen.mails:
                far_away(server, home, chosen.mails, chosen.rounds, chosen.round_trip)
            if chosen.handled:
                polls(server, home, chosen.handled, chosen.rounds)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
