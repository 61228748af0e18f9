"""Errors as problem documents (RFC 9457): one table from what went wrong to status, type and title."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import attrs

from maildaemon_core import codec
from maildaemon_core.engine.catalog import UnknownMailbox
from maildaemon_core.errors import (
    InvalidOptions,
    LeaseLost,
    MaildaemonError,
    NoMasterKey,
    Permanent,
    Rival,
    Sealed,
    StaleVersion,
    StillPending,
    StoreUnavailable,
    Transient,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:maildaemon:problem:"


@attrs.frozen(kw_only=True)
class FieldFault:
    """One fault of what was sent: ``path`` is written like ``$.destinations[0].url``, ``$`` alone is all of it."""

    path: str
    message: str


@attrs.frozen(kw_only=True)
class Problem:
    """What went wrong (RFC 9457).

    ``type`` never changes and is what programs go by; ``detail`` names the thing, ``remedy`` says what to do about it;
    ``errors`` are all faults of what was sent; ``request_id`` finds the request in the log.
    """

    type: str
    title: str
    status: int
    detail: str
    remedy: str
    errors: tuple[FieldFault, ...]
    request_id: str


@attrs.frozen
class Case:
    """A kind of problem: its name in ``type``, the status, and a title that is always the same."""

    name: str
    status: int
    title: str

    @property
    def type(self) -> str:
        return PREFIX + self.name


MALFORMED = Case("malformed-json", 400, "The body is not JSON")
UNKNOWN_VERSION = Case("unknown-version", 400, "This version of the API is not spoken")
INVALID_PARAMETER = Case("invalid-parameter", 400, "A parameter is not acceptable")
NO_KEY = Case("no-valid-key", 401, "A valid API key is needed")
FORBIDDEN = Case("scope-missing", 403, "The API key is not for this")
NOT_FOUND = Case("not-found", 404, "There is no such thing")
UNKNOWN_ENTRY = Case("unknown-entry", 404, "There is no such mail")
NOT_ALLOWED = Case("method-not-allowed", 405, "This cannot be done with that")
FROM_FILE = Case("from-configuration-file", 409, "The configuration file of the service says this")
KEY_IN_USE = Case("idempotency-key-in-use", 409, "The same request is being worked on")
TOO_LARGE = Case("body-too-large", 413, "The body is too large")
UNSUPPORTED = Case("unsupported-media-type", 415, "The body must be JSON")
KEY_REUSED = Case("idempotency-key-reused", 422, "This Idempotency-Key belongs to another request")
UNKNOWN_CURSOR = Case("unknown-cursor", 422, "The cursor is none of this list")
LIST_TOO_LONG = Case("list-too-long", 422, "A list is too long")
TOO_MANY_GUESSES = Case("too-many-guesses", 429, "Too many wrong API keys")
TOO_MANY_VALIDATIONS = Case("too-many-validations", 429, "Too many validations at once")
INTERNAL = Case("internal-error", 500, "Something unexpected happened")
TIMED_OUT = Case("timed-out", 504, "It took too long")

CASES: Mapping[type[MaildaemonError], Case] = {
    InvalidOptions: Case("invalid-options", 422, "The options cannot be used"),
    UnknownMailbox: Case("unknown-mailbox", 404, "There is no such mailbox"),
    StaleVersion: Case("stale-version", 412, "The configuration is not the one that was meant"),
    NoMasterKey: Case("no-master-key", 409, "The service has no master key"),
    Sealed: Case("sealed-secret", 409, "A stored secret does not open"),
    Rival: Case("rival-mailbox", 409, "Another configuration has this account"),
    LeaseLost: Case("mailbox-busy", 409, "The mailbox is being worked on"),
    StillPending: Case("still-pending", 409, "Nothing was decided about this mail yet"),
    StoreUnavailable: Case("store-unavailable", 503, "The store cannot be used just now"),
    Transient: Case("unavailable", 503, "Something that is needed cannot be reached just now"),
    Permanent: Case("refused", 409, "This cannot be done"),
}
"""What the core raises; a class that is not here is what the nearest class above it is."""


def of_error(name: str) -> Case:
    """The kind of problem that an error of this class is."""
    return next(case for cls, case in CASES.items() if cls.__name__ == name)


RETRY_SECONDS = 5
"""How long to wait before a request that failed for want of something that may come back is sent again."""


class Refused(Exception):
    """A request that is answered with a problem."""

    def __init__(
        self,
        case: Case,
        detail: str,
        *,
        remedy: str = "",
        errors: Sequence[FieldFault] = (),
        headers: Mapping[str, str] = {},
    ) -> None:
        super().__init__(detail)
        self.case = case
        self.detail = detail
        self.remedy = remedy
        self.errors = tuple(errors)
        self.headers = dict(headers)

    def document(self, request_id: str) -> dict[str, Any]:
        """The problem document."""
        document: dict[str, Any] = codec.write(
            Problem(
                type=self.case.type,
                title=self.case.title,
                status=self.case.status,
                detail=self.detail,
                remedy=self.remedy,
                errors=self.errors,
                request_id=request_id,
            )
        )
        return document


def refusal(error: Exception) -> Refused:
    """The problem that an error is for whoever asked; of what was not expected only its class is told."""
    if isinstance(error, Refused):
        return error
    if not isinstance(error, MaildaemonError):
        logger.error("something unexpected happened", exc_info=error)
        remedy = "the log of the service has more under this requestId; report it"
        return Refused(INTERNAL, f"something unexpected happened ({type(error).__name__})", remedy=remedy)
    case = next(CASES[cls] for cls in type(error).__mro__ if cls in CASES)
    faults = [FieldFault(path=one.path, message=one.message) for one in getattr(error, "problems", ())]
    detail = f"{_counted(faults)} wrong" if faults else error.message
    waits = {"Retry-After": str(RETRY_SECONDS)} if case.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Refused(case, detail, remedy=error.remedy, errors=faults, headers=waits)


def _counted(faults: Sequence[FieldFault]) -> str:
    return "one thing is" if len(faults) == 1 else f"{len(faults)} things are"


def all_cases() -> Iterable[Case]:
    """Every kind of problem that there is."""
    mine = [one for one in globals().values() if isinstance(one, Case)]
    return sorted([*mine, *CASES.values()], key=lambda case: (case.status, case.name))
