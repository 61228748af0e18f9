"""From the name that a sender wrote to the name of a file: decoded once and only once, then made safe."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maildaemon_core.message import BytesContent
from maildaemon_core.mime import read_message
from maildaemon_core.safe_names import attachment_name
from maildaemon_core.testing.hostile_mails import mail_named
from maildaemon_core.testing.mails import NameStyle
from maildaemon_core.testing.strategies import hostile_names, texts
from tests.core.test_naming import assert_safe

STYLES = st.sampled_from(NameStyle)


def name_in(raw: bytes) -> str | None:
    (found,) = read_message(BytesContent(raw)).attachments
    assert b"".join(found.content.chunks()) == b"%PDF-1.4"
    return found.name


def is_text(name: str) -> bool:
    return not re.search("[\ud800-\udfff]", name)


@given(hostile_names() | texts(), STYLES)
@example("../../etc/passwd", NameStyle.QUOTED)
def test_whatever_the_name_the_file_is_safe_and_the_attachment_whole(name: str, style: NameStyle) -> None:
    if style in {NameStyle.PLAIN, NameStyle.QUOTED}:  # raw line breaks would end the header, as they do in any mail
        name = re.sub(r"[\r\n]", "", name)
    sent = name_in(mail_named(name, style))
    assert sent is None or sent.encode("utf-8")
    assert_safe(attachment_name(sent, 1, "application/pdf"))


@given((hostile_names() | texts()).filter(is_text), st.sampled_from((NameStyle.EXTENDED, NameStyle.CONTINUED)))
@example("%2e%2e%2fetc", NameStyle.EXTENDED)
@example("=?utf-8?q?a?=", NameStyle.CONTINUED)
@example("utf-8''%41", NameStyle.EXTENDED)
def test_a_name_that_looks_encoded_after_decoding_stays_so(name: str, style: NameStyle) -> None:
    assert (name_in(mail_named(name, style)) or "") == re.sub(r"[\r\n]", " ", name).strip()


@given((hostile_names() | texts()).filter(is_text))
@example("=?utf-8?q?=3D=3Futf-8=3Fq=3F=2E=2E=2F=3F=3D?=")
def test_an_encoded_word_is_decoded_once_and_only_once(name: str) -> None:
    assert (name_in(mail_named(name, NameStyle.ENCODED_WORD)) or "") == re.sub(r"[\r\n]", " ", name).strip()


@pytest.mark.parametrize(
    ("parameter", "sent", "stored"),
    [
        (b"filename=%2e%2e%2fx.pdf", "%2e%2e%2fx.pdf", "%2e%2e%2fx.pdf"),
        (b"filename*=utf-8''%2e%2e%2fx.pdf", "../x.pdf", "_x.pdf"),
        (b"filename*=utf-8''%252e%252e%252fx.pdf", "%2e%2e%2fx.pdf", "%2e%2e%2fx.pdf"),
        (b'filename="=?utf-8?q?=2E=2E=2Fx.pdf?="', "../x.pdf", "_x.pdf"),
        (b'filename="=?utf-8?q?=252e=252e=252fx?="', "%2e%2e%2fx", "%2e%2e%2fx"),
        (b"filename*=utf-8''=%3Futf-8%3Fq%3Fa%3F=", "=?utf-8?q?a?=", "=_utf-8_q_a_="),
        (b"filename*0==?utf-8?q?a; filename*1=?=.pdf", "a.pdf", "a.pdf"),
        (b"filename*=utf-8''a%00%0d%0ab.pdf", "a\0  b.pdf", "a b.pdf"),
        (b"filename*=utf-8''%e2%80%aefdp.exe", "\u202efdp.exe", "fdp.exe"),
        (b'filename="C:\\temp\\a.txt:evil"', "C:\\temp\\a.txt:evil", "C__temp_a.txt_evil"),
    ],
)
def test_tricks_end_as_plain_names(parameter: bytes, sent: str, stored: str) -> None:
    raw = mail_named("x").replace(b"filename*=utf-8''x", parameter)
    assert name_in(raw) == sent
    assert attachment_name(sent, 1, None) == stored
