"""An FTP server in a thread of this process (pyftpdlib), with switches for what goes wrong on disks and in accounts.

    with Pyftpd(folder) as server:
        server.instead["STOR"] = "552 Quota exceeded"   # until it is taken out again

It overwrites by STOR and by RNTO, as many do.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tests.servers.certificates import Certificates
from tests.servers.process import LOOPBACK

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it stands on asyncore
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer

ALL = "elradfmwMT"
READ_ONLY = "elr"


class _Implicit(TLS_FTPHandler):  # type: ignore[misc]
    """TLS from the first byte."""

    def handle(self) -> None:
        self.secure_connection(self.ssl_context)

    def handle_ssl_established(self) -> None:
        FTPHandler.handle(self)

    def ftp_AUTH(self, line: str) -> None:  # noqa: N802 - the library's own name
        self.respond("550 not supposed to be used with implicit TLS.")


class Pyftpd:
    """``port``, ``user``, ``password``; ``lines`` holds the commands that came, without the password.

    ``tls``: None takes connections in plain text only, else they must be secured with ``certificates``.  ``forgotten``:
    commands that the server does not know.  ``instead``: what it answers to commands without doing anything.
    ``passive_port``: gives the port that it says in place of the one for data, so that a proxy may stand there; the
    address that it says then is a wrong one.
    """

    user = "mails"
    password = "a s3cret wörd"

    def __init__(
        self,
        root: Path,
        *,
        tls: Literal["explicit", "implicit"] | None = None,
        certificates: Certificates | None = None,
        permissions: str = ALL,
        forgotten: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.instead: dict[str, str] = {}
        self.lines: list[str] = []
        self.passive_port: Any = None
        self._server = self._made(tls, certificates, permissions, forgotten)
        self.port: int = self._server.address[1]
        self._thread = threading.Thread(target=self._serve, name=f"pyftpd-{self.port}", daemon=True)

    def _made(
        self,
        tls: str | None,
        certificates: Certificates | None,
        permissions: str,
        forgotten: Sequence[str],
    ) -> FTPServer:
        logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
        authorizer = DummyAuthorizer()
        authorizer.add_user(self.user, self.password, str(self.root), perm=permissions)
        base = {None: FTPHandler, "explicit": TLS_FTPHandler, "implicit": _Implicit}[tls]
        ours = self

        class Handler(base):  # type: ignore[misc, valid-type]
            def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
                ours.lines.append(cmd if cmd == "PASS" else line)
                if cmd in ours.instead:
                    self.respond(ours.instead[cmd])
                    return
                super().pre_process_command(line, cmd, arg)

            def respond(self, resp: str, logfun: Any = None) -> None:
                if ours.passive_port is not None and resp.startswith("227 "):
                    high, low = map(int, resp.rpartition("(")[2].partition(")")[0].split(",")[4:])
                    port = ours.passive_port((high << 8) + low)
                    resp = f"227 Entering passive mode (10,1,2,3,{port >> 8},{port & 255})."
                super().respond(resp, logfun) if logfun else super().respond(resp)

        Handler.authorizer = authorizer
        Handler.auth_failed_timeout = 0
        Handler.banner = "ready"
        Handler.use_sendfile = False
        Handler.proto_cmds = {name: what for name, what in base.proto_cmds.items() if name not in forgotten}
        if tls is not None:
            assert certificates is not None
            Handler.certfile, Handler.keyfile = str(certificates.certificate), str(certificates.key)
            Handler.tls_control_required = Handler.tls_data_required = True
        self._loop = IOLoop()
        return FTPServer((LOOPBACK, 0), Handler, ioloop=self._loop)

    def __enter__(self) -> Self:
        self._stopping = threading.Event()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _serve(self) -> None:
        # All in its own thread: the library knows of no other.
        while not self._stopping.is_set():
            self._server.serve_forever(timeout=0.02, blocking=False, handle_exit=False)
        self._server.close_all()

    def drop_all(self) -> None:
        """Ends every connection, as a server does that is restarted."""
        self._loop.call_later(0, self._drop)

    def _drop(self) -> None:
        for handler in list(self._loop.socket_map.values()):
            if handler is not self._server:
                handler.close()
