"""The connections of FTP: one for commands, on which every wait has an end, and one for each file that is sent or read.

RFC 959; TLS by RFC 4217; the address of a data connection is always the server that the commands go to (RFC 2577 §3,
CVE-2021-4189), whatever that server says.
"""

from __future__ import annotations

import ftplib
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from maildaemon_adapters.files.ftp.words import Powers, powers_of
from maildaemon_adapters.tcp.dialling import dial
from maildaemon_adapters.tcp.keepalive import keep_alive

SLICE: Final = 1 << 15
"""Bytes that must have left within the time for silence: slower connections are given up."""

SLOWEST: Final = 1 << 20
"""Bytes a second at which a server may look at a file (for viruses, say) before it confirms it."""

MOST_LINES: Final = 1000
"""Lines of one answer: those that say what a server can are the longest."""

LONGEST_LINE: Final = 8192
"""Bytes of one line, of an answer or of a listing."""

MOST_LISTED: Final = 1 << 26
"""Bytes of one listing; more is a server that does not come to an end."""

_FAREWELL: Final = 2.0
"""Seconds for what nothing depends on."""


class Wire(ftplib.FTP):
    """A connection for commands: ``reach``, ``secure`` unless it is to be in plain text, ``come_in``.

    Not for two threads at once.  ``context``: what checks the server's certificate, None for everything in plain text.
    ``implicit``: TLS from the first byte.  ``connect_seconds``: for everything until somebody is logged in, together.
    ``answer_seconds``: how long the server may say nothing after that.  Raises what ``ftplib`` raises, OSError
    and EOFError; ``reach`` also UnicodeError.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        context: ssl.SSLContext | None,
        implicit: bool,
        connect_seconds: float,
        answer_seconds: float,
    ) -> None:
        super().__init__(timeout=answer_seconds)
        self.host, self.port = host, port
        self.context = context
        self.implicit = implicit
        self.answer_seconds = answer_seconds
        self.powers = Powers()
        self.is_open = True
        self._expects_epsv = False
        self._received = b""
        self._deadline: float | None = time.monotonic() + connect_seconds

    def reach(self) -> None:
        """Connects, with TLS from the first byte if so it is to be, and lets the server greet."""
        assert self._deadline is not None
        self.sock = dial(self.host, self.port, _left(self._deadline))
        self.af = self.sock.family
        # While a large file is under way nothing happens here, and firewalls forget such connections.
        keep_alive(self.sock, after=30, every=10)
        if self.context is not None and self.implicit:
            self._wrap(self.context)
        self.welcome = self.getresp()

    def secure(self) -> None:
        """TLS on the open connection unless there is already, and for all data (RFC 4217 §4, §9)."""
        assert self.context is not None
        if not self.implicit:
            self.voidcmd("AUTH TLS")
            # Whatever came in plain text behind the answer was not said by the server (CVE-2011-0411).
            self._received = b""
            self._wrap(self.context)
        self.voidcmd("PBSZ 0")
        self.voidcmd("PROT P")

    def come_in(self, user: str, password: str) -> None:
        """Logs in and asks what the server can do.  From now on files are sent as they are (TYPE I)."""
        self.login(user, password)
        try:
            self.powers = powers_of(self.sendcmd("FEAT"))
            if self.powers.utf8:
                self.sendcmd("OPTS UTF8 ON")  # some wait for it, those that follow RFC 2640 need it not
        except ftplib.error_perm:
            pass
        self.voidcmd("TYPE I")
        self._deadline = None

    @property
    def _line(self) -> socket.socket:
        assert self.sock is not None
        return self.sock

    def hang_up(self) -> None:
        """Closes the connection without a word.  Never raises."""
        self.is_open = False
        if self.sock is not None:
            with suppress(OSError):
                self.sock.close()

    # -------------------------------------------------------------------------------------------------------- commands

    def getline(self) -> str:
        """A line of an answer.  Bytes that are no UTF-8 become replacement characters.

        Raises TimeoutError, EOFError, ``ftplib.Error``.
        """
        end = time.monotonic() + self.answer_seconds if self._deadline is None else self._deadline
        while b"\n" not in self._received:
            if len(self._received) > LONGEST_LINE:
                raise Unruly(f"a line of more than {LONGEST_LINE} bytes")
            self._line.settimeout(_left(end))
            came = self._line.recv(LONGEST_LINE)
            if not came:
                raise EOFError
            self._received += came
        line, _, self._received = self._received.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "replace")

    def getmultiline(self) -> str:
        """An answer of one line or several (RFC 959 §4.2), without blanks behind its last line."""
        line = self.getline()
        lines = [line]
        code = line[:3]
        if line[3:4] == "-" and code.isdecimal():
            while not (line[:3] == code and line[3:4] != "-"):
                line = self.getline()
                lines.append(line)
                if len(lines) > MOST_LINES:
                    raise Unruly(f"an answer of more than {MOST_LINES} lines")
        return "\n".join(lines)

    def putline(self, line: str) -> None:
        """A command.  Raises ValueError for one that would be two."""
        if any(character in line for character in "\r\n\0"):
            raise ValueError("a command holds a line break or a NUL")
        octets = line.encode("utf-8", "surrogateescape").replace(
            b"\xff", b"\xff\xff"
        )  # the escape of Telnet (RFC 2640 §3.1)
        self._line.settimeout(self.answer_seconds if self._deadline is None else _left(self._deadline))
        self._line.sendall(octets + b"\r\n")

    def makepasv(self) -> tuple[str, int]:
        """Where to connect to for data: the same server, on the port that it names.

        EPSV (RFC 2428) over IPv6, and where PASV is not known or answered with something that is no address.
        """
        address = str(self._line.getpeername()[0])
        if self.af == socket.AF_INET and not self._expects_epsv:
            try:
                return address, ftplib.parse227(self.sendcmd("PASV"))[1]  # noqa: S321
            except (ftplib.error_perm, ftplib.error_proto, ftplib.error_reply):
                self._expects_epsv = True
        return address, ftplib.parse229(self.sendcmd("EPSV"), self._line.getpeername())[1]  # noqa: S321

    # ------------------------------------------------------------------------------------------------------------ data

    def send(self, path: str, pieces: Iterable[bytes]) -> None:
        """Sends a file, in one transfer and as it is.

        Its last bytes are held back until ``pieces`` has come to its end: an end of the data is all that tells a
        server that a file is whole.  Raises ``Interrupted`` for what ``pieces`` raises.
        """
        sent = 0
        data = self.transfercmd(f"STOR {path}")
        try:
            last = b""
            for piece in pieces:
                sent += _push(data, last)
                last = piece
            sent += _push(data, last)
            self._end(data)
        except _Stopped as stopped:
            data.close()
            # The server has something to say about it, such as that its disk is full, which is more than a broken pipe.
            self.voidresp()
            raise stopped.error from None
        except BaseException as error:
            _reset(data)
            self._break_off()
            raise Interrupted(error) from error
        finally:
            data.close()
        self._confirmed(sent)

    def _break_off(self) -> None:
        """Takes the answer to a transfer that was ended midway; some servers have none, and are left."""
        self._deadline = time.monotonic() + min(self.answer_seconds, _FAREWELL)
        try:
            self.voidresp()
        except (ftplib.error_temp, ftplib.error_perm):
            pass  # as is to be expected
        except (OSError, EOFError, ftplib.Error):
            self.hang_up()
        finally:
            self._deadline = None

    def _confirmed(self, sent: int = 0) -> None:
        """Awaits that the server confirms a transfer."""
        self._deadline = time.monotonic() + self.answer_seconds + sent / SLOWEST
        try:
            self.voidresp()
        finally:
            self._deadline = None

    def receive(self, command: str) -> Iterator[bytes]:
        """The bytes that a command gives, in pieces."""
        data = self.transfercmd(command)
        try:
            while piece := data.recv(1 << 18):
                yield piece
        finally:
            data.close()
        self._confirmed()

    def lines(self, command: str) -> Iterator[str]:
        """The lines of a listing.  Names that are no UTF-8 hold surrogates (PEP 383), so that they can be sent back."""
        rest, octets = b"", 0
        for piece in self.receive(command):
            octets += len(piece)
            if octets > MOST_LISTED:
                raise Unruly(f"a listing of more than {MOST_LISTED} bytes")
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line.rstrip(b"\r").decode("utf-8", "surrogateescape")
        if rest:
            yield rest.decode("utf-8", "surrogateescape")

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        """A connection for data, with TLS if the commands have it.

        It goes on with the TLS session of the commands (RFC 4217 §10.2): many servers take no other, so that nobody
        can snatch a file who was faster to connect.
        """
        data, size = super().ntransfercmd(cmd, rest)
        if self.context is None:
            return data, size
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            return self.context.wrap_socket(data, server_hostname=self.host, session=self.sock.session), size
        except BaseException:
            data.close()
            raise

    def _end(self, data: socket.socket) -> None:
        """Says that nothing more comes; with TLS, in a way that nobody between can fake."""
        if isinstance(data, ssl.SSLSocket):
            data.settimeout(min(self.answer_seconds, _FAREWELL))
            with suppress(OSError):  # what counts is that ours is out; many servers hang up instead of answering it
                data.unwrap()
        with suppress(OSError):
            data.shutdown(socket.SHUT_RDWR if isinstance(data, ssl.SSLSocket) else socket.SHUT_WR)

    # ------------------------------------------------------------------------------------------------------ connecting

    def _wrap(self, context: ssl.SSLContext) -> None:
        assert self._deadline is not None
        self._line.settimeout(_left(self._deadline))
        self.sock = context.wrap_socket(self._line, server_hostname=self.host)


class Unruly(OSError):
    """The server sends what no server sends: an answer without an end."""


class Interrupted(Exception):
    """What was to be sent came to no end; some of it may lie on the server."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class _Stopped(Exception):
    """A file cannot be sent to its end: the connection for data broke."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _push(data: socket.socket, piece: bytes) -> int:
    view = memoryview(piece)
    try:
        for at in range(0, len(view), SLICE):
            data.sendall(view[at : at + SLICE])
    except OSError as error:
        raise _Stopped(error) from None
    return len(view)


def _left(end: float) -> float:
    """Seconds until then.  Raises TimeoutError when there are none."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the answer took too long")
    return left


def _reset(data: socket.socket) -> None:
    """Ends a connection so that the other side cannot take it for the end of a file, as far as it listens."""
    with suppress(OSError):
        data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    data.close()
