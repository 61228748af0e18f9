"""What is found in containers: any number of pieces in one file, given back with the last of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.openers.smime import OPENER as SMIME
from maildaemon_core.containers import BudgetSpent
from maildaemon_core.engine.holding import Holding
from maildaemon_core.engine.shelf import Shelf
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.errors import SpoolFull
from maildaemon_core.message import BytesContent, Content
from maildaemon_core.mime import read_message
from maildaemon_core.reading import Reading
from maildaemon_core.testing import built_cms as cms
from tests.core.boxes import mail_of, part
from tests.core.test_mime import whole
from tests.engine.test_spool import open_files


@given(st.lists(st.lists(st.binary(max_size=40), max_size=4), max_size=8), st.integers(0, 100))
def test_whatever_is_kept_is_read_back(kept: list[list[bytes]], limit: int) -> None:
    before = open_files()
    shelf = Shelf(FolderSpool(), memory_limit=limit)
    contents = [shelf.keep(iter(pieces)) for pieces in kept]
    assert open_files() - before == (sum(len(piece) for pieces in kept for piece in pieces) > limit)
    for pieces, content in zip(kept, contents, strict=True):
        data = b"".join(pieces)
        assert (content.size, content.sha256) == (len(data), BytesContent(data).sha256)
        assert whole(content) == data
        assert whole(content, 3, 50) == data[3:50]
    for content in [*contents, *contents]:  # twice is the same as once
        content.close()
    assert open_files() == before


def test_what_could_not_be_made_to_its_end_leaves_nothing_behind() -> None:
    def torn() -> Iterator[bytes]:
        yield b"x" * 50
        raise BudgetSpent("enough")

    before = open_files()
    shelf = Shelf(FolderSpool(), memory_limit=10)
    with pytest.raises(BudgetSpent):
        shelf.keep(torn())
    assert open_files() == before
    first = shelf.keep([b"a" * 20])
    with pytest.raises(BudgetSpent):
        shelf.keep(torn())
    second = shelf.keep([b"b" * 20])
    assert (whole(first), whole(second)) == (b"a" * 20, b"b" * 20)
    first.close()
    assert whole(second) == b"b" * 20
    second.close()
    assert open_files() == before


def test_what_is_kept_while_something_else_is_written_tears_nothing_apart() -> None:
    shelf = Shelf(FolderSpool(memory_limit=0), memory_limit=0)
    inner: list[Content] = []

    def outer() -> Iterator[bytes]:
        yield b"12"
        inner.append(shelf.keep([b"abc"]))
        yield b"34"

    content = shelf.keep(outer())
    assert (whole(content), whole(inner[0])) == (b"1234", b"abc")
    content.close()
    inner[0].close()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"")
    shelf = Shelf(FolderSpool(tmp_path / "spool"), memory_limit=10)
    with pytest.raises(SpoolFull):
        shelf.keep([b"x" * 20])


def test_a_small_mail_with_many_files_that_compress_well_costs_one_file_and_little_memory() -> None:
    """300 files of 300 KB in 200 KB of mail: each fits into memory, and all of them do not."""
    packed = cms.info(cms.COMPRESSED, cms.compressed_data(bytes(300_000)))
    mail = BytesContent(mail_of(*[part("application/pkcs7-mime", packed, name="a.bin.p7m")] * 300))
    assert mail.size < 250_000
    before = open_files()
    holding = Holding(Shelf(FolderSpool()).keep)
    tracemalloc.start()
    try:
        message = read_message(mail, Reading(openers=[SMIME], keep=holding.keep))
        peak = tracemalloc.get_traced_memory()[1]
        assert sum(each.content.size == 300_000 for each in message.attachments) == 300
        assert open_files() == before + 1
    finally:
        tracemalloc.stop()
        holding.close()
    assert peak < 8_000_000
    assert open_files() == before
