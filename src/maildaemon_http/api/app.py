"""The application: the operations behind their gate, in their frame."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.routes import HTTPRoute
from litestar.types import ControllerRouterHandler

from maildaemon_core.engine.catalog import Catalog
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_http.api import openapi, problems
from maildaemon_http.api.describing import described
from maildaemon_http.api.frame import Asgi, Frame
from maildaemon_http.api.gate import Gate, without_key
from maildaemon_http.api.health import Health
from maildaemon_http.api.kinds import Kinds
from maildaemon_http.api.mailboxes import Mailboxes
from maildaemon_http.api.metrics import Measured, Metrics, get_metrics
from maildaemon_http.api.monitoring import Monitoring
from maildaemon_http.api.page import OPEN_PATHS, installed_swagger, page_handlers
from maildaemon_http.api.problems import MEDIA_TYPE, Refused, refusal
from maildaemon_http.api.service import Service, encoded
from maildaemon_http.api.settings import ApiSettings
from maildaemon_http.api.work import Work


@get(
    "/openapi.json",
    summary="get this document",
    tags=["Service"],
    **described(None, answers={200: {"type": "object"}}),
)
async def get_document(request: Request[Any, Any, Any]) -> Response[Any]:
    """OpenAPI 3.1."""
    return Response(request.app.state.document, media_type="application/json")


HANDLERS: Sequence[ControllerRouterHandler] = (Mailboxes, Monitoring, Kinds, Health, get_metrics, get_document)
"""The operations."""

DEFAULTS = ApiSettings()


def create_app(
    daemon: MailDaemon, catalog: Catalog, settings: ApiSettings = DEFAULTS, *, metrics: Metrics | None = None
) -> Asgi:
    """The API as an ASGI application around a daemon that somebody else starts and closes.

    ``metrics``: those that are among the monitors of the daemon, so that they know what it does.
    """
    metrics = metrics or Metrics()
    service = Service.of(daemon, catalog, settings)
    made = openapi.document(HANDLERS, limits=settings.limits)
    inner = Litestar(
        [*HANDLERS, *page_handlers(installed_swagger())],
        state=State({"service": service, "metrics": metrics, "document": json.dumps(made).encode()}),
        exception_handlers={Exception: _answered},
        openapi_config=None,  # its own document and pages are not served
        before_send=[_allowing],
        request_max_body_size=settings.limits.body_bytes,
        logging_config=None,
    )
    open_paths = {"/health/live", *OPEN_PATHS, *(["/metrics"] if settings.metrics_without_key else [])}
    gate = Gate(
        inner,  # type: ignore[arg-type]  # Litestar's ASGI types are its own
        daemon.store,
        Work(settings.limits.request_seconds),  # of its own: whatever requests wait for, a key is looked up
        is_open=without_key(open_paths),
        guesses=settings.limits.guesses,
        body_seconds=settings.limits.request_seconds,
    )
    return Frame(Measured(gate, metrics))


def _answered(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    problem = refusal(_of_litestar(error))
    return Response(
        encoded(problem.document(request.scope["state"]["request_id"])),  # the frame has put it there
        status_code=problem.case.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


def _of_litestar(error: Exception) -> Exception:
    """What Litestar raises, as a problem of ours."""
    match error:
        case NotFoundException():
            return Refused(problems.NOT_FOUND, "there is nothing at this path", remedy="see /openapi.json for what is")
        case MethodNotAllowedException():
            return Refused(problems.NOT_ALLOWED, "the path does not know this method", headers=error.headers or {})
        case HTTPException(status_code=413):
            return Refused(problems.TOO_LARGE, "the body is larger than this service takes", remedy="send less")
        case HTTPException() if error.status_code < 500:  # noqa: PLR2004
            return Refused(problems.INVALID_PARAMETER, str(error.detail))
    return error


async def _allowing(message: Any, scope: Any) -> None:
    """Litestar answers OPTIONS with the methods of a half-built route; here are all of them (RFC 9110 §10.2.1)."""
    if message["type"] != "http.response.start" or scope.get("method") != "OPTIONS" or "path_template" not in scope:
        return
    for route in scope["litestar_app"].routes:
        if isinstance(route, HTTPRoute) and scope["path_template"] in {route.path_format, route.path}:
            allow = ", ".join(sorted(route.methods)).encode()
            message["headers"] = [pair for pair in message["headers"] if pair[0] != b"allow"] + [(b"allow", allow)]
