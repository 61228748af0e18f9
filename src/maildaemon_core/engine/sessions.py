"""The sessions with mail servers: so many to each host, and those that wait for news, which one thread watches.

A session that waits keeps its connection and the lease of its mailbox, and costs no thread.  What it is told is a hint:
the mailbox is swept at its interval all the same.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
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

LONGEST_PAUSE: Final = 64.0
"""Where news turn out to be none that time doubles, up to this: some servers tell of old mail whenever one waits."""


@attrs.define(eq=False, kw_only=True)
class WaitingSession:
    """A session that waits.

    ``pause``: how many seconds after its beginning news are heeded first.  ``told``: there were some.  ``over``: the
    server has ended it; ``descriptor`` is no longer watched then.
    """

    mailbox: MailboxId
    options: MailboxOptions
    connector: Connector
    source: MailSource
    lease: Lease
    descriptor: int
    began: float
    until: float
    pause: float
    told: bool = False
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
        self._waiting: dict[MailboxId, WaitingSession] = {}
        self._connections: Counter[str] = Counter()
        self._selector: selectors.BaseSelector | None = None
        self._bell: Sequence[socket.socket] = ()
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
        end = time.monotonic() + seconds
        for end_one in (self._give_back, self._close):
            for each in found:
                if time.monotonic() > end:  # connections end with the process, and leases a little later
                    return
                end_one(each)

    # ------------------------------------------------------------------------------------------------- for a visit

    def resumed(self, mailbox: MailboxId, options: MailboxOptions) -> WaitingSession | None:
        """The session that waits, ready to be used again, if it was made with these options and still is one."""
        found = self._taken(mailbox)
        if found is None:
            return None
        if not found.over and found.options == options:
            try:
                found.wakeable.disarm()
            except SourceUnavailable:
                pass
            except Exception:  # a plug-in's; the mailbox is swept all the same
                logger.exception("the session of mailbox %s could not be taken up", options.label)
            else:
                return found
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
        pause: float,
        stopping: Callable[[], bool],
    ) -> bool:
        """Has a session wait for news of that folder; False if it cannot, and then the session is the caller's.

        ``seconds``: after that the mailbox is swept anyway.  ``pause``: news wait for so many.  Nothing waits once
        ``stopping``: whoever is behind that calls ``leave`` afterwards.
        """
        wakeable = cast(Wakeable, source)
        try:
            armed = wakeable.arm(folder)
        except MaildaemonError as error:
            logger.info("mailbox %s is polled, and cannot wait for news: %s", options.label, error)
            return False
        except Exception:  # a plug-in's; the sweep before went through
            logger.exception("mailbox %s is polled, and cannot wait for news", options.label)
            return False
        if armed is None:
            return False
        lease = self._leasing.wait(mailbox, max(min(seconds, armed.seconds), 0.0) + GRACE)
        if lease is None:
            return False
        now = time.monotonic()
        made = WaitingSession(
            mailbox=mailbox,
            options=options,
            connector=connector,
            source=source,
            lease=lease,
            descriptor=armed.descriptor,
            began=now,
            until=now + armed.seconds,
            pause=pause,
        )
        if not self._begun(made, stopping):
            self._give_back(made)
            return False
        return True

    def _begun(self, made: WaitingSession, stopping: Callable[[], bool]) -> bool:
        with self._changed:
            if self._closed or stopping():
                return False
            # What the server said before anybody listened may be in a buffer already, where no selector sees it.
            after = self._look(made)
            try:
                if not made.over:
                    self._watched().register(made.descriptor, selectors.EVENT_READ, made)
            except Exception:  # a plug-in's descriptor that is none
                logger.exception("mailbox %s is polled: its session cannot be watched", made.options.label)
                return False
            self._waiting[made.mailbox] = made
            self._changed.notify_all()  # it makes room if somebody waits for a connection
            self._ring()
        self._tell(made, after)
        return True

    # --------------------------------------------------------------------------------------------------- the thread

    def _watched(self) -> selectors.BaseSelector:
        """What is watched; the thread that does it begins with the first."""
        if self._selector is None:
            bell = socket.socketpair()
            for end in bell:
                end.setblocking(False)
            self._selector, self._bell = selectors.DefaultSelector(), bell
            self._selector.register(bell[0], selectors.EVENT_READ, None)
            Thread(target=self._watch, args=(self._selector,), name="waiting", daemon=True).start()
        return self._selector

    def _watch(self, selector: selectors.BaseSelector) -> None:
        with trusted():  # it only reads from connections that were judged when they were made
            while not self._closed:
                try:
                    ready = selector.select(self._patience())
                    for key, _ in ready:
                        self._heard(cast("WaitingSession | None", key.data))
                    self._mind_the_time()
                except Exception:  # else nobody would hear of new mail any more
                    logger.exception("the thread that waits for news met what it should never meet; it goes on")
                    time.sleep(1)
        with self._changed:
            selector.close()
            for end in self._bell:
                end.close()

    def _heard(self, waiting: WaitingSession | None) -> None:
        if waiting is None:
            with suppress(OSError):
                self._bell[0].recv(1 << 12)
            return
        with self._changed:
            if self._waiting.get(waiting.mailbox) is not waiting:
                return
            after = self._look(waiting)
            if waiting.over:
                self._unwatched(waiting)
        self._tell(waiting, after)

    def _look(self, waiting: WaitingSession) -> float | None:
        """Takes up what the server has said; after how many seconds the mailbox is to be swept for it."""
        if waiting.over:
            return None
        try:
            told = waiting.wakeable.drain()
        except Exception as error:
            if not isinstance(error, MaildaemonError):
                logger.exception("the session of mailbox %s that waits for news failed", waiting.options.label)
            waiting.over = True
            return 0.0 if time.monotonic() - waiting.began >= SHORTEST_WAIT else None
        waiting.told |= told
        return max(0.0, waiting.began + waiting.pause - time.monotonic()) if told else None

    def _tell(self, waiting: WaitingSession, after: float | None) -> None:
        """Not under the lock: whoever hears of it may do anything."""
        if after is not None:
            self._news(waiting.mailbox, after)

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

    def _taken(self, mailbox: MailboxId) -> WaitingSession | None:
        """Takes it from those that wait; nobody else uses it any more."""
        with self._changed:
            found = self._waiting.pop(mailbox, None)
            if found is not None and not found.over:
                self._unwatched(found)
            return found

    def _unwatched(self, waiting: WaitingSession) -> None:
        if self._selector is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(waiting.descriptor)

    def _end(self, waiting: WaitingSession) -> None:
        self._give_back(waiting)
        self._close(waiting)

    def _give_back(self, waiting: WaitingSession) -> None:
        with suppress(MaildaemonError):
            self._leasing.give_back(waiting.lease)

    def _close(self, waiting: WaitingSession) -> None:
        try:
            with waiting.connector.context():
                self.ended(waiting.options, waiting.source)
        except Exception:  # a plug-in's; whoever ends it has others to end
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
                self._bell[1].send(b"!")
