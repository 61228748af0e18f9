"""An IMAP server that behaves, but for the commands for which it has been told what to answer instead.

    with ScriptedImap(mails={1: b"Subject: one\\r\\n\\r\\n"}) as server:
        server.instead("UID FETCH", b"* 1 FETCH (UID 1 BODY[] NIL)\\r\\n", OK)

It knows no more of the protocol than the client under test uses, and one folder.
"""

from __future__ import annotations

import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Iterator

from tests.servers.scripted import Dialogue, ScriptedServer

Step = bytes | Callable[["Conversation"], None]
"""Bytes to send, in which ``{tag}`` stands for the command's tag, or something to do."""

OK = b"{tag} OK done\r\n"


class ScriptedImap(ScriptedServer):
    """Plain text on ``port`` of 127.0.0.1.

    ``lines`` holds what clients sent, without tags; ``connections`` counts them. ``mails`` are by UID, and change
    when commands change them; ``flags`` as well. ``uidnext``: whether it tells the next UID. ``context``: TLS from
    the first byte, or after STARTTLS with ``starttls``.
    """

    def __init__(
        self,
        *,
        mails: dict[int, bytes] | None = None,
        capabilities: str = "IMAP4rev1 UIDPLUS MOVE",
        uidvalidity: int = 7,
        greeting: bytes = b"* OK scripted\r\n",
        context: ssl.SSLContext | None = None,
        starttls: bool = False,
    ) -> None:
        super().__init__(greeting=greeting, context=context, upgrade=starttls)
        self.mails = dict(mails or {})
        self.flags: dict[int, set[str]] = defaultdict(set)
        self.moved: dict[str, list[bytes]] = {}
        self.capabilities = capabilities
        self.uidnext = False
        self.uidvalidity = uidvalidity

    def _begin(self, client: socket.socket) -> Conversation:
        return Conversation(self, client)


class Conversation(Dialogue):
    """One connection; ``tag`` and ``line`` are those of the command in hand."""

    def __init__(self, server: ScriptedImap, client: socket.socket) -> None:
        self.server = server
        self.tag = b""
        super().__init__(server, client)

    def take(self, line: str) -> str:
        tag, _, command = line.partition(" ")
        self.tag = tag.encode("latin-1")
        return command

    def send(self, data: bytes) -> None:
        super().send(data.replace(b"{tag}", self.tag))

    def read_line(self) -> bytes:
        """What the client says next, without the end of the line; nothing at the end of the connection."""
        return self._file.readline().rstrip(b"\r\n")

    def behave(self) -> None:
        if self.line.upper() == "STARTTLS" and self.server.context is not None:
            self.send(OK)
            self.secure(self.server.context)
            return
        for piece in self._answer(self.line.split()):
            self.send(piece)
        self.send(OK)

    def _answer(self, words: list[str]) -> Iterator[bytes]:  # noqa: PLR0912 - a command each
        server = self.server
        match [word.upper() for word in words[:2]]:
            case ["CAPABILITY", *_]:
                yield f"* CAPABILITY {server.capabilities}\r\n".encode()
            case [("SELECT" | "EXAMINE") as how, *_]:
                yield f"* {len(server.mails)} EXISTS\r\n* 0 RECENT\r\n* FLAGS (\\Seen \\Deleted)\r\n".encode()
                yield f"* OK [UIDVALIDITY {server.uidvalidity}] numbers\r\n".encode()
                if server.uidnext:
                    yield b"* OK [UIDNEXT %d] next\r\n" % (max(server.mails, default=0) + 1)
                if how == "SELECT":
                    yield b"* OK [PERMANENTFLAGS (\\Seen \\Deleted)] flags\r\n"
            case ["LIST", *_]:
                yield b'* LIST () "/" INBOX\r\n'
            case ["AUTHENTICATE", *_]:
                self.send(b"+ \r\n")
                server.lines.append(self._file.readline().decode().strip())
            case ["UID", "SEARCH"]:
                yield b"* SEARCH" + b"".join(b" %d" % uid for uid in self._uids(words[3])) + b"\r\n"
            case ["UID", "FETCH"]:
                for uid in self._uids(words[2]):
                    yield self._fetched(uid, " ".join(words[3:]))
            case ["UID", "STORE"]:
                for uid in self._uids(words[2]):
                    server.flags[uid].add(words[4].strip("()"))
            case ["UID", "EXPUNGE"]:
                for uid in self._uids(words[2]):
                    if "\\Deleted" in server.flags[uid]:
                        del server.mails[uid]
            case ["UID", ("MOVE" | "COPY") as how]:
                target = server.moved.setdefault(words[3].strip('"'), [])
                for uid in self._uids(words[2]):
                    target.append(server.mails[uid] if how == "COPY" else server.mails.pop(uid))
            case ["LOGOUT", *_]:
                yield b"* BYE bye\r\n"

    def _uids(self, uid_set: str) -> list[int]:
        """Those that exist; ``n:*`` has the last one in any case (RFC 9051 §6.4.8)."""
        last = max(self.server.mails, default=0)
        wanted: set[int] = set()
        for piece in uid_set.split(","):
            low, _, high = piece.partition(":")
            ends = sorted(last if end == "*" else int(end) for end in (low, high or low))
            wanted |= {uid for uid in self.server.mails if ends[0] <= uid <= ends[1]}
        return sorted(wanted)

    def _fetched(self, uid: int, items: str) -> bytes:
        raw = self.server.mails[uid]
        number = sorted(self.server.mails).index(uid) + 1
        parts = [b"UID %d" % uid]
        if "FLAGS" in items:
            parts.append(f"FLAGS ({' '.join(sorted(self.server.flags[uid]))})".encode())
        if "RFC822.SIZE" in items:
            parts.append(b'RFC822.SIZE %d INTERNALDATE "01-Jan-2026 12:00:00 +0200"' % len(raw))
        if "EMAILID" in items:
            parts.append(b"EMAILID (M%d)" % uid)
        if "HEADER" in items:
            head = raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            name = b"BODY[HEADER.FIELDS (MESSAGE-ID DATE FROM TO SUBJECT)]"
            parts.append(name + b" {%d}\r\n" % len(head) + head)
        if "BODY.PEEK[]" in items:
            parts.append(b"BODY[] {%d}\r\n" % len(raw) + raw)
        return b"* %d FETCH (" % number + b" ".join(parts) + b")\r\n"
