"""What goes wrong with ``s3``, ``azure`` and ``gcs`` is told in words of its own, soon, and harms nothing."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from maildaemon_adapters.files.azure import AZURE
from maildaemon_adapters.files.azure import store as azure_store
from maildaemon_adapters.files.gcs import GCS
from maildaemon_adapters.files.gcs import store as gcs_store
from maildaemon_adapters.files.objects.tree import BLOCK, ObjectTree
from maildaemon_adapters.files.s3 import S3
from maildaemon_adapters.files.s3 import store as s3_store
from maildaemon_adapters.files.tree import Fault, TreeError
from maildaemon_core.codec import read
from maildaemon_core.confinement import Confinement, destination_problems
from maildaemon_core.engine.confining import confined
from maildaemon_core.errors import DestinationUnavailable, InvalidOptions, LoginRefused
from maildaemon_core.options import DestinationOptions
from maildaemon_core.ports import Finding, Level, Staged
from maildaemon_core.progress import Receipt
from maildaemon_core.testing.destination_conformance import batch_of, published_of, put_of, staged_of
from tests.contracts.object_grounds import (
    ROOT,
    AzureGround,
    GcsGround,
    Ground,
    S3Ground,
    Shelf,
    at,
    closing,
    opened,
    tree_of,
)
from tests.servers import azurite
from tests.servers.certificates import Certificates, make_ca
from tests.servers.process import LOOPBACK, free_port
from tests.servers.proxy import NO_FAULT, ChaosProxy
from tests.servers.proxy import Fault as Wrong

pytestmark = pytest.mark.server

SOON = 15.0
"""Seconds within which everything that is wrong has to be told."""

GROUNDS: dict[str, type[S3Ground | AzureGround | GcsGround]] = {"s3": S3Ground, "azure": AzureGround, "gcs": GcsGround}


@pytest.fixture(params=list(GROUNDS))
def ground(request: pytest.FixtureRequest, grounds: Callable[[str], Ground]) -> Ground:
    return grounds(request.param)


@pytest.fixture
def bucket(ground: Ground) -> str:
    return ground.fresh()


@pytest.fixture
def proxy(ground: Ground) -> Iterator[ChaosProxy]:
    with ChaosProxy(ground.port) as proxy:
        yield proxy


def fault_of(ground: Ground, options: DestinationOptions) -> Finding:
    """What ``validate`` says, which it has to soon."""
    began = time.monotonic()
    with closing(opened(ground, options)) as destination:
        (fault,) = [each for each in destination.check() if each.level is Level.FAULT]
    assert time.monotonic() - began < SOON
    assert isinstance(fault, Finding)
    assert fault.remedy
    return fault


# --------------------------------------------------------------------------------------------------- each in its words


def test_a_host_that_is_not_there_is_told(ground: Ground, bucket: str) -> None:
    fault = fault_of(ground, ground.options(bucket, endpoint=at(ground, ground.port, "no-such-host.invalid")))
    assert "the host name 'no-such-host.invalid' does not resolve" in fault.message


def test_a_port_where_nothing_listens_is_told(ground: Ground, bucket: str) -> None:
    port = free_port()
    fault = fault_of(ground, ground.options(bucket, endpoint=at(ground, port)))
    assert f"nothing listens on {LOOPBACK}:{port}" in fault.message


@pytest.mark.heavy
def test_a_server_that_says_nothing_is_told(
    ground: Ground, bucket: str, monkeypatch: pytest.MonkeyPatch, *, heavy: bool
) -> None:
    if not heavy and ground.kind is not S3:
        for module in (azure_store, gcs_store):
            monkeypatch.setattr(module, "SILENT_SECONDS", 1.0)
    with socket.create_server((LOOPBACK, 0)) as silent:
        port = silent.getsockname()[1]
        fault = fault_of(ground, ground.options(bucket, endpoint=at(ground, port)))
    assert f"{LOOPBACK}:{port} did not answer within" in fault.message


def test_a_bucket_that_is_not_there_is_told(ground: Ground) -> None:
    fault = fault_of(ground, ground.options("no-such-bucket"))
    assert "no-such-bucket" in fault.message
    assert " no " in fault.message
    assert "make the" in fault.remedy
    with closing(opened(ground, ground.options("no-such-bucket"))) as destination:
        with pytest.raises(DestinationUnavailable, match="no-such-bucket"):
            destination.stage(batch_of(1), [put_of("a", "a")])
        stranger = Staged(part="a", path="a", size=7, sha256="0" * 64)
        with pytest.raises(DestinationUnavailable, match="no-such-bucket"):
            destination.publish(batch_of(1), [stranger])


@pytest.mark.parametrize("ground", ["azure", "gcs"], indirect=True)
def test_a_login_that_is_wrong_is_told(ground: Ground, bucket: str) -> None:
    options = ground.options(bucket, **ground.stranger())
    fault = fault_of(ground, options)
    if isinstance(ground, GcsGround):
        assert "gives the service account no token: invalid_grant: Invalid JWT Signature" in fault.message
        refused: type[Exception] = LoginRefused
    else:  # Azure itself says AuthenticationFailed; see below
        assert "AuthorizationFailure" in fault.message
        refused = DestinationUnavailable
    assert "key" in fault.remedy
    with closing(opened(ground, options)) as destination, pytest.raises(refused):
        destination.stage(batch_of(1), [put_of("a", "a")])


def test_keys_and_rights_of_s3_are_told_apart(bucket_with_guard: tuple[S3Ground, str]) -> None:
    ground, bucket = bucket_with_guard
    known = {"username": USER["AccessKeyId"], "password": USER["SecretAccessKey"]}
    assert "knows no such access key" in fault_of(ground, ground.options(bucket, username="AKIASTRANGER")).message
    wrong = fault_of(ground, ground.options(bucket, **{**known, "password": "somebody else's"}))
    assert "the secret access key does not belong to the access key" in wrong.message
    denied = fault_of(ground, ground.options(bucket, **known))
    assert "(AccessDenied)" in denied.message
    assert "s3:PutObject" in denied.remedy


USER: dict[str, str] = {}


@pytest.fixture
def bucket_with_guard() -> Iterator[tuple[S3Ground, str]]:
    """A server that looks at keys and rights from now on, and a user who may only list."""
    with S3Ground() as ground:
        bucket = ground.fresh()
        accounts = ground.client("iam")
        accounts.create_user(UserName="jane")
        USER.update(accounts.create_access_key(UserName="jane")["AccessKey"])
        rule = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}
        accounts.put_user_policy(
            UserName="jane", PolicyName="list", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": rule})
        )
        with socket.create_connection((LOOPBACK, ground.port), 5) as raw:
            raw.sendall(
                b"POST /moto-api/reset-auth HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\n0"
            )
            assert b"200" in raw.recv(100)
        yield ground, bucket


@pytest.mark.parametrize("ground", ["azure"], indirect=True)
def test_a_signature_gives_the_rights_that_it_names(ground: Ground, bucket: str) -> None:
    from datetime import UTC, datetime, timedelta

    def signature(rights: str, hours: int = 1) -> str:
        return generate_container_sas(
            azurite.ACCOUNT,
            bucket,
            azurite.KEY,
            permission=ContainerSasPermissions.from_string(rights),
            expiry=datetime.now(UTC) + timedelta(hours=hours),
        )

    with closing(opened(ground, ground.options(bucket, password=signature("rcwdl")))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a b/%41.eml", b"signed")])
        assert Shelf(ground.outside(bucket)).files() == {"a b/%41.eml": b"signed"}
    denied = fault_of(ground, ground.options(bucket, password=signature("rl")))
    assert "Authorization" in denied.message
    assert "(rcwdl)" in denied.remedy
    expired = fault_of(ground, ground.options(bucket, password=signature("rcwdl", -1)))
    assert "has not expired" in expired.remedy


class Answering:
    """A server that answers every request with the same; ``asked`` are the requests that it got."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                outer.asked.append(f"{self.command} {self.path}")
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    @contextmanager
    def running(self) -> Iterator[int]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self.port
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def said(kind: str, code: str) -> tuple[dict[str, str], bytes]:
    """How the vendor says it."""
    if kind == "s3":
        return {}, f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode()
    if kind == "azure":
        return {"x-ms-error-code": code}, b""
    return {}, json.dumps({"error": {"message": "so it is", "errors": [{"reason": code}]}}).encode()


@pytest.mark.parametrize(
    ("ground", "status", "code", "fault"),
    [
        ("s3", 503, "SlowDown", Fault.BUSY),
        ("s3", 507, "XMinioStorageFull", Fault.FULL),
        ("s3", 403, "QuotaExceeded", Fault.FULL),
        ("s3", 403, "AccessDenied", Fault.DENIED),
        ("s3", 400, "ExpiredToken", Fault.LOGIN),
        ("s3", 403, "RequestTimeTooSkewed", Fault.GONE),
        ("s3", 400, "KeyTooLongError", Fault.NAME),
        ("s3", 500, "InternalError", Fault.OTHER),
        ("s3", 301, "PermanentRedirect", Fault.GONE),
        ("s3", 404, "NoSuchBucket", Fault.GONE),
        ("azure", 503, "ServerBusy", Fault.BUSY),
        ("azure", 507, "InsufficientStorage", Fault.FULL),
        ("azure", 403, "AuthorizationFailure", Fault.DENIED),
        ("azure", 500, "InternalError", Fault.OTHER),
        ("azure", 403, "AuthenticationFailed", Fault.LOGIN),
        ("azure", 404, "ContainerNotFound", Fault.GONE),
        ("gcs", 429, "rateLimitExceeded", Fault.BUSY),
        ("gcs", 403, "rateLimitExceeded", Fault.BUSY),
        ("gcs", 403, "storageQuotaExceeded", Fault.FULL),
        ("gcs", 403, "forbidden", Fault.DENIED),
        ("gcs", 401, "authError", Fault.LOGIN),
        ("gcs", 500, "backendError", Fault.BUSY),
        ("gcs", 404, "notFound", Fault.GONE),
    ],
    indirect=["ground"],
)
def test_what_the_vendor_says_means_the_same_everywhere(ground: Ground, status: int, code: str, fault: Fault) -> None:
    options = ground.options("bucket")
    headers, body = said(options.kind, code)
    server = Answering(status, {**headers, "Retry-After": "7"}, body)
    with server.running() as port:
        options = ground.options("bucket", endpoint=at(ground, port))
        with closing(tree_of(options)) as tree, pytest.raises(TreeError) as caught:
            tree.write("a", [b"content"])
    assert caught.value.fault is fault
    if fault is Fault.BUSY:
        assert caught.value.retry_after == 7


def test_a_server_that_sends_its_clients_on_takes_them_nowhere(ground: Ground) -> None:
    aim = Answering(200, {}, b"{}")
    with aim.running() as elsewhere:
        server = Answering(307, {"Location": f"http://{LOOPBACK}:{elsewhere}/bucket/key"}, b"")
        with server.running() as port:
            fault_of(ground, ground.options("bucket", endpoint=at(ground, port)))
    assert server.asked
    assert not aim.asked


# --------------------------------------------------------------------------------------------------- trust, ambience


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize("kind", list(GROUNDS))
def test_a_certificate_is_checked_and_a_ca_of_ones_own_is_enough(
    kind: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with GROUNDS[kind](certificates=certificates) as ground:
        bucket = ground.fresh()
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE"):
            monkeypatch.setenv(name, "/nowhere/ca.pem")
        with closing(opened(ground, ground.options(bucket))) as destination:
            published_of(destination, batch_of(1), [put_of("a", "a", b"over TLS")])
            assert all(each.level is Level.FINE for each in destination.check() if "condition" not in each.message)
        fault = fault_of(ground, ground.options(bucket, options={"caFile": None}))
        assert "certificate" in fault.message
        assert "options.caFile" in fault.remedy


_connects: list[tuple[Any, ...]] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _connects is not None and event == "socket.connect":
        _connects.append(arguments[1])


@pytest.fixture
def connects() -> Iterator[list[tuple[Any, ...]]]:
    """Where this process connects to."""
    global _connects  # noqa: PLW0603 - an audit hook stays for ever
    if not getattr(_hook, "there", False):
        sys.addaudithook(_hook)
        _hook.there = True  # type: ignore[attr-defined]
    _connects = []
    yield _connects
    _connects = None


def test_nothing_around_is_ever_used_to_log_in_or_to_find_the_server(
    ground: Ground, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, connects: list[tuple[Any, ...]]
) -> None:
    with socket.create_server((LOOPBACK, 0)) as trap:
        snare = f"http://{LOOPBACK}:{trap.getsockname()[1]}"
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws" / "config").write_text(f"[default]\nendpoint_url = {snare}\nregion = mars-1\n")
        (tmp_path / "account.json").write_text("{}")
        for name, value in {
            "HOME": str(tmp_path),
            "AWS_ACCESS_KEY_ID": "AKIAAMBIENT",
            "AWS_SECRET_ACCESS_KEY": "ambient",
            "AWS_SESSION_TOKEN": "ambient",
            "AWS_PROFILE": "no-such-profile",
            "AWS_ENDPOINT_URL": snare,
            "AWS_ENDPOINT_URL_S3": snare,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": snare,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": snare,
            "AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint={snare}/devstoreaccount1",
            "AZURE_CLIENT_ID": "ambient",
            "STORAGE_EMULATOR_HOST": snare,
            "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "account.json"),
            "GCE_METADATA_HOST": f"{LOOPBACK}:{trap.getsockname()[1]}",
            "HTTP_PROXY": snare,
            "HTTPS_PROXY": snare,
            "http_proxy": snare,
            "all_proxy": snare,
            "NO_PROXY": "",
            "no_proxy": "",
        }.items():
            monkeypatch.setenv(name, value)
        connects.clear()
        with closing(opened(ground, ground.options(bucket))) as destination:
            published_of(destination, batch_of(1), [put_of("a", "a")])
        ours = {ground.port, *([ground.tokens._server.server_address[1]] if isinstance(ground, GcsGround) else [])}
        assert connects
        assert {address[1] for address in connects} <= ours

        connects.clear()
        for login in ({"username": None, "password": None}, {"password": None}):
            with pytest.raises(InvalidOptions, match="ever used"):
                opened(ground, ground.options(bucket, **login))
        assert connects == []
        trap.settimeout(0.05)
        with pytest.raises(TimeoutError):
            trap.accept()


def test_a_confined_mailbox_connects_only_where_it_may(
    ground: Ground, bucket: str, connects: list[tuple[Any, ...]]
) -> None:
    with closing(opened(ground, ground.options(bucket))) as destination:
        with confined(Confinement()):
            with pytest.raises(DestinationUnavailable, match="is this machine itself"):
                destination.stage(batch_of(1), [put_of("a", "a"), put_of("b", "b")])
            trouble = destination.probe()
            assert trouble is not None
            assert "allowNetworks" in trouble.remedy
        with confined(Confinement(allow_networks=("127.0.0.0/8",))):
            puts = [put_of(str(number), str(number)) for number in range(20)]  # by several threads
            published_of(destination, batch_of(1), puts)


def test_nothing_secret_is_logged_or_shown(
    ground: Ground, bucket: str, caplog: pytest.LogCaptureFixture, proxy: ChaosProxy
) -> None:
    caplog.set_level(logging.DEBUG)
    with closing(opened(ground, ground.options(bucket, endpoint=at(ground, proxy.port)))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a", b"the mail itself")])
        destination.check()
        proxy.fault = Wrong(refuse=True)
        proxy.drop_all()
        with pytest.raises(DestinationUnavailable) as caught:
            destination.stage(batch_of(2), [put_of("a", "a", bytes(BLOCK + 1))])
        shown = "\n".join((caplog.text, repr(destination), str(caught.value), destination.place, repr(caught.value)))
    if ground.kind is not S3:
        fault_of(ground, ground.options(bucket, **ground.stranger()))
    shown += caplog.text
    for secret in (*ground.secrets, "the mail itself", "sig=", "Signature="):
        assert secret not in shown


# ------------------------------------------------------------------------------------------------------ broken off


@pytest.mark.parametrize("how", ["cut", "reset"])
def test_a_connection_that_breaks_in_the_middle_leaves_nothing_torn_and_it_goes_on(
    ground: Ground, bucket: str, proxy: ChaosProxy, how: str
) -> None:
    consumer = Shelf(ground.outside(bucket))
    data = os.urandom(BLOCK + 200_000)
    limit = 100_000
    with closing(opened(ground, ground.options(bucket, endpoint=at(ground, proxy.port)))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "before")])
        proxy.fault = Wrong(direction="up", **{f"{how}_after": limit})  # type: ignore[arg-type]
        with pytest.raises(DestinationUnavailable):
            destination.stage(batch_of(2), [put_of("a", "big", data)])
        assert set(consumer.files()) == {"before"}
        proxy.fault = NO_FAULT
        published_of(destination, batch_of(2), [put_of("a", "big", data)])
        assert consumer.files()["big"] == data
    assert ground.outside(bucket).unfinished() == 0


def test_what_breaks_off_within_a_block_comes_whole_in_the_end(ground: Ground, bucket: str, proxy: ChaosProxy) -> None:
    data = os.urandom(2 * BLOCK + 200_000)
    with closing(opened(ground, ground.options(bucket, endpoint=at(ground, proxy.port)))) as destination:
        staged_of(destination, batch_of(1), [put_of("a", "before")])
        proxy.fault = Wrong(direction="up", cut_after=BLOCK + BLOCK // 2)
        heal = threading.Timer(0.1, lambda: setattr(proxy, "fault", NO_FAULT))
        heal.start()
        try:
            published_of(destination, batch_of(1), [put_of("b", "big", data)])
        except DestinationUnavailable:
            heal.join()
            published_of(destination, batch_of(1), [put_of("b", "big", data)])
        heal.join()
    assert Shelf(ground.outside(bucket)).files() == {"big": data}


def test_a_connection_that_breaks_once_is_no_trouble(ground: Ground, bucket: str, proxy: ChaosProxy) -> None:
    """Servers close connections that were idle, just when they are used again."""
    with closing(opened(ground, ground.options(bucket, endpoint=at(ground, proxy.port)))) as destination:
        for number in range(3):
            proxy.drop_all()
            published_of(destination, batch_of(number), [put_of("a", f"{number}")])
    assert set(Shelf(ground.outside(bucket)).files()) == {"0", "1", "2"}


class LosingAnswers:
    """A store whose next answer to ``call`` gets lost: it is done, and nobody learns of it."""

    def __init__(self, store: Any, call: str) -> None:
        self._store = store
        self._call = call
        self.lost = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name != self._call or self.lost:
            return found

        def losing(*arguments: Any) -> Any:
            found(*arguments)
            self.lost += 1
            raise TreeError(Fault.DENIED, "the answer got lost")

        return losing


@pytest.mark.parametrize("call", ["copy", "delete"])
def test_a_copy_whose_answer_was_lost_is_known_as_ours_and_finished(ground: Ground, bucket: str, call: str) -> None:
    outside = ground.outside(bucket)
    with closing(tree_of(ground.options(bucket))) as tree:
        tree.write(".maildaemon/batch/part", [b"once"])
        losing = LosingAnswers(tree._store, call)
        with pytest.raises(TreeError):
            ObjectTree(losing, tree._root).publish(".maildaemon/batch/part", "a")
        assert losing.lost == 1
        if call == "copy":
            assert outside.files() == {"a": b"once", ".maildaemon/batch/part": b"once"}
            assert tree.publish(".maildaemon/batch/part", "a")
            assert outside.files() == {"a": b"once"}
            tree.write(".maildaemon/batch/part", [b"once"])  # the same bytes, but not the same part
            with pytest.raises(TreeError) as caught:
                tree.publish(".maildaemon/batch/part", "a")
            assert caught.value.fault is Fault.EXISTS
        else:
            with pytest.raises(TreeError) as caught:
                tree.publish(".maildaemon/batch/part", "a")
            assert caught.value.fault is Fault.MISSING
            assert outside.files() == {"a": b"once"}


def test_a_large_object_that_breaks_off_leaves_nothing(ground: Ground, bucket: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(3):
            yield bytes(BLOCK)
        raise ZeroDivisionError

    outside = ground.outside(bucket)
    with closing(tree_of(ground.options(bucket))) as tree:
        with pytest.raises(ZeroDivisionError):
            tree.write("a", pieces())
        assert outside.files() == {}
        assert outside.unfinished() == 0


@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_sizes_about_a_block_are_whole(ground: Ground, bucket: str, size: int) -> None:
    data = os.urandom(1000) * (size // 1000 + 1)
    with closing(opened(ground, ground.options(bucket))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a", data[:size])])
    assert ground.outside(bucket).files()["a"] == data[:size]


def test_what_cannot_be_copied_at_once_is_refused_before_it_is_sent(ground: Ground, bucket: str) -> None:
    largest = {"s3": s3_store, "azure": azure_store, "gcs": gcs_store}[ground.options(bucket).kind].LARGEST

    read_from: list[int] = []

    def pieces() -> Iterator[bytes]:
        read_from.append(1)
        yield b"x"

    with closing(tree_of(ground.options(bucket))) as tree, pytest.raises(TreeError) as caught:
        tree.write("a", pieces(), largest + 1)
    assert caught.value.fault is Fault.REFUSED_FILE
    assert read_from == []


def test_a_name_that_is_too_long_as_a_whole_is_told(ground: Ground, bucket: str) -> None:
    with closing(opened(ground, ground.options(bucket))) as destination:
        staged = staged_of(destination, batch_of(1), [put_of("a", "/".join(["x" * 200] * 6))])
        answer = destination.publish(batch_of(1), staged)["a"]
    assert answer.error == "PathRefused"


# ------------------------------------------------------------------------------------------------- S3's own settings


@pytest.fixture
def s3_ground(grounds: Callable[[str], Ground]) -> S3Ground:
    ground = grounds("s3")
    assert isinstance(ground, S3Ground)
    return ground


def test_class_and_encryption_of_objects_are_as_they_were_asked_for(s3_ground: S3Ground) -> None:
    bucket = s3_ground.fresh()
    more = {"storageClass": "STANDARD_IA", "encryption": "aws:kms", "kmsKeyId": "a-key"}
    with closing(opened(s3_ground, s3_ground.options(bucket, options=more))) as destination:
        published_of(destination, batch_of(1), [put_of("a", "a")])
    found = s3_ground.client().head_object(Bucket=bucket, Key="in/mails/a")
    assert (found["StorageClass"], found["ServerSideEncryption"]) == ("STANDARD_IA", "aws:kms")
    assert "a-key" in found["SSEKMSKeyId"]


# ------------------------------------------------------------------------------------------------------------- memory

WRITING = """
import json, resource, sys
from maildaemon_core.options import DestinationOptions
from tests.contracts.object_grounds import tree_of
written, size = json.loads(sys.argv[1]), int(sys.argv[2])
tree = tree_of(DestinationOptions(**written))
tree.write("small", [b"x"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tree.write("big", (bytes(65536) for _ in range(size // 65536)), size)
tree.publish("big", "shown")
assert sum(map(len, tree.read("shown"))) == size
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.heavy
def test_memory_does_not_grow_with_the_file(ground: Ground, bucket: str, heavy: bool) -> None:
    size = (3200 if heavy else 320) * 65536  # 200 MiB or 20
    options = ground.options(bucket)
    written = {
        "type": options.kind,
        "url": options.url,
        "username": options.username,
        "password": options.password.value if options.password else None,
        "options": options.options,
    }
    run = subprocess.run(
        [sys.executable, "-c", WRITING, json.dumps(written), str(size)],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 32 * 1024


# -------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("kind", "changed", "path"),
    [
        (S3, {"url": "s3://bucket:99/x"}, "$.url"),
        (S3, {"url": "https://bucket/x"}, "$.url"),
        (S3, {"username": None}, "$.username"),
        (S3, {"password": None}, "$.password"),
        (S3, {"options": {"endpointUrl": "ftp://minio"}}, "$.options.endpointUrl"),
        (S3, {"options": {"endpointUrl": "https://key:secret@minio"}}, "$.options.endpointUrl"),
        (S3, {"options": {"endpointUrl": "minio:9000/bucket"}}, "$.options.endpointUrl"),
        (S3, {"options": {"kmsKeyId": "x"}}, "$.options.kmsKeyId"),
        (S3, {"options": {"caFile": "ca.pem"}}, "$.options.caFile"),
        (AZURE, {"url": "azure://account", "username": None}, "$.url"),
        (AZURE, {"url": "azure://evil.example/container", "username": None}, "$.url"),
        (AZURE, {"url": "azure://account/container"}, "$.username"),
        (GCS, {"url": "gs://b", "username": None}, "$.url"),
        (GCS, {"url": "gs://bucket"}, "$.username"),
    ],
)
def test_what_is_wrong_with_options_is_told_with_its_place(kind: Any, changed: dict[str, Any], path: str) -> None:
    options = DestinationOptions(
        **{"type": "s3", "url": "s3://bucket/x", "username": "jane", "password": "secret", **changed}
    )
    assert path in [each.path for each in kind.problems(options, read(kind.settings, options.options))]


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "http://169.254.169.254", "https://minio.example.org"])
def test_a_confined_mailbox_names_no_server_that_it_may_not_reach(endpoint: str) -> None:
    options = DestinationOptions(type="s3", url="s3://bucket/x", options={"endpointUrl": endpoint})
    (problem,) = destination_problems(Confinement(hosts=("*.example.com", "127.*", "169.*")), options, "$")
    assert problem.path == "$.options.endpointUrl"
    free = DestinationOptions(type="s3", url="s3://bucket/x", options={"endpointUrl": "minio.example.com:9000"})
    assert destination_problems(Confinement(hosts=("*.example.com",)), free, "$") == []


@pytest.mark.parametrize("region", ["", "eu.evil.net/", "x@127.0.0.1/", "eu-central-1\n"])
def test_a_region_is_no_way_to_another_server_and_what_was_written_is_not_repeated(region: str) -> None:
    with pytest.raises(InvalidOptions, match="is no region; write one such as eu-central-1") as caught:
        read(S3.settings, {"region": region})
    assert not region or region not in str(caught.value)


@pytest.mark.parametrize("kind", [S3, AZURE, GCS])
def test_nothing_is_handed_through_to_a_library(kind: Any) -> None:
    for name in ("anon", "key", "endpoint_url", "clientKwargs", "profile", "connectionString", "token"):
        with pytest.raises(InvalidOptions, match="unknown"):
            read(kind.settings, {name: "x"})
    assert all(each.metadata.get("local_path") for each in attrs.fields(kind.settings) if each.name.endswith("_file"))


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("no json", "it is no JSON"),
        ('{"type": "authorized_user"}', "its type is not service_account"),
        ('{"type": "service_account"}', "it has no client_email"),
        (
            '{"type": "service_account", "client_email": "a", "private_key": "b", "token_uri": "http://c"}',
            "its token_uri is not https",
        ),
        (
            '{"type": "service_account", "client_email": "a", "private_key": "b", "token_uri": "https://10.0.0.1/inner"}',
            "its token_uri is a server neither of Google's nor of options.endpointUrl",
        ),
        (
            '{"type": "service_account", "client_email": "a", "private_key": "b", "token_uri": "https://e.net\\\\.googleapis.com"}',
            "its token_uri is a server neither of Google's nor of options.endpointUrl",
        ),
        (
            '{"type": "service_account", "client_email": "a", "private_key": "SECRET", "token_uri": "https://x.googleapis.com"}',
            "its private_key cannot be read",
        ),
    ],
)
def test_what_is_no_key_of_a_service_account_is_told_and_not_shown(password: str, why: str) -> None:
    options = DestinationOptions(type="gcs", url="gs://bucket", password=password)
    with pytest.raises(InvalidOptions, match=why) as caught:
        GCS.open(options, GCS.settings())
    assert "SECRET" not in str(caught.value)


def test_what_is_no_key_of_an_account_is_told_and_not_shown() -> None:
    options = DestinationOptions(type="azure", url="azure://account/container", password="no key at all")
    with pytest.raises(InvalidOptions, match="neither a key") as caught:
        AZURE.open(options, AZURE.settings())
    assert "no key at all" not in str(caught.value)


WITHOUT = """
import sys
for name in ("botocore", "azure.storage.blob", "google.oauth2", "requests"):
    assert name not in sys.modules
    sys.modules[name] = None
from maildaemon_adapters.files import azure, gcs, s3
from maildaemon_core.errors import BrokenPlugin
from maildaemon_core.options import DestinationOptions
for kind, type in ((s3.S3, "s3"), (azure.AZURE, "azure"), (gcs.GCS, "gcs")):
    options = DestinationOptions(type=type, url="x", password="x")
    print(kind.problems(options, kind.settings())[0].message)
    try:
        kind.open(options, kind.settings())
    except BrokenPlugin as error:
        print(error.remedy)
"""


def test_a_kind_without_its_library_is_there_and_says_how_to_get_it() -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    for kind, package in (("s3", "botocore"), ("azure", "azure.storage.blob"), ("gcs", "google.oauth2, requests")):
        line = f"pip install 'maildaemon[{kind}]'"
        assert f"the destination '{kind}' needs {package}, not installed: {line}\n{line}\n" in run.stdout


def test_a_receipt_has_the_version_that_the_server_gave(ground: Ground, bucket: str) -> None:
    with closing(opened(ground, ground.options(bucket))) as destination:
        staged = staged_of(destination, batch_of(1), [put_of("a", "a")])
        receipt = destination.publish(batch_of(1), staged)["a"]
        assert isinstance(receipt, Receipt)
        assert receipt.etag
    with closing(tree_of(ground.options(bucket))) as tree:
        assert tree._store.head(f"{ROOT}/a").version == receipt.etag
