"""What it means when a server of objects cannot be reached, whichever library says so: all of them stand on urllib3."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from maildaemon_adapters.files.obstructed import obstructed
from maildaemon_adapters.files.tree import TreeError
from maildaemon_adapters.tcp.obstacles import obstacle_of
from maildaemon_adapters.tcp.trust import Trust
from maildaemon_core.confinement import ConnectionForbidden
from maildaemon_core.errors import Problem
from maildaemon_core.ports import Finding, Level

CONNECT_SECONDS: Final = 5.0
SILENT_SECONDS: Final = 8.0
"""How long a server may take to accept a connection, and then to send anything while an answer is awaited."""


_TELLING: Final = (
    ConnectionForbidden,
    ssl.SSLCertVerificationError,
    ssl.SSLError,
    socket.gaierror,
    UnicodeError,
    ConnectionRefusedError,
    TimeoutError,
)
"""Of all that an error came from, the first of these says most."""


def unreachable(error: BaseException, where: str, ca_file: str | None, named: str = "options.endpointUrl") -> TreeError:
    """Why nothing was heard from the server ``where`` (``host:port``), to be raised in place of the library's error.

    ``named`` is the property that names the server.
    """
    found = list(_causes(error))
    told: BaseException | None = next((each for kind in _TELLING for each in found if isinstance(each, kind)), None)
    if told is None and any("Timeout" in type(each).__name__ for each in found):
        told = TimeoutError()
    if told is None:
        told = next((each for each in reversed(found) if isinstance(each, OSError) and each.strerror), None)
    told = told or EOFError()
    trust, hint = Trust(ca_file=ca_file), "a server without TLS is http://"
    return obstructed(obstacle_of(told, where, seconds=SILENT_SECONDS, trust=trust, hint=hint, named=named))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it came from; libraries wrap them in attributes, arguments, causes and contexts."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = (*one.args, *(getattr(one, name, None) for name in ("reason", "inner_exception")))
        waiting += [each for each in (one.__cause__, one.__context__, *inner) if isinstance(each, BaseException)]


def whole_url(endpoint: str) -> str:
    """An endpoint with its scheme, https unless another is written, and without a slash at its end."""
    return (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")


def server_of(url: str) -> str:
    """``host:port`` of a whole URL."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or (80 if parts.scheme == 'http' else 443)}"


def endpoint_problems(endpoint: str | None, *, path: bool = False) -> Sequence[Problem]:
    """What is wrong with ``options.endpointUrl``; ``path``: it may have one."""
    if endpoint is None:
        return ()
    try:
        parts = urlsplit(whole_url(endpoint))
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError as error:
        return [_of_endpoint(f"this is no URL ({error})")]
    if parts.scheme not in {"http", "https"} or not parts.hostname or "\\" in parts.netloc:
        return [_of_endpoint("write https://HOST or https://HOST:PORT; http:// sends everything in plain text")]
    if parts.username or parts.password or parts.query or parts.fragment:
        return [_of_endpoint("an endpoint has no login, no ? and no #; the login is written as username and password")]
    if parts.path.strip("/") and not path:
        return [_of_endpoint("an endpoint has no path; what lies in front of the files' names is written in the url")]
    return ()


def _of_endpoint(message: str) -> Problem:
    return Problem(path="$.options.endpointUrl", message=message)


def plain_findings(endpoint: str | None) -> Sequence[Finding]:
    """Says so when everything is sent in plain text."""
    if endpoint is None or not whole_url(endpoint).lower().startswith("http://"):
        return ()
    return [
        Finding(
            level=Level.WARNING,
            subject=whole_url(endpoint),
            message="everything is sent in plain text: whoever listens on the way reads the mails",
            remedy="write https:// in options.endpointUrl",
        )
    ]
