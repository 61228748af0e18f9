"""A bucket as an object store, by the JSON API of Google Cloud Storage: https://cloud.google.com/storage/docs/json_api."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlsplit

import requests
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials
from urllib3.exceptions import HTTPError

from maildaemon_adapters.files.gcs import GOOGLE, GcsSettings
from maildaemon_adapters.files.objects.reaching import (
    CONNECT_SECONDS,
    SILENT_SECONDS,
    plain_findings,
    server_of,
    unreachable,
    whole_url,
)
from maildaemon_adapters.files.objects.tree import AT_ONCE, MARK, Seen
from maildaemon_adapters.files.tree import Fault, Named, TreeError
from maildaemon_adapters.tcp.quiet import only_warnings
from maildaemon_adapters.tcp.words import said
from maildaemon_core.ports import Finding

LARGEST: Final = 5 * 1024**4
"""The largest object that there can be; a rewrite of any size is seen when it is done."""

SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_write"

PATIENT_SECONDS: Final = 60.0
"""How long a step of a copy may take; the service answers sooner, and goes on when it is asked again."""

_PIECE: Final = 1 << 18
_INCOMPLETE: Final = 308
_BUSY: Final = {"rateLimitExceeded", "userRateLimitExceeded", "backendError", "slowDown"}
_FULL: Final = {"quotaExceeded", "dailyLimitExceeded", "storageQuotaExceeded"}


class GcsStore:
    """The bucket of that name.  Connects when it is first used.

    Only ``account``, the key of a service account, is ever used to log in: neither the environment nor the metadata of
    the machine.  Raises ValueError if the key cannot be read.
    """

    def __init__(self, bucket: str, account: Mapping[str, Any], settings: GcsSettings) -> None:
        only_warnings("google", "urllib3")
        endpoint = whole_url(settings.endpoint_url or GOOGLE)
        self._bucket = bucket
        self._settings = settings
        self._endpoint = endpoint
        self._where = server_of(endpoint)
        self._of_tokens = server_of(str(account["token_uri"]))
        self.place = f"gs://{bucket}" if settings.endpoint_url is None else f"gs+{endpoint}/{bucket}"
        self._objects = f"{endpoint}/storage/v1/b/{bucket}/o"
        self._uploads = f"{endpoint}/upload/storage/v1/b/{bucket}/o"
        self._session = _session(settings)
        self._logging_in = threading.Lock()
        self._credentials = _credentials(account)
        self._request = _Timed(_session(settings))

    largest = LARGEST

    def __repr__(self) -> str:
        return f"GcsStore({self.place!r})"

    # ------------------------------------------------------------------------------------------------------- requests

    def head(self, key: str) -> Seen | None:
        try:
            found = self._asked("GET", self._object(key), params={"fields": "size,generation,metadata"}).json()
        except TreeError as error:
            if error.fault is Fault.MISSING:
                return None
            raise
        mark = found.get("metadata", {}).get(MARK, "")
        return Seen(size=int(found["size"]), mark=mark, version=str(found["generation"]))

    def put(self, key: str, data: bytes, mark: str) -> None:
        edge = secrets.token_hex(16)
        about = json.dumps({"name": key, "metadata": {MARK: mark}}).encode()
        body = b"".join(
            (
                *(f"--{edge}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode(), about),
                *(f"\r\n--{edge}\r\nContent-Type: application/octet-stream\r\n\r\n".encode(), data),
                f"\r\n--{edge}--\r\n".encode(),
            )
        )
        self._asked(
            *("POST", self._uploads),
            params={"uploadType": "multipart", "fields": "generation"},
            data=body,
            headers={"Content-Type": f"multipart/related; boundary={edge}"},
            bucket=True,
        )

    def begin(self, key: str, mark: str) -> GcsUpload:
        begun = self._asked(
            *("POST", self._uploads),
            params={"uploadType": "resumable"},
            json={"name": key, "metadata": {MARK: mark}},
            headers={"X-Upload-Content-Type": "application/octet-stream"},
            bucket=True,
        )
        # Whatever host it names: what is sent there has a token with it.
        way = urlsplit(begun.headers.get("Location", ""))
        return GcsUpload(self, f"{self._endpoint}{way.path}?{way.query}")

    def get(self, key: str) -> Iterator[bytes]:
        answer = self._asked("GET", self._object(key), params={"alt": "media"}, stream=True)
        with self._translated(), answer:
            yield from answer.iter_content(_PIECE)

    def copy(self, source: str, target: str) -> str:
        way = f"{self._object(source)}/rewriteTo/b/{self._bucket}/o/{quote(target, safe='')}"
        # ifGenerationMatch=0: only if there is no such object.
        query = {"ifGenerationMatch": "0"}
        while True:
            done = self._asked("POST", way, params=query, timeout=(CONNECT_SECONDS, PATIENT_SECONDS)).json()
            if done["done"]:
                return str(done["resource"]["generation"])
            query["rewriteToken"] = done["rewriteToken"]

    def delete(self, key: str) -> None:
        try:
            self._asked("DELETE", self._object(key))
        except TreeError as error:
            if error.fault is not Fault.MISSING:
                raise

    def names(self, prefix: str) -> Iterator[Named]:
        query = {"prefix": prefix, "delimiter": "/", "fields": "prefixes,items(name),nextPageToken"}
        while True:
            page = self._asked("GET", self._objects, params=query, bucket=True).json()
            for each in page.get("prefixes", ()):
                yield Named(name=each[len(prefix) : -1], is_folder=True)
            for each in page.get("items", ()):
                yield Named(name=each["name"][len(prefix) :], is_folder=False)
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]

    def findings(self, trial: str) -> Sequence[Finding]:
        return plain_findings(self._settings.endpoint_url)

    def close(self) -> None:
        self._session.close()
        self._request.session.close()

    # --------------------------------------------------------------------------------------------------------- within

    def _object(self, key: str) -> str:
        return f"{self._objects}/{quote(key, safe='')}"

    def _asked(
        self, method: str, url: str, *, bucket: bool = False, also: Sequence[int] = (), **how: Any
    ) -> requests.Response:
        """The answer to a request; ``bucket``: what is missing can only be the bucket; ``also``: answers that are fine.

        Raises ``TreeError``.
        """
        headers = dict(how.pop("headers", {}))
        how.setdefault("timeout", (CONNECT_SECONDS, SILENT_SECONDS))
        with self._translated():
            with self._logging_in:
                self._credentials.before_request(self._request, method, url, headers)
            answer = self._session.request(method, url, headers=headers, allow_redirects=False, **how)
            if answer.status_code in {HTTPStatus.OK, HTTPStatus.NO_CONTENT, *also}:
                return answer
            with answer:
                raise self._refused(answer, bucket=bucket)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What the libraries raise, as a ``TreeError`` without its causes: these hold requests."""
        try:
            yield
        except RefreshError as error:
            reason = error.args[0] if error.args and isinstance(error.args[0], str) else "no reason given"
            raise TreeError(
                Fault.LOGIN,
                f"{self._of_tokens} gives the service account no token: {said(reason)}",
                remedy="see that the account and this key of it are there and enabled; else make a new key",
            ) from None
        except TransportError as error:
            raise unreachable(error, self._of_tokens, self._settings.ca_file) from None
        except (requests.RequestException, HTTPError, GoogleAuthError, OSError) as error:
            raise unreachable(error, self._where, self._settings.ca_file) from None

    def _refused(self, answer: requests.Response, *, bucket: bool) -> TreeError:
        status = answer.status_code
        try:
            told = answer.json()["error"]
            words = said(str(told["message"]))
            why = str(told["errors"][0]["reason"])
        except (ValueError, LookupError, TypeError, requests.RequestException):
            words, why = answer.reason or "no reason given", ""
        what = f"{words} ({status})"
        if status == HTTPStatus.NOT_FOUND:
            if bucket or "bucket does not exist" in words:
                return TreeError(
                    Fault.GONE, f"there is no bucket {self._bucket!r}", remedy="correct the url, or make the bucket"
                )
            return TreeError(Fault.MISSING, what)
        if status == HTTPStatus.PRECONDITION_FAILED:
            return TreeError(Fault.EXISTS, what)
        if why in _BUSY or status in {
            HTTPStatus.TOO_MANY_REQUESTS,
            HTTPStatus.SERVICE_UNAVAILABLE,
            HTTPStatus.REQUEST_TIMEOUT,
        }:
            seconds = answer.headers.get("Retry-After", "")
            return TreeError(Fault.BUSY, what, retry_after=float(seconds) if seconds.isdecimal() else None)
        if why in _FULL or status == HTTPStatus.INSUFFICIENT_STORAGE:
            return TreeError(Fault.FULL, what)
        if status == HTTPStatus.UNAUTHORIZED:
            return TreeError(Fault.LOGIN, f"{self._where} refuses the login: {what}")
        if status == HTTPStatus.FORBIDDEN:
            return TreeError(
                Fault.DENIED,
                what,
                remedy=f"give the service account the role Storage Object User on the bucket {self._bucket!r}; "
                "a retention policy or a hold that forbids to delete objects cannot be used",
            )
        return TreeError(Fault.OTHER, what)


class GcsUpload:
    """A resumable upload: https://cloud.google.com/storage/docs/performing-resumable-uploads."""

    def __init__(self, store: GcsStore, url: str) -> None:
        self._store = store
        self._url = url
        self._sent = 0
        self._unsure = False

    def add(self, block: bytes) -> None:
        self._send(block, "*")

    def finish(self, rest: bytes) -> None:
        self._send(rest, str(self._sent + len(rest)))

    def discard(self) -> None:
        # "499 Client Closed Request" is how the service says that it is done.
        self._store._asked("DELETE", self._url, also=(499, HTTPStatus.NOT_FOUND))

    def _send(self, block: bytes, total: str) -> None:
        if self._unsure:  # how much of it arrived would have to be asked, and not every server answers that truly
            raise TreeError(Fault.GONE, f"the connection with {self._store._where} broke in the middle of an upload")
        end = self._sent + len(block)
        about = f"bytes {self._sent}-{end - 1}/{total}" if block else f"bytes */{total}"
        self._unsure = True
        answer = self._store._asked(
            *("PUT", self._url),
            data=block,
            headers={"Content-Range": about},
            also=(_INCOMPLETE, HTTPStatus.CREATED),
        )
        if (answer.status_code == _INCOMPLETE) is not (total == "*"):
            raise TreeError(Fault.OTHER, "the upload went wrong on the server")
        # The service may keep less than it was sent, and says so.
        if total == "*" and answer.headers.get("Range", "").rpartition("-")[2] != str(end - 1):
            raise TreeError(Fault.GONE, f"{self._store._where} kept only some of what was sent")
        self._unsure = False
        self._sent = end


class _Timed(Request):
    """Asks for tokens within the same time limits as for everything else, and follows nobody elsewhere."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        kwargs |= {"timeout": (CONNECT_SECONDS, SILENT_SECONDS), "allow_redirects": False}
        return super().__call__(*args, **kwargs)  # type: ignore[no-untyped-call]


def _credentials(account: Mapping[str, Any]) -> Any:
    return Credentials.from_service_account_info(dict(account), scopes=[SCOPE])  # type: ignore[no-untyped-call]


def _session(settings: GcsSettings) -> requests.Session:
    """Connections that take nothing from the environment: no proxy, no certificates, no ``.netrc``."""
    session = requests.Session()
    session.trust_env = False
    session.verify = settings.ca_file or True
    session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=AT_ONCE))
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=AT_ONCE))
    return session
