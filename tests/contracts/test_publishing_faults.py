"""Whatever goes wrong at whichever step on a server: in the end each file is there whole, and once if it is renamed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.files.paths import STAGING
from maildaemon_adapters.files.publishing import PublishingDestination
from maildaemon_adapters.files.tree import WHOLE, Fault, Showing, TreeError
from maildaemon_core.errors import MaildaemonError, Trouble
from maildaemon_core.ports import Occupied, Staged, StillStaged, Unknown, WasPublished
from maildaemon_core.progress import Receipt
from maildaemon_core.testing.destination_conformance import batch_of, put_of
from maildaemon_core.testing.faults import Crash
from tests.contracts.memory_tree import MemoryDisk, MemoryTree

DATA = {"new/er/a": b"first" * 100, "new/b": b"second", "c": b""}
ENOUGH = 60
"""Attempts after which something would be wrong with the way on, not with luck."""

Wrong = Fault | None
"""What goes wrong at a step: a fault of the server, or (None) the process dies."""


def raised(wrong: Wrong) -> BaseException:
    return Crash("killed") if wrong is None else TreeError(wrong, f"it says {wrong.value}")


@attrs.define
class World:
    """A server, a consumer who may take each file as soon as it is visible, and somebody who stores three files.

    ``plan`` are the steps that go wrong: how many go well before each, and what it is.
    """

    showing: Showing
    plan: Iterator[tuple[int, Wrong]]
    takes: Callable[[], bool]
    in_a_row: bool = False
    disk: MemoryDisk = attrs.field(factory=MemoryDisk)
    seen: Counter[tuple[str, bytes]] = attrs.field(factory=Counter)
    steps: int = 0
    left: int = 0
    wrong: Wrong = None
    calm: bool = False

    def __attrs_post_init__(self) -> None:
        self.disk.touched = self.look
        self._next()

    def _next(self) -> None:
        following = next(self.plan, None)
        if following is None:
            self.calm = True
        else:
            self.left, self.wrong = following

    def tick(self, call: str, path: str) -> None:
        self.steps += 1
        if self.calm:
            return
        if self.left > 0:
            self.left -= 1
            return
        wrong = self.wrong
        self._next()
        raise raised(wrong)

    def look(self) -> None:
        for path, data in self.disk.files().items():
            if path.startswith(f"{STAGING}/"):
                continue
            assert data == DATA[path], f"{path} is torn"
            if self.takes():
                self.seen[path, self.disk.take(path)] += 1

    def destination(self) -> PublishingDestination:
        tree = MemoryTree(
            self.disk,
            self.showing,
            real_folders=self.showing is Showing.RENAME,
            before=self.tick,
            after=self.tick,
        )
        return PublishingDestination(tree)

    def story(self) -> None:
        """As the engine does it, until all is stored; whoever dies is followed by another."""
        destination = self.destination()
        batch, staged, stored = 0, list[Staged](), False
        for _ in range(ENOUGH):
            try:
                if not staged:
                    batch += 1
                    staged = self._stage(destination, batch)
                if staged and not stored:
                    stored = self._publish(destination, batch, staged)
                if stored:
                    destination.forget(batch_of(batch))
                    for other in destination.batches():
                        destination.forget(other)
                    break
            except MaildaemonError:
                pass  # paused; the next sweep goes on
            except Crash:
                destination = self.destination()
        else:
            raise AssertionError("it never comes to rest")
        for path, data in self.disk.files().items():
            assert not path.startswith(f"{STAGING}/"), f"left behind: {path}"
            self.seen[path, data] += 1

    def _stage(self, destination: PublishingDestination, batch: int) -> list[Staged]:
        puts = [put_of(f"{number}-1", path, data) for number, (path, data) in enumerate(DATA.items())]
        answers = destination.stage(batch_of(batch), puts)
        return [each for each in answers.values() if isinstance(each, Staged)] if _all(answers, Staged) else []

    def _publish(self, destination: PublishingDestination, batch: int, staged: Sequence[Staged]) -> bool:
        became = destination.recover(batch_of(batch), staged)
        assert not any(isinstance(each, Unknown) for each in became.values()), became
        open_parts = [each for each in staged if isinstance(became[each.part], StillStaged)]
        answers = destination.publish(batch_of(batch), open_parts)
        assert not any(isinstance(each, Occupied | Unknown) for each in answers.values()), answers
        return _all(answers, Receipt) and _all(became, StillStaged, WasPublished)

    def judge(self) -> None:
        wanted = Counter(DATA.items())
        assert not wanted - self.seen, f"lost: {wanted - self.seen}"
        assert set(self.seen) == set(wanted)
        if self.showing is Showing.RENAME:
            assert self.seen == wanted, f"came twice: {self.seen - wanted}"


def _all(answers: object, *kinds: type) -> bool:
    assert isinstance(answers, dict)
    assert all(isinstance(each, (*kinds, Trouble)) for each in answers.values()), answers
    return all(isinstance(each, kinds) for each in answers.values())


SPURIOUS = {Fault.EXISTS}
"""What cannot be told from the truth: a server that says so without reason makes a file have another name."""


@pytest.mark.parametrize("showing", Showing)
@pytest.mark.parametrize("takes", [False, True], ids=["files stay", "files are taken"])
@pytest.mark.parametrize("wrong", [None, *(fault for fault in Fault if fault not in SPURIOUS)])
def test_one_thing_goes_wrong_at_any_step(showing: Showing, takes: bool, wrong: Wrong) -> None:
    for step in itertools.count():
        world = World(showing, iter([(step, wrong)]), lambda: takes)
        world.story()
        world.judge()
        if not world.calm:
            assert step > 30, "there were hardly any steps"
            return


@given(
    showing=st.sampled_from(Showing),
    plan=st.lists(
        st.tuples(
            st.integers(0, 40), st.sampled_from([None, *WHOLE, Fault.OTHER, Fault.MISSING, Fault.FULL, Fault.DENIED])
        ),
        max_size=12,
    ),
    takes=st.lists(st.booleans(), min_size=1, max_size=8),
)
def test_many_things_go_wrong_one_after_the_other(
    showing: Showing, plan: list[tuple[int, Wrong]], takes: list[bool]
) -> None:
    moods = itertools.cycle(takes)
    world = World(showing, iter(plan), lambda: next(moods))
    world.story()
    world.judge()
