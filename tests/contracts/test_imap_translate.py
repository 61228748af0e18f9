"""What stands between IMAP's words and ours is right for any words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.imap.translate import (
    HIGHEST_UID,
    LONGEST_SET,
    copied,
    envelope,
    for_people,
    is_temporary,
    read_cursor,
    response,
    strong_id,
    uid_sets,
    write_cursor,
)
from maildaemon_adapters.imap.transport import Literal
from maildaemon_core.message import Cursor, FolderRef, Headers, MessageRef

UIDS = st.integers(1, HIGHEST_UID)
REF = MessageRef(FolderRef("INBOX"), "7", "1")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
NAIVE = datetime(1, 1, 1)  # noqa: DTZ001 - such a thing may come from a parser


def members(uid_set: str) -> list[int]:
    ends = [piece.partition(":") for piece in uid_set.split(",")]
    return list(chain.from_iterable(range(int(low), int(high or low) + 1) for low, _, high in ends))


@given(st.lists(st.one_of(UIDS, st.integers(1, 300))))
def test_a_uid_set_names_exactly_these_uids(uids: list[int]) -> None:
    assert [uid for piece in uid_sets(uids) for uid in members(piece)] == sorted(set(uids))


def test_no_uid_set_is_too_long_for_a_line() -> None:
    scattered = range(4_000_000_000, 4_000_020_000, 2)
    pieces = list(uid_sets(scattered))
    assert max(map(len, pieces)) <= LONGEST_SET
    assert [uid for piece in pieces for uid in members(piece)] == list(scattered)


@given(UIDS, st.integers(0, HIGHEST_UID))
def test_a_cursor_is_read_as_it_was_written(uidvalidity: int, last: int) -> None:
    assert read_cursor(write_cursor(str(uidvalidity), last)) == (str(uidvalidity), last)


@given(st.text(max_size=40))
def test_any_other_text_is_no_cursor(text: str) -> None:
    known = read_cursor(Cursor(text))
    assert known is None or write_cursor(*known) == text


@given(st.text(), st.text(min_size=1))
def test_what_is_shown_to_people_has_no_control_characters_and_no_secret(text: str, secret: str) -> None:
    shown = for_people(f"BAD {text} LOGIN {secret} {text}", secrets=(secret,))
    assert shown.isprintable() or not any(ord(character) < 32 or ord(character) == 127 for character in shown)
    if secret.strip() and not set(secret) <= set("BAD LOGIN*…" + text):
        assert secret not in shown


@pytest.mark.parametrize(
    ("text", "temporary"),
    [
        ("[UNAVAILABLE] user backend is down", True),
        ("[inuse] locked", True),
        ("[ALERT] Too many simultaneous connections. (Failure)", False),
        ("Too many simultaneous connections", True),
        ("[AUTHENTICATIONFAILED] try again", False),
        ("LOGIN failed.", False),
    ],
)
def test_what_may_work_later_is_told_by_its_code_or_its_words(text: str, temporary: bool) -> None:
    assert is_temporary(text) is temporary


def test_a_response_is_its_code_and_its_words() -> None:
    assert response("[TRYCREATE] no such mailbox") == ("TRYCREATE", "no such mailbox")
    assert response("[UIDVALIDITY 7] numbers") == ("UIDVALIDITY", "numbers")
    assert response("no code [at all]") == ("", "no code [at all]")
    assert response("") == ("", "")


def test_an_envelope_takes_what_the_server_gives_and_no_more() -> None:
    bare = envelope(REF, {}, otherwise=NOW)
    assert (bare.headers, bare.received, bare.size, bare.strong_id) == (Headers(), NOW, None, None)
    east = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    full = envelope(
        REF,
        {
            b"INTERNALDATE": east,
            b"RFC822.SIZE": 5,
            b'BODY[HEADER.FIELDS ("SUBJECT")]': b"Subject: hello\r\n\r\n",
            b"EMAILID": (b"M1",),
        },
        otherwise=NOW,
    )
    assert full.received == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert (full.headers.subject, full.size, full.strong_id) == ("hello", 5, "emailid:M1")


@pytest.mark.parametrize("moment", [NAIVE, NAIVE.replace(tzinfo=timezone(timedelta(hours=9))), None, 5])
def test_a_date_that_is_none_is_replaced(moment: object) -> None:
    assert envelope(REF, {b"INTERNALDATE": moment}, otherwise=NOW).received == NOW


def test_the_strong_id_is_the_servers_own() -> None:
    assert strong_id({b"EMAILID": (123,)}) == "emailid:123"
    assert strong_id({b"X-GM-MSGID": 99}) == "gmail:99"
    assert strong_id({b"EMAILID": None}) is None


def test_a_stand_in_for_a_literal_is_as_long_as_the_literal() -> None:
    literal = Literal(1000, b"kept")
    assert len(literal) == 1000
    assert literal.kept() == b"kept"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("38505 304,319:320 3956:3958", {304: ("38505", 3956), 319: ("38505", 3957), 320: ("38505", 3958)}),
        ("7 1 9", {1: ("7", 9)}),
        ("7 2:1 9,12", {1: ("7", 9), 2: ("7", 12)}),
        ("7 1:2 9", {}),
        ("7 1:4000000000 1:4000000000", {}),
        ("7 1,,2 3:", {}),
        ("7  9", {}),
        ("", {}),
        ("x y z", {}),
    ],
)
def test_copyuid_tells_where_each_mail_went_or_nothing(code: str, told: dict[int, tuple[str, int]]) -> None:
    assert copied(code) == told


@given(st.text("0123456789,: ", max_size=40))
def test_no_copyuid_breaks_the_reading_of_it(code: str) -> None:
    assert all(uid >= 0 for uid in copied(code))
