"""The destination ``sftp`` keeps the laws of destinations on real servers, and says in its own words what is wrong."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maildaemon_adapters.files.sftp import SFTP, SftpSettings, fingerprint, open_sftp, problems
from maildaemon_adapters.files.tree import Fault, Tree, TreeError
from maildaemon_core.codec import read, write
from maildaemon_core.confinement import Confinement, OutOfBounds
from maildaemon_core.engine.connecting import Connector
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, Registry
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.errors import DestinationUnavailable, InvalidOptions, LoginRefused, MaildaemonError, Trouble
from maildaemon_core.options import DestinationOptions, Secret
from maildaemon_core.ports import Destination, Level, Staged
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
from tests.contracts.remote import checked, closing, told, trouble_with
from tests.contracts.tree_laws import Outside, TreeLaws, made, written
from tests.servers.asyncssh_sftp import AsyncSftp
from tests.servers.mounting import mounted
from tests.servers.process import LOOPBACK, free_port
from tests.servers.proxy import NO_FAULT, ChaosProxy
from tests.servers.proxy import Fault as Wrong
from tests.servers.sshd import Sshd

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture(scope="module")
def passwords() -> Iterator[AsyncSftp]:
    """A server that knows passwords, and has neither a rename that replaces nor a sync."""
    with AsyncSftp({"jane": PASSWORD}, posix_rename=False) as server:
        yield server


def options_of(server: Sshd | AsyncSftp, root: Path, *, port: int = 0, **others: Any) -> DestinationOptions:
    """What an operator writes for a folder of this server; ``root`` is the folder on its disk."""
    known: dict[str, Any] = {"hostKey": [server.host_key]}
    if isinstance(server, Sshd):
        user, path = server.user, str(root)
        known |= {"privateKey": server.key.read_text()}
    else:
        user, path = "jane", f"/{root.relative_to(server.data)}"
        others = {"password": Secret(PASSWORD), **others}
    known |= others.pop("options", {})
    return DestinationOptions(
        **{
            "type": "sftp",
            "url": f"sftp://{user}@{LOOPBACK}:{port or server.port}{path}",
            "options": {name: value for name, value in known.items() if value is not None},
            **others,
        }
    )


def opened(options: DestinationOptions) -> Destination:
    return open_sftp(options, read(SftpSettings, options.options))


def tree_of(options: DestinationOptions) -> Tree:
    from maildaemon_adapters.files.server_url import read_url
    from maildaemon_adapters.files.sftp.tree import SftpTree

    return SftpTree(read_url(options, {"sftp"}, ""), options.password, read(SftpSettings, options.options))


@pytest.fixture
def folder(sshd: Sshd, request: pytest.FixtureRequest) -> Path:
    """An empty folder on the server's disk, which no other test has."""
    return fresh(sshd)


def fresh(server: Sshd | AsyncSftp) -> Path:
    folder = server.data / f"root-{time.monotonic_ns()}"
    folder.mkdir()
    return folder


# ----------------------------------------------------------------------------------------------------------------- laws


@pytest.mark.server
class TestOpensshTree(TreeLaws):
    @pytest.fixture
    def tree(self, sshd: Sshd, folder: Path) -> Iterator[Tree]:
        with closing(tree_of(options_of(sshd, folder))) as tree:
            yield tree

    @pytest.fixture
    def outside(self, folder: Path) -> Outside:
        return Disk(folder)


@pytest.mark.heavy
class TestAsyncsshTree(TreeLaws):
    much_alike = True

    @pytest.fixture
    def folder(self, passwords: AsyncSftp) -> Path:
        return fresh(passwords)

    @pytest.fixture
    def tree(self, passwords: AsyncSftp, folder: Path) -> Iterator[Tree]:
        with closing(tree_of(options_of(passwords, folder))) as tree:
            yield tree

    @pytest.fixture
    def outside(self, folder: Path) -> Outside:
        return Disk(folder)


@pytest.mark.server
class TestOpenssh(DiesInside, DestinationConformance):
    @pytest.fixture
    def destination(self, sshd: Sshd, folder: Path) -> Iterator[Destination]:
        with closing(opened(options_of(sshd, folder))) as destination:
            yield destination

    @pytest.fixture
    def colleague(self, sshd: Sshd, folder: Path) -> Iterator[Destination]:
        with closing(opened(options_of(sshd, folder, verify="digest"))) as destination:
            yield destination

    @pytest.fixture
    def consumer(self, folder: Path) -> Consumer:
        return Shelf(folder)


class TestAsyncssh(DiesInside, DestinationConformance):
    much_alike = True

    @pytest.fixture
    def folder(self, passwords: AsyncSftp) -> Path:
        return fresh(passwords)

    @pytest.fixture
    def destination(self, passwords: AsyncSftp, folder: Path) -> Iterator[Destination]:
        with closing(opened(options_of(passwords, folder))) as destination:
            yield destination

    @pytest.fixture
    def colleague(self, passwords: AsyncSftp, folder: Path) -> Iterator[Destination]:
        with closing(opened(options_of(passwords, folder))) as destination:
            yield destination

    @pytest.fixture
    def consumer(self, folder: Path) -> Consumer:
        return Shelf(folder)


# -------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("changed", "path", "said"),
    [
        ({"url": "ftp://jane@host/x"}, "$.url", "sftp://"),
        ({"url": "sftp://jane@host/x/../y"}, "$.url", "start with a dot"),
        ({"url": "sftp://host/x"}, "$.username", "needs a user"),
        ({"password": None}, "$.password", "options.privateKey"),
        ({"options": {"passphrase": "x"}}, "$.options.passphrase", "no options.privateKey"),
        ({"options": {"knownHosts": "known_hosts"}}, "$.options.knownHosts", "full path"),
        ({"options": {"knownHosts": "/k", "hostKey": ["SHA256:" + "a" * 43]}}, "$.options.knownHosts", "leave one"),
        ({"options": {"hostKey": ["MD5:00:11"]}}, "$.options.hostKey[0]", "ssh-keygen -lf"),
    ],
)
def test_what_is_wrong_with_the_options_is_said_where_it_stands(changed: dict[str, Any], path: str, said: str) -> None:
    given = {"type": "sftp", "url": "sftp://jane@host/x", "password": Secret("x"), **changed}
    options = DestinationOptions(**given)
    settings = read(SftpSettings, options.options)
    (problem,) = problems(options, settings)
    assert problem.path == path
    assert said in problem.message
    with pytest.raises(InvalidOptions):
        open_sftp(options, settings)


def test_nothing_but_the_kinds_own_settings_is_taken() -> None:
    for name in ("proxy_command", "proxyCommand", "clientKeys", "config"):
        with pytest.raises(InvalidOptions):
            read(SftpSettings, {name: "x"})


def test_a_key_and_its_fingerprint_are_the_same_to_it(sshd: Sshd) -> None:
    printed = subprocess.run(
        ["ssh-keygen", "-lf", str(sshd.root / "host.pub")], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert fingerprint(sshd.host_key) == fingerprint(printed) == fingerprint(f"{sshd.host_key} a comment") == printed
    assert fingerprint("ssh-ed25519 no base64!") is None


def test_the_library_is_loaded_only_when_it_is_used() -> None:
    code = "import sys, maildaemon_adapters.files.sftp; sys.exit('asyncssh' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0


def test_the_settings_show_no_secret() -> None:
    settings = read(SftpSettings, {"privateKey": "-----BEGIN", "passphrase": "hush"})
    assert "BEGIN" not in repr(settings)
    assert "hush" not in repr(settings)
    assert "hush" not in str(write(settings))


# ------------------------------------------------------------------------------------------------------ what is wrong


@pytest.mark.server
def test_each_thing_that_is_wrong_has_words_of_its_own(sshd: Sshd, folder: Path, tmp_path: Path) -> None:
    good = options_of(sshd, folder)
    other = Sshd.make_key(tmp_path / "other")
    locked = Sshd.make_key(tmp_path / "locked", "a phrase").read_text()

    def with_settings(**changed: Any) -> DestinationOptions:
        return options_of(sshd, folder, options=changed)

    answers = [
        told(opened(options_of(sshd, folder, url=f"sftp://jane@no-such-host.invalid{folder}"))),
        told(opened(options_of(sshd, folder, port=free_port()))),
        told(opened(options_of(sshd, folder, url=f"sftp://nobody-here@{LOOPBACK}:{sshd.port}{folder}"))),
        told(opened(with_settings(privateKey=other.read_text()))),
        told(opened(with_settings(privateKey="-----BEGIN NONSENSE-----"))),
        told(opened(with_settings(privateKey=locked))),
        told(opened(with_settings(privateKey=locked, passphrase="another"))),
        told(opened(with_settings(hostKey=["SHA256:" + "a" * 43]))),
        told(opened(with_settings(hostKey=None, knownHosts=str(tmp_path / "absent")))),
    ]
    words = [
        "DestinationUnavailable: .*does not resolve",
        "DestinationUnavailable: .*nothing listens",
        "LoginRefused: .*does not accept this private key for the user 'nobody-here'",
        "LoginRefused: .*does not accept this private key for the user",
        "LoginRefused: .*privateKey is none that can be read",
        "LoginRefused: .*privateKey is encrypted",
        "LoginRefused: .*does not open with options.passphrase",
        "options.hostKey expects another",
        "known hosts in .*absent cannot be read",
    ]
    for answer, word in zip(answers, words, strict=True):
        assert re.search(word, answer), answer
    assert len(set(answers)) == len(answers)
    with closing(opened(good)) as destination:
        assert all(finding.level is not Level.FAULT for finding in destination.check())


@pytest.mark.server
@pytest.mark.parametrize("ending", ["\n", "", "\r\n"])
def test_an_encrypted_key_opens_with_its_passphrase(sshd: Sshd, folder: Path, tmp_path: Path, ending: str) -> None:
    key = Sshd.make_key(tmp_path / "locked", "a phrase")
    with (sshd.root / "authorized_keys").open("a") as keys:
        keys.write(key.with_suffix(".pub").read_text())
    text = key.read_text().rstrip("\n").replace("\n", ending or "\n") + ending
    options = options_of(sshd, folder, options={"privateKey": text, "passphrase": "a phrase"})
    with closing(opened(options)) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a")])


def test_a_wrong_password_is_told_and_a_changed_one_takes_effect() -> None:
    with AsyncSftp({"jane": PASSWORD}) as server:
        folder = fresh(server)
        good = options_of(server, folder)
        with closing(opened(good)) as destination:
            published_of(destination, batch_of(1), [put_of("a", "a")])
            server.users["jane"] = "another"
            assert "does not accept this password for the user 'jane'" in told(opened(good))
            with closing(opened(options_of(server, folder, password=Secret("another")))) as changed:
                published_of(changed, batch_of(2), [put_of("a", "b")])
        assert set(Shelf(folder).files()) == {"a", "b"}


def test_an_unknown_server_is_not_given_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with AsyncSftp({"jane": PASSWORD}) as server:
        folder = fresh(server)
        unpinned = options_of(server, folder, options={"hostKey": None})
        answer = told(opened(unpinned))
        assert "is not known: ssh-ed25519 SHA256:" in answer
        shown = re.search(r"SHA256:[A-Za-z0-9+/]{43}", answer)
        assert shown is not None
        assert fingerprint(server.host_key) == shown[0]

        (tmp_path / ".ssh").mkdir()
        with AsyncSftp({}) as stranger:
            (tmp_path / ".ssh" / "known_hosts").write_text(f"# ours\n[{LOOPBACK}]:{server.port} {stranger.host_key}\n")
        assert "known_hosts knows another" in told(opened(unpinned))
        assert server.logins == 0

        (tmp_path / ".ssh" / "known_hosts").write_text(server.known_hosts)
        with closing(opened(unpinned)) as destination:
            published_of(destination, batch_of(1), [put_of("a", "a")])
        (tmp_path / "mine").write_text(server.known_hosts)
        (tmp_path / ".ssh" / "known_hosts").unlink()
        named = options_of(server, folder, options={"hostKey": None, "knownHosts": str(tmp_path / "mine")})
        with closing(opened(named)) as destination:
            published_of(destination, batch_of(2), [put_of("a", "b")])


@pytest.mark.server
def test_a_server_without_sftp_says_so() -> None:
    with Sshd(sftp=False) as server:
        assert "but offers no SFTP" in told(opened(options_of(server, fresh(server))))


@pytest.mark.heavy
def test_something_else_than_ssh_behind_the_port_is_told_in_time(*, heavy: bool) -> None:
    with AsyncSftp({"jane": PASSWORD}) as server, ChaosProxy(server.port) as proxy:
        patience = {} if heavy else {"connectSeconds": 1}
        options = options_of(server, fresh(server), port=proxy.port, options=patience)
        proxy.fault = Wrong(stall_after=0)
        assert f"did not answer within {7 if heavy else 1} s" in checked(opened(options))
        proxy.fault = Wrong(cut_after=0)
        assert "broke the connection off before anybody was logged in" in checked(opened(options))


def test_a_server_that_falls_silent_is_given_up() -> None:
    with AsyncSftp({"jane": PASSWORD}) as server:
        options = options_of(server, fresh(server), options={"answerSeconds": 1})
        with closing(tree_of(options)) as tree:
            assert tree.stat("a") is None
            server.silent = True
            begun = time.monotonic()
            with pytest.raises(TreeError, match="did not answer within 1 s") as caught:
                tree.stat("a")
            assert caught.value.fault is Fault.GONE
            assert time.monotonic() - begun < 5
            server.silent = False
            assert tree.stat("a") is None


def test_a_server_whose_sftp_ends_while_the_connection_stays_is_connected_to_anew() -> None:
    with AsyncSftp({"jane": PASSWORD}) as server, closing(tree_of(options_of(server, fresh(server)))) as tree:
        assert tree.stat("a") is None
        server.crashes = 1
        with pytest.raises(TreeError) as caught:
            tree.stat("a")
        assert caught.value.fault is Fault.GONE
        assert tree.stat("a") is None


# ------------------------------------------------------------------------------------------- rights, room, links, names


@pytest.mark.server
def test_a_full_disk_is_told_and_leaves_nothing_and_goes_on_by_itself(sshd: Sshd, folder: Path) -> None:
    with mounted(folder, lazy=True), closing(opened(options_of(sshd, folder))) as destination:
        trouble = trouble_with(destination, bytes(3_000_000))
        assert (trouble.error, trouble.transient) == ("DestinationFull", True)
        assert "no room left" in trouble.message
        assert Disk(folder).files() == {} or all("a" not in path.split("/") for path in Disk(folder).files())
        published_of(destination, batch_of(2), [put_of("a", "a", bytes(1_000_000))])
        (folder / "ballast").write_bytes(bytes(950_000))
        assert trouble_with(destination, bytes(500_000), number=3).error == "DestinationFull"
        (folder / "ballast").unlink()
        published_of(destination, batch_of(4), [put_of("a", "b", bytes(500_000))])


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("No space left on device", "DestinationFull"),
        ("Disk quota exceeded", "DestinationFull"),
        ("Infected with Eicar-Test-Signature", "FileRefused"),
        ("Failure", "DestinationFailed"),
    ],
)
def test_what_a_server_says_of_one_file_is_understood(said: str, error: str) -> None:
    with AsyncSftp({"jane": PASSWORD}) as server:
        folder = fresh(server)
        with closing(opened(options_of(server, folder))) as destination:
            published_of(destination, batch_of(1), [put_of("a", "before")])
            server.fault, server.fail_after = said, 1_000_000
            assert trouble_with(destination, bytes(3_000_000), number=2).error == error
            server.fail_after = None
            published_of(destination, batch_of(3), [put_of("a", "after")])
        assert set(Shelf(folder).files()) == {"before", "after"}


def test_missing_rights_are_told_apart() -> None:
    with AsyncSftp({"jane": PASSWORD}) as server:
        folder = fresh(server)
        with closing(opened(options_of(server, folder))) as destination:
            published_of(destination, batch_of(1), [put_of("a", "a")])
            server.denied = True
            with pytest.raises(DestinationUnavailable, match="the user 'jane' may not do that"):
                destination.stage(batch_of(2), [put_of("a", "b")])
            assert any("may not do that" in finding.message for finding in destination.check())


@pytest.mark.parametrize("via", ["folder", "staging"])
def test_no_link_leads_out_of_the_root(passwords: AsyncSftp, via: str) -> None:
    folder, away = fresh(passwords), fresh(passwords)
    (folder / ("link" if via == "folder" else ".maildaemon")).symlink_to(f"../{away.name}")
    with closing(opened(options_of(passwords, folder))) as destination:
        for number, path in enumerate(("link/a", "link/new/a")):
            try:
                staged = staged_of(destination, batch_of(number), [put_of("a", path)])
            except (AssertionError, MaildaemonError):
                assert via == "staging"
                continue
            answer = destination.publish(batch_of(number), staged)["a"]
            assert isinstance(answer, Trouble)
            assert answer.error == "PathBlocked"
    assert list(away.rglob("*")) == []


def test_a_link_that_stays_within_is_as_good_as_a_folder(passwords: AsyncSftp) -> None:
    folder = fresh(passwords)
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    with closing(tree_of(options_of(passwords, folder))) as tree:
        written(tree, ".maildaemon/batch/part")
        tree.publish(".maildaemon/batch/part", "link/a")
    assert set(Disk(folder).files()) == {"real/a"}


@pytest.mark.server
def test_the_root_may_be_a_link_of_its_operator_and_is_made_when_it_is_missing(sshd: Sshd, folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    for root in (folder / "link", folder / "link" / "new" / "one"):
        with closing(opened(options_of(sshd, root))) as destination:
            published_of(destination, batch_of(1), [put_of("a", "into/a")])
    assert {path for path in Disk(folder).files() if "maildaemon" not in path} == {
        "real/into/a",
        "real/new/one/into/a",
    }


@pytest.mark.server
def test_a_name_that_is_too_long_is_said_so(sshd: Sshd, folder: Path) -> None:
    with closing(tree_of(options_of(sshd, folder))) as tree, pytest.raises(TreeError) as caught:
        tree.write("a" * 256, [b""])
    assert caught.value.fault is Fault.NAME


def test_a_home_is_written_as_a_tilde(passwords: AsyncSftp) -> None:
    folder = fresh(passwords)
    options = options_of(passwords, folder, url=f"sftp://jane@{LOOPBACK}:{passwords.port}/~/{folder.name}")
    with closing(opened(options)) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a")])
    assert set(Shelf(folder).files()) == {"a"}


# --------------------------------------------------------------------------------------------- what it cannot promise


@pytest.mark.server
def test_a_server_that_promises_everything_gives_no_warning(sshd: Sshd, folder: Path) -> None:
    with closing(opened(options_of(sshd, folder))) as destination:
        assert {finding.level for finding in destination.check()} == {Level.FINE}
    assert Disk(folder).files() == {}


def test_what_a_server_cannot_promise_is_said() -> None:
    with AsyncSftp({"jane": PASSWORD}, replacing=True, syncs=False) as server:
        folder = fresh(server)
        with closing(tree_of(options_of(server, folder))) as tree:
            messages = " ".join(finding.message for finding in tree.findings())
            assert "cannot be asked to sync" in messages
            assert "renames over files" in messages
            Disk(folder).put("taken", b"theirs")
            written(tree, ".maildaemon/batch/part")
            with pytest.raises(TreeError) as caught:
                tree.publish(".maildaemon/batch/part", "taken")
            assert caught.value.fault is Fault.EXISTS
        assert Disk(folder).files()["taken"] == b"theirs"


# ---------------------------------------------------------------------------------------------------- connections


@pytest.mark.server
def test_a_connection_that_breaks_in_the_middle_costs_one_call_and_no_line_in_the_log(
    sshd: Sshd, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ChaosProxy(sshd.port) as proxy, closing(opened(options_of(sshd, folder, port=proxy.port))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a")])
        for number, after in enumerate((200_000, 1_000_000, 3_000_000), 2):
            proxy.drop_all()
            proxy.fault = Wrong(direction="up", cut_after=after)
            with pytest.raises(DestinationUnavailable):
                destination.stage(batch_of(number), [put_of("a", "b", bytes(5_000_000))])
        proxy.fault = NO_FAULT
        staged = staged_of(destination, batch_of(9), [put_of("a", "b", b"whole")])
        proxy.drop_all()
        time.sleep(0.1)
        assert isinstance(destination.publish(batch_of(9), staged)["a"], Receipt)
    assert Shelf(folder).files() == {"a": b"content", "b": b"whole"}
    assert caplog.records == []


@pytest.mark.server
def test_it_keeps_to_one_connection(sshd: Sshd, folder: Path) -> None:
    with ChaosProxy(sshd.port) as proxy, closing(opened(options_of(sshd, folder, port=proxy.port))) as destination:
        puts = [put_of(f"p{number}", f"{number % 3}/{number}") for number in range(40)]
        published_of(destination, batch_of(1), puts)
        assert proxy.connections == 1
        destination.close()
        assert isinstance(destination.stage(batch_of(2), [put_of("a", "x")])["a"], Staged)
        assert proxy.connections == 2


def test_a_mailbox_of_the_service_does_not_reach_this_machine(passwords: AsyncSftp, tmp_path: Path) -> None:
    folder = fresh(passwords)
    options = options_of(passwords, folder, url=f"sftp://jane@2130706433:{passwords.port}/{folder.name}")

    def connector(**allowed: Any) -> Connector:
        return Connector(
            sources=Registry(SOURCES, ()),
            destinations=Registry(DESTINATIONS, (), sftp=SFTP),
            spool=FolderSpool(tmp_path / "spool"),
            read_secret=lambda secret: secret,
            confinement=Confinement(files=(str(tmp_path / "files"),), **allowed),
        )

    logins = passwords.logins
    strict, free = connector(), connector(allow_networks=("127.0.0.0/8",))
    with strict.context(), closing(strict.target(options).destination) as destination:
        with pytest.raises(DestinationUnavailable, match="is this machine itself"):
            destination.stage(batch_of(1), [put_of("a", "a")])
        (finding,) = destination.check()
        assert finding.remedy == "its operator can allow more: allowNetworks"
    assert passwords.logins == logins
    with free.context(), closing(free.target(options).destination) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a")])
    assert set(Shelf(folder).files()) == {"a"}

    (tmp_path / "files").mkdir()
    elsewhere = options_of(passwords, folder, options={"hostKey": None, "knownHosts": "/etc/hostname"})
    with pytest.raises(OutOfBounds):
        free.target(elsewhere)


def test_no_secret_and_no_path_is_logged(passwords: AsyncSftp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    folder = fresh(passwords)
    options = options_of(passwords, folder)
    logging.getLogger("asyncssh").setLevel(logging.DEBUG)
    with closing(opened(options)) as destination:
        published_of(destination, batch_of(1), [put_of("a", "about the takeover.eml")])
        assert PASSWORD not in repr(destination) + destination.place
    wrong = options_of(passwords, folder, password=Secret("a wrong one"))
    with closing(opened(wrong)) as destination, pytest.raises(LoginRefused):
        destination.stage(batch_of(2), [put_of("a", "a")])
    assert PASSWORD not in caplog.text
    assert "a wrong one" not in caplog.text
    assert "takeover" not in caplog.text


@pytest.mark.heavy
@pytest.mark.server
def test_a_large_file_passes_through_little_memory(sshd: Sshd, folder: Path, *, heavy: bool) -> None:
    size = 200_000_000 if heavy else 20_000_000
    piece = bytes(range(256)) * 1024
    with closing(tree_of(options_of(sshd, folder))) as tree:
        made(tree, ".maildaemon/batch")
        tracemalloc.start()
        try:
            tree.write(".maildaemon/batch/part", (piece for _ in range(size // len(piece))))
            assert sum(map(len, tree.read(".maildaemon/batch/part"))) == size // len(piece) * len(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 32_000_000, peak
