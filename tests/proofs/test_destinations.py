"""Stored on any kind of server, while the line to it is cut and the process killed, every file comes whole.

Whoever takes each file as soon as it can be seen, on the server's own disk or with another client, never gets a torn
one and misses none; where files are renamed none comes twice, and where they are copied it is counted how many do.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from tests.proofs.box import Box
from tests.proofs.places import KINDS, Line, Place, place_of
from tests.proofs.samples import Size
from tests.proofs.striking import Blow, strike
from tests.servers.dovecot import Dovecot
from tests.servers.proxy import Fault

pytestmark = [pytest.mark.server, pytest.mark.heavy, pytest.mark.timeout(3600)]

SMALL = Size(mails=21, large=1, large_bytes=3 << 20, blows=2)
FULL = Size(mails=310, large=4, large_bytes=20 << 20, blows=30)
EARLY = 0.8
"""Few strikes of a small size come too late."""


@pytest.fixture
def size(heavy: bool) -> Size:
    return FULL if heavy else SMALL


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    named: str = request.param
    return named


@pytest.fixture
def place(kind: str, tmp_path: Path) -> Iterator[Place]:
    with place_of(kind, tmp_path) as place:
        yield place


def damage(line: Line, chance: random.Random) -> str:
    """Something happens to the line just now: what, for the record."""
    match chance.choice(["cut", "away", "brittle"]):
        case "cut":
            line.cut()
            return "a cut"
        case "away":
            line.cut(Fault(refuse=True))
            return "away for the rest of the run"
        case _:
            octets = int(10 ** chance.uniform(2, 6.5))
            line.spoil(Fault(direction="up", **{chance.choice(["cut_after", "reset_after"]): octets}))  # type: ignore[arg-type]
            return f"each connection breaks after {octets} bytes"


def blows(box: Box, line: Line, chance: random.Random, felt: Counter[str]) -> Blow:
    """In turn: the process is killed, the line is damaged, the line is damaged and the process killed soon after."""
    turns = cycle(chance.sample([("kill",), ("damage",), ("damage", "kill")], 3))

    def blow(moment: float) -> bool:
        turn = next(turns)
        running = box.begin()
        running.wait_until_ready()
        time.sleep(moment * EARLY)
        alive = running.alive
        what = [damage(line, chance)] if "damage" in turn else []
        if "kill" in turn:
            time.sleep(chance.uniform(0, 0.3) if what else 0)
            running.kill()
            what.append("killed")
        else:
            what.append(f"exit {running.end(within=120).exit_code}")
        line.rest()
        felt[" and ".join(turn)] += alive
        print(f"{moment * EARLY:.3f} s: {', '.join(what)}{'' if alive else ', too late'}")
        return alive

    return blow


def test_whoever_takes_each_file_at_once_gets_every_one_whole_while_lines_are_cut_and_processes_killed(
    kind: str, place: Place, dovecot: Dovecot, mail_user: str, tmp_path: Path, size: Size, seed: int
) -> None:
    box = place.box(dovecot, mail_user, tmp_path)
    felt: Counter[str] = Counter()
    began = time.monotonic()
    with place.consumer(box) as consumer:
        blow = blows(box, place.line, random.Random(seed), felt)
        try:
            strike(box, consumer, size, seed, blow, last=["again"], exactly_once=place.renames)
        finally:
            seen, expected = consumer.seen(), box.expected
            print(
                f"{kind}: {expected.total()} files, torn {len(consumer.faults)},"
                f" missing {(expected - seen).total()}, twice {(seen - expected).total()};"
                f" {time.monotonic() - began:.0f} s, struck {dict(felt)}"
            )
