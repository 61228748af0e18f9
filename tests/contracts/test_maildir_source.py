"""Maildirs: the laws of the port, and what is particular to mails whose files are renamed by others all the time."""

from __future__ import annotations

import mailbox
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import fsspec
import pytest

from maildaemon_adapters.local import MAILDIR, MaildirSettings
from maildaemon_adapters.local.disk import Disk, DiskFile
from maildaemon_adapters.local.maildir import MaildirSource
from maildaemon_core.errors import FolderMissing, FolderRefused, SourceUnavailable, Trouble
from maildaemon_core.message import FolderRef
from maildaemon_core.options import KEEP, Action, Aftercare, MailboxOptions
from maildaemon_core.ports import Fetched, Known, Level, Settled, Vanished
from maildaemon_core.testing.source_conformance import OpenSource, Post, SourceConformance, a_mail
from tests.contracts.spools import FileSpool

INBOX = FolderRef("INBOX")


def make(path: Path) -> Path:
    for name in ("tmp", "new", "cur"):
        (path / name).mkdir(parents=True)
    return path


class MaildirPost:
    """The folders as a delivery agent and a mail client see them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.number = 0

    def folder(self, folder: str) -> Path:
        return self.top if folder == "INBOX" else self.top / f".{folder}"

    def plant(self, folder: str, raw: bytes) -> None:
        self.put(folder, raw)

    def put(self, folder: str, raw: bytes, *, flags: str | None = None) -> Path:
        self.number += 1
        name = f"17000{self.number:05}.M{self.number}P1.host"
        written = self.folder(folder) / "tmp" / name
        written.write_bytes(raw)
        there = self.folder(folder) / ("new" if flags is None else "cur")
        return written.rename(there / (name if flags is None else f"{name}:2,{flags}"))

    def files(self, folder: str) -> list[Path]:
        found = [path for each in ("new", "cur") for path in (self.folder(folder) / each).iterdir()]
        return sorted(found, key=lambda path: path.name)

    def peek(self, folder: str) -> list[tuple[bytes, frozenset[str]]]:
        return [
            (path.read_bytes(), frozenset({"\\Seen"} if "S" in path.name.partition(":2,")[2] else ()))
            for path in self.files(folder)
        ]

    def remove(self, folder: str, raw: bytes) -> None:
        next(path for path in self.files(folder) if path.read_bytes() == raw).unlink()

    def renumber(self, folder: str) -> None:
        raise NotImplementedError


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make(tmp_path / "Maildir")


@pytest.fixture
def post(top: Path) -> MaildirPost:
    return MaildirPost(top)


@pytest.fixture
def open_source(top: Path) -> OpenSource:
    return lambda: MaildirSource(Disk(str(top)), FileSpool())


class TestMaildirSource(SourceConformance):
    renumbers = False

    @pytest.fixture
    def post(self, top: Path) -> Post:
        return MaildirPost(top)

    @pytest.fixture
    def open_source(self, top: Path) -> OpenSource:
        return lambda: MaildirSource(Disk(str(top)), FileSpool())


def known(source: MaildirSource, folder: FolderRef = INBOX) -> list[Known]:
    return [
        Known(ref=each.ref, identity=each.identity) for each in source.list_since(folder, None, limit=1000).envelopes
    ]


def fetched(source: MaildirSource, mail: Known) -> bytes | None:
    (answer,) = source.fetch([mail.ref])
    return b"".join(answer.content.chunks()) if isinstance(answer, Fetched) else None


DELETE, SEEN = Aftercare(Action.DELETE), Aftercare(Action.SEEN)


def opened(top: Path) -> MaildirSource:
    return MaildirSource(Disk(str(top)), FileSpool())


# ---- names ----


def test_a_mail_that_a_client_renames_between_listing_and_fetching_is_the_same_mail(
    top: Path, post: MaildirPost
) -> None:
    path = post.put("INBOX", a_mail(1))
    with opened(top) as source:
        (mail,) = known(source)
        moved = path.rename(top / "cur" / f"{path.name}:2,")
        assert fetched(source, mail) == a_mail(1)
        moved = moved.rename(f"{moved}RS")
        assert fetched(source, mail) == a_mail(1)
        assert known(source) == [mail]
        moved.rename(top / "cur" / f"{path.name}:2,F")
        assert source.settle([mail], DELETE) == {mail.ref: Settled()}
    assert post.files("INBOX") == []


def test_renaming_and_marking_make_no_mail_new(top: Path, post: MaildirPost) -> None:
    path = post.put("INBOX", a_mail(1))
    with opened(top) as source:
        page = source.list_since(INBOX, None, limit=9)
        path.rename(top / "cur" / f"{path.name}:2,RS")
        again = source.list_since(INBOX, page.cursor, limit=9)
    assert (again.envelopes, again.cursor) == ((), page.cursor)


def test_marking_as_seen_keeps_the_other_flags_and_their_order(top: Path, post: MaildirPost) -> None:
    post.put("INBOX", a_mail(1), flags="FT")
    post.plant("INBOX", a_mail(2))
    post.put("INBOX", a_mail(3), flags="S")
    with opened(top) as source:
        assert set(source.settle(known(source), SEEN).values()) == {Settled()}
    assert [path.name.partition(":2,")[2] for path in post.files("INBOX")] == ["FST", "S", "S"]
    assert {path.parent.name for path in post.files("INBOX")} == {"cur"}


def test_what_nobody_has_seen_stays_new_when_it_is_moved_into_a_maildir_that_is_made(
    top: Path, post: MaildirPost
) -> None:
    post.plant("INBOX", a_mail(1))
    post.put("INBOX", a_mail(2), flags="RS")
    with opened(top) as source:
        source.settle(known(source), Aftercare(Action.MOVE, "Größe & Co.2026"))
        assert "Größe & Co.2026" in [info.name for info in source.folders()]
    done = top / ".Gr&APYA3w-e &- Co.2026"
    assert sorted(path.name for path in done.iterdir()) == ["cur", "maildirfolder", "new", "tmp"]
    assert [len(list((done / name).iterdir())) for name in ("new", "cur", "tmp")] == [1, 1, 0]


def test_a_move_that_was_interrupted_leaves_one_mail_when_it_is_done_again(top: Path, post: MaildirPost) -> None:
    path = post.put("INBOX", a_mail(1))
    make(top / ".Done")
    os.link(path, top / ".Done" / "new" / path.name)
    with opened(top) as source:
        assert set(source.settle(known(source), Aftercare(Action.MOVE, "Done")).values()) == {Settled()}
    assert (len(post.files("INBOX")), len(post.files("Done"))) == (0, 1)


def test_a_move_never_overwrites_what_has_the_name_in_the_target(top: Path, post: MaildirPost) -> None:
    path = post.put("INBOX", a_mail(1))
    (make(top / ".Done") / "new" / path.name).write_bytes(a_mail(2))
    with opened(top) as source:
        assert set(source.settle(known(source), Aftercare(Action.MOVE, "Done")).values()) == {Settled()}
    assert {raw for raw, _ in post.peek("Done")} == {a_mail(1), a_mail(2)}


def test_the_folders_of_pythons_own_maildir_are_ours(top: Path) -> None:
    box = mailbox.Maildir(top)
    box.add_folder("a.b").add(a_mail(1))
    box.add_folder("Trash")
    (top / ".not-one").mkdir()
    with opened(top) as source:
        infos = {info.name: info.special_use for info in source.folders()}
        assert infos == {INBOX: frozenset(), "a.b": frozenset(), "Trash": frozenset({"\\Trash"})}
        (mail,) = known(source, FolderRef("a.b"))
        assert fetched(source, mail) == a_mail(1)


# ---- what is not to be read ----


def test_what_is_no_file_or_leads_away_is_never_opened(top: Path, post: MaildirPost, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(a_mail(7))
    os.mkfifo(top / "new" / "1.pipe.host")
    (top / "new" / "2.link.host").symlink_to(secret)
    (top / "new" / "3.folder.host").mkdir()
    (top / "tmp" / "4.half.host").write_bytes(a_mail(8))
    make(tmp_path / "away")
    (tmp_path / "away" / "new" / "5.theirs.host").write_bytes(a_mail(9))
    (top / ".away").symlink_to(tmp_path / "away")
    post.plant("INBOX", a_mail(1))
    with opened(top) as source:
        assert [fetched(source, mail) for mail in known(source)] == [a_mail(1)]
        assert [info.name for info in source.folders()] == ["INBOX"]
        for name in ("away", "../away", "a/../../away", "..", ".", "", "a..b"):
            with pytest.raises(FolderMissing):
                source.list_since(FolderRef(name), None, limit=9)
        for uid in ("1.pipe.host", "2.link.host", "../../secret"):
            (answer,) = source.fetch([attrs.evolve(known(source)[0].ref, uid=uid)])
            assert not isinstance(answer, Fetched)


def test_a_move_does_not_go_through_a_link_nor_out_of_the_folder(top: Path, post: MaildirPost, tmp_path: Path) -> None:
    make(tmp_path / "away")
    (top / ".away").symlink_to(tmp_path / "away")
    post.plant("INBOX", a_mail(1))
    with opened(top) as source:
        for target in ("away", "../away", "a/b"):
            (answer,) = source.settle(known(source), Aftercare(Action.MOVE, target)).values()
            assert isinstance(answer, Trouble)
    assert len(post.files("INBOX")) == 1
    assert list((tmp_path / "away" / "new").iterdir()) == []


def test_a_name_that_is_no_text_is_a_mail_like_any_other(top: Path) -> None:
    name = b"1700000001.\xff\xfe%41.host"
    with open(os.fsencode(top) + b"/new/" + name, "wb") as file:  # noqa: PTH123 - the name is bytes
        file.write(a_mail(1))
    with opened(top) as source:
        (mail,) = known(source)
        assert mail.ref.uid.encode() == b"1700000001.%FF%FE%2541.host"
        assert fetched(source, mail) == a_mail(1)
        assert source.settle([mail], DELETE) == {mail.ref: Settled()}


# ---- faults ----


def test_a_path_that_is_not_there_or_no_folder_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, words in (("nothing", "nothing at"), ("file", "no folder")):
        with pytest.raises(SourceUnavailable, match=words) as error:
            opened(tmp_path / name)
        assert "path" in error.value.remedy


def test_a_folder_that_is_no_maildir_is_a_finding_that_says_how_one_looks(tmp_path: Path) -> None:
    with opened(tmp_path) as source:
        (finding,) = source.check([INBOX], KEEP)
    assert finding.level is Level.FAULT
    assert "cur" in finding.remedy


def test_a_mail_of_one_who_may_not_be_read_stops_no_other_and_is_not_passed_over(
    top: Path, post: MaildirPost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        post.plant("INBOX", a_mail(number))
    locked = post.files("INBOX")[1].name
    original = Disk.open

    @contextmanager
    def denied(self: Disk, steps: tuple[str, ...], name: str) -> Iterator[DiskFile]:
        if name == locked:
            raise PermissionError(13, "Permission denied", name)
        with original(self, steps, name) as file:
            yield file

    with opened(top) as source:
        with monkeypatch.context() as patch:
            patch.setattr(Disk, "open", denied)
            page = source.list_since(INBOX, None, limit=9)
            assert [each.headers.subject for each in page.envelopes] == ["number 0", "number 2"]
            assert page.more
            with pytest.raises(FolderRefused, match=r"1 mail .* cannot be read .*Permission denied"):
                source.list_since(INBOX, page.cursor, limit=9)
        later = source.list_since(INBOX, page.cursor, limit=9)
    assert [each.headers.subject for each in later.envelopes] == ["number 1"]


def test_what_is_delivered_and_renamed_meanwhile_is_not_lost(top: Path) -> None:
    """Another program delivers and reads all the time; we delete whatever we see."""
    deliver = (
        "import mailbox, sys\n"
        "box = mailbox.Maildir(sys.argv[1])\n"
        "for n in range(300):\n"
        "    key = box.add(b'Subject: %d\\n\\nx\\n' % n)\n"
        "    if n % 3 == 0:\n"
        "        try:\n"
        "            message = box.get_message(key); message.set_subdir('cur'); message.add_flag('F')\n"
        "            box[key] = message\n"
        "        except (KeyError, OSError):\n"
        "            pass\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", deliver, str(top)])
    seen: list[bytes] = []
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            over = agent.poll() is not None
            with opened(top) as source:
                there = known(source)
                for mail in there:
                    raw = fetched(source, mail)
                    if raw is not None and source.settle([mail], DELETE)[mail.ref] == Settled():
                        seen.append(raw.split(b"\n")[0])
            if over and not there:
                break
    finally:
        agent.wait(60)
    assert set(seen) == {b"Subject: %d" % n for n in range(300)}


def test_a_poll_of_many_handled_mails_reads_none_of_them(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3000):
        (top / "cur" / f"{number}.M.host:2,S").write_bytes(b"Subject: x\n\n")
    with opened(top) as source:
        cursor, more = None, True
        while more:
            page = source.list_since(INBOX, cursor, limit=500)
            cursor, more = page.cursor, page.more
    reads: list[str] = []

    def none_is_opened(self: Disk, steps: tuple[str, ...], name: str) -> None:
        reads.append(name)

    monkeypatch.setattr(Disk, "open", none_is_opened)
    with opened(top) as source:
        page = source.list_since(INBOX, cursor, limit=500)
    assert (page.envelopes, page.cursor, reads) == ((), cursor, [])


def test_a_maildir_in_a_file_system_of_fsspec_is_read_and_never_changed() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe(
        {
            "/box/new/1.M.host": a_mail(1),
            "/box/cur/2.M.host:2,S": a_mail(2),
            "/box/tmp/3.M.host": a_mail(3),
            "/box/.Sent/new/4.M.host": a_mail(4),
            "/box/.Sent/cur/5.M.host:2,": a_mail(5),
        }
    )
    try:
        with MAILDIR.open(
            MailboxOptions(type="maildir", path="memory://box"), MaildirSettings(), FileSpool()
        ) as source:
            assert [info.name for info in source.folders()] == ["INBOX", "Sent"]
            there = known(source)
            assert {fetched(source, mail) for mail in there} == {a_mail(1), a_mail(2)}
            fs.rm("/box/new/1.M.host")
            answers = [type(answer) for mail in there for answer in source.fetch([mail.ref])]
            assert sorted(answers, key=str) == [Fetched, Vanished]
            (refused,) = source.settle(there[:1], DELETE).values()
            assert isinstance(refused, Trouble)
    finally:
        fs.rm("/box", recursive=True)
