"""What the answers of SFTP servers mean: by their codes, where these say anything, else by the words that come along.

Version 3 of the protocol has one code for nearly all that can fail (draft-ietf-secsh-filexfer-02 §7).
"""

from __future__ import annotations

from typing import Final

import asyncssh

from maildaemon_adapters.files.tree import Fault, TreeError

MISSING: Final = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPNotADirectory)
"""Nothing is there; OpenSSH says the same of a path through something that is no folder."""

_NO_WORDS: Final = "Failure"
"""What OpenSSH says of everything that has no code of its own."""

_LONGEST: Final = 200  # characters of what a server says

_FULL = ("no space", "quota", "disk full", "disk is full", "enospc", "edquot", "not enough space")
_TAKEN = ("exist",)
_LONG = ("too long", "invalid name", "illegal name", "invalid filename", "invalid file name", "bad file name")
_INFECTED = ("virus", "malware", "infected")


_FAULTS: Final = {
    asyncssh.SFTPNoSuchFile: Fault.MISSING,
    asyncssh.SFTPNoSuchPath: Fault.MISSING,
    asyncssh.SFTPPermissionDenied: Fault.DENIED,
    asyncssh.SFTPWriteProtect: Fault.DENIED,
    asyncssh.SFTPNoSpaceOnFilesystem: Fault.FULL,
    asyncssh.SFTPQuotaExceeded: Fault.FULL,
    asyncssh.SFTPFileAlreadyExists: Fault.EXISTS,
    asyncssh.SFTPNotADirectory: Fault.BLOCKED,
    asyncssh.SFTPLinkLoop: Fault.BLOCKED,
    asyncssh.SFTPInvalidFilename: Fault.NAME,
    asyncssh.SFTPBadMessage: Fault.NAME,  # which is what OpenSSH makes of ENAMETOOLONG and EINVAL
    asyncssh.SFTPConnectionLost: Fault.GONE,
    asyncssh.SFTPNoConnection: Fault.GONE,
}


def fault_of(error: asyncssh.SFTPError) -> Fault:
    """What went wrong, as far as the answer tells."""
    if type(error) in _FAULTS:
        return _FAULTS[type(error)]
    said = error.reason.casefold()
    for words, fault in (
        (_FULL, Fault.FULL),
        (_TAKEN, Fault.EXISTS),
        (_LONG, Fault.NAME),
        (_INFECTED, Fault.REFUSED_FILE),
    ):
        if any(word in said for word in words):
            return fault
    return Fault.OTHER


def shown(said: str) -> str:
    """What a server said, as far as it can be shown to people: in one line, printable, and no more than a few words."""
    plain = "".join(one if one.isprintable() else " " for one in said)
    words = " ".join(plain.split())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"


def taken() -> TreeError:
    """The name is taken."""
    return TreeError(Fault.EXISTS, "something is there already", remedy="it is left as it is")


def blocked() -> TreeError:
    """There is no way to the name."""
    return TreeError(
        Fault.BLOCKED,
        "a file or a link stands where a folder belongs",
        remedy="move it away, or change the path template",
    )


def told(fault: Fault, said: str, user: str | None) -> TreeError:
    """The fault in words for people; ``said`` is what the server has to say."""
    remedy = ""
    match fault:
        case Fault.BLOCKED:
            return blocked()
        case Fault.EXISTS:
            return taken()
        case Fault.MISSING:
            what, remedy = said, "see whether its folder is there"
        case Fault.FULL:
            what = "there is no room left, or the quota is used up"
            what += f" ({said})" if said != _NO_WORDS else ""
        case Fault.DENIED:
            what = f"the user {user!r} may not do that: {said}"
            remedy = "give that user the right to read, write and search the destination's folder"
        case Fault.NAME:
            what = f"the server does not take a name in it: {said}"
        case Fault.REFUSED_FILE:
            what = f"the server refuses this file: {said}"
        case _:
            what = f"the server says {said!r}"
            remedy = "see the log of the server; some say no more when the disk is full or a quota is used up"
    return TreeError(fault, what, remedy=remedy)
