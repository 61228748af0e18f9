"""What handlers are given: the daemon, the catalog, the settings, and where blocking work is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from threading import BoundedSemaphore
from typing import Any, Final, Generic, TypeVar

import attrs
from litestar import Request, Response
from litestar.exceptions import SerializationException
from litestar.serialization import encode_json

from maildaemon_core.access import ApiKey
from maildaemon_core.engine.catalog import Catalog
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_http.api.settings import ApiSettings
from maildaemon_http.api.work import THREADS, Work

WAITERS: Final = 20
"""So many requests wait at once for the end of a sweep; others are told at once that it is to come."""

T = TypeVar("T")
Json = dict[str, Any]


@attrs.frozen(kw_only=True)
class Answer(Generic[T]):
    """What is answered; ``T`` is the class of the document.  None is an answer without a body."""

    document: Any = None
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def response(self) -> Response[Any]:
        content = None if self.document is None else encoded(self.document)
        return Response(content, status_code=self.status, headers=dict(self.headers), media_type="application/json")


def encoded(document: Any) -> bytes:
    """A document as JSON in UTF-8.

    What is no text, such as half a surrogate pair in the name of a file that an adapter tells of, becomes ``?``.
    """
    try:
        return encode_json(document)
    except (SerializationException, UnicodeEncodeError):
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


@attrs.frozen(kw_only=True)
class Service:
    """One for each application; ``validations`` bounds how many go on at once, ``waiters`` how many wait for sweeps.

    Both may take minutes: there are threads for them beyond those that all other requests have.
    """

    daemon: MailDaemon
    catalog: Catalog
    settings: ApiSettings
    work: Work
    validations: BoundedSemaphore
    waiters: BoundedSemaphore

    @classmethod
    def of(cls, daemon: MailDaemon, catalog: Catalog, settings: ApiSettings) -> Service:
        return cls(
            daemon=daemon,
            catalog=catalog,
            settings=settings,
            work=Work(settings.limits.request_seconds, threads=THREADS + settings.limits.validations + WAITERS),
            validations=BoundedSemaphore(settings.limits.validations),
            waiters=BoundedSemaphore(WAITERS),
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
