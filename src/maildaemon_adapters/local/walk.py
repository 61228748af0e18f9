"""How far a folder of files has been listed, where nothing numbers the mails as they arrive.

Files have no number that only grows: one that is moved in keeps its old time, clocks are set back, and copies come in
any order.  So a cursor holds two things: the mark up to which mails were listed, oldest first, and a digest of all that
were listed, in ``BUCKETS`` parts.  What is behind the mark is new.  What is before it is compared: in a part whose
digest has changed something arrived late, or went away, and the mails of that part are listed once more (whoever
remembers them knows them by their reference).  So every mail is listed in time, wherever it turns up, and 100,000 mails
that were listed before cost a look at their names.

Nothing here looks at a file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import sys
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final, NamedTuple

import attrs

from maildaemon_core.message import Cursor

BUCKETS: Final = 1024
_SUM: Final = (1 << 64) - 1
_LARGEST: Final = 1 << 20
"""Bytes of a cursor as it is read; ours have at most some 20,000."""

Key = tuple[int, str]
"""What mails are ordered by: a number, such as a time, and a name that tells those apart that share it."""


class Item(NamedTuple):
    """A mail of a folder: its place in the order, and the text that stands for it and for no other."""

    key: Key
    uid: str

    @property
    def share(self) -> tuple[int, int]:
        """Which part of the digest it belongs to, and what it adds to it."""
        digest = hashlib.blake2b(self.uid.encode("utf-8", "surrogatepass"), digest_size=10).digest()
        return int.from_bytes(digest[:2], "little") % BUCKETS, int.from_bytes(digest[2:], "little")


class Snapshot:
    """The mails of a folder as they were found at one moment, oldest first."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.items: Sequence[Item] = sorted(items, key=lambda item: item.key)

    @cached_property
    def keys(self) -> Sequence[Key]:
        return [item.key for item in self.items]

    @cached_property
    def shares(self) -> Sequence[tuple[int, int]]:
        return [item.share for item in self.items]

    def until(self, mark: Key | None) -> int:
        """How many there are up to the mark."""
        return 0 if mark is None else bisect_right(self.keys, mark)

    def digest(self, number: int) -> array[int]:
        """The digest of the first so many."""
        sums = _nothing()
        for bucket, share in self.shares[:number]:
            sums[bucket] = (sums[bucket] + share) & _SUM
        return sums

    def without(self, unwanted: Iterable[Item]) -> Snapshot:
        left_out = {item.uid for item in unwanted}
        return Snapshot(item for item in self.items if item.uid not in left_out)


def _nothing() -> array[int]:
    return array("Q", bytes(8 * BUCKETS))


@attrs.frozen(kw_only=True)
class Position:
    """What a cursor says.

    ``mark``: up to where mails were listed.  ``listed``: the digest of those that were.  While late ones are gone
    through, ``passed`` is the last of these, and ``aim`` the digest that holds when all of them are through.
    ``stamp``: what the folder looked like when nothing of it was left to be listed, ``""`` if something was.
    """

    mark: Key | None = None
    listed: array[int] = attrs.field(factory=_nothing)
    passed: Key | None = None
    aim: array[int] | None = None
    stamp: str = ""


def read_cursor(kind: str, cursor: Cursor) -> Position | None:
    """None for what ``write_cursor`` has not made for this kind."""
    start, _, packed = cursor.partition(":")
    if start != kind:
        return None
    try:
        opened = zlib.decompressobj()
        text, _, sums = opened.decompress(base64.b64decode(packed, validate=True), _LARGEST).partition(b"\n")
        mark, passed, stamp = json.loads(text)
        numbers = array("Q", sums)
        if sys.byteorder != "little":
            numbers.byteswap()
        if len(numbers) not in {BUCKETS, 2 * BUCKETS} or not isinstance(stamp, str):
            return None
        aim = numbers[BUCKETS:] or None
        return Position(mark=_key(mark), listed=numbers[:BUCKETS], passed=_key(passed), aim=aim, stamp=stamp)
    except (binascii.Error, zlib.error, ValueError, TypeError, RecursionError):
        return None


def write_cursor(kind: str, position: Position) -> Cursor:
    """A text of some 11,000 characters for a large folder, and a few hundred for a small one."""
    numbers = position.listed + (position.aim or array("Q"))
    if sys.byteorder != "little":
        numbers.byteswap()
    text = json.dumps([position.mark, position.passed, position.stamp]).encode()
    packed = zlib.compress(text + b"\n" + numbers.tobytes())
    return Cursor(f"{kind}:{base64.b64encode(packed).decode('ascii')}")


def _key(found: object) -> Key | None:
    match found:
        case None:
            return None
        case [int(number), str(name)]:
            return number, name
    raise ValueError(f"no place in an order: {found!r}")


@attrs.frozen(kw_only=True)
class Step:
    """The mails of a page, the position behind them, and whether there are more."""

    items: Sequence[Item]
    position: Position
    more: bool


def step(snapshot: Snapshot, position: Position, limit: int, *, compared: bool = False) -> Step:
    """Up to ``limit`` mails behind the position: late ones first, then those behind the mark.

    ``compared``: the position was reached in this very snapshot, so that nothing in it can be late.
    """
    until = snapshot.until(position.mark)
    chosen: list[Item] = []
    if position.aim is not None or not compared:
        aim = position.aim or snapshot.digest(until)
        late = [
            item
            for item, (bucket, _) in zip(snapshot.items[:until], snapshot.shares[:until], strict=True)
            if position.listed[bucket] != aim[bucket] and (position.passed is None or item.key > position.passed)
        ]
        if len(late) > limit:
            chosen = late[:limit]
            return Step(items=chosen, position=attrs.evolve(position, passed=chosen[-1].key, aim=aim), more=True)
        chosen = late
        position = attrs.evolve(position, listed=aim, passed=None, aim=None)
    stop = min(len(snapshot.items), until + limit - len(chosen))
    if stop > until:
        listed = position.listed[:]
        for bucket, share in snapshot.shares[until:stop]:
            listed[bucket] = (listed[bucket] + share) & _SUM
        chosen = [*chosen, *snapshot.items[until:stop]]
        position = attrs.evolve(position, mark=snapshot.keys[stop - 1], listed=listed)
    return Step(items=chosen, position=position, more=stop < len(snapshot.items))
