"""The source ``pop3`` against a real Dovecot."""

from __future__ import annotations

import logging
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import attrs
import pytest
from hypothesis import settings

from maildaemon_adapters.pop3 import KIND, Pop3Settings, Pop3Source
from maildaemon_core.errors import LoginRefused, SourceUnavailable
from maildaemon_core.message import Envelope, FolderRef
from maildaemon_core.options import Action, Aftercare, MailboxOptions, Secret, Tls
from maildaemon_core.ports import Fetched, Known, Level, MailSource, Settled, Unfetched, Vanished
from maildaemon_core.testing.source_conformance import ODD_MAILS, OpenSource, Post, SourceConformance
from maildaemon_core.testing.source_machine import Ground, hold_in_any_order
from tests.contracts.spools import FileSpool
from tests.contracts.test_imap import DovecotPost
from tests.servers.dovecot import Dovecot
from tests.servers.process import free_port
from tests.servers.proxy import ChaosProxy, Fault
from tests.servers.tokens import CLIENT, SECRET, TokenServer

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

    # POP3 cannot say that the last line has no end: every line of an answer has one (RFC 1939 §3).
    odd_mails: ClassVar[Mapping[str, bytes]] = {
        name: raw.removesuffix(b"\r\n") + b"\r\n" for name, raw in ODD_MAILS.items()
    }

    def test_every_law_holds_whatever_happens_in_whatever_order(self, post: Post, open_source: OpenSource) -> None:
        """POP3 does not tell of other ids: they are known by what is listed, and nothing is asked before a listing.

        So each session lists first, as a sweep does, and the ids stay; what becomes of others has tests of its own.
        """

        def listing_first() -> MailSource:
            source = open_source()
            source.list_since(INBOX, None, limit=1)
            return source

        ground = Ground(
            post=post,
            open_source=listing_first,
            actions=self.actions,
            renumbers=False,
            folder=self.folder,
            target=self.target,
        )
        hold_in_any_order(ground, examples=max((settings.default or settings()).max_examples // 20, 3))


class TestOverImplicitTls(_Pop3Laws):
    @pytest.fixture
    def post(self, popping: Dovecot, mail_user: str) -> Post:
        return DovecotPost(popping, mail_user)

    @pytest.fixture
    def open_source(self, popping: Dovecot, mail_user: str) -> OpenSource:
        return lambda: opened(popping, mail_user, "implicit")


class TestOverStls(_Pop3Laws):
    """The same laws; only what tells most is run on every change."""

    much_alike = True

    @pytest.fixture
    def post(self, popping: Dovecot, mail_user: str) -> Post:
        return DovecotPost(popping, mail_user)

    @pytest.fixture
    def open_source(self, popping: Dovecot, mail_user: str) -> OpenSource:
        return lambda: opened(popping, mail_user, "starttls")


# ---- connections ----


@pytest.mark.parametrize("tls", ["implicit", "starttls", "none"])
def test_a_mail_takes_the_same_way_in_each_tls_mode(popping: Dovecot, mail_user: str, tls: Tls) -> None:
    popping.deliver(mail_user, MAIL)
    popping.deliver(mail_user, b"Subject: large\r\n\r\n" + b".0123456789\r\n" * 200_000)
    with opened(popping, mail_user, tls) as source:
        assert fetched(source) == popping.messages(mail_user)
        assert set(source.settle(known(source), DELETE).values()) == {Settled()}
        assert listed(source) == ()
    assert popping.messages(mail_user) == []


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_ca_that_nobody_knows_is_not_trusted(popping: Dovecot, mail_user: str, tls: Tls) -> None:
    with pytest.raises(SourceUnavailable, match="not trusted") as raised:
        KIND.open(options_for(popping, mail_user, tls), Pop3Settings(connect_seconds=5), FileSpool())
    assert "options.caFile" in raised.value.remedy


def test_a_wrong_password_is_refused_and_not_repeated(
    popping: Dovecot, mail_user: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(LoginRefused) as raised:
        KIND.open(options_for(popping, mail_user, password="hunter2"), settings_for(popping), FileSpool())
    assert mail_user in raised.value.message
    assert raised.value.remedy
    assert "hunter2" not in f"{raised.value!r} {raised.value.__context__!r} {caplog.text}"


def test_any_password_can_be_used() -> None:
    users = {"jane": 'pä ss"w\\ör{t} €', "john": ' a "quoted\\ one'}
    with Dovecot(users=users, pop3=True) as server:
        for user, password in users.items():
            with KIND.open(options_for(server, user, password=password), settings_for(server), FileSpool()) as source:
                assert listed(source) == ()


@pytest.mark.parametrize(
    ("host", "said"), [("no-such-host.invalid", "does not resolve"), ("127.0.0.1", "nothing listens")]
)
def test_a_host_that_cannot_be_reached_is_said_so(host: str, said: str) -> None:
    options = MailboxOptions(host=host, port=free_port(), username="jane", password=Secret("x"))
    with pytest.raises(SourceUnavailable, match=said) as raised:
        KIND.open(options, Pop3Settings(connect_seconds=2), FileSpool())
    assert raised.value.remedy


def test_a_mailbox_that_another_session_has_locked_is_said_so(mail_user: str) -> None:
    locking = "protocol pop3 {\n  pop3_lock_session = yes\n}\ndotlock_use_excl = yes\n"
    with Dovecot(pop3=True, settings=locking) as server:
        server.deliver(mail_user, MAIL)
        with opened(server, mail_user) as source:
            assert len(listed(source)) == 1
            mails = known(source)  # logs in again, behind its own lock
            assert set(source.settle(mails, DELETE).values()) == {Settled()}
            assert listed(source) == ()


# ---- a bad line ----


@pytest.mark.parametrize("at", [300, 60_000, 450_000])
def test_a_connection_that_is_cut_again_and_again_is_said_and_what_came_is_good(
    popping: Dovecot, mail_user: str, at: int
) -> None:
    for number in range(6):
        popping.deliver(mail_user, b"Subject: %d\r\n\r\n" % number + b"x" * 200_000)
    with ChaosProxy(popping.pop) as proxy:
        options = attrs.evolve(options_for(popping, mail_user, "none"), port=proxy.port)
        with KIND.open(options, settings_for(popping), FileSpool()) as source:
            refs = [each.ref for each in listed(source)]
            proxy.fault = Fault(cut_after=at)
            answers: list[Fetched | Vanished | Unfetched] = []
            with pytest.raises(SourceUnavailable):
                answers.extend(source.fetch(refs))
            assert all(isinstance(each, Fetched) and each.content.size > 200_000 for each in answers)
            proxy.fault = Fault()
            assert len(fetched(source)) == 6


@pytest.mark.parametrize("after", [0, 30, 200, 250, 300, 400])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_wherever_the_line_is_cut_while_mails_are_deleted_only_what_is_gone_counts(
    popping: Dovecot, mail_user: str, after: int, direction: Literal["up", "down"]
) -> None:
    for number in range(4):
        popping.deliver(mail_user, b"Subject: %d\r\n\r\nx\r\n" % number)
    with ChaosProxy(popping.pop) as proxy:
        options = attrs.evolve(options_for(popping, mail_user, "none"), port=proxy.port)
        with KIND.open(options, settings_for(popping), FileSpool()) as source:
            mails = known(source)
            before = 500 if direction == "down" else 60
            proxy.fault = Fault(direction=direction, cut_after=before + after)
            try:
                answers = source.settle(mails[:2], DELETE)
            except SourceUnavailable:
                pass
            else:
                assert set(answers.values()) == {Settled()}
                assert len(popping.messages(mail_user)) == 2
            proxy.fault = Fault()
            assert all(isinstance(each, Settled) for each in source.settle(mails[:2], DELETE).values())
        assert popping.messages(mail_user) == [b"Subject: %d\r\n\r\nx\r\n" % number for number in (2, 3)]


# ---- memory, and many mails ----


def test_a_mail_of_thirty_megabytes_is_never_in_memory(popping: Dovecot, mail_user: str) -> None:
    popping.deliver(mail_user, b"Subject: huge\r\n\r\n" + b".123456789abcdef 0123456789abcdef 012345\r\n" * 750_000)
    with opened(popping, mail_user) as source:
        refs = [each.ref for each in listed(source)]
        tracemalloc.start()
        try:
            (answer,) = source.fetch(refs)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert isinstance(answer, Fetched)
    assert answer.content.size > 30_000_000
    assert peak < 4_000_000


def test_many_mails_are_listed_in_pages_by_one_login_and_fetched_by_few_round_trips(
    popping: Dovecot, mail_user: str
) -> None:
    for number in range(600):
        popping.deliver(mail_user, b"Subject: %d\r\n\r\nx\r\n" % number)
    cursor, more = None, True
    envelopes: list[Envelope] = []
    with ChaosProxy(popping.pop) as proxy:
        options = attrs.evolve(options_for(popping, mail_user, "none"), port=proxy.port)
        with KIND.open(options, settings_for(popping), FileSpool()) as source:
            while more:
                page = source.list_since(INBOX, cursor, limit=250)
                envelopes += page.envelopes
                cursor, more = page.cursor, page.more
            assert [each.headers.subject for each in envelopes] == [str(number) for number in range(600)]
            proxy.fault = Fault(delay=0.05)
            start = time.monotonic()
            assert len(list(source.fetch([each.ref for each in envelopes[:100]]))) == 100
            assert time.monotonic() - start < 2.5, "a round trip for each mail takes longer"
        assert proxy.connections == 1


# ---- the laws of looking ----


def test_a_check_says_what_lies_there_and_does_nothing(popping: Dovecot, mail_user: str) -> None:
    popping.deliver(mail_user, MAIL)
    with opened(popping, mail_user) as source:
        found = {finding.subject: finding for finding in source.check([INBOX], DELETE)}
        line = source.server()
    assert {subject: finding.level for subject, finding in found.items()} == {
        "folder INBOX": Level.FINE,
        "aftercare": Level.FINE,
    }
    assert "1 mail" in found["folder INBOX"].message
    assert "has UIDL, TOP, PIPELINING" in line
    assert popping.messages(mail_user) == [MAIL]


# ---- tokens ----


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with TokenServer(tmp_path_factory.mktemp("tokens")) as server:
        yield server


@pytest.fixture(scope="module")
def strict(tokens: TokenServer) -> Iterator[Dovecot]:
    """A Dovecot that takes tokens, and asks the one who gave them whose they are (RFC 7662)."""
    with tempfile.TemporaryDirectory(prefix="maildaemon-oauth-") as folder:
        Path(folder).chmod(0o755)
        about = Path(folder) / "oauth2.conf"
        about.write_text(
            f"introspection_url = {tokens.introspection_url}\nintrospection_mode = post\n"
            "username_attribute = username\nactive_attribute = active\nactive_value = true\n"
        )
        about.chmod(0o644)
        more = (
            "auth_mechanisms = plain login xoauth2 oauthbearer\n"
            f"passdb {{\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args = {about}\n}}\n"
        )
        with Dovecot(settings=more, pop3=True) as server:
            yield server


def by_token(server: Dovecot, tokens: TokenServer, user: str) -> tuple[MailboxOptions, Pop3Settings]:
    options = MailboxOptions(
        type="pop3",
        host="localhost",
        port=server.pops,
        mailbox=user,
        client_id=CLIENT,
        client_secret=Secret(SECRET),
    )
    return options, attrs.evolve(settings_for(server), oauth_token_url=tokens.token_url)


def test_an_app_registration_logs_in_with_a_token(strict: Dovecot, tokens: TokenServer, mail_user: str) -> None:
    tokens.speaks_for = mail_user
    strict.deliver(mail_user, MAIL)
    options, chosen = by_token(strict, tokens, mail_user)
    with KIND.open(options, chosen, FileSpool()) as source:
        assert fetched(source) == [MAIL]


def test_a_token_that_is_refused_is_said_and_forgotten(strict: Dovecot, tokens: TokenServer, mail_user: str) -> None:
    tokens.speaks_for = "somebody@else.example"
    options, chosen = by_token(strict, tokens, mail_user)
    with pytest.raises(LoginRefused) as raised:
        KIND.open(options, chosen, FileSpool())
    assert "POP.AccessAsApp" in raised.value.remedy
    assert not [token for token in tokens.tokens if token in f"{raised.value!r} {raised.value.__context__!r}"]
