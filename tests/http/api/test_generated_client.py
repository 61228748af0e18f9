"""A client that a public generator makes of the API's document does with it what people do: a whole story, on a real
service with a real mail server."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from maildaemon_adapters.sealing import new_master_key
from maildaemon_core.options import MASK
from tests.http.running import TRACE, call
from tests.servers.dovecot import Dovecot
from tests.servers.process import Process

CONFIGURATION = """
[service.confinement]
allowNetworks = ["127.0.0.0/8"]
roots = ["data"]
files = ["{certificates}"]
"""

PACKAGE = "generated_maildaemon"
LIMIT = 20_000
"""Bytes; a larger mail is not taken."""


class Generated:
    """The generated package.  Operations are called by their id; ``done`` gives the document of a good answer."""

    def __init__(self, url: str, key: str) -> None:
        self.key = key
        self.models: Any = importlib.import_module(f"{PACKAGE}.models")
        clients = importlib.import_module(f"{PACKAGE}.client")
        inner = httpx.Client(base_url=url, headers={"x-api-key": key}, timeout=60, trust_env=False)
        self.client = clients.Client(base_url=url, raise_on_unexpected_status=True).set_httpx_client(inner)

    def close(self) -> None:
        self.client.get_httpx_client().close()

    def called(self, tag: str, operation: str, *arguments: Any, **named: Any) -> Any:
        """The answer of an operation, with its status and its parsed document."""
        module: Any = importlib.import_module(f"{PACKAGE}.api.{tag}.{operation}")
        return module.sync_detailed(*arguments, client=self.client, **named)

    def done(self, tag: str, operation: str, *arguments: Any, status: int = 200, **named: Any) -> Any:
        answer = self.called(tag, operation, *arguments, **named)
        assert answer.status_code == status, answer.content
        assert not isinstance(answer.parsed, self.models.Problem)
        return answer.parsed

    def refused(self, tag: str, operation: str, *arguments: Any, status: int, name: str, **named: Any) -> Any:
        """The problem that an operation is answered with."""
        answer = self.called(tag, operation, *arguments, **named)
        assert answer.status_code == HTTPStatus(status), answer.content
        assert type(answer.parsed) is self.models.Problem
        assert answer.parsed.type_ == f"urn:maildaemon:problem:{name}"
        assert answer.parsed.status == status
        assert answer.parsed.request_id == answer.headers["x-request-id"]
        return answer.parsed


def generate(document: Path, into: Path) -> subprocess.CompletedProcess[str]:
    """Has the client made; whatever the generator would warn of is a failure."""
    settings = document.with_suffix(".config.json")
    settings.write_text(json.dumps({"post_hooks": []}))  # formatting what it made is not what is tried here
    command = [
        *(str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--path", str(document)),
        *("--meta", "none", "--config", str(settings), "--output-path", str(into), "--fail-on-warning"),
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=document.parent, timeout=120, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the service."""
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def service(folder: Path, dovecot: Dovecot) -> Iterator[tuple[str, str]]:
    """The URL of a service, a process as people start it, and a key."""
    (folder / "m.toml").write_text(CONFIGURATION.format(certificates=dovecot.ca.parent))
    key = call("keys", "create", "tests", "--store", "sqlite:///maildaemon.db", cwd=folder).out.strip()
    log = folder / "serve.log"
    command = [sys.executable, "-W", "error", "-m", "maildaemon_http.cli", "serve", "m.toml", "--port", "0"]
    process = Process(
        ["env", "-C", folder, *command],
        log=log,
        environment={**os.environ, "COLUMNS": "200", "MAILDAEMON_MASTER_KEY": new_master_key()},
    )
    try:
        deadline = time.monotonic() + 30
        while (found := re.search(r"serves (http://\S+)", log.read_text())) is None:
            assert process.exit_code is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield found[1], key
        assert process.exit_code is None
        assert TRACE not in log.read_text()
    finally:
        process.stop()


@pytest.fixture(scope="module")
def document(service: tuple[str, str], folder: Path) -> Path:
    """The document, in a file."""
    url, key = service
    answer = httpx.get(f"{url}/openapi.json", headers={"x-api-key": key}, trust_env=False)
    assert answer.status_code == 200
    path = folder / "openapi.json"
    path.write_bytes(answer.content)
    return path


@pytest.fixture(scope="module")
def generated(service: tuple[str, str], document: Path, folder: Path) -> Iterator[Generated]:
    done = generate(document, folder / "generated" / PACKAGE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower(), done.stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder / "generated")
        made = Generated(*service)
        yield made
        made.close()
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def mail(number: int, *, size: int = 0) -> bytes:
    return (
        f"From: Jane <jane@firm.example>\r\nTo: joe@example.com\r\nSubject: Invoice {number}\r\n"
        f"Message-ID: <{number}@firm.example>\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="="\r\n\r\n--=\r\nContent-Type: text/plain\r\n\r\nhello\r\n'
        f"--=\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=a{number}.pdf\r\n\r\n"
        + "x" * size
        + "\r\n--=--\r\n"
    ).encode()


class Desk:
    """Somebody who watches over one mailbox with the generated client."""

    def __init__(self, generated: Generated, dovecot: Dovecot, user: str) -> None:
        self.api, self.models, self.user = generated, generated.models, user
        self.password, self.port, self.ca = dovecot.password, dovecot.imaps, str(dovecot.ca)
        self.mailbox = partial(generated.done, "mailbox")
        self.monitoring = partial(generated.done, "monitoring")

    def options(self, **others: Any) -> Any:
        """The page's own fields, and what this server needs."""
        models = self.models
        return models.MailboxOptions(
            **{
                "active": True,
                "mailbox": self.user,
                "host": "localhost",
                "port": self.port,
                "use_ssl": True,
                "password": self.password,
                "export_attachments": True,
                "allowed_attachments": ["pdf"],
                "mail_archiving": models.MailArchiving(active=True, path_template="{subject}.eml"),
                "destinations": [models.DestinationOptions(name="archive", url=self.user, path_template="{filename}")],
                "max_message_bytes": LIMIT,
                "poll_interval_seconds": 3600,
                "options": models.MailboxOptionsOptionsType0.from_dict({"caFile": self.ca}),
                **others,
            }
        )

    def update(self, **properties: Any) -> Any:
        return self.models.MailboxOptionsUpdate(**properties)

    def made(self, **others: Any) -> Any:
        """The configuration of a new mailbox."""
        return self.mailbox("create_mailbox", body=self.options(**others), status=201)

    def swept(self, uuid: str) -> Any:
        """The report of a sweep that began after this was asked for."""
        status = self.mailbox("sweep_mailbox", uuid, wait=60)
        assert (status.state, status.report.state) == ("ended", "done"), status
        counts = status.report.counts
        assert counts.seen == counts.stored + counts.skipped + counts.failed + counts.pending
        return status.report

    def stored(self, uuid: str, **query: Any) -> list[Any]:
        """The successful entries, newest first, by their subject."""
        return list(self.monitoring("list_successful", mailbox=uuid, **query).items)

    def failed(self, uuid: str, **query: Any) -> list[Any]:
        return list(self.monitoring("list_failed", mailbox=uuid, **query).items)


def subjects(entries: Sequence[Any]) -> list[str]:
    return [entry.subject for entry in entries]


@pytest.fixture
def desk(generated: Generated, dovecot: Dovecot, mail_user: str) -> Desk:
    return Desk(generated, dovecot, mail_user)


@pytest.fixture
def place(folder: Path, mail_user: str) -> Path:
    """Where the files of the mailbox are put."""
    return folder / "data" / mail_user


def test_the_generator_makes_a_function_of_every_operation(generated: Generated, document: Path) -> None:
    paths = json.loads(document.read_bytes())["paths"]
    operations = {
        (operation["tags"][0].lower(), operation["operationId"])
        for path in paths.values()
        for operation in path.values()
    }
    assert len(operations) >= 18
    for tag, operation in operations:
        assert callable(importlib.import_module(f"{PACKAGE}.api.{tag}.{operation}").sync_detailed), operation
    update = generated.models.MailboxOptionsUpdate(folders=["Orders"], mail_archiving=None)
    assert update.to_dict() == {"folders": ["Orders"], "mailArchiving": None}
    inner = generated.models.MailArchivingUpdate(metadata=True)
    assert inner.to_dict() == {"metadata": True}


def test_a_mailbox_is_validated_made_and_swept_and_tells_what_became_of_every_mail(
    desk: Desk, dovecot: Dovecot, place: Path
) -> None:
    for number in (1, 2):
        dovecot.deliver(desk.user, mail(number))
    dovecot.deliver(desk.user, mail(3, size=LIMIT))
    kinds = {(kind.role.value, kind.name): kind for kind in desk.mailbox("list_kinds")}
    assert {("source", "imap"), ("destination", "file")} <= kinds.keys()
    assert "caFile" in kinds["source", "imap"].options["properties"]

    findings = desk.mailbox("validate_options", body=desk.options())
    assert {finding.level.value for finding in findings} == {"fine", "warning"}, findings
    made = desk.mailbox("create_mailbox", body=desk.options(), status=201, idempotency_key=desk.user)
    again = desk.mailbox("create_mailbox", body=desk.options(), status=201, idempotency_key=desk.user)
    assert again.to_dict() == made.to_dict()
    assert (made.password, made.managed_by, made.trouble) == (MASK, "api", None)
    assert desk.mailbox("get_mailbox", made.uuid).mailbox == desk.user
    assert made.uuid in {one.uuid for one in desk.mailbox("list_mailboxes").items}
    findings = desk.mailbox("validate_mailbox", made.uuid)
    assert {finding.level.value for finding in findings} == {"fine", "warning"}, findings
    desk.swept(made.uuid)

    stored = desk.stored(made.uuid)
    assert sorted(subjects(stored)) == ["Invoice 1", "Invoice 2"]
    for entry in stored:
        assert (entry.mailbox, entry.address, entry.folder) == (made.uuid, desk.user, "INBOX")
        assert {artifact.role.value for artifact in entry.artifacts} == {"mail", "attachment"}
        for artifact in entry.artifacts:
            data = (place / artifact.path).read_bytes()
            assert (artifact.size, artifact.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    (failed,) = desk.failed(made.uuid)
    assert (failed.subject, failed.next_try.value, bool(failed.remedy)) == ("Invoice 3", "given up", True)
    assert desk.failed(made.uuid, error=failed.error, sender="JANE@") == [failed]
    assert desk.failed(made.uuid, error="NoSuchError") == []
    (info,) = [one for one in desk.monitoring("list_mailbox_infos").items if one.mailbox == made.uuid]
    assert (info.address, info.configured, info.backlog.to_dict()) == (desk.user, True, {})
    assert (info.last_sweep.state, info.failing_since, bool(info.last_sweep.server)) == ("done", None, True)


def test_an_update_changes_what_it_says_and_a_failed_mail_that_is_retried_goes_through(
    desk: Desk, dovecot: Dovecot, place: Path
) -> None:
    dovecot.deliver(desk.user, mail(3, size=LIMIT))
    made = desk.made()
    desk.swept(made.uuid)
    (failed,) = desk.failed(made.uuid)
    update = partial(desk.mailbox, "update_mailbox", made.uuid)
    inner = desk.models.MailArchivingUpdate(metadata=True)
    changed = update(body=desk.update(max_message_bytes=None, mail_archiving=inner), if_match='"1"')
    expected = {**made.to_dict(), "maxMessageBytes": None, "version": 2, "changed": changed.to_dict()["changed"]}
    expected["mailArchiving"] = {**expected["mailArchiving"], "metadata": True}
    assert changed.to_dict() == expected
    refused = partial(desk.api.refused, "mailbox", "update_mailbox", made.uuid, status=412, name="stale-version")
    refused(body=desk.update(folders=["Sent"]), if_match='"1"')

    assert desk.monitoring("retry_entry", failed.id, status=202).retried == 1
    desk.swept(made.uuid)
    assert (subjects(desk.stored(made.uuid)), desk.failed(made.uuid)) == (["Invoice 3"], [])
    assert (place / "a3.pdf").stat().st_size >= LIMIT
    nothing = desk.models.RetryFilter(mailbox=made.uuid)
    assert desk.monitoring("retry_failed", body=nothing, status=202).retried == 0


def test_what_was_read_can_be_sent_back_and_what_was_removed_leaves_its_files(
    desk: Desk, dovecot: Dovecot, place: Path
) -> None:
    made = desk.made()
    read = desk.mailbox("get_mailbox", made.uuid).to_dict()
    body = desk.models.MailboxOptionsUpdate.from_dict({**read, "name": "the desk"})
    replaced = desk.mailbox("replace_mailbox", made.uuid, body=body, if_match='"1"')
    assert (replaced.name, replaced.version, replaced.password) == ("the desk", 2, MASK)
    for number in (1, 2, 3, 4):
        dovecot.deliver(desk.user, mail(number))
    desk.swept(made.uuid)
    stored = desk.stored(made.uuid)
    assert len(stored) == 4  # with the password that was never shown

    gone = stored[-1]
    desk.monitoring("delete_entry", gone.id, status=204)
    first = desk.monitoring("list_successful", mailbox=made.uuid, limit=2)
    second = desk.monitoring("list_successful", mailbox=made.uuid, limit=2, cursor=first.next_)
    pages = [*first.items, *second.items]
    assert (subjects(pages), second.next_) == (["Invoice 4", "Invoice 3", "Invoice 2"], None)
    assert [entry.dismissed for entry in desk.stored(made.uuid, dismissed=True)] == [False, False, False, True]

    desk.mailbox("delete_mailbox", made.uuid, status=204)
    desk.api.refused("mailbox", "get_mailbox", made.uuid, status=404, name="unknown-mailbox")
    assert (place / "Invoice 1.eml").exists()
    adopted = desk.made()
    assert (adopted.uuid, adopted.adopted) == (made.uuid, True)
    desk.swept(made.uuid)
    assert subjects(desk.stored(made.uuid)) == subjects(pages)
    assert len(list(place.glob("*.eml"))) == 4


def test_refusals_are_problems_of_one_class_for_the_generated_client(desk: Desk, tmp_path: Path) -> None:
    models, refused = desk.models, partial(desk.api.refused, "mailbox")
    nothing = refused("create_mailbox", body=models.MailboxOptions(), status=422, name="invalid-options")
    assert {"$.host", "$.password", "$.destinations"} <= {fault.path for fault in nothing.errors}

    outside = [models.DestinationOptions(name="archive", url=str(tmp_path / "elsewhere"))]
    elsewhere = refused("create_mailbox", body=desk.options(destinations=outside), status=422, name="invalid-options")
    assert {fault.path for fault in elsewhere.errors} == {"$.destinations[0].url"}
    metadata = refused("create_mailbox", body=desk.options(host="169.254.169.254"), status=422, name="invalid-options")
    assert {fault.path for fault in metadata.errors} == {"$.host"}
    findings = desk.mailbox("validate_options", body=desk.options(password="wrong"))
    faults = [finding for finding in findings if finding.level == "fault"]
    assert faults
    assert all(fault.remedy for fault in faults)
    unknown = "00000000-0000-0000-0000-000000000000"
    refused("get_mailbox", unknown, status=404, name="unknown-mailbox")
    refused("sweep_mailbox", unknown, status=404, name="unknown-mailbox")
    desk.api.refused("monitoring", "delete_entry", 2**31 - 1, status=404, name="unknown-entry")
    desk.api.refused("monitoring", "list_failed", cursor="x", status=422, name="unknown-cursor")
    desk.api.client.get_httpx_client().headers["x-api-key"] = "md_0123456789_" + "A" * 43
    try:
        refused("list_mailboxes", status=401, name="no-valid-key")
    finally:
        desk.api.client.get_httpx_client().headers["x-api-key"] = desk.api.key
