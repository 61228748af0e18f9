"""What the ``[service]`` table of a configuration file says, and which of its folders would give the service away."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from maildaemon_core.confinement import Confinement
from maildaemon_core.engine.sessions import PER_HOST
from maildaemon_core.errors import Problem
from maildaemon_core.options import Within, a_name
from maildaemon_http.api.settings import Limits

HOST: Final = "127.0.0.1"
PORT: Final = 8025

DATA: Final = "data"
"""The folder for mailboxes of the API when the operator names none, beside the configuration."""

_OURS = "MAILDAEMON_"


def _variables(instance: object, attribute: object, value: Sequence[str]) -> None:
    """A validator: names of environment variables, none of them the service's own.  Raises ValueError."""
    a_name(instance, attribute, value)
    for name in value:
        if name.startswith(_OURS):
            raise ValueError(f"{name} is the service's own: no mailbox is to read it")


@attrs.frozen(kw_only=True)
class TlsTable:
    """``certificate``: a PEM file with the certificate and those that vouch for it, the server's own first.

    ``key``: the PEM file of its private key, not encrypted; absent: it stands in the same file.
    """

    certificate: str = attrs.field(validator=a_name)
    key: str | None = attrs.field(default=None, validator=attrs.validators.optional(a_name))


@attrs.frozen(kw_only=True)
class SecretsTable:
    """What secrets of mailboxes that come over the API may refer to.

    ``folder``: ``file:`` names what really lies below it, links followed; absent: no ``file:`` is taken.
    ``environment``: the only variables that ``env:`` may name.
    """

    folder: str | None = attrs.field(default=None, validator=attrs.validators.optional(a_name))
    environment: tuple[str, ...] = attrs.field(default=(), validator=_variables)


@attrs.frozen(kw_only=True)
class ServiceTable:
    """Where the service listens, how much it does at once, and what mailboxes of the API may use.

    ``host``, ``port``: where it listens; port 0 is any that is free.  ``tls``: with it the API is spoken over TLS only.
    ``at_once``: so many mailboxes are swept side by side.  ``connections_per_host``: so many connections to one mail
    server at most, with those that wait for news of it.  ``stop_seconds``: how long a stop may take until what is
    still at work is cut at a safe point.  ``metrics_without_key``: whether ``/metrics`` is for everybody who can
    connect.
    """

    host: str = attrs.field(default=HOST, validator=a_name)
    port: int = attrs.field(default=PORT, validator=Within(0, 65535))
    tls: TlsTable | None = None
    at_once: int = attrs.field(default=4, validator=Within(1, 1000))
    connections_per_host: int = attrs.field(default=PER_HOST, validator=Within(1, 100_000))
    stop_seconds: float = attrs.field(default=30.0, validator=Within(1, 3600))
    metrics_without_key: bool = False
    limits: Limits = attrs.field(factory=Limits)
    confinement: Confinement = attrs.field(factory=Confinement)
    secrets: SecretsTable = SecretsTable()


def located(table: ServiceTable, folder: Path) -> ServiceTable:
    """The table with its paths made absolute, relative ones below ``folder``; if it has no roots, with ``DATA``."""

    def absolute(path: str) -> str:
        whole = folder / Path(path).expanduser()
        # What leads up again is followed as the system does, links and all; below it paths are compared by their steps.
        return os.path.realpath(whole) if ".." in whole.parts else str(whole)

    roots = table.confinement.roots or (DATA,)
    confinement = attrs.evolve(
        table.confinement,
        roots=tuple(map(absolute, roots)),
        files=tuple(map(absolute, table.confinement.files)),
    )
    tls = table.tls and TlsTable(
        certificate=absolute(table.tls.certificate), key=None if table.tls.key is None else absolute(table.tls.key)
    )
    secrets = table.secrets
    if secrets.folder is not None:
        secrets = attrs.evolve(secrets, folder=absolute(secrets.folder))
    return attrs.evolve(table, confinement=confinement, tls=tls, secrets=secrets)


def make_roots(table: ServiceTable) -> Iterator[Problem]:
    """Makes the folders for mailboxes that are not there; what is in the way of that."""
    for at, root in enumerate(table.confinement.roots):
        try:
            Path(root).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
            yield Problem(path=f"$.service.confinement.roots[{at}]", message=f"{root} cannot be used: {why}")


def exposed(table: ServiceTable, own: Mapping[str, Path]) -> Iterator[Problem]:
    """What of the service's ``own`` files, by what they are, lies in a folder that mailboxes of the API may use.

    Whoever may edit mailboxes could have them read, and sent to a server of theirs.  Looks at links as they are now.
    """
    files = dict(own)
    if table.tls is not None:
        files["the key of its certificate"] = Path(table.tls.key or table.tls.certificate)
    for path, folder in _opened(table):
        top = Path(os.path.realpath(folder))
        inside = [f"{what} ({place})" for what, place in files.items() if _is_in(place, top)]
        if inside:
            yield Problem(
                path=path,
                message=f"{folder} holds what is the service's own: {', '.join(inside)}; name a folder for mailboxes "
                "alone",
            )


def _opened(table: ServiceTable) -> Iterator[tuple[str, str]]:
    """The folders that mailboxes may use, by where the table says so."""
    for name, folders in (("roots", table.confinement.roots), ("files", table.confinement.files)):
        for at, folder in enumerate(folders):
            yield f"$.service.confinement.{name}[{at}]", folder
    if table.secrets.folder is not None:
        yield "$.service.secrets.folder", table.secrets.folder


def _is_in(place: Path, top: Path) -> bool:
    return any(Path(each).is_relative_to(top) for each in (place.absolute(), os.path.realpath(place)))
