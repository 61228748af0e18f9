"""Empty files that announce others: after each file, once, whatever went wrong on the way."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import attrs
import pytest

from maildaemon_adapters.files.publishing import PublishingDestination
from maildaemon_core.engine.marking import Marking, part_name
from maildaemon_core.errors import DestinationUnavailable, Trouble
from maildaemon_core.options import DestinationOptions, MailArchiving
from maildaemon_core.ports import Destination, Occupied, Staged, StillStaged, Unknown, WasPublished
from maildaemon_core.progress import Outcome, Receipt, Stage
from maildaemon_core.testing.destination_conformance import (
    Breaking,
    Consumer,
    DestinationConformance,
    batch_of,
    put_of,
    staged_of,
)
from maildaemon_core.testing.faults import PLACES, Crash
from maildaemon_core.testing.memory_destination import MemoryDestination
from tests.contracts.memory_tree import MemoryDisk, MemoryTree
from tests.engine.story import Story, mail

A, B = part_name("1-1", marked=True), part_name("1-2", marked=False)


class Taker:
    """A consumer of a memory destination."""

    def __init__(self, place: MemoryDestination) -> None:
        self._place = place

    def files(self) -> Mapping[str, bytes]:
        return dict(self._place.visible)

    def take(self, path: str) -> bytes:
        return self._place.take(path)


class TestWithoutMarkers(DestinationConformance):
    """Where no file is to be announced, nothing is different."""

    bounded_memory = False  # memory is what the files lie in

    @pytest.fixture
    def place(self) -> MemoryDestination:
        return MemoryDestination()

    @pytest.fixture
    def destination(self, place: MemoryDestination) -> Destination:
        return Marking(place)

    @pytest.fixture
    def breaking(self, place: MemoryDestination) -> Breaking:
        def broken(step: int) -> Destination:
            place.fuse.arm(step)
            return Marking(place)

        return broken

    @pytest.fixture
    def consumer(self, place: MemoryDestination) -> Consumer:
        return Taker(place)


@pytest.fixture
def place() -> MemoryDestination:
    return MemoryDestination()


def test_a_marker_comes_after_its_file_and_only_where_one_is_wanted(place: MemoryDestination) -> None:
    staged = staged_of(Marking(place), batch_of(1), [put_of(A, "x/a.eml", b"one"), put_of(B, "b.eml", b"two")])
    assert place.visible == {}
    answers = Marking(place).publish(batch_of(1), staged)
    assert {part: type(answer) for part, answer in answers.items()} == {A: Receipt, B: Receipt}
    assert place.published == [("x/a.eml", b"one"), ("b.eml", b"two"), ("x/a.eml.done", b"")]


def test_a_file_that_is_not_out_is_not_announced(place: MemoryDestination) -> None:
    place.visible["a.eml"] = b"somebody else's"
    staged = staged_of(Marking(place), batch_of(1), [put_of(A, "a.eml")])
    assert Marking(place).publish(batch_of(1), staged) == {A: Occupied()}
    assert place.published == []
    [other] = [attrs.evolve(each, path="a-1.eml") for each in staged]
    assert isinstance(Marking(place).publish(batch_of(1), [other])[A], Receipt)
    assert [path for path, _ in place.published] == ["a-1.eml", "a-1.eml.done"]


def test_an_announcement_that_is_there_already_is_enough(place: MemoryDestination) -> None:
    place.visible["a.eml.done"] = b"left by somebody"
    staged = staged_of(Marking(place), batch_of(1), [put_of(A, "a.eml")])
    assert isinstance(Marking(place).publish(batch_of(1), staged)[A], Receipt)
    assert place.visible["a.eml.done"] == b"left by somebody"


def test_a_marker_that_cannot_be_staged_is_the_trouble_of_its_file(place: MemoryDestination) -> None:
    refused = Trouble(error="PathRefused", message="too long", transient=False)
    place.refuse = lambda path: refused if path.endswith(".done") else None
    answers = Marking(place).stage(batch_of(1), [put_of(A, "a.eml"), put_of(B, "b.eml")])
    assert answers[A] == refused
    assert isinstance(answers[B], Staged)
    assert set(answers) == {A, B}


def _take(place: MemoryDestination, path: str) -> None:
    place.take(path)


def test_a_file_that_is_out_without_its_marker_is_published_again_to_get_it(place: MemoryDestination) -> None:
    staged = staged_of(Marking(place), batch_of(1), [put_of(A, "a.eml", b"one")])
    place.consumer = lambda path: _take(place, path)
    place.fuse.arm(1, place="destination.publish", error=lambda at: DestinationUnavailable("gone"))
    with pytest.raises(DestinationUnavailable):
        Marking(place).publish(batch_of(1), staged)
    assert place.taken == [("a.eml", b"one")]
    assert Marking(place).recover(batch_of(1), staged) == {A: StillStaged(out=True)}
    assert isinstance(Marking(place).publish(batch_of(1), staged)[A], Receipt)
    assert isinstance(Marking(place).recover(batch_of(1), staged)[A], WasPublished)
    assert place.taken == [("a.eml", b"one"), ("a.eml.done", b"")]
    Marking(place).forget(batch_of(1))
    assert Marking(place).recover(batch_of(1), staged) == {A: Unknown()}


def dismissed_before_it_was_announced() -> Story:
    """A mail that failed before, whose file is out and taken, without its marker; then a person dismissed it."""
    options = (DestinationOptions(name="one", url="memory:one", done_marker=True),)
    story = Story(destinations=options)
    story.opened = {"one": Marking(story.one)}
    refused = Trouble(error="DestinationRefused", message="a virus, it says")
    story.one.refuse = lambda path: refused
    ref = story.server.plant(mail("invoice"))
    story.sweep()
    story.one.refuse = lambda path: None
    story.one.consumer = lambda path: _take(story.one, path)
    story.wait(hours=1)
    story.fuse.arm(0, place="destination.published", error=lambda at: DestinationUnavailable("gone"))
    story.sweep()
    story.fuse.disarm()
    entry = story.entry(ref)
    assert [path for path, _ in story.one.taken] == ["invoice.eml"]
    assert (entry.stage, entry.outcome) == (Stage.PLANNED, Outcome.FAILED)
    assert entry.id is not None
    story.store.dismiss(entry.id)
    return story


def test_a_file_that_is_out_is_announced_though_its_mail_was_dismissed_and_never_comes_again() -> None:
    story = dismissed_before_it_was_announced()
    story.wait(hours=12)
    story.sweep()
    (entry,) = story.store.all()
    assert (entry.stage, entry.dismissed) == (Stage.SETTLED, False), "it was delivered"
    story.again()
    story.sweep()
    assert [path for path, _ in story.one.taken] == ["invoice.eml", "invoice.eml.done"]


def test_while_it_cannot_be_announced_a_dismissed_mail_waits_for_that() -> None:
    story = dismissed_before_it_was_announced()
    story.wait(hours=12)
    story.fuse.arm(0, place="destination.publish", error=lambda at: DestinationUnavailable("gone"))
    story.sweep()
    story.fuse.disarm()
    (entry,) = story.store.all()
    assert (entry.stage, entry.dismissed) == (Stage.PLANNED, True)
    assert story.one.staging
    story.wait(hours=12)
    story.sweep()
    assert [path for path, _ in story.one.taken] == ["invoice.eml", "invoice.eml.done"]


@pytest.mark.parametrize("at", PLACES)
def test_whatever_a_sweep_dies_at_each_file_is_announced_once_and_after_it_came(at: str) -> None:
    for after in itertools.count():
        options = tuple(
            DestinationOptions(name=name, url=f"memory:{name}", done_marker=True) for name in ("one", "two")
        )
        story = Story(places=("one", "two"), destinations=options, delete_mails_on_server=True)
        story.opened = {name: Marking(place) for name, place in story.places.items()}
        raws = [mail("invoice"), mail("order", attachments=[("a.done", "text/plain", b"x")])]
        for raw in raws:
            story.server.plant(raw)
        story.fuse.arm(after, place=at)
        died = True
        try:
            story.sweep()
            died = False
        except Crash:
            for content in story.spool.open:
                content.close()
        story.fuse.disarm()
        for _ in range(3):
            story.wait(hours=2)
            story.sweep()
        assert set(story.stages()) == {Stage.SETTLED}
        for place in story.places.values():
            paths = [path for path, _ in place.published]
            assert sorted(paths) == ["invoice.eml", "invoice.eml.done", "order.eml", "order.eml.done"], (at, after)
            assert all(paths.index(path) < paths.index(f"{path}.done") for path in ("invoice.eml", "order.eml"))
        if not died:
            return


def test_turned_on_while_a_mail_waits_it_holds_for_the_next(place: MemoryDestination) -> None:
    """What is staged without a marker is not taken for one whose marker was published."""
    plain = part_name("1-1", marked=False)
    staged = staged_of(Marking(place), batch_of(1), [put_of(plain, "a.eml")])
    assert isinstance(Marking(place).publish(batch_of(1), staged)[plain], Receipt)
    assert set(place.visible) == {"a.eml"}


@pytest.mark.parametrize("metadata", [False, True])
def test_the_longest_names_have_room_for_their_markers(metadata: bool) -> None:
    """Two mails of one name: the second gets its key appended, and has room all the same."""
    disk = MemoryDisk()
    story = Story(
        places=("one",),
        mail_archiving=MailArchiving(active=True, metadata=metadata, path_template="{subject}.eml"),
        destinations=(DestinationOptions(name="one", url="memory:one", done_marker=True),),
    )
    story.opened = {"one": Marking(PublishingDestination(MemoryTree(disk)))}
    for text in ("first", "second"):
        story.server.plant(mail("ä" * 300, text=text))
    report = story.sweep()
    assert report.counts.stored == 2
    names = [path for path in disk.files() if not path.startswith(".maildaemon")]
    assert len(names) == (8 if metadata else 4)
    assert max(len(name.encode()) for name in names) <= 255
    assert {name for name in names if name.endswith(".done")} == {
        f"{name}.done" for name in names if not name.endswith(".done")
    }
