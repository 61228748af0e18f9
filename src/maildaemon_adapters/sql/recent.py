"""What a lease has read or written last of its mailbox, so that a write need not first ask what it changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from maildaemon_core.progress import Entry, EntryId

MOST = 2000
"""So many entries are remembered: those of a page that is read and of the batches that are in hand."""


class Recent:
    """Entries as the database has them.

    True for as long as the lease holds, since nobody else writes entries of its mailbox (law 7): whoever writes by this
    looks at the token first.
    """

    def __init__(self) -> None:
        self._entries: dict[EntryId, Entry] = {}

    def of(self, numbers: Iterable[EntryId]) -> dict[EntryId, Entry]:
        """Those of these that are known."""
        return {number: self._entries[number] for number in numbers if number in self._entries}

    def keep(self, entries: Iterable[Entry]) -> None:
        """These were read just now, or written and committed; the last one wins where two are of one number."""
        for each in entries:
            assert each.id is not None, "what is stored has a number"
            self._entries.pop(each.id, None)  # the end of a dictionary is where the latest are
            self._entries[each.id] = each
        for number in list(self._entries)[:-MOST]:
            del self._entries[number]

    @contextmanager
    def unless_it_fails(self) -> Iterator[None]:
        """Nothing is known any more after a transaction that raises: perhaps it was committed all the same."""
        try:
            yield
        except BaseException:
            self._entries.clear()
            raise
