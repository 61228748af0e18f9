"""The kind ``webdav``: folders on a server that speaks WebDAV, over TLS unless plain text was asked for in writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

import attrs

from maildaemon_adapters.files.needs import missing, require
from maildaemon_adapters.files.publishing import PublishingDestination
from maildaemon_adapters.files.server_url import read_url, url_problems
from maildaemon_adapters.tcp.trust import Trust
from maildaemon_core.errors import InvalidOptions, Problem
from maildaemon_core.options import DestinationOptions, KindFacts, Within, one_line
from maildaemon_core.ports import Destination, Kind

if TYPE_CHECKING:
    from maildaemon_adapters.files.webdav.tree import WebDavTree

SCHEMES: Final = ("https", "http", "davs", "dav")
EXAMPLE: Final = "https://cloud.example.com/remote.php/dav/files/mails/incoming"

_PLAIN: Final = frozenset({"http", "dav"})
_PACKAGE: Final = "httpx"


@attrs.frozen(kw_only=True)
class WebDavSettings:
    """What may stand under ``options`` of a destination of type ``webdav``.

    ``tls``: ``none`` is what an address with ``http://`` or ``dav://`` needs beside it, for password and files are then
    sent in plain text; every other has TLS.
    ``auth``: how to log in: ``basic`` (RFC 7617), ``digest`` (RFC 7616), or ``bearer`` with a token (RFC 6750) that is
    written as the password.
    ``ca_file``: certificates (PEM) that are trusted instead of the system's; a full path.
    ``fingerprints``: SHA-256 of certificates, one of which the server must have; who signed it and for which name then
    does not matter.
    ``connections``: how many questions may be asked at once; with ``digest`` it is always one.
    ``connect_seconds``: how long it may take to connect, and then for TLS.
    ``answer_seconds``: how long the server may say nothing while something is awaited.
    """

    tls: Literal["implicit", "none"] | None = None
    auth: Literal["basic", "digest", "bearer"] = "basic"
    ca_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})
    fingerprints: tuple[str, ...] = attrs.field(default=(), validator=one_line)
    connections: int = attrs.field(default=4, validator=Within(1, 16))
    connect_seconds: int = attrs.field(default=7, validator=Within(1, 600))
    answer_seconds: int = attrs.field(default=12, validator=Within(1, 3600))

    @property
    def trust(self) -> Trust:
        """Which servers are believed."""
        return Trust(ca_file=self.ca_file, fingerprints=self.fingerprints)


def open_webdav(options: DestinationOptions, settings: WebDavSettings) -> Destination:
    """The folder that ``options.url`` names.  Connects when first used.

    Raises ``InvalidOptions``, and ``BrokenPlugin`` without the package that it needs.
    """
    return PublishingDestination(tree_of(options, settings), verify=options.verify)


def tree_of(options: DestinationOptions, settings: WebDavSettings) -> WebDavTree:
    """The tree alone.  Raises as ``open_webdav`` does."""
    require("webdav", _PACKAGE)
    if found := problems(options, settings):
        raise InvalidOptions(found)
    from maildaemon_adapters.files.webdav.tree import WebDavTree

    assert options.password is not None
    return WebDavTree(read_url(options, SCHEMES, EXAMPLE), options.password.value, settings)


def problems(options: DestinationOptions, settings: WebDavSettings) -> Sequence[Problem]:
    """What of the options this kind can do nothing with."""
    found = [*missing("webdav", _PACKAGE), *settings.trust.problems()]
    if not options.url:  # that it is missing is said of every kind
        return found
    if wrong := url_problems(options, SCHEMES, EXAMPLE):
        return [*found, *wrong]
    url = read_url(options, SCHEMES, EXAMPLE)
    if url.scheme in _PLAIN and settings.tls != "none":
        message = (
            f"{url.scheme} sends the password in plain text: write https, or tls = none under options to have that"
        )
        found.append(Problem(path="$.url", message=message))
    if url.scheme not in _PLAIN and settings.tls == "none":
        found.append(Problem(path="$.options.tls", message=f"contradicts {url.scheme} in url: leave it out"))
    if settings.auth != "bearer" and not url.user:
        found.append(Problem(path="$.username", message="required: the account"))
    if options.password is None:
        what = "the token" if settings.auth == "bearer" else f"the password of {url.user or 'the account'}"
        found.append(Problem(path="$.password", message=f"required: {what}"))
    return found


WEBDAV: Kind[WebDavSettings, Destination] = Kind(
    settings=WebDavSettings,
    open=open_webdav,
    facts=KindFacts(needs_login=False),
    problems=problems,
)
