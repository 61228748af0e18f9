"""A WebDAV server in threads of this process (wsgidav on cheroot), which can be told to answer otherwise.

    with WebDav(folder) as server:
        server.instead["PUT"] = "507 Insufficient Storage"   # until it is taken out again

As a program (``python -m tests.servers.webdav FOLDER``) it prints its port and serves until its input ends.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import wsgidav.request_server
from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter
from wsgidav.fs_dav_provider import FileResource, FilesystemProvider
from wsgidav.wsgidav_app import WsgiDAVApp

from tests.servers.certificates import Certificates
from tests.servers.process import LOOPBACK

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

TOKEN = "t0ken-of-nobody"
"""What ``bearer`` takes."""


_reading = threading.local()
_urlparse = wsgidav.request_server.urlparse


def _taken_apart(url: str, *args: Any, **more: Any) -> Any:
    """wsgidav unescapes Destination and then takes it apart, so that a name ends at ; or ?; not so where ``exact``."""
    if not getattr(_reading, "exact", False):
        return _urlparse(url, *args, **more)
    scheme, _, rest = url.partition("://")
    server, _, path = rest.partition("/")
    return scheme, server, f"/{path}", "", "", ""


def _written(self: FileResource, **more: Any) -> Any:
    """wsgidav does not close a file of which only a part came."""
    _reading.file = _begin_write(self, **more)
    return _reading.file


_begin_write = FileResource.begin_write
FileResource.begin_write = _written
wsgidav.request_server.urlparse = _taken_apart


class WebDav:
    """``port``, ``user``, ``password``; ``asked`` holds what came: methods with their headers that matter.

    ``instead``: statuses by method, given without doing anything; ``after``: so many bytes of a body are read first.
    ``headers`` go with them.  ``read_only``: nothing can be changed.  ``exact``: names are read as RFC 4918 has them;
    else as wsgidav does.  ``slashes``: it answers about a folder only if its address ends in a slash.
    """

    user = "mails"
    password = "a s3cret wörd"

    def __init__(
        self,
        root: Path,
        *,
        certificates: Certificates | None = None,
        auth: Literal["basic", "digest", "bearer"] = "basic",
        read_only: bool = False,
        exact: bool = True,
        slashes: bool = False,
    ) -> None:
        self.root = root
        self.slashes = slashes
        self.exact = exact
        self.auth = auth
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.instead: dict[str, str] = {}
        self.headers: list[tuple[str, str]] = []
        self.after = 0
        self._dav: Application = self._application(root, read_only)
        self._server = wsgi.Server((LOOPBACK, 0), self._answer, numthreads=8, server_name="test")
        if certificates is not None:
            self._server.ssl_adapter = BuiltinSSLAdapter(str(certificates.certificate), str(certificates.key))
        self._server.prepare()
        self.port: int = self._server.bind_addr[1]
        self.scheme = "http" if certificates is None else "https"
        self._thread = threading.Thread(target=self._server.serve, name=f"webdav-{self.port}", daemon=True)

    def _application(self, root: Path, read_only: bool) -> Any:
        logging.getLogger("wsgidav").setLevel(logging.CRITICAL)
        known = {self.user: {"password": self.password}}
        return WsgiDAVApp(
            {
                "provider_mapping": {"/": FilesystemProvider(str(root), readonly=read_only)},
                "simple_dc": {"user_mapping": {"*": True if self.auth == "bearer" else known}},
                "http_authenticator": {
                    "accept_basic": self.auth == "basic",
                    "accept_digest": self.auth == "digest",
                    "default_to_digest": self.auth == "digest",
                },
                "lock_storage": True,
                "property_manager": True,
                "logging": {"enable": False},
                "verbose": 0,
            }
        )

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        named = {"Depth": "HTTP_DEPTH", "Overwrite": "HTTP_OVERWRITE", "Length": "CONTENT_LENGTH"}
        headers = {name: environ[key] for name, key in named.items() if environ.get(key)}
        self.asked.append((method, environ["PATH_INFO"], headers))
        if self.auth == "bearer" and environ.get("HTTP_AUTHORIZATION") != f"Bearer {TOKEN}":
            start("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Length", "0")])
            return []
        if method in self.instead:
            if self.after:
                environ["wsgi.input"].read(self.after)
            start(self.instead[method], [("Content-Length", "0"), *self.headers])
            return []
        path = environ["PATH_INFO"]
        if self.slashes and not path.endswith("/") and (self.root / path.strip("/")).is_dir():
            start("301 Moved Permanently", [("Location", f"http://elsewhere.invalid{path}/"), ("Content-Length", "0")])
            return []
        _reading.exact, _reading.file = self.exact, None
        return self._closing(environ, start)

    def _closing(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        try:
            yield from self._dav(environ, start)
        finally:
            if _reading.file is not None:
                _reading.file.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        self._thread.join()


if __name__ == "__main__":
    with WebDav(Path(sys.argv[1])) as served:
        print(served.port, flush=True)
        sys.stdin.read()
