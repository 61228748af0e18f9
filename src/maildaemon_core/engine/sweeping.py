"""One turn at a mailbox: its lease, its options as they are at that moment, the sweep, the lease given back."""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

import attrs

from maildaemon_core.engine.connecting import Connector
from maildaemon_core.engine.lanes import Lanes
from maildaemon_core.engine.leasing import Heartbeat, Leasing
from maildaemon_core.engine.plugins import Openers
from maildaemon_core.engine.retrying import take_back
from maildaemon_core.engine.roster import Member, Roster
from maildaemon_core.engine.seats import is_of_store, was_stopped
from maildaemon_core.engine.sessions import Sessions
from maildaemon_core.engine.shelf import Shelf
from maildaemon_core.engine.sweep import STOPPED, Bounds, Sweep
from maildaemon_core.engine.targets import Target, Targets, internal_trouble
from maildaemon_core.engine.visit import Visit
from maildaemon_core.errors import LeaseLost, MaildaemonError, StoreUnavailable, Trouble
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import Event, SweepEnded, SweepReport, SweepState
from maildaemon_core.progress import Outcome
from maildaemon_core.reading import Reading
from maildaemon_core.store_port import Configuration, Lease, Store

logger = logging.getLogger(__name__)

BY_CHANCE: Final = 4
"""The version of a UUID in which nothing but chance is (RFC 9562 §5.4)."""


@attrs.frozen(kw_only=True)
class Sweeping:
    """What every sweep of this process needs.

    ``connector`` is for mailboxes that were adopted, ``limited`` for those of a catalog.
    """

    store: Store
    roster: Roster
    leasing: Leasing
    connector: Connector
    limited: Connector
    openers: Openers
    sessions: Sessions
    bounds: Bounds
    clock: Callable[[], datetime]
    tell: Callable[[Event], None]

    def turn(
        self,
        mailbox: MailboxId,
        *,
        stopping: Callable[[], bool],
        due: Callable[[SweepReport, datetime | None], datetime],
        again: frozenset[Outcome] = frozenset(),
        asked: bool = False,
        once: bool = False,
    ) -> SweepReport:
        """A sweep of the mailbox, unless another one works on it; what goes wrong with it is in the report.

        ``due`` says when the next one is, from the report and the time at which somebody else's lease ends.  ``again``:
        mails of these outcomes are tried again, skipped and failed ones.  ``asked``: a person wants it, so another
        process that only waits for news makes room; ``once`` is wanted by a person too.  Unless ``once``, its session
        waits for news afterwards where it can.  Raises ``StoreUnavailable`` if it could not begin for want of the
        ledger, ``NotSwept`` or ``UnknownMailbox`` if it is not to be.
        """
        visit = Visit(self.sessions, mailbox, waits=not once)
        try:
            return self._turn(mailbox, visit, stopping=stopping, due=due, again=again, asked=asked or once)
        finally:
            visit.leave()

    def _turn(
        self,
        mailbox: MailboxId,
        visit: Visit,
        *,
        stopping: Callable[[], bool],
        due: Callable[[SweepReport, datetime | None], datetime],
        again: frozenset[Outcome],
        asked: bool,
    ) -> SweepReport:
        lease = self.leasing.take(mailbox, asked=asked)
        if lease is None:
            self.sessions.leave(mailbox)  # somebody was asked to work on it
            trouble, until = self.leasing.busy(mailbox)
            report = self._not_swept(mailbox, SweepState.BUSY, trouble)
            due(report, until)
            return report
        try:
            with Heartbeat(lease):
                report = self._under(lease, visit, stopping, again)
        except MaildaemonError:
            with suppress(MaildaemonError):  # what was raised is what is told
                self.leasing.give_back(lease)
            raise
        except BaseException:
            self.leasing.leave(lease)
            raise
        next_due = due(report, None)
        try:
            self.leasing.give_back(lease, next_due, report)
        except LeaseLost:
            pass  # whoever has it now will report
        except StoreUnavailable as error:
            # What the report counts is committed; that it is not in the store is told to whoever asked for the sweep.
            if report.well:
                report = attrs.evolve(report, state=SweepState.PAUSED, trouble=error.trouble())
        if report.state is SweepState.DONE and not stopping():
            visit.wait((next_due - self.clock()).total_seconds(), found=report.counts.seen > 0, stopping=stopping)
        elif not (report.state is SweepState.DONE or was_stopped(report) or is_of_store(report)):
            # It failed before it took up the session that waits, whose news would have it tried again and again.
            self.sessions.leave(mailbox)
        return report

    def connector_of(self, member: Member | None) -> Connector:
        return self.connector if member is not None and member.trusted else self.limited

    def _under(
        self, lease: Lease, visit: Visit, stopping: Callable[[], bool], again: frozenset[Outcome]
    ) -> SweepReport:
        member, configuration = self.roster.current(lease.mailbox)
        options = member.wanted()
        try:
            through = not again or take_back(self.store, lease, again, clock=self.clock, stopping=stopping)
        except LeaseLost as error:
            return self._not_swept(lease.mailbox, SweepState.LOST, error.trouble())
        if not through or stopping():  # the options may be older than what it was stopped for
            return self._not_swept(lease.mailbox, SweepState.PAUSED, STOPPED)

        def outdated() -> bool:
            return stopping() or not self.roster.is_as_kept(member)  # another process may have changed it

        visit.to(options, self.connector_of(member))
        return self._sweep(lease, visit, _nonce(configuration), outdated)

    def _sweep(self, lease: Lease, visit: Visit, nonce: str, stopping: Callable[[], bool]) -> SweepReport:
        options, connector = visit.options, visit.connector
        opened: list[Target] = []
        try:
            opened += (connector.target(destination) for destination in options.destinations)
            with (
                connector.context(),
                Lanes(1, "source") as lane,
                Lanes(max(len(opened) - 1, 1), "destination") as lanes,
            ):
                sweep = Sweep(
                    lease,
                    options,
                    Targets(opened, lanes),
                    visit.open,
                    close_source=visit.close,
                    lane=lane,
                    clock=self.clock,
                    tell=self.tell,
                    nonce=nonce,
                    bounds=self.bounds,
                    reading=Reading(
                        openers=self.openers.working(), keep=Shelf(connector.spool).keep, clock=time.monotonic
                    ),
                    stopping=stopping,
                )
                report = sweep.run()
                visit.folder = sweep.first_folder
                return report
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
            _close(opened, connector)

    def _not_swept(self, mailbox: MailboxId, state: SweepState, trouble: Trouble) -> SweepReport:
        """The report of a sweep that did not get so far as to tell of itself."""
        now = self.clock()
        report = SweepReport(mailbox=mailbox, state=state, started=now, ended=now, trouble=trouble)
        if state is not SweepState.BUSY:  # whoever works on it tells of it
            self.tell(SweepEnded(report=report))
        return report


def _close(opened: Sequence[Target], connector: Connector) -> None:
    for target in opened:
        try:
            with connector.context():
                target.destination.close()
        except MaildaemonError:
            pass
        except Exception:
            logger.exception("destination %s could not be closed", target.options.name)


def _nonce(configuration: Configuration) -> str:
    """The same for as long as this store knows the mailbox, and no other store's.

    An id that was chosen by chance is no other store's anyway.  One that was made from a name may be; then the time at
    which the configuration was made tells them apart, though it changes when a removed one is made again.
    """
    created = configuration.created.isoformat() if configuration.created and not _by_chance(configuration.id) else ""
    return hashlib.sha256(f"{configuration.id} {created}".encode()).hexdigest()[:8]


def _by_chance(mailbox: MailboxId) -> bool:
    try:
        return uuid.UUID(mailbox).version == BY_CHANCE
    except ValueError:
        return False
