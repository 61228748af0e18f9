"""The kind ``ftp``: folders on an FTP server, with TLS unless plain text was asked for in writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

import attrs

from maildaemon_adapters.files.publishing import PublishingDestination
from maildaemon_adapters.files.server_url import ServerUrl, read_url, url_problems
from maildaemon_adapters.tcp.trust import Trust
from maildaemon_core.errors import InvalidOptions, Problem
from maildaemon_core.options import DestinationOptions, KindFacts, Within, one_line
from maildaemon_core.ports import Destination, Kind

if TYPE_CHECKING:
    from maildaemon_adapters.files.ftp.tree import FtpTree

SCHEMES: Final = ("ftp", "ftps")
EXAMPLE: Final = "ftps://server.example.com/incoming"

FtpTls = Literal["explicit", "implicit", "none"]
"""TLS demanded on the open connection (AUTH TLS, RFC 4217), from the first byte, or everything in plain text."""

PORTS: Final = {"explicit": 21, "implicit": 990, "none": 21}

_ANONYMOUS: Final = frozenset({"anonymous", "ftp"})
"""Whoever logs in under these names gives no password (RFC 1635)."""


@attrs.frozen(kw_only=True)
class FtpSettings:
    """What may stand under ``options`` of a destination of type ``ftp``.

    ``tls``: ``explicit`` demands TLS (AUTH TLS, RFC 4217) before the password is sent, ``implicit`` has it from the
    first byte, ``none`` sends password and files in plain text.  Absent: ``implicit`` on port 990, else ``explicit``,
    whether the URL says ``ftp`` or ``ftps``.
    ``ca_file``: certificates (PEM) that are trusted instead of the system's; a full path.
    ``fingerprints``: SHA-256 of certificates, one of which the server must have; who signed it and for which name then
    does not matter.
    ``connections``: how many transfers may go on at once; many servers allow an account only a few.
    ``connect_seconds``: how long it may take to connect and to log in, in all.
    ``answer_seconds``: how long the server may say nothing while something is awaited.
    """

    tls: FtpTls | None = None
    ca_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})
    fingerprints: tuple[str, ...] = attrs.field(default=(), validator=one_line)
    connections: int = attrs.field(default=1, validator=Within(1, 16))
    connect_seconds: int = attrs.field(default=10, validator=Within(1, 600))
    answer_seconds: int = attrs.field(default=12, validator=Within(1, 3600))

    @property
    def trust(self) -> Trust:
        """Which servers are believed."""
        return Trust(ca_file=self.ca_file, fingerprints=self.fingerprints)


def open_ftp(options: DestinationOptions, settings: FtpSettings) -> Destination:
    """The folder that ``options.url`` names, from the top folder that the account sees.  Connects when first used.

    Raises ``InvalidOptions``.
    """
    return PublishingDestination(tree_of(options, settings), verify=options.verify)


def tree_of(options: DestinationOptions, settings: FtpSettings) -> FtpTree:
    """The tree alone.  Raises as ``open_ftp`` does."""
    if found := problems(options, settings):
        raise InvalidOptions(found)
    from maildaemon_adapters.files.ftp.tree import FtpTree

    password = options.password.value if options.password is not None else ""
    return FtpTree(read_url(options, SCHEMES, EXAMPLE), password, settings)


def tls_of(url: ServerUrl, settings: FtpSettings) -> FtpTls:
    """How the connection is protected: only what is written makes it plain text."""
    return settings.tls or ("implicit" if url.port == PORTS["implicit"] else "explicit")


def problems(options: DestinationOptions, settings: FtpSettings) -> Sequence[Problem]:
    """What of the options this kind can do nothing with."""
    if not options.url:
        return settings.trust.problems()  # that it is missing is said of every kind
    found = [*url_problems(options, SCHEMES, EXAMPLE), *settings.trust.problems()]
    if any(each.path == "$.url" for each in found):
        return found
    url = read_url(options, SCHEMES, EXAMPLE)
    if url.scheme == "ftps" and settings.tls == "none":
        found.append(Problem(path="$.options.tls", message="contradicts ftps in url: leave it out, or write ftp there"))
    if not url.user:
        found.append(Problem(path="$.username", message="required: the account; anonymous is one too, where it may"))
    elif options.password is None and url.user not in _ANONYMOUS:
        found.append(Problem(path="$.password", message=f"required: the password of {url.user}"))
    return found


FTP: Kind[FtpSettings, Destination] = Kind(
    settings=FtpSettings,
    open=open_ftp,
    facts=KindFacts(needs_login=False),
    problems=problems,
)
