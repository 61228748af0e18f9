"""The destination ``s3``: a bucket of Amazon S3, or of any server that speaks its protocol."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import attrs

from maildaemon_adapters.files.needs import missing, require
from maildaemon_adapters.files.objects.reaching import endpoint_problems
from maildaemon_adapters.files.objects.tree import ObjectTree
from maildaemon_adapters.files.publishing import PublishingDestination
from maildaemon_adapters.files.server_url import read_url, url_problems
from maildaemon_adapters.tcp.trust import Trust
from maildaemon_core.errors import InvalidOptions, Problem
from maildaemon_core.options import DestinationOptions, KindFacts, Secret, a_secret, one_line
from maildaemon_core.ports import Destination, Kind

__all__ = ["S3", "S3Settings", "open_s3", "problems"]

EXAMPLE = "s3://bucket/path"

StorageClass = Literal[
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "GLACIER",
    "DEEP_ARCHIVE",
]


def _a_region(_instance: object, _attribute: object, value: str) -> None:
    """A validator: it becomes part of a server's name, so nothing else can be in it.  Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", value):
        raise ValueError("is no region; write one such as eu-central-1")


@attrs.frozen(kw_only=True)
class S3Settings:
    """What may stand under ``options`` of a destination of type ``s3``.

    ``region``: where the bucket is; servers other than Amazon's often know none.
    ``endpoint_url``: a server other than Amazon's, ``https://`` unless ``http://`` is written.
    ``addressing``: whether the bucket is written in the path or in the host name; absent: in the path if there is an
    ``endpoint_url``, else as Amazon wants it.
    ``storage_class``: of the published objects; absent: the bucket's.
    ``encryption``: on the server; absent: as the bucket is set.  ``kms_key_id``: the key of ``aws:kms``.
    ``session_token``: the third part of temporary credentials.
    ``ca_file``: certificates (PEM) that are trusted instead of the public ones; a full path.
    """

    region: str = attrs.field(default="us-east-1", validator=_a_region)
    endpoint_url: str | None = attrs.field(default=None, validator=one_line)
    addressing: Literal["path", "virtual"] | None = None
    storage_class: StorageClass | None = None
    encryption: Literal["AES256", "aws:kms"] | None = None
    kms_key_id: str | None = attrs.field(default=None, validator=one_line)
    session_token: Secret | None = attrs.field(default=None, converter=a_secret)
    ca_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})


def problems(options: DestinationOptions, settings: S3Settings) -> Sequence[Problem]:
    """What of the options this kind cannot do with, and what has to be installed."""
    return [*missing("s3", "botocore"), *_problems(options, settings)]


def _problems(options: DestinationOptions, settings: S3Settings) -> Sequence[Problem]:
    found = [*url_problems(options, {"s3"}, EXAMPLE)]
    if not found:
        url = read_url(options, {"s3"}, EXAMPLE)
        if url.port is not None:
            found.append(
                Problem(path="$.url", message=f"a bucket has no port; write {EXAMPLE}, the server in endpointUrl")
            )
        if url.user is None:
            found.append(Problem(path="$.username", message="required: the access key's id; no other is ever used"))
    if options.password is None:
        found.append(Problem(path="$.password", message="required: the secret access key; no other is ever used"))
    if settings.kms_key_id is not None and settings.encryption != "aws:kms":
        found.append(Problem(path="$.options.kmsKeyId", message="goes with encryption: aws:kms only"))
    return [*found, *endpoint_problems(settings.endpoint_url), *Trust(ca_file=settings.ca_file).problems()]


def open_s3(options: DestinationOptions, settings: S3Settings) -> Destination:
    """The objects of the bucket whose names begin with the path of ``options.url``.

    Touches nothing.  Raises ``InvalidOptions``, ``BrokenPlugin``.
    """
    return PublishingDestination(tree_of(options, settings), verify=options.verify)


def tree_of(options: DestinationOptions, settings: S3Settings) -> ObjectTree:
    """The tree alone.  Raises as ``open_s3`` does."""
    require("s3", "botocore")
    if found := _problems(options, settings):
        raise InvalidOptions(found)
    from maildaemon_adapters.files.s3.store import S3Store

    url = read_url(options, {"s3"}, EXAMPLE)
    assert options.password is not None
    assert url.user is not None
    return ObjectTree(S3Store(url.host, url.user, options.password, settings), url.path)


S3: Kind[S3Settings, Destination] = Kind(
    settings=S3Settings,
    open=open_s3,
    facts=KindFacts(needs_host=False, needs_login=True, needs_path=False),
    problems=problems,
)
