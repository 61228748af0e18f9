"""The room that all adapters share which speak over sockets: dialling, certificates, waiting, and words for people."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from maildaemon_adapters.tcp.dialling import dial
from maildaemon_adapters.tcp.line import Line
from maildaemon_adapters.tcp.obstacles import Hindrance, obstacle_of
from maildaemon_adapters.tcp.patience import SLOWEST, Patience
from maildaemon_adapters.tcp.quiet import only_warnings
from maildaemon_adapters.tcp.trust import MinimumTls, Trust, Unusable
from maildaemon_adapters.tcp.words import LONGEST_SAYING, said
from maildaemon_core.confinement import ConnectionForbidden
from tests.servers.certificates import Certificates, make_ca

LOOPBACK = "127.0.0.1"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_ca(tmp_path_factory.mktemp("tls"))


@contextmanager
def serving(act: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port of loopback on which ``act`` talks with whoever comes first."""
    with socket.create_server((LOOPBACK, 0)) as listening:

        def serve() -> None:
            came, _ = listening.accept()
            with came, suppress(OSError):  # the client may be gone
                came.settimeout(10)
                act(came)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def line_to(port: int, *, seconds: float = 5, stall: float = 5, trust: Trust | None = None) -> Line:
    context = None if trust is None else trust.context()
    patience = Patience(stall=stall, allowance=seconds)
    return Line(LOOPBACK, port, context=context, connect_seconds=seconds, patience=patience)


# ------------------------------------------------------------------------------------------------------------ dialling


def test_what_dialling_gives_is_a_connection_that_waits() -> None:
    with serving(lambda came: came.sendall(b"hello")) as port, dial(LOOPBACK, port, 5) as sock:
        assert sock.gettimeout() is None
        assert sock.recv(5) == b"hello"


def test_addresses_share_the_time_and_what_is_forbidden_is_told_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float | None] = []

    class Refusing(socket.socket):
        def connect(self, address: object) -> None:
            tried.append(self.gettimeout())
            raise ConnectionForbidden("no", "ask") if len(tried) == 1 else TimeoutError

    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (LOOPBACK, 1))] * 3
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(ConnectionForbidden):
        dial("mail.example", 1, 3)
    assert tried == [pytest.approx(1, abs=0.1), pytest.approx(1.5, abs=0.1), pytest.approx(3, abs=0.1)]


# -------------------------------------------------------------------------------------------------------- certificates


def shaken_hands(
    server: Certificates, trust: Trust, *, only: ssl.TLSVersion | None = None, asks: bool = False
) -> str | None:
    """The version of TLS, after the server has heard from us."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificate, server.key)
    if only is not None:
        context.maximum_version = only
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(server.ca)

    def act(came: socket.socket) -> None:
        with context.wrap_socket(came, server_side=True) as secured:
            secured.sendall(b"in\r\n")

    with serving(act) as port:
        line = line_to(port, trust=trust)
        try:
            assert line.readline(100) == b"in\r\n"
            assert isinstance(line.sock, ssl.SSLSocket)
            return line.sock.version()
        finally:
            line.close()


@pytest.mark.parametrize(
    ("least", "most", "spoken"),
    [
        (None, ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        ("1.2", ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        ("1.2", None, "TLSv1.3"),
        ("1.3", None, "TLSv1.3"),
    ],
)
def test_tls_is_at_least_as_new_as_demanded(
    certificates: Certificates, least: MinimumTls | None, most: ssl.TLSVersion | None, spoken: str
) -> None:
    assert shaken_hands(certificates, Trust(ca_file=str(certificates.ca), minimum=least), only=most) == spoken


def test_a_server_that_is_too_old_is_told_with_the_option_that_says_so(certificates: Certificates) -> None:
    trust = Trust(ca_file=str(certificates.ca), minimum="1.3")
    with pytest.raises(ssl.SSLError) as raised:
        shaken_hands(certificates, trust, only=ssl.TLSVersion.TLSv1_2)
    obstacle = obstacle_of(raised.value, "mail.example:993", seconds=1, trust=trust)
    assert obstacle.kind is Hindrance.UNREACHABLE
    assert "options.minimumTls" in obstacle.remedy


def test_a_server_that_asks_for_a_certificate_gets_it(certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(certificates.certificate.read_bytes() + certificates.key.read_bytes())
    ca, certificate, key = map(str, (certificates.ca, certificates.certificate, certificates.key))
    assert shaken_hands(certificates, Trust(ca_file=ca, certificate_file=certificate, key_file=key), asks=True)
    assert shaken_hands(certificates, Trust(ca_file=ca, certificate_file=str(both)), asks=True)
    with pytest.raises((OSError, AssertionError)):
        shaken_hands(certificates, Trust(ca_file=ca), asks=True)


def test_files_that_cannot_be_used_are_said_so(certificates: Certificates, tmp_path: Path) -> None:
    other = make_ca(tmp_path / "other")
    sealed, nothing = tmp_path / "sealed.pem", tmp_path / "nothing.pem"
    nothing.touch()
    key = serialization.load_pem_private_key(certificates.key.read_bytes(), None)
    phrase = serialization.BestAvailableEncryption(b"a phrase")
    sealed.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, phrase))
    certificate = str(certificates.certificate)

    def told(trust: Trust) -> str:
        with pytest.raises(Unusable) as raised:
            trust.context()
        obstacle = obstacle_of(raised.value, "mail.example:993", seconds=1)
        assert obstacle.kind is Hindrance.UNTRUSTED
        assert obstacle.remedy
        return obstacle.what

    assert "nowhere.pem cannot be used: No such file" in told(Trust(ca_file=str(tmp_path / "nowhere.pem")))
    assert "nowhere.pem cannot be read: No such file" in told(Trust(certificate_file=str(tmp_path / "nowhere.pem")))
    assert "is not that of" in told(Trust(certificate_file=certificate, key_file=str(other.key)))
    assert "has a pass phrase" in told(Trust(certificate_file=certificate, key_file=str(sealed)))
    assert "holds no certificate" in told(Trust(certificate_file=str(nothing)))
    assert "no private key" in told(Trust(certificate_file=certificate))


def test_settings_that_cannot_be_meant_are_problems_with_their_place() -> None:
    wrong = Trust(ca_file="ca.pem", fingerprints=["ab" * 32, "x"], key_file="key.pem")
    assert [problem.path for problem in wrong.problems()] == [
        "$.options.caFile",
        "$.options.clientKeyFile",
        "$.options.fingerprints",
        "$.options.clientKeyFile",
        "$.options.fingerprints[1]",
    ]
    right = Trust(ca_file="/ca.pem", certificate_file="/cert.pem", key_file="/key.pem", minimum="1.3")
    assert list(right.problems()) == []
    assert list(Trust(fingerprints=["AB:" * 31 + "AB", "sha256 " + "ab" * 32]).problems()) == []


# ------------------------------------------------------------------------------------------------------------- waiting


def test_a_server_that_drips_is_given_up_in_the_end() -> None:
    over = threading.Event()

    def drip(came: socket.socket) -> None:
        while not over.is_set():
            came.sendall(b"x")
            over.wait(0.05)

    with serving(drip) as port:
        line = line_to(port, seconds=0.5)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            line.read(10_000)
        assert time.monotonic() - begun < 3
        line.close()
        line.close()
        over.set()


def test_a_server_that_says_nothing_is_given_up_before_the_allowance_is_used_up() -> None:
    over = threading.Event()

    def say_nothing(_: socket.socket) -> None:
        over.wait(10)

    with serving(say_nothing) as port:
        line = line_to(port, seconds=60, stall=0.2)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            line.readline(100)
        assert time.monotonic() - begun < 5
        line.close()
        over.set()


def test_what_comes_gives_time_for_more() -> None:
    patience = Patience(stall=100, allowance=0)
    with pytest.raises(TimeoutError):
        patience.wait()
    patience.progressed(10 * SLOWEST)
    assert 8 < patience.wait() <= 10
    patience.restart(50)
    assert 40 < patience.wait() <= 50


def test_tls_is_not_begun_over_what_came_in_plain_text(certificates: Certificates) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate, certificates.key)

    def act(came: socket.socket) -> None:
        came.sendall(b"OK\r\nand more\r\n")
        came.recv(100)
        came.sendall(b"OK\r\n")
        with context.wrap_socket(came, server_side=True) as secured:
            secured.sendall(b"in\r\n")

    trust = Trust(ca_file=str(certificates.ca)).context()
    with serving(act) as port:
        line = line_to(port)
        assert line.readline(100) == b"OK\r\n"
        assert not line.secure(trust)
        assert not isinstance(line.sock, ssl.SSLSocket)
        assert line.readline(100) == b"and more\r\n"
        line.send(b"STLS\r\n")
        assert line.readline(100) == b"OK\r\n"
        assert line.secure(trust)
        assert line.readline(100) == b"in\r\n"
        line.close()


# --------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("error", "kind", "what", "remedy"),
    [
        (ConnectionForbidden("it is private", "ask"), Hindrance.FORBIDDEN, "it is private", "ask"),
        (socket.gaierror(-2, "x"), Hindrance.UNREACHABLE, "'mail.example' does not resolve", "check host, and"),
        (ConnectionRefusedError(111, "x"), Hindrance.UNREACHABLE, "nothing listens on mail.example:993", "the port;"),
        (TimeoutError(), Hindrance.UNREACHABLE, "did not answer within 1.5 s", "firewalls; try another"),
        (OSError(113, "No route"), Hindrance.UNREACHABLE, "cannot be reached: No route", "the network"),
        (ssl.SSLEOFError(8, "x"), Hindrance.UNREACHABLE, "hung up in the middle", "try another"),
        (EOFError(), Hindrance.UNREACHABLE, "mail.example:993 broke the connection off", "try another"),
    ],
)
def test_what_keeps_us_from_a_server_is_said(error: BaseException, kind: Hindrance, what: str, remedy: str) -> None:
    obstacle = obstacle_of(error, "mail.example:993", seconds=1.5, hint="try another", named=None)
    assert obstacle.kind is kind
    assert what in obstacle.what
    assert remedy in obstacle.remedy


def test_what_a_server_says_is_one_short_line_without_secrets() -> None:
    assert said("no\r\n such\x00 login: hunter2", ["", "hunter2"]) == "no such login: ***"
    assert len(said("x" * 1000)) == LONGEST_SAYING
    assert said("x" * 20, longest=10) == "xxxxxxxxx…"


def test_libraries_are_kept_from_the_log_but_nobody_makes_them_say_more() -> None:
    loud, quiet = logging.getLogger("tests.loud"), logging.getLogger("tests.quiet")
    quiet.setLevel(logging.CRITICAL)
    only_warnings(loud.name, quiet.name)
    assert (loud.level, quiet.level) == (logging.WARNING, logging.CRITICAL)
