"""The destination ``azure``: a container of an Azure storage account."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

import attrs

from maildaemon_adapters.files.needs import missing, require
from maildaemon_adapters.files.objects.reaching import endpoint_problems
from maildaemon_adapters.files.objects.tree import ObjectTree
from maildaemon_adapters.files.publishing import PublishingDestination
from maildaemon_adapters.files.server_url import ServerUrl, read_url, url_problems
from maildaemon_adapters.tcp.trust import Trust
from maildaemon_core.errors import InvalidOptions, Problem
from maildaemon_core.options import DestinationOptions, KindFacts, one_line
from maildaemon_core.ports import Destination, Kind

__all__ = ["AZURE", "AzureSettings", "open_azure", "problems"]

EXAMPLE: Final = "azure://account/container/path"

_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER: Final = re.compile(r"[a-z0-9](?:-?[a-z0-9])+")


@attrs.frozen(kw_only=True)
class AzureSettings:
    """What may stand under ``options`` of a destination of type ``azure``.

    ``endpoint_url``: the account's blob service where it is not ``https://ACCOUNT.blob.core.windows.net``: in another
    cloud, or an emulator; ``https://`` unless ``http://`` is written.
    ``ca_file``: certificates (PEM) that are trusted instead of the public ones; a full path.
    """

    endpoint_url: str | None = attrs.field(default=None, validator=one_line)
    ca_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})


def problems(options: DestinationOptions, settings: AzureSettings) -> Sequence[Problem]:
    """What of the options this kind cannot do with, and what has to be installed."""
    return [*missing("azure", "azure.storage.blob"), *_problems(options, settings)]


def _problems(options: DestinationOptions, settings: AzureSettings) -> Sequence[Problem]:
    found = [*url_problems(options, {"azure"}, EXAMPLE)]
    if not found:
        url = read_url(options, {"azure"}, EXAMPLE)
        container = url.path.partition("/")[0]
        if url.port is not None or not _ACCOUNT.fullmatch(url.host):
            found.append(Problem(path="$.url", message=f"{url.host!r} is no name of an account; write {EXAMPLE}"))
        elif not _CONTAINER.fullmatch(container):
            found.append(Problem(path="$.url", message=f"{container!r} is no name of a container; write {EXAMPLE}"))
        if url.user is not None:
            found.append(Problem(path="$.username", message="the account is in the url already; leave it out"))
    if options.password is None:
        found.append(
            Problem(
                path="$.password",
                message="required: a key of the account, or a shared access signature; no other login is ever used",
            )
        )
    return [*found, *endpoint_problems(settings.endpoint_url, path=True), *Trust(ca_file=settings.ca_file).problems()]


def open_azure(options: DestinationOptions, settings: AzureSettings) -> Destination:
    """The blobs of the container whose names begin with the rest of the path of ``options.url``.

    Touches nothing.  Raises ``InvalidOptions``, ``BrokenPlugin``.
    """
    return PublishingDestination(tree_of(options, settings), verify=options.verify)


def tree_of(options: DestinationOptions, settings: AzureSettings) -> ObjectTree:
    """The tree alone.  Raises as ``open_azure`` does."""
    require("azure", "azure.storage.blob")
    if found := _problems(options, settings):
        raise InvalidOptions(found)
    assert options.password is not None
    if not is_signature(options.password.value) and not _is_key(options.password.value):
        raise InvalidOptions(
            [Problem(path="$.password", message="is neither a key of an account nor a shared access signature")]
        )
    from maildaemon_adapters.files.azure.store import AzureStore

    url: ServerUrl = read_url(options, {"azure"}, EXAMPLE)
    container, _, root = url.path.partition("/")
    return ObjectTree(AzureStore(url.host, container, options.password, settings), root)


def is_signature(password: str) -> bool:
    """Whether this is a shared access signature rather than an account's key: a query with a ``sig`` in it."""
    return "sig=" in password


def _is_key(password: str) -> bool:
    try:
        return len(base64.b64decode(password, validate=True)) > 0
    except (binascii.Error, ValueError):
        return False


AZURE: Kind[AzureSettings, Destination] = Kind(
    settings=AzureSettings,
    open=open_azure,
    facts=KindFacts(needs_host=False, needs_login=True),
    problems=problems,
)
