"""Retention says what may be thinned out: by outcome and days since it was first seen, and never what is pending."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core import codec
from maildaemon_core.errors import InvalidOptions
from maildaemon_core.progress import Outcome
from maildaemon_core.retention import FOR_EVER, LONGEST, Retention

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAYS = st.none() | st.integers(1, LONGEST)


@given(stored=DAYS, skipped=DAYS, failed=DAYS)
def test_only_what_has_a_number_of_days_expires_and_pending_never(
    stored: int | None, skipped: int | None, failed: int | None
) -> None:
    retention = Retention(stored_days=stored, skipped_days=skipped, failed_days=failed)
    wanted = {Outcome.STORED: stored, Outcome.SKIPPED: skipped, Outcome.FAILED: failed}
    assert retention.expired(NOW) == {
        outcome: NOW - timedelta(days=days) for outcome, days in wanted.items() if days is not None
    }


def test_without_a_word_everything_is_kept_for_ever() -> None:
    assert FOR_EVER.expired(NOW) == {}
    assert codec.read(Retention, {}) == codec.read(Retention, {"storedDays": None}) == FOR_EVER


@pytest.mark.parametrize("days", [0, -1, LONGEST + 1, "7", 1.5, True])
def test_days_are_whole_and_at_least_one(days: object) -> None:
    with pytest.raises(InvalidOptions) as caught:
        codec.read(Retention, {"failedDays": days})
    assert [problem.path for problem in caught.value.problems] == ["$.failedDays"]
