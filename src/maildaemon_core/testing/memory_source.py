"""The memory twin of a mail source: a server that lives in a dictionary, and a session with it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import attrs

from maildaemon_core.errors import FolderMissing, SourceUnavailable, Trouble
from maildaemon_core.message import Cursor, Envelope, FolderRef, Headers, MessageRef
from maildaemon_core.mime import read_headers
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.ports import (
    Armed,
    Fetched,
    Finding,
    FolderInfo,
    Known,
    Level,
    Page,
    Settled,
    Spool,
    Unfetched,
    Vanished,
)
from maildaemon_core.testing.faults import Fuse

INBOX = FolderRef("INBOX")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@attrs.define
class MemoryMail:
    """A mail as it lies on the server."""

    raw: bytes
    received: datetime
    flags: set[str] = attrs.field(factory=set)
    strong_id: str | None = None


@attrs.define
class MemoryFolder:
    uidvalidity: int = 1
    next_uid: int = 1
    mails: dict[int, MemoryMail] = attrs.field(factory=dict)


class MemoryServer:
    """What lasts: folders and their mails, changed by the world (``plant``, ``remove``, ``renumber``) and by
    sessions."""

    def __init__(self, *folders: str) -> None:
        self.folders: dict[FolderRef, MemoryFolder] = {FolderRef(name): MemoryFolder() for name in folders or (INBOX,)}
        self.down = False
        self.tells = False
        self.unreadable: set[bytes] = set()
        self.poison: set[bytes] = set()
        self.opened = 0
        self.fetches: list[tuple[MessageRef, ...]] = []
        self.lines: set[socket.socket] = set()
        self._clock = 0
        self._uidvalidity = 1

    def plant(
        self, raw: bytes, folder: str = INBOX, *, received: datetime | None = None, strong_id: str | None = None
    ) -> MessageRef:
        """A new mail arrives."""
        box = self.folders[FolderRef(folder)]
        self._clock += 1
        uid = box.next_uid
        box.next_uid += 1
        box.mails[uid] = MemoryMail(raw, received or EPOCH + timedelta(minutes=self._clock), strong_id=strong_id)
        for line in list(self.lines):
            with suppress(OSError):
                line.send(b"!")
        return MessageRef(FolderRef(folder), str(box.uidvalidity), str(uid))

    def remove(self, ref: MessageRef) -> None:
        """Another client deletes a mail; one that is gone already is fine."""
        box = self.folders[ref.folder]
        if ref.uidvalidity == str(box.uidvalidity):
            box.mails.pop(int(ref.uid), None)

    def renumber(self, folder: str = INBOX, *, reverse: bool = False, new_times: bool = False) -> None:
        """The folder gets another UIDVALIDITY and every mail another UID, with ``new_times`` another time of receipt
        too."""
        box = self.folders[FolderRef(folder)]
        mails = list(box.mails.values())
        if reverse:
            mails.reverse()
        for mail in mails if new_times else ():
            self._clock += 1
            mail.received = EPOCH + timedelta(minutes=self._clock)
        box.uidvalidity = self.next_uidvalidity()
        box.mails = dict(enumerate(mails, start=1))
        box.next_uid = len(mails) + 1

    def next_uidvalidity(self) -> int:
        """One that no folder had before."""
        self._uidvalidity = max(self._uidvalidity, *(box.uidvalidity for box in self.folders.values())) + 1
        return self._uidvalidity

    def hang_up(self) -> None:
        """Ends every session that waits."""
        for line in list(self.lines):
            self.lines.discard(line)
            line.close()

    def contents(self, folder: str = INBOX) -> list[bytes]:
        return [mail.raw for mail in self.folders[FolderRef(folder)].mails.values()]


class MemorySource:
    """A session with a ``MemoryServer``; where that ``tells``, it can wait for news (``Wakeable``)."""

    def __init__(self, server: MemoryServer, spool: Spool, fuse: Fuse | None = None) -> None:
        self._server = server
        self._spool = spool
        self._fuse = fuse or Fuse()
        self._fuse.tick("source.open")
        self._listed: dict[FolderRef, int] = {}
        self._line: socket.socket | None = None
        self._servers_end: socket.socket | None = None
        server.opened += 1
        self._alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._hang_up()

    def folders(self) -> Sequence[FolderInfo]:
        self._alive()
        return [FolderInfo(name=name) for name in self._server.folders]

    def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
        self._fuse.tick("source.list")
        box = self._box(folder)
        validity, _, last = (cursor or Cursor(f"{box.uidvalidity}:0")).partition(":")
        renumbered = validity != str(box.uidvalidity) or not last.isdecimal()
        after = 0 if renumbered else int(last)
        uids = sorted(uid for uid in box.mails if uid > after)
        listed, more = uids[:limit], len(uids) > limit
        end = listed[-1] if more else max(box.next_uid - 1, after)
        self._listed[folder] = end + 1
        return Page(
            envelopes=tuple(self._envelope(folder, box, uid) for uid in listed),
            cursor=Cursor(f"{box.uidvalidity}:{end}"),
            more=more,
            renumbered=renumbered,
        )

    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished | Unfetched]:
        self._server.fetches.append(tuple(refs))
        for ref in refs:
            self._fuse.tick("source.fetch")
            box = self._box(ref.folder)
            if ref.uidvalidity != str(box.uidvalidity):
                yield Unfetched(ref=ref, trouble=_trouble("FolderRenumbered", f"{ref.folder} was renumbered"))
                continue
            mail = box.mails.get(int(ref.uid))
            if mail is None:
                yield Vanished(ref=ref)
            elif mail.raw in self._server.poison:
                raise SourceUnavailable("the connection broke")
            elif mail.raw in self._server.unreadable:
                yield Unfetched(ref=ref, trouble=_trouble("Unreadable", "the server cannot render this mail"))
            else:
                yield Fetched(ref=ref, content=self._spool.keep([mail.raw]))

    def settle(self, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Settled | Trouble]:
        answers: dict[MessageRef, Settled | Trouble] = {}
        for known in mails:
            self._fuse.tick("source.settle")
            answers[known.ref] = self._settle(known, care)
            self._fuse.tick("source.settled")
        return answers

    def check(self, folders: Sequence[FolderRef], care: Aftercare) -> Sequence[Finding]:
        return [
            Finding(level=Level.FINE, subject=f"folder {folder}", message=f"{len(self._box(folder).mails)} mails")
            if folder in self._server.folders
            else Finding(level=Level.FAULT, subject=f"folder {folder}", message="does not exist", remedy="create it")
            for folder in folders
        ]

    def server(self) -> str:
        return "memory"

    def arm(self, folder: FolderRef) -> Armed | None:
        self._fuse.tick("source.arm")
        box = self._box(folder)
        if not self._server.tells:
            return None
        self._line, self._servers_end = socket.socketpair()
        self._line.setblocking(False)
        self._server.lines.add(self._servers_end)
        if box.next_uid > self._listed.get(folder, 0):
            self._servers_end.send(b"!")
        return Armed(descriptor=self._line.fileno(), seconds=1740)

    def drain(self) -> bool:
        assert self._line is not None
        try:
            if not (told := self._line.recv(1 << 16)):
                raise SourceUnavailable("the memory server hung up")
        except BlockingIOError:
            return False
        return bool(told)

    def disarm(self) -> None:
        over = self._servers_end not in self._server.lines
        self._hang_up()
        if over:
            raise SourceUnavailable("the memory server hung up")
        self._alive()

    def _hang_up(self) -> None:
        for end in (self._line, self._servers_end):
            if end is not None:
                self._server.lines.discard(end)
                end.close()
        self._line = self._servers_end = None

    def _alive(self) -> None:
        if self._server.down:
            raise SourceUnavailable("the memory server is down", remedy="start it")

    def _box(self, folder: FolderRef) -> MemoryFolder:
        self._alive()
        if folder not in self._server.folders:
            raise FolderMissing(f"there is no folder {folder!r}", remedy="create it, or correct `folders`")
        return self._server.folders[folder]

    def _envelope(self, folder: FolderRef, box: MemoryFolder, uid: int) -> Envelope:
        mail = box.mails[uid]
        return Envelope(
            ref=MessageRef(folder, str(box.uidvalidity), str(uid)),
            headers=_headers(mail.raw),
            received=mail.received,
            size=len(mail.raw),
            strong_id=mail.strong_id,
        )

    def _settle(self, known: Known, care: Aftercare) -> Settled | Trouble:
        try:
            box = self._box(known.ref.folder)
        except FolderMissing as error:
            return error.trouble()
        if known.ref.uidvalidity != str(box.uidvalidity):
            return _trouble("FolderRenumbered", f"{known.ref.folder} was renumbered", transient=False)
        uid = int(known.ref.uid)
        mail = box.mails.get(uid)
        if mail is None:
            return Settled(gone=True)
        if _headers(mail.raw).fingerprint != known.identity.fingerprint:
            return _trouble("AnotherMail", "there is another mail under this UID", transient=False)
        match care.action:
            case Action.DELETE:
                del box.mails[uid]
            case Action.SEEN:
                mail.flags.add("\\Seen")
            case Action.MOVE:
                target = self._server.folders.setdefault(FolderRef(care.folder or ""), MemoryFolder())
                there = MessageRef(FolderRef(care.folder or ""), str(target.uidvalidity), str(target.next_uid))
                target.mails[target.next_uid] = box.mails.pop(uid)
                target.next_uid += 1
                return Settled(moved_to=there)
            case Action.KEEP:
                pass
        return Settled()


def _headers(raw: bytes) -> Headers:
    ends = [at for mark in (b"\r\n\r\n", b"\n\n") if (at := raw.find(mark)) >= 0]
    return read_headers(raw[: min(ends)] if ends else raw)


def _trouble(error: str, message: str, *, transient: bool = True) -> Trouble:
    return Trouble(error=error, message=message, remedy="look at the server", transient=transient)
