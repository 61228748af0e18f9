"""What lies in a maildrop, by the ids that its server gives (UIDL, RFC 1939 §7); talks to nobody.

A mail's ``uid`` is its UIDL.  One that another mail before it has as well gets the count behind a blank, which no UIDL
holds: both are read, and neither is ever deleted.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

LONGEST: Final = 200
"""Characters of a UIDL that is kept as it is; RFC 1939 allows 70."""

_PROPER: Final = re.compile(rb"[\x21-\x7E]{1,%d}" % LONGEST)
_NUMBER: Final = re.compile(rb"[0-9]{1,10}")


@attrs.frozen(kw_only=True)
class Maildrop:
    """The mails as the server counts them in one session: ``numbers`` by uid, in the server's order.

    ``shared``: the uids of mails whose UIDL is also another's.
    """

    numbers: Mapping[str, int]
    shared: frozenset[str]

    def ambiguous(self, uid: str) -> bool:
        """Whether nobody can tell for sure which mail this is, or was."""
        return uid in self.shared or (" " in uid and uid.partition(" ")[0] in self.numbers)


EMPTY: Final = Maildrop(numbers={}, shared=frozenset())


def read_maildrop(lines: Iterable[bytes]) -> Maildrop:
    """The answer to UIDL."""
    numbers: dict[str, int] = {}
    shared: set[str] = set()
    met: Counter[str] = Counter()
    for number, rest in _numbered(lines):
        uid = own = _uid(rest)
        if uid in numbers:
            met[uid] += 1
            own = f"{uid} {met[uid] + 1}"
            shared |= {uid, own}
        numbers[own] = number
    return Maildrop(numbers=numbers, shared=frozenset(shared))


def read_sizes(lines: Iterable[bytes]) -> dict[int, int]:
    """The answer to LIST: bytes by number; what cannot be read is left out."""
    return {number: int(size) for number, rest in _numbered(lines) if _NUMBER.fullmatch(size := rest.split(b" ")[0])}


def _numbered(lines: Iterable[bytes]) -> Iterable[tuple[int, bytes]]:
    for line in lines:
        number, _, rest = line.strip().partition(b" ")
        if _NUMBER.fullmatch(number):
            yield int(number), rest.strip()


def _uid(raw: bytes) -> str:
    if _PROPER.fullmatch(raw):
        return raw.decode("ascii")
    return f"~{hashlib.sha256(raw).hexdigest()}"
