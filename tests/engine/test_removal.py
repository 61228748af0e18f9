"""A mailbox that is removed in the middle of its work, and the same account made again: nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from maildaemon_core.engine.catalog import Catalog
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.sweep import Bounds
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import SweepState
from maildaemon_core.testing.faults import PLACES, Crash
from tests.engine.story import mail, taker
from tests.engine.town import WAIT, A, Batches, Town, document

WANTED = document(A, deleteMailsOnServer=True)


@pytest.fixture
def town() -> Iterator[Town]:
    town = Town()
    try:
        yield town
    finally:
        town.fuse.hook = None
        town.close()


def made(town: Town) -> tuple[MailDaemon, Catalog, MailboxId]:
    """As after a start: a daemon of its own, and the mailbox made, or made again."""
    daemon = town.daemon(bounds=Bounds(mails=2))
    catalog = town.catalog(daemon)
    kept = catalog.create(WANTED, by="admin")
    daemon.take_on(kept)
    return daemon, catalog, kept.configuration.id


@pytest.mark.parametrize("place", [place for place in PLACES if place != "destination.recover"])
@pytest.mark.parametrize("after", [0, 2])
def test_removed_after_a_crash_and_made_again_every_mail_comes_once_and_nothing_staged_is_left(
    town: Town, place: str, after: int
) -> None:
    town.place().consumer = taker(town.place())
    for number in range(6):
        town.server(A).plant(mail(f"mail {number}"))
    daemon, catalog, one = made(town)
    town.fuse.arm(after, place=place)
    with suppress(Crash):
        daemon.sweep_once(one)
    town.fuse.disarm()
    town.later(minutes=5)
    catalog.remove(one)
    town.later(minutes=5)
    daemon, catalog, again = made(town)
    assert again == one
    for _ in range(2):
        assert daemon.sweep_once(one).well
    assert len(town.place().published) == len({data for _, data in town.place().published}) == 6
    assert town.server(A).contents() == []
    assert not list(town.place().batches())


def test_removed_and_made_again_while_a_sweep_goes_on_every_mail_comes_once(town: Town) -> None:
    town.place().consumer = taker(town.place())
    daemon = town.daemon(bounds=Bounds(mails=2))
    catalog = town.catalog(daemon)
    one = catalog.create(WANTED, by="admin").configuration.id
    batches = Batches(town)
    daemon.start(catalog)
    future = daemon.sweep_soon(one)
    assert batches.reached.wait(WAIT)
    assert not daemon.halt(one, seconds=0.05), "it hangs in the middle of a batch"
    catalog.remove(one)
    daemon.refreshed(one)
    again = catalog.create(WANTED, by="admin").configuration.id
    daemon.refreshed(again)
    assert again == one
    batches.go_on.set()
    assert future.result(WAIT).state is SweepState.LOST
    assert daemon.sweep_soon(one).result(WAIT).well
    assert len(town.place().published) == len({data for _, data in town.place().published}) == 10
    assert town.server(A).contents() == []
    assert not list(town.place().batches())
