"""How long history is kept: which entries may be thinned out by now.

What is thinned out is what only people want to know of a mail.  What keeps it from being processed twice stays for
ever, and so does what is still pending.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import attrs

from maildaemon_core.options import Within
from maildaemon_core.progress import Outcome

LONGEST = 36_500
"""Days: a hundred years."""

_days = Within(1, LONGEST)


@attrs.frozen(kw_only=True)
class Retention:
    """For how many days after a mail was first seen its history is kept, by what became of it; None: for ever."""

    stored_days: int | None = attrs.field(default=None, validator=_days)
    skipped_days: int | None = attrs.field(default=None, validator=_days)
    failed_days: int | None = attrs.field(default=None, validator=_days)

    def expired(self, now: datetime) -> Mapping[Outcome, datetime]:
        """By outcome, the time before which a mail must have been first seen to be thinned out; pending ones never."""
        days = {
            Outcome.STORED: self.stored_days,
            Outcome.SKIPPED: self.skipped_days,
            Outcome.FAILED: self.failed_days,
        }
        return {outcome: now - timedelta(days=number) for outcome, number in days.items() if number is not None}


FOR_EVER = Retention()


@attrs.frozen(kw_only=True)
class Thinned:
    """How many entries were thinned out, by outcome; ``more``: some are left for the next time."""

    numbers: Mapping[Outcome, int] = attrs.field(factory=dict)
    more: bool = False

    @property
    def total(self) -> int:
        return sum(self.numbers.values())


NOTHING_THINNED = Thinned()
