"""Destinations on servers in the hands of the engine: one of them down, connections that break, nothing twice."""

from __future__ import annotations

import itertools

import pytest

from maildaemon_adapters.files.publishing import PublishingDestination
from maildaemon_adapters.files.tree import Fault, Showing, TreeError
from maildaemon_core.monitoring import SweepState
from maildaemon_core.options import DestinationOptions
from maildaemon_core.progress import Stage
from tests.contracts.memory_tree import MemoryDisk, MemoryTree
from tests.engine.story import Story, mail


class Flaky:
    """A server that is reached until its step of this number, and then not; None: always."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.left: int | None = None
        self.fault = Fault.GONE
        self.written: list[str] = []

    def tick(self, call: str, path: str) -> None:
        if self.left is not None:
            if self.left <= 0:
                raise TreeError(self.fault, "the connection broke", retry_after=7 if self.fault is Fault.BUSY else None)
            self.left -= 1
        if call == "write":
            self.written.append(path)

    def destination(self) -> PublishingDestination:
        return PublishingDestination(MemoryTree(self.disk, Showing.RENAME, before=self.tick))

    def shown(self) -> list[bytes]:
        return sorted(data for path, data in self.disk.files().items() if not path.startswith(".maildaemon"))

    def parts(self) -> int:
        """How many files were written, markers of batches aside."""
        return sum(not path.endswith("/standing") and "/trial-" not in path for path in self.written)


@pytest.mark.parametrize("fault", [Fault.GONE, Fault.BUSY, Fault.LOGIN, Fault.UNTRUSTED])
def test_of_two_one_breaks_at_any_step_and_in_the_end_both_have_each_mail_once(fault: Fault) -> None:
    for step in itertools.count():
        one, two = Flaky(), Flaky()
        story = Story(places=("one", "two"), delete_mails_on_server=True)
        story.change(destinations=tuple(DestinationOptions(name=name, url=f"memory:{name}") for name in ("one", "two")))
        story.opened = {"one": one.destination(), "two": two.destination()}
        raws = [mail(f"mail {number}") for number in range(3)]
        for raw in raws:
            story.server.plant(raw)
        two.left, two.fault = step, fault
        report = story.sweep()
        held = two.left > 0
        if report.state is SweepState.PAUSED:
            assert report.trouble is not None
            assert report.trouble.retry_after == (7 if fault is Fault.BUSY else None)
            assert {entry.attempts for entry in story.store.all()} == {0}
            assert story.server.contents() == raws
        two.left = None
        written, planned = one.parts(), set(story.stages()) == {Stage.PLANNED}
        for _ in range(2):
            story.wait(hours=2)
            story.sweep()
        assert one.shown() == two.shown() == sorted(raws)
        assert story.server.contents() == []
        if planned:
            assert one.parts() == written, "the one that works was written twice"
        for each in (one, two):
            assert not any(path.startswith(".maildaemon") for path in each.disk.files())
        if held:
            assert step > 20, "there were hardly any steps"
            return


def test_what_one_has_published_is_not_written_again_when_the_other_is_back() -> None:
    one, two = Flaky(), Flaky()
    story = Story(places=("one", "two"), delete_mails_on_server=True)
    story.opened = {"one": one.destination(), "two": two.destination()}
    raw = mail("invoice")
    story.server.plant(raw)
    two.left = 10_000
    original = two.tick

    def breaks_at_publishing(call: str, path: str) -> None:
        if call == "publish":
            two.left = 0
        original(call, path)

    tree = MemoryTree(two.disk, Showing.RENAME, before=breaks_at_publishing)
    story.opened = {"one": one.destination(), "two": PublishingDestination(tree)}
    assert story.sweep().state is SweepState.PAUSED
    assert (one.shown(), two.shown()) == ([raw], [])
    assert story.stages() == [Stage.PLANNED]
    story.opened = {"one": one.destination(), "two": two.destination()}
    two.left = None
    story.wait(hours=2)
    story.sweep()
    assert one.shown() == two.shown() == [raw]
    assert (one.parts(), two.parts()) == (1, 1)
    assert story.server.contents() == []
