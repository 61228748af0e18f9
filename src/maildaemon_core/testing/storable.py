"""Texts as a store gives them back: NUL and lone surrogates, which not every database takes, become U+FFFD."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

T = TypeVar("T")

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def storable(value: T) -> T:
    """The same with every text in it as the port gives it back."""
    clean: T = _clean(value)
    return clean


def _clean(value: Any) -> Any:
    if type(value) is str:
        return value if value.isascii() and "\0" not in value else _UNSTORABLE.sub("\ufffd", value)
    if type(value) is tuple:
        return tuple([_clean(each) for each in value])
    if isinstance(value, list):
        return [_clean(each) for each in value]
    if isinstance(value, Mapping):
        return {_clean(name): _clean(each) for name, each in value.items()}
    if not attrs.has(type(value)):
        return value
    changes = {}
    for field in attrs.fields(type(value)):
        before = getattr(value, field.name)
        after = _clean(before)
        if after != before:
            changes[field.name] = after
    return attrs.evolve(value, **changes) if changes else value
