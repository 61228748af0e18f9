"""What the core asks of whatever remembers: configurations, what became of each mail, who works on what, keys.

A store is used by many threads and several processes; its methods raise ``StoreUnavailable`` when it cannot be used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import attrs

from maildaemon_core.access import ApiKey
from maildaemon_core.message import Cursor, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import EntryPage, EntryQuery, MailboxInfo, SweepReport
from maildaemon_core.progress import Entry, EntryId, Outcome, Stage


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
    dropped: datetime | None = None


@attrs.frozen(kw_only=True)
class Repeat:
    """A request that is not to be carried out twice.

    ``key``: a digest of who asks, what for, and the ``Idempotency-Key`` that they gave; ``request`` one of all else
    that they sent.  ``mailbox``: the id of the mailbox that it is to make, chosen before anything was done.  ``answer``
    is None until it was carried out.
    """

    key: str
    request: str
    mailbox: MailboxId
    at: datetime
    answer: Mapping[str, Any] | None = None


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

        Raises ``PathsTaken``, with nothing written, if another entry has reserved one of them, or two artifacts want
        one.  An entry may come back to any path of its own: what of a mail has it may be numbered otherwise by then.
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


class Repeats(Protocol):
    """Requests that were made with an ``Idempotency-Key``: what was answered to them."""

    def begin(self, repeat: Repeat) -> Repeat | None:
        """Remembers a request before anything is done for it; None if it is the first of its key.

        Else the one that came first, with its answer if it has one yet, and nothing is remembered anew.
        """
        ...

    def answer(self, key: str, answer: Mapping[str, Any]) -> None:
        """Remembers what was answered to the request of this key, if it is there."""
        ...

    def withdraw(self, key: str) -> None:
        """Forgets the request of this key: nothing was done for it."""
        ...

    def forget_repeats(self, before: datetime, *, limit: int) -> int:
        """Forgets up to ``limit`` requests that were begun before then, oldest first; answers how many."""
        ...


class Store(Keys, Repeats, Protocol):
    """What is remembered: configurations, what became of each mail, who works on what.  Used by many threads.

    Texts come back as they were given, but for NUL and lone surrogates, which become U+FFFD.
    """

    def save(self, configuration: Configuration, *, expected: int | None = None, by: str = "") -> Configuration:
        """Creates or changes a configuration; answers with its version and dates.

        Version, date and ``changed_by`` change only if name, document or secrets did.  Raises ``StaleVersion`` if
        ``expected`` is given and is not the version there is (0: there must be none).  One that was dropped comes back
        as a new one, created now, whose versions go on counting from where they were.
        """
        ...

    def reseal(self, mailbox: MailboxId, secrets: Mapping[str, str], *, expected: int) -> None:
        """The same secrets, sealed anew: neither version nor date changes.  Raises ``StaleVersion``."""
        ...

    def configuration(self, mailbox: MailboxId) -> Configuration | None: ...

    def configurations(self) -> Sequence[Configuration]: ...

    def drop(self, mailbox: MailboxId, *, expected: int | None = None, forget: bool = False) -> None:
        """Removes a configuration; what was processed stays remembered unless ``forget``.

        Whoever works on the mailbox writes nothing more: its lease ends (``LeaseLost``).  Raises ``StaleVersion``, with
        nothing changed, if ``expected`` is given and is not the version there is.
        """
        ...

    def former(self) -> Sequence[Configuration]:
        """The configurations that were dropped and not forgotten, as they were at the end but without secrets.

        The last dropped first.  Of these nothing else here tells: they have no ``configuration`` and no ``infos``.
        """
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
    it: what these did afterwards is not in it.  ``meanwhile``: those that somebody has begun to work on while it was
    written, to its own end perhaps; what they did is not in it either.  ``sealed``: the mailboxes whose secrets came
    along, sealed; ``without_secrets``: those that have some which did not.
    """

    rows: Mapping[str, int]
    at_work: Mapping[str, Holder] = attrs.field(factory=dict)
    meanwhile: tuple[str, ...] = ()
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
