"""A proxy on loopback that knows CONNECT alone (RFC 9110 §9.3.6), and leads every connection to one port."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from tests.servers.process import LOOPBACK


class ConnectProxy:
    """``url`` is its address; ``heads`` what clients said before their connection was made.  ``answer``: its line."""

    def __init__(self, to: int, *, answer: bytes = b"HTTP/1.1 200 Connection established") -> None:
        self._to = to
        self._answer = answer
        self.heads: list[str] = []
        self._listener = socket.create_server((LOOPBACK, 0))
        self.url = f"http://jane:pass%20word@{LOOPBACK}:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._lead, args=(client,), daemon=True))
                self._threads[-1].start()

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
