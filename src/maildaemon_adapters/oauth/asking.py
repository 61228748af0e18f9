"""A few HTTP requests to a server that gives tokens, all of them within one time limit.

The connection is made over a ``Line``, in the thread that asks: so it is judged as the work of the mailbox that it is
for, every wait has an end, and what is trusted is what ``Trust`` says, whatever REQUESTS_CA_BUNDLE and the like may
name.  Redirects are not followed: a secret goes to the address that was written, or nowhere.
"""

from __future__ import annotations

import base64
import http.client
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import unquote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import attrs

from maildaemon_adapters.oauth.settings import url_fault
from maildaemon_adapters.tcp.line import Line
from maildaemon_adapters.tcp.obstacles import obstacle_of
from maildaemon_adapters.tcp.patience import Patience
from maildaemon_adapters.tcp.trust import Trust, Unusable
from maildaemon_core.errors import MaildaemonError, SourceUnavailable

SECONDS: Final = 15.0
"""How long everything together may take until there is a token."""

LARGEST: Final = 1 << 20
"""Bytes of an answer that are read; tokens have some thousands."""

LONGEST_WAIT: Final = 3600.0
"""Seconds: what a server asks us to wait beyond that is taken for this."""

MICROSOFTS: Final = frozenset(
    """
    login.microsoftonline.com login.microsoft.com login.windows.net sts.windows.net login.microsoftonline.us
    login.partner.microsoftonline.cn login.chinacloudapi.cn
    """.split()
)
"""The hosts that are asked through the proxy of the environment (HTTPS_PROXY, NO_PROXY).

Only these: behind a proxy nobody can judge where a connection ends, and editors of mailboxes may name any other.
"""


@attrs.frozen(kw_only=True)
class Answer:
    """What a server answered; its fields are named as ``msal`` wants them.  ``body`` is the object that it holds."""

    status_code: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    text: str = attrs.field(repr=False)
    body: Mapping[str, Any] = attrs.field(repr=False)

    def raise_for_status(self) -> None:
        """Nothing: what is worth an error has become one before."""


class _Deadline(Patience):
    """Patience that ends at one moment for everything, however much arrives."""

    def __init__(self, seconds: float) -> None:
        self._begun = False
        super().__init__(stall=seconds, allowance=seconds)

    def restart(self, seconds: float | None = None) -> None:
        if not self._begun:
            self._begun = True
            super().restart()

    def progressed(self, octets: int) -> None:
        pass


class Asker:
    """Asks within ``seconds`` in all.  It is what ``msal`` calls an HTTP client, and speaks with one server at a time.

    ``named``: the setting that names the server.  ``plain``: http:// is taken on this machine.  Its methods raise
    ``SourceUnavailable`` and ``OutOfBounds``; ``failure`` is what they raised last, ``last`` the answer before.
    """

    def __init__(self, trust: Trust, *, named: str, plain: bool = False, seconds: float = SECONDS) -> None:
        self._trust = trust
        self._named = named
        self._plain = plain
        self._seconds = seconds
        self._patience = _Deadline(seconds)
        self.failure: MaildaemonError | None = None
        self.last: Answer | None = None

    def get(self, url: str, *, headers: Mapping[str, str] | None = None, **_: object) -> Answer:
        return self._ask("GET", url, headers or {}, b"")

    def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Mapping[str, Any] | None = None,
        **_: object,
    ) -> Answer:
        """Sends a form."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", url, {**(headers or {}), **form}, urlencode(data or {}).encode())

    def close(self) -> None:
        """Nothing is left open between two requests."""

    # --------------------------------------------------------------------------------------------------------- within

    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        self.last = None
        if fault := url_fault(url, plain=self._plain):  # an authority names the further addresses itself
            raise self._noted(SourceUnavailable(f"{self._named} leads to an address that is not asked: {fault}"))
        parts = urlsplit(url)
        where = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        proxy = _proxy(parts.hostname or "") if parts.scheme == "https" else None
        near = where if proxy is None else f"the proxy {proxy.host}:{proxy.port}"
        line: Line | None = None
        try:
            line = self._connected(where, parts.scheme == "https", proxy)
            near = where
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            line.send(_request(method, target, {"Host": parts.netloc, **headers}, body))
            status, told, raw = _answer(line, method)
        except _Refusing as error:
            made: MaildaemonError = error.made
        except (http.client.HTTPException, _Endless):
            made = SourceUnavailable(
                f"{near} does not answer as a web server does", remedy=f"check {self._named} and its port"
            )
        except (OSError, UnicodeError, Unusable) as error:
            made = self._unreachable(error, near)
        else:
            return self._understood(where, status, told, raw)
        finally:
            if line is not None:
                line.close()
        raise self._noted(made)

    def _connected(self, where: str, tls: bool, proxy: _Proxy | None) -> Line:
        context = self._trust.context() if tls else None
        seconds = max(self._patience.wait(), 0.1)
        host, _, port = where.rpartition(":")
        if proxy is None:
            return Line(host, int(port), context=context, connect_seconds=seconds, patience=self._patience)
        line = Line(proxy.host, proxy.port, context=None, connect_seconds=seconds, patience=self._patience)
        try:
            line.send(_request("CONNECT", where, {"Host": where, "Proxy-Authorization": proxy.login}, b""))
            status, _, _ = _answer(line, "CONNECT")
            if status != HTTPStatus.OK:
                raise _Refusing(
                    SourceUnavailable(
                        f"no token: the proxy {proxy.host}:{proxy.port} does not connect to {where} ({status})",
                        remedy="check HTTPS_PROXY and NO_PROXY of this process, and the login in it",
                    )
                )
            assert context is not None
            line.host = host  # whose certificate is to be seen now
            if not line.secure(context):
                raise http.client.HTTPException
        except BaseException:
            line.close()
            raise
        return line

    def _unreachable(self, error: BaseException, where: str) -> MaildaemonError:
        obstacle = obstacle_of(error, where, seconds=self._seconds, trust=self._trust, named=self._named)
        return obstacle.for_source("no token: ")

    def _understood(self, where: str, status: int, told: Mapping[str, str], raw: bytes) -> Answer:
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            wait = _seconds_of(told.get("retry-after"))
            raise self._noted(
                SourceUnavailable(
                    f"{where} gives no token at present ({status})"
                    + (f", and asks to be left alone for {wait:g} s" if wait else ""),
                    remedy="it will be asked again later",
                    retry_after=wait,
                )
            )
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            moved = f", and points to another address ({told['location'][:100]!r})" if "location" in told else ""
            raise self._noted(
                SourceUnavailable(
                    f"{where} does not answer as one who gives tokens does: no JSON object ({status}){moved}",
                    remedy=f"check {self._named}; a proxy or a gateway between may answer in its place",
                )
            )
        self.last = Answer(status_code=status, headers=told, text=raw.decode("utf-8", "replace"), body=body)
        return self.last

    def _noted(self, made: MaildaemonError) -> MaildaemonError:
        self.failure = made
        return made


class _Refusing(Exception):
    def __init__(self, made: MaildaemonError) -> None:
        super().__init__(made.message)
        self.made = made


@attrs.frozen(kw_only=True)
class _Proxy:
    host: str
    port: int
    login: str = attrs.field(repr=False)


def _proxy(host: str) -> _Proxy | None:
    """The proxy through which this host is asked, as the environment says; only http:// ones are known."""
    if host not in MICROSOFTS or proxy_bypass(host):
        return None
    written = getproxies().get("https") or getproxies().get("all") or ""
    try:
        parts = urlsplit(written if "://" in written else f"http://{written}")
        if not parts.hostname or parts.scheme != "http":
            return None
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
        shown = f"Basic {base64.b64encode(login).decode()}" if parts.username else ""
        return _Proxy(host=parts.hostname, port=parts.port or 80, login=shown)
    except ValueError:
        return None


def _request(method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value)]
    if method != "CONNECT":
        lines += ["Connection: close", f"Content-Length: {len(body)}"]
    if any(not line.isprintable() for line in lines):
        raise UnicodeError("a control character in a request")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class _Endless(Exception):
    """An answer of which more is to be read than anybody has asked for."""


class _Reading:
    """A line as ``http.client`` reads an answer from it; closing is left to whoever opened the line.

    ``http.client`` believes any number for the size of a chunk: one below zero would mean all that ever comes.
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    def makefile(self, _mode: str) -> _Reading:
        return self

    def readline(self, longest: int = LARGEST) -> bytes:
        return self._line.readline(longest)

    def read(self, size: int = LARGEST) -> bytes:
        if not 0 <= size <= LARGEST:
            raise _Endless
        return self._line.read(size)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def _answer(line: Line, method: str) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers by their names in lower case, and body."""
    answer = http.client.HTTPResponse(cast(Any, _Reading(line)), method=method)
    answer.begin()
    body = b"" if method == "CONNECT" else answer.read(LARGEST)
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def _seconds_of(written: str | None) -> float | None:
    """What Retry-After says (RFC 9110 §10.2.3), as seconds from now on; None if that is nothing."""
    if not written:
        return None
    try:
        seconds = float(written)
    except ValueError:
        try:
            moment = parsedate_to_datetime(written)
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 1.0), LONGEST_WAIT) if math.isfinite(seconds) else None
