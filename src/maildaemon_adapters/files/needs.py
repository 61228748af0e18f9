"""Which kinds of destination need a package that is not always installed, and the line that installs it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from maildaemon_core.errors import BrokenPlugin, Problem


def missing(kind: str, *packages: str) -> Sequence[Problem]:
    """Says of a destination's type that a package is not installed, and how to install it; nothing if all are."""
    absent = [package for package in packages if not _is_there(package)]
    return [Problem(path="$.type", message=_words(kind, absent))] if absent else []


def require(kind: str, *packages: str) -> None:
    """Raises ``BrokenPlugin`` when a package is not installed."""
    absent = [package for package in packages if not _is_there(package)]
    if absent:
        raise BrokenPlugin(_words(kind, absent), remedy=f"pip install 'maildaemon[{kind}]'")


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def _words(kind: str, absent: Sequence[str]) -> str:
    return f"the destination {kind!r} needs {', '.join(absent)}, not installed: pip install 'maildaemon[{kind}]'"
