"""Who is let in: the API key of a request, its version of the API, and how guessing is slowed.

Nobody learns whether a key exists: every key that does not open is answered alike, after the same work.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio

from maildaemon_core.access import ApiKey, Scope, is_good, prefix_of
from maildaemon_core.errors import StoreUnavailable
from maildaemon_core.store_port import Keys
from maildaemon_http.api.frame import VERSION, Asgi, Message, Receive, answer_problem, header
from maildaemon_http.api.frame import Scope as Request
from maildaemon_http.api.problems import (
    FORBIDDEN,
    MALFORMED,
    NO_KEY,
    TIMED_OUT,
    TOO_MANY_GUESSES,
    UNKNOWN_VERSION,
    Refused,
    refusal,
)
from maildaemon_http.api.work import Work

USED_EVERY = timedelta(minutes=1)
"""The time of a key's last use is written no more often than this."""

REMEMBERED_SECONDS = 60.0
"""So long after it was looked up a key is good while the store cannot be asked."""

REMEMBERED = 10_000
"""So many addresses that have guessed are remembered."""

_CHALLENGE = {"WWW-Authenticate": 'ApiKey realm="maildaemon", Bearer realm="maildaemon"'}
_REMEDY = "send x-api-key: KEY, or Authorization: Bearer KEY; an operator makes one: maildaemon keys create NAME"


NOTED_SECONDS = 2.0
"""So long at most a request waits until it is written down that its key was used."""


class Gate:
    """An ASGI application that lets to another one only who shows a good key, or asks for what is ``open``.

    The rest of a request must come within ``body_seconds``.
    """

    def __init__(
        self,
        inner: Asgi,
        keys: Keys,
        work: Work,
        *,
        is_open: Callable[[str], bool],
        guesses: int,
        body_seconds: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._inner = inner
        self._keys = keys
        self._work = work
        self._is_open = is_open
        self._guesses = Guesses(guesses)
        self._body_seconds = body_seconds
        self._clock = clock
        self._used: dict[str, datetime] = {}
        self._good: dict[str, tuple[ApiKey, float]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers a request, or lets it through."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        if scope["type"] != "http":  # a web socket, of which there is none here
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            is_open = scope["method"] in {"GET", "HEAD"} and self._is_open(scope["path"])
            scope["state"]["key"] = None if is_open else await self._admitted(scope)
            asked = header(scope, "x-api-version")
            if asked is not None and asked != VERSION:
                raise Refused(
                    UNKNOWN_VERSION,
                    f"x-api-version {asked[:20]!r} is not spoken",
                    remedy=f"there is: {VERSION}; without the header it is {VERSION}",
                )
        except Exception as error:  # noqa: BLE001  (each becomes a problem document)
            await answer_problem(send, refusal(error), scope["state"]["request_id"])
            return
        await self._inner(scope, _InTime(receive, self._body_seconds), send)

    async def _admitted(self, scope: Request) -> ApiKey:
        shown = shown_key(scope)
        if not shown:
            raise Refused(NO_KEY, "no API key was sent", remedy=_REMEDY, headers=_CHALLENGE)
        now = self._clock()
        prefix = prefix_of(shown)
        kept = None if prefix is None else await self._kept(prefix, shown, now)
        if is_good(shown, kept, now=now) and kept is not None:
            await self._note_use(kept, now)
            return kept
        wait, refused = self._guesses.another((scope.get("client") or ("",))[0], time.monotonic())
        if refused:
            raise Refused(
                TOO_MANY_GUESSES,
                "too many wrong API keys came from this address",
                remedy="wait, and then use a key that is good",
                headers={"Retry-After": "60"},
            )
        await anyio.sleep(wait)
        raise Refused(NO_KEY, "the API key is not valid", remedy=_REMEDY, headers=_CHALLENGE)

    async def _kept(self, prefix: str, shown: str, now: datetime) -> ApiKey | None:
        """The key as the store has it, or had it a moment ago if it cannot be asked: who looks after the service must
        be told that.  Then only for who shows the very key: any other answer would tell which prefixes there are."""
        try:
            kept = await self._work.run(self._keys.key, prefix)
        except StoreUnavailable:
            known, at = self._good.get(prefix, (None, 0.0))
            if time.monotonic() - at > REMEMBERED_SECONDS or not is_good(shown, known, now=now):
                raise
            return known
        if kept is None:
            self._good.pop(prefix, None)
        else:
            self._good[prefix] = kept, time.monotonic()
        return kept

    async def _note_use(self, key: ApiKey, now: datetime) -> None:
        if now - self._used.get(key.prefix, now - USED_EVERY) >= USED_EVERY:
            self._used[key.prefix] = now
            with suppress(StoreUnavailable, Refused):  # what is only for people to know keeps nobody out
                await self._work.run(self._keys.key_used, key.prefix, now, seconds=NOTED_SECONDS)


class _InTime:
    """What is received of a request, up to the end of its body within so many seconds.  Raises ``Refused``."""

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._seconds = seconds
        self._deadline = anyio.current_time() + seconds
        self._over = False

    async def __call__(self) -> Message:
        if self._over:
            return await self._receive()
        with anyio.CancelScope(deadline=self._deadline):
            message = await self._receive()
            if message["type"] == "http.disconnect":  # nobody reads the answer, but it is no fault of the service
                raise Refused(MALFORMED, "the connection ended before the body did", remedy="send all of it")
            self._over = not message.get("more_body", False)
            return message
        raise Refused(
            TIMED_OUT, f"the body was not here within {self._seconds:g} s", remedy="send it faster, or less of it"
        )


class Guesses:
    """Wrong keys by address: each is answered later than the one before, and beyond ``limit`` a minute not at all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def another(self, address: str, now: float) -> tuple[float, bool]:
        """How many seconds the answer to one more has to wait, and whether there were too many; ``now`` in seconds."""
        place = _place(address)
        wrong = self._wrong.setdefault(place, deque(maxlen=self._limit + 1))
        self._wrong.move_to_end(place)
        while len(self._wrong) > REMEMBERED:
            self._wrong.popitem(last=False)
        while wrong and now - wrong[0] > 60:  # noqa: PLR2004  (a minute)
            wrong.popleft()
        wrong.append(now)
        return len(wrong) / self._limit, len(wrong) > self._limit


def needs(scope: Scope) -> Callable[[Any, Any], None]:
    """A guard: the key has this scope.  What is open needs none, and that only the gate can say."""

    def guard(connection: Any, _: Any) -> None:
        key: ApiKey | None = connection.scope["state"]["key"]
        if key is not None and not key.allows(scope):
            raise Refused(
                FORBIDDEN,
                f"the API key {key.name!r} has not the scope {scope}",
                remedy=f"use a key that has it: maildaemon keys create NAME --scope {scope}",
            )

    return guard


def without_key(paths: Collection[str]) -> Callable[[str], bool]:
    """Whether a path is one of these, exactly: what is below one, or begins like one, is not."""
    return lambda path: path in paths


def shown_key(scope: Any) -> str:
    """What a request shows as its API key, "" if nothing."""
    if given := (header(scope, "x-api-key") or "").strip():
        return given
    scheme, _, token = (header(scope, "authorization") or "").partition(" ")
    return token.strip() if scheme.casefold() == "bearer" else ""


def _place(address: str) -> str:
    """An address, or the network that one subscriber has of IPv6 (RFC 6177)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address  # noqa: PLR2004
