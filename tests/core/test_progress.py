"""The stages of a mail: only steps of the table, every stage reaches an end, a fault moves the due time or ends."""

from __future__ import annotations

from datetime import timedelta
from typing import get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.errors import Trouble
from maildaemon_core.message import BatchId
from maildaemon_core.options import KEEP, Action, Aftercare
from maildaemon_core.progress import (
    STEPS,
    Again,
    Artifact,
    Entry,
    Faltered,
    GaveUp,
    Gone,
    Happening,
    LeftInHand,
    LetGo,
    NoSuchStep,
    Outcome,
    Planned,
    Published,
    Rebound,
    Role,
    Spared,
    Stage,
    Taken,
    Tidied,
    Unconfirmable,
    Unstaged,
    Withheld,
    advance,
)
from maildaemon_core.testing.entry_strategies import cares, entries, moments, troubles
from tests.core.entries import BOX, NOW, RECEIPT, artifact, entry, ref

TROUBLE = Trouble(error="Odd", message="it is odd")
DELETE = Aftercare(Action.DELETE)
BATCH = BatchId(BOX, 1, 1, "n")
CLOSED = {Stage.SETTLED, Stage.SET_ASIDE, Stage.GIVEN_UP, Stage.UNCONFIRMED, Stage.UNTIDIED, Stage.VANISHED}


def artifacts() -> st.SearchStrategy[tuple[Artifact, ...]]:
    one = st.builds(artifact, st.sampled_from("abc"), done=st.booleans())
    return st.lists(one, min_size=1, max_size=3, unique_by=lambda each: each.path).map(tuple)


def happenings() -> st.SearchStrategy[Happening]:
    later = moments().map(lambda moment: max(moment, NOW + timedelta(minutes=1)))
    return st.one_of(
        st.builds(Taken, st.integers(1, 9)),
        st.just(LeftInHand()),
        st.builds(LetGo, suspect=st.booleans(), trouble=st.none() | troubles()),
        st.builds(Withheld, st.just("unwanted"), cares().filter(lambda care: care.action is not Action.DELETE)),
        st.just(Gone()),
        st.builds(Planned, batch=st.just(BATCH), artifacts=artifacts(), care=cares(), complete=st.booleans()),
        st.builds(Published, artifacts()),
        st.builds(Unstaged, artifacts()),
        st.builds(Unconfirmable, troubles()),
        st.builds(Faltered, troubles(), later),
        st.builds(GaveUp, troubles()),
        st.just(Tidied()),
        st.just(Spared()),
        st.just(Again()),
        st.just(Rebound(ref(9))),
    )


def followed(start: Entry, steps: list[Happening]) -> list[Entry]:
    """The entries on the way along those steps that are possible."""
    way = [start]
    for step in steps:
        if type(step) in STEPS[way[-1].stage]:
            way.append(advance(way[-1], step, NOW))
    return way


@given(entries(BOX), happenings())
def test_only_steps_of_the_table_are_taken(start: Entry, happening: Happening) -> None:
    expected = STEPS[start.stage].get(type(happening))
    if expected is None:
        with pytest.raises(NoSuchStep):
            advance(start, happening, NOW)
        return
    after = advance(start, happening, NOW)
    stored = isinstance(happening, Published) and all(each.receipt for each in happening.artifacts)
    assert after.stage is (Stage.STORED if stored else expected)


def test_the_table_knows_every_stage_and_every_happening() -> None:
    assert set(STEPS) == set(Stage)
    assert {happening for steps in STEPS.values() for happening in steps} == set(get_args(Happening))


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_can_reach_an_end(stage: Stage) -> None:
    reached, frontier = {stage}, [stage]
    while frontier:
        at = frontier.pop()
        nexts = {*STEPS[at].values(), *([Stage.STORED] if at is Stage.PLANNED else [])}
        frontier += nexts - reached
        reached |= nexts
    assert reached & (CLOSED | {Stage.SKIPPED})


@given(st.lists(happenings(), max_size=30))
def test_an_entry_is_open_exactly_while_something_is_left_to_do(steps: list[Happening]) -> None:
    for after in followed(entry(), steps):
        if after.stage in CLOSED:
            assert not after.open
        elif after.stage is not Stage.SKIPPED:
            assert after.open
        assert after.in_hand == 0 or after.stage in {Stage.FOUND, Stage.WAITING}
        assert (after.batch is not None) >= (after.stage is Stage.PLANNED)


@given(st.lists(happenings(), max_size=30))
def test_nothing_but_the_reference_ever_changes_of_what_a_mail_is(steps: list[Happening]) -> None:
    start = entry()
    for after in followed(start, steps):
        for name in ("mailbox", "id", "identity", "key", "received", "first_seen", "sender", "subject"):
            assert getattr(after, name) == getattr(start, name)


@given(st.lists(happenings(), max_size=30))
def test_what_is_stored_has_every_receipt_and_never_becomes_unstored(steps: list[Happening]) -> None:
    way = followed(entry(), steps)
    stored = [after.stage in {Stage.STORED, Stage.SETTLED} for after in way]
    assert stored == sorted(stored)
    assert all(after.confirmed for after, is_stored in zip(way, stored, strict=True) if is_stored)


@given(entries(BOX), troubles())
def test_a_fault_moves_the_due_time_or_ends(start: Entry, trouble: Trouble) -> None:
    later = NOW + timedelta(minutes=5)
    for happening in (Faltered(trouble, later), GaveUp(trouble)):
        if type(happening) in STEPS[start.stage]:
            after = advance(start, happening, NOW)
            assert after.due_at == (later if isinstance(happening, Faltered) else None)
            assert after.attempts == start.attempts + 1
            assert after.trouble == trouble
            assert after.in_hand == 0


@given(entries(BOX), st.none() | troubles())
def test_to_be_let_go_counts_no_attempt(start: Entry, trouble: Trouble | None) -> None:
    if LetGo in STEPS[start.stage]:
        after = advance(start, LetGo(trouble=trouble), NOW)
        assert (after.attempts, after.in_hand, after.stage) == (start.attempts, 0, start.stage)
        assert after.trouble == (trouble or start.trouble)


def test_the_way_of_an_ordinary_mail() -> None:
    found = entry()
    assert found.outcome is Outcome.PENDING
    taken = advance(found, Taken(7), NOW)
    assert (taken.in_hand, taken.last_tried) == (7, NOW)
    planned = advance(
        taken, Planned(batch=BATCH, artifacts=(artifact("a"), artifact("b")), care=DELETE, complete=True), NOW
    )
    assert (planned.outcome, planned.in_hand, planned.batch) == (Outcome.PENDING, 0, BATCH)
    half = (attrs.evolve(planned.artifacts[0], receipt=RECEIPT), planned.artifacts[1])
    assert advance(planned, Published(half), NOW).stage is Stage.PLANNED
    stored = advance(planned, Published(tuple(attrs.evolve(each, receipt=RECEIPT) for each in half)), NOW)
    assert (stored.stage, stored.outcome, stored.batch) == (Stage.STORED, Outcome.STORED, None)
    assert [each.part for each in stored.artifacts] == ["", ""]
    assert stored.open
    settled = advance(stored, Tidied(), NOW)
    assert (settled.stage, settled.open, settled.care) == (Stage.SETTLED, False, DELETE)


def test_nobody_can_call_a_mail_stored_that_has_no_files() -> None:
    planned = entry(stage=Stage.PLANNED, batch=BATCH)
    assert advance(planned, Published(()), NOW).stage is Stage.PLANNED


def test_what_was_left_in_hand_is_suspect_and_due_at_once() -> None:
    after = advance(entry(in_hand=3, attempts=1), LeftInHand(), NOW)
    assert (after.stage, after.suspect, after.attempts, after.due_at) == (Stage.WAITING, True, 2, NOW)


def test_withheld_mail_keeps_only_what_was_published_and_is_due_only_for_a_move() -> None:
    start = entry(artifacts=(artifact("a", done=True), artifact("b")), trouble=TROUBLE, attempts=3, suspect=True)
    kept = advance(start, Withheld("unwanted"), NOW)
    moved = advance(start, Withheld("unwanted", Aftercare(Action.MOVE, "Unwanted")), NOW)
    assert [each.path for each in kept.artifacts] == ["a"]
    assert (kept.due_at, moved.due_at) == (None, NOW)
    assert (kept.trouble, kept.attempts, kept.suspect) == (None, 0, False)
    assert kept.outcome is Outcome.SKIPPED


def test_a_person_can_have_everything_tried_again_that_failed_or_was_skipped() -> None:
    for stage in (Stage.WAITING, Stage.GIVEN_UP, Stage.UNCONFIRMED, Stage.SKIPPED):
        start = entry(stage=stage, attempts=12, trouble=TROUBLE, artifacts=(artifact(),), reason="x", suspect=True)
        after = advance(start, Again(), NOW)
        assert (after.stage, after.due_at, after.attempts, after.trouble) == (Stage.FOUND, NOW, 0, None)
        assert (after.reason, after.suspect, after.care) == ("", False, KEEP)
        assert after.artifacts == start.artifacts  # it keeps its names (law 5)
    for stage in (Stage.STORED, Stage.UNTIDIED):
        care = Aftercare(Action.DELETE)
        start = entry(stage=stage, attempts=12, trouble=TROUBLE, artifacts=(artifact(done=True),), care=care)
        after = advance(start, Again(), NOW)  # only the server is tidied again
        assert (after.stage, after.due_at, after.attempts, after.trouble) == (Stage.STORED, NOW, 0, None)
        assert (after.care, after.artifacts) == (care, start.artifacts)
    for stage in (Stage.FOUND, Stage.PLANNED, Stage.SETTLED, Stage.SET_ASIDE, Stage.VANISHED):
        with pytest.raises(NoSuchStep, match=f"Again cannot happen to a mail that is {stage}"):
            advance(entry(stage=stage), Again(), NOW)


def test_the_outcomes_by_stage() -> None:
    assert {stage: entry(stage=stage).outcome for stage in Stage} == {
        Stage.FOUND: Outcome.PENDING,
        Stage.WAITING: Outcome.FAILED,
        Stage.PLANNED: Outcome.PENDING,
        Stage.STORED: Outcome.STORED,
        Stage.SETTLED: Outcome.STORED,
        Stage.UNTIDIED: Outcome.FAILED,
        Stage.SKIPPED: Outcome.SKIPPED,
        Stage.VANISHED: Outcome.SKIPPED,
        Stage.SET_ASIDE: Outcome.SKIPPED,
        Stage.GIVEN_UP: Outcome.FAILED,
        Stage.UNCONFIRMED: Outcome.FAILED,
    }
    assert entry(trouble=TROUBLE).outcome is Outcome.PENDING  # a destination's trouble: no attempt was counted
    assert entry(trouble=TROUBLE, stage=Stage.PLANNED).outcome is Outcome.PENDING
    assert entry(trouble=TROUBLE, stage=Stage.PLANNED, attempts=1).outcome is Outcome.FAILED
    assert entry(trouble=TROUBLE, stage=Stage.STORED).outcome is Outcome.FAILED  # the server cannot be tidied


def test_whole_means_that_the_mail_itself_is_among_the_files() -> None:
    attachment = artifact(role=Role.ATTACHMENT, index=1)
    assert entry(artifacts=(attachment, artifact())).whole
    assert not entry(artifacts=(attachment,)).whole


def test_a_slot_is_the_same_whatever_the_file_is_called() -> None:
    assert artifact("a").slot == artifact("b").slot
    assert artifact(destination="one").slot == artifact(destination="two").slot
    assert artifact(place="/srv/one").slot != artifact(place="/srv/two").slot
    assert artifact(role=Role.ATTACHMENT, index=1).slot != artifact(role=Role.ATTACHMENT, index=2).slot
