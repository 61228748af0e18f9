"""A connection that says nothing for long asks now and then whether the other side is still there (RFC 1122 §4.2.3.6).

Without it nobody notices that a firewall has forgotten a connection on which only the server would speak.
"""

from __future__ import annotations

import socket
from typing import Final

_EVERY: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""After a minute of silence it asks; after four questions without an answer, another minute, the connection is dead."""


def keep_alive(sock: socket.socket) -> None:
    """From now on, as far as this system can set it for one connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _EVERY.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
