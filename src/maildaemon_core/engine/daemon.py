"""MailDaemon, the façade that everybody shares: the command line, the REST service and programs that embed it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from threading import Event as Signal
from types import TracebackType
from typing import Any, Self

import attrs

from maildaemon_core import codec
from maildaemon_core.confinement import Confinement
from maildaemon_core.containers import Opener
from maildaemon_core.engine import catalog as catalogs
from maildaemon_core.engine.catalog import Catalog, Kept, UnknownMailbox
from maildaemon_core.engine.confining import trusted
from maildaemon_core.engine.connecting import Connector, with_secrets_read
from maildaemon_core.engine.leasing import Leasing
from maildaemon_core.engine.plugins import (
    Openers,
    Registry,
    installed_destinations,
    installed_sources,
    installed_stores,
)
from maildaemon_core.engine.retrying import Retrying
from maildaemon_core.engine.roster import NotSwept, Roster
from maildaemon_core.engine.seats import Seat
from maildaemon_core.engine.sessions import PER_HOST, Sessions
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.engine.sweep import BOUNDS, Bounds
from maildaemon_core.engine.sweeping import Sweeping
from maildaemon_core.engine.validation import Validation
from maildaemon_core.engine.watched import Watched
from maildaemon_core.engine.watching import Watching
from maildaemon_core.errors import InvalidOptions, UnknownKind
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import EntryPage, EntryQuery, Event, MailboxInfo, SweepReport, SweepState
from maildaemon_core.options import MailboxOptions, Secret
from maildaemon_core.ports import Destination, Finding, MailSource, Monitor, SecretReader, SecretStore
from maildaemon_core.progress import Entry, EntryId, Outcome
from maildaemon_core.retention import Retention, Thinned
from maildaemon_core.schedule import Watch
from maildaemon_core.store_port import Configuration, Store

logger = logging.getLogger(__name__)

FROM_FILE = catalogs.FROM_FILE
"""Who has changed a configuration that was adopted; see there."""

THINNED_AT_ONCE = 500
"""So many entries are thinned out by one transaction: nobody waits long for it."""

PATIENCE = 10.0
"""So many seconds whoever wants a mail tried again waits for a sweep to end its batch."""


GOODBYE_SECONDS = 3.0
"""So long sessions that wait for news are taken leave of; their connections end with the process anyway."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class MailDaemon:
    """Watches mailboxes: holds their options, sweeps them, and tells what became of every mail.

    ``openers`` open containers within mails, such as winmail.dat; without them those that are installed do.
    ``monitors`` are told of what happens; ``read_secret`` turns references into secrets; ``spool`` is the folder for
    large mails in transit.  ``limited_secrets`` and ``confinement`` hold for mailboxes of a catalog, which people may
    have made who are not to reach what this process can reach; without them these may do what adopted ones may.  Use it
    as a context manager, or call ``close``.
    """

    def __init__(
        self,
        store: Store,
        *,
        sources: Registry[MailSource] | None = None,
        destinations: Registry[Destination] | None = None,
        openers: Openers | Sequence[Opener] | None = None,
        read_secret: SecretReader = lambda secret: secret,
        limited_secrets: SecretReader | None = None,
        confinement: Confinement | None = None,
        monitors: Sequence[Monitor] = (),
        spool: Path | None = None,
        bounds: Bounds = BOUNDS,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.store = store
        self._connector = Connector(
            sources=sources or installed_sources(),
            destinations=destinations or installed_destinations(),
            spool=FolderSpool(spool),
            read_secret=read_secret,
        )
        self._limited = attrs.evolve(
            self._connector, read_secret=limited_secrets or read_secret, confinement=confinement
        )
        self._openers = openers if isinstance(openers, Openers) else Openers(openers)
        self._monitors = tuple(monitors)
        self._clock = clock
        self._stopping = Signal()
        self._once: dict[MailboxId, Seat] = {}
        self._roster = Roster(store, self._limited.problems)
        self._leasing = Leasing(store)
        self._sessions = Sessions(self._leasing, self._news)
        self._sweeping = Sweeping(
            store=store,
            roster=self._roster,
            leasing=self._leasing,
            connector=self._connector,
            limited=self._limited,
            openers=self._openers,
            sessions=self._sessions,
            bounds=bounds,
            clock=clock,
            tell=self._tell,
        )
        self._watching = Watching(
            self._roster, self._sweeping.turn, leave=self._sessions.leave, clock=clock, stopping=self._stopping
        )
        self._retrying = Retrying(store=store, leasing=self._leasing, clock=clock, alone=self._watching.alone)

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
        openers: Openers | Sequence[Opener] | None = None,
        read_secret: SecretReader = lambda secret: secret,
        limited_secrets: SecretReader | None = None,
        confinement: Confinement | None = None,
        monitors: Sequence[Monitor] = (),
        spool: Path | None = None,
    ) -> MailDaemon:
        """With the store at ``url`` (``sqlite:///mail.db``); the rest is as for ``open_store`` and ``MailDaemon``."""
        return cls(
            open_store(url, store_options, make=make, stores=stores, read_secret=read_secret),
            sources=sources,
            destinations=destinations,
            openers=openers,
            read_secret=read_secret,
            limited_secrets=limited_secrets,
            confinement=confinement,
            monitors=monitors,
            spool=spool,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def start(self, catalog: Catalog | None = None, *, at_once: int = 4, connections_per_host: int = PER_HOST) -> None:
        """Sweeps every active mailbox at its interval from now on, up to ``at_once`` of them side by side.

        And as soon as its server tells of new mail, where it can and the mailbox has ``idle``.  Such a session stays
        open; there are up to ``connections_per_host``, and mailboxes beyond that are looked into at their interval.

        Those that were adopted, and with a ``catalog`` those that it keeps, but for those that come from a
        configuration file which this process was not given.  What is changed in the store, by whomever, is noticed
        within seconds.
        Raises RuntimeError if it was called before.
        """
        self._roster.catalog = catalog
        self._sessions.per_host = connections_per_host
        self._watching.start(at_once=at_once)

    def stop(self) -> None:
        """Lets running sweeps finish the batch that they are storing, and then pause.  Those begun later do nothing."""
        self._watching.stop()

    def close(self, deadline: float | None = None) -> bool:
        """Stops, waits for what goes on, up to so many seconds if given, and closes the store.

        False if something went on still: it writes nothing more, as if the process had died, and its leases end by
        themselves.  Nothing of it keeps the process from ending.
        """
        self._watching.stop()
        over = self._watching.ended(deadline)
        self._sessions.close(GOODBYE_SECONDS if deadline is None else min(deadline, GOODBYE_SECONDS))
        if not over:
            self._leasing.abandon()
        self.store.close()
        return over

    # --------------------------------------------------------------------------------------------- configurations

    def adopt(self, mailbox: MailboxId, options: MailboxOptions) -> Configuration:
        """Takes options on as those of ``mailbox``; raises ``InvalidOptions`` with all that is wrong with them.

        The store keeps them with their secrets masked, as changed by ``FROM_FILE``; the secrets themselves live in this
        object only.
        """
        if faults := self._connector.problems(options):
            raise InvalidOptions(faults)
        document = codec.write(options, secrets="mask")
        saved = self.store.save(Configuration(id=mailbox, name=options.label, document=document), by=FROM_FILE)
        if options.since == "now":
            options = attrs.evolve(options, since=saved.created)
        self._roster.adopt(saved, options)
        self._watching.refreshed(mailbox)
        return saved

    def catalog(self, vault: SecretStore, *, refused: Callable[[Secret], str | None] = lambda secret: None) -> Catalog:
        """The configurations that the store keeps whole, secrets sealed by ``vault``, for people to make and change.

        They are swept once ``start`` was given it, or once they were taken on; ``refused`` is why a secret as it is
        written may not be kept.
        """
        return Catalog(self.store, vault, self._limited.problems, refused=refused)

    def take_on(self, kept: Kept) -> None:
        """Takes on a mailbox of the catalog: as ``adopt``, but nothing is written, for the store keeps it already.

        Raises ``InvalidOptions`` if it cannot be used any more, for a plug-in is gone, say.
        """
        self._roster.take_on(kept.configuration, kept.options)

    def mailboxes(self) -> Mapping[MailboxId, MailboxOptions]:
        """What was adopted, and taken on, with its options."""
        members = self._roster.members()
        return {mailbox: member.options for mailbox, member in members.items() if member.options is not None}

    def adopted(self) -> Collection[MailboxId]:
        """Those that were adopted, as a configuration file says them."""
        return {mailbox for mailbox, member in self._roster.members().items() if member.trusted}

    @property
    def confinement(self) -> Confinement | None:
        """What mailboxes of a catalog may use."""
        return self._limited.confinement

    @property
    def sources(self) -> Registry[MailSource]:
        """The kinds of sources that there are."""
        return self._connector.sources

    @property
    def destinations(self) -> Registry[Destination]:
        """The kinds of destinations that there are."""
        return self._connector.destinations

    @property
    def openers(self) -> Openers:
        """What opens containers within mails."""
        return self._openers

    def validate(
        self, mailbox: MailboxId, options: MailboxOptions, *, trusted: bool | None = None
    ) -> Sequence[Finding]:
        """What works and what does not, each with a remedy; changes nothing anywhere.

        ``trusted``: whether they may reach what this process can reach, as adopted ones may; else what mailboxes of a
        catalog may.  Unless it is said, they may if this mailbox was adopted.
        """
        usual = self._sweeping.connector_of(self._roster.member(mailbox))
        connector = usual if trusted is None else self._connector if trusted else self._limited
        with connector.context():
            return Validation(connector, self._openers, self.store, self._clock).run(mailbox, options)

    def refreshed(self, mailbox: MailboxId) -> None:
        """The mailbox was made, changed or removed in the store: that takes effect at once.

        A sweep that goes on ends its batch, and the mailbox is due with its options as they are now, or is not swept
        any more.  No sweep begins after this with options that are older, and one that goes on asks nothing more of the
        mail server than to tidy what it is tidying, one batch at most.  Never raises.
        """
        self._watching.refreshed(mailbox)

    # --------------------------------------------------------------------------------------------------- sweeping

    def sweep_once(self, mailbox: MailboxId) -> SweepReport:
        """One sweep of an adopted mailbox, now.  Never raises for what goes wrong with it: the report says so.

        Raises ``StoreUnavailable`` if it could not begin for want of the ledger, KeyError for a mailbox that was not
        adopted.
        """
        member, now = self._roster.members()[mailbox], self._clock()
        new = Seat(watch=Watch(mailbox=mailbox, due_at=now, interval=member.interval), since=now)
        seat = self._once.setdefault(mailbox, new)
        try:
            return self._sweeping.turn(
                mailbox,
                once=True,
                stopping=self._stopping.is_set,
                due=lambda report, until: seat.after(report, until, self._clock()),
            )
        except (NotSwept, UnknownMailbox) as error:
            return SweepReport(
                mailbox=mailbox, state=SweepState.FAILED, started=now, ended=now, trouble=error.trouble()
            )

    def sweep_soon(self, mailbox: MailboxId, *, again: frozenset[Outcome] = frozenset()) -> Future[SweepReport]:
        """Has a mailbox swept now, or directly after the sweep that goes on; several who want that share one sweep.

        ``again``: mails of these outcomes are decided anew, those that were skipped, or have failed (as in
        ``retry_failed``).  The future gives the report.

        Raises ``NotSwept`` unless it is active, and was started, and ``UnknownMailbox``; the future raises these too,
        and ``StoreUnavailable``.
        """
        return self._watching.sweep_soon(mailbox, again)

    def halt(self, mailbox: MailboxId, *, seconds: float) -> bool:
        """Has a sweep of this process on the mailbox end at its next safe point; whether it has after so many seconds.

        For half a minute no other begins, unless the mailbox is ``refreshed`` before.
        """
        return self._watching.halt(mailbox, seconds)

    def watched(self) -> Sequence[Watched]:
        """Every mailbox that this process watches, or would, by label."""
        waiting = frozenset(self._sessions.waiting())
        return [attrs.evolve(each, waiting=each.mailbox in waiting) for each in self._watching.watched()]

    @property
    def last_tick(self) -> datetime | None:
        """When the loop that begins the sweeps last looked around; None before ``start``."""
        return self._watching.last_tick

    def _news(self, mailbox: MailboxId, seconds: float) -> None:
        self._watching.news(mailbox, seconds)

    def _tell(self, event: Event) -> None:
        self._watching.hear(event)
        with trusted():  # monitors are the operator's, whatever the mailbox may reach
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
        return self._retrying.dismiss(number)

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

    # --------------------------------------------------------------------------------------------------- retrying

    def retry(self, number: EntryId, *, unconfirmed: bool = False, seconds: float = PATIENCE) -> Entry | None:
        """Has one failed mail tried again, one that was given up or dismissed too; its mailbox is due at once.

        Answers with the entry as it is then, or None if there is none of that number.  A sweep that goes on is asked to
        end its batch, and waited for up to so many seconds.

        Raises ``NotFailed``; ``PerhapsDelivered``, unless ``unconfirmed``, if nobody can tell whether it was delivered:
        if it was, it comes twice; ``LeaseLost`` naming who works on the mailbox; ``UnknownMailbox``.
        """
        return self._retrying.one(number, unconfirmed=unconfirmed, seconds=seconds)

    def retry_all(self, query: EntryQuery, *, unconfirmed: bool = False, seconds: float = PATIENCE) -> int:
        """Has every failed mail tried again that the query finds, on whatever page; how many those are.

        Raises as ``retry`` does; a mailbox that somebody works on keeps no other from it and is named afterwards.
        """
        return self._retrying.all(query, unconfirmed=unconfirmed, seconds=seconds)

    def retry_failed(self, mailbox: MailboxId, *, unconfirmed: bool = False) -> int:
        """Has every failed mail of a mailbox tried again, those given up too; how many those are.

        Only with ``unconfirmed`` those of which nobody can tell whether they were delivered: if they were, they come
        twice.

        Raises ``LeaseLost`` if the mailbox is being worked on.
        """
        every = EntryQuery(outcome=Outcome.FAILED)
        return self._retrying.all_of(mailbox, every, unconfirmed=unconfirmed, seconds=PATIENCE)


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
