"""Identities and values: the same for ever where they must be, and different where two things are two."""

from __future__ import annotations

import hashlib
import uuid

import attrs
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.message import CHUNK, BatchId, BytesContent, Headers, MailboxId, mailbox_id
from tests.core.entries import envelope, headers

texts = st.text(max_size=20)


@given(texts, texts)
def test_a_mailbox_is_known_by_its_name_for_ever(one: str, other: str) -> None:
    assert (mailbox_id(one) == mailbox_id(other)) == (one == other)
    assert str(uuid.UUID(mailbox_id(one))) == mailbox_id(one)


def test_the_id_of_a_name_never_changes_or_everything_would_be_delivered_again() -> None:
    assert mailbox_id("in@our.example") == "b38796f6-6ae0-51af-8223-32b99cafd837"


def test_the_fingerprint_of_a_mail_never_changes_or_a_renumbering_would_deliver_it_again() -> None:
    assert headers().fingerprint == "bbbadfe1fc10b6ac677ff635402710af"


@given(st.lists(texts, min_size=5, max_size=5), st.lists(texts, min_size=5, max_size=5))
def test_fingerprints_differ_where_a_header_does_and_white_space_is_folded(one: list[str], other: list[str]) -> None:
    def made(fields: list[str]) -> str:
        names = ("message_id", "date", "from_", "to", "subject")
        return Headers(**dict(zip(names, fields, strict=True))).fingerprint

    folded = [[" ".join(text.split()) for text in fields] for fields in (one, other)]
    if "\0" not in "".join([*one, *other]):
        assert (made(one) == made(other)) == (folded[0] == folded[1])
    assert made([f" {text}\r\n\t" for text in one]) == made(one)


def test_neither_size_nor_time_of_receipt_is_part_of_a_mails_identity() -> None:
    mail = envelope(strong="S")
    other = attrs.evolve(mail, size=7, received=mail.received.replace(year=2020))
    assert mail.identity == other.identity
    assert mail.identity.strong == "S"


def test_a_fingerprint_is_taken_of_any_text() -> None:
    assert len(headers("lone \ud800").fingerprint) == 32


@given(st.binary(max_size=100), st.integers(0, 120), st.none() | st.integers(0, 120))
def test_a_content_gives_any_piece_of_its_bytes_again_and_again(data: bytes, start: int, stop: int | None) -> None:
    content = BytesContent(data)
    for _ in range(2):
        assert b"".join(content.chunks(start, stop)) == data[start:stop]
    assert all(content.chunks())
    assert (content.size, content.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_no_piece_is_longer_than_a_chunk_and_none_shows_in_a_log() -> None:
    content = BytesContent(b"secret" * CHUNK)
    assert max(map(len, content.chunks())) == CHUNK
    assert repr(content) == f"BytesContent({6 * CHUNK} bytes)"


@given(
    st.uuids().map(str) | st.text("ab.-1", min_size=1),
    st.integers(0, 2**62),
    st.integers(0, 10**6),
    st.text("0123456789abcdef", min_size=1),
)
def test_the_name_of_a_batch_can_be_read_back(mailbox: str, token: int, number: int, nonce: str) -> None:
    batch = BatchId(MailboxId(mailbox), token, number, nonce)
    assert BatchId.parse(str(batch)) == batch


@given(st.text(max_size=30) | st.lists(st.text("0123456789.٣²-a", max_size=4), max_size=5).map(".".join))
def test_any_other_name_is_none(text: str) -> None:
    batch = BatchId.parse(text)
    assert batch is None or str(batch) == text
