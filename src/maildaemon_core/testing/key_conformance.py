"""What every store must do about the keys of the API, as checks that its author runs.

Example::

    class TestMyKeys(KeyConformance):
        @pytest.fixture
        def store(self): ...  # an empty one; the fixture closes it
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from itertools import count
from typing import TypeVar

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maildaemon_core.access import ALL_SCOPES, LONGEST_NAME, ApiKey, Scope, name_fault
from maildaemon_core.errors import KeyExists
from maildaemon_core.store_port import Keys

NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
THREADS = 8

Answer = TypeVar("Answer")

_prefixes = (f"{number:010x}" for number in count(1))


def some_key(
    name: str, *, created: datetime = NOW, scopes: frozenset[Scope] = ALL_SCOPES, expires: datetime | None = None
) -> ApiKey:
    """A key with a prefix that no other has; nobody has the key itself."""
    prefix = next(_prefixes)
    digest = hashlib.sha256(prefix.encode()).hexdigest()
    return ApiKey(prefix=prefix, name=name, digest=digest, scopes=scopes, created=created, expires=expires)


def all_of(store: Keys) -> list[ApiKey]:
    """The keys of a store, in its order."""
    return list(store.keys())


def key_names() -> st.SearchStrategy[str]:
    """Names that a key may have, of any script and up to the longest."""
    characters = st.characters(codec="utf-8", categories=["L", "M", "N", "P", "S"])
    return st.text(characters, min_size=1, max_size=LONGEST_NAME).filter(lambda name: not name_fault(name))


def moments() -> st.SearchStrategy[datetime]:
    """Points in time to the microsecond, told in any zone."""
    zones = st.integers(-12, 14).map(lambda hours: timezone(timedelta(hours=hours)))
    return st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=zones)  # noqa: DTZ001


def at_once(deeds: Sequence[Callable[[], Answer]]) -> list[Answer | KeyExists]:
    """What these answer when all of them begin at the same moment, each in a thread of its own."""
    barrier = threading.Barrier(len(deeds))

    def begin(deed: Callable[[], Answer]) -> Answer | KeyExists:
        barrier.wait(timeout=30)
        try:
            return deed()
        except KeyExists as error:
            return error

    with ThreadPoolExecutor(len(deeds)) as pool:
        return list(pool.map(begin, deeds))


class KeyConformance:
    """The keys of the API: kept exactly, one of a name, revoked once, last used never earlier than it was."""

    def test_there_is_no_key_at_first(self, store: Keys) -> None:
        assert all_of(store) == []
        assert store.key("0123456789") is None

    @settings(
        max_examples=max(10, settings().max_examples // 2),
        suppress_health_check=[
            HealthCheck.differing_executors,
            HealthCheck.function_scoped_fixture,  # every example revokes its key, so one store serves them all
            HealthCheck.too_slow,
        ],
    )
    @given(
        name=key_names(), created=moments(), expires=st.none() | moments(), scopes=st.frozensets(st.sampled_from(Scope))
    )
    def test_every_field_of_a_key_comes_back(
        self, store: Keys, name: str, created: datetime, expires: datetime | None, scopes: frozenset[Scope]
    ) -> None:
        key = some_key(name, created=created, expires=expires, scopes=scopes)
        store.add_key(key)
        kept = store.key(key.prefix)
        assert kept == key
        assert kept in all_of(store)
        assert store.revoke_key(key.prefix, created)
        assert store.key(key.prefix) == attrs.evolve(key, revoked=created)

    def test_keys_are_listed_from_the_oldest_to_the_newest_with_the_revoked_ones(self, store: Keys) -> None:
        keys = [some_key(f"key {number}", created=NOW + number * MICROSECOND) for number in range(4)]
        for number in (2, 0, 3, 1):
            store.add_key(keys[number])
        store.revoke_key(keys[1].prefix, NOW)
        assert [key.name for key in all_of(store)] == ["key 0", "key 1", "key 2", "key 3"]

    @pytest.mark.parametrize("prefix", ["ffffffffff", "", "%", "0123456789\0", "\ud800", "ÄÖÜ", "x" * 10_000])
    def test_a_prefix_that_no_key_has_finds_nothing_whatever_it_is(self, store: Keys, prefix: str) -> None:
        store.add_key(some_key("ci"))
        before = all_of(store)
        assert store.key(prefix) is None
        assert not store.revoke_key(prefix, NOW)
        store.key_used(prefix, NOW)
        assert all_of(store) == before

    # ------------------------------------------------------------------------------------------------------- names

    def test_a_name_is_taken_until_its_key_is_revoked(self, store: Keys) -> None:
        first = some_key("ci")
        store.add_key(first)
        with pytest.raises(KeyExists, match="'ci'"):
            store.add_key(some_key("ci"))
        assert all_of(store) == [first]
        for again in range(3):  # and so on: a name may have had many keys
            store.revoke_key(all_of(store)[-1].prefix, NOW)
            store.add_key(some_key("ci", created=NOW + (again + 1) * MICROSECOND))
        with pytest.raises(KeyExists):
            store.add_key(some_key("ci"))
        assert [key.revoked is None for key in all_of(store)] == [False, False, False, True]

    def test_a_key_that_has_expired_still_holds_its_name(self, store: Keys) -> None:
        store.add_key(some_key("ci", created=NOW - 2 * MICROSECOND, expires=NOW - MICROSECOND))
        with pytest.raises(KeyExists):
            store.add_key(some_key("ci"))

    def test_names_are_compared_to_the_letter(self, store: Keys) -> None:
        names = ["ci", "CI", "cí", "ci 2", "ci%", "c_", "straße", "strasse"]
        for name in names:
            store.add_key(some_key(name))
        assert sorted(key.name for key in all_of(store)) == sorted(names)

    def test_a_prefix_is_never_given_to_a_second_key(self, store: Keys) -> None:
        first = some_key("ci")
        store.add_key(first)
        with pytest.raises(KeyExists):
            store.add_key(attrs.evolve(first, name="another"))
        store.revoke_key(first.prefix, NOW)
        with pytest.raises(KeyExists):
            store.add_key(first)
        assert all_of(store) == [attrs.evolve(first, revoked=NOW)]

    # ------------------------------------------------------------------------------------------------ end, last use

    def test_a_key_is_revoked_once_and_stays_so(self, store: Keys) -> None:
        key, other = some_key("ci"), some_key("ops")
        store.add_key(key)
        store.add_key(other)
        assert store.revoke_key(key.prefix, NOW + MICROSECOND)
        assert not store.revoke_key(key.prefix, NOW + 2 * MICROSECOND)
        assert not store.revoke_key(key.prefix, NOW)
        assert store.key(key.prefix) == attrs.evolve(key, revoked=NOW + MICROSECOND)
        assert store.key(other.prefix) == other

    @settings(
        max_examples=10,
        suppress_health_check=[
            HealthCheck.differing_executors,
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
        ],
    )
    @given(uses=st.lists(st.integers(-3, 3), min_size=1, max_size=6))
    def test_the_last_use_only_moves_forward(self, store: Keys, uses: list[int]) -> None:
        key = some_key(f"key {next(_prefixes)}")
        store.add_key(key)
        for number, use in enumerate(uses):
            store.key_used(key.prefix, NOW + use * MICROSECOND)
            latest = NOW + max(uses[: number + 1]) * MICROSECOND
            assert store.key(key.prefix) == attrs.evolve(key, last_used=latest)

    # --------------------------------------------------------------------------------------------------- all at once

    def test_of_many_who_add_a_name_at_once_exactly_one_does(self, store: Keys) -> None:
        for turn in range(5):
            keys = [some_key(f"ci {turn}") for _ in range(THREADS)]
            answers = at_once([partial(store.add_key, key) for key in keys])
            added = [key for key, answer in zip(keys, answers, strict=True) if answer is None]
            assert len(added) == 1
            assert [type(answer) for answer in answers if answer is not None] == [KeyExists] * (THREADS - 1)
            assert [key for key in all_of(store) if key.name == f"ci {turn}"] == added

    def test_of_many_who_revoke_a_key_at_once_exactly_one_did(self, store: Keys) -> None:
        for turn in range(5):
            key = some_key(f"ci {turn}")
            store.add_key(key)
            times = [NOW + number * MICROSECOND for number in range(THREADS)]
            answers = at_once([partial(store.revoke_key, key.prefix, at) for at in times])
            assert sorted(map(bool, answers)) == [False] * (THREADS - 1) + [True]
            assert store.key(key.prefix) == attrs.evolve(key, revoked=times[answers.index(True)])

    def test_of_many_uses_at_once_the_latest_is_remembered(self, store: Keys) -> None:
        for turn in range(5):
            key = some_key(f"ci {turn}")
            store.add_key(key)
            times = [NOW + number * MICROSECOND for number in range(THREADS)]
            at_once([partial(store.key_used, key.prefix, at) for at in times])
            assert store.key(key.prefix) == attrs.evolve(key, last_used=times[-1])
