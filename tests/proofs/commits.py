"""A line to a PostgreSQL server that breaks right at a commit, so that its client cannot know whether it happened."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from tests.servers.listening import Listening
from tests.servers.process import LOOPBACK

COMMIT = b"COMMIT\0"
"""How the statement ends a message of the client (a simple query, protocol 3.0), which comes in one piece."""

COMMITTED = b"COMMIT\0"
"""How the server's answer names what it did (CommandComplete)."""


class BreaksAtCommit(Listening):
    """``with BreaksAtCommit(server.port) as line: line.arm(3, happens=True)``; connect to ``line.port``.

    The third commit from then on reaches the server, or does not; its answer never comes: the line breaks.  With
    ``for_long`` nobody gets through any more until ``mend``.  ``commits`` counts those that have passed since ``arm``.
    """

    def __init__(self, target_port: int) -> None:
        super().__init__()
        self._target_port = target_port
        self._lock = threading.Lock()
        self._serving: list[threading.Thread] = []
        self._over = threading.Event()
        self._broken = threading.Event()
        self.arm(0, happens=True)

    def arm(self, at: int, *, happens: bool, for_long: bool = False) -> None:
        """0: no commit breaks it."""
        with self._lock:
            self._at, self._happens, self._for_long = at, happens, for_long
            self.commits = 0
            self._broken.clear()

    def mend(self) -> None:
        self.arm(0, happens=True)

    @property
    def broke(self) -> bool:
        """Whether the commit that was waited for has come."""
        return 0 < self._at <= self.commits

    def _meet(self, client: socket.socket) -> None:
        if self._broken.is_set():
            client.close()
            return
        server = socket.create_connection((LOOPBACK, self._target_port))
        thread = threading.Thread(target=self._serve, args=(client, server), daemon=True)
        self._serving.append(thread)
        thread.start()

    def _leave(self) -> None:
        self._over.set()
        for thread in self._serving:
            thread.join()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError):
            while not (self._over.is_set() or self._broken.is_set()):
                for end in select.select([client, server], [], [], 0.05)[0]:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    if end is server:
                        client.sendall(data)
                    elif data.endswith(COMMIT) and self._breaks():
                        if self._happens:
                            server.sendall(data)
                            self._wait_for_the_answer(server)
                        return
                    else:
                        server.sendall(data)

    def _breaks(self) -> bool:
        with self._lock:
            self.commits += 1
            if self.commits == self._at and self._for_long:
                self._broken.set()
            return self.commits == self._at

    def _wait_for_the_answer(self, server: socket.socket) -> None:
        """It has happened when the server says so; only then may the client ask anybody whether it has."""
        server.settimeout(20)
        heard = b""
        while COMMITTED not in heard:
            data = server.recv(1 << 16)
            assert data, "the server went away itself"
            heard += data
