"""What every answer has, whoever gives it: a request id, the version of the API, a line in the log."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from maildaemon_core.access import without_secret
from maildaemon_http.api.problems import MEDIA_TYPE, Refused, refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

VERSION = "1.2"
"""The version of the API that is spoken."""

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered, for everything that is logged meanwhile."""

LONGEST_PATH = 300
"""Characters of a path that are logged: none of ours has half of them, and anybody can send long ones."""

_GIVEN = re.compile(r"[A-Za-z0-9._~+/=:-]{1,128}")
_ALWAYS = (
    (b"x-api-version", VERSION.encode()),
    (b"x-content-type-options", b"nosniff"),
)

logger = logging.getLogger("maildaemon_http.access")


class Frame:
    """An ASGI application around another one."""

    def __init__(self, inner: Asgi) -> None:
        self._inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request, or passes a lifespan on."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        given = header(scope, "x-request-id")
        request_id = given if given and _GIVEN.fullmatch(given) else uuid.uuid4().hex
        token = REQUEST_ID.set(request_id)
        scope.setdefault("state", {})["request_id"] = request_id
        began, status = time.perf_counter(), 0

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = {name.lower() for name, _ in message.get("headers", ())}
                more = [(b"x-request-id", request_id.encode()), *_ALWAYS]
                if b"cache-control" not in named:
                    more.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        try:
            await self._inner(scope, receive, framed)
        except Exception as error:
            if status:  # it is too late for another answer
                raise
            await answer_problem(framed, refusal(error), request_id)
        finally:
            key = scope["state"].get("key")
            path = _shortened(without_secret(scope["path"]))
            logger.info(
                "%s %s %s",
                scope["method"],
                path,  # without the query: people put anything there
                status,
                extra={
                    "method": scope["method"],
                    "path": path,
                    "status": status,
                    "milliseconds": round(1000 * (time.perf_counter() - began), 1),
                    "key": key.name if key else "",
                    "client": (scope.get("client") or ("",))[0],
                },
            )
            REQUEST_ID.reset(token)


def _shortened(path: str) -> str:
    return path if len(path) <= LONGEST_PATH else f"{path[:LONGEST_PATH]}… ({len(path)} characters)"


async def answer_problem(send: Send, problem: Refused, request_id: str) -> None:
    """Sends a problem document as the whole answer."""
    body = json.dumps(problem.document(request_id)).encode()
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    headers += [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.case.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def header(scope: Scope, name: str) -> str | None:
    """The header of this name, in lower case as ASGI has them."""
    wanted = name.encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), None)
