"""What programs see of sweeps, entries and mailboxes: JSON documents with the fields of the monitoring."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from maildaemon_core.errors import Trouble
from maildaemon_core.monitoring import Counts, FolderReport, MailboxInfo, SweepReport
from maildaemon_core.ports import Finding
from maildaemon_core.progress import Artifact, Entry, Outcome

Json = dict[str, Any]


def counts_document(counts: Counts) -> Json:
    """``seen`` is the sum of the others, always."""
    return {"seen": counts.seen, **attrs.asdict(counts)}


def trouble_document(trouble: Trouble | None) -> Json | None:
    if trouble is None:
        return None
    return {"error": trouble.error, "message": trouble.message, "remedy": trouble.remedy}


def report_document(report: SweepReport) -> Json:
    """What one sweep did."""
    return {
        "state": report.state.value,
        "well": report.well,
        "started": moment(report.started),
        "ended": moment(report.ended),
        "counts": counts_document(report.counts),
        "tidied": report.tidied,
        "server": report.server,
        "older": sum(folder.older for folder in report.folders),
        "trouble": trouble_document(report.trouble),
        "remarks": list(report.remarks),
        "folders": [_folder_document(folder) for folder in report.folders],
    }


def _folder_document(folder: FolderReport) -> Json:
    return {
        "folder": folder.folder,
        "counts": counts_document(folder.counts),
        "older": folder.older,
        "trouble": trouble_document(folder.trouble),
    }


def entry_document(entry: Entry, address: str) -> Json:
    """A mail: its artifacts if it is stored, its error and when it is tried again if it failed."""
    document: Json = {
        "id": entry.id,
        "mailbox": entry.mailbox,
        "address": address,
        "folder": entry.ref.folder,
        "subject": entry.subject,
        "sender": entry.sender,
        "messageId": entry.message_id,
        "size": entry.size,
        "received": moment(entry.received),
        "firstSeen": moment(entry.first_seen),
        "lastTried": moment(entry.last_tried),
        "attempts": entry.attempts,
        "dismissed": entry.dismissed,
    }
    if entry.outcome is Outcome.FAILED:
        trouble = trouble_document(entry.trouble) or {"error": None, "message": None, "remedy": None}
        document |= {"nextTry": moment(entry.due_at) or "given up", **trouble}
    if entry.outcome is Outcome.STORED:
        document["artifacts"] = [artifact_document(artifact) for artifact in entry.artifacts]
    return document


def artifact_document(artifact: Artifact) -> Json:
    """A stored file: ``path`` is below the destination's own place."""
    return {
        "role": artifact.role.value,
        "name": artifact.name,
        "destination": artifact.destination,
        "path": artifact.path,
        "size": artifact.size,
        "sha256": artifact.sha256,
    }


def info_document(info: MailboxInfo, *, configured: bool) -> Json:
    """How one mailbox is; ``configured``: the configuration file has it."""
    return {
        "mailbox": info.mailbox,
        "name": info.name,
        "address": info.address,
        "active": info.active,
        "configured": configured,
        "lastSweep": None if info.report is None else report_document(info.report),
        "lastSuccess": moment(info.last_success),
        "failingSince": moment(info.failing_since),
        "nextSweep": moment(info.next_due),
        "heldBy": info.held_by,
        "backlog": dict(info.backlog),
    }


def findings_document(findings: Sequence[Finding]) -> list[Json]:
    return [
        {"level": one.level.value, "subject": one.subject, "message": one.message, "remedy": one.remedy}
        for one in findings
    ]


def moment(when: datetime | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    return None if when is None else f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
