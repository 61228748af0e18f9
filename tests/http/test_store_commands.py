"""``maildaemon store`` and what else concerns the store: moved by two commands, thinned out, its options checked."""

from __future__ import annotations

import fcntl
import gzip
import json
import re
import stat
import subprocess
import sys
import termios
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.sql import SqlSettings
from maildaemon_core.codec import wire_names
from maildaemon_core.message import Cursor, FolderRef, MailboxId, mailbox_id
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.progress import Outcome, Stage
from maildaemon_core.retention import Retention
from maildaemon_core.store_port import Configuration, FolderState, Store
from maildaemon_core.testing.lease_conformance import mail
from maildaemon_http.compose import open_daemon, read_configuration
from maildaemon_http.configfile import store_name
from tests.http.running import call
from tests.http.test_cli_dovecot import Operator
from tests.http.test_cli_dovecot import mail as a_mail
from tests.servers.dovecot import Dovecot

MAILBOX = """
[[mailboxes]]
mailbox = "jane@example.com"
host = "127.0.0.1"
port = 1
password = "hunter2"
exportAttachments = true
destinations = [{ url = "mail" }]
options = { connectSeconds = 1 }
"""
JANE = mailbox_id("jane@example.com")
INBOX = FolderRef("INBOX")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration and a store of six mails: three stored, two failed, one pending."""
    (tmp_path / "m.toml").write_text(MAILBOX)
    with open_daemon(read_configuration(tmp_path / "m.toml")) as daemon:
        fill(daemon.store)
    return tmp_path


def fill(store: Store, *, days: int = 10) -> None:
    store.save(Configuration(id=JANE, name="jane@example.com", document={}))
    seen = datetime.now(UTC) - timedelta(days=days)
    lease = store.lease(JANE, 60, owner="somebody")
    assert lease is not None
    mails = lease.admit(
        INBOX, [mail(JANE, n, subject=f"mail {n}", first_seen=seen) for n in range(6)], FolderState(cursor=Cursor("9"))
    )
    stored = [attrs.evolve(one, stage=Stage.SETTLED, due_at=None) for one in mails[:3]]
    waiting = attrs.evolve(mails[3], stage=Stage.WAITING, attempts=1)
    given_up = attrs.evolve(mails[4], stage=Stage.GIVEN_UP, due_at=None)
    lease.record([*stored, waiting, given_up])
    lease.give_back()


# ------------------------------------------------------------------------------------------------- export and import


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
def test_a_store_leaves_into_a_file_for_its_owner_only_and_comes_into_a_new_one(folder: Path, name: str) -> None:
    called = call("store", "export", name, "--config", "m.toml", cwd=folder)
    assert called.out == f"written to {name}: 1 mailbox, 6 mails, 0 file names, 0 API keys\n"
    assert f"store: {folder}/maildaemon.db" in called.err
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    data = (folder / name).read_bytes()
    assert (gzip.decompress(data) if name.endswith(".gz") else data).startswith(b'{"maildaemon":"store"')
    called = call("store", "import", name, "--store", "sqlite:///new.db", cwd=folder)
    assert called.out == "taken up: 1 mailbox, 6 mails, 0 file names, 0 API keys\n"
    assert f"store: {folder}/new.db (new)" in called.err
    again = call("store", "export", "again.jsonl", "--store", "sqlite:///new.db", "--json", cwd=folder).document
    assert again["rows"] == {"configuration": 1, "api_key": 0, "lease": 1, "folder": 1, "entry": 6, "artifact": 0}
    assert (again["file"], again["atWork"], again["withoutSecrets"]) == ("again.jsonl", [], [])


def test_it_passes_through_a_pipe(folder: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "maildaemon_http.cli", "store"]
    export = subprocess.Popen([*command, "export", "-"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    done = subprocess.run(
        [*command, "import", "-", "--store", "sqlite:///new.db"],
        cwd=folder, stdin=export.stdout, capture_output=True, text=True, check=True,
    )  # fmt: skip
    _, said = export.communicate()
    assert export.returncode == 0
    assert b"written to stdout: 1 mailbox, 6 mails" in said
    assert "taken up: 1 mailbox, 6 mails" in done.stdout


def test_an_export_never_goes_over_a_file_and_leaves_none_that_is_not_whole(folder: Path) -> None:
    (folder / "mine").write_text("mine")
    called = call("store", "export", "mine", cwd=folder, code=2)
    assert "exists already" in called.err
    assert (folder / "mine").read_text() == "mine"
    assert "cannot be written" in call("store", "export", "no/such/folder", cwd=folder, code=2).err
    assert "there is no store" in call("store", "export", "new", "--store", "sqlite:///no.db", cwd=folder, code=1).err
    assert not (folder / "new").exists()
    assert not (folder / "no.db").exists()
    assert "--json has no place" in call("store", "export", "-", "--json", cwd=folder, code=2).err
    assert "no option --wrong" in " ".join(call("store", "export", "--wrong", cwd=folder, code=2).err.split())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_in_a_sentence(folder: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "maildaemon_http.cli", "store", "export", "-"],
            cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert "No space left" in done.stderr


def test_a_mailbox_that_is_being_worked_on_is_told_loudly(folder: Path) -> None:
    with open_daemon(read_configuration(folder / "m.toml")) as daemon:
        daemon.store.lease(JANE, 600, owner="elsewhere pid 7 machine 1 ab")
        called = call("store", "export", "all", cwd=folder, code=1)
        assert "WARNING: jane@example.com is being worked on by elsewhere pid 7." in called.err
        assert (folder / "all").exists()
        document = call("store", "export", "more", "--json", cwd=folder, code=1).document
        assert document["atWork"][0]["owner"] == "elsewhere pid 7 machine 1 ab"


def test_secrets_that_did_not_come_along_are_asked_for(folder: Path) -> None:
    with open_daemon(read_configuration(folder / "m.toml")) as daemon:
        shop = Configuration(id=MailboxId("shop"), name="shop", document={}, secrets={"password": "v1:sealed"})
        daemon.store.save(shop)
    called = call("store", "export", "bare", cwd=folder)
    assert "without the secrets of: shop (--secrets" in called.err
    assert b"sealed" not in (folder / "bare").read_bytes().replace(b'"sealed":', b"")
    assert (
        "enter the secrets again of: shop"
        in call("store", "import", "bare", "--store", "sqlite:///1.db", cwd=folder).out
    )
    called = call("store", "export", "whole", "--secrets", cwd=folder)
    assert "needs the same master key" in called.err
    assert b"v1:sealed" in (folder / "whole").read_bytes()
    called = call("store", "import", "whole", "--store", "sqlite:///2.db", cwd=folder)
    assert "open only with the master key of before: shop" in called.out


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
def test_what_is_damaged_is_refused_and_named(folder: Path, name: str) -> None:
    call("store", "export", name, cwd=folder)
    data = (folder / name).read_bytes()
    (folder / "cut").write_bytes(data[: len(data) // 2])
    called = call("store", "import", "cut", "--store", "sqlite:///new.db", cwd=folder, code=1)
    assert "maildaemon: cut: the export is damaged" in called.err
    assert "what to do:" in called.err
    assert "taken up" in call("store", "import", name, "--store", "sqlite:///new.db", cwd=folder).out
    assert (
        "holds something already"
        in call("store", "import", name, "--store", "sqlite:///new.db", cwd=folder, code=1).err
    )


def test_for_a_file_that_is_not_there_no_store_is_made(folder: Path) -> None:
    called = call("store", "import", "nothing", "--store", "sqlite:///new.db", cwd=folder, code=2)
    assert "nothing: cannot be read" in called.err
    assert not (folder / "new.db").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize(
    "command",
    [
        ("keys", "list"),
        ("keys", "list", "--json"),
        ("keys", "revoke", "nobody", "--json"),
        ("store", "export", "-"),
        ("master-key", "new"),
    ],
    ids=" ".join,
)
def test_a_stdout_on_a_full_disk_is_told_in_a_sentence(folder: Path, command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "maildaemon_http.cli", *command],
            cwd=folder,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    told = "there is no key 'nobody'" if "revoke" in command else "stdout cannot be written: No space left on device"
    assert told in done.stderr


def test_what_is_closed_at_the_start_is_told_and_nothing_is_made(folder: Path) -> None:
    def closed(number: int, *command: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-W", "error", "-m", "maildaemon_http.cli", *command]
        shell = ["sh", "-c", f'exec "$@" {number}{"<" if number == 0 else ">"}&-', "sh", *words]
        done = subprocess.run(shell, cwd=folder, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done

    without_output = closed(1, "keys", "create", "ci", "--store", "sqlite:///new.db")
    assert (without_output.returncode, "stdout is closed" in without_output.stderr) == (2, True)
    without_input = closed(0, "store", "import", "-", "--store", "sqlite:///new.db")
    assert (without_input.returncode, "stdin: is closed" in without_input.stderr) == (2, True)
    assert not (folder / "new.db").exists()
    without_complaints = closed(2, "keys", "create", "ci", "--store", "sqlite:///other.db")
    assert (without_complaints.returncode, without_complaints.stdout[:3]) == (0, "md_")


def test_a_store_that_an_import_made_and_did_not_fill_is_warned_of(folder: Path) -> None:
    (folder / "damaged").write_text("x")
    told = call("store", "import", "damaged", "--store", "sqlite:///new.db", cwd=folder, code=1).err
    assert "the new store is there and holds nothing" in told
    told = call("store", "import", "damaged", "--store", "sqlite:///new.db", cwd=folder, code=1).err
    assert "the new store" not in told


def test_where_no_store_may_be_made_its_absence_is_an_error_of_every_command(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[store]\nurl = "sqlite:///no.db"\noptions = { make = false }\n' + MAILBOX)
    (tmp_path / "export").write_text("x")
    for command in (
        ("validate", "c.toml"),
        ("monitoring", "failed", "c.toml"),
        ("run", "c.toml", "--once"),
        ("store", "import", "export", "--config", "c.toml"),
        ("keys", "create", "ci", "--config", "c.toml"),
    ):
        error = call(*command, "--json", cwd=tmp_path, code=1).document["error"]
        assert (error["error"], "make" in error["remedy"]) == ("StoreMissing", True), command
    assert not (tmp_path / "no.db").exists()


def _unread(pipe: IO[str]) -> int:
    """How many bytes of a pipe its reader has not taken yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_terminated_import_takes_nothing_up_and_says_so(folder: Path) -> None:
    words = [sys.executable, "-W", "error", "-m", "maildaemon_http.cli", "store", "import", "-", "--json"]
    with subprocess.Popen(
        [*words, "--store", "sqlite:///new.db"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(" ")
        process.stdin.flush()
        while _unread(process.stdin) > 0 and process.poll() is None:
            time.sleep(0.01)  # until it takes up, and waits for the rest of the line
        process.terminate()
        out, told = process.communicate(timeout=30)
    assert process.returncode == 143
    assert json.loads(out)["error"]["error"] == "Interrupted"
    assert "the new store is there and holds nothing" in told
    assert not call("keys", "list", "--json", "--store", "sqlite:///new.db", cwd=folder).document["items"]


def test_what_was_typed_goes_before_the_environment(folder: Path) -> None:
    environment = {"MAILDAEMON_STORE": "sqlite:///other.db"}
    assert "other.db" in call("store", "upgrade", cwd=folder, env=environment, code=1).err
    assert "maildaemon.db" in call("store", "upgrade", "--config", "m.toml", cwd=folder, env=environment).err


# -------------------------------------------------------------------------------------------------------------- upgrade


def test_a_store_of_today_needs_no_upgrade(folder: Path) -> None:
    assert re.fullmatch(
        r"nothing to do: the store has version \d{4} already\n", call("store", "upgrade", cwd=folder).out
    )
    document = call("store", "upgrade", "--json", cwd=folder).document
    assert (document["upgraded"], document["from"]) == (False, document["to"])
    assert "there is no store" in call("store", "upgrade", "--store", "sqlite:///no.db", cwd=folder, code=1).err
    assert not (folder / "no.db").exists()


# -------------------------------------------------------------------------------------------------------------- dismiss


def test_failures_are_dismissed_by_their_numbers(folder: Path) -> None:
    failed = call("monitoring", "failed", "m.toml", "--json", cwd=folder).document["items"]
    numbers = [one["id"] for one in failed]
    assert [one["dismissed"] for one in failed] == [False, False]
    called = call("monitoring", "dismiss", "m.toml", *map(str, numbers), cwd=folder)
    assert called.out.count("out of sight; it is not tried again by itself") == 2
    assert call("monitoring", "failed", "m.toml", "--json", cwd=folder).document["items"] == []
    shown = call("monitoring", "failed", "m.toml", "--json", "--dismissed", cwd=folder).document["items"]
    assert [(one["id"], one["dismissed"], one["nextTry"]) for one in shown] == [
        (number, True, "given up") for number in numbers
    ]
    assert f"{numbers[0]} dismissed" in call("monitoring", "failed", "m.toml", "--dismissed", cwd=folder).out


def test_a_stored_mail_goes_out_of_sight_as_well(folder: Path) -> None:
    document = call("monitoring", "dismiss", "m.toml", "1", "--json", cwd=folder).document
    assert [(one["id"], one["dismissed"]) for one in document["items"]] == [(1, True)]
    assert "mail 0" not in call("monitoring", "successful", "m.toml", cwd=folder).out
    assert "mail 0" in call("monitoring", "successful", "m.toml", "--dismissed", cwd=folder).out


def test_what_cannot_be_dismissed_is_told_and_the_others_are(folder: Path) -> None:
    called = call("monitoring", "dismiss", "m.toml", "99", "6", "5", cwd=folder, code=1)
    assert "99: there is no mail of that number" in called.out
    assert "6: mail 6 is still pending" in called.out
    assert "5: out of sight" in called.out
    document = call("monitoring", "dismiss", "m.toml", "6", "--json", cwd=folder, code=1).document
    assert [(one["id"], one["error"]) for one in document["troubles"]] == [(6, "StillPending")]


def test_without_a_store_nothing_is_dismissed_and_none_is_made(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(MAILBOX)
    assert "is not there" in call("monitoring", "dismiss", "m.toml", "1", cwd=tmp_path, code=1).err
    assert [path.name for path in tmp_path.iterdir()] == ["m.toml"]
    assert "ID" in call("monitoring", "dismiss", "m.toml", cwd=tmp_path, code=2).err


# ------------------------------------------------------------------------------------------------------------ retention


def test_a_run_thins_out_what_the_configuration_does_not_keep(folder: Path) -> None:
    path = folder / "m.toml"
    path.write_text("[retention]\nstoredDays = 30\n" + MAILBOX)
    assert call("run", "m.toml", "--once", "--json", cwd=folder, code=1).document["thinned"] == {
        "stored": 0, "more": False, "trouble": None,
    }  # fmt: skip
    path.write_text("[retention]\nstoredDays = 9\nfailedDays = 9\n" + MAILBOX)
    assert "the history of 4 old mails was thinned out" in call("run", "m.toml", "--once", cwd=folder, code=1).out
    assert call("monitoring", "successful", "m.toml", "--json", cwd=folder).document["items"] == []
    (left,) = call("monitoring", "failed", "m.toml", "--json", cwd=folder).document["items"]
    assert left["subject"] == "mail 3", "what is still to be tried again stays"


def test_faults_of_retention_and_of_the_stores_options_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(
        '[store]\noptions = { synchronous = "sometimes", colour = 1, password = "hunter2" }\n'
        "[retention]\nstoredDays = 0\nforever = true\n" + MAILBOX.replace("port = 1", "port = -1")
    )
    called = call("validate", "m.toml", "--json", cwd=tmp_path, code=2)
    paths = {problem["path"] for problem in called.document["error"]["problems"]}
    assert paths == {
        "$.store.options.synchronous",
        "$.store.options.colour",
        "$.retention.storedDays",
        "$.retention.forever",
        "$.mailboxes[0].port",
    }
    assert "hunter2" not in called.out + called.err
    (tmp_path / "m.toml").write_text('[store]\noptions = { password = "env:" }\n' + MAILBOX)
    assert "$.store.options.password: env: names no" in call("validate", "m.toml", cwd=tmp_path, code=2).err


def test_the_options_of_the_store_are_used(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text("[store]\noptions = { make = false }\n" + MAILBOX)
    called = call("run", "m.toml", "--once", cwd=tmp_path, code=1)
    assert f"the store {tmp_path}/maildaemon.db is not there" in called.err
    assert [path.name for path in tmp_path.iterdir()] == ["m.toml"]
    (tmp_path / "m.toml").write_text('[store]\noptions = { password = "env:NOT_THERE" }\n' + MAILBOX)
    assert "NOT_THERE" in call("run", "m.toml", "--once", cwd=tmp_path, code=1).err


# ----------------------------------------------------------------------------------------------------------- PostgreSQL


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
def test_the_name_of_a_store_never_shows_a_password(password: str) -> None:
    for url in (f"postgresql://jane:hunter2{password}@host/db", f"postgresql://host/db?password=hunter2{password}"):
        assert "hunter2" not in store_name(url)
    assert store_name("postgresql://jane:a/b@[::1]:5432/db?x=1#y") == "postgresql://[::1]:5432/db"


@pytest.mark.server
def test_looking_makes_no_tables_and_no_output_shows_the_password(folder: Path, postgres_url: str) -> None:
    password = postgres_url.partition("@")[0].rpartition(":")[2]
    (folder / "p.toml").write_text(f'[store]\nurl = "{postgres_url}"\n' + MAILBOX)
    said = ""
    for words in (
        "validate p.toml",
        "monitoring mailboxes p.toml --json",
        "monitoring failed p.toml",
        "monitoring dismiss p.toml 1",
        "store export all --config p.toml",
        "store upgrade --config p.toml",
    ):
        called = call(*words.split(), cwd=folder, code=None)
        assert "not there yet" in called.err or "is not there" in called.err or "there is no store" in called.err
        said += called.out + called.err
    said += "".join(call("store", "export", "lite", cwd=folder).err)
    called = call("store", "import", "lite", "--config", "p.toml", cwd=folder)
    assert "(new)" in called.err, "nobody has made tables until now"
    said += called.out + called.err + call("monitoring", "failed", "p.toml", cwd=folder).out
    wrong = postgres_url.replace(password, "hunter2").replace("[", "")
    called = call("store", "upgrade", "--store", wrong, cwd=folder, code=1)
    assert "password is wrong" in called.err
    assert "hunter2" not in called.out + called.err
    assert password not in said
    assert "hunter2" not in said


@pytest.fixture
def operator(tmp_path: Path, dovecot: Dovecot, mail_user: str) -> Operator:
    for number in range(3):
        dovecot.deliver(mail_user, a_mail(number))
    return Operator(tmp_path, dovecot, mail_user)


@pytest.mark.server
def test_two_commands_move_a_daemon_to_postgresql_and_nothing_is_delivered_twice(
    operator: Operator, postgres_url: str
) -> None:
    assert operator.run()["counts"]["stored"] == 3
    before = operator.files()
    operator.call("store export all.gz --config m.toml")
    login, _, place = postgres_url.rpartition("@")
    user, _, password = login.rpartition(":")
    url = f"{user}@{place}"
    environment = {"MAIL_PASSWORD": operator.server.password, "DB_PASSWORD": password}
    text = (operator.folder / "m.toml").read_text()
    (operator.folder / "m.toml").write_text(
        f'[store]\nurl = "{url}"\noptions = {{ password = "env:DB_PASSWORD" }}\n{text}'
    )
    (operator.folder / "maildaemon.db").rename(operator.folder / "old.db")
    call("store", "import", "all.gz", "--config", "m.toml", cwd=operator.folder, env=environment)
    operator.server.deliver(operator.user, a_mail(3))
    document = call("run", "m.toml", "--once", "--json", cwd=operator.folder, env=environment).document
    assert document["store"]["new"] is False
    assert document["mailboxes"][0]["counts"]["seen"] == 1
    assert len(operator.files()) == len(before) + 2
    assert set(before) < set(operator.files())
    items = call("monitoring", "successful", "m.toml", "--json", cwd=operator.folder, env=environment).document["items"]
    assert [one["subject"] for one in items] == ["Hello 3", "Hello 2", "Hello 1", "Hello 0"]


def test_the_pages_after_thinning_are_those_of_what_is_left(folder: Path) -> None:
    with open_daemon(read_configuration(folder / "m.toml")) as daemon:
        assert daemon.store.thin(Outcome.STORED, datetime.now(UTC), limit=2) == 2
        page = daemon.entries(EntryQuery(outcome=Outcome.STORED))
        assert [one.subject for one in page.entries] == ["mail 2"]


def test_the_reference_names_every_option_of_the_store_and_of_retention() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/configuration.md").read_text(encoding="utf-8")
    section = text.partition("## `[store]`")[2].partition("\n## ")[0]
    assert [name for name in wire_names(SqlSettings).values() if f"| `{name}` |" not in section] == []
    assert [name for name in wire_names(Retention).values() if f"`retention.{name}`" not in section] == []
