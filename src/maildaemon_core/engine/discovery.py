"""Finding mail: reads what is behind each folder's cursor and remembers it, the entries and the cursor in one
commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from maildaemon_core.admission import admitted, is_older
from maildaemon_core.engine.book import PAGE, Book
from maildaemon_core.errors import FolderMissing, FolderRefused, Trouble
from maildaemon_core.folders import Choice, choose_folders, named_folders, needs_listing
from maildaemon_core.message import Cursor, Envelope, FolderRef
from maildaemon_core.monitoring import MailsFound
from maildaemon_core.options import MailboxOptions
from maildaemon_core.ports import FolderInfo, Page
from maildaemon_core.progress import Entry, Gone, Rebound, Spared, Stage
from maildaemon_core.recognition import recognise
from maildaemon_core.store_port import FolderState

LONGEST_FOLDER = 2000
"""So many bytes the name of a folder may have: an index of PostgreSQL takes 2,704 for it, the mailbox and the UID."""

Listing = Callable[[FolderRef, Cursor | None, int], Page]

LOST = "not found again after the folder was renumbered"


class Discovery:
    """``folders`` and ``list_since`` ask the source; they may raise what a source raises."""

    def __init__(
        self,
        book: Book,
        options: MailboxOptions,
        folders: Callable[[], Sequence[FolderInfo]],
        list_since: Listing,
    ) -> None:
        self._book = book
        self._options = options
        self._folders = folders
        self._list_since = list_since

    def run(self) -> Sequence[FolderRef]:
        """Looks into every watched folder, and answers which these are; one that is missing does not stop the
        others."""
        choice = self._choose()
        for pattern in choice.missing:
            self._book.blame_folder(FolderRef(pattern), _nothing_matches(pattern))
        for folder in choice.folders:
            try:
                self._look_into(folder)
            except (FolderMissing, FolderRefused) as error:
                self._book.blame_folder(folder, error.trouble())
        return choice.folders

    def _choose(self) -> Choice:
        if needs_listing(self._options):
            return choose_folders(self._options, self._folders())
        return named_folders(self._options)

    def _look_into(self, folder: FolderRef) -> None:
        if len(folder.encode("utf-8", "surrogatepass")) > LONGEST_FOLDER:
            raise FolderRefused(
                f"the folder {folder[:50]}… has a name of more than {LONGEST_FOLDER} bytes, too long to be remembered",
                remedy="rename it, or leave it out of `folders`",
            )
        state = self._book.lease.folder(folder)
        self._book.looks_into(folder, state.older if state else 0)
        cursor = state.cursor if state else None
        older = state.older if state else 0
        while True:
            page = self._list_since(folder, cursor, PAGE)
            if page.renumbered:
                self._renumbered(folder, page)
                return
            entries, passed = self._judge(page.envelopes)
            entries += self._back(page.envelopes)
            older += passed
            if entries or state is None or page.cursor != cursor:
                self._admit(folder, entries, FolderState(cursor=page.cursor, older=older))
            if not page.more:
                return
            cursor = page.cursor

    def _judge(self, envelopes: Sequence[Envelope]) -> tuple[list[Entry], int]:
        now = self._book.now()
        wanted = [envelope for envelope in envelopes if not is_older(envelope, self._options)]
        entries = [admitted(envelope, self._book.lease.mailbox, self._options, now) for envelope in wanted]
        return entries, len(envelopes) - len(wanted)

    def _back(self, envelopes: Sequence[Envelope]) -> list[Entry]:
        """The entries of mails that had vanished and lie there again under the very same reference.

        Only what has no numbering can: a file is taken out and put back, while numbers are never given twice.
        """
        named = {envelope.ref: envelope for envelope in envelopes if not envelope.ref.uidvalidity}
        return [
            self._book.after(entry, Rebound(entry.ref))
            for entry in (self._book.lease.at(list(named)) if named else ())
            if entry.stage is Stage.VANISHED and entry.identity == named[entry.ref].identity
        ]

    def _admit(self, folder: FolderRef, entries: Sequence[Entry], state: FolderState) -> None:
        new = self._book.admit(folder, entries, state)
        if new:
            self._book.tell(MailsFound(mailbox=self._book.lease.mailbox, folder=folder, number=len(new)))

    def _renumbered(self, folder: FolderRef, page: Page) -> None:
        """The whole folder is compared with what is remembered of it, and admitted in one commit."""
        envelopes = list(page.envelopes)
        while page.more:
            page = self._list_since(folder, page.cursor, PAGE)
            envelopes = [*(() if page.renumbered else envelopes), *page.envelopes]  # it may happen once more
        envelopes, vacated = self._without_known_numbers(envelopes)
        found = recognise(envelopes, self._remembered(folder, envelopes))
        new, older = self._judge([*found.new, *found.doubtful])
        # The time goes with the reference: the next renumbering is judged by what this kind of source says.
        received = {envelope.ref: envelope.received for envelope in envelopes}
        changed = [*vacated, *(self._book.after(entry, Rebound(ref, received[ref])) for entry, ref in found.same)]
        changed += [entry for lost in found.lost if (entry := self._given_up(lost)) is not None]
        self._admit(folder, [*changed, *new], FolderState(cursor=page.cursor, older=older))
        text = f"folder {folder} was renumbered: {len(found.same)} mails recognised, {len(found.new)} new"
        if found.doubtful:
            text += f", {len(found.doubtful)} cannot be told apart from others and are processed again"
        self._book.remark(text)

    def _without_known_numbers(self, envelopes: Sequence[Envelope]) -> tuple[list[Envelope], list[Entry]]:
        """When a folder goes back to a numbering it had before: the mails that are not known under just this number.

        A number that stands for another mail now is taken from the entry that had it, or the new mail would be lost.
        """
        listed = {envelope.ref: envelope for envelope in envelopes}
        refs = list(listed)
        vacated: list[Entry] = []
        for at in range(0, len(refs), PAGE):
            for entry in self._book.lease.at(refs[at : at + PAGE]):
                envelope = listed[entry.ref]
                if entry.identity == envelope.identity:  # the time may have been rewritten under another numbering
                    del listed[entry.ref]
                    if entry.stage is Stage.VANISHED:
                        vacated.append(self._book.after(entry, Rebound(entry.ref)))
                else:
                    void = attrs.evolve(entry.ref, uidvalidity=f"{entry.ref.uidvalidity}, before {entry.id}")
                    gone = self._given_up(entry) or entry
                    # What has vanished stays so: it was not found again, it only makes room.
                    lost = gone.stage is Stage.VANISHED
                    vacated.append(attrs.evolve(gone, ref=void) if lost else self._book.after(gone, Rebound(void)))
        return list(listed.values()), vacated

    def _remembered(self, folder: FolderRef, envelopes: Sequence[Envelope]) -> Sequence[Entry]:
        lease = self._book.lease
        remembered = {entry.id: entry for entry in lease.open_in(folder)}
        for at in range(0, len(envelopes), PAGE):
            for entry in lease.known([envelope.identity for envelope in envelopes[at : at + PAGE]]):
                if entry.ref.folder == folder:
                    remembered[entry.id] = entry
        present = {envelope.ref.uidvalidity for envelope in envelopes}
        return [entry for entry in remembered.values() if entry.ref.uidvalidity not in present]

    def _given_up(self, entry: Entry) -> Entry | None:
        """What becomes of an entry whose mail lies nowhere any more; None if it need not change."""
        match entry.stage:
            case Stage.FOUND | Stage.WAITING:
                return self._book.after(entry, Gone(LOST))
            case Stage.STORED | Stage.SKIPPED if entry.open:
                return self._book.after(entry, Spared())
            case _:
                return None  # what is staged is published all the same; what is closed stays closed


def _nothing_matches(pattern: str) -> Trouble:
    return Trouble(
        error="FolderMissing",
        message=f"no folder answers to {pattern!r}",
        remedy="correct `folders`; `maildaemon validate` lists the folders there are",
        transient=False,
    )
