"""What the API's document says of an operation beyond its signature: body, query, problems, and who may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from maildaemon_core.access import Scope
from maildaemon_http.api import problems as cases
from maildaemon_http.api.gate import needs
from maildaemon_http.api.problems import Case

OPTION = "described"


@attrs.frozen(kw_only=True)
class Described:
    """An operation.

    ``scope``: what a key needs; None: any good key, or none if it is ``public``.  ``body`` and ``query`` are attrs
    classes; ``examples`` of bodies that work, by name; ``refusals`` beyond those that every operation has.
    ``answers``: the documents by status: a class, a list of one for a plain array, a tuple of media types for what is
    no document.
    """

    scope: Scope | None
    public: bool = False
    body: type[Any] | None = None
    body_types: tuple[str, ...] = ("application/json",)
    body_required: bool = True
    query: type[Any] | None = None
    headers: tuple[str, ...] = ()
    examples: Mapping[str, Any] = attrs.field(factory=dict)
    refusals: tuple[Case, ...] = ()
    answers: Mapping[int, Any] = attrs.field(factory=dict)
    answer_headers: tuple[str, ...] = ()


def described(scope: Scope | None, **more: Any) -> Mapping[str, Any]:
    """The arguments of a Litestar handler that is described so, and that only keys with ``scope`` may use."""
    one = Described(scope=scope, **more)
    return {"opt": {OPTION: one}, "guards": [needs(scope)] if scope else []}


def refusals_of(one: Described) -> Sequence[Case]:
    """Every problem that an operation may answer with."""
    found = [cases.UNKNOWN_VERSION, cases.INTERNAL]
    if not one.public:
        found += [cases.NO_KEY, cases.TOO_MANY_GUESSES, cases.of_error("StoreUnavailable"), cases.TIMED_OUT]
    if one.scope:
        found.append(cases.FORBIDDEN)
    if one.query:
        found.append(cases.INVALID_PARAMETER)
    if one.query and "cursor" in {each.name for each in attrs.fields(one.query)}:
        found.append(cases.UNKNOWN_CURSOR)
    if one.body:
        found += [cases.MALFORMED, cases.TOO_LARGE, cases.UNSUPPORTED, cases.LIST_TOO_LONG]
        found.append(cases.of_error("InvalidOptions"))
    if "Idempotency-Key" in one.headers:
        found += [cases.KEY_IN_USE, cases.KEY_REUSED, cases.INVALID_PARAMETER]
    if "If-Match" in one.headers:
        found += [cases.of_error("StaleVersion"), cases.INVALID_PARAMETER]
    return list(dict.fromkeys([*found, *one.refusals]))
