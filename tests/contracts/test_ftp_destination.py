"""The destination ``ftp`` keeps the laws of destinations on real servers, and says in its own words what is wrong."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from maildaemon_adapters.files import ftp
from maildaemon_adapters.files.ftp import EXAMPLE, FTP, SCHEMES, FtpSettings, open_ftp, problems, tls_of
from maildaemon_adapters.files.ftp.tree import FtpTree
from maildaemon_adapters.files.server_url import read_url
from maildaemon_adapters.files.tree import Fault, Tree, TreeError
from maildaemon_core.codec import read
from maildaemon_core.confinement import Confinement, OutOfBounds
from maildaemon_core.engine.connecting import Connector
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, Registry, installed_destinations
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.errors import DestinationUnavailable, InvalidOptions, LoginRefused, MaildaemonError, Trouble
from maildaemon_core.options import DestinationOptions, Secret
from maildaemon_core.ports import Destination, Level
from maildaemon_core.progress import Receipt
from maildaemon_core.testing.destination_conformance import (
    Consumer,
    DestinationConformance,
    batch_of,
    published_of,
    put_of,
    staged_of,
)
from tests.contracts.disks import Disk, Shelf
from tests.contracts.dying import DiesInside
from tests.contracts.tree_laws import Outside, TreeLaws, made
from tests.servers.certificates import Certificates, make_ca
from tests.servers.mounting import mounted
from tests.servers.process import LOOPBACK, free_port
from tests.servers.proftpd import Proftpd
from tests.servers.proxy import NO_FAULT, ChaosProxy
from tests.servers.proxy import Fault as Wrong
from tests.servers.pyftpd import READ_ONLY, Pyftpd

SOON = 15.0
"""Seconds within which everything that is wrong has to be told."""

NO_FACTS = ("MLST", "MLSD")
"""What older servers do not know, and vsftpd."""


@pytest.fixture(scope="module")
def proftpd() -> Iterator[Proftpd]:
    with Proftpd() as server:
        yield server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_ca(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """The folder of the account."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


@pytest.fixture
def plain(shelf: Path) -> Iterator[Pyftpd]:
    with Pyftpd(shelf) as server:
        yield server


def options_of(server: Proftpd | Pyftpd, path: str = "", *, port: int = 0, **others: Any) -> DestinationOptions:
    """What an operator writes for a folder of this server; without TLS unless ``options`` say otherwise."""
    settings = {"tls": "none", **others.pop("options", {})}
    return DestinationOptions(
        **{
            "type": "ftp",
            "url": f"ftp://{server.user}@localhost:{port or server.port}/{path}",
            "password": Secret(server.password),
            "options": {name: value for name, value in settings.items() if value is not None},
            **others,
        }
    )


def opened(options: DestinationOptions) -> Destination:
    return open_ftp(options, read(FtpSettings, options.options))


def tree_of(options: DestinationOptions) -> FtpTree:
    return ftp.tree_of(options, read(FtpSettings, options.options))


def fresh(server: Proftpd) -> Path:
    """An empty folder on the server's disk, which no other test has."""
    folder = server.data / f"root-{time.monotonic_ns()}"
    folder.mkdir()
    owner = server.data.stat()
    if os.geteuid() == 0:
        os.chown(folder, owner.st_uid, owner.st_gid)
    return folder


# ----------------------------------------------------------------------------------------------------------------- laws


class TestPlainTree(TreeLaws):
    @pytest.fixture
    def tree(self, plain: Pyftpd) -> Iterator[Tree]:
        with closing(tree_of(options_of(plain))) as tree:
            yield tree

    @pytest.fixture
    def outside(self, shelf: Path) -> Outside:
        return Disk(shelf)


@pytest.mark.heavy
class TestTreeOfAnOldServer(TestPlainTree):
    """It knows neither MLST nor MLSD, nor PASV."""

    much_alike = True

    @pytest.fixture
    def plain(self, shelf: Path) -> Iterator[Pyftpd]:
        with Pyftpd(shelf, forgotten=(*NO_FACTS, "PASV")) as server:
            yield server


@pytest.mark.heavy
class TestTreeOverSeveralConnections(TestPlainTree):
    much_alike = True

    @pytest.fixture
    def tree(self, plain: Pyftpd) -> Iterator[Tree]:
        with closing(tree_of(options_of(plain, "", options={"connections": 4}))) as tree:
            yield tree


@pytest.mark.heavy
class TestExplicitTlsTree(TestPlainTree):
    much_alike = True

    @pytest.fixture
    def plain(self, shelf: Path, certificates: Certificates) -> Iterator[Pyftpd]:
        with Pyftpd(shelf, tls="explicit", certificates=certificates) as server:
            yield server

    @pytest.fixture
    def tree(self, plain: Pyftpd, certificates: Certificates) -> Iterator[Tree]:
        with closing(tree_of(options_of(plain, options={"tls": None, "caFile": str(certificates.ca)}))) as tree:
            yield tree


@pytest.mark.heavy
class TestImplicitTlsTree(TestPlainTree):
    much_alike = True

    @pytest.fixture
    def plain(self, shelf: Path, certificates: Certificates) -> Iterator[Pyftpd]:
        with Pyftpd(shelf, tls="implicit", certificates=certificates) as server:
            yield server

    @pytest.fixture
    def tree(self, plain: Pyftpd, certificates: Certificates) -> Iterator[Tree]:
        options = {"tls": "implicit", "caFile": str(certificates.ca)}
        with closing(tree_of(options_of(plain, options=options))) as tree:
            yield tree


@pytest.mark.heavy
@pytest.mark.server
class TestProftpdTree(TreeLaws):
    """With its defaults, over TLS; it shows all laws of destinations below."""

    much_alike = True

    @pytest.fixture
    def folder(self, proftpd: Proftpd) -> Path:
        return fresh(proftpd)

    @pytest.fixture
    def tree(self, proftpd: Proftpd, folder: Path) -> Iterator[Tree]:
        options = options_of(proftpd, f"data/{folder.name}", options={"tls": None, "caFile": str(proftpd.ca)})
        with closing(tree_of(options)) as tree:
            yield tree

    @pytest.fixture
    def outside(self, folder: Path) -> Outside:
        return Disk(folder)


class TestPlainFtp(DiesInside, DestinationConformance):
    @pytest.fixture
    def destination(self, plain: Pyftpd) -> Iterator[Destination]:
        with closing(opened(options_of(plain, "in"))) as destination:
            yield destination

    @pytest.fixture
    def colleague(self, plain: Pyftpd) -> Iterator[Destination]:
        with closing(opened(options_of(plain, "in", verify="digest"))) as destination:
            yield destination

    @pytest.fixture
    def consumer(self, shelf: Path) -> Consumer:
        return Shelf(shelf / "in")


@pytest.mark.server
class TestProftpd(DiesInside, DestinationConformance):
    @pytest.fixture
    def folder(self, proftpd: Proftpd) -> Path:
        return fresh(proftpd)

    @pytest.fixture
    def options(self, proftpd: Proftpd, folder: Path) -> DestinationOptions:
        settings = {"tls": "explicit", "caFile": str(proftpd.ca), "connections": 3}
        return options_of(proftpd, f"data/{folder.name}", options=settings)

    @pytest.fixture
    def destination(self, options: DestinationOptions) -> Iterator[Destination]:
        with closing(opened(options)) as destination:
            yield destination

    @pytest.fixture
    def colleague(self, options: DestinationOptions) -> Iterator[Destination]:
        with closing(opened(options)) as destination:
            yield destination

    @pytest.fixture
    def consumer(self, folder: Path) -> Consumer:
        return Shelf(folder)


# -------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("changed", "path", "said"),
    [
        ({"url": "sftp://mails@host/x"}, "$.url", "ftps://"),
        ({"url": "ftp://mails@host/x/../y"}, "$.url", "start with a dot"),
        ({"url": "ftp://host/x"}, "$.username", "required"),
        ({"password": None}, "$.password", "required"),
        ({"url": "ftps://mails@host/x", "options": {"tls": "none"}}, "$.options.tls", "contradicts ftps"),
        ({"options": {"caFile": "ca.pem"}}, "$.options.caFile", "full path"),
        ({"options": {"fingerprints": ["12:34"]}}, "$.options.fingerprints[0]", "64 hex digits"),
        ({"options": {"fingerprints": ["ab" * 32], "caFile": "/ca.pem"}}, "$.options.fingerprints", "leave one out"),
    ],
)
def test_what_is_wrong_with_the_options_is_said_where_it_stands(changed: dict[str, Any], path: str, said: str) -> None:
    given = {"type": "ftp", "url": "ftp://mails@host/x", "password": Secret("x"), **changed}
    options = DestinationOptions(**given)
    settings = read(FtpSettings, options.options)
    (problem,) = problems(options, settings)
    assert problem.path == path
    assert said in problem.message
    with pytest.raises(InvalidOptions):
        open_ftp(options, settings)


def test_nothing_but_the_kinds_own_settings_is_taken() -> None:
    for name in ("proxy", "passive", "block_size", "tls_version"):
        with pytest.raises(InvalidOptions):
            read(FtpSettings, {name: "x"})


@pytest.mark.parametrize(
    ("url", "tls", "expected"),
    [
        ("ftp://u@h/", None, "explicit"),
        ("ftps://u@h/", None, "explicit"),
        ("ftps://u@h:990/", None, "implicit"),
        ("ftp://u@h/", "none", "none"),
        ("ftp://u@h:2121/", "implicit", "implicit"),
    ],
)
def test_only_what_is_written_makes_it_plain_text(url: str, tls: str | None, expected: str) -> None:
    options = DestinationOptions(type="ftp", url=url)
    settings = read(FtpSettings, {} if tls is None else {"tls": tls})
    assert tls_of(read_url(options, SCHEMES, EXAMPLE), settings) == expected


def test_a_place_has_one_name_however_it_is_written() -> None:
    def place(url: str, **others: Any) -> str:
        return opened(DestinationOptions(type="ftp", url=url, password=Secret("x"), **others)).place

    assert place("ftp://mails@Host/in/") == place("ftps://HOST:21/in", username="mails") == "ftp://mails@host:21/in"


def test_the_kind_is_installed() -> None:
    assert installed_destinations().kind("ftp") is FTP


# ------------------------------------------------------------------------------------------------------ what is wrong


def told(options: DestinationOptions) -> str:
    """What ``validate`` says of it, in time; and that storing says the same."""
    begun = time.monotonic()
    with closing(opened(options)) as destination:
        faults = [finding for finding in destination.check() if finding.level is Level.FAULT]
        assert len(faults) == 1, faults
        assert faults[0].remedy
        assert time.monotonic() - begun < SOON
        with pytest.raises(MaildaemonError) as caught:
            staged_of(destination, batch_of(1), [put_of("a", "a")])
        assert isinstance(caught.value, DestinationUnavailable | LoginRefused)
        assert caught.value.message == faults[0].message
    assert options.password is not None
    assert options.password.value not in faults[0].message + faults[0].remedy
    return f"{type(caught.value).__name__}: {faults[0].message} — {faults[0].remedy}"


@pytest.mark.server
def test_each_thing_that_is_wrong_has_words_of_its_own(
    proftpd: Proftpd, tmp_path: Path, certificates: Certificates
) -> None:
    def with_settings(**changed: Any) -> DestinationOptions:
        return options_of(proftpd, "data", options={"tls": None, "caFile": str(proftpd.ca), **changed})

    (tmp_path / "empty.pem").write_text("nothing")
    answers = [
        told(options_of(proftpd, url=f"ftp://{proftpd.user}@no-such-host.invalid/data")),
        told(options_of(proftpd, port=free_port())),
        told(options_of(proftpd, url=f"ftp://nobody-here@localhost:{proftpd.port}/data")),
        told(options_of(proftpd, password=Secret("a wrong one"))),
        told(with_settings(caFile=None)),
        told(with_settings(caFile=str(certificates.ca))),
        told(with_settings(caFile=str(tmp_path / "empty.pem"))),
        told(with_settings(caFile=None, fingerprints=["00" * 32])),
        told(with_settings(tls="implicit")),
    ]
    words = [
        "DestinationUnavailable: .*does not resolve",
        "DestinationUnavailable: .*nothing listens",
        "LoginRefused: .*does not accept this user name and password for 'nobody-here'",
        "LoginRefused: .*does not accept this user name and password for 'mails'.* 530 ",
        "DestinationUnavailable: .*is not trusted: .* options.caFile",
        f"is not trusted: .* check that {certificates.ca}",
        "the certificates in .*empty.pem cannot be used",
        "has another fingerprint, [0-9a-f]{64}",
        "no TLS with .*tls = explicit may be what this port speaks",
    ]
    for answer, word in zip(answers, words, strict=True):
        assert re.search(word, answer), answer
    assert len(set(answers)) == len(answers)


@pytest.mark.server
def test_a_certificate_is_known_by_its_fingerprint_or_by_its_ca_whatever_the_environment_says(
    proftpd: Proftpd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "no such file"))
    folder = fresh(proftpd)
    pem = proftpd.root / "tls" / "cert.pem"
    printed = subprocess.run(
        ["openssl", "x509", "-in", str(pem), "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.partition("=")[2]
    ways: list[dict[str, Any]] = [{"fingerprints": [printed.strip()]}, {"caFile": str(proftpd.ca)}]
    for number, known in enumerate(ways):
        options = options_of(proftpd, f"data/{folder.name}", options={"tls": None, **known})
        with closing(opened(options)) as destination:
            published_of(destination, batch_of(number), [put_of("a", f"{number}")])
            assert all(finding.level is not Level.FAULT for finding in destination.check())
    assert set(Shelf(folder).files()) == {"0", "1"}


def test_no_password_is_sent_to_a_server_without_tls(plain: Pyftpd) -> None:
    answer = told(options_of(plain, options={"tls": None}))
    assert "offers no TLS" in answer
    assert "no password was sent" in answer
    assert "only tls = none under options would send the password in plain text" in answer
    assert all(line.split()[0] not in {"USER", "PASS"} for line in plain.lines)


def test_a_server_that_wants_tls_is_told_so(shelf: Path, certificates: Certificates) -> None:
    with Pyftpd(shelf, tls="explicit", certificates=certificates) as server:
        assert "wants TLS before a login" in told(options_of(server))


def test_plain_text_is_warned_of(plain: Pyftpd) -> None:
    with closing(opened(options_of(plain))) as destination:
        messages = [finding.message for finding in destination.check() if finding.level is Level.WARNING]
    assert any("plain text" in message for message in messages)
    assert any("no rename that refuses" in message for message in messages)


@contextmanager
def greeting(text: bytes) -> Iterator[int]:
    """A server that greets like this and then says nothing."""
    with socket.create_server((LOOPBACK, 0)) as listener, ExitStack() as stack:

        def accept() -> None:
            while True:
                try:
                    client = stack.enter_context(listener.accept()[0])
                except OSError:
                    return
                client.sendall(text)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "did not answer within {seconds} s"),
        (b"220 wait for it\r\n", "did not answer within {seconds} s"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "broke the connection off: SSH-2.0-OpenSSH_9.2"),
        (b"421 Too many users\r\n", "takes no connection at present: 421 Too many users"),
        (b"220-" + b"x" * 10_000, "a line of more than 8192 bytes"),
        (b"220-" + b"x\r\n" * 1100, "an answer of more than 1000 lines"),
    ],
)
def test_what_is_no_server_is_told_in_time(plain: Pyftpd, text: bytes, word: str, *, heavy: bool) -> None:
    patience = {} if heavy else {"connectSeconds": 1}
    begun = time.monotonic()
    with greeting(text) as port, closing(opened(options_of(plain, port=port, options=patience))) as destination:
        (finding,) = destination.check()
    assert finding.level is Level.FAULT
    assert word.format(seconds=10 if heavy else 1) in finding.message
    assert time.monotonic() - begun < SOON


def test_what_a_server_repeats_of_the_password_is_not_shown(plain: Pyftpd) -> None:
    said = f"220 hello\r\n331 more\r\n500 'PASS {plain.password}' not understood\r\n".encode()
    with greeting(said) as port, closing(opened(options_of(plain, port=port))) as destination:
        (finding,) = destination.check()
    assert "500 'PASS ***' not understood" in finding.message


# --------------------------------------------------------------------------------------------------- rights and room


def trouble_with(destination: Destination, data: bytes, number: int) -> Trouble:
    answer = destination.stage(batch_of(number), [put_of("a", "a", data)])["a"]
    assert isinstance(answer, Trouble)
    return answer


def test_an_account_without_rights_is_told_so(shelf: Path) -> None:
    with Pyftpd(shelf, permissions=READ_ONLY) as server:
        answer = told(options_of(server))
        assert "550 Not enough privileges" in answer
        assert "give the account the rights" in answer


def test_a_folder_that_is_missing_and_cannot_be_made_is_told_so(shelf: Path) -> None:
    with Pyftpd(shelf, permissions=READ_ONLY) as server, closing(opened(options_of(server, "no/such"))) as destination:
        assert any("there is no such folder yet" in finding.message for finding in destination.check())
        with pytest.raises(DestinationUnavailable, match="Not enough privileges"):
            destination.stage(batch_of(1), [put_of("a", "a")])


@pytest.mark.parametrize(
    ("said", "error", "transient"),
    [
        ("552 Requested file action aborted", "DestinationFull", True),
        ("452 Try later", "DestinationFull", True),
        ("550 Disk quota exceeded", "DestinationFull", True),
        ("550 Infected with Eicar-Test-Signature", "FileRefused", False),
        ("552 File too large", "FileRefused", False),
        ("553 Filename not allowed", "DestinationRefused", True),
        ("550 Invalid file name", "PathRefused", False),
        ("451 Local error", "DestinationFailed", True),
    ],
)
def test_what_a_server_says_of_one_file_is_understood(
    plain: Pyftpd, shelf: Path, said: str, error: str, *, transient: bool
) -> None:
    with closing(opened(options_of(plain))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "before")])
        staged_of(destination, batch_of(2), [put_of("other", "other")])
        plain.instead["STOR"] = said
        trouble = trouble_with(destination, bytes(3_000_000), 2)
        assert (trouble.error, trouble.transient) == (error, transient)
        assert said in trouble.message
        assert trouble.remedy
        plain.instead.clear()
        published_of(destination, batch_of(3), [put_of("a", "after")])
    assert set(Shelf(shelf).files()) == {"before", "after"}


def test_a_server_that_wants_to_be_left_alone_is(plain: Pyftpd) -> None:
    with closing(opened(options_of(plain))) as destination:
        plain.instead["USER"] = "421 Too many connections"
        with pytest.raises(DestinationUnavailable, match="lets nobody in at present: 421 Too many") as caught:
            destination.stage(batch_of(1), [put_of("a", "a")])
        assert caught.value.retry_after == 60
        plain.instead.clear()
        published_of(destination, batch_of(1), [put_of("a", "a")])


@pytest.mark.server
def test_a_full_disk_of_proftpd_is_told_as_far_as_it_tells_and_leaves_nothing(proftpd: Proftpd) -> None:
    folder = fresh(proftpd)
    with mounted(folder), closing(opened(options_of(proftpd, f"data/{folder.name}"))) as destination:
        trouble = trouble_with(destination, bytes(5_000_000), 1)
        assert trouble.transient
        assert "451 Transfer aborted" in trouble.message
        assert "its disk may be full" in trouble.remedy
        assert all("a" not in path.split("/") for path in Disk(folder).files())
        published_of(destination, batch_of(2), [put_of("a", "a", bytes(1_000_000))])


# -------------------------------------------------------------------------------------------------------- connections


def test_a_connection_for_data_goes_to_the_server_whatever_it_says(plain: Pyftpd, shelf: Path) -> None:
    plain.passive_port = lambda port: port  # at 10.1.2.3, says the server
    with closing(opened(options_of(plain))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a")])
    assert set(Shelf(shelf).files()) == {"a"}


@contextmanager
def on_the_way(server: Pyftpd, wrong: Wrong) -> Iterator[None]:
    """Something that goes wrong with each connection for data, until it is over."""
    with ExitStack() as stack:

        def through(port: int) -> int:
            proxy = stack.enter_context(ChaosProxy(port))
            proxy.fault = wrong
            return proxy.port

        server.passive_port = through
        try:
            yield
        finally:
            server.passive_port = None


@pytest.mark.heavy
@pytest.mark.parametrize("after", [0, 100_000, 2_999_999])
@pytest.mark.parametrize("how", ["cut_after", "reset_after", "stall_after"])
def test_data_that_is_cut_off_is_never_published(
    plain: Pyftpd, shelf: Path, how: str, after: int, *, heavy: bool
) -> None:
    with closing(opened(options_of(plain, options={} if heavy else {"answerSeconds": 1}))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a")])
        where: dict[str, Any] = {how: after}
        with on_the_way(plain, Wrong(direction="up", **where)):
            try:
                answer = destination.stage(batch_of(2), [put_of("a", "b", bytes(3_000_000))])["a"]
            except DestinationUnavailable:
                pass
            else:
                assert isinstance(answer, Trouble)
        published_of(destination, batch_of(3), [put_of("a", "b", b"whole")])
    assert Shelf(shelf).files() == {"a": b"content", "b": b"whole"}


def test_data_that_nobody_takes_is_given_up_and_then_it_goes_on(plain: Pyftpd, shelf: Path) -> None:
    with closing(opened(options_of(plain, options={"answerSeconds": 1}))) as destination:
        with socket.create_server((LOOPBACK, 0)) as deaf:
            plain.passive_port = lambda _: deaf.getsockname()[1]
            begun = time.monotonic()
            with pytest.raises(DestinationUnavailable, match="said nothing for 1 s"):
                destination.stage(batch_of(1), [put_of("a", "a", bytes(20_000_000))])
            assert time.monotonic() - begun < SOON
        plain.passive_port = None
        published_of(destination, batch_of(2), [put_of("a", "a", b"whole")])
    assert Shelf(shelf).files() == {"a": b"whole"}


def test_commands_that_break_off_cost_one_call(plain: Pyftpd, shelf: Path) -> None:
    with ChaosProxy(plain.port) as proxy, closing(opened(options_of(plain, port=proxy.port))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a")])
        for number in range(2, 8):
            proxy.drop_all()
            proxy.fault = Wrong(direction="down", cut_after=number * 100)
            with suppress(DestinationUnavailable):
                destination.stage(batch_of(number), [put_of("a", "b")])
        proxy.fault = NO_FAULT
        staged = staged_of(destination, batch_of(9), [put_of("a", "b", b"whole")])
        proxy.drop_all()
        time.sleep(0.1)
        assert isinstance(destination.publish(batch_of(9), staged)["a"], Receipt)
    assert Shelf(shelf).files() == {"a": b"content", "b": b"whole"}


def test_it_keeps_to_one_connection_that_rests_and_is_looked_after(
    plain: Pyftpd, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ChaosProxy(plain.port) as proxy, closing(opened(options_of(plain, port=proxy.port))) as destination:
        published_of(destination, batch_of(1), [put_of(f"p{number}", f"{number % 3}/{number}") for number in range(40)])
        assert proxy.connections == 1
        monkeypatch.setattr("maildaemon_adapters.files.ftp.tree.FRESH", 0.0)
        published_of(destination, batch_of(2), [put_of("a", "x")])
        assert proxy.connections == 1
        assert "NOOP" in plain.lines
        proxy.drop_all()
        published_of(destination, batch_of(3), [put_of("a", "y")])
        assert proxy.connections == 2


def test_a_file_is_one_transfer(plain: Pyftpd) -> None:
    with closing(opened(options_of(plain))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a", bytes(3_000_000))])
    assert sum(line.startswith("STOR ") for line in plain.lines) == 2  # and the marker
    assert not any(line.startswith(("REST", "APPE")) for line in plain.lines)


def test_a_server_that_falls_silent_is_given_up(plain: Pyftpd) -> None:
    with ChaosProxy(plain.port) as proxy, ExitStack() as stack:
        options = options_of(plain, port=proxy.port, options={"answerSeconds": 1})
        tree = stack.enter_context(closing(tree_of(options)))
        assert tree.stat("a") is None
        proxy.fault = Wrong(stall_after=0)
        begun = time.monotonic()
        with pytest.raises(TreeError, match="said nothing for 1 s") as caught:
            list(tree.read("a"))
        assert caught.value.fault is Fault.GONE
        assert time.monotonic() - begun < 5
        proxy.fault = NO_FAULT
        assert tree.stat("a") is None


# ------------------------------------------------------------------------------------------------ confinement, secrets


def test_a_mailbox_of_the_service_does_not_reach_this_machine(plain: Pyftpd, shelf: Path, tmp_path: Path) -> None:
    options = options_of(plain, url=f"ftp://{plain.user}@2130706433:{plain.port}/")

    def connector(**allowed: Any) -> Connector:
        return Connector(
            sources=Registry(SOURCES, ()),
            destinations=Registry(DESTINATIONS, (), ftp=FTP),
            spool=FolderSpool(tmp_path / "spool"),
            read_secret=lambda secret: secret,
            confinement=Confinement(files=(str(tmp_path / "files"),), **allowed),
        )

    strict, free = connector(), connector(allow_networks=("127.0.0.0/8",))
    with strict.context(), closing(strict.target(options).destination) as destination:
        with pytest.raises(DestinationUnavailable, match="is this machine itself"):
            destination.stage(batch_of(1), [put_of("a", "a")])
        (finding,) = destination.check()
        assert finding.remedy == "its operator can allow more: allowNetworks"
    assert plain.lines == []
    with free.context(), closing(free.target(options).destination) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a")])
    assert set(Shelf(shelf).files()) == {"a"}

    (tmp_path / "files").mkdir()
    with pytest.raises(OutOfBounds):
        free.target(options_of(plain, options={"tls": None, "caFile": "/etc/hostname"}))


def test_no_secret_and_no_path_is_logged(
    plain: Pyftpd, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with closing(opened(options_of(plain))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "about the takeover.eml")])
        assert plain.password not in repr(destination) + destination.place
    wrong = options_of(plain, password=Secret("a wrong one"))
    with closing(opened(wrong)) as destination, pytest.raises(LoginRefused):
        destination.stage(batch_of(2), [put_of("a", "a")])
    for text in (caplog.text, *capfd.readouterr()):
        assert plain.password not in text
        assert "a wrong one" not in text
        assert "takeover" not in text


@pytest.mark.heavy
@pytest.mark.server
@pytest.mark.parametrize("tls", ["none", "explicit"])
def test_a_large_file_passes_through_little_memory(proftpd: Proftpd, tls: str, *, heavy: bool) -> None:
    size = 200_000_000 if heavy else 20_000_000
    piece = bytes(range(256)) * 1024
    options = options_of(proftpd, f"data/{fresh(proftpd).name}", options={"tls": tls, "caFile": str(proftpd.ca)})
    with closing(tree_of(options)) as tree:
        made(tree, ".maildaemon/batch")
        tracemalloc.start()
        try:
            tree.write(".maildaemon/batch/part", (piece for _ in range(size // len(piece))))
            assert sum(map(len, tree.read(".maildaemon/batch/part"))) == size // len(piece) * len(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8_000_000, peak
