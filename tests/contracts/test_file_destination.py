"""The destination ``file`` keeps the laws of destinations, and its own: links, modes, full disks, read-only mounts."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.files.local import FILE, FileDestination, FileSettings, open_file
from maildaemon_adapters.files.local.batch import beginning, forget, tidy
from maildaemon_adapters.files.local.durability import Whole
from maildaemon_adapters.files.local.faults import file_trouble, unavailable
from maildaemon_adapters.files.local.folders import opened
from maildaemon_adapters.files.local.rename import Rename, rename_locked, rename_new
from maildaemon_adapters.files.paths import PathRefused, component, root_of
from maildaemon_core.errors import DestinationUnavailable, InvalidOptions, Trouble
from maildaemon_core.message import CHUNK
from maildaemon_core.options import DestinationOptions, Secret
from maildaemon_core.ports import Destination, Level, Occupied, Staged, StillStaged, Unknown, WasPublished
from maildaemon_core.progress import Receipt
from maildaemon_core.testing.destination_conformance import (
    Consumer,
    DestinationConformance,
    batch_of,
    published_of,
    put_of,
    staged_of,
)
from maildaemon_core.testing.strategies import hostile_names
from tests.servers.mounting import mounted

AS_ROOT = os.geteuid() == 0


class Reader:
    """A consumer of a folder: sees all regular files but those in the staging folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def files(self) -> Mapping[str, bytes]:
        found = {path.relative_to(self.root): path for path in self.root.rglob("*") if path.is_file()}
        return {name.as_posix(): path.read_bytes() for name, path in found.items() if name.parts[0] != ".maildaemon"}

    def take(self, path: str) -> bytes:
        data = (self.root / path).read_bytes()
        (self.root / path).unlink()
        return data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "mails"


@pytest.fixture
def consumer(root: Path) -> Consumer:
    return Reader(root)


@pytest.fixture
def destination(root: Path) -> Iterator[Destination]:
    destination = open_file(DestinationOptions(url=str(root)), FileSettings())
    yield destination
    destination.close()


class TestFile(DestinationConformance):
    """On this machine's best means."""

    @pytest.fixture
    def destination(self, root: Path) -> Iterator[Destination]:
        destination = FILE.open(DestinationOptions(url=str(root)), FileSettings())
        yield destination
        destination.close()

    @pytest.fixture
    def consumer(self, root: Path) -> Consumer:
        return Reader(root)

    @pytest.fixture
    def colleague(self, root: Path) -> Destination:
        return open_file(DestinationOptions(url=root.as_uri()), FileSettings())


class TestFileWhereTheSystemOffersLittle(TestFile):
    """Without a rename that refuses, and without a sync of the whole file system."""

    @pytest.fixture
    def destination(self, root: Path) -> Iterator[Destination]:
        destination = FileDestination(str(root), rename=rename_locked, whole=Whole(allowed=False))
        yield destination
        destination.close()

    @pytest.fixture
    def colleague(self, root: Path) -> Destination:
        return FileDestination(str(root), rename=rename_locked, whole=Whole(allowed=False))


class TestFileThatReadsBack(TestFile):
    """With the digest of what was written compared."""

    @pytest.fixture
    def destination(self, root: Path) -> Iterator[Destination]:
        destination = open_file(DestinationOptions(url=str(root), verify="digest"), FileSettings())
        yield destination
        destination.close()


def test_what_does_not_read_back_the_same_is_not_staged(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that changes a byte on its way."""
    really = os.write

    def wrongly(descriptor: int, data: bytes | memoryview) -> int:
        written = bytes(data)
        return really(descriptor, written.replace(b"1000 EUR", b"9000 EUR"))

    monkeypatch.setattr(os, "write", wrongly)
    by_size = FileDestination(str(root))
    assert isinstance(by_size.stage(batch_of(1), [put_of("a", "a", b"pay 1000 EUR")])["a"], Staged)
    by_digest = FileDestination(str(root), verify="digest")
    answers = by_digest.stage(batch_of(2), [put_of("a", "a", b"pay 1000 EUR"), put_of("b", "b", b"pay 1 EUR")])
    assert isinstance(answers["b"], Staged)
    trouble = answers["a"]
    assert isinstance(trouble, Trouble)
    assert trouble.error == "DestinationFailed"
    assert "does not read back the same" in trouble.message
    assert [path.name for path in (root / ".maildaemon" / str(batch_of(2))).iterdir()] == ["b"]


# -------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/srv/mail", "/srv/mail"),
        ("file:///srv/my%20mail", "/srv/my mail"),
        ("file://localhost/srv/mail", "/srv/mail"),
        ("FILE:/srv/mail", "/srv/mail"),
        ("/srv/100% #1?", "/srv/100% #1?"),
    ],
)
def test_the_url_is_a_path_or_a_file_url(url: str, path: str) -> None:
    assert root_of(url) == path


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        (None, "needs a url"),
        ("zip::/srv/mail", "chained"),
        ("file://server/share", "server"),
        ("file:relative", "absolute"),
        ("file:///a?b", "%3F"),
        ("file:///a%00b", "NUL"),
        ("sftp://host/mail", "type = 'sftp'"),
        ("~/mail", "expanded"),
    ],
)
def test_a_url_that_is_no_folder_of_this_machine_is_refused_with_the_reason(url: str | None, hint: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        root_of(url)
    assert hint in str(caught.value)
    assert "$.url" in str(caught.value)


def test_a_relative_path_that_nobody_resolved_is_refused() -> None:
    with pytest.raises(InvalidOptions, match="absolute"):
        open_file(DestinationOptions(url="mails"), FileSettings())


def test_a_login_for_a_folder_is_a_problem_and_a_plain_folder_is_none() -> None:
    options = DestinationOptions(url="/srv/mails", username="jane", password=Secret("hunter2"))
    [problem] = FILE.problems(options, FileSettings())
    assert problem.path == "$.username"
    assert "hunter2" not in str(problem)
    assert list(FILE.problems(DestinationOptions(url="/srv/mails"), FileSettings())) == []
    assert list(FILE.problems(DestinationOptions(), FileSettings())) == []
    assert [problem.path for problem in FILE.problems(DestinationOptions(url="ftp://x/"), FileSettings())] == ["$.url"]


def test_a_relative_path_is_a_problem_before_anything_is_opened() -> None:
    [problem] = FILE.problems(DestinationOptions(url="mails"), FileSettings())
    assert problem.path == "$.url"
    assert "such as /srv/mail" in problem.message


@pytest.mark.parametrize("code", sorted(errno.errorcode))
def test_what_to_do_is_written_as_everywhere_else(code: int) -> None:
    error = OSError(code, os.strerror(code))
    for remedy in (file_trouble(error, "/srv", "a").remedy, unavailable(error, "/srv").remedy):
        assert remedy[0].islower()
        assert remedy[-1] != "."


def test_opening_touches_nothing(root: Path) -> None:
    destination = open_file(DestinationOptions(url=str(root / "deep" / "er")), FileSettings())
    assert destination.place == f"file:{root}/deep/er"
    assert list(destination.batches()) == []
    destination.forget(batch_of(1))
    assert destination.probe() is None
    assert [finding.level for finding in destination.check()] == [Level.FINE, Level.FINE]
    destination.close()
    assert not root.exists()


# ------------------------------------------------------------------------------------------------------------- the root


def test_the_root_is_made_with_its_parents_by_the_first_stage(root: Path) -> None:
    deep = root / "a" / "b"
    destination = FileDestination(str(deep))
    published_of(destination, batch_of(1), [put_of("a", "x/y", b"there")])
    assert (deep / "x" / "y").read_bytes() == b"there"


def test_a_root_that_is_a_link_is_resolved_once(tmp_path: Path, root: Path) -> None:
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    destination = FileDestination(str(tmp_path / "link"))
    assert destination.place == FileDestination(str(root)).place
    published_of(destination, batch_of(1), [put_of("a", "a", b"there")])
    assert (root / "a").read_bytes() == b"there"


def test_a_root_that_went_away_is_not_made_again(destination: Destination, root: Path, tmp_path: Path) -> None:
    staged = staged_of(destination, batch_of(1), [put_of("a", "a")])
    root.rename(tmp_path / "unmounted")
    for attempt in (
        lambda: destination.stage(batch_of(2), [put_of("a", "b")]),
        lambda: destination.publish(batch_of(1), staged),
        lambda: destination.recover(batch_of(1), staged),
    ):
        with pytest.raises(DestinationUnavailable, match="not there") as caught:
            attempt()
        assert "mount it again" in caught.value.remedy
    trouble = destination.probe()
    assert trouble is not None
    assert trouble.transient
    assert not root.exists()
    (tmp_path / "unmounted").rename(root)
    assert destination.recover(batch_of(1), staged) == {"a": StillStaged()}


def test_a_root_that_is_a_file_is_said_so(root: Path) -> None:
    root.write_text("a file")
    destination = FileDestination(str(root))
    with pytest.raises(DestinationUnavailable, match="not a folder") as caught:
        destination.stage(batch_of(1), [put_of("a", "a")])
    assert str(root) in caught.value.remedy
    assert destination.probe() is not None
    assert [finding.level for finding in destination.check()] == [Level.FAULT]


def test_a_staging_folder_that_is_a_link_is_not_followed(destination: Destination, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root.mkdir()
    (root / ".maildaemon").symlink_to(outside)
    with pytest.raises(DestinationUnavailable):
        destination.stage(batch_of(1), [put_of("a", "a")])
    assert list(outside.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------- confinement


def test_a_link_below_the_root_is_not_followed(destination: Destination, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "real").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    (root / "real" / "deeper").symlink_to(tmp_path)
    puts = [put_of("a", "link/a"), put_of("b", "real/deeper/outside/b"), put_of("c", "real/c")]
    staged = staged_of(destination, batch_of(1), puts)
    answers = destination.publish(batch_of(1), staged)
    for part, path in (("a", "link"), ("b", "real/deeper")):
        answer = answers[part]
        assert isinstance(answer, Trouble)
        assert answer.error == "PathBlocked"
        assert answer.transient  # the operator moves it away, and it goes on by itself
        assert path in answer.message
        assert "symbolic link" in answer.message
    assert isinstance(answers["c"], Receipt)
    assert list(outside.iterdir()) == []
    (root / "link").unlink()
    again = destination.publish(batch_of(1), [each for each in staged if each.part == "a"])
    assert isinstance(again["a"], Receipt)
    assert (root / "link" / "a").is_file()


def test_only_a_name_that_can_never_be_one_is_refused_for_good(destination: Destination, root: Path) -> None:
    answer = destination.stage(batch_of(1), [put_of("a", "../a")])["a"]
    assert isinstance(answer, Trouble)
    assert (answer.error, answer.transient) == ("PathRefused", False)


def test_a_file_in_the_way_of_a_folder_is_said_so(destination: Destination, root: Path) -> None:
    root.mkdir()
    (root / "taken").write_text("a file")
    staged = staged_of(destination, batch_of(1), [put_of("a", "taken/a"), put_of("b", "b")])
    answers = destination.publish(batch_of(1), staged)
    assert isinstance(answers["a"], Trouble)
    assert "taken is not a folder" in answers["a"].message
    assert answers["a"].transient
    assert isinstance(answers["b"], Receipt)


def test_a_link_under_the_target_name_is_occupied_even_if_it_dangles(
    destination: Destination, root: Path, tmp_path: Path
) -> None:
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "nowhere")
    staged = staged_of(destination, batch_of(1), [put_of("a", "a")])
    assert destination.publish(batch_of(1), staged) == {"a": Occupied()}
    assert not (tmp_path / "nowhere").exists()


def test_forgetting_removes_only_regular_files(destination: Destination, root: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    staged_of(destination, batch_of(1), [put_of("a", "a")])
    folder = root / ".maildaemon" / str(batch_of(1))
    (folder / "link").symlink_to(precious)
    destination.forget(batch_of(1))
    assert list(destination.batches()) == []
    assert (precious / "file").read_text() == "precious"
    assert not list((root / ".maildaemon").rglob("a"))


def test_a_part_planted_as_a_link_is_replaced_and_not_written_through(
    destination: Destination, root: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    staged_of(destination, batch_of(1), [put_of("b", "b")])
    (root / ".maildaemon" / str(batch_of(1)) / "a").symlink_to(victim)
    published_of(destination, batch_of(1), [put_of("a", "a", b"ours")])
    assert victim.read_text() == "untouched"
    assert (root / "a").read_bytes() == b"ours"


def test_a_part_of_another_size_than_staged_is_not_published(destination: Destination, root: Path) -> None:
    staged = staged_of(destination, batch_of(1), [put_of("a", "a", b"12345")])
    (root / ".maildaemon" / str(batch_of(1)) / "a").write_bytes(b"123")
    answer = destination.publish(batch_of(1), staged)["a"]
    assert isinstance(answer, Trouble)
    assert "3 bytes instead of 5" in answer.message
    assert not (root / "a").exists()


@given(names=st.lists(hostile_names(), min_size=1, max_size=3), part=hostile_names())
def test_whatever_a_file_is_called_nothing_outside_the_root_changes(names: list[str], part: str) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder) / "below" / "root"
        destination = FileDestination(str(root))
        path = "/".join(names)
        staged = destination.stage(batch_of(1), [put_of(part, path)])[part]
        if isinstance(staged, Staged):
            answer = destination.publish(batch_of(1), [staged])[part]
            assert isinstance(answer, Receipt), answer
            assert Reader(root).files() == {path: b"content"}
        else:
            assert not staged.transient
        destination.forget(batch_of(1))
        destination.close()
        assert [each.name for each in Path(folder).iterdir()] == ["below"]
        assert [each.name for each in root.parent.iterdir()] == ["root"]
        assert all(not each.name.startswith(".") for each in root.rglob("*"))


@pytest.mark.parametrize("part", ["", ".", "..", "a/b", "a\0b", "x" * 256, "lone\ud800surrogate"])
def test_a_part_is_one_harmless_name(destination: Destination, part: str) -> None:
    answer = destination.stage(batch_of(1), [put_of(part, "path")])[part]
    assert isinstance(answer, Trouble)
    assert not answer.transient


def test_a_name_longer_than_a_file_system_takes_is_refused_before_anything_is_written(destination: Destination) -> None:
    answer = destination.stage(batch_of(1), [put_of("a", "ä" * 128)])["a"]
    assert isinstance(answer, Trouble)
    assert not answer.transient
    assert "256 bytes" in answer.message
    with pytest.raises(PathRefused):
        component("x" * 256, "x" * 256)


# -------------------------------------------------------------------------------------------------- what is left behind


def test_closing_removes_the_empty_staging_folder_and_what_crashes_left(destination: Destination, root: Path) -> None:
    published_of(destination, batch_of(1), [put_of("a", "a")])
    folder = root / ".maildaemon" / str(batch_of(1))
    (folder / "b").write_text("left")
    folder.rename(folder.with_name(f"{folder.name}.forgotten"))
    assert list(destination.batches()) == []
    destination.close()
    assert [path.name for path in root.iterdir()] == ["a"]


def test_the_staging_folder_stays_while_a_batch_stands(destination: Destination, root: Path) -> None:
    staged = staged_of(destination, batch_of(1), [put_of("a", "a")])
    destination.close()
    assert isinstance(FileDestination(str(root)).publish(batch_of(1), staged)["a"], Receipt)


def test_looking_makes_no_staging_folder(destination: Destination, root: Path) -> None:
    root.mkdir()
    assert destination.probe() is None
    assert [finding.level for finding in destination.check()] == [Level.FINE] * 3
    assert list(root.iterdir()) == []


def test_a_batch_of_which_nothing_could_be_written_leaves_no_folder(destination: Destination) -> None:
    destination.stage(batch_of(1), [put_of("a", "../x")])
    assert list(destination.batches()) == []


def test_half_forgotten_is_forgotten(destination: Destination, root: Path) -> None:
    staged = staged_of(destination, batch_of(1), [put_of("a", "a"), put_of("b", "b")])
    folder = root / ".maildaemon" / str(batch_of(1))
    folder.rename(folder.with_name(f"{folder.name}.forgotten"))
    (folder.with_name(f"{folder.name}.forgotten") / "a").unlink()
    assert destination.recover(batch_of(1), staged) == {"a": Unknown(), "b": Unknown()}
    destination.forget(batch_of(1))
    assert list((root / ".maildaemon").iterdir()) == []


@pytest.mark.parametrize("whole", [True, False], ids=["syncfs", "fsync"])
def test_no_descriptor_stays_open(root: Path, whole: bool) -> None:
    destination = FileDestination(str(root), whole=Whole(allowed=whole))

    def work(number: int) -> None:
        puts = [put_of("a", f"x/{number}/a"), put_of("b", "../b"), put_of("c", "x/same")]
        staged = [each for each in destination.stage(batch_of(number), puts).values() if isinstance(each, Staged)]
        destination.publish(batch_of(number), staged)
        destination.recover(batch_of(number), staged)
        destination.batches()
        destination.check()
        destination.forget(batch_of(number))

    work(0)
    before = len(list(Path("/dev/fd").iterdir()))
    for number in range(1, 6):
        work(number)
    assert len(list(Path("/dev/fd").iterdir())) == before


# ------------------------------------------------------------------------------------------------------ modes and sizes


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)]
)
def test_modes_follow_the_umask(root: Path, umask: int, file: int, folder: int) -> None:
    previous = os.umask(umask)
    try:
        published_of(FileDestination(str(root)), batch_of(1), [put_of("a", "x/a")])
    finally:
        os.umask(previous)
    assert stat.S_IMODE((root / "x" / "a").stat().st_mode) == file
    for path in (root, root / "x", root / ".maildaemon"):
        assert stat.S_IMODE(path.stat().st_mode) == folder


class Streamed:
    """Content that exists only piece by piece."""

    def __init__(self, pieces: int) -> None:
        self.size = pieces * CHUNK
        self.sha256 = ""

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        for number in range(self.size // CHUNK):
            yield number.to_bytes(4, "big") * (CHUNK // 4)

    def close(self) -> None:
        pass


def test_a_big_file_passes_without_being_held_in_memory(destination: Destination, root: Path) -> None:
    content = Streamed(200)
    tracemalloc.start()
    try:
        [staged] = published_of(destination, batch_of(1), [put_of("a", "a", content)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    digest = hashlib.sha256()
    for piece in content.chunks():
        digest.update(piece)
    assert (staged.size, staged.sha256) == (200 * CHUNK, digest.hexdigest())
    assert (root / "a").stat().st_size == 200 * CHUNK


def test_a_content_of_another_size_than_it_says_is_not_staged(destination: Destination, root: Path) -> None:
    content = Streamed(2)
    content.size = 2 * CHUNK + 1
    answer = destination.stage(batch_of(1), [put_of("a", "a", content)])["a"]
    assert isinstance(answer, Trouble)
    assert answer.error == "ContentUnreadable"
    assert list(destination.batches()) == []


# --------------------------------------------------------------------------------------------------------- many at once


def test_threads_that_publish_into_the_same_new_folders_all_succeed(root: Path, consumer: Consumer) -> None:
    def work(number: int) -> None:
        destination = FileDestination(str(root))
        for round_ in range(5):
            batch = batch_of(round_, token=number)
            puts = [put_of("a", f"new/{round_}/deep/{number}"), put_of("b", f"other/{round_}/{number}")]
            staged = published_of(destination, batch, puts)
            assert all(isinstance(each, WasPublished) for each in destination.recover(batch, staged).values())
            destination.forget(batch)
            destination.close()  # removes the staging folder under the others' feet

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(consumer.files()) == 8 * 5 * 2
    assert not (root / ".maildaemon").exists()


def test_a_batch_can_begin_while_others_remove_the_empty_staging_folder(root: Path) -> None:
    root.mkdir()
    begun = Event()

    def tidy_all_the_time() -> None:
        with opened(str(root)) as folder:
            while not begun.is_set():
                tidy(folder)

    with ThreadPoolExecutor(2) as pool, opened(str(root)) as folder:
        tidier = pool.submit(tidy_all_the_time)
        try:
            for number in range(300):
                with beginning(folder, f"{number}") as batch:
                    assert batch.new
                    assert batch.stands()
                forget(folder, f"{number}")
        finally:
            begun.set()
        tidier.result()


def test_a_part_that_another_worker_publishes_at_the_same_moment_has_its_receipt(
    root: Path, consumer: Consumer
) -> None:
    other = FileDestination(str(root))
    staged: list[Staged] = []

    def late(source_folder: int, source: str, target_folder: int, target: str, /) -> None:
        other.publish(batch_of(1), staged)
        raise FileExistsError  # some systems look at the target before the source

    destination = FileDestination(str(root), rename=late)
    staged += staged_of(destination, batch_of(1), [put_of("a", "a", b"once")])
    assert isinstance(destination.publish(batch_of(1), staged)["a"], Receipt)
    assert consumer.files() == {"a": b"once"}


def test_a_consumer_who_removes_emptied_folders_disturbs_nobody(destination: Destination, root: Path) -> None:
    published_of(destination, batch_of(1), [put_of("a", "day/a")])
    staged = staged_of(destination, batch_of(2), [put_of("a", "day/b"), put_of("b", "day/c")])
    (root / "day" / "a").unlink()
    (root / "day").rmdir()
    assert all(isinstance(each, Receipt) for each in destination.publish(batch_of(2), staged).values())
    (root / "day" / "b").unlink()
    (root / "day" / "c").unlink()
    (root / "day").rmdir()
    assert all(isinstance(each, Receipt) for each in destination.publish(batch_of(2), staged).values())
    assert not (root / "day").exists()


@pytest.mark.parametrize("rename", [rename_new, rename_locked])
def test_a_batch_forgotten_while_it_is_published_is_not_taken_for_published(root: Path, rename: Rename) -> None:
    other = FileDestination(str(root))

    def forgetful(source_folder: int, source: str, target_folder: int, target: str, /) -> None:
        other.forget(batch_of(1))
        rename(source_folder, source, target_folder, target)

    destination = FileDestination(str(root), rename=forgetful)
    staged = staged_of(destination, batch_of(1), [put_of("a", "a"), put_of("b", "b")])
    assert destination.publish(batch_of(1), staged) == {"a": Unknown(), "b": Unknown()}
    assert not (root / "a").exists()


def test_a_batch_forgotten_while_it_is_staged_is_not_taken_for_staged(destination: Destination) -> None:
    class Forgetful(Streamed):
        def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
            destination.forget(batch_of(1))
            yield from super().chunks(start, stop)

    answers = destination.stage(batch_of(1), [put_of("a", "a"), put_of("b", "b", Forgetful(1))])
    assert all(isinstance(answer, Trouble) and answer.transient for answer in answers.values()), answers


@pytest.mark.parametrize("rename", [rename_new, rename_locked], ids=["kernel", "locked"])
def test_a_rename_refuses_whatever_is_there(tmp_path: Path, rename: Rename) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(FileExistsError):
            rename(folder, "a", folder, "b")
        assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("a", "b")
        rename(folder, "a", folder, "c")
        assert (tmp_path / "c").read_text() == "a"
        with pytest.raises(FileNotFoundError):
            rename(folder, "a", folder, "d")
    finally:
        os.close(folder)


# ------------------------------------------------------------------------------ disks that are full, read-only, foreign


def fill(path: Path) -> None:
    """Writes a file until there is no room left."""
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - anything else is a fault of the test
                return


@pytest.mark.parametrize("whole", [True, False], ids=["syncfs", "fsync"])
def test_a_full_disk_fails_what_does_not_fit_and_heals(root: Path, whole: bool) -> None:
    with mounted(root, "size=1m"):
        destination = FileDestination(str(root), whole=Whole(allowed=whole))
        puts = [put_of("a", "a", b"small"), put_of("b", "b", Streamed(8)), put_of("c", "c", b"small too")]
        answers = destination.stage(batch_of(1), puts)
        full = answers["b"]
        assert isinstance(full, Trouble)
        assert (full.error, full.transient) == ("DestinationFull", True)
        assert str(root) in full.message
        assert "space" in full.remedy
        assert not (root / ".maildaemon" / str(batch_of(1)) / "b").exists()
        staged = [answer for answer in answers.values() if isinstance(answer, Staged)]
        assert [each.part for each in staged] == ["a", "c"]
        assert all(isinstance(each, Receipt) for each in destination.publish(batch_of(1), staged).values())
        assert destination.probe() is None

        filler = root / "filler"
        fill(filler)
        trouble = destination.probe()
        assert trouble is not None
        assert "no space" in trouble.message
        assert Level.FAULT in {finding.level for finding in destination.check()}
        assert Level.WARNING in {finding.level for finding in destination.check()}
        filler.unlink()
        assert destination.probe() is None
        published_of(destination, batch_of(2), [put_of("d", "d", b"fits again")])
        destination.close()


class Failing(Whole):
    """A file system whose disk fails when it is to keep what was written."""

    def suits(self, descriptor: int) -> bool:
        return True

    def sync(self, descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_what_did_not_reach_the_disk_is_not_called_staged(root: Path) -> None:
    destination = FileDestination(str(root), whole=Failing())
    answers = destination.stage(batch_of(1), [put_of("a", "a"), put_of("b", "b")])
    for answer in answers.values():
        assert isinstance(answer, Trouble)
        assert (answer.error, answer.transient) == ("DestinationFailed", True)
        assert str(root) in answer.message
    assert list(destination.batches()) == []


def test_what_did_not_reach_the_disk_is_not_called_published_until_it_did(root: Path, consumer: Consumer) -> None:
    puts = [put_of(f"{number}", f"{number}/file") for number in range(9)]
    staged = staged_of(FileDestination(str(root)), batch_of(1), puts)
    answers = FileDestination(str(root), whole=Failing()).publish(batch_of(1), staged)
    assert all(isinstance(answer, Trouble) and answer.transient for answer in answers.values())
    again = FileDestination(str(root)).publish(batch_of(1), staged)
    assert all(isinstance(answer, Receipt) for answer in again.values())
    assert len(consumer.files()) == 9


def test_a_disk_without_room_for_another_file_is_full(root: Path) -> None:
    with mounted(root, "size=1m,nr_inodes=6"):
        destination = FileDestination(str(root))
        answers = destination.stage(batch_of(1), [put_of(str(number), str(number)) for number in range(10)])
        troubles = [answer for answer in answers.values() if isinstance(answer, Trouble)]
        assert troubles
        assert {trouble.error for trouble in troubles} == {"DestinationFull"}
        with pytest.raises(DestinationUnavailable, match="no space"):
            destination.stage(batch_of(2), [put_of("a", "a")])


def test_a_read_only_file_system_is_said_so(root: Path) -> None:
    with mounted(root, "size=1m"):
        destination = FileDestination(str(root))
        staged = staged_of(destination, batch_of(1), [put_of("a", "new/a")])
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
        answer = destination.publish(batch_of(1), staged)["a"]
        assert isinstance(answer, Trouble)
        assert (answer.error, answer.transient) == ("DestinationRefused", True)
        assert "read-only" in answer.message
        with pytest.raises(DestinationUnavailable, match="read-only") as caught:
            destination.stage(batch_of(2), [put_of("a", "a")])
        assert str(root) in caught.value.remedy
        trouble = destination.probe()
        assert trouble is not None
        assert "read-only" in trouble.message
        assert Level.FAULT in {finding.level for finding in destination.check()}
        destination.close()
        subprocess.run(["mount", "-o", "remount,rw", str(root)], check=True)
        assert isinstance(destination.publish(batch_of(1), staged)["a"], Receipt)


def test_a_folder_on_another_file_system_is_said_so(root: Path) -> None:
    with mounted(root / "elsewhere", "size=1m"):
        destination = FileDestination(str(root))
        staged = staged_of(destination, batch_of(1), [put_of("a", "elsewhere/a"), put_of("b", "b")])
        answers = destination.publish(batch_of(1), staged)
        assert isinstance(answers["a"], Trouble)
        assert "another file system" in answers["a"].message
        assert isinstance(answers["b"], Receipt)


PROGRAM = """
import os, sys
from maildaemon_adapters.files.local import FileDestination
from maildaemon_core.ports import Staged
from maildaemon_core.testing.destination_conformance import batch_of, put_of
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
destination = FileDestination(sys.argv[1])
print("probe", destination.probe())
for finding in destination.check():
    print("check", finding.level, finding.message, finding.remedy)
answers = destination.stage(batch_of(1), [put_of("a", "closed/a"), put_of("b", "open/b")])
for answer in destination.publish(batch_of(1), list(answers.values())).values():
    print(type(answer).__name__, getattr(answer, "error", ""), answer)
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user of this machine may enter."""
    if not AS_ROOT:
        pytest.skip("NOT RUN: becoming another user needs root")
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def as_nobody(root: Path) -> subprocess.CompletedProcess[str]:
    """What a user without rights comes to see."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_folder_that_the_user_may_not_write_into_fails_only_what_goes_there(public: Path) -> None:
    root = public / "mails"
    for folder in (root, root / "closed"):
        folder.mkdir()
    root.chmod(0o777)
    done = as_nobody(root)
    assert done.returncode == 0, done.stderr
    assert "probe None" in done.stdout
    assert "Trouble DestinationRefused" in done.stdout
    assert "nobody (uid 65534) may not write" in done.stdout
    assert "Receipt" in done.stdout
    assert (root / "open" / "b").exists()


@pytest.mark.parametrize("name", ["mails", "made/later"])
def test_a_root_that_the_user_may_not_write_into_is_said_so(public: Path, name: str) -> None:
    (public / "mails").mkdir()
    done = as_nobody(public / name)
    assert done.returncode != 0
    assert "DestinationUnavailable" in done.stderr
    assert str(public / name) in done.stderr
    assert "may not write" in done.stderr
    assert "probe None" not in done.stdout
    assert "check fault" in done.stdout
    assert "chown" in done.stdout
