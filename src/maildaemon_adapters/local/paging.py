"""Pages of a folder of files: the walk through one look at the folder, and what of it could not be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from maildaemon_adapters.local.walk import Item, Position, Snapshot, Step, read_cursor, step, write_cursor
from maildaemon_core.errors import FolderRefused
from maildaemon_core.message import Cursor, Envelope, FolderRef
from maildaemon_core.ports import Page

FRESH: Final = 60.0
"""Seconds for which one look at a folder is good while its pages are asked for one after the other."""

_NAMED: Final = 3
"""So many files that cannot be read are named; the others are counted."""


@attrs.frozen
class Unlisted:
    """A file that could not be read when it was to be listed: which one, and why."""

    name: str
    reason: str


@attrs.define
class _Walk:
    folder: FolderRef
    snapshot: Snapshot
    stamp: str
    began: float
    unlisted: list[Unlisted] = attrs.field(factory=list)
    cursor: Cursor | None = None


@attrs.frozen
class Look:
    """What was found in a folder.

    ``stamp``: what stays the same as long as nothing can have changed there, ``""`` where nobody can tell.
    """

    items: Sequence[Item]
    stamp: str = ""
    unlisted: Sequence[Unlisted] = ()


class Paging:
    """Makes pages of looks at folders, for one session.  ``kind`` marks the cursors."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._walk: _Walk | None = None

    def page(
        self,
        folder: FolderRef,
        cursor: Cursor | None,
        limit: int,
        *,
        look: Callable[[], Look],
        describe: Callable[[Item], Envelope | Unlisted | None],
        stamp: Callable[[], str] = lambda: "",
    ) -> Page:
        """As ``MailSource.list_since``.

        ``look`` looks at the whole folder, ``describe`` reads what a mail is, None if it is gone for now; ``stamp``
        tells cheaply that nothing can have changed.  Raises what these raise, and ``FolderRefused`` once all others
        have been listed, if some mails cannot be read: these are never passed over.
        """
        position = Position() if cursor is None else read_cursor(self._kind, cursor)
        renumbered = position is None
        position = position or Position()
        walk, self._walk = self._walk, None
        going_on = (
            walk is not None
            and cursor is not None
            and (walk.folder, walk.cursor) == (folder, cursor)
            and time.monotonic() - walk.began < FRESH
        )
        if walk is None or not going_on:
            if cursor is not None and position.stamp and position.stamp == stamp():
                return Page(envelopes=(), cursor=cursor)
            began, found = time.monotonic(), look()
            walk = _Walk(folder, Snapshot(found.items), found.stamp, began, [*found.unlisted])
        done = step(walk.snapshot, position, limit, compared=going_on)
        envelopes, lost, failed = _described(done, describe)
        if lost:
            walk.unlisted += failed
            walk.stamp = ""
            walk.snapshot = walk.snapshot.without(lost)
            done = _leave_out(done, lost)
        if not done.more and walk.unlisted and not envelopes:
            raise _unreadable(folder, walk.unlisted)
        more = done.more or bool(walk.unlisted)
        reached = attrs.evolve(done.position, stamp="" if more else walk.stamp)
        walk.cursor = cursor if cursor is not None and reached == position else write_cursor(self._kind, reached)
        if more:
            self._walk = walk
        return Page(envelopes=tuple(envelopes), cursor=walk.cursor, more=more, renumbered=renumbered)


def _described(
    done: Step, describe: Callable[[Item], Envelope | Unlisted | None]
) -> tuple[list[Envelope], list[Item], list[Unlisted]]:
    """The envelopes, the mails of which there is none, and why these could not be read that are not gone."""
    envelopes: list[Envelope] = []
    lost: list[Item] = []
    failed: list[Unlisted] = []
    for item in done.items:
        match describe(item):
            case Envelope() as envelope:
                envelopes.append(envelope)
            case Unlisted() as why:
                lost.append(item)
                failed.append(why)
            case None:
                lost.append(item)
    return envelopes, lost, failed


def _leave_out(done: Step, lost: Sequence[Item]) -> Step:
    """The same step as if these had not been listed, so that they are found the next time, if they are there then."""
    position = done.position
    listed, aim = position.listed[:], position.aim if position.aim is None else position.aim[:]
    counting = listed if aim is None else aim  # while late ones are gone through, the digest aimed at counts them
    for item in lost:
        bucket, share = item.share
        counting[bucket] = (counting[bucket] - share) % (1 << 64)
    return attrs.evolve(done, position=attrs.evolve(position, listed=listed, aim=aim))


def _unreadable(folder: FolderRef, unlisted: Sequence[Unlisted]) -> FolderRefused:
    named = "; ".join(f"{each.name}: {each.reason}" for each in unlisted[:_NAMED])
    more = f" and {len(unlisted) - _NAMED} more" if len(unlisted) > _NAMED else ""
    files = "1 mail" if len(unlisted) == 1 else f"{len(unlisted)} mails"
    return FolderRefused(
        f"{files} in {folder!r} cannot be read ({named}{more}); all others are listed",
        remedy="let the user who runs maildaemon read these files, or take them out of the folder",
    )
