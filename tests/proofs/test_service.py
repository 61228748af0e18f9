"""The service killed at any moment, while somebody changes its mailbox all the time: nothing lost, doubled, or tidied
early."""

from __future__ import annotations

import random
import time
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.proofs.samples import SMALL, Size, samples
from tests.proofs.serving import Clerk, ServedBox, Serving
from tests.proofs.striking import LATE, look
from tests.proofs.watchers import Consumer, Onlooker, Watcher
from tests.servers.dovecot import Dovecot

pytestmark = [pytest.mark.server, pytest.mark.heavy, pytest.mark.timeout(3600)]

WHILE_IT_STARTS = 4
"""Each of so many kills comes before the service is there."""

SWEEPS = 20
"""So many at most until all that is left has come."""


@pytest.fixture
def size(size: Size) -> Size:
    return attrs.evolve(size, mails=120, blows=3) if size == SMALL else size


@pytest.fixture
def box(dovecot: Dovecot, mail_user: str, tmp_path: Path, store: str | None) -> ServedBox:
    return ServedBox(dovecot, mail_user, tmp_path, store=store)


def test_a_service_that_is_killed_again_and_again_while_its_mailbox_is_changed_delivers_every_mail_once(
    box: ServedBox, size: Size, seed: int
) -> None:
    with Watcher(box) as watcher:
        strike(box, watcher, size, seed)
        assert box.stored() == box.expected


def test_it_does_so_too_for_a_consumer_that_takes_each_file_at_once(
    box: ServedBox, size: Size, seed: int, tmp_path: Path
) -> None:
    with Consumer(box, tmp_path) as consumer:
        strike(box, consumer, size, seed)


def strike(box: ServedBox, onlooker: Onlooker, size: Size, seed: int) -> None:
    """Mail arrives in waves; each time the service is killed, started, and goes on; at last it works off the rest."""
    mails = samples(size, seed)
    chance = random.Random(seed)
    wave = size.mails // (size.blows + 1)
    clerk = Clerk(box, seed)
    began = time.monotonic()
    service, url = started(box)
    start = time.monotonic() - began
    try:
        box.deliver(islice(mails, wave))
        began = time.monotonic()
        work_off(clerk, url)
        usual = time.monotonic() - began
        print(f"it takes {start:.2f} s to start, and {usual:.2f} s for a wave")
        assert box.left_on_server() == [()] * box.refused
        with clerk:
            clerk.url = url
            for number in range(size.blows):
                box.deliver(islice(mails, wave))
                time.sleep(chance.uniform(0, LATE * max(usual, 2)))
                service.kill()
                clerk.url = None
                look(box, onlooker)
                service.is_sound()
                if number % WHILE_IT_STARTS == WHILE_IT_STARTS - 1:
                    service = box.serve()
                    time.sleep(chance.uniform(0, start))
                    service.kill()
                service, url = started(box)
                clerk.url = url
        box.deliver(mails)
        work_off(clerk, url)
        service.stop()
    except BaseException:
        service.end()
        raise
    look(box, onlooker)
    assert not clerk.faults
    assert onlooker.seen() == box.expected == box.committed()
    assert box.staged() == []
    # What was stored while deletion was off is spared for ever.
    assert box.left_on_server().count(()) == box.refused
    print(f"the clerk's work: {clerk.done}; deleted after that was turned off: {clerk.deleted_late} mails at most")


def started(box: ServedBox) -> tuple[Serving, str]:
    service = box.serve()
    try:
        return service, service.url()
    except BaseException:
        service.end()
        raise


def work_off(clerk: Clerk, url: str) -> None:
    """Sweeps until one finds nothing to do, with deletion on."""
    with clerk.client(url) as client:
        assert client.patch(clerk.mailbox(client), json={"deleteMailsOnServer": True}).is_success
        report: Any = None
        for _ in range(SWEEPS):
            report = clerk.swept(client)
            if report["state"] == "done" and not report["counts"]["seen"]:
                return
    raise AssertionError(f"it does not come to its end: {report}")
