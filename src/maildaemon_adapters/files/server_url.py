"""Where on which server a destination is: its ``url`` taken apart, with everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import SplitResult, unquote, urlsplit

import attrs

from maildaemon_adapters.files.paths import component
from maildaemon_core.errors import InvalidOptions, Permanent, Problem
from maildaemon_core.options import DestinationOptions


@attrs.frozen(kw_only=True)
class ServerUrl:
    """``scheme://user@host:port/path``: ``port`` None for the protocol's own, ``path`` without slashes at its ends.

    ``user`` is the one in the URL, or that of the options; ``host`` in lower case, an IPv6 address without brackets.
    """

    scheme: str
    host: str
    port: int | None
    user: str | None
    path: str

    def server(self, default_port: int) -> str:
        """``host:port``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port or default_port}"

    def place(self, default_port: int) -> str:
        """The same in one form for each server, account and path; paths are compared as they are written."""
        user = f"{self.user}@" if self.user else ""
        return f"{self.scheme}://{user}{self.server(default_port)}/{self.path}"


def read_url(options: DestinationOptions, schemes: Collection[str], example: str) -> ServerUrl:
    """Takes ``options.url`` apart; ``example`` is shown to whoever wrote something else.  Raises ``InvalidOptions``."""
    found = url_problems(options, schemes, example)
    if found:
        raise InvalidOptions(found)
    parts = urlsplit(options.url or "")
    user = unquote(parts.username) if parts.username else None
    return ServerUrl(
        scheme=parts.scheme.lower(),
        host=(parts.hostname or "").lower(),
        port=parts.port,
        user=options.username or user,
        path="/".join(filter(None, unquote(parts.path).split("/"))),
    )


def url_problems(options: DestinationOptions, schemes: Collection[str], example: str) -> Sequence[Problem]:
    """What is wrong with the URL, as problems of the destination; touches nothing."""
    url = options.url or ""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError as error:
        return [Problem(path="$.url", message=f"this is no URL ({error}); write {example}")]
    return [Problem(path="$.url", message=fault)] if (fault := _fault(parts, options, schemes, example)) else []


def _fault(parts: SplitResult, options: DestinationOptions, schemes: Collection[str], example: str) -> str:
    if parts.scheme.lower() not in schemes:
        return f"a destination of type {options.kind} needs a url such as {example}"
    if "\\" in parts.netloc:  # to some programs it ends the server's name, to others it does not
        return "a backslash in front of the path is written %5C; or write the user as username"
    if not parts.hostname:
        return f"the url names no server; write {example}"
    if parts.query or parts.fragment:
        return "a url of a destination has no ? and no #; write %3F and %23, or put settings under options"
    if parts.username and options.username and unquote(parts.username) != options.username:
        return "the url and username name two different users; leave one of them out"
    try:
        for part in filter(None, unquote(parts.path).split("/")):
            component(part, parts.path)
    except Permanent as error:
        return error.message
    return ""
