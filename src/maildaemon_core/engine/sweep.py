"""One pass over one mailbox, its arrows in their order: take up what was left, discover, work off, tidy.

The source is used by one thread, which fetches the next batch while this one is being stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from datetime import datetime

import attrs

from maildaemon_core.engine.book import Book
from maildaemon_core.engine.delivery import Delivery, Job
from maildaemon_core.engine.discovery import LOST, Discovery
from maildaemon_core.engine.holding import Holding
from maildaemon_core.engine.targets import Paused, Targets, internal_trouble
from maildaemon_core.engine.tidying import Tidying
from maildaemon_core.errors import (
    FolderMissing,
    FolderRefused,
    LeaseLost,
    MaildaemonError,
    SpoolFull,
    StoreUnavailable,
    Trouble,
)
from maildaemon_core.message import Content, Cursor, FolderRef, MessageRef
from maildaemon_core.mime import read_message
from maildaemon_core.monitoring import Event, SweepEnded, SweepReport, SweepStarted, SweepState
from maildaemon_core.options import Aftercare, MailboxOptions
from maildaemon_core.plan import Nothing, Store, plan_message, too_large
from maildaemon_core.ports import Fetched, Known, MailSource, Page, Settled, Unfetched, Vanished
from maildaemon_core.progress import Dismissed, Entry, GaveUp, Gone, LeftInHand, LetGo, Stage, Taken, Withheld
from maildaemon_core.reading import PLAIN, Reading
from maildaemon_core.schedule import MAX_ATTEMPTS, after_failure
from maildaemon_core.store_port import Lease

logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Bounds:
    """How much travels at once: ``mails`` and ``bytes`` of a batch, whichever is reached first."""

    mails: int = 100
    bytes: int = 16 << 20


BOUNDS = Bounds()


@attrs.frozen(kw_only=True)
class Catch:
    """What became of fetching a batch: answers, and what broke it off, if anything did."""

    answers: Sequence[Fetched | Vanished | Unfetched]
    error: Exception | None = None


@attrs.frozen(kw_only=True)
class Batch:
    """Mails of one folder in hand.  ``alone``: a suspect, so that whatever breaks now was broken by it (law 8)."""

    entries: Sequence[Entry]
    alone: bool = False


class _Ahead:
    """Lists a folder page by page, the next one while the last one is being remembered."""

    def __init__(self, lane: Executor, source: MailSource) -> None:
        self._lane = lane
        self._source = source
        self._next: tuple[tuple[FolderRef, Cursor | None, int], Future[Page]] | None = None

    def list_since(self, folder: FolderRef, cursor: Cursor | None, limit: int) -> Page:
        """As the source's own; asked for anything else than what comes next, it asks anew."""
        asked = (folder, cursor, limit)
        if self._next is not None and self._next[0] == asked:
            page = self._next[1].result()
        else:
            page = self._ask(*asked).result()
        following = (folder, page.cursor, limit)
        self._next = (following, self._ask(*following)) if page.more else None
        return page

    def _ask(self, folder: FolderRef, cursor: Cursor | None, limit: int) -> Future[Page]:
        return self._lane.submit(self._source.list_since, folder, cursor, limit=limit)


class Sweep:
    """A sweep of the mailbox whose lease this is.

    ``open_source`` gives an open session, and may raise what a source raises; ``close_source`` gets it afterwards.
    ``lane`` runs one call of the source at a time.
    ``reading`` brings what opens containers and where that is held; the options say what is opened.  When ``stopping``
    says so, the batch that is being stored is finished, and no other one begun, nor another page listed,
    nor anything more done on the server.
    """

    def __init__(
        self,
        lease: Lease,
        options: MailboxOptions,
        targets: Targets,
        open_source: Callable[[], MailSource],
        *,
        lane: Executor,
        clock: Callable[[], datetime],
        tell: Callable[[Event], None],
        nonce: str,
        close_source: Callable[[MailSource], None] = lambda source: source.__exit__(None, None, None),
        bounds: Bounds = BOUNDS,
        reading: Reading = PLAIN,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._lease = lease
        self._options = options
        self._targets = targets
        self._open_source = open_source
        self._close_source = close_source
        self._lane = lane
        self._bounds = bounds
        self._holding = Holding(reading.keep)
        self._reading = attrs.evolve(
            reading,
            attached_mails=options.attached_mails,
            inline_pictures=options.inline_pictures,
            keep=self._holding.keep,
        )
        self._book = Book(lease, clock, tell)
        self._delivery = Delivery(self._book, targets, nonce)
        self._server = ""
        self._full: SpoolFull | None = None
        self._stopping = stopping
        self.first_folder: FolderRef | None = None

    def run(self) -> SweepReport:
        """Never raises but for what ends the process; the report says how it went."""
        started = self._book.now()
        self._book.tell(SweepStarted(mailbox=self._lease.mailbox))
        state, trouble = self._pass()
        report = SweepReport(
            mailbox=self._lease.mailbox,
            state=state,
            started=started,
            ended=self._book.now(),
            folders=self._book.folders(),
            tidied=self._book.tidied,
            server=self._server,
            trouble=trouble,
            remarks=tuple(self._book.remarks),
        )
        self._book.tell(SweepEnded(report=report))
        return report

    def _pass(self) -> tuple[SweepState, Trouble | None]:
        try:
            self._book.open_balance()
            self._suspect_what_was_in_hand()
            self._close_what_was_dismissed()
            self._delivery.resume()
            self._heed()
            source = self._lane.submit(self._open_source).result()
            try:
                self._work(source)
            finally:
                self._lane.submit(self._close_source, source).result()
        except Paused as error:
            return SweepState.PAUSED, error.trouble
        except LeaseLost as error:
            return SweepState.LOST, error.trouble()
        except StoreUnavailable as error:
            self._let_go()
            return SweepState.PAUSED, error.trouble()
        except SpoolFull as error:
            return SweepState.PAUSED, error.trouble()
        except MaildaemonError as error:
            return SweepState.FAILED, error.trouble()
        except Exception as error:
            logger.exception("the sweep of mailbox %s failed", self._options.label)
            return SweepState.FAILED, internal_trouble("the sweep", error)
        if self._book.blocked is not None:
            return SweepState.PAUSED, self._book.blocked
        return SweepState.DONE, None

    def _heed(self) -> None:
        if self._stopping():
            raise Paused(STOPPED)

    def _work(self, source: MailSource) -> None:
        self._server = self._lane.submit(source.server).result()
        ahead = _Ahead(self._lane, source)

        def list_since(folder: FolderRef, cursor: Cursor | None, limit: int) -> Page:
            self._heed()
            return ahead.list_since(folder, cursor, limit)

        folders = Discovery(
            self._book, self._options, lambda: self._lane.submit(source.folders).result(), list_since
        ).run()
        self.first_folder = folders[0] if folders else None

        def settle(mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Settled | Trouble]:
            self._heed()  # perhaps it is stopped because mail is not to be deleted any more
            return self._lane.submit(source.settle, mails, care).result()

        tidying = Tidying(self._book, self._options, settle)
        self._work_off(source, tidying)
        tidying.leftovers(self._bounds.mails)

    def _suspect_what_was_in_hand(self) -> None:
        """Law 8: whoever had these in hand did not come back; perhaps one of them was why."""
        entries = [self._book.after(entry, LeftInHand()) for entry in self._lease.in_hand()]
        given_up = Trouble(
            error="BrokeTheSweep",
            message="sweeps broke off again and again while this mail was in hand",
            remedy="look at the log of those sweeps; then have the mail tried again",
            transient=False,
        )
        self._book.record([self._book.after(e, GaveUp(given_up)) if e.attempts >= MAX_ATTEMPTS else e for e in entries])

    def _close_what_was_dismissed(self) -> None:
        """Of what is staged something may have been published by a worker that died: that is asked first (law 2)."""
        dismissed = self._lease.dismissed()
        staged = [entry for entry in dismissed if entry.stage is Stage.PLANNED]
        self._book.record([self._book.after(e, Dismissed()) for e in dismissed if e.stage is not Stage.PLANNED])
        self._delivery.drop(staged)

    # ---------------------------------------------------------------------------------------------------- working off

    def _work_off(self, source: MailSource, tidying: Tidying) -> None:
        ahead: tuple[Batch, Future[Catch]] | None = None
        try:
            for batch in self._batches():
                self._heed()
                if batch.alone and ahead is not None:
                    self._store(tidying, *ahead)
                    ahead = None
                    self._heed()
                taken = attrs.evolve(batch, entries=[self._take(entry) for entry in batch.entries])
                self._book.record(taken.entries)
                before, ahead = ahead, (taken, self._lane.submit(_fetch, source, taken.entries))
                if before is not None:
                    self._store(tidying, *before)
                if batch.alone:
                    self._store(tidying, *ahead)
                    ahead = None
            if ahead is not None:
                self._heed()
                self._store(tidying, *ahead)
        except Exception:
            # What was fetched ahead is put back untouched, as long as the ledger still takes it.
            if ahead is not None:
                self._put_back(*ahead)
            raise

    def _take(self, entry: Entry) -> Entry:
        return self._book.after(entry, Taken(self._lease.token))

    def _put_back(self, batch: Batch, future: Future[Catch]) -> None:
        for answer in future.result().answers:
            if isinstance(answer, Fetched):
                answer.content.close()
        held = {entry.id for entry in self._lease.in_hand()}
        self._book.record([self._book.after(entry, LetGo()) for entry in batch.entries if entry.id in held])

    def _let_go(self) -> None:
        """Puts back what we have in hand, if the store is there again: that it went away was not the fault of a mail.

        What is planned already is in nobody's hand; of everything else nothing is visible anywhere yet.
        """
        with suppress(StoreUnavailable, LeaseLost):
            mine = [entry for entry in self._lease.in_hand() if entry.in_hand == self._lease.token]
            self._book.record([self._book.after(entry, LetGo()) for entry in mine])

    def _batches(self) -> Iterator[Batch]:
        """What is due, in batches of one folder that are bounded by count and bytes; suspects each alone.

        Those come last, the ones that failed least often and the small ones first: whatever breaks the sweep over and
        over, or fills the spool, does so after everything else got through (law 8).
        """
        alone: list[Entry] = []
        entries: list[Entry] = []
        size = 0
        for entry in self._book.due((Stage.FOUND, Stage.WAITING)):
            if trouble := too_large(entry.size, self._options):
                self._book.record([self._book.after(entry, GaveUp(trouble))])
                continue
            if entry.suspect or entry.attempts > 0:
                alone.append(entry)
                continue
            full = len(entries) >= self._bounds.mails or size + (entry.size or 0) > self._bounds.bytes
            if entries and (full or entries[0].ref.folder != entry.ref.folder):
                yield Batch(entries=entries)
                entries, size = [], 0
            entries.append(entry)
            size += entry.size or 0
        if entries:
            yield Batch(entries=entries)
        for entry in sorted(alone, key=lambda each: (each.attempts, each.size or 0)):
            yield Batch(entries=[entry], alone=True)

    def _store(self, tidying: Tidying, batch: Batch, future: Future[Catch]) -> None:
        """Stores what was fetched of a batch, and tidies it."""
        caught = future.result()
        contents = [answer.content for answer in caught.answers if isinstance(answer, Fetched)]
        try:
            jobs, also = self._judge(batch, caught)
            stored = self._delivery.deliver(jobs, also)
        finally:
            self._holding.close()
            for content in contents:
                content.close()
        full, self._full = self._full, None
        if full is not None and caught.error is None:
            raise full
        if isinstance(caught.error, FolderMissing | FolderRefused):
            self._book.blame_folder(batch.entries[0].ref.folder, caught.error.trouble())  # the others go on
        elif caught.error is not None:
            raise caught.error
        tidying.tidy(stored)

    def _judge(self, batch: Batch, caught: Catch) -> tuple[list[Job], list[Entry]]:
        answers = {answer.ref: answer for answer in caught.answers}
        jobs: list[Job] = []
        also: list[Entry] = []
        for entry in batch.entries:
            match answers.get(entry.ref):
                case Fetched(content=content):
                    handled = self._handle(entry, content)
                    if isinstance(handled, Job):
                        jobs.append(handled)
                    else:
                        also.append(handled)
                case Vanished():
                    also.append(self._book.after(entry, Gone()))
                case Unfetched(trouble=trouble):
                    also.append(self._unfetched(entry, trouble))
                case None:
                    also.append(self._unanswered(entry, caught.error, alone=batch.alone))
        return jobs, also

    def _handle(self, entry: Entry, content: Content) -> Job | Entry:
        """What to do with one fetched mail.  Whatever it does to our code, the others go on (law 8)."""
        if trouble := too_large(content.size, self._options):
            return self._book.after(entry, GaveUp(trouble))
        try:
            message = read_message(content, self._reading)
            plan = plan_message(entry, message, self._options, self._targets.places())
        except SpoolFull as error:
            self._full = error
            return self._let_go_of(entry, error)
        except Exception as error:
            logger.exception("mail %s of mailbox %s could not be worked off", entry.ref, self._options.label)
            return self._after_failure(entry, internal_trouble("reading the mail", error))
        match plan:
            case Store():
                return Job(entry=entry, plan=plan, complete=message.complete, defects=message.defects)
            case Nothing(reason=reason, care=care):
                return self._book.after(entry, Withheld(reason, care))

    def _unfetched(self, entry: Entry, trouble: Trouble) -> Entry:
        """A mail whose number is void: discovery between two refusals would have found it again."""
        if trouble.error == RENUMBERED and entry.trouble is not None and entry.trouble.error == RENUMBERED:
            return self._book.after(entry, Gone(LOST))
        return self._after_failure(entry, trouble)

    def _unanswered(self, entry: Entry, error: Exception | None, *, alone: bool) -> Entry:
        if isinstance(error, FolderMissing | FolderRefused):
            return self._book.after(entry, LetGo(trouble=error.trouble()))
        if isinstance(error, SpoolFull):
            return self._let_go_of(entry, error)
        if error is not None and not alone:
            return self._book.after(entry, LetGo(suspect=True))  # one of them may be why the session broke
        trouble = error.trouble() if isinstance(error, MaildaemonError) else None
        return self._after_failure(entry, trouble or _NO_ANSWER)

    def _let_go_of(self, entry: Entry, error: SpoolFull) -> Entry:
        """A mail that could not be held; perhaps there is never room for it: alone, it is not in others' way."""
        return self._book.after(entry, LetGo(suspect=True, trouble=error.trouble()))

    def _after_failure(self, entry: Entry, trouble: Trouble) -> Entry:
        return self._book.after(entry, after_failure(entry, trouble, now=self._book.now()))


STOPPED = Trouble(
    error="Stopped",
    message="the sweep was stopped before it was through",
    remedy="start it again: it goes on where it was",
)

RENUMBERED = "FolderRenumbered"
"""What a source calls it that a reference is void: its folder was renumbered."""

_NO_ANSWER = Trouble(
    error="NoAnswer",
    message="the server gave no answer about this mail",
    remedy="it will be tried again alone; look at the server's log if that does not help",
)


def _fetch(source: MailSource, entries: Sequence[Entry]) -> Catch:
    """Fetches a batch to its end, or as far as it goes: what has arrived until then is not fetched again."""
    answers: list[Fetched | Vanished | Unfetched] = []
    refs: Sequence[MessageRef] = [entry.ref for entry in entries]
    try:
        for answer in source.fetch(refs):
            answers.append(answer)  # noqa: PERF402  (extend would drop what came before an error)
    except Exception as error:  # noqa: BLE001  (it is raised again when the answers are dealt with)
        return Catch(answers=answers, error=error)
    return Catch(answers=answers)
