"""A session that outlives its connection: it connects anew when needed, and knows which folder is open and how."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

from maildaemon_adapters.imap.login import log_in, port_of
from maildaemon_adapters.imap.settings import ImapSettings
from maildaemon_adapters.imap.translate import asks_to_wait, for_people, is_temporary, pause, response
from maildaemon_adapters.imap.wire import Broken, Connection, Opened, Refused, Unparsable
from maildaemon_core.errors import FolderMissing, FolderRefused, LoginRefused, SourceUnavailable
from maildaemon_core.message import FolderRef
from maildaemon_core.options import MailboxOptions


class Renumbered(Exception):
    """The folder has another UIDVALIDITY than the references that are at hand."""


class Session:
    """Logged in when made.  ``Broken``, ``Refused`` and ``Unparsable`` pass through, unless within ``translated``."""

    def __init__(self, options: MailboxOptions, settings: ImapSettings) -> None:
        self._options = options
        self._settings = settings
        self._connection = log_in(options, settings)
        self._locked_out: LoginRefused | None = None
        self._folder: tuple[FolderRef, Opened, bool] | None = None
        self.abilities = self._connection.abilities()

    @property
    def where(self) -> str:
        return f"{self._options.host}:{port_of(self._options)}"

    @property
    def idle(self) -> bool:
        """Whether the mailbox is to wait for news, where the server can tell of them."""
        return self._options.idle

    @property
    def connection(self) -> Connection:
        """One that is not known to be broken: a new one if need be.  Raises as ``log_in`` does."""
        if not self._connection.usable:
            self.drop()
            if self._locked_out is not None:
                raise self._locked_out
            try:
                self._connection = log_in(self._options, self._settings)
            except LoginRefused as error:
                self._locked_out = error  # whoever knocks again and again is shut out for longer
                raise
            self.abilities = self._connection.abilities()
        return self._connection

    def drop(self) -> None:
        """Ends the connection; the next command makes a new one."""
        self._folder = None
        self._connection.leave()

    def open(self, folder: FolderRef, *, writable: bool = False) -> Opened:
        """A fresh look at the folder.  Raises ``FolderMissing``, and ``Refused`` if it can be read but not written."""
        connection = self.connection
        self._folder = None
        try:
            opened = connection.open_folder(folder, writable=writable)
        except Refused as error:
            refused = str(error)
        else:
            if not opened.uidvalidity:
                raise SourceUnavailable(
                    f"{self.where} gives no UIDVALIDITY for {folder!r}: its mails cannot be told apart for sure",
                    remedy="use another protocol for this server",
                )
            self._folder = (folder, opened, writable)
            return opened
        self._missing(folder, refused)
        if writable:
            raise Refused(refused)
        raise FolderRefused(
            f"{self.where} does not open {folder!r}: {for_people(refused)}",
            remedy="look at this folder with a mail program, and into the server's log",
        )

    def view(self, folder: FolderRef, *, writable: bool = False) -> Opened:
        """The folder as it is open already, else by a fresh look.  Raises as ``open`` does.

        While it is open no number changes its meaning (RFC 9051 §2.3.1.1), and a look costs a round trip.  What was
        opened to tidy it stays open for that: reading marks nothing there either, for it asks with PEEK.
        """
        _ = self.connection
        if self._folder is None or self._folder[0] != folder or (writable and not self._folder[2]):
            return self.open(folder, writable=writable)
        return self._folder[1]

    def at(self, folder: FolderRef, uidvalidity: str) -> Connection:
        """The connection with this folder open, under this UIDVALIDITY.  Raises ``Renumbered``."""
        if self.view(folder).uidvalidity != uidvalidity:
            raise Renumbered
        return self._connection

    def still_there(self, folder: FolderRef, uidvalidity: str, uids: Collection[int]) -> set[int]:
        """Which of these a fresh look finds.  Raises ``Renumbered``."""
        self.open(folder)
        return self.at(folder, uidvalidity).those_there(uids)

    def spelling(self, folder: FolderRef) -> FolderRef:
        """How this server would write a name that was written for another one: its separator, its prefix."""
        connection = self.connection
        separator = next((each.separator for each in connection.listed("INBOX")), "")
        name = folder if separator in {"", "/"} else folder.replace("/", separator)
        prefixes = connection.prefixes() if "NAMESPACE" in self.abilities else []
        if prefixes and name.upper() != "INBOX" and not any(name.startswith(prefix) for prefix in prefixes):
            name = f"{prefixes[0]}{name}"
        return FolderRef(name)

    def _missing(self, folder: FolderRef, refused: str) -> None:
        """Raises what a refused folder means, unless it just may not be written."""
        code, words = response(refused)
        if asks_to_wait(refused):
            raise Refused(refused)
        if is_temporary(refused):
            raise FolderRefused(
                f"{self.where} does not open {folder!r} at present: {for_people(refused)}",
                remedy="it will be tried again",
            )
        found = self._connection.listed(folder)
        attributes = {attribute.lower() for each in found for attribute in each.attributes}
        if code == "NONEXISTENT" or not found or "\\nonexistent" in attributes:
            spelled = self.spelling(folder)
            meant = f"write {spelled}, if it is that one" if spelled != folder else "correct folders"
            raise FolderMissing(f"there is no folder {folder!r} at {self.where}", remedy=f"create it, or {meant}")
        if "\\noselect" in attributes:
            raise FolderMissing(f"{folder!r} at {self.where} only holds other folders", remedy="correct folders")
        if code == "NOPERM":
            raise FolderMissing(
                f"{folder!r} at {self.where} may not be opened: {for_people(words)}",
                remedy="give this account the right to read it",
            )

    @contextlib.contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """What goes wrong in here as ``SourceUnavailable``; ``doing`` says what was tried."""
        asked = None
        try:
            yield
        except Broken as error:
            asked = pause(str(error))
            reason = f"the connection broke: {for_people(str(error))}"
        except Unparsable as error:
            reason = for_people(str(error))
        except Renumbered:
            reason = "the folder was renumbered at this moment"
        except Refused as error:
            asked = pause(str(error))
            reason = f"the server refuses: {for_people(str(error))}"
        else:
            return
        message = f"{doing} at {self.where}: {reason}"
        raise SourceUnavailable(message, remedy="it will be tried again", retry_after=asked)
