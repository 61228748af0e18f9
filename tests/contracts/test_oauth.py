"""Tokens for app registrations: how they are asked for, what it means when there is none, and how they are kept."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from maildaemon_adapters import oauth
from maildaemon_adapters.imap import KIND, ImapSettings
from maildaemon_adapters.oauth import OAuthSettings, oauth_problems, token_for
from maildaemon_adapters.oauth.asking import Asker
from maildaemon_adapters.oauth.granting import Granted, Registration
from maildaemon_adapters.oauth.tokens import Tokens
from maildaemon_adapters.tcp.trust import Trust
from maildaemon_core import codec
from maildaemon_core.confidential import carry, take_apart
from maildaemon_core.confinement import Confinement, OutOfBounds, local_path_fields
from maildaemon_core.engine.confining import confined
from maildaemon_core.errors import BrokenPlugin, LoginRefused, MaildaemonError, SourceUnavailable
from maildaemon_core.options import MASK, MailboxOptions, Secret
from maildaemon_core.soundness import problems
from tests.servers.connect_proxy import ConnectProxy
from tests.servers.tokens import CLIENT, SECRET, TENANT, Said, TokenServer, entra_error


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with TokenServer(tmp_path_factory.mktemp("tokens")) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch, server: TokenServer) -> None:
    """No test uses the tokens of another."""
    monkeypatch.setattr(oauth.entry, "_tokens", Tokens())
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    server.asked.clear()


def app(**others: object) -> MailboxOptions:
    known = {"mailbox": "jane@firm.example", "client_id": CLIENT, "tenant_id": TENANT, "client_secret": Secret(SECRET)}
    return MailboxOptions(**{**known, **others})  # type: ignore[arg-type]


def entra(server: TokenServer, **others: str) -> OAuthSettings:
    return OAuthSettings(**{"oauth_authority": server.authority, "oauth_ca_file": str(server.ca), **others})


def plain(server: TokenServer, **others: str) -> OAuthSettings:
    return OAuthSettings(**{"oauth_token_url": server.token_url, **others})


# ------------------------------------------------------------------------------------------------------ how it is asked


def test_entra_is_asked_through_msal_and_only_once(server: TokenServer) -> None:
    first = token_for(app(), entra(server))
    assert first in server.tokens
    assert token_for(app(mailbox="joe@firm.example"), entra(server)) == first
    (discovery, _, _), (path, _, form) = server.asked
    assert discovery == f"/{TENANT}/v2.0/.well-known/openid-configuration"
    assert path == f"/{TENANT}/oauth2/v2.0/token"
    wanted = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": SECRET}
    assert form.items() >= {**wanted, "scope": "https://outlook.office365.com/.default"}.items()


def test_whoever_shows_another_secret_or_wants_something_else_gets_another_token(server: TokenServer) -> None:
    first = token_for(app(), entra(server))
    assert token_for(app(), entra(server, oauth_scope="api://other/.default")) != first
    with pytest.raises(LoginRefused):
        token_for(app(client_secret=Secret("guessed")), entra(server))


def test_any_other_provider_is_asked_as_rfc_6749_says(server: TokenServer) -> None:
    assert token_for(app(tenant_id=None), plain(server)) in server.tokens
    assert token_for(app(), plain(server, oauth_scope="mail read")) in server.tokens
    forms = [form for _, _, form in server.asked]
    assert forms == [{"grant_type": "client_credentials"}, {"grant_type": "client_credentials", "scope": "mail read"}]
    assert all(headers["authorization"].startswith("Basic ") for _, headers, _ in server.asked)


@pytest.mark.parametrize("bundle", ["/nowhere.pem", ""])
def test_what_the_environment_says_of_certificates_does_not_replace_what_the_settings_say(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: str
) -> None:
    (tmp_path / "other.pem").write_text("")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, bundle or str(tmp_path / "other.pem"))
    assert token_for(app(), entra(server))
    assert token_for(app(client_id=CLIENT), OAuthSettings(oauth_authority=server.authority), ca_file=str(server.ca))


def test_a_server_that_nobody_vouches_for_is_told_nothing(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca))
    with pytest.raises(SourceUnavailable, match=r"the certificate of localhost:\d+ is not trusted") as refused:
        token_for(app(), OAuthSettings(oauth_authority=server.authority))
    assert "caFile" in refused.value.remedy
    assert server.asked == []


# ------------------------------------------------------------------------------------------------------- certificates


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> str:
    hiding = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hiding).decode()


def signed(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, days: int = 1) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "maildaemon")])
    until = datetime.now(UTC) + timedelta(days=days)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=30))
        .not_valid_after(until)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


RSA, OTHER, ELLIPTIC = (
    rsa.generate_private_key(65537, 2048),
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
)


def by_certificate(text: str) -> MailboxOptions:
    return app(client_secret=None, client_certificate=Secret(text))


def test_a_certificate_logs_in_wherever_it_stands_among_others(server: TokenServer) -> None:
    server.certificate = signed(RSA).encode()
    text = "Bag Attributes\n" + signed(OTHER) + server.certificate.decode() + pem(RSA)
    assert token_for(by_certificate(text), entra(server)) in server.tokens
    form = server.asked[-1][2]
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert "client_secret" not in form


def test_a_certificate_that_nobody_uploaded_is_refused(server: TokenServer) -> None:
    server.certificate = signed(OTHER).encode()
    with pytest.raises(LoginRefused, match=r"none of those of 'client-1'.*AADSTS700027"):
        token_for(by_certificate(signed(RSA) + pem(RSA)), entra(server))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense", "no private key"),
        (signed(RSA), "no private key"),
        (pem(RSA), "no certificate"),
        (signed(OTHER) + pem(RSA), "no certificate for its key"),
        (signed(RSA) + pem(RSA, b"phrase"), "pass phrase"),
        (signed(ELLIPTIC) + pem(ELLIPTIC), "no RSA key"),
        (signed(RSA, days=-1) + pem(RSA), "has expired on"),
        (pem(RSA).replace("M", "?") + signed(RSA), "cannot be read"),
    ],
    ids=map(str, range(8)),  # the texts are others in each process
)
def test_a_certificate_that_is_of_no_use_is_said_to_be_so_before_anybody_is_asked(
    server: TokenServer, text: str, why: str
) -> None:
    with pytest.raises(LoginRefused, match=why) as refused:
        token_for(by_certificate(text), entra(server))
    assert refused.value.remedy
    assert server.asked == []


# ------------------------------------------------------------------------------------------------------ what goes wrong


def failing(options: MailboxOptions, settings: OAuthSettings) -> MaildaemonError:
    with pytest.raises(MaildaemonError) as caught:
        token_for(options, settings)
    assert SECRET not in f"{caught.value!r} {caught.value.remedy}"
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return caught.value


@pytest.mark.parametrize(
    ("others", "what", "remedy"),
    [
        ({"tenant_id": "nowhere.example"}, "there is no tenant 'nowhere.example'.*AADSTS90002", "check tenantId"),
        ({"client_id": "other"}, "'tenant-1' has no app registration 'other'.*AADSTS700016", "check clientId"),
        ({"client_secret": Secret("id")}, "the client secret of 'client-1' is wrong.*AADSTS7000215", "not its id"),
    ],
)
def test_what_is_wrong_with_the_registration_is_said_in_words(
    server: TokenServer, others: dict[str, object], what: str, remedy: str
) -> None:
    error = failing(app(**others), entra(server))
    assert isinstance(error, LoginRefused)
    with pytest.raises(LoginRefused, match=what):
        raise error
    assert remedy in error.remedy
    assert "Trace ID" not in error.message


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (7000222, "has expired"),
        (1002012, "the scope 'https://outlook.office365.com/.default' is not one"),
        (7000112, "is disabled"),
        (53003, "Conditional Access"),
        (424242, "is given no token; it says: AADSTS424242: because"),
    ],
)
def test_codes_of_entra_have_words(server: TokenServer, code: int, what: str) -> None:
    server.instead("/token", entra_error(code, "because"))
    error = failing(app(), entra(server))
    assert isinstance(error, LoginRefused)
    assert what in error.message
    assert error.remedy


@pytest.mark.parametrize(
    "answer", [entra_error(90033, "A transient error."), Said(400, {"error": "temporarily_unavailable"})]
)
def test_what_passes_by_itself_is_no_refusal(server: TokenServer, answer: Said) -> None:
    server.instead("/token", answer)
    assert isinstance(failing(app(), entra(server)), SourceUnavailable)


@pytest.mark.parametrize(("error", "what"), [("invalid_client", "not known there, or its secret is wrong"),
                                             ("invalid_scope", "the scope 'mail' is not known there"),
                                             ("unauthorized_client", "may not ask for a token"),
                                             ("nonsense", "it says: nonsense")])  # fmt: skip
def test_errors_of_rfc_6749_have_words(server: TokenServer, error: str, what: str) -> None:
    server.instead("/token", Said(400, {"error": error}))
    assert what in failing(app(), plain(server, oauth_scope="mail")).message


@pytest.mark.parametrize("way", [entra, plain])
@pytest.mark.parametrize("moment", [False, True])
def test_one_who_asks_us_to_wait_is_left_alone_by_everybody(
    server: TokenServer, way: Callable[[TokenServer], OAuthSettings], *, moment: bool
) -> None:
    after = format_datetime(datetime.now(UTC) + timedelta(seconds=125), usegmt=True) if moment else "120"
    server.instead("/token", Said(429, b"slow down", {"Retry-After": after}))
    for _ in range(3):
        error = failing(app(), way(server))
        assert isinstance(error, SourceUnavailable)
        assert error.retry_after is not None
        assert 90 < error.retry_after <= 130
        assert "gives no token at present (429), and asks to be left alone for" in error.message
    assert server.count() == 1


def test_a_broken_server_is_asked_again_and_not_in_a_loop(server: TokenServer) -> None:
    server.instead("/token", *[Said(503, b"<html>")] * 2)
    for number in (1, 2):
        error = failing(app(), entra(server))
        assert isinstance(error, SourceUnavailable)
        assert error.retry_after is None
        assert server.count() == number
    assert token_for(app(), entra(server))


@pytest.mark.parametrize("way", [entra, plain])
@pytest.mark.parametrize(
    "answer",
    [
        Said(200, b"<html>Sign in to the guest network</html>"),
        Said(200, b"[]"),
        Said(200, b"[" * 100_000),
        Said(302, b"", {"Location": "https://evil.example/token"}),
    ],
)
def test_an_answer_that_is_none_is_said_to_be_so_and_never_followed(
    server: TokenServer, way: Callable[[TokenServer], OAuthSettings], answer: Said, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.instead("/token", answer)
    error = failing(app(), way(server))
    assert isinstance(error, SourceUnavailable)
    assert "does not answer as one who gives tokens does: no JSON object" in error.message
    assert ("evil.example" in error.message) is (answer.status == 302)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ({"access_token": "a b", "expires_in": 5}, "a token that cannot be sent"),
        ({"access_token": 7}, "a token that cannot be sent"),
        ({"access_token": "a", "token_type": "mac"}, "no bearer token"),
        ({}, "is given no token"),
    ],
)
def test_what_cannot_be_a_token_is_none(server: TokenServer, answer: dict[str, object], what: str) -> None:
    server.instead("/token", Said(200, answer))
    assert what in failing(app(), plain(server)).message


@pytest.mark.parametrize(
    "url", ["http://localhost:{port}/t/oauth2/token", "https://jane@localhost:{port}/t/oauth2/token"]
)
def test_an_authority_cannot_have_the_secret_sent_just_anywhere(server: TokenServer, url: str) -> None:
    there = url.format(port=server.port)
    server.instead(
        "openid-configuration", Said(200, {"authorization_endpoint": server.authority, "token_endpoint": there})
    )
    assert isinstance(failing(app(), entra(server)), SourceUnavailable)
    assert server.count() == 0


def test_an_authority_that_tells_nothing_of_tokens_is_none(server: TokenServer) -> None:
    server.instead("openid-configuration", Said(200, {"hello": "world"}))
    assert "does not answer as an authority does" in failing(app(), entra(server)).message


def test_nobody_there_is_said_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    gone = OAuthSettings(oauth_authority=f"https://localhost:{port}")
    assert f"nothing listens on localhost:{port}" in failing(app(), gone).message
    nowhere = OAuthSettings(oauth_authority="https://login.invalid")
    error = failing(app(), nowhere)
    assert "'login.invalid' does not resolve" in error.message
    assert "options.oauthAuthority" in error.remedy


@contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """A server that never ends, and never stops: the URL of it."""

    def drip() -> None:
        with suppress(OSError), listener.accept()[0] as talk:
            talk.recv(4096)
            talk.sendall(head)
            while not done.wait(0.05):
                talk.sendall(b"x")

    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/token"
        done.set()
        thread.join()


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
def test_everything_together_has_one_time_limit_however_slowly_the_server_goes_on(head: bytes) -> None:
    with dripping(head) as url:
        asker = Asker(Trust(), named="options.oauthTokenUrl", plain=True, seconds=0.5)
        begun = time.monotonic()
        with pytest.raises(SourceUnavailable, match=r"did not answer within 0\.5 s"):
            asker.post(url, data={"a": "b"})
        assert time.monotonic() - begun < 2


def test_one_who_speaks_no_http_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            with listener.accept()[0] as talk:
                talk.sendall(b"* OK IMAP4rev1 ready\r\n")
                talk.recv(4096)

        thread = threading.Thread(target=greet)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/token"
        assert "does not answer as a web server does" in failing(app(), OAuthSettings(oauth_token_url=url)).message
        thread.join()


# --------------------------------------------------------------------------------------------------------------- ways


@pytest.fixture(scope="module")
def microsoft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    """One who has a certificate for Microsoft's host."""
    with TokenServer(tmp_path_factory.mktemp("microsoft"), host="login.microsoftonline.com") as running:
        yield running


def test_microsofts_own_hosts_are_asked_through_the_proxy_of_the_environment(
    microsoft: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(microsoft.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert token_for(app(), OAuthSettings(oauth_ca_file=str(microsoft.ca))) in microsoft.tokens
    assert proxy.heads[0].startswith("CONNECT login.microsoftonline.com:443 HTTP/1.1\r\n")
    assert "\r\nProxy-Authorization: Basic amFuZTpwYXNzIHdvcmQ=\r\n" in proxy.heads[0]


def test_a_proxy_that_refuses_is_named(microsoft: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy(microsoft.port, answer=b"HTTP/1.1 407 Proxy Authentication Required") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        error = failing(app(), OAuthSettings(oauth_ca_file=str(microsoft.ca)))
    assert "the proxy 127.0.0.1:" in error.message
    assert "does not connect to login.microsoftonline.com:443 (407)" in error.message
    assert "pass" not in error.message


def test_all_others_are_asked_directly_for_behind_a_proxy_nobody_sees_where_it_goes(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(server.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert token_for(app(), entra(server))
    assert proxy.heads == []


def test_a_mailbox_that_is_confined_has_no_token_fetched_from_where_it_may_not_connect(
    server: TokenServer, tmp_path: Path
) -> None:
    bounds = Confinement(roots=(str(tmp_path),))
    for settings in (entra(server), plain(server)):
        with confined(bounds):
            error = failing(app(), settings)
        assert isinstance(error, OutOfBounds)
        assert "is this machine itself" in error.message
    assert server.asked == []
    with confined(attrs.evolve(bounds, allow_networks=("127.0.0.0/8", "::1/128"))):
        assert token_for(app(), entra(server))


@pytest.mark.parametrize("name", ["oauthAuthority", "oauthTokenUrl", "oauthScope", "oauthCaFile", "caFile",
                                  "clientCertFile", "minimumTls"])  # fmt: skip
def test_another_place_for_the_secret_asks_for_it_anew(name: str) -> None:
    before = {
        "mailbox": "j@firm.example",
        "clientId": "c",
        "tenantId": "t",
        "clientSecret": "s",
        "options": {name: "a"},
    }
    apart = take_apart(codec.read(MailboxOptions, before))

    def asked(options: dict[str, str]) -> list[str]:
        wanted = {**before, "clientSecret": MASK, "options": options}
        return [each.path for each in carry(wanted, apart.document, set(apart.secrets)).problems]

    assert asked({name: "a"}) == []
    assert asked({name: "b"}) == asked({}) == ["$.clientSecret"]


def test_every_file_that_the_settings_name_is_known_to_be_one() -> None:
    assert set(local_path_fields(ImapSettings)) == {"ca_file", "client_cert_file", "client_key_file", "oauth_ca_file"}


# ------------------------------------------------------------------------------------------------------- how it is kept


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Endpoint:
    """Gives numbered tokens for ``seconds``, or raises what it was told to."""

    def __init__(self, *failures: MaildaemonError) -> None:
        self.failures = list(failures)
        self.asked = 0
        self.seconds = 3600.0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, wanted: Registration) -> Granted:
        self.asked += 1
        assert self.gate.wait(10)
        if self.failures:
            raise self.failures.pop(0)
        return Granted(token=f"token-{self.asked}", seconds=self.seconds)


WANTED = Registration(
    authority="https://login.example",
    tenant="t",
    token_url=None,
    client="c",
    scope="s/.default",
    secret=Secret(SECRET),
    certificate=None,
    ca_file=None,
)
BUSY = SourceUnavailable("busy")


def test_a_token_is_replaced_a_while_before_it_ends() -> None:
    clock, endpoint = Clock(), Endpoint()
    tokens = Tokens(endpoint, now=clock)
    for passed, expected in ((0.0, "token-1"), (3299.0, "token-1"), (1.0, "token-2"), (3299.0, "token-2")):
        clock.now += passed
        assert tokens.get(WANTED) == expected
    endpoint.seconds = 8
    for passed, expected in ((1.0, "token-3"), (5.9, "token-3"), (0.1, "token-4")):
        clock.now += passed
        assert tokens.get(WANTED) == expected


def test_a_token_that_has_not_ended_yet_is_used_while_there_is_no_other() -> None:
    clock, endpoint = Clock(), Endpoint()
    tokens = Tokens(endpoint, now=clock)
    tokens.get(WANTED)
    endpoint.failures = [BUSY, SourceUnavailable("wait", retry_after=600), BUSY]
    clock.now += 3400
    assert [tokens.get(WANTED) for _ in range(4)] == ["token-1"] * 4
    assert endpoint.asked == 3, "it asked while it was told to wait"
    clock.now += 200
    with pytest.raises(SourceUnavailable, match="wait") as waiting:
        tokens.get(WANTED)
    assert waiting.value.retry_after == pytest.approx(400)
    clock.now += 400
    with pytest.raises(SourceUnavailable, match="busy"):
        tokens.get(WANTED)
    assert tokens.get(WANTED) == "token-5"


def test_who_is_refused_by_the_provider_has_no_use_of_the_old_token() -> None:
    clock, endpoint = Clock(), Endpoint()
    tokens = Tokens(endpoint, now=clock)
    tokens.get(WANTED)
    endpoint.failures = [LoginRefused("expired")]
    clock.now += 3400
    with pytest.raises(LoginRefused):
        tokens.get(WANTED)


def test_a_refused_token_is_dropped_once_in_a_while() -> None:
    clock, endpoint = Clock(), Endpoint()
    tokens = Tokens(endpoint, now=clock)
    tokens.forget(tokens.get(WANTED))
    for passed, expected in ((0, "token-2"), (299, "token-2"), (1, "token-2"), (0, "token-3")):
        clock.now += passed
        assert tokens.get(WANTED) == expected
        tokens.forget(expected)
    tokens.forget("token-1")
    assert tokens.get(WANTED) == "token-3"


def together(tokens: Tokens, endpoint: Endpoint, threads: int = 8) -> list[str | MaildaemonError]:
    """What each of many threads gets that want the same while somebody is asking for it already."""

    def attempt() -> str | MaildaemonError:
        try:
            return tokens.get(WANTED)
        except MaildaemonError as error:
            return error

    endpoint.gate.clear()
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(attempt) for _ in range(threads)]
        time.sleep(0.1)
        endpoint.gate.set()
        return [each.result() for each in waiting]


def test_many_who_need_one_at_the_same_time_have_it_asked_for_once() -> None:
    endpoint = Endpoint()
    assert together(Tokens(endpoint), endpoint) == ["token-1"] * 8
    assert endpoint.asked == 1


def test_one_refusal_is_the_answer_for_all_who_waited_for_it() -> None:
    endpoint = Endpoint(LoginRefused("wrong", remedy="correct it"))
    got = together(Tokens(endpoint), endpoint)
    assert {(type(each), str(each)) for each in got} == {(LoginRefused, "wrong")}
    assert len({id(each) for each in got}) == 8, "an error that many raise mixes up where it came from"
    assert endpoint.asked == 1


def test_what_hinders_only_one_is_no_answer_for_the_others() -> None:
    endpoint = Endpoint(OutOfBounds("not for this one"))
    got = together(Tokens(endpoint), endpoint)
    assert sum(isinstance(each, OutOfBounds) for each in got) == 1
    assert got.count("token-2") == 7


def test_nothing_that_holds_a_secret_shows_it() -> None:
    shown = f"{WANTED!r} {WANTED.key!r} {Granted(token='tok', seconds=1)!r}"
    assert SECRET not in shown
    assert "tok'" not in shown
    assert WANTED.key != attrs.evolve(WANTED, secret=Secret("other")).key


# ------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "paths"),
    [
        (OAuthSettings(), []),
        (OAuthSettings(oauth_authority="https://login.microsoftonline.us/"), []),
        (OAuthSettings(oauth_authority="http://localhost:8080"), ["$.options.oauthAuthority"]),
        (OAuthSettings(oauth_authority="login.example"), ["$.options.oauthAuthority"]),
        (OAuthSettings(oauth_authority="https://login.example:99999"), ["$.options.oauthAuthority"]),
        (OAuthSettings(oauth_token_url="http://localhost:8080/token"), []),
        (OAuthSettings(oauth_token_url="http://[::1]:8080/token"), []),
        (OAuthSettings(oauth_token_url="http://id.example/token"), ["$.options.oauthTokenUrl"]),
        (OAuthSettings(oauth_token_url="https://id.example/a b"), ["$.options.oauthTokenUrl"]),
        (OAuthSettings(oauth_token_url="https://id.example\\@evil.example/"), ["$.options.oauthTokenUrl"]),
        (OAuthSettings(oauth_token_url="https://jane@id.example/"), ["$.options.oauthTokenUrl"]),
        (OAuthSettings(oauth_token_url="https://a.example", oauth_authority="https://b.example"),
         ["$.options.oauthTokenUrl"]),
        (OAuthSettings(oauth_ca_file="ca.pem"), ["$.options.oauthCaFile"]),
    ],
)  # fmt: skip
def test_where_a_secret_cannot_be_sent_is_said_beforehand(settings: OAuthSettings, paths: list[str]) -> None:
    assert [each.path for each in oauth_problems(app(), settings)] == paths


def test_an_app_logs_in_to_one_tenant_which_is_written_once() -> None:
    assert [each.path for each in oauth_problems(app(tenant_id="Common"), OAuthSettings())] == ["$.tenantId"]
    twice = OAuthSettings(oauth_authority=f"https://login.microsoftonline.com/{TENANT}/")
    assert [each.path for each in oauth_problems(app(), twice)] == ["$.options.oauthAuthority"]
    nobody = MailboxOptions(mailbox="jane@firm.example", password=Secret("pw"), tenant_id="")
    assert oauth_problems(nobody, twice) == []


def test_a_certificate_cannot_be_shown_to_a_plain_token_endpoint() -> None:
    settings = OAuthSettings(oauth_token_url="https://id.example/token")
    (problem,) = oauth_problems(by_certificate("x"), settings)
    assert problem.path == "$.clientCertificate"


def test_what_the_kind_makes_up_for_is_not_missed() -> None:
    def missed(**others: object) -> set[str]:
        options = MailboxOptions(host="imap.example", mailbox="j@firm.example", **others)  # type: ignore[arg-type]
        found = {each.path for each in problems(options, KIND.facts)}
        return found - {"$.destinations", "$.mailArchiving"}

    secret = {"client_id": "c", "client_secret": Secret("s")}
    assert missed() == {"$.password"}
    assert missed(options={"clientCertFile": "/etc/client.pem"}) == set()
    assert missed(options={"clientCertFile": ""}) == {"$.password"}
    assert missed(**secret) == {"$.tenantId"}
    assert missed(**secret, options={"oauthTokenUrl": "https://id.example/token"}) == set()


def test_without_msal_the_line_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch, server: TokenServer) -> None:
    monkeypatch.setitem(sys.modules, "msal", None)
    (problem,) = oauth_problems(app(), OAuthSettings())
    assert "pip install 'maildaemon[oauth]'" in problem.message
    assert oauth_problems(app(), plain(server)) == []
    with pytest.raises(BrokenPlugin) as missing:
        token_for(app(), entra(server))
    assert missing.value.remedy == "pip install 'maildaemon[oauth]'"
    assert token_for(app(), plain(server))


def test_msal_is_loaded_only_when_it_is_used() -> None:
    code = (
        "import sys, maildaemon_adapters.imap as imap; sys.exit(bool({'msal', 'requests', 'jwt'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
