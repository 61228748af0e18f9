"""Whole sweeps over POP3: whatever the server does to its ids, and the line to us, each mail is stored once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from maildaemon_adapters.pop3 import KIND, Pop3Settings, open_pop3
from maildaemon_core.confinement import Confinement, OutOfBounds
from maildaemon_core.engine.confining import confined
from maildaemon_core.engine.lanes import Lanes
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.engine.sweep import Bounds, Sweep
from maildaemon_core.engine.targets import Target, Targets
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import SweepReport, SweepState
from maildaemon_core.options import DestinationOptions, MailArchiving, MailboxOptions, Secret
from maildaemon_core.store_port import Configuration
from maildaemon_core.testing.memory_destination import MemoryDestination
from maildaemon_core.testing.memory_store import MemoryStore
from tests.contracts.sizes import HEAVY
from tests.servers.dovecot import Dovecot
from tests.servers.proxy import ChaosProxy, Fault
from tests.servers.scripted_pop3 import ScriptedPop3

MAILBOX = MailboxId("00000000-0000-0000-0000-0000000000b0")


def mail(number: int, *, hour: int = 10, size: int = 10) -> bytes:
    return (
        (
            f"Received: by mx; Thu, 1 Jan 2026 {hour}:{number % 60:02}:00 +0000\r\nMessage-ID: <{number}@x>\r\n"
            f"From: a@firm.example\r\nSubject: {number}\r\n\r\n"
        ).encode()
        + b"x" * size
        + b"\r\n"
    )


class Archive:
    """A mailbox of a server, swept into a place of its own by a clock that goes on an hour with each sweep."""

    def __init__(self, port: int, *, delete: bool, user: str = "jane", settings: Pop3Settings | None = None) -> None:
        self.now = datetime(2026, 2, 1, tzinfo=UTC)
        self.store = MemoryStore(lambda: self.now)
        self.store.save(Configuration(id=MAILBOX, name="popped", document={}))
        self.place = MemoryDestination()
        self.options = MailboxOptions(
            type="pop3",
            host="127.0.0.1",
            port=port,
            tls="none",
            username=user,
            password=Secret("secret"),
            delete_mails_on_server=delete,
            mail_archiving=MailArchiving(active=True, path_template="{key}.eml"),
            destinations=(DestinationOptions(),),
        )
        self.settings = settings or Pop3Settings(connect_seconds=5, stall_seconds=5, command_seconds=20, lock_seconds=2)

    def sweep(self) -> SweepReport:
        self.now += timedelta(hours=1)
        lease = self.store.lease(MAILBOX, 60.0, owner="a test")
        assert lease is not None
        with Lanes(1, "source") as lane, Lanes(1, "destination") as lanes:
            report = Sweep(
                lease,
                self.options,
                Targets([Target(options=self.options.destinations[0], destination=self.place)], lanes),
                lambda: KIND.open(self.options, self.settings, FolderSpool()),
                lane=lane,
                clock=lambda: self.now,
                tell=lambda event: None,
                nonce="ours",
                bounds=Bounds(mails=4, bytes=1 << 20),
            ).run()
        lease.give_back(self.now)
        return report

    @property
    def stored(self) -> list[bytes]:
        return sorted(raw for _, raw in self.place.published)


@pytest.fixture
def server() -> Iterator[ScriptedPop3]:
    with ScriptedPop3([mail(number) for number in range(1, 10)]) as scripted:
        yield scripted


def test_mails_are_stored_and_deleted_batch_by_batch(server: ScriptedPop3) -> None:
    archive = Archive(server.port, delete=True)
    mails = list(server.mails)
    report = archive.sweep()
    assert (report.state, report.tidied) == (SweepState.DONE, 9)
    assert archive.stored == sorted(mails)
    assert server.mails == []
    assert server.connections == 3, "each batch ends a session, and the next one is begun when it is needed"
    server.plant(mail(20), "id-20")
    again = archive.sweep()
    assert (again.state, again.tidied, again.remarks) == (SweepState.DONE, 1, ())
    assert len(archive.stored) == 10


def test_what_is_kept_on_the_server_is_not_stored_again_whatever_becomes_of_its_ids(server: ScriptedPop3) -> None:
    archive = Archive(server.port, delete=False)
    mails = list(server.mails)
    assert archive.sweep().state is SweepState.DONE
    server.ids = [f"other-{number}" for number in range(len(server.ids))]
    server.plant(mail(20), "other-20", at=0)
    report = archive.sweep()
    assert archive.stored == sorted([*mails, mail(20)])
    assert ["9 mails recognised, 1 new" in each for each in report.remarks] == [True]
    assert archive.sweep().remarks == ()
    server.ids = [f"id-{number}" for number in range(len(server.ids))]
    archive.sweep()
    assert archive.stored == sorted([*mails, mail(20)])


def test_a_server_that_begins_to_count_anew_when_it_is_empty_loses_nothing(server: ScriptedPop3) -> None:
    archive = Archive(server.port, delete=True)
    expected = list(server.mails)
    for round_ in range(4):
        assert archive.sweep().state is SweepState.DONE
        assert server.mails == []
        new = [mail(100 + 10 * round_ + number, hour=11 + round_) for number in range(3)]
        expected += new
        for number, raw in enumerate(new, start=1):
            server.plant(raw, f"id-{number}")
    archive.sweep()
    assert archive.stored == sorted(expected)


def test_a_server_whose_ids_are_mere_numbers_loses_nothing_and_doubles_nothing(server: ScriptedPop3) -> None:
    archive = Archive(server.port, delete=False)
    mails = list(server.mails)

    def renumbered() -> None:
        server.ids = [str(number) for number in range(1, len(server.mails) + 1)]

    renumbered()
    archive.sweep()
    del server.mails[2], server.ids[2]
    server.mails.append(mail(20))
    server.ids.append("x")
    renumbered()
    archive.sweep()
    archive.sweep()
    assert archive.stored == sorted([*mails, mail(20)])


def test_mails_that_share_an_id_are_stored_and_stay(server: ScriptedPop3) -> None:
    server.ids[3] = server.ids[5] = "same"
    archive = Archive(server.port, delete=True)
    mails = list(server.mails)
    for _ in range(3):
        archive.sweep()
    assert archive.stored == sorted(mails)
    assert server.mails == [mails[3], mails[5]]
    troubles = {entry.trouble.error for entry in archive.store.all() if entry.trouble is not None}
    assert troubles == {"SharedId"}


def test_a_mail_that_cannot_be_read_does_not_keep_the_others(server: ScriptedPop3) -> None:
    server.instead("RETR 4", b"-ERR damaged\r\n", always=True)
    archive = Archive(server.port, delete=False)
    mails = list(server.mails)
    report = archive.sweep()
    assert archive.stored == sorted([*mails[:3], *mails[4:]])
    assert report.folders[0].counts.stored == 8


# ---- on a real server, over a bad line ----


@pytest.fixture(scope="module")
def popping() -> Iterator[Dovecot]:
    with Dovecot(pop3=True) as dovecot:
        yield dovecot


FAULTS = {
    "in the greeting": Fault(cut_after=10),
    "in the login": Fault(cut_after=30, direction="up"),
    "in the list of ids": Fault(cut_after=700),
    "among the headers": Fault(reset_after=2_500),
    "among the mails": Fault(cut_after=9_000),
    "in the first mail": Fault(cut_after=4_500),
    "before a deletion": Fault(cut_after=420, direction="up"),
    "later than that": Fault(reset_after=480, direction="up"),
    "after a while": Fault(cut_after=560, direction="up"),
    "for long": Fault(stall_after=6_000),
    "nobody there": Fault(refuse=True),
}


@pytest.mark.server
@pytest.mark.parametrize(
    ("fault", "delete"),
    [
        pytest.param(fault, delete, id=f"{name}, {'deleting' if delete else 'keeping'}")
        for name, fault in FAULTS.items()
        for delete in (True, False)
        if HEAVY or delete == (fault.direction == "up" or fault.stall_after is None)
    ],
)
def test_over_a_bad_line_everything_is_stored_once_in_the_end(
    popping: Dovecot, mail_user: str, delete: bool, fault: Fault
) -> None:
    mails = [mail(number, size=300) for number in range(12)]
    for raw in mails:
        popping.deliver(mail_user, raw)
    with ChaosProxy(popping.pop) as proxy:
        settings = Pop3Settings(connect_seconds=1, stall_seconds=1, command_seconds=5, lock_seconds=1)
        archive = Archive(proxy.port, delete=delete, user=mail_user, settings=settings)
        proxy.fault = fault
        for _ in range(2):
            archive.sweep()
            assert len(set(archive.stored)) == len(archive.stored)
            assert set(popping.messages(mail_user)) >= set(mails) - set(archive.stored)
        proxy.fault = Fault()
        for _ in range(3):
            report = archive.sweep()
            assert report.state is SweepState.DONE
    assert archive.stored == sorted(mails)
    assert popping.messages(mail_user) == ([] if delete else mails)


# ---- confined, and from the command line ----


def test_a_confined_mailbox_does_not_reach_this_machine(server: ScriptedPop3) -> None:
    options = Archive(server.port, delete=False).options
    with confined(Confinement()), pytest.raises(OutOfBounds, match="this machine itself"):
        open_pop3(options, Pop3Settings(), FolderSpool())
    assert server.connections == 0
    with confined(Confinement(allow_networks=("127.0.0.1",))), open_pop3(options, Pop3Settings(), FolderSpool()):
        pass


CONFIGURATION = """\
[[mailboxes]]
type = "POP3"
host = "localhost"
port = {port}
username = "{user}"
password = "{password}"
deleteMailsOnServer = true
mailArchiving = {{ active = true, pathTemplate = "{{subject}}.eml" }}
destinations = [{{ url = "archive" }}]
options = {{ caFile = "{ca}" }}
"""


@pytest.mark.server
def test_the_command_line_archives_a_pop3_mailbox(popping: Dovecot, mail_user: str, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        popping.deliver(mail_user, mail(number))
    text = CONFIGURATION.format(port=popping.pops, user=mail_user, password=popping.password, ca=popping.ca)
    (tmp_path / "m.toml").write_text(text)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "maildaemon_http.cli", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    called = call("validate", "m.toml")
    assert called.returncode == 0, called.stdout + called.stderr
    assert "can be read; 3 mails" in called.stdout
    called = call("run", "m.toml", "--once", "--json")
    assert called.returncode == 0, called.stdout + called.stderr
    (mailbox,) = json.loads(called.stdout)["mailboxes"]
    assert mailbox["state"] == "done"
    assert {path.name: path.read_bytes() for path in (tmp_path / "archive").glob("*.eml")} == {
        f"{number}.eml": mail(number) for number in (1, 2, 3)
    }
    assert popping.messages(mail_user) == []


def test_a_move_is_refused_where_the_configuration_is_read(tmp_path: Path) -> None:
    text = CONFIGURATION.format(port=1, user="jane", password="x", ca="/ca.pem")
    text = text.replace("deleteMailsOnServer = true", 'afterStore = { move = "Done" }')
    (tmp_path / "m.toml").write_text(text)
    called = subprocess.run(
        [sys.executable, "-m", "maildaemon_http.cli", "run", "m.toml", "--once"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert called.returncode == 2
    assert "$.mailboxes[0].afterStore" in called.stderr
