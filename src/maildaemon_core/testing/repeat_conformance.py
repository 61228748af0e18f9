"""What every store must do about requests that are not to be carried out twice, as checks that its author runs.

Example::

    class TestMyRepeats(RepeatConformance):
        @pytest.fixture
        def store(self): ...  # an empty one; the fixture closes it
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maildaemon_core.message import MailboxId
from maildaemon_core.store_port import Repeat, Repeats

NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LATER = datetime(9999, 1, 1, tzinfo=UTC)
THREADS = 8

_numbers = count(1)


def some_repeat(**other: Any) -> Repeat:
    """A request of a key that no other has."""
    number = next(_numbers)
    key, request = (hashlib.sha256(f"{what} {number}".encode()).hexdigest() for what in ("key", "request"))
    return Repeat(**{"key": key, "request": request, "mailbox": MailboxId(f"mailbox {number}"), "at": NOW, **other})


def remembered(store: Repeats, repeat: Repeat) -> Repeat | None:
    """What is there of the key of this one; where there was nothing, this one is there afterwards."""
    return store.begin(attrs.evolve(repeat, request="another", mailbox=MailboxId("another"), at=LATER))


def answers() -> st.SearchStrategy[Mapping[str, Any]]:
    """JSON documents of texts that every database takes."""
    texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
    numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False, width=32)
    value = st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    )
    return st.dictionaries(texts, value, max_size=4)


class RepeatConformance:
    """The first request of a key is told from all others, however many come at once; answers come back exactly."""

    @pytest.fixture
    def store(self) -> Repeats:
        """An empty store."""
        raise NotImplementedError("give a fixture named store")

    def test_only_the_first_of_a_key_is_the_first_and_it_is_what_stays(self, store: Repeats) -> None:
        first, other = some_repeat(), some_repeat()
        assert store.begin(first) is None
        assert store.begin(other) is None
        for again in (first, attrs.evolve(first, request="x", mailbox=MailboxId("y"), at=LATER, answer={"z": 1})):
            assert store.begin(again) == first
        assert remembered(store, other) == other

    @settings(
        max_examples=max(10, settings().max_examples // 2),
        suppress_health_check=[
            HealthCheck.differing_executors,
            HealthCheck.function_scoped_fixture,  # every example has a key of its own, so one store serves them all
            HealthCheck.too_slow,
        ],
    )
    @given(answer=answers(), second=answers())
    def test_an_answer_comes_back_as_it_was(
        self, store: Repeats, answer: Mapping[str, Any], second: Mapping[str, Any]
    ) -> None:
        repeat, other = some_repeat(), some_repeat()
        assert (store.begin(repeat), store.begin(other)) == (None, None)
        for given_ in (answer, second):
            store.answer(repeat.key, given_)
            assert remembered(store, repeat) == attrs.evolve(repeat, answer=given_)
        assert remembered(store, other) == other

    def test_an_answer_that_says_nothing_is_an_answer(self, store: Repeats) -> None:
        repeat = some_repeat()
        store.begin(repeat)
        store.answer(repeat.key, {})
        found = remembered(store, repeat)
        assert found is not None
        assert found.answer == {}

    @pytest.mark.parametrize("key", ["", "%", "ffff", "a\0b", "\ud800", "x" * 10_000])
    def test_an_answer_to_a_request_that_is_not_there_is_nothing(self, store: Repeats, key: str) -> None:
        repeat = some_repeat()
        store.begin(repeat)
        store.answer(key, {"a": 1})
        assert remembered(store, repeat) == repeat
        assert remembered(store, attrs.evolve(repeat, key=key)) is None

    @pytest.mark.parametrize("wild", ["a\udc80b", "a\0b"])
    def test_text_that_not_every_database_takes_is_replaced(self, store: Repeats, wild: str) -> None:
        good = "a\ufffdb"
        repeat = some_repeat(key=wild, request=wild, mailbox=MailboxId(wild))
        assert store.begin(repeat) is None
        store.answer(wild, {wild: [wild, {"x": wild}]})
        clean = attrs.evolve(repeat, key=good, request=good, mailbox=MailboxId(good))
        assert remembered(store, repeat) == attrs.evolve(clean, answer={good: [good, {"x": good}]})

    def test_the_oldest_are_forgotten_first_and_only_those_from_before(self, store: Repeats) -> None:
        repeats = [some_repeat(at=NOW + number * MICROSECOND) for number in range(7)]
        for number in (5, 2, 0, 6, 3, 1, 4):
            store.begin(repeats[number])
        store.answer(repeats[0].key, {"status": 201})
        assert store.forget_repeats(NOW, limit=10) == 0
        assert store.forget_repeats(NOW + 5 * MICROSECOND, limit=0) == 0
        for limit, number in ((2, 2), (2, 2), (2, 1), (2, 0)):
            assert store.forget_repeats(NOW + 5 * MICROSECOND, limit=limit) == number
        assert [remembered(store, each) for each in repeats] == [None] * 5 + repeats[5:]

    def test_the_oldest_are_forgotten_and_younger_ones_stay_until_it_is_their_turn(self, store: Repeats) -> None:
        repeats = [some_repeat(at=NOW + number * MICROSECOND) for number in range(40)]
        for repeat in reversed(repeats):
            store.begin(repeat)
        assert store.forget_repeats(LATER, limit=len(repeats) - 1) == len(repeats) - 1
        assert [remembered(store, each) for each in reversed(repeats)] == [repeats[-1]] + [None] * (len(repeats) - 1)

    def test_what_was_forgotten_may_come_again_and_is_the_first(self, store: Repeats) -> None:
        repeat = some_repeat()
        store.begin(repeat)
        store.answer(repeat.key, {"status": 201})
        assert store.forget_repeats(LATER, limit=1) == 1
        store.answer(repeat.key, {"status": 201})
        assert store.begin(repeat) is None
        assert remembered(store, repeat) == repeat

    # --------------------------------------------------------------------------------------------------- all at once

    def test_of_many_who_begin_a_key_at_once_exactly_one_is_the_first(self, store: Repeats) -> None:
        for _ in range(5):
            key = some_repeat().key
            begun = [some_repeat(key=key) for _ in range(THREADS)]
            found = begun_at_once([store] * THREADS, begun)
            assert found.count(None) == 1
            first = begun[found.index(None)]
            assert [each for each in found if each is not None] == [first] * (THREADS - 1)
            assert remembered(store, first) == first

    def test_a_key_that_is_begun_and_forgotten_at_once_is_the_first_as_often_as_it_was_forgotten(
        self, store: Repeats
    ) -> None:
        key = some_repeat().key

        def begin(_number: int) -> int:
            return sum(store.begin(some_repeat(key=key)) is None for _ in range(20))

        def forget(_number: int) -> int:
            return sum(store.forget_repeats(LATER, limit=10) for _ in range(20))

        with ThreadPoolExecutor(THREADS) as threads:
            first = [threads.submit(begin, number) for number in range(4)]
            forgotten = [threads.submit(forget, number) for number in range(2)]
            firsts, gone = (sum(job.result(60) for job in jobs) for jobs in (first, forgotten))
        assert firsts == gone + store.forget_repeats(LATER, limit=10) > 0


def begun_at_once(stores: list[Repeats], repeats: list[Repeat]) -> list[Repeat | None]:
    """What the stores answer when all of them are asked at the same moment, each in a thread of its own."""
    barrier = threading.Barrier(len(repeats))

    def begin(store: Repeats, repeat: Repeat) -> Repeat | None:
        barrier.wait(timeout=30)
        return store.begin(repeat)

    with ThreadPoolExecutor(len(repeats)) as pool:
        return list(pool.map(begin, stores, repeats))
