"""Tells the log when something is not as it should be any more, and when it is again, whoever asks for the health."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from threading import Event, Thread

from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.errors import MaildaemonError
from maildaemon_http.findings import NOBODY, FolderWatch, HealthFinding, findings_of, is_left_to_others, of_store

EVERY = 15.0
"""Seconds from one look to the next."""

logger = logging.getLogger(__name__)


class Lookout:
    """Compares what ``/health/ready`` would say with what it would have said before."""

    def __init__(
        self,
        daemon: MailDaemon,
        folders: FolderWatch,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        every: float = EVERY,
    ) -> None:
        self._daemon = daemon
        self._folders = folders
        self._clock = clock
        self._every = every
        self._told: dict[tuple[str, str], HealthFinding] = {}
        self._over = Event()
        self._thread = Thread(target=self._run, name="lookout", daemon=True)

    def start(self) -> None:
        """In a thread of its own, which keeps nobody from ending; says first what this process is about to do."""
        self._begin()
        self._thread.start()

    def stop(self) -> None:
        """No look any more; one that goes on is not waited for."""
        self._over.set()

    def once(self) -> None:
        """One look."""
        found = [*self._of_store(), *findings_of(self._daemon, self._folders, self._clock())]
        now = {(one.subject, one.remedy): one for one in found}  # what says how long it lasts is no news
        for key, one in now.items():
            if key not in self._told:
                logger.warning(
                    "not as it should be", extra=_fields(one) | {"trouble": one.message, "remedy": one.remedy}
                )
        subjects = {subject for subject, _ in now}
        for (subject, _), one in self._told.items():
            if subject not in subjects:
                logger.info("as it should be again", extra=_fields(one))
        self._told = now

    def _begin(self) -> None:
        watched = self._daemon.watched()
        logger.info("watching", extra={"mailboxes": sum(one.active for one in watched)})
        for one in watched:
            if is_left_to_others(one) and one.trouble is not None:
                logger.warning(
                    "not swept here",
                    extra={
                        "mailbox": one.label,
                        "mailbox_id": one.mailbox,
                        "trouble": one.trouble.message,
                        "remedy": f"{one.trouble.remedy}; if it was taken out of the file for good, delete it",
                    },
                )

    def _of_store(self) -> Iterator[HealthFinding]:
        try:
            self._daemon.store.configuration(NOBODY)
        except MaildaemonError as error:
            yield of_store(error.message, error.remedy)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.once()
            except Exception:
                logger.exception("it could not be seen whether all is as it should be")
            self._over.wait(self._every)


def _fields(one: HealthFinding) -> dict[str, str]:
    return {"concerns": one.concerns, "subject": one.subject}
