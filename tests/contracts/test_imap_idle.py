"""Whether the source ``imap`` waits for news as the port ``Wakeable`` wants it, whatever a server does."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import attrs
import pytest

from maildaemon_adapters.imap import KIND, ImapSource
from maildaemon_core.errors import FolderMissing, SourceUnavailable
from maildaemon_core.message import FolderRef
from maildaemon_core.options import Action, Aftercare, Tls
from maildaemon_core.ports import Armed, Level
from maildaemon_core.testing.source_conformance import OpenSource, Post, a_mail
from maildaemon_core.testing.wakeable_conformance import SOON, WakeableConformance, news
from tests.contracts.spools import FileSpool
from tests.contracts.test_imap import DovecotPost, opened, options_for, settings_for
from tests.contracts.test_imap_scripted import opened as scripted_session
from tests.servers.dovecot import Dovecot
from tests.servers.proxy import ChaosProxy, Fault
from tests.servers.scripted_imap import Conversation, ScriptedImap, Step, cut

INBOX = FolderRef("INBOX")
ABILITIES = "IMAP4rev1 UIDPLUS MOVE IDLE"


class _OnDovecot(WakeableConformance):
    tls: ClassVar[Tls]

    @pytest.fixture
    def post(self, dovecot: Dovecot, mail_user: str) -> Post:
        return DovecotPost(dovecot, mail_user)

    @pytest.fixture
    def open_source(self, dovecot: Dovecot, mail_user: str) -> OpenSource:
        return lambda: opened(dovecot, mail_user, self.tls)

    @pytest.fixture
    def hang_up(self, dovecot: Dovecot, mail_user: str) -> Callable[[], None]:
        return lambda: dovecot.kick(mail_user)


@pytest.mark.server
class TestThroughTls(_OnDovecot):
    tls = "implicit"


@pytest.mark.server
class TestThroughStartTls(_OnDovecot):
    much_alike = True
    tls = "starttls"


@pytest.mark.server
class TestInPlainText(_OnDovecot):
    much_alike = True
    tls = "none"


# ---- against a server that is told what to say ----


@pytest.fixture
def server() -> Iterator[ScriptedImap]:
    with ScriptedImap(mails={1: a_mail(1)}, capabilities=ABILITIES) as scripted:
        yield scripted


def waits(*before: Step, then: tuple[Step, ...] = ()) -> tuple[Step, ...]:
    """A server that waits until DONE: what it says first, and what after its continuation."""

    def until_done(talk: Conversation) -> None:
        tag = talk.tag
        while (line := talk.read_line()) and line != b"DONE":
            pass
        talk.send(tag + b" OK done\r\n" if line else b"")

    return (*before, b"+ idling\r\n", *then, until_done)


def armed(source: ImapSource) -> Armed:
    source.list_since(INBOX, None, limit=10)
    found = source.arm(INBOX)
    assert found is not None
    return found


def pause(seconds: float) -> Step:
    return lambda _: time.sleep(seconds)


def test_a_line_in_two_pieces_is_one_line(server: ScriptedImap) -> None:
    server.instead("IDLE", *waits(then=(pause(0.1), b"* 2 EXI", pause(0.2), b"STS\r\n")))
    with scripted_session(server) as source:
        descriptor = armed(source).descriptor
        assert not source.drain()
        assert select.select([descriptor], [], [], SOON)[0]
        assert not source.drain(), "that was half a line"
        assert select.select([descriptor], [], [], SOON)[0]
        assert source.drain()
        assert not source.drain()
        source.disarm()
        assert len(source.list_since(INBOX, None, limit=10).envelopes) == 1


def test_half_a_line_that_is_complete_only_when_the_waiting_ends_does_no_harm(server: ScriptedImap) -> None:
    def late(talk: Conversation) -> None:
        assert talk.read_line() == b"DONE"
        talk.send(b"STS\r\n{tag} OK\r\n")

    server.instead("IDLE", b"+ \r\n* 2 EXI", late)
    with scripted_session(server) as source:
        armed(source)
        assert not source.drain()
        source.disarm()
        assert len(source.list_since(INBOX, None, limit=10).envelopes) == 1


@pytest.mark.parametrize(
    "steps",
    [waits(b"* 2 EXISTS\r\n"), (b"+ idling\r\n* 2 EXISTS\r\n* 1 RECENT\r\n", *waits()[1:])],
    ids=["before the continuation", "in one packet with it"],
)
def test_news_that_come_with_the_beginning_are_told(server: ScriptedImap, steps: tuple[Step, ...]) -> None:
    server.instead("IDLE", *steps)
    with scripted_session(server) as source:
        waiting = armed(source)
        assert source.drain() or news(source, waiting, 2)
        source.disarm()


def test_what_is_no_new_mail_is_no_news(server: ScriptedImap) -> None:
    chatter = b"* OK Still here\r\n* 1 EXPUNGE\r\n* 0 EXISTS\r\n* 0 RECENT\r\n* 1 FETCH (FLAGS (\\Seen))\r\n"
    server.instead("IDLE", *waits(then=(chatter,)))
    with scripted_session(server) as source:
        waiting = armed(source)
        assert not source.drain()
        assert not news(source, waiting, 0.2)
        assert not select.select([waiting.descriptor], [], [], 0.1)[0], "everything was taken up"
        source.disarm()


@pytest.mark.parametrize(
    "ending",
    [b"* BYE Autologout; idle for too long\r\n", b"{tag} OK IDLE terminated\r\n", b"{tag} BAD time is up\r\n", cut],
    ids=["BYE", "OK", "BAD", "EOF"],
)
def test_a_server_that_ends_the_waiting_is_noticed_each_time_and_the_session_recovers(
    server: ScriptedImap, ending: Step
) -> None:
    server.instead("IDLE", b"+ idling\r\n", ending)
    with scripted_session(server) as source:
        waiting = armed(source)
        with pytest.raises(SourceUnavailable):
            assert source.drain() or news(source, waiting, SOON)
        for _ in range(3):
            with pytest.raises(SourceUnavailable):
                source.drain()
        with pytest.raises(SourceUnavailable):
            source.disarm()
        assert len(source.list_since(INBOX, None, limit=10).envelopes) == 1
    assert server.connections == 2


@pytest.mark.parametrize("answer", [b"{tag} NO not today\r\n", b"{tag} BAD what\r\n", b"* 2 EXISTS\r\n{tag} NO\r\n"])
def test_a_server_that_refuses_is_polled_over_the_same_connection(server: ScriptedImap, answer: bytes) -> None:
    server.instead("IDLE", answer)
    with scripted_session(server) as source:
        assert source.arm(INBOX) is None
        assert len(source.list_since(INBOX, None, limit=10).envelopes) == 1
    assert server.connections == 1


def test_where_it_is_not_offered_it_is_not_tried(server: ScriptedImap) -> None:
    server.capabilities = "IMAP4rev1"
    with scripted_session(server) as source:
        assert source.arm(INBOX) is None
    assert "IDLE" not in server.lines


@pytest.mark.parametrize(
    ("abilities", "words"), [(ABILITIES, "told of it by the server in INBOX"), ("IMAP4rev1", "cannot tell of it")]
)
def test_a_look_at_the_mailbox_says_whether_the_server_tells_of_new_mail(
    server: ScriptedImap, abilities: str, words: str
) -> None:
    server.capabilities = abilities
    with scripted_session(server) as source:
        found = {each.subject: each for each in source.check([INBOX], Aftercare(Action.KEEP))}
    assert words in found["new mail"].message
    assert found["new mail"].level is Level.FINE


def test_without_uidnext_a_search_tells_whether_mail_came_after_the_listing(server: ScriptedImap) -> None:
    server.instead("IDLE", *waits(), always=True)
    with scripted_session(server) as source:
        armed(source)
        assert not source.drain()
        source.disarm()
        server.mails[2] = a_mail(2)
        assert source.arm(INBOX) is not None
        assert source.drain()
        source.disarm()


def test_uidnext_tells_it_without_a_search(server: ScriptedImap) -> None:
    server.uidnext = True
    server.instead("IDLE", *waits(), always=True)
    with scripted_session(server) as source:
        armed(source)
        server.lines.clear()
        source.disarm()
        assert source.arm(INBOX) is not None
        assert not source.drain()
        source.disarm()
        server.mails[2] = a_mail(2)
        assert source.arm(INBOX) is not None
        assert source.drain()
        source.disarm()
    assert not [line for line in server.lines if "SEARCH" in line]


def test_a_folder_that_was_not_listed_to_its_end_is_news(server: ScriptedImap) -> None:
    server.uidnext = True
    server.mails[2] = a_mail(2)
    server.instead("IDLE", *waits(), always=True)
    with scripted_session(server) as source:
        cursor = source.list_since(INBOX, None, limit=1).cursor
        assert source.arm(INBOX) is not None
        assert source.drain()
        source.disarm()
        source.list_since(INBOX, cursor, limit=1)
        assert source.arm(INBOX) is not None
        assert not source.drain()
        source.disarm()


def test_a_missing_folder_is_said_and_the_session_goes_on(server: ScriptedImap) -> None:
    server.instead("EXAMINE", b"{tag} NO [NONEXISTENT] no such folder\r\n")
    with scripted_session(server) as source:
        with pytest.raises(FolderMissing):
            source.arm(FolderRef("Nothing"))
        assert len(source.list_since(INBOX, None, limit=10).envelopes) == 1


def test_a_server_that_does_not_say_that_it_waits_is_not_waited_for_without_end(server: ScriptedImap) -> None:
    server.instead("IDLE", b"* OK a moment\r\n", pause(2))
    with scripted_session(server, stall_seconds=1, command_seconds=1) as source:
        began = time.monotonic()
        with pytest.raises(SourceUnavailable):
            source.arm(INBOX)
        assert time.monotonic() - began < 1.9


def test_a_server_that_sends_without_a_line_is_given_up(server: ScriptedImap) -> None:
    server.instead("IDLE", b"+ \r\n", b"x" * 3_000_000)
    with scripted_session(server) as source:
        waiting = armed(source)
        with pytest.raises(SourceUnavailable):
            news(source, waiting, SOON)


def _chatters(talk: Conversation) -> None:
    for _ in range(3000):
        talk.send(b"* 1 EXISTS\r\n" * 400)
        time.sleep(0.001)


@pytest.mark.parametrize("steps", [(b"+ \r\n", _chatters), (_chatters,)], ids=["at the end", "at the beginning"])
def test_a_server_that_chatters_without_end_is_not_listened_to_without_end(
    server: ScriptedImap, steps: tuple[Step, ...]
) -> None:
    """Every byte that comes earns a server time; here it earns none."""
    server.instead("IDLE", *steps)
    began = time.monotonic()
    with scripted_session(server) as source, pytest.raises(SourceUnavailable):  # noqa: PT012  (either may notice)
        armed(source)
        source.disarm()
    assert time.monotonic() - began < 4


def test_leaving_while_it_waits_takes_no_time_though_the_server_does_not_answer(server: ScriptedImap) -> None:
    server.instead("IDLE", b"+ idling\r\n", pause(1))
    with scripted_session(server) as source:
        armed(source)
        began = time.monotonic()
    assert time.monotonic() - began < 0.5


@pytest.mark.server
def test_a_connection_that_died_without_a_word_is_noticed_at_the_end_of_the_waiting(
    dovecot: Dovecot, mail_user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maildaemon_adapters.imap.idling.END_SECONDS", 0.5)
    with ChaosProxy(dovecot.imap) as proxy:
        options = attrs.evolve(options_for(dovecot, mail_user, "none"), port=proxy.port)
        with KIND.open(options, settings_for(dovecot), FileSpool()) as source:
            waiting = armed(source)
            proxy.fault = Fault(stall_after=0)
            dovecot.deliver(mail_user, a_mail(1))
            assert not news(source, waiting, 0.7)
            began = time.monotonic()
            with pytest.raises(SourceUnavailable):
                source.disarm()
            assert time.monotonic() - began < 5
            proxy.fault = Fault()
            assert [each.headers.subject for each in source.list_since(INBOX, None, limit=9).envelopes] == ["number 1"]


@pytest.mark.server
@pytest.mark.parametrize("tls", ["implicit", "none"])
def test_the_system_watches_over_connections_on_which_nothing_is_said(
    dovecot: Dovecot, mail_user: str, tls: Tls
) -> None:
    with opened(dovecot, mail_user, tls) as source:
        sock = source._session.connection.transport.sock
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
