"""How the values of the core become rows and come back: exactly, every field of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any

import attrs

from maildaemon_adapters.sql import tables
from maildaemon_adapters.sql.tables import storable
from maildaemon_core.errors import Trouble
from maildaemon_core.message import BatchId, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import Counts, FolderReport, SweepReport, SweepState
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.progress import Artifact, Entry, EntryId, Receipt, Role, Stage
from maildaemon_core.store_port import Configuration

Row = Mapping[str, Any]

LARGEST = 2**63 - 1
"""The largest number that every database takes; a server may claim that a mail is larger."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def moment(at: datetime) -> int:
    """Microseconds since 1970, UTC.  A time without a zone is a mistake of the caller: raises TypeError."""
    return (at - _EPOCH) // _MICROSECOND


def moment_or_none(at: datetime | None) -> int | None:
    return None if at is None else (at - _EPOCH) // _MICROSECOND


def at_moment(number: int) -> datetime:
    return _EPOCH + timedelta(microseconds=number)


def at_moment_or_none(number: int | None) -> datetime | None:
    return None if number is None else _EPOCH + timedelta(microseconds=number)


def folded(text: str) -> str:
    """Text as it is searched in: without case."""
    return storable(text).casefold()


def storable_document(document: Any) -> Any:
    """A JSON document with every text in it as it can be stored."""
    match document:
        case str():
            return storable(document)
        case Mapping():
            return {storable(name): storable_document(value) for name, value in document.items()}
        case list() | tuple():
            return [storable_document(value) for value in document]
        case _:
            return document


# ------------------------------------------------------------------------------------------------------------ entries

ENTRY_COLUMNS = tuple(column for column in tables.entry.c if not column.name.endswith("_folded"))


_VALUE_OF: Mapping[str, Callable[[Entry], Any]] = {
    "mailbox": lambda entry: entry.mailbox,
    "folder": lambda entry: storable(entry.ref.folder),
    "uidvalidity": lambda entry: storable(entry.ref.uidvalidity),
    "uid": lambda entry: storable(entry.ref.uid),
    "fingerprint": lambda entry: entry.identity.fingerprint,
    "strong": lambda entry: None if entry.identity.strong is None else storable(entry.identity.strong),
    "key": lambda entry: entry.key,
    "received": lambda entry: moment(entry.received),
    "first_seen": lambda entry: moment(entry.first_seen),
    "sender": lambda entry: storable(entry.sender),
    "subject": lambda entry: storable(entry.subject),
    "sender_folded": lambda entry: folded(entry.sender),
    "subject_folded": lambda entry: folded(entry.subject),
    "message_id": lambda entry: storable(entry.message_id),
    "size": lambda entry: None if entry.size is None else min(entry.size, LARGEST),
    "stage": lambda entry: entry.stage.value,
    "outcome": lambda entry: entry.outcome.value,
    "dismissed": lambda entry: False,  # written with an outcome, and there is nobody yet who has seen that
    "due_at": lambda entry: moment_or_none(entry.due_at),
    "attempts": lambda entry: entry.attempts,
    "suspect": lambda entry: entry.suspect,
    "in_hand": lambda entry: entry.in_hand,
    "last_tried": lambda entry: moment_or_none(entry.last_tried),
    "batch": lambda entry: None if entry.batch is None else str(entry.batch),
    "complete": lambda entry: entry.complete,
    "care": lambda entry: int(entry.care.action),
    "care_folder": lambda entry: None if entry.care.folder is None else storable(entry.care.folder),
    "moved_to": lambda entry: None if entry.moved_to is None else json.dumps(_storable_ref(entry.moved_to)),
    "error": lambda entry: None if entry.trouble is None else storable(entry.trouble.error),
    "trouble": lambda entry: None if entry.trouble is None else json.dumps(trouble_document(entry.trouble)),
    "reason": lambda entry: storable(entry.reason),
    "defects": lambda entry: json.dumps([storable(each) for each in entry.defects]) if entry.defects else None,
}
"""What each column of an entry holds, as drivers take it; ``id`` is given by the database."""


def _storable_ref(ref: MessageRef) -> list[str]:
    return [storable(part) for part in (ref.folder, ref.uidvalidity, ref.uid)]


ALL_BUT_ID = tuple(_VALUE_OF)


def entry_values(entry: Entry, columns: Iterable[str]) -> tuple[Any, ...]:
    """What these columns hold of an entry."""
    return tuple([_VALUE_OF[column](entry) for column in columns])


_FIELDS = (
    *(field.name for field in attrs.fields(Entry) if field.name not in {"id", "artifacts", "dismissed"}),
    "outcome",
)
_VALUES = attrgetter(*_FIELDS)
_COLUMNS_OF = {
    "ref": ("folder", "uidvalidity", "uid"),
    "identity": ("fingerprint", "strong"),
    "sender": ("sender", "sender_folded"),
    "subject": ("subject", "subject_folded"),
    "care": ("care", "care_folder"),
    "trouble": ("error", "trouble"),
    "outcome": ("outcome", "dismissed"),
}
"""The columns that a field of an entry shows in, where these are not just the one of its name."""


def changed_columns(before: Entry, after: Entry) -> tuple[str, ...]:
    """The columns in which the rows of two states of an entry may differ; in the others they do not."""
    both = zip(_FIELDS, _VALUES(before), _VALUES(after), strict=True)
    return _columns_of(tuple([name for name, old, new in both if old is not new and old != new]))


@lru_cache(maxsize=256)
def _columns_of(fields: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for field in fields for column in _COLUMNS_OF.get(field, (field,))))


def entry_from(row: Sequence[Any], artifacts: Sequence[Artifact]) -> Entry:
    """The entry of a row of ``ENTRY_COLUMNS``."""
    (
        number,
        mailbox,
        folder,
        uidvalidity,
        uid,
        fingerprint,
        strong,
        key,
        received,
        first_seen,
        sender,
        subject,
        message_id,
        size,
        stage,
        _outcome,
        dismissed,
        due_at,
        attempts,
        suspect,
        in_hand,
        last_tried,
        batch,
        complete,
        care,
        care_folder,
        _error,
        trouble,
        reason,
        defects,
        moved_to,
    ) = row
    return Entry(
        mailbox=MailboxId(mailbox),
        ref=MessageRef(FolderRef(folder), uidvalidity, uid),
        identity=Identity(fingerprint, strong),
        key=key,
        received=at_moment(received),
        first_seen=at_moment(first_seen),
        id=EntryId(number),
        sender=sender,
        subject=subject,
        message_id=message_id,
        size=size,
        stage=Stage(stage),
        due_at=at_moment_or_none(due_at),
        attempts=attempts,
        suspect=suspect,
        in_hand=in_hand,
        last_tried=at_moment_or_none(last_tried),
        batch=None if batch is None else BatchId.parse(batch),
        artifacts=tuple(artifacts),
        complete=complete,
        care=Aftercare(Action(care), care_folder),
        moved_to=None if moved_to is None else MessageRef(FolderRef(moved_to[0]), *moved_to[1:]),
        trouble=None if trouble is None else trouble_from(trouble),
        reason=reason,
        defects=tuple(defects or ()),
        dismissed=dismissed,
    )


# ---------------------------------------------------------------------------------------------------------- artifacts

ARTIFACT_COLUMNS = tuple(tables.artifact.c)

ArtifactRow = tuple[Any, ...]
"""The values of ``ARTIFACT_COLUMNS``: tuples are quick to compare."""


def artifact_row(entry: EntryId, position: int | None, artifact: Artifact) -> ArtifactRow:
    receipt = artifact.receipt
    return (
        storable(artifact.place),
        storable(artifact.path),
        entry,
        position,
        storable(artifact.destination),
        artifact.role.value,
        artifact.index,
        artifact.size,
        artifact.sha256,
        None if artifact.name is None else storable(artifact.name),
        artifact.part,
        None if receipt is None else receipt.size,
        None if receipt is None else moment(receipt.at),
        None if receipt is None or receipt.etag is None else storable(receipt.etag),
    )


def artifact_from(row: Sequence[Any]) -> Artifact:
    place, path, _entry, _position, destination, role, number, size, sha256, name, part, received, at, etag = row
    return Artifact(
        destination=destination,
        place=place,
        role=Role(role),
        index=number,
        path=path,
        size=size,
        sha256=sha256,
        name=name,
        part=part,
        receipt=None if at is None else Receipt(size=received, at=at_moment(at), etag=etag),
    )


# ---------------------------------------------------------------------------------------------------------- documents


def trouble_document(trouble: Trouble) -> dict[str, Any]:
    """A document of the store's own: what the API calls things may change, what is stored must stay readable."""
    return {
        "error": storable(trouble.error),
        "message": storable(trouble.message),
        "remedy": storable(trouble.remedy),
        "transient": trouble.transient,
        "retry_after": trouble.retry_after,
    }


def trouble_from(document: Row) -> Trouble:
    return Trouble(
        error=document["error"],
        message=document["message"],
        remedy=document["remedy"],
        transient=document["transient"],
        retry_after=document["retry_after"],
    )


def _some_trouble(document: Row | None) -> Trouble | None:
    return None if document is None else trouble_from(document)


def report_document(report: SweepReport) -> dict[str, Any]:
    return {
        "mailbox": report.mailbox,
        "state": report.state.value,
        "started": moment(report.started),
        "ended": moment(report.ended),
        "folders": [
            {
                "folder": storable(each.folder),
                "stored": each.counts.stored,
                "skipped": each.counts.skipped,
                "failed": each.counts.failed,
                "pending": each.counts.pending,
                "older": each.older,
                "trouble": None if each.trouble is None else trouble_document(each.trouble),
            }
            for each in report.folders
        ],
        "tidied": report.tidied,
        "server": storable(report.server),
        "trouble": None if report.trouble is None else trouble_document(report.trouble),
        "remarks": [storable(each) for each in report.remarks],
    }


def report_from(document: Row) -> SweepReport:
    return SweepReport(
        mailbox=MailboxId(document["mailbox"]),
        state=SweepState(document["state"]),
        started=at_moment(document["started"]),
        ended=at_moment(document["ended"]),
        folders=tuple(
            FolderReport(
                folder=FolderRef(each["folder"]),
                counts=Counts(
                    stored=each["stored"], skipped=each["skipped"], failed=each["failed"], pending=each["pending"]
                ),
                older=each["older"],
                trouble=_some_trouble(each["trouble"]),
            )
            for each in document["folders"]
        ),
        tidied=document["tidied"],
        server=document["server"],
        trouble=_some_trouble(document["trouble"]),
        remarks=tuple(document["remarks"]),
    )


def configuration_from(row: Sequence[Any]) -> Configuration:
    """The configuration of a row of that table."""
    number, name, document, secrets, version, created, changed, created_by, changed_by, dropped = row
    return Configuration(
        id=MailboxId(number),
        name=name,
        document=document,
        secrets=secrets,
        version=version,
        created=at_moment(created),
        changed=at_moment(changed),
        created_by=created_by,
        changed_by=changed_by,
        dropped=at_moment_or_none(dropped),
    )
