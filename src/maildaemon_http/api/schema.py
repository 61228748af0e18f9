"""JSON Schema (2020-12) of attrs classes, as the codec reads and writes them: nothing is said twice.

What is read is lenient in one way: null means absent, for every property.  What is written has every property.

A class named ``...Update`` is what something is changed by: what is absent stays as it is, so neither defaults nor
required properties are said of it, nor of the objects in it, which are merged too (RFC 7396).  A client that fills
defaults in, as generated ones do, would otherwise reset whatever it does not speak of.  Lists are replaced as a whole.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

import attrs

from maildaemon_core.codec import wire_names
from maildaemon_core.options import Secret, Within, a_name, a_place, one_line, without_password

Json = dict[str, Any]
Direction = Literal["read", "written"]
"""Whether documents of the schema come in or go out."""

_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
_TEXTS: Mapping[Any, Json] = {
    one_line: {"pattern": _LINE},
    a_name: {"pattern": _LINE, "minLength": 1},
    without_password: {"pattern": _LINE},
    a_place: {"pattern": _LINE},
}
"""What validators ask of texts, as far as a schema can say it."""

_LEAVES: Mapping[Any, Json] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    types.NoneType: {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
    Secret: {"type": "string", "format": "password"},
}
_INT32, _INT64 = 2**31 - 1, 2**63 - 1

UPDATE = "Update"
"""How the names of classes end that are what something is changed by."""


class Schemas:
    """The schemas of classes in one direction, each under its name; ``at`` is where references look for them."""

    def __init__(self, direction: Direction, *, at: str = "#/components/schemas/", longest_list: int = 0) -> None:
        self.named: dict[str, Json] = {}
        self._direction = direction
        self._at = at
        self._longest_list = longest_list

    def reference(self, cls: type[Any], *, is_update: bool = False) -> Json:
        """A reference to the schema of an attrs class, which is made together with all that it refers to.

        ``is_update``: as it is in what something is changed by, whatever its name.
        """
        name = cls.__name__.removesuffix(UPDATE)
        is_update = is_update or name != cls.__name__
        if is_update:
            name += UPDATE
        if name not in self.named:
            self.named[name] = {}  # so that one which holds itself comes to an end
            self.named[name] = self._object(cls, name, is_update=is_update)
        return {"$ref": self._at + name}

    def of(self, tp: Any, *, is_update: bool = False) -> Json:
        """The schema of a type as it stands in an annotation."""
        if tp is Any:
            return {}
        if tp in _LEAVES:
            return dict(_LEAVES[tp])
        if isinstance(tp, NewType):
            return self.of(tp.__supertype__, is_update=is_update)
        if attrs.has(tp):
            return self.reference(tp, is_update=is_update)
        if isinstance(tp, type) and issubclass(tp, Enum):
            return {"type": "string", "enum": [each.value for each in tp]}
        origin, inner = get_origin(tp), get_args(tp)
        if origin is Literal:
            return {"type": "string", "enum": list(inner)}
        if origin in {tuple, list, frozenset}:
            return {"type": "array", "items": self.of(inner[0]), **self._bound()}
        if origin in {dict, Mapping} or (isinstance(origin, type) and issubclass(origin, Mapping)):
            of_values = self.of(inner[1])
            return {"type": "object", "additionalProperties": of_values or True}
        if origin in {Union, types.UnionType}:
            return _any_of([self.of(each, is_update=is_update) for each in inner])
        raise TypeError(f"no schema for {tp}")

    def _bound(self) -> Json:
        return {"maxItems": self._longest_list} if self._longest_list and self._direction == "read" else {}

    def _object(self, cls: type[Any], name: str, *, is_update: bool) -> Json:
        known: Any = cls  # some attrs class
        names, hints = wire_names(known), get_type_hints(cls)
        fields = [each for each in attrs.fields(known) if each.init]
        properties = {names[each.name]: self._property(each, hints[each.name], is_update=is_update) for each in fields}
        written = self._direction == "written"
        required = [names[each.name] for each in fields if written or each.default is attrs.NOTHING]
        if is_update:
            required = []
        schema: Json = {"type": "object", "title": name, "description": description(cls)}
        schema |= {"properties": properties, "additionalProperties": False}
        return schema | ({"required": required} if required else {})

    def _property(self, field: attrs.Attribute[Any], hint: Any, *, is_update: bool) -> Json:
        made = self.of(hint, is_update=is_update)
        extra = constraints(field.validator)
        if made.get("format") == "date-time" or "$ref" in made:
            extra = {}
        target = made
        if made.get("type") == "array":
            target = made["items"]
        elif "anyOf" in made:
            target = next((each for each in made["anyOf"] if each.get("type") in {"string", "integer"}), made)
        if "enum" not in target:
            target.update(extra)
        if target.get("type") == "integer" and target is not made.get("items"):
            target["format"] = "int32" if target.get("maximum", _INT32) <= _INT32 else "int64"
        made |= field.metadata.get("schema", {})
        if self._direction == "read":
            made = _any_of([made, {"type": "null"}])
            if not is_update and (default := _default(field)) is not None:
                made["default"] = default
        return made


def _default(field: attrs.Attribute[Any]) -> Any:
    value = field.default
    return value if isinstance(value, (bool, int, str)) else None


def _any_of(given: Sequence[Json]) -> Json:
    """One schema for any of several; plain types are said in one line."""
    flat: list[Json] = [one for each in given for one in each.get("anyOf", [each])]
    unique: list[Json] = [one for at, one in enumerate(flat) if one not in flat[:at]]
    if len(unique) == 1:
        return unique[0]
    plain, rest = [one for one in unique if one == {"type": "null"}], [one for one in unique if one != {"type": "null"}]
    if plain and len(rest) == 1 and "type" in rest[0] and "enum" not in rest[0]:
        known = rest[0]["type"]
        return {**rest[0], "type": [known, "null"] if isinstance(known, str) else [*dict.fromkeys([*known, "null"])]}
    return {"anyOf": [*rest, *plain]}


def constraints(validator: Any) -> Json:
    """What a validator of ours asks, in the words of JSON Schema."""
    for one in getattr(validator, "_validators", (validator,)):
        inner = getattr(one, "validator", one)  # attrs.validators.optional
        if isinstance(inner, Within):
            return {"minimum": int(inner.low), "maximum": int(inner.high)}
        if inner in _TEXTS:
            return dict(_TEXTS[inner])
    return {}


def description(thing: Callable[..., Any] | type[Any]) -> str:
    """The docstring, its properties named as they are on the wire."""
    text = inspect.cleandoc(thing.__doc__ or "")
    names = wire_names(thing) if isinstance(thing, type) and attrs.has(thing) else {}
    return re.sub(r"``([^`]+)``", lambda found: f"`{names.get(found[1], found[1])}`", text)
