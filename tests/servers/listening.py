"""What listens on a free port of loopback and meets each client, in a thread of its own, until it is left."""

from __future__ import annotations

import abc
import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from tests.servers.process import LOOPBACK


class Listening(abc.ABC):
    """To be used as a context manager; connect to ``port``.  ``connections`` counts those that were accepted."""

    def __init__(self) -> None:
        self.connections = 0
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, name=f"{type(self).__name__}-{self.port}", daemon=True)

    @abc.abstractmethod
    def _meet(self, client: socket.socket) -> None:
        """A client has come; the next one is met when this returns."""

    @abc.abstractmethod
    def _leave(self) -> None:
        """Nobody comes any more: ends what goes on with those that came."""

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A shutdown wakes the accept; a close alone would leave it waiting.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        self._leave()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._meet(client)
