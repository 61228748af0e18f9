"""Who may work on a mailbox: taking its lease, keeping it while the work goes on, giving it back, naming who has it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from threading import Event as Signal
from threading import Lock, Thread
from typing import Any, cast

from maildaemon_core.engine.confining import trusted
from maildaemon_core.engine.holder import for_people, is_dead, is_idle, this_process
from maildaemon_core.errors import LeaseLost, MaildaemonError, StoreUnavailable, Trouble
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import SweepReport
from maildaemon_core.store_port import Holder, Lease, Store

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""A lease is renewed three times in this time; it is how long a mailbox waits for a worker of another machine that
died."""


class Leasing:
    """The leases that this process is given by a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._owners: dict[MailboxId, tuple[int, str]] = {}  # token and owner of the lease that we were given last
        self._left: dict[MailboxId, str] = {}  # who of us works no more, and could not give its lease back
        self._idle: dict[MailboxId, Holder] = {}  # as whom we wait for news
        self._abandoned = Signal()

    def take(self, mailbox: MailboxId, *, asked: bool = False) -> Lease | None:
        """The lease, or None while another one works on the mailbox.  Raises ``StoreUnavailable``.

        A process of this machine that was killed, and a lease that we could not give back, are waited for by nobody,
        and neither are we ourselves where we only wait for news.  ``asked``: a person wants it, so another process that
        only waits for news has to make room too.
        """
        owner = this_process()
        with self._lock:
            waiting = self._idle.get(mailbox)
        try:
            lease = self._store.lease(mailbox, LEASE_SECONDS, owner=owner, over=waiting)
            holder = self._store.holder(mailbox) if lease is None else None
            if holder is not None and (self._is_gone(mailbox, holder) or (asked and is_idle(holder.owner))):
                lease = self._store.lease(mailbox, LEASE_SECONDS, owner=owner, over=holder)
        except StoreUnavailable:
            with self._lock:
                self._left.setdefault(mailbox, owner)  # perhaps it was given all the same
            raise
        if lease is None:
            return None
        with self._lock:
            self._owners[mailbox] = lease.token, owner
            self._left.pop(mailbox, None)
            self._idle.pop(mailbox, None)
        return cast(Lease, _Endable(lease, self._abandoned))

    def wait(self, mailbox: MailboxId, seconds: float) -> Lease | None:
        """The lease of a mailbox that was just given back, while its session waits for news.

        None if somebody else was faster, or the store cannot be used.
        """
        owner = this_process(idle=True)
        try:
            lease = self._store.lease(mailbox, seconds, owner=owner)
        except StoreUnavailable:
            lease = None
            with self._lock:
                self._left.setdefault(mailbox, owner)
        if lease is None:
            return None
        with self._lock:
            self._owners[mailbox] = lease.token, owner
            # Who is meant shows by owner and token alone.
            self._idle[mailbox] = Holder(owner=owner, token=lease.token, until=datetime.max.replace(tzinfo=UTC))
        return cast(Lease, _Endable(lease, self._abandoned))

    def give_back(self, lease: Lease, next_due: datetime | None = None, report: SweepReport | None = None) -> None:
        """Raises ``LeaseLost``, and ``StoreUnavailable``, after which we may take it again all the same."""
        try:
            lease.give_back(next_due, report)
        except StoreUnavailable:
            self.leave(lease)
            raise

    def leave(self, lease: Lease) -> None:
        """Works no more under this lease, without having given it back."""
        with self._lock:
            token, owner = self._owners[lease.mailbox]
            if token == lease.token:  # else another thread works under a later one, and this one is over anyway
                self._left[lease.mailbox] = owner

    def busy(self, mailbox: MailboxId) -> tuple[Trouble, datetime | None]:
        """What to tell of a mailbox that another one works on, and when its time is up unless it works on."""
        holder = self._store.holder(mailbox)
        by = (
            f"by {for_people(holder.owner)} until {holder.until:%H:%M:%S} UTC at the latest" if holder else "by another"
        )
        idle = holder is not None and is_idle(holder.owner)
        trouble = Trouble(
            error="MailboxBusy",
            message=f"the mailbox is {'watched' if idle else 'being worked on'} {by}",
            remedy="nothing to do: that process sweeps it as soon as there is news"
            if idle
            else "let it finish, or stop that process; nothing was done here",
        )
        return trouble, holder.until if holder else None

    @contextmanager
    def for_a_moment(self, mailbox: MailboxId, *, next_due: datetime) -> Iterator[Lease]:
        """The lease for a short piece of work; the mailbox is due at ``next_due`` afterwards.

        Raises ``LeaseLost`` naming who works on the mailbox, or ``StoreUnavailable``.
        """
        lease = self.take(mailbox, asked=True)
        if lease is None:
            raise LeaseLost(self.busy(mailbox)[0].message, remedy="try again when it has finished")
        try:
            with Heartbeat(lease):
                yield lease
        except BaseException:
            with suppress(MaildaemonError):  # what went wrong is what is told
                self.give_back(lease, next_due)
            raise
        self.give_back(lease, next_due)

    def abandon(self) -> None:
        """From now on nothing is written or renewed under any of the leases given out: they end by themselves."""
        self._abandoned.set()

    def _is_gone(self, mailbox: MailboxId, holder: Holder) -> bool:
        """Whether a holder was a process of this machine that was killed, or we could not give back what we had."""
        with self._lock:
            left = self._left.get(mailbox)
        return is_dead(holder.owner) or holder.owner == left


class _Endable:
    """A lease of which every use is refused once the process has abandoned its work: as harmless as its death.

    A class of twelve methods that only hand on would say the same at length.
    """

    def __init__(self, lease: Lease, abandoned: Signal) -> None:
        self._lease = lease
        self._abandoned = abandoned

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._lease, name)
        if name in {"mailbox", "token"}:
            return found
        if self._abandoned.is_set():
            raise LeaseLost(f"the work on mailbox {self._lease.mailbox} was cut off", remedy="the next sweep goes on")

        def use(*args: Any, **kwargs: Any) -> Any:
            with trusted():  # the ledger is the service's own, wherever the mailbox may connect to
                return found(*args, **kwargs)

        return use


class Heartbeat:
    """Renews a lease while work goes on, so that a large mail over a slow line does not outlast it."""

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
