"""A proxy on loopback that knows CONNECT alone (RFC 9110 §9.3.6), and leads every connection to one port."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.servers.listening import Listening
from tests.servers.process import LOOPBACK


class ConnectProxy(Listening):
    """``url`` is its address; ``heads`` what clients said before their connection was made.  ``answer``: its line."""

    def __init__(self, to: int, *, answer: bytes = b"HTTP/1.1 200 Connection established") -> None:
        super().__init__()
        self._to = to
        self._answer = answer
        self.heads: list[str] = []
        self.url = f"http://jane:pass%20word@{LOOPBACK}:{self.port}"
        self._threads: list[threading.Thread] = []

    def _meet(self, client: socket.socket) -> None:
        self._threads.append(threading.Thread(target=self._lead, args=(client,), daemon=True))
        self._threads[-1].start()

    def _leave(self) -> None:
        for thread in self._threads:
            thread.join()

    def _lead(self, client: socket.socket) -> None:
        head = b""
        with client, contextlib.suppress(OSError):
            while b"\r\n\r\n" not in head:
                if not (piece := client.recv(4096)):
                    return
                head += piece
            self.heads.append(head.decode())
            client.sendall(self._answer + b"\r\n\r\n")
            if b" 200 " not in self._answer:
                return
            with socket.create_connection((LOOPBACK, self._to)) as server:
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
