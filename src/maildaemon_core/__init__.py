"""maildaemon as a library: the façade, the options and values that programs hold in their hands, and the ports.

    from maildaemon_core import MailboxOptions, MailDaemon, mailbox_id, read

Importing it is cheap: what needs more than attrs (the engine, the codec) is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maildaemon_core.access import ApiKey, Scope, is_good, make_key, prefix_of
from maildaemon_core.errors import (
    BrokenPlugin,
    DestinationUnavailable,
    FolderMissing,
    InvalidOptions,
    KeyExists,
    LeaseLost,
    LoginRefused,
    MaildaemonError,
    NoMasterKey,
    PathsTaken,
    Permanent,
    Problem,
    Sealed,
    SourceUnavailable,
    SpoolFull,
    StaleVersion,
    StillPending,
    StoreMissing,
    StoreTooNew,
    StoreTooOld,
    StoreUnavailable,
    Transient,
    Trouble,
    UnknownKind,
)
from maildaemon_core.message import MailboxId, mailbox_id
from maildaemon_core.monitoring import (
    Counts,
    EntryPage,
    EntryQuery,
    Event,
    FolderReport,
    MailboxInfo,
    SweepReport,
    SweepState,
)
from maildaemon_core.options import (
    MASK,
    DestinationOptions,
    KindFacts,
    MailArchiving,
    MailboxOptions,
    Move,
    Secret,
)
from maildaemon_core.ports import (
    Destination,
    Finding,
    Kind,
    Level,
    MailSource,
    Monitor,
    SecretReader,
    SecretStore,
    Spool,
)
from maildaemon_core.progress import Artifact, Entry, EntryId, Outcome, Role, Stage
from maildaemon_core.retention import Retention
from maildaemon_core.store_port import Configuration, Lease, Store

if TYPE_CHECKING:
    from maildaemon_core.codec import merge_patch, read, write
    from maildaemon_core.engine.daemon import MailDaemon, open_store

__all__ = [
    "MASK",
    "ApiKey",
    "Artifact",
    "BrokenPlugin",
    "Configuration",
    "Counts",
    "Destination",
    "DestinationOptions",
    "DestinationUnavailable",
    "Entry",
    "EntryId",
    "EntryPage",
    "EntryQuery",
    "Event",
    "Finding",
    "FolderMissing",
    "FolderReport",
    "InvalidOptions",
    "KeyExists",
    "Kind",
    "KindFacts",
    "Lease",
    "LeaseLost",
    "Level",
    "LoginRefused",
    "MailArchiving",
    "MailDaemon",
    "MailSource",
    "MailboxId",
    "MailboxInfo",
    "MailboxOptions",
    "MaildaemonError",
    "Monitor",
    "Move",
    "NoMasterKey",
    "Outcome",
    "PathsTaken",
    "Permanent",
    "Problem",
    "Retention",
    "Role",
    "Scope",
    "Sealed",
    "Secret",
    "SecretReader",
    "SecretStore",
    "SourceUnavailable",
    "Spool",
    "SpoolFull",
    "Stage",
    "StaleVersion",
    "StillPending",
    "Store",
    "StoreMissing",
    "StoreTooNew",
    "StoreTooOld",
    "StoreUnavailable",
    "SweepReport",
    "SweepState",
    "Transient",
    "Trouble",
    "UnknownKind",
    "is_good",
    "mailbox_id",
    "make_key",
    "merge_patch",
    "open_store",
    "prefix_of",
    "read",
    "write",
]


def __getattr__(name: str) -> Any:
    if name in {"merge_patch", "read", "write"}:
        from maildaemon_core import codec

        return getattr(codec, name)
    if name in {"MailDaemon", "open_store"}:
        from maildaemon_core.engine import daemon

        return getattr(daemon, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
