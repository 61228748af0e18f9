"""How long is waited for a server: every wait has an end, and many small ones have one together.

The timeout of a socket holds for one ``recv``: a server that sends a byte now and then is waited for without end.  Here
a command has an allowance of time that grows with the bytes that arrive, and no pause may be longer than ``stall``.
"""

from __future__ import annotations

import time
from typing import Final

SLOWEST: Final = 4096
"""Bytes per second: a connection that is slower on the whole than this, beyond the allowance, is given up."""


class Patience:
    """How long is still waited for the answer to one command."""

    def __init__(self, *, stall: float, allowance: float) -> None:
        self._stall = stall
        self._allowance = allowance
        self._end = 0.0
        self.restart()

    def restart(self, seconds: float | None = None) -> None:
        """A new command begins, which may take ``seconds``, else the usual allowance."""
        self._end = time.monotonic() + (self._allowance if seconds is None else seconds)

    def wait(self) -> float:
        """How many seconds the next read or write may take.  Raises TimeoutError when none is left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        return min(self._stall, left)

    def progressed(self, octets: int) -> None:
        """So many bytes came, which gives time for more."""
        self._end += octets / SLOWEST
