"""Many mailboxes around one store: a server for each, daemons that sweep them, and a clock that tests put forward."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from threading import Event as Signal
from threading import RLock
from typing import Any

import attrs

from maildaemon_adapters.sealing import VARIABLE, Vault, master_keys, new_master_key
from maildaemon_core.engine.catalog import Catalog
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, Registry
from maildaemon_core.engine.watched import Watched
from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.monitoring import Event, SweepEnded, SweepReport, SweepStarted
from maildaemon_core.options import DestinationOptions, KindFacts, MailArchiving, MailboxOptions
from maildaemon_core.ports import Destination, FolderInfo, Kind, MailSource, Spool
from maildaemon_core.testing.faults import Fuse
from maildaemon_core.testing.memory_destination import MemoryDestination
from maildaemon_core.testing.memory_source import MemoryServer, MemorySource
from maildaemon_core.testing.memory_store import MemoryStore
from tests.engine.story import mail

KEY = new_master_key()
ONE, TWO = MailboxId("one"), MailboxId("two")
A, B = "a@our.example", "b@our.example"
FACTS = KindFacts(needs_host=False, needs_login=False)
WAIT = 20.0
"""Seconds after which what should have happened has not."""


@attrs.frozen(kw_only=True)
class Settings:
    color: str = "blue"


class TownSource(MemorySource):
    """A session that the town watches: who is in which mailbox, and what happens to them there."""

    def __init__(self, town: Town, name: str, spool: Spool) -> None:
        self._town, self._name = town, name
        town.enters(name)
        super().__init__(town.server(name), spool, town.fuse)

    def __exit__(self, *_: object) -> None:
        self._town.leaves(self._name)
        super().__exit__(None, None, None)

    def folders(self) -> list[FolderInfo]:
        return [FolderInfo(name=FolderRef("INBOX"))]


class Town:
    """``trouble`` is what happens to whoever opens a mailbox of that name."""

    def __init__(self) -> None:
        self.now = datetime(2026, 6, 1, tzinfo=UTC)
        self.fuse = Fuse()
        self.store = MemoryStore(lambda: self.now, self.fuse)
        self.trouble: dict[str, Callable[[], None]] = {}
        self.opened: list[tuple[str, MailboxOptions]] = []
        self.sent: list[DestinationOptions] = []
        self.told: list[Event] = []
        self.inside: set[str] = set()
        self.most = 0
        self.twice: list[str] = []
        self._lock = RLock()
        self._servers: dict[str, MemoryServer] = {}
        self._places: dict[str, MemoryDestination] = {}
        self._daemons: list[MailDaemon] = []
        self._go_on = Signal()

    # ------------------------------------------------------------------------------------------- what lasts

    def server(self, name: str) -> MemoryServer:
        with self._lock:
            return self._servers.setdefault(name, MemoryServer())

    def place(self, url: str = "memory:one") -> MemoryDestination:
        with self._lock:
            return self._places.setdefault(url, MemoryDestination(url, self.fuse))

    def hang(self) -> None:
        """As a server that says nothing; until ``close``."""
        assert self._go_on.wait(60)

    def told_by(self, *names: str) -> None:
        """The servers of these tell of new mail."""
        for name in names:
            self.server(name).tells = True

    def enters(self, name: str) -> None:
        with self._lock:
            if name in self.inside:
                self.twice.append(name)
            self.inside.add(name)
            self.most = max(self.most, len(self.inside))
        try:
            self.trouble.get(name, lambda: None)()
        except BaseException:
            self.leaves(name)
            raise

    def leaves(self, name: str) -> None:
        with self._lock:
            self.inside.discard(name)

    # ------------------------------------------------------------------------------------------ who sweeps

    def daemon(self, **others: Any) -> MailDaemon:
        def source(options: MailboxOptions, settings: Settings, spool: Spool) -> MailSource:
            self.opened.append((options.address or "", options))
            return TownSource(self, options.address or "", spool)

        def destination(options: DestinationOptions, settings: Settings) -> Destination:
            self.sent.append(options)
            return self.place(options.url or "")

        sources: Registry[MailSource] = Registry(
            SOURCES, entries=(), memory=Kind(settings=Settings, open=source, facts=FACTS)
        )
        destinations: Registry[Destination] = Registry(
            DESTINATIONS, entries=(), memory=Kind(settings=Settings, open=destination)
        )
        daemon = MailDaemon(
            self.store,
            **{
                "sources": sources,
                "destinations": destinations,
                "monitors": [self.told.append],
                "clock": lambda: self.now,
                **others,
            },
        )
        self._daemons.append(daemon)
        return daemon

    def catalog(self, daemon: MailDaemon) -> Catalog:
        return daemon.catalog(Vault(master_keys({VARIABLE: KEY})))

    def close(self) -> None:
        for daemon in self._daemons:
            daemon.stop()
        self._go_on.set()
        for daemon in self._daemons:
            assert daemon.close(WAIT), "something still goes on"

    # --------------------------------------------------------------------------------------------- looking

    def later(self, **time: float) -> None:
        """So much later."""
        self.now += timedelta(**time)

    def passing(self, happened: Callable[[], object]) -> None:
        """Lets time pass until it happens."""

        def look() -> object:
            self.later(seconds=1)
            return happened()

        until(look)

    def ended(self, mailbox: MailboxId) -> list[SweepReport]:
        return [
            event.report for event in self.told if isinstance(event, SweepEnded) and event.report.mailbox == mailbox
        ]

    def begun(self, mailbox: MailboxId) -> int:
        return sum(isinstance(event, SweepStarted) and event.mailbox == mailbox for event in self.told)


def until(happened: Callable[[], object], seconds: float = WAIT) -> None:
    """Waits for it."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def options(address: str, **others: Any) -> MailboxOptions:
    return MailboxOptions(
        **{
            "type": "memory",
            "mailbox": address,
            "mail_archiving": MailArchiving(active=True, path_template="{mailbox}/{subject}.eml"),
            "destinations": (DestinationOptions(type="memory", name="one", url="memory:one"),),
            **others,
        }
    )


def document(address: str, **others: Any) -> Mapping[str, Any]:
    """The same as somebody writes it."""
    return {
        "type": "memory",
        "mailbox": address,
        "mailArchiving": {"active": True, "pathTemplate": "{mailbox}/{subject}.eml"},
        "destinations": [{"type": "memory", "name": "one", "url": "memory:one"}],
        **others,
    }


def adopted(town: Town, **others: Any) -> MailDaemon:
    """A daemon that has adopted one mailbox, not started."""
    daemon = town.daemon(**others)
    daemon.adopt(ONE, options(A))
    return daemon


def still(town: Town, seconds: float = 0.1) -> None:
    """Long enough for the loop to do what it should not do."""
    time.sleep(seconds)


def quiet(daemon: MailDaemon) -> None:
    """Waits until no sweep goes on: then it is settled when the next ones are due."""
    until(lambda: not any(each.running_since for each in daemon.watched()))


def watched(daemon: MailDaemon, mailbox: MailboxId) -> Watched:
    (found,) = [each for each in daemon.watched() if each.mailbox == mailbox]
    return found


class Batches:
    """Ten mails, two in a batch; ``reached`` at the first file that becomes visible, which then waits for ``go_on``."""

    def __init__(self, town: Town) -> None:
        self.reached, self.go_on = Signal(), Signal()
        for number in range(10):
            town.server(A).plant(mail(f"mail {number}"))
        town.fuse.hook = self._hook

    def _hook(self, place: str) -> None:
        if place == "destination.publish" and not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(WAIT)
