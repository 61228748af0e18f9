"""``Idempotency-Key``: a request that is sent again is answered as it was, and carried out once."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from litestar import Request

from maildaemon_core.errors import MaildaemonError, StoreUnavailable
from maildaemon_core.message import MailboxId
from maildaemon_core.store_port import Repeat, Repeats
from maildaemon_http.api.gate import shown_key
from maildaemon_http.api.problems import INVALID_PARAMETER, KEY_IN_USE, KEY_REUSED, FieldFault, Refused
from maildaemon_http.api.service import Answer, key_name

T = TypeVar("T")

REMEMBERED = timedelta(days=1)
"""How long an answer is kept for being given again."""

ABANDONED = timedelta(seconds=60)
"""A request that has no answer after this time was broken off, and may be carried on by whoever repeats it."""

LONGEST_KEY = 255
FORGOTTEN_AT_ONCE = 100


def once(
    store: Repeats,
    request: Request[Any, Any, Any],
    body: bytes,
    act: Callable[[MailboxId, bool], Answer[T]],
    *,
    chosen: Callable[[], MailboxId],
) -> Answer[T]:
    """The answer of ``act``, or the one that it gave when the request came for the first time.

    ``act`` is told whether the request was broken off before.  ``chosen`` is the id of a mailbox that may be made; it
    is chosen before anything is done, and the same in every repetition, so that one that was broken off makes no other
    mailbox.  Without the header nothing is remembered.

    Raises ``Refused``.
    """
    given = request.headers.get("idempotency-key")
    if given is None:
        return act(chosen(), False)
    if not (1 <= len(given) <= LONGEST_KEY and given.isascii() and given.isprintable()):
        fault = FieldFault(path="Idempotency-Key", message=f"must be 1 to {LONGEST_KEY} printable characters of ASCII")
        raise Refused(INVALID_PARAMETER, "a header is not acceptable", errors=[fault])
    now = datetime.now(UTC)
    store.forget_repeats(now - REMEMBERED, limit=FORGOTTEN_AT_ONCE)
    asked = Repeat(
        key=_digest(key_name(request), request.method, request.url.path, given),
        request=_sealed(shown_key(request.scope), str(request.url.query), _canonical(body)),
        mailbox=chosen(),
        at=now,
    )
    first = store.begin(asked)
    if first is not None:
        if first.request != asked.request:
            raise Refused(KEY_REUSED, "another request had this Idempotency-Key", remedy="use a new one for each")
        if first.answer is not None:
            kept = first.answer
            again = {**kept["headers"], "Idempotency-Replayed": "true"}
            return Answer(document=kept["document"], status=kept["status"], headers=again)
        if now - first.at < ABANDONED:
            raise Refused(
                KEY_IN_USE, "it has not been answered yet", remedy="send it again later", headers={"Retry-After": "5"}
            )
    try:
        answer = act((first or asked).mailbox, first is not None)
    except (Refused, MaildaemonError) as error:
        # Nothing was done: what is corrected may be sent with the same key.  Unless the store went away, which may have
        # done it, or whoever began this has not ended.
        if first is None and not isinstance(error, StoreUnavailable):
            store.withdraw(asked.key)
        raise
    store.answer(asked.key, {"document": answer.document, "status": answer.status, "headers": dict(answer.headers)})
    return answer


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _sealed(key: str, *parts: str) -> str:
    """A digest that only whoever has the API key could make: of a body with a weak password, too."""
    return hmac.new(key.encode(), json.dumps(parts).encode(), "sha256").hexdigest()


def _canonical(body: bytes) -> str:
    """One text for bodies that say the same."""
    try:
        return json.dumps(json.loads(body), sort_keys=True)
    except (ValueError, RecursionError):
        return body.hex()
