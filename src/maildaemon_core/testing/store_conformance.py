"""What every store must do, as checks that its author runs: subclass ``StoreConformance`` and give it a store.

Example::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self, clock): ...  # an empty one that reads this clock; the fixture closes it
"""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.errors import PathsTaken, Trouble
from maildaemon_core.message import Cursor, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import SweepState
from maildaemon_core.progress import Entry, EntryId, Outcome, Rebound, Receipt, Stage, advance
from maildaemon_core.store_port import Configuration, FolderState, Lease, Store
from maildaemon_core.testing.entry_strategies import entries
from maildaemon_core.testing.history_conformance import SENT, HistoryConformance, leased_again, shown
from maildaemon_core.testing.lease_conformance import (
    INBOX,
    NOW,
    STATE,
    any_store,
    everything,
    file,
    leased,
    mail,
    report,
    some_mailbox,
)


class StoreConformance(HistoryConformance):
    """The ledger: entries, cursors, reserved paths.  Leases, dropping, and what people see are checked besides."""

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

    def test_a_path_is_kept_for_the_mail_whatever_of_it_comes_back_to_it(
        self, lease: Lease, mailbox: MailboxId
    ) -> None:
        first, second = lease.admit(INBOX, [mail(mailbox, 1), mail(mailbox, 2)], STATE)
        lease.record([attrs.evolve(first, artifacts=(file("a.csv", index=2), file("b.csv", index=3)))])
        lease.record([attrs.evolve(first, artifacts=(file("b.csv", index=3),))])
        swapped = attrs.evolve(
            first, artifacts=(file("b.csv", index=2), file("a.csv", index=3), file("c.csv", index=4))
        )
        lease.record([swapped])
        assert everything(lease) == [swapped, second]
        with pytest.raises(PathsTaken):
            lease.record([attrs.evolve(second, artifacts=(file("a.csv", index=2),))])

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

    # ---------------------------------------------------------------------------------------------------------- texts

    @pytest.mark.parametrize("wild", ["a\udc80b", "a\0b"])
    def test_text_that_not_every_database_takes_is_replaced_instead_of_failing_the_mail(
        self, store: Store, mailbox: MailboxId, wild: str
    ) -> None:
        good = "a\ufffdb"
        document = {"folders": [wild], wild: {"x": wild}}
        store.save(Configuration(id=mailbox, name=wild, document=document, secrets={"password": wild}), by=wild)
        (saved,) = store.configurations()
        assert (saved.name, saved.created_by, saved.changed_by) == (good, good, good)
        assert (saved.document, saved.secrets) == ({"folders": [good], good: {"x": good}}, {"password": good})
        store.reseal(mailbox, {"password": f"{wild} again"}, expected=1)
        assert store.configuration(mailbox) == attrs.evolve(saved, secrets={"password": f"{good} again"})
        lease = leased(store, mailbox, owner=wild)
        (info,) = store.infos()
        assert info.held_by == good
        folder = FolderRef(wild)
        trouble, said = (Trouble(error=text, message=text, remedy=text) for text in (wild, good))
        texts = {"sender": wild, "subject": wild, "message_id": wild, "reason": wild, "defects": (wild,)}
        ref = MessageRef(folder, "7", wild)
        given = mail(mailbox, 1, ref=ref, identity=Identity("f", wild), trouble=trouble, stage=Stage.WAITING, **texts)
        (entry,) = lease.admit(folder, [given], FolderState(cursor=Cursor(wild)))
        assert lease.admit(folder, [given], STATE) == []
        assert lease.folder(folder) == STATE
        planned = attrs.evolve(entry, artifacts=(file(f"{wild}.eml", name=wild),))
        for _ in range(2):
            lease.record([planned])
        heir = leased_again(store, mailbox)
        for found in (heir.open_in(folder), heir.at([ref]), heir.known([Identity("x", wild)]), everything(heir)):
            (clean,) = found
            assert clean.ref == MessageRef(FolderRef(good), "7", good)
            assert clean.identity.strong == good
            assert clean.trouble == said
            assert {name: getattr(clean, name) for name in texts} == {**dict.fromkeys(texts, good), "defects": (good,)}
            assert [(artifact.path, artifact.name) for artifact in clean.artifacts] == [(f"{good}.eml", good)]
        assert [each.id for each in shown(store, Outcome.FAILED, error=good)] == [entry.id]
        heir.give_back(NOW, attrs.evolve(report(mailbox, SweepState.FAILED, NOW), server=wild, trouble=trouble))
        (info,) = store.infos()
        assert info.report is not None
        assert (info.report.server, info.report.trouble) == (good, said)
        nobody = MailboxId(f"nobody {wild}")
        assert (store.configuration(nobody), store.holder(nobody)) == (None, None)
