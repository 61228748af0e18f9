"""The destination ``smb`` keeps the laws of destinations on a real Samba, and says in its own words what is wrong."""

from __future__ import annotations

import logging
import os
import pwd
import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from maildaemon_adapters.files.server_url import read_url
from maildaemon_adapters.files.smb import SMB, SmbSettings, open_smb, problems
from maildaemon_adapters.files.smb.status import fault_of
from maildaemon_adapters.files.smb.status import told as told_status
from maildaemon_adapters.files.smb.tree import SmbTree
from maildaemon_adapters.files.tree import Fault, Tree, TreeError
from maildaemon_core.codec import read
from maildaemon_core.confinement import Confinement
from maildaemon_core.engine.connecting import Connector
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, Registry
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.errors import DestinationUnavailable, InvalidOptions, LoginRefused
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
from tests.servers.mounting import mounted
from tests.servers.process import LOOPBACK, free_port
from tests.servers.proxy import NO_FAULT, ChaosProxy
from tests.servers.proxy import Fault as Wrong
from tests.servers.samba import Samba

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def samba() -> Iterator[Samba]:
    with Samba() as server:
        yield server


def fresh(server: Samba) -> Path:
    """An empty folder in the share, which belongs to its user and which no other test has."""
    folder = server.data / f"root-{time.monotonic_ns()}"
    folder.mkdir()
    account = pwd.getpwnam(server.user)
    os.chown(folder, account.pw_uid, account.pw_gid)
    return folder


@pytest.fixture
def folder(samba: Samba) -> Path:
    return fresh(samba)


def options_of(server: Samba, root: Path, *, port: int = 0, **others: Any) -> DestinationOptions:
    """What an operator writes for a folder in the share; ``root`` is the folder on the server's disk."""
    return DestinationOptions(
        **{
            "type": "smb",
            "url": f"smb://{LOOPBACK}:{port or server.port}/data/{root.relative_to(server.data)}".removesuffix("/."),
            "username": server.user,
            "password": Secret(server.password),
            **others,
        }
    )


def opened(options: DestinationOptions) -> Destination:
    return open_smb(options, read(SmbSettings, options.options))


def tree_of(options: DestinationOptions) -> Tree:
    assert options.password is not None
    return SmbTree(read_url(options, {"smb"}, ""), options.password, read(SmbSettings, options.options))


# ----------------------------------------------------------------------------------------------------------------- laws


class TestSambaTree(TreeLaws):
    @pytest.fixture
    def tree(self, samba: Samba, folder: Path) -> Iterator[Tree]:
        with closing(tree_of(options_of(samba, folder))) as tree:
            yield tree

    @pytest.fixture
    def outside(self, folder: Path) -> Outside:
        return Disk(folder)


class TestSamba(DiesInside, DestinationConformance):
    @pytest.fixture
    def destination(self, samba: Samba, folder: Path) -> Iterator[Destination]:
        with closing(opened(options_of(samba, folder))) as destination:
            yield destination

    @pytest.fixture
    def colleague(self, samba: Samba, folder: Path) -> Iterator[Destination]:
        signed = options_of(samba, folder, verify="digest", options={"protection": "signed"})
        with closing(opened(signed)) as destination:
            yield destination

    @pytest.fixture
    def consumer(self, folder: Path) -> Consumer:
        return Shelf(folder)


# -------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("changed", "path", "said"),
    [
        ({"url": "sftp://host/x"}, "$.url", "smb://"),
        ({"url": "smb://host"}, "$.url", "names no share"),
        ({"url": "smb://host/share/../x"}, "$.url", "start with a dot"),
        ({"username": None}, "$.username", "needs a user"),
        ({"password": None}, "$.password", "needs a password"),
    ],
)
def test_what_is_wrong_with_the_options_is_said_where_it_stands(changed: dict[str, Any], path: str, said: str) -> None:
    given = {"type": "smb", "url": "smb://host/share/x", "username": "jane", "password": Secret("x"), **changed}
    options = DestinationOptions(**given)
    (problem,) = problems(options, SmbSettings())
    assert problem.path == path
    assert said in problem.message
    with pytest.raises(InvalidOptions):
        open_smb(options, SmbSettings())


def test_nothing_but_the_kinds_own_settings_is_taken() -> None:
    for name, value in (("connectionCache", "x"), ("protection", "none"), ("authProtocol", "kerberos")):
        with pytest.raises(InvalidOptions):
            read(SmbSettings, {name: value})


def test_the_library_is_loaded_only_when_it_is_used() -> None:
    code = "import sys, maildaemon_adapters.files.smb; sys.exit('smbprotocol' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0


def test_a_domain_is_part_of_the_user() -> None:
    options = DestinationOptions(type="smb", url=r"smb://WG%5Cjane@HOST/share/x", password=Secret("x"))
    with closing(opened(options)) as destination:
        assert destination.place == r"smb://WG\jane@host:445/share/x"


def test_a_user_with_its_domain_is_let_in(samba: Samba, folder: Path) -> None:
    for user in (rf"MDTEST\{samba.user}", rf"WG\{samba.user}"):
        with closing(tree_of(options_of(samba, folder, username=user))) as tree:
            assert tree.stat("") is not None


# ------------------------------------------------------------------------------------------------------ what is wrong


def test_each_thing_that_is_wrong_has_words_of_its_own(samba: Samba, folder: Path) -> None:
    def changed(**others: Any) -> str:
        return told(opened(options_of(samba, folder, **others)))

    at = f"smb://{LOOPBACK}:{samba.port}"
    answers = [
        changed(url="smb://no-such-host.invalid/data/x"),
        changed(port=free_port()),
        changed(username="nobody-here"),
        changed(password=Secret("another")),
        changed(url=f"{at}/no-such-share/x"),
    ]
    words = [
        "DestinationUnavailable: .*does not resolve",
        "DestinationUnavailable: .*nothing listens",
        "LoginRefused: .*'nobody-here'.*LOGON_FAILURE",
        "LoginRefused: .*does not let 'nobody' in.*LOGON_FAILURE",
        "DestinationUnavailable: .*has no share 'no-such-share'",
    ]
    for answer, word in zip(answers, words, strict=True):
        assert re.search(word, answer), answer
        assert samba.password not in answer
    assert len(set(answers)) == len(answers)
    with closing(opened(options_of(samba, folder))) as destination:
        assert {finding.level for finding in destination.check()} == {Level.FINE}
    assert Disk(folder).files() == {}


def test_a_share_that_is_closed_to_the_user_says_so() -> None:
    with Samba(share="valid users = root") as server:
        answer = told(opened(options_of(server, fresh(server))))
        assert "the user 'nobody' may not use the share 'data'" in answer


def test_missing_rights_are_told_apart(samba: Samba, folder: Path) -> None:
    folder.chmod(0o555)
    os.chown(folder, 0, 0)
    answer = told(opened(options_of(samba, folder)))
    assert "the user may not do that (STATUS_ACCESS_DENIED)" in answer


@pytest.mark.parametrize("version", ["SMB2_02", "SMB2_10"])
def test_a_server_that_cannot_encrypt_is_not_trusted_with_the_mails(version: str) -> None:
    with Samba(settings=f"server max protocol = {version}") as server:
        folder = fresh(server)
        assert "cannot encrypt (SMB 3)" in told(opened(options_of(server, folder)))
        signed = options_of(server, folder, verify="digest", options={"protection": "signed"})
        with closing(opened(signed)) as destination:
            published_of(destination, batch_of(1), [put_of("a", "a", bytes(3_000_000))])
            assert any("can be read" in finding.message for finding in destination.check())
        assert Shelf(folder).files() == {"a": bytes(3_000_000)}


@pytest.mark.parametrize("protection", ["encrypted", "signed"])
def test_the_first_version_that_encrypts_is_enough(protection: str) -> None:
    with Samba(settings="server max protocol = SMB3_00") as server:
        folder = fresh(server)
        options = options_of(server, folder, verify="digest", options={"protection": protection})
        with closing(opened(options)) as destination:
            published_of(destination, batch_of(1), [put_of("a", "a", bytes(3_000_000))])
        assert Shelf(folder).files() == {"a": bytes(3_000_000)}


def test_a_guest_is_not_what_was_meant() -> None:
    with Samba(settings="map to guest = bad user", share="guest ok = yes") as server:
        answer = told(opened(options_of(server, fresh(server), username="nobody-here")))
        assert "for a guest" in answer
        assert answer.startswith("LoginRefused")


def test_a_wrong_password_is_refused_while_a_right_one_is_at_work_and_a_changed_one_takes_effect() -> None:
    with Samba() as server:
        folder = fresh(server)
        before = options_of(server, folder)
        with closing(opened(before)) as destination:
            published_of(destination, batch_of(1), [put_of("a", "a")])
            told(opened(options_of(server, folder, password=Secret("another"))))
            server.set_password("a new one")
            told(opened(before))
            with closing(opened(options_of(server, folder))) as changed:
                published_of(changed, batch_of(2), [put_of("a", "b")])
        assert set(Shelf(folder).files()) == {"a", "b"}


@pytest.mark.heavy
def test_something_else_than_smb_behind_the_port_is_told_in_time(samba: Samba, folder: Path, *, heavy: bool) -> None:
    seconds = 5 if heavy else 2
    with ChaosProxy(samba.port) as proxy:
        options = options_of(samba, folder, port=proxy.port, options={} if heavy else {"connectSeconds": seconds})
        proxy.fault = Wrong(stall_after=0)
        assert f"did not answer within {seconds} s" in checked(opened(options))
        proxy.fault = Wrong(cut_after=0)
        assert "broke the connection off before anybody was logged in" in checked(opened(options))
        proxy.fault = Wrong(stall_after=400)
        assert f"did not answer within {seconds} s" in checked(opened(options))


def test_a_server_that_falls_silent_is_given_up(samba: Samba, folder: Path) -> None:
    with ChaosProxy(samba.port) as proxy:
        options = options_of(samba, folder, port=proxy.port, options={"answerSeconds": 1})
        with closing(tree_of(options)) as tree:
            assert tree.stat("a") is None
            acts: dict[Callable[[], object], Wrong] = {
                lambda: tree.stat("a"): Wrong(stall_after=0),
                lambda: tree.write("a", [bytes(1_000_000)] * 20): Wrong(direction="up", stall_after=0),
            }
            for act, fault in acts.items():
                proxy.fault = fault
                begun = time.monotonic()
                with pytest.raises(TreeError, match="did not answer within") as caught:
                    act()
                assert caught.value.fault is Fault.GONE
                assert time.monotonic() - begun < 10
                proxy.fault = NO_FAULT
                assert tree.stat("x") is None


# ------------------------------------------------------------------------------------------- rights, room, links, names


def test_a_full_disk_is_told_and_leaves_nothing_and_goes_on_by_itself(samba: Samba, folder: Path) -> None:
    with mounted(folder, lazy=True), closing(opened(options_of(samba, folder))) as destination:
        trouble = trouble_with(destination, bytes(3_000_000))
        assert (trouble.error, trouble.transient) == ("DestinationFull", True)
        assert "no room left" in trouble.message
        assert all("a" not in path.split("/") for path in Disk(folder).files())
        published_of(destination, batch_of(2), [put_of("a", "a", bytes(1_000_000))])
        (folder / "ballast").write_bytes(bytes(950_000))
        assert trouble_with(destination, bytes(500_000), number=3).error == "DestinationFull"
        (folder / "ballast").unlink()
        published_of(destination, batch_of(4), [put_of("a", "b", bytes(500_000))])


@pytest.mark.parametrize(
    "name",
    ["a:b", "a?b", "a*b", 'a"b', "a<b", "a|b", "a\\b", "dot.", "blank ", "CON", "nul.txt", "COM1", "a\x01b", "\ud800"],
)
def test_names_that_a_share_refuses_or_changes_are_refused_here(samba: Samba, folder: Path, name: str) -> None:
    with closing(tree_of(options_of(samba, folder))) as tree:
        written(tree, "a")
        for act in (
            lambda: tree.stat(f"folder/{name}"),
            lambda: tree.write(name, [b""]),
            lambda: tree.publish("a", name),
            lambda: tree.make_folder(name),
            lambda: tree.names(name),
        ):
            with pytest.raises(TreeError) as caught:
                act()
            assert caught.value.fault is Fault.NAME
    assert set(Disk(folder).files()) == {"a"}


def test_a_name_that_is_too_long_is_said_so(samba: Samba, folder: Path) -> None:
    with closing(tree_of(options_of(samba, folder))) as tree, pytest.raises(TreeError) as caught:
        tree.write("a" * 256, [b""])
    assert caught.value.fault is Fault.NAME


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (0xC0000906, Fault.REFUSED_FILE),
        (0xC000007F, Fault.FULL),
        (0xC0000044, Fault.FULL),
        (0xC0000022, Fault.DENIED),
        (0xC0000234, Fault.LOGIN),
        (0xC000035C, Fault.GONE),
        (0xC00000D0, Fault.BUSY),
        (0xC0000043, Fault.OTHER),
        (0xC0001234, Fault.OTHER),
    ],
)
def test_what_a_server_answers_is_understood(status: int, fault: Fault) -> None:
    meant = told_status(status)
    assert meant.fault is fault_of(status) is fault
    assert "STATUS_" in meant.what or f"0x{status:08x}" in meant.what
    assert meant.remedy


def test_a_folder_that_differs_in_case_alone_is_the_same(samba: Samba, folder: Path) -> None:
    with closing(opened(options_of(samba, folder))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "Invoices/a")])
        staged = staged_of(destination, batch_of(2), [put_of("a", "invoices/A"), put_of("b", "invoices/b")])
        answers = destination.publish(batch_of(2), staged)
        assert not isinstance(answers["a"], Receipt)
        assert isinstance(answers["b"], Receipt)
    assert set(Shelf(folder).files()) == {"Invoices/a", "Invoices/b"}


def test_a_folder_that_somebody_keeps_removing_is_never_taken_for_a_file(samba: Samba, folder: Path) -> None:
    (folder / "in").mkdir()
    (folder / "in").chmod(0o777)
    tidier = subprocess.Popen([sys.executable, "-c", KEEPS_REMOVING, str(folder / "in")])
    said: list[TreeError] = []

    def make(tree: Tree) -> None:
        for _ in range(60):
            try:
                tree.make_folder("in/one")
            except TreeError as error:
                said.append(error)

    try:
        with closing(tree_of(options_of(samba, folder))) as tree, ThreadPoolExecutor(4) as pool:
            list(pool.map(make, [tree] * 4))
    finally:
        tidier.kill()
        tidier.wait()
    # That the connection is gone is no mistake: smbd 4.17 may end itself over a folder that goes as soon as it is made.
    assert [error for error in said if error.fault not in {Fault.MISSING, Fault.GONE}] == []


KEEPS_REMOVING = """
import os, sys
while True:
    try:
        os.rmdir(sys.argv[1] + "/one")
    except OSError:
        pass
"""


def test_of_two_connections_that_want_one_name_one_gets_it(samba: Samba, folder: Path) -> None:
    rounds = 300
    options = options_of(samba, folder)
    meeting = Barrier(2)
    with closing(tree_of(options)) as one, closing(tree_of(options)) as other:

        def want(tree: Tree, who: str) -> set[int]:
            mine = set()
            for number in range(rounds):
                tree.write(f"{who}-{number}", [b"x"])
            for number in range(rounds):
                meeting.wait(60)
                try:
                    tree.publish(f"{who}-{number}", f"wanted-{number}")
                    mine.add(number)
                except TreeError as error:
                    assert error.fault is Fault.EXISTS  # noqa: PT017
            return mine

        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(want, tree, who) for tree, who in ((one, "one"), (other, "other"))]
            first, second = (answer.result() for answer in answers)
    assert first & second == set()
    assert first | second == set(range(rounds))


def test_no_link_on_the_servers_disk_leads_out_of_the_share(samba: Samba, folder: Path, tmp_path: Path) -> None:
    (folder / "link").symlink_to(tmp_path)
    tmp_path.chmod(0o777)
    with closing(opened(options_of(samba, folder))) as destination:
        staged = staged_of(destination, batch_of(1), [put_of("a", "link/a")])
        assert not isinstance(destination.publish(batch_of(1), staged)["a"], Receipt)
    assert list(tmp_path.iterdir()) == []


def test_the_root_is_made_when_it_is_missing_and_may_be_the_share_itself(samba: Samba, folder: Path) -> None:
    with closing(opened(options_of(samba, folder / "new" / "one"))) as destination:
        assert any(finding.level is Level.WARNING for finding in destination.check())
        published_of(destination, batch_of(1), [put_of("a", "into/a")])
    assert Shelf(folder / "new" / "one").files() == {"into/a": b"content"}
    with Samba() as server, closing(opened(options_of(server, server.data))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "into/a")])
        assert Shelf(server.data).files() == {"into/a": b"content"}


# ---------------------------------------------------------------------------------------------------- connections


def test_a_connection_that_breaks_in_the_middle_costs_one_call_and_no_line_in_the_log(
    samba: Samba, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ChaosProxy(samba.port) as proxy, closing(opened(options_of(samba, folder, port=proxy.port))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a")])
        for number, after in enumerate((200_000, 1_000_000, 3_000_000), 2):
            proxy.drop_all()
            proxy.fault = Wrong(direction="up", cut_after=after)
            with pytest.raises(DestinationUnavailable):
                destination.stage(batch_of(number), [put_of("a", "b", bytes(5_000_000))])
        proxy.fault = NO_FAULT
        staged = staged_of(destination, batch_of(9), [put_of("a", "b", b"whole")])
        proxy.drop_all()
        time.sleep(0.2)
        assert isinstance(destination.publish(batch_of(9), staged)["a"], Receipt)
    assert Shelf(folder).files() == {"a": b"content", "b": b"whole"}
    assert caplog.records == []


def test_it_keeps_to_one_connection(samba: Samba, folder: Path) -> None:
    with ChaosProxy(samba.port) as proxy, closing(opened(options_of(samba, folder, port=proxy.port))) as destination:
        puts = [put_of(f"p{number}", f"{number % 3}/{number}") for number in range(40)]
        published_of(destination, batch_of(1), puts)
        assert proxy.connections == 1
        destination.close()
        assert isinstance(destination.stage(batch_of(2), [put_of("a", "x")])["a"], Staged)
        assert proxy.connections == 2


def test_a_mailbox_of_the_service_does_not_reach_this_machine(samba: Samba, folder: Path, tmp_path: Path) -> None:
    url = f"smb://2130706433:{samba.port}/data/{folder.name}"
    options = options_of(samba, folder, url=url)

    def connector(**allowed: Any) -> Connector:
        return Connector(
            sources=Registry(SOURCES, ()),
            destinations=Registry(DESTINATIONS, (), smb=SMB),
            spool=FolderSpool(tmp_path / "spool"),
            read_secret=lambda secret: secret,
            confinement=Confinement(**allowed),
        )

    strict, free = connector(), connector(allow_networks=("127.0.0.0/8",))
    with strict.context(), closing(strict.target(options).destination) as destination:
        with pytest.raises(DestinationUnavailable, match="is this machine itself"):
            destination.stage(batch_of(1), [put_of("a", "a")])
        (finding,) = destination.check()
        assert finding.remedy == "its operator can allow more: allowNetworks"
    with free.context(), closing(free.target(options).destination) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a")])
    assert set(Shelf(folder).files()) == {"a"}


def test_no_secret_and_no_path_is_logged(samba: Samba, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("smbprotocol", "smbprotocol.connection", "spnego"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    with closing(opened(options_of(samba, folder))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "about the takeover.eml")])
        assert samba.password not in repr(destination) + destination.place
    wrong = options_of(samba, folder, password=Secret("a wrong one"))
    with closing(opened(wrong)) as destination, pytest.raises(LoginRefused):
        destination.stage(batch_of(2), [put_of("a", "a")])
    for word in (samba.password, "a wrong one", "takeover", "take"):
        assert word not in caplog.text


@pytest.mark.heavy
def test_a_large_file_passes_through_little_memory(samba: Samba, folder: Path, *, heavy: bool) -> None:
    size = 200_000_000 if heavy else 20_000_000
    piece = bytes(range(256)) * 1024
    with closing(tree_of(options_of(samba, folder))) as tree:
        made(tree, ".maildaemon/batch")
        written(tree, "before")
        tracemalloc.start()
        try:
            tree.write(".maildaemon/batch/part", (piece for _ in range(size // len(piece))))
            assert sum(map(len, tree.read(".maildaemon/batch/part"))) == size // len(piece) * len(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 32_000_000, peak
