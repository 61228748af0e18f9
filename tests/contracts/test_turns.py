"""Whoever has waited longest has the next turn, and a turn is never lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest

from maildaemon_adapters.sql.turns import Turns


def test_no_more_have_a_turn_at_once_than_there_are() -> None:
    turns, now, most = Turns(3), 0, 0

    def work(_: int) -> None:
        nonlocal now, most
        with turns.turn(60):
            now += 1
            most = max(most, now)
            time.sleep(0.002)
            now -= 1

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(work, range(60)))
    assert most <= 3
    assert now == 0


def test_those_who_wait_are_called_up_in_their_order() -> None:
    turns, order = Turns(1), list[int]()

    def queue_up(number: int) -> None:
        with turns.turn():
            order.append(number)

    with turns.turn():
        threads = []
        for number in range(8):
            thread = Thread(target=queue_up, args=(number,))
            thread.start()
            threads.append(thread)
            while len(turns._waiting) <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_one_who_comes_back_at_once_waits_behind_those_who_are_there() -> None:
    """A busy thread must not keep a heartbeat from its turn."""
    turns, served, over = Turns(1), Event(), Event()

    def busy() -> None:
        while not over.is_set():
            with turns.turn(60):
                time.sleep(0.001)

    hogs = [Thread(target=busy) for _ in range(6)]
    for hog in hogs:
        hog.start()
    began = time.monotonic()
    with turns.turn(60):
        served.set()
    waited = time.monotonic() - began
    over.set()
    for hog in hogs:
        hog.join()
    assert served.is_set()
    assert waited < 30


def test_who_gives_up_takes_no_turn_with_him() -> None:
    turns = Turns(1)
    with turns.turn(), pytest.raises(TimeoutError), turns.turn(0.01):
        pytest.fail("there was no turn to be had")
    with turns.turn(0.01), pytest.raises(ZeroDivisionError):
        raise ZeroDivisionError
    with turns.turn(0.01):
        assert turns._free == 0
    assert turns._free == 1
