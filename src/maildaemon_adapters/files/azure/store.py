"""A container of blobs as an object store, by Microsoft's own library: what its requests are and what answers mean."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

import requests
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import (
    BlobBlock,
    BlobPrefix,
    BlobSasPermissions,
    ContainerClient,
    generate_blob_sas,
)
from urllib3.exceptions import HTTPError

from maildaemon_adapters.files.azure import AzureSettings, is_signature
from maildaemon_adapters.files.objects.reaching import (
    CONNECT_SECONDS,
    SILENT_SECONDS,
    plain_findings,
    server_of,
    unreachable,
    whole_url,
)
from maildaemon_adapters.files.objects.tree import MARK, Seen
from maildaemon_adapters.files.tree import Fault, Named, TreeError
from maildaemon_adapters.tcp.quiet import only_warnings
from maildaemon_core.options import Secret
from maildaemon_core.ports import Finding

LARGEST: Final = 256 * 1024**2
"""Copy Blob From URL takes no more, and nothing else copies so that the copy is seen whole or not at all.

Copy Blob makes an empty blob first:
https://learn.microsoft.com/en-us/rest/api/storageservices/copy-blob-from-url#remarks, …/copy-blob#remarks.
"""

PATIENT_SECONDS: Final = 120.0
"""How long the service may be silent while it copies."""

_PIECE: Final = 1 << 22
_HOUR: Final = timedelta(hours=1)

_LOGIN: Final = {
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
    "NoAuthenticationInformation",
    "AccountIsDisabled",
}
_DENIED: Final = {"AuthorizationFailure", "InsufficientAccountPermissions", "PublicAccessNotPermitted"}
_EXISTS: Final = {"BlobAlreadyExists", "ConditionNotMet", "TargetConditionNotMet"}
_GONE: Final = {
    "ContainerNotFound": "the account has no container {!r}",
    "ContainerDisabled": "the container {!r} is disabled",
    "ContainerBeingDeleted": "the container {!r} is being deleted",
}
_BUSY: Final = {"ServerBusy", "OperationTimedOut"}
_NAME: Final = {"InvalidResourceName", "InvalidUri", "OutOfRangeInput"}
_FULL: Final = {"AccountCapacityExceeded", "InsufficientStorage"}


class AzureStore:
    """The container of that name.  Connects when it is first used; the environment has no say in how."""

    def __init__(self, account: str, container: str, secret: Secret, settings: AzureSettings) -> None:
        only_warnings("azure", "urllib3")
        self._account = account
        self._container = container
        self._secret = secret
        self._settings = settings
        endpoint = whole_url(settings.endpoint_url or f"https://{account}.blob.core.windows.net")
        self._endpoint = endpoint
        self._where = server_of(endpoint)
        own = settings.endpoint_url is not None
        self.place = f"azure+{endpoint}/{container}" if own else f"azure://{account}/{container}"
        self._client = ContainerClient(
            endpoint,
            container,
            credential=AzureSasCredential(secret.value)
            if is_signature(secret.value)
            else AzureNamedKeyCredential(account, secret.value),
            transport=RequestsTransport(
                use_env_settings=False,
                connection_timeout=CONNECT_SECONDS,
                read_timeout=SILENT_SECONDS,
                connection_verify=settings.ca_file or True,
            ),
            retry_total=0,
            permit_redirects=False,
            user_agent_use_env=False,
            max_single_get_size=_PIECE,
            max_chunk_get_size=_PIECE,
        )

    largest = LARGEST

    def __repr__(self) -> str:
        return f"AzureStore({self.place!r})"

    # ------------------------------------------------------------------------------------------------------- requests

    def head(self, key: str) -> Seen | None:
        blob = self._blob(key)
        try:
            with self._translated():
                found = blob.get_blob_properties()
        except TreeError as error:
            if error.fault is Fault.MISSING:
                return None
            raise
        return Seen(size=found.size, mark=(found.metadata or {}).get(MARK, ""), version=str(found.etag))

    def put(self, key: str, data: bytes, mark: str) -> None:
        blob = self._blob(key)
        with self._translated():
            blob.upload_blob(data, length=len(data), overwrite=True, metadata={MARK: mark}, validate_content=True)

    def begin(self, key: str, mark: str) -> AzureUpload:
        return AzureUpload(self._blob(key), mark, self._translated)

    def get(self, key: str) -> Iterator[bytes]:
        blob = self._blob(key)
        with self._translated():
            yield from blob.download_blob(max_concurrency=1).chunks()

    def copy(self, source: str, target: str) -> str:
        # The service reads the source as anybody else does: by a URL that says so itself.
        url, here = self._readable(source), self._blob(target)
        with self._translated():
            done = here.start_copy_from_url(
                url, requires_sync=True, match_condition=MatchConditions.IfMissing, read_timeout=PATIENT_SECONDS
            )
        return str(done["etag"])

    def delete(self, key: str) -> None:
        blob = self._blob(key)
        try:
            with self._translated():
                blob.delete_blob()
        except TreeError as error:
            if error.fault is not Fault.MISSING:
                raise

    def names(self, prefix: str) -> Iterator[Named]:
        with self._translated():
            for each in self._client.walk_blobs(name_starts_with=prefix or None, delimiter="/"):
                if isinstance(each, BlobPrefix):
                    yield Named(name=str(each.name)[len(prefix) : -1], is_folder=True)
                else:
                    yield Named(name=str(each.name)[len(prefix) :], is_folder=False)

    def findings(self, trial: str) -> Sequence[Finding]:
        return plain_findings(self._endpoint)

    def close(self) -> None:
        with suppress(AzureError, OSError):
            self._client.close()

    # --------------------------------------------------------------------------------------------------------- within

    def _blob(self, key: str) -> Any:
        if "\\" in key or key.endswith("."):
            # https://learn.microsoft.com/en-us/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
            raise TreeError(Fault.NAME, "blobs' names hold no backslash, and do not end in a dot")
        return self._client.get_blob_client(key)

    def _readable(self, key: str) -> str:
        url = str(self._blob(key).url)
        if is_signature(self._secret.value):
            return f"{url.partition('?')[0]}?{self._secret.value.removeprefix('?')}"
        signature = generate_blob_sas(
            self._account,
            self._container,
            key,
            account_key=self._secret.value,
            permission=BlobSasPermissions(read=True),
            expiry=datetime.now(UTC) + _HOUR,
        )
        return f"{url}?{signature}"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What the library raises, as a ``TreeError`` without its causes: these hold URLs with signatures."""
        try:
            yield
        except HttpResponseError as error:
            raise self._refused(error) from None
        except (AzureError, requests.RequestException, HTTPError, OSError) as error:
            named = "options.endpointUrl" if self._settings.endpoint_url else "the account in url"
            raise unreachable(error, self._where, self._settings.ca_file, named) from None

    def _refused(self, error: HttpResponseError) -> TreeError:
        said = getattr(error, "error_code", None) or ""
        code, status = str(getattr(said, "value", said)), error.status_code or 0
        reason = f"{code or error.reason or 'refused'} ({status})"
        if code in _LOGIN or status == HTTPStatus.UNAUTHORIZED:
            return TreeError(
                Fault.LOGIN,
                f"{self._where} refuses the login: {reason}",
                remedy="correct password: a key of the account, or a shared access signature that has not expired",
            )
        if code in _GONE:
            return TreeError(
                Fault.GONE, _GONE[code].format(self._container), remedy="correct the url, or make the container"
            )
        response: Any = error.response
        seconds = str(response.headers.get("Retry-After", "")) if response is not None else ""
        later = float(seconds) if seconds.isdecimal() else None
        if code in _EXISTS or status == HTTPStatus.PRECONDITION_FAILED:
            return TreeError(Fault.EXISTS, reason)
        if code in _BUSY or status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            return TreeError(Fault.BUSY, reason, retry_after=later)
        if code in _FULL or status == HTTPStatus.INSUFFICIENT_STORAGE:
            return TreeError(Fault.FULL, reason)
        if code in _NAME:
            return TreeError(Fault.NAME, reason)
        if code in _DENIED or code.startswith("Authorization") or status == HTTPStatus.FORBIDDEN:
            return TreeError(
                Fault.DENIED,
                reason,
                remedy="see that the key or the shared access signature is the right one and has not expired, that a "
                "signature has the permissions read, create, write, delete and list (rcwdl), and that the account's "
                "firewall lets this machine in",
            )
        if isinstance(error, ResourceNotFoundError) or status == HTTPStatus.NOT_FOUND:
            return TreeError(Fault.MISSING, reason)
        return TreeError(Fault.OTHER, reason)


class AzureUpload:
    """Blocks that nobody sees until they are listed: https://learn.microsoft.com/en-us/rest/api/storageservices/put-block."""

    def __init__(self, blob: Any, mark: str, translated: Callable[[], Any]) -> None:
        self._blob = blob
        self._mark = mark
        self._translated = translated
        self._blocks: list[BlobBlock] = []
        self._whole = False

    def add(self, block: bytes) -> None:
        # With the mark in them, blocks of another attempt at the same name are other blocks.
        name = base64.b64encode(f"{self._mark}-{len(self._blocks):06}".encode()).decode()
        with self._translated():
            self._blob.stage_block(name, block, length=len(block), validate_content=True)
        self._blocks.append(BlobBlock(name))

    def finish(self, rest: bytes) -> None:
        if rest and not self._whole:
            self.add(rest)
        self._whole = True
        with self._translated():
            self._blob.commit_block_list(self._blocks, metadata={MARK: self._mark})

    def discard(self) -> None:
        """Unlisted blocks would stay, and cost, for a week; an empty blob of that name throws them away."""
        with self._translated():
            self._blob.upload_blob(b"", length=0, overwrite=True)
