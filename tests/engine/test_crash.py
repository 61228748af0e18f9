"""After a crash at any arrow the next sweep just works off what is due: nothing lost, nothing doubled."""

from __future__ import annotations

import pytest

from maildaemon_core.errors import DestinationUnavailable, StoreUnavailable
from maildaemon_core.monitoring import SweepState
from maildaemon_core.options import MailArchiving
from maildaemon_core.testing.faults import PLACES
from tests.engine.story import Story, counted, mail, taker

OUTSIDE = {"destination.recover", "store.lease", "store.give_back"}
"""Places that a first sweep does not come by, or not while it is at work."""


@pytest.mark.parametrize("place", [place for place in PLACES if place not in OUTSIDE])
@pytest.mark.parametrize("after", [0, 1])
def test_a_crash_anywhere_loses_nothing_and_doubles_nothing(place: str, after: int) -> None:
    story = Story(delete_mails_on_server=True, places=("one", "two"))
    for destination in story.places.values():
        destination.consumer = taker(destination)
    raws = [mail(f"mail {number}") for number in range(3)]
    for raw in raws:
        story.server.plant(raw)
    if not (after and place in {"source.open", "source.list", "store.admit", "store.admitted"}):
        story.crash(after, place=place)
    for _ in range(2):
        story.sweep()
        story.wait(hours=7)
    assert story.server.contents() == []
    for destination in story.places.values():
        assert sorted(data for _, data in destination.taken) == raws
        assert not destination.staging


def test_the_template_may_change_between_crash_and_retry() -> None:
    story = Story()
    story.server.plant(mail("invoice"))
    story.crash(place="destination.publish")
    story.change(mail_archiving=MailArchiving(active=True, path_template="elsewhere/{key}.eml"))
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert list(story.one.visible) == ["invoice.eml"]


def test_after_a_destination_error_too_a_retry_uses_the_recorded_names() -> None:
    story = Story()
    story.server.plant(mail("invoice"))
    assert story.falter(DestinationUnavailable("share gone"), place="destination.publish").state is SweepState.PAUSED
    story.change(mail_archiving=MailArchiving(active=True, path_template="elsewhere/{key}.eml"))
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert list(story.one.visible) == ["invoice.eml"]


@pytest.mark.parametrize("place", ["store.record", "store.recorded"])
@pytest.mark.parametrize("write", range(3))
def test_a_store_that_went_away_for_a_moment_is_no_mails_fault_whether_or_not_it_still_wrote(
    place: str, write: int
) -> None:
    story = Story(delete_mails_on_server=True)
    raws = [mail(f"mail {number}") for number in range(3)]
    for raw in raws:
        story.server.plant(raw)
    report = story.falter(StoreUnavailable("the store is away"), write, place=place)
    assert report.state is SweepState.PAUSED
    assert report.counts.failed == 0
    assert [(entry.in_hand, entry.attempts, entry.suspect) for entry in story.store.all()] == [(0, 0, False)] * 3
    assert story.sweep().well
    assert sorted(story.one.visible.values()) == sorted(raws)
    assert story.server.contents() == []


def test_what_a_dead_worker_had_in_hand_stays_under_suspicion_though_the_store_goes_away_meanwhile() -> None:
    story = Story()
    story.server.plant(mail("invoice"))
    story.crash(place="source.fetch")
    assert story.falter(StoreUnavailable("the store is away"), place="store.record").state is SweepState.PAUSED
    (entry,) = story.store.all()
    assert entry.in_hand
    assert story.sweep().well
