"""What of a mail is stored: deterministic, paths distinct, nothing wanted means nothing stored and nothing deleted."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.message import BytesContent, MailboxId, Message
from maildaemon_core.mime import read_message
from maildaemon_core.naming import MAX_PART, sanitise, split_extension
from maildaemon_core.options import (
    KEEP,
    Action,
    Aftercare,
    DestinationOptions,
    MailArchiving,
    MailboxOptions,
    Move,
    milder,
)
from maildaemon_core.plan import (
    DONE,
    Nothing,
    Store,
    care_now,
    choose_path,
    envelope_refusal,
    key_of,
    no_match_care_now,
    plan_message,
    too_large,
)
from maildaemon_core.progress import Role, Stage
from maildaemon_core.testing.mails import BuiltMail, broken_mails, built_mails, simple_mail
from maildaemon_core.testing.strategies import hostile_names
from tests.core.entries import BOX, RECEIPT, artifact, entry, envelope, ref

ONE = DestinationOptions(name="one", url="/srv/one")
TWO = DestinationOptions(name="two", url="/srv/two", path_template="{stem}-{index}.{extension}", on_conflict="fail")
PLACES = {"one": "/srv/one", "two": "/srv/two"}
ALL = MailboxOptions(
    mailbox="in@our.example",
    mail_archiving=MailArchiving(active=True, metadata=True),
    export_attachments=True,
    delete_mails_on_server=True,
    on_no_match=Move(move="Unwanted"),
    destinations=(ONE, TWO),
)
PDF = ("a.pdf", "application/pdf", b"%PDF")
CSV = ("b.csv", "text/csv", b"1;2")


def read(raw: bytes) -> Message:
    return read_message(BytesContent(raw))


def planned(message: Message, options: MailboxOptions = ALL, **fields: Any) -> Store:
    plan = plan_message(entry(**fields), message, options, PLACES)
    assert isinstance(plan, Store)
    return plan


def all_options() -> st.SearchStrategy[MailboxOptions]:
    archiving = st.none() | st.builds(
        MailArchiving,
        active=st.booleans(),
        compression=st.sampled_from(["none", "gzip"]),
        metadata=st.booleans(),
        path_template=st.sampled_from(["{key}.eml", "{subject}", "x/{sender}"]),
        destinations=st.none() | st.sampled_from([("one",), ("two",), ("one", "two")]),
    )
    return st.builds(
        MailboxOptions,
        mailbox=st.just("in@our.example"),
        mail_archiving=archiving,
        export_attachments=st.booleans(),
        allowed_attachments=st.sampled_from([(), ("pdf",), ("image/*",), ("*.*",)]),
        allowed_email_extensions=st.sampled_from([(), ("example.com",)]),
        delete_mails_on_server=st.booleans(),
        on_no_match=st.sampled_from(["keep", Move(move="Unwanted")]),
        destinations=st.sampled_from([(ONE,), (ONE, TWO), (TWO,)]),
    ).map(
        lambda options: (
            attrs.evolve(options, mail_archiving=None)
            if options.archiving
            and not {*(options.archiving.destinations or ())} <= {each.name for each in options.destinations}
            else options
        )
    )


mails = st.one_of(built_mails().map(lambda mail: mail.raw), broken_mails(), st.binary(max_size=200))


@given(mails, all_options(), st.sampled_from(["", "jane@example.com"]))
def test_a_plan_is_deterministic(raw: bytes, options: MailboxOptions, sender: str) -> None:
    def told() -> object:
        plan = plan_message(entry(sender=sender), read(raw), options, PLACES)
        if isinstance(plan, Nothing):
            return plan
        files = [(wish.artifact, b"".join(wish.content.chunks()), wish.may_yield) for wish in plan.wishes]
        return files, plan.done, plan.care

    assert told() == told()


@given(mails, all_options(), st.sampled_from(["", "jane@example.com"]))
def test_nothing_is_deleted_of_what_is_not_stored_or_not_read(raw: bytes, options: MailboxOptions, sender: str) -> None:
    message = read(raw)
    match plan_message(entry(sender=sender), message, options, PLACES):
        case Nothing(reason=reason, care=care):
            assert reason
            assert care.action is not Action.DELETE
            assert message.complete or care == KEEP
        case Store(wishes=wishes, care=care):
            assert wishes
            whole = any(wish.artifact.role is Role.MAIL for wish in wishes)
            assert care == (options.aftercare if message.complete or whole else KEEP)


@given(mails, all_options())
def test_every_wish_has_a_slot_of_its_own_and_tells_the_truth_about_its_bytes(
    raw: bytes, options: MailboxOptions
) -> None:
    plan = plan_message(entry(), read(raw), options, PLACES)
    if isinstance(plan, Nothing):
        return
    assert len({wish.artifact.slot for wish in plan.wishes}) == len(plan.wishes)
    for wish in plan.wishes:
        assert wish.artifact.size == len(b"".join(wish.content.chunks()))
        assert wish.artifact.sha256 == wish.content.sha256
        assert wish.artifact.place == PLACES[wish.artifact.destination]
        assert not wish.artifact.receipt


@given(mails, all_options(), st.data())
def test_what_was_planned_before_keeps_its_name_and_what_was_published_is_not_written_again(
    raw: bytes, options: MailboxOptions, data: st.DataObject
) -> None:
    message = read(raw)
    first = plan_message(entry(), message, options, PLACES)
    if isinstance(first, Nothing):
        return
    renamed = [attrs.evolve(wish.artifact, path=f"earlier/{at}") for at, wish in enumerate(first.wishes)]
    recorded = tuple(attrs.evolve(each, receipt=RECEIPT) if data.draw(st.booleans()) else each for each in renamed)
    changed = attrs.evolve(
        options,
        mail_archiving=options.mail_archiving and attrs.evolve(options.mail_archiving, path_template="other/{key}"),
        destinations=tuple(attrs.evolve(each, path_template="other/{index}") for each in options.destinations),
    )
    again = plan_message(entry(artifacts=recorded), message, changed, PLACES)
    assert isinstance(again, Store)
    assert again.done == tuple(each for each in recorded if each.receipt)
    assert [wish.artifact.path for wish in again.wishes] == [each.path for each in recorded if not each.receipt]


@given(built_mails())
def test_the_mail_is_stored_byte_for_byte_and_each_attachment_decoded(mail: BuiltMail) -> None:
    plan = planned(read(mail.raw))
    for name in ("one", "two"):
        stored = [wish for wish in plan.wishes if wish.artifact.destination == name]
        (whole,) = (wish for wish in stored if wish.artifact.role is Role.MAIL)
        assert b"".join(whole.content.chunks()) == mail.raw
        attached = [b"".join(w.content.chunks()) for w in stored if w.artifact.role is Role.ATTACHMENT]
        assert attached == [content for _, _, content in mail.attachments]


def test_where_everything_goes() -> None:
    plan = planned(read(simple_mail(attachments=[PDF, CSV])))
    key = entry().key
    assert [(w.artifact.destination, w.artifact.role, w.artifact.path, w.may_yield) for w in plan.wishes] == [
        ("one", Role.MAIL, f"2026/01/02/{key}.eml", True),
        ("one", Role.METADATA, f"2026/01/02/{key}.json", True),
        ("two", Role.MAIL, f"2026/01/02/{key}.eml", False),
        ("two", Role.METADATA, f"2026/01/02/{key}.json", False),
        ("one", Role.ATTACHMENT, f"2026/01/02/{key}-a.pdf", True),
        ("one", Role.ATTACHMENT, f"2026/01/02/{key}-b.csv", True),
        ("two", Role.ATTACHMENT, "a-1.pdf", False),
        ("two", Role.ATTACHMENT, "b-2.csv", False),
    ]
    assert plan.care == Aftercare(Action.DELETE)


def test_the_sidecar_says_what_the_mail_was() -> None:
    message = read(simple_mail(subject="Rechnung für März", attachments=[PDF]))
    (sidecar, _) = (w for w in planned(message).wishes if w.artifact.role is Role.METADATA)
    document = json.loads(b"".join(sidecar.content.chunks()))
    assert document["subject"] == "Rechnung für März"
    assert document["received"] == "2026-01-02T03:04:05+00:00"
    assert document["sha256"] == message.content.sha256
    assert document["attachments"][0]["name"] == "a.pdf"
    assert document["complete"] is True


def test_a_subject_that_is_not_valid_unicode_still_gives_a_sidecar() -> None:
    message = read(simple_mail())
    odd = attrs.evolve(message, headers=attrs.evolve(message.headers, subject="lone \ud800"))
    assert any(wish.artifact.role is Role.METADATA for wish in planned(odd).wishes)


def test_of_a_mail_that_was_not_read_to_its_end_attachments_alone_are_no_reason_to_delete_it() -> None:
    whole = simple_mail(attachments=[PDF])
    message = read(whole[: whole.rindex(b"\r\n--")])
    assert not message.complete
    assert message.attachments
    assert planned(message, attrs.evolve(ALL, mail_archiving=None)).care == KEEP
    assert planned(message).care == Aftercare(Action.DELETE)  # the mail itself is stored


@pytest.mark.parametrize("template", ["{key}.eml", "{key}.eml.gz", "{key}"])
def test_a_compressed_mail_says_so_in_its_name_once(template: str) -> None:
    archiving = MailArchiving(active=True, compression="gzip", path_template=template)
    options = attrs.evolve(ALL, mail_archiving=archiving, export_attachments=False)
    path = planned(read(simple_mail()), options).wishes[0].artifact.path
    assert path.endswith(".gz")
    assert path.count(".gz") == 1


@given(
    st.one_of(hostile_names(), st.integers(200, 300).map(lambda length: "x" * length), st.just("ü" * 300 + ".pdf")),
    st.sampled_from(["{subject}.eml", "{subject}", "{subject}-{key}.eml", "{sender}/{subject}.eml.gz", "{subject}.gz"]),
    st.sampled_from(["none", "gzip"]),
    st.booleans(),
)
def test_a_mail_and_its_sidecar_share_a_stem_and_no_part_of_a_path_is_too_long(
    subject: str, template: str, compression: Any, metadata: bool
) -> None:
    archiving = MailArchiving(active=True, compression=compression, metadata=metadata, path_template=template)
    options = attrs.evolve(ALL, mail_archiving=archiving, export_attachments=False, destinations=(ONE,))
    mail, *sidecars = [w.artifact.path for w in planned(read(simple_mail()), options, subject=subject).wishes]
    for path in (mail, *sidecars):
        for part in path.split("/"):
            assert len(part.encode()) <= MAX_PART
            assert sanitise(part) == part
    stem, extension = split_extension(mail)
    assert sidecars == ([f"{stem}.json"] if metadata else [])
    if compression == "gzip":
        assert extension.endswith(".gz")
    if ".eml" in template:
        assert extension == (".eml.gz" if compression == "gzip" or template.endswith(".gz") else ".eml")
    if "{key}" in template:
        assert stem.endswith(f"-{entry().key}")


def test_only_the_attachments_that_are_allowed_are_stored() -> None:
    options = attrs.evolve(ALL, mail_archiving=None, allowed_attachments=("pdf",), destinations=(ONE,))
    plan = planned(read(simple_mail(attachments=[CSV, PDF])), options)
    assert [(wish.artifact.name, wish.artifact.index) for wish in plan.wishes] == [("a.pdf", 2)]


@pytest.mark.parametrize(
    ("attachments", "options", "reason"),
    [
        ([], {}, "no attachments"),
        ([CSV], {"allowed_attachments": ("pdf",)}, "no attachment is allowed"),
        ([CSV], {"export_attachments": False}, "neither archiving nor export has a destination for it"),
    ],
)
def test_why_nothing_is_stored(attachments: list[tuple[str, str, bytes]], options: dict[str, Any], reason: str) -> None:
    plan = plan_message(
        entry(),
        read(simple_mail(attachments=attachments)),
        attrs.evolve(ALL, mail_archiving=None, **options),
        PLACES,
    )
    assert plan == Nothing(reason=reason, care=Aftercare(Action.MOVE, "Unwanted"))


def test_a_sender_that_only_the_mail_itself_shows_is_judged_then() -> None:
    options = attrs.evolve(ALL, allowed_email_extensions=("firm.example",))
    message = read(simple_mail(sender="x@evil-firm.example"))
    assert isinstance(plan_message(entry(sender=""), message, options, PLACES), Nothing)
    assert isinstance(plan_message(entry(sender="jane@firm.example"), message, options, PLACES), Store)


def test_an_envelope_without_any_header_is_not_refused_yet_but_one_without_a_sender_is() -> None:
    options = attrs.evolve(ALL, allowed_email_extensions=("firm.example",))
    nothing: dict[str, Any] = dict.fromkeys(("message_id", "date", "from_", "to", "sender"), "")
    assert envelope_refusal(envelope("", **nothing), options) is None
    assert envelope_refusal(envelope("a subject", **nothing), options)
    assert envelope_refusal(envelope(), options) is None
    assert envelope_refusal(envelope(), ALL) is None


def test_what_is_too_large_is_said_with_its_way_out() -> None:
    options = attrs.evolve(ALL, max_message_bytes=100)
    assert too_large(100, options) is None
    assert too_large(None, options) is None
    assert too_large(10**12, ALL) is None
    trouble = too_large(101, options)
    assert trouble is not None
    assert not trouble.transient
    assert "maxMessageBytes" in trouble.remedy


cares = st.one_of(
    st.sampled_from([KEEP, Aftercare(Action.SEEN), Aftercare(Action.DELETE)]),
    st.sampled_from("ab").map(lambda folder: Aftercare(Action.MOVE, folder)),
)


@given(cares, st.sampled_from([{}, {"after_store": "seen"}, {"after_store": Move(move="a")}, {"delete": True}]))
def test_never_more_is_done_to_a_mail_than_was_decided_then_and_is_wanted_now(
    then: Aftercare, now: dict[str, Any]
) -> None:
    options = MailboxOptions(
        delete_mails_on_server=bool(now.get("delete")),
        after_store=now.get("after_store"),
        on_no_match=Move(move="a"),
    )
    care = care_now(entry(care=then), options)
    assert care == milder(then, options.aftercare)
    assert care.action == min(then.action, options.aftercare.action)
    assert no_match_care_now(entry(care=then, stage=Stage.SKIPPED), options).action <= Action.MOVE


def test_a_key_is_twelve_hex_digits_over_the_mailbox_and_the_whole_reference() -> None:
    key = key_of(BOX, ref(1))
    assert len(key) == 12
    assert set(key) <= set("0123456789abcdef")
    others = {
        key_of(MailboxId("another"), ref(1)),
        key_of(BOX, ref(2)),
        key_of(BOX, ref(1, validity="2")),
        key_of(BOX, ref(1, folder="Invoices")),
    }
    assert len(others | {key}) == 5
    assert key_of(BOX, ref(1, folder="lone \ud800"))


@given(st.lists(st.sampled_from(["a.eml", "b.eml", "a-000000000001.eml"]), max_size=3), st.integers(1, 6))
def test_a_path_is_free_the_first_possible_one_and_never_another_entrys(taken: list[str], mails: int) -> None:
    used = {("/srv/one", path) for path in taken} | {("/srv/two", "a.eml")}
    chosen = []
    for _ in range(mails):
        path = choose_path(artifact("a.eml"), "000000000001", used).path
        assert ("/srv/one", path) not in used
        used.add(("/srv/one", path))
        chosen.append(path)
    assert (chosen[0] == "a.eml") == ("a.eml" not in taken)
    assert all(one != other for one, other in pairwise(chosen))
    assert all(path == "a.eml" or "000000000001" in path for path in chosen)


@given(mails, hostile_names(), st.sampled_from(["{key}.eml", "{subject}", "x/{sender}.done"]), st.booleans())
def test_where_files_are_announced_names_have_room_and_none_looks_like_an_announcement(
    raw: bytes, name: str, template: str, packed: bool
) -> None:
    one = attrs.evolve(ONE, done_marker=True, path_template="{filename}")
    archiving = MailArchiving(
        active=True, metadata=True, path_template=template, compression="gzip" if packed else "none"
    )
    options = attrs.evolve(ALL, mail_archiving=archiving, destinations=(one,))
    name = name.encode("utf-8", "replace").decode()
    named = simple_mail(attachments=[(name, "text/plain", b"x"), ("invoice.pdf.DONE", "text/plain", b"y")])
    for message in (read(raw), read(named)):
        plan = plan_message(entry(), message, options, PLACES)
        for wish in plan.wishes if isinstance(plan, Store) else ():
            first = wish.artifact
            second = choose_path(first, entry().key, {(first.place, first.path)}, marked=True)
            third = choose_path(first, entry().key, {(each.place, each.path) for each in (first, second)}, marked=True)
            for each in (first, second, third):
                assert not each.path.casefold().endswith(DONE)
                assert all(len(part.encode()) <= MAX_PART for part in f"{each.path}{DONE}".split("/"))


def test_elsewhere_a_name_may_end_as_it_likes() -> None:
    message = read(simple_mail(attachments=[("invoice.done", "text/plain", b"x")]))
    plain = planned(message, attrs.evolve(ALL, mail_archiving=None, destinations=(ONE,)))
    marked = planned(
        message, attrs.evolve(ALL, mail_archiving=None, destinations=(attrs.evolve(ONE, done_marker=True),))
    )
    assert [wish.artifact.path.rpartition("-")[2] for wish in plain.wishes] == ["invoice.done"]
    assert [wish.artifact.path.rpartition("-")[2] for wish in marked.wishes] == ["invoice.done_"]
