"""The command against a real server: what it counts, what it says when something is wrong, how it ends."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.http.running import Called, call
from tests.servers.availability import not_available
from tests.servers.dovecot import Dovecot, as_served
from tests.servers.mounting import REMEDY

CONFIGURATION = """
[[mailboxes]]
name = "mail"
mailbox = "{user}"
host = "localhost"
port = {port}
tls = "starttls"
password = "env:MAIL_PASSWORD"
exportAttachments = true
mailArchiving = {{ active = true, pathTemplate = "{{key}}.eml" }}
destinations = [{{ url = "mail", pathTemplate = "{{key}}-{{filename}}" }}]
options = {{ caFile = "{ca}" }}
"""


def mail(number: int, *, size: int = 0, subject: str = "Hello") -> bytes:
    return (
        f"From: Jane <jane@example.com>\r\nTo: joe@example.com\r\nSubject: {subject} {number}\r\n"
        f"Message-ID: <{number}@example.com>\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="="\r\n\r\n'
        "--=\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
        f"--=\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=a{number}.pdf\r\n\r\n"
        + "x" * size
        + "\r\n--=--\r\n"
    ).encode()


class Operator:
    """Somebody with a configuration for a mailbox on the server."""

    def __init__(self, folder: Path, server: Dovecot, user: str) -> None:
        self.folder = folder
        self.server = server
        self.user = user
        self.write()

    def write(self, change: Callable[[str], str] = lambda text: text) -> None:
        text = CONFIGURATION.format(user=self.user, port=self.server.imap, ca=self.server.ca)
        (self.folder / "m.toml").write_text(change(text), encoding="utf-8")

    def call(self, command: str, code: int = 0, *, password: str | None = None) -> Called:
        words = command.split()
        at = words.index("m.toml") if "m.toml" in words else len(words)
        words = words if at < len(words) else [*words, "m.toml"]
        secret = self.server.password if password is None else password
        called = call(*words, cwd=self.folder, env={"MAIL_PASSWORD": secret}, code=code)
        assert "hunter2" not in called.out + called.err
        return called

    def run(self, code: int = 0, more: str = "") -> dict[str, Any]:
        """What the one mailbox's report of a run says."""
        (report,) = self.call(f"run m.toml --once --json {more}", code).document["mailboxes"]
        assert isinstance(report, dict)
        counts = report["counts"]
        assert counts["seen"] == sum(counts[one] for one in ("stored", "skipped", "failed", "pending"))
        return report

    def files(self, folder: str = "mail") -> list[str]:
        """What consumers see: never a hidden name."""
        return sorted(path.name for path in (self.folder / folder).iterdir() if not path.name.startswith("."))


@pytest.fixture
def operator(tmp_path: Path, dovecot: Dovecot, mail_user: str) -> Operator:
    dovecot.deliver(mail_user, mail(0))
    return Operator(tmp_path, dovecot, mail_user)


def test_a_mailbox_becomes_files_and_a_second_run_finds_nothing_new(operator: Operator) -> None:
    for number in range(1, 4):
        operator.server.deliver(operator.user, mail(number))
    called = operator.call("run --once m.toml")
    assert f"store: {operator.folder}/maildaemon.db (new)" in called.err
    assert "mail: 4 new mails in INBOX" in called.err
    row = next(line.split() for line in called.out.splitlines() if "INBOX" in line)
    assert row == ["mail", "INBOX", "4", "4", "0", "0", "0", "0", "done"]
    archived = [path.read_bytes() for path in (operator.folder / "mail").glob("*.eml")]
    assert sorted(archived) == sorted(map(as_served, operator.server.messages(operator.user)))
    assert len(operator.files()) == 8
    again = operator.run()
    assert (again["state"], again["counts"]["seen"]) == ("done", 0)
    assert len(operator.files()) == 8


def test_the_monitoring_shows_what_was_stored(operator: Operator) -> None:
    operator.run()
    (item,) = operator.call("monitoring successful m.toml --json").document["items"]
    assert (item["address"], item["folder"], item["sender"]) == (operator.user, "INBOX", "jane@example.com")
    assert (item["subject"], item["messageId"]) == ("Hello 0", "<0@example.com>")
    assert {one["path"] for one in item["artifacts"]} == set(operator.files())
    assert "Hello 0" in operator.call("monitoring successful m.toml --mailbox mail").out
    (info,) = operator.call("monitoring mailboxes m.toml --json").document["items"]
    assert (info["name"], info["address"]) == ("mail", operator.user)
    assert info["lastSweep"]["counts"]["stored"] == 1
    assert info["failingSince"] is None
    assert operator.call("monitoring failed m.toml --json").document["items"] == []


def test_what_the_limit_hides_is_said(operator: Operator) -> None:
    for number in range(1, 4):
        operator.server.deliver(operator.user, mail(number))
    operator.run()
    document = operator.call("monitoring successful m.toml --json --limit 3").document
    assert ([one["subject"] for one in document["items"]], document["more"]) == (
        ["Hello 3", "Hello 2", "Hello 1"],
        True,
    )
    assert operator.call("monitoring successful m.toml --json --limit 4").document["more"] is False


def test_validate_says_what_the_next_run_would_do_and_changes_nothing(operator: Operator) -> None:
    operator.write(lambda text: text + "deleteMailsOnServer = true\n")
    called = operator.call("validate m.toml")
    assert "the next sweep would find 1 new mail;" in called.out
    assert "is then to be DELETED" in called.out
    assert called.out.count("login: ") == 1
    assert called.out.splitlines()[-1] == "all is well"
    assert [path.name for path in operator.folder.iterdir()] == ["m.toml"]
    assert len(operator.server.uids(operator.user)) == 1
    (mailbox,) = operator.call("validate m.toml --json").document["mailboxes"]
    assert {one["level"] for one in mailbox["findings"]} == {"fine"}


def test_deleted_is_exactly_what_is_stored(operator: Operator) -> None:
    operator.write(lambda text: text + 'deleteMailsOnServer = true\nallowedEmailExtensions = ["example.com"]\n')
    operator.server.deliver(operator.user, mail(1).replace(b"jane@example.com", b"jane@evil-example.com"))
    report = operator.run()
    assert report["counts"] == {"seen": 2, "stored": 1, "skipped": 1, "failed": 0, "pending": 0}
    assert report["tidied"] == 1
    (left,) = operator.server.messages(operator.user)
    assert b"evil-example.com" in left


def test_mail_from_before_since_is_counted_and_left_alone(operator: Operator) -> None:
    operator.write(lambda text: text + 'since = "now"\n')
    report = operator.run()
    assert (report["counts"]["seen"], report["older"]) == (0, 1)


# ---- what can be wrong ----


@pytest.mark.parametrize("command", ["run --once m.toml", "validate m.toml"])
def test_a_wrong_password_is_told_and_never_shown(operator: Operator, command: str) -> None:
    called = operator.call(command, code=1, password="hunter2")
    assert "what to do" in called.out
    assert operator.user in called.out
    if command.startswith("run"):
        assert "LoginRefused" in called.out


@pytest.mark.parametrize("command", ["run --once m.toml", "validate m.toml"])
def test_a_host_that_cannot_be_reached_is_told(operator: Operator, command: str) -> None:
    operator.write(lambda text: text.replace('"localhost"', '"no-such-host.invalid"'))
    called = operator.call(command, code=1)
    assert "no-such-host.invalid" in called.out
    assert "what to do" in called.out


@pytest.mark.parametrize("command", ["run --once m.toml", "validate m.toml", "monitoring failed m.toml"])
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "mail"', 'type = "pigeon"', "no source named 'pigeon'; installed: "),
        ('url = "mail"', 'type = "pigeon", url = "mail"', "no destination named 'pigeon'; installed: azure, file,"),
        ("host =", "hots =", "unknown property; did you mean host?"),
        ("tls =", "tls ", "line 7"),
        ("{key}-{filename}", "{sender.__class__}", "$.mailboxes[0].destinations[0].pathTemplate"),
        ("{key}.eml", "{subject:>999999999}", "$.mailboxes[0].mailArchiving.pathTemplate"),
    ],
)
def test_a_wrong_configuration_ends_with_2_before_anything_is_done(
    operator: Operator, command: str, old: str, new: str, said: str
) -> None:
    operator.write(lambda text: text.replace(old, new, 1))
    called = operator.call(command, code=2)
    assert said in called.err
    assert [path.name for path in operator.folder.iterdir()] == ["m.toml"]


def test_a_folder_that_is_not_there_fails_alone(operator: Operator) -> None:
    operator.write(lambda text: text + 'folders = ["INBOX", "Invoices"]\n')
    called = operator.call("run --once m.toml", code=1)
    assert "folder Invoices" in called.out
    assert "FolderMissing" in called.out
    assert len(operator.files()) == 2
    assert "FAULT" in operator.call("validate m.toml", code=1).out


def test_a_mail_that_is_too_large_is_failed_with_what_to_do_and_healed_by_a_retry(operator: Operator) -> None:
    operator.server.deliver(operator.user, mail(1, size=5000, subject="\x1b[31mbig"))
    operator.write(lambda text: text + "maxMessageBytes = 3000\n")
    called = operator.call("run --once m.toml", code=1)
    row = next(line.split() for line in called.out.splitlines() if "INBOX" in line)
    assert row == ["mail", "INBOX", "2", "1", "0", "1", "0", "0", "done"]
    assert "\\x1b[31mbig 1, from jane@example.com" in called.out
    assert "next try: given up" in called.out
    assert "\x1b" not in called.out
    (item,) = operator.call("monitoring failed m.toml --json").document["items"]
    assert (item["nextTry"], item["size"]) == ("given up", len(mail(1, size=5000, subject="\x1b[31mbig")))
    assert item["remedy"]
    assert operator.run()["counts"]["failed"] == 0  # what was given up before is only what the monitoring shows
    operator.write()
    assert operator.run(more="--retry-failed")["counts"]["stored"] == 1
    assert len(operator.files()) == 4


def test_a_mailbox_that_another_process_holds_ends_with_1(operator: Operator) -> None:
    from maildaemon_http.compose import open_daemon, read_configuration

    setup = read_configuration(operator.folder / "m.toml")
    with open_daemon(setup) as daemon:
        lease = daemon.store.lease(setup.mailboxes[0].id, 60, owner="another-host pid 7 elsewhere 1 x")
        assert lease is not None
        called = operator.call("run --once m.toml", code=1)
    assert "busy" in called.out
    assert "another-host pid 7" in called.out


# ---- places that refuse ----

MS_RDONLY, MS_REMOUNT = 1, 32


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Callable[[str, int], None]]:
    """A small file system of its own; the value given mounts it again with other options."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(options: str, flags: int) -> bool:
        return bool(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options.encode()) == 0)

    if os.geteuid() != 0 or not mount(f"size={size}", 0):
        not_available("no file system can be mounted here", REMEDY)
    try:
        yield lambda options, flags: None if mount(options, MS_REMOUNT | flags) else pytest.fail("remount")
    finally:
        libc.umount2(os.fsencode(folder), 2)


@pytest.fixture
def target(operator: Operator) -> Path:
    folder = operator.folder / "mail"
    folder.mkdir()
    return folder


def test_a_read_only_target_pauses_the_mailbox_and_no_attempt_is_counted(operator: Operator, target: Path) -> None:
    with mounted(target, "1m") as remount:
        remount("size=1m", MS_RDONLY)
        called = operator.call("run --once m.toml", code=1)
        assert "paused" in called.out
        assert "read-only" in called.out.casefold()
        assert str(target) in called.out
        assert "FAULT" in operator.call("validate m.toml", code=1).out
        remount("size=1m", 0)
        report = operator.run()
        assert (report["state"], report["counts"]["stored"]) == ("done", 1)
        (item,) = operator.call("monitoring successful m.toml --json").document["items"]
        assert item["attempts"] == 0
        assert len(operator.files()) == 2


def test_a_full_disk_pauses_the_mailbox_and_with_more_room_the_next_run_finishes(
    operator: Operator, target: Path
) -> None:
    for number in range(1, 13):
        operator.server.deliver(operator.user, mail(number, size=60_000))
    with mounted(target, "1m") as remount:
        called = operator.call("run --once m.toml", code=1)
        assert "paused" in called.out
        assert called.out.count("no space is left") == 1  # the mailbox is paused; its mails have not failed
        assert "what to do" in called.out
        assert str(target) in called.out
        remount("size=64m", 0)
        operator.run()
        archived = sorted(path.read_bytes() for path in target.glob("*.eml"))
        assert archived == sorted(map(as_served, operator.server.messages(operator.user)))
        assert len(operator.files()) == 26
        assert operator.call("monitoring failed m.toml --json").document["items"] == []
