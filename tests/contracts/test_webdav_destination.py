"""The destination ``webdav`` keeps the laws of destinations on a real server, and says in its own words what fails."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from maildaemon_adapters.files import webdav
from maildaemon_adapters.files.tree import Fault, Tree, TreeError
from maildaemon_adapters.files.webdav import WEBDAV, WebDavSettings, open_webdav, problems
from maildaemon_adapters.files.webdav.tree import WebDavTree
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
from tests.contracts.tree_laws import Outside, TreeLaws, made, written
from tests.servers.certificates import Certificates, make_ca
from tests.servers.mounting import mounted
from tests.servers.process import LOOPBACK, free_port
from tests.servers.proxy import NO_FAULT, ChaosProxy
from tests.servers.proxy import Fault as Wrong
from tests.servers.webdav import TOKEN, WebDav

SOON = 15.0
"""Seconds within which everything that is wrong has to be told."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_ca(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """The folder that is served."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


@pytest.fixture
def plain(shelf: Path) -> Iterator[WebDav]:
    with WebDav(shelf) as server:
        yield server


def options_of(server: WebDav, path: str = "", *, port: int = 0, **others: Any) -> DestinationOptions:
    """What an operator writes for a folder of this server."""
    settings = {"tls": "none" if server.scheme == "http" else None, **others.pop("options", {})}
    return DestinationOptions(
        **{
            "type": "webdav",
            "url": f"{server.scheme}://localhost:{port or server.port}/{path}",
            "username": server.user,
            "password": Secret(server.password),
            "options": {name: value for name, value in settings.items() if value is not None},
            **others,
        }
    )


def opened(options: DestinationOptions) -> Destination:
    return open_webdav(options, read(WebDavSettings, options.options))


def tree_of(options: DestinationOptions) -> WebDavTree:
    return webdav.tree_of(options, read(WebDavSettings, options.options))


# ----------------------------------------------------------------------------------------------------------------- laws


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDav]:
    """One for all laws: it takes long to stop."""
    with WebDav(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture
def room(shared: WebDav) -> Path:
    """An empty folder of it that no other test has."""
    folder = shared.root / f"room-{time.monotonic_ns()}"
    folder.mkdir()
    return folder


class TestPlainTree(TreeLaws):
    @pytest.fixture
    def tree(self, shared: WebDav, room: Path) -> Iterator[Tree]:
        with closing(tree_of(options_of(shared, room.name))) as tree:
            yield tree

    @pytest.fixture
    def outside(self, room: Path) -> Outside:
        return Disk(room)


@pytest.mark.heavy
class TestTlsTree(TreeLaws):
    much_alike = True

    @pytest.fixture
    def plain(self, shelf: Path, certificates: Certificates) -> Iterator[WebDav]:
        with WebDav(shelf, certificates=certificates) as server:
            yield server

    @pytest.fixture
    def tree(self, plain: WebDav, certificates: Certificates) -> Iterator[Tree]:
        with closing(tree_of(options_of(plain, options={"caFile": str(certificates.ca)}))) as tree:
            yield tree

    @pytest.fixture
    def outside(self, shelf: Path) -> Outside:
        return Disk(shelf)


@pytest.mark.heavy
class TestDigestTree(TreeLaws):
    much_alike = True

    @pytest.fixture
    def plain(self, shelf: Path) -> Iterator[WebDav]:
        with WebDav(shelf, auth="digest") as server:
            yield server

    @pytest.fixture
    def tree(self, plain: WebDav) -> Iterator[Tree]:
        with closing(tree_of(options_of(plain, options={"auth": "digest"}))) as tree:
            yield tree

    @pytest.fixture
    def outside(self, shelf: Path) -> Outside:
        return Disk(shelf)


class TestWebDav(DiesInside, DestinationConformance):
    @pytest.fixture
    def below(self, room: Path) -> str:
        return f"{room.name}/a%20folder/%2525"

    @pytest.fixture
    def destination(self, shared: WebDav, below: str) -> Iterator[Destination]:
        with closing(opened(options_of(shared, below))) as destination:
            yield destination

    @pytest.fixture
    def colleague(self, shared: WebDav, below: str) -> Iterator[Destination]:
        with closing(opened(options_of(shared, below, verify="digest"))) as destination:
            yield destination

    @pytest.fixture
    def consumer(self, room: Path) -> Consumer:
        return Shelf(room / "a folder" / "%25")


# -------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("changed", "path", "said"),
    [
        ({"url": "ftp://host/x"}, "$.url", "https://"),
        ({"url": "https://host/x/../y"}, "$.url", "start with a dot"),
        ({"url": "https://host/x?token=1"}, "$.url", "no ?"),
        ({"url": "http://host/x"}, "$.url", "sends the password in plain text"),
        ({"url": "dav://host/x"}, "$.url", "sends the password in plain text"),
        ({"options": {"tls": "none"}}, "$.options.tls", "contradicts https"),
        ({"username": None}, "$.username", "required"),
        ({"password": None}, "$.password", "required"),
        ({"password": None, "options": {"auth": "bearer"}}, "$.password", "the token"),
        ({"options": {"caFile": "ca.pem"}}, "$.options.caFile", "full path"),
        ({"options": {"fingerprints": ["12:34"]}}, "$.options.fingerprints[0]", "64 hex digits"),
    ],
)
def test_what_is_wrong_with_the_options_is_said_where_it_stands(changed: dict[str, Any], path: str, said: str) -> None:
    given = {"type": "webdav", "url": "https://host/x", "username": "u", "password": Secret("x"), **changed}
    if "token=" in given["url"]:
        given["url"] = "https://host/x?a=1"
    options = DestinationOptions(**given)
    settings = read(WebDavSettings, options.options)
    (problem,) = problems(options, settings)
    assert problem.path == path
    assert said in problem.message
    with pytest.raises(InvalidOptions):
        open_webdav(options, settings)


def test_nothing_but_the_kinds_own_settings_is_taken() -> None:
    for name in ("proxy", "verify", "headers", "followRedirects", "cert"):
        with pytest.raises(InvalidOptions):
            read(WebDavSettings, {name: "x"})


def test_a_place_has_one_name_however_it_is_written() -> None:
    def place(url: str, **others: Any) -> str:
        return opened(DestinationOptions(**{"type": "webdav", "url": url, "password": Secret("x"), **others})).place

    assert place("https://u@Host/in/") == place("davs://HOST:443/in", username="u") == "https://u@host:443/in"


def test_the_kind_is_installed() -> None:
    assert installed_destinations().kind("webdav") is WEBDAV


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
    assert options.password is not None
    assert options.password.value not in faults[0].message + faults[0].remedy
    return f"{type(caught.value).__name__}: {faults[0].message} — {faults[0].remedy}"


def test_each_thing_that_is_wrong_has_words_of_its_own(
    shelf: Path, plain: WebDav, tmp_path: Path, certificates: Certificates
) -> None:
    stranger = make_ca(tmp_path / "stranger")
    (tmp_path / "empty.pem").write_text("nothing")
    with WebDav(shelf, certificates=certificates) as server:
        good = {"caFile": str(certificates.ca)}

        def with_settings(**changed: Any) -> DestinationOptions:
            return options_of(server, options={**good, **changed})

        answers = [
            told(options_of(server, url="https://no-such-host.invalid/x", options=good)),
            told(options_of(server, port=free_port(), options=good)),
            told(options_of(server, username="nobody-here", options=good)),
            told(options_of(server, password=Secret("a wrong one"), options=good)),
            told(with_settings(caFile=None)),
            told(with_settings(caFile=str(stranger.ca))),
            told(with_settings(caFile=str(tmp_path / "empty.pem"))),
            told(with_settings(caFile=None, fingerprints=["00" * 32])),
            told(with_settings(auth="digest")),
            told(options_of(plain, url=f"https://localhost:{plain.port}/", options={"tls": None})),
            told(options_of(server, url=f"http://localhost:{server.port}/", options={"tls": "none"})),
        ]
    words = [
        "DestinationUnavailable: .*does not resolve",
        "DestinationUnavailable: .*nothing listens",
        "LoginRefused: .*the password of 'nobody-here' is refused: 401",
        "LoginRefused: .*the password of 'mails' is refused: 401",
        "DestinationUnavailable: .*is not trusted: .* options.caFile",
        f"is not trusted: .* check that {stranger.ca}",
        "the certificates in .*empty.pem cannot be used",
        "has another fingerprint, [0-9a-f]{64}",
        "LoginRefused: .*wants another kind of login than digest: basic — write auth = basic",
        "no TLS with .*http:// may be what this port speaks",
        "DestinationUnavailable: ",
    ]
    for answer, word in zip(answers, words, strict=True):
        assert re.search(word, answer), answer
    assert len(set(answers)) == len(answers)


def test_a_certificate_is_known_by_its_fingerprint_or_by_its_ca_whatever_the_environment_says(
    shelf: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "no such file"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://localhost:{free_port()}")
    printed = subprocess.run(
        ["openssl", "x509", "-in", str(certificates.certificate), "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.partition("=")[2]
    with WebDav(shelf, certificates=certificates) as server:
        for number, known in enumerate(({"fingerprints": [printed.strip()]}, {"caFile": str(certificates.ca)})):
            with closing(opened(options_of(server, options=known))) as destination:
                published_of(destination, batch_of(number), [put_of("a", f"{number}")])
                assert all(finding.level is Level.FINE for finding in destination.check())
    assert set(Shelf(shelf).files()) == {"0", "1"}


def test_a_token_logs_in_as_well(shelf: Path) -> None:
    with WebDav(shelf, auth="bearer") as server:
        good = options_of(server, username=None, password=Secret(TOKEN), options={"auth": "bearer"})
        with closing(opened(good)) as destination:
            published_of(destination, batch_of(1), [put_of("a", "a")])
        answer = told(options_of(server, username=None, password=Secret("another"), options={"auth": "bearer"}))
        assert "LoginRefused: " in answer
        assert "this token is refused" in answer
        assert "wants another kind of login than basic: bearer" in told(options_of(server))


def test_plain_text_is_warned_of(plain: WebDav) -> None:
    with closing(opened(options_of(plain))) as destination:
        (warning,) = [finding for finding in destination.check() if finding.level is Level.WARNING]
    assert "plain text" in warning.message


def test_nobody_is_followed_with_a_password(plain: WebDav, tmp_path: Path) -> None:
    with WebDav(tmp_path) as other:
        for method in ("PROPFIND", "PUT", "MOVE", "MKCOL"):
            plain.instead[method] = "302 Found"
        plain.headers = [("Location", f"http://localhost:{other.port}/x")]
        answer = told(options_of(plain))
        assert "sends us on to http://localhost/x (302 Found)" in answer
        assert "write that address into url" in answer
        assert other.asked == []


def test_a_slash_behind_a_folder_is_no_other_address(shelf: Path) -> None:
    with WebDav(shelf, slashes=True) as server, closing(opened(options_of(server, "in"))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "new/folder/a")])
        assert all(finding.level is not Level.FAULT for finding in destination.check())
    assert set(Shelf(shelf / "in").files()) == {"new/folder/a"}


def test_an_address_without_webdav_is_told_so(plain: WebDav) -> None:
    plain.instead["PROPFIND"] = "405 Method Not Allowed"
    assert "no WebDAV under this address: 405" in told(options_of(plain))


@pytest.mark.heavy
@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"220 ready\r\n"])
def test_what_is_no_server_is_told_in_time(plain: WebDav, text: bytes, *, heavy: bool) -> None:
    """One that never answers, one that never ends its answer, and others that speak something else."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        heard: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    heard.append(listener.accept()[0])
                except OSError:
                    return
                heard[-1].sendall(text)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        begun = time.monotonic()
        patience = {} if heavy else {"connectSeconds": 1, "answerSeconds": 1}
        options = options_of(plain, port=listener.getsockname()[1], options=patience)
        with closing(opened(options)) as destination:
            (finding,) = destination.check()
        assert time.monotonic() - begun < SOON
        assert finding.level is Level.FAULT
        assert finding.remedy
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for client in heard:
            client.close()


# --------------------------------------------------------------------------------------------------- rights and room


def trouble_with(destination: Destination, data: bytes, number: int) -> Trouble:
    answer = destination.stage(batch_of(number), [put_of("a", "a", data)])["a"]
    assert isinstance(answer, Trouble)
    return answer


def test_an_account_without_rights_is_told_so(shelf: Path) -> None:
    with WebDav(shelf, read_only=True) as server:
        answer = told(options_of(server))
        assert "403 Forbidden" in answer
        assert "give the account the right" in answer


@pytest.mark.parametrize("after", [0, 1_000_000])
@pytest.mark.parametrize(
    ("status", "error", "transient", "word"),
    [
        ("507 Insufficient Storage", "DestinationFull", True, "quota"),
        ("413 Payload Too Large", "FileRefused", False, "limit for uploads"),
        ("415 Unsupported Media Type", "FileRefused", False, "virus scanner"),
        ("403 Forbidden", "DestinationRefused", True, "right"),
        ("423 Locked", "DestinationFailed", True, "locked"),
        ("500 Internal Server Error", "DestinationFailed", True, "log"),
        ("414 URI Too Long", "PathRefused", False, "path template"),
    ],
)
def test_what_a_server_says_of_one_file_is_understood(
    plain: WebDav, shelf: Path, status: str, error: str, word: str, after: int, *, transient: bool
) -> None:
    with closing(opened(options_of(plain))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "before")])
        staged_of(destination, batch_of(2), [put_of("other", "other")])
        plain.instead["PUT"], plain.after = status, after
        trouble = trouble_with(destination, bytes(3_000_000), 2)
        assert (trouble.error, trouble.transient) == (error, transient)
        assert status in trouble.message
        assert word in trouble.remedy
        plain.instead.clear()
        published_of(destination, batch_of(3), [put_of("a", "after")])
    assert set(Shelf(shelf).files()) == {"before", "after"}


def test_a_server_that_wants_to_be_left_alone_is(plain: WebDav) -> None:
    with closing(opened(options_of(plain))) as destination:
        plain.instead["MKCOL"] = plain.instead["PROPFIND"] = "503 Service Unavailable"
        plain.headers = [("Retry-After", "17")]
        with pytest.raises(DestinationUnavailable, match="503") as caught:
            destination.stage(batch_of(1), [put_of("a", "a")])
        assert caught.value.retry_after == 17
        plain.instead.clear()
        published_of(destination, batch_of(1), [put_of("a", "a")])


def test_a_full_disk_is_told_and_leaves_nothing_and_goes_on_by_itself(plain: WebDav, shelf: Path) -> None:
    with mounted(shelf), closing(opened(options_of(plain))) as destination:
        trouble = trouble_with(destination, bytes(5_000_000), 1)
        assert trouble.transient
        assert "500" in trouble.message or "507" in trouble.message
        assert all("a" not in path.split("/") for path in Disk(shelf).files())
        published_of(destination, batch_of(2), [put_of("a", "a", bytes(1_000_000))])


# --------------------------------------------------------------------------------------------------- how it is asked


def test_a_file_is_announced_with_its_size_and_moved_to_a_name_that_must_be_free(plain: WebDav) -> None:
    with closing(opened(options_of(plain))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a", bytes(3_000_000))])
    puts = [headers for method, path, headers in plain.asked if method == "PUT" and path.endswith("/a")]
    assert puts == [{"Length": "3000000"}]
    assert [headers["Overwrite"] for method, _, headers in plain.asked if method == "MOVE"] == ["F"]
    assert {headers["Depth"] for method, _, headers in plain.asked if method == "PROPFIND"} <= {"0", "1"}


def test_a_name_that_the_server_would_take_for_another_is_refused(shelf: Path) -> None:
    """wsgidav ends the name in Destination at ; or ?, as long as nobody mends it."""
    with WebDav(shelf, exact=False) as server, closing(opened(options_of(server))) as destination:
        names = ["a;b.pdf", "a?b.pdf", "a%41 b#c+d&e.pdf", "plain.pdf"]
        puts = [put_of(f"{number}", name) for number, name in enumerate(names)]
        answers = destination.publish(batch_of(1), staged_of(destination, batch_of(1), puts))
        for number in ("0", "1"):
            trouble = answers[number]
            assert isinstance(trouble, Trouble)
            assert (trouble.error, trouble.transient) == ("PathRefused", False)
            assert "misreads names" in trouble.message
        assert all(isinstance(answers[number], Receipt) for number in ("2", "3"))
        assert set(Shelf(shelf).files()) == set(names[2:])
        destination.forget(batch_of(1))
    assert set(Disk(shelf).files()) == set(names[2:])


def test_the_staging_folder_stays_since_removing_it_would_take_all_with_it(plain: WebDav, shelf: Path) -> None:
    with closing(tree_of(options_of(plain))) as tree:
        written(tree, ".maildaemon/batch/part")
        tree.remove(".maildaemon/batch")
        tree.remove_folder(".maildaemon/batch")
        assert set(Disk(shelf).files()) == {".maildaemon/batch/part"}
        tree.remove(".maildaemon/batch/part")
        tree.remove_folder(".maildaemon/batch")
        tree.remove_folder(".maildaemon")
        assert [named.name for named in tree.names("")] == [".maildaemon"]


def test_a_large_answer_with_a_document_type_is_not_even_read() -> None:
    from maildaemon_adapters.files.webdav.multistatus import Unreadable, inside, resources

    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><D:multistatus xmlns:D="DAV:">&b;'
    for text in (bomb, b"<html/>", b"no xml", b'<multistatus xmlns="DAV:">', b""):
        with pytest.raises(Unreadable):
            resources([text])
    answer = (
        b'<?xml version="1.0"?><x:multistatus xmlns:x="DAV:" xmlns:o="other">'
        b"<x:response><x:href>https://host:8443/proxied/in/</x:href><x:propstat><x:prop><x:resourcetype>"
        b"<x:collection/></x:resourcetype></x:prop><x:status>HTTP/1.1 200 OK</x:status></x:propstat><x:propstat>"
        b"<x:prop><x:getcontentlength/></x:prop><x:status>HTTP/1.1 404 Not Found</x:status></x:propstat></x:response>"
        b"<x:response><x:href>/proxied/in/a%20%25%2Fb</x:href></x:response>"
        b"<x:response><x:href>/proxied/in/caf%C3%A9%3F.eml</x:href><x:propstat><x:prop><o:getcontentlength>7"
        b"</o:getcontentlength><x:getcontentlength>5</x:getcontentlength><x:resourcetype/></x:prop>"
        b"<x:status>HTTP/1.1 200 OK</x:status></x:propstat></x:response>"
        b"<x:response><x:href>/proxied/in/gone</x:href><x:status>HTTP/1.1 404 Not Found</x:status></x:response>"
        b"</x:multistatus>"
    )
    found = resources(bytes([octet]) for octet in answer)
    assert [(each.steps[-1], each.is_folder, each.size) for each in found] == [
        ("in", True, None),
        ("a %/b", False, None),
        ("café?.eml", False, 5),
    ]
    assert [each.steps[-1] for each in inside(found)] == ["café?.eml"]


# -------------------------------------------------------------------------------------------------------- connections


@pytest.mark.parametrize("after", [0, 100_000, 2_999_999])
@pytest.mark.parametrize("how", ["cut_after", "reset_after", "stall_after"])
def test_a_connection_that_breaks_in_the_middle_never_publishes_and_then_it_goes_on(
    plain: WebDav, shelf: Path, how: str, after: int
) -> None:
    where: dict[str, Any] = {how: after}
    with ChaosProxy(plain.port) as proxy, ExitStack() as stack:
        options = options_of(plain, port=proxy.port, options={"answerSeconds": 1})
        destination = stack.enter_context(closing(opened(options)))
        published_of(destination, batch_of(1), [put_of("a", "a")])
        proxy.drop_all()
        proxy.fault = Wrong(direction="up", **where)
        try:
            answer = destination.stage(batch_of(2), [put_of("a", "b", bytes(3_000_000))])["a"]
        except DestinationUnavailable:
            pass
        else:
            assert isinstance(answer, Trouble)
        proxy.fault = NO_FAULT
        proxy.drop_all()
        staged = staged_of(destination, batch_of(9), [put_of("a", "b", b"whole")])
        proxy.drop_all()
        assert isinstance(destination.publish(batch_of(9), staged)["a"], Receipt)
    assert Shelf(shelf).files() == {"a": b"content", "b": b"whole"}


def test_a_server_that_falls_silent_is_given_up(plain: WebDav) -> None:
    with ChaosProxy(plain.port) as proxy, ExitStack() as stack:
        options = options_of(plain, port=proxy.port, options={"answerSeconds": 1})
        tree = stack.enter_context(closing(tree_of(options)))
        assert tree.stat("a") is None
        proxy.fault = Wrong(stall_after=0)
        begun = time.monotonic()
        with pytest.raises(TreeError, match="said nothing for 1 s") as caught:
            tree.stat("a")
        assert caught.value.fault is Fault.GONE
        assert time.monotonic() - begun < 5
        proxy.fault = NO_FAULT
        assert tree.stat("a") is None


def test_connections_are_kept(plain: WebDav) -> None:
    with ChaosProxy(plain.port) as proxy, closing(opened(options_of(plain, port=proxy.port))) as destination:
        published_of(destination, batch_of(1), [put_of(f"p{number}", f"{number % 3}/{number}") for number in range(40)])
        assert proxy.connections <= 4


# ------------------------------------------------------------------------------------------------ confinement, secrets


def test_a_mailbox_of_the_service_does_not_reach_this_machine(plain: WebDav, shelf: Path, tmp_path: Path) -> None:
    options = options_of(plain, url=f"http://2130706433:{plain.port}/")

    def connector(**allowed: Any) -> Connector:
        return Connector(
            sources=Registry(SOURCES, ()),
            destinations=Registry(DESTINATIONS, (), webdav=WEBDAV),
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
    assert plain.asked == []
    with free.context(), closing(free.target(options).destination) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a")])
    assert set(Shelf(shelf).files()) == {"a"}

    (tmp_path / "files").mkdir()
    with pytest.raises(OutOfBounds):
        free.target(options_of(plain, options={"caFile": "/etc/hostname"}))


@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_no_secret_and_no_path_is_logged(shelf: Path, auth: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "httpcore.http11", "httpcore.connection"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    settings = {"auth": auth}
    with WebDav(shelf, auth=auth) as server:
        with closing(opened(options_of(server, options=settings))) as destination:
            published_of(destination, batch_of(1), [put_of("a", "about the takeover.eml")])
            assert server.password not in repr(destination) + destination.place
        wrong = options_of(server, password=Secret("a wrong one"), options=settings)
        with closing(opened(wrong)) as destination, pytest.raises(LoginRefused):
            destination.stage(batch_of(2), [put_of("a", "a")])
    assert server.password not in caplog.text
    assert "a wrong one" not in caplog.text
    assert "Basic " not in caplog.text
    assert "takeover" not in caplog.text


@pytest.mark.heavy
def test_a_large_file_passes_through_little_memory(shelf: Path, *, heavy: bool) -> None:
    size = 200_000_000 if heavy else 20_000_000
    piece = bytes(range(256)) * 1024
    count = size // len(piece)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.servers.webdav", str(shelf)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        options = DestinationOptions(
            type="webdav",
            url=f"http://{WebDav.user}@{LOOPBACK}:{port}/",
            password=Secret(WebDav.password),
            options={"tls": "none"},
        )
        with closing(tree_of(options)) as tree:
            made(tree, ".maildaemon/batch")
            tracemalloc.start()
            try:
                tree.write(".maildaemon/batch/part", (piece for _ in range(count)), count * len(piece))
                assert sum(map(len, tree.read(".maildaemon/batch/part"))) == count * len(piece)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert peak < 8_000_000, peak
