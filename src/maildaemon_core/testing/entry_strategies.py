"""Entries and reports of every shape that a store may be given: what is valid Unicode and in range must come back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from maildaemon_core.errors import Trouble
from maildaemon_core.message import BatchId, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import Counts, FolderReport, SweepReport, SweepState
from maildaemon_core.options import KEEP, Action, Aftercare
from maildaemon_core.progress import Artifact, Entry, Receipt, Role, Stage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGE = 2**63 - 1

_words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
_name = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
_sizes = st.one_of(st.integers(0, 100_000), st.integers(0, _LARGE))
_hex = st.text("0123456789abcdef", min_size=12, max_size=12)


def moments() -> st.SearchStrategy[datetime]:
    """Points in time, to the microsecond, in UTC."""
    return st.timedeltas(timedelta(days=-20_000), timedelta(days=1_000_000)).map(lambda since: _EPOCH + since)


def troubles() -> st.SearchStrategy[Trouble]:
    wait = st.none() | st.floats(0, 1e9) | st.integers(0, 1000).map(float)
    return st.builds(Trouble, error=_name, message=_words, remedy=_words, transient=st.booleans(), retry_after=wait)


def cares() -> st.SearchStrategy[Aftercare]:
    moves = st.builds(Aftercare, st.just(Action.MOVE), _name)
    return st.one_of(moves, st.sampled_from([KEEP, Aftercare(Action.SEEN), Aftercare(Action.DELETE)]))


def artifacts(place: str) -> st.SearchStrategy[Artifact]:
    """Artifacts at places that begin with ``place``."""
    return st.builds(
        Artifact,
        destination=_name,
        place=st.sampled_from([place, f"{place}/ß"]),
        role=st.sampled_from(Role),
        index=st.integers(0, 2**31 - 1),
        path=_name,
        size=_sizes,
        sha256=_hex,
        name=st.none() | _words,
        part=st.just("") | _name,
        receipt=st.none() | st.builds(Receipt, size=_sizes, at=moments(), etag=st.none() | _words),
    )


def entries(mailbox: MailboxId) -> st.SearchStrategy[Entry]:
    """Any entry of this mailbox at all, likely or not, without an id; its artifacts lie at places of this mailbox."""
    some = st.lists(artifacts(f"/srv/{mailbox}"), max_size=3, unique_by=lambda each: (each.place, each.path))
    batches = st.builds(BatchId, st.just(mailbox), st.integers(0, _LARGE), st.integers(0, _LARGE), _hex)
    return st.builds(
        Entry,
        mailbox=st.just(mailbox),
        ref=st.builds(MessageRef, _name.map(FolderRef), st.just("") | _hex, _name),
        identity=st.builds(Identity, _hex, st.none() | _name),
        key=_hex,
        received=moments(),
        first_seen=moments(),
        sender=_words,
        subject=_words,
        message_id=_words,
        size=st.none() | _sizes,
        stage=st.sampled_from(Stage),
        due_at=st.none() | moments(),
        attempts=st.integers(0, 1000),
        suspect=st.booleans(),
        in_hand=st.integers(0, 1000),
        last_tried=st.none() | moments(),
        batch=st.none() | batches,
        artifacts=some.map(tuple),
        complete=st.booleans(),
        care=cares(),
        moved_to=st.none() | st.builds(MessageRef, _name.map(FolderRef), _hex, _name),
        trouble=st.none() | troubles(),
        reason=_words,
        defects=st.lists(_words, max_size=3).map(tuple),
    )


def sweep_reports(mailbox: MailboxId) -> st.SearchStrategy[SweepReport]:
    """Any report that a lease is given back with."""
    number = st.integers(0, 10**9)
    counts = st.builds(Counts, stored=number, skipped=number, failed=number, pending=number)
    trouble = st.none() | troubles()
    folder = st.builds(FolderReport, folder=_name.map(FolderRef), counts=counts, older=number, trouble=trouble)
    return st.builds(
        SweepReport,
        mailbox=st.just(mailbox),
        state=st.sampled_from([state for state in SweepState if state is not SweepState.BUSY]),
        started=moments(),
        ended=moments(),
        folders=st.lists(folder, max_size=3).map(tuple),
        tidied=number,
        server=_words,
        trouble=trouble,
        remarks=st.lists(_words, max_size=3).map(tuple),
    )
