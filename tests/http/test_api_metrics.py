"""What Prometheus is told is true, has no labels without bound, and comes though the store is away."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import attrs
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from maildaemon_core.access import Scope
from maildaemon_core.errors import Trouble
from maildaemon_core.message import FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import EntriesRecorded, SweepEnded, SweepReport, SweepStarted, SweepState
from maildaemon_core.progress import Artifact, Entry, EntryId, Receipt, Role, Stage
from maildaemon_http.api.metrics import takes
from maildaemon_http.api.series import MailboxSeries, Snapshot
from maildaemon_http.api.settings import ApiSettings
from tests.engine.story import mail
from tests.http.small_service import ONE, TWO, SmallService, options

OPEN_METRICS = "application/openmetrics-text; version=1.0.0, text/plain;version=0.0.4;q=0.5"


_read_open_metrics: Callable[[str], Any] = read_open_metrics


class Scrape:
    """The samples of an exposition, by name and labels."""

    def __init__(self, families: Any) -> None:
        self.families = list(families)
        self.samples = [sample for family in self.families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Of the only such sample."""
        (sample,) = [one for one in self.samples if one.name == name and labels.items() <= one.labels.items()]
        return float(sample.value)

    def labels(self, name: str) -> list[dict[str, str]]:
        return [dict(one.labels) for one in self.samples if one.name == name]


@pytest.fixture
def service() -> Iterator[SmallService]:
    made = SmallService()
    yield made
    made.daemon.close(deadline=5)


def scrape(service: SmallService) -> Scrape:
    with service.client() as get:
        answer = get("/metrics")
    assert answer.status_code == 200, answer.text
    return Scrape(read_text(answer.text))


def test_a_sweep_is_counted_with_its_mails_bytes_and_times(service: SmallService) -> None:
    service.daemon.adopt(ONE, options(max_message_bytes=2000))
    for subject in ("one", "two"):
        service.server.plant(mail(subject))
    service.server.plant(mail("large", text="x" * 3000))
    report = service.daemon.sweep_once(ONE)
    assert (report.counts.stored, report.counts.failed) == (2, 1)
    seen = scrape(service)
    of_one = {"mailbox": "office", "id": ONE}
    assert seen.value("maildaemon_sweeps_total", state="done", **of_one) == 1
    assert seen.value("maildaemon_sweeps_total", state="lost", **of_one) == 0
    assert seen.value("maildaemon_mails_total", outcome="stored", **of_one) == 2
    assert seen.value("maildaemon_mails_total", outcome="failed", **of_one) == 1
    assert seen.value("maildaemon_mails_total", outcome="skipped", **of_one) == 0
    size = sum(len(content) for content in service.place.visible.values())
    assert seen.value("maildaemon_stored_bytes_total", **of_one) == size
    assert seen.value("maildaemon_sweep_duration_seconds_count") == 1
    assert seen.value("maildaemon_delivery_latency_seconds_count") == 2
    assert 0 <= seen.value("maildaemon_delivery_latency_seconds_sum") < 60
    assert 0 <= seen.value("maildaemon_last_success_age_seconds", **of_one) < 60
    assert 0 < seen.value("maildaemon_next_sweep_seconds", **of_one) <= 66
    assert seen.value("maildaemon_failing_seconds", **of_one) == 0
    assert seen.value("maildaemon_backlog_mails", **of_one) == 0
    assert seen.value("maildaemon_store_up") == 1
    assert seen.value("maildaemon_scheduler_up") == 0
    assert seen.value("maildaemon_build_info") == 1
    assert seen.value("process_resident_memory_bytes") > 1e6


def test_a_mail_is_counted_once_however_often_it_is_recorded(service: SmallService) -> None:
    service.daemon.adopt(ONE, options(delete_mails_on_server=True, allowed_email_extensions=("firm.example",)))
    service.server.plant(mail("one"))
    service.server.plant(mail("unwanted", sender="eve@other.example"))
    for _ in range(3):
        assert service.daemon.sweep_once(ONE).well
    seen = scrape(service)
    assert seen.value("maildaemon_mails_total", outcome="stored") == 1
    assert seen.value("maildaemon_mails_total", outcome="skipped") == 1
    assert seen.value("maildaemon_mails_total", outcome="failed") == 0
    assert seen.value("maildaemon_sweeps_total", state="done") == 3


def test_a_mail_that_was_given_up_stays_a_metric_until_somebody_dismisses_it(service: SmallService) -> None:
    service.daemon.adopt(ONE, options(max_message_bytes=2000))
    service.server.plant(mail("large", text="x" * 3000))
    service.daemon.sweep_once(ONE)
    for _ in range(2):  # nothing counts it any more, and it is still there
        service.daemon.sweep_once(ONE)
        seen = scrape(service)
        assert seen.value("maildaemon_failed_mails", id=ONE, state="given up") == 1
        assert seen.value("maildaemon_failed_mails", id=ONE, state="retried") == 0
    service.daemon.dismiss(EntryId(1))
    assert scrape(service).value("maildaemon_failed_mails", id=ONE, state="given up") == 0


def test_folders_that_sweeps_go_past_are_counted(service: SmallService) -> None:
    service.daemon.adopt(ONE, options(folders=("INBOX", "Invoices", "Orders")))
    service.daemon.sweep_once(ONE)
    seen = scrape(service)
    assert seen.value("maildaemon_unread_folders", id=ONE) == 2
    assert seen.value("maildaemon_mailbox_stuck", id=ONE) == 0
    service.ago = timedelta(minutes=-11)
    service.daemon.sweep_once(ONE)
    assert scrape(service).value("maildaemon_mailbox_stuck", id=ONE) == 1


def test_a_mailbox_that_fails_shows_since_when(service: SmallService) -> None:
    service.ago = timedelta(hours=2)
    service.daemon.adopt(ONE, options(password="wrong"))
    service.daemon.sweep_once(ONE)
    service.ago = timedelta()
    seen = scrape(service)
    assert seen.value("maildaemon_sweeps_total", state="failed") == 1
    assert 7200 <= seen.value("maildaemon_failing_seconds") < 7300
    assert seen.value("maildaemon_last_success_age_seconds") == math.inf
    assert seen.value("maildaemon_next_sweep_seconds") < 0


def test_a_mailbox_that_is_stuck_is_1(service: SmallService) -> None:
    service.ago = timedelta(hours=2)
    service.daemon.adopt(ONE, options(password="wrong"))
    service.daemon.adopt(TWO, options(name="resting", active=False))
    service.daemon.start(service.catalog)
    service.ago = timedelta()
    seen = scrape(service)
    assert {one["id"] for one in seen.labels("maildaemon_mailbox_stuck")} == {ONE, TWO}
    assert seen.value("maildaemon_mailbox_stuck", id=TWO) == 0
    assert seen.value("maildaemon_mailbox_active", id=TWO) == 0
    assert [one["id"] for one in seen.labels("maildaemon_failing_seconds")] == [ONE]
    later = Snapshot(
        now=service.now() + timedelta(hours=1), infos=None, watched=service.daemon.watched(), last_tick=None
    )
    stuck = next(one for one in MailboxSeries(later, {}, {ONE: "office"}).collect() if "stuck" in one.name)
    assert [sample.value for sample in stuck.samples] == [1]


def test_a_store_that_is_away_is_a_metric_and_keeps_no_other_back(service: SmallService) -> None:
    service.daemon.adopt(ONE, options())
    service.server.plant(mail("one"))
    service.daemon.sweep_once(ONE)
    service.store.away = True
    seen = scrape(service)
    assert seen.value("maildaemon_store_up") == 0
    assert seen.value("maildaemon_mails_total", outcome="stored", mailbox="office") == 1
    assert seen.labels("maildaemon_backlog_mails") == []
    service.store.away = False
    assert scrape(service).value("maildaemon_store_up") == 1


def test_a_mailbox_that_is_gone_takes_its_series_with_it(service: SmallService) -> None:
    service.daemon.adopt(ONE, options())
    service.daemon.adopt(TWO, options(name="other", mailbox="two@our.example"))
    service.daemon.sweep_once(ONE)
    service.daemon.sweep_once(TWO)
    assert {one["id"] for one in scrape(service).labels("maildaemon_sweeps_total")} == {ONE, TWO}
    service.store.drop(ONE)
    seen = scrape(service)
    assert {one.labels["id"] for one in seen.samples if "id" in one.labels} == {TWO}
    service.daemon.adopt(ONE, options())
    assert scrape(service).value("maildaemon_sweeps_total", id=ONE, state="done") == 0


def test_a_name_may_be_anything(service: SmallService) -> None:
    name = 'a "quoted" \\ name ü'
    service.daemon.adopt(ONE, options(name=name))
    assert scrape(service).labels("maildaemon_backlog_mails") == [{"mailbox": name, "id": ONE}]


def test_requests_are_counted_by_operation_and_never_by_path(service: SmallService) -> None:
    with service.client() as get:
        for number in range(5):
            assert get(f"/monitoring/{number}x/nothing").status_code == 404
            assert get(f"/mailboxes/{TWO[:-1]}{number}").status_code == 404
        assert get("/kinds", **{"x-api-key": "md_wrong"}).status_code == 401
        seen = Scrape(read_text(get("/metrics").text))
    requests = "maildaemon_http_requests_total"
    assert seen.value(requests, operation="", method="GET", status="404") == 5
    assert seen.value(requests, operation="get_mailbox", method="GET", status="404") == 5
    assert seen.value(requests, operation="", method="GET", status="401") == 1
    assert seen.value("maildaemon_http_request_duration_seconds_count", operation="get_mailbox") == 5
    assert set().union(*seen.labels(requests)) == {"operation", "method", "status"}
    assert [one for one in seen.samples if TWO[:-1] in str(one.labels)] == []


def test_methods_that_somebody_has_made_up_are_one_series(service: SmallService) -> None:
    for method in ("BREW", "WHEN", "GET"):
        service.metrics.answered("", method, 405, 0.1)
    seen = scrape(service)
    methods = {one["method"] for one in seen.labels("maildaemon_http_requests_total")}
    assert methods == {"other", "GET"}


def test_validations_are_counted_by_result(service: SmallService) -> None:
    for status in (200, 200, 429, 504):
        service.metrics.answered("validate_mailbox", "POST", status, 1.0)
    service.metrics.answered("validate_options", "OPTIONS", 204, 1.0)
    seen = scrape(service)
    found = {one["result"]: seen.value("maildaemon_validations_total", **one)
             for one in seen.labels("maildaemon_validations_total")}  # fmt: skip
    assert found == {"done": 2, "refused": 1, "failed": 1}


def test_both_formats_can_be_read_and_hold_the_same(service: SmallService) -> None:
    service.daemon.adopt(ONE, options())
    service.server.plant(mail("one"))
    service.daemon.sweep_once(ONE)
    with service.client() as get:
        get("/metrics")
        plain, wanted = get("/metrics", accept="*/*"), get("/metrics", accept=OPEN_METRICS)
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert wanted.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    names = {one.name for one in Scrape(read_text(plain.text)).samples}
    assert names == {one.name for one in Scrape(_read_open_metrics(wanted.text)).samples}
    assert not [name for name in names if name.endswith("_created")]
    assert all(name.startswith(("maildaemon_", "process_")) for name in names)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("text/html, Application/OpenMetrics-Text ; version=9.9.9\x7f;escaping=x ;q=0.5", True),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.00", False),
        (";;,,;q", False),
    ],
)
def test_open_metrics_is_for_those_who_ask_for_it(accept: str, expected: bool) -> None:
    assert takes(accept, "application/openmetrics-text") is expected


def test_metrics_need_a_key_with_its_scope_unless_the_operator_says_otherwise(service: SmallService) -> None:
    with service.client() as get:
        assert get("/metrics", **{"x-api-key": ""}).status_code == 401
        assert get("/metrics", **{"x-api-key": service.key(Scope.SWEEPS_RUN)}).status_code == 403
        assert get("/metrics", **{"x-api-key": service.key(Scope.MONITORING_READ)}).status_code == 200
    generous = SmallService(settings=ApiSettings(metrics_without_key=True))
    with generous.client() as get:
        assert get("/metrics", **{"x-api-key": ""}).status_code == 200
    generous.daemon.close(deadline=5)


def test_two_services_of_one_process_count_apart(service: SmallService) -> None:
    other = SmallService()
    other.daemon.adopt(ONE, options())
    other.daemon.sweep_once(ONE)
    service.daemon.adopt(ONE, options())
    assert scrape(other).value("maildaemon_sweeps_total", state="done") == 1
    assert scrape(service).value("maildaemon_sweeps_total", state="done") == 0
    other.daemon.close(deadline=5)


# -------------------------------------------------------------------------------------- event by event


def entry(service: SmallService, number: int, stage: Stage, **others: Any) -> Entry:
    return Entry(
        **{
            "mailbox": ONE,
            "ref": MessageRef(folder=FolderRef("INBOX"), uidvalidity="1", uid=str(number)),
            "identity": Identity(fingerprint="y"),
            "key": "0123456789ab",
            "received": service.now(),
            "first_seen": service.now() - timedelta(days=1),
            "id": EntryId(number),
            "stage": stage,
            **others,
        }
    )


def report(service: SmallService, state: SweepState, mailbox: MailboxId = ONE) -> SweepReport:
    return SweepReport(mailbox=mailbox, state=state, started=service.now(), ended=service.now())


def test_a_mailbox_that_another_worker_took_over_counts_as_a_lost_lease(service: SmallService) -> None:
    service.daemon.adopt(ONE, options())
    for state in (SweepState.LOST, SweepState.BUSY, SweepState.LOST):
        service.metrics(SweepStarted(mailbox=ONE))
        service.metrics(SweepEnded(report=report(service, state)))
    seen = scrape(service)
    assert seen.value("maildaemon_leases_lost_total", id=ONE) == 2
    assert seen.value("maildaemon_sweep_duration_seconds_count") == 2  # nothing was done while it was busy


def test_what_a_sweep_only_records_once_more_is_not_counted_again(service: SmallService) -> None:
    service.daemon.adopt(ONE, options())
    trouble = Trouble(error="DestinationUnavailable", message="it is away")
    before, now = service.now() - timedelta(hours=1), service.now()
    service.metrics(SweepStarted(mailbox=ONE))
    later = service.now() + timedelta(hours=1)
    recorded = (
        entry(service, 1, Stage.SETTLED, last_tried=before),  # stored long ago, and tidied now
        entry(service, 2, Stage.WAITING, trouble=trouble, last_tried=before, due_at=now),  # let go of untried
        entry(service, 3, Stage.WAITING, trouble=trouble, last_tried=later, due_at=now),  # taken up, and let go of
        entry(service, 4, Stage.SET_ASIDE, last_tried=None),
        entry(service, 5, Stage.FOUND, last_tried=later),
    )
    service.metrics(EntriesRecorded(mailbox=ONE, entries=recorded))
    seen = scrape(service)
    assert [seen.value("maildaemon_mails_total", **one) for one in seen.labels("maildaemon_mails_total")] == [0, 0, 0]


def test_what_an_earlier_sweep_has_staged_counts_when_it_is_stored(service: SmallService) -> None:
    service.daemon.adopt(ONE, options())
    service.metrics(SweepStarted(mailbox=ONE))
    receipt = Receipt(size=100, at=service.now())
    file = Artifact(
        destination="one",
        place="memory:one",
        role=Role.MAIL,
        index=0,
        path="a.eml",
        size=100,
        sha256="",
        receipt=receipt,
    )
    stored = entry(service, 1, Stage.STORED, last_tried=service.now() - timedelta(days=1), artifacts=(file,))
    service.metrics(EntriesRecorded(mailbox=ONE, entries=(stored,)))
    service.metrics(EntriesRecorded(mailbox=ONE, entries=(attrs.evolve(stored, stage=Stage.SETTLED),)))
    service.metrics(SweepEnded(report=report(service, SweepState.DONE)))
    seen = scrape(service)
    assert seen.value("maildaemon_mails_total", outcome="stored") == 1
    assert seen.value("maildaemon_stored_bytes_total") == 100
    assert seen.value("maildaemon_delivery_latency_seconds_bucket", le="21600.0") == 0
    assert seen.value("maildaemon_delivery_latency_seconds_bucket", le="+Inf") == 1
