"""Connections are judged where they are made, whoever makes them; files where they really lie, when they are opened."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.confinement import Confinement, ConnectionForbidden, OutOfBounds
from maildaemon_core.engine.confining import confined, confining, real_file, real_place, trusted
from maildaemon_core.engine.connecting import Connector
from maildaemon_core.engine.lanes import Lanes
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, Registry
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.options import DestinationOptions, KindFacts, MailArchiving, MailboxOptions, Secret
from maildaemon_core.ports import Destination, Kind, MailSource, Spool
from maildaemon_core.testing.memory_destination import MemoryDestination
from maildaemon_core.testing.memory_source import MemoryServer, MemorySource

BY_DEFAULT = Confinement()
LOCAL = Confinement(allow_networks=("127.0.0.1/32",))
LOOPBACK = "127.0.0.1"


@pytest.fixture
def listening() -> Iterator[tuple[str, int]]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[:2]


def connect(address: tuple[str, int]) -> str:
    with socket.create_connection(address, timeout=5):
        return "connected"


# ---- connections ----


def test_a_confined_connection_is_refused_and_says_why_and_who_can_allow_it(listening: tuple[str, int]) -> None:
    assert connect(listening) == "connected"
    with (
        confined(BY_DEFAULT),
        pytest.raises(ConnectionForbidden, match=r"127\.0\.0\.1 is this machine itself.*allowNet"),
    ):
        connect(listening)
    assert connect(listening) == "connected"


def test_the_innermost_word_counts_and_ends_where_it_ends(listening: tuple[str, int]) -> None:
    with confined(BY_DEFAULT):
        with confined(LOCAL):
            assert connect(listening) == "connected"
            with trusted():
                assert connect(listening) == "connected"
                assert confining() is None
        with pytest.raises(ConnectionForbidden):
            connect(listening)
    assert confining() is None


@pytest.mark.parametrize(
    "name", ["localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "0", "", b"127.0.0.1"]
)
def test_no_spelling_gets_through(listening: tuple[str, int], name: Any) -> None:
    port = listening[1]
    with confined(BY_DEFAULT):
        with socket.socket() as plain, pytest.raises(ConnectionForbidden):
            plain.connect((name, port))
        with socket.socket() as plain, pytest.raises(ConnectionForbidden):
            plain.connect_ex((name, port))
        if name and isinstance(name, str):  # and none that the resolver understands
            with pytest.raises(ConnectionForbidden):
                connect((name, port))


def test_what_a_library_connects_to_by_name_cannot_be_judged_and_is_refused(listening: tuple[str, int]) -> None:
    with confined(LOCAL):
        with socket.socket() as plain, pytest.raises(ConnectionForbidden, match="'localhost' is connected to by name"):
            plain.connect(("localhost", listening[1]))
        assert connect(("localhost", listening[1])) == "connected"  # looked up first, as nearly all of them do
        with socket.socket() as plain:
            plain.connect((b"127.0.0.1", listening[1]))


def test_mapped_and_scoped_addresses_are_judged_by_what_they_lead_to(listening: tuple[str, int]) -> None:
    for address in ((f"::ffff:{LOOPBACK}", listening[1], 0, 0), ("::1", listening[1], 0, 0), ("fe80::1", 25, 0, 1)):
        with (
            confined(BY_DEFAULT),
            socket.socket(socket.AF_INET6) as plain,
            pytest.raises(ConnectionForbidden, match=r"this machine itself|link-local"),
        ):
            plain.connect(address)


def test_sockets_of_the_machine_are_refused_even_where_all_networks_are_allowed(tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / "s")  # a socket's name must be short
    everything = Confinement(allow_networks=("0.0.0.0/0", "::/0", "127.0.0.0/8"))
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        with confined(everything):
            with pytest.raises(ConnectionForbidden, match="is no server of a network"):
                client.connect(path)
            one, other = socket.socketpair()  # what event loops wake themselves with
        one.close()
        other.close()
        client.connect(path)


def test_datagrams_are_judged_but_for_questions_to_the_name_service(listening: tuple[str, int]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
        receiver.bind((LOOPBACK, 0))
        with confined(BY_DEFAULT):
            with pytest.raises(ConnectionForbidden):
                sender.sendto(b"x", receiver.getsockname())
            with pytest.raises(ConnectionForbidden):
                sender.sendmsg([b"x"], [], 0, receiver.getsockname())
            sender.sendto(b"x", (LOOPBACK, 53))
        with confined(LOCAL):
            sender.sendto(b"x", receiver.getsockname())
            sender.sendmsg([b"x"], [], 0, receiver.getsockname())
    with confined(BY_DEFAULT), socket.socket() as stream, pytest.raises(ConnectionForbidden):
        stream.sendto(b"x", socket.MSG_FASTOPEN, (LOOPBACK, 53))  # connects


def test_what_is_open_already_stays_so(listening: tuple[str, int]) -> None:
    with socket.create_connection(listening) as plain, confined(BY_DEFAULT):
        plain.sendall(b"x")
        plain.sendmsg([b"x"])


@pytest.mark.parametrize("confinement", [BY_DEFAULT, LOCAL])
def test_lanes_and_event_loops_of_other_threads_work_under_the_word_of_who_asks(
    listening: tuple[str, int], confinement: Confinement
) -> None:
    async def dial() -> str:
        _, writer = await asyncio.open_connection(*listening)
        writer.close()
        await writer.wait_closed()
        return "connected"

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with Lanes(2, "lane") as lanes, confined(confinement):
            asked = [lanes.submit(connect, listening), asyncio.run_coroutine_threadsafe(dial(), loop)]
            with trusted():
                assert lanes.submit(connect, listening).result(5) == "connected"
                assert asyncio.run_coroutine_threadsafe(dial(), loop).result(5) == "connected"
            for future in asked:
                if confinement is LOCAL:
                    assert future.result(5) == "connected"
                else:
                    with pytest.raises(ConnectionForbidden):
                        future.result(5)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def in_a_process_of_its_own(story: str) -> None:
    setup = """
import socket, sys, threading
from maildaemon_core.confinement import Confinement, ConnectionForbidden
from maildaemon_core.engine.confining import confine_process, confined, trusted
server = socket.create_server(("127.0.0.1", 0))
def dial():
    try:
        socket.create_connection(server.getsockname(), 5).close()
    except ConnectionForbidden:
        return "forbidden"
    return "connected"
def in_a_thread():
    said = []
    thread = threading.Thread(target=lambda: said.append(dial()))
    thread.start()
    thread.join()
    return said[0]
"""
    run = subprocess.run([sys.executable, "-c", setup + story], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_confined_process_confines_whatever_nothing_was_said_about() -> None:
    in_a_process_of_its_own("""
assert dial() == in_a_thread() == "connected"
confine_process(Confinement())
assert dial() == in_a_thread() == "forbidden"
with trusted():
    assert dial() == "connected"
    assert in_a_thread() == "forbidden"  # a thread of a library knows nothing of what it is for
with confined(Confinement(allow_networks=("127.0.0.1",))):
    assert dial() == "connected"
confine_process(None)
assert dial() == in_a_thread() == "connected"
""")


def test_connections_are_judged_until_the_process_ends() -> None:
    in_a_process_of_its_own("""
confine_process(Confinement())
import atexit
atexit.register(lambda: None if dial() == "forbidden" else sys.stderr.write("connected"))
""")


def test_a_process_that_lets_no_hook_be_added_is_told_that_it_cannot_confine() -> None:
    in_a_process_of_its_own("""
def jealous(event, arguments):
    if event == "sys.addaudithook":
        raise RuntimeError("mine alone")
sys.addaudithook(jealous)
try:
    confine_process(Confinement())
except RuntimeError as error:
    assert "nothing can be confined" in str(error)
else:
    raise AssertionError("it says nothing")
""")


# ---- files ----


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """A folder for mailboxes, ``data``, and beside it what is none of theirs."""
    for name in ("data/inside", "elsewhere/etc", "certificates"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "certificates" / "ca.pem").write_text("a certificate")
    (tmp_path / "elsewhere" / "secret").write_text("hunter2")
    return tmp_path


steps = st.sampled_from(["inside", "away", "up", "loop", "..", ".", "", "x", ".hidden", "self"])


@given(st.lists(steps, max_size=6).map("/".join), st.booleans())
def test_a_path_really_lies_below_the_folder_or_is_refused(path: str, absolute: bool) -> None:
    with TemporaryDirectory() as folder:
        top = Path(folder)
        (top / "elsewhere" / "x").mkdir(parents=True)
        (top / "data" / "inside").mkdir(parents=True)
        (top / "data" / ".hidden").mkdir()
        for name, target in (("away", "../elsewhere"), ("up", ".."), ("loop", "loop"), ("self", ".")):
            (top / "data" / name).symlink_to(target)
        (top / "data" / "inside" / "away").symlink_to(top / "elsewhere")
        (top / "link").symlink_to("data")
        try:
            real = real_place(f"{top}/link/{path}" if absolute else path, [str(top / "link")])
        except OutOfBounds:
            return
        data = os.path.realpath(top / "data")
        assert real == os.path.realpath(real)
        assert real == data or real.startswith(f"{data}/")
        assert "/." not in real.removeprefix(data)


def test_a_file_is_a_file(ground: Path) -> None:
    folders = [str(ground / "certificates")]
    assert real_file("ca.pem", folders) == str(ground / "certificates" / "ca.pem")
    assert real_file("missing.pem", folders) == str(ground / "certificates" / "missing.pem")
    os.mkfifo(ground / "certificates" / "pipe")
    (ground / "certificates" / "link").symlink_to("pipe")
    for name in ("pipe", "link", "."):
        with pytest.raises(OutOfBounds, match="is no file"):
            real_file(name, folders)


# ---- the connector ----


@attrs.frozen(kw_only=True)
class Settings:
    ca_file: str | None = attrs.field(default=None, metadata={"local_path": True})
    token: Secret | None = None


class World:
    """Adapters that remember what they were opened with, and under which word."""

    def __init__(self, confinement: Confinement | None) -> None:
        self.opened: list[tuple[Any, Settings]] = []
        self.words: list[Confinement | None] = []
        self.place: Callable[[str], str] = lambda url: f"file:{url}"
        facts = KindFacts(needs_host=False, needs_login=False, needs_path=True)
        self.connector = Connector(
            sources=Registry(SOURCES, (), maildir=Kind(settings=Settings, open=self._source, facts=facts)),
            destinations=Registry(DESTINATIONS, (), file=Kind(settings=Settings, open=self._destination, facts=facts)),
            spool=FolderSpool(),
            read_secret=lambda secret: secret,
            confinement=confinement,
        )

    def _source(self, options: MailboxOptions, settings: Settings, spool: Spool) -> MailSource:
        self.opened.append((options, settings))
        self.words.append(confining())
        return MemorySource(MemoryServer(), spool)

    def _destination(self, options: DestinationOptions, settings: Settings) -> Destination:
        self.opened.append((options, settings))
        self.words.append(confining())
        return MemoryDestination(self.place(options.url or ""))


def bounds(ground: Path, **others: Any) -> Confinement:
    return Confinement(roots=(str(ground / "data"),), files=(str(ground / "certificates"),), **others)


def maildir(path: str = "inside", url: str = "inside", **others: Any) -> MailboxOptions:
    return MailboxOptions(
        type="maildir",
        path=path,
        mail_archiving=MailArchiving(active=True),
        destinations=(DestinationOptions(url=url),),
        **others,
    )


def paths_of(connector: Connector, options: MailboxOptions) -> Sequence[str]:
    return sorted(problem.path for problem in connector.problems(options))


def test_relative_places_begin_at_the_services_folder_and_stay_as_they_were_written(ground: Path) -> None:
    world = World(bounds(ground))
    options = maildir(options={"caFile": "ca.pem"})
    assert world.connector.problems(options) == []
    world.connector.source(options)
    target = world.connector.target(options.destinations[0])
    assert [getattr(one, "path", None) or one.url for one, _ in world.opened] == [str(ground / "data" / "inside")] * 2
    assert world.opened[0][1].ca_file == str(ground / "certificates" / "ca.pem")
    assert target.options.url == "inside"
    assert world.words == [bounds(ground)] * 2
    assert confining() is None


def test_without_confinement_everything_stays_as_it_is_and_is_trusted(ground: Path) -> None:
    world = World(None)
    options = maildir(path="../x", url="file:///srv/a%20b", options={"caFile": "/etc/ca.pem"})
    assert world.connector.problems(options) == []
    with confined(BY_DEFAULT):
        world.connector.source(options)
        world.connector.target(options.destinations[0])
        with world.connector.context():
            world.words.append(confining())
    assert [getattr(one, "path", None) or one.url for one, _ in world.opened] == ["../x", "file:///srv/a%20b"]
    assert world.opened[0][1].ca_file == "/etc/ca.pem"
    assert world.words == [None] * 3


@pytest.mark.parametrize(
    "place", ["/etc", "../elsewhere", "file:///etc", "away", "away/etc", "~/x", ".git", "mbox:///a/.b"]
)
def test_places_elsewhere_are_told_with_their_paths_and_never_opened(ground: Path, place: str) -> None:
    (ground / "data" / "away").symlink_to(ground / "elsewhere")
    world = World(bounds(ground))
    options = maildir(path=place, url=place)
    assert paths_of(world.connector, options) == ["$.destinations[0].url", "$.path"]
    assert all(problem.message for problem in world.connector.problems(options))
    with pytest.raises(OutOfBounds):
        world.connector.source(options)
    with pytest.raises(OutOfBounds):
        world.connector.target(options.destinations[0])
    assert world.opened == []


@pytest.mark.parametrize("file", ["/etc/passwd", "../elsewhere/secret", "link.pem", "pipe"])
def test_a_setting_that_names_a_file_leads_nowhere_else(ground: Path, file: str) -> None:
    (ground / "certificates" / "link.pem").symlink_to(ground / "elsewhere" / "secret")
    os.mkfifo(ground / "certificates" / "pipe")
    world = World(bounds(ground))
    options = maildir(options={"caFile": file})
    assert paths_of(world.connector, options) == ["$.options.caFile"]
    with pytest.raises(OutOfBounds):
        world.connector.source(options)
    assert world.opened == []


def test_where_no_files_are_allowed_none_is_even_looked_at(ground: Path) -> None:
    world = World(Confinement())
    options = maildir(options={"caFile": "ca.pem"})
    assert paths_of(world.connector, options) == ["$.destinations[0].url", "$.options.caFile", "$.path"]


def test_kinds_that_were_allowed_once_are_looked_at_again_when_they_are_opened(ground: Path) -> None:
    world = World(bounds(ground, sources=("imap",), destinations=()))
    assert paths_of(world.connector, maildir()) == ["$.destinations[0].type", "$.type"]
    with pytest.raises(OutOfBounds, match="type: this service allows sources of these kinds only: imap"):
        world.connector.source(maildir())
    with pytest.raises(OutOfBounds, match="type: this service allows destinations"):
        world.connector.target(maildir().destinations[0])
    assert world.opened == []


def test_a_destination_that_turns_out_to_be_elsewhere_is_not_used(ground: Path) -> None:
    world = World(bounds(ground))
    world.place = lambda url: f"file:{ground / 'elsewhere'}"
    with pytest.raises(OutOfBounds):
        world.connector.target(DestinationOptions(url="inside"))
