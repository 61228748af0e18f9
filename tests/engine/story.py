"""The stage on which the stories of a sweep are told: a mail server, destinations and a store that live in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import attrs
import pytest

from maildaemon_core.containers import Opener
from maildaemon_core.engine.sweep import BOUNDS, Bounds, Sweep
from maildaemon_core.engine.targets import Target, Targets
from maildaemon_core.errors import SpoolFull
from maildaemon_core.message import BytesContent, Content, MailboxId, MessageRef
from maildaemon_core.monitoring import Counts, Event, SweepReport
from maildaemon_core.options import DestinationOptions, MailArchiving, MailboxOptions
from maildaemon_core.ports import Destination, MailSource
from maildaemon_core.progress import Again, Entry, Stage, advance
from maildaemon_core.reading import Reading
from maildaemon_core.store_port import Configuration, Lease
from maildaemon_core.testing.faults import Crash, Fuse
from maildaemon_core.testing.inline import Inline
from maildaemon_core.testing.mails import Named, simple_mail
from maildaemon_core.testing.memory_destination import MemoryDestination
from maildaemon_core.testing.memory_source import MemoryServer, MemorySource
from maildaemon_core.testing.memory_store import MemoryStore

MAILBOX = MailboxId("00000000-0000-0000-0000-0000000000aa")
LEASE_SECONDS = 60.0
ARCHIVING = MailArchiving(active=True, path_template="{subject}.eml")


def mail(
    subject: str, *, sender: str = "jane@firm.example", attachments: Sequence[Named] = (), text: str = ""
) -> bytes:
    """A mail whose bytes, Message-ID and file name follow from its subject."""
    text = text or f"This is {subject}.\n"
    ident = f"<{subject.replace(' ', '-')}@firm.example>"
    return simple_mail(subject=subject, sender=sender, message_id=ident, text=text, attachments=attachments)


def broken_mail(subject: str) -> bytes:
    """A mail that cannot be read to its end: it has an attachment, and its last delimiter is missing."""
    whole = mail(subject, attachments=[("list.csv", "text/csv", b"1;2\n" * 50)])
    return whole[: whole.rindex(b"--")].rpartition(b"\r\n--")[0]


def taker(destination: MemoryDestination) -> Callable[[str], None]:
    """A consumer who takes each file away as soon as it is visible."""

    def take(path: str) -> None:
        destination.take(path)

    return take


class Held:
    """A content that knows whether it was given back."""

    def __init__(self, data: bytes, spool: WatchedSpool) -> None:
        self._inner = BytesContent(data)
        self._spool = spool
        self.closed = False

    @property
    def size(self) -> int:
        return self._inner.size

    @property
    def sha256(self) -> str:
        return self._inner.sha256

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        assert not self.closed, "read after it was given back"
        return self._inner.chunks(start, stop)

    def close(self) -> None:
        self.closed = True


class WatchedSpool:
    """A spool with room for ``limit`` bytes a mail, which remembers all that it kept."""

    def __init__(self) -> None:
        self.kept: list[Held] = []
        self.limit = 1 << 30
        self.most = 0

    @property
    def open(self) -> list[Held]:
        return [content for content in self.kept if not content.closed]

    def keep(self, pieces: Iterable[bytes]) -> Content:
        data = b"".join(pieces)
        if len(data) > self.limit:
            raise SpoolFull(f"no room for {len(data)} bytes", remedy="make room")
        self.kept.append(Held(data, self))
        self.most = max(self.most, len(self.open))
        return self.kept[-1]


class Story:
    """One mailbox and its world.  ``options`` may be changed between sweeps; ``told`` is what monitors heard.

    ``opened`` are the destinations as they are used: the memory twins in ``places``, unless a story puts others there.
    """

    def __init__(self, *folders: str, places: Sequence[str] = ("one",), **options: Any) -> None:
        self.now = datetime(2026, 6, 1, tzinfo=UTC)
        self.fuse = Fuse()
        self.server = MemoryServer(*folders)
        self.store = MemoryStore(lambda: self.now, self.fuse)
        self.store.save(Configuration(id=MAILBOX, name="story", document={}))
        self.places = {name: MemoryDestination(f"memory:{name}", self.fuse) for name in places}
        self.opened: Mapping[str, Destination] | None = None
        self.spool = WatchedSpool()
        self.told: list[Event] = []
        self.monitor: Callable[[Event], None] = lambda event: None
        self.workers = 0
        self.openers: Sequence[Opener] = ()
        self.options = MailboxOptions(
            **{
                "mailbox": "in@our.example",
                "host": "memory",
                "mail_archiving": ARCHIVING,
                "destinations": tuple(DestinationOptions(name=name, url=f"memory:{name}") for name in places),
                **options,
            }
        )

    @property
    def one(self) -> MemoryDestination:
        return self.places["one"]

    @property
    def two(self) -> MemoryDestination:
        return self.places["two"]

    def change(self, **options: Any) -> None:
        """The operator edits the configuration."""
        self.options = attrs.evolve(self.options, **options)

    def conflicts(self, policy: Literal["suffix", "fail"]) -> None:
        """The operator sets ``onConflict`` of every destination."""
        self.change(destinations=tuple(attrs.evolve(each, on_conflict=policy) for each in self.options.destinations))

    def wait(self, **time: float) -> None:
        self.now += timedelta(**time)

    def lease(self) -> Lease:
        self.workers += 1
        lease = self.store.lease(MAILBOX, LEASE_SECONDS, owner=f"worker {self.workers}")
        assert lease is not None, "the mailbox is held"
        return lease

    def open_source(self) -> MailSource:
        return MemorySource(self.server, self.spool, self.fuse)

    def sweep(
        self,
        *,
        lane: Executor | None = None,
        lanes: Executor | None = None,
        bounds: Bounds = BOUNDS,
        stopping: Callable[[], bool] = lambda: False,
    ) -> SweepReport:
        """A whole sweep; whatever happened, contents were given back and the counts add up."""
        lease = self.lease()
        opened = self.places if self.opened is None else self.opened
        targets = [Target(each, opened[each.name]) for each in self.options.destinations if each.name in opened]
        sweep = Sweep(
            lease,
            self.options,
            Targets(targets, lanes or Inline()),
            self.open_source,
            lane=lane or Inline(),
            clock=lambda: self.now,
            tell=self._tell,
            nonce="ours",
            bounds=bounds,
            reading=Reading(openers=self.openers, keep=self.spool.keep),
            stopping=stopping,
        )
        held = {id(content) for content in self.spool.open}  # by a worker that sleeps meanwhile
        report = sweep.run()
        assert {id(content) for content in self.spool.open} <= held, "contents were not given back"
        counts = report.counts
        assert counts.seen == counts.stored + counts.skipped + counts.failed + counts.pending
        if report.state != "lost":
            lease.give_back(self.now, report)
        return report

    def crash(self, after: int = 0, *, place: str, bounds: Bounds = BOUNDS) -> None:
        """A sweep that ends with the process, at the given tick of ``place``; afterwards its lease runs out."""
        self.fuse.arm(after, place=place)
        with pytest.raises(Crash):
            self.sweep(bounds=bounds)
        for content in self.spool.open:
            content.close()  # what a process held is gone with it
        self.wait(seconds=2 * LEASE_SECONDS)

    def falter(self, error: Exception, after: int = 0, *, place: str, bounds: Bounds = BOUNDS) -> SweepReport:
        """A sweep in which ``error`` is raised at the given tick of ``place``."""
        self.fuse.arm(after, place=place, error=lambda _: error)
        report = self.sweep(bounds=bounds)
        assert not self.fuse.armed, "nothing was raised"
        return report

    def again(self) -> None:
        """A person has everything tried again for which that is possible."""
        lease = self.lease()
        stages = (Stage.GIVEN_UP, Stage.UNCONFIRMED, Stage.WAITING)
        lease.record([advance(entry, Again(), self.now) for entry in self.store.all() if entry.stage in stages])
        lease.give_back(self.now)

    def _tell(self, event: Event) -> None:
        self.told.append(event)
        self.monitor(event)

    def entry(self, ref: MessageRef) -> Entry:
        (entry,) = (each for each in self.store.all() if each.ref == ref)
        return entry

    def stages(self) -> list[Stage]:
        return [entry.stage for entry in self.store.all()]

    def commits(self) -> int:
        return self.fuse.log.count("store.record") + self.fuse.log.count("store.admit")


def counted(report: SweepReport) -> tuple[int, int, int, int]:
    """Stored, skipped, failed, pending."""
    counts: Counts = report.counts
    return counts.stored, counts.skipped, counts.failed, counts.pending
