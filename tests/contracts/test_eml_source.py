"""Folders of .eml files: the laws of the port, and what is particular to files that anybody puts there by any means."""

from __future__ import annotations

import errno
import os
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import fsspec
import pytest

from maildaemon_adapters.local import EML, MAILDIR, MBOX, MboxSettings
from maildaemon_adapters.local.disk import Disk
from maildaemon_adapters.local.eml import EmlSource
from maildaemon_adapters.local.settings import EmlSettings
from maildaemon_core.errors import FolderMissing, Permanent, SourceUnavailable, Trouble
from maildaemon_core.message import Content, FolderRef
from maildaemon_core.options import KEEP, Action, Aftercare, DestinationOptions, MailboxOptions, Move, Secret
from maildaemon_core.ports import Fetched, Known, Level, Settled, Unfetched, Vanished
from maildaemon_core.soundness import problems
from maildaemon_core.testing.source_conformance import OpenSource, Post, SourceConformance, a_mail
from tests.contracts.spools import FileSpool
from tests.servers.pyftpd import Pyftpd

INBOX = FolderRef("INBOX")
DELETE = Aftercare(Action.DELETE)
AT_ONCE = EmlSettings(quiet_seconds=0)


class EmlPost:
    """The folder as those see it who put files there."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.number = 0

    def folder(self, folder: str) -> Path:
        return self.top if folder == "INBOX" else self.top / folder

    def plant(self, folder: str, raw: bytes) -> None:
        self.put(folder, raw)

    def put(self, folder: str, raw: bytes) -> Path:
        self.number += 1
        path = self.folder(folder) / f"mail-{self.number:05}.eml"
        path.write_bytes(raw)
        os.utime(path, ns=(0, (1_700_000_000 + self.number) * 10**9))
        return path

    def files(self, folder: str) -> list[Path]:
        return sorted(path for path in self.folder(folder).iterdir() if path.suffix == ".eml")

    def peek(self, folder: str) -> list[tuple[bytes, frozenset[str]]]:
        return [(path.read_bytes(), frozenset()) for path in self.files(folder)]

    def remove(self, folder: str, raw: bytes) -> None:
        next(path for path in self.files(folder) if path.read_bytes() == raw).unlink()

    def renumber(self, folder: str) -> None:
        raise NotImplementedError


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "drop").mkdir()
    return tmp_path / "drop"


@pytest.fixture
def post(top: Path) -> EmlPost:
    return EmlPost(top)


class TestEmlSource(SourceConformance):
    renumbers = False
    actions = frozenset({Action.KEEP, Action.MOVE, Action.DELETE})

    @pytest.fixture
    def post(self, top: Path) -> Post:
        return EmlPost(top)

    @pytest.fixture
    def open_source(self, top: Path) -> OpenSource:
        return lambda: EmlSource(Disk(str(top)), AT_ONCE, FileSpool())


def opened(top: Path, settings: EmlSettings = AT_ONCE) -> EmlSource:
    return EmlSource(Disk(str(top)), settings, FileSpool())


def known(source: EmlSource, folder: FolderRef = INBOX) -> list[Known]:
    return [
        Known(ref=each.ref, identity=each.identity) for each in source.list_since(folder, None, limit=1000).envelopes
    ]


def subjects(source: EmlSource, folder: FolderRef = INBOX) -> list[str]:
    return [each.headers.subject for each in source.list_since(folder, None, limit=1000).envelopes]


def test_a_file_that_is_still_being_written_waits(top: Path, post: EmlPost) -> None:
    with opened(top, EmlSettings(quiet_seconds=30)) as source:
        path = post.put("INBOX", a_mail(1))  # its time is old, but it was put there just now
        cursor = source.list_since(INBOX, None, limit=9).cursor
        assert subjects(source) == []
    with opened(top, EmlSettings(quiet_seconds=0.5)) as source:
        os.utime(path)
        assert source.list_since(INBOX, cursor, limit=9).envelopes == ()
        end = time.monotonic() + 10
        while not (listed := source.list_since(INBOX, cursor, limit=9).envelopes) and time.monotonic() < end:
            time.sleep(0.01)
        assert len(listed) == 1


def test_only_files_with_the_right_ending_are_mails(top: Path) -> None:
    names = "a.eml B.EML .hidden.eml c.eml.part d.eml.tmp e.msg f.txt .eml g.mail".split()
    for name in names:
        (top / name).write_bytes(f"Subject: {name}\r\n\r\n".encode())
    with opened(top) as source:
        assert set(subjects(source)) == {"a.eml", "B.EML"}
        findings = source.check([INBOX], KEEP)
        assert [each.level for each in findings] == [Level.FINE, Level.WARNING]
        assert "Outlook" in findings[1].message
    with opened(top, attrs.evolve(AT_ONCE, endings=(".mail", ".EML"))) as source:
        assert set(subjects(source)) == {"a.eml", "B.EML", "g.mail"}


def test_a_file_in_the_place_of_another_is_another_mail(top: Path, post: EmlPost) -> None:
    path = post.put("INBOX", a_mail(1))
    with opened(top) as source:
        page = source.list_since(INBOX, None, limit=9)
        before = known(source)
        path.write_bytes(a_mail(2))
        assert list(source.fetch([before[0].ref])) == [Vanished(ref=before[0].ref)]
        assert source.settle(before, DELETE) == {before[0].ref: Settled(gone=True)}
        assert path.read_bytes() == a_mail(2)
        later = source.list_since(INBOX, page.cursor, limit=9).envelopes
    assert [each.headers.subject for each in later] == ["number 2"]
    assert later[0].ref != before[0].ref


def test_a_file_with_an_old_date_that_is_moved_in_later_is_found(top: Path, post: EmlPost) -> None:
    for number in range(20):
        post.plant("INBOX", a_mail(number))
    with opened(top) as source:
        cursor = source.list_since(INBOX, None, limit=50).cursor
        late = post.put("INBOX", a_mail(99))
        os.utime(late, (1, 1))
        found = source.list_since(INBOX, cursor, limit=50)
    assert [each.headers.subject for each in found.envelopes] == ["number 99"]


def test_a_name_that_is_taken_in_the_target_gets_a_number(top: Path, post: EmlPost) -> None:
    (top / "Done" / "2026").mkdir(parents=True)
    path = post.put("INBOX", a_mail(1))
    (top / "Done" / "2026" / path.name).write_bytes(a_mail(2))
    with opened(top) as source:
        assert set(source.settle(known(source), Aftercare(Action.MOVE, "Done/2026")).values()) == {Settled()}
    assert sorted(each.name for each in (top / "Done" / "2026").iterdir()) == ["mail-00001-2.eml", "mail-00001.eml"]
    assert (top / "Done" / "2026" / "mail-00001-2.eml").read_bytes() == a_mail(1)


def test_where_files_cannot_be_linked_they_are_renamed_and_never_over_another(
    top: Path, post: EmlPost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    (top / "Done").mkdir()
    path = post.put("INBOX", a_mail(1))
    (top / "Done" / path.name).write_bytes(a_mail(2))
    with opened(top) as source:
        assert set(source.settle(known(source), Aftercare(Action.MOVE, "Done")).values()) == {Settled()}
    assert [each.read_bytes() for each in sorted((top / "Done").iterdir())] == [a_mail(1), a_mail(2)]


def test_subfolders_are_folders_and_nothing_leads_out(top: Path, tmp_path: Path) -> None:
    (top / "a" / "b").mkdir(parents=True)
    (top / ".hidden").mkdir()
    (tmp_path / "secret.eml").write_bytes(a_mail(7))
    (top / "link.eml").symlink_to(tmp_path / "secret.eml")
    (top / "away").symlink_to(tmp_path)
    os.mkfifo(top / "pipe.eml")
    (top / "a" / "b" / "x.eml").write_bytes(a_mail(1))
    with opened(top) as source:
        assert [info.name for info in source.folders()] == ["INBOX", "a", "a/b"]
        assert subjects(source) == []
        assert subjects(source, FolderRef("a/b")) == ["number 1"]
        for name in ("away", "..", "a/../..", "/etc", "", ".hidden", "a//b"):
            with pytest.raises(FolderMissing):
                source.list_since(FolderRef(name), None, limit=9)
        (mail,) = known(source, FolderRef("a/b"))
        for name in ("pipe.eml", "link.eml", "../secret.eml"):
            ref = attrs.evolve(mail.ref, folder=INBOX, uid=f"{name}:{len(a_mail(7))}:0:")
            (answer,) = source.fetch([ref])
            assert not isinstance(answer, Fetched)
        (refused,) = source.settle([mail], Aftercare(Action.MOVE, "away/stolen")).values()
        assert isinstance(refused, Trouble)


def test_a_mail_that_is_written_to_while_it_is_read_is_not_taken(top: Path, post: EmlPost) -> None:
    path = post.put("INBOX", a_mail(1))

    class Slow(FileSpool):
        def keep(self, pieces: Iterable[bytes]) -> Content:
            content = super().keep(pieces)
            with path.open("ab") as file:
                file.write(b"more")
            return content

    with EmlSource(Disk(str(top)), AT_ONCE, Slow()) as source:
        (answer,) = source.fetch([known(source)[0].ref])
    assert isinstance(answer, Unfetched)
    assert answer.trouble.transient


# ---- other file systems ----


@pytest.fixture
def memory() -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    fs.pipe({f"/drop/{name}": a_mail(number) for number, name in enumerate(["a.eml", "b.eml", "sub/c.eml", "d.txt"])})
    yield "memory://drop"
    fs.rm("/drop", recursive=True)


def remote(path: str, settings: EmlSettings = AT_ONCE) -> EmlSource:
    options = MailboxOptions(type="eml", path=path)
    assert EML.problems(options, settings) == []
    return EML.open(options, settings, FileSpool())


def test_a_folder_of_fsspec_is_read_and_never_changed(memory: str) -> None:
    with remote(memory) as source:
        assert [info.name for info in source.folders()] == ["INBOX", "sub"]
        page = source.list_since(INBOX, None, limit=1)
        assert page.more
        there = known(source)
        assert [each.ref.uid.partition(":")[0] for each in there] == ["a.eml", "b.eml"]
        answers = list(source.fetch([each.ref for each in there]))
        assert [b"".join(e.content.chunks()) for e in answers if isinstance(e, Fetched)] == [a_mail(0), a_mail(1)]
        assert subjects(source, FolderRef("sub")) == ["number 2"]
        assert source.list_since(INBOX, source.list_since(INBOX, None, limit=9).cursor, limit=9).envelopes == ()
        (answer,) = source.settle(there[:1], DELETE).values()
        assert isinstance(answer, Trouble)
        assert [each.level for each in source.check([INBOX], DELETE)] == [Level.FAULT]
        fs = fsspec.filesystem("memory")
        fs.rm("/drop/a.eml")
        assert list(source.fetch([there[0].ref])) == [Vanished(ref=there[0].ref)]
        fs.pipe("/drop/b.eml", a_mail(9))
        assert list(source.fetch([there[1].ref])) == [Vanished(ref=there[1].ref)]
        assert subjects(source) == ["number 9"]
        for name in ("..", "sub/../..", "No such"):
            with pytest.raises(FolderMissing):
                source.list_since(FolderRef(name), None, limit=9)


def test_a_zip_of_mails_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("one.eml", a_mail(1))
        archive.writestr("deep/two.eml", a_mail(2))
    with remote(f"zip://{tmp_path}/export.zip") as source:
        assert [info.name for info in source.folders()] == ["INBOX", "deep"]
        (mail,) = known(source, FolderRef("deep"))
        (answer,) = source.fetch([mail.ref])
        assert isinstance(answer, Fetched)
        assert b"".join(answer.content.chunks()) == a_mail(2)
    for path, words in ((f"zip://{tmp_path}/nothing.zip", "nothing at"), (f"zip://{tmp_path}", "cannot be opened")):
        with pytest.raises(SourceUnavailable, match=words):
            EML.open(MailboxOptions(type="eml", path=path), AT_ONCE, FileSpool())


def test_a_folder_of_an_ftp_server_is_read_where_plain_text_is_asked_for(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.eml").write_bytes(a_mail(number))
    with Pyftpd(tmp_path) as server:
        options = MailboxOptions(
            type="eml",
            path=f"ftp://127.0.0.1:{server.port}/",
            username=server.user,
            password=Secret(server.password),
            tls="none",
        )
        assert EML.problems(options, AT_ONCE) == []
        with EML.open(options, AT_ONCE, FileSpool()) as source:
            there = known(source)
            answers = [each for each in source.fetch([mail.ref for mail in there]) if isinstance(each, Fetched)]
            assert {b"".join(each.content.chunks()) for each in answers} == {a_mail(0), a_mail(1), a_mail(2)}
            listings = [line for line in server.lines if line.startswith(("MLSD", "LIST"))]
            assert len(listings) < 5, "the folder is not listed for each of its mails"
            (tmp_path / "1.eml").unlink()
            (gone,) = (mail.ref for mail in there if mail.ref.uid.startswith("1.eml"))
            assert not isinstance(next(iter(source.fetch([gone]))), Fetched)
            assert len(known(source)) == 2
            assert list(source.fetch([gone])) == [Vanished(ref=gone)]
            assert server.password not in source.server()
        wrong = attrs.evolve(options, password=Secret("another"))
        with pytest.raises(SourceUnavailable) as error:
            EML.open(wrong, AT_ONCE, FileSpool())
        assert "another" not in str(error.value.trouble())


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"path": "/srv/mail"}, []),
        ({"path": "file:///srv/mail"}, []),
        ({"path": "mail"}, ["$.path"]),
        ({"path": "/srv/mail", "password": "x"}, ["$.password"]),
        ({"path": "sftp://host/mail"}, ["$.path"]),
        ({"path": "s3://bucket"}, ["$.path"]),
        ({"path": "smb://host/share"}, ["$.path"]),
        ({"path": "zip:///a.eml::/etc/x.zip"}, ["$.path"]),
        ({"path": "zip://etc/x.zip"}, ["$.path"]),
        ({"path": "local:///etc"}, ["$.path"]),
        ({"path": "ftp://host/mail"}, ["$.tls"]),
        ({"path": "memory://x", "delete_mails_on_server": True}, ["$.deleteMailsOnServer"]),
        (
            {"path": "memory://x", "after_store": Move(move="a"), "on_no_match": Move(move="b")},
            ["$.afterStore", "$.onNoMatch"],
        ),
    ],
)
def test_what_cannot_be_is_told_with_its_place(options: dict[str, Any], paths: list[str]) -> None:
    found = EML.problems(MailboxOptions(type="eml", **options), EmlSettings())
    assert [problem.path for problem in found] == paths
    if "::" in options["path"] or options["path"].startswith(("sftp", "zip://etc")):
        with pytest.raises(Permanent):
            EML.open(MailboxOptions(type="eml", **options), EmlSettings(), FileSpool())


def test_the_other_kinds_say_what_they_cannot_do() -> None:
    url = MailboxOptions(type="mbox", path="zip:///srv/x.zip")
    assert [problem.path for problem in MBOX.problems(url, MboxSettings())] == ["$.path"]
    seen = MailboxOptions(path="/srv/mail", after_store="seen", destinations=(DestinationOptions(url="/srv"),))
    for kind, allowed in ((MAILDIR, True), (MBOX, False), (EML, False)):
        assert ("$.afterStore" not in {each.path for each in problems(seen, kind.facts)}) is allowed
