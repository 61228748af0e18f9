"""Questions to a WebDAV server and their answers: where to, as whom, how long is waited, and what went wrong."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http.cookiejar import CookieJar, DefaultCookiePolicy
from threading import Lock
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx

from maildaemon_adapters.files.obstructed import obstructed
from maildaemon_adapters.files.server_url import ServerUrl
from maildaemon_adapters.files.tree import Fault, TreeError
from maildaemon_adapters.files.webdav import WebDavSettings
from maildaemon_adapters.files.webdav.words import Answer, fault_of
from maildaemon_adapters.tcp.obstacles import obstacle_of
from maildaemon_adapters.tcp.quiet import only_warnings
from maildaemon_adapters.tcp.trust import Unusable
from maildaemon_adapters.tcp.words import said

T = TypeVar("T")

PORTS: Final = {"https": 443, "http": 80}

SLOWEST: Final = 1 << 20
"""Bytes a second at which a server may look at a file (for viruses, say) before it confirms it."""

_BODY: Final = 1 << 14
"""Bytes of an answer that are looked at for what the server says."""

_LOGGERS: Final = ("httpx", "httpcore", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy")))

_CUT: Final = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
"""So ends a question over a connection that the server had given up while it rested."""


class Asking:
    """Asks one server below one address, over connections that are kept; used by several threads.

    ``secret`` is the password, or the token of ``bearer``.  Nobody is ever followed anywhere, and the environment says
    nothing about proxies, passwords or certificates.
    """

    def __init__(self, url: ServerUrl, secret: str, settings: WebDavSettings) -> None:
        only_warnings(*_LOGGERS)  # they write names of files into the log, and cookies
        self.auth = settings.auth
        self._url = url
        self._secret = secret
        self._settings = settings
        self._client: httpx.Client | None = None
        self._opening = Lock()
        # A digest counts the questions, and what it counts goes wrong when two ask at once.
        self._in_turn: AbstractContextManager[Any] = Lock() if settings.auth == "digest" else nullcontext()

    def address(self, path: str, *, folder: bool = False) -> str:
        """The URL of a path, every character of a name escaped that could be taken for something else.

        ``../`` at its beginning leads to the folders above the root.
        """
        host = f"[{self._url.host}]" if ":" in self._url.host else self._url.host
        port = f":{self._url.port}" if self._url.port else ""
        if any(character < " " or character == "\x7f" for character in path):
            raise TreeError(Fault.NAME, "a name holds control characters, which WebDAV cannot carry")
        root = self._url.path.split("/")
        while path.startswith("../"):
            path, root = path.removeprefix("../"), root[:-1]
        names = [quote(name, safe="") for name in (*root, *path.split("/")) if name]
        return f"{self._url.scheme}://{host}{port}/{'/'.join(names)}{'/' if folder and names else ''}"

    def ask(
        self,
        method: str,
        path: str,
        read: Callable[[httpx.Response], T],
        *,
        folder: bool = False,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        again: bool = True,
    ) -> T:
        """What ``read`` makes of the answer to a question.

        A question over a connection that had ended while it rested is asked ``again`` over another.  ``folder``: the
        address ends in a slash.  Raises ``TreeError`` if there is no answer.
        """
        try:
            with self.answering(method, path, folder=folder, headers=headers, content=content) as response:
                return read(response)
        except _Cut:
            if not again:
                raise
        with self.answering(method, path, folder=folder, headers=headers, content=content) as response:
            return read(response)

    def send(self, path: str, pieces: Iterable[bytes], size: int) -> Answer:
        """The answer to a file of ``size`` bytes that is stored.  Raises ``TreeError``, and what ``pieces`` raises.

        The last bytes are held back until ``pieces`` has come to its end.
        """
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        wait = self._settings.answer_seconds + size / SLOWEST
        with self.answering("PUT", path, headers=headers, content=_held_back(pieces), wait=wait) as response:
            return answer_of(response)

    @contextmanager
    def answering(
        self,
        method: str,
        path: str,
        *,
        folder: bool = False,
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
        wait: float | None = None,
    ) -> Iterator[httpx.Response]:
        """An answer that is still to be read."""
        client = self._opened()
        try:
            request = client.build_request(
                method,
                self.address(path, folder=folder),
                headers=headers,
                content=content,
                timeout=self._timeout(wait),
            )
        except (httpx.InvalidURL, UnicodeError) as error:
            raise TreeError(Fault.NAME, f"no URL can name it: {error}", remedy="change the path template") from None
        try:
            with self._in_turn:
                response = client.send(request, stream=True)
            try:
                yield response
            finally:
                response.close()
        except httpx.StreamConsumed:
            failure = TreeError(Fault.BUSY, "the server asked for the login again in the middle")
        except httpx.HTTPError as error:
            failure = self._lost(error)
        else:
            return
        raise failure

    def fault(self, answer: Answer) -> TreeError:
        """What an answer that is no success means."""
        return fault_of(answer, self.auth, self._url.user)

    def close(self) -> None:
        """Ends all connections.  Twice is the same as once."""
        with self._opening:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    # ----------------------------------------------------------------------------------------------------- connections

    def _opened(self) -> httpx.Client:
        with self._opening:
            if self._client is None:
                self._client = httpx.Client(
                    auth=self._login(),
                    verify=self._context(),
                    trust_env=False,
                    follow_redirects=False,
                    cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                    headers={"User-Agent": "maildaemon", "Accept-Encoding": "identity"},
                    limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=20),
                )
            return self._client

    def _context(self) -> ssl.SSLContext | bool:
        if self._url.scheme != "https":
            return False  # nothing is checked where there is nothing to check
        try:
            return self._settings.trust.context()
        except Unusable as error:
            raise self._obstructed(error) from None

    def _login(self) -> httpx.Auth:
        user = self._url.user or ""
        match self.auth:
            case "basic":
                return httpx.BasicAuth(user, self._secret)
            case "digest":
                return httpx.DigestAuth(user, self._secret)
            case "bearer":
                return _Bearer(self._secret)

    def _timeout(self, wait: float | None) -> httpx.Timeout:
        answer = self._settings.answer_seconds
        return httpx.Timeout(
            connect=self._settings.connect_seconds, read=answer if wait is None else wait, write=answer, pool=answer
        )

    def _lost(self, error: httpx.HTTPError) -> TreeError:
        if isinstance(error, (httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout)):
            return TreeError(
                Fault.GONE,
                f"the server said nothing for {self._settings.answer_seconds:g} s",
                remedy="see whether the server is overloaded; options.answerSeconds says how long is waited",
            )
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            return self._obstructed(_cause(error))
        what = f"the connection broke: {said(str(_cause(error))) or type(error).__name__}"
        remedy = (
            "it will be tried again; if it always breaks, check the port, and whether it speaks http:// or https://"
        )
        return (_Cut if isinstance(error, _CUT) else TreeError)(Fault.GONE, what, remedy=remedy)

    def _obstructed(self, error: BaseException) -> TreeError:
        where = self._url.server(PORTS[self._url.scheme])
        hint = f"{'http' if self._url.scheme == 'https' else 'https'}:// may be what this port speaks"
        return obstructed(
            obstacle_of(error, where, seconds=self._settings.connect_seconds, trust=self._settings.trust, hint=hint)
        )


class _Cut(TreeError):
    """The connection ended before there was an answer."""


class _Bearer(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def _held_back(pieces: Iterable[bytes]) -> Iterator[bytes]:
    last = b""
    for piece in pieces:
        if last:
            yield last
        last = piece
    if last:
        yield last


def answer_of(response: httpx.Response) -> Answer:
    """The answer with as much of its body as anybody looks at; the rest is left with its connection."""
    body = b""
    for piece in response.iter_raw():
        body += piece
        if len(body) > _BODY:
            break
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status_code, reason=response.reason_phrase, headers=headers, body=body)


def _cause(error: BaseException) -> BaseException:
    """What the libraries have wrapped."""
    inner: BaseException | None = error
    while inner is not None:
        error = inner
        inner = error.__cause__ or error.__context__
    return error
