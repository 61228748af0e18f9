"""How the service itself is: whether it lives, whether it does what it is for, its document."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import attrs
from litestar import Controller, Request, Response, get

from maildaemon_core import codec
from maildaemon_core.access import Scope
from maildaemon_core.errors import MaildaemonError
from maildaemon_http.api import asking, problems
from maildaemon_http.api.describing import described
from maildaemon_http.api.metrics import Metrics
from maildaemon_http.api.problems import Refused
from maildaemon_http.api.service import Answer, Service, service_of
from maildaemon_http.findings import NOBODY, HealthFinding, findings_of, of_store

STORE_SECONDS = 5.0
"""The store answers the smallest question within this time, or it is as good as away."""

Asked = Request[Any, Any, Any]


@attrs.frozen(kw_only=True)
class Liveness:
    """The process answers."""

    status: Literal["alive"]


@attrs.frozen(kw_only=True)
class Readiness:
    """Whether the service does what it is for, and if not, everything that is in the way."""

    status: Literal["ready", "not ready"]
    findings: tuple[HealthFinding, ...]


@attrs.frozen(kw_only=True)
class ReadyQuery:
    """``only``: ``service`` for whoever would start the service anew or send requests elsewhere if it is not ready,
    which helps neither a mailbox nor a plug-in."""

    only: Literal["service"] | None = None


class Health(Controller):
    """For whoever watches the service."""

    path = "/health"
    tags = ("Service",)

    @get("/live", summary="tell that the process lives", **described(None, public=True, answers={200: Liveness}))
    async def live(self) -> Response[Any]:
        """Needs no key, and looks at nothing else."""
        return Answer[Liveness](document={"status": "alive"}).response()

    @get(
        "/ready",
        summary="tell whether everything makes progress",
        **described(Scope.MONITORING_READ, query=ReadyQuery, answers={200: Readiness, 503: Readiness}),
    )
    async def ready(self, request: Asked) -> Response[Any]:
        """200 if so; else 503 with everything that is in the way, each named: the store, the loop that begins the
        sweeps, broken plug-ins, mailboxes and folders that make no progress."""
        service = service_of(request)
        query = asking.query(ReadyQuery, list(request.query_params.multi_items()))
        findings = await _of_store(service)
        metrics: Metrics = request.app.state.metrics
        findings += await service.work.run(_findings, service, metrics, query)
        made = Readiness(status="not ready" if findings else "ready", findings=tuple(findings))
        return Answer[Readiness](document=codec.write(made), status=503 if findings else 200).response()


async def _of_store(service: Service) -> list[HealthFinding]:
    try:
        await service.work.run(service.daemon.store.configuration, NOBODY, seconds=STORE_SECONDS)
    except MaildaemonError as error:
        return [of_store(error.message, error.remedy)]
    except Refused as error:
        if error.case is not problems.TIMED_OUT:
            raise
        return [of_store(f"it gave no answer within {STORE_SECONDS:g} s")]
    return []


def _findings(service: Service, metrics: Metrics, query: ReadyQuery) -> list[HealthFinding]:
    return findings_of(service.daemon, metrics.folders, datetime.now(UTC), all_of_it=query.only is None)
