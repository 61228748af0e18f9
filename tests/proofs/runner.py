"""A process that sweeps the mailboxes of a configuration file once: small, so that it can be killed at every moment.

    python -m tests.proofs.runner CONFIG.toml [again]

``again`` has failed mails tried anew first.  It writes a line ``ready`` when all is loaded, and one JSON document at
its end.  The store lies beside the file, as it does for the command line.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

from maildaemon_core import codec
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.plugins import installed_destinations, installed_sources
from maildaemon_core.message import mailbox_id
from maildaemon_core.options import MailboxOptions

STORE = "maildaemon.db"
READY = "ready"


def peak() -> int:
    """The most memory that this process has ever had in use (VmHWM of proc(5)), in bytes."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def options_of(configuration: Path) -> list[MailboxOptions]:
    """The mailboxes that the file names."""
    document = tomllib.loads(configuration.read_text())
    return [codec.read(MailboxOptions, each) for each in document["mailboxes"]]


def main(configuration: Path, *, again: bool) -> int:
    with MailDaemon.open(f"sqlite:///{configuration.parent / STORE}") as daemon:
        for options in options_of(configuration):
            installed_sources().kind(options.kind)
            for destination in options.destinations:
                installed_destinations().kind(destination.kind)
            daemon.adopt(mailbox_id(options.label), options)
        loaded = peak()
        print(READY, flush=True)
        if again:
            for mailbox in daemon.mailboxes():
                daemon.retry_failed(mailbox)
        reports = [daemon.sweep_once(mailbox) for mailbox in daemon.mailboxes()]
    well = all(report.well for report in reports)
    answer = {
        "well": well,
        "memory": peak() - loaded,
        "seconds": sum((report.ended - report.started).total_seconds() for report in reports),
        "tidied": sum(report.tidied for report in reports),
        "counts": {
            name: sum(getattr(report.counts, name) for report in reports)
            for name in ("seen", "stored", "skipped", "failed", "pending")
        },
        "reports": [codec.write(report) for report in reports],
    }
    print(json.dumps(answer), flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), again="again" in sys.argv[2:]))
