"""A store and its memory twin are driven through the same random history; whatever can be asked, both answer alike.

Subclass ``StoreMachine``, say how a store is opened, and hand ``Yours.TestCase`` to pytest.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from maildaemon_core.errors import LeaseLost, PathsTaken, StaleVersion, Trouble
from maildaemon_core.message import Cursor, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import EntryQuery, SweepReport, SweepState
from maildaemon_core.progress import Entry, EntryId, Outcome, Stage
from maildaemon_core.store_port import Configuration, FolderState, Lease, Repeat, Store
from maildaemon_core.testing.lease_conformance import ManualClock, file, mail
from maildaemon_core.testing.memory_store import MemoryStore

FOLDERS = (FolderRef("INBOX"), FolderRef("Sent"))
PATHS = ("a.eml", "b.eml", "c.eml", "d.eml")

Leases = tuple[Lease, Lease]
"""The twin's and the store's."""

_folders = st.sampled_from(FOLDERS)
_some = st.integers(0, 1_000_000)
"""Picks one of those there are, whatever their number."""


@attrs.frozen
class _Refused:
    """What a call raised, as far as the port says."""

    error: str
    taken: frozenset[tuple[str, str]] = frozenset()


class StoreMachine(RuleBasedStateMachine):
    """Two mailboxes of a store in which nobody else has entries; every example has mailboxes and places of its own."""

    clock = ManualClock()

    def open_store(self) -> Store:
        """A store that reads ``self.clock``; the same one may serve all examples."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.twin = MemoryStore(self.clock)
        self.store = self.open_store()
        self.mailboxes = tuple(MailboxId(str(uuid.uuid4())) for _ in range(2))
        self.leases: list[Leases] = []
        self.numbers: dict[EntryId | None, EntryId | None] = {None: None}

    @initialize()
    def both_are_leased(self) -> None:
        for mailbox in self.mailboxes:
            self.take(mailbox=self.mailboxes.index(mailbox), over=False)

    def teardown(self) -> None:
        try:
            self.both_answer_alike()
        finally:
            for mailbox in self.mailboxes:
                self.store.drop(mailbox, forget=True)
            while self.store.forget_repeats(self.clock.now + timedelta(days=1), limit=100):
                pass

    # ---------------------------------------------------------------------------------------------------- the history

    @rule(seconds=st.sampled_from([1, 59, 60, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.clock.pass_time(seconds)

    @rule(mailbox=st.integers(0, 1), over=st.booleans())
    def take(self, mailbox: int, over: bool) -> None:
        name = self.mailboxes[mailbox]
        got = [
            store.lease(name, 60, owner="worker", over=store.holder(name) if over else None)
            for store in (self.twin, self.store)
        ]
        assert (got[0] is None) == (got[1] is None)
        if got[0] is not None and got[1] is not None:
            before = [lease.token for _, lease in self.leases if lease.mailbox == name]
            assert all(token < got[1].token for token in before)
            self.leases.append((got[0], got[1]))

    @rule(which=_some, seconds=st.sampled_from([0, 60, 7200]))
    def renew(self, which: int, seconds: int) -> None:
        self.alike(self.pick(which), lambda lease: lease.renew(seconds))

    @rule(which=_some, state=st.none() | st.sampled_from(SweepState))
    def give_back(self, which: int, state: SweepState | None) -> None:
        leases = self.pick(which)
        now = self.clock.now
        report = None
        if state is not None:
            report = SweepReport(mailbox=leases[0].mailbox, state=state, started=now, ended=now)
        self.alike(leases, lambda lease: lease.give_back(now, report))

    @rule(which=_some, folder=_folders, uids=st.lists(st.integers(0, 9), max_size=6), older=st.integers(0, 9))
    def admit(self, which: int, folder: FolderRef, uids: list[int], older: int) -> None:
        leases = self.pick(which)
        state = FolderState(cursor=Cursor(str(uids)), older=older)
        mailbox = leases[0].mailbox
        mails = [
            mail(
                mailbox,
                uid,
                first_seen=self.clock.now,
                subject=f"mail {uid}",
                reason="found",
                ref=MessageRef(folder, "7", str(uid)),
                identity=Identity(str(uid % 5), str(uid % 3) if uid % 3 else None),
            )
            for uid in uids
        ]
        ours, theirs = (_outcome(lease, lambda lease: lease.admit(folder, mails, state)) for lease in leases)
        if isinstance(ours, _Refused) or isinstance(theirs, _Refused):
            assert ours == theirs
            return
        for our, their in zip(ours, theirs, strict=True):
            self.numbers[our.id] = their.id
        assert self.translated(ours) == list(theirs)

    @rule(
        which=_some,
        those=st.lists(_some, min_size=1, max_size=4),
        stage=st.sampled_from(Stage),
        wait=st.sampled_from([None, 0, 100]),
        in_hand=st.integers(0, 1),
        error=st.sampled_from([None, "LoginRefused", "SpoolFull"]),
        paths=st.lists(st.sampled_from(PATHS), max_size=2),
        reverse=st.booleans(),
    )
    def record(
        self,
        *,
        which: int,
        those: list[int],
        stage: Stage,
        wait: int | None,
        in_hand: int,
        error: str | None,
        paths: list[str],
        reverse: bool,
    ) -> None:
        leases = self.pick(which)
        entries = [entry for entry in self.twin.all() if entry.mailbox == leases[0].mailbox]
        changed = {}
        for number, each in enumerate(those if entries else ()):
            entry = entries[each % len(entries)]
            new = tuple(
                file(path, index=len(entry.artifacts) + at, place=f"/srv/{self.mailboxes[0]}")
                for at, path in enumerate(paths if number == 0 else ())
            )
            changed[entry.id] = attrs.evolve(
                entry,
                stage=stage,
                due_at=None if wait is None else self.clock.now + timedelta(seconds=wait),
                in_hand=in_hand,
                trouble=None if error is None else Trouble(error=error, message="no"),
                artifacts=tuple(reversed((*entry.artifacts, *new))) if reverse else (*entry.artifacts, *new),
            )
        ours = _outcome(leases[0], lambda lease: lease.record(list(changed.values())))
        theirs = _outcome(leases[1], lambda lease: lease.record(self.translated(list(changed.values()))))
        assert ours == theirs

    @rule(number=_some)
    def dismiss(self, number: int) -> None:
        entries = self.twin.all()
        if entries:
            entry = entries[number % len(entries)].id
            assert entry is not None
            self.same(self.twin.dismiss(entry), self.store.dismiss(self.number_of(entry)))

    @rule(outcome=st.sampled_from(Outcome), age=st.integers(0, 7200), limit=st.integers(1, 3))
    def thin(self, outcome: Outcome, age: int, limit: int) -> None:
        before = self.clock.now - timedelta(seconds=age)
        assert self.twin.thin(outcome, before, limit=limit) == self.store.thin(outcome, before, limit=limit)

    @rule(
        mailbox=st.integers(0, 1),
        active=st.booleans(),
        secret=st.sampled_from(["a", "b"]),
        expected=st.sampled_from([None, 0, 1, 2]),
        by=st.sampled_from(["", "one", "two"]),
    )
    def save(self, *, mailbox: int, active: bool, secret: str, expected: int | None, by: str) -> None:
        name = self.mailboxes[mailbox]
        wanted = Configuration(id=name, name="one", document={"active": active}, secrets={"password": secret})
        saved = [
            _outcome(store, lambda store: store.save(wanted, expected=expected, by=by))
            for store in (self.twin, self.store)
        ]
        assert saved[0] == saved[1]

    @rule(mailbox=st.integers(0, 1), secret=st.sampled_from(["a", "b"]), expected=st.integers(0, 3))
    def reseal(self, mailbox: int, secret: str, expected: int) -> None:
        name, secrets = self.mailboxes[mailbox], {"password": secret}
        done = [
            _outcome(store, lambda store: store.reseal(name, secrets, expected=expected))
            for store in (self.twin, self.store)
        ]
        assert done[0] == done[1]

    @rule(mailbox=st.integers(0, 1), expected=st.sampled_from([None, None, 0, 1, 2, 3]), forget=st.booleans())
    def drop(self, mailbox: int, expected: int | None, forget: bool) -> None:
        name = self.mailboxes[mailbox]
        done = [
            _outcome(store, lambda store: store.drop(name, expected=expected, forget=forget))
            for store in (self.twin, self.store)
        ]
        assert done[0] == done[1]

    @rule(mailbox=st.integers(0, 1))
    def bring_back(self, mailbox: int) -> None:
        """One that was dropped, if it was, as it was at its end."""
        name = self.mailboxes[mailbox]
        for former in [each for each in self.twin.former() if each.id == name]:
            back = [store.save(former, expected=0, by="three") for store in (self.twin, self.store)]
            assert back[0] == back[1]

    @rule(key=st.integers(0, 2), mailbox=st.integers(0, 1))
    def begin(self, key: int, mailbox: int) -> None:
        repeat = Repeat(key=self.key(key), request="x", mailbox=self.mailboxes[mailbox], at=self.clock.now)
        assert self.twin.begin(repeat) == self.store.begin(repeat)

    @rule(key=st.integers(0, 2), status=st.integers(200, 202))
    def answer(self, key: int, status: int) -> None:
        for store in (self.twin, self.store):
            store.answer(self.key(key), {"status": status})

    @rule(age=st.integers(0, 7200), limit=st.integers(0, 3))
    def forget_repeats(self, age: int, limit: int) -> None:
        before = self.clock.now - timedelta(seconds=age)
        assert self.twin.forget_repeats(before, limit=limit) == self.store.forget_repeats(before, limit=limit)

    # -------------------------------------------------------------------------------------------------- the questions

    @rule()
    def both_answer_alike(self) -> None:
        """Not after every step, for that would be most of the time; always at the end."""
        for mailbox in self.mailboxes:
            leases = next((pair for pair in self.leases if pair[0].mailbox == mailbox), None)
            if leases is None:
                continue
            for ask in _QUESTIONS:
                ours, theirs = (ask(lease, self.clock) for lease in leases)
                assert self.translated(ours) == list(theirs)
            for folder in FOLDERS:
                ours, theirs = (list(lease.open_in(folder)) for lease in leases)
                assert self.translated(ours) == theirs
                assert leases[0].folder(folder) == leases[1].folder(folder)
            for outcome in Outcome:
                self.pages_are_alike(EntryQuery(outcome=outcome, mailbox=mailbox, limit=3))
                self.pages_are_alike(EntryQuery(outcome=outcome, mailbox=mailbox, dismissed=True))
            self.pages_are_alike(EntryQuery(outcome=Outcome.FAILED, mailbox=mailbox, error="SpoolFull"))
            assert self.twin.configuration(mailbox) == self.store.configuration(mailbox)
            holders = [store.holder(mailbox) for store in (self.twin, self.store)]
            assert [holder and (holder.owner, holder.until) for holder in holders[:1]] == [
                holder and (holder.owner, holder.until) for holder in holders[1:]
            ]
        gone = [[each for each in store.former() if each.id in self.mailboxes] for store in (self.twin, self.store)]
        assert gone[0] == gone[1]
        for entry in self.twin.all():
            assert entry.id is not None
            shown = self.twin.entry(entry.id)
            self.same(shown, self.store.entry(self.number_of(entry.id)))
        infos = [{info.mailbox: info for info in store.infos()} for store in (self.twin, self.store)]
        assert [infos[0].get(mailbox) for mailbox in self.mailboxes] == [
            infos[1].get(mailbox) for mailbox in self.mailboxes
        ]

    def pages_are_alike(self, query: EntryQuery) -> None:
        ours, theirs = self.twin.entries(query), self.store.entries(query)
        assert self.translated(ours.entries) == list(theirs.entries)
        assert self.numbers[ours.next] == theirs.next

    # ---------------------------------------------------------------------------------------------------------- pieces

    def pick(self, which: int) -> Leases:
        """Mostly one of the latest: the others have ended."""
        return self.leases[-1 - which % min(len(self.leases), 4)]

    def key(self, number: int) -> str:
        """Of a request that nobody makes in another example."""
        return f"{self.mailboxes[0]} {number}"

    def alike(self, leases: Leases, call: Callable[[Lease], object]) -> None:
        ours, theirs = (_outcome(lease, call) for lease in leases)
        assert ours == theirs

    def same(self, ours: Entry | None, theirs: Entry | None) -> None:
        assert (None if ours is None else self.translated([ours])[0]) == theirs

    def number_of(self, entry: EntryId) -> EntryId:
        """The store's number of an entry of the twin."""
        number = self.numbers[entry]
        assert number is not None
        return number

    def translated(self, entries: Sequence[Entry]) -> list[Entry]:
        """The twin's entries under the store's numbers."""
        return [attrs.evolve(entry, id=self.numbers[entry.id]) for entry in entries]


_QUESTIONS: tuple[Callable[[Lease, ManualClock], Sequence[Entry]], ...] = (
    lambda lease, clock: lease.due({Stage.FOUND, Stage.WAITING, Stage.STORED}, clock.now, limit=4),
    lambda lease, clock: lease.due(set(Stage), clock.now + timedelta(days=1), limit=100),
    lambda lease, clock: lease.in_hand(),
    lambda lease, clock: lease.dismissed(),
    lambda lease, clock: sorted(
        lease.at([MessageRef(folder, "7", str(uid)) for folder in FOLDERS for uid in range(10)]),
        key=lambda entry: entry.id or 0,
    ),
    lambda lease, clock: sorted(lease.known([Identity("1", "2"), Identity("4")]), key=lambda entry: entry.id or 0),
)


def _outcome(of: Any, call: Callable[[Any], Any]) -> Any:
    try:
        return call(of)
    except PathsTaken as error:
        return _Refused("PathsTaken", error.taken)
    except (LeaseLost, StaleVersion) as error:
        return _Refused(type(error).__name__)
