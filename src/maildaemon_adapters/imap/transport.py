"""The bytes between us and an IMAP server: every wait has an end, and a large literal never stands in memory as one.

imaplib's timeout holds for one ``recv``: a server that sends a byte now and then is waited for without end.  Here a
command has an allowance of time that grows with the bytes that arrive, and no pause may be longer than ``stall``.
"""

from __future__ import annotations

import imaplib
import io
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

from maildaemon_adapters.imap.keepalive import keep_alive
from maildaemon_core.confinement import ConnectionForbidden
from maildaemon_core.message import CHUNK, Content

SLOWEST: Final = 4096
"""Bytes per second: a connection that is slower on the whole than this, beyond the allowance, is given up."""

INLINE: Final = 1 << 16
"""Literals up to this many bytes are held in memory while the rest of the answer comes in."""

LONGEST_LINE: Final = 1 << 26
"""A line of an answer may have so many bytes: a SEARCH in a folder of some millions of mails."""

_BARE_END = re.compile(rb"\S+ (?:OK|NO|BAD)\r\n")

MOST_AT_ONCE: Final = 1 << 8
"""So many pieces are taken up at once of what nobody has asked for."""

Receive = Callable[[int, Iterator[bytes]], bytes]
"""Takes the size of a literal that is longer than ``INLINE``, and its pieces; gives what is to stand for it."""


class Literal(bytes):
    """What stands for a literal that is not there as a whole: its length is the literal's, which parsers compare.

    The bytes are only what was kept of it; ``content`` is all of it, where that was spooled.
    """

    content: Content | None
    announced: int

    def __new__(cls, announced: int, kept: bytes = b"", content: Content | None = None) -> Literal:
        made = super().__new__(cls, kept)
        made.announced = announced
        made.content = content
        return made

    def __len__(self) -> int:
        return self.announced

    def kept(self) -> bytes:
        """The bytes that are here."""
        return bytes(memoryview(self))


class Patience:
    """How long is still waited for the answer to one command."""

    def __init__(self, *, stall: float, allowance: float) -> None:
        self._stall = stall
        self._allowance = allowance
        self._end = 0.0
        self.restart()

    def restart(self, seconds: float | None = None) -> None:
        """A new command begins, which may take ``seconds``, else the usual allowance."""
        self._end = time.monotonic() + (self._allowance if seconds is None else seconds)

    def wait(self) -> float:
        """How many seconds the next read or write may take.  Raises TimeoutError when none is left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        return min(self._stall, left)

    def progressed(self, octets: int) -> None:
        self._end += octets / SLOWEST


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


class Transport(imaplib.IMAP4):
    """imaplib's client over a socket of ours.  It overrides only what imaplib documents as overridable."""

    def __init__(
        self, host: str, port: int, *, context: ssl.SSLContext | None, connect_seconds: float, patience: Patience
    ) -> None:
        self._context = context
        self._connect_seconds = connect_seconds
        self._patience = patience
        self._reader: io.BufferedReader | None = None
        self._pipe: _Pipe | None = None
        self.receive: Receive | None = None
        super().__init__(host, port)

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        """Connects, with TLS from the first byte if there is a context."""
        self.host, self.port = host, port
        plain = _dialled(host, port, timeout if timeout is not None else self._connect_seconds)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # imaplib sends in pieces what belongs together
        self._use(plain if self._context is None else self._wrapped(plain, self._context))
        self._patience.restart(self._connect_seconds)  # for the greeting; a wrong port may never send one

    def secure(self, context: ssl.SSLContext) -> None:
        """TLS on the open connection, after the server's OK to STARTTLS.

        Raises ``abort`` if the server, or somebody between, has sent anything after that OK: it would be taken for
        something that came through TLS (RFC 9051 §6.2.1; CVE-2011-0411).
        """
        assert self._reader is not None
        assert self._pipe is not None
        self._pipe.dry = True
        if self._reader.peek(1):
            raise self.abort("unexpected plain text between STARTTLS and TLS")
        self._use(self._wrapped(self.sock, context))
        self.untagged_responses = {}

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
        self._reader = io.BufferedReader(self._pipe, buffer_size=INLINE)

    def read(self, size: int) -> bytes:
        """A literal of so many bytes."""
        pieces = self._pieces(size)
        if size <= INLINE:
            return b"".join(pieces)
        if self.receive is None:
            raise self.abort(f"a literal of {size} bytes where none was asked for")
        stands_for_it = self.receive(size, pieces)
        for _ in pieces:  # what the receiver did not want
            pass
        return stands_for_it

    def _pieces(self, size: int) -> Iterator[bytes]:
        assert self._reader is not None
        left = size
        while left:
            piece = self._reader.read(min(left, CHUNK))
            if not piece:
                raise self.abort(f"the connection ended {left} bytes before the end of a literal")
            left -= len(piece)
            yield piece

    def readline(self) -> bytes:
        assert self._reader is not None
        line = self._reader.readline(LONGEST_LINE)
        if len(line) >= LONGEST_LINE:
            raise self.abort(f"a line of more than {LONGEST_LINE} bytes")
        # Some servers end a command with a bare "A1 OK", which imaplib would not recognise.
        return line[:-2] + b" \r\n" if _BARE_END.fullmatch(line) else line

    def arrived(self) -> bytes:
        """Everything that has come by now, from our buffer, that of TLS and the system's; never waits.

        Afterwards only something new makes the socket readable.  Raises ``abort`` when the server has hung up, or sends
        without end.
        """
        assert self._reader is not None
        assert self._pipe is not None
        self._pipe.dry = True
        try:
            pieces = [self._reader.read(len(self._reader.peek(1)))]
        finally:
            self._pipe.dry = False
        self.sock.settimeout(0)
        for _ in range(MOST_AT_ONCE):
            try:
                piece = self.sock.recv(INLINE)
            except (BlockingIOError, ssl.SSLWantReadError):
                return b"".join(pieces)
            if not piece:
                raise self.abort("the server hung up")
            pieces.append(piece)
        raise self.abort("the server sends without end")

    def send(self, data: Buffer) -> None:
        self.sock.settimeout(self._patience.wait())
        self.sock.sendall(data)

    def shutdown(self) -> None:
        """Closes the socket.  Twice is the same as once."""
        if self._reader is None:
            return
        self._reader.close()
        self._reader = None
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the server was first
        finally:
            self.sock.close()


def _dialled(host: str, port: int, seconds: float) -> socket.socket:
    """A connection to one of the addresses of the host, each of which is waited for that long.

    Raises OSError for the last of them, unless one is forbidden: that is what somebody can do something about.
    """
    try:
        return socket.create_connection((host, port), seconds, all_errors=True)
    except ExceptionGroup as group:
        failures = group.exceptions
    raise next((each for each in failures if isinstance(each, ConnectionForbidden)), failures[-1])
