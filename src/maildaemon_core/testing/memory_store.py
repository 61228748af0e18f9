"""The memory twin of the store: every method one transaction over dictionaries, under one lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import attrs

from maildaemon_core.errors import LeaseLost, PathsTaken, StaleVersion
from maildaemon_core.message import FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import EntryPage, EntryQuery, MailboxInfo, SweepReport, SweepState
from maildaemon_core.progress import Entry, EntryId, Outcome, Stage
from maildaemon_core.store_port import Configuration, FolderState, Holder
from maildaemon_core.testing.faults import Fuse
from maildaemon_core.testing.memory_requests import MemoryRequests
from maildaemon_core.testing.storable import storable


@attrs.define
class _Held:
    token: int = 0
    owner: str = ""
    until: datetime | None = None
    next_due: datetime | None = None
    report: SweepReport | None = None
    last_success: datetime | None = None
    failing_since: datetime | None = None


class MemoryStore(MemoryRequests):
    """A store that outlives those that use it; ``clock`` decides when a lease is over."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC), fuse: Fuse | None = None) -> None:
        super().__init__()
        self._clock = clock
        self.fuse = fuse or Fuse()
        self._configurations: dict[MailboxId, Configuration] = {}
        self._held: dict[MailboxId, _Held] = {}
        self._folders: dict[tuple[MailboxId, FolderRef], FolderState] = {}
        self._entries: dict[EntryId, Entry] = {}
        self._refs: dict[tuple[MailboxId, MessageRef], EntryId] = {}
        self._paths: dict[tuple[str, str], EntryId] = {}
        self._last_id = 0
        self._thinned: set[EntryId] = set()

    def save(self, configuration: Configuration, *, expected: int | None = None, by: str = "") -> Configuration:
        configuration, by = storable(configuration), storable(by)
        with self._lock:
            before = self.configuration(configuration.id)
            _refuse_stale(configuration.name, before, expected)
            if before and _content(before) == _content(configuration):
                return before
            now = self._clock()
            former = self._configurations.get(configuration.id)
            saved = attrs.evolve(
                configuration,
                version=former.version + 1 if former else 1,
                created=before.created if before else now,
                changed=now,
                created_by=before.created_by if before else by,
                changed_by=by,
                dropped=None,
            )
            if former and not before:
                self._end_lease(configuration.id)  # of somebody who began after it was dropped
            self._configurations[configuration.id] = saved
            return saved

    def reseal(self, mailbox: MailboxId, secrets: Mapping[str, str], *, expected: int) -> None:
        with self._lock:
            before = self.configuration(mailbox)
            if before is None or before.version != expected:
                raise StaleVersion(f"{mailbox} is not at version {expected}", remedy="read it again")
            self._configurations[mailbox] = attrs.evolve(before, secrets=storable(dict(secrets)))

    def configuration(self, mailbox: MailboxId) -> Configuration | None:
        with self._lock:
            kept = self._configurations.get(mailbox)
            return None if kept is None or kept.dropped else kept

    def configurations(self) -> Sequence[Configuration]:
        with self._lock:
            there = [each for each in self._configurations.values() if not each.dropped]
        return sorted(there, key=lambda each: (each.name, each.id))

    def drop(self, mailbox: MailboxId, *, expected: int | None = None, forget: bool = False) -> None:
        with self._lock:
            before = self.configuration(mailbox)
            _refuse_stale(mailbox, before, expected)
            self._end_lease(mailbox)
            if forget:
                self._forget(mailbox)
            elif before:
                self._configurations[mailbox] = attrs.evolve(before, dropped=self._clock(), secrets={})

    def _end_lease(self, mailbox: MailboxId) -> None:
        """Whoever has it writes nothing more, and nothing is left of what its sweeps said."""
        if mailbox in self._held:
            self._held[mailbox] = _Held(token=self._held[mailbox].token + 1)

    def _forget(self, mailbox: MailboxId) -> None:
        self._configurations.pop(mailbox, None)
        gone = {id_ for id_, entry in self._entries.items() if entry.mailbox == mailbox}
        self._entries = {id_: entry for id_, entry in self._entries.items() if id_ not in gone}
        self._refs = {ref: id_ for ref, id_ in self._refs.items() if id_ not in gone}
        self._paths = {path: owner for path, owner in self._paths.items() if owner not in gone}
        self._folders = {key: state for key, state in self._folders.items() if key[0] != mailbox}

    def former(self) -> Sequence[Configuration]:
        with self._lock:
            gone = sorted(self._configurations.values(), key=lambda each: each.id)
        dated = [(each.dropped, each) for each in gone if each.dropped]
        return [each for _, each in sorted(dated, key=lambda pair: pair[0], reverse=True)]

    def lease(
        self, mailbox: MailboxId, seconds: float, *, owner: str, over: Holder | None = None
    ) -> MemoryLease | None:
        self.fuse.tick("store.lease")
        with self._lock:
            held = self._held.setdefault(mailbox, _Held())
            now = self._clock()
            present = self.holder(mailbox)
            if present is not None and (over is None or (over.owner, over.token) != (present.owner, present.token)):
                return None
            held.token += 1
            held.owner, held.until = storable(owner), now + timedelta(seconds=seconds)
            return MemoryLease(self, mailbox, held.token)

    def holder(self, mailbox: MailboxId) -> Holder | None:
        with self._lock:
            held = self._held.get(mailbox)
            if held is None or held.until is None or held.until <= self._clock():
                return None
            return Holder(owner=held.owner, token=held.token, until=held.until)

    def entries(self, query: EntryQuery) -> EntryPage:
        with self._lock:
            found = [
                entry
                for id_, entry in sorted(self._entries.items(), reverse=True)
                if (query.before is None or id_ < query.before) and id_ not in self._thinned and query.matches(entry)
            ]
        page = tuple(found[: max(query.limit, 1)])
        return EntryPage(entries=page, next=page[-1].id if len(found) > len(page) else None)

    def entry(self, number: EntryId) -> Entry | None:
        with self._lock:
            return None if number in self._thinned else self._entries.get(number)

    def dismiss(self, number: EntryId) -> Entry | None:
        with self._lock:
            entry = self.entry(number)
            if entry is not None and entry.outcome is not Outcome.PENDING:
                entry = self._entries[number] = attrs.evolve(entry, dismissed=True)
            return entry

    def thin(self, outcome: Outcome, before: datetime, *, limit: int) -> int:
        with self._lock:
            old = [
                id_
                for id_, entry in sorted(self._entries.items())
                if id_ not in self._thinned
                and not entry.open
                and entry.outcome is outcome
                and entry.first_seen < before
            ][:limit]
            for id_ in old:
                self._entries[id_] = _thinned(self._entries[id_])
            self._thinned.update(old)
            return len(old)

    def infos(self) -> Sequence[MailboxInfo]:
        with self._lock:
            return [self._info(configuration) for configuration in self.configurations()]

    def close(self) -> None:
        pass

    def all(self) -> Sequence[Entry]:
        """Every entry by id, for tests."""
        with self._lock:
            return [entry for _, entry in sorted(self._entries.items())]

    def _info(self, configuration: Configuration) -> MailboxInfo:
        held = self._held.get(configuration.id, _Held())
        holder = self.holder(configuration.id)
        backlog = Counter(
            entry.ref.folder for entry in self._entries.values() if entry.mailbox == configuration.id and entry.open
        )
        document = configuration.document
        return MailboxInfo(
            mailbox=configuration.id,
            name=configuration.name,
            address=document.get("mailbox") or document.get("username") or configuration.name,
            active=document.get("active") is not False,
            report=held.report,
            last_success=held.last_success,
            failing_since=held.failing_since,
            next_due=held.next_due,
            held_by=holder.owner if holder else None,
            backlog=dict(backlog),
        )


class MemoryLease:
    """A lease on one mailbox of a ``MemoryStore``."""

    def __init__(self, store: MemoryStore, mailbox: MailboxId, token: int) -> None:
        self._store = store
        self._mailbox = mailbox
        self._token = token

    @property
    def mailbox(self) -> MailboxId:
        return self._mailbox

    @property
    def token(self) -> int:
        return self._token

    def folder(self, folder: FolderRef) -> FolderState | None:
        with self._store._lock:
            return self._store._folders.get((self._mailbox, storable(folder)))

    def known(self, identities: Sequence[Identity]) -> Sequence[Entry]:
        prints = {identity.fingerprint for identity in identities}
        strong = {storable(identity.strong) for identity in identities if identity.strong}
        return [e for e in self._mine() if e.identity.fingerprint in prints or e.identity.strong in strong]

    def at(self, refs: Sequence[MessageRef]) -> Sequence[Entry]:
        wanted = set(storable(tuple(refs)))
        return [entry for entry in self._mine() if entry.ref in wanted]

    def open_in(self, folder: FolderRef) -> Sequence[Entry]:
        here = storable(folder)
        return [entry for entry in self._mine() if entry.open and entry.ref.folder == here]

    def admit(self, folder: FolderRef, entries: Sequence[Entry], state: FolderState) -> Sequence[Entry]:
        store = self._store
        folder, entries = storable(folder), storable(tuple(entries))
        store.fuse.tick("store.admit")
        new: list[Entry] = []
        with store._lock:
            self._check()
            changed = [entry for entry in entries if entry.id is not None]
            self._reserve(changed)
            self._write(changed)
            for entry in entries:
                if entry.id is None and (entry.mailbox, entry.ref) not in store._refs:
                    store._last_id += 1
                    new.append(attrs.evolve(entry, id=EntryId(store._last_id), dismissed=False))
                    self._write(new[-1:])
            self._reserve(new)
            store._folders[(self._mailbox, folder)] = storable(state)
        store.fuse.tick("store.admitted")
        return new

    def due(
        self, stages: Collection[Stage], now: datetime, *, after: EntryId | None = None, limit: int
    ) -> Sequence[Entry]:
        found = [
            entry
            for entry in self._mine()
            if entry.stage in stages
            and entry.due_at is not None
            and entry.due_at <= now
            and (after is None or (entry.id or 0) > after)
        ]
        return found[:limit]

    def in_hand(self) -> Sequence[Entry]:
        return [entry for entry in self._mine() if entry.in_hand]

    def dismissed(self) -> Sequence[Entry]:
        return [entry for entry in self._mine() if entry.dismissed and entry.open and entry.outcome is Outcome.FAILED]

    def record(self, entries: Sequence[Entry]) -> None:
        self._store.fuse.tick("store.record")
        entries = storable(tuple(entries))
        with self._store._lock:
            self._check()
            self._reserve(entries)
            self._write(entries)
        self._store.fuse.tick("store.recorded")

    def renew(self, seconds: float) -> None:
        with self._store._lock:
            self._check().until = self._store._clock() + timedelta(seconds=seconds)

    def give_back(self, next_due: datetime | None = None, report: SweepReport | None = None) -> None:
        self._store.fuse.tick("store.give_back")
        with self._store._lock:
            held = self._check()
            held.until, held.owner, held.next_due = None, "", next_due or held.next_due
            held.token += 1  # so that what this lease still wants to write is void
            if report is not None:
                held.report = storable(report)
                if report.state is SweepState.DONE:
                    held.last_success, held.failing_since = report.ended, None
                else:
                    held.failing_since = held.failing_since or report.started

    def _mine(self) -> list[Entry]:
        with self._store._lock:
            return [e for _, e in sorted(self._store._entries.items()) if e.mailbox == self._mailbox]

    def _check(self) -> _Held:
        held = self._store._held[self._mailbox]
        if held.token != self._token:
            raise LeaseLost(f"the lease of mailbox {self._mailbox} has passed to another worker")
        return held

    def _reserve(self, entries: Sequence[Entry]) -> None:
        """All paths of these entries, or ``PathsTaken``; what was reserved once stays so (law 3)."""
        wanted: dict[tuple[str, str], EntryId] = {}
        taken = set()
        for entry in entries:
            for artifact in entry.artifacts:
                path, owner = (artifact.place, artifact.path), _id(entry)
                if path in wanted or self._store._paths.get(path, owner) != owner:
                    taken.add(path)
                wanted[path] = owner
        if taken:
            raise PathsTaken(frozenset(taken))
        self._store._paths.update(wanted)

    def _write(self, entries: Sequence[Entry]) -> None:
        # All old references go before any new one comes: entries may take each other's.
        for entry in entries:
            before = self._store._entries.get(_id(entry))
            if before is not None:
                self._store._refs.pop((before.mailbox, before.ref), None)
        for entry in entries:
            there = self._store._entries.get(_id(entry))
            if there is None or there.outcome is not entry.outcome:
                self._store._thinned.discard(_id(entry))
                kept = attrs.evolve(entry, dismissed=False)
            else:
                kept = attrs.evolve(entry, dismissed=there.dismissed)
            self._store._entries[_id(entry)] = kept
            self._store._refs[(entry.mailbox, entry.ref)] = _id(entry)


def _refuse_stale(name: str, there: Configuration | None, expected: int | None) -> None:
    version = there.version if there else 0
    if expected is not None and expected != version:
        raise StaleVersion(f"{name} is at version {version}, not {expected}", remedy="read it again")


def _content(configuration: Configuration) -> tuple[object, ...]:
    return configuration.name, configuration.document, configuration.secrets


def _thinned(entry: Entry) -> Entry:
    bare = tuple(attrs.evolve(artifact, name=None) for artifact in entry.artifacts)
    return attrs.evolve(
        entry, sender="", subject="", message_id="", reason="", defects=(), dismissed=False, artifacts=bare
    )


def _id(entry: Entry) -> EntryId:
    assert entry.id is not None, "only entries that were admitted can be written"
    return entry.id
