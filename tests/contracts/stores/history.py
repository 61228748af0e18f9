"""What the kept stores have seen, step by step, and the questions that they must answer alike for ever.

The history of a released version is never changed: its store was made by the code of that release.  A newer version
goes through that of the one before, and then through what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from maildaemon_core.access import ApiKey, Scope
from maildaemon_core.errors import Trouble
from maildaemon_core.message import BatchId, Cursor, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import Counts, EntryQuery, FolderReport, SweepReport, SweepState
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.progress import Artifact, Entry, EntryId, Outcome, Receipt, Role, Stage
from maildaemon_core.store_port import Configuration, FolderState, Lease, Repeat, Store

SWEPT, BROKEN, HELD, GONE = (MailboxId(f"00000000-0000-0000-0000-0000000000{end}") for end in ("aa", "bb", "cc", "dd"))
"""One to be swept later, one that has seen everything, one in whose sweep the process ended, one that was forgotten."""

START = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
INBOX, SENT = FolderRef("INBOX"), FolderRef("Gesendet/Ältere")
TROUBLE = Trouble(error="DestinationRefused", message="größer als erlaubt", remedy="look at it", retry_after=1.5)


class Clock:
    """Goes on by what it is told."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def mail(mailbox: MailboxId, uid: int, *, folder: FolderRef = INBOX, **other: Any) -> Entry:
    """As it is admitted."""
    given: dict[str, Any] = {
        "ref": MessageRef(folder, "1", str(uid)),
        "identity": Identity(f"{uid:032x}", f"S{uid}" if uid % 2 else None),
        "key": f"{uid:012x}",
        "received": START - timedelta(days=uid),
        "first_seen": START,
        "due_at": START,
        "sender": f"Jörg{uid}@firm.example",
        "subject": f"Straße {uid}, 100 % '\"",
        "message_id": f"<{uid}@firm.example>",
        "size": None if uid == 2 else 1000 + uid,
    }
    return Entry(mailbox=mailbox, **{**given, **other})


def file(path: str, *, index: int = 0, place: str = "memory:one", **other: Any) -> Artifact:
    given: dict[str, Any] = {"destination": "one", "role": Role.ATTACHMENT if index else Role.MAIL, "size": 3}
    return Artifact(path=path, place=place, index=index, sha256="ab" * 32, **{**given, **other})


def _leased(store: Store, mailbox: MailboxId, owner: str = "worker") -> Lease:
    lease = store.lease(mailbox, 60, owner=owner)
    assert lease is not None
    return lease


# --------------------------------------------------------------------------------------------------------- histories


def _first(store: Store, clock: Clock) -> None:
    """As of 0001: mails in every stage, files with and without receipts, paths let go of, cursors, leases, reports."""
    document = {"mailbox": "in@our.example", "active": True, "password": "•••", "folders": ["INBOX"], "since": None}
    store.save(Configuration(id=SWEPT, name="swept", document={**document, "active": False}))
    clock.wait(10)
    store.save(Configuration(id=SWEPT, name="swept", document=document), expected=1)
    store.save(Configuration(id=BROKEN, name="brüchig", document={"username": "jörg", "active": False}))
    store.save(Configuration(id=HELD, name="held", document={}))
    _swept(store, clock)
    _broken(store, clock)
    clock.wait(10)
    lease = _leased(store, HELD, owner="a process that ended")
    lease.admit(INBOX, [mail(HELD, 1, in_hand=1, suspect=True)], FolderState(cursor=Cursor("1:1")))
    _forgotten(store)


def _swept(store: Store, clock: Clock) -> None:
    """One stored, one found, one failed and due again."""
    lease = _leased(store, SWEPT)
    found = lease.admit(INBOX, [mail(SWEPT, uid) for uid in (1, 2, 3)], FolderState(cursor=Cursor("1:3"), older=4))
    receipt = Receipt(size=3, at=clock.now)
    stored, _, failed = found
    lease.record(
        [
            attrs.evolve(
                stored,
                stage=Stage.SETTLED,
                due_at=None,
                complete=True,
                artifacts=(file("invoice.eml", receipt=receipt),),
            ),
            attrs.evolve(failed, stage=Stage.WAITING, attempts=2, trouble=TROUBLE, last_tried=clock.now),
        ]
    )
    clock.wait(5)
    counts = Counts(stored=1, failed=1, pending=1)
    report = SweepReport(
        mailbox=SWEPT,
        state=SweepState.DONE,
        started=START,
        ended=clock.now,
        folders=(FolderReport(folder=INBOX, counts=counts, older=4),),
        tidied=1,
        server="a server, IMAP4rev1",
        remarks=("slow",),
    )
    lease.give_back(clock.now + timedelta(minutes=5), report)


_LOOKS = [
    *(Stage.FOUND, Stage.WAITING, Stage.PLANNED, Stage.STORED, Stage.SETTLED, Stage.UNTIDIED),
    *(Stage.SKIPPED, Stage.VANISHED, Stage.SET_ASIDE, Stage.GIVEN_UP, Stage.UNCONFIRMED),
]
"""The stages of the mails 4, 5 and so on."""


def _broken(store: Store, clock: Clock) -> None:
    lease = _leased(store, BROKEN)
    batch = BatchId(BROKEN, 1, 7, "nonce")
    receipt = Receipt(size=2**40, at=clock.now)
    state = FolderState(cursor=Cursor("9:12"))
    looks: Mapping[Stage, Mapping[str, Any]] = {
        Stage.FOUND: {"in_hand": 1},
        Stage.WAITING: {"attempts": 3, "trouble": TROUBLE, "suspect": True},
        Stage.PLANNED: {"batch": batch, "artifacts": (file("p.eml", part="1-1"), file("p.pdf", index=1, name="ü.pdf"))},
        Stage.STORED: {"artifacts": (file("s.eml", receipt=receipt),), "care": Aftercare(Action.MOVE, "Erledigt")},
        Stage.SETTLED: {"artifacts": (file("t.eml", receipt=receipt),), "care": Aftercare(Action.DELETE)},
        Stage.UNTIDIED: {"artifacts": (file("u.eml", receipt=receipt),), "trouble": TROUBLE, "attempts": 9},
        Stage.SKIPPED: {"reason": "the sender is not wanted", "care": Aftercare(Action.MOVE, "Nein")},
        Stage.VANISHED: {"reason": "vanished from the server"},
        Stage.SET_ASIDE: {"reason": "no attachment that is allowed"},
        Stage.GIVEN_UP: {"attempts": 9, "trouble": TROUBLE, "defects": ("torn", "unknown charset 'x'")},
        Stage.UNCONFIRMED: {"artifacts": (file("c.eml", place="/srv/ß"),), "trouble": TROUBLE, "complete": True},
    }
    assert [*looks] == _LOOKS
    closed = {Stage.SETTLED, Stage.UNTIDIED, Stage.VANISHED, Stage.SET_ASIDE, Stage.GIVEN_UP, Stage.UNCONFIRMED}
    found = lease.admit(SENT, [mail(BROKEN, uid, folder=SENT) for uid in range(1, len(looks) + 1)], state)
    # Each has had another name first, which stays its own.
    lease.record([attrs.evolve(each, artifacts=(file(f"first {each.ref.uid}.eml"),)) for each in found])
    clock.wait(1)
    lease.record(
        [
            attrs.evolve(
                each,
                stage=stage,
                due_at=None if stage in closed else clock.now + timedelta(seconds=each.id or 0),
                last_tried=clock.now,
                **look,
            )
            for each, (stage, look) in zip(found, looks.items(), strict=True)
        ]
    )
    lease.give_back(
        None,
        SweepReport(mailbox=BROKEN, state=SweepState.FAILED, started=START, ended=clock.now, trouble=TROUBLE),
    )


def _forgotten(store: Store) -> None:
    """The highest number that was ever given is of a mail that nobody knows any more."""
    store.save(Configuration(id=GONE, name="gone", document={}))
    lease = _leased(store, GONE)
    state = FolderState(cursor=Cursor("1"))
    found = lease.admit(INBOX, [mail(GONE, uid) for uid in range(1, 6)], state)
    lease.record([attrs.evolve(each, artifacts=(file(f"gone {each.ref.uid}.eml"),)) for each in found])
    store.drop(GONE, forget=True)


def _second(store: Store, clock: Clock) -> None:
    """As of 0002: secrets, who changed what, keys, namesakes, what was dismissed, what was thinned out."""
    _first(store, clock)
    clock.wait(60)
    swept = store.configuration(SWEPT)
    assert swept is not None
    sealed = {"password": "sealed:1:AAAA", "destinations/one/password": "sealed:1:ÄÖ"}
    store.save(attrs.evolve(swept, secrets=sealed), expected=2, by="the key main")
    store.save(Configuration(id=GONE, name="swept", document={"mailbox": "in@our.example"}), by="jörg")
    for number, (name, scopes) in enumerate([("main", set(Scope)), ("büro", {Scope.SWEEPS_RUN}), ("old", set())]):
        key = ApiKey(
            prefix=f"{number:010x}", name=name, digest=f"{number:064x}", scopes=frozenset(scopes), created=clock.now
        )
        store.add_key(attrs.evolve(key, expires=clock.now + timedelta(days=90) if number else None))
    store.key_used(f"{1:010x}", clock.now)
    store.revoke_key(f"{2:010x}", clock.now)
    for stage in (Stage.WAITING, Stage.UNTIDIED, Stage.VANISHED):
        number = 4 + _LOOKS.index(stage)
        dismissed = store.dismiss(EntryId(number))
        assert dismissed is not None
        assert dismissed.stage is stage
    assert store.thin(Outcome.STORED, clock.now, limit=1) == 1
    assert store.thin(Outcome.SKIPPED, clock.now, limit=1) == 1


def _third(store: Store, clock: Clock) -> None:
    """As of 0003: mailboxes that were dropped, one that came back, requests with an answer and without."""
    _second(store, clock)
    clock.wait(60)
    store.drop(BROKEN)
    store.save(Configuration(id=GONE, name="gone", document={"port": 0}, secrets={"password": "sealed:1:B"}), by="two")
    clock.wait(10)
    store.drop(GONE, expected=2)
    store.drop(HELD, expected=1)
    clock.wait(10)
    store.save(Configuration(id=HELD, name="held again", document={"active": False}), expected=0, by="jörg")
    for repeat in _repeats(clock.now - timedelta(days=1)):
        assert store.begin(repeat) is None
        clock.wait(1)
    store.answer(f"{1:064x}", {"status": 201, "body": {"name": "größer", "tags": ["a", None], "size": 2**40}})


def _repeats(at: datetime) -> list[Repeat]:
    mailboxes = (SWEPT, GONE)
    return [
        Repeat(key=f"{number:064x}", request=f"{number + 7:064x}", mailbox=mailbox, at=at + timedelta(hours=number))
        for number, mailbox in enumerate(mailboxes)
    ]


def _fourth(store: Store, clock: Clock) -> None:
    """As of 0004: receipts with the ETag or version that a destination gave."""
    _third(store, clock)
    clock.wait(60)
    lease = _leased(store, HELD)
    receipt = Receipt(size=3, at=clock.now, etag='W/"größe-☃"')
    [held] = lease.in_hand()
    artifacts = (file("tagged.eml", receipt=receipt),)
    lease.record([attrs.evolve(held, stage=Stage.SETTLED, in_hand=0, due_at=None, artifacts=artifacts)])
    lease.give_back(clock.now + timedelta(minutes=5))


def _fifth(store: Store, clock: Clock) -> None:
    """As of 0005: where a mail was moved to."""
    _fourth(store, clock)
    clock.wait(60)
    lease = _leased(store, HELD)
    [moved] = store.entries(EntryQuery(outcome=Outcome.STORED, mailbox=HELD)).entries
    there = MessageRef(FolderRef("Erledigt/☃"), "7", "9")
    lease.record([attrs.evolve(moved, care=Aftercare(Action.MOVE, there.folder), moved_to=there)])
    lease.give_back(clock.now + timedelta(minutes=5))


LAST_NUMBER = 20
"""The highest number that was given in any of the histories."""

HISTORIES: Mapping[str, Callable[[Store, Clock], None]] = {
    "0001": _first,
    "0002": _second,
    "0003": _third,
    "0004": _fourth,
    "0005": _fifth,
}


# --------------------------------------------------------------------------------------------------------- questions


def answers(store: Store, clock: Clock) -> dict[str, Any]:
    """What a store says to every question there is; it takes each mailbox's lease for that."""
    said: dict[str, Any] = {
        "configurations": [*store.configurations()],
        "configuration": [store.configuration(mailbox) for mailbox in (SWEPT, BROKEN, HELD, GONE)],
        "former": [*store.former()],
        "infos": [*store.infos()],
        "keys": [*store.keys()],
        "entry": [store.entry(EntryId(number)) for number in range(LAST_NUMBER + 3)],
    }
    for outcome in Outcome:
        for mailbox in (None, SWEPT, BROKEN, HELD, GONE):
            for dismissed in (False, True):
                query = EntryQuery(outcome=outcome, mailbox=mailbox, dismissed=dismissed, limit=2)
                said[f"{outcome} {mailbox} {dismissed}"] = _pages(store, query)
    for query in (
        EntryQuery(outcome=Outcome.FAILED, subject="STRASSE 1"),
        EntryQuery(outcome=Outcome.STORED, sender="jÖRG"),
        EntryQuery(outcome=Outcome.FAILED, error=TROUBLE.error, folder=SENT),
        EntryQuery(outcome=Outcome.PENDING, received_from=START - timedelta(days=2)),
    ):
        said[str(query)] = _pages(store, query)
    for mailbox in (SWEPT, BROKEN, HELD, GONE):
        holder = store.holder(mailbox)
        said[f"holder of {mailbox}"] = holder and (holder.owner, holder.until)
        lease = store.lease(mailbox, 60, owner="asker", over=holder)
        assert lease is not None
        said[f"lease of {mailbox}"] = _of_the_lease(lease, clock)
        lease.give_back()
    said["repeats"] = [store.begin(repeat) for repeat in _repeats(clock.now)]
    return said


def _pages(store: Store, query: EntryQuery) -> list[Sequence[Entry]]:
    pages = [store.entries(query)]
    while pages[-1].next is not None:
        pages.append(store.entries(attrs.evolve(query, before=pages[-1].next)))
    return [page.entries for page in pages]


def _of_the_lease(lease: Lease, clock: Clock) -> dict[str, Any]:
    soon, later = clock.now + timedelta(seconds=5), clock.now + timedelta(days=1)
    uids = [str(uid) for uid in range(20)]
    return {
        "folders": [lease.folder(folder) for folder in (INBOX, SENT)],
        "known": _sorted(lease.known([Identity(f"{3:032x}", "S5"), Identity(f"{8:032x}"), Identity("none", "S1")])),
        "at": _sorted(lease.at([MessageRef(folder, "1", uid) for folder in (INBOX, SENT) for uid in uids])),
        "open": [_sorted(lease.open_in(folder)) for folder in (INBOX, SENT)],
        "in hand": _sorted(lease.in_hand()),
        "dismissed": _sorted(lease.dismissed()),
        "due": [[*lease.due(set(Stage), when, limit=limit)] for when in (soon, later) for limit in (2, 50)],
        "due later": [*lease.due({Stage.PLANNED, Stage.STORED}, later, after=EntryId(4), limit=50)],
    }


def _sorted(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.id or 0)
