"""What several threads and processes do at once with one store: imported by each of the processes, so it is small."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import attrs

from maildaemon_adapters.sql import SqlStore
from maildaemon_core.errors import StaleVersion
from maildaemon_core.message import MailboxId
from maildaemon_core.ports import Store

CREW = 6
MAILBOXES = [MailboxId(f"00000000-0000-4000-8000-00000000000{number}") for number in range(3)]


def work(folder: Path, name: str, store: Store | None = None) -> Counter[str]:
    """Leases mailboxes and counts in them for two seconds from when the whole crew is there; tells what it did."""
    mine = store or SqlStore(f"sqlite:///{folder}/maildaemon.db")
    done: Counter[str] = Counter()
    at = sum(map(ord, name))
    (folder / f"{name}.ready").touch()
    while len(list(folder.glob("*.ready"))) < CREW:
        time.sleep(0.01)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        at += 1
        mailbox = MAILBOXES[at % 3]
        try:
            configuration = mine.configuration(mailbox)
            assert configuration is not None
            number = configuration.document["number"] + 1
            mine.save(attrs.evolve(configuration, document={"number": number}), expected=configuration.version)
            done[f"saved {mailbox}"] += 1
        except StaleVersion:
            done["stale"] += 1
        lease = mine.lease(mailbox, 60, owner=name)
        if lease is None:
            done["busy"] += 1
            continue
        flag = folder / f"{mailbox}.held"
        flag.touch(exist_ok=False)  # nobody else is at work here
        (entry,) = lease.in_hand()
        lease.record([attrs.evolve(entry, attempts=entry.attempts + 1)])
        done[f"counted {mailbox}"] += 1
        flag.unlink()
        lease.give_back(datetime.now(UTC))
    if store is None:
        mine.close()
    return done
