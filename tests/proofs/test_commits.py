"""The line to the database breaks right at a commit, at each one of a sweep in turn: whether or not it has happened.

Nobody can tell which from the outside.  The sweep stops in order, and the next one makes it good from what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import attrs
import pytest

from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.sweep import Bounds
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import SweepState
from tests.proofs.box import Box
from tests.proofs.commits import BreaksAtCommit
from tests.proofs.runner import options_of, sweep
from tests.proofs.samples import SMALL, samples
from tests.proofs.striking import look, look_at_the_end
from tests.proofs.watchers import Consumer
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import Postgres

pytestmark = [pytest.mark.server, pytest.mark.heavy]

MANY = attrs.evolve(SMALL, mails=1000, large=0)
MAILS = 12
BATCH = Bounds(mails=4)
"""Three batches: fetched ahead, stored, tidied."""


@pytest.fixture
def line(postgres: Postgres) -> Iterator[BreaksAtCommit]:
    with BreaksAtCommit(postgres.port) as line:
        yield line


@pytest.mark.parametrize("happens", [True, False], ids=["it happened", "it did not"])
@pytest.mark.parametrize("for_long", [True, False], ids=["away for long", "back at once"])
def test_the_answer_to_any_commit_of_a_sweep_may_be_lost(
    dovecot: Dovecot,
    mail_user: str,
    tmp_path: Path,
    postgres: Postgres,
    postgres_url: str,
    line: BreaksAtCommit,
    seed: int,
    heavy: bool,
    happens: bool,
    for_long: bool,
) -> None:
    mails = samples(MANY, seed)
    through = postgres_url.replace(f":{postgres.port}/", f":{line.port}/")
    box = Box(dovecot, mail_user, tmp_path, delete=True, store=postgres_url)
    (options,) = options_of(box.configuration)
    mailbox = MailboxId("one")
    with MailDaemon.open(through) as opened, Consumer(box, tmp_path) as consumer:
        daemon = MailDaemon(opened.store, bounds=BATCH)
        daemon.adopt(mailbox, options)
        step = 1 if heavy else 4  # a quarter of them on every change, another one each time
        at, broke, lost = seed % step - step + 1, True, 0
        while broke:
            at += step
            box.deliver(islice(mails, MAILS))
            line.arm(at, happens=happens, for_long=for_long)
            report = sweep(daemon, mailbox)
            broke = line.broke
            lost += broke
            line.mend()
            assert report.state is (SweepState.PAUSED if broke else SweepState.DONE), report
            look(box, consumer)
            last = sweep(daemon, mailbox)
            assert last.well, f"after commit {at}: {last}"
            assert last.counts.pending == 0, f"after commit {at}: {last}"
            look_at_the_end(box, consumer, 0)
    print(f"the answers to {lost} commits of a sweep were lost, one at a time")
    assert lost * step > 15
