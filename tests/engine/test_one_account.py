"""One account, one configuration: rivals refused or told of, and a removed mailbox adopted when it is made again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

import attrs
import pytest

from maildaemon_core import codec
from maildaemon_core.engine.catalog import FROM_FILE, Catalog, Kept, UnknownMailbox
from maildaemon_core.errors import Problem, Rival, StaleVersion, StoreUnavailable
from maildaemon_core.message import MailboxId
from maildaemon_core.options import MASK, MailboxOptions, Secret
from maildaemon_core.soundness import problems
from maildaemon_core.store_port import Configuration
from maildaemon_core.testing.memory_store import MemoryStore
from tests.engine.story import mail
from tests.engine.test_catalog import OLD, WANTED, House, password, vault
from tests.engine.test_daemon import House as Around
from tests.engine.test_daemon import options as around_options

DELETING = {**WANTED, "deleteMailsOnServer": True, "mailArchiving": {"active": True}}


@pytest.fixture
def house() -> House:
    return House()


# -------------------------------------------------------------------------------------------------------------- rivals


def test_a_second_mailbox_of_one_account_is_refused_if_either_takes_mail_away(house: House) -> None:
    held = house.catalog(OLD)
    for first, second in ((WANTED, DELETING), (DELETING, WANTED)):
        mailbox = held.create({**first, "name": "the first"}).configuration.id
        with pytest.raises(Rival) as caught:
            held.create({**second, "name": "the second"})
        assert "'the first'" in caught.value.message
        assert mailbox in caught.value.message
        assert caught.value.remedy
        assert "pa55word" not in str(caught.value)
        assert [each.id for each in house.store.configurations()] == [mailbox]
        assert house.store.former() == []
        elsewhere = held.create({**second, "folders": ["Bills"]})
        assert not [each for each in elsewhere.warnings if "the first" in each.message]
        for each in house.store.configurations():
            held.remove(each.id, forget=True)


def test_a_second_mailbox_of_one_account_that_takes_nothing_away_is_warned_of(house: House) -> None:
    held = house.catalog(OLD)
    first = held.create({**WANTED, "name": "the first"})
    assert first.warnings == ()
    second = held.create({**WANTED, "name": "the second", "tls": "none"})
    (plain, twice) = second.warnings
    assert plain.path == "$.tls"
    assert "'the first'" in twice.message
    assert first.configuration.id in twice.message
    (twice,) = held.change(first.configuration.id, {"active": True}).warnings
    assert second.configuration.id in twice.message
    assert held.get(second.configuration.id) == attrs.evolve(second, warnings=(plain,))


def test_an_inactive_mailbox_is_nobodys_rival_until_it_is_turned_on(house: House) -> None:
    held = house.catalog(OLD)
    first = held.create(DELETING).configuration
    second = held.create({**DELETING, "active": False, "name": "second"}).configuration
    with pytest.raises(Rival, match=first.id):
        held.change(second.id, {"active": True})
    with pytest.raises(Rival, match=first.id):
        held.replace(second.id, DELETING)
    assert house.kept(second.id) == second
    held.change(first.id, {"active": False})
    held.change(second.id, {"active": True})
    with pytest.raises(Rival, match="second"):
        held.change(first.id, {"active": True})
    assert held.change(second.id, {"folders": ["Bills"]}).configuration.version == 3
    assert held.change(first.id, {"active": True}).options.active


def test_mailboxes_of_a_file_count_and_those_that_are_not_understood_are_passed_over(house: House) -> None:
    strange = {"mailbox": "jane@firm.example", "quantum": True}
    house.store.save(Configuration(id=MailboxId("strange"), name="of a later release", document=strange))
    house.store.save(Configuration(id=MailboxId("odd"), name="odd", document={"mailbox": ["jane"], "username": 7}))
    assert house.catalog(OLD).create({**DELETING, "folders": ["Bills"]}).configuration.version == 1
    document = codec.write(codec.read(MailboxOptions, WANTED))
    house.store.save(Configuration(id=MailboxId("file"), name="of the file", document=document), by=FROM_FILE)
    with pytest.raises(Rival, match="of the file"):
        house.catalog(OLD).create(DELETING)


def test_of_two_that_are_made_at_the_same_time_one_is_refused(house: House) -> None:
    together = threading.Barrier(2)

    def at_once(options: MailboxOptions) -> Sequence[Problem]:
        together.wait(10)
        return ()

    outcomes: list[object] = []

    def make() -> None:
        try:
            outcomes.append(Catalog(house.store, vault(OLD), at_once).create(DELETING))
        except Rival as rival:
            outcomes.append(rival)

    for _ in range(20):
        threads = [threading.Thread(target=make) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(type(each).__name__ for each in outcomes) == ["Kept", "Rival"]
        (left,) = house.store.configurations()
        assert house.store.former() == []  # nothing had to be taken back
        house.store.drop(left.id, forget=True)
        outcomes.clear()


class Meddled(MemoryStore):
    """A store that somebody else writes: ``before_save`` when something is about to be saved, ``at_look`` when all
    configurations are about to be read for the second time."""

    def __init__(self) -> None:
        super().__init__()
        self.before_save: Callable[[], object] | None = None
        self.at_look: list[Callable[[], object]] = []

    def save(self, configuration: Configuration, *, expected: int | None = None, by: str = "") -> Configuration:
        meddle, self.before_save = self.before_save, None
        if meddle is not None:
            meddle()
        return super().save(configuration, expected=expected, by=by)

    def configurations(self) -> Sequence[Configuration]:
        if self.at_look:
            self.at_look.pop(0)()
        return super().configurations()


OTHER = Configuration(id=MailboxId("other"), name="other", document=codec.write(codec.read(MailboxOptions, DELETING)))


def test_a_rival_that_another_process_makes_meanwhile_is_seen_and_what_was_saved_is_taken_back() -> None:
    store = Meddled()
    held = Catalog(store, vault(OLD), problems)
    store.before_save = lambda: store.save(OTHER)
    with pytest.raises(Rival, match="other"):
        held.create(DELETING)
    assert [each.id for each in store.configurations()] == ["other"]

    store.drop(OTHER.id, forget=True)
    sleeping = held.create({**DELETING, "active": False}, by="maker").configuration
    store.before_save = lambda: store.save(OTHER)
    with pytest.raises(Rival, match="other"):
        held.change(sleeping.id, {"active": True, "name": "awake"}, by="waker")
    after = store.configuration(sleeping.id)
    assert after is not None
    assert (after.name, after.document, after.secrets) == (sleeping.name, sleeping.document, sleeping.secrets)
    assert after.changed_by == "maker"


def test_what_somebody_else_has_changed_since_is_not_taken_back() -> None:
    store = Meddled()

    def meddle() -> None:
        (mine,) = store.configurations()
        store.save(attrs.evolve(mine, name="theirs now"))
        store.save(OTHER)

    store.at_look = [lambda: None, meddle]
    with pytest.raises(Rival):
        Catalog(store, vault(OLD), problems).create(DELETING)
    assert {each.name for each in store.configurations()} == {"other", "theirs now"}


def test_what_is_saved_is_told_though_the_store_is_gone_at_the_second_look() -> None:
    store = Meddled()

    def gone() -> None:
        raise StoreUnavailable("the store is gone")

    store.at_look = [lambda: None, gone]
    assert Catalog(store, vault(OLD), problems).create(WANTED).configuration.version == 1


# ---------------------------------------------------------------------------------------------- removed and made again


def test_the_same_account_made_again_adopts_the_mailbox_that_was_removed(house: House) -> None:
    held = house.catalog(OLD)
    first = held.create(WANTED)
    assert not first.adopted
    held.remove(first.configuration.id, expected=1)
    assert held.all() == []
    assert held.chosen_id({**WANTED, "password": "another", "quantum": 1}) == first.configuration.id
    house.now += timedelta(days=1)
    again = held.create({**WANTED, "password": "another", "folders": ["INBOX", "Bills"]}, by="other")
    assert again.adopted
    assert again.configuration.id == first.configuration.id
    assert again.configuration.version > first.configuration.version
    assert (again.configuration.created, again.configuration.created_by) == (house.now, "other")
    found = held.get(first.configuration.id)
    assert isinstance(found, Kept)
    assert not found.adopted
    assert password(again) == password(found) == "another"
    second = held.create({**WANTED, "name": "second"})
    assert second.configuration.id != first.configuration.id
    assert not second.adopted


def test_neither_another_account_nor_other_folders_nor_a_forgotten_one_is_adopted(house: House) -> None:
    held = house.catalog(OLD)
    mailbox = held.create(WANTED).configuration.id
    held.remove(mailbox)
    for change in ({"mailbox": "joe@firm.example"}, {"host": "other.example"}, {"folders": ["Bills"]}):
        made = held.create({**WANTED, **change})
        assert not made.adopted
        assert made.configuration.id != mailbox
    with pytest.raises(UnknownMailbox):
        held.remove(mailbox)
    with pytest.raises(UnknownMailbox):
        held.remove(mailbox, expected=1, forget=True)
    held.remove(mailbox, forget=True)  # afterwards too
    assert house.store.former() == []
    with pytest.raises(UnknownMailbox):
        held.remove(mailbox, forget=True)
    made = held.create(WANTED)
    assert not made.adopted
    held.remove(made.configuration.id, expected=1, forget=True)
    assert house.store.former() == []


def test_of_several_that_were_removed_the_last_one_is_adopted(house: House) -> None:
    held = house.catalog(OLD)
    older, newer = (held.create({**WANTED, "name": name}).configuration.id for name in ("a", "b"))
    for mailbox in (older, newer):
        house.now += timedelta(hours=1)
        held.remove(mailbox)
    assert held.create(WANTED).configuration.id == newer
    assert held.create({**WANTED, "name": "c"}).configuration.id == older


def test_an_id_that_was_chosen_before_is_used_unless_a_former_one_is_there(house: House) -> None:
    held = house.catalog(OLD)
    chosen = held.chosen_id(WANTED)
    assert chosen != held.chosen_id(WANTED)
    for unreadable in (None, 7, {}, {"destinations": 7}, {"password": MASK, "uuid": "x"}):
        assert held.chosen_id(unreadable)
    made = held.create(WANTED, mailbox=chosen)
    assert (made.configuration.id, made.adopted) == (chosen, False)
    for document in (WANTED, DELETING):
        with pytest.raises(StaleVersion):  # the same request once more
            held.create(document, mailbox=chosen)
    held.remove(chosen)
    again = held.create(WANTED, mailbox=held.chosen_id({**WANTED, "host": "other.example"}))
    assert (again.configuration.id, again.adopted) == (chosen, True)


def test_a_change_that_comes_before_the_removal_is_not_removed_with_it() -> None:
    class ChangedMeanwhile(MemoryStore):
        def drop(self, mailbox: MailboxId, *, expected: int | None = None, forget: bool = False) -> None:
            there = self.configuration(mailbox)
            assert there is not None
            self.save(attrs.evolve(there, name="changed"))
            super().drop(mailbox, expected=expected, forget=forget)

    store = ChangedMeanwhile()
    held = Catalog(store, vault(OLD), problems)
    mailbox = held.create(WANTED).configuration.id
    with pytest.raises(StaleVersion):
        held.remove(mailbox, expected=1)
    assert [each.name for each in store.configurations()] == ["changed"]


def test_what_was_stored_before_the_removal_is_not_stored_again_unless_it_was_forgotten() -> None:
    around = Around()
    around.server.plant(mail("invoice"))
    daemon = around.daemon()
    held = daemon.catalog(vault(OLD))
    document = codec.write(around_options(password=Secret("pa55word")), secrets="reveal")

    def stored() -> int:
        kept = held.create(document)
        daemon.take_on(kept)
        report = daemon.sweep_once(kept.configuration.id)
        assert report.well
        return report.counts.stored

    assert stored() == 1
    (only,) = held.all()
    held.remove(only.configuration.id)
    around.server.plant(mail("another"))
    assert stored() == 1
    held.remove(only.configuration.id, forget=True)
    assert stored() == 2
