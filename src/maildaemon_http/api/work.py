"""Where blocking work is done for requests: in threads, within a deadline."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from maildaemon_http.api.problems import TIMED_OUT, Refused

T = TypeVar("T")

THREADS = 40
"""So many requests are worked on at once; others wait for their turn."""


class Work:
    """Runs what blocks, in up to ``threads`` threads; ``seconds`` is how long an answer may take unless said otherwise.

    What took too long has its thread until it ends: else everything that hangs would cost one more, without an end.
    """

    def __init__(self, seconds: float, *, threads: int = THREADS) -> None:
        self._seconds = seconds
        self._turns = CapacityLimiter(threads)
        self._threads = CapacityLimiter(math.inf)

    async def run(self, act: Callable[..., T], *arguments: Any, seconds: float | None = None) -> T:
        """What ``act`` gives, or raises.  Raises ``Refused`` when it takes too long; it is then left to itself."""
        limit = self._seconds if seconds is None else seconds
        with anyio.move_on_after(limit):
            turn = _Turn(self._turns)
            await self._turns.acquire_on_behalf_of(turn)
            try:
                return await to_thread.run_sync(
                    turn.used_for, act, arguments, abandon_on_cancel=True, limiter=self._threads
                )
            finally:
                turn.over_unless_used()
        raise Refused(
            TIMED_OUT,
            f"there was no result within {limit:g} s",
            remedy="look whether it was done all the same before you send it again",
        )


class _Turn:
    """One of the turns of a limiter; it is given back once, in the event loop."""

    def __init__(self, turns: CapacityLimiter) -> None:
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._used = False
        self._over = False

    def used_for(self, act: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        self._used = True
        try:
            return act(*arguments)
        finally:
            with suppress(RuntimeError):  # the loop has ended before it
                self._loop.call_soon_threadsafe(self._give_back)

    def over_unless_used(self) -> None:
        if not self._used:
            self._give_back()

    def _give_back(self) -> None:
        if not self._over:
            self._over = True
            self._turns.release_on_behalf_of(self)
