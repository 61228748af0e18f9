"""What file sources ask of the place where the files lie, whether that is a folder of this machine or a file system of
fsspec: folders, files, and their bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from maildaemon_adapters.tcp.words import said
from maildaemon_core.errors import FolderMissing, FolderRefused, MaildaemonError, SourceUnavailable, Trouble
from maildaemon_core.folders import INBOX
from maildaemon_core.message import CHUNK, FolderRef

Steps = tuple[str, ...]
"""The names of the folders on the way from the top to one of them; none for the top itself."""

LONGEST_UID: Final = 600
"""So many bytes the text may have by which a file is remembered: an index of PostgreSQL takes 2,704 for it and the
name of its folder."""


class File(NamedTuple):
    """A regular file, as its folder shows it.

    ``modified`` and ``changed``: when its bytes, and when anything about it, were last changed, in nanoseconds since
    1970; 0 where nobody knows.  ``version``: what else changes with its content, in hex digits, where the place has
    such a thing.
    """

    name: str
    size: int
    modified: int
    changed: int
    version: str = ""


class Reader(Protocol):
    """An open file."""

    @property
    def file(self) -> File:
        """What it is now, as far as that can be told."""
        ...

    def read(self, number: int, /) -> bytes:
        """The next bytes, at most so many; none at its end.  Raises OSError."""
        ...


class Shelf(Protocol):
    """A tree of folders that is only read.  Nothing outside of it is ever reached, and nothing opened but files.

    All raise OSError: FileNotFoundError for what is not there, NotADirectoryError for a folder that is none.
    """

    @property
    def where(self) -> str:
        """For people; no secrets."""
        ...

    def folders(self, steps: Steps) -> Sequence[str]:
        """The names of the folders in a folder."""
        ...

    def files(self, steps: Steps) -> Sequence[File]:
        """The files in a folder, without links and whatever else is no file."""
        ...

    def open(self, steps: Steps, name: str) -> AbstractContextManager[Reader]: ...

    def close(self) -> None: ...


def printable(name: str) -> str:
    """The name as text that can be stored and shown, another one for each name: what is odd in it becomes ``%XX``."""
    if name.isprintable() and "%" not in name:
        return name
    return "".join(
        one if one.isprintable() and one != "%" else "".join(f"%{byte:02X}" for byte in os.fsencode(one))
        for one in name
    )


def unprintable(text: str) -> str:
    """The name that ``printable`` made this text of."""
    return os.fsdecode(unquote_to_bytes(text)) if "%" in text else text


def steps_below(folder: FolderRef) -> Steps | None:
    """The way to a folder that is called by its names with slashes between them; None where no folder of a mailbox is.

    What begins with a dot is hidden, and never one.
    """
    if folder == INBOX:
        return ()
    steps = tuple(folder.split("/"))
    return None if any(not step or step.startswith(".") or "\0" in step for step in steps) else steps


def pieces(reader: Reader) -> Iterator[bytes]:
    """All of a file from where it stands.  Raises OSError."""
    while piece := reader.read(CHUNK):
        yield piece


def only_read(where: str) -> Trouble:
    """Nothing is ever changed there."""
    return trouble(
        "OnlyRead",
        f"{where} is only read: its mail can neither be deleted nor moved",
        "do without aftercare for this mailbox",
        transient=False,
    )


def reason(error: Exception) -> str:
    """Why it did not work, in a clause."""
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said(told, longest=200) or type(error).__name__


def folder_fault(folder: FolderRef, where: str, error: OSError) -> MaildaemonError:
    """What is to be raised when a folder cannot be looked into."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return missing(folder, where)
        case PermissionError():
            return FolderRefused(
                f"the folder {folder!r} in {where} may not be read: {reason(error)}",
                remedy="give the user who runs maildaemon the right to read it",
            )
        case TimeoutError() | ConnectionError() | EOFError():
            return SourceUnavailable(
                f"{where} does not answer: {reason(error)}", remedy="it will be tried again; look whether it is there"
            )
    return FolderRefused(
        f"the folder {folder!r} in {where} cannot be read: {reason(error)}",
        remedy="it will be tried again; look at the file system",
    )


def missing(folder: FolderRef, where: str, *, there: Sequence[str] = ()) -> FolderMissing:
    known = f"; there are: {', '.join(sorted(there)[:20])}" if there else ""
    return FolderMissing(
        f"there is no folder {folder!r} in {where}", remedy=f"create it, or correct `folders` or `path`{known}"
    )


def trouble(error: str, message: str, remedy: str, *, transient: bool = True) -> Trouble:
    return Trouble(error=error, message=message, remedy=remedy, transient=transient)


def unread(name: str, error: Exception) -> Trouble:
    """A mail that is there and could not be read."""
    return trouble(
        "MailNotRead",
        f"{printable(name)} could not be read: {reason(error)}",
        "let the user who runs maildaemon read it; it will be tried again",
    )


def another_mail(name: str) -> Trouble:
    """Under a known name lies another mail than the one that was stored."""
    return trouble(
        "AnotherMail",
        f"{printable(name)} is another mail than the one that was stored; it was kept",
        "nothing to do, unless this happens often: then something writes over these files",
        transient=False,
    )


def not_tidied(name: str, error: OSError) -> Trouble:
    """A mail that could not be deleted, moved or marked."""
    denied = isinstance(error, PermissionError)
    return trouble(
        "NotAllowed" if denied else "NotTidied",
        f"{printable(name)} could not be tidied: {reason(error)}",
        "give the user who runs maildaemon the right to change this folder, or do without this aftercare"
        if denied
        else "it will be tried again; look at the file system",
    )
