"""One strict way between documents and values: camelCase, every fault at once with its path, secrets masked.

A document is what JSON and TOML can hold.  Any attrs class can be read and written; its annotations must be resolvable
at run time.  On the wire a property is the field's name in camelCase without underscores at its end; metadata ``wire``
names it differently.
"""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum, IntEnum, StrEnum
from functools import cache, partial
from typing import Any, Literal, NewType, TypeVar, Union, get_args, get_origin

import attrs
import cattrs

from maildaemon_core import wire
from maildaemon_core.errors import InvalidOptions, Problem
from maildaemon_core.options import MASK, Secret

T = TypeVar("T")
Hook = Callable[[Any, Any], Any]


def read(cls: type[T], document: object) -> T:
    """The value of class ``cls`` that ``document`` says.

    Types are exact: ``"7"`` is no integer, ``true`` neither; only a number without fraction is one.  Null means absent;
    unknown properties are refused.  Raises ``InvalidOptions`` with every fault, never with a value in it.
    """
    hook = _READ.get_structure_hook(cls)
    try:
        value: T = hook(document, cls)
    except (wire.FaultsError, *wire.REFUSED) as fault:
        found = wire.faults_of(fault)
        raise InvalidOptions([Problem(path=f"${at}", message=message) for at, message in found]) from None
    return value


def read_what_can_be(cls: type[T], document: object) -> tuple[T | None, Sequence[Problem]]:
    """What ``document`` says apart from its faults, and these; None if nothing can be read of it.

    So that what is wrong beyond single properties can be told in the same breath.  The value serves for nothing else.
    """
    try:
        return read(cls, document), ()
    except InvalidOptions as error:
        try:
            return read(cls, _without(document, {problem.path for problem in error.problems})), error.problems
        except InvalidOptions:
            return None, error.problems


def has(document: object, path: str, at: str = "$") -> bool:
    """Whether there is something at ``path`` (as problems write it) of the document."""
    if path == at:
        return True
    if isinstance(document, dict):
        return any(has(value, path, at + wire.step(key)) for key, value in document.items())
    return isinstance(document, list) and any(has(value, path, f"{at}[{n}]") for n, value in enumerate(document))


def _without(document: object, paths: Collection[str], at: str = "$") -> object:
    """The document without the properties at these paths, or that hold an array with an element at one of them."""
    if isinstance(document, dict):
        steps = {key: at + wire.step(key) for key in document}
        return {
            key: _without(value, paths, steps[key])
            for key, value in document.items()
            if steps[key] not in paths and not _holds_one_of(value, paths, steps[key])
        }
    if isinstance(document, list):
        return [_without(value, paths, f"{at}[{number}]") for number, value in enumerate(document)]
    return document


def _holds_one_of(value: object, paths: Collection[str], at: str) -> bool:
    return isinstance(value, list) and any(f"{at}[{number}]" in paths for number in range(len(value)))


def write(value: object, *, secrets: Literal["mask", "reveal"] = "mask") -> Any:
    """The JSON-ready document for ``value``; defaults are written out, None is null.

    ``read(type(value), write(value, secrets="reveal")) == value``.  Masked, every ``Secret`` is ``MASK``, and so is
    what sounds like one in free JSON, whose meaning only its kind knows.
    """
    return (_MASK if secrets == "mask" else _REVEAL).unstructure(value)


def merge_patch(document: Any, patch: Any) -> Any:
    """``document`` changed by a JSON merge patch (RFC 7396); neither of the two is touched.

    Raises ``InvalidOptions`` for a patch that is nested deeper than any document of ours.
    """
    return _merged(document, patch, 0)


def _merged(document: Any, patch: Any, depth: int) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    if depth > 2 * wire.DEEPEST:
        raise InvalidOptions([Problem(path="$", message="the patch is nested too deep")])
    merged = dict(document) if isinstance(document, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value, depth + 1)
    return merged


@cache
def wire_names(cls: type[attrs.AttrsInstance]) -> Mapping[str, str]:
    """The properties of a class: field name to name on the wire, for all that ``__init__`` takes."""
    return {each.name: each.metadata.get("wire") or _camel(each.name) for each in attrs.fields(cls) if each.init}


def _camel(name: str) -> str:
    first, *rest = name.strip("_").split("_")
    return first + "".join(map(str.title, rest))


# ------------------------------------------------------------------------------------------------------------- reading


def _array(converter: cattrs.Converter, tp: Any) -> Hook:
    """Arrays: ``tuple[X, ...]``, ``tuple[A, B]``, ``list[X]``, ``frozenset[X]``."""
    build = get_origin(tp)
    inner = get_args(tp)
    fixed = len(inner) if build is tuple and inner[-1] is not Ellipsis else None
    hooks = [(converter.get_structure_hook(each), each) for each in inner if each is not Ellipsis]

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise wire.expected("an array", value)
        if fixed is not None and len(value) != fixed:
            raise ValueError(f"expected {fixed} items")
        made = []
        found: list[tuple[str, str]] = []
        for at, each in enumerate(value):
            read_item, item_type = hooks[at if fixed is not None else 0]
            try:
                made.append(read_item(each, item_type))
            except (wire.FaultsError, *wire.REFUSED) as fault:
                found += ((f"[{at}]{below}", message) for below, message in wire.faults_of(fault))
        if found:
            raise wire.FaultsError(found)
        return build(made)

    return hook


def _mapping(converter: cattrs.Converter, tp: Any) -> Hook:
    """Objects whose keys are data: ``dict[str, X]``; ``dict[str, Any]`` is free JSON."""
    key_type, value_type = get_args(tp)
    if value_type is Any:
        return wire.free_object
    read_key, read_value = converter.get_structure_hook(key_type), converter.get_structure_hook(value_type)

    def pair(key: Any, value: Any) -> tuple[Any, Any]:
        return read_key(key, key_type), read_value(value, value_type)

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise wire.expected("an object", value)
        return wire.framed((wire.step(key), pair, key, each) for key, each in value.items())

    return hook


def _literal(_: cattrs.Converter, tp: Any) -> Hook:
    return _one_of({value: value for value in get_args(tp)})


@cache
def _members(tp: type[Enum]) -> Hook:
    return _one_of({_enum_name(each): each for each in tp})


def _enum(value: Any, tp: Any) -> Any:
    return _members(tp)(value, tp)


def _enum_name(member: Enum) -> str:
    """Enumerations of texts by value; others by name, so that their numbers may change."""
    return member.value if isinstance(member.value, str) else member.name.lower()


def _one_of(allowed: Mapping[Any, Any]) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is str and value in allowed:
            return allowed[value]
        raise ValueError(f"expected one of: {_quoted(allowed)}")

    return hook


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(map(json.dumps, words))


def _new_type(converter: cattrs.Converter, tp: Any) -> Hook:
    return converter.get_structure_hook(tp.__supertype__)


def _union(converter: cattrs.Converter, tp: Any) -> Hook:
    """One of several: null, an object of a class, one of the words, else the remaining type (one at most)."""
    arms = [each for each in get_args(tp) if each is not types.NoneType]
    nullable = len(arms) < len(get_args(tp))
    classes = [each for each in arms if attrs.has(each)]
    words = {word: word for each in arms if get_origin(each) is Literal for word in get_args(each)}
    rest = [each for each in arms if each not in classes and get_origin(each) is not Literal]
    if len(rest) > 1:
        raise TypeError(f"cannot tell the types of {tp} apart")
    read_class = _classes(classes, converter) if classes else None
    read_word = _one_of(words) if words else None
    read_rest = converter.get_structure_hook(rest[0]) if rest else None
    shapes = "".join(f", or an object with {_listed(each)}" for each in classes)
    others = (", or one of: " + _quoted(words) if words else "") + shapes

    def hook(value: Any, _: Any) -> Any:
        if value is None and nullable:
            return None
        if read_class and (isinstance(value, Mapping) or not (read_word or read_rest)):
            return read_class(value, None)
        try:
            if read_word and (read_rest is None or (type(value) is str and value in words)):
                return read_word(value, None)
            return read_rest(value, rest[0]) if read_rest else None
        except (ValueError, TypeError) as fault:
            raise ValueError(f"{fault}{others if read_rest else shapes}") from None

    return hook


def _listed(cls: Any) -> str:
    return ", ".join(wire_names(cls).values()) or "nothing in it"


def _classes(classes: Sequence[Any], converter: cattrs.Converter) -> Hook:
    """An object of one of several classes, told apart by the properties that it has."""
    hooks = {frozenset(wire_names(each).values()): converter.get_structure_hook(each) for each in classes}
    if len(hooks) < len(classes):
        raise TypeError(f"cannot tell {', '.join(each.__name__ for each in classes)} apart")

    def hook(value: Any, _: Any) -> Any:
        given = frozenset(value) if isinstance(value, Mapping) else frozenset()
        nearest = min(hooks, key=lambda names: len(names ^ given))
        return hooks[nearest](value, None)

    return hook


def _object(converter: cattrs.Converter, cls: Any) -> Hook:
    """An attrs class.  Validators run at their own field, so that all of them speak, and with its path."""
    attrs.resolve_types(cls)
    names = wire_names(cls)
    fields = {
        names[each.name]: (
            each.alias or each.name,
            converter.get_structure_hook(each.type or Any),
            each.type,
            each.validator,
            each,
            each.type is Any or types.NoneType in get_args(each.type),
        )
        for each in attrs.fields(cls)
        if each.init
    }
    required = {
        names[each.name]: each.alias for each in attrs.fields(cls) if each.init and each.default is attrs.NOTHING
    }

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise wire.expected("an object", value)
        made: dict[str, Any] = {}
        found: list[tuple[str, str]] = []
        refused: set[str] = set()
        for name, given in value.items():
            if name not in fields:
                found.append((wire.step(name), _unknown(name, fields)))
                continue
            argument, read_field, tp, validate, field, takes_null = fields[name]
            if given is None and not takes_null:
                continue
            try:
                one = made[argument] = read_field(given, tp)
                if validate is not None:
                    validate(None, field, one)
            except (wire.FaultsError, *wire.REFUSED) as fault:
                refused.add(name)
                found += ((wire.step(name) + at, message) for at, message in wire.faults_of(fault))
        missing = (name for name, argument in required.items() if argument not in made and name not in refused)
        found += ((wire.step(name), "required") for name in missing)
        if found:
            raise wire.FaultsError(found)
        return cls(**made)

    return hook


def _unknown(key: object, known: Iterable[str]) -> str:
    by_lower = {name.casefold(): name for name in sorted(known)}
    plain = str(key)[: wire.LONGEST_NAME].casefold().replace("_", "").replace("-", "")
    near = difflib.get_close_matches(plain, by_lower, n=1)
    return f"unknown property; did you mean {by_lower[near[0]]}?" if near else "unknown property"


# ------------------------------------------------------------------------------------------------------------- writing


def _plain(cls: Any, converter: cattrs.Converter, secrets: Literal["mask", "reveal"]) -> Callable[[Any], Any]:
    attrs.resolve_types(cls)
    names = wire_names(cls)
    fields = [(each.name, names[each.name], _is_free(each.type)) for each in attrs.fields(cls) if each.init]
    atoms = {str, int, bool, float, types.NoneType}

    def hook(value: Any) -> dict[str, Any]:
        document = {}
        for name, wired, is_free in fields:
            one = getattr(value, name)
            if type(one) not in atoms:
                one = converter.unstructure(one)
                if is_free and secrets == "mask":
                    one = wire.masked(one)
            document[wired] = one
        return document

    return hook


def _is_free(tp: Any) -> bool:
    return tp is Any or (get_origin(tp) in {dict, Mapping} and get_args(tp)[1] is Any)


def _writer(secrets: Literal["mask", "reveal"]) -> cattrs.Converter:
    converter = cattrs.Converter()

    def objects(value: Mapping[Any, Any]) -> dict[Any, Any]:
        return {converter.unstructure(key): converter.unstructure(one) for key, one in value.items()}

    def arrays(value: Iterable[Any]) -> list[Any]:
        return [converter.unstructure(one) for one in value]

    def a(*kinds: type) -> Callable[[Any], bool]:
        return lambda tp: isinstance(tp, type) and issubclass(tp, kinds)

    converter.register_unstructure_hook_factory(attrs.has, lambda cls: _plain(cls, converter, secrets))
    converter.register_unstructure_hook_func(a(Mapping), objects)
    converter.register_unstructure_hook_func(a(tuple, list, frozenset), arrays)
    for enumeration in (Enum, StrEnum, IntEnum):  # cattrs would take the latter two for str and int
        converter.register_unstructure_hook(enumeration, _enum_name)
    converter.register_unstructure_hook(datetime, lambda moment: moment.isoformat().replace("+00:00", "Z"))
    converter.register_unstructure_hook(Secret, lambda secret: MASK if secrets == "mask" else secret.value)
    return converter


def _reader() -> cattrs.Converter:
    converter = cattrs.Converter()
    factories: Sequence[tuple[Callable[[Any], bool], Callable[[cattrs.Converter, Any], Hook]]] = (
        (attrs.has, _object),
        (lambda tp: get_origin(tp) in {tuple, list, frozenset}, _array),
        (lambda tp: get_origin(tp) in {dict, Mapping}, _mapping),
        (lambda tp: get_origin(tp) in {Union, types.UnionType}, _union),
        (lambda tp: get_origin(tp) is Literal, _literal),
        (lambda tp: isinstance(tp, NewType), _new_type),
    )
    for suits, factory in factories:
        converter.register_structure_hook_factory(suits, partial(factory, converter))
    leaves: Mapping[Any, Hook] = {
        str: wire.text, int: wire.whole, float: wire.number, bool: wire.boolean, types.NoneType: wire.nothing,
        datetime: wire.moment, Secret: wire.secret, Enum: _enum, StrEnum: _enum, IntEnum: _enum,
    }  # fmt: skip
    for leaf, hook in leaves.items():
        converter.register_structure_hook(leaf, hook)
    converter.register_structure_hook_func(lambda tp: tp is Any, wire.free)
    return converter


_READ, _MASK, _REVEAL = _reader(), _writer("mask"), _writer("reveal")
