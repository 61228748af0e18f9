"""How the service itself is: whether it lives, whether it does what it is for, its document."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import attrs
from litestar import Controller, Request, Response, get

from maildaemon_core import codec
from maildaemon_core.access import Scope
from maildaemon_core.engine.plugins import Registry, installed_stores
from maildaemon_core.engine.watched import Watched, is_dead, is_stuck
from maildaemon_core.errors import BrokenPlugin, MaildaemonError
from maildaemon_core.message import MailboxId
from maildaemon_http.api import asking, problems
from maildaemon_http.api.describing import described
from maildaemon_http.api.problems import Refused
from maildaemon_http.api.service import Answer, Service, service_of

STORE_SECONDS = 5.0
"""The store answers the smallest question within this time, or it is as good as away."""

NOBODY = MailboxId("00000000-0000-0000-0000-000000000000")
"""No mailbox has this id (RFC 9562 §5.9)."""

Asked = Request[Any, Any, Any]


@attrs.frozen(kw_only=True)
class Liveness:
    """The process answers."""

    status: Literal["alive"]


@attrs.frozen(kw_only=True)
class HealthFinding:
    """Something that is not as it should be.

    ``concerns``: ``service`` is what everything needs, the store and the loop that begins the sweeps; a mailbox or a
    plug-in harms no other.  ``subject`` names it, ``remedy`` says what to do about it.
    """

    concerns: Literal["service", "plug-in", "mailbox"]
    subject: str
    message: str
    remedy: str


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
        sweeps, broken plug-ins, mailboxes that make no progress."""
        service = service_of(request)
        query = asking.query(ReadyQuery, list(request.query_params.multi_items()))
        findings = await _of_store(service)
        findings += await service.work.run(findings_of, service, datetime.now(UTC), query)
        made = Readiness(status="not ready" if findings else "ready", findings=tuple(findings))
        return Answer[Readiness](document=codec.write(made), status=503 if findings else 200).response()


async def _of_store(service: Service) -> list[HealthFinding]:
    try:
        await service.work.run(service.daemon.store.configuration, NOBODY, seconds=STORE_SECONDS)
    except MaildaemonError as error:
        message, remedy = error.message, error.remedy
    except Refused as error:
        if error.case is not problems.TIMED_OUT:
            raise
        message, remedy = f"it gave no answer within {STORE_SECONDS:g} s", ""
    else:
        return []
    remedy = remedy or "see whether the database runs and has room; the service goes on by itself when it answers again"
    return [HealthFinding(concerns="service", subject="store", message=message, remedy=remedy)]


def findings_of(service: Service, now: datetime, query: ReadyQuery = ReadyQuery()) -> list[HealthFinding]:
    """Everything that is in the way but the store."""
    daemon = service.daemon
    found = [*_of_scheduler(daemon.last_tick, now)]
    if query.only is None:
        found += _of_plugins("source", daemon.sources)
        found += _of_plugins("destination", daemon.destinations)
        found += _of_plugins("store", installed_stores())
        found += (one for watched in daemon.watched() if (one := finding_about(watched, now)) is not None)
    return found


def _of_scheduler(last_tick: datetime | None, now: datetime) -> Iterator[HealthFinding]:
    if last_tick is None:
        message = "it was not started: nothing is swept by itself"
        remedy = "start the service with maildaemon serve; a program that embeds it calls MailDaemon.start"
    elif is_dead(last_tick, now):
        message = f"it has not looked around since {_moment(last_tick)}: no sweep begins any more"
        remedy = "start the service again, nothing is lost by that; its log tells why, which is worth a report"
    else:
        return
    yield HealthFinding(concerns="service", subject="scheduler", message=message, remedy=remedy)


def _of_plugins(noun: str, registry: Registry[Any]) -> Iterator[HealthFinding]:
    """Broken ones.  That a package is not installed which one of ours needs is the choice of who installed it; if a
    mailbox needs it, that mailbox says so."""
    for name in registry.names():
        try:
            registry.kind(name)
        except BrokenPlugin as error:
            if not isinstance(error.__cause__, ModuleNotFoundError) or "maildaemon[" not in error.remedy:
                yield HealthFinding(
                    concerns="plug-in", subject=f"{noun} {name!r}", message=error.message, remedy=error.remedy
                )


def finding_about(watched: Watched, now: datetime) -> HealthFinding | None:
    """Why a mailbox makes no progress, if it should and does not."""
    trouble = watched.trouble
    if watched.active and watched.next_due is None and watched.running_since is None and trouble is not None:
        message = f"it cannot be swept: {trouble.message}"
    elif not is_stuck(watched, now):
        return None
    elif watched.running_since is not None:
        heard = watched.heard or watched.running_since
        message = f"its sweep has done nothing since {_moment(heard)} ({_for(now - heard)})"
        trouble = None  # that of the sweep before
    else:
        message = f"no sweep has gone through since {_moment(watched.since)} ({_for(now - watched.since)})"
        message += f": {trouble.message}" if trouble else ""
    remedy = (trouble.remedy if trouble else "") or (
        "POST /mailboxes/{uuid}/validate tells what works and what does not; the log names this mailbox"
    )
    return HealthFinding(
        concerns="mailbox",
        subject=f"mailbox {watched.label!r} ({watched.mailbox})",
        message=message,
        remedy=remedy.replace("{uuid}", watched.mailbox),
    )


def _moment(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _for(lasting: timedelta) -> str:
    minutes = int(lasting.total_seconds() // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"  # noqa: PLR2004
