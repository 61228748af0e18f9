"""What a service does by the way: now and then it forgets what need not be remembered any longer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.errors import MaildaemonError
from maildaemon_core.retention import Retention

EVERY = 3600.0
"""Seconds from one time to the next."""

AGAIN = 60.0
"""Seconds until it goes on when there is more than is done in one go, lest it hold up mail."""

BATCHES = 50
"""So many transactions in one go, of some hundred rows each."""

FORGOTTEN_AT_ONCE = 500

logger = logging.getLogger(__name__)


class Housekeeping:
    """Thins out history that is older than ``retention`` has it, and answers that are older than ``repeats``."""

    def __init__(
        self,
        daemon: MailDaemon,
        retention: Retention,
        *,
        repeats: timedelta,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._daemon = daemon
        self._retention = retention
        self._repeats = repeats
        self._clock = clock
        self._over = Event()
        self._thread = Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """In a thread of its own, which keeps nobody from ending."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Waits up to so many seconds for the transaction that goes on; call ``MailDaemon.stop`` before."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def once(self) -> bool:
        """Whether there is more to be done.  Raises ``StoreUnavailable``."""
        thinned = self._daemon.thin(self._retention, batches=BATCHES)
        if thinned.total:
            logger.info("the history of %d old mails was thinned out", thinned.total)
        before = self._clock() - self._repeats
        for _ in range(BATCHES):
            if self._over.is_set():
                break
            if self._daemon.store.forget_repeats(before, limit=FORGOTTEN_AT_ONCE) < FORGOTTEN_AT_ONCE:
                return thinned.more
        return True

    def _run(self) -> None:
        while not self._over.is_set():
            more = False
            try:
                more = self.once()
            except MaildaemonError as error:
                logger.warning("old history could not be thinned out: %s", error)
            except Exception:
                logger.exception("old history could not be thinned out")
            self._over.wait(AGAIN if more else EVERY)
