"""Killed at any moment, nothing is lost, doubled, half visible or tidied early, whoever takes the files away meanwhile.

Mail arrives in waves; each run is killed at a random moment of the work on one, and the next one goes on from there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import attrs
import pytest

from tests.proofs.box import COMMAND_LINE, RUNNER, Box
from tests.proofs.samples import Size, samples
from tests.proofs.watchers import Consumer, Onlooker, Watcher
from tests.servers.dovecot import Dovecot

pytestmark = [pytest.mark.server, pytest.mark.heavy, pytest.mark.timeout(3600)]

LATE = 1.15
"""Moments reach a little beyond the end of an undisturbed run."""


def strike(box: Box, onlooker: Onlooker, size: Size, seed: int, command: Sequence[str]) -> None:
    """Lets runs be killed, then one go to its end; looks at everything after each kill."""
    mails = samples(size, seed)
    chance = random.Random(seed)
    wave = size.mails // (size.blows + 1)
    box.deliver(islice(mails, wave))
    first = box.run(command=command)
    assert first.exit_code == 0, first
    usual = first.answer["seconds"] if command is RUNNER else first.seconds
    moments = [chance.uniform(0, LATE * usual) for _ in range(size.blows)]
    print(f"an undisturbed run takes {usual:.2f} s; killed after", *(f"{moment:.3f}" for moment in moments))
    struck = 0
    for moment in moments:
        box.deliver(islice(mails, wave))
        struck += box.run_and_kill(moment, command=command)
        tidied = box.must_be_stored()
        assert tidied <= onlooker.seen(), "a mail is gone from the server, and its files are not there"
        assert not onlooker.faults
    assert struck >= size.blows // 3, "hardly any run was alive when it was to be killed"
    box.deliver(mails)
    last = box.run(command=command)
    assert last.exit_code == 0, last
    assert onlooker.seen() == box.expected
    assert not onlooker.faults
    assert box.left_on_server() == [()] * box.refused
    assert box.staged() == []
    print(f"{struck} of {size.blows} runs were alive when they were killed")


@pytest.fixture
def box(dovecot: Dovecot, mail_user: str, tmp_path: Path) -> Box:
    return Box(dovecot, mail_user, tmp_path, delete=True)


def test_killed_at_random_moments_every_mail_is_there_once_and_whole_at_first_sight(
    box: Box, size: Size, seed: int
) -> None:
    with Watcher(box) as watcher:
        strike(box, watcher, size, seed, RUNNER)
        assert box.stored() == box.expected


def test_killed_at_random_moments_a_consumer_that_takes_each_file_at_once_gets_every_one_and_none_twice(
    box: Box, size: Size, seed: int, tmp_path: Path
) -> None:
    with Consumer(box, tmp_path) as consumer:
        strike(box, consumer, size, seed, RUNNER)


def test_killed_at_random_moments_the_command_line_goes_on_where_it_was(box: Box, size: Size, seed: int) -> None:
    size = attrs.evolve(size, mails=size.mails // 2, blows=size.blows // 2)  # it takes longer to begin
    with Watcher(box) as watcher:
        strike(box, watcher, size, seed, COMMAND_LINE)
        assert box.stored() == box.expected
