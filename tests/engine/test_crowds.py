"""Many mailboxes that wait, two services that share them, and a crowd that wants everything at once: nothing is lost,
and nothing stays behind."""

from __future__ import annotations

import random
from contextlib import suppress
from threading import Lock, Thread

import pytest

from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.errors import LeaseLost, MaildaemonError
from maildaemon_core.message import MailboxId
from tests.engine.story import mail
from tests.engine.town import Town, document, quiet, until

HOUR = 3600
NAMES = tuple(f"{number}@our.example" for number in range(12))
DEEDS = 60


class Crowd:
    """People, servers and networks, each of them at work in a thread of its own."""

    def __init__(self, town: Town, daemons: list[MailDaemon], mailboxes: list[MailboxId]) -> None:
        self.town = town
        self.daemons = daemons
        self.mailboxes = mailboxes
        self._lock = Lock()
        self.planted = 0
        self.unexpected: list[Exception] = []

    def works(self, seed: int) -> None:
        threads = [Thread(target=self._one, args=(random.Random(seed * 100 + number),)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def plant(self, number: int) -> None:
        with self._lock:
            self.planted += 1
            self.town.server(NAMES[number]).plant(mail(f"number {self.planted}"))

    def _one(self, chance: random.Random) -> None:
        for _ in range(DEEDS):
            number = chance.randrange(len(NAMES))
            daemon, mailbox = chance.choice(self.daemons), self.mailboxes[number]
            try:
                match chance.randrange(7):
                    case 0:
                        daemon.refreshed(mailbox)
                    case 1:
                        daemon.sweep_soon(mailbox)
                    case 2:
                        daemon.halt(mailbox, seconds=0.01)
                        daemon.refreshed(mailbox)
                    case 3:
                        self.town.server(NAMES[number]).hang_up()
                    case 4:
                        with suppress(LeaseLost):
                            daemon.retry_failed(mailbox)
                    case _:
                        self.plant(number)
            except MaildaemonError as error:
                self.unexpected.append(error)
            self.town.later(seconds=1)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_and_nothing_stays_behind(town: Town, seed: int) -> None:
    town.told_by(*NAMES)
    daemons = [town.daemon(), town.daemon()]
    catalogs = [town.catalog(daemon) for daemon in daemons]
    kept = [
        catalogs[0].create(document(name, host=f"host{number % 3}", pollIntervalSeconds=HOUR), by="test")
        for number, name in enumerate(NAMES)
    ]
    crowd = Crowd(town, daemons, [each.configuration.id for each in kept])
    for daemon, catalog in zip(daemons, catalogs, strict=True):
        daemon.start(catalog, at_once=3, connections_per_host=(1, 3, 1000)[seed])
    crowd.works(seed)
    assert not crowd.unexpected
    for number in range(len(NAMES)):
        crowd.plant(number)
    town.later(seconds=2 * HOUR)
    town.passing(lambda: len(town.place().visible) == crowd.planted)
    for daemon in daemons:
        quiet(daemon)

    def counted() -> int:
        return sum(sum(daemon._sessions._connections.values()) for daemon in daemons)

    def settled() -> bool:
        return counted() == sum(len(daemon._sessions._waiting) for daemon in daemons)

    until(settled)  # what is left ends in the background
    catalogs[0].remove(crowd.mailboxes[0])
    for daemon in daemons:
        daemon.refreshed(crowd.mailboxes[0])
        assert daemon.close(20)
    until(lambda: not town.inside)
    assert counted() == 0
    assert not any(town.store.holder(mailbox) for mailbox in crowd.mailboxes)
