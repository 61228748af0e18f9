"""What the core asks of the world, in the words of mail: each docstring states laws that an author can test.

All ports are synchronous.  They raise ``Transient`` or ``Permanent`` errors for what concerns the whole (the server is
gone, the login refused) and answer with a ``Trouble`` for what concerns one mail or one file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

import attrs

from maildaemon_core.errors import MaildaemonError, Problem, Trouble
from maildaemon_core.message import BatchId, Content, Cursor, Envelope, FolderRef, Identity, MessageRef
from maildaemon_core.monitoring import Event
from maildaemon_core.options import Aftercare, KindFacts, Secret
from maildaemon_core.progress import Receipt


class Level(StrEnum):
    FINE = "fine"
    WARNING = "warning"
    FAULT = "fault"


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that was looked at: ``subject`` names it, ``remedy`` says what to do about it unless it is fine."""

    level: Level
    subject: str
    message: str
    remedy: str = ""

    @classmethod
    def of(cls, subject: str, wrong: MaildaemonError | Trouble) -> Self:
        """The fault that this is."""
        return cls(level=Level.FAULT, subject=subject, message=wrong.message, remedy=wrong.remedy)


class Spool(Protocol):
    """Holds a mail while it is worked off: small ones in memory, large ones in a file that nobody else sees."""

    def keep(self, pieces: Iterable[bytes]) -> Content:
        """All of the pieces as one content.  Raises ``SpoolFull``; what ``pieces`` raises passes through."""
        ...


# ------------------------------------------------------------------------------------------------------------ sources


@attrs.frozen(kw_only=True)
class FolderInfo:
    """A folder of a mailbox: ``special_use`` as in RFC 6154 (``\\Sent``), with its backslash."""

    name: FolderRef
    special_use: frozenset[str] = frozenset()
    selectable: bool = True


@attrs.frozen(kw_only=True)
class Page:
    """Mails of a folder that its cursor had not passed, oldest first, and the cursor behind them.

    ``renumbered``: the cursor given was of another numbering (UIDVALIDITY changed, another kind of source), so this
    page and those that follow it list the folder from its beginning.  ``more``: ask again with the new cursor.
    """

    envelopes: tuple[Envelope, ...]
    cursor: Cursor
    more: bool = False
    renumbered: bool = False


@attrs.frozen(kw_only=True)
class Fetched:
    ref: MessageRef
    content: Content


@attrs.frozen(kw_only=True)
class Vanished:
    """A fresh look at that UID under the same UIDVALIDITY did not find it.  No answer is not vanished."""

    ref: MessageRef


@attrs.frozen(kw_only=True)
class Unfetched:
    """It is there, or may be, and could not be read this time."""

    ref: MessageRef
    trouble: Trouble


@attrs.frozen(kw_only=True)
class Known:
    """A mail to be tidied: its reference, and what it must still look like before anything is done to it."""

    ref: MessageRef
    identity: Identity


@attrs.frozen(kw_only=True)
class Settled:
    """Done as wanted.  ``gone``: it was not there any more, which is fine too.

    ``moved_to``: where it lies now, if it was moved and the server said so; a remark, which makes no two answers
    differ.
    """

    gone: bool = False
    moved_to: MessageRef | None = attrs.field(default=None, eq=False)


class MailSource(Protocol):
    """One open session with one mailbox, used by one thread at a time.

    Everything but ``settle`` leaves the mailbox as it is: not even a flag changes.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Ends the session.  Never raises."""
        ...

    def folders(self) -> Sequence[FolderInfo]: ...

    def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
        """Up to ``limit`` mails behind the cursor; None lists from the beginning.

        Every mail is listed in time: one that arrives later is behind any cursor given out before.  The same cursor
        gives the same mails again.  Raises ``FolderMissing``.
        """
        ...

    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished | Unfetched]:
        """One answer per reference, in any order; the bytes are exactly what the server holds.

        All references are of one folder.  Raises ``SourceUnavailable`` when the session broke; answers given until then
        are good.
        """
        ...

    def settle(self, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Settled | Trouble]:
        """Does what the operator wants done afterwards, for mails of one folder.

        Twice is the same as once; a vanished mail is fine; never touches another mail, not even one that has taken the
        place of one of these.  Answers for every mail, unless the session broke (``SourceUnavailable``).
        """
        ...

    def check(self, folders: Sequence[FolderRef], care: Aftercare) -> Sequence[Finding]:
        """Each of these folders and whether ``care`` may be done there; what works, what does not, what to do about
        it."""
        ...

    def server(self) -> str:
        """The server and its abilities, in a line for people; no secrets."""
        ...


@attrs.frozen(kw_only=True)
class Armed:
    """``descriptor`` becomes readable when the server says something.

    ``seconds``: so long it may stay armed; after that the server may end the session (RFC 2177: half an hour).
    """

    descriptor: int
    seconds: float


@runtime_checkable
class Wakeable(Protocol):
    """An optional power of a mail source: its session waits for news of a folder, and no thread waits with it.

    From ``arm`` to ``disarm`` nothing of the session is called but ``drain`` and ``__exit__``.  What it tells is a
    hint: the folder is polled all the same.
    """

    def arm(self, folder: FolderRef) -> Armed | None:
        """Begins to wait; None if the server cannot do that.

        A mail that has arrived since the session last listed the folder is news already: ``drain`` says so.  Raises
        ``FolderMissing``, ``FolderRefused`` and ``SourceUnavailable``.
        """
        ...

    def drain(self) -> bool:
        """Takes up everything that has come, without waiting for more; whether it is worth a look.

        Afterwards only something new makes the descriptor readable: nothing is left in a buffer of ours or of TLS.
        Raises ``SourceUnavailable`` when the session is over, however often it is asked.
        """
        ...

    def disarm(self) -> None:
        """Ends the waiting, within seconds; the session is as it was before.  Raises ``SourceUnavailable``."""
        ...


# ------------------------------------------------------------------------------------------------------- destinations


@attrs.frozen(kw_only=True)
class Put:
    """What is to be stored: ``part`` is its name within the batch, ``path`` where consumers will see it."""

    part: str
    path: str
    content: Content


@attrs.frozen(kw_only=True)
class Staged:
    """A complete, synced part that no consumer sees yet.  ``size`` in bytes as written."""

    part: str
    path: str
    size: int
    sha256: str


@attrs.frozen
class StillStaged:
    """The part lies in its batch folder: it was not published.

    ``out``: it was, only what announces it was not; publishing it once more does that.
    """

    out: bool = False


@attrs.frozen
class WasPublished:
    """The part is gone from its batch folder, which still stands: it was published, and perhaps taken."""

    receipt: Receipt


@attrs.frozen
class Unknown:
    """The batch folder itself is gone: nobody can tell."""


@attrs.frozen
class Occupied:
    """There is something under that path already; nothing was changed."""


class Destination(Protocol):
    """Where files go; several workers may use it at once.

    Nothing is ever overwritten; no path leads out of it, through any name or link; nobody ever sees half a file.
    """

    @property
    def place(self) -> str:
        """Where it really is, without credentials: two names for one place are told by this."""
        ...

    def check(self) -> Sequence[Finding]:
        """Writes, renames, reads back and removes a small file; leaves nothing behind."""
        ...

    def probe(self) -> Trouble | None:
        """Whether a small file can be stored at all just now: None if so (law 8).  Leaves nothing behind."""
        ...

    def stage(self, batch: BatchId, puts: Sequence[Put]) -> Mapping[str, Staged | Trouble]:
        """Writes each content completely and durably, invisible to consumers; answers by part.

        A part with a ``Trouble`` leaves nothing behind.  Staging the same part again replaces it.
        """
        ...

    def publish(self, batch: BatchId, staged: Sequence[Staged]) -> Mapping[str, Receipt | Occupied | Unknown | Trouble]:
        """Makes each part visible under its path, in one step, durably; answers by part.

        A part that was published before, by whomever, gives a receipt again as long as the batch stands.
        """
        ...

    def recover(
        self, batch: BatchId, staged: Sequence[Staged]
    ) -> Mapping[str, StillStaged | WasPublished | Unknown | Trouble]:
        """After a crash: what became of each part; answers by part, changes nothing."""
        ...

    def forget(self, batch: BatchId) -> None:
        """Removes the batch and whatever is still staged in it.  Twice is the same as once."""
        ...

    def batches(self) -> Collection[BatchId]:
        """The batches that stand."""
        ...

    def close(self) -> None: ...


# ------------------------------------------------------------------------------------------------------------- others


class Monitor(Protocol):
    """Told, never asked: what it raises is reported and changes nothing."""

    def __call__(self, event: Event, /) -> None: ...


class SecretStore(Protocol):
    """Seals secrets for keeping.  ``about`` says whose and where: sealed about one thing, it opens for no other."""

    def seal(self, secret: Secret, about: str) -> str:
        """A text that nobody reads without the master key.  Raises ``NoMasterKey``."""
        ...

    def open(self, sealed: str, about: str) -> Secret:
        """Raises ``NoMasterKey`` or ``Sealed`` (another key, another thing, or damaged)."""
        ...

    def is_current(self, sealed: str) -> bool:
        """Whether it was sealed with the key that seals now."""
        ...


class SecretReader(Protocol):
    """Turns a secret as written in the options (a reference such as ``env:NAME``, or the thing itself) into the
    thing."""

    def __call__(self, secret: Secret, /) -> Secret:
        """Raises ``Permanent`` naming the reference, never its value."""
        ...


Settings = TypeVar("Settings")
Port_co = TypeVar("Port_co", covariant=True)

_ORDINARY = KindFacts()


@attrs.frozen(kw_only=True)
class Kind(Generic[Settings, Port_co]):
    """The one value that a plug-in hands over.

    ``settings`` is a closed attrs class: what may stand under ``options``.  ``open`` is called as

    - source: ``open(options: MailboxOptions, settings, spool)``, secrets already read; connects and logs in;
    - destination: ``open(options: DestinationOptions, settings)``, secrets already read;
    - store: ``open(url, settings)``, secrets already read.

    ``problems(options, settings)`` says what of the options this kind cannot do with, beyond ``facts``.
    """

    settings: type[Settings]
    open: Callable[..., Port_co]
    facts: KindFacts = _ORDINARY
    problems: Callable[[Any, Settings], Sequence[Problem]] = lambda options, settings: ()


SourceKind = Kind[Any, MailSource]
DestinationKind = Kind[Any, Destination]
