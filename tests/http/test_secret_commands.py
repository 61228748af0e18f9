"""``maildaemon master-key``: a key on stdout and nothing else, and a store that follows to the next key."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from maildaemon_adapters.sealing import Vault, master_keys
from maildaemon_core.engine.catalog import Catalog, Kept
from maildaemon_core.engine.daemon import open_store
from maildaemon_core.soundness import problems
from tests.http.running import call

WANTED: dict[str, Any] = {
    "host": "mail.firm.example",
    "password": "pa55word",
    "exportAttachments": True,
    "destinations": [{"type": "file", "url": "/srv/mail"}],
}


def new_key(cwd: Path) -> str:
    called = call("master-key", "new", cwd=cwd)
    assert len(called.out.splitlines()) == 1
    assert called.out.strip() not in called.err
    assert "copy" in called.err
    return called.out.strip()


def fill(path: Path, key: str, *names: str) -> None:
    store = open_store(f"sqlite:///{path}")
    try:
        catalog = Catalog(store, Vault(master_keys({"MAILDAEMON_MASTER_KEY": key})), problems)
        for name in names:
            catalog.create({**WANTED, "mailbox": name})
    finally:
        store.close()


def usable(path: Path, key: str) -> list[str]:
    """The mailboxes whose secrets open with that key alone."""
    store = open_store(f"sqlite:///{path}")
    try:
        found = Catalog(store, Vault(master_keys({"MAILDAEMON_MASTER_KEY": key})), problems).all()
        return [each.configuration.name for each in found if isinstance(each, Kept)]
    finally:
        store.close()


def test_each_new_key_is_another_and_can_be_used(tmp_path: Path) -> None:
    keys = [new_key(tmp_path) for _ in range(2)]
    assert len({key.id for text in keys for key in master_keys({"MAILDAEMON_MASTER_KEY": text})}) == 2


def test_a_store_follows_to_the_new_key_and_needs_the_old_one_no_more(tmp_path: Path) -> None:
    old, new = new_key(tmp_path), new_key(tmp_path)
    path = tmp_path / "maildaemon.db"
    fill(path, old, "a@firm.example", "b@firm.example")
    assert usable(path, new) == []
    (tmp_path / "keys").write_text(f"{new}\n{old} # until all is sealed anew\n")
    (tmp_path / "keys").chmod(0o600)
    env = {"MAILDAEMON_MASTER_KEY_FILE": str(tmp_path / "keys")}
    for resealed, current in ((2, 0), (0, 2)):
        document = call(
            "master-key", "rotate", "--store", f"sqlite:///{path}", "--json", cwd=tmp_path, env=env
        ).document
        counts = {"mailboxes": 2, "resealed": resealed, "current": current, "references": 0, "unopened": []}
        assert document == counts
    assert usable(path, new) == ["a@firm.example", "b@firm.example"]
    shown = call("master-key", "rotate", cwd=tmp_path, env={"MAILDAEMON_MASTER_KEY": new})
    assert shown.out == "0 sealed anew, 2 were already, 0 not opened, 0 are mere references, in 2 mailboxes\n"


def test_what_does_not_open_is_exit_1_and_named(tmp_path: Path) -> None:
    lost, new = new_key(tmp_path), new_key(tmp_path)
    path = tmp_path / "maildaemon.db"
    fill(path, lost, "lost@firm.example")
    fill(path, new, "fine@firm.example")
    env = {"MAILDAEMON_MASTER_KEY": new}
    shown = call("master-key", "rotate", cwd=tmp_path, env=env, code=1)
    assert "not opened: mailbox 'lost@firm.example', password" in shown.out
    assert "what to do: give that key" in shown.out
    (unopened,) = call("master-key", "rotate", "--json", cwd=tmp_path, env=env, code=1).document["unopened"]
    assert (unopened["name"], unopened["place"], unopened["error"]) == ("lost@firm.example", "password", "Sealed")
    assert usable(path, lost) == ["lost@firm.example"]


@pytest.mark.parametrize("text", [None, "", "hunter2"])
def test_without_a_master_key_that_can_be_used_it_is_exit_2(tmp_path: Path, text: str | None) -> None:
    fill(tmp_path / "maildaemon.db", new_key(tmp_path))
    env = {} if text is None else {"MAILDAEMON_MASTER_KEY": text}
    called = call("master-key", "rotate", "--json", cwd=tmp_path, env=env, code=2)
    assert "master-key new" in called.document["error"]["remedy"]
    assert "hunter2" not in called.out + called.err


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    env = {"MAILDAEMON_MASTER_KEY": new_key(tmp_path)}
    called = call("master-key", "rotate", cwd=tmp_path, env=env, code=None)
    assert called.code in {1, 2}
    assert "there is no store" in called.err
    assert list(tmp_path.iterdir()) == []


def test_the_example_of_the_document_runs(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "how-to" / "secrets.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    names = {"STORE": f"sqlite:///{tmp_path / 'mail.db'}", "PASSWORD": "pa55word", "FOLDER": str(tmp_path / "mail")}
    given = "\n".join(f"{name} = {value!r}" for name, value in names.items())
    environment = {**os.environ, "MAILDAEMON_MASTER_KEY": new_key(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", f"{given}\n{example}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == "2 ********\n", done.stderr
