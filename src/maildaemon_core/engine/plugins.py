"""Which adapters are installed: found by entry points, loaded when first asked for, broken ones told apart.

Our own adapters come through the same groups as anybody's.
"""

from __future__ import annotations

import difflib
import functools
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, Generic, TypeVar

import attrs

from maildaemon_core.containers import Opener
from maildaemon_core.errors import BrokenPlugin, UnknownKind
from maildaemon_core.ports import Destination, Kind, MailSource
from maildaemon_core.store_port import Store

logger = logging.getLogger(__name__)

SOURCES = "maildaemon.sources"
DESTINATIONS = "maildaemon.destinations"
STORES = "maildaemon.stores"
OPENERS = "maildaemon.openers"

_OURS = frozenset(
    {"azure", "eml", "file", "ftp", "gcs", "imap", "maildir", "mbox", "pop3", "s3", "sftp", "smb", "sqlite", "webdav"}
)
"""Kinds of this distribution, for the line that installs what they need."""

_EXTRA = {"sqlite": "sql", "file": "", "ftp": "", "pop3": ""}

_NOUN = {SOURCES: "source", DESTINATIONS: "destination", STORES: "store", OPENERS: "opener"}

P = TypeVar("P")
T = TypeVar("T")


@functools.cache
def _installed(group: str, _where: tuple[str, ...]) -> EntryPoints:
    """What is installed of one group: read once, for it means reading a file of every distribution that there is.

    ``_where`` is where modules are looked for.  What is installed there later is found by the next process; this one
    would go on with what it has loaded anyway.
    """
    return entry_points(group=group)


@attrs.frozen(kw_only=True)
class Plugin:
    """An installed adapter: what it is called and which distribution brought it."""

    name: str
    distribution: str
    fault: str | None = None


class Installed(ABC, Generic[T]):
    """What is installed under one group of entry points, by name; each is loaded when it is first asked for.

    ``entries`` replaces what is installed, for tests and for embedding; ``given`` takes the place of entries.
    """

    def __init__(self, group: str, entries: Iterable[EntryPoint] | None, given: Mapping[str, T]) -> None:
        self._noun = _NOUN.get(group, "plug-in")
        found = _installed(group, tuple(sys.path)) if entries is None else entries
        self._entries = {entry.name: entry for entry in found}
        self._loaded: dict[str, T] = dict(given)

    @abstractmethod
    def _refusal(self, loaded: object) -> str | None:
        """Why what an entry point names is not what it should be."""

    def names(self) -> Sequence[str]:
        return sorted({*self._entries, *self._loaded})

    def get(self, name: str) -> T:
        """The one of that name; raises ``UnknownKind`` or ``BrokenPlugin``, each of which says what to do."""
        if name in self._loaded:
            return self._loaded[name]
        entry = self._entries.get(name)
        if entry is None:
            installed = ", ".join(self.names()) or "none"
            alike = difflib.get_close_matches(name, self.names(), 1)
            raise UnknownKind(
                f"no {self._noun} named {name!r}; installed: {installed}",
                remedy=f"did you mean {alike[0]!r}?" if alike else self._how_to_get(name),
            )
        try:
            loaded = entry.load()
        except (Exception, SystemExit) as error:  # a script that was never meant to be imported may want to end
            raise self._broken(entry, error) from error
        if refusal := self._refusal(loaded):
            raise BrokenPlugin(
                f"the {self._noun} {name!r} ({entry.value}) is {refusal}", remedy="tell its author, or uninstall it"
            )
        one: T = loaded
        self._loaded[name] = one
        return one

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
                self.get(name)
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


class Registry(Installed[Kind[Any, P]]):
    """The adapters of one group, by name.  ``entries`` replaces what is installed, for tests and for embedding."""

    def __init__(self, group: str, entries: Iterable[EntryPoint] | None = None, **kinds: Kind[Any, P]) -> None:
        super().__init__(group, entries, kinds)

    def kind(self, name: str) -> Kind[Any, P]:
        """The adapter of that name; raises ``UnknownKind`` or ``BrokenPlugin``, each of which says what to do."""
        return self.get(name)

    def _refusal(self, loaded: object) -> str | None:
        return None if isinstance(loaded, Kind) else "not a maildaemon Kind"


class Openers(Installed[Opener]):
    """What opens containers within mails: ``given`` ones, or what is installed, or ``entries`` instead."""

    def __init__(self, given: Sequence[Opener] | None = None, *, entries: Iterable[EntryPoint] | None = None) -> None:
        named = {str(opener.name): opener for opener in given or ()}
        super().__init__(OPENERS, () if given is not None and entries is None else entries, named)
        self._working: Sequence[Opener] | None = None

    def working(self) -> Sequence[Opener]:
        """Those that can be used, by name, so that the same one always opens what several recognise.

        The log names those that are broken, once; the others go on without them.
        """
        if self._working is None:
            found: list[Opener] = []
            for name in self.names():
                try:
                    found.append(self.get(name))
                except BrokenPlugin as error:
                    logger.warning("%s", error.trouble())
            self._working = tuple(found)
        return self._working

    def broken(self) -> Mapping[str, BrokenPlugin]:
        """Those that cannot be used, by name, each with why."""
        faults: dict[str, BrokenPlugin] = {}
        for name in self.names():
            try:
                self.get(name)
            except BrokenPlugin as error:
                faults[name] = error
        return faults

    def _refusal(self, loaded: object) -> str | None:
        if isinstance(loaded, type):
            return "a class, where an object is wanted"
        return None if isinstance(loaded, Opener) and isinstance(loaded.name, str) else "not a maildaemon Opener"


def installed_sources() -> Registry[MailSource]:
    return Registry(SOURCES)


def installed_destinations() -> Registry[Destination]:
    return Registry(DESTINATIONS)


def installed_stores() -> Registry[Store]:
    return Registry(STORES)
