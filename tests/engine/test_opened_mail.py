"""Mail whose containers and mails are opened, through whole sweeps: stored once, held as long as it is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from maildaemon_adapters.openers.smime import OPENER as SMIME
from maildaemon_adapters.openers.tnef import OPENER as TNEF
from maildaemon_core.containers import Budget, Container, Opened
from maildaemon_core.engine.sweep import Bounds
from maildaemon_core.monitoring import SweepState
from maildaemon_core.options import DestinationOptions, MailArchiving
from maildaemon_core.progress import Stage
from maildaemon_core.testing import built_cms as cms
from maildaemon_core.testing.built_tnef import TnefAttachment, tnef
from maildaemon_core.testing.mails import simple_mail
from tests.core.boxes import BOX, BoxOpener, Faulty, boxed, mail_of, part
from tests.engine.story import Story, counted, mail
from tests.engine.town import ONE, A, Town, options

PDF = ("a.pdf", "application/pdf", b"%PDF")
EMPTY = ("empty.txt", "text/plain", b"")


def with_box(subject: str, *files: tuple[str, str, bytes]) -> bytes:
    return mail_of(part(BOX, boxed(*files), name="x.box"), subject=subject)


def exporting(**others: Any) -> Story:
    story = Story(export_attachments=True, **{"mail_archiving": None, **others})
    story.openers = [BoxOpener()]
    return story


def names(story: Story) -> dict[str, bytes]:
    """What is stored, by the name as sent (the template puts the day and the key before it)."""
    return {path.partition("-")[2]: data for path, data in story.one.visible.items()}


def test_what_is_in_a_container_is_stored_and_everything_that_was_held_is_given_back() -> None:
    story = exporting(delete_mails_on_server=True)
    story.server.plant(with_box("one", PDF, EMPTY))
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert names(story) == {"x.box": boxed(PDF, EMPTY), "a.pdf": b"%PDF", "empty.txt": b""}
    assert len(story.spool.kept) == 2, "the mail, and its container once"
    assert not story.spool.open
    assert not story.server.contents(), "what was opened wholly may be tidied"


def test_a_mail_whose_container_was_not_opened_wholly_stays_on_its_server() -> None:
    for openers in ([Faulty(ValueError())], [BoxOpener(losses=("torn",))]):
        story = exporting(delete_mails_on_server=True)
        story.openers = openers
        story.server.plant(with_box("one", PDF))
        assert counted(story.sweep()) == (1, 0, 0, 0)
        assert "x.box" in names(story)
        assert len(story.server.contents()) == 1


def test_attachments_without_a_byte_are_stored_wherever_they_are() -> None:
    letter = simple_mail(subject="letter", attachments=[("inner.txt", "text/plain", b"")])
    story = exporting(attached_mails="both")
    story.server.plant(mail_of(part("message/rfc822", letter), part("text/csv", b"", name="outer.csv"), subject="one"))
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert names(story) == {"letter.eml": letter, "inner.txt": b"", "outer.csv": b""}


@pytest.mark.parametrize("batch", [1, 100])
def test_a_mail_whose_container_cannot_be_held_is_let_go_and_the_others_go_on(batch: int) -> None:
    story = exporting(delete_mails_on_server=True)
    ref = story.server.plant(with_box("large", ("large.bin", "a/b", b"x" * 5000)))
    story.server.plant(mail("plain", attachments=[PDF]))
    story.openers = [NoRoom(story=story)]
    report = story.sweep(bounds=Bounds(mails=batch))
    assert report.state is SweepState.PAUSED
    assert report.trouble is not None
    assert report.trouble.error == "SpoolFull"
    entry = story.entry(ref)
    assert (entry.stage, entry.attempts, entry.suspect, entry.defects) == (Stage.FOUND, 0, True, ())
    story.openers = [BoxOpener()]
    story.sweep()
    assert story.stages() == [Stage.SETTLED, Stage.SETTLED]
    assert names(story)["large.bin"] == b"x" * 5000
    assert not story.server.contents()


@attrs.frozen(kw_only=True)
class NoRoom(BoxOpener):
    """There is no room for what it finds."""

    story: Story

    def open(self, container: Container, budget: Budget) -> Opened:
        with no_room(self.story):
            budget.keep([b"x" * 5000])
        return Opened()


@contextmanager
def no_room(story: Story) -> Iterator[None]:
    limit, story.spool.limit = story.spool.limit, 10
    try:
        yield
    finally:
        story.spool.limit = limit


def test_attached_mails_that_are_opened_later_double_nothing_that_was_published() -> None:
    """One name is taken, the operator turns options on meanwhile, and everything is numbered otherwise."""
    letter, box = simple_mail(subject="letter", attachments=[PDF]), boxed(("b.csv", "text/csv", b"1"))
    story = exporting(
        attached_mails="keep",
        destinations=(
            DestinationOptions(name="one", url="memory:one", path_template="{filename}", on_conflict="fail"),
        ),
    )
    story.openers = []
    parts = [part("message/rfc822", letter), part(BOX, box, name="x.box"), part("text/csv", b"2", name="c.csv")]
    story.server.plant(mail_of(*parts, subject="one"))
    story.one.visible["c.csv"] = b"not ours"
    assert counted(story.sweep()) == (0, 0, 1, 0)
    assert story.one.visible == {"letter.eml": letter, "x.box": box, "c.csv": b"not ours"}
    del story.one.visible["c.csv"]
    story.change(attached_mails="both")
    story.conflicts("suffix")
    story.openers = [BoxOpener()]
    story.again()
    story.wait(days=2)
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert story.one.visible == {"letter.eml": letter, "x.box": box, "a.pdf": b"%PDF", "b.csv": b"1", "c.csv": b"2"}
    assert len(story.one.published) == 5, "nothing was published twice"


def test_a_name_that_was_withdrawn_is_the_mails_own_when_its_file_is_numbered_otherwise() -> None:
    """Where names may not give way, its own reservation must not be in the mail's way for ever."""
    letter = simple_mail(subject="letter", attachments=[PDF])
    one = DestinationOptions(name="one", url="memory:one", path_template="{filename}", on_conflict="fail")
    story = exporting(attached_mails="keep", destinations=(one,))
    parts = [part("message/rfc822", letter), part("text/csv", b"2", name="c.csv"), part("a/b", b"3", name="d.bin")]
    story.server.plant(mail_of(*parts, subject="one"))
    story.one.visible["c.csv"] = b"not ours"
    assert counted(story.sweep()) == (0, 0, 1, 0)
    del story.one.visible["c.csv"]
    story.change(attached_mails="both")
    story.again()
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert story.one.visible == {"letter.eml": letter, "d.bin": b"3", "c.csv": b"2", "a.pdf": b"%PDF"}
    assert len(story.one.published) == 4, "nothing was published twice"


def test_a_daemon_opens_with_what_it_was_given() -> None:
    town = Town()
    town.server(A).plant(with_box("one", PDF))
    daemon = town.daemon(openers=[BoxOpener()])
    daemon.adopt(ONE, options(A, export_attachments=True))
    assert daemon.sweep_once(ONE).counts.stored == 1
    assert any(path.endswith("a.pdf") for path in town.place().visible)
    town.close()


def test_a_winmail_dat_and_signed_mail_go_through_a_whole_sweep_with_our_own_openers() -> None:
    winmail = tnef([
        TnefAttachment(name="Rechnung März.pdf", content=b"%PDF", content_type="application/pdf"),
        TnefAttachment(name="empty.txt", content=b""),
    ])  # fmt: skip
    inner = simple_mail(subject="signed", attachments=[("winmail.dat", "application/ms-tnef", winmail.raw)])
    signed = cms.smime(inner)
    town = Town()
    town.server(A).plant(simple_mail(subject="one", attachments=[("smime.p7m", "application/pkcs7-mime", signed.raw)]))
    daemon = town.daemon(openers=[TNEF, SMIME])
    archiving = MailArchiving(active=True, metadata=True, path_template="{subject}.eml")
    one = DestinationOptions(type="memory", name="one", url="memory:one", path_template="{filename}")
    daemon.adopt(
        ONE,
        options(
            A,
            export_attachments=True,
            allowed_attachments=("pdf", "txt"),
            delete_mails_on_server=True,
            mail_archiving=archiving,
            destinations=(one,),
        ),
    )
    assert daemon.sweep_once(ONE).counts.stored == 1
    visible = dict(town.place().visible)
    town.close()
    told = json.loads(visible.pop("one.json"))
    assert visible.keys() == {"one.eml", "Rechnung März.pdf", "empty.txt"}
    assert (visible["Rechnung März.pdf"], visible["empty.txt"]) == (b"%PDF", b"")
    assert [(each["name"], each["within"], each["stored"]) for each in told["attachments"]] == [
        ("smime.p7m", None, False),
        ("winmail.dat", 1, False),
        ("Rechnung März.pdf", 2, True),
        ("empty.txt", 2, True),
    ]
    assert (told["complete"], told["encrypted"]) == (True, False)
    assert not town.server(A).contents()
