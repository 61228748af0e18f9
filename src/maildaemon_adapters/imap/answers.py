"""FETCH answers of the ordinary shape, read at one glance; any other is left to IMAPClient's parser, which knows all.

Worth its lines: that parser reads letter by letter, and took a tenth of the time in which a small mail is archived.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

_BEGIN = re.compile(rb"([0-9]{1,10}) \(")
_ITEM = re.compile(
    rb"(UID|RFC822\.SIZE) ([0-9]{1,18}) "
    rb"|INTERNALDATE \"([ 0-9][0-9])-([A-Z][a-z]{2})-([0-9]{4}) "
    rb"([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})\" "
)
_LITERAL = re.compile(rb"(BODY\[(?:HEADER\.FIELDS \([A-Z -]+\))?\]) \{([0-9]{1,18})\}")
_MONTHS = {
    month: number for number, month in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)
}


def plain_answers(data: Sequence[Any]) -> dict[int, Mapping[bytes, Any]] | None:
    """What IMAPClient's ``parse_fetch_response`` gives for ``data``, as imaplib collects it; None: let that parse it.

    Ordinary is one answer for each UID, in which some of UID, RFC822.SIZE and INTERNALDATE come before one literal.
    """
    found: dict[int, Mapping[bytes, Any]] = {}
    if len(data) % 2:
        return None
    for at in range(0, len(data), 2):
        if not isinstance(data[at], tuple) or data[at + 1] != b")":
            return None
        answer = _answer(*data[at])
        if answer is None or (uid := answer.pop(b"UID", None)) is None or uid in found:
            return None
        found[uid] = answer
    return found


def each_answer(data: Sequence[Any]) -> Iterator[list[Any]]:
    """The answers one by one, as imaplib collects them: pairs of a line and a literal, and the line that ends it."""
    answer: list[Any] = []
    for item in data:
        answer.append(item)
        if isinstance(item, bytes):
            yield answer
            answer = []


def joined(answers: Iterable[Mapping[bytes, Any]]) -> dict[int, Mapping[bytes, Any]]:
    """What is told of each UID; an answer without one is of nobody knows which mail, and says nothing.

    Without that the number of a mail in the folder would be taken for a UID, and one mail for another.
    """
    found: dict[int, dict[bytes, Any]] = {}
    for answer in answers:
        uid = answer.get(b"UID")
        if isinstance(uid, int):
            told = {name: value for name, value in answer.items() if name != b"UID"}
            known = found.setdefault(uid, {})
            known |= {name: value for name, value in told.items() if value is not None or name not in known}
    return {**found}


def _answer(line: bytes, literal: bytes) -> dict[bytes, Any] | None:
    begin = _BEGIN.match(line)
    if begin is None:
        return None
    answer: dict[bytes, Any] = {b"SEQ": int(begin[1])}
    at = begin.end()
    while (item := _ITEM.match(line, at)) is not None:
        at = item.end()
        name, value = (item[1], int(item[2])) if item[1] else (b"INTERNALDATE", _moment(item.groups()[2:]))
        if name in answer or value is None:
            return None
        answer[name] = value
    last = _LITERAL.fullmatch(line, at)
    if last is None or int(last[2]) != len(literal):
        return None
    answer[last[1]] = literal
    return answer


def _moment(texts: Sequence[bytes]) -> datetime | None:
    day, month, year, hour, minute, second, sign, hours, minutes = texts
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    try:
        zone = timezone(-offset if sign == b"-" else offset)
        return datetime(int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=zone)
    except (KeyError, ValueError):
        return None
