"""A service in memory whose clock, store, servers and plug-ins a test has in its hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from typing import Any, cast

import attrs
from httpx import Response
from litestar.testing import TestClient

from maildaemon_adapters.sealing import Vault, master_keys, new_master_key
from maildaemon_core.access import ALL_SCOPES, CHANCE_BYTES, Scope, make_key
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, Openers, Registry
from maildaemon_core.errors import LoginRefused, StoreUnavailable
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import MailboxInfo
from maildaemon_core.options import DestinationOptions, KindFacts, MailArchiving, MailboxOptions, Secret
from maildaemon_core.ports import Destination, Kind, MailSource, Spool
from maildaemon_core.store_port import Configuration
from maildaemon_core.testing.memory_destination import MemoryDestination
from maildaemon_core.testing.memory_source import MemoryServer, MemorySource
from maildaemon_core.testing.memory_store import MemoryStore
from maildaemon_http.api.app import create_app
from maildaemon_http.api.metrics import Metrics
from maildaemon_http.api.settings import ApiSettings

ONE = MailboxId("00000000-0000-0000-0000-000000000001")
TWO = MailboxId("00000000-0000-0000-0000-000000000002")


@attrs.frozen(kw_only=True)
class NoSettings:
    """Nothing may stand under ``options``."""


class FragileStore(MemoryStore):
    """Keys can be asked for, and the rest only while it is not ``away``."""

    away = False

    def configuration(self, mailbox: MailboxId) -> Configuration | None:
        self._answer()
        return super().configuration(mailbox)

    def configurations(self) -> Sequence[Configuration]:
        self._answer()
        return super().configurations()

    def infos(self) -> Sequence[MailboxInfo]:
        self._answer()
        return super().infos()

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailable("the database at db.example does not answer", remedy="see whether it runs")


class SmallService:
    """``ago``: how far the daemon's clock is behind.  ``plugins`` are entry points beside those that work,
    ``openers`` those of openers."""

    def __init__(
        self,
        *,
        settings: ApiSettings | None = None,
        plugins: Iterable[EntryPoint] = (),
        openers: Iterable[EntryPoint] = (),
    ) -> None:
        self.ago = timedelta()
        self.store = FragileStore(self.now)
        self.server = MemoryServer()
        self.place = MemoryDestination("memory:one")
        self.metrics = Metrics(self.now)
        facts = KindFacts(needs_host=False, needs_login=False)
        self.daemon = MailDaemon(
            self.store,
            sources=Registry[MailSource](
                SOURCES, entries=(), memory=Kind(settings=NoSettings, open=self._source, facts=facts)
            ),
            destinations=Registry[Destination](
                DESTINATIONS, entries=plugins, memory=Kind(settings=NoSettings, open=self._destination)
            ),
            openers=Openers(entries=openers),
            monitors=[self.metrics],
            clock=self.now,
        )
        self.catalog = self.daemon.catalog(Vault(master_keys({"MAILDAEMON_MASTER_KEY": new_master_key()})))
        self.app = create_app(self.daemon, self.catalog, settings or ApiSettings(), metrics=self.metrics)

    def now(self) -> datetime:
        return datetime.now(UTC) - self.ago

    def _source(self, options: MailboxOptions, settings: NoSettings, spool: Spool) -> MailSource:
        if options.password == Secret("wrong"):
            raise LoginRefused("the server refuses the password", remedy="correct it")
        return MemorySource(self.server, spool)

    def _destination(self, options: DestinationOptions, settings: NoSettings) -> Destination:
        return self.place

    def key(self, *scopes: Scope) -> str:
        """A new key of the API, with all scopes unless some are named."""
        name = f"key {len(self.store.keys())}"
        key, kept = make_key(os.urandom(CHANCE_BYTES), name, now=datetime.now(UTC), scopes=scopes or ALL_SCOPES)
        self.store.add_key(kept)
        return key.value

    @contextmanager
    def client(self) -> Iterator[Callable[..., Response]]:
        """``get`` of a client with a key."""
        with TestClient(cast(Any, self.app), raise_server_exceptions=False) as inner:
            headers = {"x-api-key": self.key()}

            def get(path: str, **more: str) -> Response:
                answer: Response = inner.get(path, headers={**headers, **more})
                return answer

            yield get


def options(**others: Any) -> MailboxOptions:
    """A mailbox that works."""
    return MailboxOptions(
        **{
            "type": "memory",
            "name": "office",
            "mailbox": "in@our.example",
            "mail_archiving": MailArchiving(active=True, path_template="{subject}.eml"),
            "destinations": (DestinationOptions(type="memory", name="one", url="memory:one"),),
            **others,
        }
    )


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Waits for something to be so."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it has not come about"
        time.sleep(0.01)
