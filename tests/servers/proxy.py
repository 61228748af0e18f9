"""A TCP proxy on loopback that goes wrong on purpose: cuts, resets, falls silent, slows down, flips a bit."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from typing import Literal

import attrs

from tests.servers.listening import Listening
from tests.servers.process import LOOPBACK

PIECE = 1 << 16


@attrs.frozen(kw_only=True)
class Fault:
    """What goes wrong, on data that flows ``down`` (server to client) or ``up``; positions count bytes of a connection.

    ``cut_after``, ``reset_after``, ``stall_after``: so many bytes pass, then both sides see an end, a reset, or nothing
    any more.  ``delay``: seconds before each piece.  ``rate``: bytes a second.  ``flip_at``: the lowest bit of that
    byte is inverted.  ``refuse``: a new connection is closed at once.
    """

    direction: Literal["down", "up"] = "down"
    cut_after: int | None = None
    reset_after: int | None = None
    stall_after: int | None = None
    delay: float = 0.0
    rate: float | None = None
    flip_at: int | None = None
    refuse: bool = False


NO_FAULT = Fault()


class ChaosProxy(Listening):
    """``with ChaosProxy(server.imaps) as proxy: proxy.fault = Fault(cut_after=1000)``; connect to ``proxy.port``.

    ``fault`` may change at any time and holds for open connections too; one that has stalled stays so.
    ``connections`` counts those that were accepted, ``bytes_down`` what has reached clients.
    """

    def __init__(self, target_port: int) -> None:
        super().__init__()
        self.target_port = target_port
        self.fault = NO_FAULT
        self.bytes_down = 0
        self._open: set[_Connection] = set()
        self._lock = threading.Lock()

    def drop_all(self) -> None:
        """Ends every open connection; new ones are accepted as before."""
        with self._lock:
            dropped = list(self._open)
        for connection in dropped:
            connection.drop()
        for connection in dropped:
            connection.thread.join()

    def _meet(self, client: socket.socket) -> None:
        if self.fault.refuse:
            client.close()
            return
        try:
            server = socket.create_connection((LOOPBACK, self.target_port), timeout=5)
        except OSError:
            client.close()
            return
        connection = _Connection(self, client, server)
        with self._lock:
            self._open.add(connection)
        connection.thread.start()

    def _leave(self) -> None:
        self.drop_all()

    def _ended(self, connection: _Connection) -> None:
        with self._lock:
            self._open.discard(connection)

    def _reached_client(self, count: int) -> None:
        with self._lock:
            self.bytes_down += count


class _Over(Exception):
    """The connection is at its end."""


class _Connection:
    """One client and its server, served by one thread: nobody is in a read when a reset is due, so it is a real one."""

    def __init__(self, proxy: ChaosProxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.passed = {"down": 0, "up": 0}
        self.thread = threading.Thread(target=self._run, daemon=True)
        for end in (client, server):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def drop(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        flows = {self.server: ("down", self.client), self.client: ("up", self.server)}
        try:
            while flows:
                for end in select.select(list(flows), [], [])[0]:
                    direction, other = flows[end]
                    data = end.recv(PIECE)
                    if not data:
                        other.shutdown(socket.SHUT_WR)
                        del flows[end]
                    elif not self._pass(direction, data, other):
                        self._keep_silent()
        except (OSError, _Over):
            pass
        finally:
            self.client.close()
            self.server.close()
            self.proxy._ended(self)

    def _pass(self, direction: str, data: bytes, other: socket.socket) -> bool:
        """Sends what the fault lets through; False when the connection has fallen silent."""
        fault = self.proxy.fault if self.proxy.fault.direction == direction else NO_FAULT
        start = self.passed[direction]
        limits = [at for at in (fault.cut_after, fault.reset_after, fault.stall_after) if at is not None]
        allowed = max(0, min(limits) - start) if limits else len(data)
        if fault.flip_at is not None and start <= fault.flip_at < start + len(data):
            at = fault.flip_at - start
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        if fault.delay:
            time.sleep(fault.delay)
        if fault.rate:
            time.sleep(len(data) / fault.rate)
        sent = data[:allowed]
        other.sendall(sent)
        self.passed[direction] += len(sent)
        if direction == "down":
            self.proxy._reached_client(len(sent))
        if len(sent) == len(data):
            return True
        if fault.stall_after is not None and fault.stall_after == min(limits):
            return False
        if fault.reset_after is not None and fault.reset_after == min(limits):
            for end in (self.client, self.server):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Over

    def _keep_silent(self) -> None:
        """Both sides stay open and hear nothing, until the client gives up or the connection is dropped."""
        watched = [self.client, self.server]
        while self.client in watched:
            for end in select.select(watched, [], [])[0]:
                if not end.recv(PIECE):
                    watched.remove(end)
        raise _Over
