"""A store moves from one database to another: every question is answered as before, and nothing is delivered twice."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maildaemon_adapters.sql import SqlStore, dump, ledger
from maildaemon_core.access import CHANCE_BYTES, make_key
from maildaemon_core.errors import BadExport, PathsTaken, StoreNotEmpty
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import EntryQuery, SweepReport, SweepState
from maildaemon_core.progress import Entry, Outcome, Stage
from maildaemon_core.store_port import Configuration, Holder, Movable, Repeat
from maildaemon_core.testing.entry_strategies import entries, sweep_reports
from maildaemon_core.testing.lease_conformance import INBOX, NOW, STATE, ManualClock, file, leased, mail, some_mailbox
from tests.engine.story import MAILBOX, Story, taker
from tests.engine.story import mail as a_mail
from tests.servers.postgres import Postgres

WAYS = ["sqlite to sqlite", "sqlite to postgresql", "postgresql to sqlite"]


@contextmanager
def fresh(kind: str, request: pytest.FixtureRequest, clock: Any) -> Iterator[SqlStore]:
    """A new store of this kind."""
    with TemporaryDirectory(prefix="maildaemon-") as folder:
        server: Postgres | None = request.getfixturevalue("postgres") if kind == "postgresql" else None
        url = server.fresh_database() if server else f"sqlite:///{folder}/maildaemon.db"
        store = SqlStore(url, clock=clock)
        try:
            yield store
        finally:
            store.close()
            if server:
                server.drop_database(url)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[tuple[SqlStore, SqlStore]]:
    """A store to leave and an empty one to come to."""
    before, after = request.param.split(" to ")
    with fresh(before, request, clock) as old, fresh(after, request, clock) as new:
        yield old, new


@pytest.fixture
def old(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[SqlStore]:
    with fresh("sqlite", request, clock) as store:
        yield store


@pytest.fixture
def new(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[SqlStore]:
    with fresh("sqlite", request, clock) as store:
        yield store


def left(store: SqlStore, *, secrets: bool = True) -> bytes:
    data = bytearray()
    store.leave(data.extend, secrets=secrets)
    return bytes(data)


def lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def move(old: SqlStore, new: SqlStore) -> None:
    new.bring_in(lines(left(old)))


def answers(store: SqlStore, mailboxes: list[MailboxId], mails: list[Entry]) -> dict[str, Any]:
    """What a store says to every question that there is; nobody may have a lease."""
    said: dict[str, Any] = {
        "configurations": store.configurations(),
        "former": store.former(),
        "infos": store.infos(),
        "keys": store.keys(),
        "holders": [store.holder(mailbox) for mailbox in mailboxes],
        "entry": [store.entry(one.id) for one in mails if one.id],
        "pages": [
            store.entries(EntryQuery(outcome=outcome, mailbox=mailbox, dismissed=dismissed, limit=3))
            for outcome in Outcome
            for mailbox in (None, *mailboxes)
            for dismissed in (False, True)
        ],
        "searched": [
            store.entries(EntryQuery(outcome=one.outcome, sender=one.sender.upper(), subject=one.subject.upper()))
            for one in mails
        ],
    }
    for mailbox in mailboxes:
        lease = leased(store, mailbox)
        said[mailbox] = {
            "token": lease.token,
            "folder": lease.folder(INBOX),
            "known": lease.known([one.identity for one in mails]),
            "at": lease.at([one.ref for one in mails]),
            "open": [lease.open_in(folder) for folder in sorted({one.ref.folder for one in mails})],
            "due": lease.due(set(Stage), NOW + timedelta(days=9), limit=100),
            "in hand": lease.in_hand(),
            "dismissed": lease.dismissed(),
        }
        lease.give_back()
    return said


def filled(store: SqlStore) -> tuple[list[MailboxId], list[Entry]]:
    """A store in which there is something of everything."""
    mailboxes = [some_mailbox(), some_mailbox()]
    store.save(Configuration(id=mailboxes[0], name="büro", document={"mailbox": "ä@example.com"}), by="jane")
    store.save(Configuration(id=mailboxes[0], name="büro", document={"mailbox": "ö@example.com", "port": 0}), by="joe")
    store.save(Configuration(id=mailboxes[1], name="shop", document={}, secrets={"password": "v1:sealed"}))
    former = store.save(
        Configuration(id=some_mailbox(), name="før", document={"port": 1}, secrets={"password": "v1:x"})
    )
    store.drop(former.id)
    store.begin(Repeat(key="k", request="r", mailbox=former.id, at=NOW))
    for number, name in enumerate(("first", "revoked")):
        _, key = make_key(bytes([number]) * CHANCE_BYTES, name, now=NOW)
        store.add_key(key)
    store.revoke_key(store.keys()[1].prefix, NOW)
    store.key_used(store.keys()[0].prefix, NOW + timedelta(hours=1))
    mails: list[Entry] = []
    for number, mailbox in enumerate(mailboxes):
        lease = leased(store, mailbox)
        admitted = lease.admit(
            INBOX, [mail(mailbox, n, subject=f"Größe {n}", sender="Jane@Firm") for n in range(6)], STATE
        )
        stored = [
            attrs.evolve(one, stage=Stage.SETTLED, due_at=None, artifacts=(file(f"{number}/{one.key}"),))
            for one in admitted[:3]
        ]
        failed = attrs.evolve(admitted[3], stage=Stage.GIVEN_UP, due_at=None, in_hand=lease.token)
        waiting = attrs.evolve(admitted[4], stage=Stage.WAITING, attempts=2, defects=("ü",))
        lease.record([*stored, failed, waiting])
        lease.record([attrs.evolve(stored[0], artifacts=())])  # its path stays reserved
        report = SweepReport(mailbox=mailbox, state=SweepState.FAILED, started=NOW, ended=NOW)
        lease.give_back(NOW + timedelta(minutes=1), report)
        assert waiting.id
        store.dismiss(waiting.id)
        mails += admitted
    assert store.thin(Outcome.STORED, NOW + timedelta(days=1), limit=2) == 2
    return mailboxes, mails


def test_every_question_is_answered_as_before(way: tuple[SqlStore, SqlStore]) -> None:
    old, new = way
    mailboxes, mails = filled(old)
    move(old, new)
    assert answers(new, mailboxes, mails) == answers(old, mailboxes, mails)
    data = [left(store) for store in way]
    assert lines(data[0])[1:-1] == lines(data[1])[1:-1]


@settings(max_examples=max(10, settings().max_examples // 10), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_an_entry_holds_comes_along(request: pytest.FixtureRequest, data: st.DataObject) -> None:
    before, after = (
        data.draw(st.sampled_from(["sqlite", "sqlite", "postgresql"])),
        data.draw(st.sampled_from(["sqlite", "sqlite", "sqlite", "postgresql"])),
    )
    mailbox = some_mailbox()
    wanted = data.draw(st.lists(entries(mailbox), max_size=5, unique_by=lambda one: one.ref))
    with fresh(before, request, ManualClock()) as old, fresh(after, request, ManualClock()) as new:
        lease = leased(old, mailbox)
        try:
            mails = list(lease.admit(INBOX, wanted, STATE))
        except PathsTaken:
            return
        lease.give_back(NOW, data.draw(sweep_reports(mailbox)))
        move(old, new)
        assert answers(new, [mailbox], mails) == answers(old, [mailbox], mails)


def test_paths_stay_reserved_numbers_go_on_and_tokens_grow(way: tuple[SqlStore, SqlStore]) -> None:
    old, new = way
    mailbox, other = some_mailbox(), some_mailbox()
    first = leased(old, mailbox)
    (one,) = first.admit(INBOX, [mail(mailbox, 1)], STATE)
    first.record([attrs.evolve(one, artifacts=(file("a.eml"),))])
    (gone,) = leased(old, other).admit(INBOX, [mail(other, 1)], STATE)
    old.drop(other, forget=True)
    move(old, new)
    assert new.holder(mailbox) is None
    lease = leased(new, mailbox)
    assert lease.token > first.token
    (two,) = lease.admit(INBOX, [mail(mailbox, 2)], STATE)
    assert (two.id or 0) > (gone.id or 0) > 0, "a number that people have seen never comes to mean another mail"
    with pytest.raises(PathsTaken):
        lease.record([attrs.evolve(two, artifacts=(file("a.eml"),))])
    assert lease.admit(INBOX, [mail(mailbox, 1)], STATE) == []


def test_who_is_at_work_is_named_and_those_who_have_finished_are_not(old: SqlStore, clock: ManualClock) -> None:
    mailboxes = [some_mailbox() for _ in range(3)]
    for mailbox, name in zip(mailboxes, ("busy", "ended", "given back"), strict=True):
        old.save(Configuration(id=mailbox, name=name, document={}))
    old.lease(mailboxes[1], 1, owner="somebody")
    leased(old, mailboxes[2]).give_back()
    clock.pass_time(2)
    leased(old, mailboxes[0], owner="host pid 7")
    moved = old.leave(lambda data: None)
    assert moved.at_work == {"busy": Holder(owner="host pid 7", token=1, until=NOW + timedelta(seconds=62))}
    assert json.loads(lines(left(old))[0])["atWork"]["busy"]["owner"] == "host pid 7"


def test_who_worked_while_it_was_written_is_named_though_it_has_finished(old: SqlStore) -> None:
    quiet, quick = some_mailbox(), some_mailbox()
    for mailbox, name in ((quiet, "quiet"), (quick, "quick")):
        old.save(Configuration(id=mailbox, name=name, document={}))
        leased(old, mailbox).give_back()
    begun: list[bytes] = []

    def slow(data: bytes) -> None:
        if not begun:
            leased(old, quick).give_back()
        begun.append(data)

    moved = old.leave(slow)
    assert moved.meanwhile == ("quick",)
    assert old.leave(lambda data: None).meanwhile == ()


def test_secrets_come_along_only_when_asked_for_and_as_they_are(old: SqlStore, new: SqlStore, tmp_path: Path) -> None:
    mailboxes, _ = filled(old)
    bare, sealed = left(old, secrets=False), left(old, secrets=True)
    assert b"v1:sealed" not in bare
    assert b"v1:sealed" in sealed
    moved = new.bring_in(lines(bare))
    assert (moved.without_secrets, moved.sealed) == (("shop",), ())
    kept = new.configuration(mailboxes[1])
    assert kept is not None
    assert (kept.secrets, kept.version) == ({}, 1)
    other = SqlStore(f"sqlite:///{tmp_path}/other.db")
    moved = other.bring_in(lines(sealed))
    assert (moved.without_secrets, moved.sealed) == ((), ("shop",))
    kept = other.configuration(mailboxes[1])
    other.close()
    assert kept is not None
    assert kept.secrets == {"password": "v1:sealed"}


def test_a_mailbox_that_was_dropped_comes_back_elsewhere_with_versions_that_go_on(
    way: tuple[SqlStore, SqlStore],
) -> None:
    old, new = way
    filled(old)
    (former,) = old.former()
    data = left(old)
    assert b"v1:x" not in data
    moved = new.bring_in(lines(data))
    assert moved.rows["configuration"] == 3
    assert [store.former() for store in way] == [[former], [former]]
    assert (moved.sealed, moved.without_secrets) == (("shop",), ())
    assert [store.save(former, expected=0).version for store in way] == [2, 2]


def test_requests_stay_where_they_were_made(way: tuple[SqlStore, SqlStore]) -> None:
    old, new = way
    filled(old)
    data = left(old)
    assert b"repeat" not in data
    assert new.begin(Repeat(key="mine", request="r", mailbox=some_mailbox(), at=NOW)) is None
    new.bring_in(lines(data))
    assert new.forget_repeats(NOW + timedelta(days=1), limit=10) == 1


@pytest.mark.parametrize("what", ["configuration", "former", "key", "lease"])
def test_a_store_that_holds_anything_takes_nothing_up(old: SqlStore, new: SqlStore, what: str) -> None:
    filled(old)
    if what in {"configuration", "former"}:
        saved = new.save(Configuration(id=some_mailbox(), name="mine", document={}))
        if what == "former":
            new.drop(saved.id)
    elif what == "key":
        new.add_key(make_key(bytes(CHANCE_BYTES), "mine", now=NOW)[1])
    else:
        leased(new, some_mailbox()).give_back()
    before = lines(left(new))[1:]
    with pytest.raises(StoreNotEmpty, match="holds something already"):
        move(old, new)
    assert lines(left(new))[1:] == before


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_was_cut_off_or_altered_is_refused_and_nothing_of_it_stays(
    request: pytest.FixtureRequest, kind: str, data: st.DataObject
) -> None:
    original = _an_export()
    empty = _empty(kind, request)
    at = data.draw(st.integers(0, len(original) - 1))
    harm = data.draw(st.sampled_from(["cut", "flip", "drop a line", "double a line", "append"]))
    number = original[:at].count(b"\n")
    match harm:
        case "cut":
            broken = original[:at]
        case "flip":
            broken = original[:at] + bytes([original[at] ^ data.draw(st.integers(1, 255))]) + original[at + 1 :]
        case "drop a line":
            broken = b"".join(line for n, line in enumerate(lines(original)) if n != number)
        case "double a line":
            broken = b"".join(line * (2 if n == number else 1) for n, line in enumerate(lines(original)))
        case _:
            broken = original + lines(original)[number]
    with pytest.raises(BadExport) as caught:
        empty.bring_in(lines(broken))
    assert caught.value.remedy
    assert b'"rows":{"configuration":0,"api_key":0,"lease":0,"folder":0,"entry":0,"artifact":0}' in left(empty)
    assert empty.configurations() == []


_kept: dict[str, Any] = {}


def _an_export() -> bytes:
    if "export" not in _kept:
        with TemporaryDirectory(prefix="maildaemon-") as folder:
            store = SqlStore(f"sqlite:///{folder}/maildaemon.db", clock=ManualClock())
            filled(store)
            _kept["export"] = left(store)
            store.close()
    data: bytes = _kept["export"]
    return data


def _empty(kind: str, request: pytest.FixtureRequest) -> SqlStore:
    """One for all examples, since it must be empty after each of them."""
    if kind not in _kept:
        _kept[kind] = fresh(kind, request, ManualClock())
        _kept[f"{kind} store"] = _kept[kind].__enter__()
        request.node.getparent(pytest.Module).addfinalizer(lambda: _close(kind))
    store: SqlStore = _kept[f"{kind} store"]
    return store


def _close(kind: str) -> None:
    _kept.pop(f"{kind} store", None)
    _kept.pop(kind).__exit__(None, None, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "0001"}, "maildaemon store upgrade"),
        ({"version": "9999"}, "newer"),
        ({"format": 2}, "install that release"),
        ({"maildaemon": "diary"}, "maildaemon store export"),
    ],
)
def test_an_export_of_another_release_is_refused_with_what_to_do(
    old: SqlStore, new: SqlStore, change: dict[str, Any], said: str
) -> None:
    header, *rest = lines(left(old))
    with pytest.raises(BadExport) as caught:
        new.bring_in([json.dumps({**json.loads(header), **change}).encode() + b"\n", *rest])
    assert said in caught.value.remedy


@pytest.mark.parametrize("nonsense", [b"", b"\n", b"null\n", b"[]\n", b"{\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_what_is_no_export_is_refused(new: SqlStore, nonsense: bytes) -> None:
    with pytest.raises(BadExport):
        new.bring_in(lines(nonsense))


def test_what_fails_while_it_is_written_passes_through_and_frees_the_database(old: SqlStore) -> None:
    mailbox = some_mailbox()

    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        old.leave(full)
    assert leased(old, mailbox).token == 1


def test_only_a_few_rows_are_in_memory_at_a_time(
    way: tuple[SqlStore, SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump, "AT_ONCE", 10)
    old, new = way
    mailbox = some_mailbox()
    lease = leased(old, mailbox)
    admitted = lease.admit(INBOX, [mail(mailbox, number) for number in range(95)], STATE)
    lease.record([attrs.evolve(one, artifacts=(file(one.key),)) for one in admitted])
    pieces: list[bytes] = []
    old.leave(pieces.append)
    assert max(len(lines(piece)) for piece in pieces) == 10
    taken = 0
    written: list[int] = []
    right = ledger.many

    def watched(*arguments: Any) -> None:
        written.append(taken)
        right(*arguments)

    def one_by_one() -> Iterator[bytes]:
        nonlocal taken
        for line in lines(b"".join(pieces)):
            taken += 1
            yield line

    monkeypatch.setattr(dump, "many", watched)
    new.bring_in(one_by_one())
    assert len(written) >= 20
    assert all(later - earlier <= 15 for earlier, later in pairwise(written))
    assert left(new)[200:].count(b"\n") >= 190


def test_what_others_write_meanwhile_is_not_in_it(way: tuple[SqlStore, SqlStore]) -> None:
    old, new = way
    filled(old)
    data = bytearray()

    def write(piece: bytes) -> None:
        if not data:
            old.save(Configuration(id=MailboxId(str(uuid.uuid4())), name="late", document={}))
        data.extend(piece)

    before = lines(left(old))[1:]
    old.leave(write, secrets=True)
    assert lines(bytes(data))[1:] == before
    new.bring_in(lines(bytes(data)))
    assert {each.name for each in new.configurations()} == {"büro", "shop"}


def test_a_store_says_that_it_can_be_moved(old: SqlStore) -> None:
    assert isinstance(old, Movable)


# ---------------------------------------------------------------------------------------------------- and mail goes on


@pytest.mark.parametrize("taken", [False, True], ids=["files stay", "a consumer takes each file at once"])
@pytest.mark.parametrize("place", ["destination.staged", "destination.publish", "destination.published"])
@pytest.mark.parametrize("after", [0, 2])
def test_a_sweep_after_the_move_delivers_everything_once(
    way: tuple[SqlStore, SqlStore], clock: ManualClock, place: str, after: int, taken: bool
) -> None:
    """Wherever the last sweep before it broke off."""
    old, new = way
    story = Story(places=("one", "two"), delete_mails_on_server=True)
    story.store = old  # type: ignore[assignment]
    clock.now = story.now
    old.save(Configuration(id=MAILBOX, name="story", document={}))
    if taken:
        story.one.consumer = taker(story.one)
    story.server.plant(a_mail("done before"))
    assert story.sweep().counts.stored == 1
    for number in range(3):
        story.server.plant(a_mail(f"invoice {number}"))
    story.crash(after, place=place)
    clock.now = story.now
    move(old, new)
    story.store = new  # type: ignore[assignment]
    for _ in range(2):
        assert story.sweep().state is SweepState.DONE
        story.wait(hours=12)
        clock.now = story.now
    names = ["done before.eml", *(f"invoice {number}.eml" for number in range(3))]
    for where in (story.one, story.two):
        assert sorted(path for path, _ in where.published) == names
        assert not where.staging
    assert not story.server.contents()
    assert len(new.entries(EntryQuery(outcome=Outcome.STORED)).entries) == 4
