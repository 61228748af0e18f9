"""Which adapters are installed: found by entry points, loaded when first asked for, broken ones told apart.

Our own adapters come through the same groups as anybody's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

import attrs

from maildaemon_core.errors import BrokenPlugin, UnknownKind
from maildaemon_core.ports import Destination, Kind, MailSource
from maildaemon_core.store_port import Store

SOURCES = "maildaemon.sources"
DESTINATIONS = "maildaemon.destinations"
STORES = "maildaemon.stores"

_OURS = frozenset({"azure", "file", "ftp", "gcs", "imap", "s3", "sftp", "smb", "sqlite", "webdav"})
"""Kinds of this distribution, for the line that installs what they need."""

_EXTRA = {"sqlite": "sql", "file": "", "ftp": ""}

_NOUN = {SOURCES: "source", DESTINATIONS: "destination", STORES: "store"}

P = TypeVar("P")


@attrs.frozen(kw_only=True)
class Plugin:
    """An installed adapter: what it is called and which distribution brought it."""

    name: str
    distribution: str
    fault: str | None = None


class Registry(Generic[P]):
    """The adapters of one group, by name.  ``entries`` replaces what is installed, for tests and for embedding."""

    def __init__(self, group: str, entries: Iterable[EntryPoint] | None = None, **kinds: Kind[Any, P]) -> None:
        self._group = group
        self._noun = _NOUN.get(group, "plug-in")
        found = entry_points(group=group) if entries is None else entries
        self._entries = {entry.name: entry for entry in found}
        self._kinds: dict[str, Kind[Any, P]] = dict(kinds)

    def names(self) -> Sequence[str]:
        return sorted({*self._entries, *self._kinds})

    def kind(self, name: str) -> Kind[Any, P]:
        """The adapter of that name; raises ``UnknownKind`` or ``BrokenPlugin``, each of which says what to do."""
        if name in self._kinds:
            return self._kinds[name]
        entry = self._entries.get(name)
        if entry is None:
            installed = ", ".join(self.names()) or "none"
            alike = difflib.get_close_matches(name, self.names(), 1)
            raise UnknownKind(
                f"no {self._noun} named {name!r}; installed: {installed}",
                remedy=f"did you mean {alike[0]!r}?" if alike else self._how_to_get(name),
            )
        try:
            kind = entry.load()
        except (Exception, SystemExit) as error:  # a script that was never meant to be imported may want to end
            raise self._broken(entry, error) from error
        if not isinstance(kind, Kind):
            raise BrokenPlugin(
                f"the {self._noun} {name!r} ({entry.value}) is not a maildaemon Kind",
                remedy="tell its author, or uninstall it",
            )
        self._kinds[name] = kind
        return kind

    def _how_to_get(self, name: str) -> str:
        if name in _EXTRA:  # one of ours that is not registered: this installation is older, or damaged
            return f"pip install --upgrade 'maildaemon[{_EXTRA[name] or name}]'"
        return f"correct the type, or install the plug-in that brings a {self._noun} of that name"

    def plugins(self) -> Sequence[Plugin]:
        """All of them, each loaded once, the broken ones with their fault."""
        plugins = []
        for name in self.names():
            entry = self._entries.get(name)
            distribution = entry.dist.name if entry is not None and entry.dist is not None else ""
            try:
                self.kind(name)
            except BrokenPlugin as error:
                plugins.append(Plugin(name=name, distribution=distribution, fault=str(error.trouble())))
            else:
                plugins.append(Plugin(name=name, distribution=distribution))
        return plugins

    def _broken(self, entry: EntryPoint, error: BaseException) -> BrokenPlugin:
        if isinstance(error, ModuleNotFoundError) and entry.name in _OURS:
            extra = _EXTRA.get(entry.name, entry.name)
            return BrokenPlugin(
                f"the {self._noun} {entry.name!r} needs the package {error.name!r}, which is not installed",
                remedy=f"pip install 'maildaemon[{extra}]'" if extra else "install maildaemon again",
            )
        return BrokenPlugin(
            f"the {self._noun} {entry.name!r} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}",
            remedy="repair or uninstall it; everything that does not name it goes on",
        )


def installed_sources() -> Registry[MailSource]:
    return Registry(SOURCES)


def installed_destinations() -> Registry[Destination]:
    return Registry(DESTINATIONS)


def installed_stores() -> Registry[Store]:
    return Registry(STORES)
