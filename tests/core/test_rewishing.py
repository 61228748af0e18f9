"""What was planned before is recognised, however an attachment is numbered by now: nothing lost, nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import attrs
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.message import Attachment, BytesContent, Headers, Message
from maildaemon_core.options import DestinationOptions, MailArchiving, MailboxOptions
from maildaemon_core.plan import Store, plan_message
from maildaemon_core.progress import Artifact, Role
from maildaemon_core.rewishing import claims, numbered
from tests.core.entries import RECEIPT, entry

ONE = DestinationOptions(name="one", url="/srv/one", path_template="{index}-{filename}")
TWO = DestinationOptions(name="two", url="/srv/two", path_template="{filename}")
PLACES = {"one": "/srv/one", "two": "/srv/two"}
OPTIONS = MailboxOptions(
    mailbox="in@our.example",
    mail_archiving=MailArchiving(active=True, metadata=True),
    export_attachments=True,
    destinations=(ONE, TWO),
)

Found = tuple[str | None, bytes]

found = st.tuples(st.sampled_from([None, "a.pdf", "b.pdf", "image.png"]), st.sampled_from([b"", b"1", b"2"]))
readings = st.lists(found, max_size=5)


def message(attachments: Sequence[Found]) -> Message:
    return Message(
        headers=Headers(sender="jane@example.com"),
        content=BytesContent(b"mail"),
        attachments=tuple(
            Attachment(index=index, name=name, content_type="a/b", content=BytesContent(data))
            for index, (name, data) in enumerate(attachments, start=1)
        ),
    )


def planned(attachments: Sequence[Found], earlier: Sequence[Artifact] = ()) -> Store:
    plan = plan_message(entry(artifacts=tuple(earlier)), message(attachments), OPTIONS, PLACES)
    assert isinstance(plan, Store)
    return plan


def recorded(plan: Store, published: Sequence[bool]) -> list[Artifact]:
    """What the ledger has after an attempt of which some files became visible; every path is its own."""
    artifacts = [*plan.done, *(wish.artifact for wish in plan.wishes)]
    return [
        attrs.evolve(each, path=f"{at}/{each.path}", receipt=each.receipt or (RECEIPT if shown else None))
        for at, (each, shown) in enumerate(zip(artifacts, published, strict=True))
    ]


def files(artifacts: Sequence[Artifact]) -> Counter[tuple[str, str | None, str]]:
    return Counter((each.place, each.name, each.sha256) for each in artifacts if each.role is Role.ATTACHMENT)


def test_what_is_published_is_the_one_of_two_copies_that_is_still_wanted() -> None:
    """Though another attachment of the same bytes has its number now."""
    first = planned([("a.pdf", b"1"), ("a.pdf", b"1")])
    earlier = recorded(first, [wish.artifact.index == 2 for wish in first.wishes])
    for now in ([("a.pdf", b"1"), (None, b"1")], [(None, b""), (None, b"1"), ("a.pdf", b"1")]):
        again = planned(now, earlier)
        names = [wish.artifact.name for wish in again.wishes if wish.artifact.role is Role.ATTACHMENT]
        assert set(names) == {None}


@given(readings, readings, st.data())
def test_for_any_two_readings_nothing_wanted_is_left_out_and_nothing_published_is_written_twice(
    before: list[Found], now: list[Found], data: st.DataObject
) -> None:
    first = planned(before)
    earlier = recorded(first, [data.draw(st.booleans()) for _ in first.wishes])
    again = planned(now, earlier)
    done = [each for each in earlier if each.receipt]
    assert list(again.done) == done
    wanted = files([wish.artifact for wish in planned(now).wishes])
    written, there = files([wish.artifact for wish in again.wishes]), files(done)
    missing = wanted - (written + there)
    # What is neither written nor there as it is now is there under its number with another name, or other bytes.
    spare = list((there - wanted).elements())
    for place, name, digest in missing.elements():
        like = next(each for each in spare if each[0] == place and (name in {each[1]} - {None} or each[2] == digest))
        spare.remove(like)
    for same, number in written.items():
        assert number <= max(0, wanted[same] - there[same]), "published, and written again"
    for role in (Role.MAIL, Role.METADATA):
        for place in PLACES.values():
            both = [*again.done, *(wish.artifact for wish in again.wishes)]
            assert sum((each.role, each.place) == (role, place) for each in both) == 1


@given(readings, readings, readings, st.data())
def test_every_file_of_a_mail_has_a_slot_of_its_own_and_what_was_planned_keeps_its_path(
    before: list[Found], between: list[Found], now: list[Found], data: st.DataObject
) -> None:
    artifacts: list[Artifact] = []
    for reading in (before, between, now):
        plan = planned(reading, artifacts)
        everything = [*plan.done, *(wish.artifact for wish in plan.wishes)]
        assert len({each.slot for each in everything}) == len(everything)
        paths = {each.path: each for each in artifacts if not each.receipt}
        for wish in plan.wishes:
            assert wish.settled == (wish.artifact.path in paths)
            if wish.settled:
                assert wish.artifact.slot == paths[wish.artifact.path].slot
        artifacts = recorded(plan, [data.draw(st.booleans()) for _ in everything])


@given(readings, st.data())
def test_the_same_reading_finds_everything_again(before: list[Found], data: st.DataObject) -> None:
    first = planned(before)
    earlier = recorded(first, [data.draw(st.booleans()) for _ in first.wishes])
    again = planned(before, earlier)
    assert [wish.artifact.path for wish in again.wishes] == [each.path for each in earlier if not each.receipt]


def test_a_container_that_is_opened_now_shifts_the_numbers_and_nothing_else() -> None:
    first = planned([("winmail.dat", b"1"), ("image.png", b"A"), ("image.png", b"B")])
    shown = [wish.artifact.sha256 == BytesContent(b"A").sha256 for wish in first.wishes]
    again = planned(
        [("winmail.dat", b"1"), ("image.png", b"inside"), ("image.png", b"A"), ("image.png", b"B")],
        recorded(first, shown),
    )
    stored = [(wish.artifact.destination, b"".join(wish.content.chunks())) for wish in again.wishes]
    expected = [b"1", b"inside", b"B"]
    assert [data for name, data in stored if name == "two"][2:] == expected
    new = next(wish.artifact for wish in again.wishes if wish.artifact.size == len(b"inside"))
    assert new.index == 5  # 2 and 3 are those of the files that were planned before
    assert new.path == "2-image.png"  # people see its number in the mail


def test_an_unnamed_attachment_is_not_taken_for_another_by_its_number_alone() -> None:
    first = planned([(None, b"1")])
    again = planned([(None, b"2"), (None, b"1")], recorded(first, [True] * len(first.wishes)))
    assert {b"".join(wish.content.chunks()) for wish in again.wishes} == {b"2"}


def test_a_mail_that_is_rendered_anew_on_each_fetch_is_recognised_by_number_and_name() -> None:
    first = planned([("letter.eml", b"1")])
    again = planned([("letter.eml", b"2")], recorded(first, [True] * len(first.wishes)))
    assert again.wishes == ()


def test_nothing_is_claimed_across_places_or_roles() -> None:
    first = planned([("a.pdf", b"1")])
    wanted = [wish.artifact for wish in first.wishes]
    moved = [attrs.evolve(each, place="/srv/three") for each in wanted]
    assert claims(wanted, moved) == {}
    assert claims(wanted, wanted) == dict(enumerate(wanted))
    assert numbered(wanted, {}, moved) == [each.index for each in wanted]
