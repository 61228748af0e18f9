"""The source ``imap`` against a real Dovecot."""

from __future__ import annotations

import inspect
import logging
import ssl
import tracemalloc
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import attrs
import imapclient
import pytest
from imapclient import IMAPClient

from maildaemon_adapters.imap import KIND, ImapSettings, ImapSource
from maildaemon_adapters.imap.login import unreachable
from maildaemon_adapters.imap.transport import Transport
from maildaemon_core.errors import LoginRefused, SourceUnavailable, Trouble
from maildaemon_core.message import Envelope, FolderRef
from maildaemon_core.options import Action, Aftercare, MailboxOptions, Secret, Tls
from maildaemon_core.ports import Fetched, Known, Level, Settled, Unfetched, Vanished
from maildaemon_core.testing.source_conformance import OpenSource, Post, SourceConformance
from tests.contracts.spools import FileSpool
from tests.servers.dovecot import Dovecot
from tests.servers.process import LOOPBACK, free_port
from tests.servers.proxy import ChaosProxy, Fault

pytestmark = pytest.mark.server

INBOX = FolderRef("INBOX")
DELETE = Aftercare(Action.DELETE)


class DovecotPost:
    """A mailbox as another mail program sees it."""

    def __init__(self, server: Dovecot, user: str) -> None:
        self._server = server
        self._user = user
        self._uidvalidity = 1_000_000

    def client(self) -> IMAPClient:
        client = IMAPClient(LOOPBACK, port=self._server.imap, ssl=False, timeout=10)
        client.login(self._user, self._server.password)
        return client

    def plant(self, folder: str, raw: bytes) -> None:
        self._server.deliver(self._user, raw, folder)

    def peek(self, folder: str) -> list[tuple[bytes, frozenset[str]]]:
        with self.client() as client:
            if not client.folder_exists(folder):
                return []
            client.select_folder(folder, readonly=True)
            answers = client.fetch(client.search("ALL"), ["FLAGS", "BODY.PEEK[]"])
            return [
                (answer[b"BODY[]"], frozenset(flag.decode() for flag in answer[b"FLAGS"] if flag != b"\\Recent"))
                for _, answer in sorted(answers.items())
            ]

    def remove(self, folder: str, raw: bytes) -> None:
        with self.client() as client:
            client.select_folder(folder)
            answers = client.fetch(client.search("ALL"), ["BODY.PEEK[]"])
            uid = next(uid for uid, answer in sorted(answers.items()) if answer[b"BODY[]"] == raw)
            client.delete_messages([uid])
            client.uid_expunge([uid])

    def renumber(self, folder: str) -> None:
        self._uidvalidity += 1
        self._server.set_uidvalidity(self._user, folder, self._uidvalidity)


def options_for(server: Dovecot, user: str, tls: Tls = "implicit", password: str | None = None) -> MailboxOptions:
    return MailboxOptions(
        host="localhost",
        port=server.imaps if tls == "implicit" else server.imap,
        tls=tls,
        username=user,
        password=Secret(server.password if password is None else password),
    )


def settings_for(server: Dovecot) -> ImapSettings:
    return ImapSettings(ca_file=str(server.ca), connect_seconds=5, stall_seconds=10, command_seconds=20)


def opened(server: Dovecot, user: str, tls: Tls = "implicit", spool: FileSpool | None = None) -> ImapSource:
    return KIND.open(options_for(server, user, tls), settings_for(server), spool or FileSpool())


def listed(source: ImapSource) -> Sequence[Envelope]:
    return source.list_since(INBOX, None, limit=1000).envelopes


@pytest.fixture(scope="module")
def moveless() -> Iterator[Dovecot]:
    with Dovecot(imap_capability="IMAP4rev1 UIDPLUS NAMESPACE", separator="/") as server:
        yield server


class TestOverImplicitTls(SourceConformance):
    @pytest.fixture
    def post(self, dovecot: Dovecot, mail_user: str) -> Post:
        return DovecotPost(dovecot, mail_user)

    @pytest.fixture
    def open_source(self, dovecot: Dovecot, mail_user: str) -> OpenSource:
        return lambda: opened(dovecot, mail_user, "implicit")


class TestOverStartTlsWithoutMove(SourceConformance):
    """The same laws where mails are moved by COPY and UID EXPUNGE."""

    @pytest.fixture
    def post(self, moveless: Dovecot, mail_user: str) -> Post:
        return DovecotPost(moveless, mail_user)

    @pytest.fixture
    def open_source(self, moveless: Dovecot, mail_user: str) -> OpenSource:
        return lambda: opened(moveless, mail_user, "starttls")


MAIL = b"Message-ID: <1@x>\r\nFrom: jane@example.com\r\nSubject: hello\r\n\r\nhello\r\n"


def fetched(source: ImapSource, folder: FolderRef = INBOX) -> list[bytes]:
    refs = [each.ref for each in source.list_since(folder, None, limit=1000).envelopes]
    answers = {each.ref: each for each in source.fetch(refs)}
    return [b"".join(each.content.chunks()) for ref in refs if isinstance(each := answers[ref], Fetched)]


# ---- connections ----


@pytest.mark.parametrize("tls", ["implicit", "starttls", "none"])
def test_a_mail_takes_the_same_way_in_each_tls_mode(dovecot: Dovecot, mail_user: str, tls: Tls) -> None:
    dovecot.deliver(mail_user, MAIL)
    dovecot.deliver(mail_user, b"Subject: large\r\n\r\n" + b"0123456789\r\n" * 200_000)
    with opened(dovecot, mail_user, tls) as source:
        assert fetched(source) == dovecot.messages(mail_user)
        known = [Known(ref=each.ref, identity=each.identity) for each in listed(source)]
        assert set(source.settle(known, DELETE).values()) == {Settled()}
        assert listed(source) == ()
    assert dovecot.messages(mail_user) == []


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_ca_that_nobody_knows_is_not_trusted(dovecot: Dovecot, mail_user: str, tls: Tls) -> None:
    with pytest.raises(SourceUnavailable, match="not trusted") as raised:
        KIND.open(options_for(dovecot, mail_user, tls), ImapSettings(connect_seconds=5), FileSpool())
    assert "options.caFile" in raised.value.remedy


def test_the_environment_does_not_change_which_ca_is_trusted(
    dovecot: Dovecot, mail_user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, "/nowhere/at/all.pem")
    with opened(dovecot, mail_user) as source:
        assert listed(source) == ()
    with pytest.raises(SourceUnavailable) as raised:
        KIND.open(options_for(dovecot, mail_user), ImapSettings(connect_seconds=5), FileSpool())
    assert "SSL_CERT_FILE=/nowhere/at/all.pem" in raised.value.remedy


@pytest.mark.parametrize(
    ("code", "said"), [(10, "has expired"), (9, "not valid yet"), (62, "another name"), (18, "not trusted")]
)
def test_what_is_wrong_with_a_certificate_is_said(dovecot: Dovecot, mail_user: str, code: int, said: str) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "as OpenSSL has it"
    made = unreachable(error, "mail.example", 993, "implicit", settings_for(dovecot))
    assert said in made.message
    assert made.remedy


def test_a_wrong_password_is_refused_and_not_repeated(
    dovecot: Dovecot, mail_user: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(LoginRefused) as raised:
        KIND.open(options_for(dovecot, mail_user, password="hunter2"), settings_for(dovecot), FileSpool())
    assert mail_user in raised.value.message
    assert raised.value.remedy
    assert "hunter2" not in f"{raised.value!r} {raised.value.__context__!r} {caplog.text}"


def test_any_password_can_be_used() -> None:
    users = {"jane": 'pä ss"w\\ör{t} €', "john": 'a "quoted\\ one'}
    with Dovecot(users=users) as server:
        for user, password in users.items():
            with KIND.open(options_for(server, user, password=password), settings_for(server), FileSpool()) as source:
                assert listed(source) == ()


@pytest.mark.parametrize(
    ("host", "said"),
    [("no-such-host.invalid", "does not resolve"), ("127.0.0.1", "nothing listens"), ("." * 70, "resol")],
)
def test_a_host_that_cannot_be_reached_is_said_so(host: str, said: str) -> None:
    options = MailboxOptions(host=host, port=free_port(), username="jane", password=Secret("x"))
    with pytest.raises(SourceUnavailable, match=said) as raised:
        KIND.open(options, ImapSettings(connect_seconds=2), FileSpool())
    assert raised.value.remedy


def test_a_connection_that_is_cut_again_and_again_is_said_and_what_came_is_good(
    dovecot: Dovecot, mail_user: str
) -> None:
    for number in range(6):
        dovecot.deliver(mail_user, b"Subject: %d\r\n\r\n" % number + b"x" * 200_000)
    with ChaosProxy(dovecot.imap) as proxy:
        options = attrs.evolve(options_for(dovecot, mail_user, "none"), port=proxy.port)
        settings = attrs.evolve(settings_for(dovecot), fetch_count=1)
        with KIND.open(options, settings, FileSpool()) as source:
            refs = [each.ref for each in listed(source)]
            proxy.fault = Fault(cut_after=500_000)
            answers: list[Fetched | Vanished | Unfetched] = []
            with pytest.raises(SourceUnavailable, match="broke twice"):
                answers.extend(source.fetch(refs))
            assert all(isinstance(each, Fetched) and each.content.size > 200_000 for each in answers)
            proxy.fault = Fault()
            assert len(fetched(source)) == 6


# ---- memory ----


def test_a_mail_of_thirty_megabytes_is_never_in_memory(dovecot: Dovecot, mail_user: str) -> None:
    dovecot.deliver(mail_user, b"Subject: huge\r\n\r\n" + b"0123456789abcdef 0123456789abcdef 012345\r\n" * 750_000)
    with opened(dovecot, mail_user) as source:
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


# ---- what Dovecot knows ----


def test_when_a_mail_was_received_is_its_internaldate_in_utc(dovecot: Dovecot, mail_user: str) -> None:
    moment = datetime(2020, 6, 1, 12, 30, 15, tzinfo=UTC)
    dovecot.deliver(mail_user, MAIL, received=moment)
    with opened(dovecot, mail_user) as source:
        (envelope,) = listed(source)
    assert envelope.received == moment
    assert envelope.received.tzinfo is UTC
    assert envelope.size == len(MAIL)


def test_folders_have_their_names_as_people_read_them(dovecot: Dovecot, mail_user: str) -> None:
    for folder in ("Rechnungen & Belege", "Büro.Größe", 'say "hi"\\', "日本語"):
        dovecot.deliver(mail_user, MAIL, folder)
    with opened(dovecot, mail_user) as source:
        found = {info.name: info for info in source.folders()}
        for folder in ("Rechnungen & Belege", "Büro.Größe", 'say "hi"\\', "日本語"):
            assert fetched(source, FolderRef(folder)) == [MAIL]
            assert found[FolderRef(folder)].selectable
    assert found[FolderRef("Sent")].special_use == {"\\Sent"}
    assert not found[FolderRef("Büro")].selectable


def test_a_check_says_what_may_be_done_and_does_nothing(dovecot: Dovecot, mail_user: str) -> None:
    dovecot.deliver(mail_user, MAIL)
    with opened(dovecot, mail_user) as source:
        found = {finding.subject: finding for finding in source.check([INBOX], Aftercare(Action.MOVE, "New/Folder"))}
        assert "New/Folder" not in [info.name for info in source.folders()]
        plain = {finding.subject: finding for finding in source.check([INBOX], Aftercare(Action.MOVE, "New"))}
        itself = {finding.subject: finding for finding in source.check([INBOX], Aftercare(Action.MOVE, "inbox"))}
    assert [found[subject].level for subject in ("folder INBOX", "aftercare")] == [Level.FINE] * 2
    assert "1 mail" in found["folder INBOX"].message
    assert found["target New/Folder"].level is Level.WARNING
    assert plain["target New"].level is Level.FINE
    assert itself["target inbox"].level is Level.FAULT


def test_a_folder_without_rights_is_found_by_the_check_and_left_alone_by_settling(mail_user: str) -> None:
    acl = "mail_plugins = acl\nprotocol imap {\n  mail_plugins = acl imap_acl\n}\nplugin {\n  acl = vfile\n}\n"
    folder = FolderRef("Read only")
    with Dovecot(settings=acl) as server:
        home = server.deliver(mail_user, MAIL, folder).parent.parent
        (home / "dovecot-acl").write_text("owner lr\n")
        (home / "dovecot-acl").chmod(0o644)
        with opened(server, mail_user) as source:
            (envelope,) = source.list_since(folder, None, limit=10).envelopes
            rights = {finding.subject: finding for finding in source.check([folder], DELETE)}[f"rights in {folder}"]
            assert (rights.level, bool(rights.remedy)) == (Level.FAULT, True)
            for care in (DELETE, Aftercare(Action.SEEN), Aftercare(Action.MOVE, "Done")):
                (answer,) = source.settle([Known(ref=envelope.ref, identity=envelope.identity)], care).values()
                assert isinstance(answer, Trouble)
                assert answer.remedy
        assert server.messages(mail_user, folder) == [MAIL]


def test_a_thousand_mails_are_listed_in_pages_by_one_search(dovecot: Dovecot, mail_user: str) -> None:
    for number in range(1000):
        dovecot.deliver(mail_user, b"Subject: %d\r\n\r\n" % number)
    cursor, subjects = None, []
    with opened(dovecot, mail_user) as source:
        more = True
        while more:
            page = source.list_since(INBOX, cursor, limit=300)
            subjects += [each.headers.subject for each in page.envelopes]
            cursor, more = page.cursor, page.more
    assert subjects == [str(number) for number in range(1000)]


# ---- what it leans on ----


def test_imapclient_still_makes_its_connection_where_ours_comes_in(dovecot: Dovecot, mail_user: str) -> None:
    assert imapclient.version_info[0] == 4
    assert list(inspect.signature(IMAPClient._create_IMAP4).parameters) == ["self"]
    with opened(dovecot, mail_user) as source:
        connection = source._session.connection
        assert isinstance(connection._imap, Transport)
        assert isinstance(connection.socket(), ssl.SSLSocket)
        assert connection._imap.debug == 0
    assert logging.getLogger("imapclient.imaplib").level > logging.DEBUG


def test_the_kind_says_what_it_cannot_do_with() -> None:
    app = MailboxOptions(client_id="id", tenant_id="t", client_secret=Secret("s"))
    problems = KIND.problems(app, ImapSettings(ca_file="ca.pem"))
    assert [problem.path for problem in problems] == ["$.options.caFile"]
    assert list(KIND.problems(MailboxOptions(), ImapSettings(ca_file="/etc/ca.pem"))) == []
    assert KIND.facts.actions == set(Action)


def test_a_server_that_lets_in_only_so_many_at_once_is_no_wrong_password(mail_user: str) -> None:
    with Dovecot(settings="mail_max_userip_connections = 1\n") as server:
        with opened(server, mail_user) as source:
            with pytest.raises(SourceUnavailable, match="Maximum number of connections") as raised:
                opened(server, mail_user)
            assert raised.value.remedy
            assert listed(source) == ()
        with opened(server, mail_user) as source:
            assert listed(source) == ()
