"""The session of one sweep: taken up where it waited for news, else made, and left to wait again afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable

from maildaemon_core.engine.connecting import Connector
from maildaemon_core.engine.sessions import LONGEST_PAUSE, PAUSE, Sessions, WaitingSession
from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.options import MailboxOptions
from maildaemon_core.ports import MailSource, Wakeable

logger = logging.getLogger(__name__)


class Visit:
    """The session of one sweep.  ``waits``: afterwards it may wait for news of ``folder``."""

    options: MailboxOptions
    connector: Connector

    def __init__(self, sessions: Sessions, mailbox: MailboxId, *, waits: bool) -> None:
        self._sessions = sessions
        self._mailbox = mailbox
        self._waits = waits
        self._held: MailSource | None = None
        self._before: WaitingSession | None = None
        self.folder: FolderRef | None = None

    def to(self, options: MailboxOptions, connector: Connector) -> None:
        """Whose session it is."""
        self.options, self.connector = options, connector

    def open(self) -> MailSource:
        """The session that waits for this mailbox, else a new one.  Raises what opening a source raises."""
        self._before = self._sessions.resumed(self._mailbox, self.options)
        if self._before is not None:
            return self._before.source
        return self._sessions.opened(self.options, self.connector)

    def close(self, source: MailSource) -> None:
        """The sweep needs it no more; it is held if it may wait, else ended."""
        if self._waits and self.options.idle and isinstance(source, Wakeable):
            self._held = source
        else:
            self._sessions.ended(self.options, source)

    def wait(self, seconds: float, *, found: bool, stopping: Callable[[], bool]) -> None:
        """Has what is held wait, if it can, until the mailbox is swept anyway after so many seconds.

        ``found``: the sweep has found a mail that is new.
        """
        if self._held is None or self.folder is None:
            return
        in_vain = self._before is not None and self._before.told and not found
        with self.connector.context():
            if self._sessions.park(
                self._mailbox,
                self.options,
                self.connector,
                self._held,
                folder=self.folder,
                seconds=seconds,
                pause=min(self._before.pause * 2, LONGEST_PAUSE) if self._before and in_vain else PAUSE,
                stopping=stopping,
            ):
                self._held = None

    def leave(self) -> None:
        """Ends what is held.  Never raises."""
        if self._held is not None:
            source, self._held = self._held, None
            try:
                with self.connector.context():
                    self._sessions.ended(self.options, source)
            except Exception:  # a plug-in's; the sweep is over and told of
                logger.exception("the session of mailbox %s could not be ended", self.options.label)
