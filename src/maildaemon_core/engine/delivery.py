"""Storing mails: staged everywhere, recorded, published, recorded again; and the same taken up after a crash.

stage ─► record(planned) ─► publish ─► record(stored) ─► forget the batch
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import attrs

from maildaemon_core.engine import troubles
from maildaemon_core.engine.book import THE_END, Book
from maildaemon_core.engine.marking import part_name
from maildaemon_core.engine.targets import Answers, Paused, Targets
from maildaemon_core.errors import PathsTaken, Trouble
from maildaemon_core.message import BatchId
from maildaemon_core.options import Action
from maildaemon_core.plan import Store, choose_path
from maildaemon_core.ports import Occupied, Put, Staged, StillStaged, Unknown, WasPublished
from maildaemon_core.progress import (
    Artifact,
    Dismissed,
    Entry,
    EntryId,
    LetGo,
    Planned,
    Published,
    Receipt,
    Role,
    Spared,
    Stage,
    Unconfirmable,
    Unstaged,
)
from maildaemon_core.schedule import after_failure

NAMES_TRIED = 20
"""So many names are tried for a file before the mail fails."""

Path = tuple[str, str]
"""A place and a path there: what is reserved."""


@attrs.frozen(kw_only=True)
class Job:
    """A mail to be stored, in hand, and what is planned for it."""

    entry: Entry
    plan: Store
    complete: bool
    defects: tuple[str, ...] = ()


class Delivery:
    """Stores the mails of one sweep."""

    def __init__(self, book: Book, targets: Targets, nonce: str) -> None:
        self._book = book
        self._targets = targets
        self._nonce = nonce
        self._batches = 0
        self._taken: set[Path] = set()
        self._down: Trouble | None = None
        self._wished: dict[tuple[EntryId | None, tuple[str, Role, int]], str] = {}

    def deliver(self, jobs: Sequence[Job], also: Sequence[Entry] = ()) -> list[Entry]:
        """Stores these mails; answers with those that are stored and still to be tidied.

        ``also`` are entries to be recorded on the way.  Raises ``Paused``, after everything that can be told is
        recorded.
        """
        if not jobs:
            self._book.record(also)
            return []
        lease = self._book.lease
        self._batches += 1
        batch = BatchId(lease.mailbox, lease.token, self._batches, self._nonce)
        self._wished = {
            (job.entry.id, wish.artifact.slot): wish.artifact.path for job in jobs for wish in job.plan.wishes
        }
        try:
            stored = self._publish(self._stage(batch, jobs, also))
            self._pause_if_down()
        except Exception:
            self._forget_unless_needed(batch)
            raise
        self._forget_unless_needed(batch)
        return stored

    def resume(self) -> None:
        """Works off what earlier sweeps have staged and recorded; needs no mail server.  Raises ``Paused``."""
        batches: dict[BatchId | None, list[Entry]] = defaultdict(list)
        for entry in self._book.due((Stage.PLANNED,)):
            if not entry.dismissed:
                batches[entry.batch].append(entry)
        for batch, entries in batches.items():
            self._resume(batch, entries)
            self._pause_if_down()
        self._targets.clear(self._book.lease.mailbox, self._book.lease.token, self._nonce, self._needed())

    def drop(self, entries: Sequence[Entry]) -> None:
        """Stores no more of these planned mails, which a person has dismissed; their names stay reserved.

        What a worker that died has published of them counts as that.  A mail about which a destination says nothing at
        present stays as it is.
        """
        batches: dict[BatchId | None, list[Entry]] = defaultdict(list)
        for entry in entries:
            batches[entry.batch].append(entry)
        for batch, its in batches.items():
            reachable = self._traceable(batch, self._reachable(its))
            if batch is None or not reachable:
                continue
            answers = self._announced(batch, reachable, self._recovered(batch, reachable))
            self._book.record([over for entry in reachable if (over := self._dropped(entry, answers)) is not None])
            self._forget_unless_needed(batch)

    # -------------------------------------------------------------------------------------------------- staging

    def _stage(self, batch: BatchId, jobs: Sequence[Job], also: Sequence[Entry]) -> list[Entry]:
        """Stages and records; answers with what is recorded as staged."""
        too_long = {job.entry.id: fault for job in jobs if (fault := troubles.too_long(job.plan)) is not None}
        also = [*also, *(self._after_failure(j.entry, too_long[j.entry.id]) for j in jobs if j.entry.id in too_long)]
        jobs = [job for job in jobs if job.entry.id not in too_long]
        planned = [self._planned(batch, job) for job in jobs]
        puts: dict[str, list[Put]] = defaultdict(list)
        for job, entry in zip(jobs, planned, strict=True):
            for wish, artifact in zip(job.plan.wishes, _unpublished(entry), strict=True):
                puts[artifact.place].append(Put(part=artifact.part, path=artifact.path, content=wish.content))
        answers = self._targets.ask(puts, lambda destination, its: destination.stage(batch, its))
        if answers.down:
            trouble = next(iter(answers.down.values()))
            self._book.record([*also, *(self._book.after(job.entry, LetGo(trouble=trouble)) for job in jobs)])
            raise Paused(trouble)
        staged: list[Entry] = []
        others = list(also)
        for job, entry in zip(jobs, planned, strict=True):
            faults = [(a, fault) for a in _unpublished(entry) if (fault := _staging_fault(a, answers)) is not None]
            if not faults:
                staged.append(entry)
            else:
                others.append(self._failed(job.entry, faults))
        return self._reserve(staged, others)

    def _planned(self, batch: BatchId, job: Job) -> Entry:
        # What was recorded under a name keeps it, whatever else of the mail would like to have it now (law 5); and so
        # does what is not wished for any more: perhaps somebody has seen it there.
        taken: set[Path] = _paths(job.entry)
        artifacts = list(job.plan.done)
        for number, wish in enumerate(job.plan.wishes, start=1):
            marked = self._targets.options(wish.artifact.place).done_marker
            artifact = wish.artifact
            if not wish.settled:
                artifact = choose_path(artifact, job.entry.key, taken, marked=marked)
            taken.add((artifact.place, artifact.path))
            part = part_name(f"{job.entry.id}-{number}", marked=marked)
            artifacts.append(attrs.evolve(artifact, part=part))
        return self._book.after(
            job.entry,
            Planned(
                batch=batch,
                artifacts=tuple(artifacts),
                care=job.plan.care,
                complete=job.complete,
                defects=job.defects,
            ),
        )

    def _reserve(self, entries: Sequence[Entry], others: Sequence[Entry]) -> list[Entry]:
        """Records entries under names that nobody else has reserved (law 3), and ``others`` with them."""
        kept, recorded = list(entries), list(others)
        for _ in range(NAMES_TRIED):
            kept, failed = self._distinct(kept)
            recorded += failed
            try:
                self._book.record([*recorded, *kept])
            except PathsTaken as error:
                kept, failed = self._renamed(kept, error.taken)
                recorded += failed
            else:
                return kept
        self._book.record([*recorded, *(self._withdrawn(entry, troubles.no_name(NAMES_TRIED)) for entry in kept)])
        return []

    def _distinct(self, entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
        """Where two mails of the batch want one path, the first keeps it."""
        used: set[Path] = set()
        kept: list[Entry] = []
        failed: list[Entry] = []
        for entry in entries:
            names = _paths(entry)
            renamed, lost = self._renamed([entry], names & used) if names & used else ([entry], [])
            kept += renamed
            failed += lost
            used.update(*(_paths(each) for each in renamed))
        return kept, failed

    def _renamed(self, entries: Sequence[Entry], taken: Collection[Path]) -> tuple[list[Entry], list[Entry]]:
        """The entries under names that are not taken, and those that may not have another name."""
        self._taken.update(taken)
        renamed: list[Entry] = []
        failed: list[Entry] = []
        for entry in entries:
            artifacts: list[Artifact] = []
            for artifact in entry.artifacts:
                if artifact.receipt or (artifact.place, artifact.path) not in taken:
                    artifacts.append(artifact)
                elif self._targets.options(artifact.place).on_conflict == "fail":
                    failed.append(self._withdrawn(entry, troubles.occupied(artifact)))
                    break
                else:
                    first = self._wished.get((entry.id, artifact.slot), artifact.path)
                    wish = attrs.evolve(artifact, path=first)
                    own = _paths(entry) | {(other.place, other.path) for other in artifacts}
                    marked = self._targets.options(artifact.place).done_marker
                    artifacts.append(choose_path(wish, entry.key, self._taken | own, marked=marked))
            else:
                renamed.append(attrs.evolve(entry, artifacts=tuple(artifacts)))
        return renamed, failed

    # ------------------------------------------------------------------------------------------ becoming visible

    def _publish(self, entries: Sequence[Entry]) -> list[Entry]:
        """Publishes what is recorded as staged; answers with the mails that are stored and still to be tidied."""
        if not entries:
            return []
        batch = entries[0].batch
        assert batch is not None, "what is planned has a batch"
        open_entries = list(entries)
        done: list[Entry] = []
        over: list[Entry] = []
        crowded: list[Entry] = []
        answers = Answers(parts={}, down={})
        for _ in range(NAMES_TRIED):
            answers = self._targets.ask(_parts(open_entries), lambda destination, its: destination.publish(batch, its))
            crowded = []
            for entry, occupied in [self._judged(entry, answers) for entry in open_entries]:
                renamed, failed = self._renamed([entry], occupied) if occupied else ([], [entry])
                crowded += renamed
                over += [self._at_rest(each) for each in failed]
            if answers.down or not crowded:
                break
            # Other names are recorded before they become visible, as the first ones were (law 5).
            open_entries = self._reserve(crowded, over)
            done, over, crowded = done + over, [], open_entries
        if answers.down:
            over += [self._book.after(entry, LetGo()) for entry in crowded]
            self._record_renamed(over)
            raise Paused(next(iter(answers.down.values())))
        over += [self._withdrawn(entry, troubles.no_name(NAMES_TRIED)) for entry in crowded]
        self._book.record(over)
        return [entry for entry in done + over if entry.stage is Stage.STORED]

    def _record_renamed(self, entries: Sequence[Entry]) -> None:
        remaining = [entry for entry in entries if entry.stage is Stage.PLANNED]
        self._reserve(remaining, [entry for entry in entries if entry.stage is not Stage.PLANNED])

    def _judged(self, entry: Entry, answers: Answers) -> tuple[Entry, set[Path]]:
        """The entry with the receipts that came, and the paths that turned out to be occupied."""
        artifacts: list[Artifact] = []
        faults: list[tuple[Artifact, Trouble]] = []
        occupied: set[Path] = set()
        unknown: Artifact | None = None
        for artifact in entry.artifacts:
            receipt = artifact.receipt
            if receipt is None:
                match answers.about(artifact):
                    case Receipt() as receipt:
                        pass
                    case WasPublished(receipt):
                        pass
                    case Occupied():
                        occupied.add((artifact.place, artifact.path))
                    case Unknown():
                        unknown = artifact
                    case Trouble() as trouble:
                        faults.append((artifact, trouble))
                    case _:
                        faults.append((artifact, troubles.no_answer(artifact)))
            artifacts.append(attrs.evolve(artifact, receipt=receipt))
        entry = self._book.after(entry, Published(tuple(artifacts)))
        if unknown is not None:
            return self._book.after(entry, Unconfirmable(troubles.unconfirmed(unknown))), set()
        down = [answers.down[artifact.place] for artifact, _ in faults if artifact.place in answers.down]
        if down:
            return self._book.after(entry, LetGo(trouble=down[0])), set()
        if faults:
            return self._failed(entry, faults), set()
        return entry, occupied

    def _at_rest(self, entry: Entry) -> Entry:
        """A stored mail to which nothing is to be done on the server is settled in the same commit."""
        if entry.stage is Stage.STORED and entry.care.action is Action.KEEP:
            return self._book.after(entry, Spared())
        return entry

    # ---------------------------------------------------------------------------------------------- after a crash

    def _reachable(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries without the destinations that were taken out of the options: these are dropped from open plans.

        Records those of which nothing is left.
        """
        reachable: list[Entry] = []
        stranded: list[Entry] = []
        for entry in entries:
            kept = tuple(a for a in entry.artifacts if a.receipt or self._targets.has(a.place))
            if kept:
                reachable.append(attrs.evolve(entry, artifacts=kept))
            else:
                # It may have been delivered there: storing it elsewhere by ourselves could double it.
                stranded.append(self._book.after(entry, Unconfirmable(troubles.out_of_reach(entry.artifacts[0]))))
        self._book.record(stranded)
        return reachable

    def _traceable(self, batch: BatchId | None, entries: Sequence[Entry]) -> Sequence[Entry]:
        """The entries, if it is known where they are staged.

        Nothing of ours leaves one planned without that; then nobody can tell any more, and it must not wait for ever.
        """
        if batch is not None:
            return entries
        self._book.record(
            [self._book.after(each, Unconfirmable(troubles.unconfirmed(each.artifacts[0]))) for each in entries]
        )
        return ()

    def _recovered(self, batch: BatchId, entries: Sequence[Entry]) -> Answers:
        return self._targets.ask(_parts(entries), lambda destination, its: destination.recover(batch, its))

    def _resume(self, batch: BatchId | None, entries: Sequence[Entry]) -> None:
        reachable = self._traceable(batch, self._reachable(entries))
        if batch is None or not reachable:
            return
        answers = self._recovered(batch, reachable)
        if answers.down:
            raise Paused(next(iter(answers.down.values())))
        # Publishing also gives receipts for the parts that were published before.
        waiting = [e for e in reachable if any(isinstance(answers.about(a), StillStaged) for a in _unpublished(e))]
        over = [entry for entry in reachable if entry not in waiting]
        self._book.record([self._at_rest(self._judged(entry, answers)[0]) for entry in over])
        self._publish(waiting)
        self._forget_unless_needed(batch)

    def _announced(self, batch: BatchId, entries: Sequence[Entry], answers: Answers) -> Answers:
        """The answers once what is out is announced, too: somebody may have it, so it cannot be dropped."""
        halves = {
            place: [part for part in parts if answers.parts.get((place, part.part)) == StillStaged(out=True)]
            for place, parts in _parts(entries).items()
        }
        said = self._targets.ask(halves, lambda destination, its: destination.publish(batch, its))
        return Answers(parts={**answers.parts, **said.parts}, down={**answers.down, **said.down})

    def _dropped(self, entry: Entry, answers: Answers) -> Entry | None:
        """A dismissed mail after what its destinations say of it; None if they do not say."""
        said = {(a.place, a.path): answers.about(a) for a in _unpublished(entry)}
        if not all(isinstance(a, Receipt | WasPublished | Unknown) or a == StillStaged() for a in said.values()):
            return None
        receipts = {path: a if isinstance(a, Receipt) else getattr(a, "receipt", None) for path, a in said.items()}
        artifacts = [attrs.evolve(a, receipt=a.receipt or receipts[a.place, a.path]) for a in entry.artifacts]
        entry = self._book.after(entry, Published(tuple(artifacts)))
        if entry.stage is Stage.STORED:
            return self._at_rest(entry)
        unknown = next((a for a in artifacts if isinstance(said.get((a.place, a.path)), Unknown)), None)
        if unknown is not None:
            return self._book.after(entry, Unconfirmable(troubles.unconfirmed(unknown)))
        return self._book.after(entry, Dismissed())

    def _needed(self) -> set[BatchId | None]:
        return {entry.batch for entry in self._book.due((Stage.PLANNED,), THE_END)}

    def _forget_unless_needed(self, batch: BatchId) -> None:
        if batch not in self._needed():
            self._targets.forget(batch)

    # --------------------------------------------------------------------------------------------------- failures

    def _failed(self, entry: Entry, faults: Sequence[tuple[Artifact, Trouble]]) -> Entry:
        """A mail that failed: its own fault, or that of a destination that does not even take a small file (law 8)."""
        for artifact, trouble in faults:
            blocked = self._targets.probe(artifact.place)
            self._down = self._down or blocked
            if blocked is None and trouble.error == "DestinationFull":
                blocked = trouble  # a small file still fits: the mail waits for room, and that is not its fault
            if blocked is not None:
                self._book.blocked = blocked
                return self._book.after(entry, LetGo(trouble=blocked))
        return self._after_failure(entry, faults[0][1])

    def _after_failure(self, entry: Entry, trouble: Trouble) -> Entry:
        return self._book.after(entry, after_failure(entry, trouble, now=self._book.now()))

    def _pause_if_down(self) -> None:
        if self._down is not None:
            raise Paused(self._down)

    def _withdrawn(self, entry: Entry, trouble: Trouble) -> Entry:
        """A mail whose files can have no name: nothing of it stays reserved but what was published."""
        published = tuple(artifact for artifact in entry.artifacts if artifact.receipt)
        return self._after_failure(self._book.after(entry, Unstaged(published)), trouble)


def _unpublished(entry: Entry) -> list[Artifact]:
    return [artifact for artifact in entry.artifacts if not artifact.receipt]


def _paths(entry: Entry) -> set[Path]:
    return {(artifact.place, artifact.path) for artifact in entry.artifacts}


def _parts(entries: Sequence[Entry]) -> Mapping[str, Sequence[Staged]]:
    parts: dict[str, list[Staged]] = defaultdict(list)
    for entry in entries:
        for artifact in _unpublished(entry):
            parts[artifact.place].append(
                Staged(part=artifact.part, path=artifact.path, size=artifact.size, sha256=artifact.sha256)
            )
    return parts


def _staging_fault(artifact: Artifact, answers: Answers) -> Trouble | None:
    match answers.about(artifact):
        case Staged(size=size, sha256=sha256) if (size, sha256) == (artifact.size, artifact.sha256):
            return None
        case Staged(size=size):
            return Trouble(
                error="WrittenWrong",
                message=f"{artifact.path} has {artifact.size} bytes; {artifact.destination!r} wrote {size}, or others",
                remedy="look at the destination's disk and memory; it will be tried again",
            )
        case Trouble() as trouble:
            return trouble
        case _:
            return troubles.no_answer(artifact)
