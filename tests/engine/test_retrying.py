"""Failed mail is tried again when a person says so: which may be, what becomes of it, and in whose way that is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from maildaemon_core.engine.catalog import UnknownMailbox
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.retrying import PAGE, NotFailed, PerhapsDelivered
from maildaemon_core.engine.sweep import STOPPED, Bounds
from maildaemon_core.errors import LeaseLost, StoreUnavailable, Trouble
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.options import Move
from maildaemon_core.progress import Entry, EntryId, Outcome, Stage, Unconfirmable, advance
from tests.engine.story import mail
from tests.engine.town import ONE, TWO, WAIT, A, B, Batches, Town, adopted, document, options, until

FAILED = EntryQuery(outcome=Outcome.FAILED)
REFUSED = Trouble(error="DestinationRefused", message="a virus, it says", transient=False)
FOREIGN = "farhost pid 7 boot/ns 99 abcd"


def refusing(path: str) -> Trouble | None:
    return REFUSED if "bad" in path else None


def accepting(path: str) -> None:
    return None


@pytest.fixture
def failed(town: Town) -> MailDaemon:
    """Two mailboxes with a mail each that was given up, beside one that was stored; not started."""
    daemon = adopted(town)
    daemon.adopt(TWO, options(B))
    town.place().refuse = refusing
    for mailbox, name in ((ONE, A), (TWO, B)):
        town.server(name).plant(mail("bad"))
        town.server(name).plant(mail("good"))
        assert daemon.sweep_once(mailbox).counts.failed == 1
    town.place().refuse = accepting
    return daemon


def number(entry: Entry) -> EntryId:
    assert entry.id is not None
    return entry.id


def the_failed(town: Town, mailbox: MailboxId = ONE, *, dismissed: bool = False) -> Entry:
    query = EntryQuery(outcome=Outcome.FAILED, mailbox=mailbox, dismissed=dismissed)
    (entry,) = town.store.entries(query).entries
    return entry


def changed(town: Town, entry: Entry, how: Callable[[Entry], Entry]) -> None:
    """Somebody with the lease writes the entry down as it is now."""
    lease = town.store.lease(entry.mailbox, 60, owner=FOREIGN)
    assert lease is not None
    lease.record([how(entry)])
    lease.give_back()


# ------------------------------------------------------------------------------------------------------------ one mail


def test_a_mail_that_was_given_up_is_tried_again_and_is_no_failure_any_more(town: Town, failed: MailDaemon) -> None:
    entry = the_failed(town)
    assert entry.stage is Stage.GIVEN_UP
    again = failed.retry(number(entry))
    assert again is not None
    assert (again.id, again.stage, again.outcome, again.attempts) == (entry.id, Stage.FOUND, Outcome.PENDING, 0)
    assert town.store.holder(ONE) is None
    assert failed.sweep_once(ONE).counts.stored == 1
    assert f"{A}/bad.eml" in town.place().visible


def test_a_mail_that_was_dismissed_comes_back_into_sight(town: Town, failed: MailDaemon) -> None:
    entry = the_failed(town)
    failed.dismiss(number(entry))
    assert not town.store.entries(EntryQuery(outcome=Outcome.FAILED, mailbox=ONE)).entries
    again = failed.retry(number(entry))
    assert again is not None
    assert not again.dismissed
    assert failed.sweep_once(ONE).counts.stored == 1


def test_a_mail_that_waits_for_its_next_attempt_need_not_wait(town: Town) -> None:
    daemon = adopted(town)
    town.server(A).plant(mail("bad"))
    town.server(A).unreadable.add(mail("bad"))
    daemon.sweep_once(ONE)
    entry = the_failed(town)
    assert entry.stage is Stage.WAITING
    assert entry.due_at is not None
    assert entry.due_at > town.now
    town.server(A).unreadable.clear()
    assert daemon.sweep_once(ONE).counts.stored == 0
    daemon.retry(number(entry))
    assert daemon.sweep_once(ONE).counts.stored == 1


def test_a_running_daemon_tries_it_again_at_once(town: Town, failed: MailDaemon) -> None:
    failed.start()
    for mailbox in (ONE, TWO):
        failed.sweep_soon(mailbox).result(WAIT)
    failed.retry(number(the_failed(town)))
    until(lambda: f"{A}/bad.eml" in town.place().visible)
    assert f"{B}/bad.eml" not in town.place().visible


def test_what_did_not_fail_is_not_tried_again(town: Town, failed: MailDaemon) -> None:
    (stored, *_) = town.store.entries(EntryQuery(outcome=Outcome.STORED)).entries
    with pytest.raises(NotFailed, match="is stored") as caught:
        failed.retry(number(stored))
    assert caught.value.remedy
    assert failed.retry(EntryId(999)) is None
    entry = the_failed(town)
    failed.retry(number(entry))
    with pytest.raises(NotFailed, match="is pending"):
        failed.retry(number(entry))


def test_a_mail_that_may_have_been_delivered_is_tried_again_only_if_that_is_wanted(town: Town) -> None:
    daemon = adopted(town)
    town.server(A).plant(mail("bad"))
    town.fuse.arm(0, place="destination.publish", error=lambda _: StoreUnavailable("the line broke"))
    daemon.sweep_once(ONE)
    (entry,) = town.store.all()
    assert entry.stage is Stage.PLANNED
    changed(town, entry, lambda one: advance(one, Unconfirmable(REFUSED), town.now))
    with pytest.raises(PerhapsDelivered, match="it would come twice"):
        daemon.retry(number(entry))
    assert daemon.retry_all(FAILED) == 0
    assert town.store.all()[0].stage is Stage.UNCONFIRMED
    again = daemon.retry(number(entry), unconfirmed=True)
    assert again is not None
    assert again.stage is Stage.FOUND


def test_of_a_mail_that_is_staged_only_the_rest_is_tried_again(town: Town) -> None:
    daemon = adopted(town)
    town.server(A).plant(mail("slow"))
    town.fuse.hook = lambda place: None
    right = town.place().publish
    town.place().publish = lambda batch, staged: {  # type: ignore[method-assign]
        part.part: Trouble(error="Slow", message="not now") for part in staged
    }
    daemon.sweep_once(ONE)
    entry = the_failed(town)
    assert entry.stage is Stage.PLANNED
    assert entry.due_at is not None
    assert entry.due_at > town.now
    again = daemon.retry(number(entry))
    assert again is not None
    assert (again.stage, again.due_at, again.artifacts) == (Stage.PLANNED, town.now, entry.artifacts)
    failing = daemon.dismiss(number(entry))
    assert failing is not None
    with pytest.raises(NotFailed, match="yet to be cleared away") as caught:
        daemon.retry(number(entry))
    assert "after the next sweep" in caught.value.remedy
    daemon.sweep_once(ONE)
    again = daemon.retry(number(entry))
    assert again is not None
    assert again.stage is Stage.FOUND
    town.place().publish = right  # type: ignore[method-assign]
    assert daemon.sweep_once(ONE).counts.stored == 1


def test_a_mail_that_is_stored_and_could_not_be_tidied_is_only_tidied(town: Town) -> None:
    daemon = town.daemon()
    daemon.adopt(ONE, options(A, after_store=Move(move="Done")))
    town.server(A).plant(mail("good"))
    lost = Trouble(error="FolderMissing", message="no such folder", transient=False)
    settle = "maildaemon_core.testing.memory_source.MemorySource.settle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settle, lambda source, mails, care: {known.ref: lost for known in mails})
        daemon.sweep_once(ONE)
    entry = the_failed(town)
    assert entry.stage is Stage.UNTIDIED
    again = daemon.retry(number(entry))
    assert again is not None
    assert (again.stage, again.outcome) == (Stage.STORED, Outcome.STORED)
    daemon.sweep_once(ONE)
    assert town.server(A).contents("Done") == [mail("good")]
    assert len(town.place().published) == 1


def test_a_mail_of_a_mailbox_that_was_removed_is_not_tried_again(town: Town, failed: MailDaemon) -> None:
    entry = the_failed(town)
    town.store.drop(ONE)
    with pytest.raises(UnknownMailbox, match="any more"):
        failed.retry(number(entry))
    with pytest.raises(UnknownMailbox):
        failed.retry_all(EntryQuery(outcome=Outcome.FAILED, mailbox=ONE))


# -------------------------------------------------------------------------------------------------------------- many


def test_all_that_a_filter_finds_are_tried_again_over_all_mailboxes_and_pages(town: Town) -> None:
    daemon = adopted(town)
    daemon.adopt(TWO, options(B))
    town.place().refuse = refusing
    for at in range(PAGE + 30):
        town.server(A).plant(mail(f"bad {at}"))
    for name in ("bad one", "worse and bad"):
        town.server(B).plant(mail(name))
    for mailbox in (ONE, TWO):
        daemon.sweep_once(mailbox)
    assert daemon.retry_all(EntryQuery(outcome=Outcome.FAILED, subject="worse", limit=1)) == 1
    assert daemon.retry_all(EntryQuery(outcome=Outcome.FAILED, error="NotThis")) == 0
    assert daemon.retry_all(EntryQuery(outcome=Outcome.FAILED, limit=1)) == PAGE + 31
    assert daemon.retry_all(FAILED) == 0
    town.place().refuse = accepting
    assert [daemon.sweep_once(mailbox).counts.stored for mailbox in (ONE, TWO)] == [PAGE + 30, 2]


def test_dismissed_mails_are_tried_again_only_if_the_filter_asks_for_them(town: Town, failed: MailDaemon) -> None:
    failed.dismiss(number(the_failed(town)))
    assert failed.retry_all(FAILED) == 1
    assert failed.retry_all(EntryQuery(outcome=Outcome.FAILED, dismissed=True)) == 1


def test_only_failed_mails_can_be_asked_for(town: Town, failed: MailDaemon) -> None:
    with pytest.raises(NotFailed, match="mails that are skipped"):
        failed.retry_all(EntryQuery(outcome=Outcome.SKIPPED))


def test_a_mailbox_that_is_worked_on_keeps_no_other_from_it_and_is_named(town: Town, failed: MailDaemon) -> None:
    assert town.store.lease(ONE, 60, owner=FOREIGN)
    with pytest.raises(LeaseLost, match=r"farhost pid 7 until .* 1 mail is tried again in others"):
        failed.retry_all(FAILED)
    assert the_failed(town).stage is Stage.GIVEN_UP
    assert not town.store.entries(EntryQuery(outcome=Outcome.FAILED, mailbox=TWO)).entries
    with pytest.raises(LeaseLost, match="farhost pid 7") as caught:
        failed.retry_all(FAILED)
    assert "tried again" not in caught.value.message
    with pytest.raises(LeaseLost, match="farhost pid 7"):
        failed.retry(number(the_failed(town)))
    assert caught.value.remedy == "try again when it has finished"


# ------------------------------------------------------------------------------------------------ beside running sweeps


def test_a_running_sweep_of_this_process_ends_its_batch_for_it_and_goes_on_afterwards(town: Town) -> None:
    daemon = adopted(town, bounds=Bounds(mails=2))
    town.place().refuse = refusing
    town.server(A).plant(mail("bad"))
    daemon.sweep_once(ONE)
    entry = the_failed(town)
    town.place().refuse = accepting
    batches = Batches(town)
    daemon.start()
    future = daemon.sweep_soon(ONE)
    assert batches.reached.wait(WAIT)
    with pytest.raises(LeaseLost, match=r"the mailbox is being worked on by .* pid \d+ until"):
        daemon.retry(number(entry), seconds=0.01)
    batches.go_on.set()
    assert daemon.retry(number(entry), seconds=WAIT) is not None
    assert future.result(WAIT).well
    until(lambda: len(town.place().visible) == 11)
    assert STOPPED in [report.trouble for report in town.ended(ONE)]
    assert not town.twice


def test_a_retry_that_the_store_refuses_leaves_everything_as_it_was(town: Town, failed: MailDaemon) -> None:
    town.fuse.arm(0, place="store.record", error=lambda _: StoreUnavailable("disk full"))
    with pytest.raises(StoreUnavailable, match="disk full"):
        failed.retry(number(the_failed(town)))
    assert town.store.holder(ONE) is None
    assert the_failed(town).stage is Stage.GIVEN_UP


def test_skipped_mail_that_could_not_be_moved_away_is_decided_anew_with_the_rest(town: Town) -> None:
    daemon = town.daemon()
    catalog = town.catalog(daemon)
    written = document(A, allowedEmailExtensions=["@else.example"], onNoMatch={"move": "Unwanted"})
    one = catalog.create(written, by="admin").configuration.id
    town.server(A).plant(mail("unwanted"))
    daemon.start(catalog)
    daemon.halt(one, seconds=WAIT)
    settle = "maildaemon_core.testing.memory_source.MemorySource.settle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settle, lambda source, mails, care: {known.ref: REFUSED for known in mails})
        daemon.refreshed(one)
        until(lambda: town.ended(one))
        until(lambda: not daemon.watched()[0].running_since)
    assert the_failed(town, one).stage is Stage.SKIPPED
    catalog.change(one, {"allowedEmailExtensions": None}, by="admin")
    report = daemon.sweep_soon(one, again=frozenset({Outcome.SKIPPED})).result(WAIT)
    assert report.counts.stored == 1
