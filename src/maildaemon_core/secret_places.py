"""Where in the document of a mailbox secrets belong, whatever else is in it, and what each of these places is called.

A place is called ``password``, ``clientSecret``, ``options/NAME``, ``destinations/NAME/password``: its steps are
separated and escaped as in a JSON pointer (RFC 6901 §3), and a destination is known by its name, never by its position.
Below ``options`` whatever sounds secret is one (``wire.sounds_secret``).  Documents need not be readable here: they may
hold masks, and faults.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from maildaemon_core import wire
from maildaemon_core.options import MASK, kind_of

Path = tuple[str | int, ...]
"""Where something stands in a document: names of properties, positions in arrays."""

_MAILBOX, _DESTINATION = ("password", "clientSecret", "clientCertificate"), ("password",)
"""The properties that are secrets as a whole."""


def destination_of(place: str) -> str | None:
    """The name of the destination that a place is in; None if it is the mailbox's own."""
    first, *rest = place.split("/")
    return _unescaped(rest[0]) if first == "destinations" and rest else None


def place_of(document: Any, path: Path) -> str:
    """What the place is called that stands there in the document."""
    steps: Sequence[str | int] = path
    match path:
        case ("destinations", int(at), *rest):
            steps = ["destinations", _name_of(document["destinations"][at]), *rest]
    return "/".join(escaped(str(step)) for step in steps)


def located(document: Any, place: str) -> Path | None:
    """Where a place stands in the document; None if there is nothing."""
    path: Path = ()
    value = document
    for step in map(_unescaped, place.split("/")):
        key: str | int | None = None
        if path == ("destinations",) and isinstance(value, (list, tuple)):
            key = next((at for at, each in enumerate(value) if _name_of(each) == step), None)
        elif isinstance(value, (list, tuple)):
            key = int(step) if step.isdecimal() and int(step) < len(value) else None
        elif isinstance(value, Mapping) and step in value:
            key = step
        if key is None:
            return None
        path, value = (*path, key), value[key]
    return path


def _name_of(destination: Any) -> str:
    """What a destination of a document is known by; "" if that cannot be told."""
    name, type_ = (destination.get(key) for key in ("name", "type")) if isinstance(destination, Mapping) else ("", "")
    if name is None and (type_ is None or isinstance(type_, str)):
        return kind_of(type_ or "file")
    return name if isinstance(name, str) else ""


def escaped(step: str) -> str:
    """A name as a step of a place."""
    return step.replace("~", "~0").replace("/", "~1")


def _unescaped(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")


def written(path: Path) -> str:
    """A path as problems write it: ``$.destinations[0].password``."""
    return "$" + "".join(wire.step(step) if isinstance(step, str) else f"[{step}]" for step in path)


def differences(masked: Any, revealed: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Where the two forms of the same document differ, and the text that the second one has there."""
    if isinstance(revealed, Mapping):
        for key, one in revealed.items():
            yield from differences(masked[key], one, (*path, key))
    elif isinstance(revealed, list):
        for at, one in enumerate(revealed):
            yield from differences(masked[at], one, (*path, at))
    elif masked != revealed:
        yield path, revealed


def hidden_texts(document: Any) -> Iterator[tuple[Path, str]]:
    """The texts of any document, readable or not, that stand where secrets belong."""
    if not isinstance(document, Mapping):
        return
    yield from _hidden_in(document, _MAILBOX, ())
    destinations = document.get("destinations")
    for at, each in enumerate(destinations if isinstance(destinations, (list, tuple)) else ()):
        if isinstance(each, Mapping):
            yield from _hidden_in(each, _DESTINATION, ("destinations", at))


def _hidden_in(document: Mapping[Any, Any], names: Sequence[str], path: Path) -> Iterator[tuple[Path, str]]:
    for name in names:
        if isinstance(document.get(name), str):
            yield (*path, name), document[name]
    yield from _hidden_below(document.get("options"), (*path, "options"), hidden=False)


def _hidden_below(value: Any, path: Path, *, hidden: bool) -> Iterator[tuple[Path, str]]:
    if len(path) > 2 * wire.DEEPEST:
        return  # deeper than anything that is taken
    if isinstance(value, Mapping):
        for key, one in value.items():
            if isinstance(key, str):
                yield from _hidden_below(one, (*path, key), hidden=hidden or wire.sounds_secret(key))
    elif isinstance(value, (list, tuple)):
        for at, one in enumerate(value):
            yield from _hidden_below(one, (*path, at), hidden=hidden)
    elif hidden and isinstance(value, str):
        yield path, value


def changed_at(document: Any, path: Path, value: object) -> Any:
    """The document with the value at that path; objects that are missing on the way are made."""
    if not path:
        return value
    step, *rest = path
    if isinstance(step, int):
        return [changed_at(one, tuple(rest), value) if at == step else one for at, one in enumerate(document)]
    inner = document.get(step) if step in document else {}
    return {**document, step: changed_at(inner, tuple(rest), value)}


def with_the_absent(document: object, stored: object, places: Collection[str]) -> object:
    """The document with the mask where a destination, known by its name, says nothing of a secret that it has.

    ``stored`` is the masked document that has them: where secrets stand in an array, all of it must be secrets.
    """
    for place in places:
        steps = place.split("/")
        if steps[0] != "destinations" or (path := located(document, "/".join(steps[:2]))) is None:
            continue
        full = (*path, *map(_unescaped, steps[2:]))
        if (there := located(stored, place)) is None or not _is_absent(document, full):
            continue
        array = next((at for at, step in enumerate(there) if at > 1 and isinstance(step, int)), None)
        if array is None:
            document = changed_at(document, full, MASK)
        elif all(one == MASK for one in _value_at(stored, there[:array])):
            document = changed_at(document, full[:array], list(_value_at(stored, there[:array])))
    return document


def _value_at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def _is_absent(document: Any, path: Path) -> bool:
    """Whether nothing is said about that path, not even null, and it could be."""
    value = document
    for step in path:
        if isinstance(step, int):
            value = value[step]
        elif not isinstance(value, Mapping):
            return False
        elif step not in value:
            return True
        else:
            value = value[step]
    return False
