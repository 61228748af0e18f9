"""Where mail is held in transit: small in memory, large in a file that nobody else sees and that vanishes with us."""

from __future__ import annotations

import gc
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.errors import SpoolFull
from maildaemon_core.message import CHUNK


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 60), st.integers(0, 400), st.integers(0, 400))
def test_what_is_kept_can_be_read_in_any_piece(pieces: list[bytes], limit: int, start: int, stop: int) -> None:
    data = b"".join(pieces)
    content = FolderSpool(memory_limit=limit).keep(iter(pieces))
    try:
        assert (content.size, content.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert b"".join(content.chunks()) == data
        assert b"".join(content.chunks(start, stop)) == data[start:stop]
        assert all(0 < len(piece) <= CHUNK for piece in content.chunks())
    finally:
        content.close()


def test_several_readers_may_be_at_different_places() -> None:
    content = FolderSpool(memory_limit=0).keep([b"a" * CHUNK, b"b" * CHUNK])
    one, other = content.chunks(), content.chunks()
    assert next(one) == next(other)
    assert next(one) == b"b" * CHUNK == next(other)
    content.close()


def test_a_large_mail_is_in_no_folder_that_anybody_could_list(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "spool"
    content = FolderSpool(folder, memory_limit=10).keep([b"x" * 100])
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    content.close()


def test_a_small_mail_makes_no_folder_at_all(tmp_path: Path) -> None:
    assert b"".join(FolderSpool(tmp_path / "spool").keep([b"small"]).chunks()) == b"small"
    assert list(tmp_path.iterdir()) == []


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc on this system")


@needs_proc
def test_its_room_is_given_back_by_closing_or_by_forgetting_it(tmp_path: Path) -> None:
    spool = FolderSpool(tmp_path, memory_limit=0)
    before = open_files()
    contents = [spool.keep([b"x"]) for _ in range(3)]
    assert open_files() == before + 3
    contents[0].close()
    contents[0].close()
    assert open_files() == before + 2
    del contents
    gc.collect()
    assert open_files() == before


@needs_proc
def test_what_breaks_off_in_the_middle_leaves_nothing_open(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 100
        raise ConnectionError("the line broke")

    before = open_files()
    with pytest.raises(ConnectionError):
        FolderSpool(tmp_path, memory_limit=10).keep(broken())
    assert open_files() == before
    assert list(tmp_path.iterdir()) == []


def test_a_closed_content_never_shows_another_file_that_got_its_number(tmp_path: Path) -> None:
    content = FolderSpool(tmp_path, memory_limit=0).keep([b"mine"])
    reading = content.chunks()
    content.close()
    (tmp_path / "other").write_bytes(b"secret of another mail")
    with (tmp_path / "other").open("rb"), pytest.raises(ValueError, match="closed"):
        next(reading)


def test_a_folder_that_cannot_be_used_is_a_full_spool_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SpoolFull) as caught:
        FolderSpool(tmp_path / "file", memory_limit=0).keep([b"x"])
    assert str(tmp_path / "file") in caught.value.remedy


def test_a_look_at_a_spool_leaves_nothing_behind_and_finds_what_keeping_would(tmp_path: Path) -> None:
    assert FolderSpool(tmp_path / "deep" / "spool").check() == tmp_path
    assert FolderSpool(tmp_path).check() == tmp_path
    assert list(tmp_path.iterdir()) == []
    FolderSpool().check()
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for folder in ("file", "file/deeper", "nowhere"):
        with pytest.raises(SpoolFull) as caught:
            FolderSpool(tmp_path / folder).check()
        assert str(tmp_path / folder) in caught.value.remedy


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_no_room_left_is_a_full_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderSpool, "open", lambda spool: os.open("/dev/full", os.O_RDWR | os.O_CLOEXEC))
    with pytest.raises(SpoolFull, match="No space left"):
        FolderSpool(memory_limit=0).keep([b"x"])


PROGRAM = """
import resource, sys
from maildaemon_core.engine.spool import FolderSpool
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
content = FolderSpool(memory_limit=1 << 20).keep(b"x" * 65536 for _ in range(1600))
assert content.size == 1600 * 65536
assert sum(map(len, content.chunks())) == content.size
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="maxrss has another unit elsewhere")
def test_a_mail_of_a_hundred_megabytes_takes_no_hundred_megabytes() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 20_000  # KiB
