"""The cursor of file sources: whatever comes, goes or is dated back, each mail is listed in time, few of them twice."""

from __future__ import annotations

import string

import attrs
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from maildaemon_adapters.local.walk import BUCKETS, Item, Position, Snapshot, read_cursor, step, write_cursor
from maildaemon_core.message import Cursor

UIDS = st.text(string.ascii_lowercase, min_size=1, max_size=3)
TIMES = st.integers(0, 5)


def item(uid: str, time: int) -> Item:
    return Item((time, uid), uid)


def walked(items: dict[str, int], position: Position, limit: int) -> tuple[list[str], Position]:
    """All that is listed until there is no more, each page in a session of its own."""
    snapshot, found = Snapshot(item(uid, time) for uid, time in items.items()), []
    for _ in range(10_000):
        done = step(snapshot, position, limit)
        assert len(done.items) <= limit
        assert done.items or not done.more
        assert step(snapshot, position, limit) == done, "the same position gives the same mails"
        found += [each.uid for each in done.items]
        again = read_cursor("kind", write_cursor("kind", done.position))
        assert again == done.position
        position = done.position
        if not done.more:
            return found, position
    raise AssertionError("there is always one more page")


class Walking(RuleBasedStateMachine):
    """A folder that changes between polls and in the middle of them."""

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[str, int] = {}
        self.listed: set[str] = set()
        self.position = Position()

    @rule(uid=UIDS, time=TIMES)
    def arrives(self, uid: str, time: int) -> None:
        if uid not in self.items:
            self.items[uid] = time

    @rule(data=st.data())
    def goes(self, data: st.DataObject) -> None:
        if self.items:
            del self.items[data.draw(st.sampled_from(sorted(self.items)))]

    @rule(data=st.data(), time=TIMES)
    def is_dated_otherwise(self, data: st.DataObject, time: int) -> None:
        if self.items:
            self.items[data.draw(st.sampled_from(sorted(self.items)))] = time

    @rule(limit=st.integers(1, 4))
    def one_page_is_read(self, limit: int) -> None:
        snapshot = Snapshot(item(uid, time) for uid, time in self.items.items())
        done = step(snapshot, self.position, limit)
        self.listed |= {each.uid for each in done.items}
        self.position = done.position

    @rule(limit=st.integers(1, 4))
    def all_is_read(self, limit: int) -> None:
        # Twice: what changed in the middle of a walk through late mails is found by the next poll.
        for _ in range(2):
            found, self.position = walked(self.items, self.position, limit)
            self.listed |= set(found)
        assert set(self.items) <= self.listed, "every mail is listed in time"
        assert walked(self.items, self.position, limit) == ([], self.position), "and then there is nothing more"


TestWalking = Walking.TestCase


@given(st.dictionaries(UIDS, TIMES), st.integers(1, 5))
def test_a_folder_is_listed_from_its_beginning_oldest_first_and_each_mail_once(
    items: dict[str, int], limit: int
) -> None:
    found, _ = walked(items, Position(), limit)
    assert found == [uid for uid, _ in sorted(items.items(), key=lambda each: (each[1], each[0]))]


@given(st.dictionaries(UIDS, TIMES, min_size=1), UIDS, TIMES)
def test_a_mail_that_is_dated_back_is_found_with_few_others(items: dict[str, int], late: str, time: int) -> None:
    items.pop(late, None)
    _, position = walked(items, Position(), 100)
    found, _ = walked({**items, late: time}, position, 100)
    bucket = item(late, time).share[0]
    assert late in found
    assert {uid for uid in found if item(uid, 0).share[0] != bucket} == set()


def test_of_many_thousand_mails_one_that_went_away_has_few_listed_again() -> None:
    items = {f"mail-{number}": number for number in range(20_000)}
    _, position = walked(items, Position(), 20_000)
    del items["mail-700"]
    found, position = walked(items, position, 500)
    assert len(found) < 3 * 20_000 / BUCKETS
    assert walked(items, position, 500)[0] == []
    assert len(write_cursor("kind", position)) < 13_000


@given(st.text() | st.binary().map(lambda raw: f"kind:{raw.hex()}"))
def test_what_is_no_cursor_of_ours_is_none(text: str) -> None:
    assert read_cursor("kind", Cursor(text)) is None
    assert read_cursor("other", write_cursor("kind", Position())) is None


@given(st.integers(0, 200), st.binary(max_size=3))
def test_a_damaged_cursor_is_none_or_some_position(at: int, junk: bytes) -> None:
    cursor = write_cursor("kind", attrs.evolve(Position(), mark=(7, "mail")))
    damaged = cursor[:at] + junk.hex() + cursor[at + 1 :]
    assert isinstance(read_cursor("kind", Cursor(damaged)), Position | None)
