"""What can go wrong, as classes that say whether trying again can help.

Every message names the thing it is about; ``remedy`` says what a person can do.  Neither ever holds a secret.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen(kw_only=True)
class Problem:
    """One fault of a document: where it is and what is wrong with it.

    ``path`` is written like ``$.destinations[0].url``; ``$`` alone is the document itself.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} @ {self.path}"


@attrs.frozen(kw_only=True)
class Trouble:
    """A failure as a value: what is recorded of a mail that could not be worked off.

    ``error`` is the class name that people filter by, ``transient`` whether trying again may help,
    ``retry_after`` the seconds that a server asked us to wait.
    """

    error: str
    message: str
    remedy: str = ""
    transient: bool = True
    retry_after: float | None = None

    def __str__(self) -> str:
        return f"{self.message} — {self.remedy}" if self.remedy else self.message


class MaildaemonError(Exception):
    """Whatever maildaemon raises on purpose."""

    transient = False

    def __init__(self, message: str, *, remedy: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.retry_after = retry_after

    def trouble(self) -> Trouble:
        return Trouble(
            error=type(self).__name__,
            message=self.message,
            remedy=self.remedy,
            transient=self.transient,
            retry_after=self.retry_after,
        )


class Transient(MaildaemonError):
    """Trying again later may help."""

    transient = True


class Permanent(MaildaemonError):
    """Trying again changes nothing; a person has to."""


class LoginRefused(Permanent):
    """The server does not accept these credentials."""


class SourceUnavailable(Transient):
    """The mail server cannot be reached, or went away in the middle."""


class FolderMissing(Permanent):
    """The mailbox has no folder of that name."""


class FolderRefused(Transient):
    """The folder is there, and the server does not open it at present; other folders may well work."""


class DestinationUnavailable(Transient):
    """The destination as a whole does not work at present: nothing can be stored there."""


class DestinationsAlike(Permanent):
    """Two destinations of one mailbox are the same place: nobody could tell their files apart."""


class SpoolFull(Transient):
    """There is no room left to hold a mail while it is worked off."""


class StoreUnavailable(Transient):
    """The database that remembers what was done cannot be used at present."""


class StoreMissing(Permanent):
    """There is no store where one is looked for."""


class StoreTooNew(Permanent):
    """The database was written by a newer release than this one."""


class StoreTooOld(Permanent):
    """The database was written by an older release, and is not upgraded by itself."""


class StoreNotEmpty(Permanent):
    """The store holds something already, so nothing can be brought into it."""


class BadExport(Permanent):
    """What is to be brought into a store is no export, is damaged or cut off, or is of another release."""


class StillPending(Permanent):
    """Nothing was decided about this mail yet, so there is nothing to dismiss."""


class NoMasterKey(Permanent):
    """A secret is to be kept or read, and there is no master key to do it with."""


class Sealed(Permanent):
    """A kept secret does not open: another master key, another place, or damaged."""


class KeyExists(Permanent):
    """There is an API key of that name already."""


class UnknownKind(Permanent):
    """No installed adapter has that name."""


class BrokenPlugin(Permanent):
    """An adapter is registered, but cannot be loaded."""


class LeaseLost(MaildaemonError):
    """Another worker has taken the mailbox over; whatever this one still wanted to write is void."""


class StaleVersion(Permanent):
    """The configuration was changed by somebody else in the meantime."""


class Rival(Permanent):
    """Another mailbox watches the same account and folders, and one of the two would take mail away from the other."""


class PathsTaken(MaildaemonError):
    """Paths that another mail has reserved already; nothing of the call was written.

    ``taken`` holds pairs of (place, path).
    """

    def __init__(self, taken: frozenset[tuple[str, str]]) -> None:
        super().__init__("paths reserved by other mails: " + ", ".join(sorted(path for _, path in taken)))
        self.taken = taken


class InvalidOptions(Permanent):
    """A document that cannot be used, with all of its faults at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)
