"""What every store must show people, and forget of it: pages, dismissed entries, thinned history.

A part of ``StoreConformance``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from maildaemon_core.errors import PathsTaken, Trouble
from maildaemon_core.message import FolderRef, MailboxId, MessageRef
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.progress import Again, Entry, EntryId, Outcome, Rebound, Receipt, Stage, advance
from maildaemon_core.store_port import Configuration, Lease, Store
from maildaemon_core.testing.dropping_conformance import DroppingConformance
from maildaemon_core.testing.lease_conformance import (
    INBOX,
    NOW,
    STATE,
    everything,
    file,
    leased,
    mail,
    some_mailbox,
)

SENT = FolderRef("Gesendet/Ältere")
REFUSED = Trouble(error="LoginRefused", message="no")

QUERIES = (
    EntryQuery(outcome=Outcome.FAILED),
    EntryQuery(outcome=Outcome.SKIPPED),
    EntryQuery(outcome=Outcome.PENDING, folder=SENT),
    EntryQuery(outcome=Outcome.STORED, folder=INBOX),
    EntryQuery(outcome=Outcome.STORED, sender="BÜRO@"),
    EntryQuery(outcome=Outcome.STORED, subject="STRASSE 1"),
    EntryQuery(outcome=Outcome.STORED, subject="100%_"),
    EntryQuery(outcome=Outcome.STORED, subject="%"),
    EntryQuery(outcome=Outcome.STORED, subject=""),
    EntryQuery(outcome=Outcome.STORED, subject="nul\0and"),
    EntryQuery(outcome=Outcome.STORED, subject="nul\ufffdand"),
    EntryQuery(outcome=Outcome.STORED, subject="straße" * 20_000),
    EntryQuery(outcome=Outcome.FAILED, error="LoginRefused"),
    EntryQuery(outcome=Outcome.FAILED, error="loginrefused"),
    EntryQuery(outcome=Outcome.STORED, received_from=NOW + timedelta(minutes=8)),
    EntryQuery(outcome=Outcome.STORED, received_to=NOW + timedelta(minutes=8)),
    EntryQuery(outcome=Outcome.STORED, sender="büro", subject="nothing like it"),
)


class HistoryConformance(DroppingConformance):
    """Pages of entries, what people take out of their sight, and what is thinned out."""

    # ------------------------------------------------------------------------------------------------------------ pages

    def test_people_find_entries(self, store: Store, lease: Lease, mailbox: MailboxId) -> None:
        subjects = ["Große Straße 1", "große strasse 2", "100%_ sure", "100 % sure", "nul\0and more", "İstanbul"]
        senders = ["büro@firma.de", "BÜRO@firma.de", "a_b@firma.de"]
        stages = [Stage.SETTLED, Stage.STORED, Stage.SETTLED, Stage.GIVEN_UP, Stage.SKIPPED, Stage.FOUND]
        other = some_mailbox()
        for each in (lease, leased(store, other)):
            each.admit(
                INBOX,
                [
                    mail(
                        each.mailbox,
                        at,
                        ref=MessageRef(SENT if at % 5 == 0 else INBOX, "7", str(at)),
                        subject=subjects[at % 6],
                        sender=senders[at % 3],
                        stage=stages[at * 7 % 11 % 6],
                        trouble=REFUSED if at % 4 == 0 else None,
                    )
                    for at in range(36)
                ],
                STATE,
            )
        both = [*everything(lease), *everything(leased_again(store, other))]
        newest_first = sorted(both, key=lambda entry: -(entry.id or 0))
        for query in QUERIES:
            wanted = [entry for entry in newest_first if query.matches(entry)]
            assert list(store.entries(attrs.evolve(query, limit=1000)).entries) == wanted, query
            mine = [entry for entry in wanted if entry.mailbox == mailbox]
            assert list(store.entries(attrs.evolve(query, limit=1000, mailbox=mailbox)).entries) == mine, query

    def test_pages_go_from_the_newest_and_stay_as_they_are_under_writes(
        self, store: Store, lease: Lease, mailbox: MailboxId
    ) -> None:
        found = lease.admit(INBOX, [mail(mailbox, number) for number in range(9)], STATE)
        query = EntryQuery(outcome=Outcome.PENDING, limit=4)
        first = store.entries(query)
        lease.admit(INBOX, [mail(mailbox, 100)], STATE)
        lease.record([attrs.evolve(found[8], stage=Stage.SETTLED)])
        second = store.entries(attrs.evolve(query, before=first.next))
        third = store.entries(attrs.evolve(query, before=second.next))
        shown = [entry for page in (first, second, third) for entry in page.entries]
        assert shown == list(reversed(found))
        assert [len(page.entries) for page in (first, second, third)] == [4, 4, 1]
        assert third.next is None
        assert store.entries(attrs.evolve(query, limit=8, before=found[8].id)).next is None
        assert store.entries(attrs.evolve(query, before=found[0].id)).entries == ()
        assert store.entries(attrs.evolve(query, before=EntryId(-(2**70)))).entries == ()
        assert store.entries(attrs.evolve(query, before=EntryId(2**70))) == store.entries(query)

    def test_the_backlog_is_what_is_open_in_each_folder(self, store: Store, lease: Lease, mailbox: MailboxId) -> None:
        store.save(Configuration(id=mailbox, name="one", document={"mailbox": "a@example.com", "username": "b"}))
        idle = some_mailbox()
        store.save(Configuration(id=idle, name="two", document={"active": True}))
        lease.admit(
            INBOX,
            [
                *(mail(mailbox, number) for number in range(3)),
                mail(mailbox, 4, due_at=None, stage=Stage.SETTLED),
                mail(mailbox, 5, ref=MessageRef(SENT, "7", "5"), due_at=datetime(9000, 1, 1, tzinfo=UTC)),
            ],
            STATE,
        )
        one, two = store.infos()
        assert (one.mailbox, one.address, one.active, one.held_by) == (mailbox, "a@example.com", True, "worker")
        assert dict(one.backlog) == {INBOX: 3, SENT: 1}
        assert (two.mailbox, two.address, two.held_by, dict(two.backlog)) == (idle, "two", None, {})
        assert (two.report, two.last_success, two.failing_since, two.next_due) == (None, None, None, None)

    # -------------------------------------------------------------------------------------------------------- dismissed

    def test_what_is_dismissed_is_out_of_sight_until_its_outcome_changes(
        self, store: Store, lease: Lease, mailbox: MailboxId
    ) -> None:
        admitted = lease.admit(
            INBOX, [mail(mailbox, at, stage=Stage.WAITING, trouble=REFUSED) for at in range(3)], STATE
        )
        first, second, third = admitted
        assert store.dismiss(_id(second)) == attrs.evolve(second, dismissed=True)
        assert store.dismiss(_id(second)) == attrs.evolve(second, dismissed=True)
        assert shown(store, Outcome.FAILED) == [third, first]
        assert shown(store, Outcome.FAILED, dismissed=True) == [third, attrs.evolve(second, dismissed=True), first]
        assert shown(store, Outcome.FAILED, dismissed=True, limit=2)[1:] == [attrs.evolve(second, dismissed=True)]
        assert shown(store, Outcome.FAILED, dismissed=True, mailbox=mailbox, before=second.id) == [first]
        assert store.entry(_id(second)) == attrs.evolve(second, dismissed=True)
        assert everything(lease) == [first, attrs.evolve(second, dismissed=True), third]
        given_up = attrs.evolve(second, stage=Stage.GIVEN_UP, due_at=None)
        lease.record([given_up])
        assert store.entry(_id(second)) == attrs.evolve(given_up, dismissed=True)
        lease.record([advance(given_up, Again(), NOW)])
        assert shown(store, Outcome.PENDING) == [advance(given_up, Again(), NOW)]
        lease.record([given_up])
        assert store.entry(_id(second)) == given_up

    def test_a_dismissal_survives_a_lease_that_has_not_seen_it(
        self, store: Store, lease: Lease, mailbox: MailboxId
    ) -> None:
        admitted = lease.admit(
            INBOX, [mail(mailbox, at, stage=Stage.WAITING, trouble=REFUSED) for at in range(4)], STATE
        )
        for entry in admitted:
            store.dismiss(_id(entry))
        tried, moved, stored, found = admitted
        lease.record([attrs.evolve(tried, attempts=2), attrs.evolve(stored, stage=Stage.STORED, trouble=None)])
        moved = advance(moved, Rebound(MessageRef(INBOX, "8", "1")), NOW)
        lease.admit(INBOX, [moved, advance(found, Again(), NOW)], STATE)
        assert [entry.dismissed for entry in everything(lease)] == [True, True, False, False]
        assert [entry.id for entry in lease.dismissed()] == [tried.id, moved.id]

    def test_what_is_pending_or_unknown_is_not_dismissed(self, store: Store, lease: Lease, mailbox: MailboxId) -> None:
        (entry,) = lease.admit(INBOX, [mail(mailbox, 1)], STATE)
        assert store.dismiss(_id(entry)) == entry
        assert shown(store, Outcome.PENDING) == [entry]
        for number in (_id(entry) + 1, 0, -1, 2**31, 2**63, 2**70):
            assert store.entry(EntryId(number)) is None
            assert store.dismiss(EntryId(number)) is None

    def test_a_lease_never_dismisses(self, store: Store, lease: Lease, mailbox: MailboxId) -> None:
        (entry,) = lease.admit(INBOX, [mail(mailbox, 1, stage=Stage.GIVEN_UP, dismissed=True)], STATE)
        assert entry == mail(mailbox, 1, stage=Stage.GIVEN_UP, id=entry.id)
        lease.record([attrs.evolve(entry, dismissed=True, attempts=1)])
        assert everything(lease) == [attrs.evolve(entry, attempts=1)]

    def test_a_lease_finds_the_open_failures_that_were_dismissed(
        self, store: Store, lease: Lease, mailbox: MailboxId
    ) -> None:
        other = leased(store, some_mailbox())
        stages = [Stage.WAITING, Stage.GIVEN_UP, Stage.SETTLED, Stage.STORED, Stage.SKIPPED]
        for each in (lease, other):
            mails = [
                mail(each.mailbox, at, stage=stage, due_at=NOW if at % 2 == 0 else None)
                for at, stage in enumerate(stages)
            ]
            for entry in each.admit(INBOX, [*mails, mail(each.mailbox, 9, stage=Stage.WAITING)], STATE)[:-1]:
                store.dismiss(_id(entry))
        assert [entry.ref.uid for entry in lease.dismissed()] == ["0"]

    # ---------------------------------------------------------------------------------------------------------- thinned

    def test_history_is_thinned_in_small_batches_oldest_first(
        self, store: Store, lease: Lease, mailbox: MailboxId
    ) -> None:
        def seen(at: int, stage: Stage, *, closed: bool = True) -> Entry:
            first_seen = NOW + timedelta(minutes=at)
            return mail(mailbox, at, stage=stage, first_seen=first_seen, due_at=None if closed else NOW)

        stages = [Stage.SETTLED, Stage.GIVEN_UP, Stage.SETTLED, Stage.SKIPPED, Stage.SETTLED, Stage.SETTLED]
        still_open = 4
        found = lease.admit(
            INBOX, [seen(at, stage, closed=at != still_open) for at, stage in enumerate([*stages, *stages])], STATE
        )
        store.dismiss(_id(found[2]))
        assert store.thin(Outcome.STORED, NOW, limit=5) == 0
        assert store.thin(Outcome.STORED, found[10].first_seen, limit=0) == 0
        remaining = [0, 2, 5, 6, 8, 10, 11]  # stored and closed
        for limit, number in ((2, 2), (2, 2), (2, 1), (2, 0)):
            assert store.thin(Outcome.STORED, found[10].first_seen, limit=limit) == number
            del remaining[:number]
            left = [_id(entry) for entry in reversed(shown(store, Outcome.STORED, dismissed=True))]
            assert left == sorted([_id(found[at]) for at in remaining] + [_id(found[still_open])])
        failed, skipped = shown(store, Outcome.FAILED), shown(store, Outcome.SKIPPED)
        assert store.thin(Outcome.FAILED, NOW + timedelta(days=1), limit=1000) == len(failed) > 0
        assert (shown(store, Outcome.FAILED), shown(store, Outcome.SKIPPED)) == ([], skipped)

    def test_what_is_thinned_out_is_still_never_processed_twice(
        self, store: Store, lease: Lease, mailbox: MailboxId
    ) -> None:
        given = {"sender": "a@b", "subject": "secret", "message_id": "m", "reason": "r", "defects": ("torn",)}
        published = file("a.pdf", name="offer.pdf", index=1, receipt=Receipt(size=3, at=NOW))
        (entry, other) = lease.admit(INBOX, [mail(mailbox, 1, **given), mail(mailbox, 2)], STATE)
        entry = attrs.evolve(entry, stage=Stage.SETTLED, due_at=None, artifacts=(published,))
        lease.record([entry])
        store.dismiss(_id(entry))
        assert store.thin(Outcome.STORED, NOW + timedelta(seconds=1), limit=10) == 1
        assert store.entry(_id(entry)) is None
        assert store.dismiss(_id(entry)) is None
        assert shown(store, Outcome.STORED, dismissed=True) == []
        texts = attrs.evolve(entry, sender="", subject="", message_id="", reason="", defects=())
        bare = attrs.evolve(texts, artifacts=(attrs.evolve(published, name=None),))
        for each in (lease, leased_again(store, mailbox)):
            assert list(each.at([entry.ref])) == [bare]
            assert list(each.known([entry.identity])) == [bare]
        heir = leased_again(store, mailbox)
        assert heir.admit(INBOX, [mail(mailbox, 1)], STATE) == []
        with pytest.raises(PathsTaken):
            heir.record([attrs.evolve(other, artifacts=(file("a.pdf"),))])
        moved = advance(bare, Rebound(MessageRef(INBOX, "8", "1")), NOW)
        heir.record([moved])
        assert list(heir.at([moved.ref])) == [moved]
        assert store.entry(_id(entry)) is None

    @pytest.mark.parametrize("remembered", [True, False])
    def test_a_thinned_mail_that_comes_to_life_is_shown_again(
        self, store: Store, lease: Lease, mailbox: MailboxId, remembered: bool
    ) -> None:
        (entry,) = lease.admit(INBOX, [mail(mailbox, 1, stage=Stage.VANISHED, due_at=None, subject="back")], STATE)
        if not remembered:
            lease = leased_again(store, mailbox)
        assert store.thin(Outcome.SKIPPED, NOW + timedelta(days=1), limit=10) == 1
        if not remembered:
            (entry,) = lease.known([entry.identity])
            assert entry.subject == ""
        alive = advance(entry, Rebound(MessageRef(INBOX, "8", "1")), NOW)
        lease.admit(INBOX, [alive], STATE)
        assert alive.stage is Stage.FOUND
        assert shown(store, Outcome.PENDING) == [alive]
        assert store.entry(_id(entry)) == alive
        assert store.thin(Outcome.PENDING, NOW + timedelta(days=1), limit=10) == 0


def shown(store: Store, outcome: Outcome, **other: Any) -> list[Entry]:
    """What people see of an outcome, newest first."""
    return list(store.entries(EntryQuery(outcome=outcome, **other)).entries)


def _id(entry: Entry) -> EntryId:
    assert entry.id is not None
    return entry.id


def leased_again(store: Store, mailbox: MailboxId) -> Lease:
    """A lease taken over from whoever has it."""
    lease = store.lease(mailbox, 60, owner="heir", over=store.holder(mailbox))
    assert lease is not None
    return lease
