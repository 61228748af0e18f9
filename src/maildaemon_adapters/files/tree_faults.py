"""What the faults of a tree mean for a destination: what concerns one file, what concerns all, in words for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from maildaemon_adapters.files.tree import WHOLE, Fault, TreeError
from maildaemon_core.errors import DestinationUnavailable, LoginRefused, MaildaemonError, Trouble

_NAMES: Final = {
    Fault.BLOCKED: "PathBlocked",
    Fault.NAME: "PathRefused",
    Fault.REFUSED_FILE: "FileRefused",
    Fault.DENIED: "DestinationRefused",
    Fault.FULL: "DestinationFull",
}
"""What troubles with one file are called; all others are ``DestinationFailed``."""

_PERMANENT: Final = frozenset({Fault.NAME, Fault.REFUSED_FILE})
"""Trying again changes nothing: it is the name, or what is in the file."""

_REMEDIES: Final = {
    Fault.MISSING: "if it was removed on purpose, make it again",
    Fault.EXISTS: "move away what lies there",
    Fault.BLOCKED: "move away what lies there, or change the path template",
    Fault.NAME: "change the path template",
    Fault.REFUSED_FILE: "look at the server's log, and at its virus scanner or file screening",
    Fault.DENIED: "give the account the right to read, write, rename and remove there",
    Fault.FULL: "free some space there, or have the quota raised; it then goes on by itself",
    Fault.OTHER: "look at the server's log",
    Fault.GONE: "see whether the server runs and can be reached from here; it then goes on by itself",
    Fault.LOGIN: "correct the username and password, or the key",
    Fault.UNTRUSTED: "find out why the server shows another key or certificate than the expected one",
    Fault.BUSY: "it goes on by itself",
}
"""What to do where the tree says nothing better."""


def file_trouble(error: TreeError, place: str, path: str) -> Trouble:
    """Why the file under ``path`` could not be stored below ``place``."""
    return Trouble(
        error=_NAMES.get(error.fault, "DestinationFailed"),
        message=f"{path} cannot be stored below {place}: {error.what}",
        remedy=_remedy(error),
        transient=error.fault not in _PERMANENT,
        retry_after=error.retry_after,
    )


def unavailable(error: TreeError, place: str) -> MaildaemonError:
    """Why nothing at all can be stored below ``place``."""
    if error.fault is Fault.LOGIN:
        return LoginRefused(f"{place} does not accept the credentials: {error.what}", remedy=_remedy(error))
    return DestinationUnavailable(
        f"the destination {place} cannot be used: {error.what}", remedy=_remedy(error), retry_after=error.retry_after
    )


def root_is_gone(place: str) -> DestinationUnavailable:
    """The root was there before, and is not now."""
    return DestinationUnavailable(
        f"the destination {place} cannot be used: the folder is not there",
        remedy="if it lies on a file system that is mounted, mount it again; if it was removed on purpose, make it",
    )


@contextmanager
def concerning_all(place: str) -> Iterator[None]:
    """Errors of the tree that come to here concern everything, and are said so."""
    try:
        yield
    except TreeError as error:
        raise unavailable(error, place) from error


def of_one_file(error: TreeError) -> bool:
    """Whether it concerns one path alone, so that others may well be stored."""
    return error.fault not in WHOLE


def _remedy(error: TreeError) -> str:
    return error.remedy or _REMEDIES[error.fault]
