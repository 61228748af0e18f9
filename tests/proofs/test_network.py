"""A line that is cut, reset, falls silent or damages what it carries costs time, and neither a mail nor a copy."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pytest

from tests.proofs.box import Box
from tests.proofs.samples import Size, samples
from tests.proofs.watchers import Watcher
from tests.servers.dovecot import Dovecot
from tests.servers.proxy import NO_FAULT, ChaosProxy, Fault

pytestmark = [pytest.mark.server, pytest.mark.heavy, pytest.mark.timeout(3600)]


def some_fault(chance: random.Random, octets: int) -> Fault:
    """One fault: early or late in so many bytes from the server, or in the first few of ours."""
    down = chance.random() < 0.8
    at = int(1000 * (octets / 1000) ** chance.random()) if down else chance.randrange(600, 6000)
    kind = chance.choice(["cut_after", "reset_after", "stall_after", "flip_at"])
    return Fault(direction="down" if down else "up", **{kind: at})  # type: ignore[arg-type]


def test_faults_of_the_line_at_random_bytes_lose_nothing_and_double_nothing(
    dovecot: Dovecot, mail_user: str, tmp_path: Path, size: Size, seed: int
) -> None:
    chance = random.Random(seed)
    mails = samples(size, seed)
    faults = size.blows * 2 // 3
    wave = size.mails // (faults + 1)
    with ChaosProxy(dovecot.imaps) as line:
        box = Box(dovecot, mail_user, tmp_path, delete=True, port=line.port, stall=1)
        with Watcher(box) as watcher:
            box.deliver(islice(mails, wave))
            assert box.run().exit_code == 0
            usual = line.bytes_down
            struck = 0
            for number in range(faults):
                box.deliver(islice(mails, wave))
                line.fault = some_fault(chance, usual) if number else Fault(direction="down", cut_after=1500)
                run = box.run()
                print(line.fault, f"exit {run.exit_code}")
                struck += run.exit_code
                assert box.must_be_stored() <= watcher.seen(), "a mail is gone, and its files are not there"
                assert not watcher.faults
            assert struck, "not one of the faults was felt"
            line.fault = NO_FAULT
            box.deliver(mails)
            last = box.run("again")  # what failed for the line's sake waits for its next try no longer
            assert last.exit_code == 0, last
            assert watcher.seen() == box.expected
            assert not watcher.faults
    assert box.stored() == box.expected
    assert box.left_on_server() == [()] * box.refused
    assert box.staged() == []
