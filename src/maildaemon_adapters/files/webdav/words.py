"""What the answers of a WebDAV server mean for whoever stores files: RFC 9110 §15, RFC 4918 §11."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import attrs

from maildaemon_adapters.files.tree import Fault, TreeError
from maildaemon_adapters.tcp.words import said

_MESSAGE: Final = re.compile(rb"<(?:\w+:)?(?:message|human-readable)[^>]*>([^<]{1,300})<")
_INFECTED: Final = re.compile(r"virus|infected|malware|blocked", re.IGNORECASE)

OK, CREATED, NO_CONTENT, MULTISTATUS = 200, 201, 204, 207
UNAUTHORIZED, FORBIDDEN, MISSING, NOT_ALLOWED, CONFLICT, EXISTS, GONE = 401, 403, 404, 405, 409, 412, 410
REDIRECTS: Final = frozenset({300, 301, 302, 303, 307, 308})
_LONGEST_PAUSE: Final = 3600.0

_WAYS: Final = {"basic": "basic", "digest": "digest", "bearer": "bearer"}

_MEANING: Final = {
    403: (Fault.DENIED, ""),
    404: (Fault.MISSING, ""),
    405: (Fault.OTHER, "see that url leads to a folder of WebDAV, and that the server allows to write"),
    409: (Fault.MISSING, ""),
    410: (Fault.MISSING, ""),
    411: (Fault.OTHER, ""),
    412: (Fault.EXISTS, ""),
    413: (
        Fault.REFUSED_FILE,
        "have the server's limit for uploads raised (nginx: client_max_body_size), or store less",
    ),
    414: (Fault.NAME, ""),
    415: (Fault.REFUSED_FILE, ""),
    422: (Fault.REFUSED_FILE, ""),
    423: (Fault.OTHER, "somebody has locked it; have the lock released, or wait until it ends"),
    429: (Fault.BUSY, ""),
    431: (Fault.NAME, ""),
    502: (Fault.GONE, "see whether the server behind the proxy runs; for MOVE, whether it knows its own address"),
    503: (Fault.BUSY, ""),
    504: (Fault.GONE, "see whether the server behind the proxy runs"),
    507: (Fault.FULL, ""),
}
"""What a status means where nothing more is known, and what to do if that is not the usual."""


@attrs.frozen(kw_only=True)
class Answer:
    """What a server answered: ``headers`` by name in lower case, ``body`` the beginning of it."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def words(self) -> str:
        """The status and what the server says about it, as a clause for people."""
        found = _MESSAGE.search(self.body)
        more = f" ({said(found[1].decode('utf-8', 'replace'))})" if found else ""
        return said(f"{self.status} {self.reason}") + more


def fault_of(answer: Answer, auth: str, user: str | None) -> TreeError:
    """What an answer that is no success means."""
    status, words = answer.status, answer.words
    if status == UNAUTHORIZED:
        return _login(answer, auth, user)
    if status in REDIRECTS:
        place = urlsplit(answer.headers.get("location", ""))
        target = f"{place.scheme}://{place.hostname}{place.path}" if place.hostname else place.path
        return TreeError(
            Fault.OTHER,
            f"the server sends us on to {said(target) or 'nowhere'} ({words}); nobody is followed with a password",
            remedy="write that address into url, if it is the right one",
        )
    if _INFECTED.search(words):
        return TreeError(Fault.REFUSED_FILE, words, remedy="look into the server's log about this file")
    fault, remedy = _MEANING.get(status, (Fault.OTHER, ""))
    return TreeError(fault, words, remedy=remedy, retry_after=_pause(answer) if fault is Fault.BUSY else None)


def _login(answer: Answer, auth: str, user: str | None) -> TreeError:
    offered = answer.headers.get("www-authenticate", "").lower()
    ways = [way for way in _WAYS if re.search(rf"(?:^|,\s*){way}\b", offered)]
    if ways and auth not in ways:
        return TreeError(
            Fault.LOGIN,
            f"the server wants another kind of login than {auth}: {', '.join(ways)}",
            remedy=f"write auth = {ways[-1]} under options",
        )
    whom = f"the password of {user!r}" if auth != "bearer" else "this token"
    return TreeError(Fault.LOGIN, f"{whom} is refused: {answer.words}", remedy="check username and password")


def _pause(answer: Answer) -> float | None:
    """How many seconds the server wants to be left alone (RFC 9110 §10.2.3)."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), _LONGEST_PAUSE)
    try:
        then = parsedate_to_datetime(text)
        now = parsedate_to_datetime(answer.headers.get("date", ""))
        return min(max((then - now).total_seconds(), 0.0), _LONGEST_PAUSE)
    except (TypeError, ValueError):
        return None
