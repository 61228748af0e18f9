"""What a request says: its body, its query, its paths and conditions, each fault told as the codec tells it."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar, get_args, get_type_hints
from uuid import UUID

import attrs

from maildaemon_core import codec, wire
from maildaemon_core.errors import InvalidOptions
from maildaemon_core.message import MailboxId
from maildaemon_http.api.problems import (
    INVALID_PARAMETER,
    LIST_TOO_LONG,
    MALFORMED,
    TOO_LARGE,
    UNSUPPORTED,
    FieldFault,
    Refused,
)

Q = TypeVar("Q")

JSON_TYPES: Final = ("application/json",)
PATCH_TYPES: Final = ("application/merge-patch+json", "application/json")
LARGEST_ID = 2**31 - 1

DEEPEST: Final = 2 * wire.DEEPEST
"""Levels of arrays and objects in a body: more than any of ours has, and fewer than Python's stack."""

LISTS_FULL: Final = 10
"""A body has at most as many values as so many full lists: what is wrong is told of each, and each costs time."""

MOST_PARAMETERS: Final = 50
"""Of a query; no operation has a fifth of them."""


def document(body: bytes, content_type: str, *, longest: int, types_taken: Sequence[str] = JSON_TYPES) -> Any:
    """The JSON of a body.

    Raises ``Refused`` for what is none, has a list or an object of more than ``longest`` items, or is nested too deep.
    """
    given = content_type.partition(";")[0].strip().casefold()
    if given and given not in types_taken:
        raise Refused(UNSUPPORTED, f"a body of type {given[:60]!r} is not taken", remedy=f"send {types_taken[0]}")
    try:
        made = json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(MALFORMED, _why(error), remedy="send one JSON value (RFC 8259), in UTF-8") from None
    faults = [
        FieldFault(path=path, message=f"has {number} {what}; {longest} are taken")
        for path, number, what in _lists(made, most=LISTS_FULL * longest)
        if number > longest
    ]
    if faults:
        raise Refused(LIST_TOO_LONG, "a list is too long", remedy="make it shorter", errors=faults)
    return made


def _why(error: Exception) -> str:
    """Never with a part of the body, which may be a secret."""
    match error:
        case json.JSONDecodeError():
            return f"line {error.lineno}, column {error.colno}: {error.msg}"
        case UnicodeDecodeError():
            return f"byte {error.start}: not UTF-8"
        case RecursionError():
            return "nested too deep"
    # Python has its own words for a number that is too long for it, and they are none for clients.
    return "a number has too many digits" if "digits" in str(error) else str(error)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("an object has one property twice")  # RFC 8259 §4: nobody knows which is meant
    return made


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _lists(document: Any, *, most: int) -> Sequence[tuple[str, int, str]]:
    """Where the lists and objects of a document are, how many items each has, and what these are.

    Raises ``Refused`` if it has more than ``most`` values, or is nested too deep.
    """
    found: list[tuple[str, int, str]] = []
    level, values = [("$", document)], 0
    for _ in range(DEEPEST + 1):
        values += len(level)
        if values > most:
            fault = FieldFault(path="$", message=f"has more than {most} values; {most} are taken")
            raise Refused(TOO_LARGE, "the body has more in it than this service takes", errors=[fault])
        below: list[tuple[str, Any]] = []
        for at, value in level:
            if isinstance(value, dict):
                found.append((at, len(value), "properties"))
                below += ((at + wire.step(key), inner) for key, inner in value.items())
            elif isinstance(value, list):
                found.append((at, len(value), "items"))
                below += ((f"{at}[{number}]", inner) for number, inner in enumerate(value))
        if not below:
            return found
        level = below
    raise Refused(MALFORMED, _why(RecursionError()), remedy=f"nest up to {DEEPEST} arrays and objects")


def query(cls: type[Q], given: Collection[tuple[str, str]]) -> Q:
    """The parameters of a query as a value of an attrs class.  Raises ``Refused`` with all that is wrong with them."""
    if len(given) > MOST_PARAMETERS:
        fault = FieldFault(path="?", message=f"has {len(given)} parameters; {MOST_PARAMETERS} are taken")
        raise Refused(INVALID_PARAMETER, "the query is too long", remedy="make it shorter", errors=[fault])
    hints, names = get_type_hints(cls), codec.wire_names(cls)  # type: ignore[arg-type]  # only attrs classes are given
    types_of = {names[each.name]: _plain(hints[each.name]) for each in attrs.fields(cls) if each.init}  # type: ignore[arg-type]
    made: dict[str, Any] = {}
    faults = []
    for name, text in sorted(given):
        if name in made:
            faults.append(FieldFault(path=name, message="is given twice"))
        else:
            made[name] = _READ.get(types_of.get(name), str)(text)
    try:
        if not faults:
            return codec.read(cls, made)
    except InvalidOptions as error:
        faults += (FieldFault(path=one.path.removeprefix("$."), message=one.message) for one in error.problems)
    raise Refused(INVALID_PARAMETER, "a parameter of the query is not acceptable", errors=faults)


def _plain(hint: Any) -> Any:
    """The type behind an optional one."""
    arms = [each for each in get_args(hint) if each is not types.NoneType]
    return arms[0] if arms else hint


def _whole(text: str) -> Any:
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20 else text  # noqa: PLR2004


_READ: Mapping[Any, Callable[[str], Any]] = {
    int: _whole,
    bool: lambda text: {"true": True, "false": False}.get(text, text),
    datetime: lambda text: text.replace(" ", "+"),  # a plus that nobody has escaped
}


def mailbox_id(text: str) -> MailboxId:
    """The id in a path.  Raises ``Refused`` for what is no UUID."""
    try:
        return MailboxId(str(UUID(text)))
    except ValueError:
        raise _bad_path("uuid", "is no UUID, such as 2b7e1516-28ae-42a6-abf7-158809cf4f3c") from None


def entry_id(text: str) -> int:
    """The number in a path.  Raises ``Refused`` for what is none."""
    number = _whole(text)
    if not isinstance(number, int) or not 0 <= number <= LARGEST_ID:
        raise _bad_path("id", f"is no number from 0 to {LARGEST_ID}")
    return number


def _bad_path(name: str, message: str) -> Refused:
    return Refused(
        INVALID_PARAMETER, f"{name} {message}", remedy="look it up", errors=[FieldFault(path=name, message=message)]
    )


def etag(version: int) -> str:
    """The entity tag of a configuration of this version (RFC 9110 §8.8.3)."""
    return f'"{version}"'


IF_MATCH: Final = r'^([*]|"?[0-9]{1,9}"?)$'
"""What ``If-Match`` may be: any version, or the entity tag of one, whose quotes are often lost on the way."""


def expected_version(if_match: str | None) -> int | None:
    """The version that ``If-Match`` asks for; None if it does not matter.  Raises ``Refused`` for what is no tag of
    ours."""
    if if_match is None or if_match == "*":
        return None
    if not re.match(IF_MATCH, if_match, re.ASCII):
        fault = FieldFault(path="If-Match", message="is no ETag of a configuration")
        raise Refused(
            INVALID_PARAMETER,
            "a header is not acceptable",
            remedy="send the ETag of the configuration as you have read it, one only",
            errors=[fault],
        )
    return int(if_match.strip('"'))
