"""Servers, folders and neighbours that mean harm: what they can make us hold, wait for, show, write or give away."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
import tracemalloc
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from maildaemon_adapters.imap import ImapSettings, ImapSource, open_imap
from maildaemon_adapters.local import EmlSettings, MboxSettings, open_eml, open_mbox, patient_ftp
from maildaemon_adapters.local.mbox import MboxSource
from maildaemon_adapters.oauth.granting import Granted, Registration, ask
from maildaemon_adapters.pop3 import Pop3Settings, open_pop3
from maildaemon_core.confinement import Confinement, OutOfBounds, source_problems
from maildaemon_core.engine.confining import confined
from maildaemon_core.errors import FolderRefused, LoginRefused, MaildaemonError, SourceUnavailable, Trouble
from maildaemon_core.message import FolderRef
from maildaemon_core.options import Action, Aftercare, MailboxOptions, Secret
from maildaemon_core.ports import Known
from tests.contracts.spools import FileSpool
from tests.servers.process import LOOPBACK
from tests.servers.scripted_imap import OK, Conversation, ScriptedImap
from tests.servers.scripted_pop3 import ScriptedPop3

INBOX = FolderRef("INBOX")
PASSWORD = "hunter2 & /ä"


@contextmanager
def served(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that does this with the one connection that it takes."""
    listener = socket.create_server((LOOPBACK, 0))

    def run() -> None:
        with suppress(OSError):
            client, _ = listener.accept()
            with client:
                talk(client)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    port: int = listener.getsockname()[1]
    try:
        yield port
    finally:
        with suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
            pass  # so that who still waits for a client gets one
        listener.close()
        thread.join(10)


@contextmanager
def held_at_most(megabytes: int) -> Iterator[None]:
    """What is allocated in here at any time by Python, the sender of the flood included."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes << 20
    finally:
        tracemalloc.stop()


def flood(line: bytes, megabytes: int) -> Callable[[Conversation], None]:
    block = line * ((1 << 20) // len(line))

    def step(talk: Conversation) -> None:
        for _ in range(megabytes):
            talk.send(block)

    return step


# ------------------------------------------------------------------------------------------------------------- tokens


def asked(answer: bytes | Callable[[socket.socket], None]) -> Granted:
    def talk(client: socket.socket) -> None:
        client.recv(1 << 16)
        answer(client) if callable(answer) else client.sendall(answer)

    with served(talk) as port:
        return ask(
            Registration(
                authority="",
                tenant="",
                token_url=f"http://{LOOPBACK}:{port}/token",
                client="app",
                scope=None,
                secret=Secret(PASSWORD),
                certificate=None,
                ca_file=None,
            )
        )


def test_a_chunk_of_a_size_below_zero_is_not_all_that_the_server_ever_sends() -> None:
    def endless(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
        for _ in range(64):
            client.sendall(bytes(1 << 20))

    with held_at_most(16), pytest.raises(SourceUnavailable, match="does not answer as a web server does"):
        asked(endless)
    with pytest.raises(SourceUnavailable, match="does not answer as a web server does"):
        asked(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nxxxxxxxxxx")


def test_numbers_that_nobody_can_count_with_are_as_good_as_none() -> None:
    assert asked(b'HTTP/1.1 200 OK\r\n\r\n{"access_token": "t", "expires_in": 1' + b"0" * 400 + b"}").seconds == 300
    with pytest.raises(SourceUnavailable, match="at present") as caught:
        asked(b"HTTP/1.1 429 no\r\nRetry-After: Mon, 01 Jan 99999999999999999999 00:00:00 GMT\r\n\r\n")
    assert caught.value.retry_after is None


def test_who_repeats_the_login_for_a_token_shows_no_secret_in_any_of_its_forms() -> None:
    forms = [PASSWORD, quote_plus(PASSWORD), b64encode(f"app:{quote_plus(PASSWORD)}".encode()).decode()]
    said = json.dumps({"error": "invalid_client", "error_description": " or ".join(forms)})
    with pytest.raises(LoginRefused) as caught:
        asked(b"HTTP/1.1 400 no\r\n\r\n" + said.encode())
    assert "*** or *** or ***" in str(caught.value)
    assert not any(form in repr(caught.value) for form in forms)


# ------------------------------------------------------------------------------------------------------- IMAP and POP3


def imap(server: ScriptedImap) -> ImapSource:
    options = MailboxOptions(
        host=LOOPBACK, port=server.port, tls="none", username="jane", password=Secret(PASSWORD.replace("ä", "a"))
    )
    return open_imap(options, ImapSettings(connect_seconds=5, stall_seconds=5, command_seconds=20), FileSpool())


def test_an_answer_of_lines_without_end_is_given_up_long_before_the_memory_is() -> None:
    with ScriptedImap() as server:
        server.instead("LIST", flood(b'* LIST () "/" "' + b"x" * 1000 + b'"\r\n', 200), OK)
        with imap(server) as source, held_at_most(400), pytest.raises(SourceUnavailable, match="more than"):
            source.folders()


def test_small_literals_without_end_are_given_up_too() -> None:
    with ScriptedImap(mails={1: b"Subject: one\r\n\r\n"}) as server:
        many = flood(b" X {60000}\r\n" + b"y" * 60000, 200)
        server.instead("UID FETCH", b"* 1 FETCH (UID 1", many, b")\r\n", OK)
        with imap(server) as source, pytest.raises(SourceUnavailable, match="more than"):
            source.list_since(INBOX, None, limit=100)


def test_a_listing_of_more_lines_than_there_are_mails_anywhere_is_given_up() -> None:
    with ScriptedPop3([b"Subject: one\r\n\r\n"]) as server:
        server.instead("UIDL", b"+OK\r\n", b"ab\n" * 600_000, b".\r\n")
        options = MailboxOptions(
            type="pop3", host=LOOPBACK, port=server.port, tls="none", username="jane", password=Secret("p")
        )
        lost = pytest.raises(SourceUnavailable, match="more than 500000 lines")
        with open_pop3(options, Pop3Settings(), FileSpool()) as source, lost:
            source.list_since(INBOX, None, limit=100)


# ----------------------------------------------------------------------------------------------------------------- FTP


class Ftp:
    """As much of a server as a client needs to list a folder; ``listing`` does what it likes with that connection."""

    def __init__(self, *, refusal: bytes = b"", listing: Callable[[socket.socket], None] = lambda _: None) -> None:
        self._refusal = refusal
        self._listing = listing

    def __call__(self, client: socket.socket) -> None:
        data = socket.create_server((LOOPBACK, 0))
        port = data.getsockname()[1]
        with data, client.makefile("rb") as lines:
            client.sendall(b"220 here\r\n")
            for line in lines:
                match line.split()[0].upper():
                    case b"USER":
                        client.sendall(b"331 password\r\n")
                    case b"PASS" if self._refusal:
                        client.sendall(self._refusal + line)
                    case b"PASV":
                        client.sendall(b"227 (127,0,0,1,%d,%d)\r\n" % divmod(port, 256))
                    case b"MLSD":
                        client.sendall(b"150 now\r\n")
                        with data.accept()[0] as connection, suppress(OSError):
                            self._listing(connection)
                        client.sendall(b"226 done\r\n")
                    case _:
                        client.sendall(b"200 ok\r\n")


def read_by_ftp(server: Callable[[socket.socket], None]) -> MaildaemonError:
    """What it comes to."""
    with served(server) as port:
        options = MailboxOptions(
            type="eml", path=f"ftp://{LOOPBACK}:{port}/in", tls="none", username="u", password=Secret(PASSWORD)
        )
        with pytest.raises(MaildaemonError) as caught, open_eml(options, EmlSettings(), FileSpool()):
            pass
        return caught.value


def test_an_ftp_server_that_repeats_the_password_shows_it_to_nobody_nor_sends_escapes_to_a_terminal() -> None:
    error = read_by_ftp(Ftp(refusal=b"530 \x1b[31mno "))
    assert "530" in str(error)
    assert "***" in str(error)
    chain: BaseException | None = error
    while chain is not None:
        assert PASSWORD not in repr(chain)
        assert "\x1b" not in str(chain)
        chain = chain.__cause__ or chain.__context__


def test_an_ftp_server_that_lists_or_greets_without_end_is_given_up() -> None:
    def listing(connection: socket.socket) -> None:
        for _ in range(100):
            connection.sendall(b"type=file;size=1; a.eml\r\n" * 40_000)

    def greeting(client: socket.socket) -> None:
        for _ in range(64):
            client.sendall((b"220-" + b"x" * 4000 + b"\r\n") * 256)

    with held_at_most(120):
        assert "more than 300000 files" in str(read_by_ftp(Ftp(listing=listing)))
    with held_at_most(16):
        assert "more than 1048576 bytes" in str(read_by_ftp(greeting))


def test_an_ftp_server_that_says_a_byte_now_and_then_is_waited_for_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patient_ftp, "STALL", 1.0)
    monkeypatch.setattr(patient_ftp, "ALLOWANCE", 1.0)
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        while not stop.wait(0.1):
            connection.sendall(b"2")

    began = time.monotonic()
    for server in (drip, Ftp(listing=drip)):
        read_by_ftp(server)
    stop.set()
    assert time.monotonic() - began < 10


def test_a_confined_mailbox_is_told_that_it_may_not_read_there_by_ftp() -> None:
    with confined(Confinement()):
        error = read_by_ftp(lambda _: None)
    assert isinstance(error, OutOfBounds)
    assert "this machine itself" in str(error)


def test_a_confined_mailbox_does_not_read_the_memory_that_all_of_the_process_share() -> None:
    problems = source_problems(Confinement(), MailboxOptions(type="eml", path="MEMORY://others"))
    assert [(each.path, "memory of its process" in each.message) for each in problems] == [("$.path", True)]


# ---------------------------------------------------------------------------------------------------------------- mbox

MAIL = b"From jane Mon Jan  1 00:00:00 2024\nSubject: hers\n\nhello, hello, hello, hello\n\n"
FORGED = b"From eve  Mon Jan  1 00:00:00 2024\nSubject: eve's\n\n".ljust(len(MAIL) - 2, b"x") + b"\n\n"


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def plan(**others: object) -> bytes:
    """A journal that has all of the file written anew."""
    size = len(MAIL)
    told = {"size": size, "start": 0, "length": size, "before": digest(b""), "gone": digest(b"")}
    return json.dumps({**told, "tail": digest(FORGED), **others}).encode() + b"\n" + FORGED


@pytest.fixture
def box(tmp_path: Path) -> Path:
    made = tmp_path / "jane"
    made.write_bytes(MAIL)
    os.utime(made, (1, 1))
    return made


def mbox(path: Path) -> MboxSource:
    options = MailboxOptions(type="mbox", path=str(path))
    return open_mbox(options, MboxSettings(quiet_seconds=0, lock_seconds=1), FileSpool())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_journal_that_another_user_has_made_is_not_followed(box: Path) -> None:
    journal = box.with_name(".jane.maildaemon")
    journal.write_bytes(plan())
    os.chown(journal, 12345, 12345)
    with mbox(box) as source, pytest.raises(FolderRefused, match="another user has made"):
        source.list_since(INBOX, None, limit=10)
    assert box.read_bytes() == MAIL


def test_a_pipe_in_place_of_a_journal_is_not_waited_for(box: Path) -> None:
    os.mkfifo(box.with_name(".jane.maildaemon"))
    began = time.monotonic()
    with mbox(box) as source, pytest.raises(FolderRefused, match="another user has made"):
        source.list_since(INBOX, None, limit=10)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "odd", [{"size": "a"}, {"length": []}, {"start": None}, {"start": -9}, {"size": -1, "length": -5}, {"size": 1.5}]
)
def test_a_journal_that_is_none_stops_its_own_folder_and_is_kept(box: Path, odd: dict[str, object]) -> None:
    box.with_name(".jane.maildaemon").write_bytes(plan(**odd))
    with mbox(box) as source, pytest.raises(FolderRefused, match="interrupted"):
        source.list_since(INBOX, None, limit=10)
    assert box.read_bytes() == MAIL


def test_no_mail_is_appended_to_a_file_that_is_no_mbox(box: Path) -> None:
    other = box.with_name("invoice.pdf")
    other.write_bytes(b"%PDF-1.7 ...")
    with mbox(box.parent) as source:
        folder = FolderRef("jane")
        mails = [
            Known(ref=each.ref, identity=each.identity) for each in source.list_since(folder, None, limit=10).envelopes
        ]
        answers = source.settle(mails, Aftercare(Action.MOVE, "invoice.pdf"))
    assert [each.error for each in answers.values() if isinstance(each, Trouble)] == ["NoMbox"]
    assert other.read_bytes() == b"%PDF-1.7 ..."
    assert box.read_bytes() == MAIL
