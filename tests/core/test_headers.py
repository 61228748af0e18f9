"""Headers: whatever was written, text comes out, and the sender is who stands in the angle brackets."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.addresses import first_mailbox
from maildaemon_core.headers import decode_text, read_headers
from maildaemon_core.testing.mails import encoded_words


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"=?UTF-8?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?utf-8*de?b?R3LDvMOfZQ?=", "Grüße"),  # a language, no padding
        (b"=?utf-8?q?Gr=C3?= =?utf-8?q?=BC=C3=9Fe?=", "Grüße"),  # a character spread over two words
        (b"=?utf-8?b?R3LD?= =?UTF-8?q?=BC?=", "Grü"),
        (b"a =?utf-8?q?b?= =?latin1?q?=FC?= c", "a bü c"),
        (b"x=?utf-8?q?=C3=BC?=y", "xüy"),
        (b'"=?utf-8?q?quoted?="', '"quoted"'),
        (b"=?utf-8?q?two words, really??=", "two words, really?"),
        (b"=?utf-8?q?a_b?=", "a b"),
        (b"=?utf-8?q?=3D=3Futf-8=3Fq=3Fa=3F=3D?=", "=?utf-8?q?a?="),  # decoded once
        (b"=?gb2312?B?1tDOxA==?=", "中文"),
        (b"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        (b"=?utf-7?q?+2AA-x?=", "\ufffdx"),  # a lone surrogate
        (b"=?unicode_escape?q?=5Cud800?=", "\\ud800"),
        (b"=?zlib?b?eJwDAAAAAAE=?=", "x\u0153\x03\0\0\0\0\x01"),  # no charset, and nothing is inflated
        (b"=?utf-8?q?a=0D=0ABcc:_x?=", "a  Bcc: x"),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"=?utf-8?q?never closed", "=?utf-8?q?never closed"),
        (b"=?utf-8?q?open =?utf-8?q?=C3=BC?=", "=?utf-8?q?open ü"),
        (b"=?us-ascii?q?=C3=BC?=", "ü"),
        (b"=?iso-8859-1?q?=93a=94?=", "“a”"),
        ("Grüße".encode(), "Grüße"),
        ("Grüße".encode("latin-1"), "Grüße"),
        (b"\xff\x81", "ÿ\x81"),
        (b"\xed\xa0\x80", "í\xa0€"),  # a surrogate in UTF-8
        (b"", ""),
    ],
)
def test_text_is_decoded_in_all_its_sloppy_forms(raw: bytes, text: str) -> None:
    assert decode_text(raw) == text


@pytest.mark.parametrize(
    ("header", "sender"),
    [
        ("jane@Firm.DE", "jane@firm.de"),
        ("Jane Doe <Jane.Doe@FIRM.de>", "Jane.Doe@firm.de"),
        ('"Doe, Jane" <jane@firm.de>', "jane@firm.de"),
        ("Doe, Jane <jane@firm.de>", "jane@firm.de"),
        ('"boss@firm.de" <x@evil.test>', "x@evil.test"),
        ("boss@firm.de <x@evil.test>", "x@evil.test"),
        ('"boss@firm.de <x@evil.test>', "x@evil.test"),
        ('"boss@firm.de" <>', ""),
        ("boss@firm.de@evil.test", ""),
        ("jane@firm.de (Jane, of (nested) @firm)", "jane@firm.de"),
        ("(comment) jane(x)@firm.de(y)", "jane@firm.de"),
        ("jane@firm.de (never closed", "jane@firm.de"),
        ("Jane <jane(x)@firm.de>", "jane@firm.de"),
        ('"Jane \\"J\\" Doe (x" <jane@firm.de>', "jane@firm.de"),
        ("Team: jane@firm.de, joe@firm.de;", "jane@firm.de"),
        ("undisclosed-recipients:;", ""),
        ("<@a.test,@b.test:jane@firm.de>", "jane@firm.de"),
        ("<mailto:jane@firm.de>", "jane@firm.de"),
        ("< jane @ firm.de >", "jane@firm.de"),
        ("jane @ firm.de", "jane@firm.de"),
        ("Jane jane@firm.de", "jane@firm.de"),
        ("<jane@firm.de", "jane@firm.de"),
        ('"jane doe"@firm.de', '"jane doe"@firm.de'),
        ("jane@[192.0.2.1]", "jane@[192.0.2.1]"),
        ("jäne@fÖrm.de", "jäne@förm.de"),
        ("=?utf-8?q?boss=40firm.de=2C?= <x@evil.test>", "x@evil.test"),
        ("jane", ""),
        ("jane@", ""),
        ("@firm.de", ""),
        ("a@\x00b", ""),
        ("a b c <", ""),
        ("", ""),
        ("x" * 2000 + "@firm.de", ""),
    ],
)
def test_the_sender_is_found_however_carelessly_it_is_written(header: str, sender: str) -> None:
    assert read_headers(f"From: {header}\r\n\r\n".encode()).sender == sender


def test_a_sender_hidden_in_an_encoded_word_is_found_if_there_is_no_other() -> None:
    assert read_headers(b"From: =?utf-8?q?Jane_<jane=40firm.de>?=\r\n").sender == "jane@firm.de"


def test_of_several_froms_the_first_that_can_be_read_counts() -> None:
    headers = read_headers(b"From:\r\nFrom: nobody\r\nFrom: A <a@x.de>\r\nFrom: b@y.de\r\n")
    assert (headers.from_, headers.sender) == ("A <a@x.de>", "a@x.de")
    assert read_headers(b"From:\r\nFrom: nobody\r\n").from_ == "nobody"


def test_a_block_of_some_fields_reads_like_the_whole_header() -> None:
    block = b"SUBJECT : =?utf-8?q?=C3=BC?=\r\n x\r\nTo: a@b\r\nTo: c@d\r\nMessage-ID:\r\n <1@x>\r\nDate: today\r\n"
    block += b"\r\nFrom: body"
    headers = read_headers(block)
    assert (headers.subject, headers.to, headers.message_id) == ("ü x", "a@b, c@d", "<1@x>")
    assert (headers.date, headers.from_) == ("today", "")
    assert headers == read_headers(block.replace(b"\r\n", b"\n"))


@given(st.binary(max_size=200) | st.text(alphabet='a@<>(),:;"\\ =?.\r\nqb-8utf', max_size=80).map(str.encode))
def test_any_header_becomes_text(raw: bytes) -> None:
    for name in (b"From: ", b"Subject: ", b"To: "):
        for text in attrs.astuple(read_headers(name + raw)):
            assert text.encode("utf-8").count(b"\n") == 0


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=200))
def test_encoded_words_say_what_was_encoded(text: str) -> None:
    assert decode_text(encoded_words(text).encode()) == text.strip()


@given(st.text(alphabet='ab@.<>(),:;"\\ [é', max_size=40))
def test_a_sender_is_an_address_or_nothing(text: str) -> None:
    sender = first_mailbox(text)
    if sender:
        local, _, domain = sender.rpartition("@")
        assert local
        assert domain == domain.lower()
        assert not set(domain) & set(' <>(),;"\\')
        assert "@" not in local
        assert first_mailbox(f"x <{sender}>") == sender
