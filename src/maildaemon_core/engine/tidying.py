"""Tidying the server: only mails that the ledger has committed as stored, or that nobody wants, and only as mildly as
allowed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from maildaemon_core.engine.book import Book
from maildaemon_core.errors import Trouble
from maildaemon_core.message import FolderRef, MessageRef
from maildaemon_core.options import Action, Aftercare, MailboxOptions
from maildaemon_core.plan import care_now, no_match_care_now
from maildaemon_core.ports import Known, Settled
from maildaemon_core.progress import Entry, Spared, Stage, Tidied
from maildaemon_core.schedule import after_failure

Settle = Callable[[Sequence[Known], Aftercare], Mapping[MessageRef, Settled | Trouble]]


class Tidying:
    """``settle`` asks the source; it may raise what a source raises, and what was not answered then stays due."""

    def __init__(self, book: Book, options: MailboxOptions, settle: Settle) -> None:
        self._book = book
        self._options = options
        self._settle = settle

    def leftovers(self, batch: int) -> None:
        """Tidies what earlier sweeps, or the admission of unwanted mail, have left to be done."""
        waiting: list[Entry] = []
        for entry in self._book.due((Stage.STORED, Stage.SKIPPED)):
            waiting.append(entry)
            if len(waiting) >= batch:
                self.tidy(waiting)
                waiting = []
        self.tidy(waiting)

    def tidy(self, entries: Iterable[Entry]) -> None:
        """One question to the source for each folder and care, one commit for all of the answers to it."""
        groups: dict[tuple[FolderRef, Aftercare], list[Entry]] = defaultdict(list)
        for entry in entries:
            groups[entry.ref.folder, self._care(entry)].append(entry)
        for (_, care), group in groups.items():
            if care.action is Action.KEEP:
                self._book.record([self._book.after(entry, Spared()) for entry in group])
                continue
            answers = self._settle([Known(ref=entry.ref, identity=entry.identity) for entry in group], care)
            self._book.record([self._after(entry, answers.get(entry.ref)) for entry in group])

    def _care(self, entry: Entry) -> Aftercare:
        if entry.stage is Stage.SKIPPED:
            return no_match_care_now(entry, self._options)
        if not (entry.confirmed and (entry.complete or entry.whole)):
            return attrs.evolve(self._options.aftercare, action=Action.KEEP, folder=None)  # laws 1 and 6, once more
        return care_now(entry, self._options)

    def _after(self, entry: Entry, answer: Settled | Trouble | None) -> Entry:
        if isinstance(answer, Settled):
            self._book.tidied += not answer.gone
            return self._book.after(entry, Tidied(answer.moved_to))
        trouble = answer or Trouble(error="BrokenPlugin", message="the source gave no answer about tidying this mail")
        return self._book.after(entry, after_failure(entry, trouble, now=self._book.now()))
