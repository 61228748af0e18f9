"""The bytes between us and an IMAP server: every wait has an end, and a large literal never stands in memory as one.

imaplib's own timeout holds for one ``recv`` alone; here it speaks over a ``Line``.
"""

from __future__ import annotations

import imaplib
import re
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

from maildaemon_adapters.tcp.line import Line
from maildaemon_adapters.tcp.patience import Patience
from maildaemon_core.message import CHUNK, Content

INLINE: Final = 1 << 16
"""Literals up to this many bytes are held in memory while the rest of the answer comes in."""

LONGEST_LINE: Final = 1 << 26
"""A line of an answer may have so many bytes: a SEARCH in a folder of some millions of mails."""

MOST_HELD: Final = 1 << 27
"""What the answer to one command may take in memory, each line as at least ``PER_LINE`` bytes; imaplib keeps all that
comes unasked, for as long as it comes."""

PER_LINE: Final = 256

_BARE_END = re.compile(rb"\S+ (?:OK|NO|BAD)\r\n")


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


class Transport(imaplib.IMAP4):
    """imaplib's client over a socket of ours.  It overrides only what imaplib documents as overridable."""

    def __init__(
        self, host: str, port: int, *, context: ssl.SSLContext | None, connect_seconds: float, patience: Patience
    ) -> None:
        self._context = context
        self._connect_seconds = connect_seconds
        self._patience = patience
        self._line: Line | None = None
        self._held = 0
        self.receive: Receive | None = None
        super().__init__(host, port)

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        """Connects, with TLS from the first byte if there is a context."""
        self.host, self.port = host, port
        seconds = timeout if timeout is not None else self._connect_seconds
        self._line = Line(host, port, context=self._context, connect_seconds=seconds, patience=self._patience)
        self.sock = self._line.sock

    def secure(self, context: ssl.SSLContext) -> None:
        """TLS on the open connection, after the server's OK to STARTTLS.  Raises ``abort`` if more came with that."""
        assert self._line is not None
        if not self._line.secure(context):
            raise self.abort("unexpected plain text between STARTTLS and TLS")
        self.sock = self._line.sock
        self.untagged_responses = {}

    def read(self, size: int) -> bytes:
        """A literal of so many bytes."""
        pieces = self._pieces(size)
        if size <= INLINE:
            self._hold(size)
            return b"".join(pieces)
        if self.receive is None:
            raise self.abort(f"a literal of {size} bytes where none was asked for")
        stands_for_it = self.receive(size, pieces)
        for _ in pieces:  # what the receiver did not want
            pass
        return stands_for_it

    def _pieces(self, size: int) -> Iterator[bytes]:
        assert self._line is not None
        left = size
        while left:
            piece = self._line.read(min(left, CHUNK))
            if not piece:
                raise self.abort(f"the connection ended {left} bytes before the end of a literal")
            left -= len(piece)
            yield piece

    def readline(self) -> bytes:
        assert self._line is not None
        line = self._line.readline(LONGEST_LINE)
        if len(line) >= LONGEST_LINE:
            raise self.abort(f"a line of more than {LONGEST_LINE} bytes")
        self._hold(max(len(line), PER_LINE))
        # Some servers end a command with a bare "A1 OK", which imaplib would not recognise.
        return line[:-2] + b" \r\n" if _BARE_END.fullmatch(line) else line

    def arrived(self) -> bytes:
        """Everything that has come by now, from our buffer, that of TLS and the system's; never waits.

        Afterwards only something new makes the socket readable.  Raises ``abort`` when the server has hung up, or sends
        without end.
        """
        assert self._line is not None
        try:
            return self._line.arrived()
        except ConnectionError as error:
            raise self.abort(str(error)) from None

    def _hold(self, octets: int) -> None:
        self._held += octets
        if self._held > MOST_HELD:
            raise self.abort(f"the answer to one command takes more than {MOST_HELD} bytes")

    def send(self, data: Buffer) -> None:
        assert self._line is not None
        self._held = 0
        self._line.send(data)

    def shutdown(self) -> None:
        """Closes the connection.  Twice is the same as once."""
        if self._line is not None:
            self._line.close()
