"""What LIST tells of folders, each answer by itself: a name that nobody can read costs no other folder.

Worth its lines: IMAPClient gives up on all names for the sake of one, and takes the folder ``01`` for ``1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import attrs
from imapclient.imap_utf7 import decode, encode

_ANSWER = re.compile(rb'\(([^)]*)\) +(?:"(\\?[^"]?)"|NIL) +(.*)', re.DOTALL | re.IGNORECASE)
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


@attrs.frozen
class Listed:
    """``attributes`` as the server writes them; ``separator`` is empty where there are no folders in folders.

    ``name`` is for people; where it ``opens``, the server knows the folder by it.
    """

    attributes: frozenset[str]
    separator: str
    name: str
    opens: bool = True


def read_listed(data: Iterable[object]) -> Iterator[Listed]:
    """What imaplib collected of LIST: lines, and pairs of a line and the literal behind it; what is none is left
    out."""
    for item in data:
        line, literal = item if isinstance(item, tuple) else (item, None)
        answer = _ANSWER.match(line) if isinstance(line, bytes) else None
        if answer is None:
            continue
        raw = _name(answer[3]) if literal is None else bytes(literal)
        name, opens = _read(raw)
        separator = (answer[2] or b"").removeprefix(b"\\") or (b"\\" if answer[2] else b"")
        attributes = frozenset(each.decode("ascii", "replace") for each in answer[1].split())
        yield Listed(attributes, separator.decode("latin-1"), name, opens)


def _name(rest: bytes) -> bytes:
    quoted = _QUOTED.match(rest)
    return rest.strip() if quoted is None else _ESCAPED.sub(rb"\1", quoted[1])


def _read(raw: bytes) -> tuple[str, bool]:
    """The name for people (RFC 3501 §5.1.3), and whether it says the same to the server."""
    try:
        name: str = decode(raw)
        if encode(name) == raw:
            return name, True
    except ValueError:
        pass
    return raw.decode("utf-8", "replace"), False
