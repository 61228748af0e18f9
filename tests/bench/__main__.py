"""Archiving a mailbox of small mails durably, beside mbsync that pulls the same one into a Maildir, by turns."""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maildaemon_core.testing.mails import simple_mail
from tests.proofs.box import RUNNER
from tests.servers.dovecot import Dovecot

USER = "bench@example.com"
ROOT = Path(__file__).resolve().parents[2]

MAILDAEMON = """\
[[mailboxes]]
name = "bench"
host = "localhost"
port = {port}
username = "{user}"
password = "{password}"
mailArchiving = {{ active = true }}
destinations = [{{ type = "file", url = "{folder}/archive" }}]
options = {{ caFile = "{ca}" }}
"""

# FSync is on unless it is turned off: man mbsync.
MBSYNC = """\
IMAPStore far
Host localhost
Port {port}
User {user}
Pass {password}
SSLType IMAPS
CertificateFile {ca}

MaildirStore near
Path {folder}/maildir/
Inbox {folder}/maildir/INBOX

Channel pull
Far :far:
Near :near:
Patterns INBOX
Sync Pull
Create Near
SyncState {folder}/state/
"""


def small_mails(number: int, seed: int) -> list[bytes]:
    """Of 1 to 11 kB."""
    chance = random.Random(seed)
    return [
        simple_mail(
            subject=f"message {at}",
            sender=f"jane{at % 50}@example.com",
            message_id=f"<{at}.bench@example.com>",
            text="".join(f"{chance.randbytes(35).hex()}\n" for _ in range(chance.randrange(10, 150))),
        )
        for at in range(number)
    ]


class Bench:
    """All that is written stays until the end: ext4 makes new files slowly where many were removed lately."""

    def __init__(self, server: Dovecot, home: Path, mails: int) -> None:
        self._server = server
        self._home = home
        self._mails = mails

    def folder(self, name: str, template: str) -> Path:
        folder = self._home / name
        for made in (folder, folder / "state", folder / "maildir"):
            made.mkdir()
        (folder / "configuration").write_text(
            template.format(
                port=self._server.imaps,
                user=USER,
                password=self._server.password,
                ca=self._server.ca,
                folder=folder,
            )
        )
        return folder

    def maildaemon(self, name: str) -> float:
        folder = self.folder(name, MAILDAEMON)
        seconds = timed([*RUNNER, str(folder / "configuration")])
        self._complete(folder / "archive")
        return seconds

    def mbsync(self, name: str) -> float:
        folder = self.folder(name, MBSYNC)
        seconds = timed(["mbsync", "-c", str(folder / "configuration"), "pull"])
        self._complete(folder / "maildir" / "INBOX" / "new", folder / "maildir" / "INBOX" / "cur")
        return seconds

    def steps(self, name: str) -> dict[str, Any]:
        folder = self.folder(name, MAILDAEMON)
        command = [sys.executable, "-m", "tests.bench.steps", str(folder / "configuration")]
        answer: dict[str, Any] = json.loads(run(command))
        self._complete(folder / "archive")
        return answer

    def syncs(self, name: str, command: Sequence[str], template: str) -> dict[str, int]:
        """How often each of the system calls that reach the disk is made: strace slows it all down, and only counts."""
        folder = self.folder(name, template)
        trace = folder / "trace"
        call = ["strace", "-f", "-c", "-U", "name,calls", "-e", "trace=fsync,fdatasync,syncfs,sync_file_range"]
        run([*call, "-o", str(trace), *(word.format(folder / "configuration") for word in command)])
        found = re.findall(r"^(\w*sync\w*)\s+(\d+)$", trace.read_text(), re.MULTILINE)
        return {name: int(calls) for name, calls in found}

    def _complete(self, *folders: Path) -> None:
        found = sum(len(files) for folder in folders for _, _, files in os.walk(folder))
        if found != self._mails:
            raise SystemExit(f"{found} files instead of {self._mails} in {folders}")


def run(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=3600
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def timed(command: Sequence[str]) -> float:
    began = time.perf_counter()
    run(command)
    return time.perf_counter() - began


def show_steps(answer: dict[str, Any], mails: int) -> None:
    whole = answer["whole"]
    print(
        f"\nwhere the time goes: one more sweep with stopwatches, {whole:.2f} s, processor {answer['processor']:.2f} s"
    )
    for thread, steps in answer["seconds"].items():
        print(f"  in the thread of the {'sweep' if thread == 'main' else thread}")
        rows = sorted(steps.items(), key=lambda row: -row[1])
        if thread == "main":
            rows.append(("the rest: the engine's own", whole - sum(steps.values())))
        for step, seconds in rows:
            if seconds > whole / 200:
                share, each = 100 * seconds / whole, 1e6 * seconds / mails
                print(f"    {step:32} {seconds:7.2f} s  {share:5.1f} %  {each:6.0f} µs a mail")
    batches = max(answer["counts"]["batches"], 1)
    print(f"\nhow often, in {batches} batches")
    for what, number in answer["counts"].items():
        print(f"    {what:32} {number:7}  {number / batches:7.2f} a batch")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on a real disk, not a tmpfs")
    chosen = parser.parse_args()
    if shutil.which("mbsync") is None:
        print("NOT MEASURED: mbsync is not installed; as root: apt-get install -y isync", file=sys.stderr)
        return 1
    home = Path(tempfile.mkdtemp(prefix="maildaemon-bench-", dir=chosen.folder))
    kind = run(["stat", "-f", "-c", "%T", str(home)]).strip()
    try:
        with Dovecot() as server:
            octets = 0
            for raw in small_mails(chosen.mails, chosen.seed):
                server.deliver(USER, raw)
                octets += len(raw)
            bench = Bench(server, home, chosen.mails)
            load = os.getloadavg()[0]
            print(
                f"{chosen.mails} mails, {octets / chosen.mails / 1000:.1f} kB on average, Dovecot with TLS on loopback"
            )
            print(f"{kind} in {chosen.folder}, {os.cpu_count()} processors, load {load:.1f}; whole processes, by turns")
            run(["doveadm", "-c", str(server.configuration), "fetch", "-u", USER, "size.virtual", "all"])  # indexes
            ratios = []
            print(f"\n{'round':>8} {'maildaemon':>12} {'mbsync':>12} {'ratio':>8}")
            for number in range(1, chosen.rounds + 1):
                ours, theirs = bench.maildaemon(f"ours-{number}"), bench.mbsync(f"theirs-{number}")
                ratios.append(ours / theirs)
                print(f"{number:8} {ours:10.2f} s {theirs:10.2f} s {ratios[-1]:8.2f}", flush=True)
            print(f"{'median':>8} {'':12} {'':12} {statistics.median(ratios):8.2f}")
            show_steps(bench.steps("steps"), chosen.mails)
            if shutil.which("strace") is not None:
                runner, mbsync = [*RUNNER, "{}"], ["mbsync", "-c", "{}", "pull"]
                print(f"\nsystem calls that reach the disk, for {chosen.mails} mails (counted by strace)")
                print(f"    maildaemon  {bench.syncs('strace-ours', runner, MAILDAEMON)}")
                print(f"    mbsync      {bench.syncs('strace-theirs', mbsync, MBSYNC)}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
