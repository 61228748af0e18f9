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


@attrs.frozen(kw_only=True)
class Watch:
    """A mailbox as the scheduler sees it: when its next sweep is due and how many in a row have failed."""

    mailbox: MailboxId
    due_at: datetime
    interval: timedelta
    failures: int = 0


def wait_after(failures: int, *, seed: str) -> timedelta:
    """How long to wait after so many failures in a row (at least 1): doubled each time, capped, spread by a tenth.

    The spread comes from ``seed``, so that a thousand mailboxes of one broken server do not all come back at once and a
    test can tell what will happen.
    """
    doubled: timedelta = FIRST_WAIT * (1 << min(failures - 1, 20))
    digest = hashlib.sha256(f"{seed}/{failures}".encode("utf-8", "surrogatepass")).digest()
    return min(doubled, LONGEST_WAIT) * (1 + digest[0] / 2550)


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


def next_watch(watch: Watch, *, failed: bool, now: datetime) -> Watch:
    """The watch after a sweep: at its interval, with back-off while sweeps fail."""
    if not failed:
        return attrs.evolve(watch, failures=0, due_at=now + watch.interval)
    failures = watch.failures + 1
    wait = max(watch.interval, wait_after(failures, seed=watch.mailbox))
    return attrs.evolve(watch, failures=failures, due_at=now + wait)
