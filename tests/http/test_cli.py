"""The command as people call it, where no mail server is needed: help, usage, exit codes, what it loads."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from maildaemon_core.message import Cursor, FolderRef
from maildaemon_core.progress import Stage
from maildaemon_core.store_port import FolderState
from maildaemon_http.compose import open_daemon, read_configuration
from maildaemon_http.smallest import TEXT
from tests.core.entries import entry
from tests.http.running import TRACE, call

HEAVY = "litestar maildaemon_adapters sqlalchemy imapclient pymap cattrs maildaemon_core.engine".split()

COMPLETE = """
[[mailboxes]]
mailbox = "jane@example.com"
host = "127.0.0.1"
port = {port}
password = "hunter2"
exportAttachments = true
destinations = [{{ url = "mail" }}]
options = {{ connectSeconds = 1 }}
"""


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@pytest.mark.parametrize("question", ["--help", "--version"])
def test_a_question_about_the_command_loads_neither_adapters_nor_the_engine(tmp_path: Path, question: str) -> None:
    show = (
        f"import sys; from maildaemon_http.cli import main; code = main([{question!r}]);"
        f"print(code, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", show], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_without_its_extra_the_command_says_in_one_line_what_to_install(tmp_path: Path, missing: str) -> None:
    show = f"import sys; sys.modules[{missing!r}] = None; from maildaemon_http.cli import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", show], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert missing in done.stderr
    assert "pip install 'maildaemon[cli]'" in done.stderr


def test_the_console_script_is_the_command() -> None:
    script = Path(sys.executable).with_name("maildaemon")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0.1.0"


def test_every_command_has_help(tmp_path: Path) -> None:
    for command in ("init", "run", "validate", "demo", "monitoring failed", "monitoring successful", "monitoring"):
        assert "Usage: maildaemon" in call(*command.split(), "--help", cwd=tmp_path).out


# ---- usage ----


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("runn x.toml", 'Did you mean "run"'),
        ("run", "CONFIG"),
        ("run x.toml --onec", "--once"),
        ("monitoring failed x.toml --limit 0", "limit"),
        ("monitoring failed x.toml --limit many", "limit"),
        ("run x.toml --once --mailbox", "--mailbox"),
        ("validate x.toml", "there is no such file"),
        ("run x.toml", "--once"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_sentence_on_stderr(tmp_path: Path, words: str, said: str) -> None:
    called = call(*words.split(), cwd=tmp_path, code=2)
    assert called.out == ""
    assert said in " ".join(called.err.split())
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_mailbox_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(TEXT)
    for words in ("run m.toml --once", "validate m.toml", "monitoring failed m.toml", "monitoring mailboxes m.toml"):
        called = call(*words.split(), "--mailbox", "jim", cwd=tmp_path, code=2)
        assert "no mailbox is called 'jim'" in called.err
        assert "user@example.com" in called.err
    assert [path.name for path in tmp_path.iterdir()] == ["m.toml"]


# ---- init ----


def test_init_writes_the_smallest_configuration_and_never_over_a_file(tmp_path: Path) -> None:
    called = call("init", cwd=tmp_path)
    assert "maildaemon.toml" in called.out
    assert (tmp_path / "maildaemon.toml").read_text() == TEXT
    (tmp_path / "maildaemon.toml").write_text("mine")
    called = call("init", cwd=tmp_path, code=2)
    assert "maildaemon.toml" in called.err
    assert (tmp_path / "maildaemon.toml").read_text() == "mine"
    call("init", "other.toml", cwd=tmp_path)
    assert (tmp_path / "other.toml").read_text() == TEXT
    assert "cannot be written" in call("init", "no/such/folder.toml", cwd=tmp_path, code=2).err


# ---- wrong configuration ----


def test_all_faults_are_told_with_their_paths_for_people_and_for_programs(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(COMPLETE.format(port=99999) + "hostt = 1\n")
    called = call("run", "m.toml", "--once", cwd=tmp_path, code=2)
    assert "2 things are wrong" in called.err
    assert "$.mailboxes[0].port" in called.err
    assert "$.mailboxes[0].hostt: unknown property; did you mean host?" in called.err
    assert called.out == ""
    called = call("run", "m.toml", "--once", "--json", cwd=tmp_path, code=2)
    assert {one["path"] for one in called.document["error"]["problems"]} == {
        "$.mailboxes[0].port",
        "$.mailboxes[0].hostt",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["m.toml"]  # not even a store was made


def test_broken_toml_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text("[[mailboxes]]\nhost imap\n")
    called = call("validate", "m.toml", cwd=tmp_path, code=2)
    assert "m.toml: line 2, column 6" in called.err


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("oracle://scott:tiger@host/db", 2, "installed: postgres, postgresql, sqlite"),
        ("sqlite://", 2, "$.store.url"),
        ("nonsense", 2, "is not the URL of a store"),
        ("sqlite:///no/such/folder/m.db", 1, "folder does not exist"),
        ("sqlite:///m.toml", 1, "is not a database"),
    ],
)
def test_a_store_that_cannot_be_opened_is_told(tmp_path: Path, url: str, code: int, said: str) -> None:
    (tmp_path / "m.toml").write_text(f'[store]\nurl = "{url}"\n' + COMPLETE.format(port=1))
    called = call("run", "m.toml", "--once", cwd=tmp_path, code=code)
    assert said in called.err
    assert "tiger" not in called.err + called.out


# ---- running without a server ----


def test_a_server_that_is_not_there_is_told_with_what_to_do(tmp_path: Path, closed_port: int) -> None:
    (tmp_path / "m.toml").write_text(COMPLETE.format(port=closed_port))
    called = call("run", "m.toml", "--once", cwd=tmp_path, code=1)
    assert f"store: {tmp_path}/maildaemon.db (new)" in called.err
    assert "SourceUnavailable" in called.out
    assert "what to do" in called.out
    assert "failed" in called.out
    again = call("run", "m.toml", "--once", "--json", cwd=tmp_path, code=1)
    (mailbox,) = again.document["mailboxes"]
    assert mailbox["state"] == "failed"
    assert mailbox["trouble"]["error"] == "SourceUnavailable"
    assert again.document["store"] == {"name": f"{tmp_path}/maildaemon.db", "new": False}
    assert "hunter2" not in called.out + called.err + again.out + again.err


def test_one_bad_mailbox_does_not_hide_another_and_an_inactive_one_is_listed(tmp_path: Path, closed_port: int) -> None:
    second = COMPLETE.format(port=closed_port).replace("jane@", "joe@")
    third = '[[mailboxes]]\nname = "later"\nactive = false\n'
    (tmp_path / "m.toml").write_text(COMPLETE.format(port=closed_port) + second + third)
    called = call("run", "m.toml", "--once", "--json", cwd=tmp_path, code=1)
    assert {one["name"]: one["state"] for one in called.document["mailboxes"]} == {
        "jane@example.com": "failed",
        "joe@example.com": "failed",
        "later": "inactive",
    }
    only = call("run", "m.toml", "--once", "--mailbox", "later", cwd=tmp_path)
    assert "inactive" in only.out
    assert "jane@" not in only.out


def test_validate_and_monitoring_leave_nothing_behind_where_nothing_has_run(tmp_path: Path, closed_port: int) -> None:
    (tmp_path / "m.toml").write_text(COMPLETE.format(port=closed_port))
    called = call("validate", "m.toml", cwd=tmp_path, code=1)
    assert "FAULT   server" in called.out
    assert "not there yet" in called.err
    assert call("validate", "m.toml", "--json", cwd=tmp_path, code=1).document["well"] is False
    assert call("monitoring", "failed", "m.toml", "--json", cwd=tmp_path).document["items"] == []
    assert "no mail is stored" in call("monitoring", "successful", "m.toml", cwd=tmp_path).out
    assert "never swept" in call("monitoring", "mailboxes", "m.toml", cwd=tmp_path).out
    assert [path.name for path in tmp_path.iterdir()] == ["m.toml"]


def test_validate_says_that_the_store_has_no_folder(tmp_path: Path, closed_port: int) -> None:
    (tmp_path / "m.toml").write_text('[store]\nurl = "sqlite:///no/m.db"\n' + COMPLETE.format(port=closed_port))
    called = call("validate", "m.toml", cwd=tmp_path, code=1)
    assert f"make the folder {tmp_path}/no" in called.out


def test_a_secret_that_is_not_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(COMPLETE.format(port=1).replace("hunter2", "env:NO_SUCH_SECRET"))
    called = call("run", "m.toml", "--once", cwd=tmp_path, code=1)
    assert "env:NO_SUCH_SECRET" in called.out


def test_mailboxes_that_the_file_no_longer_has_are_shown_as_such(tmp_path: Path, closed_port: int) -> None:
    (tmp_path / "m.toml").write_text(COMPLETE.format(port=closed_port))
    call("run", "m.toml", "--once", cwd=tmp_path, code=1)
    (tmp_path / "m.toml").write_text(COMPLETE.format(port=closed_port).replace("jane@", "joe@"))
    items = call("monitoring", "mailboxes", "m.toml", "--json", cwd=tmp_path).document["items"]
    assert [(one["name"], one["configured"]) for one in items] == [
        ("joe@example.com", True),
        ("jane@example.com", False),
    ]
    assert items[1]["lastSweep"]["state"] == "failed"
    assert items[1]["lastSweep"]["trouble"]["error"] == "SourceUnavailable"


# ---- what can happen to a process ----


def test_text_that_the_terminal_cannot_write_is_escaped(tmp_path: Path, closed_port: int) -> None:
    (tmp_path / "m.toml").write_text(
        COMPLETE.format(port=closed_port).replace("mailbox =", 'name = "Büro ☃"\nmailbox =')
    )
    called = call("run", "m.toml", "--once", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"}, code=1)
    assert "B\\xfcro \\u2603" in called.out


def test_a_name_that_would_colour_the_terminal_is_shown_escaped(tmp_path: Path, closed_port: int) -> None:
    text = COMPLETE.format(port=closed_port).replace("imap", "x").replace("jane@", "[red]ja\\u202ene@")
    (tmp_path / "m.toml").write_text(text)
    called = call("run", "m.toml", "--once", cwd=tmp_path, code=1)
    assert "[red]ja\\u202ene@example.com" in called.out
    assert "\u202e" not in called.out + called.err


def test_something_unexpected_is_one_line_and_a_trace_only_with_debug(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(COMPLETE.format(port=1))
    show = (
        "import sys; from maildaemon_http import compose, cli;"
        "compose.read_configuration = lambda path: 1 / 0; sys.exit(cli.main(sys.argv[1:]))"
    )

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", show, "validate", "m.toml", *more]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "--debug" in done.stderr
    assert TRACE not in done.stderr
    assert TRACE in run("--debug").stderr


@contextmanager
def run_that_waits(folder: Path) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """A run, and the connection on which it waits for a greeting that never comes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = COMPLETE.format(port=silent.getsockname()[1]).replace("connectSeconds = 1", "connectSeconds = 600")
        (folder / "m.toml").write_text(text)
        running = subprocess.Popen(
            [sys.executable, "-m", "maildaemon_http.cli", "run", "m.toml", "--once", "--json"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        guard = threading.Timer(60, running.kill)
        guard.start()
        connection, _ = silent.accept()
        with connection:
            yield running, connection
        guard.cancel()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_interrupt_ends_at_once_and_the_next_run_is_not_in_the_way(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with run_that_waits(tmp_path) as (running, _connection):
        running.send_signal(number)
        assert running.stderr is not None
        said = []
        for line in running.stderr:
            said.append(line)
            if "once more to stop at once" in line:
                break
        running.send_signal(number)
        out, err = running.communicate()
        err = "".join(said) + err
    assert running.returncode == code, err
    assert json.loads(out)["error"]["error"] == "Interrupted"
    assert "interrupted: nothing is lost" in err
    assert TRACE not in out + err
    again = call("run", "m.toml", "--once", cwd=tmp_path, code=1)
    assert "another process" not in again.out
    assert "busy" not in again.out


def test_the_first_sigterm_finishes_in_good_order_with_143(tmp_path: Path) -> None:
    with run_that_waits(tmp_path) as (running, connection):
        running.send_signal(signal.SIGTERM)
        assert running.stderr is not None
        for line in running.stderr:
            if "once more to stop at once" in line:
                break
        connection.close()  # what was in hand comes to its end
        out, err = running.communicate()
    assert running.returncode == 143, err
    (mailbox,) = json.loads(out)["mailboxes"]
    assert mailbox["trouble"]


@pytest.mark.parametrize("as_json", [True, False])
def test_an_interrupt_before_anything_was_begun_is_told_to_programs_too(tmp_path: Path, as_json: bool) -> None:
    show = (
        "import sys; from maildaemon_http import compose, cli\n"
        "def interrupted(path): raise KeyboardInterrupt\n"
        "compose.read_configuration = interrupted; sys.exit(cli.main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", show, "validate", "m.toml", *(["--json"] if as_json else [])]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    if as_json:
        assert json.loads(done.stdout)["error"]["error"] == "Interrupted"
    else:
        assert done.stdout == ""


def test_how_it_is_called_is_what_a_shell_would_find(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("maildaemon")
    for path, name in ((str(script.parent), "maildaemon"), ("/usr/bin:/bin", str(script))):
        (tmp_path / "m.toml").unlink(missing_ok=True)
        done = subprocess.run(
            [script, "init", "m.toml"], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=True
        )
        assert f"  {name} validate m.toml" in done.stdout.splitlines()


def test_mails_that_may_have_arrived_are_tried_again_only_by_an_option_of_their_own(
    tmp_path: Path, closed_port: int
) -> None:
    said = " ".join(call("run", "--help", cwd=tmp_path).out.split())
    assert "only after you have looked" in said
    (tmp_path / "m.toml").write_text(COMPLETE.format(port=closed_port))
    call("run", "m.toml", "--once", cwd=tmp_path, code=1)
    setup = read_configuration(tmp_path / "m.toml")
    with open_daemon(setup) as daemon:
        lease = daemon.store.lease(setup.mailboxes[0].id, 60, owner="the test")
        assert lease is not None
        stages = (Stage.UNCONFIRMED, Stage.GIVEN_UP)
        found = [
            attrs.evolve(entry(uid=uid, stage=stage), id=None, mailbox=setup.mailboxes[0].id)
            for uid, stage in enumerate(stages, start=1)
        ]
        lease.admit(FolderRef("INBOX"), found, FolderState(cursor=Cursor("1")))
        lease.give_back()
    for option, number in (
        ("--retry-failed", "1 failed mail is"),
        ("--retry-failed", "0 failed mails are"),
        ("--retry-unconfirmed", "1 failed mail is"),
    ):
        called = call("run", "m.toml", "--once", option, cwd=tmp_path, code=1)
        assert f"jane@example.com: {number} tried again" in called.err


def test_validate_tells_of_a_spool_that_cannot_be_written(tmp_path: Path, closed_port: int) -> None:
    (tmp_path / "m.toml").write_text('[spool]\npath = "m.toml"\n' + COMPLETE.format(port=closed_port))
    called = call("validate", "m.toml", cwd=tmp_path, code=1)
    assert "FAULT   spool" in called.out
    assert f"make room in {tmp_path}/m.toml, or see to it that it can be written" in called.out


def test_a_reader_that_goes_away_is_no_error_to_talk_about(tmp_path: Path, closed_port: int) -> None:
    (tmp_path / "m.toml").write_text(COMPLETE.format(port=closed_port))
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "maildaemon_http.cli", "monitoring", "mailboxes", "m.toml", "--json"],
        cwd=tmp_path,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert TRACE not in done.stderr
    assert "BrokenPipe" not in done.stderr
