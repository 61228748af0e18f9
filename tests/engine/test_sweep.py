"""One pass over one mailbox: what is found is worked off, whatever breaks, and one bad mail never stops the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.engine.sweep import Bounds
from maildaemon_core.errors import (
    SourceUnavailable,
    SpoolFull,
    StoreUnavailable,
    Trouble,
)
from maildaemon_core.message import Content, Cursor, FolderRef, Message, MessageRef
from maildaemon_core.mime import read_message
from maildaemon_core.monitoring import EntriesRecorded, MailsFound, SweepEnded, SweepStarted, SweepState
from maildaemon_core.ports import Fetched, Page, Unfetched, Vanished
from maildaemon_core.progress import Outcome, Stage
from maildaemon_core.reading import Reading
from maildaemon_core.schedule import MAX_ATTEMPTS
from maildaemon_core.testing.memory_source import MemorySource
from tests.engine.story import LEASE_SECONDS, Story, counted, mail

REFUSED = Trouble(error="DestinationRefused", message="a virus, it says", remedy="look at it")


def test_mail_is_stored_byte_for_byte_and_a_second_sweep_stores_nothing() -> None:
    story = Story()
    raws = [mail("invoice"), mail("order"), b"no mail at all"]
    for raw in raws:
        story.server.plant(raw)
    assert counted(story.sweep()) == (3, 0, 0, 0)
    assert sorted(story.one.visible.values()) == sorted(raws)
    fetches = len(story.server.fetches)
    again = story.sweep()
    assert again.state is SweepState.DONE
    assert again.well
    assert counted(again) == (0, 0, 0, 0)
    assert len(story.one.published) == 3
    assert len(story.server.fetches) == fetches
    assert not story.one.staging


def test_an_empty_mailbox_is_well() -> None:
    report = Story().sweep()
    assert report.well
    assert report.counts.seen == 0


def test_what_happened_is_told_in_its_order_and_only_once_committed() -> None:
    story = Story()
    story.server.plant(mail("invoice"))
    story.sweep()
    assert isinstance(story.told[0], SweepStarted)
    assert isinstance(story.told[-1], SweepEnded)
    assert [event.number for event in story.told if isinstance(event, MailsFound)] == [1]
    stages = [event.entries[0].stage for event in story.told if isinstance(event, EntriesRecorded)]
    assert stages == [Stage.FOUND, Stage.PLANNED, Stage.SETTLED]


@given(st.data())
def test_the_counts_are_those_of_the_mails_that_were_open_or_were_found(data: st.DataObject) -> None:
    story = Story(allowed_email_extensions=("firm.example",), max_message_bytes=3000)
    kinds = st.sampled_from(["good", "refused", "large", "unreadable", "poison"])
    for round_ in range(data.draw(st.integers(1, 3))):
        known = {entry.id for entry in story.store.all()}
        open_before = {entry.id for entry in story.store.all() if entry.open}
        for number, kind in enumerate(data.draw(st.lists(kinds, max_size=5))):
            sender = "x@other.example" if kind == "refused" else "jane@firm.example"
            raw = mail(f"{kind} {round_} {number}", sender=sender, text="y" * 4000 if kind == "large" else "z")
            story.server.plant(raw)
            if kind == "unreadable":
                story.server.unreadable.add(raw)
            if kind == "poison":
                story.server.poison.add(raw)
        story.one.down = data.draw(st.booleans())
        report = story.sweep(bounds=Bounds(mails=2))
        mine = [e for e in story.store.all() if e.id in open_before or e.id not in known]
        assert report.counts.seen == len(mine)
        assert counted(report) == tuple(
            sum(entry.outcome is outcome for entry in mine)
            for outcome in (Outcome.STORED, Outcome.SKIPPED, Outcome.FAILED, Outcome.PENDING)
        )
        story.wait(hours=data.draw(st.integers(0, 7)))


# --------------------------------------------------------------------------------------------- one mail, not the others


def test_a_mail_that_vanished_is_skipped_with_that_reason() -> None:
    story = Story()
    ref = story.server.plant(mail("invoice"))
    story.server.plant(mail("order"))
    story.fuse.hook = lambda place: story.server.remove(ref) if place == "source.fetch" else None
    assert counted(story.sweep()) == (1, 1, 0, 0)
    assert story.entry(ref).reason == "vanished from the server"


def test_an_unreadable_mail_waits_longer_each_time_and_is_given_up_in_the_end() -> None:
    story = Story(delete_mails_on_server=True)
    raw = mail("unreadable")
    ref = story.server.plant(raw)
    story.server.unreadable.add(raw)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert counted(story.sweep()) == (0, 0, 1, 0)
        entry = story.entry(ref)
        assert entry.attempts == attempt
        if attempt < MAX_ATTEMPTS:
            assert entry.due_at is not None
            assert entry.due_at > story.now
            assert counted(story.sweep()) == (0, 0, 1, 0)  # not due: seen, not touched
            story.now = entry.due_at
    assert story.entry(ref).stage is Stage.GIVEN_UP
    assert story.server.contents() == [raw]
    story.server.unreadable.clear()
    story.again()
    assert counted(story.sweep()) == (1, 0, 0, 0)


def test_a_mail_that_breaks_the_session_keeps_none_of_the_others_from_getting_through() -> None:
    story = Story(delete_mails_on_server=True)
    poison = mail("poison")
    story.server.poison.add(poison)
    others = [mail(f"mail {number}") for number in range(9)]
    for raw in [*others[:4], poison, *others[4:]]:
        story.server.plant(raw)
    first = story.sweep(bounds=Bounds(mails=3))
    assert first.state is SweepState.FAILED
    sweeps = 1
    while set(story.server.contents()) != {poison}:
        story.sweep(bounds=Bounds(mails=3))
        sweeps += 1
        assert sweeps < 5
    assert len(story.one.published) == 9


def test_even_if_it_is_due_in_every_sweep() -> None:
    story = Story()
    poison = mail("poison")
    story.server.poison.add(poison)
    story.server.plant(poison)
    story.sweep()
    for number in range(MAX_ATTEMPTS):
        story.server.plant(mail(f"mail {number}"))
        story.wait(hours=7)
        story.sweep()
        assert len(story.one.published) == number + 1
    (given_up,) = (entry for entry in story.store.all() if entry.outcome is Outcome.FAILED)
    assert given_up.stage is Stage.GIVEN_UP
    assert given_up.attempts == MAX_ATTEMPTS
    assert story.sweep().well


def test_two_that_break_the_session_do_not_hide_a_third_that_had_bad_luck() -> None:
    story = Story()
    poisons = [mail("poison 1"), mail("poison 2")]
    story.server.poison.update(poisons)
    unlucky = mail("unlucky")
    story.server.unreadable.add(unlucky)
    for raw in (*poisons, unlucky):
        story.server.plant(raw)
    for _ in range(3):
        story.sweep()
        story.wait(hours=7)
    story.server.unreadable.clear()
    for _ in range(3):
        story.sweep()
        story.wait(hours=7)
    assert [data for _, data in story.one.published] == [unlucky]


def test_what_was_in_hand_at_a_crash_is_worked_off_alone_and_counts_an_attempt() -> None:
    story = Story()
    for number in range(3):
        story.server.plant(mail(f"mail {number}"))
    story.crash(1, place="source.fetch")
    fetches = len(story.server.fetches)
    assert {entry.in_hand for entry in story.store.all()} == {1}
    assert counted(story.sweep()) == (3, 0, 0, 0)
    assert [len(refs) for refs in story.server.fetches[fetches:]] == [1, 1, 1]


def test_a_mail_that_kills_every_sweep_is_given_up_in_the_end() -> None:
    story = Story()
    ref = story.server.plant(mail("killer"))
    for _ in range(MAX_ATTEMPTS):
        story.crash(place="source.fetch")
    report = story.sweep()
    assert counted(report) == (0, 0, 1, 0)
    entry = story.entry(ref)
    assert entry.stage is Stage.GIVEN_UP
    assert entry.trouble is not None
    assert entry.trouble.error == "BrokeTheSweep"


def test_too_large_a_mail_is_given_up_never_tidied_and_healed_by_a_raised_limit() -> None:
    story = Story(max_message_bytes=1000, delete_mails_on_server=True)
    raw = mail("video", text="x" * 2000)
    ref = story.server.plant(raw)
    assert counted(story.sweep()) == (0, 0, 1, 0)
    assert not story.server.fetches
    assert story.entry(ref).stage is Stage.GIVEN_UP
    assert story.server.contents() == [raw]
    story.again()
    assert counted(story.sweep()) == (0, 0, 1, 0)  # still too large, and still not fetched
    assert not story.server.fetches
    story.change(max_message_bytes=None)
    story.again()
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert story.server.contents() == []


class Understating(MemorySource):
    """A server that tells no sizes: only the literal itself shows how large a mail is."""

    def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
        page = super().list_since(folder, cursor, limit=limit)
        return attrs.evolve(page, envelopes=tuple(attrs.evolve(one, size=None) for one in page.envelopes))


def test_too_large_a_mail_is_found_out_by_its_literal_too() -> None:
    story = Story(max_message_bytes=1000, delete_mails_on_server=True)
    story.open_source = lambda: Understating(story.server, story.spool, story.fuse)  # type: ignore[method-assign]
    raw = mail("video", text="x" * 2000)
    ref = story.server.plant(raw)
    story.server.plant(mail("small"))
    assert counted(story.sweep()) == (1, 0, 1, 0)
    assert story.entry(ref).stage is Stage.GIVEN_UP
    assert story.server.contents() == [raw]


# -------------------------------------------------------------------------------------------- what concerns all of them


def test_a_server_that_is_down_fails_the_sweep_and_counts_no_attempt() -> None:
    story = Story()
    story.server.plant(mail("invoice"))
    story.server.down = True
    report = story.sweep()
    assert report.state is SweepState.FAILED
    assert report.trouble is not None
    assert report.trouble.remedy == "start it"
    story.server.down = False
    assert counted(story.sweep()) == (1, 0, 0, 0)


def test_mail_that_arrived_before_the_session_broke_is_not_fetched_again() -> None:
    story = Story()
    refs = [story.server.plant(mail(f"mail {number}")) for number in range(3)]
    report = story.falter(SourceUnavailable("cable cut"), 2, place="source.fetch")
    assert report.state is SweepState.FAILED
    assert counted(report) == (2, 0, 0, 1)
    fetches = len(story.server.fetches)
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert story.server.fetches[fetches:] == [(refs[2],)]
    assert [entry.attempts for entry in story.store.all()] == [0, 0, 0]


def test_a_full_spool_pauses_the_mailbox_and_the_next_sweep_finishes() -> None:
    story = Story()
    for number in range(3):
        story.server.plant(mail(f"mail {number}"))
    report = story.falter(SpoolFull("no room", remedy="make room"), 1, place="source.fetch")
    assert report.state is SweepState.PAUSED
    assert report.trouble is not None
    assert report.trouble.error == "SpoolFull"
    assert {entry.attempts for entry in story.store.all()} == {0}
    assert counted(story.sweep()) == (2, 0, 0, 0)


def test_a_mail_for_which_the_spool_never_has_room_is_not_in_the_way_of_the_others() -> None:
    story = Story()
    story.spool.limit = 2000
    huge = mail("huge", text="x" * 3000)
    story.server.plant(huge)
    others = [mail(f"mail {number}") for number in range(3)]
    for raw in others:
        story.server.plant(raw)
    for _ in range(2):
        assert story.sweep().state is SweepState.PAUSED
    assert sorted(story.one.visible.values()) == sorted(others)
    (waiting,) = (entry for entry in story.store.all() if entry.open)
    assert waiting.attempts == 0
    assert waiting.trouble is not None
    assert waiting.trouble.error == "SpoolFull"
    story.spool.limit = 5000
    assert story.sweep().well
    assert huge in story.one.visible.values()


@pytest.mark.parametrize("place", ["store.record", "store.recorded", "store.admit", "store.admitted"])
@pytest.mark.parametrize("after", range(4))
def test_a_database_that_goes_away_pauses_the_sweep_and_loses_nothing(place: str, after: int) -> None:
    story = Story(delete_mails_on_server=True)
    raws = [mail(f"mail {number}") for number in range(3)]
    for raw in raws:
        story.server.plant(raw)
    story.fuse.arm(after, place=place, error=lambda at: StoreUnavailable(f"gone at {at}"))
    report = story.sweep(bounds=Bounds(mails=2))
    if not story.fuse.armed:
        assert report.state is SweepState.PAUSED
    story.fuse.disarm()
    story.sweep()
    assert story.server.contents() == []
    assert sorted(data for _, data in story.one.published) == raws


def test_a_source_that_fails_unexpectedly_puts_back_what_was_fetched_ahead() -> None:
    """What is wrong with an adapter is no attempt of a mail that it had nothing to do with."""
    story = Story()
    for number in range(4):
        story.server.plant(mail(f"mail {number}"))
    report = story.falter(ValueError("a fault of the adapter"), 1, place="source.fetch", bounds=Bounds(mails=2))
    assert report.state is SweepState.FAILED
    assert report.trouble is not None
    assert report.trouble.error == "InternalError"
    assert "a fault of" not in report.trouble.message  # it might hold anything; the log has it
    assert [entry.in_hand for entry in story.store.all()] == [0, 0, 0, 0]
    assert counted(story.sweep()) == (3, 0, 0, 0)
    assert [entry.attempts for entry in story.store.all()] == [0, 0, 0, 0]


def test_a_mail_that_our_own_code_cannot_read_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()
    ref = story.server.plant(mail("odd"))
    story.server.plant(mail("even"))

    def faulty(content: Content, reading: Reading) -> Message:
        message = read_message(content, reading)
        if message.headers.subject == "odd":
            raise IndexError("a fault of ours")
        return message

    monkeypatch.setattr("maildaemon_core.engine.sweep.read_message", faulty)
    assert counted(story.sweep()) == (1, 0, 1, 0)
    trouble = story.entry(ref).trouble
    assert trouble is not None
    assert trouble.error == "InternalError"


class Silent(MemorySource):
    """A server that answers nothing about some mail."""

    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished | Unfetched]:
        return super().fetch([ref for ref in refs if ref.uid != "1"])


def test_no_answer_is_not_vanished() -> None:
    story = Story()
    story.open_source = lambda: Silent(story.server, story.spool, story.fuse)  # type: ignore[method-assign]
    ref = story.server.plant(mail("silent"))
    story.server.plant(mail("loud"))
    assert counted(story.sweep()) == (1, 0, 1, 0)
    entry = story.entry(ref)
    assert entry.stage is Stage.WAITING
    assert entry.trouble is not None
    assert entry.trouble.error == "NoAnswer"


def test_a_worker_whose_lease_was_taken_over_writes_nothing_more() -> None:
    story = Story(delete_mails_on_server=True)
    raws = [mail(f"mail {number}") for number in range(4)]
    for raw in raws:
        story.server.plant(raw)
    other: list[SweepState] = []

    def sleep(place: str) -> None:
        if place == "destination.staged":
            story.fuse.hook = None
            story.wait(seconds=2 * LEASE_SECONDS)
            other.append(story.sweep().state)

    story.fuse.hook = sleep
    report = story.sweep(bounds=Bounds(mails=2))
    assert report.state is SweepState.LOST
    assert other == [SweepState.DONE]
    assert sorted(data for _, data in story.one.published) == raws
    assert story.server.contents() == []
    assert story.sweep().counts.seen == 0
