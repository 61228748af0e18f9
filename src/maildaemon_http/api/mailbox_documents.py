"""What is said of mailbox configurations, and taken from those who send back what was said."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import attrs

from maildaemon_core import codec
from maildaemon_core.engine.catalog import Kept, Unusable
from maildaemon_core.message import MailboxId
from maildaemon_core.options import MASK, MailboxOptions
from maildaemon_core.secret_places import changed_at, hidden_texts
from maildaemon_core.store_port import Configuration
from maildaemon_http.api import asking
from maildaemon_http.api.service import Answer, Service
from maildaemon_http.documents import Json, Trouble, trouble_document

_READ_ONLY: Final = {"schema": {"readOnly": True}}


@attrs.frozen(kw_only=True)
class FieldNote:
    """Something about one property that a person should know."""

    path: str
    message: str


@attrs.frozen(kw_only=True)
class MailboxOptionsUpdate(MailboxOptions):
    """As MailboxOptions; what only answers have is accepted if it is unchanged, so that what was read can be sent."""

    uuid: str | None = attrs.field(default=None, metadata=_READ_ONLY)
    version: int | None = attrs.field(default=None, metadata=_READ_ONLY)
    created: datetime | None = attrs.field(default=None, metadata=_READ_ONLY)
    changed: datetime | None = attrs.field(default=None, metadata=_READ_ONLY)
    created_by: str | None = attrs.field(default=None, metadata=_READ_ONLY)
    changed_by: str | None = attrs.field(default=None, metadata=_READ_ONLY)
    managed_by: Any = attrs.field(default=None, metadata=_READ_ONLY)
    adopted: Any = attrs.field(default=None, metadata=_READ_ONLY)
    warnings: Any = attrs.field(default=None, metadata=_READ_ONLY)
    trouble: Any = attrs.field(default=None, metadata=_READ_ONLY)


@attrs.frozen(kw_only=True)
class MailboxConfiguration(MailboxOptions):
    """A mailbox configuration as it is kept, its secrets masked.

    ``version`` counts the changes.  ``created_by`` and ``changed_by`` are names of API keys.  ``managed_by``: ``file``
    if the service's configuration file says it, so that it is changed there.  ``adopted``: the same account was
    configured before, and what was processed then is not processed again.  ``trouble``: why it cannot be used.
    """

    uuid: str
    version: int
    created: datetime
    changed: datetime
    created_by: str
    changed_by: str
    managed_by: Literal["api", "file"]
    adopted: bool
    warnings: tuple[FieldNote, ...]
    trouble: Trouble | None


def place(one: Configuration) -> str:
    """Where it stands in the list: by creation, then by id."""
    return f"{one.created.isoformat(timespec='microseconds') if one.created else '0001-01-01'} {one.id}"


def shown(service: Service, found: Kept | Unusable) -> Answer[MailboxConfiguration]:
    """One configuration as an answer of its own, with its version as ETag."""
    configuration = found.configuration
    document = document_of(service, configuration)
    if isinstance(found, Kept):
        document["adopted"] = found.adopted
        document["warnings"] = [{"path": one.path, "message": one.message} for one in found.warnings]
    elif document["managedBy"] == "api":
        document["trouble"] = trouble_document(found.trouble)
    return Answer(document=document, headers={"ETag": asking.etag(configuration.version)})


def document_of(service: Service, configuration: Configuration) -> Json:
    """A configuration as it stands in a list."""
    return {
        **codec.write(MailboxOptions()),
        **_as_written(configuration.document),
        "uuid": configuration.id,
        "version": configuration.version,
        "created": codec.write(configuration.created),
        "changed": codec.write(configuration.changed),
        "createdBy": configuration.created_by,
        "changedBy": configuration.changed_by,
        "managedBy": "file" if is_from_file(service, configuration.id) else "api",
        "adopted": False,
        "warnings": [],
        "trouble": None,
    }


def _as_written(document: Mapping[str, Any]) -> Json:
    """A stored document with the properties that there are and every secret masked, whoever wrote it: another release,
    or somebody by hand."""
    known = codec.wire_names(MailboxOptions).values()
    shown = {name: value for name, value in document.items() if name in known}
    for path, text in list(hidden_texts(shown)):
        if text not in {MASK, ""}:
            shown = changed_at(shown, path, MASK)
    return shown


def is_from_file(service: Service, mailbox: MailboxId) -> bool:
    """Whether the service's own configuration file says this mailbox."""
    return mailbox in service.daemon.adopted()
