"""The stages of a mail as a table: what may happen to it, and what is remembered of it then.

An ``Entry`` is all that the ledger knows of one mail.  It changes only through ``advance(entry, happening, now)``, and
only along ``STEPS``; an entry is open while it has a due time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, NewType

import attrs

from maildaemon_core.errors import Trouble
from maildaemon_core.message import BatchId, Identity, MailboxId, MessageRef
from maildaemon_core.options import KEEP, Action, Aftercare

EntryId = NewType("EntryId", int)
"""The ledger's number of an entry; later entries have higher ones."""


class Stage(StrEnum):
    FOUND = "found"
    """Remembered; nothing was done with it yet."""
    WAITING = "waiting"
    """Failed; it will be tried again when due."""
    PLANNED = "planned"
    """Complete and synced at every destination, its paths reserved; it may have become visible."""
    STORED = "stored"
    """Every destination has confirmed every artifact; the server is still to be tidied."""
    SETTLED = "settled"
    """Stored, and the server is as the operator wants it."""
    UNTIDIED = "untidied"
    """Stored, and the server cannot be brought to what the operator wants, until a person has it tried again."""
    SKIPPED = "skipped"
    """Nothing of it is wanted; moved away if ``onNoMatch`` says so and it is due."""
    VANISHED = "vanished"
    """It was gone before anything was stored.  Nothing was decided about it: should it come back, it is found anew."""
    SET_ASIDE = "set aside"
    """Skipped, and moved as ``onNoMatch`` says."""
    GIVEN_UP = "given up"
    """Failed for good, until a person has it tried again."""
    UNCONFIRMED = "unconfirmed"
    """It may have been delivered and nobody can tell: never written again by itself, never tidied."""


class Outcome(StrEnum):
    """What people count: seen = stored + skipped + failed + pending."""

    STORED = "stored"
    SKIPPED = "skipped"
    FAILED = "failed"
    PENDING = "pending"


class Role(StrEnum):
    MAIL = "mail"
    ATTACHMENT = "attachment"
    METADATA = "metadata"


@attrs.frozen(kw_only=True)
class Receipt:
    """A destination's word that an artifact stands there, whole: ``size`` in bytes, ``at`` in UTC.

    ``etag`` is what the server calls this state of the file by, its ETag or version, where it has one.
    """

    size: int
    at: datetime
    etag: str | None = None


@attrs.frozen(kw_only=True)
class Artifact:
    """One file of a mail at one destination.

    ``destination`` is the name in the options, ``place`` where that really is (two names for one folder are one
    place): a path is reserved per place.  ``index`` is the attachment's number, 0 for the mail and its sidecar;
    ``path`` is relative to the place, with ``/``; ``part`` is its name inside the batch folder, ``""`` when none is
    staged; ``name`` the attachment's name as sent.
    """

    destination: str
    place: str
    role: Role
    index: int
    path: str
    size: int
    sha256: str
    name: str | None = None
    part: str = ""
    receipt: Receipt | None = None

    @property
    def slot(self) -> tuple[str, Role, int]:
        """What it is of its mail, whatever it and its destination are called; unique in its mail."""
        return (self.place, self.role, self.index)


@attrs.frozen(kw_only=True)
class Entry:
    """All that is remembered of one mail.

    ``key``: 12 hex digits, unique enough to tell files apart, the same for ever.  ``in_hand``: the token of the lease
    under which it was last taken up, 0 when it is not.  ``suspect``: it was in hand when something broke, so it is
    worked off alone.  ``complete``: the mail was read to its end (law 6).  ``care``: what is to be done on the server,
    as decided when it was planned; ``moved_to``: where that has put the mail, if the server said so.  ``trouble`` is
    the last failure, ``reason`` why it was skipped.  ``dismissed``: a person has taken it out of sight; the store
    knows, and forgets it as soon as the outcome changes.
    """

    mailbox: MailboxId
    ref: MessageRef
    identity: Identity
    key: str
    received: datetime
    first_seen: datetime
    id: EntryId | None = None
    sender: str = ""
    subject: str = ""
    message_id: str = ""
    size: int | None = None
    stage: Stage = Stage.FOUND
    due_at: datetime | None = None
    attempts: int = 0
    suspect: bool = False
    in_hand: int = 0
    last_tried: datetime | None = None
    batch: BatchId | None = None
    artifacts: tuple[Artifact, ...] = ()
    complete: bool = False
    care: Aftercare = KEEP
    moved_to: MessageRef | None = None
    trouble: Trouble | None = None
    reason: str = ""
    defects: tuple[str, ...] = ()
    dismissed: bool = False

    @property
    def open(self) -> bool:
        """There is still something to be done about it."""
        return self.due_at is not None

    @property
    def whole(self) -> bool:
        """The mail itself, not only some of its attachments, is (to be) stored."""
        return any(artifact.role is Role.MAIL for artifact in self.artifacts)

    @property
    def confirmed(self) -> bool:
        """Every artifact has its receipt."""
        return _confirmed(self.artifacts)

    @property
    def outcome(self) -> Outcome:
        match self.stage:
            case Stage.STORED | Stage.SKIPPED if self.trouble:
                return Outcome.FAILED  # what is to be done on the server cannot be done
            case Stage.STORED | Stage.SETTLED:
                return Outcome.STORED
            case Stage.SKIPPED | Stage.SET_ASIDE | Stage.VANISHED:
                return Outcome.SKIPPED
            case Stage.WAITING | Stage.GIVEN_UP | Stage.UNCONFIRMED | Stage.UNTIDIED:
                return Outcome.FAILED
            case Stage.PLANNED if self.trouble and self.attempts:
                return Outcome.FAILED
            case Stage.FOUND | Stage.PLANNED:
                return Outcome.PENDING  # with a trouble: a destination's, and no attempt was counted


@attrs.frozen
class Taken:
    """It is about to be fetched under the lease of this token."""

    token: int


@attrs.frozen
class LeftInHand:
    """Whoever had it in hand did not come back: it counts an attempt, and it is worked off alone from now on."""


@attrs.frozen(kw_only=True)
class LetGo:
    """Put back untouched: something else than this mail was in the way.  No attempt is counted."""

    suspect: bool = False
    trouble: Trouble | None = None


@attrs.frozen
class Withheld:
    """Nothing of it is to be stored; ``care`` is what ``onNoMatch`` wants done."""

    reason: str
    care: Aftercare = KEEP


@attrs.frozen
class Gone:
    """A fresh look under the same UIDVALIDITY did not find it, or its folder was renumbered without it."""

    reason: str = "vanished from the server"


@attrs.frozen(kw_only=True)
class Planned:
    """Its artifacts are staged, complete and synced, under these names."""

    batch: BatchId
    artifacts: tuple[Artifact, ...]
    care: Aftercare
    complete: bool
    defects: tuple[str, ...] = ()


@attrs.frozen
class Published:
    """Artifacts with the receipts that have come in; it is stored when all have theirs."""

    artifacts: tuple[Artifact, ...]


@attrs.frozen
class Unstaged:
    """What was staged is out of reach and was never visible there; these artifacts keep their names."""

    artifacts: tuple[Artifact, ...]


@attrs.frozen
class Unconfirmable:
    """The destination cannot say whether it was published."""

    trouble: Trouble


@attrs.frozen
class Faltered:
    """It failed and will be tried again at ``due_at``."""

    trouble: Trouble
    due_at: datetime


@attrs.frozen
class GaveUp:
    """It failed for good: trying again by itself would change nothing."""

    trouble: Trouble


@attrs.frozen
class Tidied:
    """The server is now as ``care`` wants it, or needed nothing.  ``moved_to``: where the mail lies now, if that is
    known."""

    moved_to: MessageRef | None = None


@attrs.frozen
class Spared:
    """Nothing is to be done on the server, or nothing is left to be done it to."""


@attrs.frozen
class Dismissed:
    """A person wants to hear no more of this failure: it is not tried again by itself."""


@attrs.frozen
class Again:
    """A person wants it tried again."""


@attrs.frozen
class Rebound:
    """The same mail was recognised under a new reference; ``received``: the time of receipt that goes with it, which
    another kind of source, or a server that was migrated, tells otherwise.  None: as before."""

    ref: MessageRef
    received: datetime | None = None


Happening = (
    Taken
    | LeftInHand
    | LetGo
    | Withheld
    | Gone
    | Planned
    | Published
    | Unstaged
    | Unconfirmable
    | Faltered
    | GaveUp
    | Tidied
    | Spared
    | Dismissed
    | Again
    | Rebound
)

_BEFORE_STAGING: Mapping[type[Happening], Stage] = {
    LeftInHand: Stage.WAITING,
    Withheld: Stage.SKIPPED,
    Gone: Stage.VANISHED,
    Planned: Stage.PLANNED,
    Faltered: Stage.WAITING,
    GaveUp: Stage.GIVEN_UP,
}

STEPS: Mapping[Stage, Mapping[type[Happening], Stage]] = {
    Stage.FOUND: {**_BEFORE_STAGING, Taken: Stage.FOUND, LetGo: Stage.FOUND, Rebound: Stage.FOUND},
    Stage.WAITING: {
        **_BEFORE_STAGING,
        Taken: Stage.WAITING,
        LetGo: Stage.WAITING,
        Rebound: Stage.WAITING,
        Dismissed: Stage.GIVEN_UP,
        Again: Stage.FOUND,
    },
    Stage.PLANNED: {
        Published: Stage.PLANNED,  # STORED as soon as every artifact has its receipt
        Unstaged: Stage.FOUND,
        Unconfirmable: Stage.UNCONFIRMED,
        LetGo: Stage.PLANNED,
        Faltered: Stage.PLANNED,
        GaveUp: Stage.GIVEN_UP,
        Rebound: Stage.PLANNED,
        Dismissed: Stage.GIVEN_UP,
    },
    Stage.STORED: {
        Tidied: Stage.SETTLED,
        Spared: Stage.SETTLED,
        LetGo: Stage.STORED,
        Faltered: Stage.STORED,
        GaveUp: Stage.UNTIDIED,
        Rebound: Stage.STORED,
        Dismissed: Stage.UNTIDIED,
        Again: Stage.STORED,
    },
    Stage.SKIPPED: {
        Tidied: Stage.SET_ASIDE,
        Spared: Stage.SKIPPED,
        LetGo: Stage.SKIPPED,
        Faltered: Stage.SKIPPED,
        GaveUp: Stage.SKIPPED,
        Rebound: Stage.SKIPPED,
        Dismissed: Stage.SKIPPED,
        Again: Stage.FOUND,
    },
    Stage.SETTLED: {Rebound: Stage.SETTLED},
    Stage.UNTIDIED: {Rebound: Stage.UNTIDIED, Again: Stage.STORED},
    Stage.VANISHED: {Rebound: Stage.FOUND},
    Stage.SET_ASIDE: {Rebound: Stage.SET_ASIDE},
    Stage.GIVEN_UP: {Rebound: Stage.GIVEN_UP, Again: Stage.FOUND},
    Stage.UNCONFIRMED: {Rebound: Stage.UNCONFIRMED, Again: Stage.FOUND},
}


class NoSuchStep(Exception):
    """A happening that the table does not allow in this stage: a fault of the caller, never of the mail."""

    def __init__(self, entry: Entry, happening: Happening) -> None:
        super().__init__(f"{type(happening).__name__} cannot happen to a mail that is {entry.stage}")


def advance(entry: Entry, happening: Happening, now: datetime) -> Entry:  # noqa: PLR0912  (one branch for each happening)
    """The entry after ``happening``.  Raises ``NoSuchStep`` for what the table does not allow."""
    stage = STEPS[entry.stage].get(type(happening))
    if stage is None:
        raise NoSuchStep(entry, happening)
    change = partial(attrs.evolve, entry, stage=stage)  # one new value for each step: every mail takes several
    match happening:
        case Taken(token):
            return change(in_hand=token, last_tried=now)
        case LeftInHand():
            return change(in_hand=0, suspect=True, attempts=entry.attempts + 1, due_at=now)
        case LetGo(suspect=suspect, trouble=trouble):
            return change(in_hand=0, suspect=entry.suspect or suspect, trouble=trouble or entry.trouble, due_at=now)
        case Withheld(reason, care):
            due = None if care.action is Action.KEEP else now
            published = tuple(artifact for artifact in entry.artifacts if artifact.receipt)
            return change(**_AT_REST, due_at=due, reason=reason, care=care, attempts=0, artifacts=published)
        case Gone(reason):
            return change(**_AT_REST, due_at=None, reason=reason, care=KEEP)
        case Planned():
            return change(
                batch=happening.batch,
                artifacts=happening.artifacts,
                care=happening.care,
                complete=happening.complete,
                trouble=None,
                defects=happening.defects,
                in_hand=0,
                due_at=now,
            )
        case Published(artifacts):
            if not _confirmed(artifacts):
                return change(artifacts=artifacts)
            bare = tuple(attrs.evolve(artifact, part="") for artifact in artifacts)
            return change(**{**_AT_REST, "stage": Stage.STORED}, due_at=now, artifacts=bare, attempts=0, reason="")
        case Unstaged(artifacts):
            bare = tuple(attrs.evolve(artifact, part="") for artifact in artifacts)
            return change(artifacts=bare, batch=None, in_hand=0, due_at=now)
        case Unconfirmable(trouble):
            return change(trouble=trouble, in_hand=0, due_at=None, last_tried=now)
        case Faltered(trouble, due_at):
            return change(trouble=trouble, in_hand=0, attempts=entry.attempts + 1, due_at=due_at, last_tried=now)
        case GaveUp(trouble):
            return change(
                trouble=trouble, in_hand=0, attempts=entry.attempts + 1, due_at=None, last_tried=now, batch=None
            )
        case Tidied(moved_to=moved_to):
            return change(trouble=None, attempts=0, due_at=None, moved_to=moved_to)
        case Spared():
            return change(trouble=None, attempts=0, due_at=None)
        case Dismissed():
            return change(in_hand=0, due_at=None, batch=None)
        case Again() if stage is Stage.STORED:
            return change(attempts=0, trouble=None, due_at=now)  # only the server is to be tidied
        case Again():
            return change(attempts=0, suspect=False, reason="", trouble=None, care=KEEP, due_at=now)
        case Rebound(ref, received) if entry.stage is Stage.VANISHED:
            return change(ref=ref, received=received or entry.received, reason="", due_at=now)
        case Rebound(ref, received):
            return change(ref=ref, received=received or entry.received)


_AT_REST: Mapping[str, Any] = {"in_hand": 0, "suspect": False, "trouble": None, "batch": None}
"""Of a mail whose fetching and storing is over, for better: nothing of its troubles is left."""


def _confirmed(artifacts: Sequence[Artifact]) -> bool:
    return bool(artifacts) and all(artifact.receipt for artifact in artifacts)
