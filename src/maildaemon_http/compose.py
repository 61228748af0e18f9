"""The wiring: which adapters of ours a configuration file gets.  Nothing else in this package imports any."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from maildaemon_adapters import secrets
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.opening import Opener
from maildaemon_core.engine.plugins import installed_destinations, installed_sources
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.errors import InvalidOptions, Problem
from maildaemon_core.options import MailboxOptions
from maildaemon_core.ports import Monitor
from maildaemon_http.configfile import ConfigurationFault, Setup, read_setup


def read_configuration(path: Path) -> Setup:
    """The configuration at ``path``, checked as far as that goes without a connection.

    Raises ``ConfigurationFault``.
    """
    return read_setup(path, _checking())


def _checking() -> Callable[[MailboxOptions], Sequence[Problem]]:
    opener = Opener(
        sources=installed_sources(),
        destinations=installed_destinations(),
        spool=FolderSpool(),
        read_secret=lambda secret: secret,
    )
    return lambda options: [*opener.problems(options), *_secret_problems(options)]


def _secret_problems(options: MailboxOptions) -> Iterator[Problem]:
    """References to secrets that lead nowhere, each with its path."""
    written = {
        "$.password": options.password,
        "$.clientSecret": options.client_secret,
        "$.clientCertificate": options.client_certificate,
        **{f"$.destinations[{at}].password": each.password for at, each in enumerate(options.destinations)},
    }
    for path, secret in written.items():
        if secret is not None and (fault := secrets.reference_fault(secret)):
            yield Problem(path=path, message=fault)


def open_daemon(setup: Setup, *, monitors: Sequence[Monitor] = (), store: str | None = None) -> MailDaemon:
    """The daemon of a configuration, its mailboxes not yet adopted.  Raises what ``MailDaemon.open`` does."""
    try:
        return MailDaemon.open(
            store or setup.store,
            read_secret=secrets.reading(setup.path.absolute().parent, os.environ),
            monitors=monitors,
            spool=setup.spool,
        )
    except InvalidOptions as error:
        raise ConfigurationFault(
            setup.path, problems=[Problem(path="$.store.url", message=one.message) for one in error.problems]
        ) from None


@contextmanager
def open_to_look(setup: Setup) -> Iterator[tuple[MailDaemon, bool]]:
    """The daemon for commands that change nothing, and whether its store is there.

    One that is not there is not made: an empty one stands in for it and goes afterwards.
    """
    file = setup.store_file
    if file is None or file.exists():
        with open_daemon(setup) as daemon:
            yield daemon, True
        return
    with (
        TemporaryDirectory(prefix="maildaemon-") as folder,
        open_daemon(setup, store=f"sqlite:///{folder}/empty.db") as daemon,
    ):
        yield daemon, False
