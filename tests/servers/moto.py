"""An S3 of one's own on loopback: moto in a process of its own, ready in about a second.

    with Moto() as server:
        server.make_bucket("mails")  # http://127.0.0.1:PORT, any access key

https://docs.getmoto.org/en/latest/docs/server_mode.html.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from botocore.config import Config
from botocore.session import Session

from tests.servers.certificates import Certificates
from tests.servers.process import LOOPBACK, Process, ServerFailed, free_port

ATTEMPTS = 3
KEY, SECRET = "AKIAOPERATOROFTHETEST", "the-secret-of-the-operator"


class Moto:
    """A server that forgets everything when it stops.  ``certificates``: it speaks TLS with these.

    Known once started: ``port``, ``url``, ``process``.
    """

    def __init__(self, *, certificates: Certificates | None = None) -> None:
        self.certificates = certificates
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="maildaemon-moto-")
        for attempt in range(1, ATTEMPTS + 1):
            self.port = free_port()
            words = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(self.port)]
            if self.certificates is not None:
                words += ["-s", "-c", str(self.certificates.certificate), "-k", str(self.certificates.key)]
            self.process = Process(words, log=Path(self._folder.name) / "log", environment=_environment())
            try:
                self.process.wait_for(self.port)
                return self
            except ServerFailed:
                self.process.stop()
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            client.close()
        self.process.stop()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        return f"{'http' if self.certificates is None else 'https'}://{LOOPBACK}:{self.port}"

    def client(self, service: str = "s3") -> Any:
        """Another client than the adapter's, as the operator of everything; one for each service: they cost time."""
        if service not in self._clients:
            self._clients[service] = self._client(service)
        return self._clients[service]

    def _client(self, service: str) -> Any:
        return Session().create_client(
            service,
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            verify=None if self.certificates is None else str(self.certificates.ca),
            config=Config(proxies={}, s3={"addressing_style": "path"}),
        )

    def make_bucket(self, name: str) -> None:
        self.client().create_bucket(Bucket=name)


def _environment() -> dict[str, str]:
    """Ours without what would tell it where to be, or whom to trust."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(("AWS_", "MOTO_"))}
