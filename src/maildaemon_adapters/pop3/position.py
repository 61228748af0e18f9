"""What of a maildrop was listed before, as a cursor holds it; talks to nobody.

A maildrop has no order that lasts: servers sort it as they like, and mails go away in the middle.  So a cursor is no
place in it but the set of mails that were listed: eight bytes of a digest over each id, and four over its headers, by
which an id that was given to another mail is noticed.  100,000 mails make a cursor of 1.6 MB, about as much as the
server's list of ids that is read at each poll anyway.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from maildaemon_core.message import Cursor

ID_BYTES: Final = 8
LOOK_BYTES: Final = 4

REMEMBERED: Final = 2000
"""So many ids are remembered of mails that are gone: a server that gives one of them again is noticed."""

_CURSOR: Final = re.compile(r"uidl:([1-9][0-9]{0,8}):([A-Za-z0-9+/=]*):([A-Za-z0-9+/=]*)", re.ASCII)
_ITEM: Final = ID_BYTES + LOOK_BYTES

Looks = Mapping[bytes, bytes]
"""By ``id_of`` a mail's id, what ``look_of`` made of its headers."""


@attrs.frozen(kw_only=True)
class Position:
    """``numbering`` counts how often the ids were given anew.

    ``seen``: what was listed and is there, in the maildrop's order.  ``gone``: what was, and is not, the last ones.
    """

    numbering: int = 1
    seen: Looks = attrs.field(factory=dict)
    gone: Looks = attrs.field(factory=dict)

    def after(self, listed: Iterable[tuple[bytes, bytes]]) -> Position:
        """With these listed as well."""
        return attrs.evolve(self, seen={**self.seen, **dict(listed)})

    def among(self, present: Iterable[bytes]) -> Position:
        """With everything else gone."""
        there = set(present)
        seen = {each: look for each, look in self.seen.items() if each in there}
        gone = {each: look for each, look in self.gone.items() if each not in there}
        gone |= {each: look for each, look in self.seen.items() if each not in there}
        return attrs.evolve(self, seen=seen, gone=dict(list(gone.items())[-REMEMBERED:]))

    def anew(self, *, numbering: int | None = None) -> Position:
        """As if nothing had been listed yet."""
        return Position(numbering=self.numbering if numbering is None else numbering)


def id_of(uid: str) -> bytes:
    """What a cursor holds of a mail's id: too long for two mails of a maildrop to have it in common by chance."""
    return hashlib.blake2b(uid.encode("utf-8", "surrogatepass"), digest_size=ID_BYTES).digest()


def look_of(fingerprint: str) -> bytes:
    """What a cursor holds of a mail's headers."""
    return bytes.fromhex(fingerprint[: 2 * LOOK_BYTES])


def write_cursor(position: Position) -> Cursor:
    seen, gone = (
        base64.b64encode(b"".join(each + look for each, look in looks.items())).decode()
        for looks in (position.seen, position.gone)
    )
    return Cursor(f"uidl:{position.numbering}:{seen}:{gone}")


def read_cursor(cursor: Cursor) -> Position | None:
    """None for what ``write_cursor`` has not made."""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        return None
    try:
        seen, gone = (base64.b64decode(found[part], validate=True) for part in (2, 3))
    except ValueError:
        return None
    if len(seen) % _ITEM or len(gone) % _ITEM:
        return None
    return Position(numbering=int(found[1]), seen=_looks(seen), gone=_looks(gone))


def _looks(raw: bytes) -> dict[bytes, bytes]:
    return {raw[at : at + ID_BYTES]: raw[at + ID_BYTES : at + _ITEM] for at in range(0, len(raw), _ITEM)}
