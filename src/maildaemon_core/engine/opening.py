"""From options to open adapters: which kinds they name, what is wrong with them, and the adapters themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from maildaemon_core import codec
from maildaemon_core.engine.plugins import Registry
from maildaemon_core.engine.targets import Target
from maildaemon_core.errors import BrokenPlugin, InvalidOptions, Problem, UnknownKind
from maildaemon_core.options import DestinationOptions, MailboxOptions, Secret
from maildaemon_core.ports import Destination, DestinationKind, MailSource, SecretReader, SourceKind, Spool
from maildaemon_core.soundness import problems


@attrs.frozen(kw_only=True)
class Opener:
    """Opens what options name, with their secrets read."""

    sources: Registry[MailSource]
    destinations: Registry[Destination]
    spool: Spool
    read_secret: SecretReader

    def problems(self, options: MailboxOptions) -> Sequence[Problem]:
        """Everything that is wrong with these options, as far as it shows without a connection."""
        found: list[Problem] = []
        try:
            kind = self.sources.kind(options.kind)
        except (UnknownKind, BrokenPlugin) as error:
            found.append(Problem(path="$.type", message=str(error.trouble())))
            found += problems(options)
        else:
            found += problems(options, kind.facts)
            found += _own_problems(kind, options, "$")
        for number, destination in enumerate(options.destinations):
            path = f"$.destinations[{number}]"
            try:
                found += _own_problems(self.destinations.kind(destination.kind), destination, path)
            except (UnknownKind, BrokenPlugin) as error:
                found.append(Problem(path=f"{path}.type", message=str(error.trouble())))
        return list(dict.fromkeys(found))

    def source(self, options: MailboxOptions) -> MailSource:
        """Connects and logs in; raises what a source raises."""
        kind = self.sources.kind(options.kind)
        return kind.open(self._revealed(options), self._settings(kind, options), self.spool)

    def target(self, options: DestinationOptions) -> Target:
        kind = self.destinations.kind(options.kind)
        destination = kind.open(self._revealed(options), self._settings(kind, options))
        return Target(options, destination)

    def _settings(self, kind: SourceKind | DestinationKind, options: MailboxOptions | DestinationOptions) -> Any:
        return self._revealed(codec.read(kind.settings, options.options))

    def _revealed(self, options: Any) -> Any:
        return with_secrets_read(options, self.read_secret)


def with_secrets_read(options: Any, read_secret: SecretReader) -> Any:
    """Options or settings with their secrets read; every secret that there is, is read just before it is used."""
    held = {each.name: getattr(options, each.name) for each in attrs.fields(type(options))}
    return attrs.evolve(options, **{name: read_secret(one) for name, one in held.items() if isinstance(one, Secret)})


def _own_problems(
    kind: SourceKind | DestinationKind, options: MailboxOptions | DestinationOptions, path: str
) -> Sequence[Problem]:
    try:
        settings = codec.read(kind.settings, options.options)
    except InvalidOptions as error:
        return [attrs.evolve(problem, path=f"{path}.options{problem.path[1:]}") for problem in error.problems]
    return [
        attrs.evolve(problem, path=path + problem.path[1:]) if path != "$" else problem
        for problem in kind.problems(options, settings)
    ]
