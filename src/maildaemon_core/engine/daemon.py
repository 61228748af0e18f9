"""MailDaemon, the façade that everybody shares: the command line, the REST service and programs that embed it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from types import TracebackType
from typing import Any, Self

import attrs

from maildaemon_core import codec
from maildaemon_core.engine.catalog import Catalog, Kept
from maildaemon_core.engine.holder import for_people, is_dead, this_process
from maildaemon_core.engine.opening import Opener, with_secrets_read
from maildaemon_core.engine.plugins import Registry, installed_destinations, installed_sources, installed_stores
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.engine.sweep import BOUNDS, Bounds, Sweep
from maildaemon_core.engine.targets import Target, Targets, internal_trouble
from maildaemon_core.engine.validation import Validation
from maildaemon_core.errors import (
    InvalidOptions,
    LeaseLost,
    MaildaemonError,
    StillPending,
    StoreUnavailable,
    Trouble,
    UnknownKind,
)
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import EntryPage, EntryQuery, Event, MailboxInfo, SweepReport, SweepState
from maildaemon_core.options import MailboxOptions, Secret
from maildaemon_core.ports import Destination, Finding, MailSource, Monitor, SecretReader, SecretStore
from maildaemon_core.progress import STEPS, Again, Dismissed, Entry, EntryId, Outcome, Stage, advance
from maildaemon_core.retention import Retention, Thinned
from maildaemon_core.schedule import Watch, next_watch
from maildaemon_core.store_port import Configuration, Holder, Lease, Store

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""A lease is renewed three times in this time; it is how long a mailbox waits for a worker of another machine that
died."""


THINNED_AT_ONCE = 500
"""So many entries are thinned out by one transaction: nobody waits long for it."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class MailDaemon:
    """Watches mailboxes: holds their options, sweeps them, and tells what became of every mail.

    ``monitors`` are told of what happens; ``read_secret`` turns references into secrets; ``spool`` is the folder for
    large mails in transit.  Use it as a context manager, or call ``close``.
    """

    def __init__(
        self,
        store: Store,
        *,
        sources: Registry[MailSource] | None = None,
        destinations: Registry[Destination] | None = None,
        read_secret: SecretReader = lambda secret: secret,
        monitors: Sequence[Monitor] = (),
        spool: Path | None = None,
        bounds: Bounds = BOUNDS,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.store = store
        self._opener = Opener(
            sources=sources or installed_sources(),
            destinations=destinations or installed_destinations(),
            spool=FolderSpool(spool),
            read_secret=read_secret,
        )
        self._monitors = tuple(monitors)
        self._bounds = bounds
        self._clock = clock
        self._options: dict[MailboxId, MailboxOptions] = {}
        self._watches: dict[MailboxId, Watch] = {}
        self._owners: dict[MailboxId, tuple[int, str]] = {}  # token and owner of the lease that we were given last
        self._left: dict[MailboxId, str] = {}  # who of us works no more, and could not give its lease back
        self._stopping = Signal()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        store_options: Mapping[str, Any] = {},
        make: bool = True,
        stores: Registry[Store] | None = None,
        sources: Registry[MailSource] | None = None,
        destinations: Registry[Destination] | None = None,
        read_secret: SecretReader = lambda secret: secret,
        monitors: Sequence[Monitor] = (),
        spool: Path | None = None,
    ) -> MailDaemon:
        """With the store at ``url`` (``sqlite:///mail.db``); ``store_options`` are the settings of its kind.

        ``make``: whether one that is not there is made.  Raises ``UnknownKind``, ``InvalidOptions`` or what opening the
        store raises.
        """
        return cls(
            open_store(url, store_options, make=make, stores=stores, read_secret=read_secret),
            sources=sources,
            destinations=destinations,
            read_secret=read_secret,
            monitors=monitors,
            spool=spool,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def close(self) -> None:
        self.store.close()

    def stop(self) -> None:
        """Lets running sweeps finish the batch that they are storing, and then pause.  Those begun later do nothing."""
        self._stopping.set()

    # --------------------------------------------------------------------------------------------- configurations

    def adopt(self, mailbox: MailboxId, options: MailboxOptions) -> Configuration:
        """Takes options on as those of ``mailbox``; raises ``InvalidOptions`` with all that is wrong with them.

        The store keeps them with their secrets masked; the secrets themselves live in this object only.
        """
        if faults := self._opener.problems(options):
            raise InvalidOptions(faults)
        document = codec.write(options, secrets="mask")
        saved = self.store.save(Configuration(id=mailbox, name=options.label, document=document))
        if options.since == "now":
            options = attrs.evolve(options, since=saved.created)
        self._options[mailbox] = options
        return saved

    def catalog(self, vault: SecretStore, *, refused: Callable[[Secret], str | None] = lambda secret: None) -> Catalog:
        """The configurations that the store keeps whole, secrets sealed by ``vault``, for people to make and change.

        They are swept once they were taken on; ``refused`` is why a secret as it is written may not be kept.
        """
        return Catalog(self.store, vault, self._opener.problems, refused=refused)

    def take_on(self, kept: Kept) -> None:
        """Takes on a mailbox of the catalog: as ``adopt``, but nothing is written, for the store keeps it already.

        Raises ``InvalidOptions`` if it cannot be used any more, for a plug-in is gone, say.
        """
        if faults := self._opener.problems(kept.options):
            raise InvalidOptions(faults)
        self._options[kept.configuration.id] = kept.options

    def mailboxes(self) -> Mapping[MailboxId, MailboxOptions]:
        """What was adopted."""
        return dict(self._options)

    def validate(self, mailbox: MailboxId, options: MailboxOptions) -> Sequence[Finding]:
        """What works and what does not, each with a remedy; changes nothing anywhere."""
        return Validation(self._opener, self.store, self._clock).run(mailbox, options)

    # --------------------------------------------------------------------------------------------------- sweeping

    def sweep_once(self, mailbox: MailboxId) -> SweepReport:
        """One sweep of an adopted mailbox, now.  Never raises for what goes wrong with it: the report says so.

        Raises ``StoreUnavailable`` if it could not begin for want of the ledger, KeyError for a mailbox that was not
        adopted.
        """
        options = self._options[mailbox]
        lease = self._lease(mailbox)
        if lease is None:
            return self._not_swept(mailbox, SweepState.BUSY, self._held(mailbox))
        with _Heartbeat(lease):
            report = self._sweep(lease, options)
        before = self._watches.get(mailbox) or Watch(
            mailbox=mailbox, due_at=self._clock(), interval=timedelta(seconds=options.poll_interval_seconds)
        )
        watch = next_watch(before, failed=not report.well, now=self._clock())
        self._watches[mailbox] = watch
        try:
            self._give_back(lease, watch.due_at, report)
        except LeaseLost:
            pass  # whoever has it now will report
        except StoreUnavailable as error:
            # What the report counts is committed; that it is not in the store is told to whoever asked for the sweep.
            if report.well:
                report = attrs.evolve(report, state=SweepState.PAUSED, trouble=error.trouble())
        return report

    def _sweep(self, lease: Lease, options: MailboxOptions) -> SweepReport:
        opened: list[Target] = []
        try:
            opened += (self._opener.target(destination) for destination in options.destinations)
            with (
                ThreadPoolExecutor(1, thread_name_prefix="source") as lane,
                ThreadPoolExecutor(max(len(opened) - 1, 1), thread_name_prefix="destination") as lanes,
            ):
                return Sweep(
                    lease,
                    options,
                    Targets(opened, lanes),
                    lambda: self._opener.source(options),
                    lane=lane,
                    clock=self._clock,
                    tell=self._tell,
                    nonce=self._nonce(lease.mailbox),
                    bounds=self._bounds,
                    stopping=self._stopping.is_set,
                ).run()
        except StoreUnavailable as error:
            return self._not_swept(lease.mailbox, SweepState.PAUSED, error.trouble())
        except MaildaemonError as error:
            return self._not_swept(lease.mailbox, SweepState.FAILED, error.trouble())
        except Exception as error:
            logger.exception("the destinations of mailbox %s could not be opened", options.label)
            return self._not_swept(
                lease.mailbox, SweepState.FAILED, internal_trouble("opening the destinations", error)
            )
        finally:
            for target in opened:
                with suppress(MaildaemonError):
                    target.destination.close()

    def _nonce(self, mailbox: MailboxId) -> str:
        """The same for as long as this store knows the mailbox, and no other store's."""
        configuration = self.store.configuration(mailbox)
        created = configuration.created.isoformat() if configuration and configuration.created else ""
        return hashlib.sha256(f"{mailbox} {created}".encode()).hexdigest()[:8]

    def _lease(self, mailbox: MailboxId) -> Lease | None:
        owner = this_process()
        try:
            lease = self.store.lease(mailbox, LEASE_SECONDS, owner=owner)
            if lease is None and (holder := self.store.holder(mailbox)) is not None and self._is_gone(mailbox, holder):
                # Whoever had it works no more: nobody needs to wait for the end of its lease.
                lease = self.store.lease(mailbox, LEASE_SECONDS, owner=owner, over=holder)
        except StoreUnavailable:
            self._left.setdefault(mailbox, owner)  # perhaps it was given all the same
            raise
        if lease is not None:
            self._owners[mailbox] = lease.token, owner
            self._left.pop(mailbox, None)
        return lease

    def _is_gone(self, mailbox: MailboxId, holder: Holder) -> bool:
        """Whether a holder was a process of this machine that was killed, or we could not give back what we had."""
        return is_dead(holder.owner) or holder.owner == self._left.get(mailbox)

    def _give_back(self, lease: Lease, next_due: datetime | None = None, report: SweepReport | None = None) -> None:
        try:
            lease.give_back(next_due, report)
        except StoreUnavailable:
            token, owner = self._owners[lease.mailbox]
            if token == lease.token:  # else another thread works under a later one, and this one is over anyway
                self._left[lease.mailbox] = owner
            raise

    def _held(self, mailbox: MailboxId) -> Trouble:
        holder = self.store.holder(mailbox)
        by = (
            f"by {for_people(holder.owner)} until {holder.until:%H:%M:%S} UTC at the latest" if holder else "by another"
        )
        return Trouble(
            error="MailboxBusy",
            message=f"the mailbox is being worked on {by}",
            remedy="let it finish, or stop that process; nothing was done here",
        )

    def _not_swept(self, mailbox: MailboxId, state: SweepState, trouble: Trouble) -> SweepReport:
        now = self._clock()
        return SweepReport(mailbox=mailbox, state=state, started=now, ended=now, trouble=trouble)

    def _tell(self, event: Event) -> None:
        for monitor in self._monitors:
            try:
                monitor(event)
            except Exception:  # law of the port: what a monitor raises changes nothing
                logger.exception("a monitor failed at %s", type(event).__name__)

    # ------------------------------------------------------------------------------------------------- monitoring

    def entries(self, query: EntryQuery) -> EntryPage:
        return self.store.entries(query)

    def infos(self) -> Sequence[MailboxInfo]:
        return self.store.infos()

    def dismiss(self, number: EntryId) -> Entry | None:
        """Takes an entry out of people's sight until its outcome changes; one that failed is not tried again by itself.

        The mail stays on the server.  Its retries end at once if nobody works on the mailbox and nothing of the mail is
        staged, else with the next sweep.  Answers with the entry, or None if there is none of that number.

        Raises ``StillPending`` for one about which nothing was decided yet.
        """
        entry = self.store.dismiss(number)
        if entry is None:
            return None
        if not entry.dismissed:
            raise StillPending(
                f"mail {number} is still pending: nothing was decided about it",
                remedy="wait for the next sweep; what failed, was stored or skipped can be dismissed",
            )
        if not entry.open or entry.outcome is not Outcome.FAILED or entry.stage is Stage.PLANNED:
            return entry
        lease = self._lease(entry.mailbox)
        if lease is None:
            return entry
        with suppress(LeaseLost):  # whoever has it now will end the retries
            try:
                now = self._clock()
                mine = [one for one in lease.dismissed() if one.id == number and one.stage is not Stage.PLANNED]
                lease.record([advance(one, Dismissed(), now) for one in mine])
            finally:
                self._give_back(lease)
        return self.store.entry(number)

    def thin(self, retention: Retention, *, batches: int | None = None) -> Thinned:
        """Thins out what ``retention`` does not keep: at most ``batches`` times some hundred entries, if given.

        Each batch is a transaction of its own; ``stop`` ends it after one.  Raises ``StoreUnavailable``.
        """
        numbers: dict[Outcome, int] = {}
        left = batches
        for outcome, before in retention.expired(self._clock()).items():
            numbers[outcome] = 0
            thinned = THINNED_AT_ONCE
            while thinned == THINNED_AT_ONCE:
                if self._stopping.is_set() or left == 0:
                    return Thinned(numbers=numbers, more=True)
                thinned = self.store.thin(outcome, before, limit=THINNED_AT_ONCE)
                numbers[outcome] += thinned
                left = None if left is None else left - 1
        return Thinned(numbers=numbers)

    def retry_failed(self, mailbox: MailboxId, *, unconfirmed: bool = False) -> int:
        """Has every failed mail of a mailbox tried again, those given up too; how many those are.

        Only with ``unconfirmed`` those of which nobody can tell whether they were delivered: if they were, they come
        twice.

        Raises ``LeaseLost`` if the mailbox is being worked on.
        """
        lease = self._lease(mailbox)
        if lease is None:
            raise LeaseLost(self._held(mailbox).message, remedy="try again when it has finished")
        now = self._clock()
        try:
            number, before = 0, None
            while True:
                page = self.store.entries(EntryQuery(outcome=Outcome.FAILED, mailbox=mailbox, before=before, limit=200))
                again = [
                    advance(entry, Again(), now)
                    for entry in page.entries
                    if Again in STEPS[entry.stage] and (unconfirmed or entry.stage is not Stage.UNCONFIRMED)
                ]
                if again:
                    lease.record(again)
                number += len(again)
                if page.next is None:
                    return number
                before = page.next
        finally:
            self._give_back(lease, now)


def open_store(
    url: str,
    options: Mapping[str, Any] = {},
    *,
    make: bool = True,
    stores: Registry[Store] | None = None,
    read_secret: SecretReader = lambda secret: secret,
) -> Store:
    """The store that a URL names by its scheme; ``options`` are the settings of its kind.

    Unless ``make``, one that is not there is not made, if its kind has a setting ``make``: ``StoreMissing``.
    Raises ``UnknownKind``, ``BrokenPlugin``, ``InvalidOptions`` or what opening the store raises.
    """
    scheme, separator, _ = url.partition(":")
    if not separator:
        raise UnknownKind(f"{url!r} is not the URL of a store", remedy="write sqlite:///maildaemon.db, say")
    kind = (stores or installed_stores()).kind(scheme.partition("+")[0])
    settings = with_secrets_read(codec.read(kind.settings, options), read_secret)
    if not make and hasattr(settings, "make"):
        settings = attrs.evolve(settings, make=False)
    return kind.open(url, settings)


class _Heartbeat:
    """Renews a lease while a sweep goes on, so that a large mail over a slow line does not outlast it."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._over = Signal()
        self._thread = Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(LEASE_SECONDS / 3):
            try:
                self._lease.renew(LEASE_SECONDS)
            except LeaseLost:
                return  # the sweep will notice at its next write
            except MaildaemonError as error:
                logger.warning("the lease could not be renewed: %s", error)
