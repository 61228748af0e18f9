"""Readiness: whatever keeps the service from doing what it is for is named, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from threading import Event
from typing import Any

import attrs
import pytest

from maildaemon_core.access import Scope
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.plugins import DESTINATIONS, OPENERS
from maildaemon_core.engine.watched import LONGEST_SILENCE, LOOP_PATIENCE, Watched
from maildaemon_core.errors import Trouble
from maildaemon_core.message import FolderRef
from maildaemon_core.monitoring import FolderReport, SweepEnded, SweepReport, SweepState
from maildaemon_core.store_port import Configuration
from maildaemon_core.testing.memory_source import MemoryFolder
from maildaemon_http.api import health
from maildaemon_http.findings import FolderWatch, about_mailbox, finding_about, findings_of
from maildaemon_http.lookout import Lookout
from tests.http.small_service import ONE, TWO, SmallService, options, until

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
REFUSED = Trouble(error="LoginRefused", message="the server refuses the password", remedy="correct it")


@pytest.fixture
def service() -> Iterator[SmallService]:
    made = SmallService()
    yield made
    made.daemon.close(deadline=5)


def watched(**others: Any) -> Watched:
    return Watched(
        **{
            "mailbox": ONE,
            "label": "office",
            "active": True,
            "interval": timedelta(minutes=1),
            "since": NOON,
            "next_due": NOON + timedelta(minutes=1),
            **others,
        }
    )


def test_a_service_that_makes_progress_is_ready(service: SmallService) -> None:
    service.daemon.adopt(ONE, options())
    service.daemon.start(service.catalog)
    with service.client() as get:
        answer = get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "findings": []})


def test_a_service_that_sweeps_nothing_is_not_ready_though_it_answers(service: SmallService) -> None:
    with service.client() as get:
        assert get("/health/live").status_code == 200
        answer = get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["status"] == "not ready"
    (finding,) = answer.json()["findings"]
    assert (finding["concerns"], finding["subject"]) == ("service", "scheduler")
    assert "not started" in finding["message"]
    assert "maildaemon serve" in finding["remedy"]


def test_a_store_that_is_away_is_a_finding(service: SmallService) -> None:
    service.daemon.start(service.catalog)
    service.store.away = True
    with service.client() as get:
        for path in ("/health/ready", "/health/ready?only=service"):
            answer = get(path)
            assert answer.status_code == 503
            assert answer.json()["findings"] == [
                {
                    "concerns": "service",
                    "subject": "store",
                    "message": "the database at db.example does not answer",
                    "remedy": "see whether it runs",
                }
            ]
        service.store.away = False
        assert get("/health/ready").status_code == 200


def test_a_store_that_says_nothing_is_a_finding_before_whoever_asks_gives_up(
    service: SmallService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.daemon.start(service.catalog)
    silent = Event()

    def configuration(mailbox: object) -> Configuration | None:
        silent.wait(20)
        return None

    monkeypatch.setattr(service.store, "configuration", configuration)
    monkeypatch.setattr(health, "STORE_SECONDS", 0.05)
    with service.client() as get:
        answer = get("/health/ready")
    silent.set()
    assert answer.status_code == 503
    (finding,) = answer.json()["findings"]
    assert (finding["subject"], finding["message"]) == ("store", "it gave no answer within 0.05 s")
    assert finding["remedy"]


def test_a_loop_that_died_is_a_finding(service: SmallService) -> None:
    service.daemon.start(service.catalog)
    now, folders = datetime.now(UTC), service.metrics.folders
    assert findings_of(service.daemon, folders, now) == []
    (finding,) = findings_of(service.daemon, folders, now + LOOP_PATIENCE + timedelta(seconds=1), all_of_it=False)
    assert (finding.concerns, finding.subject) == ("service", "scheduler")
    assert "no sweep begins any more" in finding.message
    assert "start the service again" in finding.remedy


def test_a_mailbox_that_fails_for_long_is_named_with_what_is_in_its_way(service: SmallService) -> None:
    service.ago = timedelta(hours=3)
    service.daemon.adopt(ONE, options(password="wrong"))
    service.daemon.adopt(TWO, options(name="well", mailbox="two@our.example"))
    service.daemon.start(service.catalog)
    for mailbox in (ONE, TWO):
        service.daemon.refreshed(mailbox)  # so that its first sweep is at once
    until(lambda: all(one.trouble or one.last_success for one in service.daemon.watched()))
    with service.client() as get:
        service.ago = timedelta()
        service.daemon.refreshed(TWO)  # which also tells the loop to look around
        until(lambda: len(get("/health/ready").json()["findings"]) == 1)
        answer = get("/health/ready")
        assert answer.status_code == 503
        (finding,) = answer.json()["findings"]
        assert finding["concerns"] == "mailbox"
        assert finding["subject"] == f"mailbox 'office' ({ONE})"
        assert "180 min" in finding["message"] or "3 h" in finding["message"]
        assert finding["message"].endswith("the server refuses the password")
        assert finding["remedy"] == "correct it"
        probe = get("/health/ready?only=service")
        assert (probe.status_code, probe.json()["status"]) == (200, "ready")


def test_a_mailbox_that_cannot_be_used_is_named_at_once(service: SmallService) -> None:
    kept = service.catalog.create(
        {
            "type": "memory",
            "name": "broken",
            "mailbox": "in@our.example",
            "mailArchiving": {"active": True},
            "destinations": [{"name": "one", "type": "memory", "url": "one"}],
        },
        by="somebody",
    )
    configuration = kept.configuration
    document = {**configuration.document, "type": "carrier-pigeon"}
    service.store.save(attrs.evolve(configuration, document=document), by="somebody")
    service.daemon.start(service.catalog)
    with service.client() as get:
        answer = get("/health/ready")
    assert answer.status_code == 503
    (finding,) = answer.json()["findings"]
    assert "broken" in finding["subject"]
    assert "cannot be swept" in finding["message"]
    assert "carrier-pigeon" in finding["message"]
    assert finding["remedy"]


def test_a_folder_that_sweeps_go_past_is_named_though_the_mailbox_is_well(service: SmallService) -> None:
    service.daemon.adopt(ONE, options(folders=("INBOX", "Invoices")))
    service.ago = timedelta(minutes=9)
    assert service.daemon.sweep_once(ONE).state is SweepState.DONE
    folders = service.metrics.folders
    service.ago = timedelta()
    (unread,) = folders.of(ONE)
    assert service.daemon.sweep_once(ONE).state is SweepState.DONE
    assert folders.of(ONE) == (unread,)  # since when is not forgotten
    well = watched(since=unread.since + timedelta(minutes=10))
    assert about_mailbox(well, folders.of(ONE), unread.since + timedelta(minutes=10)) == []
    (finding,) = about_mailbox(well, folders.of(ONE), unread.since + timedelta(minutes=11))
    assert finding.subject == f"mailbox 'office' ({ONE})"
    assert "the folder 'Invoices' has not been read since" in finding.message
    assert "there is no folder" in finding.message
    assert "correct `folders`" in finding.remedy
    assert about_mailbox(watched(active=False), folders.of(ONE), unread.since + timedelta(days=1)) == []
    service.server.folders[FolderRef("Invoices")] = MemoryFolder()
    service.daemon.sweep_once(ONE)
    assert folders.of(ONE) == ()


def test_a_sweep_that_was_cut_says_nothing_of_folders_that_it_did_not_come_to() -> None:
    folders = FolderWatch(lambda: NOON)
    missing = FolderReport(folder=FolderRef("Invoices"), trouble=REFUSED)
    report = SweepReport(mailbox=ONE, state=SweepState.DONE, started=NOON, ended=NOON, folders=(missing,))
    folders(SweepEnded(report=report))
    for state, parts in (
        (SweepState.FAILED, ()),
        (SweepState.PAUSED, (FolderReport(folder=FolderRef("INBOX")),)),
    ):
        folders(SweepEnded(report=attrs.evolve(report, state=state, folders=parts)))
        assert [one.folder for one in folders.of(ONE)] == ["Invoices"]
    folders(SweepEnded(report=attrs.evolve(report, folders=())))
    assert folders.of(ONE) == ()


def test_a_mailbox_of_a_file_that_nobody_has_any_more_is_named_after_a_day(service: SmallService) -> None:
    other = MailDaemon(
        service.store,
        sources=service.daemon.sources,
        destinations=service.daemon.destinations,
        clock=service.now,
    )
    other.adopt(ONE, options())
    other.adopt(TWO, options(name="resting", mailbox="two@our.example", active=False))
    assert other.sweep_once(ONE).well
    service.daemon.start(service.catalog)
    now, folders = service.now(), service.metrics.folders
    until(lambda: len(service.daemon.watched()) == 2)
    assert findings_of(service.daemon, folders, now + timedelta(seconds=30)) == []
    service.store.away = True
    assert [one.concerns for one in findings_of(service.daemon, folders, now + timedelta(days=2))] == ["service"]
    service.store.away = False
    _, finding = findings_of(service.daemon, folders, now + timedelta(days=2))  # the loop seems dead by then, too
    assert finding.subject == f"mailbox 'office' ({ONE})"
    assert "nobody has swept it since" in finding.message
    assert f"DELETE /mailboxes/{ONE}" in finding.remedy


# ------------------------------------------------------------------------------------------------------------ the log


def test_the_log_tells_once_what_is_wrong_and_when_it_is_over(
    service: SmallService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="maildaemon_http.lookout")

    def said() -> list[tuple[str, str, str]]:
        found = [(one.levelname, one.message, one.__dict__.get("subject", "")) for one in caplog.records]
        caplog.clear()
        return found

    service.daemon.adopt(ONE, options())
    service.daemon.start(service.catalog)
    lookout = Lookout(service.daemon, service.metrics.folders, clock=service.now)
    lookout.once()
    assert said() == []
    service.store.away = True
    for _ in range(3):
        lookout.once()
    assert said() == [("WARNING", "not as it should be", "store")]
    service.store.away = False
    lookout.once()
    assert said() == [("INFO", "as it should be again", "store")]
    lookout.once()
    assert said() == []


def test_a_mailbox_that_is_stuck_is_told_once_though_it_lasts(
    service: SmallService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="maildaemon_http.lookout")
    service.daemon.adopt(ONE, options(password="wrong"))
    service.daemon.start(service.catalog)
    later = iter(range(20, 40))
    lookout = Lookout(
        service.daemon, service.metrics.folders, clock=lambda: service.now() + timedelta(minutes=next(later))
    )
    for _ in range(3):
        lookout.once()
    told = [one.__dict__["subject"] for one in caplog.records]
    assert sorted(told) == [f"mailbox 'office' ({ONE})", "scheduler"]


def test_a_broken_plugin_is_named_and_one_of_ours_that_lacks_its_extra_is_not() -> None:
    service = SmallService(
        plugins=[
            EntryPoint(name="pigeon", value="no_such_module_of_pigeons:KIND", group=DESTINATIONS),
            EntryPoint(name="letter", value="json:loads", group=DESTINATIONS),
            EntryPoint(name="imap", value="no_such_module_of_ours:KIND", group=DESTINATIONS),
        ]
    )
    service.daemon.start(service.catalog)
    with service.client() as get:
        answer = get("/health/ready")
        probe = get("/health/ready?only=service")
    service.daemon.close(deadline=5)
    assert answer.status_code == 503
    found = {one["subject"]: one for one in answer.json()["findings"]}
    assert set(found) == {"destination 'pigeon'", "destination 'letter'"}
    assert {one["concerns"] for one in found.values()} == {"plug-in"}
    assert "no_such_module_of_pigeons" in found["destination 'pigeon'"]["message"]
    assert all(one["remedy"] for one in found.values())
    assert probe.status_code == 200


def test_a_broken_opener_is_named_like_any_plugin() -> None:
    service = SmallService(openers=[EntryPoint(name="crate", value="no_such_module_of_crates:OPENER", group=OPENERS)])
    service.daemon.start(service.catalog)
    with service.client() as get:
        answer = get("/health/ready")
    service.daemon.close(deadline=5)
    assert answer.status_code == 503
    (finding,) = answer.json()["findings"]
    assert (finding["concerns"], finding["subject"]) == ("plug-in", "opener 'crate'")
    assert "no_such_module_of_crates" in finding["message"]


def test_what_is_asked_for_must_be_known(service: SmallService) -> None:
    with service.client() as get:
        answer = get("/health/ready?only=mailboxes")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == "only"


def test_readiness_needs_the_scope_to_see_how_mailboxes_are(service: SmallService) -> None:
    with service.client() as get:
        assert get("/health/ready", **{"x-api-key": service.key(Scope.SWEEPS_RUN)}).status_code == 403
        assert get("/health/ready", **{"x-api-key": ""}).status_code == 401


# ------------------------------------------------------------------------------------------------------ of one mailbox


def test_a_mailbox_is_given_time_and_is_named_when_it_is_over() -> None:
    failing = watched(trouble=REFUSED, failures=3)
    assert finding_about(failing, NOON + timedelta(minutes=9)) is None
    finding = finding_about(failing, NOON + timedelta(minutes=42))
    assert finding is not None
    assert finding.message == (
        "no sweep has gone through since 2026-06-01 12:00:00 UTC (42 min): the server refuses the password"
    )
    assert finding.remedy == "correct it"


def test_a_sweep_that_has_fallen_silent_is_told_of_and_not_what_was_before() -> None:
    running = watched(running_since=NOON, heard=NOON + timedelta(minutes=5), trouble=REFUSED)
    assert finding_about(running, NOON + timedelta(minutes=50)) is None
    finding = finding_about(running, NOON + timedelta(minutes=6) + LONGEST_SILENCE)
    assert finding is not None
    assert "its sweep has done nothing since 2026-06-01 12:05:00 UTC" in finding.message
    assert "password" not in finding.message + finding.remedy
    assert f"POST /mailboxes/{ONE}/validate" in finding.remedy


def test_nobody_is_told_of_a_mailbox_that_is_not_to_be_swept_here() -> None:
    late = NOON + timedelta(days=30)
    assert finding_about(watched(active=False, trouble=REFUSED), late) is None
    assert finding_about(watched(active=False, trouble=REFUSED, next_due=None), late) is None


def test_without_a_known_trouble_there_is_a_remedy_all_the_same() -> None:
    finding = finding_about(watched(), NOON + timedelta(hours=30))
    assert finding is not None
    assert "(30 h)" in finding.message
    assert finding.remedy
