"""Faults on purpose: a fuse before each durable effect, which burns through as a crash or as an error.

The memory twins call ``fuse.tick(place)`` before and after whatever lasts.  The names of the places are the arrows of
the way of a mail; ``PLACES`` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

PLACES = (
    "source.open",
    "source.list",
    "source.fetch",
    "source.settle",
    "source.settled",
    "destination.stage",
    "destination.staged",
    "destination.publish",
    "destination.published",
    "destination.recover",
    "destination.forget",
    "store.lease",
    "store.admit",
    "store.admitted",
    "store.record",
    "store.recorded",
    "store.give_back",
)


class Crash(BaseException):
    """The process ends here and now.  A BaseException, so that no ``except Exception`` survives its own death."""


class Fuse:
    """Burns through after ``after`` ticks (of ``place``, or of any place), once.

    ``error`` makes what is raised then; a ``Crash`` if None.  ``hook`` is called at every tick, for a test that wants
    something to happen at just this point.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._left: int | None = None
        self._place: str | None = None
        self._error: Callable[[str], BaseException] = Crash
        self.hook: Callable[[str], None] | None = None
        self.log: list[str] = []

    def arm(self, after: int, *, place: str | None = None, error: Callable[[str], BaseException] | None = None) -> None:
        self._left, self._place, self._error = after, place, error or Crash

    def disarm(self) -> None:
        self._left = None

    @property
    def armed(self) -> bool:
        return self._left is not None

    def tick(self, place: str) -> None:
        if self.hook is not None:
            self.hook(place)
        with self._lock:
            self.log.append(place)
            if self._left is None or (self._place is not None and self._place != place):
                return
            if self._left > 0:
                self._left -= 1
                return
            self._left = None
        raise self._error(place)
