"""winmail.dat: every way in which attachments are written, and what is wrong in many of them."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given

from maildaemon_adapters.openers.tnef import OPENER
from maildaemon_core.containers import Budget, BudgetSpent, Container, Opened, OpeningLimits
from maildaemon_core.message import CHUNK, BytesContent, Content
from maildaemon_core.testing.built_containers import BuiltContainer, taken, whole
from maildaemon_core.testing.built_tnef import (
    TNEF,
    TnefAttachment,
    attribute,
    attributes_of,
    built_tnef,
    properties,
    text,
    tnef,
    variable,
)

BEGINNING = struct.pack("<IH", 0x223E9F78, 1)
RENDERING = attribute(0x9002, bytes(14))


def opened(raw: bytes, **limits: int) -> Opened:
    container = Container(content_type=TNEF, name=None, smime_type="", content=BytesContent(raw))
    return OPENER.open(container, Budget(OpeningLimits(**limits)))


def names(raw: bytes) -> list[str | None]:
    return [file.name for file in opened(raw).files]


@given(built=built_tnef())
def test_each_attachment_is_found_as_it_was_written(built: BuiltContainer) -> None:
    found = opened(built.raw)
    assert [taken(file) for file in found.files] == list(built.files)
    assert not found.losses


def test_a_text_of_the_message_is_no_attachment_and_a_note_says_where_it_is() -> None:
    found = opened(tnef([], body="<p>Hi</p>").raw)
    assert (list(found.files), list(found.losses)) == ([], [])
    assert list(found.notes) == ["the text of the message (HTML) stays in it"]


@pytest.mark.parametrize("code_page", [0, 99999, 20127, 65000, 20932])
def test_a_code_page_that_is_unknown_or_wrong_gives_a_name_nevertheless(code_page: int) -> None:
    raw = BEGINNING + attribute(0x9007, struct.pack("<II", code_page, 0), level=1)
    raw += RENDERING + attribute(0x8010, "März.pdf\0".encode()) + attribute(0x800F, b"x")
    [name] = names(raw)
    assert name
    assert name.startswith("M")
    assert name.endswith(".pdf")
    name.encode()


def test_a_name_in_unicode_comes_before_one_in_the_code_page_whatever_their_order() -> None:
    for written in (
        (text(0x3707, "ü.txt"), text(0x3707, "?.txt", 1252)),
        (text(0x3707, "?.txt", 1252), text(0x3707, "ü.txt")),
    ):
        raw = BEGINNING + RENDERING + attribute(0x800F, b"x") + attribute(0x9005, properties(*written))
        assert names(raw) == ["ü.txt"]


def test_half_a_surrogate_pair_never_comes_out() -> None:
    name = variable(0x3707, 0x1F, b"a\0\x3d\xd8.\0b\0")
    raw = BEGINNING + RENDERING + attribute(0x800F, b"x") + attribute(0x9005, properties(name))
    assert names(raw) == ["a\ufffd.b"]


def test_an_attachment_that_only_has_an_extension_is_called_after_it() -> None:
    raw = BEGINNING + RENDERING + attribute(0x800F, b"x") + attribute(0x9005, properties(text(0x3703, ".pdf")))
    assert names(raw) == ["attachment.pdf"]


def test_a_wrong_checksum_is_a_note_and_loses_nothing() -> None:
    raw = bytearray(BEGINNING + RENDERING + attribute(0x8010, b"a\0") + attribute(0x800F, b"content"))
    raw[-1] ^= 1
    found = opened(bytes(raw))
    assert [taken(file) for file in found.files] == [("a", "application/octet-stream", b"content")]
    assert (list(found.losses), list(found.notes)) == ([], ["a checksum is wrong"])


def test_of_one_that_is_cut_off_what_is_there_is_kept() -> None:
    whole_one = BEGINNING + RENDERING + attribute(0x8010, b"a\0") + attribute(0x800F, b"content")
    found = opened(whole_one[:-5])
    assert [taken(file) for file in found.files] == [("a", "application/octet-stream", b"cont")]
    assert list(found.losses) == ["it ends early"]


@pytest.mark.parametrize("rest", [b"\0", bytes(1000), b"\r\n"])
def test_filling_at_the_end_is_nothing(rest: bytes) -> None:
    assert not opened(BEGINNING + RENDERING + attribute(0x800F, b"x") + rest).losses


@pytest.mark.parametrize("rest", [b"junk", b"\0" * 300 + b"junk", b"\7" * 20])
def test_something_else_at_the_end_is_a_loss(rest: bytes) -> None:
    found = opened(BEGINNING + RENDERING + attribute(0x800F, b"x") + rest)
    assert len(found.files) == 1
    assert found.losses


def test_an_attachment_that_lies_elsewhere_is_told_and_gives_no_file() -> None:
    method = struct.pack("<HHI", 3, 0x3705, 4)
    found = opened(BEGINNING + RENDERING + attribute(0x9005, properties(method, text(0x3707, "a.doc"))))
    assert (len(found.files), len(found.losses)) == (0, 1)


def test_an_attachment_without_its_contents_is_told_and_kept_as_an_empty_one() -> None:
    found = opened(BEGINNING + RENDERING + attribute(0x8010, b"a\0"))
    assert [taken(file) for file in found.files] == [("a", "application/octet-stream", b"")]
    assert len(found.losses) == 1


def test_a_second_attachment_is_not_lost_where_the_attribute_that_begins_it_is_missing() -> None:
    raw = BEGINNING + attribute(0x800F, b"one") + attribute(0x800F, b"two") + attribute(0x8010, b"b\0")
    assert [whole(file.content) for file in opened(raw).files] == [b"one", b"two"]


def test_equal_contents_in_both_places_are_one_file_and_unlike_ones_are_two() -> None:
    for other, count in ((b"one", 1), (b"two", 2)):
        list_ = properties(variable(0x3701, 0x102, other))
        assert len(opened(BEGINNING + RENDERING + attribute(0x800F, b"one") + attribute(0x9005, list_)).files) == count


def test_a_list_of_properties_that_cannot_be_read_is_a_loss_and_the_file_is_kept() -> None:
    for list_ in (
        struct.pack("<IHH", 1, 0x0077, 0x3001),
        struct.pack("<I", 5),
        b"\1",
        properties(text(0x3707, "a"))[:-6],
    ):
        found = opened(BEGINNING + RENDERING + attribute(0x800F, b"x") + attribute(0x9005, list_))
        assert [whole(file.content) for file in found.files] == [b"x"]
        assert len(found.losses) == 1


def test_a_message_within_is_tnef_again() -> None:
    inner = tnef([TnefAttachment(name="a.txt", content=b"a")])
    [file] = opened(tnef([TnefAttachment(name="Fwd", content=inner.raw, place="message")]).raw).files
    again = Container(content_type=file.content_type, name=file.name, smime_type="", content=file.content)
    assert OPENER.recognises(again)
    assert [taken(found) for found in OPENER.open(again, Budget()).files] == list(inner.files)


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("application/ms-tnef", None, True),
        ("application/vnd.ms-tnef", "x", True),
        ("application/octet-stream", "WINMAIL.DAT", True),
        ("application/octet-stream", "a.dat", False),
    ],
)
def test_it_is_known_by_type_or_name(kind: str, name: str | None, *, expected: bool) -> None:
    assert (
        OPENER.recognises(Container(content_type=kind, name=name, smime_type="", content=BytesContent(b""))) is expected
    )


@pytest.mark.parametrize(
    "bomb",
    [
        RENDERING + attribute(0x9005, struct.pack("<IHHI", 1, 0x1003, 0x6601, 0xFFFFFFFF)),
        RENDERING + attribute(0x9005, struct.pack("<I", 0xFFFFFFFF) + struct.pack("<HH", 1, 0x6601) * 3000),
        RENDERING + attribute(0x9005, struct.pack("<IHHI", 1, 0x0102, 0x3701, 0xFFFFFFFF) + bytes(40_000)),
        RENDERING + attribute(0x9005, struct.pack("<IHHI", 1, 0x1001, 0x6601, 0xFFFFFFFF)),
    ],
)  # fmt: skip
def test_numbers_that_promise_more_than_there_is_cost_nothing(bomb: bytes) -> None:
    raw = BEGINNING + bomb
    budget = Budget(OpeningLimits(read=len(raw)))
    content = budget.metered(BytesContent(raw))
    assert OPENER.open(Container(content_type=TNEF, name=None, smime_type="", content=content), budget).losses


def test_attachments_without_number_spend_the_budget() -> None:
    with pytest.raises(BudgetSpent, match="files"):
        opened(BEGINNING + RENDERING * 2000)


class Made:
    """A large content that is made while it is read: a beginning, many zeros, an end."""

    sha256 = ""

    def __init__(self, beginning: bytes, zeros: int, end: bytes) -> None:
        self._parts = (beginning, zeros, end)
        self.size = len(beginning) + zeros + len(end)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        beginning, zeros, end = self._parts
        last = self.size if stop is None else min(stop, self.size)
        at = start
        while at < last:
            if at < len(beginning):
                piece = beginning[at:last]
            elif at < len(beginning) + zeros:
                piece = bytes(min(CHUNK, len(beginning) + zeros - at, last - at))
            else:
                piece = end[at - len(beginning) - zeros : last - len(beginning) - zeros]
            yield piece
            at += len(piece)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("place", ["data", "binary", "message"])
def test_memory_does_not_grow_with_the_container(place: str) -> None:
    zeros = 40_000_000
    attributes = attributes_of(TnefAttachment(name="a.bin", content=b"", place=place), 1252)
    content: Content
    if place == "data":
        head = b"".join(attributes[:-1])[:-6] + struct.pack("<I", zeros)
        content = Made(BEGINNING + head, zeros, bytes(2) + attributes[-1])
    else:
        interface = b"" if place == "binary" else bytes.fromhex("0703020000000000c000000000000046")
        kind = 0x102 if place == "binary" else 0x0D
        list_ = struct.pack("<IHHII", 1, kind, 0x3701, 1, zeros + len(interface)) + interface
        head = struct.pack("<BHHI", 2, 0x9005, 6, len(list_) + zeros) + list_
        content = Made(BEGINNING + RENDERING + head, zeros, struct.pack("<H", sum(list_) & 0xFFFF))
    tracemalloc.start()
    try:
        found = OPENER.open(Container(content_type=TNEF, name=None, smime_type="", content=content), Budget())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [file.content.size for file in found.files] == [zeros]
    assert (list(found.losses), list(found.notes)) == ([], [])
    assert peak < 2_000_000
