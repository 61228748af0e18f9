"""Mbox files: the laws of the port, how mails in them are told apart, and that rewriting one never loses a mail."""

from __future__ import annotations

import contextlib
import mailbox
import os
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.local import MBOX, mbox_format, rewriting
from maildaemon_adapters.local.disk import Disk
from maildaemon_adapters.local.mbox import MboxSource
from maildaemon_adapters.local.mbox_format import mails
from maildaemon_adapters.local.settings import MboxSettings
from maildaemon_core.errors import FolderMissing, FolderRefused, Trouble
from maildaemon_core.message import FolderRef
from maildaemon_core.options import KEEP, Action, Aftercare, MailboxOptions
from maildaemon_core.ports import Fetched, Known, Level, Settled
from maildaemon_core.testing.source_conformance import ODD_MAILS, OpenSource, Post, SourceConformance, a_mail
from tests.contracts.spools import FileSpool

INBOX = FolderRef("INBOX")
DELETE = Aftercare(Action.DELETE)
AT_ONCE = MboxSettings(quiet_seconds=0, lock_seconds=0.5)


def from_line(number: int) -> bytes:
    return b"From joe@example.com " + time.asctime(time.gmtime(1_700_000_000 + number)).encode() + b"\n"


def read_back(path: Path) -> list[bytes]:
    """The mails of a file as a person finds them in it."""
    data = path.read_bytes()
    return [data[m.piece.body : m.piece.end] for m in mails(lambda at, number: data[at : at + number], len(data))]


class MboxPost:
    """The files as a delivery agent sees them, which writes mails behind each other."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.number = 0

    def plant(self, folder: str, raw: bytes) -> None:
        self.number += 1
        with (self.top / folder).open("ab") as file:
            file.write(from_line(self.number) + raw + b"\n")

    def peek(self, folder: str) -> list[tuple[bytes, frozenset[str]]]:
        return [(raw, frozenset()) for raw in read_back(self.top / folder)]

    def remove(self, folder: str, raw: bytes) -> None:
        path = self.top / folder
        data = path.read_bytes()
        found = [m.piece for m in mails(lambda at, number: data[at : at + number], len(data))]
        gone = next(piece for piece in found if data[piece.body : piece.end] == raw)
        path.write_bytes(data[: gone.start] + data[gone.stop :])

    def renumber(self, folder: str) -> None:
        raise NotImplementedError


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "Mail").mkdir()
    (tmp_path / "Mail" / "INBOX").touch()
    return tmp_path / "Mail"


@pytest.fixture
def post(top: Path) -> MboxPost:
    return MboxPost(top)


class TestMboxSource(SourceConformance):
    renumbers = False
    actions = frozenset({Action.KEEP, Action.MOVE, Action.DELETE})

    # All but the one that no mbox can hold: each line of a file has its end.
    odd_mails: ClassVar[Mapping[str, bytes]] = {name: raw for name, raw in ODD_MAILS.items() if raw.endswith(b"\n")}

    @pytest.fixture
    def post(self, top: Path) -> Post:
        return MboxPost(top)

    @pytest.fixture
    def open_source(self, top: Path) -> OpenSource:
        return lambda: MboxSource(Disk(str(top)), AT_ONCE, FileSpool())


def source_at(top: Path, *, only: str | None = None, settings: MboxSettings = AT_ONCE) -> MboxSource:
    return MboxSource(Disk(str(top)), settings, FileSpool(), only=only)


def known(source: MboxSource, folder: FolderRef = INBOX) -> list[Known]:
    return [
        Known(ref=each.ref, identity=each.identity) for each in source.list_since(folder, None, limit=1000).envelopes
    ]


def subjects(source: MboxSource, folder: FolderRef = INBOX) -> list[str]:
    return [each.headers.subject for each in source.list_since(folder, None, limit=1000).envelopes]


def fetched(source: MboxSource, mail: Known) -> bytes:
    (answer,) = source.fetch([mail.ref])
    assert isinstance(answer, Fetched)
    return b"".join(answer.content.chunks())


# ---- telling mails apart ----

LINES = st.lists(
    st.sampled_from(
        [
            b"",
            b"hello",
            b"From here it goes on",
            b">From joe@example.com Tue Nov 14 22:13:20 2023",
            b"From: a header",
            b"\xff\xfe",
            b"x" * 1500,
            b"From",
        ]
    ),
    max_size=8,
)


@given(st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n"])), max_size=6), st.sampled_from([7, 64, 1 << 20]))
def test_what_is_written_as_an_mbox_is_read_back(written: list[tuple[list[bytes], bytes]], block: int) -> None:
    raws = [b"Subject: x" + end + end + b"".join(line + end for line in lines) for lines, end in written]
    data = b"".join(from_line(number) + raw + b"\n" for number, raw in enumerate(raws))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mbox_format, "BLOCK", block)
        found = list(mails(lambda at, number: data[at : at + number], len(data)))
    assert [data[mail.piece.body : mail.piece.end] for mail in found] == raws
    assert len({mail.uid for mail in found}) == len(found)
    assert all(mail.piece.ended for mail in found)


@given(st.binary(max_size=300))
def test_any_bytes_are_no_mbox_or_mails_that_cover_them_all(junk: bytes) -> None:
    data = from_line(1) + junk
    found = [mail.piece for mail in mails(lambda at, number: data[at : at + number], len(data))]
    assert found[0].start == 0
    assert [piece.stop for piece in found] == [*(piece.start for piece in found[1:]), len(data)]
    assert all(piece.start < piece.body <= piece.end <= piece.stop for piece in found)


@pytest.mark.parametrize(
    "line",
    [
        b"From joe@example.com Tue Nov 14 22:13:20 2023\n",
        b"From - Tue Nov 14 22:13:20 2023\n",
        b"From 1766@xxx Tue Nov 14 22:13:20 +0000 2023\n",
        b"From joe at example.com  Tue Nov 14 22:13 2023\n",
        b"From ???@??? Tue Nov 14 22:13:20 2023 +0100\n",
        b"From joe Tue, 14 Nov 2023 22:13:20 +0000\n",
    ],
)
def test_the_from_lines_of_many_programs_are_known(line: bytes) -> None:
    data = (line + b"Subject: x\n\nhello\n\n") * 2
    assert len(list(mails(lambda at, number: data[at : at + number], len(data)))) == 2


def test_pythons_own_mbox_is_read_as_python_reads_it(top: Path) -> None:
    with contextlib.closing(mailbox.mbox(top / "INBOX")) as box:
        for number in range(20):
            box.add(a_mail(number, body=b"From the start\n\nFrom the middle\n").replace(b"\r\n", b"\n"))
    with contextlib.closing(mailbox.mbox(top / "INBOX")) as box, source_at(top) as source:
        theirs = [box.get_bytes(key) for key in box.keys()]  # noqa: SIM118 - it is no dict
        assert [fetched(source, mail) for mail in known(source)] == theirs
        assert b"\n>From the middle" in theirs[0], "nothing in the file says how it was quoted: it is left as it is"


@pytest.mark.parametrize(
    ("quoting", "read"),
    [("keep", b">From a\n>>From b\n"), ("mboxrd", b"From a\n>From b\n"), ("mboxo", b"From a\n>>From b\n")],
)
def test_quoted_lines_are_read_as_the_settings_say(
    top: Path, post: MboxPost, quoting: Literal["keep", "mboxrd", "mboxo"], read: bytes
) -> None:
    post.plant("INBOX", b"Subject: x\n\n>From a\n>>From b\n" + b"y" * 300_000 + b"\n>From c\n")
    with source_at(top, settings=attrs.evolve(AT_ONCE, quoting=quoting)) as source:
        (mail,) = known(source)
        raw = fetched(source, mail)
    assert raw.startswith(b"Subject: x\n\n" + read + b"yyy")
    assert raw.endswith(b"\n>From c\n" if quoting == "keep" else b"\nFrom c\n")


def test_a_mail_stays_the_same_when_clients_write_their_status_into_it(top: Path, post: MboxPost) -> None:
    post.plant("INBOX", b"Subject: x\nFrom: a@example.com\n\nhello\n")
    with source_at(top) as source:
        before = known(source)
        path = top / "INBOX"
        path.write_bytes(path.read_bytes().replace(b"\n\nhello", b"\nStatus: RO\nX-UID: 7\n\nhello"))
        assert known(source) == before
        assert source.settle(before, DELETE) == {before[0].ref: Settled()}
    assert path.read_bytes() == b""


def test_the_time_of_receipt_is_of_the_last_server_else_of_the_from_line(top: Path, post: MboxPost) -> None:
    post.plant("INBOX", b"Subject: one\n\nx\n")
    post.plant(
        "INBOX", b"Received: by mx; Tue, 14 Nov 2023 10:00:00 +0100\nReceived: by a; Mon, 1 Jan 2001 1:00\n\nx\n"
    )
    with source_at(top) as source:
        times = [each.received for each in source.list_since(INBOX, None, limit=9).envelopes]
    assert times == [datetime(2023, 11, 14, 22, 13, 21, tzinfo=UTC), datetime(2023, 11, 14, 9, tzinfo=UTC)]


def test_equal_mails_are_two_mails_and_go_together(top: Path) -> None:
    raw = from_line(1) + b"Subject: x\n\nsame\n\n"
    (top / "INBOX").write_bytes(raw * 2)
    with source_at(top) as source:
        one, two = known(source)
        assert one.ref != two.ref
        answers = source.settle([one], DELETE)
        assert isinstance(answers[one.ref], Trouble)
        assert (top / "INBOX").read_bytes() == raw * 2
        assert set(source.settle([one, two], DELETE).values()) == {Settled()}
    assert (top / "INBOX").read_bytes() == b""


# ---- mails that are still being written ----


def test_the_last_mail_waits_until_the_file_is_quiet_and_longer_without_its_empty_line(
    top: Path, post: MboxPost
) -> None:
    path = top / "INBOX"
    post.plant("INBOX", a_mail(1))
    post.plant("INBOX", a_mail(2))
    with source_at(top, settings=MboxSettings(quiet_seconds=30)) as source:
        page = source.list_since(INBOX, None, limit=9)
        assert [each.headers.subject for each in page.envelopes] == ["number 1"]
        os.utime(path, (time.time() - 40,) * 2)
        later = source.list_since(INBOX, page.cursor, limit=9)
        assert [each.headers.subject for each in later.envelopes] == ["number 2"]
        with path.open("ab") as file:
            file.write(from_line(3) + b"Subject: half\n\nnot yet\n")
        os.utime(path, (time.time() - 40,) * 2)
        assert source.list_since(INBOX, later.cursor, limit=9).envelopes == ()
        os.utime(path, (time.time() - 90,) * 2)
        assert [e.headers.subject for e in source.list_since(INBOX, later.cursor, limit=9).envelopes] == ["half"]


def test_a_file_that_did_not_change_is_not_read_again(top: Path, post: MboxPost) -> None:
    post.plant("INBOX", a_mail(1))
    with source_at(top) as source:
        cursor = source.list_since(INBOX, None, limit=9).cursor
    found = (top / "INBOX").stat()
    (top / "INBOX").write_bytes(b"x" * found.st_size)
    os.utime(top / "INBOX", ns=(found.st_atime_ns, found.st_mtime_ns))
    with source_at(top) as source:
        page = source.list_since(INBOX, cursor, limit=9)
    assert (page.envelopes, page.cursor, page.more) == ((), cursor, False), "else it would be said to be no mbox"


# ---- sharing a file ----


def test_a_file_that_others_have_locked_is_left_alone(top: Path, post: MboxPost) -> None:
    post.plant("INBOX", a_mail(1))
    before = (top / "INBOX").read_bytes()
    with source_at(top) as source:
        (mail,) = known(source)
        (top / "INBOX.lock").write_text("1\n")
        assert isinstance(source.settle([mail], DELETE)[mail.ref], Trouble)
        with pytest.raises(FolderRefused, match="locked"):
            source.list_since(INBOX, None, limit=9)
        (top / "INBOX.lock").unlink()
        lock = "import fcntl, sys; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX); print(); input()"
        other = subprocess.Popen(
            [sys.executable, "-c", lock, str(top / "INBOX")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with other:
            assert other.stdout is not None
            other.stdout.readline()
            trouble = source.settle([mail], DELETE)[mail.ref]
            assert isinstance(trouble, Trouble)
            assert trouble.transient
            assert "locked" in trouble.message
            other.communicate(b"\n")
        assert (top / "INBOX").read_bytes() == before
        assert source.settle([mail], DELETE) == {mail.ref: Settled()}
    assert sorted(path.name for path in top.iterdir()) == ["INBOX"]


def test_a_lock_that_was_left_behind_is_removed_in_time(top: Path, post: MboxPost) -> None:
    post.plant("INBOX", a_mail(1))
    lock = top / "INBOX.lock"
    lock.write_text("1\n")
    os.utime(lock, (time.time() - 700,) * 2)
    with source_at(top) as source:
        assert source.settle(known(source), DELETE)
    assert sorted(path.name for path in top.iterdir()) == ["INBOX"]


def test_a_folder_without_the_right_to_lock_is_never_rewritten(top: Path, post: MboxPost) -> None:
    if os.geteuid() == 0:
        pytest.skip("nothing is forbidden to root")
    post.plant("INBOX", a_mail(1))
    top.chmod(0o555)
    try:
        with source_at(top) as source:
            (mail,) = known(source)
            trouble = source.settle([mail], DELETE)[mail.ref]
            assert isinstance(trouble, Trouble)
            assert [each.level for each in source.check([INBOX], DELETE)] == [Level.FAULT]
    finally:
        top.chmod(0o755)


def test_nothing_that_is_delivered_meanwhile_is_lost(top: Path) -> None:
    """A delivery agent that locks as is customary appends all the time; we delete whatever we see."""
    deliver = (
        "import fcntl, os, sys, time\n"
        "path, number = sys.argv[1], int(sys.argv[2])\n"
        "for n in range(number):\n"
        "    while True:\n"
        "        with open(path, 'ab') as file:\n"
        "            fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "            try:\n"
        "                os.close(os.open(path + '.lock', os.O_CREAT | os.O_EXCL))\n"
        "            except FileExistsError:\n"
        "                pass\n"
        "            else:\n"
        "                file.seek(0, 2)\n"
        "                file.write(b'From joe Tue Nov 14 22:13:20 2023\\n')\n"
        "                file.flush()\n"
        "                file.write(b'Subject: %d\\n\\n' % n + b'x' * (n % 7 * 1000) + b'\\n\\n')\n"
        "                file.flush()\n"
        "                os.unlink(path + '.lock')\n"
        "                break\n"
        "        time.sleep(0.002)\n"
    )
    number = 150
    agent = subprocess.Popen([sys.executable, "-c", deliver, str(top / "INBOX"), str(number)])
    seen: list[str] = []
    settings = MboxSettings(quiet_seconds=0, lock_seconds=20)
    try:
        until = time.monotonic() + 60
        while len(seen) < number and time.monotonic() < until:
            with source_at(top, settings=settings) as source:
                mails_there = known(source)
                seen += [fetched(source, mail).split(b"\n")[0].decode() for mail in mails_there]
                assert set(source.settle(mails_there, DELETE).values()) <= {Settled()}
    finally:
        agent.wait(60)
    assert sorted(seen) == sorted(f"Subject: {n}" for n in range(number))
    assert (top / "INBOX").read_bytes() == b""


# ---- dying ----


def steps_of_a_rewriting(top: Path, post: MboxPost, care: Aftercare) -> list[str]:
    reached: list[str] = []
    with MboxSource(Disk(str(top)), AT_ONCE, FileSpool(), reached=reached.append) as source:
        mails_there = known(source)
        source.settle([mails_there[1], mails_there[2], mails_there[4]], care)
    return reached


@pytest.mark.parametrize("care", [DELETE, Aftercare(Action.MOVE, "Done")], ids=["delete", "move"])
@pytest.mark.parametrize("appended", [False, True], ids=["alone", "with a delivery in between"])
def test_whenever_we_die_no_mail_is_lost_and_the_next_session_finishes(
    tmp_path: Path, care: Aftercare, *, appended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewriting, "BLOCK", 100)  # many steps of few bytes
    number = None
    at = 0
    while number is None or at < number:
        top = tmp_path / f"{at}"
        top.mkdir()
        post = MboxPost(top)
        for each in range(7):
            post.plant("INBOX", a_mail(each, body=b"x" * 60 + b"\r\n"))
        (top / "INBOX").chmod(0o640)
        all_of_them = read_back(top / "INBOX")
        if number is None:
            number = len(steps_of_a_rewriting(top, post, care))
            assert number > 10
            assert read_back(top / "INBOX") == [all_of_them[n] for n in (0, 3, 5, 6)]
            assert stat.S_IMODE((top / "INBOX").stat().st_mode) == 0o640
            (top / "INBOX").unlink()
            top.joinpath("Done").unlink(missing_ok=True)
            top.rmdir()
            continue
        child = os.fork()
        if child == 0:
            count = [0]

            def die(_: str, count: list[int] = count, at: int = at) -> None:
                if count[0] == at:
                    os._exit(7)
                count[0] += 1

            source = MboxSource(Disk(str(top)), AT_ONCE, FileSpool(), reached=die)
            there = known(source)
            source.settle([there[1], there[2], there[4]], care)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        if appended:
            post.number = 50
            post.plant("INBOX", a_mail(50))
        with source_at(top) as source:
            subjects(source)  # whoever looks next finishes what was begun
            later = read_back(top / "INBOX")
            more = [a_mail(50)] if appended else []
            untouched, done = [*all_of_them, *more], [*(all_of_them[n] for n in (0, 3, 5, 6)), *more]
            assert later in (untouched, done), at
            if later == untouched:
                there = known(source)
                answers = source.settle([there[1], there[2], there[4]], care)
                assert set(answers.values()) == {Settled()}
        assert read_back(top / "INBOX") == done
        if care.action is Action.MOVE:
            assert read_back(top / "Done") == [all_of_them[n] for n in (1, 2, 4)]
        assert {path.name for path in top.iterdir()} <= {"INBOX", "Done"}
        at += 1


def test_what_another_program_did_to_a_half_written_file_is_not_made_worse(top: Path, post: MboxPost) -> None:
    post.plant("INBOX", a_mail(1))
    (top / ".INBOX.maildaemon").write_text(
        '{"size": 9, "start": 0, "length": 0, "before": "", "gone": "", "tail": ""}\n'
    )
    before = (top / "INBOX").read_bytes()
    with source_at(top) as source, pytest.raises(FolderRefused, match="interrupted") as refused:
        source.list_since(INBOX, None, limit=9)
    assert ".INBOX.maildaemon" in refused.value.remedy
    assert (top / "INBOX").read_bytes() == before


# ---- files and folders ----


def test_the_folders_are_the_mbox_files_below_the_path(top: Path, post: MboxPost) -> None:
    (top / "2023" / "deep").mkdir(parents=True)
    post.plant("2023/deep/July", a_mail(1))
    post.plant("Sent", a_mail(2))
    (top / "Sent.msf").write_bytes(b"From index")
    (top / "notes.txt").write_bytes(b"hello")
    (top / ".hidden").write_bytes(from_line(1))
    os.mkfifo(top / "pipe")
    (top / "away").symlink_to("/etc")
    with source_at(top) as source:
        assert [info.name for info in source.folders()] == ["INBOX", "Sent", "2023/deep/July"]
        assert subjects(source, FolderRef("2023/deep/July")) == ["number 1"]
        for name in ("away/passwd", "../Mail/INBOX", "2023/../INBOX", "/etc/passwd", "2023", "No such"):
            with pytest.raises((FolderMissing, FolderRefused)):
                source.list_since(FolderRef(name), None, limit=9)
        for name in ("pipe", "notes.txt"):
            with pytest.raises(FolderRefused):
                source.list_since(FolderRef(name), None, limit=9)
            assert [each.level for each in source.check([FolderRef(name)], KEEP)] == [Level.FAULT]


def test_a_single_file_is_a_mailbox_of_one_folder_from_which_nothing_is_moved(top: Path, post: MboxPost) -> None:
    post.plant("old.mbox", a_mail(1))
    post.plant("neighbour", a_mail(2))
    options = MailboxOptions(type="mbox", path=str(top / "old.mbox"), options={"quietSeconds": 0})
    with MBOX.open(options, AT_ONCE, FileSpool()) as source:
        assert [info.name for info in source.folders()] == ["INBOX"]
        there = known(source)
        (answer,) = source.settle(there, Aftercare(Action.MOVE, "neighbour")).values()
        assert isinstance(answer, Trouble)
        findings = source.check([INBOX], Aftercare(Action.MOVE, "neighbour"))
        assert [each.level for each in findings] == [Level.FINE, Level.FAULT]
        assert source.settle(there, DELETE) == {there[0].ref: Settled()}
    assert read_back(top / "neighbour") == [a_mail(2)]
    assert (top / "old.mbox").read_bytes() == b""


def test_a_mail_is_moved_to_a_file_whose_last_mail_lacks_its_end(top: Path, post: MboxPost) -> None:
    (top / "Done").write_bytes(from_line(1) + b"Subject: cut\n\nno end")
    post.plant("INBOX", a_mail(2))
    with source_at(top) as source:
        there = known(source)
        assert set(source.settle(there, Aftercare(Action.MOVE, "Done")).values()) == {Settled()}
    assert read_back(top / "Done") == [b"Subject: cut\n\nno end\n", a_mail(2)]
