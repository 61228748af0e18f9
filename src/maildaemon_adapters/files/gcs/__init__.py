"""The destination ``gcs``: a bucket of Google Cloud Storage."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from maildaemon_adapters.files.needs import missing, require
from maildaemon_adapters.files.objects.reaching import endpoint_problems, whole_url
from maildaemon_adapters.files.objects.tree import ObjectTree
from maildaemon_adapters.files.publishing import PublishingDestination
from maildaemon_adapters.files.server_url import read_url, url_problems
from maildaemon_adapters.tcp.trust import Trust
from maildaemon_core.errors import InvalidOptions, Problem
from maildaemon_core.options import DestinationOptions, KindFacts, one_line
from maildaemon_core.ports import Destination, Kind

__all__ = ["GCS", "GcsSettings", "open_gcs", "problems"]

EXAMPLE: Final = "gs://bucket/path"
GOOGLE: Final = "https://storage.googleapis.com"

_SCHEMES: Final = frozenset({"gs", "gcs"})
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_NEEDED: Final = ("client_email", "private_key", "token_uri")


@attrs.frozen(kw_only=True)
class GcsSettings:
    """What may stand under ``options`` of a destination of type ``gcs``.

    ``endpoint_url``: where the JSON API is spoken if not at Google's; ``https://`` unless ``http://`` is written.
    ``ca_file``: certificates (PEM) that are trusted instead of the public ones; a full path.
    """

    endpoint_url: str | None = attrs.field(default=None, validator=one_line)
    ca_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})


def problems(options: DestinationOptions, settings: GcsSettings) -> Sequence[Problem]:
    """What of the options this kind cannot do with, and what has to be installed."""
    return [*missing("gcs", "google.oauth2", "requests"), *_problems(options, settings)]


def _problems(options: DestinationOptions, settings: GcsSettings) -> Sequence[Problem]:
    found = [*url_problems(options, _SCHEMES, EXAMPLE)]
    if not found:
        url = read_url(options, _SCHEMES, EXAMPLE)
        if url.port is not None or not _BUCKET.fullmatch(url.host):
            found.append(Problem(path="$.url", message=f"{url.host!r} is no name of a bucket; write {EXAMPLE}"))
        if url.user is not None:
            found.append(Problem(path="$.username", message="the account is in the key already; leave it out"))
    if options.password is None:
        found.append(
            Problem(
                path="$.password",
                message="required: the key of a service account, the whole JSON file, or file:PATH of it; "
                "no other login is ever used",
            )
        )
    return [*found, *endpoint_problems(settings.endpoint_url), *Trust(ca_file=settings.ca_file).problems()]


def open_gcs(options: DestinationOptions, settings: GcsSettings) -> Destination:
    """The objects of the bucket whose names begin with the path of ``options.url``.

    Touches nothing.  Raises ``InvalidOptions``, ``BrokenPlugin``.
    """
    return PublishingDestination(tree_of(options, settings), verify=options.verify)


def tree_of(options: DestinationOptions, settings: GcsSettings) -> ObjectTree:
    """The tree alone.  Raises as ``open_gcs`` does."""
    require("gcs", "google.oauth2", "requests")
    if found := _problems(options, settings):
        raise InvalidOptions(found)
    from maildaemon_adapters.files.gcs.store import GcsStore

    assert options.password is not None
    account = service_account(options.password.value, settings)
    url = read_url(options, _SCHEMES, EXAMPLE)
    try:
        return ObjectTree(GcsStore(url.host, account, settings), url.path)
    except ValueError:  # its words could hold some of the key
        raise _no_key("its private_key cannot be read") from None


def service_account(written: str, settings: GcsSettings) -> Mapping[str, Any]:
    """The key of a service account.  Raises ``InvalidOptions``, which shows nothing of it.

    Where tokens are asked for is part of the key: a server of Google's, or that of the endpoint, and nothing in plain
    text, unless the endpoint is so as well.
    """
    try:
        account = json.loads(written)
    except ValueError:
        raise _no_key("it is no JSON") from None
    if not isinstance(account, dict) or account.get("type") != "service_account":
        raise _no_key("its type is not service_account")
    if absent := [name for name in _NEEDED if not isinstance(account.get(name), str)]:
        raise _no_key(f"it has no {absent[0]}")
    endpoint = urlsplit(whole_url(settings.endpoint_url or GOOGLE).lower())
    tokens = account["token_uri"].lower()
    if not tokens.startswith("https://") and endpoint.scheme != "http":
        raise _no_key("its token_uri is not https")
    if "\\" in tokens or not _gives_tokens(tokens, endpoint.hostname or ""):
        raise _no_key("its token_uri is a server neither of Google's nor of options.endpointUrl")
    return account


def _gives_tokens(url: str, endpoint: str) -> bool:
    """Whether this server is one that may be asked: the key names it, so that nothing else says that it is allowed."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host in {endpoint, "accounts.google.com"} or host.endswith(".googleapis.com")


def _no_key(why: str) -> InvalidOptions:
    return InvalidOptions(
        [
            Problem(
                path="$.password",
                message=f"is not the key of a service account ({why}); make one in the console under IAM, "
                "Service Accounts, Keys, JSON",
            )
        ]
    )


GCS: Kind[GcsSettings, Destination] = Kind(
    settings=GcsSettings,
    open=open_gcs,
    facts=KindFacts(needs_host=False, needs_login=True),
    problems=problems,
)
