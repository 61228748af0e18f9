"""A connection that says nothing for long asks now and then whether the other side is still there (RFC 1122 §4.2.3.6).

Without it nobody notices that a firewall has forgotten a connection on which only the server would speak.
"""

from __future__ import annotations

import socket
from typing import Final

QUESTIONS: Final = 4
"""So many without an answer, and the connection is dead."""


def keep_alive(sock: socket.socket, *, after: int = 60, every: int = 15) -> None:
    """From now on it asks after so many seconds of silence, as far as this system can set it for one connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", after), ("TCP_KEEPINTVL", every), ("TCP_KEEPCNT", QUESTIONS)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
