"""How much travels at once, how few commits and round trips that takes, and that reading ahead overlaps storing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event as Signal
from threading import current_thread

from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.engine.sweep import Bounds
from maildaemon_core.errors import (
    Trouble,
)
from maildaemon_core.message import BatchId, MessageRef
from maildaemon_core.options import Aftercare
from maildaemon_core.ports import Fetched, Known, Put, Settled, Staged, Unfetched, Vanished
from maildaemon_core.testing.memory_destination import MemoryDestination
from maildaemon_core.testing.memory_source import MemorySource
from tests.engine.story import Story, counted, mail


@given(st.lists(st.integers(0, 3000), max_size=12), st.integers(1, 4), st.integers(1, 6000))
def test_batches_are_bounded_by_count_and_bytes(sizes: list[int], mails: int, size: int) -> None:
    story = Story()
    raws = [mail(f"mail {number}", text="x" * length + "\n") for number, length in enumerate(sizes)]
    length = {story.server.plant(raw): len(raw) for raw in raws}
    assert story.sweep(bounds=Bounds(mails=mails, bytes=size)).counts.stored == len(raws)
    for refs in story.server.fetches:
        assert len(refs) <= mails
        assert len(refs) == 1 or sum(length[ref] for ref in refs) <= size
    assert story.spool.most <= 2 * mails


def test_a_batch_takes_few_commits_and_one_round_trip_of_each_kind() -> None:
    story = Story(delete_mails_on_server=True)
    settles: list[int] = []

    class Counting(MemorySource):
        def settle(self, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Settled | Trouble]:
            settles.append(len(mails))
            return super().settle(mails, care)

    story.open_source = lambda: Counting(story.server, story.spool, story.fuse)  # type: ignore[method-assign]
    for number in range(60):
        story.server.plant(mail(f"mail {number}"))
    story.sweep(bounds=Bounds(mails=20))
    assert settles == [20, 20, 20]
    assert [len(refs) for refs in story.server.fetches] == [20, 20, 20]
    assert story.fuse.log.count("destination.forget") == 3
    # taken, planned, stored, settled; and one admission
    assert story.commits() <= 3 * 4 + 1


class Watched(MemorySource):
    """Tells when a fetch begins."""

    def __init__(self, story: Story, begun: list[Signal]) -> None:
        super().__init__(story.server, story.spool, story.fuse)
        self._begun = begun

    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished | Unfetched]:
        self._begun[len(self._server.fetches)].set()
        return super().fetch(refs)


class Patient(MemoryDestination):
    """Stages a batch only once the following one is being fetched."""

    def __init__(self, begun: list[Signal]) -> None:
        super().__init__()
        self._begun = begun
        self._batches = 0
        self.overlapped: list[bool] = []
        self.story: Story | None = None
        self.most_fetched = 0

    def stage(self, batch: BatchId, puts: Sequence[Put]) -> dict[str, Staged | Trouble]:
        self._batches += 1
        if self._batches < len(self._begun):
            self.overlapped.append(self._begun[self._batches].wait(20))
        assert self.story is not None
        self.most_fetched = max(self.most_fetched, len(self.story.server.fetches) - self._batches)
        return dict(super().stage(batch, puts))


def test_the_next_batch_is_fetched_while_this_one_is_stored_and_never_more_than_that() -> None:
    begun = [Signal() for _ in range(4)]
    story = Story()
    patient = Patient(begun)
    patient.story = story
    story.places["one"] = patient
    story.open_source = lambda: Watched(story, begun)  # type: ignore[method-assign]
    for number in range(8):
        story.server.plant(mail(f"mail {number}"))
    with ThreadPoolExecutor(1) as lane:
        report = story.sweep(lane=lane, bounds=Bounds(mails=2))
    assert counted(report) == (8, 0, 0, 0)
    assert patient.overlapped == [True, True, True]
    assert patient.most_fetched <= 1
    assert story.spool.most <= 4


def test_the_source_is_used_by_one_thread_only() -> None:
    story = Story(delete_mails_on_server=True)
    users: set[str] = set()
    story.fuse.hook = lambda place: users.add(current_thread().name) if place.startswith("source") else None
    for number in range(5):
        story.server.plant(mail(f"mail {number}"))
    with ThreadPoolExecutor(1, thread_name_prefix="source") as lane:
        story.sweep(lane=lane, bounds=Bounds(mails=2))
    assert users == {"source_0"}


def test_a_sweep_that_is_stopped_finishes_what_it_is_storing_and_the_next_goes_on() -> None:
    story = Story(delete_mails_on_server=True)
    for number in range(10):
        story.server.plant(mail(f"mail {number}"))
    report = story.sweep(bounds=Bounds(mails=2), stopping=lambda: len(story.one.published) >= 4)
    assert report.state == "paused"
    assert report.trouble is not None
    assert report.trouble.error == "Stopped"
    assert 4 <= report.counts.stored < 10
    assert report.counts.pending == 10 - report.counts.stored
    assert not report.counts.failed
    assert len(story.server.contents()) == 10 - report.tidied
    last = story.sweep()
    assert counted(last) == (10 - report.tidied, 0, 0, 0)
    assert report.tidied + last.tidied == 10
    assert story.server.contents() == []
    assert len(story.one.published) == 10
    assert not any(entry.attempts for entry in story.store.all())
