"""What people see: counts that add up, reports of sweeps, entries and mailboxes, and the events that monitors are
told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum

import attrs

from maildaemon_core.errors import Trouble
from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.progress import Entry, EntryId, Outcome


@attrs.frozen(kw_only=True)
class Counts:
    """Mails by outcome.  ``seen`` = stored + skipped + failed + pending, by construction and always."""

    stored: int = 0
    skipped: int = 0
    failed: int = 0
    pending: int = 0

    @property
    def seen(self) -> int:
        return self.stored + self.skipped + self.failed + self.pending

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            stored=self.stored + other.stored,
            skipped=self.skipped + other.skipped,
            failed=self.failed + other.failed,
            pending=self.pending + other.pending,
        )

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Counts:
        numbers = dict.fromkeys(Outcome, 0)
        for outcome in outcomes:
            numbers[outcome] += 1
        return cls(**{outcome.value: number for outcome, number in numbers.items()})


class SweepState(StrEnum):
    DONE = "done"
    """The sweep went through; single mails may have failed."""
    PAUSED = "paused"
    """Something that concerns all mails was in the way: a destination, the spool, the store."""
    FAILED = "failed"
    """The source could not be read, or not to its end."""
    BUSY = "busy"
    """Another worker holds the mailbox; nothing was done."""
    LOST = "lost"
    """Another worker took the mailbox over in the middle."""


@attrs.frozen(kw_only=True)
class FolderReport:
    """What one sweep did in one folder.  ``older``: how many mails from before ``since`` lie there untouched."""

    folder: FolderRef
    counts: Counts = Counts()
    older: int = 0
    trouble: Trouble | None = None


@attrs.frozen(kw_only=True)
class SweepReport:
    """What one sweep did.

    ``tidied``: mails moved, flagged or deleted on the server in this sweep; ``server``: what it is and can do, in a
    line, "" if it was not reached.
    """

    mailbox: MailboxId
    state: SweepState
    started: datetime
    ended: datetime
    folders: tuple[FolderReport, ...] = ()
    tidied: int = 0
    server: str = ""
    trouble: Trouble | None = None
    remarks: tuple[str, ...] = ()

    @property
    def counts(self) -> Counts:
        return sum((folder.counts for folder in self.folders), Counts())

    @property
    def well(self) -> bool:
        """Nothing failed, nothing is paused, nobody else was in the way."""
        return self.state is SweepState.DONE and not self.trouble and not self.counts.failed and not self.unwell_folders

    @property
    def unwell_folders(self) -> tuple[FolderReport, ...]:
        return tuple(folder for folder in self.folders if folder.trouble)


@attrs.frozen(kw_only=True)
class MailboxInfo:
    """How one mailbox is.

    ``report`` is its last sweep's, None when there was none; ``last_success`` when a sweep last went through;
    ``failing_since`` the first of the failed sweeps in a row; ``backlog`` the open mails of each folder.
    """

    mailbox: MailboxId
    name: str
    address: str
    active: bool
    report: SweepReport | None = None
    last_success: datetime | None = None
    failing_since: datetime | None = None
    next_due: datetime | None = None
    held_by: str | None = None
    backlog: Mapping[FolderRef, int] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class EntryQuery:
    """Which entries people want to see, newest first.

    ``before`` is where the page before ended; ``dismissed``: with those that a person has taken out of sight.
    """

    outcome: Outcome
    mailbox: MailboxId | None = None
    folder: FolderRef | None = None
    sender: str | None = None
    subject: str | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None
    error: str | None = None
    dismissed: bool = False
    before: EntryId | None = None
    limit: int = 50

    def matches(self, entry: Entry) -> bool:
        """Whether an entry belongs to the answer (``before`` and ``limit`` aside).  Texts match in part, without
        case."""

        def within(part: str | None, text: str) -> bool:
            return part is None or part.casefold() in text.casefold()

        return (
            entry.outcome is self.outcome
            and (self.dismissed or not entry.dismissed)
            and (self.mailbox is None or entry.mailbox == self.mailbox)
            and (self.folder is None or entry.ref.folder == self.folder)
            and within(self.sender, entry.sender)
            and within(self.subject, entry.subject)
            and (self.received_from is None or entry.received >= self.received_from)
            and (self.received_to is None or entry.received < self.received_to)
            and (self.error is None or (entry.trouble is not None and entry.trouble.error == self.error))
        )


@attrs.frozen(kw_only=True)
class EntryPage:
    """Some entries, newest first; ``next`` is the ``before`` of the following page, None at the end.

    A page may hold fewer than were asked for, or none, and not be the last: who looks for little among much is given a
    page for so much looking.
    """

    entries: tuple[Entry, ...]
    next: EntryId | None = None


@attrs.frozen(kw_only=True)
class SweepStarted:
    mailbox: MailboxId


@attrs.frozen(kw_only=True)
class MailsFound:
    """So many mails of a folder were not known before."""

    mailbox: MailboxId
    folder: FolderRef
    number: int


@attrs.frozen(kw_only=True)
class EntriesRecorded:
    """Mails whose fate was decided and committed just now."""

    mailbox: MailboxId
    entries: tuple[Entry, ...]


@attrs.frozen(kw_only=True)
class Remarked:
    """Something that a person should read, but that stopped nothing."""

    mailbox: MailboxId
    remark: str


@attrs.frozen(kw_only=True)
class SweepEnded:
    report: SweepReport


Event = SweepStarted | MailsFound | EntriesRecorded | Remarked | SweepEnded
