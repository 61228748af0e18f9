"""What several threads and processes do at once with one store: imported by each of the processes, so it is small."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from maildaemon_adapters.sql import SqlStore
from maildaemon_core.errors import PathsTaken, StaleVersion
from maildaemon_core.message import Cursor, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.progress import Artifact, Entry, Outcome, Role, Stage
from maildaemon_core.store_port import FolderState, Lease, Store

MAILBOXES = [MailboxId(f"00000000-0000-4000-8000-00000000000{number}") for number in range(3)]
COUNTED = FolderRef("Counted")
BATCH = 5
"""Mails that a worker admits at once: most of the paths that it wants for them are wanted in other mailboxes too."""


def gather(folder: Path, name: str, crew: int) -> None:
    """Returns when so many are there."""
    (folder / f"{name}.ready").touch()
    while len(list(folder.glob("*.ready"))) < crew:
        time.sleep(0.01)


def make(folder: Path, name: str, url: str, crew: int) -> bool:
    """Opens the store at the same moment as all the others; whether this one made it."""
    gather(folder, name, crew)
    store = SqlStore(url)
    store.close()
    return store.made_anew


def work(folder: Path, name: str, url: str, crew: int, seconds: float, store: Store | None = None) -> Counter[str]:
    """Does with each mailbox what sweeps and people do, from when the whole crew is there; tells how often."""
    mine = store or SqlStore(url)
    done: Counter[str] = Counter()
    chance = random.Random(name)
    gather(folder, name, crew)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        mailbox = chance.choice(MAILBOXES)
        _edit(mine, mailbox, name, done)
        _look(mine, mailbox, chance, done)
        lease = mine.lease(mailbox, 60, owner=name)
        if lease is None:
            done["busy"] += 1
            continue
        flag = folder / f"{mailbox}.held"
        flag.touch(exist_ok=False)  # nobody else is at work here
        _sweep(lease, chance, done)
        flag.unlink()
        lease.give_back(datetime.now(UTC))
    if store is None:
        mine.close()
    return done


def _edit(store: Store, mailbox: MailboxId, name: str, done: Counter[str]) -> None:
    configuration = store.configuration(mailbox)
    assert configuration is not None
    document = {"number": configuration.document["number"] + 1}
    try:
        store.save(attrs.evolve(configuration, document=document), expected=configuration.version, by=name)
        done[f"saved {mailbox}"] += 1
    except StaleVersion:
        done["stale"] += 1


def _look(store: Store, mailbox: MailboxId, chance: random.Random, done: Counter[str]) -> None:
    """What people do without a lease."""
    infos = store.infos()
    assert [info.mailbox for info in infos] == MAILBOXES
    stored = store.entries(EntryQuery(outcome=Outcome.STORED, mailbox=mailbox, limit=20)).entries
    if stored:
        number = chance.choice(stored).id
        assert number is not None
        store.dismiss(number)
        done["dismissed"] += 1
    done["thinned"] += store.thin(Outcome.STORED, datetime.now(UTC) - timedelta(seconds=0.5), limit=10)


def _sweep(lease: Lease, chance: random.Random, done: Counter[str]) -> None:
    (entry,) = lease.open_in(COUNTED)
    lease.record([attrs.evolve(entry, attempts=entry.attempts + 1)])
    done[f"counted {lease.mailbox}"] += 1
    state = lease.folder(FolderRef("INBOX"))
    first = 0 if state is None else int(state.cursor)
    found = [found_mail(lease.mailbox, FolderRef("INBOX"), first + number) for number in range(BATCH)]
    admitted = lease.admit(FolderRef("INBOX"), found, FolderState(cursor=Cursor(str(first + BATCH))))
    assert [entry.ref for entry in admitted] == [entry.ref for entry in found]
    wanted = [_planned(entry, f"{chance.randrange(1000)}-{at}.eml") for at, entry in enumerate(admitted)]
    taken = refused(lease, wanted)
    if taken:
        assert taken <= {(file.place, file.path) for entry in wanted for file in entry.artifacts}
        lease.record([_planned(entry, f"{entry.ref.uid}-{lease.mailbox}.eml") for entry in admitted])
    done["taken" if taken else "reserved"] += 1
    settled = [attrs.evolve(entry, stage=Stage.SETTLED, due_at=None) for entry in lease.at([e.ref for e in found])]
    chance.shuffle(settled)
    lease.record(settled)


def refused(lease: Lease, entries: Sequence[Entry]) -> frozenset[tuple[str, str]]:
    """The paths that were taken already; none: they are recorded."""
    try:
        lease.record(entries)
    except PathsTaken as refusal:
        return refusal.taken
    return frozenset()


def found_mail(mailbox: MailboxId, folder: FolderRef, number: int, **other: Any) -> Entry:
    now = datetime.now(UTC)
    ref, identity = MessageRef(folder, "7", str(number)), Identity(f"{number:032x}")
    given = {"key": f"{number:012x}", "received": now, "first_seen": now, "due_at": now}
    return Entry(mailbox=mailbox, ref=ref, identity=identity, **{**given, **other})


def _planned(entry: Entry, path: str) -> Entry:
    mail = Artifact(destination="archive", place="/srv/mail", role=Role.MAIL, index=0, path=path, size=3, sha256="ab")
    return attrs.evolve(entry, stage=Stage.PLANNED, artifacts=(mail,))
