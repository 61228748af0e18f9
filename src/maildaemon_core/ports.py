"""What the core asks of the world, in the words of mail: each docstring states laws that an author can test.

All ports are synchronous.  They raise ``Transient`` or ``Permanent`` errors for what concerns the whole (the server is
gone, the login refused) and answer with a ``Trouble`` for what concerns one mail or one file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

import attrs

from maildaemon_core.access import ApiKey
from maildaemon_core.errors import Problem, Trouble
from maildaemon_core.message import BatchId, Content, Cursor, Envelope, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import EntryPage, EntryQuery, Event, MailboxInfo, SweepReport
from maildaemon_core.options import Aftercare, KindFacts, Secret
from maildaemon_core.progress import Entry, EntryId, Outcome, Receipt, Stage


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
    """Done as wanted.  ``gone``: it was not there any more, which is fine too."""

    gone: bool = False


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
    """The part lies in its batch folder: it was not published."""


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


# -------------------------------------------------------------------------------------------------------------- store


@attrs.frozen(kw_only=True)
class Configuration:
    """A mailbox's options as kept.

    ``document`` is their JSON form with every secret masked; ``secrets`` are these, sealed, by where they belong
    (``password``, ``destinations/archive/password``).  ``version`` counts from 1; dates are UTC; ``created_by`` and
    ``changed_by`` say who did it, "" if nobody has said.
    """

    id: MailboxId
    name: str
    document: Mapping[str, Any]
    secrets: Mapping[str, str] = attrs.field(factory=dict)
    version: int = 0
    created: datetime | None = None
    changed: datetime | None = None
    created_by: str = ""
    changed_by: str = ""


@attrs.frozen(kw_only=True)
class FolderState:
    """How far a folder was read, and how many mails from before ``since`` were passed over."""

    cursor: Cursor
    older: int = 0


@attrs.frozen(kw_only=True)
class Holder:
    """Who has a mailbox's lease: ``owner`` as given to ``lease``, ``until`` in UTC."""

    owner: str
    token: int
    until: datetime


class Lease(Protocol):
    """The right to work on one mailbox.

    Every writing method is one transaction that checks the fencing token and raises ``LeaseLost``, with nothing
    written, once somebody else has been given the lease (law 7).
    """

    @property
    def mailbox(self) -> MailboxId: ...

    @property
    def token(self) -> int:
        """Positive, and higher than that of every lease of this mailbox before."""
        ...

    def folder(self, folder: FolderRef) -> FolderState | None: ...

    def known(self, identities: Sequence[Identity]) -> Sequence[Entry]:
        """Entries of this mailbox, in any folder and stage, that share a strong id or a fingerprint with any of
        these."""
        ...

    def at(self, refs: Sequence[MessageRef]) -> Sequence[Entry]:
        """The entries of this mailbox that are remembered under these references, in any stage."""
        ...

    def open_in(self, folder: FolderRef) -> Sequence[Entry]:
        """The open entries of a folder."""
        ...

    def admit(self, folder: FolderRef, entries: Sequence[Entry], state: FolderState) -> Sequence[Entry]:
        """Remembers mails and how far the folder was read, in one commit (law 4).

        An entry without id is new: it is given one, unless its reference is known already, then it is left out of the
        answer.  One with an id is written as ``record`` does.  Answers with the new ones.
        """
        ...

    def due(
        self, stages: Collection[Stage], now: datetime, *, after: EntryId | None = None, limit: int
    ) -> Sequence[Entry]:
        """Entries in one of the stages whose due time has come, by id, behind ``after``."""
        ...

    def in_hand(self) -> Sequence[Entry]:
        """The entries that are in somebody's hand."""
        ...

    def dismissed(self) -> Sequence[Entry]:
        """The open entries that failed and that a person has dismissed since."""
        ...

    def record(self, entries: Sequence[Entry]) -> None:
        """Writes these entries, all or none, and reserves the paths of their artifacts at their places (law 3).

        ``Entry.dismissed`` is never written, but an entry whose outcome changes is not dismissed any more.

        Raises ``PathsTaken``, with nothing written, if another entry or artifact has reserved one of them.
        """
        ...

    def renew(self, seconds: float) -> None: ...

    def give_back(self, next_due: datetime | None = None, report: SweepReport | None = None) -> None:
        """Ends the lease; remembers what the sweep did, and when the next is due unless that is as it was (None).

        Raises ``LeaseLost`` as every write does.
        """
        ...


class Keys(Protocol):
    """The keys of the API; what they are kept as opens nothing."""

    def keys(self) -> Sequence[ApiKey]:
        """All of them, revoked ones too, oldest first."""
        ...

    def key(self, prefix: str) -> ApiKey | None: ...

    def add_key(self, key: ApiKey) -> None:
        """Raises ``KeyExists`` if a key of that prefix is there, or one of that name which is not revoked."""
        ...

    def revoke_key(self, prefix: str, at: datetime) -> bool:
        """Whether there was such a key that had not been revoked."""
        ...

    def key_used(self, prefix: str, at: datetime) -> None:
        """Remembers when it was used last; an earlier time than the one remembered changes nothing."""
        ...


class Store(Keys, Protocol):
    """What is remembered: configurations, what became of each mail, who works on what.  Used by many threads.

    Texts come back as they were given, but for NUL and lone surrogates, which become U+FFFD.
    """

    def save(self, configuration: Configuration, *, expected: int | None = None, by: str = "") -> Configuration:
        """Creates or changes a configuration; answers with its version and dates.

        Version, date and ``changed_by`` change only if name, document or secrets did.  Raises ``StaleVersion`` if
        ``expected`` is given and is not the version there is (0: there must be none).
        """
        ...

    def reseal(self, mailbox: MailboxId, secrets: Mapping[str, str], *, expected: int) -> None:
        """The same secrets, sealed anew: neither version nor date changes.  Raises ``StaleVersion``."""
        ...

    def configuration(self, mailbox: MailboxId) -> Configuration | None: ...

    def configurations(self) -> Sequence[Configuration]: ...

    def drop(self, mailbox: MailboxId, *, forget: bool = False) -> None:
        """Removes a configuration; what was processed stays remembered unless ``forget``."""
        ...

    def lease(self, mailbox: MailboxId, seconds: float, *, owner: str, over: Holder | None = None) -> Lease | None:
        """The lease, or None while somebody else has it.

        ``over`` takes it from exactly that holder though its time is not up: for when the caller knows it to be dead.
        """
        ...

    def holder(self, mailbox: MailboxId) -> Holder | None:
        """Who has the lease at present."""
        ...

    def entries(self, query: EntryQuery) -> EntryPage: ...

    def entry(self, number: EntryId) -> Entry | None:
        """None also for one of which the history was thinned out."""
        ...

    def dismiss(self, number: EntryId) -> Entry | None:
        """Takes an entry out of people's sight until its outcome changes; answers with it as it is then.

        One that is pending stays in sight.  Nothing else about it changes, so nobody needs a lease for that.
        """
        ...

    def thin(self, outcome: Outcome, before: datetime, *, limit: int) -> int:
        """Forgets what only people want to know of up to ``limit`` closed entries first seen before then, oldest first.

        They are not shown any more.  What keeps a mail from being processed twice, or a path from being used twice,
        stays.  Answers how many there were: fewer than ``limit`` means that none is left.
        """
        ...

    def infos(self) -> Sequence[MailboxInfo]:
        """One for each configuration, by name."""
        ...

    def close(self) -> None: ...


@attrs.frozen(kw_only=True)
class Moved:
    """What left a store or came into one.

    ``rows`` by table.  ``at_work``: the mailboxes by name that were being worked on when it left, each with who had
    it: what these did afterwards is not in it.  ``sealed``: the mailboxes whose secrets came along, sealed;
    ``without_secrets``: those that have some which did not.
    """

    rows: Mapping[str, int]
    at_work: Mapping[str, Holder] = attrs.field(factory=dict)
    sealed: tuple[str, ...] = ()
    without_secrets: tuple[str, ...] = ()


@runtime_checkable
class Movable(Protocol):
    """An optional power of a store: all that it remembers leaves it, and comes into another one, as lines of text."""

    def leave(self, write: Callable[[bytes], object], *, secrets: bool = False) -> Moved:
        """Hands out one state of everything, a line at a time; ``secrets``: also those that are sealed, as they are.

        What ``write`` raises passes through.
        """
        ...

    def bring_in(self, lines: Iterable[bytes]) -> Moved:
        """Takes all of it up, or nothing: every question is answered afterwards as it was where it came from.

        Nobody holds a lease afterwards, but tokens and numbers go on growing.  Raises ``StoreNotEmpty`` and
        ``BadExport``.
        """
        ...


@runtime_checkable
class Versioned(Protocol):
    """An optional power of a store: it knows the version of its tables."""

    @property
    def version(self) -> str:
        """That of this release."""
        ...

    @property
    def upgraded_from(self) -> str | None:
        """The version that it had before it was opened, if opening has upgraded it."""
        ...


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
