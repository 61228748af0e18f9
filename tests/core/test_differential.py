"""Our reader beside Python's email package on generated mails: alike, or the difference is one that is known.

Where both find nothing wrong with a mail they must read the same in it, up to the classes in ``Difference``: each is a
choice of ours or a fault of theirs, and docs/reference/reading.md explains it.  Where the truth about a mail is known,
ours must be the truth.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from maildaemon_core.message import BytesContent, Message
from maildaemon_core.mime import read_message
from maildaemon_core.testing.hostile_mails import DamagedMail, damaged_mails, hostile_mails
from maildaemon_core.testing.mails import broken_mails, built_mails
from tests.core.pythons_email import Found, Opinion, opinion_on
from tests.core.test_corpus import is_the_same, left_over
from tests.core.test_mime import named


class Difference(enum.Enum):
    """Why the two may read differently in a mail that neither finds fault with."""

    BODY = "ours: a text without a name that is not declared an attachment is a body, wherever it stands"
    PICTURE = "ours: a picture that the HTML refers to belongs to the body, unless it is asked for"
    WHOLE = "ours: a mail that is nothing but a file has that file as its attachment; they list none, or none unnamed"
    BLANK = "theirs: base64 stays encoded for a blank or a sign after its name"
    JOINED = "theirs: an encoded word that is joined to other text may stay encoded"
    RAW = "theirs: bytes beyond ASCII in a header are lost unless they are UTF-8"


def reason(raw: bytes, theirs: Found) -> Difference | None:
    """Why something that they count as an attachment is not among ours."""
    if theirs.name is None and theirs.content_type in {"text/plain", "text/html"}:
        return Difference.BODY
    if theirs.content_type.startswith("image/") and re.search(rb"content-id", raw, re.IGNORECASE):
        return Difference.PICTURE
    if re.search(rb'^content-transfer-encoding\s*:\s*"?base64"?[^\r\n]', raw, re.IGNORECASE | re.MULTILINE):
        return Difference.BLANK
    return None


def differences(raw: bytes, message: Message, theirs: Opinion) -> Iterator[Difference]:
    """The known differences; fails for any other."""
    missing = left_over(theirs.found, message.attachments, is_the_same)
    surplus = left_over(message.attachments, theirs.found, lambda them, ours: is_the_same(ours, them))
    for each in missing:
        why = reason(raw, each)
        assert why is not None, (each, message.attachments)
        yield why
    for ours in surplus:
        is_whole = not theirs.found and len(message.attachments) == 1
        if not is_whole:
            assert Difference.BLANK in {reason(raw, each) for each in missing}, (ours, theirs.found)
        yield Difference.WHOLE if is_whole else Difference.BLANK
    if " ".join(message.headers.subject.split()) != " ".join((theirs.subject or "").split()):
        joined = "=?" in (theirs.subject or "")
        assert joined or is_raw(theirs.subject), (message.headers.subject, theirs.subject)
        yield Difference.JOINED if joined else Difference.RAW


def is_raw(text: str | None) -> bool:
    return text is not None and re.search("[\ufffd\udc80-\udcff]", text) is not None


MAILS = st.one_of(built_mails().map(lambda mail: mail.raw), broken_mails(), hostile_mails())
SLOW = settings(suppress_health_check=list(HealthCheck))


@SLOW
@given(MAILS)
def test_where_neither_finds_fault_both_read_the_same(raw: bytes) -> None:
    message, theirs = read_message(BytesContent(raw)), opinion_on(raw)
    if message.defects or not theirs.flawless:
        event("one of them finds fault")
        return
    for difference in differences(raw, message, theirs):
        event(difference.name)
    sender = message.headers.sender
    assert [sender.lower()] == [address.lower() for address in (theirs.senders or ("",))[:1]], theirs.senders


@SLOW
@given(damaged_mails())
def test_of_a_damaged_mail_we_read_the_truth(mail: DamagedMail) -> None:
    message = read_message(BytesContent(mail.raw))
    assert named(message) == mail.attachments
    assert (message.headers.subject, message.headers.sender) == (mail.subject, mail.sender)
    assert message.complete is not mail.loss, message.defects


# What their reader is known to do wrong, and ours must not ------------------------------------------------------------


def mail(*headers: str, body: str = "x") -> bytes:
    return "\r\n".join((*headers, "", body)).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "header",
    [
        "Cc: a@",
        "From: a b c <",
        'To: "',
        "To: =?utf-8?q?=ZZ?=: a@b;@c",
        "Cc: a@b, :",
        "Content-Disposition: attachment; filename*0*=utf-8''%ed%a0%80; filename*=",
        "Content-Type: application/pdf; filename*=unicode_escape''%5cud800",
        'Content-Transfer-Encoding: base64; x="=?utf-7?q?+2AA-?="',
    ],
)
def test_no_header_raises(header: str) -> None:
    message = read_message(BytesContent(mail("Subject: found", header, "Date: today")))
    assert (message.headers.subject, message.headers.date) == ("found", "today")


def test_a_header_raises_with_python() -> None:
    raised = set().union(*(opinion_on(mail(header)).raised for header in ("From: a b c <", "Cc: a@", 'To: "')))
    assert raised, "they have mended it: take it out of docs/reference/reading.md"


def test_ten_thousand_open_comments_are_no_recursion() -> None:
    message = read_message(BytesContent(mail("To: " + "(" * 10_000, "Subject: found")))
    assert message.headers.subject == "found"


@pytest.mark.parametrize("encoding", ["base64 ", "base64;", "BASE64 (of course)", '"base64"', " base64\t"])
def test_base64_is_decoded_whatever_follows_its_name(encoding: str) -> None:
    raw = mail("Content-Type: a/b", f"Content-Transfer-Encoding: {encoding}", body="JVBERg==")
    assert [data for _, _, data in named(read_message(BytesContent(raw)))] == [b"%PDF"]


@pytest.mark.parametrize("line", ["this is no header", "X-Broken", ": nothing", ">From me", "\ttab first"])
def test_one_bad_line_costs_no_later_header(line: str) -> None:
    raw = mail("From: a@b.de", line, "Subject: found", 'Content-Type: a/b; name="c.d"')
    message = read_message(BytesContent(raw))
    assert message.headers.subject == "found"
    assert [found.name for found in message.attachments] == ["c.d"]


@pytest.mark.parametrize("body", ["JVBE!Rg==", "JVBERg", "JVBERg=", "JVB\x00ERg==", "JV BE\r\n\r\nRg=="])
def test_bad_base64_is_decoded_as_far_as_it_goes(body: str) -> None:
    raw = mail("Content-Type: a/b", "Content-Transfer-Encoding: base64", body=body)
    assert [data for _, _, data in named(read_message(BytesContent(raw)))] == [b"%PDF"]


def test_one_letter_too_many_costs_no_other_byte() -> None:
    raw = mail("Content-Type: a/b", "Content-Transfer-Encoding: base64", body="JVBER")
    assert [data for _, _, data in named(read_message(BytesContent(raw)))] == [b"%PD"]
    assert [
        each.data
        for each in opinion_on(
            mail("Content-Type: a/b; name=x", "Content-Transfer-Encoding: base64", body="JVBER")
        ).found
    ] == [b"JVBER"]


def test_a_mail_within_the_mail_is_decoded_though_it_must_not_be_encoded() -> None:
    raw = mail("Content-Type: message/rfc822", "Content-Transfer-Encoding: base64", body="U3ViamVjdDogYQ0KDQp4")
    assert named(read_message(BytesContent(raw))) == (("a.eml", "message/rfc822", b"Subject: a\r\n\r\nx"),)


def test_a_name_without_quotes_keeps_its_blanks() -> None:
    raw = mail("Content-Type: a/b", "Content-Disposition: attachment; filename=This is it.pdf")
    assert [found.name for found in read_message(BytesContent(raw)).attachments] == ["This is it.pdf"]


def test_blanks_before_the_colon_make_no_header_unreadable() -> None:
    assert read_message(BytesContent(mail("Subject \t: found"))).headers.subject == "found"


def test_a_boundary_may_be_written_in_the_extended_way() -> None:
    raw = mail(
        "Content-Type: multipart/mixed; boundary*=us-ascii''a%20b",
        body="--a b\r\nContent-Type: c/d\r\n\r\nx\r\n--a b--",
    )
    message = read_message(BytesContent(raw))
    assert message.complete
    assert [data for _, _, data in named(message)] == [b"x"]


def test_nothing_that_is_cut_in_pieces_by_boundaries_is_dropped() -> None:
    raw = mail(
        "Content-Type: multipart/mixed; boundary=b", body="--wrong\r\nContent-Type: a/b\r\n\r\nx\r\n--wrong--\r\n"
    )
    message = read_message(BytesContent(raw))
    assert b"".join(data for _, _, data in named(message)).startswith(b"--wrong")
    assert not message.complete


def test_no_line_break_stays_in_a_name() -> None:
    raw = mail("Content-Type: a/b", 'Content-Disposition: attachment; filename="a\r\n b.pdf"')
    assert [found.name for found in read_message(BytesContent(raw)).attachments] == ["a b.pdf"]


@pytest.mark.parametrize(
    ("body", "data", "complete"),
    [
        ("begin 644 a.txt\r\n#0V%T\r\n`\r\nend\r\n", b"Cat", True),
        ("text before\nbegin 644 a.txt\n#0V%T\n \nend\ntext after", b"Cat", True),
        ("begin 644 a.txt\r\n#0V%T   \r\n`\r\nend", b"Cat", True),
        ("begin 644 a.txt\r\n#0V%T\r\n", b"Cat", False),
        ("begin 644 a.txt\r\n#0V%T\r\n\x7f\x7f\x7f\r\nend\r\n", b"Cat", False),
        ("nothing of the kind\r\n", b"", False),
    ],
)
@pytest.mark.parametrize("encoding", ["x-uuencode", "uuencode", "X-UUE"])
def test_uuencoded_parts_are_decoded(encoding: str, body: str, data: bytes, complete: bool) -> None:
    message = read_message(BytesContent(mail("Content-Type: a/b", f"Content-Transfer-Encoding: {encoding}", body=body)))
    assert [found for _, _, found in named(message)] == [data]
    assert message.complete is complete
    assert all("uuencoded" in defect for defect in message.defects)
