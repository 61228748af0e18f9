"""The memory twin of a destination: batches, what consumers see, and what they have taken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from threading import RLock

from maildaemon_core.errors import DestinationUnavailable, Trouble
from maildaemon_core.message import BatchId
from maildaemon_core.ports import Finding, Level, Occupied, Put, Staged, StillStaged, Unknown, WasPublished
from maildaemon_core.progress import Receipt
from maildaemon_core.testing.faults import Fuse

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryDestination:
    """A place that lives in dictionaries and outlives those that use it.

    ``visible`` is what consumers see; ``published`` everything that ever became visible, in order; ``taken`` what they
    took.  ``consumer`` is called with each path as soon as it is visible.  ``refuse`` gives the trouble with a path, if
    any; ``down`` and ``full`` concern everything.
    """

    def __init__(self, place: str = "memory:", fuse: Fuse | None = None) -> None:
        self._place = place
        self._lock = RLock()
        self.fuse = fuse or Fuse()
        self.visible: dict[str, bytes] = {}
        self.published: list[tuple[str, bytes]] = []
        self.taken: list[tuple[str, bytes]] = []
        self.staging: dict[BatchId, dict[str, bytes]] = {}
        self.down = False
        self.full = False
        self.refuse: Callable[[str], Trouble | None] = lambda path: None
        self.consumer: Callable[[str], None] | None = None

    @property
    def place(self) -> str:
        return self._place

    def take(self, path: str) -> bytes:
        """A consumer takes a file away."""
        data = self.visible.pop(path)
        self.taken.append((path, data))
        return data

    def check(self) -> Sequence[Finding]:
        trouble = self.probe()
        if trouble is not None:
            return [Finding(level=Level.FAULT, subject=self._place, message=trouble.message, remedy=trouble.remedy)]
        return [Finding(level=Level.FINE, subject=self._place, message="can be written")]

    def probe(self) -> Trouble | None:
        try:
            self._alive()
        except DestinationUnavailable as error:
            return error.trouble()
        return None

    def stage(self, batch: BatchId, puts: Sequence[Put]) -> Mapping[str, Staged | Trouble]:
        self._alive()
        with self._lock:
            self.staging.setdefault(batch, {})
        answers: dict[str, Staged | Trouble] = {}
        for put in puts:
            self.fuse.tick("destination.stage")
            answers[put.part] = self._stage(batch, put)
            self.fuse.tick("destination.staged")
        return answers

    def publish(self, batch: BatchId, staged: Sequence[Staged]) -> Mapping[str, Receipt | Occupied | Unknown | Trouble]:
        self._alive()
        answers: dict[str, Receipt | Occupied | Unknown | Trouble] = {}
        for part in staged:
            self.fuse.tick("destination.publish")
            answers[part.part] = self._publish(batch, part)
            self.fuse.tick("destination.published")
        return answers

    def recover(
        self, batch: BatchId, staged: Sequence[Staged]
    ) -> Mapping[str, StillStaged | WasPublished | Unknown | Trouble]:
        self._alive()
        self.fuse.tick("destination.recover")
        with self._lock:
            parts = self.staging.get(batch)
            if parts is None:
                return {part.part: Unknown() for part in staged}
            return {
                part.part: StillStaged() if part.part in parts else WasPublished(Receipt(size=part.size, at=NOW))
                for part in staged
            }

    def forget(self, batch: BatchId) -> None:
        self._alive()
        self.fuse.tick("destination.forget")
        with self._lock:
            self.staging.pop(batch, None)

    def batches(self) -> Collection[BatchId]:
        self._alive()
        with self._lock:
            return list(self.staging)

    def close(self) -> None:
        pass

    def _alive(self) -> None:
        if self.down:
            raise DestinationUnavailable(f"{self._place} is down", remedy="bring it up again")

    def _stage(self, batch: BatchId, put: Put) -> Staged | Trouble:
        if fault := _path_fault(put.path):
            return fault
        if trouble := self.refuse(put.path):
            return trouble
        if self.full:
            return Trouble(error="DestinationFull", message=f"no room left at {self._place}", remedy="make room")
        try:
            data = b"".join(put.content.chunks())
        except Exception as error:  # noqa: BLE001  (whatever a content raises)
            return Trouble(error=type(error).__name__, message=f"the content cannot be read: {error}")
        with self._lock:
            if batch not in self.staging:
                return Trouble(error="BatchGone", message=f"batch {batch} was removed meanwhile")
            self.staging[batch][put.part] = data
        return Staged(part=put.part, path=put.path, size=len(data), sha256=hashlib.sha256(data).hexdigest())

    def _publish(self, batch: BatchId, staged: Staged) -> Receipt | Occupied | Unknown | Trouble:
        with self._lock:
            parts = self.staging.get(batch)
            if parts is None:
                return Unknown()
            if staged.part not in parts:
                return Receipt(size=staged.size, at=NOW)
            if staged.path in self.visible:
                return Occupied()
            if fault := _path_fault(staged.path):
                return fault
            data = parts.pop(staged.part)
            self.visible[staged.path] = data
            self.published.append((staged.path, data))
        if self.consumer is not None:
            self.consumer(staged.path)
        return Receipt(size=staged.size, at=NOW)


def _path_fault(path: str) -> Trouble | None:
    if all(part and not part.startswith(".") and "\0" not in part for part in path.split("/")):
        return None
    return Trouble(error="PathRefused", message=f"{path!r} leads out of the destination", transient=False)
