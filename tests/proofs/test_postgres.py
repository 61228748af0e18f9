"""A PostgreSQL that crashes, goes away or falls silent under the sweep: it stops in order, and goes on later.

Nothing is lost, doubled or tidied early, and what is said names the store and never the password.
"""

from __future__ import annotations

import random
import time
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pytest

from tests.proofs.box import COMMAND_LINE, Box, Run
from tests.proofs.samples import SMALL, Size, samples
from tests.proofs.striking import look, look_at_the_end, strike
from tests.proofs.watchers import Consumer, Watcher
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import Postgres
from tests.servers.proxy import NO_FAULT, ChaosProxy, Fault

pytestmark = [pytest.mark.server, pytest.mark.heavy, pytest.mark.timeout(3600)]

STOPS = 30.0
"""Seconds in which a run has ended after its store went away."""


ANSWER = 3
"""Seconds of silence after which a line to the database is given up; usually these are more."""


@pytest.fixture
def size(size: Size) -> Size:
    """A little smaller than other proofs where they are small: there are many of these."""
    return attrs.evolve(size, mails=60, blows=3) if size == SMALL else size


@pytest.fixture
def box(dovecot: Dovecot, mail_user: str, tmp_path: Path, durable_url: str) -> Box:
    return Box(dovecot, mail_user, tmp_path, delete=True, store=durable_url)


def crash_during(box: Box, server: Postgres, moment: float, *, for_long: bool = True) -> bool:
    """Crashes the server after so many seconds of a run; whether that was felt.

    The server is there again at once, or only after the run has ended.
    """
    running = box.begin()
    running.wait_until_ready()
    time.sleep(moment)
    server.crash()
    try:
        if not for_long:
            server.start()
        run = running.end(within=STOPS)
    finally:
        if for_long:
            server.start()
    return felt(run, box)


def felt(run: Run, box: Box) -> bool:
    """Whether a run has noticed that its store went away; it must say so in order."""
    assert "Traceback" not in run.errors, run.errors
    assert (urlsplit(box.store).password or "?") not in run.output + run.errors
    if run.exit_code == 0:
        return False
    assert run.exit_code == 1
    (report,) = run.answer["reports"]
    assert report["state"] == "paused", report
    assert report["trouble"]["error"] == "StoreUnavailable"
    assert report["trouble"]["message"].startswith(f"the store postgresql://127.0.0.1:{urlsplit(box.store).port}/")
    assert report["trouble"]["remedy"]
    counts = run.answer["counts"]
    assert counts["seen"] == sum(counts[one] for one in ("stored", "skipped", "failed", "pending"))
    return True


def test_the_server_crashes_at_random_moments_and_every_mail_is_there_once_and_whole_at_first_sight(
    box: Box, durable: Postgres, size: Size, seed: int
) -> None:
    with Watcher(box) as watcher:
        strike(box, watcher, size, seed, lambda moment: crash_during(box, durable, moment))
        assert box.stored() == box.expected


def test_the_server_crashes_and_comes_back_at_once_and_a_consumer_gets_every_mail_and_none_twice(
    box: Box, durable: Postgres, size: Size, seed: int, tmp_path: Path
) -> None:
    with Consumer(box, tmp_path) as consumer:
        strike(box, consumer, size, seed, lambda moment: crash_during(box, durable, moment, for_long=False))


def test_the_server_crashes_and_the_daemon_is_killed_in_turns_and_together(
    box: Box, durable: Postgres, size: Size, seed: int, tmp_path: Path
) -> None:
    turns = random.Random(seed)

    def blow(moment: float) -> bool:
        kind = turns.choice(["kill", "crash", "both"])
        if kind == "kill":
            return box.run_and_kill(moment)
        if kind == "crash":
            return crash_during(box, durable, moment)
        running = box.begin()
        running.wait_until_ready()
        time.sleep(moment)
        if turns.random() < 0.5:
            alive = running.kill()
            durable.crash()
        else:
            durable.crash()
            time.sleep(turns.choice([0, 0.001, 0.01]))
            alive = running.kill()
        durable.start()
        return alive

    with Consumer(box, tmp_path) as consumer:
        strike(box, consumer, size, seed, blow)


SILENCE = Fault(stall_after=8000)
"""In the middle of the work.  What the client sends is taken all the while, so that TCP sees no fault."""


def some_fault(chance: random.Random, octets: int) -> Fault:
    """One fault of a connection to the database, somewhere in as many bytes as flow in a run."""
    at = int(200 * (octets / 200) ** chance.random())
    kind = chance.choice(["cut_after", "reset_after", "stall_after"])
    return Fault(direction=chance.choice(["down", "up"]), **{kind: at})  # type: ignore[arg-type]


def test_faults_of_the_line_to_the_server_lose_nothing_and_double_nothing(
    dovecot: Dovecot, mail_user: str, tmp_path: Path, durable: Postgres, durable_url: str, size: Size, seed: int
) -> None:
    chance = random.Random(seed)
    mails = samples(size, seed)
    faults = size.blows * 3 // 2
    wave = size.mails // (faults + 1)
    with ChaosProxy(durable.port) as line:
        through = durable_url.replace(f":{durable.port}/", f":{line.port}/")
        box = Box(dovecot, mail_user, tmp_path, delete=True, store=through, answer=ANSWER)
        with Watcher(box) as watcher:
            box.deliver(islice(mails, wave))
            assert box.run().exit_code == 0
            usual = line.bytes_down
            struck = 0
            for fault in [SILENCE, *(some_fault(chance, usual) for _ in range(faults - 1))]:
                box.deliver(islice(mails, wave))
                running = box.begin()
                running.wait_until_ready()
                line.fault = fault
                run = running.end(within=STOPS)
                print(line.fault, f"exit {run.exit_code} after {run.seconds:.1f} s")
                struck += felt(run, box)
                line.fault = NO_FAULT
                line.drop_all()
                look(box, watcher)
            assert struck, "not one of the faults was felt"
            box.deliver(mails)
            look_at_the_end(box, watcher, box.run().exit_code)
            assert box.stored() == box.expected


def test_the_command_line_says_which_store_went_away_and_what_to_do_and_the_next_run_goes_on(
    dovecot: Dovecot, mail_user: str, tmp_path: Path, durable: Postgres, durable_url: str, seed: int
) -> None:
    with ChaosProxy(dovecot.imaps) as slow:
        box = Box(dovecot, mail_user, tmp_path, delete=True, port=slow.port, store=durable_url)
        box.deliver(mail for mail in islice(samples(SMALL, seed), 130) if len(mail.raw) < 100_000)
        slow.fault = Fault(rate=100_000)
        with Watcher(box) as watcher:
            running = box.begin(command=COMMAND_LINE)
            while not box.must_be_stored():  # until the first batch is stored and tidied
                time.sleep(0.002)
            durable.crash()
            try:
                run = running.end(within=STOPS)
            finally:
                durable.start()
            slow.fault = NO_FAULT
            assert run.exit_code == 1, run
            assert durable.password not in run.output + run.errors
            assert "Traceback" not in run.errors
            (mailbox,) = run.document["mailboxes"]
            assert mailbox["state"] == "paused"
            assert f"the store postgresql://127.0.0.1:{durable.port}/" in mailbox["trouble"]["message"]
            assert "database server" in mailbox["trouble"]["remedy"]
            assert mailbox["counts"]["stored"] > 0
            assert mailbox["counts"]["pending"] > 0
            look(box, watcher)
            look_at_the_end(box, watcher, box.run(command=COMMAND_LINE).exit_code)
