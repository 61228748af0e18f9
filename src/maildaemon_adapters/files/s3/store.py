"""A bucket as an object store, by Amazon's own library: what its requests are and what its answers mean."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final

from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConfigValueStore, ConstantProvider
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection
from botocore.loaders import Loader
from botocore.session import Session
from urllib3.exceptions import HTTPError

from maildaemon_adapters.files.objects.reaching import (
    CONNECT_SECONDS,
    SILENT_SECONDS,
    plain_findings,
    server_of,
    unreachable,
    whole_url,
)
from maildaemon_adapters.files.objects.tree import AT_ONCE, MARK, Seen
from maildaemon_adapters.files.s3 import S3Settings
from maildaemon_adapters.files.tree import Fault, Named, TreeError
from maildaemon_adapters.tcp.quiet import only_warnings
from maildaemon_adapters.tcp.words import said
from maildaemon_core.options import Secret
from maildaemon_core.ports import Finding, Level

LARGEST: Final = 5 * 1024**3
"""CopyObject takes no more: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html."""

PATIENT_SECONDS: Final = 120.0
"""How long the server may be silent while it puts together or copies a large object."""

_PIECE: Final = 1 << 18

_LOGIN: Final = {
    "InvalidAccessKeyId": "it knows no such access key",
    "SignatureDoesNotMatch": "the secret access key does not belong to the access key",
    "ExpiredToken": "the temporary credentials have expired",
    "TokenRefreshRequired": "the temporary credentials have expired",
    "InvalidToken": "the session token is not valid",
    "AuthFailure": "it does not accept the access key",
    "NotSignedUp": "the account is not signed up for S3",
}
_FAULTS: Final = (
    ({"PreconditionFailed", "412"}, Fault.EXISTS),
    ({"NoSuchKey", "NoSuchVersion", "404"}, Fault.MISSING),
    (
        {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientCapacity", "507"},
        Fault.FULL,
    ),
    ({"KeyTooLongError", "InvalidURI", "XMinioInvalidObjectName"}, Fault.NAME),
    (
        {"SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded", "429", "503"},
        Fault.BUSY,
    ),
    ({"ConditionalRequestConflict"}, Fault.BUSY),
    ({"AccessDenied", "AllAccessDisabled", "AccountProblem", "KMS.DisabledException", "403"}, Fault.DENIED),
)
"""What codes of S3, of MinIO and of HTTP mean."""

_REGION: Final = {
    *("PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"),
    *("301", "307"),
}


class S3Store:
    """The bucket of that name.  Connects when it is first used.

    Nothing but what is given here is ever used to log in or to find the server: no environment, no ``~/.aws``, no
    metadata of the machine.
    """

    def __init__(self, bucket: str, key_id: str, secret: Secret, settings: S3Settings) -> None:
        only_warnings("botocore", "urllib3")
        self._bucket = bucket
        self._settings = settings
        endpoint = None if settings.endpoint_url is None else whole_url(settings.endpoint_url)
        self._where = server_of(endpoint or f"https://s3.{settings.region}.amazonaws.com")
        self.place = f"s3://{bucket}" if endpoint is None else f"s3+{endpoint}/{bucket}"
        self._session = _session()
        self._login = {
            "aws_access_key_id": key_id,
            "aws_secret_access_key": secret.value,
            "aws_session_token": settings.session_token.value if settings.session_token else None,
        }
        self._endpoint = endpoint
        self._making = threading.Lock()
        self._clients: dict[float, Any] = {}

    largest = LARGEST

    def __repr__(self) -> str:
        return f"S3Store({self.place!r})"

    # ------------------------------------------------------------------------------------------------------- requests

    def head(self, key: str) -> Seen | None:
        try:
            with self._translated():
                found = self._client().head_object(Bucket=self._bucket, Key=key)
        except TreeError as error:
            if error.fault is Fault.MISSING:
                return None
            raise
        return Seen(size=found["ContentLength"], mark=found.get("Metadata", {}).get(MARK, ""), version=found["ETag"])

    def put(self, key: str, data: bytes, mark: str) -> None:
        with self._translated():  # as a file: bytes would be copied once more, behind the request's head
            self._client().put_object(
                Bucket=self._bucket, Key=key, Body=io.BytesIO(data), Metadata={MARK: mark}, **self._encryption()
            )

    def begin(self, key: str, mark: str) -> S3Upload:
        with self._translated():
            begun = self._client().create_multipart_upload(
                Bucket=self._bucket, Key=key, Metadata={MARK: mark}, **self._encryption()
            )
        return S3Upload(self, {"Bucket": self._bucket, "Key": key, "UploadId": begun["UploadId"]})

    def get(self, key: str) -> Iterator[bytes]:
        with self._translated():
            body = self._client().get_object(Bucket=self._bucket, Key=key)["Body"]
            try:
                yield from body.iter_chunks(_PIECE)
            finally:
                body.close()

    def copy(self, source: str, target: str) -> str:
        wanted = {
            "Bucket": self._bucket,
            "Key": target,
            "CopySource": {"Bucket": self._bucket, "Key": source},
            "IfNoneMatch": "*",
            **self._encryption(),
        }
        if self._settings.storage_class is not None:
            wanted["StorageClass"] = self._settings.storage_class
        try:
            with self._translated():
                done = self._client(PATIENT_SECONDS).copy_object(**wanted)
        except _Unheeded:
            del wanted["IfNoneMatch"]
            with self._translated():
                done = self._client(PATIENT_SECONDS).copy_object(**wanted)
        etag: str = done["CopyObjectResult"]["ETag"]
        return etag

    def delete(self, key: str) -> None:
        with _missing_is_fine(), self._translated():
            self._client().delete_object(Bucket=self._bucket, Key=key)

    def names(self, prefix: str) -> Iterator[Named]:
        with self._translated():
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix, Delimiter="/"):
                for each in page.get("CommonPrefixes", ()):
                    yield Named(name=each["Prefix"][len(prefix) : -1], is_folder=True)
                for each in page.get("Contents", ()):
                    yield Named(name=each["Key"][len(prefix) :], is_folder=False)

    def findings(self, trial: str) -> Sequence[Finding]:
        found = [*plain_findings(self._endpoint)]
        other = f"{trial}-2"
        try:
            self.put(trial, b"maildaemon looks", "a")
            self.put(other, b"maildaemon looks", "b")
            try:
                self.copy(trial, other)
            except TreeError as error:
                if error.fault is not Fault.EXISTS:
                    raise
            else:
                found.append(
                    Finding(
                        level=Level.WARNING,
                        subject=self.place,
                        message="this server does not heed a condition on a copy (If-None-Match), so that two "
                        "programs which store under the same name at the same moment may replace each other's object",
                        remedy="let no other program make objects of the same names there, or have the server updated",
                    )
                )
        finally:
            for key in (trial, other):
                with suppress(TreeError):
                    self.delete(key)
        return found

    def close(self) -> None:
        with self._making:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    # --------------------------------------------------------------------------------------------------------- within

    def _encryption(self) -> Mapping[str, str]:
        wanted = {"ServerSideEncryption": self._settings.encryption, "SSEKMSKeyId": self._settings.kms_key_id}
        return {name: value for name, value in wanted.items() if value is not None}

    def _client(self, silent: float = SILENT_SECONDS) -> Any:
        with self._making:
            if silent not in self._clients:
                self._clients[silent] = self._made(silent)
            return self._clients[silent]

    def _made(self, silent: float) -> Any:
        style = self._settings.addressing or ("auto" if self._endpoint is None else "path")
        client = self._session.create_client(
            "s3",
            region_name=self._settings.region,
            endpoint_url=self._endpoint,
            verify=self._settings.ca_file or True,
            config=Config(
                signature_version="s3v4",
                # Signed with its own hash, a body that was damaged on the way is refused, by every server.
                s3={"addressing_style": style, "payload_signing_enabled": True},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=CONNECT_SECONDS,
                read_timeout=silent,
                retries={"mode": "standard", "total_max_attempts": 1},
                max_pool_connections=AT_ONCE,
                proxies={},
                tcp_keepalive=True,
                defaults_mode="legacy",
                ignore_configured_endpoint_urls=True,
            ),
            **self._login,
        )
        client.meta.events.register_last("before-parameter-build.s3", _stay)
        return client

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What the library raises, as a ``TreeError`` without its causes: these hold requests."""
        try:
            yield
        except ClientError as error:
            raise self._refused(error) from None
        except (HTTPClientError, NoConnection, HTTPError, OSError) as error:
            named = "options.endpointUrl" if self._endpoint else "options.region"
            raise unreachable(error, self._where, self._settings.ca_file, named) from None
        except BotoCoreError as error:
            raise TreeError(Fault.OTHER, f"the request cannot be made: {error}") from None

    def _refused(self, error: ClientError) -> TreeError:
        told = error.response.get("Error", {})
        answer = error.response.get("ResponseMetadata", {})
        code, status = str(told.get("Code", "")), str(answer.get("HTTPStatusCode", ""))
        words = f"{said(str(told.get('Message') or 'no reason given'))} ({said(code)})"
        if code in _LOGIN:
            return TreeError(
                Fault.LOGIN,
                f"{self._where} refuses the login: {_LOGIN[code]}",
                remedy="correct username (the access key's id) and password (the secret access key)",
            )
        if code == "RequestTimeTooSkewed":
            return TreeError(Fault.GONE, "this machine's clock is wrong, so no signature is valid", remedy="set it")
        if code == "NoSuchBucket":
            return TreeError(
                Fault.GONE,
                f"{self._where} has no bucket {self._bucket!r}",
                remedy="correct the url, or make the bucket",
            )
        if code in _REGION:
            region = told.get("Region") or answer.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
            return TreeError(
                Fault.GONE,
                f"the bucket {self._bucket!r} is elsewhere: {f'in the region {region}' if region else words}",
                remedy=f"write options.region: {region}" if region else "correct options.region, or the endpoint",
            )
        if code == "NotImplemented" and "if-none-match" in words.lower().replace("_", "-"):
            return _Unheeded(Fault.OTHER, words)
        seconds = answer.get("HTTPHeaders", {}).get("retry-after", "")
        later = float(seconds) if seconds.isdecimal() else None
        for codes, fault in _FAULTS:
            if code in codes or status in codes:
                return TreeError(fault, words, remedy=self._remedy(fault), retry_after=later)
        return TreeError(Fault.OTHER, words)

    def _remedy(self, fault: Fault) -> str:
        if fault is not Fault.DENIED:
            return ""
        return (
            "give the access key the rights s3:PutObject, s3:GetObject, s3:DeleteObject and s3:AbortMultipartUpload on "
            f"the objects and s3:ListBucket on the bucket {self._bucket!r}"
        )


class S3Upload:
    """A multipart upload: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html."""

    def __init__(self, store: S3Store, which: Mapping[str, str]) -> None:
        self._store = store
        self._which = which
        self._parts: list[Mapping[str, Any]] = []
        self._whole = False

    def add(self, block: bytes) -> None:
        number = len(self._parts) + 1
        with self._store._translated():
            done = self._store._client().upload_part(**self._which, PartNumber=number, Body=io.BytesIO(block))
        self._parts.append({"PartNumber": number, "ETag": done["ETag"]})

    def finish(self, rest: bytes) -> None:
        if rest and not self._whole:
            self.add(rest)
        self._whole = True
        with self._store._translated():
            self._store._client(PATIENT_SECONDS).complete_multipart_upload(
                **self._which, MultipartUpload={"Parts": self._parts}
            )

    def discard(self) -> None:
        with _missing_is_fine(), self._store._translated():
            self._store._client().abort_multipart_upload(**self._which)


def _stay(context: dict[str, Any], **_: Any) -> None:
    """Says of a request that it was sent on once already, as often as is allowed.

    A server that says that the bucket is elsewhere would be believed otherwise, and asked where, without an end.
    """
    context.get("s3_redirect", {})["redirected"] = True


class _Unheeded(TreeError):
    """The server knows no condition on a copy, and says so."""


@contextmanager
def _missing_is_fine() -> Iterator[None]:
    try:
        yield
    except TreeError as error:
        if error.fault is not Fault.MISSING:
            raise


def _session() -> Session:
    """A session to which neither the environment nor any file on this machine says anything."""
    session = Session()
    known: dict[str, Any] = {name: default for name, (_, _, default, _) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()}
    known |= {"config_file": os.devnull, "credentials_file": os.devnull, "s3": None, "proxies_config": None}
    constants = {name: ConstantProvider(value) for name, value in known.items()}
    session.register_component("config_store", ConfigValueStore(mapping=constants))
    session.register_component("data_loader", _loader())
    return session


@cache
def _loader() -> Loader:
    """What the library knows of S3: megabytes of JSON, which it would read for each destination anew."""
    return Loader()
