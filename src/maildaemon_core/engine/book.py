"""The books of one sweep: what it writes into the ledger, and what it has seen so far, so that counts always add up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from maildaemon_core.errors import Trouble
from maildaemon_core.message import FolderRef
from maildaemon_core.monitoring import Counts, EntriesRecorded, Event, FolderReport, Remarked
from maildaemon_core.progress import Entry, EntryId, Happening, LetGo, Outcome, Stage, advance
from maildaemon_core.schedule import LONGEST_WAIT
from maildaemon_core.store_port import FolderState, Lease

ALL_STAGES = frozenset(Stage)
THE_END = datetime(9999, 1, 1, tzinfo=UTC)
"""Every open entry is due by then."""
PAGE = 500


class Book:
    """Every write of a sweep goes through here; ``tell`` hears of it once it is committed."""

    def __init__(self, lease: Lease, clock: Callable[[], datetime], tell: Callable[[Event], None]) -> None:
        self.lease = lease
        self.now = clock
        self.tell = tell
        self.remarks: list[str] = []
        self.tidied = 0
        self.blocked: Trouble | None = None
        self._seen: dict[EntryId, tuple[FolderRef, Outcome]] = {}
        self._older: dict[FolderRef, int] = {}
        self._troubles: dict[FolderRef, Trouble] = {}

    def open_balance(self) -> None:
        """Notes what is open before anything is done; what a wrong clock would let wait is due."""
        now = self.now()
        late: list[Entry] = []
        for entry in self.due(ALL_STAGES, THE_END):
            self._note((entry,))
            if _is_of_another_clock(entry, now):
                late.append(entry)
                if len(late) == PAGE:
                    self._let_go(late)
                    late = []
        self._let_go(late)

    def due(self, stages: Iterable[Stage], until: datetime | None = None) -> Iterable[Entry]:
        """The entries that are due, each once, read a page at a time while the sweep goes on."""
        wanted, until, after = frozenset(stages), until or self.now(), None
        while page := self.lease.due(wanted, until, after=after, limit=PAGE):
            yield from page
            after = page[-1].id

    def record(self, entries: Sequence[Entry]) -> None:
        """One commit; raises what ``Lease.record`` does."""
        if entries:
            self.lease.record(entries)
            self._told(entries)

    def looks_into(self, folder: FolderRef, older: int) -> None:
        """The folder is part of this sweep, whether or not there is anything new in it."""
        self._older[folder] = older

    def admit(self, folder: FolderRef, entries: Sequence[Entry], state: FolderState) -> Sequence[Entry]:
        new = self.lease.admit(folder, entries, state)
        self._older[folder] = state.older
        # Entries that were closed long ago and only found again under another number are not of this sweep.
        again = [entry for entry in entries if entry.id is not None and (entry.open or entry.id in self._seen)]
        self._told([*again, *new])
        return new

    def after(self, entry: Entry, happening: Happening) -> Entry:
        return advance(entry, happening, self.now())

    def remark(self, text: str) -> None:
        self.remarks.append(text)
        self.tell(Remarked(mailbox=self.lease.mailbox, remark=text))

    def blame_folder(self, folder: FolderRef, trouble: Trouble) -> None:
        self._troubles[folder] = trouble

    def folders(self) -> tuple[FolderReport, ...]:
        """What was done in each folder."""
        outcomes: dict[FolderRef, list[Outcome]] = defaultdict(list)
        for folder, outcome in self._seen.values():
            outcomes[folder].append(outcome)
        return tuple(
            FolderReport(
                folder=folder,
                counts=Counts.of(outcomes.get(folder, ())),
                older=self._older.get(folder, 0),
                trouble=self._troubles.get(folder),
            )
            for folder in sorted({*outcomes, *self._older, *self._troubles})
        )

    def _let_go(self, entries: Sequence[Entry]) -> None:
        self.record([self.after(entry, LetGo()) for entry in entries])

    def _told(self, entries: Sequence[Entry]) -> None:
        self._note(entries)
        if decided := tuple(entry for entry in entries if not entry.in_hand):
            self.tell(EntriesRecorded(mailbox=self.lease.mailbox, entries=decided))

    def _note(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.id is not None:
                self._seen[entry.id] = (entry.ref.folder, entry.outcome)


def _is_of_another_clock(entry: Entry, now: datetime) -> bool:
    """Whether it is due later than anything could be that was written down under the clock as it is now.

    A machine that came up with a clock far ahead, which was set right since, has said when it is due.
    """
    if entry.in_hand or entry.due_at is None or entry.due_at <= now:
        return False
    return not entry.attempts or entry.due_at > now + 2 * LONGEST_WAIT
