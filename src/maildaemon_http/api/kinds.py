"""Which kinds of mail sources and destinations are installed, and what their own settings are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal

import attrs
from litestar import Controller, Request, Response, get

from maildaemon_core import codec
from maildaemon_core.access import Scope
from maildaemon_core.confinement import Confinement
from maildaemon_core.engine.plugins import Registry
from maildaemon_core.errors import MaildaemonError
from maildaemon_http.api.describing import described
from maildaemon_http.api.schema import Schemas
from maildaemon_http.api.service import Answer, Service, service_of
from maildaemon_http.documents import Trouble


@attrs.frozen(kw_only=True)
class KindInfo:
    """A kind: ``options`` is the JSON Schema of what may stand under ``options``, null if the plug-in is broken."""

    role: Literal["source", "destination"]
    name: str
    options: dict[str, Any] | None
    trouble: Trouble | None


class Kinds(Controller):
    """What ``type`` may be."""

    path = "/kinds"
    tags = ("Mailbox",)

    @get(
        summary="list the installed kinds of sources and destinations",
        **described(Scope.MAILBOXES_READ, answers={200: [KindInfo]}),
    )
    async def list_kinds(self, request: Request[Any, Any, Any]) -> Response[Any]:
        """Those that mailboxes made here may use, with the JSON Schema of the settings of each.

        A broken plug-in is shown with what is wrong with it.
        """
        service = service_of(request)
        return await service.answer(_kinds, service)


def _kinds(service: Service) -> Answer[KindInfo]:
    allowed = service.daemon.confinement or Confinement()
    found = [
        *_of("source", service.daemon.sources, allowed.sources),
        *_of("destination", service.daemon.destinations, allowed.destinations),
    ]
    # Not masked: the properties of a schema are called like secrets, and are none.
    return Answer(document=[codec.write(one, secrets="reveal") for one in found])


def _of(
    role: Literal["source", "destination"], registry: Registry[Any], allowed: Collection[str] | None
) -> Iterator[KindInfo]:
    for name in sorted(registry.names()):
        if allowed is not None and name not in allowed:
            continue
        try:
            settings = registry.kind(name).settings
        except MaildaemonError as error:
            trouble = Trouble(error=type(error).__name__, message=error.message, remedy=error.remedy)
            yield KindInfo(role=role, name=name, options=None, trouble=trouble)
            continue
        yield KindInfo(role=role, name=name, options=settings_schema(settings), trouble=None)


def settings_schema(settings: type[Any]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a kind's own settings, complete in itself."""
    schemas = Schemas("read", at="#/$defs/")
    schemas.reference(settings)
    own = schemas.named.pop(settings.__name__)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **own,
        **({"$defs": schemas.named} if schemas.named else {}),
    }
