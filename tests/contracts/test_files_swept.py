"""Mail in files on the whole way: whatever crashes and people do to it, each mail is stored once and then tidied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maildaemon_adapters.local.disk import Disk
from maildaemon_adapters.local.eml import EmlSource
from maildaemon_adapters.local.maildir import MaildirSource
from maildaemon_adapters.local.mbox import MboxSource
from maildaemon_adapters.local.settings import EmlSettings, MboxSettings
from maildaemon_core.options import MailboxOptions
from maildaemon_core.ports import MailSource
from maildaemon_core.progress import Stage
from maildaemon_core.testing.source_conformance import Post
from tests.contracts.test_eml_source import EmlPost
from tests.contracts.test_maildir_source import MaildirPost, make
from tests.contracts.test_mbox_source import MboxPost
from tests.engine.story import Story, counted
from tests.engine.story import mail as a_mail_about

KINDS = pytest.mark.parametrize("kind", ["maildir", "mbox", "eml"])


def mail(subject: str) -> bytes:
    """With an end to its last line, as every mail in an mbox has."""
    return a_mail_about(subject) + b"\r\n"


class FileStory(Story):
    """A story whose mailbox lies in files of one of the kinds."""

    def __init__(self, kind: str, top: Path, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind
        self.top = top
        self.post: Post
        match kind:
            case "maildir":
                make(top)
                self.post = MaildirPost(top)
            case "mbox":
                top.mkdir()
                (top / "INBOX").touch()
                self.post = MboxPost(top)
            case _:
                top.mkdir()
                self.post = EmlPost(top)

    def open_source(self) -> MailSource:
        disk = Disk(str(self.top))
        match self.kind:
            case "maildir":
                return MaildirSource(disk, self.spool)
            case "mbox":
                return MboxSource(disk, MboxSettings(quiet_seconds=0), self.spool)
        return EmlSource(disk, EmlSettings(quiet_seconds=0), self.spool)

    def left(self) -> list[bytes]:
        return [raw for raw, _ in self.post.peek("INBOX")]


@KINDS
def test_each_mail_is_stored_once_and_then_deleted(tmp_path: Path, kind: str) -> None:
    story = FileStory(kind, tmp_path / "mail", delete_mails_on_server=True)
    for number in range(5):
        story.post.plant("INBOX", mail(f"mail {number}"))
    assert counted(story.sweep()) == (5, 0, 0, 0)
    story.post.plant("INBOX", mail("mail 5"))
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert [path for path, _ in story.one.published] == [f"mail {number}.eml" for number in range(6)]
    assert story.left() == []


@KINDS
@pytest.mark.parametrize(
    ("place", "times"), [("store.record", 4), ("store.admit", 1), ("destination.publish", 3), ("destination.stage", 3)]
)
def test_a_crash_loses_nothing_and_doubles_nothing(tmp_path: Path, kind: str, place: str, times: int) -> None:
    for after in range(times):
        story = FileStory(kind, tmp_path / f"mail{after}", delete_mails_on_server=True)
        for number in range(3):
            story.post.plant("INBOX", mail(f"mail {number}"))
        story.crash(after, place=place)
        for _ in range(4):
            story.wait(days=1)
            story.sweep()
        assert sorted(path for path, _ in story.one.published) == [f"mail {number}.eml" for number in range(3)]
        assert story.left() == []


@KINDS
def test_a_mail_that_is_kept_is_stored_once_however_often_it_is_looked_at(tmp_path: Path, kind: str) -> None:
    story = FileStory(kind, tmp_path / "mail")
    for number in range(3):
        story.post.plant("INBOX", mail(f"mail {number}"))
    for _ in range(3):
        story.sweep()
    story.post.remove("INBOX", mail("mail 1"))
    story.sweep()
    assert len(story.one.published) == 3
    assert story.left() == [mail("mail 0"), mail("mail 2")]


def test_a_file_that_is_taken_out_before_it_was_stored_and_put_back_is_stored_then(tmp_path: Path) -> None:
    story = FileStory("eml", tmp_path / "mail")
    story.post.plant("INBOX", mail("back again"))
    story.one.down = True
    story.sweep()
    (path,) = story.top.iterdir()
    path.rename(tmp_path / "aside")
    story.one.down = False
    story.wait(days=1)
    story.sweep()
    assert story.stages() == [Stage.VANISHED]
    (tmp_path / "aside").rename(path)
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert [name for name, _ in story.one.published] == ["back again.eml"]
    assert story.stages() == [Stage.SETTLED]


def test_the_options_that_the_kinds_take_are_options() -> None:
    assert MailboxOptions(type="Maildir", path="/srv/mail").kind == "maildir"
    assert MailboxOptions(type="EML", path="/srv/mail").kind == "eml"
