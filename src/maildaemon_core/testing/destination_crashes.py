"""What a destination must get right after whoever used it died at any step; a part of ``DestinationConformance``."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import ClassVar, Final, TypeVar

import attrs
import pytest

from maildaemon_core.errors import Trouble
from maildaemon_core.message import BatchId
from maildaemon_core.ports import Destination, Finding, Occupied, Put, Staged, StillStaged, Unknown, WasPublished
from maildaemon_core.progress import Receipt
from maildaemon_core.testing.destination_samples import Consumer, Torn, batch_of, put_of
from maildaemon_core.testing.faults import Crash

T = TypeVar("T")

Breaking = Callable[[int], Destination]
"""Gives a destination on the same place that raises ``Crash`` at its step of this number, from 0."""

FEWEST_STEPS: Final = 6
"""Before and after each of three calls."""
MOST_STEPS: Final = 400


class BetweenCalls:
    """A destination whose user dies before or after its ``step``-th call: what can be tried with any of them."""

    def __init__(self, destination: Destination, step: int) -> None:
        self._destination = destination
        self._left = step

    @property
    def place(self) -> str:
        return self._destination.place

    def check(self) -> Sequence[Finding]:
        return self._call(self._destination.check)

    def probe(self) -> Trouble | None:
        return self._call(self._destination.probe)

    def stage(self, batch: BatchId, puts: Sequence[Put]) -> Mapping[str, Staged | Trouble]:
        return self._call(lambda: self._destination.stage(batch, puts))

    def publish(self, batch: BatchId, staged: Sequence[Staged]) -> Mapping[str, Receipt | Occupied | Unknown | Trouble]:
        return self._call(lambda: self._destination.publish(batch, staged))

    def recover(
        self, batch: BatchId, staged: Sequence[Staged]
    ) -> Mapping[str, StillStaged | WasPublished | Unknown | Trouble]:
        return self._call(lambda: self._destination.recover(batch, staged))

    def forget(self, batch: BatchId) -> None:
        self._call(lambda: self._destination.forget(batch))

    def batches(self) -> Collection[BatchId]:
        return self._call(self._destination.batches)

    def close(self) -> None:
        pass

    def _call(self, call: Callable[[], T]) -> T:
        self._tick()
        answer = call()
        self._tick()
        return answer

    def _tick(self) -> None:
        if self._left == 0:
            self._left = -1
            raise Crash("between two calls")
        self._left -= 1


@attrs.define
class Ledger:
    """What the engine would remember: nothing that was not answered is in it."""

    batch: BatchId
    staged: list[Staged] = attrs.field(factory=list)
    stored: bool = False


class CrashLaws:
    """Somebody dies at each step in turn; another goes on as the engine does."""

    exactly_once: ClassVar[bool] = True
    """Whether each file comes once, whatever happens.  False where files cannot be renamed: a crash at the wrong moment
    may then show a file a second time, after somebody has taken the first; that none is lost is asked for all the same.
    """

    @pytest.fixture
    def destination(self) -> Destination:
        raise NotImplementedError("give a destination on an empty place")

    @pytest.fixture
    def consumer(self) -> Consumer:
        raise NotImplementedError("give somebody who looks at the same place")

    @pytest.fixture
    def breaking(self, destination: Destination) -> Breaking:
        """Who dies.  Without a way to make the kind itself die in the middle of a call, it is before and after each."""
        return lambda step: BetweenCalls(destination, step)

    @pytest.fixture
    def steps(self) -> Iterable[int]:
        """At which of its steps somebody dies, without an end: all, unless that takes too long with a slow server."""
        return itertools.count()

    @pytest.mark.parametrize("takes", [False, True], ids=["files stay", "files are taken"])
    def test_whatever_step_it_dies_at_nothing_is_lost_torn_or_doubled(
        self, destination: Destination, breaking: Breaking, consumer: Consumer, steps: Iterable[int], takes: bool
    ) -> None:
        step = 0
        for step in steps:
            assert step < MOST_STEPS, "it never comes to an end"
            data = {f"{step}/new/a": b"first %d" % step, f"{step}/b": b"second %d" % step * 1000}
            seen: Counter[tuple[str, bytes]] = Counter()
            ledger = Ledger(batch=batch_of(step, token=1))
            dying = breaking(step)
            try:
                self._work(dying, ledger, data)
                died = False
            except Crash:
                died = True
            finally:
                dying.close()
            seen.update(_looked(consumer, takes=takes))
            self._go_on(destination, ledger, data)
            seen.update(_looked(consumer, takes=takes))
            if not takes:
                seen = Counter(_looked(consumer, takes=True))
            self._judge(seen, data, step)
            assert list(destination.batches()) == [], f"left behind after step {step}"
            if not died:
                break
        assert step >= FEWEST_STEPS, "nobody died"

    def test_what_dies_in_the_middle_of_a_content_is_never_seen(
        self, destination: Destination, consumer: Consumer
    ) -> None:
        with pytest.raises(Crash):
            destination.stage(batch_of(1), [put_of("a", "a"), put_of("b", "b", Torn(Crash("killed")))])
        assert consumer.files() == {}
        for batch in destination.batches():
            destination.forget(batch)
        assert list(destination.batches()) == []
        assert consumer.files() == {}

    def _work(self, destination: Destination, ledger: Ledger, data: Mapping[str, bytes]) -> None:
        """As the engine does it: what was answered is remembered before the next thing is asked for."""
        puts = [put_of(f"{number}-1", path, content) for number, (path, content) in enumerate(data.items())]
        answers = destination.stage(ledger.batch, puts)
        staged = [answer for answer in answers.values() if isinstance(answer, Staged)]
        assert len(staged) == len(puts), answers
        ledger.staged = staged
        self._publish(destination, ledger)

    def _publish(self, destination: Destination, ledger: Ledger) -> None:
        said = destination.publish(ledger.batch, ledger.staged)
        assert all(isinstance(answer, Receipt) for answer in said.values()), said
        ledger.stored = True
        destination.forget(ledger.batch)

    def _go_on(self, destination: Destination, ledger: Ledger, data: Mapping[str, bytes]) -> None:
        """As the next worker of the engine does it."""
        if ledger.staged and not ledger.stored:
            became = destination.recover(ledger.batch, ledger.staged)
            assert set(became) == {each.part for each in ledger.staged}
            assert all(isinstance(answer, StillStaged | WasPublished) for answer in became.values()), became
            self._publish(destination, ledger)
        for batch in destination.batches():
            destination.forget(batch)
        if not ledger.stored:
            fresh = Ledger(batch=attrs.evolve(ledger.batch, token=ledger.batch.token + 1))
            self._work(destination, fresh, data)

    def _judge(self, seen: Counter[tuple[str, bytes]], data: Mapping[str, bytes], step: int) -> None:
        wanted = Counter(data.items())
        assert not wanted - seen, f"lost after step {step}: {wanted - seen}"
        assert set(seen) == set(wanted), f"torn after step {step}: {set(seen) - set(wanted)}"
        if self.exactly_once:
            assert seen == wanted, f"came twice after step {step}: {seen - wanted}"


def _looked(consumer: Consumer, *, takes: bool) -> list[tuple[str, bytes]]:
    files = consumer.files()
    if takes:
        for path in files:
            assert consumer.take(path) == files[path]
    return list(files.items())
