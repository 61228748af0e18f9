"""What programs see of sweeps, entries and mailboxes, over the API and with ``--json``: classes, and how they are made.

The classes are the schemas of the API's document too; dates are UTC, to the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import attrs

from maildaemon_core import codec, errors, monitoring
from maildaemon_core.engine.holder import is_idle
from maildaemon_core.message import MessageRef
from maildaemon_core.monitoring import Counts
from maildaemon_core.ports import Finding
from maildaemon_core.progress import Artifact, Entry, Outcome

Json = dict[str, Any]


def _second(when: datetime | None) -> datetime | None:
    return None if when is None else when.astimezone(UTC).replace(microsecond=0)


@attrs.frozen(kw_only=True)
class Trouble:
    """What went wrong: ``error`` is a class to filter by, ``remedy`` what to do about it, "" if nothing is known."""

    error: str
    message: str
    remedy: str


@attrs.frozen(kw_only=True)
class SweepCounts:
    """Mails by what became of them; ``seen`` is the sum of the others, always."""

    seen: int
    stored: int
    skipped: int
    failed: int
    pending: int


@attrs.frozen(kw_only=True)
class FolderSweep:
    """What one sweep did in one folder.  ``older``: mails from before ``since``, which are left alone."""

    folder: str
    counts: SweepCounts
    older: int
    trouble: Trouble | None


@attrs.frozen(kw_only=True)
class SweepReport:
    """What one sweep did.

    ``well``: it went through and no mail failed.  ``tidied``: mails moved, marked or deleted on the server.
    ``server``: what it is and can do, "" if it was not reached.  ``remarks``: what a person should
    read, though it stopped nothing.
    """

    state: monitoring.SweepState
    well: bool
    started: datetime
    ended: datetime
    counts: SweepCounts
    tidied: int
    server: str
    older: int
    trouble: Trouble | None
    remarks: tuple[str, ...]
    folders: tuple[FolderSweep, ...]


@attrs.frozen(kw_only=True)
class StoredArtifact:
    """A stored file: ``path`` is below the destination's own place, ``size`` in bytes, ``sha256`` in hex.

    ``name`` is the attachment's as sent; ``etag`` what the destination calls this state of the file by, its ETag or
    version, where it has one.
    """

    role: Literal["mail", "attachment", "metadata"]
    name: str | None
    destination: str
    path: str
    size: int
    sha256: str
    etag: str | None


@attrs.frozen(kw_only=True)
class MonitoringEntry:
    """What is known of one mail.

    ``mailbox`` is the id of its configuration, ``address`` its address; ``size`` in bytes.  ``dismissed``: somebody has
    taken it out of sight.
    """

    id: int
    mailbox: str
    address: str
    folder: str
    subject: str
    sender: str
    message_id: str
    size: int | None
    received: datetime
    first_seen: datetime
    last_tried: datetime | None
    attempts: int
    dismissed: bool


@attrs.frozen(kw_only=True)
class FailedEntry(MonitoringEntry):
    """A mail that failed: when it is tried again, or "given up", what went wrong, and what to do about it."""

    next_try: datetime | Literal["given up"]
    error: str
    message: str
    remedy: str


_LEFT_IN_HAND = Trouble(
    error="LeftInHand",
    message="a process ended while it had this mail in hand",
    remedy="nothing is to be done: it is tried again by itself, alone",
)
"""What went wrong with a mail that has failed so far for nothing of its own."""


@attrs.frozen(kw_only=True)
class Moved:
    """Where a mail was moved to on its server, as the server calls it (RFC 4315)."""

    folder: str
    uidvalidity: str
    uid: str


@attrs.frozen(kw_only=True)
class SuccessfulEntry(MonitoringEntry):
    """A mail that is stored, with its files.  ``movedTo``: null unless it was moved and the server said where it is."""

    moved_to: Moved | None
    artifacts: tuple[StoredArtifact, ...]


@attrs.frozen(kw_only=True)
class MailboxInfo:
    """How one mailbox is.

    ``configured``: its configuration is in use here.  ``nextSweep``: when it is due.  ``heldBy``: who works on it just
    now.  ``waiting``: nobody does, and its server is to tell of new mail.  ``backlog``: the open mails of each folder.
    """

    mailbox: str
    name: str
    address: str
    active: bool
    configured: bool
    last_sweep: SweepReport | None
    last_success: datetime | None
    failing_since: datetime | None
    next_sweep: datetime | None
    held_by: str | None
    waiting: bool
    backlog: dict[str, int]


@attrs.frozen(kw_only=True)
class ValidationFinding:
    """One thing that was looked at; ``remedy`` says what to do about it unless it is fine."""

    level: Literal["fine", "warning", "fault"]
    subject: str
    message: str
    remedy: str


def _counts(counts: Counts) -> SweepCounts:
    return SweepCounts(seen=counts.seen, **attrs.asdict(counts))


def _trouble(trouble: errors.Trouble | None) -> Trouble | None:
    return None if trouble is None else Trouble(error=trouble.error, message=trouble.message, remedy=trouble.remedy)


def trouble_document(trouble: errors.Trouble | None) -> Json | None:
    document: Json | None = codec.write(_trouble(trouble))
    return document


def report_document(report: monitoring.SweepReport) -> Json:
    """What one sweep did."""
    document: Json = codec.write(_report(report))
    return document


def _report(report: monitoring.SweepReport) -> SweepReport:
    return SweepReport(
        state=report.state,
        well=report.well,
        started=_second(report.started) or report.started,
        ended=_second(report.ended) or report.ended,
        counts=_counts(report.counts),
        tidied=report.tidied,
        server=report.server,
        older=sum(folder.older for folder in report.folders),
        trouble=_trouble(report.trouble),
        remarks=report.remarks,
        folders=tuple(
            FolderSweep(
                folder=folder.folder,
                counts=_counts(folder.counts),
                older=folder.older,
                trouble=_trouble(folder.trouble),
            )
            for folder in report.folders
        ),
    )


def entry_document(entry: Entry, address: str) -> Json:
    """A mail: its artifacts if it is stored, its error and when it is tried again if it failed."""
    known: dict[str, Any] = {
        "id": entry.id or 0,
        "mailbox": entry.mailbox,
        "address": address,
        "folder": entry.ref.folder,
        "subject": entry.subject,
        "sender": entry.sender,
        "message_id": entry.message_id,
        "size": entry.size,
        "received": _second(entry.received),
        "first_seen": _second(entry.first_seen),
        "last_tried": _second(entry.last_tried),
        "attempts": entry.attempts,
        "dismissed": entry.dismissed,
    }
    made: MonitoringEntry
    match entry.outcome:
        case Outcome.FAILED:
            trouble = _trouble(entry.trouble)
            said = attrs.asdict(trouble or _LEFT_IN_HAND)
            made = FailedEntry(**known, next_try=_second(entry.due_at) or "given up", **said)
        case Outcome.STORED:
            artifacts = tuple(map(_artifact, entry.artifacts))
            made = SuccessfulEntry(**known, moved_to=_moved(entry.moved_to), artifacts=artifacts)
        case _:
            made = MonitoringEntry(**known)
    document: Json = codec.write(made)
    return document


def _moved(there: MessageRef | None) -> Moved | None:
    if there is None:
        return None
    return Moved(folder=there.folder, uidvalidity=there.uidvalidity, uid=there.uid)


def _artifact(artifact: Artifact) -> StoredArtifact:
    return StoredArtifact(
        role=artifact.role.value,
        name=artifact.name,
        destination=artifact.destination,
        path=artifact.path,
        size=artifact.size,
        sha256=artifact.sha256,
        etag=artifact.receipt.etag if artifact.receipt else None,
    )


def info_document(info: monitoring.MailboxInfo, *, configured: bool) -> Json:
    """How one mailbox is; ``configured``: its configuration is in use here."""
    waiting = info.held_by is not None and is_idle(info.held_by)
    document: Json = codec.write(
        MailboxInfo(
            mailbox=info.mailbox,
            name=info.name,
            address=info.address,
            active=info.active,
            configured=configured,
            last_sweep=None if info.report is None else _report(info.report),
            last_success=_second(info.last_success),
            failing_since=_second(info.failing_since),
            next_sweep=_second(info.next_due),
            held_by=None if waiting else info.held_by,
            waiting=waiting,
            backlog={str(folder): number for folder, number in info.backlog.items()},
        )
    )
    return document


def findings_document(findings: Sequence[Finding]) -> list[Json]:
    return [
        codec.write(
            ValidationFinding(level=one.level.value, subject=one.subject, message=one.message, remedy=one.remedy)
        )
        for one in findings
    ]


def moment(when: datetime | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    second = _second(when)
    return None if second is None else codec.write(second)
