"""What a log may not say: secrets, wherever in a record they stand, and the insides of things that may be mail."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from pathlib import PurePath
from typing import Any
from uuid import UUID

from maildaemon_core.access import without_secret
from maildaemon_core.options import MASK, Secret
from maildaemon_core.wire import sounds_secret

LONGEST = 4_000
"""Characters of one text that are kept; nothing that a person reads in a log is longer."""

DEEPEST = 8

_PLAIN = (bool, int, float, type(None))
_SAID = (date, timedelta, Decimal, PurePath, UUID)
"""Values whose text says what they are, and no more."""

_WORD = re.compile(r"\S+")
_MASTER_KEY = re.compile(r"mdmk_[A-Za-z0-9_=+/-]+")
_HEADER = re.compile(r"""(authorization\s*:\s*)(?!['"\\])[^\r\n]+""", re.IGNORECASE)
_SCHEME = re.compile(r"\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE)
# name=value, as in queries, connection strings and reprs; 'name': value, as in JSON and dicts; X-Api-Key: value
_NAME = re.compile(r"""([\w-]{1,100}+)(?:\\?['"]?\s*=\s*|\\?['"]\s*:\s*|(?<=[Kk]ey)\s*:\s*)""")
_VALUE = re.compile(
    r"""[a-z]{0,2}'(?:[^']|(?<=\\)')*+' | [a-z]{0,2}"(?:[^"]|(?<=\\)")*+" | [a-z]{0,2}\\*['"([{].* |
        (?:[^\s&;,'"()\[\]{}]|,(?!\s))++""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
"""Up to the end of the text, if it cannot be told where it ends.  No quote behind a backslash ends it: there may be
several layers of escapes."""

_SIGNATURES = frozenset({"sig", "signature", "x-amz-signature", "x-goog-signature"})
"""What URLs that are keys themselves call the part that makes them so."""


def redacted(value: Any, *, name: str = "", depth: int = 0) -> Any:
    """A value of a record as JSON without a secret in it.

    Whatever stands below a ``name`` that sounds like a secret is masked.  Bytes, and objects of which nobody knows what
    they would say of themselves, become what they are: a log is no place for mail.
    """
    if isinstance(value, Secret) or (name and value is not None and not isinstance(value, bool) and _is_secret(name)):
        return MASK
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return bounded(text(value))
    if isinstance(value, float) and not isfinite(value):
        return str(value)  # JSON has no name for it
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if depth >= DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {bounded(text(str(key))): redacted(one, name=str(key), depth=depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redacted(one, depth=depth + 1) for one in value]
    if isinstance(value, _SAID):
        return bounded(text(str(value)))
    return f"<{type(value).__name__}>"


def argument(value: Any) -> Any:
    """An argument of a message that is formatted with ``%``: what may be secret is masked, the rest stays as it is."""
    if isinstance(value, (Secret, str, bytes, bytearray, memoryview, Mapping, list, tuple, set, frozenset)):
        return redacted(value)
    return value


def text(given: str) -> str:
    """A text without what can be recognised as a secret: keys of the API and of the store, passwords in URLs, whatever
    is given a name that sounds like a secret, and the credentials of HTTP."""
    made = _MASTER_KEY.sub(f"mdmk_{MASK}", without_secret(given))
    if "://" in made:
        made = _WORD.sub(_without_login, made)
    made = _SCHEME.sub(rf"\1\2{MASK}", _HEADER.sub(rf"\1{MASK}", made))
    return _without_values(made) if "=" in made or ":" in made else made


def bounded(given: str) -> str:
    """The text, or so much of it as a log needs."""
    return given if len(given) <= LONGEST else f"{given[:LONGEST]}… ({len(given)} characters)"


def _without_login(word: re.Match[str]) -> str:
    """A URL without its password, which may hold any character, rightly or not: it goes up to the last ``@``."""
    found = word[0]
    begin, end = found.find("://") + 3, found.rfind("@")
    colon = found.find(":", begin)
    if begin < 3 or not begin <= colon < end:  # noqa: PLR2004  (there is none)
        return found
    return f"{found[: colon + 1]}{MASK}{found[end:]}"


def _without_values(given: str) -> str:
    """The text with each value masked that is given a secret name."""
    kept: list[str] = []
    at = 0
    while (pair := _NAME.search(given, at)) is not None:
        kept.append(given[at : pair.end()])
        at = pair.end()
        if _is_secret(pair[1]) and (value := _VALUE.match(given, at)) is not None:
            kept.append(MASK)
            at = value.end()
    return "".join([*kept, given[at:]])


def _is_secret(name: str) -> bool:
    return sounds_secret(name) or name.casefold() in _SIGNATURES
