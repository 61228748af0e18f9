"""One connection for all threads, made when it is first needed, and anew when it has broken."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Generic, Protocol, TypeVar

from maildaemon_adapters.files.tree import TreeError


class Connection(Protocol):
    """What a ``Joint`` looks after."""

    @property
    def alive(self) -> bool:
        """Whether it may be asked something."""
        ...

    def end(self, *, politely: bool) -> None:
        """Closes it.  Never raises."""
        ...


C = TypeVar("C", bound=Connection)


class Joint(Generic[C]):
    """``connect`` makes the connection, and raises ``TreeError``."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._connection: C | None = None
        self._connecting = Lock()
        self._failed: tuple[float, TreeError] | None = None

    def get(self) -> C:
        """The connection, a new one if need be.

        Raises ``TreeError``; whoever waited while another thread tried in vain does not try once more.
        """
        asked = time.monotonic()
        with self._connecting:
            if self._connection is not None and self._connection.alive:
                return self._connection
            if self._failed is not None and self._failed[0] > asked:
                told = self._failed[1]
                raise TreeError(told.fault, told.what, remedy=told.remedy, retry_after=told.retry_after)
            if self._connection is not None:
                self._connection.end(politely=False)
                self._connection = None
            try:
                self._connection = self._connect()
            except TreeError as error:
                self._failed = (time.monotonic(), error)
                raise
            self._failed = None
            return self._connection

    def close(self) -> None:
        """Ends the connection; twice is the same as once.  ``get`` makes a new one."""
        with self._connecting:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.end(politely=True)
