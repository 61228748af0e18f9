"""What a person dismisses is not tried again by itself and stays out of sight until its outcome changes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs
import pytest

from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.errors import LeaseLost, StillPending, Trouble
from maildaemon_core.message import MessageRef
from maildaemon_core.monitoring import EntryQuery, SweepState
from maildaemon_core.progress import Again, Entry, EntryId, Faltered, Outcome, Stage, advance
from maildaemon_core.retention import Retention
from maildaemon_core.testing.memory_destination import MemoryDestination
from tests.engine.story import MAILBOX, Story, counted, mail, taker

REFUSED = Trouble(error="DestinationRefused", message="a virus, it says")


def daemon(story: Story) -> MailDaemon:
    return MailDaemon(story.store, clock=lambda: story.now)


def shown(story: Story, *, dismissed: bool = False, outcome: Outcome = Outcome.FAILED) -> list[Entry]:
    return list(story.store.entries(EntryQuery(outcome=outcome, dismissed=dismissed)).entries)


def number(entry: Entry) -> EntryId:
    assert entry.id is not None
    return entry.id


@pytest.fixture
def story() -> Story:
    return Story(delete_mails_on_server=True)


@pytest.fixture
def refused(story: Story) -> MessageRef:
    """A mail that the destination refuses, and that was tried once."""
    story.one.refuse = lambda path: REFUSED if "bad" in path else None
    ref = story.server.plant(mail("bad"))
    assert counted(story.sweep()) == (0, 0, 1, 0)
    return ref


def half_published() -> tuple[Story, Entry]:
    """A mail that is published at one of two destinations, staged at the other and failing there."""
    story = Story(places=("one", "two"), delete_mails_on_server=True)
    refusing(story.two)
    ref = story.server.plant(mail("invoice"))
    story.sweep()
    entry = story.entry(ref)
    assert (entry.stage, entry.outcome) == (Stage.PLANNED, Outcome.FAILED)
    return story, entry


@pytest.mark.parametrize("dismissed", [True, False])
def test_a_planned_mail_of_which_nobody_knows_where_it_is_staged_stops_no_sweep(dismissed: bool) -> None:
    story, entry = half_published()
    lease = story.lease()
    lease.record([attrs.evolve(entry, batch=None)])
    lease.give_back()
    if dismissed:
        story.store.dismiss(number(entry))
    story.wait(hours=1)
    assert story.sweep().state is SweepState.DONE
    assert story.entry(entry.ref).stage is Stage.UNCONFIRMED


def refusing(place: MemoryDestination) -> None:
    """It stages everything and publishes nothing, though a probe works."""
    right = place._publish

    def wrong(*_: Any) -> Trouble:
        return REFUSED

    place._publish = wrong  # type: ignore[method-assign,assignment]
    place.mend = lambda: setattr(place, "_publish", right)  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------- ordinary failures


def test_a_dismissed_failure_is_not_tried_again_and_its_mail_stays_on_the_server(
    story: Story, refused: MessageRef
) -> None:
    entry = daemon(story).dismiss(number(story.entry(refused)))
    assert entry is not None
    assert (entry.stage, entry.dismissed, entry.due_at) == (Stage.GIVEN_UP, True, None)
    assert entry.trouble == REFUSED
    story.one.refuse = lambda path: None
    for _ in range(3):
        story.wait(days=1)
        assert counted(story.sweep()) == (0, 0, 0, 0)
    assert story.one.published == []
    assert len(story.server.contents()) == 1
    assert shown(story) == []
    assert shown(story, dismissed=True) == [entry]


def test_it_comes_back_in_sight_when_its_outcome_changes(story: Story, refused: MessageRef) -> None:
    daemon(story).dismiss(number(story.entry(refused)))
    lease = story.lease()
    lease.record([advance(story.entry(refused), Again(), story.now)])
    lease.give_back()
    assert not story.entry(refused).dismissed
    assert counted(story.sweep()) == (0, 0, 1, 0)
    assert [one.ref for one in shown(story)] == [refused]


def test_having_all_failures_tried_again_leaves_the_dismissed_ones_alone(story: Story, refused: MessageRef) -> None:
    keeper = daemon(story)
    keeper.dismiss(number(story.entry(refused)))
    assert keeper.retry_failed(MAILBOX) == 0
    assert story.entry(refused).stage is Stage.GIVEN_UP


def test_while_somebody_works_on_the_mailbox_the_next_sweep_ends_the_retries(story: Story, refused: MessageRef) -> None:
    lease = story.lease()
    entry = daemon(story).dismiss(number(story.entry(refused)))
    assert entry is not None
    assert (entry.stage, entry.dismissed, entry.open) == (Stage.WAITING, True, True)
    lease.give_back()
    story.wait(hours=1)
    story.one.refuse = lambda path: None
    assert counted(story.sweep()) == (0, 0, 1, 0), "seen = what was open at the start"
    assert story.entry(refused).stage is Stage.GIVEN_UP
    assert story.one.published == []


def test_a_lease_that_is_lost_in_the_middle_leaves_it_to_whoever_has_it(story: Story, refused: MessageRef) -> None:
    entry = story.entry(refused)

    def overtaken(place: str) -> None:
        if place == "store.record":
            story.fuse.hook = None
            story.wait(minutes=5)
            story.lease()

    story.fuse.hook = overtaken
    dismissed = daemon(story).dismiss(number(entry))
    assert dismissed is not None
    assert (dismissed.stage, dismissed.dismissed) == (Stage.WAITING, True)


def test_a_pending_mail_cannot_be_dismissed(story: Story) -> None:
    story.server.plant(mail("invoice"))
    story.crash(place="source.fetch")
    (entry,) = story.store.all()
    with pytest.raises(StillPending, match="still pending") as caught:
        daemon(story).dismiss(number(entry))
    assert caught.value.remedy
    assert not story.entry(entry.ref).dismissed


def test_nothing_of_that_number_is_none(story: Story, refused: MessageRef) -> None:
    keeper = daemon(story)
    assert keeper.dismiss(EntryId(999)) is None
    keeper.dismiss(number(story.entry(refused)))
    story.wait(days=3)
    assert keeper.thin(Retention(failed_days=1)).total == 1
    assert keeper.dismiss(number(story.entry(refused))) is None


def test_dismissing_twice_is_the_same_as_once_and_a_stored_mail_only_goes_out_of_sight(story: Story) -> None:
    ref = story.server.plant(mail("invoice"))
    story.sweep()
    keeper = daemon(story)
    first = keeper.dismiss(number(story.entry(ref)))
    assert keeper.dismiss(number(story.entry(ref))) == first
    assert story.entry(ref).stage is Stage.SETTLED
    assert shown(story, outcome=Outcome.STORED) == []
    assert [one.ref for one in shown(story, outcome=Outcome.STORED, dismissed=True)] == [ref]


def test_a_mail_that_cannot_be_tidied_is_left_on_the_server_when_that_is_dismissed(story: Story) -> None:
    ref = story.server.plant(mail("invoice"))
    story.falter(LeaseLost("gone"), place="source.settle")
    story.wait(minutes=5)
    entry = story.entry(ref)
    lease = story.lease()
    lease.record([advance(entry, Faltered(REFUSED, story.now + timedelta(minutes=1)), story.now)])
    lease.give_back()
    dismissed = daemon(story).dismiss(number(entry))
    assert dismissed is not None
    assert dismissed.stage is Stage.UNTIDIED
    story.wait(hours=1)
    story.sweep()
    assert len(story.server.contents()) == 1


# ---------------------------------------------------------------------------------------------------- what was staged


def test_what_is_staged_of_a_dismissed_mail_goes_and_its_name_stays_reserved() -> None:
    story, entry = half_published()
    assert story.two.staging
    after = daemon(story).dismiss(number(entry))
    assert after is not None
    assert (after.stage, after.dismissed) == (Stage.PLANNED, True), "the next sweep looks whether it was published"
    story.two.mend()  # type: ignore[attr-defined]
    story.wait(hours=12)
    assert counted(story.sweep()) == (0, 0, 1, 0)
    entry = story.entry(entry.ref)
    assert (entry.stage, entry.dismissed, entry.batch) == (Stage.GIVEN_UP, True, None)
    assert not story.two.staging
    assert story.two.published == []
    assert len(story.server.contents()) == 1
    other = story.server.plant(mail("invoice", text="another one\n"))
    story.wait(hours=12)
    assert counted(story.sweep()) == (1, 0, 0, 0)
    paths = {artifact.path for artifact in story.entry(other).artifacts}
    assert paths == {f"invoice-{story.entry(other).key}.eml"}


def test_tried_again_after_all_it_is_completed_under_its_old_name_and_nothing_comes_twice() -> None:
    story, entry = half_published()
    story.one.consumer = taker(story.one)
    daemon(story).dismiss(number(entry))
    story.wait(hours=12)
    story.sweep()
    story.two.mend()  # type: ignore[attr-defined]
    story.again()
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert [path for path, _ in story.one.published] == ["invoice.eml"]
    assert [path for path, _ in story.two.published] == ["invoice.eml"]
    assert not story.server.contents()


@pytest.mark.parametrize("taken", [False, True])
def test_what_a_worker_that_died_has_published_counts_as_stored_though_it_was_dismissed(taken: bool) -> None:
    story, entry = half_published()
    story.two.mend()  # type: ignore[attr-defined]
    if taken:
        story.two.consumer = taker(story.two)
    story.wait(hours=12)
    story.crash(place="destination.published")
    assert story.entry(entry.ref).stage is Stage.PLANNED
    daemon(story).dismiss(number(entry))
    assert counted(story.sweep()) == (1, 0, 0, 0)
    entry = story.entry(entry.ref)
    assert (entry.stage, entry.dismissed) == (Stage.SETTLED, False)
    assert [path for path, _ in story.two.published] == ["invoice.eml"]
    assert not story.server.contents(), "stored everywhere, so it is tidied"


def test_if_nobody_can_tell_whether_it_was_published_it_is_unconfirmed() -> None:
    story, entry = half_published()
    daemon(story).dismiss(number(entry))
    story.two.staging.clear()
    story.wait(hours=12)
    story.sweep()
    entry = story.entry(entry.ref)
    assert (entry.stage, entry.dismissed, entry.open) == (Stage.UNCONFIRMED, True, False)


def test_while_its_destination_is_down_it_waits_and_is_not_tried() -> None:
    story, entry = half_published()
    daemon(story).dismiss(number(entry))
    story.two.mend()  # type: ignore[attr-defined]
    story.two.down = True
    story.wait(hours=12)
    story.sweep()
    assert story.entry(entry.ref).stage is Stage.PLANNED
    story.two.down = False
    story.sweep()
    assert story.entry(entry.ref).stage is Stage.GIVEN_UP
    assert story.two.published == []


# ------------------------------------------------------------------------------------------------------------ history


def test_history_is_thinned_out_by_outcome_and_age_in_batches(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maildaemon_core.engine.daemon.THINNED_AT_ONCE", 2)
    story.one.refuse = lambda path: REFUSED if "bad" in path else None
    for name in ("a", "b", "c", "d", "e", "bad"):
        story.server.plant(mail(name))
    story.sweep()
    story.wait(days=2)
    story.server.plant(mail("young"))
    story.sweep()
    keeper = daemon(story)
    assert keeper.thin(Retention()).total == 0
    some = keeper.thin(Retention(stored_days=1), batches=2)
    assert (some.numbers, some.more) == ({Outcome.STORED: 4}, True)
    rest = keeper.thin(Retention(stored_days=1, failed_days=1), batches=2)
    assert (rest.numbers, rest.more) == ({Outcome.STORED: 1, Outcome.FAILED: 0}, False), "what is open is kept"
    assert [one.subject for one in shown(story, outcome=Outcome.STORED)] == ["young"]
    assert [one.subject for one in shown(story)] == ["bad"]


def test_a_stop_ends_the_thinning_after_a_batch(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maildaemon_core.engine.daemon.THINNED_AT_ONCE", 1)
    for name in "abc":
        story.server.plant(mail(name))
    story.sweep()
    story.wait(days=2)
    keeper = daemon(story)
    right = story.store.thin

    def stopping(*arguments: Any, **named: Any) -> int:
        keeper.stop()
        return right(*arguments, **named)

    story.store.thin = stopping  # type: ignore[method-assign]
    assert (keeper.thin(Retention(stored_days=1)).total, len(shown(story, outcome=Outcome.STORED))) == (1, 2)
    assert keeper.thin(Retention(stored_days=1)).more


def test_a_mail_whose_history_was_thinned_out_is_never_processed_again(story: Story) -> None:
    story.change(delete_mails_on_server=False)
    story.server.plant(mail("invoice"))
    story.sweep()
    story.wait(days=2)
    assert daemon(story).thin(Retention(stored_days=1)).total == 1
    story.server.renumber()
    assert counted(story.sweep()) == (0, 0, 0, 0)
    story.server.plant(mail("invoice", text="another\n"))
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert next(path for path, _ in story.one.published) == "invoice.eml"
    assert len({path for path, _ in story.one.published}) == 2
