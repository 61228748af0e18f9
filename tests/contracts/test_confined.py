"""Mailboxes of a service reach what its operator allows, with the real adapters: a mail server, and folders."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest

from maildaemon_adapters.files.local import FILE
from maildaemon_adapters.imap import KIND, ImapSettings
from maildaemon_adapters.imap.login import connect
from maildaemon_core.confinement import Confinement, OutOfBounds
from maildaemon_core.engine.confining import confined
from maildaemon_core.engine.connecting import Connector
from maildaemon_core.engine.lanes import Lanes
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, Openers, Registry
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.engine.sweep import Sweep
from maildaemon_core.engine.targets import Target, Targets
from maildaemon_core.engine.validation import Validation
from maildaemon_core.errors import DestinationUnavailable, SourceUnavailable
from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.monitoring import SweepReport, SweepState
from maildaemon_core.options import DestinationOptions, KindFacts, MailArchiving, MailboxOptions, Secret
from maildaemon_core.ports import Finding, Kind, Level, MailSource, Spool
from maildaemon_core.store_port import Configuration
from maildaemon_core.testing.destination_conformance import batch_of, published_of, put_of
from maildaemon_core.testing.memory_source import MemoryServer, MemorySource
from maildaemon_core.testing.memory_store import MemoryStore
from tests.engine.story import mail
from tests.servers.dovecot import Dovecot

LOOPBACK = ("127.0.0.0/8", "::1/128")
INBOX = FolderRef("INBOX")
MAILBOX = MailboxId("00000000-0000-0000-0000-0000000000cc")


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """The folder of the service, with one for mailboxes in it, and what is none of theirs."""
    for name in ("data", "etc", "certificates"):
        (tmp_path / name).mkdir()
    return tmp_path


def connector(ground: Path, source: Kind[Any, MailSource] = KIND, **others: Any) -> Connector:
    return Connector(
        sources=Registry(SOURCES, (), imap=source),
        destinations=Registry(DESTINATIONS, (), file=FILE),
        spool=FolderSpool(ground / "spool"),
        read_secret=lambda secret: secret,
        confinement=Confinement(roots=(str(ground / "data"),), files=(str(ground / "certificates"),), **others),
    )


def mailbox(server: Dovecot | None = None, user: str = "", *, url: str = "invoices", **others: Any) -> MailboxOptions:
    reached = {} if server is None else {"port": server.imaps, "options": {"caFile": "ca.pem"}}
    return MailboxOptions(
        **{
            "host": "localhost",
            "mailbox": user or "jane@example.com",
            "password": Secret("secret" if server is None else server.password),
            "mail_archiving": MailArchiving(active=True, path_template="{subject}.eml"),
            "destinations": (DestinationOptions(url=url),),
            **reached,
            **others,
        }
    )


def sweep(connector: Connector, options: MailboxOptions) -> SweepReport:
    """As the daemon does it: everything in the context of the connector, with threads that carry it."""
    store = MemoryStore(lambda: datetime.now(UTC))
    store.save(Configuration(id=MAILBOX, name="confined", document={}))
    lease = store.lease(MAILBOX, 60.0, owner="a test")
    assert lease is not None
    with connector.context(), Lanes(1, "source") as lane, Lanes(1, "destination") as lanes:
        targets: list[Target] = [connector.target(each) for each in options.destinations]
        return Sweep(
            lease,
            options,
            Targets(targets, lanes),
            lambda: connector.source(options),
            lane=lane,
            clock=lambda: datetime.now(UTC),
            tell=lambda event: None,
            nonce="ours",
        ).run()


def validated(connector: Connector, options: MailboxOptions) -> list[Finding]:
    with connector.context():
        store = MemoryStore(lambda: datetime.now(UTC))
        return list(Validation(connector, Openers([]), store, lambda: datetime.now(UTC)).run(MAILBOX, options))


# ---- servers ----


@pytest.fixture
def served(dovecot: Dovecot, ground: Path) -> Dovecot:
    """A real server on loopback, whose certificate the service knows."""
    (ground / "certificates" / "ca.pem").write_bytes(dovecot.ca.read_bytes())
    return dovecot


@pytest.mark.server
def test_a_server_on_this_machine_is_refused_until_its_operator_allows_it(
    served: Dovecot, mail_user: str, ground: Path
) -> None:
    served.deliver(mail_user, mail("invoice"))
    options = mailbox(served, mail_user, host="127.0.0.1")
    (problem,) = connector(ground).problems(options)
    assert problem.path == "$.host"
    assert "127.0.0.1 is this machine itself; its operator can allow more: allowNetworks" in problem.message
    assert sweep(connector(ground), options).state is SweepState.FAILED

    free = connector(ground, allow_networks=LOOPBACK)
    options = mailbox(served, mail_user)
    assert free.problems(options) == []
    assert Level.FAULT not in {finding.level for finding in validated(free, options)}
    report = sweep(free, options)
    assert (report.state, report.counts.stored) == (SweepState.DONE, 1)
    assert (ground / "data" / "invoices" / "invoice.eml").is_file()


@pytest.mark.server
@pytest.mark.parametrize("name", ["2130706433", "127.1", "0x7f000001", "0177.1"])
def test_a_name_that_leads_to_this_machine_is_seen_through_when_it_is_connected_to(
    served: Dovecot, mail_user: str, ground: Path, name: str
) -> None:
    options = mailbox(served, mail_user, host=name)
    one = connector(ground)
    assert one.problems(options) == []  # nobody has asked what it stands for
    report = sweep(one, options)
    assert (report.state, report.counts.seen) == (SweepState.FAILED, 0)
    assert report.trouble is not None
    assert report.trouble.error == "OutOfBounds"
    assert not report.trouble.transient
    assert f"{name}:{served.imaps} is not for mailboxes of this service: " in report.trouble.message
    assert report.trouble.message.endswith(" is this machine itself")
    assert report.trouble.remedy == "its operator can allow more: allowNetworks"
    (fault,) = [each for each in validated(one, options) if each.level is Level.FAULT]
    assert (fault.message, fault.remedy) == (report.trouble.message, report.trouble.remedy)


@pytest.mark.server
def test_a_connection_that_is_made_anew_is_judged_anew(served: Dovecot, mail_user: str, ground: Path) -> None:
    """Between two connections a name can come to stand for another address; here the rules change instead."""
    served.deliver(mail_user, mail("invoice"))
    free, strict = connector(ground, allow_networks=LOOPBACK), connector(ground)
    with free.context(), free.source(mailbox(served, mail_user)) as source:
        with strict.context():
            assert source.list_since(INBOX, None, limit=10).envelopes  # over the connection that there is
        served.kick(mail_user)
        with pytest.raises(SourceUnavailable):
            source.list_since(INBOX, None, limit=10)
        with strict.context(), pytest.raises(OutOfBounds, match="is this machine itself"):
            source.list_since(INBOX, None, limit=10)
        assert source.list_since(INBOX, None, limit=10).envelopes


class Redirecting:
    """A server that sends whoever comes on to another address, as HTTP and some mail servers do."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = self._server.getsockname()[:2]
        self._target = target
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client:
                client.sendall("{} {}\n".format(*self._target).encode())

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._server.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._server.close()


@attrs.frozen
class NoSettings:
    pass


def following(options: MailboxOptions, settings: NoSettings, spool: Spool) -> MailSource:
    """A source that goes where its server sends it, without a thought."""
    with socket.create_connection((options.host or "", options.port), 5) as plain:
        host, port = plain.makefile().readline().split()
    with socket.create_connection((host, int(port)), 5):
        return MemorySource(MemoryServer(), spool)


@pytest.mark.parametrize(("allowed", "state"), [("127.0.0.1/32", SweepState.FAILED), ("127.0.0.0/8", SweepState.DONE)])
def test_a_server_that_sends_its_clients_on_takes_them_nowhere_else(
    ground: Path, allowed: str, state: SweepState, caplog: pytest.LogCaptureFixture
) -> None:
    kind = Kind(settings=NoSettings, open=following, facts=KindFacts(needs_login=False))
    with socket.create_server(("127.0.0.2", 0)) as inner:
        server = Redirecting(inner.getsockname()[:2])
        with server.running():
            options = mailbox(host="127.0.0.1", port=server.address[1])
            assert sweep(connector(ground, kind, allow_networks=(allowed,)), options).state is state
            inner.settimeout(0.2)
            if state is SweepState.DONE:
                inner.accept()[0].close()
            else:
                with pytest.raises(TimeoutError):
                    inner.accept()
                assert "127.0.0.2 is this machine itself" in caplog.text


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What the name service answers, in this order."""

    def answer(*addresses: tuple[str, int]) -> None:
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses],
        )

    return answer


@pytest.mark.parametrize("turned", [False, True])
def test_a_forbidden_address_is_told_though_another_one_of_the_name_does_not_answer(
    resolving: Callable[..., None], *, turned: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed: tuple[str, int] = gone.getsockname()[:2]
    addresses = [closed, ("127.0.0.2", closed[1])]
    resolving(*(reversed(addresses) if turned else addresses))
    options = mailbox(host="mail.example.com", port=closed[1])
    with (
        confined(Confinement(allow_networks=("127.0.0.1",))),
        pytest.raises(OutOfBounds, match=r"mail\.example\.com:.* 127\.0\.0\.2 is this machine itself"),
    ):
        connect(options, ImapSettings())
    with pytest.raises(SourceUnavailable, match="nothing listens"):
        connect(options, ImapSettings())


@pytest.mark.parametrize("name", ["caFile", "oauthCaFile", "clientCertFile"])
@pytest.mark.parametrize("file", ["/etc/hostname", "../etc/hostname", "link.pem"])
def test_the_certificates_of_a_mailbox_lie_where_the_service_has_some(ground: Path, file: str, name: str) -> None:
    (ground / "certificates" / "link.pem").symlink_to("/etc/hostname")
    one = connector(ground)
    options = mailbox(host="mail.example.com", options={name: file})
    assert [problem.path for problem in one.problems(options)] == [f"$.options.{name}"]
    with pytest.raises(OutOfBounds):
        one.source(options)
    assert one.problems(mailbox(host="mail.example.com", options={name: "ca.pem"})) == []


# ---- folders ----


def invoices(url: str = "invoices") -> DestinationOptions:
    return DestinationOptions(url=url)


def stores(target: Target, path: str = "a.eml") -> None:
    batch = batch_of(1)
    published_of(target.destination, batch, [put_of("a", path)])
    target.destination.forget(batch)


@pytest.mark.parametrize(
    ("url", "folder"),
    [("invoices", "data/invoices"), ("a/b", "data/a/b"), ("{}/data/x", "data/x"), ("file://{}/data/a%20b", "data/a b")],
)
def test_folders_within_are_used_and_made(ground: Path, url: str, folder: str) -> None:
    one, url = connector(ground), url.format(ground)
    assert one.problems(mailbox(host="mail.example.com", url=url)) == []
    target = one.target(invoices(url))
    assert target.place == f"file:{ground.resolve() / folder}"
    stores(target)
    assert (ground / folder / "a.eml").is_file()


@pytest.mark.parametrize(
    "url",
    ["/etc", "{}/etc", "{}/data/../etc", "../etc", "file://{}/etc", "file:{}/data/%2e%2e/etc", "~/x", "{}/database"],
)
def test_folders_elsewhere_are_refused_when_they_are_named_and_when_they_are_opened(ground: Path, url: str) -> None:
    one, url = connector(ground), url.format(ground)
    (problem,) = one.problems(mailbox(host="mail.example.com", url=url))
    assert problem.path == "$.destinations[0].url"
    with pytest.raises(OutOfBounds):
        one.target(invoices(url))


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("file://{}/data/x?y", "has no ?"),
        ("file://other{}/data/x", "another machine"),
        ("sftp://files.example/x", "type = 'sftp'"),
    ],
)
def test_what_else_is_wrong_with_a_url_is_still_said(ground: Path, url: str, fault: str) -> None:
    (problem,) = connector(ground).problems(mailbox(host="mail.example.com", url=url.format(ground)))
    assert problem.path == "$.destinations[0].url"
    assert fault in problem.message


@pytest.mark.parametrize("link", ["invoices", "2026"])
def test_a_folder_that_becomes_a_link_after_it_was_named_is_refused_at_the_sweep(ground: Path, link: str) -> None:
    one = connector(ground, Kind(settings=NoSettings, open=an_empty_source, facts=KindFacts(needs_login=False)))
    url = "invoices" if link == "invoices" else "2026/invoices"
    options = mailbox(host="mail.example.com", url=url)
    assert one.problems(options) == []
    assert sweep(one, options).state is SweepState.DONE
    if (ground / "data" / link).exists():
        (ground / "data" / link).rename(ground / "was")
    (ground / "etc" / "invoices").mkdir()
    (ground / "data" / link).symlink_to(ground / "etc")
    with pytest.raises(OutOfBounds, match="a link leads away"):
        sweep(one, options)
    assert [problem.path for problem in one.problems(options)] == ["$.destinations[0].url"]
    assert [each.name for each in (ground / "etc").rglob("*")] == ["invoices"]


def an_empty_source(options: MailboxOptions, settings: NoSettings, spool: Spool) -> MailSource:
    return MemorySource(MemoryServer(), spool)


@pytest.mark.parametrize("swapped", ["invoices", "."])
def test_a_folder_that_becomes_a_link_while_it_is_open_leads_nowhere(ground: Path, swapped: str) -> None:
    target = connector(ground).target(invoices())
    stores(target, "before.eml")
    (ground / "data" / swapped).resolve().rename(ground / "was")
    (ground / "etc" / "invoices").mkdir()
    (ground / "data" / swapped.removesuffix(".")).symlink_to(ground / "etc")
    with pytest.raises(DestinationUnavailable, match="a symbolic link stands where a folder belongs"):
        stores(target)
    trouble = target.destination.probe()
    assert trouble is not None
    assert trouble.remedy == "replace the link by a folder"
    assert [each.name for each in (ground / "etc").rglob("*")] == ["invoices"]


def test_a_folder_that_is_missing_is_not_made_through_a_link(ground: Path) -> None:
    target = connector(ground).target(invoices("a/b"))
    (ground / "data" / "a").symlink_to(ground / "etc")
    with pytest.raises(DestinationUnavailable):
        stores(target)
    assert not any((ground / "etc").iterdir())


def test_a_link_that_stays_within_is_as_good_as_a_folder(ground: Path) -> None:
    (ground / "data" / "real").mkdir()
    (ground / "data" / "link").symlink_to("real")
    target = connector(ground).target(invoices("link"))
    stores(target)
    assert (ground / "data" / "real" / "a.eml").is_file()


def test_the_services_own_folder_may_be_reached_by_a_link_of_its_operator(ground: Path) -> None:
    (ground / "data").rename(ground / "disk")
    (ground / "data").symlink_to(ground / "disk")
    stores(connector(ground).target(invoices()))
    assert (ground / "disk" / "invoices" / "a.eml").is_file()


def test_what_another_mailbox_stages_is_out_of_reach(ground: Path) -> None:
    one = connector(ground)
    for url in (".maildaemon", "invoices/.maildaemon/batch"):
        assert [each.path for each in one.problems(mailbox(host="a.example", url=url))] == ["$.destinations[0].url"]
        with pytest.raises(OutOfBounds):
            one.target(invoices(url))


AS_SOMEBODY_ELSE = """
import os, sys
from maildaemon_adapters.files.local import FileDestination
from maildaemon_core.testing.destination_conformance import batch_of, published_of, put_of
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
published_of(FileDestination(sys.argv[1]), batch_of(1), [put_of("a", "a.eml")])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: becoming another user needs root")
def test_folders_on_the_way_need_not_be_readable_to_be_passed_through() -> None:
    with TemporaryDirectory() as folder:
        top = Path(folder)
        (top / "closed" / "data").mkdir(parents=True)
        (top / "closed" / "data").chmod(0o777)
        for each in (top, top / "closed"):
            each.chmod(0o711)
        run = subprocess.run(
            [sys.executable, "-c", AS_SOMEBODY_ELSE, str(top / "closed" / "data")],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert (run.returncode, run.stderr) == (0, "")
        assert (top / "closed" / "data" / "a.eml").is_file()
