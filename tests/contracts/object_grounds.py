"""Where destinations of object stores are tried out: a server each, how an operator writes it, who looks past it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from maildaemon_adapters.files import azure, gcs, s3
from maildaemon_adapters.files.objects.tree import ObjectTree
from maildaemon_adapters.files.paths import STAGING
from maildaemon_core.codec import read
from maildaemon_core.options import DestinationOptions
from maildaemon_core.ports import Destination, Kind
from tests.servers import azurite, fake_gcs, moto
from tests.servers.certificates import Certificates
from tests.servers.process import LOOPBACK

ROOT = "in/mails"


class Outside(Protocol):
    """The objects below the root, past the adapter."""

    def names(self) -> list[str]: ...

    def files(self) -> Mapping[str, bytes]: ...

    def put(self, path: str, data: bytes) -> None: ...

    def take(self, path: str) -> bytes: ...

    def unfinished(self) -> int:
        """Large objects that were begun and neither finished nor thrown away, as far as the server tells."""
        ...


class Shelf:
    """A consumer: sees all objects but the staged ones."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    def files(self) -> Mapping[str, bytes]:
        return {path: data for path, data in self._outside.files().items() if not path.startswith(f"{STAGING}/")}

    def take(self, path: str) -> bytes:
        return self._outside.take(path)


class Ground(Protocol):
    """A server of one kind."""

    @property
    def kind(self) -> Kind[Any, Destination]: ...

    @property
    def secrets(self) -> tuple[str, ...]:
        """What is never to be seen in a log."""
        ...

    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str: ...

    def fresh(self) -> str:
        """A bucket that no other test has."""
        ...

    def options(self, bucket: str, *, endpoint: str | None = None, **others: Any) -> DestinationOptions:
        """What an operator writes for it; ``endpoint`` in place of the server's own ``url``."""
        ...

    def outside(self, bucket: str) -> Outside: ...

    def stranger(self) -> Mapping[str, str]:
        """A login that the server does not accept."""
        ...


def opened(ground: Ground, options: DestinationOptions) -> Destination:
    return ground.kind.open(options, read(ground.kind.settings, options.options))


def tree_of(options: DestinationOptions) -> ObjectTree:
    match options.kind:
        case "s3":
            return s3.tree_of(options, read(s3.S3Settings, options.options))
        case "azure":
            return azure.tree_of(options, read(azure.AzureSettings, options.options))
        case _:
            return gcs.tree_of(options, read(gcs.GcsSettings, options.options))


@contextmanager
def closing(thing: Any) -> Iterator[Any]:
    try:
        yield thing
    finally:
        thing.close()


def at(ground: Ground, port: int, host: str = LOOPBACK) -> str:
    """The server's URL with another host and port."""
    scheme, _, rest = ground.url.partition("://")
    _, slash, path = rest.partition("/")
    return f"{scheme}://{host}:{port}{slash}{path}"


def _options(
    kind: str, url: str, endpoint: str, tls: Certificates | None, login: Mapping[str, str], others: dict[str, Any]
) -> DestinationOptions:
    known: dict[str, Any] = {"endpointUrl": endpoint}
    if tls is not None:
        known["caFile"] = str(tls.ca)
    known |= others.pop("options", {})
    written = {name: value for name, value in known.items() if value is not None}
    return DestinationOptions(**{"type": kind, "url": url, "options": written, **login, **others})


class S3Ground(moto.Moto):
    kind = s3.S3
    secrets = (moto.SECRET,)

    def fresh(self) -> str:
        name = f"bucket-{uuid.uuid4().hex}"
        self.make_bucket(name)
        return name

    def options(self, bucket: str, *, endpoint: str | None = None, **others: Any) -> DestinationOptions:
        login = {"username": moto.KEY, "password": moto.SECRET}
        return _options("s3", f"s3://{bucket}/{ROOT}", endpoint or self.url, self.certificates, login, others)

    def stranger(self) -> Mapping[str, str]:
        return {"username": "AKIASTRANGER"}

    def outside(self, bucket: str) -> Outside:
        return S3Outside(self, bucket)


class S3Outside:
    def __init__(self, ground: S3Ground, bucket: str) -> None:
        self.client = ground.client()
        self.bucket = bucket

    def names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{ROOT}/")
        return [each["Key"].removeprefix(f"{ROOT}/") for page in pages for each in page.get("Contents", ())]

    def files(self) -> Mapping[str, bytes]:
        return {name: self._get(f"{ROOT}/{name}") for name in self.names()}

    def put(self, path: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"{ROOT}/{path}", Body=data)

    def take(self, path: str) -> bytes:
        data = self._get(f"{ROOT}/{path}")
        self.client.delete_object(Bucket=self.bucket, Key=f"{ROOT}/{path}")
        return data

    def unfinished(self) -> int:
        return len(self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ()))

    def _get(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return data


class AzureGround(azurite.Azurite):
    kind = azure.AZURE
    secrets = (azurite.KEY,)

    def fresh(self) -> str:
        name = f"container-{uuid.uuid4().hex}"
        self.make_container(name)
        return name

    def options(self, bucket: str, *, endpoint: str | None = None, **others: Any) -> DestinationOptions:
        url = f"azure://{azurite.ACCOUNT}/{bucket}/{ROOT}"
        return _options("azure", url, endpoint or self.url, self.certificates, {"password": azurite.KEY}, others)

    def stranger(self) -> Mapping[str, str]:
        return {"password": "c29tZWJvZHkgZWxzZSdzIGtleQ=="}

    def outside(self, bucket: str) -> Outside:
        return AzureOutside(self, bucket)


class AzureOutside:
    def __init__(self, ground: AzureGround, bucket: str) -> None:
        self.container = ground.container(bucket)

    def names(self) -> list[str]:
        found = self.container.list_blob_names(name_starts_with=f"{ROOT}/")
        return [name.removeprefix(f"{ROOT}/") for name in found]

    def files(self) -> Mapping[str, bytes]:
        return {name: self.container.download_blob(f"{ROOT}/{name}").readall() for name in self.names()}

    def put(self, path: str, data: bytes) -> None:
        self.container.upload_blob(f"{ROOT}/{path}", data, overwrite=True)

    def take(self, path: str) -> bytes:
        blob = self.container.get_blob_client(f"{ROOT}/{path}")
        data = blob.download_blob().readall()
        blob.delete_blob()
        return data

    def unfinished(self) -> int:
        found = self.container.list_blobs(include=["uncommittedblobs"])
        return sum(1 for each in found if not each.size)


class GcsGround(fake_gcs.FakeGcs):
    kind = gcs.GCS
    secrets = ("ya29.a-token-of", "PRIVATE KEY")

    def fresh(self) -> str:
        name = f"bucket-{uuid.uuid4().hex}"
        self.make_bucket(name)
        return name

    def options(self, bucket: str, *, endpoint: str | None = None, **others: Any) -> DestinationOptions:
        url = f"gs://{bucket}/{ROOT}"
        where = urlsplit(endpoint or self.url).hostname
        login = {"password": self.account(token_uri=self.tokens.url.replace(LOOPBACK, where or ""))}
        return _options("gcs", url, endpoint or self.url, self.certificates, login, others)

    def stranger(self) -> Mapping[str, str]:
        other = fake_gcs.Tokens()
        other.close()
        return {"password": other.account("mallory", token_uri=self.tokens.url)}

    def outside(self, bucket: str) -> Outside:
        return GcsOutside(self, bucket)


class GcsOutside:
    def __init__(self, ground: GcsGround, bucket: str) -> None:
        self.ground = ground
        self.objects = f"{ground.url}/storage/v1/b/{bucket}/o"
        self.uploads = f"{ground.url}/upload/storage/v1/b/{bucket}/o"

    def names(self) -> list[str]:
        found = []
        query: dict[str, str] = {"prefix": f"{ROOT}/"}
        for _ in itertools.count():
            page = self.ground.session.get(self.objects, params=query, timeout=10).json()
            found += [each["name"].removeprefix(f"{ROOT}/") for each in page.get("items", ())]
            if not page.get("nextPageToken"):
                break
            query["pageToken"] = page["nextPageToken"]
        return found

    def files(self) -> Mapping[str, bytes]:
        return {name: self._get(f"{ROOT}/{name}") for name in self.names()}

    def put(self, path: str, data: bytes) -> None:
        query = {"uploadType": "media", "name": f"{ROOT}/{path}"}
        self.ground.session.post(self.uploads, params=query, data=data, timeout=10).raise_for_status()

    def take(self, path: str) -> bytes:
        data = self._get(f"{ROOT}/{path}")
        self.ground.session.delete(self._object(f"{ROOT}/{path}"), timeout=10).raise_for_status()
        return data

    def unfinished(self) -> int:
        return 0  # what was begun there has no name, and no cost, before it is finished

    def _get(self, key: str) -> bytes:
        answer = self.ground.session.get(self._object(key), params={"alt": "media"}, timeout=10)
        answer.raise_for_status()
        return answer.content

    def _object(self, key: str) -> str:
        return f"{self.objects}/{quote(key, safe='')}"
