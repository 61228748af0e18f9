"""Which mails are which after a renumbering: one to one, never a new mail for a stored one, in doubt not at all."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.message import Envelope
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.progress import Entry, Stage
from maildaemon_core.recognition import recognise
from tests.core.entries import THEN, entry, envelope

SOME_STAGES = st.sampled_from([Stage.FOUND, Stage.PLANNED, Stage.SETTLED, Stage.SKIPPED, Stage.GIVEN_UP])


@st.composite
def folders(draw: st.DrawFn) -> tuple[list[Envelope], list[Entry]]:
    """A few looks, times and strong ids, so that nearly everything resembles something else."""
    looks = st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.none() | st.sampled_from("ST"))
    listed = [
        envelope(look, uid=uid, received=THEN + timedelta(minutes=minute), strong=strong)
        for uid, (look, minute, strong) in enumerate(draw(st.lists(looks, max_size=6)), start=1)
    ]
    remembered = [
        entry(look, uid=uid, received=THEN + timedelta(minutes=minute), strong=strong, stage=draw(SOME_STAGES))
        for uid, (look, minute, strong) in enumerate(draw(st.lists(looks, max_size=6)), start=1)
    ]
    return listed, remembered


@given(folders())
def test_every_mail_and_every_entry_is_accounted_for_once(folder: tuple[list[Envelope], list[Entry]]) -> None:
    listed, remembered = folder
    found = recognise(listed, remembered)
    refs = [ref for _, ref in found.same] + [each.ref for each in (*found.new, *found.doubtful)]
    assert sorted(refs) == sorted(each.ref for each in listed)
    ids = [each.id for each, _ in found.same] + [each.id for each in found.lost]
    assert sorted(map(str, ids)) == sorted(str(each.id) for each in remembered)


@given(folders())
def test_nothing_is_recognised_against_its_strong_id_or_its_look(folder: tuple[list[Envelope], list[Entry]]) -> None:
    listed, remembered = folder
    by_ref = {each.ref: each for each in listed}
    for known, ref in recognise(listed, remembered).same:
        mail = by_ref[ref]
        if known.identity.strong and mail.strong_id:
            assert known.identity.strong == mail.strong_id
        else:
            assert known.identity.fingerprint == mail.identity.fingerprint


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), SOME_STAGES), max_size=8), st.randoms())
def test_a_folder_without_look_alikes_is_recognised_in_any_order(
    mails: list[tuple[str, int, Stage]], random: object
) -> None:
    unlike = {(look, minute): stage for look, minute, stage in mails}
    remembered = [
        entry(look, uid=uid, received=THEN + timedelta(minutes=minute), stage=stage)
        for uid, ((look, minute), stage) in enumerate(unlike.items(), start=1)
    ]
    listed = [
        envelope(look, uid=100 - uid, received=THEN + timedelta(minutes=minute))
        for uid, (look, minute) in enumerate(unlike, start=1)
    ]
    random.shuffle(listed)  # type: ignore[attr-defined]
    found = recognise(listed, remembered)
    assert {(known.id, ref.uid) for known, ref in found.same} == {
        (uid, str(100 - uid)) for uid in range(1, len(unlike) + 1)
    }
    assert (found.new, found.doubtful, found.lost) == ((), (), ())


def test_a_strong_id_decides_though_everything_else_changed() -> None:
    stored = entry("before", strong="S", stage=Stage.SETTLED)
    found = recognise([envelope("after", received=THEN + timedelta(days=1), strong="S")], [stored])
    assert found.same == ((stored, envelope().ref),)


def test_two_strong_ids_are_two_mails_however_alike_they_look() -> None:
    stored = entry(strong="S", stage=Stage.SETTLED)
    mail = envelope(strong="T")
    found = recognise([mail], [stored])
    assert (found.same, found.new, found.lost) == ((), (mail,), (stored,))


def test_copies_that_share_their_strong_id_are_recognised_when_it_does_not_matter_which_is_which() -> None:
    stored = [entry(uid=uid, strong="S", stage=Stage.SETTLED) for uid in (1, 2)]
    mails = [envelope(uid=uid, strong="S") for uid in (1, 2)]
    found = recognise(mails, stored)
    assert len(found.same) == 2
    assert (found.new, found.doubtful) == ((), ())


def test_and_one_copy_too_many_is_doubtful_never_silently_new_or_stored() -> None:
    stored = entry(strong="S", stage=Stage.SETTLED)
    mails = (envelope(uid=1, strong="S"), envelope(uid=2, strong="S"))
    found = recognise(mails, [stored])
    assert (found.same, found.new, found.doubtful, found.lost) == ((), (), mails, (stored,))


def test_a_mail_with_another_strong_id_is_not_hidden_among_look_alikes() -> None:
    stored = [entry(uid=1, strong="S", stage=Stage.SETTLED), entry(uid=2, stage=Stage.SETTLED)]
    mails = (envelope(uid=1, strong="T"), envelope(uid=2))
    found = recognise(mails, stored)
    assert not any(ref.uid == "1" for _, ref in found.same)


def test_a_later_copy_of_a_stored_mail_is_new() -> None:
    stored = entry(stage=Stage.SETTLED)
    copy = envelope(received=THEN + timedelta(minutes=5))
    found = recognise([copy], [stored])
    assert (found.same, found.new) == ((), (copy,))


def test_a_server_that_evidently_made_new_times_is_believed_without() -> None:
    stored = [entry(look, uid=uid, stage=Stage.SETTLED) for uid, look in enumerate("abc", start=1)]
    later = [envelope(look, uid=uid, received=THEN + timedelta(days=uid)) for uid, look in enumerate("abc", start=1)]
    found = recognise(later, stored)
    assert len(found.same) == 3
    two = recognise(later[:2], stored[:2])  # two might as well be copies that arrived later
    assert len(two.new) == 2


def test_a_single_mail_that_kept_its_time_shows_that_times_are_kept() -> None:
    stored = [entry(look, uid=uid, stage=Stage.SETTLED) for uid, look in enumerate("abcd", start=1)]
    later = [envelope(look, uid=uid, received=THEN + timedelta(days=uid - 1)) for uid, look in enumerate("abcd", 1)]
    found = recognise(later, stored)
    assert [(known.id, ref.uid) for known, ref in found.same] == [(1, "1")]
    assert found.new == tuple(later[1:])


@pytest.mark.parametrize("kind", ["uidl:1", "", "plugin:7"])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_another_kind_of_source_tells_other_times_and_mails_are_recognised_all_the_same(kind: str, number: int) -> None:
    looks = "abcde"[:number]
    stored = [entry(look, uid=uid, stage=Stage.SETTLED) for uid, look in enumerate(looks, start=1)]
    # the first of them is told with the very same time, which says nothing about the others
    mails = [
        envelope(look, uid=uid, validity=kind, received=THEN + timedelta(seconds=uid - 1))
        for uid, look in enumerate(looks, start=1)
    ]
    found = recognise(mails, stored)
    assert {(known.id, ref.uid) for known, ref in found.same} == {(uid, str(uid)) for uid in range(1, number + 1)}
    assert (found.new, found.doubtful) == ((), ())


def test_what_was_deleted_through_another_kind_of_source_is_not_taken_for_a_copy_that_came_later() -> None:
    stored = entry(stage=Stage.SETTLED, care=Aftercare(Action.DELETE))
    copy = envelope(validity="uidl:1", received=THEN + timedelta(minutes=5))
    assert recognise([copy], [stored]).new == (copy,)


def test_of_two_copies_one_was_stored_through_another_kind_and_neither_is_skipped() -> None:
    stored = entry(stage=Stage.SETTLED)
    mails = tuple(envelope(uid=uid, validity="uidl:1", received=THEN + timedelta(minutes=uid)) for uid in (1, 2))
    assert recognise(mails, [stored]).doubtful == mails


def test_look_alikes_at_different_points_are_doubtful() -> None:
    remembered = [entry(uid=1, stage=Stage.SETTLED), entry(uid=2, stage=Stage.FOUND)]
    mails = (envelope(uid=1), envelope(uid=2))
    found = recognise(mails, remembered)
    assert found.doubtful == mails
    assert found.lost == tuple(remembered)


def test_open_look_alikes_and_one_more_are_all_still_to_be_done() -> None:
    remembered = [entry(uid=1), entry(uid=2, stage=Stage.WAITING)]
    found = recognise([envelope(uid=uid) for uid in (1, 2, 3)], remembered)
    assert (len(found.same), len(found.new), len(found.doubtful)) == (2, 1, 0)


def test_of_stored_look_alikes_one_may_be_missing() -> None:
    remembered = [entry(uid=uid, stage=Stage.SETTLED) for uid in (1, 2, 3)]
    found = recognise([envelope(uid=1), envelope(uid=2)], remembered)
    assert (len(found.same), len(found.lost)) == (2, 1)


def test_the_same_message_id_alone_makes_no_mail_known() -> None:
    stored = entry(stage=Stage.SETTLED)
    other = envelope("another", message_id="<invoice@firm.example>")
    assert recognise([other], [stored]).new == (other,)
