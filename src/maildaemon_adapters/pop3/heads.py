"""What mails say of themselves before they are fetched: their headers, by TOP (RFC 1939 §7) where there is that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

from maildaemon_adapters.pop3.wire import Connection, Refused
from maildaemon_core.headers import date_time, headers_of, split_fields
from maildaemon_core.message import Headers

HEADER_LIMIT: Final = 1 << 18
"""So many bytes of a header block are looked at."""

EARLIEST: Final = datetime(1971, 1, 1, tzinfo=UTC)
FUTURE: Final = timedelta(days=1)
"""Whoever says that it is later than this is not believed."""


@attrs.frozen(kw_only=True)
class Head:
    """``received``: when the server got the mail, as far as that can be told."""

    headers: Headers
    received: datetime | None


class Heads:
    """Asks one connection; ``at_once`` mails by one go, where the server allows that."""

    def __init__(self, connection: Connection, *, at_once: int) -> None:
        self._connection = connection
        self._at_once = at_once

    def read(self, numbers: Sequence[int]) -> Mapping[int, Head | Refused]:
        """What each of these says of itself, or the server's refusal.

        A mail whose TOP is refused is read whole, since some servers have no TOP; its body is thrown away.
        """
        has_top = not self._connection.abilities or "TOP" in self._connection.abilities
        blocks = self._blocks(numbers, "TOP {} 0") if has_top else {}
        blocks |= self._blocks([number for number in numbers if not isinstance(blocks.get(number), bytes)], "RETR {}")
        return {number: read_head(block) if isinstance(block, bytes) else block for number, block in blocks.items()}

    def _blocks(self, numbers: Sequence[int], command: str) -> dict[int, bytes | Refused]:
        found: dict[int, bytes | Refused] = {}
        if numbers:
            lines = [command.format(number) for number in numbers]
            with contextlib.closing(self._connection.mails(lines, at_once=self._at_once)) as answers:
                for answer, number in zip(answers, numbers, strict=False):
                    found[number] = answer if isinstance(answer, Refused) else _kept(answer)
        return found


def _kept(pieces: Iterator[bytes]) -> bytes:
    kept = b""
    for piece in pieces:
        kept = (kept + piece)[:HEADER_LIMIT] if len(kept) < HEADER_LIMIT else kept
    return kept


def read_head(block: bytes) -> Head:
    """What a mail that begins so says of itself."""
    fields = list(split_fields(block))
    return Head(headers=headers_of(fields), received=_received(fields))


def _received(fields: Iterable[tuple[str, bytes]]) -> datetime | None:
    """The time in the uppermost Received field, which the last server wrote, else that of Date.

    POP3 has no INTERNALDATE.  It must be the same at each look, so that a mail is recognised by it.
    """
    dates: dict[str, bytes] = {}
    for name, value in fields:
        if name in {"received", "date"}:
            dates.setdefault(name, value)
    for raw in (dates.get("received", b"").rpartition(b";")[2], dates.get("date", b"")):
        moment = date_time(raw)
        if moment is not None and EARLIEST <= moment <= datetime.now(UTC) + FUTURE:
            return moment
    return None
