"""One connection, session and share of an SMB server, with an end to every wait and a way to send several requests.

The library is used where it is plain protocol.  Its convenience layer (``smbclient``) is not: that keeps sessions by
user name for the whole process, so that a wrong password is accepted as long as a right one is at work, waits without
end, follows links and DFS to other servers, and writes one block at a time.
"""

from __future__ import annotations

import logging
import socket
import struct
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import attrs
from smbprotocol.connection import Connection, Request
from smbprotocol.exceptions import SMBAuthenticationError, SMBException, SMBResponseException
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect
from spnego.exceptions import SpnegoError

from maildaemon_adapters.files.obstructed import obstructed
from maildaemon_adapters.files.server_url import ServerUrl
from maildaemon_adapters.files.smb import PORT, SmbSettings
from maildaemon_adapters.files.smb.status import ACCESS_DENIED, BAD_NETWORK_NAME, fault_of, told
from maildaemon_adapters.files.tree import Fault, TreeError
from maildaemon_adapters.tcp.obstacles import obstacle_of
from maildaemon_core.options import Secret

_CREDITS: Final = 512
"""So many requests, of 64 KiB each, may be under way at once if the server agrees."""

_FAREWELL: Final = 2.0  # seconds that the server gets to answer a polite end
_STEP: Final = 1 << 16  # bytes that one credit pays for (MS-SMB2 §3.1.5.2)


@attrs.frozen(kw_only=True)
class Login:
    """Everything that a connection needs; made once, used again whenever one is made anew."""

    url: ServerUrl
    password: Secret
    settings: SmbSettings

    @property
    def port(self) -> int:
        return self.url.port or PORT

    @property
    def where(self) -> str:
        return self.url.server(PORT)

    @property
    def share(self) -> str:
        return self.url.path.partition("/")[0]


class _Bounded(Connection):  # type: ignore[misc]  # ships no types
    """Waits for no answer longer than its ``limit`` in seconds, and follows no links of the server to elsewhere."""

    limit: float = 60.0

    def receive(
        self, request: Request, wait: bool = True, timeout: float | None = None, resolve_symlinks: bool = False
    ) -> Any:
        limit = min(self.limit, timeout or self.limit)
        return super().receive(request, wait=wait, timeout=limit, resolve_symlinks=False)


class Share:
    """Connects, logs in and opens the share; raises ``TreeError``.  Used by several threads at once."""

    def __init__(self, login: Login) -> None:
        # They would write requests into the log: names of mails, and at DEBUG what is in them.
        for name in ("smbprotocol", "spnego"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._login = login
        self._sending = threading.Lock()
        self._over = False
        settings = login.settings
        self.connection = _Bounded(uuid.uuid4(), login.url.host, login.port, require_signing=True)
        self.connection.limit = float(settings.connect_seconds)
        try:
            self._connect()
            self._log_in()
            self._open_share()
            with suppress(SMBException):  # whoever gives no more credits is asked for less at once
                self.connection.echo(sid=self._session.session_id, credit_request=_CREDITS)
        except BaseException:
            self.end(politely=False)
            raise
        self.connection.limit = float(settings.answer_seconds)

    # --------------------------------------------------------------------------------------------------- connecting

    def _connect(self) -> None:
        login, seconds = self._login, self._login.settings.connect_seconds
        try:
            self.connection.connect(timeout=seconds)
        except ValueError as error:  # what the library makes of every error of the socket
            raise obstructed(obstacle_of(error.__cause__ or error, login.where, seconds=seconds)) from None
        except SMBResponseException as error:
            raise TreeError(
                Fault.OTHER,
                f"{login.where} and this program know no common version of SMB: {told(error.status).what}",
                remedy="update the server; version 1 is not used",
            ) from None
        except (SMBException, OSError, KeyError, struct.error) as error:
            raise self._hung_up(error) from None
        with suppress(AttributeError, OSError):
            self._tune(self.connection.transport._sock)  # there is no other way to it

    def _tune(self, sock: socket.socket) -> None:
        """No wait for more to send, and an end to the wait for a server that takes nothing any more."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform != "win32":
            limit = struct.pack("ll", self._login.settings.answer_seconds, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def _log_in(self) -> None:
        login, connection = self._login, self.connection
        encrypted = login.settings.protection == "encrypted"
        if encrypted and not connection.supports_encryption:
            raise TreeError(
                Fault.UNTRUSTED,
                f"{login.where} cannot encrypt (SMB 3)",
                remedy="have encryption switched on there, or write protection: signed into the options",
            )
        # Not "negotiate": where Kerberos is installed, that asks servers behind the back of whoever judges connections.
        self._session = Session(
            connection, login.url.user, login.password.value, require_encryption=encrypted, auth_protocol="ntlm"
        )
        try:
            self._session.connect()
        except SMBResponseException as error:
            made = told(error.status)
            if made.fault is Fault.LOGIN or error.status == ACCESS_DENIED:
                what = f"{login.where} does not let {login.url.user!r} in: {made.what}"
                raise TreeError(Fault.LOGIN, what, remedy=made.remedy) from None
            raise made from None
        except (SMBAuthenticationError, SpnegoError, ValueError) as error:
            raise TreeError(
                Fault.LOGIN,
                f"no login at {login.where} for {login.url.user!r}: {type(error).__name__}",
                remedy="check username and password; only NTLM is used",
            ) from None
        except (SMBException, OSError, KeyError, struct.error) as error:
            if "guest" in str(error):
                raise TreeError(
                    Fault.LOGIN,
                    f"{login.where} takes {login.url.user!r} for a guest, whom nothing protects",
                    remedy="check username and password; the server makes guests of those whom it does not know",
                ) from None
            raise self._hung_up(error) from None

    def _open_share(self) -> None:
        login = self._login
        host = f"[{login.url.host}]" if ":" in login.url.host else login.url.host
        self.tree = TreeConnect(self._session, rf"\\{host}\{login.share}")
        try:
            self.tree.connect()
        except SMBResponseException as error:
            if error.status == BAD_NETWORK_NAME:
                raise TreeError(
                    Fault.GONE, f"{login.where} has no share {login.share!r}", remedy="check the share in url"
                ) from None
            if error.status == ACCESS_DENIED:
                raise TreeError(
                    Fault.DENIED,
                    f"the user {login.url.user!r} may not use the share {login.share!r} of {login.where}",
                    remedy="give that user the right to change files in the share",
                ) from None
            raise told(error.status) from None
        except (SMBException, OSError, KeyError, struct.error) as error:
            raise self._hung_up(error) from None
        self.tree.is_dfs_share = False  # paths are sent as they are; what leads to another server is refused there

    def _hung_up(self, error: BaseException) -> TreeError:
        login = self._login
        if "timeout" in str(error).casefold() or isinstance(error, TimeoutError):
            what = f"{login.where} took the connection, but did not answer within {login.settings.connect_seconds} s"
        else:
            what = f"{login.where} broke the connection off before anybody was logged in"
        return TreeError(
            Fault.GONE, what, remedy="check that the port in url is that of an SMB server; it may be overloaded"
        )

    # -------------------------------------------------------------------------------------------------------- asking

    @property
    def alive(self) -> bool:
        return not self._over and bool(self.connection.transport and self.connection.transport.connected)

    @property
    def block(self) -> int:
        """Bytes to read or write with one request: as much as pays off, if the server takes so much."""
        largest = min(self.connection.max_write_size, self.connection.max_read_size, 1 << 20)
        return int(largest) if self.connection.supports_multi_credit else min(int(largest), _STEP)

    def send(self, message: Any, size: int = 0) -> Request:
        """Sends a request whose question or answer has ``size`` bytes; ``receive`` has to follow.

        Raises ``TreeError``.
        """
        with self._sending:
            self._await_credits(max(1, -(-size // _STEP)))
            try:
                sent: Request = self.connection.send(message, self._session.session_id, self.tree.tree_connect_id)
            except Exception as error:  # noqa: BLE001  (its thread hands on whatever it died of)
                raise self.failure(error) from None
            return sent

    def ask(self, *messages: Any) -> Sequence[Any]:
        """Sends requests that belong together at once, and gives the answers.

        They concern the file that the first of them opens.  Raises ``TreeError`` for the first that fails.
        """
        with self._sending:
            self._await_credits(len(messages))
            try:
                sent = self.connection.send_compound(
                    list(messages), self._session.session_id, self.tree.tree_connect_id, related=len(messages) > 1
                )
            except Exception as error:  # noqa: BLE001  (its thread hands on whatever it died of)
                raise self.failure(error) from None
        answers, first = [], None
        for request in sent:
            try:
                answers.append(self.receive(request))
            except TreeError as error:
                first = first or error
        if first is not None:
            raise first
        return answers

    def receive(self, request: Request) -> Any:
        """What the server answers.  Raises ``TreeError``; when nothing comes in time the connection is at its end."""
        try:
            return self.connection.receive(request)["data"].get_value()
        except Exception as error:  # noqa: BLE001
            raise self.failure(error) from None

    def _await_credits(self, needed: int) -> None:
        """Waits until the server allows so many more requests; answers that come in bring them."""
        window = self.connection.sequence_window
        end = time.monotonic() + self._login.settings.answer_seconds
        while self.alive and window["high"] - window["low"] < needed:
            if time.monotonic() > end:
                raise self.failure(TimeoutError("timeout"))
            time.sleep(0.001)

    def failure(self, error: Exception) -> TreeError:
        """What an error of the library means; the connection is ended by all that concerns it."""
        if isinstance(error, TreeError):
            return error
        if isinstance(error, SMBResponseException):
            made = StatusError(error.status)
            if fault_of(error.status) is Fault.GONE:
                self.end(politely=False)
            return made
        self.end(politely=False)
        silent = "timeout" in str(error).casefold() or isinstance(error, TimeoutError | BlockingIOError)
        why = f"it did not answer within {self._login.settings.answer_seconds} s" if silent else "it broke off"
        return TreeError(
            Fault.GONE,
            f"the connection with {self._login.where} is at an end: {why}",
            remedy="it is made anew when it is needed; see whether the server runs",
        )

    def end(self, *, politely: bool) -> None:
        """Logs off, if ``politely``, and closes the connection.  Never raises; twice is the same as once."""
        if self._over:
            return
        self._over = True
        self.connection.limit = _FAREWELL
        if self.connection.transport is None:
            return
        if politely:
            with suppress(Exception):
                self._session.disconnect()
        with suppress(Exception):
            self.connection.disconnect(close=False)


class StatusError(TreeError):
    """An answer of the server that is an error, with its NTSTATUS."""

    def __init__(self, status: int) -> None:
        meant = told(status)
        super().__init__(meant.fault, meant.what, remedy=meant.remedy)
        self.status = status
