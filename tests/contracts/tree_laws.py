"""The laws of ``files.tree.Tree`` as tests that the tree of each kind of destination has to pass."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Protocol

import pytest

from maildaemon_adapters.files.paths import STAGING
from maildaemon_adapters.files.tree import Fault, Named, Stat, Tree, TreeError
from tests.contracts.sizes import HEAVY

ONE_AND_A_BIT = 1_100_003
LONGEST = 255


class Outside(Protocol):
    """Somebody on the server's own disk, who knows nothing of the adapter; paths are relative to the root, with ``/``.

    What an object store has to show folders by (empty objects whose name ends in ``/``) is no file.
    """

    def files(self) -> Mapping[str, bytes]:
        """Every file below the root, those in the staging folder too."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Puts a file there, making its folders."""
        ...

    def take(self, path: str) -> bytes:
        """Takes a file away."""
        ...


def written(tree: Tree, path: str, data: bytes = b"content") -> None:
    """Writes a file in pieces of uneven sizes, making its folders."""
    made(tree, path.rpartition("/")[0])
    tree.write(path, [data[at : at + 70_001] for at in range(0, len(data), 70_001)])


def made(tree: Tree, folder: str) -> None:
    """Makes a folder and those above it."""
    parts = folder.split("/") if folder else []
    for end in range(1, len(parts) + 1):
        tree.make_folder("/".join(parts[:end]))


def breaking() -> Iterator[bytes]:
    """Two pieces of three, and then something that has nothing to do with the tree."""
    yield bytes(300_000)
    yield bytes(300_000)
    raise ZeroDivisionError("the content cannot be read")


class TreeLaws:
    """Inherit from it and give the two fixtures.

    ``real_folders``: whether folders are there by themselves, or only as parts of the names of files.
    """

    real_folders: ClassVar[bool] = True

    many: ClassVar[int] = 120 if HEAVY else 30
    """How many files a folder with many has."""

    @pytest.fixture
    def tree(self) -> Tree:
        raise NotImplementedError("give a tree on a root that is there and empty")

    @pytest.fixture
    def outside(self) -> Outside:
        raise NotImplementedError("give somebody who looks at the same root past the adapter")

    # ---------------------------------------------------------------------------------------------- writing, reading

    @pytest.mark.parametrize("size", [0, 1, 262_144, ONE_AND_A_BIT])
    def test_what_is_written_is_there_and_reads_back(self, tree: Tree, outside: Outside, size: int) -> None:
        data = bytes(range(251)) * (size // 251 + 1)
        data = data[:size]
        written(tree, "a.bin", data)
        assert outside.files() == {"a.bin": data}
        assert tree.stat("a.bin") == Stat(size=size)
        assert b"".join(tree.read("a.bin")) == data

    def test_bytes_are_not_translated(self, tree: Tree, outside: Outside) -> None:
        data = b"\r\n\n\r\x00\x1a\xff\xfeIAC \xff\xff end" + bytes(range(256))
        written(tree, "a.eml", data)
        assert outside.files() == {"a.eml": data}
        assert b"".join(tree.read("a.eml")) == data

    def test_writing_again_replaces_all_of_it(self, tree: Tree, outside: Outside) -> None:
        written(tree, "a", b"a first and longer draft")
        written(tree, "a", b"final")
        assert outside.files() == {"a": b"final"}

    def test_pieces_that_break_off_leave_no_whole_file_and_their_own_error(self, tree: Tree, outside: Outside) -> None:
        with pytest.raises(ZeroDivisionError):
            tree.write("a", breaking())
        assert len(outside.files().get("a", b"")) < 900_000
        written(tree, "a", b"the next one works")
        assert outside.files() == {"a": b"the next one works"}

    def test_writing_into_a_folder_that_is_missing_says_so(self, tree: Tree, outside: Outside) -> None:
        if self.real_folders:
            with pytest.raises(TreeError) as caught:
                tree.write("no/such/a", [b"content"])
            assert caught.value.fault is Fault.MISSING
            assert outside.files() == {}
        else:
            tree.write("no/such/a", [b"content"])
            assert outside.files() == {"no/such/a": b"content"}

    def test_reading_what_is_missing_says_so(self, tree: Tree) -> None:
        for path in ("a", "no/such/a"):
            with pytest.raises(TreeError) as caught:
                list(tree.read(path))
            assert caught.value.fault is Fault.MISSING
            assert caught.value.what

    def test_a_stat_is_never_an_old_one(self, tree: Tree, outside: Outside) -> None:
        assert tree.stat("folder/a") is None
        outside.put("folder/a", b"12345")
        assert tree.stat("folder/a") == Stat(size=5)
        outside.put("folder/a", b"123456789")
        assert tree.stat("folder/a") == Stat(size=9)
        assert outside.take("folder/a") == b"123456789"
        assert tree.stat("folder/a") is None

    def test_the_root_is_a_folder(self, tree: Tree) -> None:
        found = tree.stat("")
        assert found is not None
        assert found.is_folder
        tree.make_folder("")

    # ------------------------------------------------------------------------------------------------------ publishing

    def test_publishing_moves_a_file_whole(self, tree: Tree, outside: Outside) -> None:
        data = bytes(range(256)) * 3000
        written(tree, f"{STAGING}/batch/part", data)
        made(tree, "mails/2026")
        version = tree.publish(f"{STAGING}/batch/part", "mails/2026/a.eml")
        assert version is None or version
        assert outside.files() == {"mails/2026/a.eml": data}

    def test_publishing_never_replaces(self, tree: Tree, outside: Outside) -> None:
        outside.put("mails/a", b"somebody else's")
        written(tree, f"{STAGING}/batch/part", b"ours")
        with pytest.raises(TreeError) as caught:
            tree.publish(f"{STAGING}/batch/part", "mails/a")
        assert caught.value.fault is Fault.EXISTS
        assert outside.files() == {"mails/a": b"somebody else's", f"{STAGING}/batch/part": b"ours"}

    def test_publishing_never_replaces_an_empty_file(self, tree: Tree, outside: Outside) -> None:
        outside.put("a", b"")
        written(tree, f"{STAGING}/batch/part", b"ours")
        with pytest.raises(TreeError) as caught:
            tree.publish(f"{STAGING}/batch/part", "a")
        assert caught.value.fault is Fault.EXISTS
        assert outside.files() == {"a": b"", f"{STAGING}/batch/part": b"ours"}

    def test_publishing_never_replaces_a_folder_nor_goes_into_it(self, tree: Tree, outside: Outside) -> None:
        if not self.real_folders:
            return  # a name that other names begin with is free there
        made(tree, "mails/a")
        written(tree, f"{STAGING}/batch/part", b"ours")
        with pytest.raises(TreeError) as caught:
            tree.publish(f"{STAGING}/batch/part", "mails/a")
        assert caught.value.fault is Fault.EXISTS
        assert outside.files() == {f"{STAGING}/batch/part": b"ours"}

    def test_publishing_what_is_missing_says_so(self, tree: Tree, outside: Outside) -> None:
        made(tree, f"{STAGING}/batch")
        with pytest.raises(TreeError) as caught:
            tree.publish(f"{STAGING}/batch/part", "a")
        assert caught.value.fault is Fault.MISSING
        assert outside.files() == {}

    def test_publishing_into_a_folder_that_is_missing_says_so(self, tree: Tree, outside: Outside) -> None:
        written(tree, f"{STAGING}/batch/part", b"ours")
        if self.real_folders:
            with pytest.raises(TreeError) as caught:
                tree.publish(f"{STAGING}/batch/part", "no/such/a")
            assert caught.value.fault is Fault.MISSING
            assert outside.files() == {f"{STAGING}/batch/part": b"ours"}
        else:
            tree.publish(f"{STAGING}/batch/part", "no/such/a")
            assert outside.files() == {"no/such/a": b"ours"}

    def test_publishing_twice_says_that_it_is_gone(self, tree: Tree, outside: Outside) -> None:
        written(tree, f"{STAGING}/batch/part", b"ours")
        tree.publish(f"{STAGING}/batch/part", "a")
        with pytest.raises(TreeError) as caught:
            tree.publish(f"{STAGING}/batch/part", "a")
        assert caught.value.fault in {Fault.MISSING, Fault.EXISTS}
        assert outside.take("a") == b"ours"
        with pytest.raises(TreeError) as caught:
            tree.publish(f"{STAGING}/batch/part", "a")
        assert caught.value.fault is Fault.MISSING
        assert outside.files() == {}

    def test_publishing_never_takes_another_with_the_same_bytes_for_its_own(self, tree: Tree, outside: Outside) -> None:
        written(tree, f"{STAGING}/batch/one", b"equal")
        written(tree, f"{STAGING}/batch/two", b"equal")
        tree.publish(f"{STAGING}/batch/one", "a")
        with pytest.raises(TreeError) as caught:
            tree.publish(f"{STAGING}/batch/two", "a")
        assert caught.value.fault is Fault.EXISTS
        assert outside.files() == {"a": b"equal", f"{STAGING}/batch/two": b"equal"}

    def test_of_several_that_want_one_name_one_gets_it(self, tree: Tree, outside: Outside) -> None:
        for number in range(4):
            written(tree, f"{STAGING}/batch/{number}", b"%d" % number)

        def publish(number: int) -> Fault | None:
            try:
                tree.publish(f"{STAGING}/batch/{number}", "one")
            except TreeError as error:
                return error.fault
            return None

        with ThreadPoolExecutor(4) as pool:
            faults = list(pool.map(publish, range(4)))
        assert sorted(map(str, faults)) == sorted(map(str, [None, *[Fault.EXISTS] * 3]))
        won = [fault is None for fault in faults]
        assert outside.files() == {
            "one": b"%d" % won.index(True),
            **{f"{STAGING}/batch/{number}": b"%d" % number for number in range(4) if not won[number]},
        }

    # -------------------------------------------------------------------------------------------- removing, folders

    def test_removing_removes_and_what_is_missing_is_fine(self, tree: Tree, outside: Outside) -> None:
        written(tree, "folder/a")
        written(tree, "folder/b")
        for path in ("folder/a", "folder/a", "no", "no/such/a"):
            tree.remove(path)
        assert set(outside.files()) == {"folder/b"}

    def test_making_a_folder_again_is_fine_and_harms_nothing(self, tree: Tree, outside: Outside) -> None:
        written(tree, "one/two/a", b"kept")
        tree.make_folder("one")
        tree.make_folder("one/two")
        assert outside.files() == {"one/two/a": b"kept"}
        assert tree.names("one") == [Named(name="two", is_folder=True)]

    def test_making_a_folder_in_one_that_is_missing_says_so(self, tree: Tree) -> None:
        if not self.real_folders:
            tree.make_folder("no/such")  # does nothing
            assert tree.names("no") == []
            return
        with pytest.raises(TreeError) as caught:
            tree.make_folder("no/such")
        assert caught.value.fault is Fault.MISSING
        assert tree.stat("no") is None

    def test_a_file_where_a_folder_belongs_is_said_so(self, tree: Tree, outside: Outside) -> None:
        outside.put("a", b"a file")
        if self.real_folders:
            with pytest.raises(TreeError) as caught:
                tree.make_folder("a")
            assert caught.value.fault is Fault.BLOCKED
            with pytest.raises(TreeError) as caught:
                tree.make_folder("a/b")
            assert caught.value.fault in {Fault.BLOCKED, Fault.MISSING}
            with pytest.raises(TreeError) as caught:
                tree.write("a/b", [b"content"])
            assert caught.value.fault in {Fault.BLOCKED, Fault.MISSING}
        assert outside.files() == {"a": b"a file"}

    def test_only_empty_folders_are_removed(self, tree: Tree, outside: Outside) -> None:
        written(tree, "folder/a", b"kept")
        tree.remove_folder("folder")
        assert outside.files() == {"folder/a": b"kept"}
        tree.remove("folder/a")
        tree.remove_folder("folder")
        tree.remove_folder("folder")
        tree.remove_folder("no/such")
        assert tree.stat("folder") is None
        assert tree.names("") == []

    # ------------------------------------------------------------------------------------------------------------ names

    def test_names_are_those_of_files_and_folders(self, tree: Tree, outside: Outside) -> None:
        assert list(tree.names("")) == []
        assert list(tree.names("no/such")) == []
        outside.put("folder/a", b"")
        outside.put("folder/inner/deep/b", b"")
        outside.put("folderless", b"")
        outside.put(f"{STAGING}/batch/part", b"")
        assert {(named.name, named.is_folder) for named in tree.names("folder")} == {("a", False), ("inner", True)}
        assert {(named.name, named.is_folder) for named in tree.names("")} == {
            ("folder", True),
            ("folderless", False),
            (STAGING, True),
        }
        assert list(tree.names(STAGING)) == [Named(name="batch", is_folder=True)]

    @pytest.mark.heavy
    def test_many_names_are_all_named(self, tree: Tree) -> None:
        made(tree, "folder")
        for number in range(self.many):
            tree.write(f"folder/{number:04}", [b"x"])
        assert sorted(named.name for named in tree.names("folder")) == [f"{number:04}" for number in range(self.many)]

    @pytest.mark.parametrize(
        "name",
        [
            "Größe ☃ 日本語 🎉.pdf",
            "with space and 'quotes' & $(signs); #%41+~@=,!.eml",
            "-rf",
            "[a-z]{1,2}(x)^`",
            "a" * LONGEST,
            "ä" * (LONGEST // 2),
            unicodedata.normalize("NFC", "é.txt"),
        ],
    )
    def test_names_arrive_as_they_are(self, tree: Tree, outside: Outside, name: str) -> None:
        written(tree, f"{STAGING}/batch/part", b"named")
        made(tree, name)
        tree.publish(f"{STAGING}/batch/part", f"{name}/{name}")
        assert {unicodedata.normalize("NFC", path): data for path, data in outside.files().items()} == {
            f"{name}/{name}": b"named"
        }
        assert tree.stat(f"{name}/{name}") == Stat(size=5)
        assert [unicodedata.normalize("NFC", named.name) for named in tree.names(name)] == [name]
        assert b"".join(tree.read(f"{name}/{name}")) == b"named"
        tree.remove(f"{name}/{name}")
        tree.remove_folder(name)
        assert outside.files() == {}

    def test_a_name_that_reads_alike_is_another_name(self, tree: Tree, outside: Outside) -> None:
        """``%41`` is not ``A``, and ``+`` is no blank."""
        written(tree, "%41 b+c", b"one")
        assert tree.stat("A b+c") is None
        assert tree.stat("%41 b c") is None
        assert set(outside.files()) == {"%41 b+c"}

    # ------------------------------------------------------------------------------------------------- threads, the end

    def test_several_threads_do_not_disturb_each_other(self, tree: Tree, outside: Outside) -> None:
        made(tree, f"{STAGING}/batch")

        def work(number: int) -> None:
            data = b"%d" % number * 60_000
            tree.write(f"{STAGING}/batch/{number}", [data])
            assert b"".join(tree.read(f"{STAGING}/batch/{number}")) == data
            tree.publish(f"{STAGING}/batch/{number}", f"file {number}")
            assert tree.stat(f"file {number}") == Stat(size=len(data))

        assert tree.at_once >= 1
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(12)))
        assert outside.files() == {f"file {number}": b"%d" % number * 60_000 for number in range(12)}

    def test_where_it_is_stays_the_same_and_is_no_secret(self, tree: Tree) -> None:
        place = tree.place
        assert place
        tree.stat("")
        assert tree.place == place
        assert "password" not in place

    def test_what_it_finds_is_written_for_people(self, tree: Tree) -> None:
        for finding in tree.findings():
            assert finding.subject
            assert finding.message

    def test_closing_twice_is_the_same_as_once(self, tree: Tree) -> None:
        tree.close()
        tree.close()
