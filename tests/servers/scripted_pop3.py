"""A POP3 server that behaves, but for the commands for which it has been told what to do instead.

    with ScriptedPop3([b"Subject: one\\r\\n\\r\\n"]) as server:
        server.instead("RETR 1", b"-ERR not today\\r\\n")

It deletes on QUIT, one session after the other; ``ids`` are its UIDLs, which tests change as they like.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence

from tests.servers.scripted import Dialogue, ScriptedServer

Step = bytes | Callable[["Talk"], None]
"""Bytes to send, or something to do."""

CAPA = ("TOP", "UIDL", "USER", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE")


def stuffed(raw: bytes) -> bytes:
    """An answer of several lines that says ``raw`` (RFC 1939 §3)."""
    whole = raw if raw.endswith(b"\r\n") else raw + b"\r\n"
    return re.sub(rb"(?m)(?<![^\n])\.", b"..", whole) + b".\r\n"


class ScriptedPop3(ScriptedServer):
    """Plain text on ``port`` of 127.0.0.1, TLS if there is a ``context``, with ``stls`` only after STLS.

    ``mails`` are in the server's order, ``ids`` their UIDLs; ``lines`` holds what clients sent, ``connections`` counts
    them.  ``abilities`` are what CAPA says; without any there is no CAPA.
    """

    def __init__(
        self,
        mails: Iterable[bytes] = (),
        *,
        abilities: Sequence[str] = CAPA,
        greeting: bytes = b"+OK scripted\r\n",
        context: ssl.SSLContext | None = None,
        stls: bool = False,
    ) -> None:
        super().__init__(greeting=greeting, context=context, upgrade=stls)
        self.mails = list(mails)
        self.ids: list[str] = [f"id-{number}" for number in range(1, len(self.mails) + 1)]
        self.abilities = abilities

    def plant(self, raw: bytes, uidl: str, *, at: int | None = None) -> None:
        """A mail arrives, at the end or where it is wanted."""
        where = len(self.mails) if at is None else at
        self.mails.insert(where, raw)
        self.ids.insert(where, uidl)

    def remove(self, uidl: str) -> None:
        """Another program deletes a mail."""
        at = self.ids.index(uidl)
        del self.mails[at], self.ids[at]

    def sent(self, *commands: str) -> list[str]:
        """The commands that clients sent which begin so."""
        return [line for line in self.lines if line.startswith(commands)]

    def _begin(self, client: socket.socket) -> Talk:
        return Talk(self, client)


class Talk(Dialogue):
    """One connection; ``line`` is the command in hand.  What it shows is as it was at the login."""

    def __init__(self, server: ScriptedPop3, client: socket.socket) -> None:
        self.server = server
        self.mails: list[tuple[str, bytes]] = []
        self.marked: set[int] = set()
        super().__init__(server, client)

    def ahead(self) -> bool:
        """Whether the client has sent more than the command in hand."""
        self._client.setblocking(False)
        try:
            return bool(self._file.peek(1))
        finally:
            self._client.setblocking(True)

    def behave(self) -> None:
        if self.line.upper() == "STLS" and self.server.context is not None:
            self.send(b"+OK begin\r\n")
            self.secure(self.server.context)
            return
        self.send(self._answer([word.upper() for word in self.line.split()]))
        if self.line.upper() == "QUIT":
            self.close()

    def _answer(self, words: list[str]) -> bytes:  # noqa: PLR0912 - a command each
        server = self.server
        match words:
            case ["CAPA"] if server.abilities:
                return b"+OK\r\n" + "".join(f"{each}\r\n" for each in server.abilities).encode() + b".\r\n"
            case ["USER", *_]:
                return b"+OK\r\n"
            case ["PASS", *_] | ["AUTH", "PLAIN"]:
                if words[0] == "AUTH":
                    self.send(b"+ \r\n")
                    self.heard()
                self.mails = list(zip(server.ids, server.mails, strict=True))
                return b"+OK come in\r\n"
            case ["STAT"]:
                return b"+OK %d %d\r\n" % (len(self.mails), sum(len(raw) for _, raw in self.mails))
            case ["UIDL"]:
                lines = "".join(f"{at} {uidl}\r\n" for at, (uidl, _) in enumerate(self.mails, start=1))
                return b"+OK\r\n" + lines.encode() + b".\r\n"
            case ["LIST"]:
                lines = "".join(f"{at} {len(raw)}\r\n" for at, (_, raw) in enumerate(self.mails, start=1))
                return b"+OK\r\n" + lines.encode() + b".\r\n"
            case ["TOP", number, _]:
                return b"+OK\r\n" + stuffed(self.mails[int(number) - 1][1].partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            case ["RETR", number]:
                return b"+OK\r\n" + stuffed(self.mails[int(number) - 1][1])
            case ["DELE", number]:
                self.marked.add(int(number))
                return b"+OK\r\n"
            case ["QUIT"]:
                for marked in self.marked:
                    with contextlib.suppress(ValueError):
                        server.remove(self.mails[marked - 1][0])
                return b"+OK bye\r\n"
            case ["NOOP"]:
                return b"+OK\r\n"
        return b"-ERR unknown command\r\n"
