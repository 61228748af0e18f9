"""Where blocking work is done for requests: in threads, within a deadline."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from maildaemon_http.api.problems import TIMED_OUT, Refused

T = TypeVar("T")

THREADS = 40
"""So many requests are worked on at once; others wait for their turn."""


class Work:
    """Runs what blocks; ``seconds`` is how long an answer may take unless said otherwise."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._threads = CapacityLimiter(THREADS)

    async def run(self, act: Callable[..., T], *arguments: Any, seconds: float | None = None) -> T:
        """What ``act`` gives, or raises.  Raises ``Refused`` when it takes too long; it is then left to itself."""
        limit = self._seconds if seconds is None else seconds
        with anyio.move_on_after(limit):
            return await to_thread.run_sync(partial(act, *arguments), abandon_on_cancel=True, limiter=self._threads)
        raise Refused(
            TIMED_OUT,
            f"there was no result within {limit:g} s",
            remedy="look whether it was done all the same before you send it again",
        )
