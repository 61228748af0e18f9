"""What is read at one glance is what IMAPClient's parser reads, or it is left to that parser."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from imapclient.exceptions import ProtocolError
from imapclient.response_parser import parse_fetch_response

from maildaemon_adapters.imap.answers import plain_answers
from maildaemon_adapters.imap.wire import PARSERS_FAIL_WITH

HEADERS = b"BODY[HEADER.FIELDS (MESSAGE-ID DATE FROM TO SUBJECT)]"
DATE = b'INTERNALDATE "22-Nov-2026 17:41:03 +0100"'


def parsed(data: list[Any]) -> object:
    try:
        return dict(parse_fetch_response(data, normalise_times=False))
    except (ProtocolError, *PARSERS_FAIL_WITH):
        return None


def items() -> st.SearchStrategy[bytes]:
    return st.sampled_from(
        [
            b"UID 7",
            b"UID 8",
            b"RFC822.SIZE 12",
            DATE,
            b'INTERNALDATE " 2-Feb-2026 07:41:03 -0730"',
            b'INTERNALDATE "31-Feb-2026 07:41:03 +0000"',
            b'INTERNALDATE "22-Nov-2026 17:41:03 +9999"',
            b'INTERNALDATE "22-Foo-2026 17:41:03 +0000"',
            b"INTERNALDATE NIL",
            b"FLAGS (\\Seen)",
            b"EMAILID (x7)",
            b"MODSEQ (9)",
        ]
    )


@st.composite
def answers(draw: st.DrawFn) -> list[Any]:
    data: list[Any] = []
    for number in range(draw(st.integers(0, 4))):
        words = draw(st.lists(items(), max_size=4))
        literal = draw(st.binary(max_size=5))
        name = draw(st.sampled_from([HEADERS, b"BODY[]", b"BODY[TEXT]", b"body[]"]))
        announced = len(literal) + draw(st.sampled_from([0, 0, 0, 1]))
        data.append((b"%d (" % (number + 1) + b" ".join([*words, b"%s {%d}" % (name, announced)]), literal))
        data.append(draw(st.sampled_from([b")", b")", b")", b" UID 9)", b" FLAGS (\\Seen))"])))
    return data + draw(st.sampled_from([[], [], [None], [b"3 (FLAGS (\\Seen))"]]))


@given(answers())
def test_an_answer_is_read_as_the_whole_parser_reads_it_or_left_to_it(data: list[Any]) -> None:
    glance = plain_answers(data)
    assert glance is None or glance == parsed(data)


def test_the_answers_of_ordinary_servers_are_read_at_one_glance() -> None:
    head, body = b"Subject: x\r\n\r\n", b"Subject: x\r\n\r\nx"
    listed = [(b"1 (UID 7 RFC822.SIZE 15 %s %s {%d}" % (DATE, HEADERS, len(head)), head), b")"]
    fetched = [(b"1 (UID 7 BODY[] {%d}" % len(body), body), b")", (b"2 (UID 9 BODY[] {0}", b""), b")"]
    for data in (listed, fetched):
        glance = plain_answers(data)
        assert glance is not None
        assert glance == parsed(data)
