"""Requests that are not to be carried out twice, in every store of ours, against the laws of the port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from maildaemon_adapters.sql import SqlStore, ledger
from maildaemon_core.testing.memory_store import MemoryStore
from maildaemon_core.testing.repeat_conformance import (
    LATER,
    THREADS,
    RepeatConformance,
    begun_at_once,
    remembered,
    some_repeat,
)


class TestMemoryRepeats(RepeatConformance):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class SqlRepeatsConformance(RepeatConformance):
    """What is asked of a database, beyond what is asked of every store."""

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def store(self, url: str) -> Iterator[SqlStore]:
        store = SqlStore(url)
        yield store
        store.close()

    def test_they_outlive_the_store_that_was_opened(self, store: SqlStore, url: str) -> None:
        repeat = some_repeat()
        store.begin(repeat)
        store.answer(repeat.key, {"status": 201})
        store.close()
        again = SqlStore(url)
        assert remembered(again, repeat) == attrs.evolve(repeat, answer={"status": 201})
        again.close()

    def test_more_than_one_statement_takes_are_forgotten(
        self, store: SqlStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ledger, "AT_ONCE", 4)
        for _ in range(11):
            store.begin(some_repeat())
        assert [store.forget_repeats(LATER, limit=10) for _ in range(3)] == [10, 1, 0]

    def test_of_many_services_that_begin_a_key_at_once_exactly_one_is_the_first(
        self, store: SqlStore, url: str
    ) -> None:
        others = [SqlStore(url) for _ in range(THREADS)]
        key = some_repeat().key
        repeats = [some_repeat(key=key) for _ in others]
        found = begun_at_once([*others], repeats)
        for other in others:
            other.close()
        first = repeats[found.index(None)]
        assert [each for each in found if each is not None] == [first] * (THREADS - 1)
        assert remembered(store, first) == first


class TestSqliteRepeats(SqlRepeatsConformance):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/maildaemon.db"


class TestPostgresqlRepeats(SqlRepeatsConformance):
    @pytest.fixture
    def url(self, emptied_url: str) -> str:
        return emptied_url
