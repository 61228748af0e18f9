"""When something is tried: none twice at once, never more than what is free, nobody starves, a fault waits."""

from __future__ import annotations

from datetime import timedelta

import attrs
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.errors import Trouble
from maildaemon_core.message import MailboxId
from maildaemon_core.progress import Faltered, GaveUp, advance
from maildaemon_core.schedule import (
    FIRST_WAIT,
    LONGEST_WAIT,
    MAX_ATTEMPTS,
    Watch,
    after_failure,
    due_watches,
    next_watch,
    wait_after,
)
from tests.core.entries import NOW, entry

TRANSIENT = Trouble(error="Odd", message="it is odd")


def watches() -> st.SearchStrategy[list[Watch]]:
    return st.lists(
        st.builds(
            Watch,
            mailbox=st.sampled_from("abcdef").map(MailboxId),
            due_at=st.integers(-60, 60).map(lambda minutes: NOW + timedelta(minutes=minutes)),
            interval=st.integers(5, 3600).map(lambda seconds: timedelta(seconds=seconds)),
            failures=st.integers(0, 30),
        ),
        max_size=8,
    )


@given(watches(), st.integers(-1, 5), st.sets(st.sampled_from("abc").map(MailboxId)))
def test_none_twice_at_once_never_more_than_free_and_only_what_is_due(
    all_: list[Watch], free: int, busy: set[MailboxId]
) -> None:
    chosen = due_watches(all_, NOW, free=free, busy=busy)
    mailboxes = [watch.mailbox for watch in chosen]
    assert len(set(mailboxes)) == len(mailboxes) <= max(free, 0)
    assert not busy & set(mailboxes)
    assert all(watch in all_ and watch.due_at <= NOW for watch in chosen)


@given(watches(), st.integers(0, 5))
def test_those_that_wait_longest_come_first(all_: list[Watch], free: int) -> None:
    chosen = due_watches(all_, NOW, free=free)
    assert list(chosen) == sorted(chosen, key=lambda watch: watch.due_at)
    left = {watch.mailbox for watch in all_ if watch.due_at <= NOW} - {watch.mailbox for watch in chosen}
    if left:
        longest = max(watch.due_at for watch in chosen) if chosen else None
        assert len(chosen) == free
        assert all(longest is None or watch.due_at >= longest for watch in all_ if watch.mailbox in left)


@given(st.integers(1, 6), st.integers(1, 3), st.sets(st.integers(0, 5)))
def test_nobody_starves_not_even_beside_those_that_always_fail(number: int, free: int, failing: set[int]) -> None:
    every = {
        MailboxId(str(at)): Watch(mailbox=MailboxId(str(at)), due_at=NOW, interval=timedelta(minutes=1))
        for at in range(number)
    }
    swept: dict[MailboxId, int] = dict.fromkeys(every, 0)
    now = NOW
    for _ in range(number * 4):
        for watch in due_watches(list(every.values()), now, free=free):
            swept[watch.mailbox] += 1
            every[watch.mailbox] = next_watch(watch, failed=int(watch.mailbox) in failing, now=now)
        now += timedelta(minutes=1)
    assert all(swept.values())


@given(st.integers(1, 10_000), st.text(max_size=20))
def test_a_wait_doubles_up_to_a_cap_is_spread_by_a_tenth_and_can_be_foretold(failures: int, seed: str) -> None:
    wait = wait_after(failures, seed=seed)
    plain = min(FIRST_WAIT * 2 ** min(failures - 1, 30), LONGEST_WAIT)
    assert plain <= wait <= plain * 1.1 + timedelta(microseconds=1)
    assert wait == wait_after(failures, seed=seed)


def test_a_thousand_mailboxes_of_one_broken_server_do_not_come_back_at_once() -> None:
    waits = {wait_after(1, seed=f"mailbox {number}") for number in range(1000)}
    assert len(waits) > 200


@given(
    st.integers(0, 20),
    st.builds(
        Trouble,
        error=st.just("Odd"),
        message=st.just("odd"),
        transient=st.booleans(),
        retry_after=st.none() | st.floats(),
    ),
)
def test_a_failure_is_tried_later_or_given_up_whatever_a_server_says(attempts: int, trouble: Trouble) -> None:
    start = entry(attempts=attempts)
    decision = after_failure(start, trouble, now=NOW)
    after = advance(start, decision, NOW)
    if isinstance(decision, GaveUp):
        assert not trouble.transient or attempts + 1 >= MAX_ATTEMPTS
        assert not after.open
    else:
        assert trouble.transient
        assert NOW < decision.due_at <= NOW + LONGEST_WAIT * 1.11
        assert after.due_at == decision.due_at


def test_a_server_that_asks_to_wait_is_given_the_time() -> None:
    asked = attrs.evolve(TRANSIENT, retry_after=3600.0)
    decision = after_failure(entry(), asked, now=NOW)
    assert isinstance(decision, Faltered)
    assert decision.due_at == NOW + timedelta(hours=1)


def test_the_attempts_before_a_mail_is_given_up_take_most_of_a_day() -> None:
    total = sum((wait_after(number, seed="x") for number in range(1, MAX_ATTEMPTS)), timedelta())
    assert timedelta(hours=16) < total < timedelta(hours=30)


@given(st.integers(0, 30), st.integers(5, 100_000), st.booleans())
def test_a_mailbox_comes_back_at_its_interval_or_later_while_it_fails(
    failures: int, seconds: int, failed: bool
) -> None:
    before = Watch(mailbox=MailboxId("a"), due_at=NOW, interval=timedelta(seconds=seconds), failures=failures)
    after = next_watch(before, failed=failed, now=NOW)
    if failed:
        assert after.due_at >= NOW + before.interval
        assert after.failures == failures + 1
        assert after.due_at <= NOW + max(before.interval, LONGEST_WAIT * 1.11)
    else:
        assert (after.due_at, after.failures) == (NOW + before.interval, 0)
