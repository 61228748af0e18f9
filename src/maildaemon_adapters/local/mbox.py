"""The mail source ``mbox``: one mbox file, or a folder of them, each a folder of the mailbox.

A mail is known by a digest over its bytes, so it may lie anywhere in the file.  A file that has not changed since it
was listed is not read again; one that has is read once from its beginning.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import attrs

from maildaemon_adapters.local import headers
from maildaemon_adapters.local.answers import check_folder
from maildaemon_adapters.local.disk import Disk, DiskFile
from maildaemon_adapters.local.mbox_files import MboxFiles, reader_of, stamp_of
from maildaemon_adapters.local.mbox_format import BLOCK, Mail, NotMbox, Piece, dated, header_block, mails, unquoted
from maildaemon_adapters.local.mbox_tidying import ONE_FILE, settle
from maildaemon_adapters.local.paging import Look, Paging, Unlisted
from maildaemon_adapters.local.rewriting import Reached
from maildaemon_adapters.local.settings import MboxSettings
from maildaemon_adapters.local.shelf import folder_fault, printable, reason, trouble, unread
from maildaemon_adapters.local.walk import Item
from maildaemon_core.errors import FolderRefused, Trouble
from maildaemon_core.message import Cursor, Envelope, FolderRef, MessageRef
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.ports import (
    Fetched,
    Finding,
    FolderInfo,
    Known,
    Page,
    Settled,
    Spool,
    Unfetched,
    Vanished,
)

KIND: Final = "mbox"
UNENDED: Final = 60.0
"""Seconds for which a last mail without an empty line behind it waits for more."""


@attrs.frozen
class Lying:
    """A file as it was read, and the mails in it.  ``waits``: all but the last, which may still be written to."""

    stamp: str
    mails: Mapping[str, Mail]
    waits: bool


class MboxSource:
    """A session with mbox files below ``disk``; ``only``: the name of the one file that is the whole mailbox.

    ``reached`` is told of each step of a rewriting.
    """

    def __init__(
        self,
        disk: Disk,
        settings: MboxSettings,
        spool: Spool,
        *,
        only: str | None = None,
        reached: Reached = lambda _: None,
    ) -> None:
        self._files = MboxFiles(disk, only, lock_seconds=settings.lock_seconds, reached=reached)
        self._settings = settings
        self._spool = spool
        self._paging = Paging(KIND)
        self._lying: dict[FolderRef, Lying] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._files.disk.close()

    # ------------------------------------------------------------------------------------------------------- looking

    def folders(self) -> Sequence[FolderInfo]:
        return self._files.folders()

    def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
        return self._paging.page(
            folder,
            cursor,
            limit,
            look=lambda: self._look(folder),
            describe=lambda item: self._describe(folder, item),
            stamp=lambda: self._files.stamp(folder),
        )

    def _look(self, folder: FolderRef) -> Look:
        lying = self._lying[folder] = self._read(folder)
        found = [Item((number, ""), mail.uid) for number, mail in enumerate(lying.mails.values()) if not mail.internal]
        return Look(found, stamp="" if lying.waits else lying.stamp)

    def _read(self, folder: FolderRef) -> Lying:
        """All mails of a file, read from its beginning."""
        with self._files.reading(folder) as file:
            try:
                return self._mails(file)
            except NotMbox as error:
                raise FolderRefused(
                    f"the file of the folder {folder!r} in {self._files.disk.where} is no mbox: {error}",
                    remedy="correct `folders` or `path`, or take the file away",
                ) from error
            except OSError as error:
                raise folder_fault(folder, self._files.disk.where, error) from error

    def _mails(self, file: DiskFile) -> Lying:
        """As far as the last is not still being written."""
        found = os.fstat(file.descriptor)
        now = time.time()
        listed = {mail.uid: mail for mail in mails(reader_of(file.descriptor), found.st_size)}
        waits = False
        if listed:
            uid, last = listed.popitem()
            seconds = self._settings.quiet_seconds
            if not last.piece.ended and seconds:
                seconds = max(seconds, UNENDED)
            waits = abs(now - found.st_mtime) < seconds
            if not waits:
                listed[uid] = last
        return Lying(stamp_of(found), listed, waits)

    def _find(self, file: DiskFile, folder: FolderRef, uid: str) -> Mail | None:
        """Where the mail lies in the file as it is now.  Raises ``NotMbox`` and OSError."""
        lying = self._lying.get(folder)
        if lying is None or lying.stamp != stamp_of(os.fstat(file.descriptor)):
            lying = self._lying[folder] = self._mails(file)
        return lying.mails.get(uid)

    def _describe(self, folder: FolderRef, item: Item) -> Envelope | Unlisted | None:
        with self._files.reading(folder) as file:
            try:
                mail = self._find(file, folder, item.uid)
                if mail is None:
                    return None
                read, piece = reader_of(file.descriptor), mail.piece
                line, block = read(piece.start, piece.body - piece.start), header_block(read, piece)
                modified = os.fstat(file.descriptor).st_mtime_ns
            except (OSError, NotMbox) as error:
                return Unlisted(item.uid, reason(error))
        otherwise = dated(line) or headers.at(modified)
        return headers.envelope(folder, item.uid, block, otherwise=otherwise, size=piece.end - piece.body)

    # ------------------------------------------------------------------------------------------------------ fetching

    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished | Unfetched]:
        for ref in refs:
            yield self._fetch(ref)

    def _fetch(self, ref: MessageRef) -> Fetched | Vanished | Unfetched:
        with self._files.reading(ref.folder) as file:
            try:
                mail = self._find(file, ref.folder, ref.uid)
                if mail is None:
                    return self._not_there(ref)
                pieces = _pieces(file.descriptor, mail.piece)
                return Fetched(ref=ref, content=self._spool.keep(unquoted(pieces, self._settings.quoting)))
            except (OSError, NotMbox) as error:
                return Unfetched(ref=ref, trouble=unread(f"a mail in {ref.folder}", error))

    def _not_there(self, ref: MessageRef) -> Vanished | Unfetched:
        if not self._lying[ref.folder].waits:
            return Vanished(ref=ref)
        return Unfetched(
            ref=ref,
            trouble=trouble("StillWritten", f"{ref.folder!r} is being written to just now", "it will be tried again"),
        )

    # ------------------------------------------------------------------------------------------- tidying, and checking

    def settle(self, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Settled | Trouble]:
        return settle(self._files, mails, care)

    def check(self, folders: Sequence[FolderRef], care: Aftercare) -> Sequence[Finding]:
        found = [self._check(folder, care) for folder in folders]
        if care.action is Action.MOVE and self._files.only is not None:
            found.append(Finding.of(f"target {care.folder}", ONE_FILE))
        return found

    def _check(self, folder: FolderRef, care: Aftercare) -> Finding:
        return check_folder(
            folder,
            lambda: len(self._read(folder).mails),
            self.folders,
            may_tidy=lambda: care.action is Action.KEEP or self._files.may_change(folder),
            lacking=_NO_RIGHT,
        )

    def server(self) -> str:
        return f"mbox in {printable(self._files.where)}"


def _pieces(descriptor: int, piece: Piece) -> Iterator[bytes]:
    for at in range(piece.body, piece.end, BLOCK // 4):
        got = os.pread(descriptor, min(BLOCK // 4, piece.end - at), at)
        if not got:
            raise OSError("the file became shorter while it was read")
        yield got


_NO_RIGHT: Final = (
    "for that the file and the folder in which it lies must be writable, since a lock is made beside it",
    "give the user who runs maildaemon these rights, or do without aftercare",
)
