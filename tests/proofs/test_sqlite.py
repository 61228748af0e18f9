"""The file of the store is locked by another program, or its disk is full, from any moment of the sweep on.

The sweep stops in order, nothing is tidied that is not stored, and it goes on when the trouble is over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from itertools import islice, repeat
from pathlib import Path

import attrs
import pytest

from maildaemon_adapters.sql import sqlite
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.sweep import Bounds
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import Event, SweepState
from tests.http.test_cli_dovecot import mounted
from tests.proofs.box import Box
from tests.proofs.runner import options_of, sweep
from tests.proofs.samples import SMALL, samples
from tests.proofs.striking import look, look_at_the_end
from tests.proofs.watchers import Consumer
from tests.servers.dovecot import Dovecot

pytestmark = [pytest.mark.server, pytest.mark.heavy]

MANY = attrs.evolve(SMALL, mails=1000, large=0)
MAILS = 12
BATCH = Bounds(mails=4)

Trouble = Callable[[], AbstractContextManager[None]]


def strike(box: Box, folder: Path, seed: int, trouble: Trouble, *, said: str, step: int) -> None:
    """Lets the trouble begin at one event after the other that a sweep tells of, until there are no more."""
    mails = samples(MANY, seed)
    mailbox = MailboxId("one")
    (options,) = options_of(box.configuration)
    at, struck, told, armed = seed % step - step + 1, 0, 0, True
    with ExitStack() as troubles:

        def listen(event: Event) -> None:
            nonlocal told
            told += 1
            if armed and told == at:
                troubles.enter_context(trouble())

        with MailDaemon.open(box.store) as opened, Consumer(box, folder) as consumer:
            daemon = MailDaemon(opened.store, bounds=BATCH, monitors=[listen])
            daemon.adopt(mailbox, options)
            reached = True
            while reached:
                at, told, armed = at + step, 0, True
                box.deliver(islice(mails, MAILS))
                report = sweep(daemon, mailbox)
                reached, armed = told >= at, False
                troubles.close()
                if not report.well:
                    struck += 1
                    assert report.state is SweepState.PAUSED, report
                    assert report.trouble is not None
                    assert report.trouble.error == "StoreUnavailable"
                    assert f"the store {box.store.removeprefix('sqlite:///')} " in report.trouble.message
                    assert said in report.trouble.message
                    assert report.counts.failed == 0
                look(box, consumer)
                last = sweep(daemon, mailbox)
                assert last.well, last
                look_at_the_end(box, consumer, 0)
    print(f"{struck} sweeps were paused by it")
    assert struck * step > 5


@contextmanager
def locked(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leaves no room on a disk."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        file.writelines(repeat(bytes(512)))
    yield
    filler.unlink()


@pytest.fixture
def step(heavy: bool) -> int:
    """Every how many-eth event is tried: all of them, or a third and each time another one."""
    return 1 if heavy else 3


def test_locked_for_longer_than_is_waited_for_the_sweep_stops_and_goes_on_later(
    dovecot: Dovecot, mail_user: str, tmp_path: Path, seed: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    box = Box(dovecot, mail_user, tmp_path, delete=True)
    file = Path(box.store.removeprefix("sqlite:///"))
    strike(box, tmp_path, seed, lambda: locked(file), said="locked by another program", step=step)


def test_a_disk_that_is_full_under_the_store_pauses_the_sweep_and_with_more_room_it_goes_on(
    dovecot: Dovecot, mail_user: str, tmp_path: Path, seed: int, step: int
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "8m"):
        box = Box(dovecot, mail_user, tmp_path, delete=True, store=f"sqlite:///{disk}/maildaemon.db", answer=None)
        strike(box, tmp_path, seed, lambda: filled(disk), said="the disk is full", step=step)
