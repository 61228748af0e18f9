"""The source ``imap`` logs in with tokens and certificates: what it says on the wire, and against a real server."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from maildaemon_adapters import oauth
from maildaemon_adapters.imap import KIND, ImapSettings, ImapSource, open_imap
from maildaemon_adapters.oauth.tokens import Tokens
from maildaemon_adapters.tcp.trust import MinimumTls
from maildaemon_core.errors import LoginRefused, MaildaemonError, SourceUnavailable
from maildaemon_core.message import FolderRef
from maildaemon_core.options import MailboxOptions, Secret, Tls
from tests.contracts.spools import FileSpool
from tests.servers.certificates import Certificates, make_ca
from tests.servers.dovecot import Dovecot
from tests.servers.scripted_imap import OK, Conversation, ScriptedImap
from tests.servers.tokens import CLIENT, SECRET, TENANT, Said, TokenServer, dovecot_that_asks, passable_folder

INBOX = FolderRef("INBOX")
USER = "jane@firm.example"
REFUSED = {"status": "400", "schemes": "bearer", "scope": "https://outlook.office365.com/.default"}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with TokenServer(tmp_path_factory.mktemp("tokens")) as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch, tokens: TokenServer) -> None:
    """No test uses the tokens of another."""
    monkeypatch.setattr(oauth.entry, "_tokens", Tokens())
    tokens.lifetime = 3600
    tokens.asked.clear()


def app(**others: object) -> MailboxOptions:
    return MailboxOptions(
        **{  # type: ignore[arg-type]
            "host": "127.0.0.1",
            "tls": "none",
            "mailbox": USER,
            "client_id": CLIENT,
            "tenant_id": TENANT,
            "client_secret": Secret(SECRET),
            **others,
        }
    )


def settings(tokens: TokenServer, **others: object) -> ImapSettings:
    return ImapSettings(
        **{  # type: ignore[arg-type]
            "oauth_authority": tokens.authority,
            "oauth_ca_file": str(tokens.ca),
            "connect_seconds": 5,
            "stall_seconds": 5,
            "command_seconds": 10,
            **others,
        }
    )


def opened(server: ScriptedImap, tokens: TokenServer, **others: object) -> ImapSource:
    return open_imap(app(port=server.port, **others), settings(tokens), FileSpool())


def latest(tokens: TokenServer) -> str:
    return list(tokens.tokens)[-1]


def xoauth2(token: str, user: str = USER) -> str:
    return base64.b64encode(f"user={user}\x01auth=Bearer {token}\x01\x01".encode()).decode()


def logins(server: ScriptedImap) -> list[str]:
    """What was said from AUTHENTICATE to whatever came before the goodbye."""
    at = next(number for number, line in enumerate(server.lines) if line.startswith("AUTHENTICATE"))
    end = server.lines.index("LOGOUT") if "LOGOUT" in server.lines else len(server.lines)
    return server.lines[at:end]


# ------------------------------------------------------------------------------------------------------- on the wire


def asking(talk: Conversation) -> None:
    """A server without SASL-IR: the message is asked for."""
    talk.send(b"+ \r\n")
    talk.heard()
    talk.send(b"* CAPABILITY IMAP4rev1 UIDPLUS IDLE\r\n{tag} OK welcome\r\n")


def challenging(
    *, first: bool, no: bytes = b"NO [AUTHENTICATIONFAILED] AUTHENTICATE failed."
) -> Callable[[Conversation], None]:
    """A server that refuses the token as RFC 7628 §3.2.3 and Google have it; ``first``: the message is asked for."""

    def step(talk: Conversation) -> None:
        if first:
            talk.send(b"+ \r\n")
            talk.heard()
        talk.send(b"+ " + base64.b64encode(json.dumps(REFUSED).encode()) + b"\r\n")
        talk.heard()
        talk.send(b"{tag} " + no + b"\r\n")

    return step


def test_xoauth2_goes_along_with_the_command_where_the_server_allows_it(tokens: TokenServer) -> None:
    with ScriptedImap(capabilities="IMAP4rev1 SASL-IR AUTH=OAUTHBEARER AUTH=XOAUTH2 AUTH=PLAIN") as server:
        server.instead("AUTHENTICATE", b"* CAPABILITY IMAP4rev1 UIDPLUS IDLE\r\n", OK)
        with opened(server, tokens) as source:
            assert {"UIDPLUS", "IDLE"} <= source._session.abilities
        assert logins(server) == [f"AUTHENTICATE XOAUTH2 {xoauth2(latest(tokens))}"]


def test_xoauth2_waits_to_be_asked_where_it_must_not(tokens: TokenServer) -> None:
    with ScriptedImap(capabilities="IMAP4rev1 AUTH=XOAUTH2") as server:
        server.instead("AUTHENTICATE", asking)
        with opened(server, tokens, username="shared@firm.example") as source:
            assert "IDLE" in source._session.abilities
        assert logins(server) == ["AUTHENTICATE XOAUTH2", xoauth2(latest(tokens), "shared@firm.example")]


@pytest.mark.parametrize("ready", [b"+\r\n", b"+ \r\n"])
def test_a_request_for_the_message_may_be_quite_empty(tokens: TokenServer, ready: bytes) -> None:
    def step(talk: Conversation) -> None:
        talk.send(ready)
        talk.heard()
        talk.send(OK)

    with ScriptedImap(capabilities="IMAP4rev1 AUTH=XOAUTH2") as server:
        server.instead("AUTHENTICATE", step)
        opened(server, tokens).__exit__(None, None, None)
        assert logins(server)[:2] == ["AUTHENTICATE XOAUTH2", xoauth2(latest(tokens))]


def test_a_token_that_would_make_the_command_too_long_waits_to_be_asked_for(tokens: TokenServer) -> None:
    tokens.instead("/token", Said(200, {"access_token": "t" * 6000, "token_type": "Bearer", "expires_in": 3600}))
    with ScriptedImap(capabilities="IMAP4rev1 SASL-IR AUTH=XOAUTH2") as server:
        server.instead("AUTHENTICATE", asking)
        opened(server, tokens).__exit__(None, None, None)
        assert logins(server)[:2] == ["AUTHENTICATE XOAUTH2", xoauth2("t" * 6000)]


def test_oauthbearer_is_spoken_where_there_is_nothing_else(tokens: TokenServer) -> None:
    with ScriptedImap(capabilities="IMAP4rev1 SASL-IR AUTH=OAUTHBEARER") as server:
        server.instead("AUTHENTICATE", OK)
        opened(server, tokens, mailbox="a=b,c@firm.example").__exit__(None, None, None)
        message = (
            f"n,a=a=3Db=2Cc@firm.example,\x01host=127.0.0.1\x01port={server.port}\x01"
            f"auth=Bearer {latest(tokens)}\x01\x01"
        )
        assert logins(server)[0] == f"AUTHENTICATE OAUTHBEARER {base64.b64encode(message.encode()).decode()}"


@pytest.mark.parametrize(("mechanism", "farewell"), [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")])
@pytest.mark.parametrize("sasl_ir", [True, False])
def test_a_refusal_is_answered_as_it_must_be_and_the_token_is_never_sent_twice(
    tokens: TokenServer, mechanism: str, farewell: str, sasl_ir: bool
) -> None:
    capabilities = f"IMAP4rev1 AUTH={mechanism}" + (" SASL-IR" if sasl_ir else "")
    with ScriptedImap(capabilities=capabilities) as server:
        server.instead("AUTHENTICATE", challenging(first=not sasl_ir), always=True)
        with pytest.raises(LoginRefused) as refused:
            opened(server, tokens)
        said = logins(server)
        token = latest(tokens)
    assert said[-1] == farewell
    assert len(said) == (2 if sasl_ir else 3)
    shown = [base64.b64decode(word).decode() for line in said for word in line.split()[-1:] if len(word) > 20]
    assert [token in each for each in shown] == [True]
    assert refused.value.message == (
        f"127.0.0.1 does not accept the token of the app '{CLIENT}' for '{USER}': [AUTHENTICATIONFAILED] AUTHENTICATE "
        "failed. (status 400, schemes bearer, scope https://outlook.office365.com/.default)"
    )
    assert "Add-MailboxPermission" in refused.value.remedy


def test_a_server_that_goes_on_challenging_is_broken_off_with(tokens: TokenServer) -> None:
    def step(talk: Conversation) -> None:
        for _ in range(5):
            talk.send(b"+ !no base64!\r\n")
            if talk.heard() == "*":
                break
        talk.send(b"{tag} BAD broken off\r\n")

    with ScriptedImap(capabilities="IMAP4rev1 SASL-IR AUTH=XOAUTH2") as server:
        server.instead("AUTHENTICATE", step)
        with pytest.raises(LoginRefused, match=r"broken off \(!no base64!\)"):
            opened(server, tokens)
        assert logins(server)[1:] == ["", "*"]


def test_after_a_refusal_one_new_token_is_tried_and_then_the_same_again(tokens: TokenServer) -> None:
    with ScriptedImap(capabilities="IMAP4rev1 SASL-IR AUTH=XOAUTH2") as server:
        server.instead("AUTHENTICATE", challenging(first=False), always=True)
        for asked in (1, 2, 2, 2):
            with pytest.raises(LoginRefused):
                opened(server, tokens)
            assert tokens.count() == asked
        assert server.connections == 4


@pytest.mark.parametrize(
    "no", [b"NO [UNAVAILABLE] later", b"NO User is authenticated but not connected.", b"NO [LIMIT] too many"]
)
def test_what_passes_by_itself_is_no_refusal_of_the_token(tokens: TokenServer, no: bytes) -> None:
    with ScriptedImap(capabilities="IMAP4rev1 SASL-IR AUTH=XOAUTH2") as server:
        server.instead("AUTHENTICATE", challenging(first=False, no=no), always=True)
        for _ in range(2):
            with pytest.raises(SourceUnavailable):
                opened(server, tokens)
        assert tokens.count() == 1


def test_without_a_mechanism_for_it_no_token_is_asked_for(tokens: TokenServer) -> None:
    with ScriptedImap(capabilities="IMAP4rev1 AUTH=PLAIN") as server:
        with pytest.raises(LoginRefused, match="takes no tokens on this connection") as refused:
            opened(server, tokens)
        assert refused.value.remedy == "log in with username and password, or write tls: starttls"
    assert tokens.asked == []


def test_a_server_that_hangs_up_in_the_middle_is_tried_again_later(tokens: TokenServer) -> None:
    with ScriptedImap(capabilities="IMAP4rev1 SASL-IR AUTH=XOAUTH2") as server:
        server.instead("AUTHENTICATE", lambda talk: talk.close())
        with pytest.raises(SourceUnavailable, match="broke the connection off while logging in"):
            opened(server, tokens)


def test_who_is_refused_with_a_password_is_told_of_app_registrations(tokens: TokenServer) -> None:
    with ScriptedImap(capabilities="IMAP4rev1 AUTH=XOAUTH2 AUTH=PLAIN") as server:
        server.instead("LOGIN", b"{tag} NO LOGIN failed.\r\n")
        options = MailboxOptions(host="127.0.0.1", port=server.port, tls="none", username="j", password=Secret("pw"))
        with pytest.raises(LoginRefused) as refused:
            open_imap(options, settings(tokens), FileSpool())
    assert "clientId, tenantId, clientSecret" in refused.value.remedy


def test_no_token_and_no_secret_is_in_a_log_an_error_or_a_repr(
    tokens: TokenServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the server repeats, whole or cut off."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []

    def repeating(talk: Conversation) -> None:
        token = latest(tokens)
        talk.send(b"+ " + base64.b64encode(json.dumps({"error": token, "status": token[:50]}).encode()) + b"\r\n")
        talk.heard()
        talk.send(f"{{tag}} NO {talk.line[:120]} {talk.line} {token}\r\n".encode())

    with ScriptedImap(capabilities="IMAP4rev1 SASL-IR AUTH=XOAUTH2") as server:
        server.instead("AUTHENTICATE", repeating, always=True)
        for instead in (None, Said(400, {"error": "invalid_client", "error_description": f"no {SECRET} here"})):
            if instead is not None:
                tokens.instead("/token", instead)
                monkeypatch.setattr(oauth.entry, "_tokens", Tokens())
            with pytest.raises(MaildaemonError) as refused:
                opened(server, tokens)
            error: BaseException | None = refused.value
            while error is not None:
                said += [repr(error), str(error), repr(vars(error)), repr(error.args)]
                error = error.__cause__ or error.__context__
    bearer = oauth.Bearer("XOAUTH2", USER, latest(tokens))
    said += [
        repr(bearer),
        repr(app()),
        repr(settings(tokens)),
        caplog.text,
        *(repr(vars(each)) for each in caplog.records),
    ]
    everything = "\n".join(said)
    assert "does not accept the token" in everything
    assert "its secret is wrong" in everything
    message = xoauth2(latest(tokens))
    for secret in (SECRET, latest(tokens), latest(tokens)[:30], latest(tokens)[40:70], message[:60], message[80:110]):
        assert secret not in everything


# --------------------------------------------------------------------------------------------------- a real server


@pytest.fixture(scope="module")
def strict(tokens: TokenServer) -> Iterator[Dovecot]:
    with passable_folder() as folder, dovecot_that_asks(tokens, folder=folder) as server:
        yield server


def reach(server: Dovecot, user: str, tls: Tls = "implicit") -> MailboxOptions:
    return app(host="localhost", port=server.imaps if tls == "implicit" else server.imap, tls=tls, mailbox=user)


@pytest.fixture
def user(tokens: TokenServer) -> str:
    tokens.speaks_for = f"{secrets.token_hex(4)}@firm.example"
    return tokens.speaks_for


@pytest.mark.server
class TestDovecot:
    @pytest.mark.parametrize("tls", ["implicit", "starttls"])
    @pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
    def test_a_token_from_the_endpoint_opens_the_mailbox(
        self, strict: Dovecot, tokens: TokenServer, user: str, tls: Tls, mechanism: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("maildaemon_adapters.imap.sasl.choose", lambda abilities: (
            mechanism if f"AUTH={mechanism}" in abilities else None
        ))  # fmt: skip
        strict.deliver(user, b"Subject: hello\r\n\r\nhello\r\n")
        with KIND.open(reach(strict, user, tls), settings(tokens, ca_file=str(strict.ca)), FileSpool()) as source:
            assert len(source.list_since(INBOX, None, limit=10).envelopes) == 1
            assert "UIDPLUS" in source._session.abilities
        assert tokens.count() == 1

    def test_the_token_of_another_is_refused_with_the_servers_reason(
        self, strict: Dovecot, tokens: TokenServer, user: str
    ) -> None:
        with pytest.raises(LoginRefused, match=r"AUTHENTICATIONFAILED.*\(status 401, schemes bearer"):
            KIND.open(reach(strict, "someone@firm.example"), settings(tokens, ca_file=str(strict.ca)), FileSpool())

    def test_a_token_that_ended_is_replaced_when_the_connection_is_made_anew(
        self, strict: Dovecot, tokens: TokenServer, user: str
    ) -> None:
        tokens.lifetime = 1
        with KIND.open(reach(strict, user), settings(tokens, ca_file=str(strict.ca)), FileSpool()) as source:
            first = latest(tokens)
            time.sleep(1.05)
            strict.kick(user)
            with pytest.raises(MaildaemonError):
                source.folders()
            assert source.folders()
        assert latest(tokens) != first
        assert tokens.count() == 2

    def test_a_token_that_the_server_takes_no_more_is_replaced_at_the_next_attempt(
        self, strict: Dovecot, tokens: TokenServer, user: str
    ) -> None:
        strictly = settings(tokens, ca_file=str(strict.ca))
        KIND.open(reach(strict, user), strictly, FileSpool()).__exit__(None, None, None)
        tokens.tokens[latest(tokens)] = 0.0
        with pytest.raises(LoginRefused):
            KIND.open(reach(strict, user), strictly, FileSpool())
        KIND.open(reach(strict, user), strictly, FileSpool()).__exit__(None, None, None)
        assert tokens.count() == 2


# -------------------------------------------------------------------------------------------------------- certificates


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificate of a client, signed by a CA that only the server trusts."""
    return make_ca(tmp_path_factory.mktemp("client"), host=USER)


@pytest.fixture(scope="module")
def mutual(client: Certificates) -> Iterator[Dovecot]:
    """A Dovecot that knows people by their certificates alone."""
    with passable_folder() as folder:
        ca = folder / "ca.pem"
        ca.write_bytes(client.ca.read_bytes())
        more = (
            f"ssl_ca = <{ca}\nssl_verify_client_cert = yes\nssl_require_crl = no\nauth_ssl_require_client_cert = yes\n"
            "auth_ssl_username_from_cert = yes\nauth_mechanisms = plain external\n"
            "passdb {\n  driver = static\n  mechanisms = external\n  args = nopassword\n}\n"
        )
        with Dovecot(settings=more) as server:
            yield server


def by_certificate(server: Dovecot, client: Certificates | None, user: str = USER, **others: object) -> ImapSource:
    options = MailboxOptions(host="localhost", port=server.imaps, mailbox=user)
    shown = {} if client is None else {"client_cert_file": str(client.certificate), "client_key_file": str(client.key)}
    known = {"ca_file": str(server.ca), "connect_seconds": 5, "stall_seconds": 5, **shown}
    return KIND.open(options, ImapSettings(**{**known, **others}), FileSpool())  # type: ignore[arg-type]


@pytest.mark.server
def test_a_certificate_opens_the_mailbox_without_a_password(mutual: Dovecot, client: Certificates) -> None:
    mutual.deliver(USER, b"Subject: hello\r\n\r\nhello\r\n")
    with by_certificate(mutual, client) as source:
        assert len(source.list_since(INBOX, None, limit=10).envelopes) == 1


@pytest.mark.server
def test_without_a_certificate_nobody_gets_in_and_the_password_is_asked_for(mutual: Dovecot) -> None:
    with pytest.raises(LoginRefused, match="no user name or no password"):
        by_certificate(mutual, None)


@pytest.mark.server
def test_a_certificate_of_another_ca_is_not_let_in(mutual: Dovecot, tmp_path: Path) -> None:
    with pytest.raises((LoginRefused, SourceUnavailable)) as refused:
        by_certificate(mutual, make_ca(tmp_path / "other", host=USER))
    assert "localhost" in refused.value.message


@pytest.mark.server
def test_a_server_that_asks_for_no_certificate_wants_a_password_besides(dovecot: Dovecot, client: Certificates) -> None:
    with pytest.raises(LoginRefused, match="lets nobody log in by certificate alone"):
        by_certificate(dovecot, client)


def test_external_says_who_we_are_and_nothing_more(client: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(client.certificate, client.key)

    def asked_twice(talk: Conversation) -> None:
        talk.send(b"+ \r\n")
        talk.heard()
        talk.send(b"+ YWdhaW4=\r\n")
        talk.heard()
        talk.send(b"{tag} NO [AUTHORIZATIONFAILED] not you\r\n")

    for capabilities, expected in (
        ("IMAP4rev1 AUTH=EXTERNAL SASL-IR", ["AUTHENTICATE EXTERNAL amFuZUBmaXJtLmV4YW1wbGU="]),
        ("IMAP4rev1 AUTH=EXTERNAL", ["AUTHENTICATE EXTERNAL", "amFuZUBmaXJtLmV4YW1wbGU=", "*"]),
    ):
        with ScriptedImap(capabilities=capabilities, context=context) as server:
            server.instead("AUTHENTICATE E.* ", b"{tag} NO [AUTHORIZATIONFAILED] not you\r\n")
            server.instead("AUTHENTICATE", asked_twice)
            options = MailboxOptions(host="localhost", port=server.port, mailbox=USER)
            trusting = ImapSettings(
                client_cert_file=str(client.certificate),
                client_key_file=str(client.key),
                fingerprints=(fingerprint(client),),
            )
            with pytest.raises(LoginRefused, match=r"does not let 'jane@firm.example' in by the certificate"):
                open_imap(options, trusting, FileSpool())
            assert logins(server) == expected


def fingerprint(of: Certificates) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(of.certificate.read_text())).hexdigest()


def test_a_fingerprint_vouches_for_a_server_that_nobody_signed(client: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(client.certificate, client.key)
    options = MailboxOptions(host="localhost", tls="implicit", username="j", password=Secret("pw"))
    with ScriptedImap(context=context) as server:
        at = attrs.evolve(options, port=server.port)
        open_imap(at, ImapSettings(fingerprints=(fingerprint(client),)), FileSpool()).__exit__(None, None, None)
        told = len(server.lines)
        with pytest.raises(SourceUnavailable, match=f"another fingerprint, {fingerprint(client)}"):
            open_imap(at, ImapSettings(fingerprints=("0" * 64,)), FileSpool())
        assert len(server.lines) == told


@pytest.mark.parametrize(("minimum", "offered", "well"), [("1.2", "TLSv1_2", True), ("1.3", "TLSv1_3", True),
                                                          ("1.3", "TLSv1_2", False)])  # fmt: skip
def test_no_older_tls_is_spoken_than_is_allowed(tmp_path: Path, minimum: MinimumTls, offered: str, well: bool) -> None:
    made = make_ca(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    context.maximum_version = ssl.TLSVersion[offered]
    with ScriptedImap(context=context) as server:
        options = MailboxOptions(host="localhost", port=server.port, username="j", password=Secret("pw"))
        settings = ImapSettings(ca_file=str(made.ca), minimum_tls=minimum)
        if well:
            open_imap(options, settings, FileSpool()).__exit__(None, None, None)
            return
        with pytest.raises(SourceUnavailable, match="no TLS with") as refused:
            open_imap(options, settings, FileSpool())
        assert refused.value.remedy == "TLS 1.3 may be too new for it (options.minimumTls)"
