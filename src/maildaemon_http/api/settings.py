"""What an operator may set of the service: where it listens, what it allows, and how much of anything at once."""

from __future__ import annotations

import attrs

from maildaemon_core.options import Within


@attrs.frozen(kw_only=True)
class Limits:
    """How much of anything the API takes.

    ``body_bytes``: of a request.  ``list_items``: of any list in it.  ``page_items``: of one page of an answer.
    ``validations``: so many at once.  ``request_seconds``, ``validation_seconds``, ``wait_seconds``: how long an answer
    may take; that of a validation, and of a sweep that is waited for.  ``guesses``: wrong keys a minute from one
    address.
    """

    body_bytes: int = attrs.field(default=1 << 20, validator=Within(1024, 1 << 30))
    list_items: int = attrs.field(default=1000, validator=Within(1, 1_000_000))
    page_items: int = attrs.field(default=500, validator=Within(1, 10_000))
    validations: int = attrs.field(default=4, validator=Within(1, 1000))
    request_seconds: float = attrs.field(default=30.0, validator=Within(1, 3600))
    validation_seconds: float = attrs.field(default=180.0, validator=Within(1, 3600))
    wait_seconds: float = attrs.field(default=300.0, validator=Within(1, 3600))
    guesses: int = attrs.field(default=20, validator=Within(1, 1_000_000))


@attrs.frozen(kw_only=True)
class ApiSettings:
    """What the API is set to.  ``metrics_without_key``: whether ``/metrics`` is for everybody who can connect."""

    metrics_without_key: bool = False
    limits: Limits = Limits()
