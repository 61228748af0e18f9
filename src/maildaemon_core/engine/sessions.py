"""The sessions with mail servers: so many to each host, and those that wait for news, which one thread watches.

A session that waits keeps its connection and the lease of its mailbox, and costs no thread.  What it is told is a hint:
the mailbox is swept at its interval all the same.
"""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from threading import Condition, RLock, Thread
from typing import Final, cast

import attrs

from maildaemon_core.engine.confining import trusted
from maildaemon_core.engine.connecting import Connector
from maildaemon_core.engine.leasing import Leasing
from maildaemon_core.errors import MaildaemonError, SourceUnavailable
from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.options import MailboxOptions
from maildaemon_core.ports import MailSource, Wakeable
from maildaemon_core.store_port import Lease

logger = logging.getLogger(__name__)

PER_HOST: Final = 1000
"""So many connections to one host at most, unless the operator says something else."""

TURN_SECONDS: Final = 60.0
"""So long a sweep waits for one of a host's connections to be free."""

GRACE: Final = 60.0
"""Seconds for which the lease of a mailbox that waits lasts beyond the time at which it is swept anyway."""

SHORTEST_WAIT: Final = 60.0
"""A server that ends sessions which wait sooner than after so many seconds is not called on again at once."""

PAUSE: Final = 1.0
"""News that come within so many seconds after the last ones wait for each other."""


@attrs.define(eq=False, kw_only=True)
class _Waiting:
    """A session that waits.  ``over``: the server has ended it; ``descriptor`` is no longer watched then."""

    mailbox: MailboxId
    options: MailboxOptions
    connector: Connector
    source: MailSource
    lease: Lease
    descriptor: int
    began: float
    until: float
    over: bool = False

    @property
    def wakeable(self) -> Wakeable:
        return cast(Wakeable, self.source)


class Sessions:
    """Used by many threads; ``news`` is called, from the thread that watches, when a mailbox is worth a look.

    It is given the seconds after which to look.
    """

    def __init__(self, leasing: Leasing, news: Callable[[MailboxId, float], None], *, per_host: int = PER_HOST) -> None:
        self.per_host = per_host
        self._leasing = leasing
        self._news = news
        self._changed = Condition(RLock())
        self._waiting: dict[MailboxId, _Waiting] = {}
        self._connections: Counter[str] = Counter()
        self._selector: selectors.BaseSelector | None = None
        self._bell = (-1, -1)
        self._closed = False

    def waiting(self) -> Collection[MailboxId]:
        """The mailboxes whose sessions wait for news."""
        with self._changed:
            return [each.mailbox for each in self._waiting.values() if not each.over]

    def leave(self, mailbox: MailboxId) -> None:
        """Ends the session that waits, if there is one, in the background, and gives the lease back."""
        if (found := self._taken(mailbox)) is not None:
            Thread(target=self._end, args=(found,), name="leaving", daemon=True).start()

    def close(self, seconds: float) -> None:
        """Ends all that wait: their leases first, so that whoever comes after need not wait for them."""
        with self._changed:
            self._closed = True
            found = [each for mailbox in list(self._waiting) if (each := self._taken(mailbox)) is not None]
            self._ring()
        for each in found:
            self._give_back(each)
        end = time.monotonic() + seconds
        for each in found:
            if time.monotonic() > end:  # the connections end with the process
                return
            self._close(each)

    # ------------------------------------------------------------------------------------------------- for a visit

    def resumed(self, mailbox: MailboxId, options: MailboxOptions) -> MailSource | None:
        """The session that waits, ready to be used again, if it was made with these options and still is one."""
        found = self._taken(mailbox)
        if found is None:
            return None
        if not found.over and found.options == options:
            with suppress(SourceUnavailable):
                found.wakeable.disarm()
                return found.source
        self._close(found)
        return None

    def opened(self, options: MailboxOptions, connector: Connector) -> MailSource:
        """A new session.  Raises what a source raises, and ``SourceUnavailable`` when its host has too many already."""
        self._reserve(options.host)
        try:
            return connector.source(options).__enter__()
        except BaseException:
            self._release(options.host)
            raise

    def ended(self, options: MailboxOptions, source: MailSource) -> None:
        """Ends a session that is in use."""
        try:
            source.__exit__(None, None, None)
        finally:
            self._release(options.host)

    def park(
        self,
        mailbox: MailboxId,
        options: MailboxOptions,
        connector: Connector,
        source: MailSource,
        *,
        folder: FolderRef,
        seconds: float,
    ) -> bool:
        """Has a session wait for news of that folder; False if it cannot.

        ``seconds``: after that the mailbox is swept anyway.
        """
        wakeable = cast(Wakeable, source)
        try:
            armed = wakeable.arm(folder)
        except MaildaemonError as error:
            logger.info("mailbox %s is polled, and cannot wait for news: %s", options.label, error)
            return False
        if armed is None:
            return False
        lease = self._leasing.wait(mailbox, min(seconds, armed.seconds) + GRACE)
        if lease is None:
            return False
        now = time.monotonic()
        made = _Waiting(
            mailbox=mailbox,
            options=options,
            connector=connector,
            source=source,
            lease=lease,
            descriptor=armed.descriptor,
            began=now,
            until=now + armed.seconds,
        )
        with self._changed:
            if self._closed:
                self._give_back(made)
                return False
            self._waiting[mailbox] = made
            self._changed.notify_all()  # it makes room if somebody waits for a connection
            # What the server said before anybody listened may be in a buffer already, where no selector sees it.
            if self._look(made):
                self._watched().register(made.descriptor, selectors.EVENT_READ, made)
                self._ring()
        return True

    # --------------------------------------------------------------------------------------------------- the thread

    def _watched(self) -> selectors.BaseSelector:
        """What is watched; the thread that does it begins with the first."""
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
            self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._selector.register(self._bell[0], selectors.EVENT_READ, None)
            Thread(target=self._watch, args=(self._selector,), name="waiting", daemon=True).start()
        return self._selector

    def _watch(self, selector: selectors.BaseSelector) -> None:
        with trusted():  # it only reads from connections that were judged when they were made
            while not self._closed:
                try:
                    ready = selector.select(self._patience())
                    for key, _ in ready:
                        self._heard(cast("_Waiting | None", key.data))
                    self._mind_the_time()
                except Exception:
                    logger.exception("the thread that waits for news met what it should never meet; it goes on")
                    time.sleep(1)
        with self._changed:
            selector.close()
            for end in self._bell:
                os.close(end)

    def _heard(self, waiting: _Waiting | None) -> None:
        if waiting is None:
            with suppress(BlockingIOError):
                os.read(self._bell[0], 1 << 12)
            return
        with self._changed:
            if self._waiting.get(waiting.mailbox) is waiting and not waiting.over and not self._look(waiting):
                self._unwatched(waiting)

    def _look(self, waiting: _Waiting) -> bool:
        """Takes up what the server has said, has the mailbox swept for it; whether the session still stands."""
        try:
            told = waiting.wakeable.drain()
        except Exception as error:
            if not isinstance(error, MaildaemonError):
                logger.exception("the session of mailbox %s that waits for news failed", waiting.options.label)
            waiting.over = True
            if time.monotonic() - waiting.began >= SHORTEST_WAIT:
                self._news(waiting.mailbox, 0.0)
            return False
        if told:
            self._news(waiting.mailbox, max(0.0, waiting.began + PAUSE - time.monotonic()))
        return True

    def _mind_the_time(self) -> None:
        """Those that have waited as long as they may are taken up by a sweep, and wait anew after it."""
        now = time.monotonic()
        with self._changed:
            late = [each for each in self._waiting.values() if each.until <= now]
            for each in late:
                each.until = now + GRACE
        for each in late:
            self._news(each.mailbox, 0.0)

    def _patience(self) -> float:
        with self._changed:
            until = min((each.until for each in self._waiting.values()), default=None)
        return 60.0 if until is None else min(max(until - time.monotonic(), 0.0), 60.0)

    # -------------------------------------------------------------------------------------------------------- parts

    def _taken(self, mailbox: MailboxId) -> _Waiting | None:
        """Takes it from those that wait; nobody else uses it any more."""
        with self._changed:
            found = self._waiting.pop(mailbox, None)
            if found is not None and not found.over:
                self._unwatched(found)
            return found

    def _unwatched(self, waiting: _Waiting) -> None:
        if self._selector is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(waiting.descriptor)

    def _end(self, waiting: _Waiting) -> None:
        self._give_back(waiting)
        self._close(waiting)

    def _give_back(self, waiting: _Waiting) -> None:
        with suppress(MaildaemonError):
            self._leasing.give_back(waiting.lease)

    def _close(self, waiting: _Waiting) -> None:
        try:
            with waiting.connector.context():
                self.ended(waiting.options, waiting.source)
        except Exception:
            logger.exception("the session of mailbox %s could not be ended", waiting.options.label)

    def _reserve(self, host: str | None) -> None:
        if host is None:
            return
        end = time.monotonic() + TURN_SECONDS
        while True:
            with self._changed:
                if self._connections[host] < self.per_host:
                    self._connections[host] += 1
                    return
                idle = [each for each in self._waiting.values() if each.options.host == host]
                if not idle and not self._changed.wait(max(end - time.monotonic(), 0.0)):
                    raise SourceUnavailable(
                        f"{self.per_host} connections to {host} are open, and more are not allowed",
                        remedy="it will be tried again; connectionsPerHost says how many there may be",
                    )
                found = self._taken(min(idle, key=lambda each: each.began).mailbox) if idle else None
            if found is not None:  # who only waits makes room, and is polled
                self._end(found)

    def _release(self, host: str | None) -> None:
        if host is not None:
            with self._changed:
                self._connections[host] -= 1
                self._changed.notify_all()

    def _ring(self) -> None:
        """Has the thread look at what is watched anew."""
        if self._selector is not None:
            with suppress(OSError):
                os.write(self._bell[1], b"!")


class Visit:
    """The session of one sweep.  ``waits``: afterwards it may wait for news of ``folder``."""

    options: MailboxOptions
    connector: Connector

    def __init__(self, sessions: Sessions, mailbox: MailboxId, *, waits: bool) -> None:
        self._sessions = sessions
        self._mailbox = mailbox
        self._waits = waits
        self._held: MailSource | None = None
        self.folder: FolderRef | None = None

    def to(self, options: MailboxOptions, connector: Connector) -> None:
        """Whose session it is."""
        self.options, self.connector = options, connector

    def open(self) -> MailSource:
        """The session that waits for this mailbox, else a new one.  Raises what opening a source raises."""
        waiting = self._sessions.resumed(self._mailbox, self.options)
        return waiting or self._sessions.opened(self.options, self.connector)

    def close(self, source: MailSource) -> None:
        """The sweep needs it no more; it is held if it may wait, else ended."""
        if self._waits and self.options.idle and isinstance(source, Wakeable):
            self._held = source
        else:
            self._sessions.ended(self.options, source)

    def wait(self, seconds: float) -> None:
        """Has what is held wait, if it can, until the mailbox is swept anyway after so many seconds."""
        if self._held is not None and self.folder is not None:
            with self.connector.context():
                if self._sessions.park(
                    self._mailbox, self.options, self.connector, self._held, folder=self.folder, seconds=seconds
                ):
                    self._held = None

    def leave(self) -> None:
        """Ends what is held.  Never raises."""
        if self._held is not None:
            source, self._held = self._held, None
            try:
                with self.connector.context():
                    self._sessions.ended(self.options, source)
            except Exception:
                logger.exception("the session of mailbox %s could not be ended", self.options.label)
