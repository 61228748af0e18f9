"""Faults that were made on purpose, to see that the machine bites: each replaces one right thing by a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import attrs
import pytest

from maildaemon_core import progress, recognition
from maildaemon_core.engine.book import Book
from maildaemon_core.engine.delivery import Delivery, Job
from maildaemon_core.engine.sweep import Batch, Catch, Sweep
from maildaemon_core.engine.tidying import Tidying
from maildaemon_core.message import BatchId, FolderRef, Headers
from maildaemon_core.options import Aftercare
from maildaemon_core.ports import Fetched, Known
from maildaemon_core.progress import Dismissed, Entry, Happening, Rebound, Stage, Unstaged
from maildaemon_core.store_port import FolderState
from maildaemon_core.testing.memory_store import MemoryLease

Plant = Callable[[pytest.MonkeyPatch], None]


def cursor_saved_before_entries(patch: pytest.MonkeyPatch) -> None:
    right = MemoryLease.admit

    def wrong(lease: MemoryLease, folder: FolderRef, entries: Sequence[Entry], state: FolderState) -> Sequence[Entry]:
        lease._check()
        lease._store._folders[lease.mailbox, folder] = state
        return right(lease, folder, entries, state)

    patch.setattr(MemoryLease, "admit", wrong)


def tidied_before_stored(patch: pytest.MonkeyPatch) -> None:
    right = Sweep._store

    def wrong(sweep: Sweep, tidying: Tidying, batch: Batch, future: object) -> None:
        caught: Catch = future.result()  # type: ignore[attr-defined]
        fetched = {answer.ref for answer in caught.answers if isinstance(answer, Fetched)}
        known = [Known(ref=e.ref, identity=e.identity) for e in batch.entries if e.ref in fetched]
        care: Aftercare = sweep._options.aftercare
        if known and care.action:
            tidying._settle(known, care)
        right(sweep, tidying, batch, future)  # type: ignore[arg-type]

    patch.setattr(Sweep, "_store", wrong)


def retried_under_a_new_name(patch: pytest.MonkeyPatch) -> None:
    def wrong(delivery: Delivery, batch: BatchId | None, entries: Sequence[Entry]) -> None:
        delivery._book.record([delivery._book.after(entry, Unstaged(())) for entry in entries])

    patch.setattr(Delivery, "_resume", wrong)


def path_shared_by_two_mails(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryLease, "_reserve", lambda lease, entries: None)
    patch.setattr(Delivery, "_distinct", lambda delivery, entries: (list(entries), []))


def published_before_recorded(patch: pytest.MonkeyPatch) -> None:
    stage = Delivery._stage

    def wrong(delivery: Delivery, batch: BatchId, jobs: Sequence[Job], also: Sequence[Entry]) -> list[Entry]:
        def reserve(entries: Sequence[Entry], others: Sequence[Entry]) -> list[Entry]:
            from maildaemon_core.engine.delivery import _parts

            delivery._targets.ask(_parts(entries), lambda destination, its: destination.publish(batch, its))
            return Delivery._reserve(delivery, entries, others)

        delivery._reserve = reserve  # type: ignore[method-assign]
        try:
            return stage(delivery, batch, jobs, also)
        finally:
            del delivery._reserve

    patch.setattr(Delivery, "_stage", wrong)


def stale_lease_writes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryLease, "_check", lambda lease: lease._store._held[lease.mailbox])


def identity_by_message_id_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Headers, "fingerprint", property(lambda headers: headers.message_id))
    patch.setattr(recognition, "_times_were_rewritten", lambda listed, entries: True)  # nor by time


def tidied_though_not_every_destination_confirmed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(progress, "_confirmed", lambda artifacts: any(artifact.receipt for artifact in artifacts))


def written_again_when_nobody_can_tell(patch: pytest.MonkeyPatch) -> None:
    """After a crash between publishing and recording the mail is simply fetched and stored once more."""
    right = Delivery._resume

    def wrong(delivery: Delivery, batch: BatchId | None, entries: Sequence[Entry]) -> None:
        assert right is not None
        again = [e for e in entries if e.stage is Stage.PLANNED]
        delivery._book.record([delivery._book.after(entry, Unstaged(entry.artifacts)) for entry in again])

    patch.setattr(Delivery, "_resume", wrong)


def taken_up_where_the_batch_was_left(patch: pytest.MonkeyPatch) -> None:
    """The batch folder is removed before its mails are recorded as stored."""
    right = Delivery._publish

    def wrong(delivery: Delivery, entries: Sequence[Entry]) -> list[Entry]:
        record = delivery._book.record

        def forgetful(recorded: Sequence[Entry]) -> None:
            for batch in {entry.batch for entry in entries if entry.batch}:
                delivery._targets.forget(batch)
            record(recorded)

        delivery._book.record = forgetful  # type: ignore[method-assign,assignment]
        try:
            return right(delivery, entries)
        finally:
            del delivery._book.record

    patch.setattr(Delivery, "_publish", wrong)


def left_as_vanished_when_it_comes_back(patch: pytest.MonkeyPatch) -> None:
    right = Book.after

    def wrong(book: Book, entry: Entry, happening: Happening) -> Entry:
        if entry.stage is Stage.VANISHED and isinstance(happening, Rebound):
            return attrs.evolve(entry, ref=happening.ref)
        return right(book, entry, happening)

    patch.setattr(Book, "after", wrong)


def dismissed_without_a_look(patch: pytest.MonkeyPatch) -> None:
    """What a person has dismissed is given up at once, though a worker that died may have published it."""

    def wrong(delivery: Delivery, entries: Sequence[Entry]) -> None:
        delivery._book.record([delivery._book.after(entry, Dismissed()) for entry in entries])

    patch.setattr(Delivery, "drop", wrong)


def dismissed_and_tried_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sweep, "_close_what_was_dismissed", lambda sweep: None)


FAULTS: dict[str, Plant] = {
    "cursor saved before entries": cursor_saved_before_entries,
    "tidied before stored": tidied_before_stored,
    "retry under a new name": retried_under_a_new_name,
    "a path shared by two mails": path_shared_by_two_mails,
    "published before recorded": published_before_recorded,
    "stale lease writes": stale_lease_writes,
    "identity by Message-ID alone": identity_by_message_id_alone,
    "tidied though not every destination confirmed": tidied_though_not_every_destination_confirmed,
    "written again when nobody can tell": written_again_when_nobody_can_tell,
    "batch forgotten before it is recorded": taken_up_where_the_batch_was_left,
    "left as vanished when it comes back": left_as_vanished_when_it_comes_back,
    "dismissed without a look": dismissed_without_a_look,
    "dismissed and tried again": dismissed_and_tried_again,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[name](patch)
        yield
