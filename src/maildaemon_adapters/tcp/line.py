"""A connection to talk over, in plain text or through TLS, each wait of which ends as its ``Patience`` says."""

from __future__ import annotations

import io
import socket
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

from maildaemon_adapters.tcp.dialling import dial
from maildaemon_adapters.tcp.keepalive import keep_alive
from maildaemon_adapters.tcp.patience import Patience

READ_AHEAD: Final = 1 << 16
"""Bytes that are asked for at once."""


MOST_AT_ONCE: Final = 64
"""So many pieces are taken up of what nobody has asked for."""


class Line:
    """One connection with one server, used by one thread at a time.

    ``context``: what TLS from the first byte is made with, None for none.  ``connect_seconds``: for TCP, and again for
    TLS, and again for what the server says first; a wrong port may never say anything.  Raises OSError, ssl.SSLError
    among them, and UnicodeError for what can be no host name.
    """

    def __init__(
        self, host: str, port: int, *, context: ssl.SSLContext | None, connect_seconds: float, patience: Patience
    ) -> None:
        self.host = host
        self._connect_seconds = connect_seconds
        self._patience = patience
        self._open = True
        plain = dial(host, port, connect_seconds)
        self._use(plain if context is None else self._wrapped(plain, context))
        patience.restart(connect_seconds)

    def secure(self, context: ssl.SSLContext) -> bool:
        """TLS on the open connection, after the server has agreed to it; False, and nothing done, if it may not be.

        It may not be if the server, or somebody between, has sent anything after it agreed: that would be taken for
        something that came through TLS (RFC 9051 §6.2.1, RFC 2595 §4; CVE-2011-0411).
        """
        self._pipe.dry = True
        if self._reader.peek(1):
            self._pipe.dry = False
            return False
        self._use(self._wrapped(self.sock, context))
        return True

    def read(self, size: int) -> bytes:
        """So many bytes; fewer if the server hangs up before."""
        return self._reader.read(size)

    def read_some(self) -> bytes:
        """What has come, else what comes next, without waiting for more; nothing if the server hangs up."""
        return self._reader.read1(READ_AHEAD)

    def readline(self, longest: int) -> bytes:
        """A line with its end; without one if it is longer, or the server hangs up before."""
        return self._reader.readline(longest)

    def arrived(self) -> bytes:
        """Everything that has come by now, from our buffer, that of TLS and the system's; never waits.

        Afterwards only something new makes the socket readable.  Raises ConnectionError when the server has hung up, or
        sends without end.
        """
        self._pipe.dry = True
        try:
            pieces = [self._reader.read(len(self._reader.peek(1)))]
        finally:
            self._pipe.dry = False
        self.sock.settimeout(0)
        for _ in range(MOST_AT_ONCE):
            try:
                piece = self.sock.recv(READ_AHEAD)
            except (BlockingIOError, ssl.SSLWantReadError):
                return b"".join(pieces)
            if not piece:
                raise ConnectionResetError("the server hung up")
            pieces.append(piece)
        raise ConnectionAbortedError("the server sends without end")

    def send(self, data: Buffer) -> None:
        """Sends all of it."""
        self.sock.settimeout(self._patience.wait())
        self.sock.sendall(data)

    def close(self) -> None:
        """Closes the connection.  Twice is the same as once."""
        if not self._open:
            return
        self._open = False
        self._reader.close()
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the server was first
        finally:
            self.sock.close()

    def _wrapped(self, plain: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        try:
            plain.settimeout(self._connect_seconds)
            return context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise

    def _use(self, sock: socket.socket) -> None:
        keep_alive(sock)
        self.sock = sock
        self._pipe = _Pipe(sock, self._patience)
        self._reader = io.BufferedReader(self._pipe, buffer_size=READ_AHEAD)


class _Pipe(io.RawIOBase):
    """A socket as a file; while ``dry`` it says that nothing has come yet, instead of waiting."""

    def __init__(self, sock: socket.socket, patience: Patience) -> None:
        self._socket = sock
        self._patience = patience
        self.dry = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        if self.dry:
            return None
        self._socket.settimeout(self._patience.wait())
        octets = self._socket.recv_into(buffer)
        self._patience.progressed(octets)
        return octets
