"""Mails and containers within a mail: opened as the operator asks, within bounds, and nothing gets lost by it."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.containers import Budget, BudgetSpent, Container, InnerFile, Opened, Opener, OpeningLimits
from maildaemon_core.errors import SpoolFull
from maildaemon_core.message import BytesContent, Content, Message
from maildaemon_core.mime import read_message
from maildaemon_core.options import AttachedMails
from maildaemon_core.reading import NESTING_CAP, Reading
from maildaemon_core.testing.mails import BuiltMail, broken_mails, built_mails, simple_mail
from tests.core.boxes import BOX, BoxOpener, Faulty, boxed, mail_of, part
from tests.core.test_mime import CountingContent, RepeatedContent, assert_sound, named, whole

PDF = ("a.pdf", "application/pdf", b"%PDF-1.7")
LETTER = simple_mail(subject="letter", attachments=[PDF])


def read(raw: bytes, *openers: Opener, **reading: Any) -> Message:
    return read_message(BytesContent(raw), Reading(openers=openers, **reading))


def outline(message: Message) -> list[tuple[str | None, int | None]]:
    """The names of attachments and what they are within."""
    return [(each.name, each.within) for each in message.attachments]


# Mails within mails ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["7bit", "base64", "quoted-printable"])
@pytest.mark.parametrize(
    ("attached_mails", "expected"),
    [
        ("keep", [("letter.eml", None), ("b.pdf", None)]),
        ("open", [("a.pdf", None), ("b.pdf", None)]),
        ("both", [("letter.eml", None), ("a.pdf", 1), ("b.pdf", None)]),
    ],
)
def test_a_mail_within_the_mail_is_kept_or_opened_or_both(
    encoding: str, attached_mails: AttachedMails, expected: list[tuple[str | None, int | None]]
) -> None:
    letter = LETTER.replace(b"=", b"=3D") if encoding == "quoted-printable" else LETTER
    raw = mail_of(part("message/rfc822", letter, encoding=encoding), part("application/pdf", b"2", name="b.pdf"))
    message = read(raw, attached_mails=attached_mails)
    assert_sound(message)
    assert outline(message) == expected
    assert message.complete, message.defects
    found = {each.name: whole(each.content) for each in message.attachments}
    assert found.get("letter.eml", LETTER).rstrip() == LETTER.rstrip()
    assert found.get("a.pdf", PDF[2]) == PDF[2]


def test_mails_within_containers_within_mails_keep_what_they_were_in() -> None:
    box = boxed(("letter.eml", "message/rfc822", LETTER), ("c.txt", "text/plain", b"c"))
    raw = mail_of(part("message/rfc822", mail_of(part(BOX, box, name="x.box"), boundary="c"), encoding="7bit"))
    assert outline(read(raw, BoxOpener(), attached_mails="both")) == [
        ("s.eml", None), ("x.box", 1), ("letter.eml", 2), ("a.pdf", 3), ("c.txt", 2),
    ]  # fmt: skip
    assert outline(read(raw, BoxOpener(), attached_mails="open")) == [("x.box", None), ("a.pdf", 1), ("c.txt", 1)]
    assert outline(read(raw, BoxOpener())) == [("s.eml", None)]


def test_what_calls_itself_a_mail_and_is_none_is_kept() -> None:
    raw = mail_of(part("message/rfc822", b"%PDF-1.7 \x00 no header", name="invoice.pdf"))
    message = read(raw, attached_mails="open")
    assert named(message) == (("invoice.pdf", "message/rfc822", b"%PDF-1.7 \x00 no header"),)
    assert not message.complete


def test_flaws_of_a_mail_within_the_mail_are_flaws_of_the_mail() -> None:
    torn = part("message/rfc822", LETTER[: LETTER.rindex(b"--")].rpartition(b"\r\n--")[0], encoding="7bit")
    assert read(mail_of(torn)).complete
    opened = read(mail_of(torn), attached_mails="open")
    assert not opened.complete
    assert opened.defects[0].startswith("in part 1: multipart/mixed that is never closed")
    flawed = part("message/rfc822", LETTER).replace(b"\r\n\r\n", b"\r\n\r\n?", 1)
    assert not read(mail_of(flawed), attached_mails="open").complete


def nested(depth: int, filling: bytes = b"x" * 100) -> bytes:
    raw = mail_of(part("application/pdf", filling, encoding="7bit", name="deep.pdf"), boundary="deepest")
    for level in range(depth):
        raw = mail_of(part("message/rfc822", raw, encoding="7bit"), subject=f"s{level}", boundary=f"b{level}")
    return raw


def test_only_so_many_mails_within_each_other_are_opened_and_a_deeper_one_is_kept() -> None:
    message = read(nested(NESTING_CAP), attached_mails="open")
    assert (outline(message), message.complete) == ([("deep.pdf", None)], True)
    deeper = read(nested(NESTING_CAP + 3), attached_mails="open")
    assert not deeper.complete
    assert "attached mail not opened" in deeper.defects[0]
    assert [(each.content_type, each.name) for each in deeper.attachments] == [("message/rfc822", "s1.eml")]


@pytest.mark.parametrize("depth", [0, 1, 4, NESTING_CAP, 60])
def test_nested_mails_are_looked_at_a_few_times_for_each_that_is_opened(depth: int) -> None:
    content = CountingContent(nested(depth, b"x" * 100_000))
    message = read_message(content, Reading(attached_mails="both"))
    assert [each.content.sha256 for each in message.attachments]
    assert content.looked_at <= 4 * (min(depth, NESTING_CAP) + 2) * content.size


def test_memory_does_not_grow_with_nested_mails() -> None:
    inner = nested(NESTING_CAP, b"-----")
    head, tail = inner.split(b"-----\r\n", 1)
    content = RepeatedContent(head, b"x" * 99 + b"\n", 300_000, tail)
    tracemalloc.start()
    try:
        message = read_message(content, Reading(attached_mails="both"))
        assert message.attachments[-1].content.size > 29_000_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(message.attachments) == NESTING_CAP + 1
    assert peak < 8_000_000


# Containers -----------------------------------------------------------------------------------------------------------


def test_a_container_is_kept_and_what_is_in_it_follows() -> None:
    box = boxed(PDF, ("", "Image/PNG", b"p"), ("empty.txt", "text/plain", b""))
    message = read(mail_of(part(BOX, box, name="x.box"), part("text/csv", b"1", name="z.csv")), BoxOpener())
    assert_sound(message)
    assert named(message) == (
        ("x.box", BOX, box),
        PDF,
        (None, "image/png", b"p"),
        ("empty.txt", "text/plain", b""),
        ("z.csv", "text/csv", b"1"),
    )
    assert [each.within for each in message.attachments] == [None, 1, 1, 1, None]
    assert (message.complete, message.encrypted, message.defects) == (True, False, ())


def test_an_entity_in_a_container_is_read_like_a_mail() -> None:
    html = b"Content-Type: text/html\r\n\r\n<img src=cid:x>"
    picture = b"Content-Type: image/png\r\nContent-ID: <x>\r\n\r\np"
    inner = mail_of(html, picture, part("application/pdf", b"%PDF", name="in.pdf"), part(BOX, boxed(PDF), name="y.box"))
    raw = mail_of(part(BOX, boxed(("entity", "", inner)), name="x.box"))
    message = read(raw, BoxOpener())
    assert outline(message) == [("x.box", None), ("in.pdf", 1), ("y.box", 1), ("a.pdf", 3)]
    assert message.complete
    shown = read(raw, BoxOpener(), inline_pictures=True)
    assert [each.content_type for each in shown.attachments][1] == "image/png"


def test_pictures_that_the_html_shows_are_attachments_if_that_is_asked_for() -> None:
    html = b"Content-Type: text/html\r\n\r\n<img src=cid:x>"
    raw = mail_of(html, b"Content-Type: image/png\r\nContent-ID: <x>\r\n\r\np")
    assert named(read(raw)) == ()
    assert named(read(raw, inline_pictures=True)) == ((None, "image/png", b"p"),)


def test_losses_of_an_opener_are_losses_of_the_mail_and_notes_are_not() -> None:
    raw = mail_of(part(BOX, boxed(PDF)))
    noted = read(raw, BoxOpener(notes=("a date that is \ud800 none",)))
    assert (noted.complete, noted.defects) == (True, ("part 1: Box: a date that is ? none",))
    lossy = read(raw, BoxOpener(losses=("one file is torn",)))
    assert (lossy.complete, lossy.defects) == (False, ("part 1: Box: one file is torn",))
    secret = read(raw, BoxOpener(encrypted=True))
    assert (secret.complete, secret.encrypted, secret.defects) == (False, True, ("part 1: encrypted (Box)",))
    assert all(len(each.attachments) == 2 for each in (noted, lossy, secret))


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("error", [ValueError("secret text"), RecursionError(), OSError(5, "x")])
def test_an_opener_that_fails_is_named_and_the_mail_goes_on(error: Exception, early: bool) -> None:
    raw = mail_of(part(BOX, boxed(PDF), name="x.box"), part("text/csv", b"1", name="z.csv"))
    message = read(raw, Faulty(error, early))
    assert outline(message) == [("x.box", None), ("z.csv", None)]
    assert not message.complete
    assert all("Faulty" in text and type(error).__name__ in text for text in message.defects)
    assert not any("secret" in text for text in message.defects)


class Silent(BoxOpener):
    """Answers nothing."""

    def open(self, container: Container, budget: Budget) -> Opened:
        return None  # type: ignore[return-value]


class Swallowing(BoxOpener):
    """Lets through neither what is spent nor what is full."""

    def open(self, container: Container, budget: Budget) -> Opened:
        try:
            return Opened(files=[InnerFile(name="a", content_type="x/y", content=budget.keep([b"x" * 100]))])
        except (BudgetSpent, SpoolFull):
            return Opened()


def test_an_opener_without_an_answer_has_failed() -> None:
    message = read(mail_of(part(BOX, boxed(PDF))), Silent())
    assert (len(message.attachments), message.complete) == (1, False)
    assert "Box: failed (" in message.defects[0]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (OpeningLimits(read=5), "more than 5 bytes of containers to be read"),
        (OpeningLimits(files=0), "more than 0 files in containers"),
        (OpeningLimits(made=5), "more than 5 bytes in containers"),
        (OpeningLimits(seconds=2), "took more than 2 seconds"),
    ],
)
def test_a_container_that_costs_too_much_is_kept_and_that_is_said(limits: OpeningLimits, said: str) -> None:
    ticks = iter(range(1000))
    raw = mail_of(part(BOX, boxed(PDF, PDF)), part("text/csv", b"1", name="z.csv"))
    message = read(raw, BoxOpener(), limits=limits, clock=lambda: next(ticks))
    assert [each.content_type for each in message.attachments] == [BOX, "text/csv"]
    assert not message.complete
    assert said in message.defects[0]


def test_the_limits_hold_for_all_containers_of_a_mail_together() -> None:
    raw = mail_of(*(part(BOX, boxed(PDF)) for _ in range(5)))
    message = read(raw, BoxOpener(), limits=OpeningLimits(made=3 * len(PDF[2])))
    assert [each.name for each in message.attachments].count("a.pdf") == 3
    assert not message.complete


def test_what_was_found_can_be_read_long_after_the_time_for_opening_is_over() -> None:
    ticks = iter([0.0] * 20 + [1000.0] * 20)
    message = read(mail_of(part(BOX, boxed(PDF))), BoxOpener(), clock=lambda: next(ticks))
    assert [next(ticks) for _ in range(20)]
    assert whole(message.attachments[1].content) == PDF[2]


def test_an_opener_that_swallows_what_is_spent_has_not_opened_the_container() -> None:
    message = read(mail_of(part(BOX, b"")), Swallowing(), limits=OpeningLimits(made=50))
    assert not message.complete
    assert "more than 50 bytes" in message.defects[0]


def test_a_full_spool_is_no_defect_of_the_mail_whatever_the_opener_does() -> None:
    def full(pieces: Iterable[bytes]) -> Content:
        raise SpoolFull("no room")

    for encoding in ("7bit", "base64"):
        with pytest.raises(SpoolFull):
            read(mail_of(part(BOX, b"", encoding=encoding)), Swallowing(), keep=full)


def test_the_encoded_bytes_of_a_container_are_decoded_and_held_once() -> None:
    kept: list[bytes] = []

    def keep(pieces: Iterable[bytes]) -> Content:
        kept.append(b"".join(pieces))
        return BytesContent(kept[-1])

    files = [(f"{number}.txt", "text/plain", b"x" * 1000) for number in range(200)]
    content = CountingContent(mail_of(part(BOX, boxed(*files))))
    message = read_message(content, Reading(openers=[BoxOpener()], keep=keep))
    assert all(each.content.sha256 for each in message.attachments)
    assert kept == [boxed(*files)]
    assert content.looked_at <= 5 * content.size
    kept.clear()
    read_message(
        BytesContent(mail_of(part(BOX, boxed(*files), encoding="8bit"))), Reading(openers=[BoxOpener()], keep=keep)
    )
    assert kept == []


def test_a_flaw_of_the_containers_own_encoding_stays_a_loss() -> None:
    raw = mail_of(part(BOX, boxed(PDF))).replace(b"\r\n--b--", b"?\r\n--b--")
    message = read(raw, BoxOpener())
    assert not message.complete
    assert "base64" in message.defects[0]
    assert [each.name for each in message.attachments] == [None, "a.pdf"]


def test_containers_within_each_other_are_opened_so_deep_and_no_deeper() -> None:
    box = boxed(PDF)
    for _ in range(NESTING_CAP + 4):
        box = boxed(("inner.box", BOX, box))
    message = read(mail_of(part(BOX, box)), BoxOpener())
    assert len(message.attachments) == NESTING_CAP + 1
    assert "container (Box) not opened" in message.defects[0]
    assert not message.complete


def test_the_first_opener_that_recognises_a_container_opens_it() -> None:
    message = read(mail_of(part(BOX, boxed(PDF))), BoxOpener(name="One"), Faulty(ValueError()))
    assert message.complete


def test_a_mail_that_needs_a_key_is_flagged() -> None:
    sealed = b"Content-Type: multipart/encrypted; boundary=e\r\n\r\n--e\r\nContent-Type: a/b\r\n\r\nx\r\n--e--"
    enveloped = b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\n\r\nx"
    for raw in (sealed, enveloped, mail_of(sealed), mail_of(enveloped)):
        message = read(raw)
        assert (message.encrypted, message.complete) == (True, False)
    within = mail_of(part("message/rfc822", b"Subject: x\r\n" + sealed, encoding="7bit"))
    assert not read(within).encrypted
    assert read(within, attached_mails="open").encrypted
    assert not read(LETTER).encrypted


# Laws -----------------------------------------------------------------------------------------------------------------

MODES = st.sampled_from(["keep", "open", "both"])


class Anything:
    """Opens whatever it is offered, as itself, as files and as an entity."""

    name = "Anything"

    def recognises(self, container: Container) -> bool:
        return container.content.size > 0

    def open(self, container: Container, budget: Budget) -> Opened:
        data = budget.keep(container.content.chunks())
        budget.file()
        return Opened(files=[InnerFile(name="odd \ud800", content_type="A/B", content=data)], entity=data)


@given(broken_mails() | st.binary(max_size=300), MODES, st.booleans())
def test_any_bytes_are_a_mail_however_it_is_read(raw: bytes, mode: AttachedMails, inline: bool) -> None:
    limits = OpeningLimits(made=20_000, read=20_000, files=30)
    message = read(raw, Anything(), attached_mails=mode, inline_pictures=inline, limits=limits)
    assert_sound(message)
    for each in message.attachments:
        assert each.within is None or 0 < each.within < each.index


@given(built_mails(), MODES)
def test_nothing_is_lost_by_opening(mail: BuiltMail, mode: AttachedMails) -> None:
    kept = named(read(mail.raw))
    opened = named(read(mail.raw, attached_mails=mode))
    others = [each for each in kept if each[1] != "message/rfc822"]
    assert [each for each in opened if each in others] == others
    if mode == "both":
        assert [each for each in opened if each in kept] == list(kept)


@given(st.integers(1, 300))
def test_how_the_bytes_come_in_changes_nothing(crumb: int) -> None:
    raw = mail_of(part("message/rfc822", LETTER), part(BOX, boxed(PDF)))

    def keep(pieces: Iterable[bytes]) -> Content:
        return Crumbs(b"".join(pieces), crumb)

    plain = read(raw, BoxOpener(), attached_mails="both")
    crumbled = read(raw, BoxOpener(), attached_mails="both", keep=keep)
    assert named(plain) == named(crumbled)


class Crumbs(BytesContent):
    def __init__(self, data: bytes, crumb: int) -> None:
        super().__init__(data)
        self._crumb = crumb

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        data = b"".join(super().chunks(start, stop))
        return (data[at : at + self._crumb] for at in range(0, len(data), self._crumb))


def test_a_bomb_of_overlapping_files_is_stopped_before_it_is_looked_at() -> None:
    class Overlapping(BoxOpener):
        def open(self, container: Container, budget: Budget) -> Opened:
            return Opened(
                files=[InnerFile(name=str(n), content_type="x/y", content=container.content) for n in range(900)]
            )

    content = CountingContent(mail_of(part(BOX, b"x" * 100_000, encoding="7bit")))
    message = read_message(content, Reading(openers=[Overlapping()], limits=OpeningLimits(made=1 << 20)))
    assert len(message.attachments) == 1
    assert content.looked_at <= 4 * content.size


def test_base64_within_base64_is_decoded_level_by_level() -> None:
    inner = mail_of(part("message/rfc822", LETTER), boundary="c")
    message = read(mail_of(part("message/rfc822", inner)), attached_mails="open")
    assert named(message) == (PDF,)
    assert base64.b64encode(PDF[2]) in LETTER
