"""A clock that was wrong and is set right: nobody waits for the time that was wrong to come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from maildaemon_core.engine.seats import HANGING
from maildaemon_core.errors import DestinationUnavailable, SourceUnavailable
from maildaemon_core.message import MailboxId
from maildaemon_core.options import Move
from maildaemon_core.progress import Stage
from tests.engine.story import Story, mail
from tests.engine.town import WAIT, Town, options, still, until, watched

HOURS, YEARS = timedelta(hours=3), timedelta(days=3650)


@pytest.fixture
def town() -> Iterator[Town]:
    town = Town()
    try:
        yield town
    finally:
        town.close()


def stop_early(story: Story) -> None:
    story.sweep(stopping=lambda: bool(story.store.all()))


def publish_in_vain(story: Story) -> None:
    story.falter(DestinationUnavailable("gone", remedy="wait"), place="destination.publish")


def tidy_in_vain(story: Story) -> None:
    story.falter(SourceUnavailable("gone", remedy="wait"), place="source.settle")


@pytest.mark.parametrize("ahead", [HOURS, YEARS])
@pytest.mark.parametrize(
    ("way", "left"), [(stop_early, Stage.FOUND), (publish_in_vain, Stage.PLANNED), (tidy_in_vain, Stage.STORED)]
)
def test_what_was_left_under_a_clock_that_was_far_ahead_is_worked_off_once_it_is_right(
    way: Callable[[Story], None], left: Stage, ahead: timedelta
) -> None:
    story = Story(
        delete_mails_on_server=True, allowed_email_extensions=("firm.example",), on_no_match=Move(move="Else")
    )
    story.now += ahead
    story.server.plant(mail("one"))
    story.server.plant(mail("advert", sender="x@other.example"))
    way(story)
    assert {entry.stage for entry in story.store.all()} == {left, Stage.SKIPPED}
    story.now -= ahead
    assert story.sweep().well
    assert {entry.stage for entry in story.store.all()} == {Stage.SETTLED, Stage.SET_ASIDE}
    assert not any(entry.attempts for entry in story.store.all())


def test_a_mail_that_waits_for_its_next_attempt_waits_as_it_should_but_not_for_years() -> None:
    story = Story()
    story.server.plant(mail("one"))
    story.server.unreadable.add(mail("one"))
    story.sweep()
    story.sweep()
    (entry,) = story.store.all()
    assert (entry.stage, entry.attempts) == (Stage.WAITING, 1), "it is not due yet"
    story.now -= YEARS
    story.server.unreadable.clear()
    assert story.sweep().counts.stored == 1


def test_a_sweep_that_hangs_while_the_clock_is_put_back_is_found_out_all_the_same(town: Town) -> None:
    one, other = MailboxId("hanging@our.example"), MailboxId("other@our.example")
    daemon = town.daemon()
    daemon.adopt(one, options(one))
    town.trouble[one] = town.hang
    daemon.start(at_once=1)
    future = daemon.sweep_soon(one)
    until(lambda: town.inside)
    town.later(hours=-5)
    until(lambda: daemon.last_tick == town.now)
    daemon.adopt(other, options(other, poll_interval_seconds=3600))
    still(town)
    town.later(seconds=HANGING.total_seconds() + 1)
    until(lambda: town.ended(other))
    heard = watched(daemon, one).heard
    assert heard is not None
    assert heard < town.now
    assert not future.done()


def test_who_asked_before_the_clock_was_put_back_is_not_made_to_wait(town: Town) -> None:
    one = MailboxId("one@our.example")
    daemon = town.daemon()
    daemon.adopt(one, options(one, poll_interval_seconds=3600))
    daemon.start()
    daemon.sweep_soon(one).result(WAIT)
    daemon.halt(one, seconds=1)
    future = daemon.sweep_soon(one)
    still(town)
    assert not future.done()
    town.later(hours=-5)
    assert future.result(WAIT).well
