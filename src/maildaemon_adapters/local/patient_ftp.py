"""fsspec's FTP with an end to everything: a server can neither hold us without end nor have us hold what it likes.

ftplib's timeout holds for one ``recv``, so that a byte now and then is waited for without end; it keeps a reply and
fsspec a listing as long as they come, and fsspec the last block of a file beyond the size that it has.
"""

from __future__ import annotations

import ftplib
import socket
from collections.abc import Callable
from typing import Any, Final

from fsspec.implementations.ftp import FTPFileSystem

from maildaemon_adapters.tcp.dialling import dial
from maildaemon_adapters.tcp.patience import Patience

STALL: Final = 30.0
"""Seconds for which the server may send nothing at all."""

ALLOWANCE: Final = 60.0
"""Seconds for a command; what arrives gives time for more."""

LONGEST_REPLY: Final = 1 << 20
"""Bytes of what the server says to one command, and of its greeting."""

LARGEST_TRANSFER: Final = 1 << 25
"""Bytes of one transfer: a listing, or a block of a file, of which fsspec asks for some hundred thousand."""

MOST_LISTED: Final = 300_000
"""Lines of a listing; fsspec makes a dictionary of each."""


class TooMuch(ConnectionError):
    """The server sends more than anybody has asked for."""


class _Bounded(socket.socket):
    """A connected socket of which so many bytes are read, each wait as the ``patience`` says."""

    def __init__(self, plain: socket.socket, patience: Patience, most: int) -> None:
        super().__init__(fileno=plain.detach())
        self._patience = patience
        self._most = self._left = most

    def anew(self) -> None:
        """As many bytes again."""
        self._left = self._most

    def recv(self, *arguments: Any) -> bytes:
        self.settimeout(self._patience.wait())
        got = super().recv(*arguments)
        self._read(len(got))
        return got

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(self._patience.wait())
        octets = super().recv_into(*arguments)
        self._read(octets)
        return octets

    def _read(self, octets: int) -> None:
        self._left -= octets
        if self._left < 0:
            raise TooMuch(f"the server sends more than {self._most} bytes where fewer were asked for")
        self._patience.progressed(octets)


class _PatientFtp(ftplib.FTP):
    """ftplib's client over sockets of ours; ``port`` and ``host`` as for ``connect``."""

    def __init__(self, host: str, port: int, encoding: str) -> None:
        super().__init__(timeout=STALL, encoding=encoding)
        self._patience = Patience(stall=STALL, allowance=ALLOWANCE)
        self.host, self.port = host, port
        self._control = _Bounded(dial(host, port, STALL), self._patience, LONGEST_REPLY)
        self.sock = self._control
        self.af = self.sock.family
        self.file = self.sock.makefile("r", encoding=encoding)
        self._patience.restart(STALL)
        try:
            self.welcome = self.getresp()
        except BaseException:
            self.close()
            raise

    def putline(self, line: str) -> None:
        self._patience.restart()
        self._control.anew()
        super().putline(line)

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        plain, size = super().ntransfercmd(cmd, rest)
        return _Bounded(plain, self._patience, LARGEST_TRANSFER), size

    def retrlines(self, cmd: str, callback: Callable[[str], object] | None = None) -> str:
        lines = 0

        def counted(line: str) -> None:
            nonlocal lines
            lines += 1
            if lines > MOST_LISTED:
                raise TooMuch(f"a folder of more than {MOST_LISTED} files")
            if callback is not None:
                callback(line)

        return super().retrlines(cmd, counted)


class PatientFtp(FTPFileSystem):  # type: ignore[misc]  # it ships no types
    """In plain text: fsspec's FTP with TLS looks at no certificate."""

    ftp: _PatientFtp | None = None

    def close(self) -> None:
        """Ends the connection, without a word to the server."""
        if self.ftp is not None:
            self.ftp.close()

    def __del__(self) -> None:
        self.close()  # also if it was never connected, which fsspec does not think of

    def _connect(self) -> None:
        self.ftp = _PatientFtp(self.host, self.port, self.encoding)
        try:
            self.ftp.login(*self.cred)
        except BaseException:
            self.ftp.close()
            raise
