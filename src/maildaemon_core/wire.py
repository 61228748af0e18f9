"""What single values of documents are, to the letter, and how their faults are told with their paths.

Messages never hold a value: it may be a secret that stands in the wrong place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from maildaemon_core.options import MASK, Secret

DEEPEST = 32
"""How many levels of objects and arrays free JSON (``dict[str, Any]``) may have."""

LONGEST_NAME = 60
"""How many characters of an unknown property's name are repeated in a path."""

REFUSED = (ValueError, TypeError, ArithmeticError)
"""What reading a single value raises; anything else is a fault of the program, not of the document."""

_SECRETIVE = ("password", "passwd", "passphrase", "secret", "credential")
_SECRETIVE_AT_THE_END = (
    "token", "pwd", "passcode", "psk", "privatekey", "accesskey", "accountkey", "apikey", "sharedkey", "signingkey",
    "encryptionkey", "connectionstring", "assertion", "jwt", "bearer", "cookie", "authorization", "sas",
)  # fmt: skip
_LARGEST = 2**63 - 1


class FaultsError(Exception):
    """All that is wrong below one point; each path is relative to it."""

    def __init__(self, found: Sequence[tuple[str, str]]) -> None:
        super().__init__(f"{len(found)} faults")
        self.found = found


def faults_of(fault: Exception) -> Sequence[tuple[str, str]]:
    """What a refusal says, as pairs of the path below this point and the message."""
    if isinstance(fault, FaultsError):
        return fault.found
    # Validators of attrs put the value into further arguments; only the first is a sentence.
    message = fault.args[0] if fault.args and isinstance(fault.args[0], str) else "is not acceptable"
    return [("", message)]


def step(key: object) -> str:
    """How a property is written in a path; hostile names are shortened and escaped."""
    name = key if isinstance(key, str) else f"<{type(key).__name__}>"
    name = name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "…"
    return f".{name}" if name.isidentifier() and name.isascii() else f"[{json.dumps(name)}]"


def _said(value: object) -> str:
    """What a value is in the words of JSON, never the value itself."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
    if type(value) in names:
        return names[type(value)]
    if isinstance(value, Mapping):
        return "an object"
    return "an array" if isinstance(value, (list, tuple)) else f"a {type(value).__name__}"


def expected(what: str, value: object) -> TypeError:
    """The refusal of a value of another type."""
    return TypeError(f"expected {what}, got {_said(value)}")


def text(value: Any, _: Any = None) -> str:
    """Valid Unicode: what has lone surrogates can neither be stored nor sent.  Raises TypeError or ValueError."""
    if type(value) is not str:
        raise expected("a string", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("holds half of a surrogate pair, which is no text") from None
    return value


def whole(value: Any, _: Any = None) -> int:
    """An integer, or a number without fraction, since JSON knows no difference.  Raises TypeError."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise expected("an integer", value)


def number(value: Any, _: Any = None) -> float:
    """A finite number.  Raises TypeError, or OverflowError for an integer that no float can hold."""
    if type(value) not in {int, float} or not math.isfinite(value):
        raise expected("a finite number", value)
    return float(value)


def boolean(value: Any, _: Any = None) -> bool:
    """True or false, nothing that merely looks like it.  Raises TypeError."""
    if type(value) is not bool:
        raise expected("true or false", value)
    return value


def nothing(value: Any, _: Any = None) -> None:
    """Null.  Raises TypeError."""
    if value is not None:
        raise expected("null", value)


def moment(value: Any, _: Any = None) -> datetime:
    """A date-time of ISO 8601 with offset or Z, or TOML's own, as UTC.  Raises TypeError or ValueError."""
    example = "such as 2026-01-31T08:00:00Z"
    if isinstance(value, datetime):
        when = value
    elif type(value) is str:
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"expected a date-time by ISO 8601, {example}") from None
    elif isinstance(value, date):
        raise TypeError(f"expected a date with time and offset, {example}")
    else:
        raise expected(f"a date-time {example}", value)
    if when.utcoffset() is None:
        raise ValueError(f"a date-time needs an offset or Z, {example}")
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999") from None


def secret(value: Any, _: Any = None) -> Secret:
    """A secret; the mask is none, or it would be stored and used as a password.  Raises TypeError or ValueError."""
    if text(value) == MASK:
        raise ValueError("this is the mask, not a secret; leave the property out to keep the stored one")
    return Secret(value)


def free_object(value: Any, _: Any = None) -> dict[str, Any]:
    """An object of free JSON.  Raises TypeError, ValueError or FaultsError."""
    if not isinstance(value, Mapping):
        raise expected("an object", value)
    made: dict[str, Any] = free(value)
    return made


def free(value: Any, _: Any = None, depth: int = 0, hidden: bool = False) -> Any:
    """Free JSON: copied, so that nobody changes it from outside; dates, which only TOML knows, become text.

    ``hidden``: it stands below a property that sounds like a secret.  Raises TypeError, ValueError or FaultsError.
    """
    if depth > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST} levels")

    def pair(key: Any, one: Any) -> tuple[Any, Any]:
        return text(key), free(one, None, depth + 1, hidden or sounds_secret(key))

    def item(at: int, one: Any) -> tuple[int, Any]:
        return at, free(one, None, depth + 1, hidden)

    if isinstance(value, Mapping):
        return framed((step(key), pair, key, one) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return list(framed((f"[{at}]", item, at, one) for at, one in enumerate(value)).values())
    if type(value) is int and abs(value) > _LARGEST:
        raise ValueError("has more than 64 bits")
    if value is None or type(value) in {bool, int}:
        return value
    if type(value) is float:
        return number(value)
    if isinstance(value, date):
        return value.isoformat()
    return secret(value).value if hidden else text(value)


def masked(value: Any, hidden: bool = False) -> Any:
    """Free JSON in which every text is masked that stands below a property that sounds like a secret."""
    if isinstance(value, Mapping):
        return {key: masked(one, hidden or sounds_secret(key)) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(one, hidden) for one in value]
    return MASK if hidden and value and isinstance(value, str) else value


def sounds_secret(key: str) -> bool:
    """Whether a property's name says that it holds a secret: ``password``, ``sas_token``, ``credentials``…"""
    plain = key.casefold().replace("_", "").replace("-", "")
    ends = plain.endswith(_SECRETIVE_AT_THE_END) or plain.removesuffix("s").endswith(_SECRETIVE_AT_THE_END)
    return ends or any(word in plain for word in _SECRETIVE)


def framed(parts: Iterable[tuple[str, Callable[[Any, Any], tuple[Any, Any]], Any, Any]]) -> dict[Any, Any]:
    """Pairs made one by one, each under its step of the path.  Raises the faults of all of them at once."""
    made: dict[Any, Any] = {}
    found: list[tuple[str, str]] = []
    for at, make, *arguments in parts:
        try:
            key, value = make(*arguments)
        except (FaultsError, *REFUSED) as fault:
            found += ((at + below, message) for below, message in faults_of(fault))
        else:
            made[key] = value
    if found:
        raise FaultsError(found)
    return made
