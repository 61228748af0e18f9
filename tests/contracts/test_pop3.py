"""The source ``pop3`` against a real Dovecot."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterator, Sequence

import attrs
import pytest

from maildaemon_adapters.pop3 import KIND, Pop3Settings, Pop3Source
from maildaemon_core.errors import LoginRefused, SourceUnavailable
from maildaemon_core.message import Envelope, FolderRef
from maildaemon_core.options import Action, Aftercare, MailboxOptions, Secret, Tls
from maildaemon_core.ports import Fetched, Known, Level, Settled
from maildaemon_core.testing import source_conformance
from maildaemon_core.testing.source_conformance import ODD_MAILS, OpenSource, Post, SourceConformance
from tests.contracts.spools import FileSpool
from tests.contracts.test_imap import DovecotPost
from tests.servers.dovecot import Dovecot
from tests.servers.process import LOOPBACK, free_port
from tests.servers.proxy import ChaosProxy, Fault

pytestmark = pytest.mark.server

INBOX = FolderRef("INBOX")
DELETE = Aftercare(Action.DELETE)
MAIL = b"Message-ID: <1@x>\r\nFrom: jane@example.com\r\nSubject: hello\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def popping() -> Iterator[Dovecot]:
    with Dovecot(pop3=True) as server:
        yield server


def options_for(server: Dovecot, user: str, tls: Tls = "implicit", password: str | None = None) -> MailboxOptions:
    return MailboxOptions(
        type="pop3",
        host="localhost",
        port=server.pops if tls == "implicit" else server.pop,
        tls=tls,
        username=user,
        password=Secret(server.password if password is None else password),
    )


def settings_for(server: Dovecot) -> Pop3Settings:
    return Pop3Settings(ca_file=str(server.ca), connect_seconds=5, stall_seconds=10, command_seconds=20, lock_seconds=5)


def opened(server: Dovecot, user: str, tls: Tls = "implicit", spool: FileSpool | None = None) -> Pop3Source:
    return KIND.open(options_for(server, user, tls), settings_for(server), spool or FileSpool())


def listed(source: Pop3Source) -> Sequence[Envelope]:
    return source.list_since(INBOX, None, limit=1000).envelopes


def known(source: Pop3Source) -> list[Known]:
    return [Known(ref=each.ref, identity=each.identity) for each in listed(source)]


def fetched(source: Pop3Source) -> list[bytes]:
    refs = [each.ref for each in listed(source)]
    answers = {each.ref: each for each in source.fetch(refs)}
    return [b"".join(each.content.chunks()) for ref in refs if isinstance(each := answers[ref], Fetched)]


class _Pop3Laws(SourceConformance):
    actions = frozenset({Action.DELETE})

    def test_the_bytes_are_exactly_what_the_server_holds(
        self, post: Post, open_source: OpenSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """But for a last line without an end, which POP3 cannot say: every line of an answer has one (RFC 1939 §3)."""
        odd = {name: raw if raw.endswith(b"\r\n") else raw + b"\r\n" for name, raw in ODD_MAILS.items()}
        assert odd != ODD_MAILS
        monkeypatch.setattr(source_conformance, "ODD_MAILS", odd)
        super().test_the_bytes_are_exactly_what_the_server_holds(post, open_source)


class TestOverImplicitTls(_Pop3Laws):
    @pytest.fixture
    def post(self, popping: Dovecot, mail_user: str) -> Post:
        return DovecotPost(popping, mail_user)

    @pytest.fixture
    def open_source(self, popping: Dovecot, mail_user: str) -> OpenSource:
        return lambda: opened(popping, mail_user, "implicit")


class TestOverStls(_Pop3Laws):
    @pytest.fixture
    def post(self, popping: Dovecot, mail_user: str) -> Post:
        return DovecotPost(popping, mail_user)

    @pytest.fixture
    def open_source(self, popping: Dovecot, mail_user: str) -> OpenSource:
        return lambda: opened(popping, mail_user, "starttls")
