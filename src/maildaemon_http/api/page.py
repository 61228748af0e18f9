"""The API's page for people: which files it is made of, and how they are served.

Swagger UI does the work.  Its files come with the package ``swagger-ui-py``; nothing of them is ours, nothing of that
package is imported, and no file comes from any other machine.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs
from litestar import MediaType, Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

PACKAGE: Final = "swagger_ui"
"""The package that has Swagger UI's files, in its folder ``static``."""

_OURS: Final = Path(__file__).with_name("page")
_TYPES: Final = MappingProxyType(
    {
        ".css": "text/css",
        ".js": "text/javascript",
        ".svg": "image/svg+xml",
    }
)
_OUR_NAMES: Final = ("icon.svg", "page.css", "page.js")
_THEIR_NAMES: Final = ("swagger-ui-bundle.js", "swagger-ui.css")

OPEN_PATHS: Final = frozenset({"/", "/page", *(f"/page/{name}" for name in (*_OUR_NAMES, *_THEIR_NAMES))})
"""What is answered without a key: these paths exactly, for nothing on them tells anything of this service."""

_ALWAYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Swagger UI has pictures as data: in its styles.
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
    }
)


@attrs.frozen
class Asset:
    """A file as it is sent; ``etag`` changes with the content (RFC 9110 §8.8.3)."""

    content: bytes = attrs.field(repr=False)
    media_type: str
    etag: str

    @classmethod
    def read(cls, file: Path) -> Asset:
        content = file.read_bytes()
        return cls(content, _TYPES[file.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')

    def is_had(self, if_none_match: str) -> bool:
        """Whether who sends this header has the file as it is (RFC 9110 §13.1.2)."""
        return any(one.strip().removeprefix("W/") in {self.etag, "*"} for one in if_none_match.split(","))


def installed_swagger() -> Path | None:
    """The folder of Swagger UI's files; None where the package is not installed, or has not all that is needed."""
    spec = importlib.util.find_spec(PACKAGE)  # of a package at the top: finds, and imports nothing
    for folder in (spec and spec.submodule_search_locations) or ():
        static = Path(folder) / "static"
        if all((static / name).is_file() for name in _THEIR_NAMES):
            return static
    return None


def page_handlers(swagger: Path | None) -> Sequence[ControllerRouterHandler]:
    """The handlers of the page and its files; ``swagger`` is the folder of Swagger UI's, None if there is none."""
    files = {name: _OURS / name for name in _OUR_NAMES}
    if swagger is not None:
        files |= {name: swagger / name for name in _THEIR_NAMES}
    asset = cache(Asset.read)

    @get("/", include_in_schema=False, sync_to_thread=False)
    def go_to_page() -> Redirect:
        return Redirect("/page", status_code=303)

    @get("/page", include_in_schema=False, sync_to_thread=True)
    def show_page() -> Response[bytes]:
        name, status = ("page.html", 200) if swagger else ("missing.html", 503)
        content = (_OURS / name).read_bytes()
        return Response(content, status_code=status, headers=dict(_ALWAYS), media_type=MediaType.HTML)

    @get("/page/{name:str}", include_in_schema=False, sync_to_thread=True)
    def get_file(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        if name not in files:
            raise NotFoundException
        found = asset(files[name])
        # Kept, but asked for again each time: another release is seen at once.
        headers = {**_ALWAYS, "ETag": found.etag, "Cache-Control": "no-cache"}
        if found.is_had(request.headers.get("if-none-match", "")):
            return Response(b"", status_code=304, headers=headers, media_type=found.media_type)
        return Response(found.content, headers=headers, media_type=found.media_type)

    return [go_to_page, show_page, get_file]
