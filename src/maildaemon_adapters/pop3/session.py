"""A session that outlives its connection: what POP3 shows is as old as the login, so a fresh look is another login."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from maildaemon_adapters.pop3.credentials import Locked
from maildaemon_adapters.pop3.heads import Head, Heads
from maildaemon_adapters.pop3.login import log_in, port_of
from maildaemon_adapters.pop3.maildrop import EMPTY, Maildrop, read_maildrop, read_sizes
from maildaemon_adapters.pop3.settings import INBOX, Pop3Settings
from maildaemon_adapters.pop3.wire import Broken, Connection, Refused, Unparsable
from maildaemon_adapters.pop3.words import for_people
from maildaemon_core.errors import FolderMissing, SourceUnavailable
from maildaemon_core.message import FolderRef
from maildaemon_core.options import MailboxOptions

PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between the attempts to get into a maildrop that is still locked; the last one again and again."""


class Session:
    """Logged in when made.  ``Broken``, ``Refused`` and ``Unparsable`` pass through, unless within ``translated``.

    ``numbering``: how often the ids were given anew, as far as that was looked at; None: not yet.
    """

    def __init__(self, options: MailboxOptions, settings: Pop3Settings) -> None:
        self._options = options
        self._settings = settings
        self._connection = log_in(options, settings)
        self._maildrop: Maildrop | None = None
        self._sizes: Mapping[int, int] | None = None
        self._deleted: dict[str, str] = {}
        self.numbering: int | None = None

    @property
    def where(self) -> str:
        return f"{self._options.host}:{port_of(self._options)}"

    @property
    def connection(self) -> Connection:
        """One that is not known to be broken: a new one if need be.  Raises as ``log_in`` does."""
        if not self._connection.usable:
            self.drop()
            self._connection = self._patiently()
        return self._connection

    def drop(self) -> None:
        """Ends the connection, with nothing deleted; the next command makes a new one."""
        self._maildrop = self._sizes = None
        self._connection.leave()

    def maildrop(self) -> Maildrop:
        """What lies there, as it was when this connection was made; numbers are good for this connection only.

        Raises ``SourceUnavailable`` for a server that cannot tell its mails apart.
        """
        connection = self.connection
        if self._maildrop is None:
            found = self._read(connection)
            self._compare(connection, found)
            self._maildrop = found
        return self._maildrop

    def fresh(self) -> Maildrop:
        """What lies there now."""
        self.drop()
        return self.maildrop()

    def sizes(self) -> Mapping[int, int]:
        """What the server says of the sizes of this connection's mails, in bytes by number."""
        if self._sizes is None:
            try:
                self._sizes = read_sizes(self.connection.listing("LIST"))
            except Refused:
                self._sizes = {}
        return self._sizes

    def heads(self) -> Heads:
        """What the mails of this connection's maildrop say of themselves."""
        return Heads(self.connection, at_once=self._settings.fetch_count)

    def deleted(self, mails: dict[str, str]) -> None:
        """These were deleted, as the server says: by uid, each with its fingerprint."""
        self._deleted |= mails

    def only_inbox(self, folder: FolderRef) -> None:
        """Raises ``FolderMissing`` for any other folder."""
        if folder.upper() != INBOX:
            raise FolderMissing(
                f"there is no folder {folder!r} at {self.where}: POP3 knows only {INBOX}",
                remedy=f"write folders: [{INBOX}], or read the others through imap",
            )

    @contextlib.contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """What goes wrong in here as ``SourceUnavailable``; ``doing`` says what was tried."""
        try:
            yield
        except Broken as error:
            reason = f"the connection broke: {for_people(str(error))}"
        except Unparsable as error:
            reason = for_people(str(error))
        except Refused as error:
            reason = f"the server refuses: {for_people(str(error))}"
        else:
            return
        raise SourceUnavailable(f"{doing} at {self.where}: {reason}", remedy="it will be tried again")

    def _patiently(self) -> Connection:
        """Logs in again; the server may not have noticed yet that we were gone."""
        end = time.monotonic() + self._settings.lock_seconds
        for attempt in range(1 << 10):
            pause = PAUSES[min(attempt, len(PAUSES) - 1)]
            try:
                return log_in(self._options, self._settings)
            except Locked:
                if time.monotonic() + pause > end:
                    raise
            time.sleep(pause)
        raise AssertionError("a pause takes time")

    def _read(self, connection: Connection) -> Maildrop:
        count = connection.command("STAT").split(" ")[0]
        if count == "0":
            return EMPTY
        refusal = ""
        try:
            found = read_maildrop(connection.listing("UIDL"))
        except Refused as error:
            found, refusal = EMPTY, for_people(str(error))
        if refusal or not found.numbers:
            raise SourceUnavailable(
                f"{self.where} gives its mails no lasting ids (UIDL{': ' + refusal if refusal else ''}), so nobody "
                "could tell which of them were stored already",
                remedy="read this mailbox through imap, or have the server's POP3 updated",
            )
        if count.isdecimal() and len(found.numbers) < int(count):
            raise SourceUnavailable(
                f"{self.where} has {count} mails and gives only {len(found.numbers)} of them an id (UIDL)",
                remedy="it will be tried again; if it stays so, read this mailbox through imap",
            )
        return found

    def _compare(self, connection: Connection, found: Maildrop) -> None:
        """Numbers that are given again at once would have us take one mail for another."""
        again = [uid for uid in self._deleted if uid in found.numbers][:1]
        looked = Heads(connection, at_once=1).read([found.numbers[uid] for uid in again])
        for uid in again:
            head = looked[found.numbers[uid]]
            if isinstance(head, Head) and head.headers.fingerprint != self._deleted[uid]:
                self._deleted = {}
                raise SourceUnavailable(
                    f"{self.where} gave the id {uid} of a mail that it has just deleted to another one",
                    remedy="nothing is lost: the next sweep compares all mails by their headers; read this mailbox "
                    "through imap if it happens often",
                )


def shown(uids: Sequence[str]) -> str:
    """Some ids, for people."""
    some = ", ".join(uids[:3])
    return f"{some} and {len(uids) - 3} more" if len(uids) > 3 else some  # noqa: PLR2004 - an example or two
