"""The keys of the API in every store of ours, against the laws of the port; what a database may bring besides."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from maildaemon_adapters.sql import SqlStore
from maildaemon_adapters.sql.tables import api_key
from maildaemon_core.access import ALL_SCOPES, CHANCE_BYTES, Scope, make_key
from maildaemon_core.errors import KeyExists
from maildaemon_core.testing.key_conformance import MICROSECOND, NOW, THREADS, KeyConformance, at_once, some_key
from maildaemon_core.testing.memory_store import MemoryStore


class TestMemoryKeys(KeyConformance):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class SqlKeysConformance(KeyConformance):
    """What is asked of a database, beyond what is asked of every store."""

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def store(self, url: str) -> Iterator[SqlStore]:
        store = SqlStore(url)
        yield store
        store.close()

    def test_keys_outlive_the_store_that_was_opened(self, store: SqlStore, url: str) -> None:
        key = some_key("ci", scopes=frozenset({Scope.SWEEPS_RUN}), expires=NOW + MICROSECOND)
        store.add_key(key)
        store.close()
        again = SqlStore(url)
        assert list(again.keys()) == [key]
        again.close()

    def test_of_many_services_that_add_a_name_at_once_exactly_one_does(self, store: SqlStore, url: str) -> None:
        others = [SqlStore(url) for _ in range(THREADS)]
        keys = [some_key("ci") for _ in others]
        answers = at_once([partial(one.add_key, key) for one, key in zip(others, keys, strict=True)])
        for other in others:
            other.close()
        assert sorted(isinstance(answer, KeyExists) for answer in answers) == [False] + [True] * (THREADS - 1)
        assert list(store.keys()) == [keys[answers.index(None)]]

    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ([*sorted(ALL_SCOPES), "moons:move"], ALL_SCOPES),
            (["sweeps:run", "sweeps:stop", "SWEEPS:RUN", 7, None, ["sweeps:run"]], {Scope.SWEEPS_RUN}),
            (["moons:move"], frozenset()),
            ([], frozenset()),
        ],
    )
    def test_scopes_of_another_release_are_passed_over(
        self, store: SqlStore, written: list[object], read: frozenset[Scope]
    ) -> None:
        key = some_key("ci")
        store.add_key(key)
        with store._database.write() as connection:
            connection.execute(sa.update(api_key).values(scopes=written))
        (kept,) = store.keys()
        assert kept.scopes == read
        assert [scope for scope in Scope if kept.allows(scope)] == [scope for scope in Scope if scope in read]

    def test_no_error_tells_a_digest(self, store: SqlStore) -> None:
        key = some_key("ci")
        store.add_key(key)
        with pytest.raises(KeyExists) as told:
            store.add_key(some_key("ci"))
        assert told.value.__suppress_context__
        assert key.digest not in repr(key) + str(told.value) + told.value.remedy
        assert str(told.value.__context__).count(key.digest) == 0

    def test_only_a_digest_of_a_key_is_kept(self, store: SqlStore) -> None:
        key, kept = make_key(bytes(range(CHANCE_BYTES)), "ci", now=NOW)
        store.add_key(kept)
        with store._database.read() as connection:
            (row,) = connection.execute(sa.select(api_key)).all()
        secret = key.value.rpartition("_")[2]
        assert secret not in repr(row)
        assert row.digest == kept.digest


class TestSqliteKeys(SqlKeysConformance):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/maildaemon.db"


class TestPostgresqlKeys(SqlKeysConformance):
    @pytest.fixture
    def url(self, emptied_url: str) -> str:
        return emptied_url
