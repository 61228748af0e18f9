"""The service as a process: when it serves and when it refuses to, who is let in, how it stops and goes on."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from maildaemon_adapters.sealing import new_master_key
from maildaemon_adapters.sql import SqlStore
from maildaemon_core.access import ALL_SCOPES, CHANCE_BYTES, make_key, prefix_of
from tests.http.running import TRACE, Called, call, is_cold, warm
from tests.servers.certificates import Certificates, make_ca
from tests.servers.process import Process
from tests.servers.scripted import behave
from tests.servers.scripted_imap import Conversation, ScriptedImap
from tests.servers.warm import Begun

ANNOUNCED = re.compile(r"^maildaemon serves (https?://(\S+):(\d+)) \(store (.+)\)$", re.MULTILINE)

MAILBOX = """
[[mailboxes]]
name = "office"
mailbox = "office@example.com"
host = "127.0.0.1"
port = {port}
tls = "none"
password = "hunter2"
pollIntervalSeconds = 5
mailArchiving = {{ active = true, pathTemplate = "{{key}}.eml" }}
destinations = [{{ url = "mail" }}]
options = {{ fetchCount = 1 }}
"""


class Child:
    """As much as is used here of a ``Process``, of what was begun in another way."""

    def __init__(self, child: subprocess.Popen[bytes] | Begun) -> None:
        self._child = child
        self.pid = child.pid

    @property
    def exit_code(self) -> int | None:
        return self._child.poll()

    def stop(self) -> None:
        self._child.kill()
        self._child.wait()


class Service:
    """``maildaemon serve`` in a folder, with everything that it writes in ``said``."""

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._log = folder / f"serve-{len(list(folder.glob('serve-*.log')))}.log"
        environment = {**os.environ, "COLUMNS": "200", **(env or {})}
        self.process: Process | Child
        if is_cold(env or {}):
            command = [sys.executable, "-W", "error", "-m", "maildaemon_http.cli", "serve", *arguments]
            self.process = Process(["env", "-C", folder, *command], log=self._log, environment=environment)
            return
        with self._log.open("ab") as log:
            streams = {"out": log.fileno(), "err": log.fileno()}
            self.process = Child(warm().begin("serve", *arguments, cwd=folder, env=environment, **streams))

    @property
    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def wait_for(self, words: str | Callable[[], bool], seconds: float = 30) -> None:
        """Returns when it has said so, or when it is so."""
        deadline = time.monotonic() + seconds
        is_so = words if callable(words) else lambda: words in self.said
        while not is_so():
            assert self.process.exit_code is None, (self.process.exit_code, self.said)
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def url(self) -> str:
        """Where it listens, once it says so."""
        self.wait_for(lambda: ANNOUNCED.search(self.said) is not None)
        found = ANNOUNCED.search(self.said)
        assert found is not None
        return found[1]

    def told(self, word: signal.Signals) -> None:
        os.kill(self.process.pid, word)

    def ended(self, seconds: float = 30) -> int:
        """Its exit code; it must not have been shown a trace."""
        deadline = time.monotonic() + seconds
        while (code := self.process.exit_code) is None:
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)
        assert TRACE not in self.said
        return code


@contextmanager
def serving(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Service]:
    service = Service(folder, *arguments, env=env)
    try:
        yield service
    finally:
        service.process.stop()


def new_key(folder: Path, store: str = "maildaemon.db", *, good: bool = True) -> str:
    """A key for everything in the store, made as the command would make it; a good one, or one that is revoked."""
    now = datetime.now(UTC)
    key, kept = make_key(os.urandom(CHANCE_BYTES), "tests", now=now, scopes=ALL_SCOPES)
    with closing(SqlStore(f"sqlite:///{folder / store}")) as keeper:
        keeper.add_key(kept)
        if not good:
            keeper.revoke_key(kept.prefix, now)
    return key.value


def refused(folder: Path, *arguments: str, code: int, env: Mapping[str, str] | None = None) -> Called:
    return call("serve", *arguments, cwd=folder, code=code, env=env)


def config(folder: Path, text: str) -> str:
    (folder / "m.toml").write_text(text, encoding="utf-8")
    return "m.toml"


def get(url: str, key: str = "", **more: Any) -> httpx.Response:
    headers = {"x-api-key": key} if key else {}
    with httpx.Client(timeout=20, trust_env=False, **more) as client:
        return client.get(url, headers=headers)


# ---- start ----


def test_the_service_answers_where_it_says_that_it_listens_and_ends_well_when_it_is_told_to(tmp_path: Path) -> None:
    key = new_key(tmp_path)
    with serving(tmp_path, "--port", "0") as service:
        url = service.url()
        assert f"(store {tmp_path}/maildaemon.db)" in service.said
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        live = get(f"{url}/health/live")
        assert (live.status_code, live.json()) == (200, {"status": "alive"})
        assert "server" not in live.headers
        assert get(f"{url}/mailboxes").status_code == 401
        assert get(f"{url}/mailboxes", key).json()["items"] == []
        assert (tmp_path / "data").is_dir()
        service.told(signal.SIGTERM)
        assert service.ended() == 0
        assert key not in service.said
    with pytest.raises(httpx.ConnectError):
        get(f"{url}/health/live")


def test_ctrl_c_ends_it_well_too_and_its_store_can_come_from_the_environment(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    new_key(tmp_path, "elsewhere.db")
    with serving(tmp_path, "--port", "0", env={"MAILDAEMON_STORE": url}) as service:
        service.url()
        service.told(signal.SIGINT)
        assert service.ended() == 0
        assert f"(store {tmp_path}/elsewhere.db)" in service.said
    assert not (tmp_path / "maildaemon.db").exists()


def test_the_command_line_goes_before_the_file_and_the_file_before_the_environment(tmp_path: Path) -> None:
    path = config(tmp_path, '[store]\nurl = "sqlite:///kept.db"\n[service]\nhost = "localhost"\nport = 1\n')
    new_key(tmp_path, "kept.db")
    with serving(tmp_path, path, "--port", "0", env={"MAILDAEMON_STORE": "sqlite:///other.db"}) as service:
        url = service.url()
        assert url.startswith("http://localhost:")
        assert f"(store {tmp_path}/kept.db)" in service.said
        port = int(url.rpartition(":")[2])
        assert get(f"http://127.0.0.1:{port}/health/live").status_code == 200
    assert not (tmp_path / "other.db").exists()


def test_a_port_in_use_is_told_and_nothing_else_is_begun(tmp_path: Path) -> None:
    new_key(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken, ScriptedImap() as imap:
        port = taken.getsockname()[1]
        done = refused(tmp_path, config(tmp_path, MAILBOX.format(port=imap.port)), "--port", str(port), code=1)
        assert imap.connections == 0
    assert f"port {port} of 127.0.0.1 is in use" in done.err
    assert "--port" in done.err


def test_a_host_that_is_none_of_this_machine_is_told(tmp_path: Path) -> None:
    unknown = refused(tmp_path, "--host", "no-such-host.invalid", code=2)
    assert "'no-such-host.invalid' cannot be listened on" in unknown.err
    in_file = config(tmp_path, '[service]\nhost = "no-such-host.invalid"\n')
    assert "$.service.host" in refused(tmp_path, in_file, code=2).err
    foreign = refused(tmp_path, "--host", "192.0.2.1", code=1)
    assert "this machine has no address 192.0.2.1" in foreign.err
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".db"] == []


# ---- the first key ----


def test_without_a_key_nothing_is_served_and_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    done = refused(tmp_path, "--port", "0", code=2)
    url = f"sqlite:///{tmp_path}/maildaemon.db"
    assert f"maildaemon keys create NAME --store {url}" in done.err
    assert done.out == ""
    assert not (tmp_path / "data").exists()
    new_key(tmp_path, good=False)
    assert "there is no API key that is good" in refused(tmp_path, "--port", "0", code=2).err
    path = config(tmp_path, '[store]\nurl = "sqlite:///kept.db"\n')
    assert f"keys create NAME --config {path}" in refused(tmp_path, path, code=2).err


def test_the_command_that_is_named_makes_a_key_though_the_file_has_no_mailboxes(tmp_path: Path) -> None:
    path = config(tmp_path, '[store]\nurl = "sqlite:///kept.db"\n[service]\nport = 0\n')
    said = refused(tmp_path, path, code=2).err
    assert f"keys create NAME --config {path}" in said
    key = call("keys", "create", "ops", "--config", path, cwd=tmp_path).out.strip()
    call("validate", path, cwd=tmp_path)
    call("monitoring", "mailboxes", path, cwd=tmp_path)
    with serving(tmp_path, path) as service:
        assert get(f"{service.url()}/health/ready", key).status_code == 200


def test_a_mailbox_that_lost_its_file_is_named_at_the_start_and_can_be_deleted(tmp_path: Path) -> None:
    key = new_key(tmp_path)
    with ScriptedImap(mails={1: mail(1)}) as imap:
        path = config(tmp_path, MAILBOX.format(port=imap.port))
        with serving(tmp_path, path, "--port", "0") as service:
            service.wait_for(lambda: len(stored(tmp_path)) == 1)
            service.wait_for('"sweep ended"')
        with serving(tmp_path, "--port", "0") as service:
            service.wait_for('"not swept here"')
            url = service.url()
            (line,) = [json.loads(one) for one in service.said.splitlines() if '"not swept here"' in one]
            assert (line["level"], line["mailbox"]) == ("warning", "office")
            assert "configuration file that this process was not given" in line["trouble"]
            with httpx.Client(base_url=url, headers={"x-api-key": key}, trust_env=False, timeout=20) as client:
                assert client.delete(f"/mailboxes/{line['mailbox_id']}").status_code == 204
                assert client.get("/monitoring/mailboxes").json()["items"] == []


def test_a_mailbox_that_cannot_be_used_is_told_by_the_log_and_by_the_metrics_too(tmp_path: Path) -> None:
    key, master_key = new_key(tmp_path), new_master_key()
    wanted = {
        "name": "sealed",
        "mailbox": "a@example.com",
        "host": "imap.example.invalid",
        "password": "hunter2",
        "mailArchiving": {"active": True},
        "destinations": [{"url": "mine"}],
    }
    with (
        serving(tmp_path, "--port", "0", env={"MAILDAEMON_MASTER_KEY": master_key}) as service,
        httpx.Client(base_url=service.url(), headers={"x-api-key": key}, trust_env=False, timeout=20) as client,
    ):
        assert client.post("/mailboxes", json=wanted).status_code == 201
    with serving(tmp_path, "--port", "0") as service:
        service.wait_for('"not as it should be"')
        (line,) = [json.loads(one) for one in service.said.splitlines() if '"not as it should be"' in one]
        assert (line["level"], line["concerns"]) == ("warning", "mailbox")
        assert "sealed" in line["subject"]
        assert "no key is given" in line["trouble"]
        assert "MAILDAEMON_MASTER_KEY" in line["remedy"]
        text = get(f"{service.url()}/metrics", key).text
        (stuck,) = [one for one in text.splitlines() if one.startswith("maildaemon_mailbox_stuck{")]
        assert stuck.endswith(" 1.0")


def test_a_terminal_is_shown_a_first_key_once(tmp_path: Path) -> None:
    with at_a_terminal(tmp_path, "--port", "0") as (service, shown):
        url = service.url()
        (key,) = re.findall(r"md_[0-9a-f]{10}_[A-Za-z0-9_-]{43}", shown())
        assert get(f"{url}/mailboxes", key).status_code == 200
        assert key not in service.said
        service.told(signal.SIGTERM)
        assert service.ended() == 0
    (item,) = call("keys", "list", "--json", cwd=tmp_path).document["items"]
    assert (item["name"], item["prefix"], item["state"]) == ("first", prefix_of(key), "good")
    with at_a_terminal(tmp_path, "--port", "0") as (service, shown):
        service.url()
        assert "md_" not in shown()


def test_beyond_this_machine_nothing_is_served_without_a_key_even_at_a_terminal(tmp_path: Path) -> None:
    with at_a_terminal(tmp_path, "--host", "0.0.0.0", "--port", "0") as (service, shown):
        assert service.ended() == 2
        assert "0.0.0.0 is reached from other machines" in service.said
        assert "md_" not in shown()
    assert call("keys", "list", "--json", cwd=tmp_path).document["items"] == []


def test_beyond_this_machine_without_tls_it_warns_that_everything_crosses_in_plain_text(tmp_path: Path) -> None:
    new_key(tmp_path)
    with serving(tmp_path, "--host", "0.0.0.0", "--port", "0") as service:
        url = service.url()
        assert "in plain text" in service.said
        assert get(url.replace("0.0.0.0", "127.0.0.1") + "/health/live").status_code == 200
    with serving(tmp_path, "--port", "0") as service:
        service.url()
        assert "in plain text" not in service.said


@contextmanager
def at_a_terminal(folder: Path, *arguments: str) -> Iterator[tuple[Service, Callable[[], str]]]:
    """The service with a terminal for its stdout, and what it shows there."""
    here, there = pty.openpty()
    try:
        service = TerminalService(folder, there, *arguments)
    finally:
        os.close(there)
    os.set_blocking(here, False)
    found = b""

    def shown() -> str:
        nonlocal found
        try:
            while piece := os.read(here, 4096):
                found += piece
        except (BlockingIOError, OSError):
            pass  # nothing more so far; or the last one who could write has gone
        return found.decode()

    try:
        yield service, shown
    finally:
        service.process.stop()
        os.close(here)


class TerminalService(Service):
    """As ``Service``, with stdout apart."""

    def __init__(self, folder: Path, stdout: int, *arguments: str) -> None:
        self._log = folder / f"serve-{len(list(folder.glob('serve-*.log')))}.log"
        with self._log.open("ab") as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", "maildaemon_http.cli", "serve", *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=errors,
                start_new_session=True,
            )
        self.process = Child(child)


# ---- TLS ----


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_ca(tmp_path_factory.mktemp("tls"))


def test_with_a_certificate_it_speaks_tls_only(tmp_path: Path, certificates: Certificates) -> None:
    key = new_key(tmp_path)
    path = config(tmp_path, f'[service.tls]\ncertificate = "{certificates.certificate}"\nkey = "{certificates.key}"\n')
    with serving(tmp_path, path, "--port", "0") as service:
        url = service.url()
        assert url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=certificates.ca)
        assert get(f"{url}/mailboxes", key, verify=trusted).status_code == 200
        with pytest.raises(httpx.TransportError):
            get(url.replace("https", "http") + "/health/live")
        service.told(signal.SIGTERM)
        assert service.ended() == 0


@pytest.mark.parametrize(
    ("case", "place", "message"),
    [
        ("missing", "$.service.tls.key", "No such file"),
        ("of another", "$.service.tls.key", "is not that of the first certificate"),
        ("a certificate", "$.service.tls.key", "holds no private key"),
        ("encrypted", "$.service.tls.key", "is encrypted"),
        ("no certificate", "$.service.tls.certificate", "holds no certificate"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_told_with_its_place(
    tmp_path: Path, certificates: Certificates, case: str, place: str, message: str
) -> None:
    certificate, key = certificates.certificate, certificates.key
    match case:
        case "missing":
            key = tmp_path / "none.pem"
        case "of another":
            key = make_ca(tmp_path / "other").key
        case "a certificate":
            key = certificates.ca
        case "encrypted":
            key = tmp_path / "encrypted.pem"
            plain = serialization.load_pem_private_key(certificates.key.read_bytes(), None)
            sealed = serialization.BestAvailableEncryption(b"hunter2")
            key.write_bytes(plain.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed))
        case "no certificate":
            certificate = certificates.key
    path = config(tmp_path, f'[service.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')
    done = refused(tmp_path, path, "--port", "0", code=2)
    assert message in done.err
    assert place in done.err


# ---- the file ----


def test_every_setting_of_the_service_that_is_wrong_is_told_with_its_place(tmp_path: Path) -> None:
    path = config(
        tmp_path,
        '[service]\nprot = 1\natOnce = 0\n[service.limits]\nbodyBytes = 1\n[service.confinement]\nhots = ["a"]\n'
        'allowNetworks = ["x"]\n[service.secrets]\nenvironment = ["MAILDAEMON_MASTER_KEY"]\n',
    )
    done = refused(tmp_path, path, code=2)
    places = {
        "$.service.prot",
        "$.service.atOnce",
        "$.service.limits.bodyBytes",
        "$.service.confinement.hots",
        "$.service.confinement.allowNetworks",
        "$.service.secrets.environment",
    }
    assert {place for place in places if place in done.err} == places
    assert "did you mean port?" in done.err
    assert "$.service.prot" in call("run", path, "--once", cwd=tmp_path, code=2).err


def test_no_folder_for_mailboxes_of_the_api_may_hold_what_is_the_services_own(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path)
    (tmp_path / "key").write_text(call("master-key", "new", cwd=tmp_path).out)
    path = config(
        tmp_path,
        '[service.confinement]\nroots = ["data", "."]\nfiles = ["inside/link"]\n'
        '[service.secrets]\nfolder = "inside/.."\n',
    )
    done = refused(tmp_path, path, code=2, env={"MAILDAEMON_MASTER_KEY_FILE": str(tmp_path / "key")})
    for place in ("$.service.confinement.roots[1]", "$.service.confinement.files[0]", "$.service.secrets.folder"):
        assert place in done.err
    assert "roots[0]" not in done.err
    for what in ("the configuration", "the store", "the master key"):
        assert what in done.err


def test_a_folder_for_mailboxes_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    new_key(tmp_path)
    (tmp_path / "file").touch()
    path = config(tmp_path, '[service.confinement]\nroots = ["new", "file"]\n')
    done = refused(tmp_path, path, "--port", "0", code=2)
    assert f"{tmp_path}/file cannot be used: it is no folder" in done.err
    assert "$.service.confinement.roots[1]" in done.err


def test_run_alone_needs_mailboxes_and_names_the_service(tmp_path: Path) -> None:
    path = config(tmp_path, "[service]\nport = 0\n")
    assert "$.mailboxes" in call("run", path, "--once", cwd=tmp_path, code=2).err
    assert "the file has none" in call("validate", path, "--mailbox", "x", cwd=tmp_path, code=2).err
    assert f"serve {path}" in call("run", path, cwd=tmp_path, code=2).err


def test_mailboxes_of_the_file_are_swept_and_shown_and_cannot_be_changed_over_the_api(tmp_path: Path) -> None:
    with ScriptedImap(mails={1: mail(1), 2: mail(2)}) as imap:
        path = config(tmp_path, MAILBOX.format(port=imap.port))
        key = new_key(tmp_path)
        with serving(tmp_path, path, "--port", "0") as service:
            url = service.url()
            service.wait_for(lambda: len(stored(tmp_path)) == 2)
            (item,) = get(f"{url}/mailboxes", key).json()["items"]
            assert (item["name"], item["managedBy"], item["password"]) == ("office", "file", "********")
            with httpx.Client(base_url=url, headers={"x-api-key": key}, trust_env=False) as client:
                place = f"/mailboxes/{item['uuid']}"
                assert client.patch(place, json={"active": False}).status_code in {403, 409}
                assert client.put(place, json={"active": False}).status_code in {403, 409}
                assert client.delete(place).status_code in {403, 409}
                assert client.get(place).json()["active"] is True
            assert "hunter2" not in service.said


def test_mailboxes_of_the_api_are_confined_and_those_of_the_file_are_not(tmp_path: Path) -> None:
    with ScriptedImap(mails={1: mail(1)}) as imap:
        path = config(tmp_path, MAILBOX.format(port=imap.port))
        key = new_key(tmp_path)
        with (
            serving(tmp_path, path, "--port", "0") as service,
            httpx.Client(base_url=service.url(), headers={"x-api-key": key}, trust_env=False, timeout=20) as client,
        ):
            service.wait_for(lambda: len(stored(tmp_path)) == 1)
            wanted = {
                "mailbox": "other@example.com",
                "host": "127.0.0.1",
                "port": imap.port,
                "tls": "none",
                "password": "env:PATH",
                "mailArchiving": {"active": True},
                "destinations": [{"url": "/etc"}],
            }
            answer = client.post("/mailboxes", json=wanted)
            assert answer.status_code == 422
            places = {one["path"] for one in answer.json()["errors"]}
            assert {"$.host", "$.password", "$.destinations[0].url"} <= places
            wanted |= {"host": "imap.example.com", "password": "file:/etc/passwd", "destinations": [{"url": "mine"}]}
            answer = client.post("/mailboxes", json=wanted)
            assert [one["path"] for one in answer.json()["errors"]] == ["$.password"]
            wanted |= {"password": "plain:secret"}
            assert client.post("/mailboxes", json=wanted).json()["type"].endswith("no-master-key")


def test_a_mailbox_of_the_api_works_within_what_the_file_allows(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "office").write_text("hunter2\n")
    (tmp_path / "secrets" / "link").symlink_to("/etc/hostname")
    text = (
        '[service.confinement]\nallowNetworks = ["127.0.0.0/8"]\nroots = ["srv/mail"]\n'
        '[service.secrets]\nfolder = "secrets"\nenvironment = ["MAIL_PASSWORD"]\n'
    )
    key = new_key(tmp_path)
    with (
        ScriptedImap(mails={1: mail(1)}) as imap,
        serving(
            tmp_path, config(tmp_path, text), "--port", "0", env={"MAIL_PASSWORD": "hunter2", "OTHER": "x"}
        ) as service,
        httpx.Client(base_url=service.url(), headers={"x-api-key": key}, trust_env=False) as client,
    ):
        wanted = {
            "mailbox": "office@example.com",
            "host": "127.0.0.1",
            "port": imap.port,
            "tls": "none",
            "mailArchiving": {"active": True},
            "destinations": [{"url": "office"}],
        }
        for bad in ("file:../m.toml", "file:link", "file:/etc/hostname", "env:OTHER"):
            answer = client.post("/mailboxes", json=wanted | {"password": bad})
            assert [one["path"] for one in answer.json()["errors"]] == ["$.password"]
        for good in ("file:office", "env:MAIL_PASSWORD"):
            answer = client.post("/mailboxes", json=wanted | {"password": good})
            assert answer.status_code == 201
            swept = client.post(f"/mailboxes/{answer.json()['uuid']}/sweeps?wait=20", timeout=30)
            assert (swept.json()["state"], swept.json()["report"]["state"]) == ("ended", "done")
            assert client.delete(f"/mailboxes/{answer.json()['uuid']}?forget=true").is_success
        assert any("hunter2" in line for line in imap.lines)
        arrived = [path.read_bytes() for path in (tmp_path / "srv" / "mail" / "office").rglob("[!.]*.eml")]
        assert set(arrived) == {mail(1)}
        assert "hunter2" not in service.said


def test_metrics_tell_of_sweeps_and_need_no_key_if_the_file_says_so(tmp_path: Path) -> None:
    with ScriptedImap(mails={1: mail(1)}) as imap:
        text = "[service]\nmetricsWithoutKey = true\n" + MAILBOX.format(port=imap.port)
        new_key(tmp_path)
        with serving(tmp_path, config(tmp_path, text), "--port", "0") as service:
            url = service.url()
            service.wait_for(
                lambda: re.search(r'maildaemon_mails_total\{.*"stored".*\} 1', get(f"{url}/metrics").text) is not None
            )
        lines = [line for line in service.said.splitlines() if line.startswith("{")]
        (ended,) = [one for one in map(json.loads, lines) if one["event"] == "sweep ended"]
        assert (ended["mailbox"], ended["stored"]) == ("office", 1)
    with serving(tmp_path, "--port", "0") as service:
        assert get(f"{service.url()}/metrics").status_code == 401


def test_old_history_and_old_answers_are_forgotten_in_the_background(tmp_path: Path) -> None:
    with ScriptedImap(mails={1: mail(1)}) as imap:
        path = config(tmp_path, "[retention]\nstoredDays = 30\n" + MAILBOX.format(port=imap.port))
        key = new_key(tmp_path)
        with serving(tmp_path, path, "--port", "0") as service:
            url = service.url()
            service.wait_for(lambda: len(stored(tmp_path)) == 1)
            headers = {"x-api-key": key, "Idempotency-Key": "once"}
            with httpx.Client(headers=headers, trust_env=False) as client:
                assert client.post(f"{url}/mailboxes", json={"active": False, "mailbox": "a@b.example"}).is_success
            service.told(signal.SIGTERM)
            assert service.ended() == 0
        assert (rows(tmp_path, "entry WHERE outcome = 'stored'"), rows(tmp_path, "repeat")) == (1, 1)
        change(tmp_path, "UPDATE entry SET first_seen = 0", "UPDATE repeat SET at = 0")
        with serving(tmp_path, path, "--port", "0") as service:
            service.url()
            service.wait_for(lambda: rows(tmp_path, "entry WHERE outcome = 'stored'") + rows(tmp_path, "repeat") == 0)
        assert rows(tmp_path, "entry") == 1
        assert len(stored(tmp_path)) == 1


def rows(folder: Path, what: str) -> int:
    with closing(sqlite3.connect(folder / "maildaemon.db")) as connection:
        number: int = connection.execute(f"SELECT count(*) FROM {what}").fetchone()[0]
    return number


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "maildaemon.db")) as connection, connection:
        for each in statements:
            connection.execute(each)


# ---- stop ----


def test_a_stop_while_it_starts_is_a_good_end_as_well(tmp_path: Path) -> None:
    new_key(tmp_path)
    with serving(tmp_path, "--port", "0") as service:
        service.wait_for("store: ")
        service.told(signal.SIGTERM)
        assert service.ended() == 0


def test_a_stop_lets_a_running_sweep_end_its_batch_and_the_next_start_goes_on(tmp_path: Path) -> None:
    begun, go_on = Event(), Event()

    def slowly(talk: Conversation) -> None:
        if "BODY.PEEK[]" in talk.line:
            begun.set()
            go_on.wait(20)
        behave(talk)

    with ScriptedImap(mails={number: mail(number) for number in range(1, 6)}) as imap:
        imap.instead("UID FETCH", slowly, always=True)
        path = config(tmp_path, MAILBOX.format(port=imap.port))
        new_key(tmp_path)
        with serving(tmp_path, path, "--port", "0") as service:
            service.url()
            assert begun.wait(20)
            service.told(signal.SIGTERM)
            service.wait_for("stopping after what is being stored")
            go_on.set()
            assert service.ended(20) == 0
        is_sound(tmp_path)
        with serving(tmp_path, path, "--port", "0") as service:
            service.url()
            service.wait_for(lambda: len(stored(tmp_path)) == 5)
            service.told(signal.SIGTERM)
            assert service.ended() == 0
        is_sound(tmp_path)
        assert sorted(path.read_bytes() for path in stored(tmp_path)) == sorted(imap.mails.values())


def test_a_sweep_that_does_not_end_in_time_is_cut_and_the_next_start_goes_on(tmp_path: Path) -> None:
    with hanging() as (imap, begun, go_on):
        path = config(tmp_path, "[service]\nstopSeconds = 1\n" + MAILBOX.format(port=imap.port))
        new_key(tmp_path)
        with serving(tmp_path, path, "--port", "0") as service:
            service.url()
            assert begun.wait(20)
            service.told(signal.SIGTERM)
            at = time.monotonic()
            assert service.ended(20) == 0
            assert time.monotonic() - at < 8
        is_sound(tmp_path)
        go_on.set()
        with serving(tmp_path, path, "--port", "0") as service:
            service.wait_for(lambda: len(stored(tmp_path)) == 3)
        is_sound(tmp_path)


@pytest.mark.parametrize(("word", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_ends_it_at_once(tmp_path: Path, word: signal.Signals, code: int) -> None:
    with hanging() as (imap, begun, go_on):
        path = config(tmp_path, MAILBOX.format(port=imap.port))
        new_key(tmp_path)
        with serving(tmp_path, path, "--port", "0") as service:
            service.url()
            assert begun.wait(20)
            service.told(word)
            service.wait_for("stopping after")
            at = time.monotonic()
            service.told(word)
            assert service.ended(10) == code
            assert time.monotonic() - at < 5
            assert "stopped at once" in service.said
        go_on.set()
        is_sound(tmp_path)


def test_requests_that_are_being_answered_when_it_stops_are_answered(tmp_path: Path) -> None:
    with hanging() as (imap, begun, go_on):
        path = config(tmp_path, MAILBOX.format(port=imap.port))
        key = new_key(tmp_path)
        with serving(tmp_path, path, "--port", "0") as service:
            url = service.url()
            (item,) = get(f"{url}/mailboxes", key).json()["items"]
            assert begun.wait(20)
            port = int(url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as talk:
                ask = f"POST /mailboxes/{item['uuid']}/sweeps?wait=60 HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n"
                talk.sendall(f"{ask}content-length: 0\r\n\r\n".encode())
                time.sleep(1)
                service.told(signal.SIGTERM)
                answer = talk.recv(65536)
            assert re.match(rb"HTTP/1\.1 [245]\d\d ", answer)
            assert b"x-request-id" in answer
            go_on.set()
            assert service.ended() == 0


def test_a_kill_loses_nothing_and_the_next_start_goes_on(tmp_path: Path) -> None:
    with hanging() as (imap, begun, go_on):
        path = config(tmp_path, MAILBOX.format(port=imap.port))
        new_key(tmp_path)
        with serving(tmp_path, path, "--port", "0") as service:
            service.url()
            assert begun.wait(20)
            service.told(signal.SIGKILL)
            assert service.ended() == -signal.SIGKILL
        go_on.set()
        with serving(tmp_path, path, "--port", "0") as service:
            service.url()
            service.wait_for(lambda: len(stored(tmp_path)) == 3)
            service.told(signal.SIGTERM)
            assert service.ended() == 0
        is_sound(tmp_path)


def test_it_ends_well_though_nobody_reads_what_it_says_any_more(tmp_path: Path) -> None:
    new_key(tmp_path)
    command = [sys.executable, "-m", "maildaemon_http.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            for line in child.stderr:
                if (found := ANNOUNCED.match(line)) is not None:
                    break
            else:
                pytest.fail("it never listened")
            child.stdout.close()
            child.stderr.close()
            assert get(f"{found[1]}/health/live").status_code == 200
            child.send_signal(signal.SIGTERM)
            assert child.wait(20) == 0
        finally:
            child.kill()


@contextmanager
def hanging() -> Iterator[tuple[ScriptedImap, Event, Event]]:
    """A server with three mails that it begins to hand out and does not until it is told to."""
    begun, go_on = Event(), Event()

    def hang(talk: Conversation) -> None:
        if "BODY.PEEK[]" in talk.line:
            begun.set()
            go_on.wait(60)
        behave(talk)

    with ScriptedImap(mails={number: mail(number) for number in range(1, 4)}) as imap:
        imap.instead("UID FETCH", hang, always=True)
        try:
            yield imap, begun, go_on
        finally:
            go_on.set()


def mail(number: int) -> bytes:
    return (
        f"From: Jane <jane@example.com>\r\nTo: office@example.com\r\nSubject: {number}\r\n"
        f"Message-ID: <{number}@example.com>\r\n\r\nhello {number}\r\n"
    ).encode()


def stored(folder: Path) -> list[Path]:
    """The files that consumers see."""
    return sorted((folder / "mail").glob("[!.]*.eml")) if (folder / "mail").is_dir() else []


def is_sound(folder: Path) -> None:
    """The store is whole, and says of each file once that it was stored, and of nothing else."""
    with closing(sqlite3.connect(folder / "maildaemon.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        paths = "SELECT artifact.path FROM artifact JOIN entry ON artifact.entry = entry.id WHERE outcome = 'stored'"
        said = [path for (path,) in connection.execute(paths)]
    assert sorted(said) == [path.name for path in stored(folder)]
