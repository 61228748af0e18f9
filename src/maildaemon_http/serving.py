"""The service: mailboxes are swept and the API is answered in one process, until it is told to stop.

The order matters.  The address is taken before anything else, so that a second service on it does nothing at all; the
store is open before anybody is answered; nothing is swept before the address is listened on.
"""

from __future__ import annotations

import logging
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import attrs
import uvicorn

from maildaemon_core.access import KeyState
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.errors import InvalidOptions, KeyExists, Problem
from maildaemon_core.message import MailboxId
from maildaemon_core.store_port import Keys
from maildaemon_http import compose, keyring
from maildaemon_http.api.app import create_app
from maildaemon_http.api.metrics import Metrics
from maildaemon_http.api.repeating import REMEMBERED
from maildaemon_http.api.settings import ApiSettings
from maildaemon_http.arguments import WELL, WRONG
from maildaemon_http.configfile import ConfigurationFault, Setup, sqlite_file
from maildaemon_http.housekeeping import Housekeeping
from maildaemon_http.listening import (
    Address,
    Door,
    UnusableCertificate,
    UnusableHost,
    addresses_of,
    tls_context,
)
from maildaemon_http.lookout import Lookout
from maildaemon_http.own_name import own_name
from maildaemon_http.service_log import LogMonitor, start_service_logging
from maildaemon_http.service_table import make_roots
from maildaemon_http.stopping import heeding_sigterm
from maildaemon_http.terminal import Terminal

FIRST = "first"
"""The name of the key that is made where there is none."""

IDLE_SECONDS = 15
"""So long a connection is kept open for the next request."""

HEAD_BYTES = 1 << 16
"""The largest head of a request that is taken."""

THREADS_SECONDS = 1.0
"""So long at most what hangs in other threads is waited for when all is done."""

logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Wanted:
    """What was asked for on the command line; None: as the file says."""

    configuration: Path | None = None
    host: str | None = None
    port: int | None = None
    store: str | None = None
    debug: bool = False


def serve(wanted: Wanted, terminal: Terminal) -> int:
    """Runs the service until SIGTERM or SIGINT; the exit code.

    The second signal ends it at once: what is in the ledger then is what has happened.  Raises ``ConfigurationFault``,
    ``InvalidOptions``, ``CannotListen`` and what opening the store raises.
    """
    start_service_logging(debug=wanted.debug)
    try:
        with heeding_sigterm():
            code = _serve(wanted, terminal)
    except KeyboardInterrupt:
        _say(terminal, "stopped before anything was begun")
        return WELL
    _leave_threads(code)
    return code


def _serve(wanted: Wanted, terminal: Terminal) -> int:
    setup = _with_options(compose.read_service(wanted.configuration, wanted.store), wanted)
    addresses, context = _place(setup, wanted)
    with _taken(setup, addresses) as door:
        metrics, names = Metrics(), _Names()
        daemon, catalog = compose.open_service(setup, monitors=[metrics, LogMonitor(names)])
        names.daemon = daemon
        try:
            is_new = bool(getattr(daemon.store, "made_anew", False))
            _say(terminal, f"store: {setup.store_name}{' (new)' if is_new else ''}")
            is_open = any(not address.is_loopback for address in addresses)
            needs_key = not has_good_key(daemon.store)
            if needs_key and (is_open or not sys.stdout.isatty()):
                return _refused(setup, wanted, terminal, is_open=is_open)
            if is_open and context is None:
                logger.warning(_IN_PLAIN_TEXT, setup.service.host)
            if problems := list(make_roots(setup.service)):
                raise _fault(setup, wanted, problems)
            door.open()
            if needs_key and not _first_key(daemon.store, terminal):
                return _refused(setup, wanted, terminal, is_open=is_open)
            table = setup.service
            settings = ApiSettings(metrics_without_key=table.metrics_without_key, limits=table.limits)
            app = create_app(daemon, catalog, settings, metrics=metrics)
            url = door.url(tls=context is not None)
            running = _Running(
                _config(app, table.stop_seconds, context),
                daemon,
                stop_seconds=table.stop_seconds,
                began=lambda: _say(terminal, f"maildaemon serves {url} (store {setup.store_name})"),
            )
            housekeeping = Housekeeping(daemon, setup.retention, repeats=REMEMBERED)
            lookout = Lookout(daemon, metrics.folders)
            with running.heeding_signals():
                daemon.start(catalog, at_once=table.at_once, connections_per_host=table.connections_per_host)
                housekeeping.start()
                lookout.start()
                running.run(door.sockets)
                daemon.stop()
                lookout.stop()
                housekeeping.stop(running.seconds_left())
                if not daemon.close(running.seconds_left()):
                    logger.warning("what was still at work was cut; nothing is lost, the next start goes on with it")
        finally:
            daemon.close(0)
    return WELL


_IN_PLAIN_TEXT = (
    "%s is reached from other machines, and there is no TLS: keys and passwords cross the network in plain text; name "
    "a certificate in [service.tls], or let a proxy that has one stand before 127.0.0.1"
)


class _Names:
    """What people call a mailbox; the daemon that knows it is made later."""

    daemon: MailDaemon | None = None

    def __call__(self, mailbox: MailboxId) -> str:
        options = None if self.daemon is None else self.daemon.mailboxes().get(mailbox)
        return mailbox if options is None else options.label


# ------------------------------------------------------------------------------------------------------------ before


def _with_options(setup: Setup, wanted: Wanted) -> Setup:
    given = {name: value for name in ("host", "port") if (value := getattr(wanted, name)) is not None}
    return attrs.evolve(setup, service=attrs.evolve(setup.service, **given))


def _place(setup: Setup, wanted: Wanted) -> tuple[Sequence[Address], Any]:
    """Where to listen, and the TLS context if there is to be one; raises with everything that is wrong about it."""
    table = setup.service
    problems: list[Problem] = []
    addresses: Sequence[Address] = ()
    context = None
    try:
        addresses = addresses_of(table.host, table.port)
    except UnusableHost as error:
        if wanted.host is not None:
            raise InvalidOptions([Problem(path="--host", message=str(error.trouble()))]) from None
        problems.append(Problem(path="$.service.host", message=str(error.trouble())))
    if table.tls is not None:
        try:
            context = tls_context(table.tls)
        except UnusableCertificate as error:
            name = "key" if error.key else "certificate"
            problems.append(Problem(path=f"$.service.tls.{name}", message=str(error.trouble())))
    if problems:
        raise _fault(setup, wanted, problems)
    return addresses, context


def _fault(setup: Setup, wanted: Wanted, problems: Sequence[Problem]) -> ConfigurationFault | InvalidOptions:
    """What is wrong with what a file says, or with what holds without one."""
    return (
        InvalidOptions(problems) if wanted.configuration is None else ConfigurationFault(setup.path, problems=problems)
    )


@contextmanager
def _taken(setup: Setup, addresses: Sequence[Address]) -> Iterator[Door]:
    door = Door(setup.service.host, addresses)
    try:
        yield door
    finally:
        door.close()


def _config(app: Any, stop_seconds: float, context: Any) -> uvicorn.Config:
    # Python's own sockets and loop: what confines connections sees those of no other.
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # what anybody can cause who connects is no warning
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=math.ceil(stop_seconds),
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    config.load()
    config.ssl = context
    return config


# --------------------------------------------------------------------------------------------------------- first key


def has_good_key(keeper: Keys) -> bool:
    """Whether anybody could use the service."""
    there, now = keeper.keys(), datetime.now(UTC)
    return any(key.state(now=now) is KeyState.GOOD for key in there)


def _first_key(keeper: Keys, terminal: Terminal) -> bool:
    """Makes a key for everything and shows it; False if an expired one holds its name."""
    try:
        keyring.add_key(keeper, keyring.key_wish(FIRST, scopes=None, expires=None), terminal)
    except KeyExists:
        return False
    return True


def _refused(setup: Setup, wanted: Wanted, terminal: Terminal, *, is_open: bool) -> int:
    reached = f", and {setup.service.host} is reached from other machines" if is_open else ""
    _say(terminal, f"maildaemon: there is no API key that is good{reached}: nothing is served")
    _say(terminal, f"  what to do: make one: {own_name()} keys create NAME {_of_this_store(setup, wanted)}")
    return WRONG


def _of_this_store(setup: Setup, wanted: Wanted) -> str:
    """The options that name this very store to another command; never with a password in them."""
    if wanted.configuration is not None and not setup.store_is_given:
        return f"--config {shlex.quote(str(wanted.configuration))}"
    is_file, login = sqlite_file(setup.store) is not None, setup.store.partition("://")[2].rpartition("@")[0]
    if is_file or (not {":", "?"} & set(login) and "?" not in setup.store):
        return f"--store {shlex.quote(setup.store)}"
    if wanted.store == os.environ.get(compose.STORE_VARIABLE):
        return f'--store "${compose.STORE_VARIABLE}"'
    return "--store URL, with the very URL that was given here"


# ----------------------------------------------------------------------------------------------------------- running


class _Running(uvicorn.Server):
    """The server with signals that are ours: the first one asks, the second one ends."""

    def __init__(
        self,
        config: uvicorn.Config,
        daemon: MailDaemon,
        *,
        stop_seconds: float,
        began: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._daemon = daemon
        self._stop = stop_seconds
        self._began = began
        self._asked: float | None = None

    def seconds_left(self) -> float:
        """Until what is still at work is cut."""
        asked = time.monotonic() if self._asked is None else self._asked
        return max(asked + self._stop - time.monotonic(), 0.0)

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        before = {one: signal.signal(one, self._heed) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _heed(self, number: int, frame: object) -> None:
        if self._asked is not None:
            _end(128 + number)
        self._asked = time.monotonic()
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:  # uvicorn would raise them anew at the end
        yield

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._began()

    async def shutdown(self, sockets: Any = None) -> None:
        logger.info("stopping after what is being stored just now, within %g s; once more to stop at once", self._stop)
        self._daemon.stop()  # at once, so that requests that wait for a sweep are answered in time
        await super().shutdown(sockets)


def _end(code: int) -> NoReturn:
    with suppress(OSError):
        os.write(2, b"stopped at once: nothing is lost and nothing comes twice; the next start goes on from here\n")
    os._exit(code)


def _leave_threads(code: int) -> None:
    """What hangs in a thread for the sake of a request, an attempt to connect say, keeps nobody from ending."""
    deadline = time.monotonic() + THREADS_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(deadline - time.monotonic(), 0))
            if thread.is_alive():
                with suppress(OSError, ValueError):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(code)


def _say(terminal: Terminal, words: str, style: str = "") -> None:
    """To whoever reads along; that nobody does any more ends no service."""
    with suppress(OSError, SystemExit):  # rich makes an exit of a pipe nobody reads
        terminal.note(words, style)
