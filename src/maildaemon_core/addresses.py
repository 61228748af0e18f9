"""Which address a From header names, however carelessly it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SPECIAL = re.compile(r'[\\"()<>,:;]')
_LOCAL = re.compile(r'[^\s\x00-\x20\x7f"(),:;<>@\\\[\]]+|"[^\x00-\x1f\x7f"]+"')
_DOMAIN = re.compile(r'[^\s\x00-\x20\x7f"(),:;<>@\\\[\]]+|\[[^\s\x00-\x20\x7f\[\]]+\]')
_READ = 1 << 16  # characters of a header in which the first mailbox is looked for
_LONGEST = 1000  # characters; RFC 5321 §4.5.3.1 allows 64 + 1 + 255


def first_mailbox(text: str) -> str:
    """The address (``local@domain``, domain in lower case) of the first mailbox in a list, ``""`` when there is none.

    ``text`` is the undecoded value of a header: an encoded word may decode to anything that looks like an address
    (RFC 5322 §3.4, RFC 2047 §5).  An address in angle brackets wins over whatever the display name pretends; one with
    two unquoted ``@`` is unreadable.  Quotes and comments that are never closed are read as if they were not there.
    """
    text = text[:_READ]
    for attempt in (text, text.replace('"', " ")):
        for candidate, bracketed in _mailboxes(_without_comments(attempt)):
            address = _in_brackets(candidate) if bracketed else _bare(candidate)
            if address:
                return address
    return ""


def _specials(text: str) -> Iterator[tuple[int, str]]:
    """The special characters outside quoted strings, with their places; a backslash hides the character after it."""
    resume, quoted = 0, False
    for match in _SPECIAL.finditer(text):
        at, mark = match.start(), match[0]
        if at < resume:
            continue
        if mark == "\\":
            resume = at + 2
        elif mark == '"':
            quoted = not quoted
        elif not quoted:
            yield at, mark


def _without_comments(text: str) -> str:
    """The text without its comments, which may be nested (RFC 5322 §3.2.2)."""
    if "(" not in text:
        return text
    pieces: list[str] = []
    last = depth = 0
    for at, mark in _specials(text):
        if mark == "(":
            if not depth:
                pieces.append(text[last:at])
                last = at
            depth += 1
        elif mark == ")" and depth:
            depth -= 1
            last = last if depth else at + 1
    rest = text[last:]
    return "".join((*pieces, re.sub(r"[()]", " ", rest) if depth else rest))


def _mailboxes(text: str) -> Iterator[tuple[str, bool]]:
    """The elements of an address list without the names of groups; whether each was in angle brackets."""
    bracketed: str | None = None
    opened, last = -1, 0
    for at, mark in _specials(text):
        if opened >= 0:  # an obsolete route may hold commas and a colon
            if mark == ">":
                bracketed, opened = text[opened:at] if bracketed is None else bracketed, -1
        elif mark == "<":
            opened = at + 1
        elif mark == ":":
            last = at + 1  # what was before is the name of a group
        elif mark in ",;":
            yield (text[last:at], False) if bracketed is None else (bracketed, True)
            bracketed, last = None, at + 1
    if opened >= 0 and bracketed is None:
        bracketed = text[opened:]
    yield (text[last:], False) if bracketed is None else (bracketed, True)


def _in_brackets(text: str) -> str:
    text = text.strip()
    if text.startswith("@"):
        text = text.rpartition(":")[2]
    if text[:7].lower() == "mailto:":
        text = text[7:]
    return _valid(text if '"' in text else "".join(text.split()))


def _bare(text: str) -> str:
    if "@" not in text:
        return ""
    words = text.split()
    candidates = (text.strip(), *(word for word in words if "@" in word), "".join(words))
    return next(filter(None, map(_valid, candidates)), "")


def _valid(text: str) -> str:
    local, _, domain = text.rpartition("@")
    if len(text) > _LONGEST or not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        return ""
    return f"{local}@{domain.lower()}"
