"""One connection that speaks POP3 (RFC 1939), and its ways to fail as three: refused, unparsable, broken.

poplib is not used: it takes no line of more than 2,048 bytes, holds a mail as a list of lines, and its timeout holds
for a single read.
"""

from __future__ import annotations

import base64
import contextlib
import ssl
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Final

from maildaemon_adapters.pop3.dots import Unstuffer
from maildaemon_adapters.pop3.words import read_abilities
from maildaemon_adapters.tcp.line import Line
from maildaemon_adapters.tcp.patience import Patience

LONGEST_STATUS: Final = 1 << 16
"""Bytes of a status line; RFC 2449 §4 allows 512, and some servers do not know."""

LONGEST_LISTING: Final = 1 << 26
"""Bytes of a listing: of one with ``MOST_LISTED`` lines, whatever stands in them."""

MOST_LISTED: Final = 500_000
"""Lines of a listing: a line of two bytes takes a hundred in memory before anybody knows what it means."""

SENT_AT_ONCE: Final = 100
"""So many commands are sent before the first answer is read: few enough that they always fit into a socket's buffers,
or both sides could wait for each other (RFC 2449 §6.6)."""

GOODBYE_SECONDS: Final = 5.0


class Refused(Exception):
    """The server answered -ERR; the connection is as good as before.  The text is the server's."""


class Unparsable(Exception):
    """An answer that nobody can read; the connection is of no use any more."""


class Broken(Exception):
    """The connection is of no use any more."""


class OutOfStep(Unparsable):
    """Something stands where an answer should begin: what came before it did not end where it seemed to."""


class Connection:
    """One connection with one server, used by one thread at a time.

    ``marked``: mails are marked as deleted, so that QUIT would delete them.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        context: ssl.SSLContext | None,
        connect_seconds: float,
        patience: Patience,
    ) -> None:
        """Connects; ``context`` is for TLS from the first byte.

        Raises what ``Line`` raises, and ``Refused``, ``Unparsable`` and ``Broken`` for a greeting that is none.
        """
        self._patience = patience
        self._connect_seconds = connect_seconds
        self._buffer = b""
        self._bare = False
        self._awaited = 0
        self._reading = False
        self.usable = True
        self.marked = False
        self.abilities: Mapping[str, str] = {}
        self._line = Line(host, port, context=context, connect_seconds=connect_seconds, patience=patience)
        try:
            self._awaited = 1
            self._patience.restart(connect_seconds)
            self.greeting = self._read(self._readline())
        except BaseException:
            self._give_up()
            raise

    # ---- before and after the login ----

    def learn(self) -> None:
        """CAPA: what the server can do at present; it may be more after the login.  None of it if it has no CAPA."""
        try:
            self.abilities = read_abilities(self.listing("CAPA"))
        except Refused:
            self.abilities = {}

    def secure(self, context: ssl.SSLContext) -> bool:
        """STLS (RFC 2595 §4); False if there was more behind the server's consent, which nobody could trust.

        Raises ``Refused``, and what ssl and sockets raise.
        """
        self.command("STLS")
        self._patience.restart(self._connect_seconds)
        secured = False
        try:
            secured = not self._buffer and self._line.secure(context)
        finally:
            if not secured:
                self._give_up()
        self.abilities = {}  # what was said in the open counts for nothing (RFC 2595 §4)
        return secured

    def authenticate(self, mechanism: str, answer: Callable[[bytes], bytes | None]) -> str:
        """AUTH (RFC 5034 §4), with nothing on its own line: some servers take the first message only when asked for it.

        ``answer`` gets what the server says and gives the reply; None ends it.  Raises ``Refused``.
        """
        with self._using():
            line = f"AUTH {mechanism}"
            while True:
                self._send([line])
                got = self._readline()
                if got != b"+" and not got.startswith(b"+ "):
                    return self._read(got)
                if line == "*":
                    raise Unparsable("the server goes on with a login that was broken off")
                reply = answer(_decoded(got[1:].strip()))
                line = "*" if reply is None else base64.b64encode(reply).decode()

    def leave(self) -> None:
        """Ends the session without deleting anything.  Never raises."""
        with contextlib.suppress(Exception):
            if self.usable and not self.marked and not self._awaited:
                self._patience.restart(GOODBYE_SECONDS)
                self._line.send(b"QUIT\r\n")
                self._readline()
        self._give_up()

    # ---- commands ----

    def command(self, line: str) -> str:
        """The text of its ``+OK``.  Raises ``Refused``."""
        with self._using():
            self._send([line])
            return self._status()

    def commands(self, lines: Sequence[str]) -> Iterator[str | Refused]:
        """Commands of one answer line each: each answer in turn, several commands at once where that is allowed."""
        at_once = SENT_AT_ONCE if "PIPELINING" in self.abilities else 1
        for at in range(0, len(lines), at_once):
            some = lines[at : at + at_once]
            with self._using():
                self._send(some)
                for _ in some:
                    try:
                        answer: str | Refused = self._status()
                    except Refused as error:
                        answer = error
                    yield answer

    def listing(self, line: str) -> list[bytes]:
        """The lines of an answer of several lines, without their ends.  Raises ``Refused``."""
        with self._using():
            self._send([line])
            self._status()
            found, size = [], 0
            for piece in self._pieces():
                size += len(piece)
                if size > LONGEST_LISTING:
                    raise Unparsable(f"an answer of more than {LONGEST_LISTING} bytes to {line}")
                found.append(piece)
            whole = b"".join(found)
            found.clear()
            if whole.count(b"\n") + whole.count(b"\r") - whole.count(b"\r\n") > MOST_LISTED:
                raise Unparsable(f"an answer of more than {MOST_LISTED} lines to {line}")
            return whole.splitlines()

    def mails(self, lines: Sequence[str], *, at_once: int) -> Generator[Iterator[bytes] | Refused]:
        """Commands that each bring a mail, or a part of one: each answer in turn, as pieces, to be read to its end.

        Several commands are sent at once, where that is allowed.  ``OutOfStep`` is raised when what was given last did
        not end where it seemed to; so that it is raised of the last one too, a NOOP follows.
        """
        if "PIPELINING" not in self.abilities:
            at_once = 1
        lines = [*lines, "NOOP"]
        for at in range(0, len(lines), at_once):
            some = lines[at : at + at_once]
            with self._using():
                self._send(some)
                for line in some:
                    try:
                        self._status()
                    except Refused as error:
                        if line != "NOOP":
                            yield error
                        continue
                    if line != "NOOP":
                        yield self._pieces()

    def delete(self, numbers: Iterable[int]) -> Iterator[str | Refused]:
        """DELE: marks mails as deleted; only ``quit`` deletes them."""
        self.marked = True
        return self.commands([f"DELE {number}" for number in numbers])

    def quit(self) -> str:
        """QUIT: deletes what is marked, and ends the session.  Raises ``Refused`` when not all of it was deleted."""
        try:
            return self.command("QUIT")
        finally:
            self._give_up()

    # ---- how answers are read ----

    def _send(self, lines: Sequence[str]) -> None:
        self._patience.restart()
        self._awaited = len(lines)
        self._line.send("".join(f"{line}\r\n" for line in lines).encode())

    def _status(self) -> str:
        """The text of a status line.  Raises ``Refused`` and ``OutOfStep``."""
        if self._reading:
            raise Broken("an answer was left unread")
        self._patience.restart()
        return self._read(self._readline())

    def _read(self, line: bytes) -> str:
        word, _, text = line.partition(b" ")
        shown = text.decode("utf-8", "replace").strip()
        match word.upper():
            case b"+OK":
                self._awaited -= 1
                return shown
            case b"-ERR":
                self._awaited -= 1
                raise Refused(shown)
        raise OutOfStep(f"an answer that begins neither with +OK nor with -ERR: {line[:80].decode('utf-8', 'replace')}")

    def _readline(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LONGEST_STATUS:
                raise Unparsable(f"a line of more than {LONGEST_STATUS} bytes")
            self._buffer += self._more()
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        self._bare = not line.endswith(b"\r")
        return line.rstrip(b"\r")

    def _pieces(self) -> Iterator[bytes]:
        """What follows the status line, without the dots that are not its own."""
        self._awaited += 1
        self._reading = True
        return self._read_pieces(Unstuffer(bare=self._bare))

    def _read_pieces(self, unstuffer: Unstuffer) -> Iterator[bytes]:
        with self._using():
            block, self._buffer = self._buffer, b""
            while True:
                if piece := unstuffer.feed(block):
                    yield piece
                if unstuffer.over:
                    self._buffer = unstuffer.rest
                    self._awaited -= 1
                    self._reading = False
                    return
                block = self._more()

    def _more(self) -> bytes:
        block = self._line.read_some()
        if not block:
            raise Broken("the server hung up in the middle of an answer")
        return block

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """What goes wrong in here as one of our three; unless everything awaited has come, the connection is over."""
        if not self.usable:
            raise Broken("the connection was given up")
        try:
            yield
        except Refused:
            raise
        except (Unparsable, Broken):
            self._give_up()
            raise
        except OSError as error:
            self._give_up()
            raise Broken(error.strerror or str(error) or type(error).__name__) from None
        except BaseException:  # a spool that is full, in the middle of a mail; or nobody wants the rest
            if self._awaited:
                self._give_up()
            raise

    def _give_up(self) -> None:
        self.usable = False
        self.marked = False
        with contextlib.suppress(Exception):
            self._line.close()


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text
