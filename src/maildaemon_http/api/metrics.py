"""What Prometheus is told: what this process did, which requests it answered, and how the mailboxes are."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Any, Final

import attrs
from litestar import Request, Response, get
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from maildaemon_core.access import Scope
from maildaemon_core.errors import MaildaemonError
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import (
    EntriesRecorded,
    EntryQuery,
    Event,
    MailboxInfo,
    SweepEnded,
    SweepStarted,
    SweepState,
)
from maildaemon_core.progress import Entry, EntryId, Outcome
from maildaemon_http.api import problems
from maildaemon_http.api.describing import described
from maildaemon_http.api.frame import Asgi, Message
from maildaemon_http.api.problems import Refused
from maildaemon_http.api.series import PREFIX, MailboxSeries, Snapshot, Tally
from maildaemon_http.api.service import Service, service_of
from maildaemon_http.findings import FolderWatch

STORE_SECONDS = 5.0
"""So long a scrape waits for the store; Prometheus itself waits 10 seconds unless told otherwise."""

FAILED_AT_MOST: Final = 500
"""So many failed mails are counted in one scrape: that there are any is what matters."""

TEXT: Final = "text/plain; version=0.0.4"
"""Litestar says that it is UTF-8, as of any text."""

OPEN_METRICS: Final = "application/openmetrics-text"

_SWEEP_SECONDS: Final = (0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800)
_DELIVERY_SECONDS: Final = (0.3, 1, 3, 10, 30, 60, 300, 900, 3600, 21600, 86400)
_REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_VALIDATIONS: Final = frozenset({"validate_mailbox", "validate_options"})
_CLIENT_FAULT, _SERVER_FAULT = 400, 500


@attrs.define
class _Sweep:
    """A sweep that goes on: since when, and which of its mails were counted."""

    began: datetime
    counted: dict[Outcome, set[EntryId | None]] = attrs.field(factory=lambda: {each: set() for each in Outcome})


class Metrics:
    """A monitor of the daemon that also counts requests, and writes both down beside a snapshot of the mailboxes.

    Each has a registry of its own, so that several can live in one process.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.clock = clock
        self.folders = FolderWatch(clock)
        self._lock = Lock()
        self._sweeps: dict[MailboxId, _Sweep] = {}
        self._tallies: dict[MailboxId, Tally] = {}
        self._names: dict[MailboxId, str] = {}
        self._registry = registry = CollectorRegistry()
        self._durations = Histogram(
            f"{PREFIX}sweep_duration_seconds", "How long sweeps took.", buckets=_SWEEP_SECONDS, registry=registry
        )
        self._latencies = Histogram(
            f"{PREFIX}delivery_latency_seconds",
            "How long it took from when a mail was first seen until it was stored at every destination.",
            buckets=_DELIVERY_SECONDS,
            registry=registry,
        )
        self._requests = Counter(
            f"{PREFIX}http_requests",
            "Requests that were answered; operation is empty for those that reached none.",
            ["operation", "method", "status"],
            registry=registry,
        )
        self._answering = Histogram(
            f"{PREFIX}http_request_duration_seconds",
            "How long it took to answer requests.",
            ["operation", "method"],
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self._validations = Counter(
            f"{PREFIX}validations",
            "Validations by result: done, whatever they found, refused, or failed.",
            ["result"],
            registry=registry,
        )
        for result in ("done", "refused", "failed"):
            self._validations.labels(result)
        ProcessCollector(registry=registry)
        registry.register(_Build())

    def __call__(self, event: Event, /) -> None:
        """Counts what an event tells."""
        self.folders(event)
        with self._lock:
            match event:
                case SweepStarted(mailbox=mailbox):
                    self._sweeps[mailbox] = _Sweep(self.clock())
                case EntriesRecorded(mailbox=mailbox, entries=entries) if mailbox in self._sweeps:
                    for entry in entries:
                        self._count(self._sweeps[mailbox], entry)
                case SweepEnded(report=report):
                    self._sweeps.pop(report.mailbox, None)
                    self._tally(report.mailbox).sweeps[report.state] += 1
                    if report.state is not SweepState.BUSY:
                        self._durations.observe(max((report.ended - report.started).total_seconds(), 0))

    def _count(self, sweep: _Sweep, entry: Entry) -> None:
        """Counts a mail if it was this sweep that decided: what is only recorded once more was counted before."""
        outcome, now = entry.outcome, self.clock()
        if outcome is Outcome.PENDING or entry.id in sweep.counted[outcome]:
            return
        receipts = [artifact.receipt for artifact in entry.artifacts if artifact.receipt]
        decided = [entry.last_tried or entry.first_seen]
        if outcome is Outcome.STORED:  # perhaps an earlier sweep has staged it
            decided += (receipt.at for receipt in receipts)
        if max(decided) < sweep.began:
            return
        if outcome is Outcome.FAILED and entry.due_at is not None and entry.due_at <= now:
            return  # let go of untried, for something else was in the way
        sweep.counted[outcome].add(entry.id)
        tally = self._tally(entry.mailbox)
        tally.mails[outcome] += 1
        if outcome is Outcome.STORED:
            tally.bytes += sum(receipt.size for receipt in receipts)
            self._latencies.observe(max((now - entry.first_seen).total_seconds(), 0))

    def _tally(self, mailbox: MailboxId) -> Tally:
        return self._tallies.setdefault(mailbox, Tally())

    def answered(self, operation: str, method: str, status: int, seconds: float) -> None:
        """Counts a request; ``operation`` is its name in the document of the API, "" if it reached none."""
        method = method if method in _METHODS else "other"  # anybody can think of more
        self._requests.labels(operation, method, str(status)).inc()
        self._answering.labels(operation, method).observe(seconds)
        if operation in _VALIDATIONS and method == "POST":
            result = "failed" if status >= _SERVER_FAULT else "refused" if status >= _CLIENT_FAULT else "done"
            self._validations.labels(result).inc()

    def written(self, snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
        """Everything in the format that suits the header ``Accept``, and the media type of that.

        The text format 0.0.4 is read by whatever reads metrics; OpenMetrics 1.0.0 is for those who ask for it.
        """
        together = _Together([self._registry, self._of_mailboxes(snapshot)])
        if takes(accept, OPEN_METRICS):
            return openmetrics.generate_latest(together), openmetrics.CONTENT_TYPE_LATEST  # type: ignore[no-untyped-call]
        return generate_latest(together), TEXT

    def _of_mailboxes(self, snapshot: Snapshot) -> MailboxSeries:
        """Of those that there are: what is gone is forgotten, once the store says so."""
        with self._lock:
            if snapshot.infos is None:
                self._names |= {one.mailbox: one.label for one in snapshot.watched if one.mailbox not in self._names}
            else:
                self._names = {info.mailbox: info.name for info in snapshot.infos}
                for mailbox in self._tallies.keys() - self._names.keys():
                    del self._tallies[mailbox]
            tallies = {mailbox: tally.copy() for mailbox, tally in self._tallies.items()}
            return MailboxSeries(snapshot, tallies, dict(self._names))


class Measured:
    """An ASGI application around another one, of which every answer is counted."""

    def __init__(self, inner: Asgi, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Passes a request on, and counts how it was answered."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        began, status = time.perf_counter(), _SERVER_FAULT  # that is what the frame answers if nobody else does

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._inner(scope, receive, counted)
        finally:
            operation = _operation(scope)
            self._metrics.answered(operation, scope["method"], status, time.perf_counter() - began)


def _operation(scope: Any) -> str:
    """What the document of the API calls it: Litestar leaves the handler that it has found in the scope."""
    handler = scope.get("route_handler")
    return "" if handler is None else str(handler.handler_name).rpartition(".")[2]


@get(
    "/metrics",
    summary="get the metrics for Prometheus",
    tags=["Service"],
    **described(Scope.MONITORING_READ, answers={200: ("text/plain", "application/openmetrics-text")}),
)
async def get_metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """In the text format 0.0.4, or as OpenMetrics 1.0.0 if ``Accept`` asks for that."""
    service = service_of(request)
    metrics: Metrics = request.app.state.metrics
    kept = await _kept(service)
    content, media_type = await service.work.run(_written, service, metrics, kept, request.headers.get("accept", ""))
    return Response(content, media_type=media_type)


Kept = tuple[Sequence[MailboxInfo], Sequence[Entry]]
"""How the mailboxes are, and the newest mails that have failed."""


async def _kept(service: Service) -> Kept | None:
    """None while the store is away: that is a metric, too."""
    try:
        return await service.work.run(_ask, service, seconds=STORE_SECONDS)
    except MaildaemonError:
        return None
    except Refused as error:
        if error.case is not problems.TIMED_OUT:
            raise
        return None


def _ask(service: Service) -> Kept:
    daemon = service.daemon
    failed = EntryQuery(outcome=Outcome.FAILED, limit=FAILED_AT_MOST)
    return daemon.infos(), daemon.entries(failed).entries


def _written(service: Service, metrics: Metrics, kept: Kept | None, accept: str) -> tuple[bytes, str]:
    daemon = service.daemon
    watched = daemon.watched()
    snapshot = Snapshot(
        now=metrics.clock(),
        infos=None if kept is None else kept[0],
        watched=watched,
        last_tick=daemon.last_tick,
        failed=() if kept is None else kept[1],
        unread={each.mailbox: metrics.folders.of(each.mailbox) for each in watched},
    )
    return metrics.written(snapshot, accept)


def takes(accept: str, media_type: str) -> bool:
    """Whether a header ``Accept`` names this media type, and not with ``q=0`` (RFC 9110 §12.5.1)."""
    for offer in accept.split(","):
        name, *parameters = (part.strip().casefold() for part in offer.split(";"))
        if name == media_type:
            return not any(one.startswith("q=") and not one[2:].strip("0.") for one in parameters)
    return False


class _Build(Collector):
    """Which release runs, upon which Python."""

    def collect(self) -> Iterable[Metric]:
        try:
            release = version("maildaemon")
        except PackageNotFoundError:  # it runs from a folder that nobody has installed
            release = ""
        yield InfoMetricFamily(
            f"{PREFIX}build", "What runs.", {"version": release, "python": platform.python_version()}
        )


@attrs.frozen
class _Together(Collector):
    """Several collectors as one, without the times at which each series came about, which would double them."""

    parts: Sequence[Collector | MailboxSeries]

    def collect(self) -> Iterator[Metric]:
        for part in self.parts:
            for metric in part.collect():
                metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
                yield metric
