"""Finding mail: cursors, folders that come and go, renumbering, and what is left alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from maildaemon_core.engine import discovery
from maildaemon_core.monitoring import SweepState
from maildaemon_core.options import Move
from maildaemon_core.progress import Stage
from maildaemon_core.testing.memory_source import EPOCH, INBOX
from tests.engine.story import Story, counted, mail


def test_a_mail_that_is_tried_again_by_hand_after_its_folder_was_renumbered_without_it_is_given_up() -> None:
    story = Story(max_message_bytes=100)
    ref = story.server.plant(mail("large", text="x" * 200))
    story.sweep()
    assert story.stages() == [Stage.GIVEN_UP]
    story.server.remove(ref)
    story.server.renumber()
    story.sweep()  # what was given up is not looked for
    story.change(max_message_bytes=None)
    story.again()
    story.sweep()
    assert story.stages() == [Stage.WAITING]
    story.wait(days=1)
    story.sweep()
    assert story.stages() == [Stage.VANISHED]
    assert story.entry(ref).reason == discovery.LOST


def test_a_missing_folder_does_not_stop_the_others() -> None:
    story = Story("INBOX", "Invoices", folders=("Missing", "INBOX", "Invoices"))
    story.server.plant(mail("order"))
    story.server.plant(mail("invoice"), "Invoices")
    report = story.sweep()
    assert report.state is SweepState.DONE
    assert counted(report) == (2, 0, 0, 0)
    assert not report.well
    assert [(each.folder, each.trouble.error) for each in report.unwell_folders if each.trouble] == [
        ("Missing", "FolderMissing")
    ]


def test_a_folder_whose_name_no_store_keeps_does_not_stop_the_others() -> None:
    long = "ä" * 1001
    story = Story("INBOX", long, folders=("*",))
    story.server.plant(mail("order"))
    story.server.plant(mail("invoice"), long)
    for _ in range(2):
        report = story.sweep()
        assert report.state is SweepState.DONE
        assert [(each.folder, each.trouble.error) for each in report.unwell_folders if each.trouble] == [
            (long, "FolderRefused")
        ]
    assert [path for path, _ in story.one.published] == ["order.eml"]


def test_a_pattern_that_nothing_answers_to_is_said() -> None:
    story = Story("INBOX", folders=("INBOX", "Projects/*"))
    story.server.plant(mail("order"))
    report = story.sweep()
    assert counted(report) == (1, 0, 0, 0)
    assert [each.folder for each in report.unwell_folders] == ["Projects/*"]


def test_a_folder_that_is_deleted_while_its_mails_wait_stops_neither_the_sweep_nor_the_other_folders() -> None:
    story = Story("Old", "New", folders=("Old", "New"))
    waiting = [story.server.plant(mail(f"old {number}"), "Old") for number in range(3)]
    story.one.down = True
    story.sweep()
    story.one.down = False
    folder = story.server.folders.pop(waiting[0].folder)
    story.server.plant(mail("new"), "New")
    report = story.sweep()
    assert report.state is SweepState.DONE
    assert counted(report) == (1, 0, 0, 3)
    assert [each.folder for each in report.unwell_folders] == ["Old"]
    assert [story.entry(ref).attempts for ref in waiting] == [0, 0, 0]
    story.server.folders[waiting[0].folder] = folder  # it was only renamed for a while
    assert counted(story.sweep()) == (3, 0, 0, 0)


def test_mail_that_goes_missing_with_its_folder_before_it_is_tidied_stops_nobody() -> None:
    story = Story("Old", "New", folders=("Old", "New"), delete_mails_on_server=True)
    ref = story.server.plant(mail("old"), "Old")
    story.crash(place="source.settle")
    del story.server.folders[ref.folder]
    story.server.plant(mail("new"), "New")
    report = story.sweep()
    assert report.state is SweepState.DONE
    assert story.server.contents("New") == []
    assert counted(report) == (1, 0, 1, 0)  # stored, and what was to be done on the server cannot be done
    assert [entry.stage for entry in story.store.all()] == [Stage.UNTIDIED, Stage.SETTLED]


def test_long_folders_are_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "PAGE", 3)
    story = Story()
    for number in range(10):
        story.server.plant(mail(f"mail {number}"))
    assert counted(story.sweep()) == (10, 0, 0, 0)
    assert story.fuse.log.count("source.list") == 4


def test_a_folder_without_news_costs_no_commit() -> None:
    story = Story()
    story.server.plant(mail("invoice"))
    story.sweep()
    before = story.commits()
    story.sweep()
    assert story.commits() == before


def test_mail_from_before_since_is_left_alone_and_counted() -> None:
    story = Story(delete_mails_on_server=True, since=EPOCH + timedelta(minutes=3))
    old = [mail("old 1"), mail("old 2")]
    for raw in (*old, mail("new")):
        story.server.plant(raw)
    report = story.sweep()
    assert counted(report) == (1, 0, 0, 0)
    assert [folder.older for folder in report.folders] == [2]
    assert story.server.contents() == old
    story.server.plant(mail("late"), received=EPOCH)
    assert [folder.older for folder in story.sweep().folders] == [3]
    story.server.renumber()
    assert [folder.older for folder in story.sweep().folders] == [3]


# ------------------------------------------------------------------------------------------------------- renumbering


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("page", [2, 500])
def test_a_renumbered_folder_is_recognised_and_nothing_is_stored_again(
    reverse: bool, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "PAGE", page)
    story = Story()
    for number in range(5):
        story.server.plant(mail(f"mail {number}"))
    story.sweep()
    story.server.renumber(reverse=reverse)
    story.server.plant(mail("new"))
    report = story.sweep()
    assert counted(report) == (1, 0, 0, 0)
    assert len(story.one.published) == 6
    assert report.remarks == ("folder INBOX was renumbered: 5 mails recognised, 1 new",)
    assert {entry.ref.uidvalidity for entry in story.store.all()} == {"2"}


def test_mail_that_is_planned_keeps_its_names_through_a_renumbering() -> None:
    story = Story(delete_mails_on_server=True)
    story.server.plant(mail("invoice"))
    story.crash(place="destination.publish")
    story.server.renumber()
    story.sweep()
    story.sweep()
    assert [path for path, _ in story.one.published] == ["invoice.eml"]
    assert story.server.contents() == []


def test_mail_that_is_stored_is_tidied_under_its_new_number() -> None:
    story = Story(delete_mails_on_server=True)
    story.server.plant(mail("invoice"))
    story.crash(place="source.settle")
    story.server.plant(mail("other"))
    story.server.renumber(reverse=True)
    story.sweep()
    assert story.server.contents() == []
    assert len(story.one.published) == 2


def test_copies_that_cannot_be_told_apart_are_processed_again_and_that_is_said() -> None:
    story = Story()
    story.server.plant(mail("invoice"), received=EPOCH)
    story.sweep()
    story.server.plant(mail("invoice"), received=EPOCH)  # arrives while the folder is renumbered
    story.server.renumber()
    report = story.sweep()
    assert counted(report) == (2, 0, 0, 0)
    (remark,) = report.remarks
    assert remark.endswith("0 mails recognised, 0 new, 2 cannot be told apart from others and are processed again")
    assert len(story.one.published) == 3


def test_open_mail_that_is_not_found_again_is_skipped_with_that_reason() -> None:
    story = Story()
    ref = story.server.plant(mail("invoice"))
    story.server.unreadable.add(mail("invoice"))
    story.sweep()
    story.server.remove(ref)
    story.server.renumber()
    assert counted(story.sweep()) == (0, 1, 0, 0)
    assert story.entry(ref).reason == "not found again after the folder was renumbered"


def test_skipped_mail_stays_skipped_and_is_not_moved_again_after_a_renumbering() -> None:
    story = Story(allowed_email_extensions=("firm.example",), on_no_match=Move(move="Unwanted"))
    story.server.plant(mail("advert", sender="x@other.example"))
    story.sweep()
    story.server.renumber()
    story.sweep()
    assert story.stages() == [Stage.SET_ASIDE]
    assert len(story.server.contents("Unwanted")) == 1


def test_a_folder_that_is_renumbered_once_more_while_it_is_listed_is_listed_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "PAGE", 2)
    story = Story()
    for number in range(5):
        story.server.plant(mail(f"mail {number}"))
    story.sweep()
    story.server.renumber()
    lists: list[str] = []

    def once_more(place: str) -> None:
        if place == "source.list":
            lists.append(place)
            if len(lists) == 2:
                story.server.renumber(reverse=True)

    story.fuse.hook = once_more
    assert counted(story.sweep()) == (0, 0, 0, 0)
    assert {entry.ref.uidvalidity for entry in story.store.all()} == {"3"}
    assert len(story.one.published) == 5


def test_a_number_that_comes_back_and_stands_for_another_mail_now_loses_nothing() -> None:
    """UIDVALIDITY 1, then 2, then 1 again: RFC 9051 forbids it, and a restored backup does it."""
    story = Story(delete_mails_on_server=True)
    story.server.plant(mail("was first under 1:1"))
    story.sweep()
    story.server.renumber()
    story.sweep()
    folder = story.server.folders[INBOX]
    folder.uidvalidity, folder.next_uid = 1, 1
    story.server.plant(mail("is under 1:1 now"))
    assert counted(story.sweep())[0] == 1
    assert len(story.one.published) == 2
    assert story.server.contents() == []


def test_a_number_that_comes_back_and_stands_for_the_same_mail_delivers_nothing_twice() -> None:
    story = Story()
    raw = mail("stays")
    story.server.plant(raw)
    story.sweep()
    kept = dict(story.server.folders[INBOX].mails)
    story.server.renumber()
    story.server.folders[INBOX].mails = {}
    story.sweep()
    folder = story.server.folders[INBOX]
    folder.uidvalidity, folder.mails, folder.next_uid = 1, kept, 2
    story.sweep()
    assert [data for _, data in story.one.published] == [raw]


def test_a_quiet_sweep_still_reports_its_folders_and_what_is_older() -> None:
    story = Story("INBOX", since=EPOCH + timedelta(hours=1))
    story.server.plant(mail("old"))
    assert [(report.folder, report.older) for report in story.sweep().folders] == [("INBOX", 1)]
    assert [(report.folder, report.older) for report in story.sweep().folders] == [("INBOX", 1)]


@pytest.mark.parametrize("same", [True, False])
def test_mail_that_waits_while_its_folder_is_empty_for_a_sweep_is_found_again(same: bool) -> None:
    story = Story(delete_mails_on_server=True)
    raws = [mail(f"mail {number}") for number in range(3)]
    for raw in raws:
        story.server.plant(raw)
    story.one.down = True
    story.sweep()
    folder = story.server.folders[INBOX]
    kept, uidvalidity, next_uid = dict(folder.mails), folder.uidvalidity, folder.next_uid
    folder.mails, folder.uidvalidity, folder.next_uid = {}, 77, 1
    assert counted(story.sweep())[2:] == (0, 0)
    folder.mails, folder.uidvalidity, folder.next_uid = kept, uidvalidity if same else 78, next_uid
    story.one.down = False
    assert counted(story.sweep()) == (3, 0, 0, 0)
    assert sorted(data for _, data in story.one.published) == sorted(raws)


def test_a_mail_without_an_id_is_not_taken_for_one_that_was_deleted_though_the_times_are_lost() -> None:
    story = Story(delete_mails_on_server=True, allowed_email_extensions=("firm.example",))
    for number in range(3):
        story.server.plant(mail(f"refused {number}", sender="x@evil.example"))
    scan = b"From: scanner@firm.example\r\nSubject: Scan\r\n\r\npage %d\r\n"
    story.server.plant(scan % 1)
    story.sweep()
    story.server.renumber(new_times=True)
    story.server.plant(scan % 2)
    story.sweep()
    assert [data for _, data in story.one.published] == [scan % 1, scan % 2]


def test_a_vanished_mail_whose_number_stands_for_another_one_now_stays_vanished() -> None:
    story = Story()
    story.server.plant(mail("waits"))
    story.one.down = True
    story.sweep()
    folder = story.server.folders[INBOX]
    folder.mails, folder.uidvalidity = {}, 77
    story.one.down = False
    story.sweep()
    folder.uidvalidity, folder.next_uid = 1, 1
    story.server.plant(mail("is under 1:1 now"))
    assert counted(story.sweep()) == (1, 0, 0, 0)
    assert [entry.stage for entry in story.store.all()] == [Stage.VANISHED, Stage.SETTLED]
