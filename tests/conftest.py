"""What every test can ask for: real servers, a user or a database of its own; and what a run has to say in the end."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.servers.availability import loud_lines
from tests.servers.cyrus import Cyrus
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import Postgres

# How long an example takes depends on who else uses the machine: neither deadlines nor slowness are failures.
settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# CI tries the same examples each time, so that a change is judged by nothing else; to search is for the heavy ones.
# What fails is made small but not explained, which takes many times longer, also where a failure is what is wanted.
settings.register_profile(
    "ci",
    settings.get_profile("dev"),
    derandomize=True,
    print_blob=True,
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
settings.register_profile("heavy", settings.get_profile("dev"), max_examples=5000, print_blob=True)
settings.load_profile(
    os.environ.get("MAILDAEMON_HYPOTHESIS") or ("ci" if os.environ.get("CI", "").lower() == "true" else "dev")
)


@pytest.fixture(scope="session")
def heavy() -> bool:
    """Whether heavy cases run in full: ``nox -s heavy`` says so."""
    return os.environ.get("MAILDAEMON_HEAVY") == "1"


@pytest.fixture(scope="session")
def dovecot() -> Iterator[Dovecot]:
    """A real server in which any user can log in with ``dovecot.password``; one for each worker process."""
    with Dovecot() as server:
        yield server


@pytest.fixture(scope="session")
def cyrus() -> Iterator[Cyrus]:
    """Another real server, in which users are made by ``cyrus.add_user``; one for each worker process."""
    with Cyrus() as server:
        yield server


@pytest.fixture
def mail_user() -> str:
    """The name of a user whom no other test has."""
    return f"user-{uuid.uuid4().hex[:12]}@example.com"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real server that keeps nothing over a power cut; one for each worker process."""
    with Postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty database that no other test has, with the login in its URL."""
    url = postgres.fresh_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def _one_database(postgres: Postgres) -> str:
    return postgres.fresh_database()


@pytest.fixture
def emptied_url(postgres: Postgres, _one_database: str) -> Iterator[str]:
    """A database in which there is nothing, or the tables of a store with nothing in them: quick to have.

    For tests that begin by opening a store, that are many, and to which it is the same who made the tables.
    """
    yield _one_database
    postgres.empty_database(_one_database)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says, with a count, which tests this machine could not run and how to get them."""
    reasons = [
        report.longrepr[2]
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report, pytest.TestReport) and isinstance(report.longrepr, tuple)
    ]
    lines = loud_lines(reasons)
    if lines:
        terminalreporter.section("NOT RUN ON THIS MACHINE", sep="!", red=True, bold=True)
        for line in lines:
            terminalreporter.write_line(line, red=True, bold=True)
