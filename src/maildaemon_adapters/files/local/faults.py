"""What the operating system's errors mean for a destination, in words that a person can act on."""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

from maildaemon_core.errors import DestinationUnavailable, Trouble

if sys.platform != "win32":
    import pwd

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_NAMES: Final = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL})


def file_trouble(error: OSError, root: str, path: str) -> Trouble:
    """Why the file under ``path`` could not be stored below ``root``."""
    code = error.errno or 0
    name, transient = "DestinationFailed", True
    if code in _FULL:
        name = "DestinationFull"
    elif code in _REFUSED:
        name = "DestinationRefused"
    elif code in _NAMES:
        name, transient = "PathRefused", False
    what, remedy = _words(code, error, root)
    return Trouble(
        error=name, message=f"{path} cannot be stored below {root}: {what}", remedy=remedy, transient=transient
    )


def unavailable(error: OSError, root: str) -> DestinationUnavailable:
    """Why nothing at all can be stored below ``root``."""
    what, remedy = _words(error.errno or 0, error, root)
    return DestinationUnavailable(f"the destination {root} cannot be used: {what}", remedy=remedy)


def whoami() -> str:
    """The user that this process works as, for people."""
    user = os.geteuid()
    try:
        return f"{pwd.getpwuid(user).pw_name} (uid {user})"
    except KeyError:
        return f"uid {user}"


def _words(code: int, error: OSError, root: str) -> tuple[str, str]:
    named = {
        errno.ENOSPC: (
            "no space is left on its file system",
            f"free some space there, or give {root} a larger disk; it then goes on by itself",
        ),
        errno.EDQUOT: (
            f"the disk quota of the user {whoami()} is used up",
            "free some space or have the quota raised; it then goes on by itself",
        ),
        errno.EROFS: (
            "the file system is mounted read-only",
            f"mount the file system of {root} for writing; if it turned read-only by itself, look for disk errors",
        ),
        errno.ENAMETOOLONG: ("a name in it is too long for this file system", "shorten the path template"),
        errno.ENOENT: (
            "the folder is not there",
            f"if {root} lies on a file system that is mounted, mount it again; if it was removed on purpose, make it",
        ),
        errno.ENOTDIR: (
            "it, or a folder above it, is not a folder",
            f"move away what lies there, or name another folder than {root}",
        ),
        errno.ELOOP: ("a symbolic link stands where a folder belongs", "replace the link by a folder"),
        errno.EXDEV: (
            "its folder lies on another file system than the root, so that no rename leads there",
            "make that file system a destination of its own",
        ),
    }
    if code in {errno.EACCES, errno.EPERM}:
        return (
            f"the user {whoami()} may not write there",
            f"give that user the right to read, write and search {root} and the folders in it (chown, chmod u+rwx)",
        )
    if code in {errno.EILSEQ, errno.EINVAL}:
        return "a name in it is not possible on this file system", "change the path template"
    reason = error.strerror or str(error) or type(error).__name__
    return named.get(code, (f"{reason} (error {code})", f"look at the system's log about the disk that holds {root}"))
