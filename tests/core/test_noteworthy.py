"""Header fields that are worth keeping: decoded, in their order, and never more than a mail is allowed to fill."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.headers import split_fields
from maildaemon_core.noteworthy import FIELD_CAP, FIELDS_CAP, NOTEWORTHY, TOTAL_CAP, noteworthy


def test_they_are_decoded_and_stand_in_the_order_of_the_mail() -> None:
    block = b"Cc: =?utf-8?q?J=C3=BCrgen?= <j@b>\r\nX-Secret: no\r\nDelivered-To: a\r\n"
    block += b"References: <1>\r\n <2>\r\nCC: c@d\r\n"
    assert noteworthy(split_fields(block)) == (
        ("cc", "Jürgen <j@b>"),
        ("delivered-to", "a"),
        ("references", "<1> <2>"),
        ("cc", "c@d"),
    )


def test_what_is_too_long_is_cut_and_says_so() -> None:
    ((_, text),) = noteworthy([("references", b"<x> " * 5000)])
    assert text.endswith("…")
    assert len(text) <= FIELD_CAP + 1
    many = noteworthy([("cc", b"y" * FIELD_CAP)] * 1000)
    assert sum(len(value) for _, value in many) <= TOTAL_CAP
    assert len(noteworthy([("cc", b"z")] * 1000)) == FIELDS_CAP


@given(st.lists(st.tuples(st.sampled_from(sorted(NOTEWORTHY)), st.binary(max_size=50))))
def test_every_value_is_valid_text(fields: list[tuple[str, bytes]]) -> None:
    for name, value in noteworthy(fields):
        assert name in NOTEWORTHY
        assert value.encode("utf-8") is not None
