"""The operations on mailbox configurations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, Literal
from uuid import uuid4

import attrs
from litestar import Controller, Request, Response, delete, get, patch, post, put
from litestar.params import FromPath, RawBody

from maildaemon_core import codec
from maildaemon_core.access import Scope
from maildaemon_core.engine.catalog import Unusable
from maildaemon_core.errors import StaleVersion
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import SweepReport as Report
from maildaemon_core.options import MailboxOptions, Within
from maildaemon_core.progress import Outcome
from maildaemon_http.api import asking, examples, problems
from maildaemon_http.api.describing import described
from maildaemon_http.api.mailbox_documents import (
    MailboxConfiguration,
    MailboxOptionsUpdate,
    document_of,
    is_from_file,
    place,
    shown,
)
from maildaemon_http.api.pages import Page, page_size, place_of, written
from maildaemon_http.api.problems import Refused, of_error
from maildaemon_http.api.repeating import once
from maildaemon_http.api.service import Answer, Service, key_name, service_of
from maildaemon_http.documents import (
    SweepReport,
    ValidationFinding,
    findings_document,
    report_document,
)

Asked = Request[Any, Any, Any]

HALT_SECONDS = 10.0
"""So long a DELETE waits for a running sweep to come to a safe point."""


@attrs.frozen(kw_only=True)
class ListQuery:
    """``limit``: how many items at most; ``cursor``: ``next`` of the page before."""

    limit: int | None = attrs.field(default=None, validator=Within(1, 10_000))
    cursor: str | None = None


@attrs.frozen(kw_only=True)
class RemovalQuery:
    """``forget``: what was processed is forgotten too; the same account would be delivered anew."""

    forget: bool = False


@attrs.frozen(kw_only=True)
class SweepQuery:
    """``wait``: how many seconds the answer may wait for the end of the sweep; it does not if many others do."""

    wait: int | None = attrs.field(default=None, validator=Within(0, 3600))


@attrs.frozen(kw_only=True)
class SweepOptions:
    """``again``: which mails are taken up once more: the skipped ones, say, after a filter was made wider."""

    again: Literal["skipped", "failed"] | None = None


@attrs.frozen(kw_only=True)
class SweepStatus:
    """Whether a sweep has ended, and what it did if so."""

    state: Literal["ended", "queued"]
    report: SweepReport | None


_ID: Final = "/{uuid:str}"
_WRITES = (of_error("NoMasterKey"), of_error("Rival"))
_ONE = (of_error("UnknownMailbox"), problems.INVALID_PARAMETER)


class Mailboxes(Controller):
    """One configuration for each mailbox."""

    path = "/mailboxes"
    tags = ("Mailbox",)

    @post(
        summary="create mailbox configuration",
        **described(
            Scope.MAILBOXES_WRITE,
            body=MailboxOptions,
            headers=("Idempotency-Key",),
            examples=examples.MAILBOXES,
            refusals=_WRITES,
            answers={201: MailboxConfiguration},
            answer_headers=("ETag", "Location"),
        ),
    )
    async def create_mailbox(self, request: Asked, body: RawBody) -> Response[Any]:
        """Begins at once to watch the mailbox, if it is active."""
        service, by = service_of(request), key_name(request)

        def act() -> Answer[MailboxConfiguration]:
            wanted = _document(service, request, body)
            return once(
                service.daemon.store,
                request,
                body,
                lambda chosen, again: _created(service, chosen, wanted, by, again=again),
                chosen=lambda: service.catalog.chosen_id(wanted),
            )

        return await service.answer(act)

    @get(
        summary="list all mailbox configurations",
        **described(Scope.MAILBOXES_READ, query=ListQuery, answers={200: Page[MailboxConfiguration]}),
    )
    async def list_mailboxes(self, request: Asked) -> Response[Any]:
        """Newest first."""
        service = service_of(request)
        query = asking.query(ListQuery, list(request.query_params.multi_items()))
        return await service.answer(_listed, service, query)

    @get(
        _ID,
        summary="get a mailbox configuration via given uuid",
        **described(
            Scope.MAILBOXES_READ,
            refusals=_ONE,
            answers={200: MailboxConfiguration},
            answer_headers=("ETag",),
        ),
    )
    async def get_mailbox(self, request: Asked, uuid: FromPath[str]) -> Response[Any]:
        """Every secret is shown as ``********``."""
        service, mailbox = service_of(request), asking.mailbox_id(uuid)
        return await service.answer(lambda: shown(service, service.catalog.get(mailbox)))

    @patch(
        _ID,
        summary="update an existing mailbox",
        **described(
            Scope.MAILBOXES_WRITE,
            body=MailboxOptionsUpdate,
            body_types=asking.PATCH_TYPES,
            headers=("If-Match",),
            refusals=(*_WRITES, *_ONE, problems.FROM_FILE, of_error("Sealed")),
            answers={200: MailboxConfiguration},
            answer_headers=("ETag",),
        ),
    )
    async def update_mailbox(self, request: Asked, uuid: FromPath[str], body: RawBody) -> Response[Any]:
        """A JSON merge patch (RFC 7396): null takes a property back to its default, absent secrets stay."""
        return await _write(request, uuid, body, "change", asking.PATCH_TYPES)

    @put(
        _ID,
        summary="replace an existing mailbox",
        **described(
            Scope.MAILBOXES_WRITE,
            body=MailboxOptionsUpdate,
            examples=examples.MAILBOXES,
            headers=("If-Match",),
            refusals=(*_WRITES, *_ONE, problems.FROM_FILE, of_error("Sealed")),
            answers={200: MailboxConfiguration},
            answer_headers=("ETag",),
        ),
    )
    async def replace_mailbox(self, request: Asked, uuid: FromPath[str], body: RawBody) -> Response[Any]:
        """What is absent takes its default; ``********`` keeps a stored secret."""
        return await _write(request, uuid, body, "replace", asking.JSON_TYPES)

    @delete(
        _ID,
        status_code=204,
        summary="delete an existing mailbox",
        **described(
            Scope.MAILBOXES_WRITE,
            query=RemovalQuery,
            headers=("If-Match",),
            refusals=(*_ONE, problems.FROM_FILE),
            answers={204: None},
        ),
    )
    async def delete_mailbox(self, request: Asked, uuid: FromPath[str]) -> None:
        """A running sweep ends at a safe point.  What was processed stays remembered, unless ``forget``."""
        service, mailbox = service_of(request), asking.mailbox_id(uuid)
        query = asking.query(RemovalQuery, list(request.query_params.multi_items()))
        expected = asking.expected_version(request.headers.get("if-match"))

        def act() -> None:
            _changeable(service, mailbox)
            service.daemon.halt(mailbox, seconds=HALT_SECONDS)
            try:
                service.catalog.remove(mailbox, expected=expected, forget=query.forget)
            finally:
                service.daemon.refreshed(mailbox)

        await service.work.run(act)

    @post(
        f"{_ID}/validate",
        status_code=200,
        summary="validate the connection to the email and destination server",
        **described(
            Scope.MAILBOXES_WRITE,
            refusals=(*_ONE, problems.TOO_MANY_VALIDATIONS, of_error("Sealed"), of_error("InvalidOptions")),
            headers=("Idempotency-Key",),
            answers={200: [ValidationFinding]},
        ),
    )
    async def validate_mailbox(self, request: Asked, uuid: FromPath[str], body: RawBody) -> Response[Any]:
        """Answers what works and what does not, each with a remedy, and leaves nothing behind.

        It logs in and stores a trial file, which is more than looking at a configuration: so it needs the other scope.
        """
        service, mailbox = service_of(request), asking.mailbox_id(uuid)

        def act() -> Answer[ValidationFinding]:
            adopted = service.daemon.mailboxes().get(mailbox)
            if adopted is not None and is_from_file(service, mailbox):
                return _validated(service, mailbox, adopted, trusted=True)
            found = service.catalog.get(mailbox)
            if isinstance(found, Unusable):
                raise _unusable(found)
            return _validated(service, mailbox, found.options, trusted=False)

        return await _bounded(request, body, act)

    @post(
        "/validate",
        status_code=200,
        summary="validate options before they are saved",
        **described(
            Scope.MAILBOXES_WRITE,
            body=MailboxOptions,
            examples=examples.MAILBOXES,
            refusals=(problems.TOO_MANY_VALIDATIONS,),
            headers=("Idempotency-Key",),
            answers={200: [ValidationFinding]},
        ),
    )
    async def validate_options(self, request: Asked, body: RawBody) -> Response[Any]:
        """As the validation of a mailbox, for options that nobody has stored."""
        service = service_of(request)

        def act() -> Answer[ValidationFinding]:
            options = service.catalog.checked(_document(service, request, body))
            return _validated(service, MailboxId(str(uuid4())), options, trusted=False)

        return await _bounded(request, body, act)

    @post(
        f"{_ID}/sweeps",
        status_code=202,
        summary="process a mailbox now",
        **described(
            Scope.SWEEPS_RUN,
            body=SweepOptions,
            body_required=False,
            query=SweepQuery,
            headers=("Idempotency-Key",),
            examples={"plain": {}, "skipped once more": {"again": "skipped"}},
            refusals=(*_ONE, of_error("LeaseLost"), of_error("Permanent"), of_error("Sealed")),
            answers={200: SweepStatus, 202: SweepStatus},
        ),
    )
    async def sweep_mailbox(self, request: Asked, uuid: FromPath[str], body: RawBody) -> Response[Any]:
        """200 with what it did if it has ended within ``wait`` seconds, else 202."""
        service, mailbox = service_of(request), asking.mailbox_id(uuid)
        limits = service.settings.limits
        query = asking.query(SweepQuery, list(request.query_params.multi_items()))
        wait = min(float(query.wait or 0), limits.wait_seconds)

        def act() -> Answer[SweepStatus]:
            document = _document(service, request, body) if body else {}
            wanted = codec.read(SweepOptions, document)
            again = frozenset({Outcome(wanted.again)} if wanted.again else ())
            future = service.daemon.sweep_soon(mailbox, again=again)
            report = _awaited(service, future, wait)
            if report is None:
                return Answer(document={"state": "queued", "report": None}, status=202)
            return Answer(document={"state": "ended", "report": report_document(report)})

        return await service.answer(
            lambda: once(service.daemon.store, request, body, lambda *_: act(), chosen=lambda: mailbox),
            seconds=wait + limits.request_seconds,
        )


def _document(service: Service, request: Asked, body: bytes, types_taken: Sequence[str] = asking.JSON_TYPES) -> Any:
    return asking.document(
        body,
        request.headers.get("content-type", ""),
        longest=service.settings.limits.list_items,
        types_taken=types_taken,
    )


def _created(
    service: Service, chosen: MailboxId, wanted: object, by: str, *, again: bool
) -> Answer[MailboxConfiguration]:
    """Makes the mailbox; ``again``: unless it was made before the request was broken off."""
    there = service.daemon.store.configuration(chosen) if again else None
    try:
        kept = service.catalog.get(chosen) if there else service.catalog.create(wanted, by=by, mailbox=chosen)
    except StaleVersion:
        if not again:
            raise
        kept = service.catalog.get(chosen)  # who was thought to be broken off has made it in this moment
    service.daemon.refreshed(kept.configuration.id)
    made = shown(service, kept)
    location = f"/mailboxes/{kept.configuration.id}"
    return attrs.evolve(made, status=201, headers={**made.headers, "Location": location})


def _awaited(service: Service, future: Future[Report], wait: float) -> Report | None:
    """What the sweep did if it ends within so many seconds; not waited for if too many others are."""
    waits = wait > 0 and not future.done() and service.waiters.acquire(blocking=False)
    try:
        return future.result(timeout=wait if waits else 0.0)
    except TimeoutError:
        return None
    finally:
        if waits:
            service.waiters.release()


async def _write(
    request: Asked, uuid: str, body: bytes, how: Literal["change", "replace"], types_taken: Sequence[str]
) -> Response[Any]:
    service, mailbox, by = service_of(request), asking.mailbox_id(uuid), key_name(request)
    expected = asking.expected_version(request.headers.get("if-match"))
    act = service.catalog.change if how == "change" else service.catalog.replace

    def write() -> Answer[MailboxConfiguration]:
        document = _document(service, request, body, types_taken)
        _changeable(service, mailbox)
        kept = act(mailbox, document, expected=expected, by=by)
        service.daemon.refreshed(mailbox)
        return shown(service, kept)

    return await service.answer(write)


async def _bounded(request: Asked, body: bytes, act: Callable[[], Answer[ValidationFinding]]) -> Response[Any]:
    """Runs a validation, of which only so many go on at once."""
    service = service_of(request)

    def held() -> Answer[ValidationFinding]:
        if not service.validations.acquire(blocking=False):
            raise Refused(
                problems.TOO_MANY_VALIDATIONS,
                f"{service.settings.limits.validations} are going on",
                remedy="try again when they have ended",
                headers={"Retry-After": "10"},
            )
        try:
            return act()
        finally:
            service.validations.release()

    return await service.answer(
        lambda: once(service.daemon.store, request, body, lambda *_: held(), chosen=lambda: MailboxId("")),
        seconds=service.settings.limits.validation_seconds,
    )


def _validated(
    service: Service, mailbox: MailboxId, options: MailboxOptions, *, trusted: bool
) -> Answer[ValidationFinding]:
    return Answer(document=findings_document(service.daemon.validate(mailbox, options, trusted=trusted)))


def _listed(service: Service, query: ListQuery) -> Answer[Page[MailboxConfiguration]]:
    size = page_size(query.limit, service.settings.limits.page_items)
    after = place_of(query.cursor, r"[0-9TZ:.+-]{10,40} [0-9a-f-]{36}")
    everything = sorted(((place(one), one) for one in service.daemon.store.configurations()), reverse=True)
    left = [(at, one) for at, one in everything if after is None or at < after]
    items = left[:size]
    following = items[-1][0] if len(left) > size else None
    return Answer(document=written((document_of(service, one) for _, one in items), following))


def _changeable(service: Service, mailbox: MailboxId) -> None:
    if is_from_file(service, mailbox):
        raise Refused(
            problems.FROM_FILE,
            "this mailbox stands in the configuration file with which the service was started",
            remedy="change it in that file and start the service again",
        )


def _unusable(found: Unusable) -> Exception:
    trouble = found.trouble
    return Refused(of_error("Sealed"), trouble.message, remedy=trouble.remedy)
