"""The throwaway PostgreSQL is what the other tests take it for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.servers.postgres import Postgres

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]


def test_a_fresh_database_is_empty_utf8_and_its_user_is_nobody_special(postgres: Postgres, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute(
            "SELECT current_setting('server_encoding'), current_setting('is_superuser'),"
            " (SELECT datcollate FROM pg_database WHERE datname = current_database())"
        ).fetchone()
        assert row == ("UTF8", "off", "C.UTF-8")
        connection.execute("CREATE TABLE thing (name text)")
        connection.execute("INSERT INTO thing VALUES ('jörg')")
    with psycopg.connect(postgres.fresh_database()) as other:
        assert other.execute("SELECT to_regclass('thing')").fetchone() == (None,)


def test_a_wrong_password_is_refused(postgres: Postgres, postgres_url: str) -> None:
    wrong = postgres_url.replace(postgres.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_a_dropped_database_is_gone_though_somebody_was_in_it(postgres: Postgres) -> None:
    url = postgres.fresh_database()
    with psycopg.connect(url) as inside:
        postgres.drop_database(url)
        with pytest.raises(psycopg.OperationalError):
            inside.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_after_a_crash_what_was_committed_is_there_and_what_was_not_is_not() -> None:
    with Postgres(durable=True) as server:
        url = server.fresh_database()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE thing (name text)")
            connection.execute("INSERT INTO thing VALUES ('committed')")
            connection.commit()
            assert connection.execute("SELECT current_setting('fsync')").fetchone() == ("on",)
            connection.execute("INSERT INTO thing VALUES ('not committed')")
            server.crash()
            with pytest.raises(psycopg.OperationalError):
                connection.commit()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        port = server.port
        server.start()
        assert server.port == port
        assert "automatic recovery in progress" in server.log.read_text()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT name FROM thing").fetchall() == [("committed",)]
        server.stop()
        server.stop()
        server.start()
        assert server.log.read_text().count("automatic recovery in progress") == 1
        folder = server.root
    assert not folder.exists()


def test_a_killed_test_worker_leaves_no_server_behind() -> None:
    script = (
        "import time\nimport psycopg\nfrom tests.servers.postgres import Postgres\n"
        "with Postgres() as server:\n"
        "    with psycopg.connect(server.url) as client:\n"  # an open session must not be waited for
        "        print(server.pid, server.root, flush=True)\n        time.sleep(600)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert worker.stdout is not None
    with worker.stdout:
        pid, folder = worker.stdout.readline().split(maxsplit=1)
        worker.kill()
        worker.wait()
    root = Path(folder.strip())
    lock = root / "data" / "postmaster.pid"
    deadline = time.monotonic() + 20
    while lock.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not lock.exists(), "it goes in order, with its shared memory"
    while time.monotonic() < deadline:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    else:
        pytest.fail(f"the server still runs as {pid}")
    shutil.rmtree(root)
