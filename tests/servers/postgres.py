"""A PostgreSQL of one's own on loopback: any number at once, as root or as anybody, ready in about 0.7 s.

    with Postgres() as server:
        url = server.fresh_database()  # postgresql://maildaemon:...@127.0.0.1:PORT/test_1

How it is started, stopped and crashed: https://www.postgresql.org/docs/current/server-shutdown.html.
"""

from __future__ import annotations

import itertools
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from tests.servers.availability import postgres_programs
from tests.servers.homed import Homed
from tests.servers.process import LOOPBACK, Process, ServerFailed, free_port, run_as

SUPERUSER = "postgres"
USER = "maildaemon"
"""Who owns the databases and has no other right, as it is to be in earnest."""

ATTEMPTS = 3
"""How often it is started anew when somebody took its port in the meantime."""

SECONDS_TO_BE_READY = 60.0

QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""For tests that never crash it; the loss of everything by a power cut is nothing to them."""


class Postgres(Homed):
    """A server with its data and its log in a temporary folder that goes when it stops.

    ``durable``: commits are on the disk before they are answered, as they are in earnest; without it all is faster.
    ``settings`` are further ones, each ``name=value``.

    Known once started: ``port``, ``password`` (of both users), ``data`` (folder), ``log`` (file), ``pid`` (of the
    postmaster).  ``start``, ``stop`` and ``crash`` may be called in between, from a thread that outlives the server.
    """

    farewell = signal.SIGQUIT  # what is in it is thrown away at once

    def __init__(self, *, durable: bool = False, settings: tuple[str, ...] = ()) -> None:
        self.durable = durable
        self.settings = settings
        self._numbers = itertools.count(1)

    # ---- databases ----

    @property
    def url(self) -> str:
        """Of a database that is always there; tests that write take a fresh one."""
        return self.url_of(USER)

    @property
    def superuser_url(self) -> str:
        return self.url_of("postgres", user=SUPERUSER)

    def url_of(self, database: str, *, user: str = USER) -> str:
        return f"postgresql://{user}:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def fresh_database(self) -> str:
        """The URL of an empty database that nobody else has; it belongs to the ordinary user.

        ``template0`` never has a session that would be in the way of copying it.
        """
        name = f"test_{next(self._numbers)}"
        self.execute("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'", name, USER)
        return self.url_of(name)

    def drop_database(self, url: str) -> None:
        """Ends every session in it, and removes it with its files."""
        self.execute("DROP DATABASE {} WITH (FORCE)", url.rpartition("/")[2])

    def empty_database(self, url: str) -> None:
        """Ends every session in it and forgets every row but the version of its tables; numbers begin at 1 again."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            names = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'maildaemon_version'"
            ).fetchall()
            if names:
                tables = sql.SQL(", ").join(sql.Identifier(name) for (name,) in names)
                connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(tables))

    def execute(self, statement: LiteralString, *names: str) -> None:
        """Does something as the superuser; each ``{}`` is a name."""
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    # ---- its life ----

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self) -> None:
        """Starts it on its port and its data, and returns when it lets users in: after recovery, if it needs one.

        Raises ServerFailed.
        """
        settings = (
            f"listen_addresses={LOOPBACK}",
            f"port={self.port}",
            "unix_socket_directories=",  # its usual place is shared, and not ours to write to
            "shared_buffers=16MB",
            "max_connections=200",
            "log_min_messages=warning",
            *(() if self.durable else QUICK),
            *self.settings,
        )
        options = (word for setting in settings for word in ("-c", setting))
        self.process = Process(
            [self._programs / "postgres", "-D", self.data, *options],
            log=self.log,
            environment=_environment(),
            user=self._owner,
            farewell=signal.SIGQUIT,  # SIGTERM would have it wait for its clients, for ever
        )
        deadline = time.monotonic() + SECONDS_TO_BE_READY
        while True:
            try:
                psycopg.connect(self.superuser_url, connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if self.process.exit_code is not None:
                    raise ServerFailed(f"ended with {self.process.exit_code}: {self.process.last_words()}") from None
                if time.monotonic() > deadline:
                    self.process.stop(signal.SIGQUIT)
                    raise ServerFailed(f"not ready in time: {error}\n{self.process.last_words()}") from None
            time.sleep(0.02)

    def stop(self) -> None:
        """Throws its clients out, and stops in order ("fast shutdown").  Twice is fine."""
        self.process.stop(signal.SIGINT, seconds=30)

    def crash(self) -> None:
        """Stops at once as a crash would ("immediate shutdown"): the next start has to recover.  Twice is fine."""
        self.process.stop(signal.SIGQUIT)

    # ---- within ----

    def _start(self) -> None:
        self._programs = postgres_programs()
        self.data = self.root / "data"
        self.log = self.root / "postgres.log"
        self.password = secrets.token_hex(8)
        self._owner = _unprivileged()
        words = self.root / "password"
        words.touch(mode=0o600)
        words.write_text(self.password)
        if self._owner is not None:
            for path in (self.root, words):
                shutil.chown(path, self._owner)
        self._initdb(words)
        words.unlink()
        for attempt in range(1, ATTEMPTS + 1):
            self.port = free_port()
            try:
                self.start()
                break
            except ServerFailed as failure:
                if attempt == ATTEMPTS or "Address already in use" not in str(failure):
                    raise
        try:
            self.execute(f"CREATE ROLE {{}} LOGIN PASSWORD '{self.password}'", USER)
            self.execute("CREATE DATABASE {} OWNER {} TEMPLATE template0", USER, USER)
        except BaseException:
            self.process.stop(signal.SIGQUIT)
            raise

    def _initdb(self, password: Path) -> None:
        done = subprocess.run(
            [
                *(self._programs / "initdb", "-D", self.data, "-U", SUPERUSER, f"--pwfile={password}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
            **run_as(self._owner),
        )
        if done.returncode != 0:
            raise ServerFailed(f"initdb: exit {done.returncode}: {done.stdout}{done.stderr}")


def _unprivileged() -> str | None:
    """Whose server it is: None for ours; as root somebody else's, for PostgreSQL refuses to run as uid 0."""
    if os.getuid() != 0:
        return None
    accounts = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"


def _environment() -> dict[str, str]:
    """Ours without what would tell PostgreSQL's programs something else than we do."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
