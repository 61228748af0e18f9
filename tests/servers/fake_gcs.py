"""Google Cloud Storage on loopback: fake-gcs-server, and a server that gives tokens; ready in 0.1 s.

    with FakeGcs() as server:
        server.make_bucket("mails")
        server.account("jane")  # a service account's key, as Google gives it out

https://github.com/fsouza/fake-gcs-server.  It takes any token, or none: that there is one is for us to see.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.servers.availability import fake_gcs_program
from tests.servers.certificates import Certificates
from tests.servers.process import LOOPBACK, Process, ServerFailed, free_port

ATTEMPTS = 3


class FakeGcs:
    """A server that keeps everything in memory.  ``certificates``: it speaks TLS with these, and gives tokens so.

    Known once started: ``port``, ``url``, ``process``, ``tokens``.
    """

    def __init__(self, *, certificates: Certificates | None = None) -> None:
        self.certificates = certificates

    def __enter__(self) -> Self:
        program = fake_gcs_program()
        self._folder = tempfile.TemporaryDirectory(prefix="maildaemon-gcs-")
        self.session = requests.Session()
        self.session.trust_env = False
        if self.certificates is not None:
            self.session.verify = str(self.certificates.ca)
        self.tokens = Tokens(self.certificates)
        for attempt in range(1, ATTEMPTS + 1):
            self.port = free_port()
            self.process = Process(
                [
                    *(
                        program,
                        "-scheme",
                        self._scheme,
                        "-host",
                        LOOPBACK,
                        "-port",
                        str(self.port),
                        "-backend",
                        "memory",
                    ),
                    *("-public-host", f"{LOOPBACK}:{self.port}", "-external-url", self.url),
                    *self._tls,
                    *("-log-level", "error"),
                ],
                log=Path(self._folder.name) / "log",
                environment=dict(os.environ),
            )
            try:
                self.process.wait_for(self.port)
                break
            except ServerFailed:
                self.process.stop()
                if attempt == ATTEMPTS:
                    self.tokens.close()
                    raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tokens.close()
        self.process.stop()
        self.session.close()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        return f"{self._scheme}://{LOOPBACK}:{self.port}"

    @property
    def _scheme(self) -> str:
        return "http" if self.certificates is None else "https"

    @property
    def _tls(self) -> list[str]:
        if self.certificates is None:
            return []
        return [
            *("-cert-location", str(self.certificates.certificate)),
            *("-private-key-location", str(self.certificates.key)),
        ]

    def make_bucket(self, name: str) -> None:
        answer = self.session.post(f"{self.url}/storage/v1/b", json={"name": name}, timeout=10)
        answer.raise_for_status()

    def account(self, name: str = "jane", **others: str) -> str:
        """The key of a service account, in JSON."""
        return self.tokens.account(name, **others)


class Tokens:
    """Gives tokens to whoever signs as one of its accounts (RFC 7523), as Google does; ``given`` counts them."""

    def __init__(self, certificates: Certificates | None = None) -> None:
        self._scheme = "http" if certificates is None else "https"
        self.given: Counter[str] = Counter()
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, answer = outer._answer(parse_qs(body)["assertion"][0])
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.certificate, certificates.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://{LOOPBACK}:{self._server.server_address[1]}/token"

    def account(self, name: str, **others: str) -> str:
        key = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        known = {
            "type": "service_account",
            "project_id": "test",
            "private_key_id": "1",
            "private_key": key.decode(),
            "client_email": f"{name}@test.iam.gserviceaccount.com",
            "token_uri": self.url,
        }
        return json.dumps({**known, **others})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, assertion: str) -> tuple[int, Mapping[str, Any]]:
        signed, _, signature = assertion.rpartition(".")
        try:
            self._key.public_key().verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        who = json.loads(_decoded(signed.partition(".")[2]))["iss"]
        self.given[who] += 1
        return 200, {"access_token": f"ya29.a-token-of-{who}", "expires_in": 3600, "token_type": "Bearer"}


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
