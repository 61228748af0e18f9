"""What only a store on a server can go through: its login, its clock, its settings, and what ends its connections."""

from __future__ import annotations

import re
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa

from maildaemon_adapters.sql import SqlSettings, SqlStore, database
from maildaemon_core.errors import InvalidOptions, StoreUnavailable, UnknownKind
from maildaemon_core.options import Secret
from maildaemon_core.store_port import Configuration
from maildaemon_core.testing.lease_conformance import (
    leased,
    some_mailbox,
)
from tests.servers.postgres import Postgres
from tests.servers.process import LOOPBACK, free_port

pytestmark = pytest.mark.server


@pytest.fixture
def store(postgres_url: str) -> Iterator[SqlStore]:
    store = SqlStore(postgres_url)
    yield store
    store.close()


def refusal_of(url: str, **settings: Any) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as refusal:
        SqlStore(url, SqlSettings(**settings))
    assert refusal.value.remedy
    assert refusal.value.transient
    return refusal.value


# ------------------------------------------------------------------------------------------------------------ its clock


@pytest.mark.parametrize("hours", [-5, 5])
def test_the_server_says_when_a_lease_is_over_however_wrong_this_clock_is(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=hours)

    mailbox, brief = some_mailbox(), some_mailbox()
    held = leased(store, mailbox)
    before = store.holder(mailbox)
    monkeypatch.setattr(database, "datetime", Wrong)
    assert store.lease(mailbox, 60, owner="other") is None
    assert store.holder(mailbox) == before is not None
    held.renew(60)
    after = store.holder(mailbox)
    assert after is not None
    assert timedelta(0) <= after.until - before.until < timedelta(seconds=30)
    assert store.lease(brief, 0.3, owner="worker") is not None
    assert store.holder(brief) is not None
    time.sleep(0.4)
    assert store.holder(brief) is None
    assert store.lease(brief, 60, owner="other") is not None
    saved = store.save(Configuration(id=mailbox, name="one", document={}))
    assert saved.created is not None
    assert abs(saved.created - after.until) < timedelta(minutes=2)


# --------------------------------------------------------------------------------------------------------- its settings


@pytest.mark.parametrize(
    ("server", "synchronous", "expected"),
    [
        ("off", "full", "on"),
        ("on", "full", "on"),
        ("remote_apply", "full", "remote_apply"),
        ("off", "normal", "off"),
        ("on", "normal", "off"),
    ],
)
def test_commits_reach_the_disk_as_wanted(
    postgres_url: str, server: str, synchronous: Literal["full", "normal"], expected: str
) -> None:
    url = f"{postgres_url}?options=-csynchronous_commit%3D{server}"
    store = SqlStore(url, SqlSettings(synchronous=synchronous))
    with store._database.write() as connection:
        assert connection.scalar(sa.text("SHOW synchronous_commit")) == expected
    store.close()


def test_whatever_waits_ends_in_time_and_transactions_are_as_they_must_be(store: SqlStore) -> None:
    expected = {"lock_timeout": "30s", "idle_in_transaction_session_timeout": "1min", "client_encoding": "UTF8"}
    for begin, isolation in (
        (store._database.write, "read committed"),
        (store._database.read, "repeatable read"),
        (store._database.write, "read committed"),
    ):
        wanted = {**expected, "transaction_isolation": isolation}
        with begin() as connection:
            assert {name: connection.scalar(sa.text(f"SHOW {name}")) for name in wanted} == wanted


def test_what_the_url_says_of_the_connection_holds(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    store = SqlStore(f"{postgres_url}?application_name=one+of+two&sslmode=disable")
    with store._database.read() as connection:
        assert connection.scalar(sa.text("SHOW application_name")) == "one of two"
    mailbox = some_mailbox()
    assert store.save(Configuration(id=mailbox, name="日本", document={})).name == "日本"
    store.close()


def test_a_socket_in_the_file_system_will_do() -> None:
    with TemporaryDirectory(prefix="maildaemon-") as folder:
        Path(folder).chmod(0o777)
        with Postgres(settings=(f"unix_socket_directories={folder}",)) as server:
            login, host = f"maildaemon:{server.password}", quote(folder, safe="")
            for url in (
                f"postgresql://{login}@/maildaemon?host={folder}&port={server.port}",
                f"postgresql+psycopg://{login}@{host}:{server.port}/mail%64aemon",
                f"postgres://{login}@{host}:{server.port}/maildaemon",
            ):
                store = SqlStore(url)
                assert folder in repr(store)
                assert store.infos() == []
                store.close()


def test_the_password_may_stand_apart_from_the_url(postgres: Postgres, postgres_url: str) -> None:
    bare = postgres_url.replace(f":{postgres.password}@", "@")
    assert "password" in refusal_of(bare).message
    store = SqlStore(bare, SqlSettings(password=Secret(postgres.password)))
    assert repr(store) == f"<the store postgresql://{LOOPBACK}:{postgres.port}/{bare.rpartition('/')[2]}>"
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@host",
        "postgresql://u:hunter2@host/",
        "postgresql://u:hunter2@host:port/db",
        "postgresql://u:p@hunter2@host/db",
        "postgresql://u:p@x/hunter2@host/db",
        "postgresql://u:hunter2@host/d%00b",
        "postgresql:u:hunter2@host/db",
        "postgres",
    ],
)
def test_a_url_that_is_no_server_is_refused_without_saying_its_password(url: str) -> None:
    with pytest.raises(InvalidOptions, match="postgresql://USER@HOST/DATABASE") as refusal:
        SqlStore(url)
    assert "hunter2" not in "".join(traceback.format_exception(refusal.value))


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UnknownKind, match="psycopg") as refusal:
        SqlStore("postgresql://u@127.0.0.1/db")
    assert refusal.value.remedy == "pip install 'maildaemon[postgresql]'"


# ------------------------------------------------------------------------------------------------------- at the opening


def test_what_is_in_the_way_of_the_server_is_named_with_a_remedy(postgres: Postgres, tmp_path: Path) -> None:
    there, port = postgres.url, free_port()
    wrong = there.replace(postgres.password, "hunter2")
    expected = {
        wrong: "the password is wrong",
        postgres.url_of("maildaemon", user="nobody"): "refuses the login",
        postgres.url_of("nothing"): "no database of that name",
        there.replace(f":{postgres.port}/", f":{port}/"): rf"127\.0\.0\.1:{port}/\w+ cannot be reached.*refused",
        f"postgresql://u:hunter2@/db?host={tmp_path}": f"{tmp_path}/db cannot be reached.*No such file",
        f"{wrong}?sslmode=require": "does not agree on TLS",
        f"{wrong}?sslmode=hunter": "has a URL that is not right.*sslmode",
        f"{wrong}?nonsense=1": "has a URL that is not right.*nonsense",
        postgres.url_of("postgres"): "may not be used like this by this user",
    }
    for url, message in expected.items():
        begun = time.monotonic()
        error = refusal_of(url)
        assert re.search(message, error.message), error.message
        said = "".join(traceback.format_exception(error))
        assert "hunter2" not in said
        assert postgres.password not in said
        assert time.monotonic() - begun < 10


def test_a_database_that_cannot_hold_every_subject_is_refused(postgres: Postgres) -> None:
    postgres.execute(
        "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
        "latin",
        "maildaemon",
    )
    url = postgres.url_of("latin")
    error = refusal_of(url)
    assert "encoded as LATIN1" in error.message
    assert "createdb -E UTF8" in error.remedy
    postgres.drop_database(url)


def test_too_many_connections_are_said_and_less_are_enough_again(postgres: Postgres, postgres_url: str) -> None:
    postgres.execute("ALTER DATABASE {} CONNECTION LIMIT 1", postgres_url.rpartition("/")[2])
    with psycopg.connect(postgres_url):
        error = refusal_of(postgres_url)
    assert "takes no more connections" in error.message
    assert "connections" in error.remedy
    store = SqlStore(postgres_url)
    assert store.infos() == []
    store.close()
