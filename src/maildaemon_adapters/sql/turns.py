"""Whose turn it is to use one of a few things: whoever has waited longest, so that nobody waits for ever."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """``number`` turns at once; used by many threads."""

    def __init__(self, number: int) -> None:
        self._lock = threading.Lock()
        self._free = number
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def turn(self, seconds: float | None = None) -> Iterator[None]:
        """Waits for a turn, at most so long if that is given, and has it until the end.  Raises TimeoutError."""
        with self._lock:
            mine = threading.Event()
            self._waiting.append(mine)
            self._call_up()
        try:
            if not mine.wait(seconds):
                raise TimeoutError
            yield
        finally:
            self._end(mine)

    def _end(self, mine: threading.Event) -> None:
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
            else:  # it was called up, be it in the moment in which it gave up
                self._free += 1
            self._call_up()

    def _call_up(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.popleft().set()
