"""A whole service without a network: the application, a real store, and mail servers and destinations in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import attrs
from httpx import Response
from litestar.testing import TestClient

from maildaemon_adapters.sealing import Vault, master_keys, new_master_key
from maildaemon_adapters.secrets import allowed
from maildaemon_core.access import ALL_SCOPES, CHANCE_BYTES, Scope, make_key
from maildaemon_core.engine.daemon import MailDaemon, open_store
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, Registry
from maildaemon_core.errors import LoginRefused
from maildaemon_core.options import DestinationOptions, MailboxOptions, Secret
from maildaemon_core.ports import Destination, Kind, MailSource, Spool
from maildaemon_core.testing.memory_destination import MemoryDestination
from maildaemon_core.testing.memory_source import MemoryServer, MemorySource
from maildaemon_http.api.app import create_app
from maildaemon_http.api.settings import ApiSettings, Limits

MAILBOX: dict[str, Any] = {
    "mailbox": "invoices@example.com",
    "host": "imap.example.com",
    "password": "hunter2",
    "mailArchiving": {"active": True, "pathTemplate": "{subject}.eml"},
    "destinations": [{"name": "archive", "url": "invoices"}],
}
"""A complete configuration."""


@attrs.frozen(kw_only=True)
class Settings:
    """What may stand under ``options`` of a kind in memory."""

    colour: str = "blue"
    token: Secret | None = None


class House:
    """``server`` is every mail server that there is; ``places`` are the destinations by their url."""

    def __init__(self, folder: Path, *, settings: ApiSettings | None = None, sealed: bool = True) -> None:
        self.server = MemoryServer("INBOX", "Orders")
        self.places: dict[str, MemoryDestination] = {}
        self.store = open_store(f"sqlite:///{folder}/mail.db")
        environment = {"MAILDAEMON_MASTER_KEY": new_master_key()} if sealed else {}
        self.daemon = MailDaemon(
            self.store,
            sources=Registry[MailSource](SOURCES, entries=(), imap=Kind(settings=Settings, open=self._source)),
            destinations=Registry[Destination](
                DESTINATIONS, entries=(), file=Kind(settings=Settings, open=self._destination)
            ),
            spool=folder / "spool",
        )
        self.catalog = self.daemon.catalog(
            Vault(master_keys(environment)),
            refused=lambda secret: allowed(
                secret, folder=folder, environment_names=("ALLOWED",), folder_only=folder / "secrets"
            ),
        )
        self.settings = settings or ApiSettings(limits=Limits(guesses=1000))
        self.app = create_app(self.daemon, self.catalog, self.settings)

    def _source(self, options: MailboxOptions, settings: Settings, spool: Spool) -> MailSource:
        if options.password == Secret("wrong"):
            raise LoginRefused("the server refuses the password", remedy="correct it")
        return MemorySource(self.server, spool)

    def _destination(self, options: DestinationOptions, settings: Settings) -> Destination:
        return self.places.setdefault(options.url or "", MemoryDestination(options.url or ""))

    def key(self, *scopes: Scope, name: str = "") -> str:
        """A new key of the API, with all scopes unless some are named."""
        key, kept = make_key(
            os.urandom(CHANCE_BYTES),
            name or f"key {len(self.store.keys())}",
            now=datetime.now(UTC),
            scopes=scopes or ALL_SCOPES,
        )
        self.store.add_key(kept)
        return key.value

    @contextmanager
    def client(self, *scopes: Scope, name: str = "") -> Iterator[Client]:
        """Somebody with a key."""
        with TestClient(cast(Any, self.app), raise_server_exceptions=False) as inner:
            yield Client(inner, {"x-api-key": self.key(*scopes, name=name)})


class Client:
    """Sends requests and gives the answers as they are."""

    def __init__(self, inner: Any, headers: dict[str, str]) -> None:
        self.inner = inner
        self.headers = headers

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        more = {} if body is None else {"content": body} if isinstance(body, bytes) else {"json": body}
        answer: Response = self.inner.request(method, path, headers={**self.headers, **named}, **more)
        return answer

    def another(self, key: str) -> Client:
        """Somebody else with a key."""
        return Client(self.inner, {"x-api-key": key})

    def get(self, path: str, **headers: str) -> Response:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Response:
        return self.send("POST", path, body, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Response:
        return self.send("PATCH", path, body, **headers)

    def put(self, path: str, body: Any, **headers: str) -> Response:
        return self.send("PUT", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Response:
        return self.send("DELETE", path, **headers)

    def create(self, **others: Any) -> str:
        """The id of a new mailbox: a complete one, but for what is said otherwise."""
        answer = self.post("/mailboxes", {**MAILBOX, **others})
        assert answer.status_code == 201, answer.text
        made: str = answer.json()["uuid"]
        return made


def problem(answer: Response, status: int, name: str) -> dict[str, Any]:
    """The problem document of an answer, which is of this status and type."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json", answer.headers
    document: dict[str, Any] = answer.json()
    assert (document["status"], document["type"]) == (status, f"urn:maildaemon:problem:{name}")
    assert document["requestId"] == answer.headers["x-request-id"]
    return document


def paths(document: dict[str, Any]) -> set[str]:
    """Where the faults of a problem document are."""
    return {fault["path"] for fault in document["errors"]}
