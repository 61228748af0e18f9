"""The commands about keys as people call them: a key is shown once, and by nothing afterwards."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from maildaemon_adapters.sql import SqlStore
from maildaemon_core.access import Scope, is_good, prefix_of
from maildaemon_http.cli import main
from tests.http.running import TRACE, Called
from tests.http.running import call as call_process

SCOPES = sorted(Scope)


def call(*arguments: str, cwd: Path, code: int = 0) -> Called:
    """Calls the command inside this process, which takes a tenth of the time; the exit code must be ``code``."""
    root, out, err = logging.getLogger(), io.StringIO(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            got = main(arguments)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert TRACE not in out.getvalue() + err.getvalue()
    assert got == code, (got, out.getvalue(), err.getvalue())
    return Called(got, out.getvalue(), err.getvalue())


def created(folder: Path, *arguments: str) -> str:
    """The key that a call of ``keys create`` shows."""
    return call("keys", "create", *arguments, cwd=folder).out.strip()


def listed(folder: Path) -> list[dict[str, object]]:
    items = call("keys", "list", "--json", cwd=folder).document["items"]
    assert isinstance(items, list)
    return items


def good(folder: Path, key: str) -> bool:
    store = SqlStore(f"sqlite:///{folder}/maildaemon.db")
    try:
        return is_good(key, store.key(prefix_of(key) or ""), now=datetime.now(UTC))
    finally:
        store.close()


# ---- create ----


def test_a_key_is_all_that_stdout_has_and_is_good(tmp_path: Path) -> None:
    done = call("keys", "create", "ci", cwd=tmp_path)
    assert re.fullmatch(r"md_[0-9a-f]{10}_[A-Za-z0-9_-]{43}\n", done.out)
    assert good(tmp_path, done.out.strip())
    assert f"store: {tmp_path}/maildaemon.db (new)" in done.err
    assert "shown only now" in done.err
    assert stat.S_IMODE((tmp_path / "maildaemon.db").stat().st_mode) == 0o600
    assert "(new)" not in call("keys", "create", "ops", cwd=tmp_path).err


def test_a_key_as_json_says_what_it_may_and_until_when(tmp_path: Path) -> None:
    begun = datetime.now(UTC)
    given = ("--scope", "sweeps:run", "--scope", "mailboxes:read", "--scope", "sweeps:run", "--expires", "90d")
    document = call("keys", "create", "ci", *given, "--json", cwd=tmp_path).document
    assert set(document) == {"key", "prefix", "name", "scopes", "expires"}
    assert good(tmp_path, document["key"])
    assert document["prefix"] == prefix_of(document["key"])
    assert document["name"] == "ci"
    assert document["scopes"] == ["mailboxes:read", "sweeps:run"]
    left = datetime.fromisoformat(document["expires"]) - begun
    assert timedelta(days=90, seconds=-1) <= left < timedelta(days=90, minutes=5)


def test_without_scope_and_expiry_a_key_may_everything_for_ever(tmp_path: Path) -> None:
    document = call("keys", "create", "Büro, 2. Stock", "--json", cwd=tmp_path).document
    assert (document["name"], document["scopes"], document["expires"]) == ("Büro, 2. Stock", SCOPES, None)


@pytest.mark.parametrize("how", ["people", "json", "debug"])
def test_a_key_is_shown_by_nothing_but_stdout_and_only_once(tmp_path: Path, how: str) -> None:
    options = [] if how == "people" else [f"--{how}"]
    done = call_process("keys", "create", "ci", *options, cwd=tmp_path)
    key = json.loads(done.out)["key"] if how == "json" else done.out.strip()
    secret = key.split("_", 2)[2]
    assert done.out.count(secret) == 1
    later = [
        done.err,
        *words(call("keys", "list", "--debug", cwd=tmp_path)),
        *words(call("keys", "list", "--json", cwd=tmp_path)),
        *words(call("keys", "create", "ci", "--debug", cwd=tmp_path, code=1)),
        *words(call("keys", "create", key, "--json", cwd=tmp_path, code=2)),
        *words(call("keys", "revoke", key[:-1], "--debug", cwd=tmp_path, code=1)),
        *words(call("keys", "revoke", key, "--json", cwd=tmp_path)),
        *words(call("keys", "revoke", key, cwd=tmp_path)),
    ]
    assert [text for text in later if secret in text] == []
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.encode() not in kept
    assert key.split("_")[1].encode() in kept


def words(called: Called) -> tuple[str, str]:
    return called.out, called.err


def test_no_digest_is_ever_shown(tmp_path: Path) -> None:
    key = created(tmp_path, "ci")
    store = SqlStore(f"sqlite:///{tmp_path}/maildaemon.db")
    kept = store.key(prefix_of(key) or "")
    store.close()
    assert kept is not None
    calls = [("list",), ("list", "--json"), ("revoke", "ci", "--json"), ("revoke", "ci")]
    shown = "".join(text for each in calls for text in words(call("keys", *each, cwd=tmp_path)))
    assert kept.prefix in shown
    assert kept.digest not in shown


def test_a_name_in_use_is_refused_until_its_key_is_revoked(tmp_path: Path) -> None:
    created(tmp_path, "ci")
    done = call("keys", "create", "ci", "--json", cwd=tmp_path, code=1)
    assert done.document["error"]["error"] == "KeyExists"
    assert "revoke it first, or take another name" in done.err
    call("keys", "revoke", "ci", cwd=tmp_path)
    assert good(tmp_path, created(tmp_path, "ci"))


def test_an_unknown_scope_is_wrong_usage_and_all_that_there_are_are_named(tmp_path: Path) -> None:
    done = call("keys", "create", "ci", "--scope", "mailboxes", "--scope", "sweeps:run", cwd=tmp_path, code=2)
    assert "unknown: 'mailboxes'" in done.err
    assert all(scope in done.err for scope in SCOPES)
    assert done.out == ""
    assert not (tmp_path / "maildaemon.db").exists()


def test_everything_that_is_wrong_is_said_at_once_and_no_store_is_made(tmp_path: Path) -> None:
    done = call("keys", "create", "a\nb", "--scope", "x", "--expires", "yesterday", "--json", cwd=tmp_path, code=2)
    assert done.document["error"]["error"] == "InvalidOptions"
    assert all(place in done.err for place in ("@ NAME", "@ --scope", "@ --expires"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "x" * 101, "a\x1b[2J", " a", "0123456789"])
def test_a_name_that_is_none_is_wrong_usage(tmp_path: Path, name: str) -> None:
    assert "@ NAME" in call("keys", "create", name, cwd=tmp_path, code=2).err


@pytest.mark.parametrize("expires", ["2020-01-01T00:00:00Z", "0d", "tomorrow", "2027-01-31"])
def test_an_expiry_that_has_passed_or_is_none_is_wrong_usage(tmp_path: Path, expires: str) -> None:
    assert "@ --expires" in call("keys", "create", "ci", "--expires", expires, cwd=tmp_path, code=2).err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_key_that_could_not_be_shown_is_revoked(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        code, told = create_onto(full.fileno(), tmp_path)
    assert code == 1
    assert "the key 'ci' could not be shown (No space left on device); it is revoked" in told
    assert [item["state"] for item in listed(tmp_path)] == ["revoked"]


def test_a_key_that_nobody_reads_along_is_revoked(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        code, told = create_onto(writing, tmp_path)
    finally:
        os.close(writing)
    assert code == 1
    assert "the key 'ci' could not be shown (nobody reads it); it is revoked" in told
    assert [item["state"] for item in listed(tmp_path)] == ["revoked"]


def create_onto(out: int, folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "maildaemon_http.cli", "keys", "create", "ci"]
    done = subprocess.run(command, cwd=folder, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert TRACE not in done.stderr
    return done.returncode, done.stderr


# ---- list ----


def test_the_list_shows_what_is_known_of_each_key(tmp_path: Path) -> None:
    first = created(tmp_path, "ci", "--scope", "sweeps:run", "--expires", "9d")
    second = created(tmp_path, "ops")
    soon = created(tmp_path, "soon", "--expires", "1d")
    store = SqlStore(f"sqlite:///{tmp_path}/maildaemon.db")
    store.key_used(prefix_of(second) or "", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    with store._database.write() as connection:
        connection.exec_driver_sql("UPDATE api_key SET expires = created + 1 WHERE name = 'soon'")
    store.close()
    call("keys", "revoke", "ci", cwd=tmp_path)
    items = listed(tmp_path)
    assert all(
        set(item) == {"prefix", "name", "scopes", "created", "expires", "lastUsed", "revoked", "state"}
        for item in items
    )
    assert [item["prefix"] for item in items] == [prefix_of(key) for key in (first, second, soon)]
    assert [item["state"] for item in items] == ["revoked", "good", "expired"]
    assert [item["scopes"] for item in items] == [["sweeps:run"], SCOPES, SCOPES]
    assert [item["lastUsed"] for item in items] == [None, "2026-01-02T03:04:05Z", None]
    assert [item["revoked"] is None for item in items] == [False, True, True]
    lines = call("keys", "list", cwd=tmp_path).out.splitlines()
    assert lines[0].split() == ["prefix", "name", "scopes", "created", "expires", "last", "used", "state"]
    assert [line.split()[-1] for line in lines[2:]] == ["revoked", "good", "expired"]
    assert "everything" in lines[3]
    assert "2026-01-02 03:04:05Z" in lines[3]


def test_an_empty_list_says_so(tmp_path: Path) -> None:
    created(tmp_path, "ci")
    store = SqlStore(f"sqlite:///{tmp_path}/other.db")
    store.close()
    assert call("keys", "list", "--store", "sqlite:///other.db", cwd=tmp_path).out == "there is no key\n"


# ---- revoke ----


@pytest.mark.parametrize("how", ["name", "prefix", "prefix with md_", "the key itself"])
def test_a_key_is_revoked_by_its_name_its_prefix_or_itself(tmp_path: Path, how: str) -> None:
    key, other = created(tmp_path, "ci"), created(tmp_path, "ops")
    by = {"name": "ci", "prefix": key[3:13], "prefix with md_": key[:13], "the key itself": key}[how]
    done = call("keys", "revoke", by, cwd=tmp_path)
    assert f"key 'ci' ({key[3:13]}) is revoked" in done.out
    assert not good(tmp_path, key)
    assert good(tmp_path, other)


def test_a_key_that_was_revoked_already_is_said_to_be_and_keeps_its_date(tmp_path: Path) -> None:
    key = created(tmp_path, "ci")
    first = call("keys", "revoke", "ci", "--json", cwd=tmp_path).document
    again = call("keys", "revoke", "ci", "--json", cwd=tmp_path).document
    assert (first["already"], again["already"]) == (False, True)
    assert {**first, "already": True} == again
    assert (again["prefix"], again["state"]) == (prefix_of(key), "revoked")
    assert "was revoked already, 20" in call("keys", "revoke", "ci", cwd=tmp_path).out


def test_a_name_that_many_revoked_keys_had_means_the_one_that_lives(tmp_path: Path) -> None:
    for _ in range(2):
        created(tmp_path, "ci")
        call("keys", "revoke", "ci", cwd=tmp_path)
    key = created(tmp_path, "ci")
    assert call("keys", "revoke", "ci", "--json", cwd=tmp_path).document["prefix"] == prefix_of(key)
    again = call("keys", "revoke", "ci", "--json", cwd=tmp_path).document
    assert (again["prefix"], again["already"]) == (prefix_of(key), True)


def test_an_unknown_key_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    created(tmp_path, "gone")
    call("keys", "revoke", "gone", cwd=tmp_path)
    none = call("keys", "revoke", "cj", "--json", cwd=tmp_path, code=1)
    assert none.document["error"]["error"] == "NoSuchKey"
    assert "there is none that is not revoked" in none.err
    key = created(tmp_path, "ci")
    some = call("keys", "revoke", "cj", cwd=tmp_path, code=1)
    assert "there is no key 'cj'" in some.err
    assert f"there are: 'ci' ({prefix_of(key)})" in some.err
    assert good(tmp_path, key)


# ---- which store ----


@pytest.mark.parametrize("command", [("list",), ("revoke", "ci")])
def test_a_store_that_is_not_there_is_made_by_create_only(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = call("keys", *command, cwd=tmp_path, code=1)
    assert f"there is no store {tmp_path}/maildaemon.db" in done.err
    assert list(tmp_path.iterdir()) == []


def test_the_store_is_named_by_url_by_environment_or_by_configuration(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "maildaemon.toml").write_text(
        '[store]\nurl = "sqlite:///kept.db"\n[[mailboxes]]\nname = "office"\nactive = false\n'
    )
    url = f"sqlite:///{tmp_path}/by-url.db"
    call("keys", "create", "ci", "--store", url, cwd=tmp_path)
    call_process("keys", "create", "ops", cwd=tmp_path, env={"MAILDAEMON_STORE": url})
    items = call("keys", "list", "--store", url, "--json", cwd=tmp_path).document["items"]
    assert [item["name"] for item in items] == ["ci", "ops"]
    call("keys", "create", "ci", "--config", "config/maildaemon.toml", cwd=tmp_path)
    assert (tmp_path / "config" / "kept.db").exists()
    assert not (tmp_path / "maildaemon.db").exists()


def test_every_command_about_keys_has_help(tmp_path: Path) -> None:
    for command in ("create", "list", "revoke"):
        assert f"Usage: maildaemon keys {command}" in call("keys", command, "--help", cwd=tmp_path).out


def test_keys_are_kept_by_a_server_as_well(tmp_path: Path, postgres_url: str) -> None:
    environment = {"MAILDAEMON_STORE": postgres_url}
    key = call_process("keys", "create", "ci", cwd=tmp_path, env=environment).out.strip()
    call_process("keys", "create", "ci", cwd=tmp_path, env=environment, code=1)
    done = call_process("keys", "revoke", key, "--json", cwd=tmp_path, env=environment)
    assert done.document["state"] == "revoked"
    assert list(tmp_path.iterdir()) == []
