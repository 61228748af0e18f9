"""Storing mails: exactly once, never over another file, and whose fault it is when it does not work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import attrs
import pytest

from maildaemon_core.engine.sweep import Bounds
from maildaemon_core.errors import DestinationsAlike, DestinationUnavailable, Trouble
from maildaemon_core.message import BatchId
from maildaemon_core.monitoring import EntriesRecorded, SweepState
from maildaemon_core.options import DestinationOptions, MailArchiving
from maildaemon_core.ports import Occupied, Put, Staged, Unknown
from maildaemon_core.progress import Outcome, Receipt, Stage
from maildaemon_core.testing.memory_destination import MemoryDestination
from tests.engine.story import ARCHIVING, MAILBOX, Story, counted, mail, taker

REFUSED = Trouble(error="DestinationRefused", message="a virus, it says", remedy="look at it")


def data_of(destination: MemoryDestination) -> list[bytes]:
    return sorted(data for _, data in destination.published)


# ------------------------------------------------------------------------------------------------------------- names


def test_an_occupied_path_gives_way_to_one_with_the_key() -> None:
    story = Story()
    story.one.visible["invoice.eml"] = b"not ours"
    raw = mail("invoice")
    ref = story.server.plant(raw)
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert story.one.visible == {"invoice.eml": b"not ours", f"invoice-{story.entry(ref).key}.eml": raw}


def test_the_other_name_is_recorded_before_it_becomes_visible() -> None:
    story = Story()
    story.one.visible["invoice.eml"] = b"not ours"
    ref = story.server.plant(mail("invoice"))
    recorded: list[str] = []

    def look(path: str) -> None:
        recorded.extend(artifact.path for artifact in story.entry(ref).artifacts)
        assert path in recorded

    story.one.consumer = look
    story.sweep()
    assert recorded == [f"invoice-{story.entry(ref).key}.eml"]


def test_a_crash_before_the_other_name_is_visible_doubles_nothing() -> None:
    for after, place in (
        (0, "store.record"),
        (2, "store.record"),
        (0, "destination.publish"),
        (1, "destination.publish"),
    ):
        story = Story(delete_mails_on_server=True)
        story.one.visible["invoice.eml"] = b"not ours"
        ref = story.server.plant(mail("invoice"))
        story.crash(after, place=place)
        story.sweep()
        assert [path for path, _ in story.one.published] == [f"invoice-{story.entry(ref).key}.eml"]
        assert story.server.contents() == []


def test_mails_of_one_batch_that_want_one_path_all_get_their_own() -> None:
    story = Story(mail_archiving=MailArchiving(active=True, path_template="mail.eml", metadata=True))
    raws = [mail(f"mail {number}") for number in range(5)]
    for raw in raws:
        story.server.plant(raw)
    assert counted(story.sweep()) == (5, 0, 0, 0)
    assert {"mail.eml", "mail.json"} < set(story.one.visible)
    assert len(story.one.visible) == 10


def test_a_path_that_a_consumer_has_emptied_is_not_used_by_another_mail() -> None:
    story = Story()
    first, second = story.server.plant(mail("invoice")), None
    story.sweep()
    story.one.take("invoice.eml")
    second = story.server.plant(mail("invoice"))
    story.sweep()
    assert list(story.one.visible) == [f"invoice-{story.entry(second).key}.eml"]
    assert story.entry(first).artifacts[0].path == "invoice.eml"


def test_with_on_conflict_fail_the_mail_is_given_up_with_a_remedy_and_healed_by_a_retry() -> None:
    story = Story(delete_mails_on_server=True)
    story.conflicts("fail")
    story.one.visible["invoice.eml"] = b"not ours"
    raw = mail("invoice")
    ref = story.server.plant(raw)
    story.server.plant(mail("order"))
    assert counted(story.sweep()) == (1, 0, 1, 0)
    entry = story.entry(ref)
    assert entry.stage is Stage.GIVEN_UP
    assert entry.trouble is not None
    assert entry.trouble.error == "PathOccupied"
    assert "take the file away" in entry.trouble.remedy
    assert story.server.contents() == [raw]
    assert story.one.visible["invoice.eml"] == b"not ours"
    del story.one.visible["invoice.eml"]
    story.again()
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert story.one.visible["invoice.eml"] == raw
    assert story.server.contents() == []


def test_with_on_conflict_fail_a_path_of_another_mail_fails_too_and_nothing_of_it_is_staged() -> None:
    story = Story()
    story.conflicts("fail")
    story.server.plant(mail("invoice"))
    story.server.plant(mail("invoice"))
    assert counted(story.sweep()) == (1, 0, 1, 0)
    story.server.plant(mail("invoice"))  # and so in a later sweep
    assert counted(story.sweep()) == (0, 0, 1, 0)
    assert len(story.one.published) == 1
    assert not story.one.staging


def test_two_destinations_at_one_place_are_refused() -> None:
    story = Story(places=("one", "two"))
    story.places["two"] = MemoryDestination("memory:one")
    with pytest.raises(DestinationsAlike, match="'one', 'two', two are one and the same place"):
        story.sweep()


def test_a_file_refused_at_one_destination_and_occupied_at_the_other_finds_its_way() -> None:
    story = Story(places=("one", "two"))
    story.two.visible["invoice.eml"] = b"not ours"
    story.one.refuse = lambda path: REFUSED
    raw = mail("invoice")
    ref = story.server.plant(raw)
    assert counted(story.sweep()) == (0, 0, 1, 0)
    story.one.refuse = lambda path: None
    story.wait(hours=7)
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert data_of(story.one) == data_of(story.two) == [raw]
    assert story.entry(ref).attempts == 0


# ------------------------------------------------------------------------------------------------------ whose fault


def test_a_refused_file_fails_one_mail_only_with_back_off() -> None:
    story = Story(delete_mails_on_server=True)
    story.one.refuse = lambda path: REFUSED if "virus" in path else None
    raw = mail("virus")
    ref = story.server.plant(raw)
    for number in range(3):
        story.server.plant(mail(f"mail {number}"))
    report = story.sweep()
    assert report.state is SweepState.DONE
    assert counted(report) == (3, 0, 1, 0)
    entry = story.entry(ref)
    assert entry.attempts == 1
    assert entry.trouble == REFUSED
    assert entry.due_at is not None
    assert entry.due_at > story.now
    assert story.server.contents() == [raw]
    assert not story.one.staging


def test_a_mail_whose_files_have_names_that_no_store_keeps_fails_alone_before_it_is_staged() -> None:
    place = "memory:" + "x" * 2400
    story = Story(mail_archiving=MailArchiving(active=True, path_template="{subject}.eml"))
    story.places["one"] = MemoryDestination(place, story.fuse)
    bad, _ = story.server.plant(mail("long" * 40)), story.server.plant(mail("short"))
    assert counted(story.sweep()) == (1, 0, 1, 0)
    entry = story.entry(bad)
    assert (entry.stage, entry.artifacts) == (Stage.GIVEN_UP, ())
    assert entry.trouble is not None
    assert entry.trouble.error == "NameTooLong"
    assert [path for path, _ in story.one.published] == ["short.eml"]
    assert not story.one.batches()


def test_what_will_never_be_taken_is_given_up_at_once() -> None:
    story = Story()
    story.one.refuse = lambda path: Trouble(error="NameRefused", message="no such names", transient=False)
    story.server.plant(mail("invoice"))
    assert counted(story.sweep()) == (0, 0, 1, 0)
    assert story.stages() == [Stage.GIVEN_UP]


def test_a_destination_that_is_down_pauses_and_the_other_one_is_not_written_twice() -> None:
    story = Story(places=("one", "two"), delete_mails_on_server=True)
    raws = [mail(f"mail {number}") for number in range(3)]
    for raw in raws:
        story.server.plant(raw)
    story.fuse.arm(0, place="destination.published", error=lambda at: DestinationUnavailable("the share is gone"))
    report = story.sweep()
    assert report.state is SweepState.PAUSED
    assert report.trouble is not None
    assert report.trouble.error == "DestinationUnavailable"
    assert {entry.attempts for entry in story.store.all()} == {0}
    assert story.server.contents() == raws
    story.sweep()
    assert data_of(story.one) == data_of(story.two) == raws
    assert story.server.contents() == []


def test_one_destination_down_from_the_start_stores_nothing_and_counts_no_attempt() -> None:
    story = Story(places=("one", "two"), delete_mails_on_server=True)
    raw = mail("invoice")
    story.server.plant(raw)
    story.two.down = True
    for _ in range(3):
        report = story.sweep()
        assert report.state is SweepState.PAUSED
        assert not report.well
    (entry,) = story.store.all()
    assert entry.attempts == 0
    assert entry.outcome is Outcome.PENDING
    assert story.server.contents() == [raw]
    story.two.down = False
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert data_of(story.one) == data_of(story.two) == [raw]


class Failing(MemoryDestination):
    """Answers every put with a trouble, and the probe says that nothing can be stored at all."""

    broken = True
    asked = 0

    def probe(self) -> Trouble | None:
        return Trouble(error="ReadOnly", message="read-only file system") if self.broken else None

    def stage(self, batch: BatchId, puts: Sequence[Put]) -> Mapping[str, Staged | Trouble]:
        self.asked += 1
        if self.broken:
            return {put.part: Trouble(error="Unwritable", message="cannot write") for put in puts}
        return super().stage(batch, puts)


def test_the_probe_tells_that_it_is_the_destination_and_the_sweep_pauses() -> None:
    story = Story()
    failing = Failing()
    story.places["one"] = failing
    for number in range(6):
        story.server.plant(mail(f"mail {number}"))
    report = story.sweep(bounds=Bounds(mails=2))
    assert report.state is SweepState.PAUSED
    assert report.trouble is not None
    assert report.trouble.error == "ReadOnly"
    assert failing.asked == 1  # the rest is not even fetched in vain
    assert {entry.attempts for entry in story.store.all()} == {0}
    failing.broken = False
    assert counted(story.sweep(bounds=Bounds(mails=2))) == (6, 0, 0, 0)


def test_one_destination_that_is_down_pauses_though_another_only_refuses_a_file() -> None:
    story = Story(places=("one", "two"))
    failing = Failing("memory:one")
    story.places["one"] = failing
    first, second = story.options.destinations
    story.change(
        export_attachments=True,
        mail_archiving=MailArchiving(active=True, path_template="{subject}.eml", destinations=("two",)),
        destinations=(first, attrs.evolve(second, path_template="{filename}")),
    )
    story.two.refuse = lambda path: REFUSED if path == "virus.eml" else None
    story.server.plant(mail("invoice", attachments=[("a.pdf", "application/pdf", b"%PDF")]))
    story.server.plant(mail("virus"))
    assert story.sweep().state is SweepState.PAUSED


def test_a_mail_that_finds_no_room_waits_without_an_attempt_while_others_go_on() -> None:
    story = Story(delete_mails_on_server=True)
    full = Trouble(error="DestinationFull", message="no room", remedy="make room")
    story.one.refuse = lambda path: full if "huge" in path else None
    raw = mail("huge")
    ref = story.server.plant(raw)
    for number in range(4):
        story.server.plant(mail(f"mail {number}"))
    report = story.sweep(bounds=Bounds(mails=2))
    assert report.state is SweepState.PAUSED
    assert not report.well
    assert report.trouble == full
    assert counted(report) == (4, 0, 0, 1)
    assert story.entry(ref).attempts == 0
    assert story.server.contents() == [raw]
    story.one.refuse = lambda path: None
    assert story.sweep().well
    assert story.server.contents() == []


class Wrong(MemoryDestination):
    """Writes other bytes than it was given, or says nothing about them."""

    silent = False

    def stage(self, batch: BatchId, puts: Sequence[Put]) -> Mapping[str, Staged | Trouble]:
        answers = super().stage(batch, puts)
        if self.silent:
            return {}
        return {
            part: Staged(part=part, path=answer.path, size=answer.size, sha256="0" * 64)
            for part, answer in answers.items()
            if isinstance(answer, Staged)
        }


@pytest.mark.parametrize("silent", [False, True])
def test_what_was_written_wrong_is_never_published(silent: bool) -> None:
    story = Story(delete_mails_on_server=True)
    wrong = Wrong()
    wrong.silent = silent
    story.places["one"] = wrong
    raw = mail("invoice")
    story.server.plant(raw)
    assert counted(story.sweep()) == (0, 0, 1, 0)
    trouble = story.store.all()[0].trouble
    assert trouble is not None
    assert trouble.error == ("BrokenPlugin" if silent else "WrittenWrong")
    assert not wrong.published
    assert story.server.contents() == [raw]


class Raising(MemoryDestination):
    def stage(self, batch: BatchId, puts: Sequence[Put]) -> Mapping[str, Staged | Trouble]:
        raise ZeroDivisionError("the password is hunter2")


def test_an_adapter_that_raises_what_it_should_not_pauses_and_gives_nothing_away() -> None:
    story = Story()
    story.places["one"] = Raising()
    story.server.plant(mail("invoice"))
    report = story.sweep()
    assert report.state is SweepState.PAUSED
    assert report.trouble is not None
    assert report.trouble.error == "InternalError"
    assert "hunter2" not in str(report)


# --------------------------------------------------------------------------------------------------- after a crash


def test_a_batch_that_is_gone_is_never_written_again_never_tidied_and_shown_as_failed() -> None:
    story = Story(delete_mails_on_server=True)
    raw = mail("invoice")
    ref = story.server.plant(raw)
    story.crash(place="destination.published")
    story.one.staging.clear()
    story.one.take("invoice.eml")
    for _ in range(3):
        story.sweep()
        story.wait(days=1)
    entry = story.entry(ref)
    assert entry.stage is Stage.UNCONFIRMED
    assert entry.outcome is Outcome.FAILED
    assert entry.trouble is not None
    assert "look whether the file arrived" in entry.trouble.remedy
    assert story.server.contents() == [raw]
    assert len(story.one.published) == 1
    assert not story.one.visible
    story.again()  # a person has looked
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert story.server.contents() == []


def test_what_was_published_and_taken_before_a_crash_is_stored() -> None:
    story = Story(delete_mails_on_server=True)
    story.one.consumer = taker(story.one)
    story.server.plant(mail("invoice"))
    story.crash(place="destination.published")
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert len(story.one.taken) == 1
    assert story.server.contents() == []


def test_what_is_staged_is_published_without_the_mail_server() -> None:
    story = Story()
    raw = mail("invoice")
    story.server.plant(raw)
    story.crash(place="destination.publish")
    story.server.down = True
    report = story.sweep()
    assert report.state is SweepState.FAILED
    assert counted(report) == (1, 0, 0, 0)
    assert data_of(story.one) == [raw]


def test_a_removed_destination_is_dropped_from_open_plans() -> None:
    story = Story(places=("one", "two"), delete_mails_on_server=True)
    raw = mail("invoice")
    ref = story.server.plant(raw)
    story.crash(place="destination.publish")
    story.change(destinations=(DestinationOptions(name="one", url="memory:one"),))
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert [artifact.destination for artifact in story.entry(ref).artifacts] == ["one"]
    assert data_of(story.one) == [raw]
    assert not story.two.published
    assert story.server.contents() == []


def test_with_its_only_destination_replaced_nobody_can_tell_where_a_planned_mail_went() -> None:
    story = Story(delete_mails_on_server=True)
    raw = mail("invoice")
    ref = story.server.plant(raw)
    story.crash(place="destination.published")
    story.places = {"new": MemoryDestination("memory:new")}
    story.change(destinations=(DestinationOptions(name="new", url="memory:new"),))
    for _ in range(2):
        story.sweep()
        assert story.entry(ref).stage is Stage.UNCONFIRMED
        assert not story.places["new"].published
        assert story.server.contents() == [raw]
    story.again()
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert data_of(story.places["new"]) == [raw]


def test_a_destination_that_is_only_called_otherwise_is_the_same_one() -> None:
    story = Story(delete_mails_on_server=True)
    raw = mail("invoice")
    story.server.plant(raw)
    story.crash(place="destination.published")
    one = story.one
    one.take("invoice.eml")
    story.places = {"renamed": one}
    story.change(destinations=(DestinationOptions(name="renamed", url="memory:one"),))
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert [data for _, data in one.published] == [raw]
    assert story.server.contents() == []


def test_a_mail_that_is_tried_again_under_another_name_of_its_destination_is_not_written_twice() -> None:
    story = Story(places=("one", "two"))
    raw = mail("invoice")
    story.server.plant(raw)
    story.falter(DestinationUnavailable("gone"), after=1, place="destination.publish")
    one = story.one
    story.places = {"first": one, "two": story.two}
    story.change(
        destinations=(
            DestinationOptions(name="first", url="memory:one"),
            DestinationOptions(name="two", url="memory:two"),
        )
    )
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert [data for _, data in one.published] == [raw]
    assert [data for _, data in story.two.published] == [raw]


def test_an_added_destination_gets_new_mail_only() -> None:
    story = Story(places=("one", "two"))
    both = story.options.destinations
    story.change(destinations=both[:1])
    before, after = mail("before"), mail("after")
    story.server.plant(before)
    story.sweep()
    story.change(destinations=both)
    story.server.plant(after)
    story.sweep()
    assert data_of(story.one) == sorted([before, after])
    assert data_of(story.two) == [after]


def test_what_dead_workers_left_behind_is_cleared_and_nobody_elses() -> None:
    story = Story()
    story.sweep()
    mine = BatchId(MAILBOX, 1, 9, "ours")
    others = {
        BatchId(type(MAILBOX)("another"), 1, 9, "ours"),
        BatchId(MAILBOX, 1, 9, "another store's"),
        BatchId(MAILBOX, 999, 1, "ours"),
    }
    story.one.staging = {batch: {"1-1": b"half"} for batch in {mine, *others}}
    story.sweep()
    assert set(story.one.staging) == others


# ------------------------------------------------------------------------------------------------------ side by side


class Meeting(MemoryDestination):
    """Stages and publishes only while the other one does, too."""

    barrier = Barrier(2)

    def stage(self, batch: BatchId, puts: Sequence[Put]) -> Mapping[str, Staged | Trouble]:
        self.barrier.wait(20)
        return super().stage(batch, puts)


def test_destinations_work_side_by_side() -> None:
    story = Story(places=("one", "two"))
    story.places = {"one": Meeting("memory:one"), "two": Meeting("memory:two")}
    raws = [mail(f"mail {number}") for number in range(4)]
    for raw in raws:
        story.server.plant(raw)
    with ThreadPoolExecutor(1) as lanes:
        assert counted(story.sweep(lanes=lanes, bounds=Bounds(mails=2))) == (4, 0, 0, 0)
    assert data_of(story.one) == data_of(story.two) == raws


class Reluctant(MemoryDestination):
    """Stages everything and does not publish for a while."""

    reluctant = True

    def publish(self, batch: BatchId, staged: Sequence[Staged]) -> Mapping[str, Receipt | Occupied | Unknown | Trouble]:
        if self.reluctant:
            return {part.part: REFUSED for part in staged}
        return super().publish(batch, staged)


def test_what_could_not_be_published_stays_staged_until_it_is_due_again() -> None:
    story = Story(delete_mails_on_server=True)
    reluctant = Reluctant()
    story.places["one"] = reluctant
    raw = mail("invoice")
    ref = story.server.plant(raw)
    assert counted(story.sweep()) == (0, 0, 1, 0)
    assert story.entry(ref).stage is Stage.PLANNED
    assert story.entry(ref).attempts == 1
    assert counted(story.sweep()) == (0, 0, 1, 0)  # not due
    assert len(reluctant.staging) == 1
    reluctant.reluctant = False
    story.wait(hours=7)
    fetches = len(story.server.fetches)
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert len(story.server.fetches) == fetches
    assert data_of(reluctant) == [raw]
    assert not reluctant.staging
    assert story.server.contents() == []


def test_archiving_may_go_to_one_destination_and_attachments_to_all() -> None:
    story = Story(places=("one", "two"), export_attachments=True)
    story.change(mail_archiving=MailArchiving(active=True, path_template="{key}.eml", destinations=("two",)))
    story.server.plant(mail("invoice", attachments=[("a.pdf", "application/pdf", b"%PDF")]))
    assert counted(story.sweep()) == (1, 0, 0, 0)
    (entry,) = story.store.all()
    assert [path.rpartition("/")[2] for path in story.one.visible] == [f"{entry.key}-a.pdf"]
    assert sorted(path.rpartition("/")[2] for path in story.two.visible) == [f"{entry.key}-a.pdf", f"{entry.key}.eml"]


def test_monitors_hear_of_what_is_stored_after_it_is_recorded() -> None:
    story = Story(mail_archiving=ARCHIVING)
    ref = story.server.plant(mail("invoice"))
    pairs: list[tuple[Stage, Stage]] = []

    def monitor(event: object) -> None:
        if isinstance(event, EntriesRecorded):
            pairs.append((event.entries[0].stage, story.entry(ref).stage))

    story.monitor = monitor
    story.sweep()
    assert len(pairs) == 3
    assert all(told is in_ledger for told, in_ledger in pairs)
