"""The operations on what was processed, and on how the mailboxes are."""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import datetime
from typing import Any, Final

import attrs
from litestar import Controller, Request, Response, delete, get, post
from litestar.params import FromPath, RawBody

from maildaemon_core import codec
from maildaemon_core.access import Scope
from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.options import Within
from maildaemon_core.progress import EntryId, Outcome
from maildaemon_core.store_port import Configuration
from maildaemon_http.api import asking, problems
from maildaemon_http.api.describing import described
from maildaemon_http.api.pages import Page, page_size, place_of, written
from maildaemon_http.api.problems import Refused, of_error
from maildaemon_http.api.repeating import once
from maildaemon_http.api.service import Answer, Service, service_of
from maildaemon_http.documents import FailedEntry, MailboxInfo, SuccessfulEntry, entry_document, info_document

Asked = Request[Any, Any, Any]

AS_DEAR_AS: Final = 10
"""Asking for one configuration alone takes about as long as reading so many together with others."""

_UUID: Final = {"schema": {"format": "uuid"}}


@attrs.frozen(kw_only=True)
class EntryFilter:
    """Which mails are meant.

    ``mailbox``: the id of a configuration.  ``sender`` and ``subject`` match in part and without case.  ``from_`` and
    ``to``: when it was received, the end not included.  ``error``: the class of what went wrong.
    """

    mailbox: str | None = attrs.field(default=None, metadata=_UUID)
    folder: str | None = None
    sender: str | None = None
    subject: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    error: str | None = None

    def query(self, outcome: Outcome, *, dismissed: bool = False) -> EntryQuery:
        """The question to the store."""
        return EntryQuery(
            outcome=outcome,
            mailbox=None if self.mailbox is None else asking.mailbox_id(self.mailbox),
            folder=None if self.folder is None else FolderRef(self.folder),
            sender=self.sender,
            subject=self.subject,
            received_from=self.from_,
            received_to=self.to,
            error=self.error,
            dismissed=dismissed,
        )


@attrs.frozen(kw_only=True)
class EntryListQuery(EntryFilter):
    """As EntryFilter, and: ``dismissed``: those too that somebody took out of sight; ``limit``; ``cursor``."""

    dismissed: bool = False
    limit: int | None = attrs.field(default=None, validator=Within(1, 10_000))
    cursor: str | None = None


@attrs.frozen(kw_only=True)
class InfoQuery:
    """``limit``: how many items at most; ``cursor``: ``next`` of the page before."""

    limit: int | None = attrs.field(default=None, validator=Within(1, 10_000))
    cursor: str | None = None


@attrs.frozen(kw_only=True)
class RetryOptions:
    """``unconfirmed``: also a mail of which nobody knows whether its files arrived: if they did, they come twice."""

    unconfirmed: bool = False


@attrs.frozen(kw_only=True)
class RetryFilter(EntryFilter):
    """As EntryFilter; nothing set means every failed mail that is in sight.  ``unconfirmed``: see RetryOptions."""

    unconfirmed: bool = False


@attrs.frozen(kw_only=True)
class Retried:
    """How many mails are tried again."""

    retried: int


_ENTRY = (problems.UNKNOWN_ENTRY, problems.INVALID_PARAMETER)


class Monitoring(Controller):
    """Every mail is in one of the two lists, or pending, or skipped."""

    path = "/monitoring"
    tags = ("Monitoring",)

    @get(
        "/failed",
        summary="get all entries from failed processed emails",
        **described(Scope.MONITORING_READ, query=EntryListQuery, answers={200: Page[FailedEntry]}),
    )
    async def list_failed(self, request: Asked) -> Response[Any]:
        """Newest first: what went wrong, what to do about it, and when it is tried again."""
        return await _page(request, Outcome.FAILED)

    @get(
        "/successful",
        summary="get all entries from successful processed emails",
        **described(Scope.MONITORING_READ, query=EntryListQuery, answers={200: Page[SuccessfulEntry]}),
    )
    async def list_successful(self, request: Asked) -> Response[Any]:
        """Newest first, with the files that were stored."""
        return await _page(request, Outcome.STORED)

    @get(
        "/mailboxes",
        summary="get all entries from MailboxInfo",
        **described(Scope.MONITORING_READ, query=InfoQuery, answers={200: Page[MailboxInfo]}),
    )
    async def list_mailbox_infos(self, request: Asked) -> Response[Any]:
        """How each mailbox is, by name."""
        service = service_of(request)
        query = asking.query(InfoQuery, list(request.query_params.multi_items()))
        return await service.answer(_infos, service, query)

    @delete(
        "/{id:str}",
        status_code=204,
        summary="delete monitoring entry",
        **described(Scope.MONITORING_WRITE, refusals=(*_ENTRY, of_error("StillPending")), answers={204: None}),
    )
    async def delete_entry(self, request: Asked, id: FromPath[str]) -> None:  # noqa: A002  (so the path names it)
        """Takes it out of sight; a failed mail is not tried again by itself, and stays on its server."""
        service, number = service_of(request), EntryId(asking.entry_id(id))

        def act() -> None:
            if service.daemon.dismiss(number) is None:
                raise _unknown(number)

        await service.work.run(act)

    @post(
        "/{id:str}/retry",
        status_code=202,
        summary="try a failed mail again",
        **described(
            Scope.MONITORING_WRITE,
            body=RetryOptions,
            body_required=False,
            headers=("Idempotency-Key",),
            examples={"plain": {}},
            refusals=(*_ENTRY, of_error("LeaseLost"), of_error("Permanent"), of_error("UnknownMailbox")),
            answers={202: Retried},
        ),
    )
    async def retry_entry(self, request: Asked, id: FromPath[str], body: RawBody) -> Response[Any]:  # noqa: A002
        """One that was given up or dismissed, too."""
        service, number = service_of(request), EntryId(asking.entry_id(id))

        def act() -> Answer[Retried]:
            wanted = codec.read(RetryOptions, _document(service, request, body))
            if service.daemon.retry(number, unconfirmed=wanted.unconfirmed) is None:
                raise _unknown(number)
            return Answer(document={"retried": 1}, status=202)

        return await _once(request, body, act)

    @post(
        "/failed/retry",
        status_code=202,
        summary="try failed mails again",
        **described(
            Scope.MONITORING_WRITE,
            body=RetryFilter,
            body_required=False,
            headers=("Idempotency-Key",),
            examples={"all of one error": {"error": "DestinationUnavailable"}},
            refusals=(of_error("LeaseLost"), of_error("UnknownMailbox"), problems.INVALID_PARAMETER),
            answers={202: Retried},
        ),
    )
    async def retry_failed(self, request: Asked, body: RawBody) -> Response[Any]:
        """Those that the filter finds; those that somebody has dismissed stay as they are."""
        service = service_of(request)

        def act() -> Answer[Retried]:
            wanted = codec.read(RetryFilter, _document(service, request, body))
            number = service.daemon.retry_all(wanted.query(Outcome.FAILED), unconfirmed=wanted.unconfirmed)
            return Answer(document={"retried": number}, status=202)

        return await _once(request, body, act)


async def _once(request: Asked, body: bytes, act: Any) -> Response[Any]:
    service = service_of(request)
    return await service.answer(
        lambda: once(service.daemon.store, request, body, lambda *_: act(), chosen=lambda: MailboxId(""))
    )


def _document(service: Service, request: Asked, body: bytes) -> Any:
    if not body:
        return {}
    return asking.document(body, request.headers.get("content-type", ""), longest=service.settings.limits.list_items)


async def _page(request: Asked, outcome: Outcome) -> Response[Any]:
    service = service_of(request)
    query = asking.query(EntryListQuery, list(request.query_params.multi_items()))
    return await service.answer(_entries, service, query, outcome)


def _entries(service: Service, query: EntryListQuery, outcome: Outcome) -> Answer[Any]:
    before = place_of(query.cursor, r"[0-9]{1,18}")
    asked = attrs.evolve(
        query.query(outcome, dismissed=query.dismissed),
        limit=page_size(query.limit, service.settings.limits.page_items),
        before=None if before is None else EntryId(int(before)),
    )
    page = service.daemon.entries(asked)
    addresses = _addresses(service, {entry.mailbox for entry in page.entries})
    items = [entry_document(entry, addresses.get(entry.mailbox, "")) for entry in page.entries]
    return Answer(document=written(items, None if page.next is None else str(page.next)))


def _addresses(service: Service, wanted: Set[MailboxId]) -> Mapping[MailboxId, str]:
    """Those of mailboxes that are there, and of such as were removed and not forgotten."""
    store = service.daemon.store
    apart = len(wanted) * AS_DEAR_AS < len(service.daemon.mailboxes())
    there = map(store.configuration, wanted) if apart else store.configurations()
    found = {one.id: _address(one) for one in there if one is not None}
    if not wanted <= found.keys():
        found = {one.id: _address(one) for one in store.former()} | found
    return found


def _address(configuration: Configuration) -> str:
    document = configuration.document
    return document.get("mailbox") or document.get("username") or configuration.name


def _infos(service: Service, query: InfoQuery) -> Answer[Page[MailboxInfo]]:
    size = page_size(query.limit, service.settings.limits.page_items)
    after = place_of(query.cursor, r"(?s).*\n[0-9a-f-]{36}")
    in_use = service.daemon.mailboxes()
    everything = sorted((f"{info.name}\n{info.mailbox}", info) for info in service.daemon.infos())
    left = [(place, info) for place, info in everything if after is None or place > after]
    shown = left[:size]
    following = shown[-1][0] if len(left) > size else None
    items = (info_document(info, configured=info.mailbox in in_use) for _, info in shown)
    return Answer(document=written(items, following))


def _unknown(number: EntryId) -> Refused:
    return Refused(
        problems.UNKNOWN_ENTRY,
        f"there is no mail of number {number}, or its history was thinned out",
        remedy="look the number up in the lists of failed and successful mails",
    )
