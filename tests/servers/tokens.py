"""One who gives tokens to app registrations, on loopback: as Microsoft Entra does it, and as RFC 6749 alone says.

    with TokenServer(folder) as server:
        server.authority          # https, with a CA of its own in server.ca: for msal
        server.token_url          # http on loopback: plain client credentials
        server.introspection_url  # http: what a mail server asks about a token (RFC 7662)

Every request is noted in ``asked``, every token in ``tokens``.  ``instead`` says what to answer to the next ones.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import ssl
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote_plus

import attrs
import jwt
from cryptography import x509

from tests.servers.certificates import make_ca
from tests.servers.dovecot import Dovecot
from tests.servers.process import LOOPBACK

TENANT, CLIENT, SECRET = "tenant-1", "client-1", "s3cret~value/+"


@attrs.frozen
class Said:
    """An answer as it is: ``body`` is sent as JSON unless it is bytes.  ``before``: seconds until it is sent."""

    status: int
    body: Mapping[str, Any] | bytes
    headers: Mapping[str, str] = attrs.Factory(dict)
    before: float = 0.0


def entra_error(code: int, text: str, *, error: str = "invalid_client", status: int = 401) -> Said:
    """A refusal in the shape that Microsoft Entra documents."""
    trace = "Trace ID: 0 Correlation ID: 1 Timestamp: 2026-11-23 06:00:00Z"
    return Said(
        status,
        {
            "error": error,
            "error_description": f"AADSTS{code}: {text} {trace}",
            "error_codes": [code],
            "timestamp": "2026-11-23 06:00:00Z",
            "trace_id": "0",
            "correlation_id": "1",
            "error_uri": f"https://login.microsoftonline.com/error?code={code}",
        },
    )


class TokenServer:
    """Gives tokens to ``CLIENT`` of ``TENANT`` who knows ``SECRET``, or has the key of ``certificate`` (PEM).

    ``lifetime``: seconds for which a token is good.  ``speaks_for``: whose mailbox a token opens, as introspection
    says it.  ``expired``: tokens that are good no more.
    """

    def __init__(self, folder: Path, *, host: str = "localhost", lifetime: int = 3600) -> None:
        self.lifetime = lifetime
        self.speaks_for = ""
        self.certificate: bytes | None = None
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.tokens: dict[str, float] = {}
        self._instead: dict[str, deque[Said]] = {}
        self._lock = threading.Lock()
        made = make_ca(folder, host=host)
        self.ca = made.ca
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.certificate, made.key)
        self._secure, self._plain = _Server(self), _Server(self)
        self._secure.context = context
        self.port: int = self._secure.server_port
        self.authority = f"https://{host}:{self.port}"
        self.token_url = f"http://{LOOPBACK}:{self._plain.server_port}/token"
        self.introspection_url = f"http://{LOOPBACK}:{self._plain.server_port}/introspect"
        self._threads = [
            threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            for each in (self._secure, self._plain)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server, thread in zip((self._secure, self._plain), self._threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()

    def instead(self, ending: str, *answers: Said) -> None:
        """What is answered to the next requests whose path ends so, in this order."""
        with self._lock:
            self._instead.setdefault(ending, deque()).extend(answers)

    def count(self, ending: str = "/token") -> int:
        """How many requests with such a path there were."""
        return sum(path.endswith(ending) for path, _, _ in self.asked)

    # ---- within ----

    def answer(self, method: str, path: str, headers: dict[str, str], form: dict[str, str]) -> Said:
        with self._lock:
            self.asked.append((path, headers, form))
            told = next((each for end, each in self._instead.items() if path.endswith(end) and each), None)
            if told:
                return told.popleft()
        match method, path.strip("/").split("/"):
            case "GET", [tenant, "v2.0", ".well-known", "openid-configuration"]:
                return self._known(tenant)
            case "POST", [_, "oauth2", "v2.0", "token"]:
                return self._entra(form)
            case "POST", ["token"]:
                return self._basic(headers, form)
            case "POST", ["introspect"]:
                good = self.tokens.get(form.get("token", ""), 0.0) > time.monotonic()
                return Said(200, {"active": True, "username": self.speaks_for} if good else {"active": False})
        return Said(404, {"error": "not_found"})

    def _known(self, tenant: str) -> Said:
        if tenant != TENANT:
            return entra_error(
                90002,
                f"Tenant '{tenant}' not found. Check to make sure it is right.",
                error="invalid_tenant",
                status=400,
            )
        base = f"{self.authority}/{tenant}"
        return Said(
            200,
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
            },
        )

    def _entra(self, form: dict[str, str]) -> Said:
        if form.get("client_id") != CLIENT:
            text = f"Application with identifier '{form.get('client_id')}' was not found in the directory 'Firm'."
            return entra_error(700016, text, error="unauthorized_client", status=400)
        if not form.get("scope", "").endswith("/.default"):
            return entra_error(1002012, "The provided value for scope is not valid.", error="invalid_scope", status=400)
        if "client_assertion" in form:
            if not self._signed(form["client_assertion"]):
                return entra_error(700027, "The certificate with identifier used to sign the client assertion is not "
                                           "registered on application.")  # fmt: skip
        elif form.get("client_secret") != SECRET:
            return entra_error(7000215, "Invalid client secret provided. Ensure the secret being sent in the request "
                                        "is the client secret value, not the client secret ID.")  # fmt: skip
        return self.grant()

    def _signed(self, assertion: str) -> bool:
        key = x509.load_pem_x509_certificate(self.certificate or b"").public_key()
        audience = f"{self.authority}/{TENANT}/oauth2/v2.0/token"
        with contextlib.suppress(jwt.InvalidTokenError):
            told = jwt.decode(assertion, key, algorithms=["PS256"], audience=audience)  # type: ignore[arg-type]
            return bool(told["iss"] == told["sub"] == CLIENT)
        return False

    def _basic(self, headers: dict[str, str], form: dict[str, str]) -> Said:
        login = base64.b64decode(headers.get("authorization", "").removeprefix("Basic ")).decode()
        if tuple(map(unquote_plus, login.split(":"))) != (CLIENT, SECRET):
            return Said(401, {"error": "invalid_client"})
        if form.get("grant_type") != "client_credentials":
            return Said(400, {"error": "unsupported_grant_type"})
        return self.grant()

    def grant(self) -> Said:
        """A new token."""
        token = f"eyJ.{secrets.token_urlsafe(90)}"
        self.tokens[token] = time.monotonic() + self.lifetime
        return Said(200, {"token_type": "Bearer", "expires_in": self.lifetime, "access_token": token})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    context: ssl.SSLContext | None = None

    def __init__(self, of: TokenServer) -> None:
        super().__init__((LOOPBACK, 0), _handler(of.answer))

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.context is None:
            super().finish_request(request, client_address)
            return
        with self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or did not believe the certificate: that is what tests are about."""


@contextlib.contextmanager
def dovecot_that_asks(tokens: TokenServer, *, folder: Path) -> Iterator[Dovecot]:
    """A Dovecot that takes passwords and tokens, and asks the one who gave these whose they are (RFC 7662).

    ``folder`` is for its settings; everybody must be able to pass through it.
    """
    about = folder / "oauth2.conf"
    about.write_text(
        f"introspection_url = {tokens.introspection_url}\nintrospection_mode = post\n"
        "username_attribute = username\nactive_attribute = active\nactive_value = true\n"
    )
    about.chmod(0o644)
    more = (
        "auth_mechanisms = plain login xoauth2 oauthbearer\n"
        f"passdb {{\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args = {about}\n}}\n"
    )
    with Dovecot(settings=more) as server:
        yield server


@contextlib.contextmanager
def passable_folder() -> Iterator[Path]:
    """A temporary folder outside of pytest's own, which nobody but us may pass through."""
    with tempfile.TemporaryDirectory(prefix="maildaemon-tokens-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _handler(answer: Callable[[str, str, dict[str, str], dict[str, str]], Said]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            self._answer(dict(parse_qsl(self.rfile.read(int(self.headers.get("content-length") or 0)).decode())))

        def _answer(self, form: dict[str, str]) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            said = answer(self.command, self.path, headers, form)
            time.sleep(said.before)
            body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
            self.send_response(said.status)
            for name, value in {"Content-Type": "application/json", **said.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
            pass

    return Handler
