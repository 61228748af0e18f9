"""The wiring: which adapters of ours a configuration file gets.  Nothing else in this package imports any."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maildaemon_adapters import sealing, secrets
from maildaemon_core import codec
from maildaemon_core.engine.catalog import Catalog
from maildaemon_core.engine.confining import confine_process
from maildaemon_core.engine.connecting import Connector
from maildaemon_core.engine.daemon import MailDaemon, open_store
from maildaemon_core.engine.plugins import installed_destinations, installed_sources, installed_stores
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.errors import BrokenPlugin, InvalidOptions, Problem, StoreMissing, UnknownKind
from maildaemon_core.options import MailboxOptions, Secret
from maildaemon_core.ports import Monitor, SecretReader, SecretStore
from maildaemon_core.store_port import Store
from maildaemon_http.configfile import (
    ConfigurationFault,
    Setup,
    absolute_store,
    in_mailbox,
    of_the_store,
    read_setup,
    setup_without_file,
    store_name,
)
from maildaemon_http.service_table import SecretsTable, exposed
from maildaemon_http.terminal import Terminal

STORE_VARIABLE = "MAILDAEMON_STORE"
"""The environment variable that stands for ``--store``."""


def read_configuration(path: Path, *, to_sweep: bool = False) -> Setup:
    """The configuration at ``path``, checked as far as that goes without a connection.

    Unless its mailboxes are ``to_sweep`` it need have none: that of a service may not.  Raises ``ConfigurationFault``.
    """
    return read_setup(path, _checking(), _store_problems, for_service=not to_sweep)


def read_service(path: Path | None, url: str | None) -> Setup:
    """The configuration of a service at ``path``, which need have no mailboxes, with the store at ``url`` if given.

    Without a file everything is as in one that says nothing, in the current folder.  What stands in the environment
    variable ``MAILDAEMON_STORE`` does not go before the file.  Raises ``ConfigurationFault``, or ``InvalidOptions``
    without a file.
    """
    if path is not None and url == os.environ.get(STORE_VARIABLE):
        url = None
    store = absolute_store(url, Path.cwd()) if url else None
    if path is None:
        setup = setup_without_file(Path.cwd(), store)
    else:
        setup = read_setup(path, _checking(), _store_problems, store=store, for_service=True)
    problems = list(exposed(setup.service, _own_files(setup, path)))
    if problems and path is None:
        raise InvalidOptions(problems)
    if problems:
        raise ConfigurationFault(setup.path, problems=problems)
    return setup


def _own_files(setup: Setup, path: Path | None) -> Mapping[str, Path]:
    """What no mailbox of the API may come near, by what it is."""
    files = {
        "the configuration": path,
        "the store": setup.store_file,
        "the master key": Path(name) if (name := os.environ.get(sealing.FILE_VARIABLE)) else None,
        "the credentials": Path(name) if (name := os.environ.get("CREDENTIALS_DIRECTORY")) else None,
    }
    return {what: file for what, file in files.items() if file is not None}


def new_master_key() -> str:
    """A fresh master key as text."""
    return sealing.new_master_key()


def open_vault() -> SecretStore:
    """What seals secrets, with the master keys that this process was given, if any.

    Raises ``NoMasterKey`` for one that is given and cannot be used.
    """
    return sealing.Vault(sealing.master_keys(os.environ))


def stored_catalog(store: Store, vault: SecretStore) -> Catalog:
    """The configurations that a store keeps whole."""
    return Catalog(store, vault, _connector().problems)


def _connector() -> Connector:
    return Connector(
        sources=installed_sources(),
        destinations=installed_destinations(),
        spool=FolderSpool(),
        read_secret=lambda secret: secret,
    )


def _checking() -> Callable[[MailboxOptions], Sequence[Problem]]:
    connector = _connector()
    return lambda options: [*connector.problems(options), *_secret_problems(options)]


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


def _store_problems(url: str, options: Mapping[str, Any]) -> Sequence[Problem]:
    """What is wrong with the options of a store; whether there is a kind for its URL is said when it is opened."""
    try:
        settings: Any = installed_stores().kind(re.split("[:+]", url)[0]).settings
        read = codec.read(settings, options)
    except (UnknownKind, BrokenPlugin):
        return ()
    except InvalidOptions as error:
        return error.problems
    held = [(name, getattr(read, field)) for field, name in codec.wire_names(settings).items()]
    faults = [(name, secrets.reference_fault(value)) for name, value in held if isinstance(value, Secret)]
    return [Problem(path=f"$.{name}", message=fault) for name, fault in faults if fault]


def open_daemon(
    setup: Setup, *, monitors: Sequence[Monitor] = (), store: str | None = None, make: bool = True, **limits: Any
) -> MailDaemon:
    """The daemon of a configuration, its mailboxes not yet adopted; ``limits`` are those of ``MailDaemon`` for others.

    Raises what ``MailDaemon.open`` does.
    """
    try:
        return MailDaemon.open(
            store or setup.store,
            store_options={} if store else setup.store_options,
            make=make,
            read_secret=secrets.reading(setup.path.absolute().parent, os.environ),
            monitors=monitors,
            spool=setup.spool,
            **limits,
        )
    except InvalidOptions as error:
        if setup.store_is_given:
            raise
        raise ConfigurationFault(setup.path, problems=[of_the_store(one) for one in error.problems]) from None


def open_service(setup: Setup, *, monitors: Sequence[Monitor] = ()) -> tuple[MailDaemon, Catalog]:
    """The daemon of a service with the mailboxes of its file, and the catalog of those that come over the API.

    From now on this process connects for these only to where they may.  Raises what opening the store raises,
    ``NoMasterKey`` for a master key that cannot be used, and ``ConfigurationFault``.
    """
    vault = open_vault()
    confinement = setup.service.confinement
    read, refused = _limited(setup.service.secrets)
    confine_process(confinement)
    daemon = open_daemon(setup, monitors=monitors, limited_secrets=read, confinement=confinement)
    try:
        adopt(daemon, setup)
        return daemon, daemon.catalog(vault, refused=refused)
    except BaseException:
        daemon.close()
        raise


def adopt(daemon: MailDaemon, setup: Setup) -> None:
    """Has the daemon take on the mailboxes of the file.  Raises ``ConfigurationFault`` with all that is wrong."""
    found = []
    for at, mailbox in enumerate(setup.mailboxes):
        try:
            daemon.adopt(mailbox.id, mailbox.options)
        except InvalidOptions as error:
            found += [in_mailbox(at, problem) for problem in error.problems]
    if found:
        raise ConfigurationFault(setup.path, problems=found)


def _limited(table: SecretsTable) -> tuple[SecretReader, Callable[[Secret], str | None]]:
    """What reads the secrets of mailboxes that come over the API, and why one as it is written is not taken on."""
    # Without a folder nothing is looked up in any: the root of the file system stands in for it, and is never asked.
    folder = Path(table.folder or "/")
    names = table.environment
    reading = secrets.reading(folder, os.environ, environment_names=names, folder_only=folder)

    def refused(secret: Secret, /) -> str | None:
        if table.folder is None and secret.value.startswith("file:"):
            return _NO_FILES
        return secrets.allowed(secret, folder=folder, environment_names=names, folder_only=folder)

    def read(secret: Secret, /) -> Secret:
        if table.folder is None and secret.value.startswith("file:"):
            raise secrets.SecretForbidden(f"the secret {secret.value} is not read: {_NO_FILES}")
        return reading(secret)

    return read, refused


_NO_FILES = (
    "this service allows no file: at all; its operator names a folder: [service.secrets] folder; if this is not a "
    "reference but the secret itself, write plain: before it"
)


@contextmanager
def open_chosen_store(
    url: str | None, configuration: Path | None, terminal: Terminal, *, make: bool = False, **options: Any
) -> Iterator[Store]:
    """The store of a command that says which by ``--store`` or ``--config``; else the file in the current folder.

    It is named on the terminal.  One that is not there is made only if ``make``; ``options`` go before those of the
    configuration.  Raises ``ConfigurationFault``, ``StoreMissing``, or what opening the store raises.
    """
    if configuration is not None and url == os.environ.get(STORE_VARIABLE):
        url = None  # what was typed goes before what is always there
    setup = read_configuration(configuration) if configuration is not None else None
    where = absolute_store(url, Path.cwd()) if url or setup is None else setup.store
    folder = configuration.absolute().parent if configuration is not None else Path.cwd()
    given = {**(setup.store_options if setup and not url else {}), **options}
    try:
        store = open_store(where, given, make=make, read_secret=secrets.reading(folder, os.environ))
    except StoreMissing:
        if make:
            remedy = "correct its URL in the configuration; or let it be made this once: make = true in its options"
        else:
            remedy = "name the right one with --store URL, or its configuration with --config; the first run makes one"
        raise StoreMissing(f"there is no store {store_name(where)}", remedy=remedy) from None
    except InvalidOptions as error:
        if setup is None or url:
            raise
        raise ConfigurationFault(setup.path, problems=[of_the_store(one) for one in error.problems]) from None
    try:
        is_new = bool(getattr(store, "made_anew", False))
        terminal.note(f"store: {store_name(where)}{' (new)' if is_new else ''}")
        yield store
    finally:
        store.close()


@contextmanager
def open_to_look(setup: Setup) -> Iterator[tuple[MailDaemon, bool]]:
    """The daemon for commands that change nothing, and whether its store is there.

    One that is not there is not made: an empty one stands in for it and goes afterwards.  Raises ``StoreMissing``
    where no run would make it either.
    """
    try:
        there = open_daemon(setup, make=False)
    except StoreMissing:
        if setup.store_options.get("make") is False:
            raise
    else:
        with there as daemon:
            yield daemon, True
        return
    with (
        TemporaryDirectory(prefix="maildaemon-") as folder,
        open_daemon(setup, store=f"sqlite:///{folder}/empty.db") as daemon,
    ):
        yield daemon, False
