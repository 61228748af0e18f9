"""Looking for little among much: pages end early, go on where they ended, and together give exactly what matches."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maildaemon_adapters.sql import SqlStore, search
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.progress import Entry, Outcome, Stage
from maildaemon_core.testing.lease_conformance import INBOX, STATE, leased, mail, some_mailbox


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStore]:
    """One for all examples: each has a mailbox of its own."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('search') / 'store.db'}"
    else:
        url = request.getfixturevalue("postgres").fresh_database()
    store = SqlStore(url)
    yield store
    store.close()


def paged(store: SqlStore, query: EntryQuery) -> Iterator[tuple[Entry, ...]]:
    while True:
        page = store.entries(query)
        yield page.entries
        if page.next is None:
            return
        assert query.before is None or page.next < query.before, "a page that does not get on"
        query = attrs.evolve(query, before=page.next)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=max(10, settings().max_examples // 4)
)
@given(
    senders=st.lists(st.sampled_from(["ann", "bob"]), max_size=25),
    dismissed=st.sets(st.integers(0, 24)),
    most=st.integers(1, 8),
    limit=st.integers(1, 6),
    with_dismissed=st.booleans(),
)
def test_all_pages_together_are_what_matches_in_order(
    store: SqlStore, senders: list[str], dismissed: set[int], most: int, limit: int, with_dismissed: bool
) -> None:
    mailbox = some_mailbox()
    lease = leased(store, mailbox)
    found = lease.admit(
        INBOX, [mail(mailbox, at, sender=name, stage=Stage.WAITING) for at, name in enumerate(senders)], STATE
    )
    for at in dismissed & set(range(len(found))):
        store.dismiss(found[at].id or pytest.fail("no number"))
    query = EntryQuery(outcome=Outcome.FAILED, mailbox=mailbox, sender="ANN", dismissed=with_dismissed, limit=limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "MOST", most)
        pages = list(paged(store, query))
    assert all(len(page) <= limit for page in pages)
    assert [each.id for page in pages for each in page] == [
        each.id
        for at, each in reversed(list(enumerate(found)))
        if each.sender == "ann" and (with_dismissed or at not in dismissed)
    ]
    store.drop(mailbox, forget=True)


def test_a_page_for_a_sender_who_never_wrote_ends_after_so_many_entries(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox = some_mailbox()
    found = leased(store, mailbox).admit(INBOX, [mail(mailbox, number) for number in range(50)], STATE)
    monkeypatch.setattr(search, "MOST", 20)
    page = store.entries(EntryQuery(outcome=Outcome.PENDING, mailbox=mailbox, sender="nobody"))
    assert page.entries == ()
    assert page.next == found[30].id
    assert len(list(paged(store, EntryQuery(outcome=Outcome.PENDING, mailbox=mailbox, sender="nobody")))) == 3
