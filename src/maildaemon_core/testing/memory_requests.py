"""The memory twin of what the API remembers: its keys, and the requests that must not be carried out twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from threading import RLock
from typing import Any

import attrs

from maildaemon_core.access import ApiKey
from maildaemon_core.errors import KeyExists
from maildaemon_core.store_port import Repeat
from maildaemon_core.testing.storable import storable


class MemoryRequests:
    """The part of ``MemoryStore`` that keeps both; every method is one transaction under its lock."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._keys: dict[str, ApiKey] = {}
        self._repeats: dict[str, Repeat] = {}

    def keys(self) -> Sequence[ApiKey]:
        with self._lock:
            return sorted(self._keys.values(), key=lambda key: (key.created, key.prefix))

    def key(self, prefix: str) -> ApiKey | None:
        with self._lock:
            return self._keys.get(prefix)

    def add_key(self, key: ApiKey) -> None:
        with self._lock:
            if key.prefix in self._keys or any(k.name == key.name and not k.revoked for k in self._keys.values()):
                raise KeyExists(f"there is a key {key.name!r} already", remedy="revoke it first, or take another name")
            self._keys[key.prefix] = key

    def revoke_key(self, prefix: str, at: datetime) -> bool:
        with self._lock:
            key = self._keys.get(prefix)
            if key is None or key.revoked:
                return False
            self._keys[prefix] = attrs.evolve(key, revoked=at)
            return True

    def key_used(self, prefix: str, at: datetime) -> None:
        with self._lock:
            key = self._keys.get(prefix)
            if key is not None and (key.last_used is None or key.last_used < at):
                self._keys[prefix] = attrs.evolve(key, last_used=at)

    def begin(self, repeat: Repeat) -> Repeat | None:
        repeat = storable(repeat)
        with self._lock:
            first = self._repeats.get(repeat.key)
            if first is None:
                self._repeats[repeat.key] = repeat
            return first

    def answer(self, key: str, answer: Mapping[str, Any]) -> None:
        with self._lock:
            repeat = self._repeats.get(storable(key))
            if repeat is not None:
                self._repeats[repeat.key] = attrs.evolve(repeat, answer=storable(dict(answer)))

    def withdraw(self, key: str) -> None:
        with self._lock:
            self._repeats.pop(storable(key), None)

    def forget_repeats(self, before: datetime, *, limit: int) -> int:
        with self._lock:
            old = sorted((each for each in self._repeats.values() if each.at < before), key=lambda r: (r.at, r.key))
            for repeat in old[: max(limit, 0)]:
                del self._repeats[repeat.key]
            return min(len(old), max(limit, 0))
