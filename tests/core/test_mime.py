"""Reading mail: total on any bytes, true to what was built, flat in memory."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import tracemalloc
from collections.abc import Iterator
from email.message import MIMEPart
from functools import cached_property

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maildaemon_core.message import CHUNK, BytesContent, Content, Message
from maildaemon_core.mime import read_message
from maildaemon_core.structure import DEPTH_CAP, HEADER_CAP, PARTS_CAP
from maildaemon_core.testing.mails import BuiltMail, broken_mails, built_mails, simple_mail
from maildaemon_core.transfer import Encoding, PartContent
from maildaemon_core.uuencoded import BLOCKS_CAP


def read(raw: bytes | str) -> Message:
    return read_message(BytesContent(raw.replace("\n", "\r\n").encode() if isinstance(raw, str) else raw))


def whole(content: Content, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join(content.chunks(start, stop))


def named(message: Message) -> tuple[tuple[str | None, str, bytes], ...]:
    return tuple((found.name, found.content_type, whole(found.content)) for found in message.attachments)


def assert_sound(message: Message) -> None:
    """What holds for any bytes at all."""
    for text in (*attrs.astuple(message.headers), *message.defects):
        text.encode("utf-8")
    assert message.complete or message.defects
    for index, attachment in enumerate(message.attachments, start=1):
        assert attachment.index == index
        assert attachment.name is None or attachment.name.encode("utf-8")
        assert attachment.content_type == attachment.content_type.lower()
        pieces = list(attachment.content.chunks())
        assert all(0 < len(piece) <= CHUNK for piece in pieces)
        data = b"".join(pieces)
        assert attachment.content.size == len(data)
        assert attachment.content.sha256 == hashlib.sha256(data).hexdigest()


class CountingContent(BytesContent):
    """Counts the bytes that were looked at."""

    looked_at = 0

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        for piece in super().chunks(start, stop):
            self.looked_at += len(piece)
            yield piece


class CrumblingContent(BytesContent):
    """Hands the bytes out in pieces of a given size."""

    def __init__(self, data: bytes, crumb: int) -> None:
        super().__init__(data)
        self._crumb = crumb

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        data = b"".join(super().chunks(start, stop))
        return (data[at : at + self._crumb] for at in range(0, len(data), self._crumb))


class RepeatedContent:
    """A head, a line many times over, a tail: never held in memory as a whole."""

    def __init__(self, head: bytes, line: bytes, count: int, tail: bytes) -> None:
        self._regions = ((head, 1), (line, count), (tail, 1))

    @property
    def size(self) -> int:
        return sum(len(text) * count for text, count in self._regions)

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for piece in self.chunks():
            digest.update(piece)
        return digest.hexdigest()

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        begin = 0
        for text, count in self._regions:
            end = begin + len(text) * count
            at, last = max(start, begin), end if stop is None else min(stop, end)
            many = text * (CHUNK // len(text) + 2 if count > 1 else 1)
            while at < last:
                offset = (at - begin) % len(text)
                piece = many[offset : offset + min(CHUNK, last - at)]
                yield piece
                at += len(piece)
            begin = end

    def close(self) -> None:
        pass


# Laws ---------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=400))
def test_any_bytes_at_all_are_a_mail(raw: bytes) -> None:
    assert_sound(read(raw))


@given(broken_mails())
def test_a_broken_mail_is_still_a_mail(raw: bytes) -> None:
    assert_sound(read(raw))


@given(built_mails())
def test_what_was_built_is_read_back(mail: BuiltMail) -> None:
    message = read(mail.raw)
    assert_sound(message)
    assert message.complete, message.defects
    assert not message.defects
    assert named(message) == mail.attachments
    assert message.headers.subject == mail.subject
    assert message.headers.sender == mail.sender
    assert message.headers.message_id == mail.message_id


@given(built_mails())
def test_unix_line_ends_hide_no_attachment(mail: BuiltMail) -> None:
    message = read(mail.raw.replace(b"\r\n", b"\n"))
    assert [(name, kind) for name, kind, _ in named(message)] == [(name, kind) for name, kind, _ in mail.attachments]


@given(broken_mails(), st.integers(1, 300))
def test_how_the_bytes_come_in_changes_nothing(raw: bytes, crumb: int) -> None:
    plain, crumbled = read(raw), read_message(CrumblingContent(raw, crumb))
    assert named(plain) == named(crumbled)
    assert (plain.headers, plain.defects, plain.complete) == (crumbled.headers, crumbled.defects, crumbled.complete)


@given(built_mails())
def test_python_finds_the_same_bytes(mail: BuiltMail) -> None:
    """Against the standard library, as a second opinion; it opens mails within mails, so these are left out."""
    theirs: list[bytes] = []
    waiting: list[MIMEPart] = [email.message_from_bytes(mail.raw, policy=email.policy.default)]
    while waiting:
        part = waiting.pop()
        if part.get_content_maintype() == "multipart":
            waiting += part.iter_parts()
        elif part.get("content-disposition") is not None or part.get_param("name") is not None:
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            theirs.append(payload)
    logo = b"\x89PNG"
    ours = [data for _, kind, data in named(read(mail.raw)) if kind != "message/rfc822"]
    assert sorted(data for data in theirs if data != logo) == sorted(data for data in ours if data != logo)


@given(
    st.binary(min_size=1, max_size=300),
    st.sampled_from((1, 700)),
    st.lists(st.integers(0, 320) | st.integers(0, 200_000), min_size=2, max_size=2).map(sorted),
    st.sampled_from(Encoding),
)
@example(b"QUJD" * 50, 700, [60_000, 70_000], Encoding.BASE64)
@example(b"=41B\r\n" * 50, 700, [60_000, 70_000], Encoding.QUOTED_PRINTABLE)
def test_a_slice_of_a_part_is_a_slice_of_what_it_decodes_to(
    raw: bytes, times: int, cut: list[int], encoding: Encoding
) -> None:
    part = PartContent(BytesContent(b"xy" + raw * times + b"z"), 2, 2 + len(raw) * times, encoding)
    start, stop = cut
    assert whole(part, start, stop) == whole(part)[start:stop]
    assert whole(part, start) == whole(part)[start:]


@pytest.mark.parametrize(
    ("encoding", "encoded", "decoded"),
    [
        ("7bit", b"a =41 \n", b"a =41 \n"),
        ("Base64 (of course)", b" JVBE\r\n\r\nRg\r\n==\r\n", b"%PDF"),
        ("base64;", b"", b""),
        ("quoted-printable", b"=41=e4=E4_=3D41", b"A\xe4\xe4_=41"),
        ("quoted-printable", b"a=\r\nb= \t\r\nc", b"abc"),
        ("quoted-printable", b"a \t\r\nb=20\r\n c\n", b"a\r\nb \r\n c\n"),
        ("Quoted-Printable ", b"end=", b"end"),
    ],
)
def test_transfer_encodings_are_taken_off(encoding: str, encoded: bytes, decoded: bytes) -> None:
    message = read(b"Content-Type: a/b\r\nContent-Transfer-Encoding: %s\r\n\r\n%s" % (encoding.encode(), encoded))
    assert [data for _, _, data in named(message)] == [decoded]
    assert message.complete


@pytest.mark.parametrize("shift", range(-12, 4))
def test_a_delimiter_may_lie_across_two_blocks(shift: int) -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b\r\n\r\n"
    body = b"x" * ((1 << 16) - len(head) + shift)
    raw = head + body + b"\r\n--b\r\nContent-Type: a/b\r\n\r\n2\r\n--b--\r\n"
    message = read_message(CrumblingContent(raw, 1 << 16))
    assert [data for _, _, data in named(message)] == [body, b"2"]
    assert message.complete


MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
PDF = b"JVBERi0xLjQKJdPr6eEKMSAwIG9iago8PC9UaXRsZSA8RkVGRjAwNDQ+PgplbmRvYmoKMiAwIG9i\r\n"
PICTURE = b"--b\r\nContent-Type: image/png\r\nContent-ID: <x>\r\n\r\n1\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (
            RepeatedContent(
                MIXED + b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n",
                PDF,
                650_000,
                b"--b--\r\n",
            ),
            650_000 * 57,
        ),
        (
            RepeatedContent(
                MIXED + b"Content-Type: text/html\r\n\r\n", b"<p>cid:y</p>" + b" " * 200 + b"\r\n", 100_000, PICTURE
            ),
            1,
        ),
    ],
    ids=["an attachment of 50 MB", "an HTML body of 20 MB"],
)
def test_memory_does_not_grow_with_the_mail(content: RepeatedContent, size: int) -> None:
    tracemalloc.start()
    try:
        message = read_message(content)
        read_again = sum(map(len, message.attachments[0].content.chunks()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert content.size > 20_000_000
    assert message.complete
    assert read_again == message.attachments[0].content.size == size
    assert peak < 8_000_000


# What counts as an attachment ---------------------------------------------------------------------------------------


def mixed(*parts: str, kind: str = "mixed") -> Message:
    body = "".join(f"--b\n{part}\n" for part in parts)
    return read(f"Subject: s\nContent-Type: multipart/{kind}; boundary=b\n\n{body}--b--\n")


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("Content-Type: application/pdf; name=a.pdf\nContent-Disposition: inline\n\nx", "a.pdf"),
        ("Content-Type: application/octet-stream\n\nx", None),
        ("Content-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR", None),
        ("Content-Type: text/plain; name=notes.txt\n\nx", "notes.txt"),
        ("Content-Type: text/plain\nContent-Disposition: attachment\n\nx", None),
        ("Content-Type: image/png\nContent-ID: <unused>\n\nx", None),
        ("Content-Type: application/pgp-signature\n\nx", None),
        ("Content-Type: application/zip; name=empty.zip\n\n", "empty.zip"),
        ("Content-Type: message/rfc822\n\nSubject: =?utf-8?q?=C3=84rger?=\n\nx", "Ärger.eml"),
        ("Content-Type: message/rfc822\n\nFrom: a@b\n\nx", "message.eml"),
    ],
)
def test_an_attachment_is_known_by_name_type_and_role(part: str, name: str | None) -> None:
    message = mixed("Content-Type: text/plain\n\nbody", part)
    assert [found.name for found in message.attachments] == [name]
    assert message.complete


def test_a_part_that_says_two_things_about_itself_may_be_what_is_looked_for() -> None:
    twice = "Content-Type: text/plain\nContent-Type: application/pdf; name=a.pdf\n\nbody"
    assert not mixed(twice).complete
    same = "Content-Type: text/plain\nContent-Type: text/plain\n\nbody"
    assert mixed(same).complete


@pytest.mark.parametrize("kind", ["text/plain", "text/html", "text/plain; charset=x-none\nContent-Disposition: inline"])
def test_a_body_is_no_attachment(kind: str) -> None:
    assert mixed(f"Content-Type: {kind}\n\nx").attachments == ()
    assert read(f"Content-Type: {kind}\n\nx").attachments == ()


def test_a_mail_that_is_nothing_but_a_pdf_has_one_attachment() -> None:
    found = named(read("Content-Type: application/pdf\nContent-Transfer-Encoding: base64 \n\nJVBERg==\n"))
    assert found == ((None, "application/pdf", b"%PDF"),)


def test_pictures_that_the_html_refers_to_are_no_attachments() -> None:
    message = mixed(
        "Content-Type: text/html\n\n<img src='cid:Logo%40x'><div style='background:url(CID:b&amp;c)'>",
        "Content-Type: image/png; name=logo.png\nContent-ID: <logo@x>\n\n1",
        "Content-Type: image/png; name=back.png\nContent-ID: <b&c>\n\n2",
        "Content-Type: image/png; name=photo.png\nContent-ID: <photo@x>\n\n3",
        "Content-Type: application/pdf; name=logo.pdf\nContent-ID: <logo@x>\n\n4",
        kind="related",
    )
    assert [found.name for found in message.attachments] == ["photo.png", "logo.pdf"]


def test_a_digest_is_made_of_mails() -> None:
    message = mixed("\nSubject: one\n\nx", "\nSubject: two\n\ny", kind="digest")
    assert [found.name for found in message.attachments] == ["one.eml", "two.eml"]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="a, b; c.pdf"', "a, b; c.pdf"),
        ("attachment; filename=my file (1).pdf", "my file (1).pdf"),
        ('attachment; filename="a\\"b.pdf"', 'a"b.pdf'),
        ('attachment; filename="a "quoted" b.pdf"; size=3', 'a "quoted" b.pdf'),
        ('attachment; filename="C:\\temp\\x.pdf"', "C:\\temp\\x.pdf"),
        ('attachment; filename="open.pdf', "open.pdf"),
        ('attachment; filename="open.pdf; size=3', "open.pdf"),
        ('attachment; filename="Grüße.pdf"', "Grüße.pdf"),
        ("attachment; filename*=iso-8859-1'de'Gr%FC%DFe.pdf; filename=x.pdf", "Grüße.pdf"),
        ("attachment; filename*0*=utf-8''Gr%C3; filename*1*=%BC%C3%9F; filename*2=e.pdf", "Grüße.pdf"),
        ("attachment; filename*1=b.pdf; filename*0=a", "ab.pdf"),
        ("attachment; filename*0==?utf-8?q?Gr=C3=BC; filename*1=?= .pdf", "Grü .pdf"),
        ('attachment; filename="=?utf-8?Q?Gr=C3=BC?=\n =?utf-8?Q?=C3=9Fe.pdf?="', "Grüße.pdf"),
        ('attachment; filename="a\n\tb.pdf"', "a b.pdf"),
        ("attachment; filename*=x-none''%FF.pdf", "ÿ.pdf"),
        ("attachment; filename*=unicode_escape''%5cud800.pdf", "\\ud800.pdf"),
        ("attachment; FileName = 'a.pdf' ", "'a.pdf'"),
        ("attachment; filename*0*=; filename*0999999999999999=x; filename=b.pdf", "b.pdf"),
        ("attachment; filename=a%20b.pdf", "a%20b.pdf"),
    ],
)
def test_names_are_read_however_they_are_written(header: str, name: str) -> None:
    message = read(f"Content-Type: application/pdf\nContent-Disposition: {header}\n\nx")
    assert [found.name for found in message.attachments] == [name]


FILE = "begin 644 a b.txt \n#86)C\n`\nend\n"


@pytest.mark.parametrize("encoding", ["7bit", "base64", "quoted-printable"])
def test_files_that_stand_uuencoded_in_a_text_are_attachments(encoding: str) -> None:
    text = f"hello\n{FILE}\nbetween\n{FILE}bye\n".replace("\n", "\r\n").encode()
    body = {"base64": base64.encodebytes(text), "quoted-printable": text.replace(b"=", b"=3D")}.get(encoding, text)
    for kind in ("text/plain", "text/html"):
        head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        message = read(head.encode() + body)
        expected = (("a b.txt", "application/octet-stream", b"abc"),) * 2 if kind == "text/plain" else ()
        assert named(message) == expected
        assert message.complete, message.defects


@pytest.mark.parametrize(
    "text", ["begin 644 reading\nthis book\nend\n", "begin 644 a\n", "x begin 644 a\n#86)C\nend\n"]
)
def test_a_text_that_is_no_code_is_left_alone(text: str) -> None:
    message = read(f"Subject: s\n\n{text}")
    assert (message.attachments, message.complete) == ((), True)


def test_a_uuencoded_file_that_is_cut_off_is_a_loss() -> None:
    message = read("Subject: s\n\nbegin 644 a\n#86)C\n")
    assert named(message) == (("a", "application/octet-stream", b"abc"),)
    assert not message.complete


def test_of_very_many_uuencoded_files_in_a_text_some_are_taken_and_the_rest_is_a_loss() -> None:
    message = read("Subject: s\n\n" + FILE * (BLOCKS_CAP + 1))
    assert (len(message.attachments), message.complete) == (BLOCKS_CAP, False)


# Defects ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "defect", "found"),
    [
        ("Content-Type: multipart/mixed\n\n--b\n\nx", "without a usable boundary", [b"--b\r\n\r\nx"]),
        ("Content-Type: multipart/mixed; boundary=b\n\n--c\n\nx", "never comes", [b"--c\r\n\r\nx"]),
        ("Content-Type: multipart/mixed; boundary=b\n\n", "never comes", []),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: a/b\n\nx", "never closed", [b"x"]),
        ("Content-Type: a/b\nContent-Transfer-Encoding: base64\n\nJVB?ERg==", "do not belong there", [b"%PDF"]),
        ("Content-Type: a/b\nContent-Transfer-Encoding: base64\n\nJVBERg", "ends early", [b"%PDF"]),
        ("Content-Type: a/b\nContent-Transfer-Encoding: base64\n\nJVBER", "ends early", [b"%PD"]),
        ("Content-Type: a/b\nContent-Transfer-Encoding: base64\n\nJQ==UERG", "goes on after its padding", [b"%PDF"]),
        ("Content-Type: a/b\nContent-Transfer-Encoding: quoted-printable\n\na=b=3D", "escape that is none", [b"a=b="]),
        ("Content-Type: a/b\nContent-Transfer-Encoding: x-none\n\nx", "unknown transfer encoding", [b"x"]),
        ("Content-Type: a/b; name=WINMAIL.DAT\n\nx", "container not opened", [b"x"]),
        ("Content-Type: application/pkcs7-mime; smime-type=signed-data\n\nx", "container not opened", [b"x"]),
        ("Content-Type: application/pkcs7-mime; smime-type=enveloped-data\n\nx", "encrypted", [b"x"]),
        ("Content-Type: multipart/encrypted; boundary=b\n\n--b\nContent-Type: a/b\n\nx\n--b--", "encrypted", [b"x"]),
        ("Content-Type: message/partial; id=x\n\nx", "in another place", [b"x"]),
        ("Content-Type: a/b\nJVBERg", "no empty line", [b"JVBERg"]),
        ("Content-Type: a/b; boundary=b\rX: y\n\nx", "carriage returns", [b"x"]),
        ("\nx", "no header", []),
    ],
)
def test_what_may_be_lost_is_said_and_what_is_there_is_kept(raw: str, defect: str, found: list[bytes]) -> None:
    message = read(raw)
    assert not message.complete
    assert any(defect in text for text in message.defects)
    assert [data for _, _, data in named(message)] == found


def test_a_part_after_the_closing_delimiter_is_read_and_said() -> None:
    head = "Content-Type: multipart/mixed; boundary=b\n\n"
    message = read(head + "--b\nContent-Type: a/b\n\n1\n--b--\n--b\nContent-Type: a/b\n\n2\n--b--\n")
    assert [data for _, _, data in named(message)] == [b"1", b"2"]
    assert message.defects == ("a part after the closing delimiter of its multipart",)
    assert not message.complete


def test_an_inner_multipart_that_the_outer_one_ends_loses_nothing() -> None:
    inner = "Content-Type: multipart/mixed; boundary=c\n\n--c\nContent-Type: a/b\n\n1"
    message = mixed(inner, "Content-Type: a/b\n\n2")
    assert [data for _, _, data in named(message)] == [b"1", b"2"]
    assert message.complete
    assert message.defects == ("multipart/mixed that is never closed",)


@pytest.mark.parametrize(
    "raw", [b"", b"Subject: only a header", b"Subject: only a header\r\n\r\n", b"From me\r\nTo: b\r\n"]
)
def test_a_mail_may_be_as_short_as_it_likes(raw: bytes) -> None:
    message = read(raw)
    assert (message.complete, message.defects, message.attachments) == (True, (), ())


def test_a_line_that_is_no_header_hides_none_of_those_after_it() -> None:
    message = read("From: a@b.de\nwhat is this\n\tand this\nSubject: found\n\nx")
    assert message.headers.subject == "found"
    assert message.complete
    assert message.defects == ("a header block interrupted by a line that is no header",)


def test_an_unknown_charset_is_a_blemish_and_no_loss() -> None:
    message = read("Subject: =?x-none?q?Gr=C3=BC=C3=9Fe?=\n\nx")
    assert message.headers.subject == "Grüße"
    assert message.complete
    assert message.defects == ("unknown charset 'x-none' in a header",)


def test_the_caps_end_in_a_defect() -> None:
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(200))
    assert f"multiparts nested more than {DEPTH_CAP} deep" in read(deep).defects
    many = read(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\nContent-Type: a/b\r\n\r\n" * 10_100)
    assert many.defects == (f"more than {PARTS_CAP} parts",)
    assert len(many.attachments) == PARTS_CAP - 1
    long = read(b"Subject: x\r\nX: " + b"y" * HEADER_CAP + b"\r\nContent-Type: a/b\r\n\r\nx")
    assert "a header block of" in long.defects[0]
    assert not any(message.complete for message in (many, long))


def test_the_simple_mail_is_the_same_each_time() -> None:
    mail = simple_mail(
        subject="Grüße", sender="Jane <jane@firm.de>", attachments=[("a.pdf", "application/pdf", b"%PDF")]
    )
    assert mail == simple_mail(
        subject="Grüße", sender="Jane <jane@firm.de>", attachments=[("a.pdf", "application/pdf", b"%PDF")]
    )
    message = read(mail)
    assert (message.headers.subject, message.headers.sender) == ("Grüße", "jane@firm.de")
    assert named(message) == (("a.pdf", "application/pdf", b"%PDF"),)
    assert not read(simple_mail()).defects
