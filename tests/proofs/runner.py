"""A process that sweeps the mailboxes of a configuration file once: small, so that it can be killed at every moment.

    python -m tests.proofs.runner CONFIG.toml [again]

``again`` has failed mails tried anew first.  It writes a line ``ready`` when all is loaded, and one JSON document at
its end.  The store is the one that the file names, or lies beside it, as it does for the command line: no login is
ever an argument.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maildaemon_core import codec
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.plugins import installed_destinations, installed_sources
from maildaemon_core.errors import StoreUnavailable
from maildaemon_core.message import MailboxId, mailbox_id
from maildaemon_core.monitoring import SweepReport, SweepState
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


def store_of(configuration: Path) -> tuple[str, Mapping[str, Any]]:
    """The URL and the options of the store of this configuration."""
    named = tomllib.loads(configuration.read_text()).get("store", {})
    return named.get("url") or f"sqlite:///{configuration.parent / STORE}", named.get("options", {})


def sweep(daemon: MailDaemon, mailbox: MailboxId) -> SweepReport:
    """One sweep, and its report even if the store cannot be reached at all."""
    try:
        return daemon.sweep_once(mailbox)
    except StoreUnavailable as error:
        now = datetime.now(UTC)
        return SweepReport(mailbox=mailbox, state=SweepState.PAUSED, started=now, ended=now, trouble=error.trouble())


def run(configuration: Path, *, again: bool) -> int:
    url, store_options = store_of(configuration)
    with MailDaemon.open(url, store_options=store_options) as daemon:
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
        reports = [sweep(daemon, mailbox) for mailbox in daemon.mailboxes()]
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


def main() -> int:
    return run(Path(sys.argv[1]), again="again" in sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
