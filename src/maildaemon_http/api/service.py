"""What handlers are given: the daemon, the catalog, the settings, and where blocking work is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import BoundedSemaphore
from typing import Any, Generic, TypeVar

import attrs
from litestar import Request, Response

from maildaemon_core.access import ApiKey
from maildaemon_core.engine.catalog import Catalog
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_http.api.settings import ApiSettings
from maildaemon_http.api.work import Work

T = TypeVar("T")
Json = dict[str, Any]


@attrs.frozen(kw_only=True)
class Answer(Generic[T]):
    """What is answered; ``T`` is the class of the document.  None is an answer without a body."""

    document: Any = None
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def response(self) -> Response[Any]:
        return Response(
            self.document, status_code=self.status, headers=dict(self.headers), media_type="application/json"
        )


@attrs.frozen(kw_only=True)
class Service:
    """One for each application; ``validations`` bounds how many go on at once."""

    daemon: MailDaemon
    catalog: Catalog
    settings: ApiSettings
    work: Work
    validations: BoundedSemaphore

    @classmethod
    def of(cls, daemon: MailDaemon, catalog: Catalog, settings: ApiSettings) -> Service:
        return cls(
            daemon=daemon,
            catalog=catalog,
            settings=settings,
            work=Work(settings.limits.request_seconds),
            validations=BoundedSemaphore(settings.limits.validations),
        )

    async def answer(
        self, act: Callable[..., Answer[Any]], *arguments: Any, seconds: float | None = None
    ) -> Response[Any]:
        """The response that ``act`` makes in a thread."""
        made = await self.work.run(act, *arguments, seconds=seconds)
        return made.response()


def service_of(request: Request[Any, Any, Any]) -> Service:
    service: Service = request.app.state.service
    return service


def key_name(request: Request[Any, Any, Any]) -> str:
    """Who asks."""
    key: ApiKey = request.scope["state"]["key"]
    return key.name
