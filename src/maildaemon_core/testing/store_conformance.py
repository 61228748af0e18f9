"""What every store must do, as checks that its author runs: subclass ``StoreConformance`` and give it a store.

Example::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self, clock): ...  # an empty one that reads this clock; the fixture closes it
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.errors import PathsTaken, Trouble
from maildaemon_core.message import Cursor, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.ports import Configuration, FolderState, Lease, Store
from maildaemon_core.progress import Entry, EntryId, Outcome, Rebound, Receipt, Stage, advance
from maildaemon_core.testing.entry_strategies import entries
from maildaemon_core.testing.lease_conformance import (
    INBOX,
    NOW,
    STATE,
    LeaseConformance,
    any_store,
    everything,
    file,
    leased,
    mail,
    some_mailbox,
)

SENT = FolderRef("Gesendet/Ältere")

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


class StoreConformance(LeaseConformance):
    """The ledger: entries, cursors, reserved paths, and what people see of them.  Leases are checked besides."""

    @pytest.fixture
    def lease(self, store: Store, mailbox: MailboxId) -> Lease:
        return leased(store, mailbox)

    # --------------------------------------------------------------------------------------------------- admission

    def test_admitted_mails_get_numbers_that_grow(self, lease: Lease, mailbox: MailboxId) -> None:
        mails = [mail(mailbox, number) for number in (3, 1, 2)]
        admitted = lease.admit(INBOX, mails, STATE)
        assert [attrs.evolve(entry, id=None) for entry in admitted] == mails
        numbers = [entry.id or 0 for entry in admitted]
        assert numbers == sorted(set(numbers))
        assert min(numbers) > 0
        assert everything(lease) == list(admitted)
        (later,) = lease.admit(INBOX, [mail(mailbox, 4)], STATE)
        assert (later.id or 0) > max(numbers)

    def test_a_mail_is_admitted_once_and_the_cursor_moves_all_the_same(self, lease: Lease, mailbox: MailboxId) -> None:
        assert lease.folder(INBOX) is None
        first = lease.admit(INBOX, [mail(mailbox, 1)], STATE)
        further = FolderState(cursor=Cursor("2"), older=4)
        second = lease.admit(INBOX, [mail(mailbox, 1, subject="x"), mail(mailbox, 2), mail(mailbox, 2)], further)
        assert [entry.ref.uid for entry in second] == ["2"]
        assert everything(lease) == [*first, *second]
        assert lease.folder(INBOX) == further
        assert lease.admit(INBOX, [], STATE) == []
        assert lease.folder(INBOX) == STATE
        assert lease.folder(SENT) is None

    def test_the_same_number_elsewhere_is_another_mail(self, store: Store, lease: Lease, mailbox: MailboxId) -> None:
        refs = [MessageRef(INBOX, "7", "1"), MessageRef(INBOX, "8", "1"), MessageRef(SENT, "7", "1")]
        found = lease.admit(INBOX, [mail(mailbox, 1, ref=ref) for ref in refs], STATE)
        assert [entry.ref for entry in found] == refs
        other = leased(store, some_mailbox())
        assert len(other.admit(INBOX, [mail(other.mailbox, 1)], STATE)) == 1
        assert everything(lease) == list(found)
        assert other.folder(SENT) is None

    def test_a_recognised_mail_gets_its_new_reference_with_the_cursor(self, lease: Lease, mailbox: MailboxId) -> None:
        (entry,) = lease.admit(INBOX, [mail(mailbox, 1)], STATE)
        moved = advance(entry, Rebound(MessageRef(INBOX, "8", "5")), NOW)
        arrivals = [moved, mail(mailbox, 5, ref=moved.ref), mail(mailbox, 1)]
        (new,) = lease.admit(INBOX, arrivals, FolderState(cursor=Cursor("8/5")))
        assert new.ref == entry.ref
        assert everything(lease) == [moved, new]

    def test_entries_can_take_each_others_references(self, lease: Lease, mailbox: MailboxId) -> None:
        found = lease.admit(INBOX, [mail(mailbox, number) for number in range(3)], STATE)
        turned = [attrs.evolve(entry, ref=found[at - 1].ref) for at, entry in enumerate(found)]
        lease.admit(INBOX, turned, STATE)
        assert everything(lease) == turned
        assert lease.admit(INBOX, [mail(mailbox, number) for number in range(3)], STATE) == []

    @any_store
    @given(data=st.data())
    def test_every_field_of_an_entry_comes_back(self, store: Store, data: st.DataObject) -> None:
        mailbox = some_mailbox()
        lease = leased(store, mailbox)
        first, second = data.draw(entries(mailbox)), data.draw(entries(mailbox))
        (admitted,) = lease.admit(first.ref.folder, [first], STATE)
        assert admitted == attrs.evolve(first, id=admitted.id)
        assert lease.known([first.identity]) == [admitted]
        # A record of anything else, but for who the mail is.
        after = attrs.evolve(second, id=admitted.id, identity=first.identity, artifacts=())
        lease.record([after])
        assert lease.known([first.identity]) == [after]
        store.drop(mailbox, forget=True)

    # ------------------------------------------------------------------------------------------------- record, paths

    def test_recording_again_changes_nothing(self, lease: Lease, mailbox: MailboxId) -> None:
        (entry,) = lease.admit(INBOX, [mail(mailbox, 1)], STATE)
        planned = attrs.evolve(entry, stage=Stage.PLANNED, artifacts=(file("a.eml"), file("b.pdf", index=1)))
        for _ in range(2):
            lease.record([planned])
            assert everything(lease) == [planned]
        parts = tuple(
            attrs.evolve(artifact, part="", receipt=Receipt(size=3, at=NOW)) for artifact in planned.artifacts
        )
        stored = attrs.evolve(planned, stage=Stage.STORED, artifacts=parts)
        lease.record([stored])
        assert everything(lease) == [stored]

    def test_a_path_belongs_to_one_mail_and_a_refusal_writes_nothing(
        self, store: Store, lease: Lease, mailbox: MailboxId
    ) -> None:
        first, second, third = lease.admit(INBOX, [mail(mailbox, number) for number in range(3)], STATE)
        owner = attrs.evolve(first, artifacts=(file("a.eml"), file("b.pdf", index=1)))
        lease.record([owner])
        late = leased(store, some_mailbox())
        (stranger,) = late.admit(INBOX, [mail(late.mailbox, 1)], STATE)
        wanted = (file("a.eml"), file("b.pdf", index=1), file("c.pdf", index=2))
        for loser, its_lease in ((second, lease), (stranger, late)):
            with pytest.raises(PathsTaken) as refusal:
                its_lease.record(
                    [attrs.evolve(third, attempts=5)] * (its_lease is lease) + [attrs.evolve(loser, artifacts=wanted)]
                )
            assert refusal.value.taken == {("/srv/mail", "a.eml"), ("/srv/mail", "b.pdf")}
        assert everything(lease) == [owner, second, third]
        assert everything(late) == [stranger]
        late.record([attrs.evolve(stranger, artifacts=(file("c.pdf"),))])
        elsewhere = attrs.evolve(second, artifacts=(file("a.eml", place="/srv/other"), file("a.eml ", index=1)))
        lease.record([elsewhere])

    def test_two_mails_of_one_batch_cannot_have_the_same_path(self, lease: Lease, mailbox: MailboxId) -> None:
        found = lease.admit(INBOX, [mail(mailbox, 1), mail(mailbox, 2)], STATE)
        with pytest.raises(PathsTaken) as refusal:
            lease.record([attrs.evolve(entry, artifacts=(file("a.eml"),)) for entry in found])
        assert refusal.value.taken == {("/srv/mail", "a.eml")}
        assert everything(lease) == list(found)

    def test_two_artifacts_of_one_mail_cannot_have_the_same_path(self, lease: Lease, mailbox: MailboxId) -> None:
        (entry,) = lease.admit(INBOX, [mail(mailbox, 1)], STATE)
        for twice in ((file("a.eml"), file("a.eml", index=1)), (file("a.eml"), file("a.eml", destination="b"))):
            with pytest.raises(PathsTaken):
                lease.record([attrs.evolve(entry, artifacts=twice)])
        assert everything(lease) == [entry]

    def test_a_path_under_which_something_was_seen_stays_reserved(self, lease: Lease, mailbox: MailboxId) -> None:
        first, second = lease.admit(INBOX, [mail(mailbox, 1), mail(mailbox, 2)], STATE)
        published = file("a.eml", receipt=Receipt(size=3, at=NOW))
        lease.record([attrs.evolve(first, artifacts=(published,))])
        lease.record([first])
        assert everything(lease) == [first, second]
        with pytest.raises(PathsTaken):
            lease.record([attrs.evolve(second, artifacts=(file("a.eml"),))])
        again = attrs.evolve(first, artifacts=(published,))
        lease.record([again])
        assert everything(lease) == [again, second]

    # ------------------------------------------------------------------------------------------------------ questions

    def test_due_entries_come_by_number_page_by_page(self, lease: Lease, mailbox: MailboxId) -> None:
        stages = [Stage.FOUND, Stage.STORED, Stage.WAITING, Stage.FOUND]
        found = lease.admit(
            INBOX,
            [
                mail(mailbox, number, stage=stages[number % 4], due_at=NOW + timedelta(number % 3))
                for number in range(24)
            ],
            STATE,
        )
        now = NOW + timedelta(days=1)
        wanted = [
            entry
            for entry in found
            if entry.stage in {Stage.FOUND, Stage.WAITING} and entry.due_at is not None and entry.due_at <= now
        ]
        pages: list[Entry] = []
        after: EntryId | None = None
        limit = 5
        while page := lease.due({Stage.FOUND, Stage.WAITING}, now, after=after, limit=limit):
            assert len(page) <= limit
            pages += page
            after = page[-1].id
        assert pages == wanted
        assert list(lease.due({Stage.SKIPPED}, now, limit=5)) == []
        assert list(lease.due(set(), now, limit=5)) == []
        assert list(lease.due({Stage.FOUND}, NOW - timedelta(microseconds=1), limit=5)) == []

    def test_what_is_in_hand_and_what_is_open_is_found(self, store: Store, lease: Lease, mailbox: MailboxId) -> None:
        other = leased(store, some_mailbox())
        other.admit(INBOX, [mail(other.mailbox, 1, in_hand=1)], STATE)
        kept, gone, held, sent = lease.admit(
            INBOX,
            [
                mail(mailbox, 1),
                mail(mailbox, 2, due_at=None, stage=Stage.SETTLED),
                mail(mailbox, 3, in_hand=lease.token),
                mail(mailbox, 4, ref=MessageRef(SENT, "7", "4")),
            ],
            STATE,
        )
        assert list(lease.in_hand()) == [held]
        assert list(lease.open_in(INBOX)) == [kept, held]
        assert list(lease.open_in(SENT)) == [sent]
        lease.record([attrs.evolve(held, in_hand=0, due_at=None), attrs.evolve(gone, due_at=NOW)])
        assert list(lease.in_hand()) == []
        assert [entry.id for entry in lease.open_in(INBOX)] == [kept.id, gone.id]

    def test_known_mails_are_found_by_either_identity(self, store: Store, lease: Lease, mailbox: MailboxId) -> None:
        identities = [Identity("a"), Identity("b", "S1"), Identity("c", "S2"), Identity("a", "S3"), Identity("d")]
        found = lease.admit(
            INBOX,
            [mail(mailbox, at, identity=each, due_at=None if at % 2 else NOW) for at, each in enumerate(identities)],
            STATE,
        )
        other = leased(store, some_mailbox())
        other.admit(INBOX, [mail(other.mailbox, 1, identity=Identity("a", "S1"))], STATE)

        def known(*wanted: Identity) -> list[int]:
            return sorted(found.index(entry) for entry in lease.known(wanted))

        assert known(Identity("a")) == [0, 3]
        assert known(Identity("x", "S1")) == [1]
        assert known(Identity("a", "S2"), Identity("c", "S2")) == [0, 2, 3]
        assert known(Identity("S1", "a"), Identity("y")) == []
        assert known() == []
        assert known(Identity("d"), *(Identity(f"n{at}", f"s{at}") for at in range(3000))) == [4]

    def test_entries_are_found_by_their_references(self, lease: Lease, mailbox: MailboxId) -> None:
        one, two, three = lease.admit(INBOX, [mail(mailbox, n) for n in (1, 2, 3)], STATE)
        lease.record([attrs.evolve(two, stage=Stage.SETTLED, due_at=None)])
        assert {entry.id for entry in lease.at([one.ref, two.ref])} == {one.id, two.id}
        assert list(lease.at([three.ref, three.ref])) == [three]
        assert list(lease.at([attrs.evolve(one.ref, uidvalidity="another")])) == []
        assert list(lease.at([])) == []

    def test_people_find_entries(self, store: Store, lease: Lease, mailbox: MailboxId) -> None:
        subjects = ["Große Straße 1", "große strasse 2", "100%_ sure", "100 % sure", "nul\0and more", "İstanbul"]
        senders = ["büro@firma.de", "BÜRO@firma.de", "a_b@firma.de"]
        refused = Trouble(error="LoginRefused", message="no")
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
                        trouble=refused if at % 4 == 0 else None,
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


def leased_again(store: Store, mailbox: MailboxId) -> Lease:
    """A lease taken over from whoever has it."""
    lease = store.lease(mailbox, 60, owner="heir", over=store.holder(mailbox))
    assert lease is not None
    return lease
