"""The tree over fsspec keeps the laws of trees and of destinations, on a file system of each way of showing files."""

from __future__ import annotations

import errno
import gc
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from maildaemon_adapters.files.fsspec_tree import FsspecTree, fsspec_destination
from maildaemon_adapters.files.paths import STAGING
from maildaemon_adapters.files.tree import Fault, Showing, Stat, Tree, TreeError
from maildaemon_core.confinement import ConnectionForbidden
from maildaemon_core.options import DestinationOptions
from maildaemon_core.ports import Destination, Level, Occupied, StillStaged
from maildaemon_core.testing.destination_conformance import (
    Consumer,
    DestinationConformance,
    batch_of,
    put_of,
    staged_of,
)
from tests.contracts.disks import Disk, Shelf
from tests.contracts.dying import DiesInside
from tests.contracts.tree_laws import Outside, TreeLaws, breaking, written

PAGE = Path(__file__).parents[2] / "docs/how-to/write-a-plugin.md"


class Memory:
    """Whoever looks into fsspec's memory below a root; there is one memory in the process."""

    def __init__(self, root: str, *, hidden: bool = False) -> None:
        self._start = f"{root}/"
        self._fs: Any = memory_file_system()
        self._hidden = hidden

    def files(self) -> Mapping[str, bytes]:
        found = {
            path.removeprefix(self._start): bytes(file.getvalue())
            for path, file in tuple(self._fs.store.items())
            if path.startswith(self._start)
        }
        return {path: data for path, data in found.items() if not (self._hidden and path.startswith(f"{STAGING}/"))}

    def put(self, path: str, data: bytes) -> None:
        self._fs.pipe_file(self._start + path, data)

    def take(self, path: str) -> bytes:
        return bytes(self._fs.store.pop(self._start + path).getvalue())


def memory_file_system() -> Any:
    return MemoryFileSystem(skip_instance_cache=True)


def local_file_system() -> Any:
    return LocalFileSystem(skip_instance_cache=True)


@pytest.fixture
def root() -> Iterator[str]:
    """A folder of fsspec's memory that no other test has, and that is gone afterwards."""
    root = f"/{uuid.uuid4().hex}"
    yield root
    fs = memory_file_system()
    for path in [path for path in fs.store if path.startswith(f"{root}/")]:
        del fs.store[path]
    fs.pseudo_dirs[:] = [path for path in fs.pseudo_dirs if not path.startswith(root)]


def local_tree(folder: Path, fs: Any = None) -> FsspecTree:
    return FsspecTree(
        fs or local_file_system(), str(folder), place=f"file://{folder}", showing=Showing.RENAME, at_once=4
    )


def memory_tree(root: str, fs: Any = None) -> FsspecTree:
    return FsspecTree(fs or memory_file_system(), root, place=f"memory://{root}", showing=Showing.COPY)


class TestLocalTree(TreeLaws):
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Tree:
        return local_tree(tmp_path)

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Outside:
        return Disk(tmp_path)


class TestMemoryTree(TreeLaws):
    real_folders = False

    @pytest.fixture
    def tree(self, root: str) -> Tree:
        return memory_tree(root)

    @pytest.fixture
    def outside(self, root: str) -> Outside:
        return Memory(root)


class TestLocalDestination(DiesInside, DestinationConformance):
    @pytest.fixture
    def destination(self, tmp_path: Path) -> Destination:
        return self.opened(tmp_path)

    @pytest.fixture
    def colleague(self, tmp_path: Path) -> Destination:
        return self.opened(tmp_path)

    @pytest.fixture
    def consumer(self, tmp_path: Path) -> Consumer:
        return Shelf(tmp_path)

    def opened(self, folder: Path) -> Destination:
        return fsspec_destination(
            local_file_system(), str(folder), place=f"file://{folder}", showing=Showing.RENAME, at_once=4
        )


class TestMemoryDestination(DiesInside, DestinationConformance):
    exactly_once = False
    bounded_memory = False

    @pytest.fixture
    def destination(self, root: str) -> Destination:
        return self.opened(root)

    @pytest.fixture
    def colleague(self, root: str) -> Destination:
        return self.opened(root)

    @pytest.fixture
    def consumer(self, root: str) -> Consumer:
        return Memory(root, hidden=True)

    def opened(self, root: str) -> Destination:
        return fsspec_destination(
            memory_file_system(), root, place=f"memory://{root}", showing=Showing.COPY, verify="digest"
        )


# ------------------------------------------------------------------------------------------------- what is vouched for


def test_a_move_that_is_a_copy_is_not_taken_for_a_rename(root: str) -> None:
    for fs in (memory_file_system(), DirFileSystem("/", memory_file_system())):
        with pytest.raises(ValueError, match="copy"):
            FsspecTree(fs, root, place="memory://", showing=Showing.RENAME)


def test_a_file_system_for_coroutines_is_refused(root: str) -> None:
    fs = memory_file_system()
    fs.asynchronous = True
    with pytest.raises(ValueError, match="asynchronous"):
        FsspecTree(fs, root, place="memory://", showing=Showing.COPY)


def test_what_it_cannot_promise_is_said(tmp_path: Path) -> None:
    fs = local_file_system()
    destination = fsspec_destination(fs, str(tmp_path), place=f"file://{tmp_path}", showing=Showing.RENAME)
    fine, warning = destination.check()
    assert (fine.level, warning.level) == (Level.FINE, Level.WARNING)
    assert "just before" in warning.message
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_gone_does_not_come_back_where_folders_above_are_made_unasked(root: str) -> None:
    tree = FsspecTree(memory_file_system(), root, place="memory://", showing=Showing.COPY, real_folders=True)
    with pytest.raises(TreeError) as caught:
        tree.make_folder(STAGING)
    assert caught.value.fault is Fault.MISSING
    assert tree.stat("") is None
    tree.make_folder("")
    tree.make_folder(STAGING)
    assert tree.stat(STAGING) == Stat(size=0, is_folder=True)


# ------------------------------------------------------------------------------------------------------ what goes wrong


class _Uploading(AbstractBufferedFile):  # type: ignore[misc]
    """A file that is there once it was closed, as object stores have it; closing it is what commits it."""

    def _upload_chunk(self, final: bool = False) -> bool:
        if final:
            self.fs.committed[self.path] = self.buffer.getvalue()
        return final


class _Uploads(AbstractFileSystem):  # type: ignore[misc]
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.committed: dict[str, bytes] = {}

    def _open(self, path: str, mode: str = "rb", **_: Any) -> AbstractBufferedFile:
        return _Uploading(self, path, mode, block_size=10**9)

    def _rm(self, path: str) -> None:
        raise PermissionError(path)  # so that nothing but not committing keeps a torn file away


def test_a_torn_file_is_not_committed_even_when_it_is_collected() -> None:
    fs: Any = _Uploads()
    tree = FsspecTree(fs, "root", place="uploads://", showing=Showing.COPY)
    tree.write("whole", [b"1", b"2"])
    with pytest.raises(ZeroDivisionError):
        tree.write("torn", breaking())
    gc.collect()
    assert fs.committed == {"root/whole": b"12"}


def test_a_file_that_cannot_be_removed_is_not_of_full_size_either(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"all there is"
        raise ZeroDivisionError

    def refuses(path: str) -> None:
        raise PermissionError(path)

    fs = local_file_system()
    fs.rm_file = refuses
    with pytest.raises(ZeroDivisionError):
        local_tree(tmp_path, fs).write("a", pieces())
    assert Disk(tmp_path).files() == {"a": b""}


def test_errors_of_the_pieces_come_out_as_they_are(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"begun"
        raise FileNotFoundError("the spool is gone")

    with pytest.raises(FileNotFoundError, match="spool"):
        local_tree(tmp_path).write("a", pieces())
    assert list(tmp_path.iterdir()) == []


def test_of_several_that_want_one_name_one_gets_it_however_slow_the_copy(root: str) -> None:
    fs = memory_file_system()

    def slow(source: str, target: str) -> None:
        time.sleep(0.05)
        MemoryFileSystem.cp_file(fs, source, target)

    fs.cp_file = slow
    place = f"memory://{root}"
    trees = [FsspecTree(fs, root, place=place, showing=Showing.COPY, at_once=4) for _ in range(4)]
    for number in range(4):
        written(trees[0], f"{STAGING}/batch/{number}", b"%d" % number)

    def publish(number: int) -> Fault | None:
        try:
            trees[number].publish(f"{STAGING}/batch/{number}", "one")
        except TreeError as error:
            return error.fault
        return None

    with ThreadPoolExecutor(4) as pool:
        faults = list(pool.map(publish, range(4)))
    assert faults.count(None) == 1
    assert faults.count(Fault.EXISTS) == 3
    assert Memory(root, hidden=True).files() == {"one": b"%d" % faults.index(None)}


@pytest.mark.parametrize(
    ("target", "fault"), [("taken", Fault.EXISTS), ("no/such/a", Fault.MISSING), ("a", Fault.OTHER)]
)
def test_a_rename_that_fails_without_a_reason_is_looked_into(tmp_path: Path, target: str, fault: Fault) -> None:
    fs = local_file_system()

    def fails(*_: str) -> None:
        (tmp_path / "taken").touch()  # somebody is faster
        raise OSError("Failure")

    fs.mv = fails
    tree = local_tree(tmp_path, fs)
    written(tree, "part", b"ours")
    with pytest.raises(TreeError) as caught:
        tree.publish("part", target)
    assert caught.value.fault is fault
    assert Disk(tmp_path).files() == {"part": b"ours", "taken": b""}


def test_what_is_missing_is_fine_to_remove_whatever_is_said_of_it(tmp_path: Path) -> None:
    fs = local_file_system()

    def fails(path: str) -> None:
        raise OSError("Failure")

    fs.rm_file = fails
    tree = local_tree(tmp_path, fs)
    tree.remove("a")
    written(tree, "a")
    with pytest.raises(TreeError):
        tree.remove("a")


def test_a_file_has_no_names_in_it(root: str) -> None:
    tree = memory_tree(root)
    written(tree, "folder/a")
    assert tree.names("folder/a") == []


def test_a_copy_whose_answer_got_lost_counts_as_somebody_elses_and_comes_again(root: str) -> None:
    fs = memory_file_system()
    copied: list[str] = []

    def copies_and_breaks(source: str, target: str) -> None:
        MemoryFileSystem.cp_file(fs, source, target)
        if not copied:
            copied.append(target)
            raise ConnectionResetError("secret=swordfish")

    fs.cp_file = copies_and_breaks
    tree = memory_tree(root, fs)
    written(tree, f"{STAGING}/batch/part", b"ours")
    with pytest.raises(TreeError) as caught:
        tree.publish(f"{STAGING}/batch/part", "a")
    assert caught.value.fault is Fault.GONE
    with pytest.raises(TreeError) as caught:
        tree.publish(f"{STAGING}/batch/part", "a")
    assert caught.value.fault is Fault.EXISTS
    tree.publish(f"{STAGING}/batch/part", "a-1")
    assert Memory(root).files() == {"a": b"ours", "a-1": b"ours"}


def test_a_copy_that_was_confirmed_comes_once_though_the_staged_one_could_not_be_removed(root: str) -> None:
    fs, tried = memory_file_system(), []

    def refuses_once(path: str) -> None:
        tried.append(path)
        if len(tried) == 1:
            raise PermissionError(path)
        MemoryFileSystem.rm_file(fs, path)

    fs.rm_file = refuses_once
    destination = fsspec_destination(fs, root, place=f"memory://{root}", showing=Showing.COPY)
    staged = staged_of(destination, batch_of(1), [put_of("a", "a", b"once")])
    destination.publish(batch_of(1), staged)
    assert destination.recover(batch_of(1), staged) == {"a": StillStaged()}
    assert Memory(root, hidden=True).take("a") == b"once"
    assert destination.publish(batch_of(1), staged)["a"] != Occupied()
    assert Memory(root, hidden=True).files() == {}


def test_a_listing_that_the_file_system_keeps_is_not_believed(root: str) -> None:
    fs, kept = memory_file_system(), {}

    def info(path: str) -> Any:
        if path not in kept:
            kept[path] = MemoryFileSystem.info(fs, path)
        return kept[path]

    fs.info, fs.invalidate_cache = info, kept.clear
    tree = memory_tree(root, fs)
    for data in (b"1", b"22", b"333"):
        Memory(root).put("a", data)
        assert tree.stat("a") == Stat(size=len(data))
    Memory(root).take("a")
    assert tree.stat("a") is None


class _LibraryError(Exception):
    """As libraries have them: no OSError, and the request's URL in its text."""


def _wrapped(cause: Exception) -> Exception:
    error = _LibraryError("https://host/?sig=swordfish")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (FileExistsError("swordfish"), Fault.EXISTS),
        (NotADirectoryError("swordfish"), Fault.BLOCKED),
        (IsADirectoryError("swordfish"), Fault.BLOCKED),
        (PermissionError("swordfish"), Fault.DENIED),
        (OSError(errno.EROFS, "swordfish"), Fault.DENIED),
        (OSError(errno.ENOSPC, "swordfish"), Fault.FULL),
        (OSError(errno.EDQUOT, "swordfish"), Fault.FULL),
        (OSError(errno.ENAMETOOLONG, "swordfish"), Fault.NAME),
        (OSError(errno.EHOSTUNREACH, "swordfish"), Fault.GONE),
        (TimeoutError("swordfish"), Fault.GONE),
        (ConnectionRefusedError("swordfish"), Fault.GONE),
        (EOFError("swordfish"), Fault.GONE),
        (ConnectionForbidden("it is this machine itself", "name another"), Fault.GONE),
        (_wrapped(ConnectionResetError("swordfish")), Fault.GONE),
        (_wrapped(ValueError("swordfish")), Fault.OTHER),
        (OSError("swordfish"), Fault.OTHER),
        (NotImplementedError("swordfish"), Fault.OTHER),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else type(value).__name__,
)
def test_each_error_means_something_and_says_nothing_secret(root: str, error: Exception, fault: Fault) -> None:
    fs = memory_file_system()

    def fails(*_: Any) -> None:
        raise error

    tree = memory_tree(root, fs)
    written(tree, "part", b"ours")
    fs.cp_file = fails
    with pytest.raises(TreeError) as caught:
        tree.publish("part", "a")
    assert caught.value.fault is fault
    assert "swordfish" not in f"{caught.value.what} {caught.value.remedy}"
    assert type(error).__name__ in caught.value.what or isinstance(error, ConnectionForbidden)
    assert Memory(root).files() == {"part": b"ours"}


def test_the_documented_kind_stores_files(root: str) -> None:
    (program,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        if "fsspec_destination" in block
    ]
    given: dict[str, Any] = {}
    exec(compile(program, str(PAGE), "exec"), given)
    kind = given["KIND"]
    destination = kind.open(DestinationOptions(type="attic"), kind.settings(room=root.strip("/")))
    destination.publish(batch_of(1), staged_of(destination, batch_of(1), [put_of("a", "mails/a", b"kept")]))
    destination.forget(batch_of(1))
    assert Memory(root).files() == {"mails/a": b"kept"}
    assert fsspec.filesystem("memory").cat_file(f"{root}/mails/a") == b"kept"
