"""From options to open adapters: which kinds they name, what is wrong with them, and the adapters themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import attrs

from maildaemon_core import codec
from maildaemon_core.confinement import (
    Confinement,
    OutOfBounds,
    destination_problems,
    local_path,
    local_path_fields,
    options_problems,
    placed,
    require_within,
    source_problems,
)
from maildaemon_core.engine.confining import confined, real_file, real_folders, real_place, trusted
from maildaemon_core.engine.marking import Marking
from maildaemon_core.engine.plugins import Registry
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.engine.targets import Target
from maildaemon_core.errors import BrokenPlugin, InvalidOptions, Problem, UnknownKind
from maildaemon_core.options import DestinationOptions, MailboxOptions, Secret
from maildaemon_core.ports import Destination, DestinationKind, MailSource, SecretReader, SourceKind
from maildaemon_core.soundness import problems

Options = MailboxOptions | DestinationOptions

Placing = Callable[[str, Sequence[str]], str]
"""From a path as written, and the folders that it may lie in, to a full one; raises ``OutOfBounds``."""


@attrs.frozen(kw_only=True)
class Connector:
    """Opens what options name, with their secrets read; ``confinement`` is what they may reach, None: anything."""

    sources: Registry[MailSource]
    destinations: Registry[Destination]
    spool: FolderSpool
    read_secret: SecretReader
    confinement: Confinement | None = None

    def context(self) -> AbstractContextManager[None]:
        """What to do in here with what was opened, so that it connects only to where it may."""
        return trusted() if self.confinement is None else confined(self.confinement)

    def problems(self, options: MailboxOptions) -> Sequence[Problem]:
        """Everything that is wrong with these options, as far as it shows without a connection."""
        found: list[Problem] = []
        if self.confinement is not None:
            found += options_problems(self.confinement, options)
        try:
            kind = self.sources.kind(options.kind)
        except (UnknownKind, BrokenPlugin) as error:
            found.append(Problem(path="$.type", message=str(error.trouble())))
            found += problems(options)
        else:
            found += problems(options, kind.facts)
            found += self._own_problems(kind, options, "$")
        for number, destination in enumerate(options.destinations):
            path = f"$.destinations[{number}]"
            try:
                found += self._own_problems(self.destinations.kind(destination.kind), destination, path)
            except (UnknownKind, BrokenPlugin) as error:
                found.append(Problem(path=f"{path}.type", message=str(error.trouble())))
        return list(dict.fromkeys(found))

    def source(self, options: MailboxOptions) -> MailSource:
        """Connects and logs in; raises what a source raises, and ``OutOfBounds``."""
        if self.confinement is not None:
            _require(source_problems(self.confinement, options))
        source: MailSource = self._opened(self.sources.kind(options.kind), options, self.spool)
        return source

    def target(self, options: DestinationOptions) -> Target:
        """Opens a destination; raises what that raises, and ``OutOfBounds``."""
        if self.confinement is not None:
            _require(destination_problems(self.confinement, options, "$"))
        destination: Destination = self._opened(self.destinations.kind(options.kind), options)
        if self.confinement is not None and destination.place.startswith(_FILE):
            # Somebody may have put a link there since it was looked at.  The place is where files will go, for it
            # follows no link from now on; it is not closed, since that would tidy up wherever it may be.
            require_within(destination.place.removeprefix(_FILE), real_folders(self.confinement.roots))
        return Target(options, Marking(destination))

    def _opened(self, kind: SourceKind | DestinationKind, options: Options, *more: object) -> Any:
        settings = self._revealed(self._settings(kind, options, real_file))
        real = self._revealed(self._placed(kind, options, real_place))
        with self.context():
            return kind.open(real, settings, *more)

    def _own_problems(self, kind: SourceKind | DestinationKind, options: Options, path: str) -> Sequence[Problem]:
        """What the kind itself says of the options, and what of their files lies where it may not; below ``path``."""
        found = self._misplaced(kind, options)
        if not found:  # else the kind would be asked about a path that nobody may use
            options = self._placed(kind, options, placed)
        try:
            settings = codec.read(kind.settings, options.options)
        except InvalidOptions as error:
            found += (attrs.evolve(each, path=f"$.options{each.path[1:]}") for each in error.problems)
        else:
            if misplaced := self._misplaced_settings(settings):
                found += misplaced
            else:
                settings = self._settings(kind, options, placed)
            told = {each.path for each in found}
            found += (each for each in kind.problems(options, settings) if each.path not in told)
        return [attrs.evolve(each, path=path + each.path[1:]) for each in found]

    # ------------------------------------------------------------------------------------------------------- files

    def _misplaced(self, kind: SourceKind | DestinationKind, options: Options) -> list[Problem]:
        try:
            self._placed(kind, options, real_place)
        except OutOfBounds as error:
            return [Problem(path=f"$.{_place(options)}", message=str(error.trouble()))]
        return []

    def _misplaced_settings(self, settings: Any) -> Sequence[Problem]:
        if self.confinement is None:
            return ()
        kind_of_settings: Any = type(settings)
        names = codec.wire_names(kind_of_settings)
        found = []
        for field, path in _files(settings).items():
            try:
                real_file(path, self.confinement.files)
            except OutOfBounds as error:
                found.append(Problem(path=f"$.options.{names[field]}", message=str(error.trouble())))
        return found

    def _placed(self, kind: SourceKind | DestinationKind, options: Any, placing: Placing) -> Any:
        """The options with the full path of what they name on this machine."""
        if self.confinement is None:
            return options
        name = _place(options)
        written = getattr(options, name)
        path = local_path(written, is_local_kind=kind.facts.needs_path)
        if path is None or (placing is placed and path != written):  # a URL is full, and its kind says what it takes
            return options
        whole = placing(path, self.confinement.roots)
        try:
            return attrs.evolve(options, **{name: whole})
        except ValueError as error:  # what is escaped in a URL is judged only now
            raise OutOfBounds(f"this path is not taken: {error}", remedy="name another") from None

    def _settings(self, kind: SourceKind | DestinationKind, options: Options, placing: Placing) -> Any:
        """The kind's own settings with the full paths of the files that they name."""
        settings = codec.read(kind.settings, options.options)
        if self.confinement is None:
            return settings
        folders = self.confinement.files
        return attrs.evolve(settings, **{name: placing(path, folders) for name, path in _files(settings).items()})

    def _revealed(self, options: Any) -> Any:
        return with_secrets_read(options, self.read_secret)


_FILE = "file:"


def with_secrets_read(options: Any, read_secret: SecretReader) -> Any:
    """Options or settings with their secrets read; every secret that there is, is read just before it is used."""
    held = {each.name: getattr(options, each.name) for each in attrs.fields(type(options))}
    return attrs.evolve(options, **{name: read_secret(one) for name, one in held.items() if isinstance(one, Secret)})


def _place(options: Options) -> str:
    """The property that may name a place on this machine."""
    return "path" if isinstance(options, MailboxOptions) else "url"


def _files(settings: Any) -> Mapping[str, str]:
    """The files of this machine that settings name, by field."""
    named = {field: getattr(settings, field) for field in local_path_fields(type(settings))}
    return {field: path for field, path in named.items() if path}


def _require(found: Sequence[Problem]) -> None:
    for problem in found:
        raise OutOfBounds(f"{problem.path.removeprefix('$.')}: {problem.message}")
