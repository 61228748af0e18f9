"""Blows at random moments of the work, one after the other, and what has to hold after each of them and in the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import islice

from tests.proofs.box import RUNNER, Box
from tests.proofs.samples import Size, samples
from tests.proofs.watchers import Onlooker

LATE = 1.15
"""Moments reach a little beyond the end of an undisturbed run."""

Blow = Callable[[float], bool]
"""Begins a run and does something bad after so many seconds of it; whether the run was still alive then.

When it returns, nothing runs any more, and the store can be read.
"""


def strike(
    box: Box,
    onlooker: Onlooker,
    size: Size,
    seed: int,
    blow: Blow,
    *,
    command: Sequence[str] = RUNNER,
    last: Sequence[str] = (),
    exactly_once: bool = True,
) -> int:
    """Mail arrives in waves; each run is struck, and the next one goes on from there; one goes to its end at last.

    ``last`` is said to that one besides.  ``exactly_once`` False: a file may be seen again.  Gives how many were alive.
    """
    mails = samples(size, seed)
    chance = random.Random(seed)
    wave = size.mails // (size.blows + 1)
    box.deliver(islice(mails, wave))
    first = box.run(command=command)
    assert first.exit_code == 0, first
    usual = first.answer["seconds"] if command is RUNNER else first.seconds
    moments = [chance.uniform(0, LATE * usual) for _ in range(size.blows)]
    print(f"an undisturbed run takes {usual:.2f} s; struck after", *(f"{moment:.3f}" for moment in moments))
    struck = 0
    for moment in moments:
        box.deliver(islice(mails, wave))
        struck += blow(moment)
        look(box, onlooker)
    assert struck >= size.blows // 3, "hardly any run was alive when it was to be struck"
    box.deliver(mails)
    look_at_the_end(box, onlooker, box.run(*last, command=command).exit_code, exactly_once=exactly_once)
    print(f"{struck} of {size.blows} runs were alive when they were struck")
    return struck


def look(box: Box, onlooker: Onlooker) -> None:
    """What holds whenever no run is alive: law 1."""
    tidied = box.must_be_stored()
    assert tidied <= onlooker.seen(), "a mail is gone from the server, and its files are not there"
    assert tidied <= box.committed(), "a mail is gone from the server, and the ledger does not have it as stored"
    assert not onlooker.faults


def look_at_the_end(box: Box, onlooker: Onlooker, exit_code: int, *, exactly_once: bool = True) -> None:
    """What holds after a run that nothing happened to: everything is there, once."""
    assert exit_code == 0
    seen, expected = onlooker.seen(), box.expected
    assert not expected - seen, "a file is missing"
    assert set(seen) == set(expected)
    assert not (seen - expected and exactly_once), "a file came twice"
    assert box.committed() == expected
    assert not onlooker.faults
    assert box.left_on_server() == [()] * box.refused
    assert box.staged() == []
