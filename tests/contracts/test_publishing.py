"""A destination made of a tree keeps the laws of destinations, and its own: what lies where, and in which words."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from threading import Barrier, current_thread

import pytest

from maildaemon_adapters.files.paths import STAGING
from maildaemon_adapters.files.publishing import PublishingDestination
from maildaemon_adapters.files.tree import WHOLE, Fault, Showing, Tree, TreeError
from maildaemon_core.errors import DestinationUnavailable, LoginRefused, Trouble
from maildaemon_core.ports import Destination, Level, Occupied, Staged, StillStaged
from maildaemon_core.progress import Receipt
from maildaemon_core.testing.destination_conformance import (
    Breaking,
    Consumer,
    DestinationConformance,
    batch_of,
    published_of,
    put_of,
    staged_of,
)
from maildaemon_core.testing.faults import Crash
from tests.contracts.memory_tree import MemoryDisk, MemoryTree, Tick, nothing


class Shelf:
    """A consumer of a memory disk: sees all files but those in the staging folder."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._disk = disk

    def files(self) -> Mapping[str, bytes]:
        return {path: data for path, data in self._disk.files().items() if not path.startswith(f"{STAGING}/")}

    def take(self, path: str) -> bytes:
        return self._disk.take(path)


class TestRenaming(DestinationConformance):
    """As most servers have it."""

    bounded_memory = False  # the server is in this process

    @pytest.fixture
    def disk(self) -> MemoryDisk:
        return MemoryDisk()

    def tree(self, disk: MemoryDisk, tick: Tick = nothing) -> Tree:
        return MemoryTree(disk, before=tick, after=tick)

    @pytest.fixture
    def destination(self, disk: MemoryDisk) -> Destination:
        return PublishingDestination(self.tree(disk))

    @pytest.fixture
    def colleague(self, disk: MemoryDisk) -> Destination:
        return PublishingDestination(self.tree(disk), verify="digest")

    @pytest.fixture
    def breaking(self, disk: MemoryDisk) -> Breaking:
        def broken(step: int) -> Destination:
            steps = itertools.count()

            def tick(call: str, path: str) -> None:
                if next(steps) == step:
                    raise Crash(call)

            return PublishingDestination(self.tree(disk, tick))

        return broken

    @pytest.fixture
    def consumer(self, disk: MemoryDisk) -> Consumer:
        return Shelf(disk)


class TestRenamingInThreads(TestRenaming):
    """With several calls at once."""

    def tree(self, disk: MemoryDisk, tick: Tick = nothing) -> Tree:
        return MemoryTree(disk, at_once=8, before=tick, after=tick)


class TestCopying(TestRenaming):
    """As object stores have it."""

    exactly_once = False

    def tree(self, disk: MemoryDisk, tick: Tick = nothing) -> Tree:
        return MemoryTree(disk, Showing.COPY, at_once=2, real_folders=False, before=tick, after=tick)


# ------------------------------------------------------------------------------------------------ what lies where, when


class Recorded:
    """What a tree was asked, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def __call__(self, call: str, path: str) -> None:
        if call != "piece":
            self.calls.append((call, path))

    def drained(self) -> list[str]:
        said = [f"{call} {path}" for call, path in self.calls]
        self.calls.clear()
        return said


BATCH = f"{STAGING}/{batch_of(1)}"


def test_the_marker_is_written_first_and_removed_first_and_round_trips_are_few() -> None:
    told = Recorded()
    destination = PublishingDestination(MemoryTree(MemoryDisk(folders={"", STAGING, "out"}), before=told))
    staged = staged_of(destination, batch_of(1), [put_of("a", "out/a"), put_of("b", "out/b")])
    assert told.drained() == [
        f"make_folder {BATCH}",
        f"write {BATCH}/standing",
        *(f"{call} {BATCH}/{part}" for part in "ab" for call in ("write", "stat")),
        f"stat {BATCH}/standing",
    ]
    destination.publish(batch_of(1), staged)
    assert told.drained() == [
        f"stat {BATCH}/a",
        "make_folder out",
        "publish out/a",
        f"stat {BATCH}/b",
        "publish out/b",
    ]
    destination.forget(batch_of(1))
    assert told.drained() == [f"remove {BATCH}/standing", f"names {BATCH}", f"remove_folder {BATCH}"]
    staged = staged_of(destination, batch_of(2), [put_of("a", "out/c")])
    destination.publish(batch_of(2), staged)
    assert "make_folder out" not in told.drained(), "it is known to be there"


def test_a_folder_that_was_removed_meanwhile_is_made_again() -> None:
    disk = MemoryDisk()
    destination = PublishingDestination(MemoryTree(disk))
    published_of(destination, batch_of(1), [put_of("a", "deep/er/a", b"1")])
    disk.take("deep/er/a")
    disk.folders -= {"deep", "deep/er"}
    published_of(destination, batch_of(2), [put_of("a", "deep/er/b", b"2")])
    assert Shelf(disk).files() == {"deep/er/b": b"2"}


@pytest.mark.parametrize("moment", ["make_folder", "publish"])
@pytest.mark.parametrize("said", [Fault.MISSING, Fault.EXISTS, Fault.OTHER])
def test_folders_that_a_consumer_removes_all_the_time_are_made_again_and_again(moment: str, said: Fault) -> None:
    """``said`` of a folder that was there when it was to be made, and is gone when it is looked at."""
    disk = MemoryDisk()
    times = itertools.count(1)

    def tick(call: str, path: str) -> None:
        if call == moment and not path.startswith(STAGING) and next(times) < 15:
            disk.folders -= {"deep", "deep/er", "deep/er/still"}
            if call == "make_folder":
                raise TreeError(said, "what it says then")

    destination = PublishingDestination(MemoryTree(disk, before=tick))
    published_of(destination, batch_of(1), [put_of("a", "deep/er/still/a", b"1")])
    assert Shelf(disk).files() == {"deep/er/still/a": b"1"}
    assert next(times) > 15


def test_a_root_that_is_missing_is_made_once_and_not_when_it_went_away() -> None:
    disk = MemoryDisk(folders=set())
    destination = PublishingDestination(MemoryTree(disk))
    assert destination.probe() is None
    assert list(destination.batches()) == []
    [finding] = destination.check()
    assert finding.level is Level.WARNING
    assert disk.folders == set()
    staged = staged_of(destination, batch_of(1), [put_of("a", "a")])
    mounted, disk.folders = disk.folders, set()
    data, disk.data = disk.data, {}
    for attempt in (
        lambda: destination.stage(batch_of(2), [put_of("a", "b")]),
        lambda: destination.publish(batch_of(1), staged),
        lambda: destination.recover(batch_of(1), staged),
    ):
        with pytest.raises(DestinationUnavailable, match="not there") as caught:
            attempt()
        assert "mount it again" in caught.value.remedy
    trouble = destination.probe()
    assert trouble is not None
    assert trouble.transient
    with pytest.raises(DestinationUnavailable, match="not there"):  # nor does somebody new take it for an empty one
        PublishingDestination(MemoryTree(disk)).recover(batch_of(1), staged)
    assert disk.folders == set()
    disk.folders, disk.data = mounted, data
    assert destination.recover(batch_of(1), staged) == {"a": StillStaged()}


def test_what_somebody_died_over_while_forgetting_is_found_and_removed() -> None:
    disk = MemoryDisk()
    destination = PublishingDestination(MemoryTree(disk))
    staged = staged_of(destination, batch_of(1), [put_of("a", "a"), put_of("b", "b")])
    disk.take(f"{BATCH}/standing")  # that is how far he came
    other = PublishingDestination(MemoryTree(disk))
    assert other.recover(batch_of(1), staged) == {"a": StillStaged(), "b": StillStaged()}
    assert list(other.batches()) == [batch_of(1)]
    other.forget(batch_of(1))
    assert disk.files() == {}
    assert list(other.batches()) == []


def test_a_trial_that_somebody_died_over_is_removed_the_next_day() -> None:
    disk = MemoryDisk()
    now = int(time.time())
    disk.put(f"{STAGING}/trial-{now - 100_000}-ab/sample", b"left")
    disk.put(f"{STAGING}/trial-{now - 10}-cd/sample", b"somebody tries just now")
    disk.put(f"{STAGING}/something else", b"not ours")
    destination = PublishingDestination(MemoryTree(disk))
    assert all(finding.level is Level.FINE for finding in destination.check())
    assert set(disk.files()) == {f"{STAGING}/trial-{now - 10}-cd/sample", f"{STAGING}/something else"}


def test_a_part_called_like_the_marker_is_refused() -> None:
    destination = PublishingDestination(MemoryTree(MemoryDisk()))
    answer = destination.stage(batch_of(1), [put_of("standing", "a")])["standing"]
    assert isinstance(answer, Trouble)
    assert list(destination.batches()) == []


def test_nothing_is_left_of_a_batch_of_which_nothing_could_be_staged() -> None:
    disk = MemoryDisk()
    destination = PublishingDestination(MemoryTree(disk))
    assert isinstance(destination.stage(batch_of(1), [put_of("a", "../a")])["a"], Trouble)
    assert disk.files() == {}
    staged_of(destination, batch_of(1), [put_of("b", "b")])
    assert isinstance(destination.stage(batch_of(1), [put_of("a", "../a")])["a"], Trouble)
    assert set(disk.files()) == {f"{BATCH}/b", f"{BATCH}/standing"}, "what was staged before is still needed"


# ----------------------------------------------------------------------------------------------------- what is verified


class Lossy(MemoryTree):
    """A server that says that all went well, and keeps something else than it was sent."""

    keeps: Callable[[bytes], bytes] = staticmethod(lambda data: data)

    def write(self, path: str, pieces: Iterable[bytes], size: int | None = None) -> None:
        data = b"".join(pieces)
        super().write(path, [data if path.endswith("/standing") else type(self).keeps(data)], size)


class Shortening(Lossy):
    keeps = staticmethod(lambda data: data[:-1])


class Falsifying(Lossy):
    keeps = staticmethod(lambda data: data.replace(b"1", b"9"))


@pytest.mark.parametrize("kind", [Shortening, Falsifying])
def test_what_the_server_keeps_otherwise_is_not_staged(kind: type[Lossy]) -> None:
    disk = MemoryDisk()
    destination = PublishingDestination(kind(disk), verify="digest")
    answer = destination.stage(batch_of(1), [put_of("a", "a", b"1000 EUR")])["a"]
    assert isinstance(answer, Trouble)
    assert answer.error == "DestinationFailed"
    assert answer.transient
    assert disk.files() == {}


def test_without_a_digest_only_the_size_is_verified() -> None:
    by_size = PublishingDestination(Falsifying(MemoryDisk()))
    assert isinstance(by_size.stage(batch_of(1), [put_of("a", "a", b"1000 EUR")])["a"], Staged)
    shortened = PublishingDestination(Shortening(MemoryDisk()))
    answer = shortened.stage(batch_of(1), [put_of("a", "a", b"1000 EUR")])["a"]
    assert isinstance(answer, Trouble)
    assert "8 bytes were to be written, and what lies there has 7" in answer.message


def test_a_part_that_the_server_lost_the_end_of_is_not_published() -> None:
    disk = MemoryDisk()
    destination = PublishingDestination(MemoryTree(disk))
    staged = staged_of(destination, batch_of(1), [put_of("a", "a", b"complete"), put_of("b", "b")])
    disk.data[f"{BATCH}/a"] = b"comp"
    answers = destination.publish(batch_of(1), staged)
    assert isinstance(answers["b"], Receipt)
    trouble = answers["a"]
    assert isinstance(trouble, Trouble)
    assert "8 bytes, 4 are left" in trouble.message
    assert set(Shelf(disk).files()) == {"b"}


def test_a_receipt_has_the_version_that_the_server_gave() -> None:
    disk = MemoryDisk()
    destination = PublishingDestination(MemoryTree(disk))
    staged = staged_of(destination, batch_of(1), [put_of("a", "a")])
    receipt = destination.publish(batch_of(1), staged)["a"]
    assert isinstance(receipt, Receipt)
    assert receipt.etag == f'"{disk.versions}"'


# ------------------------------------------------------------------------------------------------- copies that are left


def copying(disk: MemoryDisk, tick: Tick = nothing) -> PublishingDestination:
    return PublishingDestination(MemoryTree(disk, Showing.COPY, real_folders=False, before=tick))


def test_a_copy_that_somebody_died_after_is_taken_for_published() -> None:
    def dies(call: str, path: str) -> None:
        if call == "unlink":
            raise Crash(call)

    disk = MemoryDisk()
    staged = staged_of(copying(disk), batch_of(1), [put_of("a", "a", b"ours")])
    with pytest.raises(Crash):
        copying(disk, dies).publish(batch_of(1), staged)
    assert set(disk.files()) == {"a", f"{BATCH}/a", f"{BATCH}/standing"}
    assert copying(disk).recover(batch_of(1), staged) == {"a": StillStaged()}
    assert isinstance(copying(disk).publish(batch_of(1), staged)["a"], Receipt)
    assert set(disk.files()) == {"a", f"{BATCH}/standing"}


@pytest.mark.parametrize("visible", [b"ours", b"his!", b"another's, of another size"])
@pytest.mark.parametrize("showing", Showing)
def test_another_file_in_its_place_is_never_taken_for_it(showing: Showing, visible: bytes) -> None:
    disk = MemoryDisk()
    destination = PublishingDestination(MemoryTree(disk, showing))
    staged = staged_of(destination, batch_of(1), [put_of("a", "a", b"ours")])
    disk.put("a", visible)
    for _ in range(2):
        assert PublishingDestination(MemoryTree(disk, showing)).publish(batch_of(1), staged) == {"a": Occupied()}
    assert disk.files() == {"a": visible, f"{BATCH}/a": b"ours", f"{BATCH}/standing": disk.files()[f"{BATCH}/standing"]}


# -------------------------------------------------------------------------------------------------------------- words


def failing(fault: Fault, at: str = "", retry_after: float | None = None) -> Tick:
    """Every call fails, or those on paths that end like this."""

    def tick(call: str, path: str) -> None:
        if path.endswith(at):
            raise TreeError(fault, "Quota exceeded (552)", retry_after=retry_after)

    return tick


@pytest.mark.parametrize("fault", Fault)
def test_what_concerns_one_file_is_its_trouble_and_what_concerns_all_is_raised(fault: Fault) -> None:
    disk = MemoryDisk()
    tree = MemoryTree(disk, before=failing(fault, at=f"{batch_of(1)}/a", retry_after=30))
    destination = PublishingDestination(tree)
    puts = [put_of("a", "one.pdf"), put_of("b", "two.pdf")]
    if fault in WHOLE:
        kind = LoginRefused if fault is Fault.LOGIN else DestinationUnavailable
        with pytest.raises(kind, match=r"memory://.* Quota exceeded \(552\)") as caught:
            destination.stage(batch_of(1), puts)
        assert caught.value.remedy[0].islower()
        assert caught.value.retry_after == (None if fault is Fault.LOGIN else 30)
        return
    answers = destination.stage(batch_of(1), puts)
    assert isinstance(answers["b"], Staged)
    trouble = answers["a"]
    assert isinstance(trouble, Trouble)
    assert trouble.message == f"one.pdf cannot be stored below {tree.place}: Quota exceeded (552)"
    assert trouble.remedy[0].islower()
    assert trouble.transient == (fault not in {Fault.NAME, Fault.REFUSED_FILE})
    assert trouble.error == {
        Fault.FULL: "DestinationFull",
        Fault.DENIED: "DestinationRefused",
        Fault.BLOCKED: "PathBlocked",
        Fault.NAME: "PathRefused",
        Fault.REFUSED_FILE: "FileRefused",
    }.get(fault, "DestinationFailed")


@pytest.mark.parametrize("fault", Fault)
def test_whatever_is_wrong_looking_at_it_says_so_and_raises_nothing(fault: Fault) -> None:
    asked = Recorded()

    def tick(call: str, path: str) -> None:
        asked(call, path)
        failing(fault)(call, path)

    destination = PublishingDestination(MemoryTree(MemoryDisk(), before=tick))
    [finding] = destination.check()
    assert finding.level is Level.FAULT
    assert "Quota exceeded (552)" in finding.message
    assert finding.remedy
    assert len(asked.calls) == 1, "whoever cannot be reached is not asked again and again"
    trouble = destination.probe()
    assert trouble is not None
    assert "Quota exceeded (552)" in trouble.message


def test_a_file_where_a_folder_belongs_is_the_trouble_of_what_goes_there() -> None:
    disk = MemoryDisk()
    disk.put("taken", b"a file")
    destination = PublishingDestination(MemoryTree(disk))
    puts = [put_of("a", "taken/a"), put_of("b", "taken/deep/b"), put_of("c", "free/c")]
    answers = destination.publish(batch_of(1), staged_of(destination, batch_of(1), puts))
    assert isinstance(answers["c"], Receipt)
    for part in "ab":
        trouble = answers[part]
        assert isinstance(trouble, Trouble)
        assert (trouble.error, trouble.transient) == ("PathBlocked", True)
        assert "taken" in trouble.message


class Overwriting(MemoryTree):
    """A server that puts one file over another."""

    def publish(self, source: str, target: str) -> str | None:
        self.remove(target)
        return super().publish(source, target)


def test_a_server_that_overwrites_is_found_out() -> None:
    disk = MemoryDisk()
    [finding] = PublishingDestination(Overwriting(disk)).check()
    assert finding.level is Level.FAULT
    assert "over another" in finding.message
    assert disk.files() == {}


def test_where_files_are_copied_it_is_said_that_they_may_come_twice() -> None:
    findings = PublishingDestination(MemoryTree(MemoryDisk(), Showing.COPY)).check()
    assert any("at least once" in finding.message for finding in findings)
    findings = PublishingDestination(MemoryTree(MemoryDisk())).check()
    assert not any("at least once" in finding.message for finding in findings)


# ------------------------------------------------------------------------------------------------------------ threads

_who: ContextVar[str] = ContextVar("who", default="nobody")


def test_what_is_done_in_threads_is_done_in_the_context_of_the_caller() -> None:
    """So that what confines the work confines its connections."""
    seen = set()
    together = Barrier(4)

    def tick(call: str, path: str) -> None:
        if call == "write" and not path.endswith("/standing"):
            together.wait(10)  # so they are four threads, or this breaks
            seen.add((_who.get(), current_thread().name))

    destination = PublishingDestination(MemoryTree(MemoryDisk(), at_once=4, before=tick))
    token = _who.set("a confined mailbox")
    try:
        staged_of(destination, batch_of(1), [put_of(f"{number}", f"{number}") for number in range(8)])
    finally:
        _who.reset(token)
    assert {who for who, _ in seen} == {"a confined mailbox"}
    assert len(seen) >= 4


def test_when_the_server_goes_away_in_the_middle_the_rest_is_left() -> None:
    asked = Recorded()

    def tick(call: str, path: str) -> None:
        asked(call, path)
        if call == "write" and path.endswith("/3"):
            raise TreeError(Fault.GONE, "connection reset")

    destination = PublishingDestination(MemoryTree(MemoryDisk(), at_once=2, before=tick))
    with pytest.raises(DestinationUnavailable, match="connection reset"):
        destination.stage(batch_of(1), [put_of(f"{number}", f"{number}") for number in range(100)])
    assert len(asked.calls) < 60
