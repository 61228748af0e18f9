"""A TCP connection to a server of files, within a time that counts for all of its addresses, or why there is none.

It is made in the thread that asks, before any library of a protocol takes it over: so it is the work of the mailbox
whose files it is for, and judged as such (``maildaemon_core.confinement``).
"""

from __future__ import annotations

import socket
import time

from maildaemon_adapters.files.tree import Fault, TreeError
from maildaemon_core.confinement import ConnectionForbidden


def dial(host: str, port: int, seconds: float) -> socket.socket:
    """A connection, blocking and without a timeout; raises ``TreeError`` with ``GONE``.

    Each address of the host gets its share of the ``seconds`` that are left; what the name service takes is its own.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise unreachable(error, host, port, seconds) from None
    end = time.monotonic() + seconds
    failures: list[OSError] = []
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        left = (end - time.monotonic()) / (len(addresses) - number)
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(left, 0.1))
            sock.connect(address)
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failures.append(error)
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    # What is forbidden is what somebody can do something about; else the last one, as everybody has it.
    told = next((each for each in failures if isinstance(each, ConnectionForbidden)), failures[-1])
    raise unreachable(told, host, port, seconds)


def unreachable(error: BaseException, host: str, port: int, seconds: float) -> TreeError:
    """What it means that no connection was made."""
    where = f"{host}:{port}"
    match error:
        case ConnectionForbidden():
            return TreeError(
                Fault.GONE, f"{where} is not for mailboxes of this service: {error.fault}", remedy=error.remedy
            )
        case socket.gaierror() | UnicodeError():
            what = f"the host name {host!r} does not resolve"
            remedy = "check the host in url, and this machine's name service"
        case ConnectionRefusedError():
            what = f"nothing listens on {where}"
            remedy = "check the port in url; see that the server runs, and firewalls"
        case TimeoutError():
            what = f"{where} did not answer within {seconds:g} s"
            remedy = "check host and port in url, and firewalls"
        case OSError():
            what = f"{where} cannot be reached: {error.strerror or error}"
            remedy = "check host and port in url, and the network"
        case _:
            what = f"{where} cannot be reached: {type(error).__name__}"
            remedy = "check host and port in url, and the network"
    return TreeError(Fault.GONE, what, remedy=remedy)
