"""A TCP connection to a server, within a time that counts for all of its addresses.

It is made in the thread that asks, before any library of a protocol takes it over: so it is the work of the mailbox
that it is for, and judged as such (``maildaemon_core.confinement``).
"""

from __future__ import annotations

import socket
import time

from maildaemon_core.confinement import ConnectionForbidden


def dial(host: str, port: int, seconds: float) -> socket.socket:
    """A connection, blocking and without a timeout.

    Each address of the host gets its share of the ``seconds`` that are left; what the name service takes is its own.
    Raises OSError for the last of them, unless one is forbidden: that is what somebody can do something about.
    Raises UnicodeError for what can be no host name.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    end = time.monotonic() + seconds
    failures: list[OSError] = []
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        left = (end - time.monotonic()) / (len(addresses) - number)
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(left, 0.1))
            sock.connect(address)
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # libraries send in pieces what belongs together
        except OSError as error:
            sock.close()
            failures.append(error)
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise next((each for each in failures if isinstance(each, ConnectionForbidden)), failures[-1])
