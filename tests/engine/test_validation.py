"""Looking before leaping: each finding says what to do, and nothing is changed or left behind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from maildaemon_core.engine import validation
from maildaemon_core.engine.plugins import SOURCES, Registry
from maildaemon_core.errors import SourceUnavailable
from maildaemon_core.message import Cursor, FolderRef
from maildaemon_core.options import Aftercare, DestinationOptions, MailboxOptions, Move, Secret
from maildaemon_core.ports import Finding, Kind, Level, MailSource, Page, Spool
from maildaemon_core.testing.memory_destination import MemoryDestination
from maildaemon_core.testing.memory_source import MemoryFolder, MemorySource
from tests.engine.story import mail
from tests.engine.test_daemon import FACTS, ONE, House, Settings, options


@pytest.fixture
def house() -> House:
    return House()


def look(house: House, mailbox: MailboxOptions) -> list[Finding]:
    before = (house.server.contents(), house.store.all(), house.store.configurations())
    findings = list(house.daemon().validate(ONE, mailbox))
    assert (house.server.contents(), house.store.all(), house.store.configurations()) == before
    assert house.store.holder(ONE) is None
    for place in house.places.values():
        assert not place.visible
        assert not place.staging
    assert all(finding.remedy for finding in findings if finding.level is Level.FAULT and finding.subject[0] != "$")
    return findings


def faults(findings: list[Finding]) -> list[str]:
    return [finding.subject for finding in findings if finding.level is Level.FAULT]


def said(findings: list[Finding], subject: str) -> list[str]:
    return [finding.message for finding in findings if finding.subject == subject]


def test_what_works_is_said_too_and_what_the_next_sweep_would_do(house: House) -> None:
    for number in range(3):
        house.server.plant(mail(f"mail {number}"))
    findings = look(house, options(delete_mails_on_server=True))
    assert {finding.level for finding in findings} <= {Level.FINE, Level.WARNING}
    assert said(findings, "login") == ["works: memory"]
    assert said(findings, "memory:one") == ["can be written"]
    assert any("find 3 new mails" in text and "DELETED" in text for text in said(findings, "folder INBOX"))
    assert house.closed == ["one"]


@pytest.mark.parametrize(
    ("others", "will"),
    [
        ({}, "left on the server"),
        ({"after_store": "seen"}, "marked as seen"),
        ({"after_store": Move(move="Done")}, "'Done'"),
    ],
)
def test_it_says_what_becomes_of_stored_mail(house: House, others: dict[str, Any], will: str) -> None:
    assert any(will in text for text in said(look(house, options(**others)), "folder INBOX"))


def test_it_counts_only_what_is_new(house: House) -> None:
    house.server.plant(mail("stored"))
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    daemon.sweep_once(ONE)
    house.places.clear()
    house.server.plant(mail("new"))
    assert any("find 1 new mail;" in text for text in said(look(house, options()), "folder INBOX"))


def test_since_now_would_find_nothing_of_what_lies_there(house: House) -> None:
    house.server.plant(mail("old"), received=house.now - timedelta(hours=1))
    assert any("find 0 new mails" in text for text in said(look(house, options(since="now")), "folder INBOX"))


def test_it_stops_counting_somewhere(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "COUNTED", 4)
    monkeypatch.setattr(validation, "PAGE", 2)
    for number in range(9):
        house.server.plant(mail(f"mail {number}"))
    assert any("more than 4 new mails" in text for text in said(look(house, options()), "folder INBOX"))


def test_options_that_are_wrong_are_said_before_anything_is_opened(house: House) -> None:
    findings = look(house, options(type="impa", destinations=()))
    assert set(faults(findings)) >= {"$.type", "$.destinations"}
    assert not house.opened


def test_warnings_do_not_keep_it_from_looking(house: House) -> None:
    findings = look(house, options(mail_archiving=None, export_attachments=True, delete_mails_on_server=True))
    assert [finding.subject for finding in findings if finding.level is Level.WARNING] == ["$.deleteMailsOnServer"]
    assert said(findings, "login")


def test_a_refused_login_is_a_finding_and_the_destinations_are_looked_at_all_the_same(house: House) -> None:
    findings = look(house, options(password=Secret("wrong")))
    assert faults(findings) == ["server"]
    assert said(findings, "memory:one") == ["can be written"]


def test_each_destination_is_looked_at_for_itself(house: House) -> None:
    three = tuple(
        DestinationOptions(type="memory", name=name, url=url)
        for name, url in (("one", "nowhere"), ("two", "memory:two"), ("three", "odd"))
    )
    house.places["memory:two"] = MemoryDestination("memory:two")
    house.places["memory:two"].down = True
    findings = look(house, options(destinations=three))
    assert faults(findings) == ["destination one", "memory:two", "destination three"]
    assert "hunter2" not in str(findings)


def test_missing_folders_are_named_with_those_that_there_are(house: House) -> None:
    house.server.folders[FolderRef("Invoices")] = MemoryFolder()
    findings = look(house, options(folders=("INBOX", "Missing")))
    assert faults(findings) == ["folder Missing"]
    findings = look(house, options(folders=("Projects/*",)))
    (fault,) = (finding for finding in findings if finding.level is Level.FAULT)
    assert (fault.subject, fault.remedy) == ("folder Projects/*", "there are: INBOX, Invoices")


def test_where_unwanted_mail_goes_is_looked_at_too(house: House) -> None:
    asked: list[str | None] = []

    class Curious(MemorySource):
        def check(self, folders: Sequence[FolderRef], care: Aftercare) -> Sequence[Finding]:
            asked.append(care.folder)
            return super().check(folders, care)

    def open_curious(mailbox: MailboxOptions, settings: Settings, spool: Spool) -> MailSource:
        return Curious(house.server, spool, house.fuse)

    house.sources = Registry(SOURCES, entries=(), memory=Kind(settings=Settings, open=open_curious, facts=FACTS))
    look(house, options(after_store=Move(move="Done"), on_no_match=Move(move="Unwanted")))
    assert asked == ["Done", "Unwanted"]


def test_a_mailbox_that_is_being_swept_is_not_disturbed(house: House) -> None:
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    lease = house.store.lease(ONE, 60, owner="farhost pid 7 boot/ns 99 abcd")
    assert lease is not None
    findings = daemon.validate(ONE, options())
    assert said(list(findings), "next sweep") == ["the mailbox is being swept just now"]
    lease.renew(60)  # it still has it


def test_a_mailbox_that_waits_for_news_is_not_said_to_be_swept_and_not_disturbed(house: House) -> None:
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    lease = house.store.lease(ONE, 60, owner="farhost pid 7 boot/ns 99 abcd idle")
    assert lease is not None
    findings = daemon.validate(ONE, options())
    assert said(list(findings), "next sweep") == [
        "the mailbox is watched: what comes is swept as soon as the server tells of it"
    ]
    lease.renew(60)  # it still has it


def test_mails_that_wait_from_earlier_sweeps_are_told_as_well(house: House) -> None:
    for number in range(3):
        house.server.plant(mail(f"mail {number}"))
    house.places["memory:one"] = MemoryDestination("memory:one")
    house.places["memory:one"].down = True
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    assert daemon.sweep_once(ONE).counts.pending == 3
    house.places["memory:one"].down = False
    (said_of_it,) = (text for text in said(look(house, options()), "folder INBOX") if "next sweep" in text)
    assert "find 0 new mails; 3 mails are waiting from earlier sweeps; what is wanted is stored" in said_of_it
    house.server.folders[FolderRef("Other")] = MemoryFolder()
    elsewhere = look(house, options(folders=("Other",)))
    assert any("not watched any more" in text for text in said(elsewhere, "folder INBOX"))


def test_a_sweep_that_comes_meanwhile_does_not_find_the_mailbox_taken(house: House) -> None:
    held = []

    class Slow(MemorySource):
        def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
            held.append(house.store.holder(ONE))
            return super().list_since(folder, cursor, limit=limit)

    def open_slow(mailbox: MailboxOptions, settings: Settings, spool: Spool) -> MailSource:
        return Slow(house.server, spool, house.fuse)

    daemon = house.daemon()
    daemon.adopt(ONE, options())
    house.sources = Registry(SOURCES, entries=(), memory=Kind(settings=Settings, open=open_slow, facts=FACTS))
    look(house, options())
    assert held == [None]


def test_a_spool_that_cannot_be_written_is_a_fault_with_a_remedy(house: House, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("not a folder")
    findings = house.daemon(spool=tmp_path / "spool").validate(ONE, options())
    (fault,) = (finding for finding in findings if finding.level is Level.FAULT)
    assert fault.subject == "spool"
    assert str(tmp_path / "spool") in fault.remedy
    (tmp_path / "spool").unlink()
    assert not faults(list(house.daemon(spool=tmp_path / "spool").validate(ONE, options())))
    assert list(tmp_path.iterdir()) == []


def test_what_is_to_be_deleted_is_no_promise_where_the_server_cannot(house: House) -> None:
    house.server.plant(mail("one"))
    findings = look(house, options(delete_mails_on_server=True))
    assert any("is then to be DELETED" in text for text in said(findings, "folder INBOX"))


def test_a_server_that_breaks_off_is_a_finding(house: House) -> None:
    house.fuse.arm(0, place="source.list", error=lambda place: SourceUnavailable("cable cut", remedy="mend it"))
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    assert faults(look(house, options())) == ["server"]
