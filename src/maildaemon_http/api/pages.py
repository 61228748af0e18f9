"""Lists in pages: what follows is found by where the last page ended, so that writes shift nothing."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Generic, TypeVar

import attrs

from maildaemon_http.api.problems import INVALID_PARAMETER, UNKNOWN_CURSOR, FieldFault, Refused

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Page(Generic[T]):
    """Some items; ``next`` is the ``cursor`` of the next page, null at the end.

    A page may have fewer items than were asked for, or none, and not be the last.
    """

    items: tuple[T, ...]
    next: str | None


def cursor_of(place: str) -> str:
    """A cursor, opaque for people."""
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def place_of(cursor: str | None, shape: str) -> str | None:
    """Where a cursor points to, a text of this shape.  Raises ``Refused`` for one that is none of ours."""
    if cursor is None:
        return None
    try:
        place = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        place = ""
    if not re.fullmatch(shape, place):
        fault = FieldFault(path="cursor", message="is no cursor of this list")
        raise Refused(
            UNKNOWN_CURSOR, "the cursor leads nowhere", remedy="send `next` of the page before", errors=[fault]
        )
    return place


def page_size(limit: int | None, largest: int) -> int:
    """How many items a page has at most; 50 unless asked for.  Raises ``Refused``."""
    if limit is None:
        return min(50, largest)
    if not 1 <= limit <= largest:
        fault = FieldFault(path="limit", message=f"must be from 1 to {largest}")
        raise Refused(INVALID_PARAMETER, "a parameter of the query is not acceptable", errors=[fault])
    return limit


def written(items: Any, following: str | None) -> dict[str, Any]:
    """The document of a page."""
    return {"items": list(items), "next": None if following is None else cursor_of(following)}
