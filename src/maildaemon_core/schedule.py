"""When something is tried (again): which mailboxes are due, how long a failure waits, when it is given up."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import attrs

from maildaemon_core.errors import Trouble
from maildaemon_core.message import MailboxId
from maildaemon_core.progress import Entry, Faltered, GaveUp

MAX_ATTEMPTS = 12
"""So many failures of one mail end in "given up": with the waits below, most of a day."""

FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=6)

FIRST_REFUSED_WAIT = timedelta(minutes=5)
LONGEST_REFUSED_WAIT = timedelta(hours=1)
"""Who is refused at the door knocks rarely: servers lock accounts, and addresses, of those who knock often."""

LONGEST_PAUSE = timedelta(minutes=30)
"""A mailbox that fails again and again is looked at so often at least: whoever repairs its server need tell nobody."""

FIRST_STORE_WAIT = timedelta(seconds=2)
LONGEST_STORE_WAIT = timedelta(minutes=1)
"""While the store is away nothing at all is done, so it is asked often."""

SPREAD_AT_START = timedelta(seconds=10)
"""Over so much time the first sweeps after a start are spread."""

SOON = timedelta(seconds=1)


@attrs.frozen(kw_only=True)
class Watch:
    """A mailbox as the scheduler sees it: when its next sweep is due and how many in a row have failed."""

    mailbox: MailboxId
    due_at: datetime
    interval: timedelta
    failures: int = 0


def wait_after(
    failures: int, *, seed: str, first: timedelta = FIRST_WAIT, longest: timedelta = LONGEST_WAIT
) -> timedelta:
    """How long to wait after so many failures in a row (at least 1): doubled each time, capped, spread by a tenth.

    The spread comes from ``seed``, so that a thousand mailboxes of one broken server do not all come back at once and a
    test can tell what will happen.
    """
    doubled: timedelta = first * (1 << min(failures - 1, 20))
    return min(doubled, longest) * (1 + _share(f"{seed}/{failures}") / 10)


def wait_for_store(failures: int) -> timedelta:
    """How long to wait after the store could not be used so many times in a row (at least 1): doubled, capped."""
    return min(FIRST_STORE_WAIT * (1 << min(failures - 1, 20)), LONGEST_STORE_WAIT)


def after_failure(entry: Entry, trouble: Trouble, *, now: datetime) -> Faltered | GaveUp:
    """Whether a mail that failed is tried again, and when: always later than now."""
    attempts = entry.attempts + 1
    if not trouble.transient or attempts >= MAX_ATTEMPTS:
        return GaveUp(trouble)
    wait = wait_after(attempts, seed=entry.key)
    if trouble.retry_after is not None and trouble.retry_after > 0:  # whatever a server says: no number, or for ever
        wait = max(wait, timedelta(seconds=min(trouble.retry_after, LONGEST_WAIT.total_seconds())))
    return Faltered(trouble, now + wait)


def due_watches(
    watches: Sequence[Watch], now: datetime, *, free: int, busy: Collection[MailboxId] = ()
) -> tuple[Watch, ...]:
    """The mailboxes to be swept now: those waiting longest first, none that is being swept, never more than are
    free."""
    due = sorted(
        (watch for watch in watches if watch.due_at <= now and watch.mailbox not in busy),
        key=lambda watch: (watch.due_at, watch.mailbox),
    )
    once = {watch.mailbox: watch for watch in reversed(due)}  # its longest waiting one
    return tuple(watch for watch in due if once[watch.mailbox] is watch)[: max(free, 0)]


def first_watch(mailbox: MailboxId, interval: timedelta, *, now: datetime) -> Watch:
    """The watch of a mailbox at the start: due soon, but a thousand of them not in the same second."""
    within = min(SPREAD_AT_START, interval)
    return Watch(mailbox=mailbox, interval=interval, due_at=now + within * _share(f"{mailbox}/start"))


def next_watch(
    watch: Watch, *, failed: bool, now: datetime, retry_after: float | None = None, refused: bool = False
) -> Watch:
    """The watch after a sweep: at its interval, with back-off while sweeps fail; never earlier than the interval.

    It is spread by up to a tenth, each time by another part of it, so that mailboxes that once met drift apart.
    ``retry_after``: seconds for which the server asked to be left alone.  ``refused``: it did not let us in.
    """
    spread = 1 + _share(f"{watch.mailbox}/{watch.due_at.isoformat()}") / 10
    wait = watch.interval * spread
    failures = watch.failures + 1 if failed else 0
    if failed:
        first, longest = (FIRST_REFUSED_WAIT, LONGEST_REFUSED_WAIT) if refused else (FIRST_WAIT, LONGEST_PAUSE)
        wait = max(wait, wait_after(failures, seed=watch.mailbox, first=first, longest=longest))
        if retry_after is not None and retry_after > 0:  # whatever a server says: no number, or for ever
            wait = max(wait, timedelta(seconds=min(retry_after, LONGEST_WAIT.total_seconds())))
    return attrs.evolve(watch, failures=failures, due_at=now + wait)


def watch_when_busy(watch: Watch, *, until: datetime | None, now: datetime) -> Watch:
    """The watch when somebody else was found working on the mailbox, which is no failure.

    It is looked at again after the interval, or when that worker's time is up at ``until`` if that is sooner: whoever
    works on renews it, whoever died does not.
    """
    due = next_watch(watch, failed=False, now=now).due_at
    if until is not None:
        due = min(due, max(until, now + SOON))
    return attrs.evolve(watch, due_at=due)


def watch_without_store(watch: Watch, *, now: datetime) -> Watch:
    """The watch after a sweep that the store has cut short: soon again, later each time until one goes through."""
    failures = watch.failures + 1
    return attrs.evolve(watch, failures=failures, due_at=now + wait_for_store(failures))


def when_put_back(watch: Watch, by: timedelta) -> Watch:
    """The watch after the clock was put back by so much: as long to wait as before."""
    return attrs.evolve(watch, due_at=watch.due_at - by)


def _share(seed: str) -> float:
    """A number from 0 to 1 that follows from ``seed``."""
    digest = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:2], "big") / 0xFFFF
