"""How the mailboxes fare that this process watches, and whether one of them, or the loop itself, has come to a stop."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import attrs

from maildaemon_core.errors import Trouble
from maildaemon_core.message import MailboxId

PATIENCE: Final = timedelta(minutes=10)
"""So long at least a mailbox may go without a sweep that went through."""

LONGEST_SILENCE: Final = timedelta(hours=1)
"""So long a sweep may go on without anything happening: as long as the largest mail takes over a slow line."""

LOOP_PATIENCE: Final = timedelta(minutes=1)
"""The loop looks around every few seconds; after so much time without that it is dead."""


@attrs.frozen(kw_only=True)
class Watched:
    """A mailbox as this process watches it; times are UTC.

    ``active``: this process is to sweep it.  ``since``: from when on a sweep that goes through is waited for, that is
    the last one that did, or the start, or when another process was found working on it.  ``heard``: when the running
    sweep last did something.  ``failures`` in a row; ``last_success`` in this process.  ``trouble`` is why it cannot be
    swept here, or what was in the way of the last sweep.  ``waiting``: its server is to tell of new mail besides.
    """

    mailbox: MailboxId
    label: str
    active: bool
    interval: timedelta
    since: datetime
    next_due: datetime | None = None
    running_since: datetime | None = None
    heard: datetime | None = None
    failures: int = 0
    last_success: datetime | None = None
    trouble: Trouble | None = None
    waiting: bool = False


def is_stuck(watched: Watched, now: datetime) -> bool:
    """Whether a person should look after it: it makes no progress though it should.

    No sweep has gone through for three intervals, and ten minutes at least.  While one runs, and the last one did not
    fail, only its silence counts, since the first one of a large mailbox takes its time.
    """
    if not watched.active:
        return False
    late = now - watched.since > max(3 * watched.interval, PATIENCE)
    if watched.running_since is None:
        return late
    return now - (watched.heard or watched.running_since) > LONGEST_SILENCE or (late and watched.failures > 0)


def is_dead(last_tick: datetime | None, now: datetime) -> bool:
    """Whether the loop that begins the sweeps has stopped; one that was never started is not dead."""
    return last_tick is not None and now - last_tick > LOOP_PATIENCE
