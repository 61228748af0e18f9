"""Azure's blob storage on loopback: azurite under node, ready in about 1.5 s.

    with Azurite() as server:
        server.make_container("mails")  # http://127.0.0.1:PORT/devstoreaccount1

https://learn.microsoft.com/en-us/azure/storage/common/storage-use-azurite.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from azure.core.credentials import AzureNamedKeyCredential
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import ContainerClient

from tests.servers.availability import azurite_programs
from tests.servers.certificates import Certificates
from tests.servers.process import LOOPBACK, Process, ServerFailed, free_port

ATTEMPTS = 3
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""What every emulator has: no secret."""


class Azurite:
    """A server that keeps everything in memory.  ``certificates``: it speaks TLS with these.

    Known once started: ``port``, ``url``, ``process``.
    """

    def __init__(self, *, certificates: Certificates | None = None) -> None:
        self.certificates = certificates

    def __enter__(self) -> Self:
        node, program = azurite_programs()
        self._folder = tempfile.TemporaryDirectory(prefix="maildaemon-azurite-")
        for attempt in range(1, ATTEMPTS + 1):
            self.port = free_port()
            tls = self.certificates
            self.process = Process(
                [
                    *(node, program, "--blobHost", LOOPBACK, "--blobPort", str(self.port), "--inMemoryPersistence"),
                    *("--silent", "--disableTelemetry", "--skipApiVersionCheck"),
                    *([] if tls is None else ["--cert", str(tls.certificate), "--key", str(tls.key)]),
                ],
                log=Path(self._folder.name) / "log",
                environment={name: value for name, value in os.environ.items() if not name.startswith("AZURITE_")},
            )
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
        self.process.stop()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        return f"{'http' if self.certificates is None else 'https'}://{LOOPBACK}:{self.port}/{ACCOUNT}"

    def container(self, name: str) -> ContainerClient:
        """Another client than the adapter's, as the account's owner."""
        return ContainerClient(
            self.url,
            name,
            credential=AzureNamedKeyCredential(ACCOUNT, KEY),
            transport=RequestsTransport(
                use_env_settings=False,
                connection_verify=True if self.certificates is None else str(self.certificates.ca),
            ),
        )

    def make_container(self, name: str) -> None:
        with self.container(name) as container:
            container.create_container()
