"""What the source ``pop3`` makes of bytes and words, without a server."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.pop3.dots import Unstuffer
from maildaemon_adapters.pop3.maildrop import read_maildrop, read_sizes
from maildaemon_adapters.pop3.position import REMEMBERED, Position, id_of, look_of, read_cursor, write_cursor
from maildaemon_adapters.pop3.words import busy, read_abilities, response
from maildaemon_core.message import Cursor, Headers
from tests.servers.scripted_pop3 import stuffed

ENDS = st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"x", b"\r\n.", b".\r\n", b"\r\n.\r\n", b"..", b"\n.\r\n"])
TRICKY = st.lists(st.one_of(ENDS, st.binary(max_size=4)), max_size=30).map(b"".join)
BEHIND = st.one_of(st.just(b""), st.just(b"+OK next\r\n"), st.binary(max_size=20))


def fed(data: bytes, cuts: list[int], unstuffer: Unstuffer) -> tuple[bytes, bytes]:
    """What comes out when the bytes come in pieces, and what is left behind the end."""
    out = b""
    at = 0
    for cut in [*sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]:
        out += unstuffer.feed(data[at:cut])
        at = cut
        if unstuffer.over:
            return out, unstuffer.rest + data[at:]
    raise AssertionError("the end was not found")


CUTS = st.lists(st.integers(0, 1000), max_size=12)


@given(TRICKY, BEHIND, CUTS)
def test_what_a_server_stuffed_comes_out_as_it_was_however_it_was_cut(
    raw: bytes, behind: bytes, cuts: list[int]
) -> None:
    raw = b"Subject: first\r\n" + raw + (b"" if raw.endswith(b"\r\n") else b"\r\n")
    wire = re.sub(rb"\r\n\.", b"\r\n..", raw) + b".\r\n"
    assert fed(wire + behind, cuts, Unstuffer()) == (raw, behind)


@given(TRICKY, BEHIND, CUTS)
def test_the_first_line_may_begin_with_a_dot_as_well(raw: bytes, behind: bytes, cuts: list[int]) -> None:
    raw = raw.partition(b"\n")[0].rstrip(b"\r") + b"\r\n"
    wire = stuffed(raw)
    assert fed(wire + behind, cuts, Unstuffer()) == (raw, behind)


@given(TRICKY, BEHIND, CUTS, st.booleans())
def test_where_lines_end_with_bare_lf_the_dots_are_found_there(
    raw: bytes, behind: bytes, cuts: list[int], bare: bool
) -> None:
    raw = b"Subject: first\n" + raw.replace(b"\r", b"") + (b"" if raw.endswith(b"\n") else b"\n")
    wire = re.sub(rb"\n\.", b"\n..", raw) + (b".\n" if bare else b".\r\n")
    assert fed(wire + behind, cuts, Unstuffer(bare=bare)) == (raw, behind)


def test_an_answer_without_lines_is_empty() -> None:
    assert fed(b".\r\n+OK\r\n", [], Unstuffer()) == (b"", b"+OK\r\n")


def test_nothing_is_held_back_but_what_may_be_the_end() -> None:
    unstuffer = Unstuffer()
    assert unstuffer.feed(b"a\r\n" + b"x" * 1000) == b"a\r\n" + b"x" * 1000
    assert unstuffer.feed(b"\r\n") == b""
    assert unstuffer.feed(b"y") == b"\r\ny"
    long = Unstuffer()
    assert sum(len(long.feed(b"z" * 50_000)) for _ in range(4)) == 200_000


# ---- positions ----

LOOKS = st.dictionaries(st.binary(min_size=8, max_size=8), st.binary(min_size=4, max_size=4), max_size=20)


@given(LOOKS, LOOKS, st.integers(1, 999_999_999))
def test_a_cursor_says_what_was_written_into_it(
    seen: dict[bytes, bytes], gone: dict[bytes, bytes], numbering: int
) -> None:
    position = Position(numbering=numbering, seen=seen, gone=gone)
    read = read_cursor(write_cursor(position))
    assert read == position
    assert read is not None
    assert list(read.seen) == list(seen)
    assert write_cursor(read) == write_cursor(position)


@given(st.text(max_size=20))
def test_no_text_is_too_odd_to_be_no_cursor(text: str) -> None:
    assert read_cursor(Cursor(text)) is None
    for cursor in (f"uidl:1:{text}:", f"uidl:{text}::", "uidl:1:AAAA:", "uidl:1:AAAAA:", "uidl:0::"):
        found = read_cursor(Cursor(cursor))
        assert found is None or write_cursor(found) == cursor


def test_the_cursor_of_a_hundred_thousand_mails_is_no_larger_than_it_must_be() -> None:
    position = Position().after((id_of(str(number)), bytes(4)) for number in range(100_000))
    assert len(position.seen) == 100_000
    assert len(write_cursor(position)) < 1_700_000


@given(LOOKS, st.data())
def test_every_mail_is_either_there_or_gone_or_forgotten(seen: dict[bytes, bytes], data: st.DataObject) -> None:
    there = data.draw(st.sets(st.sampled_from(sorted(seen)))) if seen else set()
    position = Position(seen=seen).among(there)
    assert set(position.seen) == there
    assert {**position.seen, **position.gone} == seen
    back = position.among(seen)
    assert not back.gone


def test_only_the_last_ones_that_went_are_remembered() -> None:
    ids = [id_of(str(number)) for number in range(REMEMBERED + 10)]
    position = Position().after((each, bytes(4)) for each in ids).among(())
    assert list(position.gone) == ids[10:]


def test_the_look_of_headers_is_the_beginning_of_their_fingerprint() -> None:
    fingerprint = Headers(subject="x").fingerprint
    assert look_of(fingerprint).hex() == fingerprint[:8]


# ---- maildrops ----


@given(st.lists(st.binary(max_size=12).filter(lambda raw: not set(raw) & set(b"\r\n")), max_size=20))
def test_every_mail_has_a_reference_of_its_own_whatever_its_id(ids: list[bytes]) -> None:
    found = read_maildrop(b"%d %s" % (number, uidl) for number, uidl in enumerate(ids, start=1))
    assert sorted(found.numbers.values()) == list(range(1, len(ids) + 1))
    assert all(uid.isascii() and uid.isprintable() and 0 < len(uid) < 210 for uid in found.numbers)


def test_what_is_no_line_of_a_listing_is_passed_over() -> None:
    assert read_maildrop([b"", b"x y", b"-1 a", b"99999999999999 b", b"7 c"]).numbers == {"c": 7}
    assert read_sizes([b"1 2 extra", b"2", b"3 x", b"4 -4", b"5 6"]) == {1: 2, 5: 6}


# ---- words ----


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[IN-USE] x", "IN-USE"),
        ("[in-use] x", "IN-USE"),
        ("[LOGIN-DELAY 60] x", "LOGIN-DELAY"),
        ("[SYS/TEMP] x", "SYS/TEMP"),
        ("[AUTH] the mailbox is locked", ""),
        ("Unable to lock maildrop: Mailbox is locked by POP server", "IN-USE"),
        ("mailbox already open", "IN-USE"),
        ("Temporary authentication failure", "SYS/TEMP"),
        ("your account is locked", ""),
        ("sender is blocked", ""),
        ("", ""),
    ],
)
def test_what_is_about_being_busy_is_told_from_what_is_not(text: str, code: str) -> None:
    assert busy(text) == code


@given(st.text(max_size=20))
def test_any_text_has_a_code_and_words(text: str) -> None:
    code, words = response(text)
    assert code == code.upper()
    assert words == words.strip()


def test_abilities_are_known_in_upper_case_with_what_stands_behind_them() -> None:
    assert read_abilities([b"top", b"SASL plain LOGIN ", b"", b"EXPIRE 60", b"\xff"]) == {
        "TOP": "",
        "SASL": "plain LOGIN",
        "EXPIRE": "60",
        "\ufffd": "",
    }
