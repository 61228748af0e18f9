"""Between IMAP's words and ours: cursors, UID sets, response codes, envelopes.  Nothing here talks to a server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from maildaemon_adapters.imap.transport import Literal
from maildaemon_adapters.tcp.words import said
from maildaemon_core.headers import read_headers
from maildaemon_core.message import Cursor, Envelope, Headers, MessageRef

HIGHEST_UID: Final = 2**32 - 1
"""RFC 9051 §2.3.1.1: UIDs are 32-bit."""

LONGEST_SET: Final = 7000
"""Octets of a UID set: a command line should stay below 8192 (RFC 9051 §4, and Exchange says BAD to longer ones)."""

MOST_COPIED: Final = 100_000
"""So many mails are believed to have been put elsewhere by one command."""

LONGEST_SAYING: Final = 200
"""Characters of what a server said that are shown to people."""

HEADER_FIELDS: Final = "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE FROM TO SUBJECT)]"
"""What a fingerprint is made of."""

TEMPORARY: Final = frozenset({"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "THROTTLED", "EXPUNGEISSUED", "OVERQUOTA"})
"""Response codes (RFC 5530; THROTTLED is Gmail's) that say: try again later."""

WAIT: Final = frozenset({"THROTTLED", "LIMIT", "OVERQUOTA"})
"""Those that hold for the whole account: asking for the next mail makes it worse.  OVERQUOTA is what Gmail says to
whoever has fetched too much in a day."""

_TEMPORARY_WORDS = re.compile(
    r"too many|try again|temporar|simultaneous|exceeded|throttled|backoff|(?:server|service) unavailable"
    r"|authenticated but not connected",  # Exchange, while it moves a mailbox about
    re.IGNORECASE,
)
_BACK_OFF = re.compile(r"suggested back-?off time: *([0-9]{1,12}) *(milli)?seconds", re.IGNORECASE)
_CURSOR = re.compile(r"([1-9][0-9]{0,9}):(0|[1-9][0-9]{0,9})", re.ASCII)
_SET = r"[0-9]{1,10}(?::[0-9]{1,10})?(?:,[0-9]{1,10}(?::[0-9]{1,10})?)*"
_COPIED = re.compile(rf"([1-9][0-9]{{0,9}}) ({_SET}) ({_SET})", re.ASCII)
_CODE = re.compile(r"(?:\[([A-Za-z0-9-]+)(?: ([^\]]*))?\] ?)?(.*)", re.DOTALL)


def read_cursor(cursor: Cursor | None) -> tuple[str, int] | None:
    """UIDVALIDITY and the last UID that was listed; None for what ``write_cursor`` has not made."""
    found = _CURSOR.fullmatch(cursor or "")
    return (found[1], int(found[2])) if found else None


def write_cursor(uidvalidity: str, last: int) -> Cursor:
    return Cursor(f"{uidvalidity}:{last}")


def uid_sets(uids: Iterable[int]) -> Iterator[str]:
    """Sets of exactly these UIDs in IMAP's notation, runs as ranges, none longer than ``LONGEST_SET`` octets."""
    piece = ""
    for first, last in _runs(sorted(set(uids))):
        run = str(first) if first == last else f"{first}:{last}"
        if piece and len(piece) + len(run) >= LONGEST_SET:
            yield piece
            piece = ""
        piece = f"{piece},{run}" if piece else run
    if piece:
        yield piece


def copied(code: str) -> dict[int, tuple[str, int]]:
    """What COPYUID (RFC 4315 §3) tells: UIDVALIDITY and new UID by old one.  Empty if it makes no sense."""
    found = _COPIED.fullmatch(code)
    if found is None:
        return {}
    old, new = _each(found[2]), _each(found[3])
    return dict(zip(old, ((found[1], uid) for uid in new), strict=True)) if len(old) == len(new) else {}


def _each(uid_set: str) -> Sequence[int]:
    """The UIDs of a set in its order; none if there are more than anybody moves at once."""
    pairs = [piece.partition(":") for piece in uid_set.split(",")]
    runs = [(int(first), int(last or first)) for first, _, last in pairs]
    if sum(abs(last - first) + 1 for first, last in runs) > MOST_COPIED:
        return []
    return [uid for first, last in runs for uid in range(min(first, last), max(first, last) + 1)]


def _runs(ascending: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = 0
    for uid in ascending:
        if first and uid == last + 1:
            last = uid
            continue
        if first:
            yield first, last
        first = last = uid
    if first:
        yield first, last


def response(text: str) -> tuple[str, str]:
    """The code of a response in upper case (``""`` when it has none) and its text for people."""
    found = _CODE.fullmatch(text.strip())
    assert found is not None  # every part of it is optional
    return (found[1] or "").upper(), found[3].strip()


def is_temporary(text: str) -> bool:
    """Whether the server says that the same may work later."""
    code, words = response(text)
    return code in TEMPORARY or (not code and _TEMPORARY_WORDS.search(words) is not None)


def asks_to_wait(text: str) -> bool:
    """Whether the server wants to be left alone for a while, whatever else we would ask of it."""
    code, words = response(text)
    return code in WAIT or pause(text) is not None or (not code and "throttled" in words.lower())


def pause(text: str) -> float | None:
    """The seconds for which the server asks to be left alone, as Exchange puts it; None if it does not say."""
    found = _BACK_OFF.search(text)
    return None if found is None else int(found[1]) / (1000 if found[2] else 1)


def for_people(text: str, *, secrets: Iterable[str] = ()) -> str:
    """What a server said as one harmless line: no control characters, not endless, none of the secrets.

    Some servers repeat a command that they do not understand, and that may have been the LOGIN.
    """
    for secret in filter(None, secrets):
        quoted = secret.replace("\\", "\\\\").replace('"', '\\"')
        for spelling in (repr(quoted)[1:-1], quoted, repr(secret)[1:-1], secret):
            text = text.replace(spelling, "***")
    return said(text, longest=LONGEST_SAYING)


def header_block(answer: Mapping[bytes, Any]) -> bytes | None:
    """The header fields in a FETCH answer; servers differ in how they write the name of that item."""
    for name, value in answer.items():
        if name.startswith(b"BODY[HEADER") and isinstance(value, bytes):
            return value.kept() if isinstance(value, Literal) else value
    return None


def strong_id(answer: Mapping[bytes, Any]) -> str | None:
    """The id that the server promises to keep: EMAILID (RFC 8474 §5.1), or Gmail's X-GM-MSGID."""
    match answer.get(b"EMAILID"):
        case (bytes(email_id),) | bytes(email_id):
            return f"emailid:{email_id.decode('ascii', 'replace')}"
        case (int(email_id),):  # digits alone are an objectid as well, and the parser's idea of a number
            return f"emailid:{email_id}"
    gmail = answer.get(b"X-GM-MSGID")
    return None if gmail is None else f"gmail:{gmail}"


def envelope(ref: MessageRef, answer: Mapping[bytes, Any], *, otherwise: datetime) -> Envelope:
    """What a FETCH answer says of a mail, however little that is; ``otherwise`` stands for a missing INTERNALDATE."""
    size = answer.get(b"RFC822.SIZE")
    block = header_block(answer)
    return Envelope(
        ref=ref,
        headers=Headers() if block is None else read_headers(block),
        received=_utc(answer.get(b"INTERNALDATE")) or otherwise,
        size=size if isinstance(size, int) and size >= 0 else None,
        strong_id=strong_id(answer),
    )


def _utc(moment: object) -> datetime | None:
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        return None
    try:
        return moment.astimezone(UTC)
    except (OverflowError, ValueError):  # the first and the last day of time, and zones that are more than a day away
        return None


def strong_items(abilities: frozenset[str]) -> str:
    """What to ask for in a FETCH besides, each with a space behind it: the server's own lasting ids."""
    return ("EMAILID " if "OBJECTID" in abilities else "") + ("X-GM-MSGID " if "X-GM-EXT-1" in abilities else "")
