"""When something is tried: none twice at once, never more than what is free, nobody starves, a fault waits."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import attrs
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.errors import Trouble
from maildaemon_core.message import MailboxId
from maildaemon_core.progress import Faltered, GaveUp, advance
from maildaemon_core.schedule import (
    FIRST_REFUSED_WAIT,
    FIRST_STORE_WAIT,
    FIRST_WAIT,
    LONGEST_PAUSE,
    LONGEST_REFUSED_WAIT,
    LONGEST_STORE_WAIT,
    LONGEST_WAIT,
    MAX_ATTEMPTS,
    SOON,
    SPREAD_AT_START,
    Watch,
    after_failure,
    due_watches,
    first_watch,
    next_watch,
    wait_after,
    wait_for_store,
    watch_when_busy,
    watch_without_store,
    when_put_back,
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


INTERVALS = st.integers(5, 2**31 - 1).map(lambda seconds: timedelta(seconds=seconds))


@given(
    st.integers(0, 30), INTERVALS, st.booleans(), st.text(max_size=9), st.integers(0, 10**6), st.none() | st.floats()
)
def test_a_mailbox_never_comes_back_before_its_interval_nor_much_later_unless_it_fails(
    failures: int, interval: timedelta, failed: bool, name: str, late: int, retry_after: float | None
) -> None:
    due = NOW - timedelta(seconds=late)
    before = Watch(mailbox=MailboxId(name), due_at=due, interval=interval, failures=failures)
    after = next_watch(before, failed=failed, now=NOW, retry_after=retry_after)
    assert after == next_watch(before, failed=failed, now=NOW, retry_after=retry_after)
    assert (after.mailbox, after.interval) == (before.mailbox, before.interval)
    assert NOW + interval <= after.due_at
    if failed:
        assert after.failures == failures + 1
        assert after.due_at <= NOW + max(interval * 1.11, LONGEST_PAUSE * 1.11, LONGEST_WAIT)
        if retry_after is None:
            assert after.due_at <= NOW + max(interval * 1.11, LONGEST_PAUSE * 1.11)
    else:
        assert after.failures == 0
        assert after.due_at <= NOW + interval * 1.11


def test_a_server_that_asks_to_be_left_alone_is_left_alone_but_not_for_ever() -> None:
    before = Watch(mailbox=MailboxId("a"), due_at=NOW, interval=timedelta(seconds=60))
    assert next_watch(before, failed=True, now=NOW, retry_after=7200.0).due_at == NOW + timedelta(hours=2)
    assert next_watch(before, failed=True, now=NOW, retry_after=1e300).due_at == NOW + LONGEST_WAIT
    for odd in (float("nan"), -1.0, 0.0):
        assert next_watch(before, failed=True, now=NOW, retry_after=odd).due_at < NOW + timedelta(minutes=2)


@given(st.integers(0, 60), st.sampled_from([timedelta(seconds=5), timedelta(minutes=1), timedelta(hours=3)]))
def test_who_is_refused_at_the_door_knocks_rarely_and_ever_more_so(failures: int, interval: timedelta) -> None:
    before = Watch(mailbox=MailboxId("1"), interval=interval, due_at=NOW, failures=failures)
    refused = next_watch(before, failed=True, now=NOW, refused=True)
    wait = refused.due_at - NOW
    doubled = min(FIRST_REFUSED_WAIT * 2 ** min(failures, 10), LONGEST_REFUSED_WAIT)
    assert max(doubled, interval) <= wait <= max(doubled, interval) * 1.1
    assert refused.failures == failures + 1
    assert next_watch(refused, failed=False, now=refused.due_at).failures == 0, "one that is let in starts anew"
    asked = next_watch(before, failed=True, now=NOW, refused=True, retry_after=7200.0)
    assert asked.due_at - NOW >= timedelta(hours=2)


@given(INTERVALS, st.integers(1, 2000))
def test_at_the_start_all_are_due_soon_but_not_in_the_same_second(interval: timedelta, number: int) -> None:
    watches = [first_watch(MailboxId(str(at)), interval, now=NOW) for at in range(number)]
    assert all(NOW <= watch.due_at <= NOW + min(SPREAD_AT_START, interval) for watch in watches)
    if number >= 1000:
        by_second = Counter(int((watch.due_at - NOW).total_seconds()) for watch in watches)
        assert max(by_second.values()) <= number / 3


def test_mailboxes_that_meet_drift_apart() -> None:
    now, watches = NOW, [first_watch(MailboxId(str(at)), timedelta(minutes=1), now=NOW) for at in range(1000)]
    watches = [attrs.evolve(watch, due_at=now) for watch in watches]
    for _ in range(3):
        watches = [next_watch(watch, failed=False, now=watch.due_at) for watch in watches]
    seconds = Counter(int((watch.due_at - NOW).total_seconds()) for watch in watches)
    assert max(seconds.values()) < 250


@given(INTERVALS, st.none() | st.integers(-100, 100), st.integers(0, 9))
def test_a_mailbox_that_another_works_on_is_looked_at_after_the_interval_or_at_the_end_of_the_lease(
    interval: timedelta, seconds: int | None, failures: int
) -> None:
    before = Watch(mailbox=MailboxId("a"), due_at=NOW, interval=interval, failures=failures)
    until = None if seconds is None else NOW + timedelta(seconds=seconds)
    after = watch_when_busy(before, until=until, now=NOW)
    assert after.due_at > NOW, "or it would be asked again and again"
    assert after.due_at <= NOW + interval * 1.11
    if until is None:
        assert after.due_at >= NOW + interval
    else:
        assert after.due_at <= max(until, NOW + SOON)
    assert watch_when_busy(after, until=until, now=NOW).failures == before.failures == failures


@given(st.integers(1, 10_000))
def test_the_store_is_asked_again_soon_later_each_time_and_every_minute_at_least(failures: int) -> None:
    assert FIRST_STORE_WAIT <= wait_for_store(failures) <= LONGEST_STORE_WAIT
    assert wait_for_store(failures) <= wait_for_store(failures + 1)
    before = Watch(mailbox=MailboxId("a"), due_at=NOW, interval=timedelta(days=1), failures=failures)
    after = watch_without_store(before, now=NOW)
    assert after.failures == failures + 1
    assert NOW < after.due_at <= NOW + LONGEST_STORE_WAIT


@given(
    st.lists(st.tuples(st.integers(5, 600), st.integers(1, 90), st.booleans()), min_size=1, max_size=8),
    st.integers(1, 3),
)
def test_over_a_long_time_each_is_swept_at_its_interval_never_twice_at_once_and_nobody_starves(
    mailboxes: list[tuple[int, int, bool]], at_once: int
) -> None:
    """Each mailbox has an interval, a time that its sweep takes, and perhaps fails each time."""
    every = {
        MailboxId(str(at)): first_watch(MailboxId(str(at)), timedelta(seconds=interval), now=NOW)
        for at, (interval, _, _) in enumerate(mailboxes)
    }
    running: dict[MailboxId, datetime] = {}
    ended: dict[MailboxId, list[datetime]] = {mailbox: [] for mailbox in every}
    now = NOW
    for _ in range(600):
        for mailbox, end in list(running.items()):
            if end <= now:
                del running[mailbox]
                ended[mailbox].append(now)
                failed = mailboxes[int(mailbox)][2]
                every[mailbox] = next_watch(every[mailbox], failed=failed, now=now)
        for watch in due_watches([*every.values()], now, free=at_once - len(running), busy=running):
            assert watch.mailbox not in running
            last = ended[watch.mailbox]
            assert not last or now >= last[-1] + watch.interval
            running[watch.mailbox] = now + timedelta(seconds=mailboxes[int(watch.mailbox)][1])
        assert len(running) <= at_once
        now += timedelta(seconds=5)
    for mailbox, (interval, _, failing) in zip(every, mailboxes, strict=True):
        # A round of all the others, and its own interval, is the longest that one ever waits.
        longest = sum(takes + 10 for _, takes, _ in mailboxes) + (interval * 1.11 if not failing else 1200)
        assert len(ended[mailbox]) >= int(3000 / (longest + 30)), mailbox


def test_after_the_clock_was_put_back_nobody_waits_longer_than_before() -> None:
    watch = Watch(mailbox=MailboxId("a"), due_at=NOW + timedelta(minutes=1), interval=timedelta(minutes=1))
    hour = timedelta(hours=1)
    assert when_put_back(watch, hour).due_at - (NOW - hour) == timedelta(minutes=1)
