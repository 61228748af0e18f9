"""Killed at any moment, nothing is lost, doubled, half visible or tidied early, whoever takes the files away meanwhile.

Whatever the store: a file, or a database on a server that goes on without the one who is killed.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from tests.proofs.box import COMMAND_LINE, Box
from tests.proofs.samples import Size
from tests.proofs.striking import strike
from tests.proofs.watchers import Consumer, Watcher
from tests.servers.dovecot import Dovecot

pytestmark = [pytest.mark.server, pytest.mark.heavy, pytest.mark.timeout(3600)]


@pytest.fixture
def box(dovecot: Dovecot, mail_user: str, tmp_path: Path, store: str | None) -> Box:
    return Box(dovecot, mail_user, tmp_path, delete=True, store=store)


def test_killed_at_random_moments_every_mail_is_there_once_and_whole_at_first_sight(
    box: Box, size: Size, seed: int
) -> None:
    with Watcher(box) as watcher:
        strike(box, watcher, size, seed, box.run_and_kill)
        assert box.stored() == box.expected


def test_killed_at_random_moments_a_consumer_that_takes_each_file_at_once_gets_every_one_and_none_twice(
    box: Box, size: Size, seed: int, tmp_path: Path
) -> None:
    with Consumer(box, tmp_path) as consumer:
        strike(box, consumer, size, seed, box.run_and_kill)


def test_killed_at_random_moments_the_command_line_goes_on_where_it_was(box: Box, size: Size, seed: int) -> None:
    size = attrs.evolve(size, mails=size.mails // 2, blows=size.blows // 2)  # it takes longer to begin
    with Watcher(box) as watcher:
        strike(
            *(box, watcher, size, seed),
            lambda moment: box.run_and_kill(moment, command=COMMAND_LINE),
            command=COMMAND_LINE,
        )
        assert box.stored() == box.expected
