"""What is wanted, how it is stored, and what may be done to it on the server afterwards."""

from __future__ import annotations

from typing import Any

import attrs

from maildaemon_core.engine.sweep import STOPPED, Bounds
from maildaemon_core.options import Action, DestinationOptions, MailArchiving, Move
from maildaemon_core.progress import Stage
from tests.engine.story import Story, broken_mail, counted, mail


def test_deletion_empties_the_server_of_exactly_what_was_stored() -> None:
    story = Story(delete_mails_on_server=True, allowed_email_extensions=("firm.example",))
    story.server.plant(mail("invoice"))
    refused = mail("advert", sender="x@other.example")
    story.server.plant(refused)
    unreadable = mail("unreadable")
    story.server.plant(unreadable)
    story.server.unreadable.add(unreadable)
    report = story.sweep()
    assert counted(report) == (1, 1, 1, 0)
    assert report.tidied == 1
    assert story.server.contents() == [refused, unreadable]


def test_a_refused_sender_is_skipped_and_moved_only_if_on_no_match_says_so() -> None:
    raw = mail("advert", sender="x@evil-firm.example")
    kept = Story(delete_mails_on_server=True, allowed_email_extensions=("firm.example",))
    moved = Story(
        delete_mails_on_server=True, allowed_email_extensions=("firm.example",), on_no_match=Move(move="Unwanted")
    )
    for story in (kept, moved):
        story.server.plant(raw)
        assert counted(story.sweep()) == (0, 1, 0, 0)
        assert not story.one.published
    assert kept.server.contents() == [raw]
    assert kept.stages() == [Stage.SKIPPED]
    assert moved.server.contents() == []
    assert moved.server.contents("Unwanted") == [raw]
    assert moved.stages() == [Stage.SET_ASIDE]
    assert kept.store.all()[0].reason.startswith("the sender 'x@evil-firm.example' is not among")


def test_mail_without_an_allowed_attachment_is_skipped_and_never_deleted() -> None:
    story = Story(
        mail_archiving=None, export_attachments=True, allowed_attachments=("pdf",), delete_mails_on_server=True
    )
    raw = mail("order", attachments=[("list.csv", "text/csv", b"1;2")])
    story.server.plant(raw)
    assert counted(story.sweep()) == (0, 1, 0, 0)
    assert story.server.contents() == [raw]
    assert story.store.all()[0].reason == "no attachment is allowed"


def test_what_was_read_incompletely_is_tidied_only_if_the_whole_mail_is_stored() -> None:
    attachments_only = Story(mail_archiving=None, export_attachments=True, delete_mails_on_server=True)
    whole = Story(export_attachments=True, delete_mails_on_server=True)
    raw = broken_mail("list")
    for story in (attachments_only, whole):
        story.server.plant(raw)
        assert counted(story.sweep()) == (1, 0, 0, 0)
        assert not story.store.all()[0].complete
        assert story.store.all()[0].defects
    assert attachments_only.server.contents() == [raw]
    assert whole.server.contents() == []
    assert raw in whole.one.visible.values()


def test_incomplete_mail_with_nothing_to_store_is_not_even_moved() -> None:
    story = Story(
        mail_archiving=None,
        export_attachments=True,
        allowed_attachments=("pdf",),
        on_no_match=Move(move="Unwanted"),
    )
    raw = broken_mail("list")
    story.server.plant(raw)
    assert counted(story.sweep()) == (0, 1, 0, 0)
    assert story.server.contents() == [raw]


def test_deletion_turned_on_later_spares_what_was_stored_before() -> None:
    story = Story()
    before, after = mail("before"), mail("after")
    story.server.plant(before)
    story.sweep()
    story.change(delete_mails_on_server=True)
    story.server.plant(after)
    story.sweep()
    assert story.server.contents() == [before]


def test_deletion_turned_on_between_storing_and_tidying_spares_the_mail() -> None:
    story = Story(after_store="seen")
    story.server.plant(mail("invoice"))
    story.crash(place="source.settle")
    story.change(after_store=None, delete_mails_on_server=True)
    report = story.sweep()
    assert counted(report) == (1, 0, 0, 0)
    (box,) = story.server.folders.values()
    assert [kept.flags for kept in box.mails.values()] == [{"\\Seen"}]


def test_deletion_turned_off_between_storing_and_tidying_spares_the_mail() -> None:
    story = Story(delete_mails_on_server=True)
    raw = mail("invoice")
    story.server.plant(raw)
    story.crash(place="source.settle")
    story.change(delete_mails_on_server=False)
    story.sweep()
    assert story.server.contents() == [raw]
    assert story.stages() == [Stage.SETTLED]


def test_whatever_the_ledger_says_nothing_is_deleted_of_which_a_receipt_or_the_rest_is_missing() -> None:
    """Laws 1 and 6 are looked at once more, right before anything is done."""
    damages: tuple[dict[str, Any], ...] = ({"artifacts": ()}, {"complete": False})
    for damage in damages:
        story = Story(mail_archiving=None, export_attachments=True, delete_mails_on_server=True)
        raw = mail("invoice", attachments=[("a.pdf", "application/pdf", b"%PDF")])
        ref = story.server.plant(raw)
        story.crash(place="source.settle")
        before = story.entry(ref)
        assert before.care.action is Action.DELETE
        lease = story.lease()
        lease.record([attrs.evolve(before, **damage)])
        lease.give_back(story.now)
        assert story.sweep().tidied == 0
        assert story.server.contents() == [raw]
        assert story.stages() == [Stage.SETTLED]


def test_what_another_client_deleted_first_is_settled_and_not_counted_as_our_doing() -> None:
    story = Story(delete_mails_on_server=True)
    refs = [story.server.plant(mail(f"mail {number}")) for number in range(2)]
    story.crash(place="source.settle")
    story.server.remove(refs[0])
    assert story.sweep().tidied == 1
    assert story.stages() == [Stage.SETTLED, Stage.SETTLED]


def test_two_mails_with_equal_attachments_give_two_files() -> None:
    story = Story(mail_archiving=None, export_attachments=True, delete_mails_on_server=True)
    story.change(destinations=(DestinationOptions(name="one", path_template="{filename}"),))
    for subject in ("first", "second"):
        story.server.plant(mail(subject, attachments=[("a.pdf", "application/pdf", b"%PDF")]))
    assert counted(story.sweep()) == (2, 0, 0, 0)
    second = story.store.all()[1]
    assert story.one.visible == {"a.pdf": b"%PDF", f"a-{second.key}.pdf": b"%PDF"}


def test_two_copies_of_one_mail_are_two_mails() -> None:
    story = Story()
    story.server.plant(mail("invoice"))
    story.server.plant(mail("invoice"))
    assert counted(story.sweep()) == (2, 0, 0, 0)
    assert len(story.one.visible) == 2


def test_mail_with_a_sidecar_compressed_and_with_attachments_is_one_entry_with_all_its_files() -> None:
    archiving = MailArchiving(active=True, compression="gzip", metadata=True, path_template="{subject}.eml")
    story = Story(mail_archiving=archiving, export_attachments=True, places=("one", "two"))
    story.server.plant(mail("invoice", attachments=[("a.pdf", "application/pdf", b"%PDF")]))
    assert counted(story.sweep()) == (1, 0, 0, 0)
    (entry,) = story.store.all()
    assert len(entry.artifacts) == 6
    assert sorted(story.one.visible) == sorted(story.two.visible)
    assert {artifact.path for artifact in entry.artifacts} == set(story.one.visible)
    assert all(artifact.receipt and not artifact.part for artifact in entry.artifacts)


def test_a_sweep_that_is_stopped_does_nothing_more_on_the_server_not_even_what_earlier_ones_have_left() -> None:
    story = Story(delete_mails_on_server=True)
    for number in range(10):
        story.server.plant(mail(f"mail {number}"))
    story.sweep(stopping=lambda: len(story.one.published) == 10)
    assert story.stages() == [Stage.STORED] * 10
    assert len(story.server.contents()) == 10
    asked: list[str] = []
    story.fuse.hook = lambda place: asked.append(place) if place == "source.settle" else None
    report = story.sweep(bounds=Bounds(mails=2), stopping=lambda: bool(asked))
    assert (report.trouble, report.tidied) == (STOPPED, 2)
    assert len(story.server.contents()) == 8
    story.options = attrs.evolve(story.options, delete_mails_on_server=False)
    assert story.sweep().well
    assert len(story.server.contents()) == 8
    assert story.stages() == [Stage.SETTLED] * 10
