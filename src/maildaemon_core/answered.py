"""What only answers have: the id, dates and numbers of a configuration, which people send back with changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from maildaemon_core import wire
from maildaemon_core.errors import Problem
from maildaemon_core.store_port import Configuration

_SAID: Final[Mapping[str, Callable[[Configuration], object]]] = {
    "uuid": lambda configuration: configuration.id,
    "version": lambda configuration: configuration.version,
    "created": lambda configuration: configuration.created,
    "changed": lambda configuration: configuration.changed,
    "createdBy": lambda configuration: configuration.created_by,
    "changedBy": lambda configuration: configuration.changed_by,
    "managedBy": lambda _: "api",  # those that a file says are changed there
}
"""What an answer says of the configuration; it can be sent back, but not changed."""

ANSWERED: Final = frozenset({*_SAID, "warnings", "adopted", "trouble"})
"""The properties that only answers have.  The last three say how it went, so they may be anything in return."""


def without_answered(document: object, configuration: Configuration | None) -> tuple[object, tuple[Problem, ...]]:
    """The document without the properties of ``ANSWERED``, and what is wrong with these; null says nothing.

    ``configuration`` is the one that there is: what the document says of it must be so.  None: one is to be made, of
    which nothing can be said yet, so each of them is a problem.
    """
    if not isinstance(document, Mapping):
        return document, ()
    given = {name: value for name, value in document.items() if name in ANSWERED and value is not None}
    if configuration is None:
        message = "only answers have this: leave it out"
        return _rest(document), tuple(Problem(path=f"$.{name}", message=message) for name in given)
    changed = (name for name, value in given.items() if name in _SAID and not _is_so(value, _SAID[name](configuration)))
    message = "cannot be changed: leave it out, or send what was read last"
    return _rest(document), tuple(Problem(path=f"$.{name}", message=message) for name in changed)


def _rest(document: Mapping[Any, Any]) -> dict[Any, Any]:
    return {name: value for name, value in document.items() if name not in ANSWERED}


def _is_so(value: object, fact: object) -> bool:
    """Whether a value of a document says that fact: instants, perhaps cut to seconds; numbers, which are not true."""
    if isinstance(fact, datetime):
        try:
            moment = wire.moment(value)
        except (TypeError, ValueError):
            return False
        return moment == fact or (moment.microsecond == 0 and moment == fact.replace(microsecond=0))
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return False
    return value == fact
