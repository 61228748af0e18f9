"""A mailbox whose server tells of new mail: it is stored within moments, and whatever becomes of the connection, stored
all the same."""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.message import MailboxId
from maildaemon_core.options import DestinationOptions, MailArchiving, MailboxOptions, Secret
from tests.servers.dovecot import Dovecot
from tests.servers.proxy import NO_FAULT, ChaosProxy, Fault

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

HOUR = 3600
PATIENCE = 120.0
AT_ONCE = 2.0
"""Seconds within which new mail is stored, on a machine that has nothing else to do."""


def options(server: Dovecot, user: str, target: Path, **others: Any) -> MailboxOptions:
    return MailboxOptions(
        **{
            "name": user,
            "host": "localhost",
            "port": server.imaps,
            "username": user,
            "password": Secret(server.password),
            "mail_archiving": MailArchiving(active=True, path_template="{subject}.eml"),
            "destinations": (DestinationOptions(type="file", url=str(target)),),
            "poll_interval_seconds": HOUR,
            "options": {"caFile": str(server.ca), "connectSeconds": 5, "commandSeconds": 5, "stallSeconds": 5},
            **others,
        }
    )


def mail(subject: str) -> bytes:
    return f"From: a@firm.example\r\nSubject: {subject}\r\nMessage-ID: <{subject}@x>\r\n\r\nhello\r\n".encode()


@contextmanager
def running(home: Path, *mailboxes: MailboxOptions, at_once: int = 4) -> Iterator[MailDaemon]:
    with MailDaemon.open(f"sqlite:///{home / 'mail.db'}") as daemon:
        for each in mailboxes:
            daemon.adopt(MailboxId(each.label), each)
        daemon.start(at_once=at_once)
        yield daemon


def until(happened: Callable[[], object], seconds: float = PATIENCE) -> float:
    """Waits for it; how many seconds that took."""
    began = time.monotonic()
    while not happened():
        assert time.monotonic() - began < seconds, "it did not happen"
        time.sleep(0.01)
    return time.monotonic() - began


def waiting(daemon: MailDaemon) -> int:
    return sum(each.waiting for each in daemon.watched())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_new_mail_is_stored_within_moments_though_the_mailbox_is_polled_once_an_hour(
    dovecot: Dovecot, mail_user: str, tmp_path: Path, target: Path, heavy: bool
) -> None:
    took: list[float] = []
    with running(tmp_path, options(dovecot, mail_user, target)) as daemon:
        for number in range(20 if heavy else 5):
            until(lambda: waiting(daemon) == 1)
            dovecot.deliver(mail_user, mail(f"{number}"))
            took.append(until((target / f"{number}.eml").exists))
    print(f"seconds until a new mail was stored: median {statistics.median(took):.2f}, most {max(took):.2f}")
    assert statistics.median(took) < AT_ONCE * (1 if heavy else 5), took


def test_a_server_that_is_killed_while_mailboxes_wait_is_come_back_to_without_a_person(
    mail_user: str, tmp_path: Path, target: Path
) -> None:
    with ChaosProxy(0) as line:
        with Dovecot() as server:
            line.target_port = server.imaps
            usual = options(server, mail_user, target, port=line.port, poll_interval_seconds=5)
            with running(tmp_path, usual) as daemon:
                until(lambda: waiting(daemon) == 1)
                server.process.stop(signal.SIGKILL)
                line.drop_all()
                until(lambda: waiting(daemon) == 0)
                until(lambda: any(each.failures for each in daemon.watched()))
                (each,) = daemon.watched()
                assert each.trouble is not None
                assert "localhost" in each.trouble.message
        with Dovecot() as another:
            line.target_port = another.imaps
            again = options(another, mail_user, target, port=line.port, poll_interval_seconds=5)
            with running(tmp_path, again) as daemon:
                another.deliver(mail_user, mail("after"))
                until((target / "after.eml").exists)


def test_a_line_that_falls_silent_while_a_mailbox_waits_costs_a_poll_and_no_mail(
    dovecot: Dovecot, mail_user: str, tmp_path: Path, target: Path
) -> None:
    with (
        ChaosProxy(dovecot.imaps) as line,
        running(tmp_path, options(dovecot, mail_user, target, port=line.port, poll_interval_seconds=5)) as daemon,
    ):
        until(lambda: waiting(daemon) == 1)
        line.fault = Fault(stall_after=0)  # this connection says nothing any more, and nobody is told of that
        dovecot.deliver(mail_user, mail("unheard"))
        time.sleep(0.5)
        line.fault = NO_FAULT
        until((target / "unheard.eml").exists)
        assert not any(each.failures for each in daemon.watched()), "it is nobody's failure"


def test_sessions_that_are_thrown_out_again_and_again_lose_and_double_nothing(
    dovecot: Dovecot, mail_user: str, tmp_path: Path, target: Path, heavy: bool
) -> None:
    with running(tmp_path, options(dovecot, mail_user, target, poll_interval_seconds=5)) as daemon:
        for number in range(20 if heavy else 3):
            until(lambda: waiting(daemon) == 1)
            dovecot.deliver(mail_user, mail(f"before {number}"))
            dovecot.kick(mail_user)
            dovecot.deliver(mail_user, mail(f"after {number}"))
            until((target / f"before {number}.eml").exists)
            until((target / f"after {number}.eml").exists)
        names = sorted(path.name for path in target.rglob("*.eml"))
    assert len(names) == len(set(names)) == 2 * (20 if heavy else 3), "each once, and none under a second name"


def test_many_mailboxes_wait_in_one_thread(tmp_path: Path, heavy: bool) -> None:
    """500 of them under ``nox -s heavy``; what each costs is printed."""
    number = 500 if heavy else 12
    with Dovecot(settings=MANY) as server:
        mailboxes = []
        for each in range(number):
            folder = tmp_path / "targets" / str(each)
            folder.mkdir(parents=True)
            mailboxes.append(options(server, f"user{each}", folder))
        with MailDaemon.open(f"sqlite:///{tmp_path / 'mail.db'}") as daemon:
            for each_mailbox in mailboxes:
                daemon.adopt(MailboxId(each_mailbox.label), each_mailbox)
            before, sweeping = resident(), threading.active_count()
            daemon.start(at_once=4)
            until(lambda: waiting(daemon) == number, 900)
            until(lambda: threading.active_count() <= sweeping + 2)
            print(
                f"{number} mailboxes wait: {(resident() - before) / number:.0f} KiB of memory each, "
                f"{threading.active_count() - sweeping} threads more than before the start"
            )
            assert sum(thread.name == "waiting" for thread in threading.enumerate()) == 1
            for each in range(number):
                server.deliver(f"user{each}", mail("news"))
            took = until(
                lambda: all((tmp_path / "targets" / str(each) / "news.eml").exists() for each in range(number))
            )
            print(f"news for all of them at once were stored within {took:.1f} s")
            began = time.monotonic()
        print(f"it stopped within {time.monotonic() - began:.1f} s")


def resident() -> int:
    """KiB of this process in memory."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


MANY = """\
default_process_limit = 1100
default_client_limit = 3000
service imap-login {
  service_count = 0
  process_min_avail = 1
}
service imap {
  process_limit = 1100
}
"""
