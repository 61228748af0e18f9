"""What a file system on a server can do, in words that mean the same on each: a kind of destination is one of these.

``publishing`` makes a destination of a tree: what is staged where, in which order things happen, and what a crash
leaves are decided there, once for all kinds.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import attrs

from maildaemon_core.ports import Finding


class Fault(enum.Enum):
    """What went wrong, as far as it matters to whoever stores files.

    The first group concerns one path, the second the whole server or account.
    """

    MISSING = "there is no such file or folder"
    EXISTS = "something is there already"
    BLOCKED = "something that is no folder stands where a folder belongs"
    NAME = "a name is not possible there"
    REFUSED_FILE = "this one file is refused"
    DENIED = "the account may not do that"
    FULL = "there is no room left, or the quota is used up"
    OTHER = "the server failed"

    GONE = "the server cannot be reached, or went away"
    LOGIN = "the server does not accept the credentials"
    UNTRUSTED = "the server's key or certificate is not the expected one"
    BUSY = "the server asks to be left alone for a while"


WHOLE = frozenset({Fault.GONE, Fault.LOGIN, Fault.UNTRUSTED, Fault.BUSY})
"""What is the matter with the server or account, whatever is asked of it."""


class TreeError(Exception):
    """What a tree raises.

    ``what`` is a clause without the path, in the server's own words where it has some (``Permission denied``),
    ``remedy`` what a person can do; neither ever holds a secret.  ``retry_after`` are the seconds that the server asked
    for.
    """

    def __init__(self, fault: Fault, what: str, *, remedy: str = "", retry_after: float | None = None) -> None:
        super().__init__(what)
        self.fault = fault
        self.what = what
        self.remedy = remedy
        self.retry_after = retry_after


class Showing(enum.Enum):
    """How a staged file becomes visible."""

    RENAME = "one atomic rename to a new name: each file is published exactly once"
    COPY = "a copy on the server, then the staged one is removed: a crash between the two may publish a file again"


@attrs.frozen(kw_only=True)
class Stat:
    """What lies under a path; ``size`` in bytes, 0 for folders."""

    size: int
    is_folder: bool = False


@attrs.frozen(kw_only=True)
class Named:
    """One name in a folder."""

    name: str
    is_folder: bool


class Tree(Protocol):
    """Files below one root on a server.

    Paths are relative to the root, with ``/`` between parts that were looked at already: none is empty or begins with a
    dot, but for the staging folder itself; ``""`` is the root.  Links are not followed out of the root, where the
    server lets that be seen.  Used by several threads at once: a tree whose connection takes one at a time locks it.
    Connects when it is first used, and again after the connection broke: a method that raised ``GONE`` may be called
    again.  Every method raises ``TreeError`` and nothing else, but for what ``pieces`` raises.

    No call waits longer than its time limits for a silent server; nothing is tried again behind the caller's back for
    longer than a few seconds.
    """

    @property
    def place(self) -> str:
        """Where it really is, without credentials but with the account: ``sftp://user@host:22/srv/mail``."""
        ...

    @property
    def showing(self) -> Showing: ...

    @property
    def at_once(self) -> int:
        """How many threads may use it at once to some gain, at least 1."""
        ...

    def stat(self, path: str) -> Stat | None:
        """None if nothing is there; never a cached answer."""
        ...

    def write(self, path: str, pieces: Iterable[bytes], size: int | None = None) -> None:
        """Writes a file anew, from its beginning to its end, durably where the server can promise that.

        ``size``: how many bytes ``pieces`` will be, where that is known; some protocols have to announce it.
        Memory does not grow with the file.  Whatever was under ``path`` before is replaced: it is only called for the
        staging folder, so nobody looks.  Whatever goes wrong, in ``pieces`` too, as little as possible is left, and
        never a file of the full size.  ``MISSING`` if its folder is missing.
        """
        ...

    def read(self, path: str) -> Iterator[bytes]:
        """The bytes of a file in pieces.  ``MISSING``."""
        ...

    def publish(self, source: str, target: str) -> str | None:
        """Makes the file ``source`` visible as ``target``, as ``showing`` says; its ETag or version if it has one.

        ``EXISTS`` if anything is under ``target`` already: then nothing was changed.  ``MISSING`` if ``source`` is
        missing, or the folder of ``target``.  Where files are copied, a copy of this very ``source`` that is there
        already (of this one, not of one with the same bytes) is what was wanted: somebody died before he could remove
        ``source``, or was not answered.
        """
        ...

    def remove(self, path: str) -> None:
        """Removes a file; one that is not there is fine."""
        ...

    def make_folder(self, path: str) -> None:
        """Makes a folder in one that is there; one that is there already is fine.

        ``""`` makes the root, with the folders above it as far as the server lets that be done.  ``MISSING``,
        ``BLOCKED``.  Where folders are nothing but parts of names it does nothing.
        """
        ...

    def remove_folder(self, path: str) -> None:
        """Removes a folder if nothing is in it; one that is not empty, or not there, stays as it is and is fine."""
        ...

    def names(self, folder: str) -> Sequence[Named]:
        """What lies in a folder, but for ``.`` and ``..``; nothing if it is not there."""
        ...

    def findings(self) -> Sequence[Finding]:
        """What ``validate`` should say of this server beyond whether files can be stored: what it cannot promise."""
        ...

    def close(self) -> None:
        """Ends the connections.  Never raises; twice is the same as once."""
        ...
