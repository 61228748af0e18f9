"""IDLE (RFC 2177): the server is asked to tell of news, and what it says is taken up without ever waiting for it.

Neither imaplib's nor IMAPClient's own IDLE is used: they take a server that hung up for one that is silent, and a line
that comes in two pieces for the end.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from typing import Final

from maildaemon_adapters.imap.wire import Broken, Connection

END_SECONDS: Final = 10.0
"""So long the server may take to end the waiting."""

GOODBYE_SECONDS: Final = 1.0

LONGEST_LINE: Final = 1 << 20
"""Bytes of a line that nobody has asked for; one that is longer is not IMAP."""

MOST_CHATTER: Final = 1 << 20
"""Bytes that are listened to while the server is to say one thing.  Each earns it time, so there must be an end."""

_NEWS = re.compile(rb"\* 0*[1-9][0-9]* (?:EXISTS|RECENT)\b", re.IGNORECASE)
_BYE = re.compile(rb"\* BYE\b", re.IGNORECASE)
_NUMBERS = itertools.count(1)


class Idling:
    """One IDLE in the open folder of a connection.  Raises ``Broken``, and from then on each time."""

    def __init__(self, connection: Connection, *, news: bool) -> None:
        """``news``: there is something already."""
        self._connection = connection
        self._transport = connection.transport
        self._tag = b"W%d" % next(_NUMBERS)
        self._half = b""
        self._news = news
        self._over = ""

    def begin(self) -> bool:
        """Whether the server waits with us; if not, the connection is as it was before."""
        with self._connection.commanding():
            self._transport.send(self._tag + b" IDLE\r\n")
            for line in self._lines():
                if line.startswith(b"+"):
                    return True
                if self._is_ours(line):
                    return False
                self._hear(line)
        raise self._chatter()

    def drain(self) -> bool:
        """Takes up all that has come, a half line included; whether there was news in it."""
        if self._over:
            raise Broken(self._over)
        try:
            with self._connection.commanding():
                *lines, self._half = (self._half + self._transport.arrived()).split(b"\n")
                for line in lines:
                    if self._is_ours(line):
                        # Servers do this when they want to be rid of us; some of those behave oddly afterwards.
                        raise Broken("the server ended the waiting by itself")
                    self._hear(line)
                if len(self._half) > LONGEST_LINE:
                    raise Broken("the server sends a line without end")
        except Broken as error:
            self._over = str(error)
            raise
        news, self._news = self._news, False
        return news

    def end(self) -> None:
        """Says DONE, and awaits that the server has understood."""
        if self._over:
            raise Broken(self._over)
        with self._connection.commanding(END_SECONDS):
            self._transport.send(b"DONE\r\n")
            for line in self._lines():
                if self._is_ours(line):
                    return
                self._hear(line)
        raise self._chatter()

    def abandon(self) -> None:
        """Says goodbye without awaiting anything: who leaves five hundred mailboxes cannot wait for each."""
        with contextlib.suppress(Exception), self._connection.commanding(GOODBYE_SECONDS):
            self._transport.send(b"DONE\r\n" + self._tag + b"X LOGOUT\r\n")
        self._connection.usable = False

    def _chatter(self) -> Broken:
        self._connection.usable = False
        return Broken("the server chatters without end")

    def _lines(self) -> Iterator[bytes]:
        heard = 0
        while heard < MOST_CHATTER:
            yield (line := self._line())
            heard += len(line)

    def _line(self) -> bytes:
        line, self._half = self._half + self._transport.readline(), b""
        if not line.endswith(b"\n"):
            raise Broken("the server hung up")
        return line

    def _hear(self, line: bytes) -> None:
        if _BYE.match(line):
            raise Broken(f"the server says goodbye: {line[6:].decode('utf-8', 'replace').strip()}")
        self._news |= _NEWS.match(line) is not None

    def _is_ours(self, line: bytes) -> bool:
        return line.startswith(self._tag + b" ")
