"""MailDaemon, the façade: options taken on, sweeps under a lease, monitors that are told and change nothing."""

from __future__ import annotations

import logging
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as Signal
from typing import Any

import attrs
import pytest

from maildaemon_core.engine import leasing
from maildaemon_core.engine.daemon import MailDaemon, open_store
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, STORES, Registry
from maildaemon_core.errors import (
    InvalidOptions,
    LeaseLost,
    LoginRefused,
    Permanent,
    StoreUnavailable,
    Trouble,
    UnknownKind,
)
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import EntryQuery, Event, SweepEnded, SweepReport, SweepState
from maildaemon_core.options import DestinationOptions, KindFacts, MailArchiving, MailboxOptions, Secret
from maildaemon_core.ports import Destination, Kind, MailSource, Spool
from maildaemon_core.progress import Outcome, Stage
from maildaemon_core.store_port import Store
from maildaemon_core.testing.faults import Crash, Fuse
from maildaemon_core.testing.memory_destination import MemoryDestination
from maildaemon_core.testing.memory_source import MemoryServer, MemorySource
from maildaemon_core.testing.memory_store import MemoryStore
from tests.engine.story import mail

ONE = MailboxId("00000000-0000-0000-0000-000000000001")
TWO = MailboxId("00000000-0000-0000-0000-000000000002")
FACTS = KindFacts(needs_host=False, needs_login=False)


@attrs.frozen(kw_only=True)
class Settings:
    color: str = "blue"


@attrs.frozen(kw_only=True)
class StoreSettings(Settings):
    password: Secret | None = None
    make: bool = True


class House:
    """Everything around a daemon: what its adapters open, and what they were opened with."""

    def __init__(self) -> None:
        self.now = datetime(2026, 6, 1, tzinfo=UTC)
        self.fuse = Fuse()
        self.server = MemoryServer()
        self.store = MemoryStore(lambda: self.now, self.fuse)
        self.places: dict[str, MemoryDestination] = {}
        self.opened: list[tuple[Any, Settings]] = []
        self.closed: list[str] = []
        self.told: list[Event] = []
        self.sources: Registry[MailSource] = Registry(
            SOURCES, entries=(), memory=Kind(settings=Settings, open=self._source, facts=FACTS)
        )
        self.destinations: Registry[Destination] = Registry(
            DESTINATIONS, entries=(), memory=Kind(settings=Settings, open=self._destination)
        )

    def _source(self, options: MailboxOptions, settings: Settings, spool: Spool) -> MailSource:
        self.opened.append((options, settings))
        if options.password == Secret("wrong"):
            raise LoginRefused("the server refuses the password", remedy="correct it")
        return MemorySource(self.server, spool, self.fuse)

    def _destination(self, options: DestinationOptions, settings: Settings) -> Destination:
        self.opened.append((options, settings))
        if options.url == "nowhere":
            raise Permanent("there is no such place", remedy="make it")
        if options.url == "odd":
            raise ZeroDivisionError("hunter2")
        place = self.places.setdefault(options.url or "", MemoryDestination(options.url or "", self.fuse))
        place.close = lambda: self.closed.append(options.name)  # type: ignore[method-assign]
        return place

    def daemon(self, **others: Any) -> MailDaemon:
        return MailDaemon(
            self.store,
            **{
                "sources": self.sources,
                "destinations": self.destinations,
                "monitors": [self.told.append],
                "clock": lambda: self.now,
                **others,
            },
        )


@pytest.fixture
def house() -> House:
    return House()


def options(**others: Any) -> MailboxOptions:
    return MailboxOptions(
        **{
            "type": "memory",
            "mailbox": "in@our.example",
            "mail_archiving": MailArchiving(active=True, path_template="{subject}.eml"),
            "destinations": (DestinationOptions(type="memory", name="one", url="memory:one"),),
            **others,
        }
    )


def test_an_adopted_mailbox_is_swept_and_shown(house: House) -> None:
    house.server.plant(mail("invoice"))
    with house.daemon() as daemon:
        saved = daemon.adopt(ONE, options(name="office"))
        assert (saved.name, saved.version, saved.created) == ("office", 1, house.now)
        report = daemon.sweep_once(ONE)
        assert report.well
        assert report.counts.stored == 1
        assert list(house.places["memory:one"].visible) == ["invoice.eml"]
        (entry,) = daemon.entries(EntryQuery(outcome=Outcome.STORED)).entries
        assert entry.subject == "invoice"
        (info,) = daemon.infos()
        assert (info.name, info.address, info.report, info.held_by) == ("office", "in@our.example", report, None)
        assert info.next_due is not None
        assert timedelta(seconds=60) <= info.next_due - house.now <= timedelta(seconds=66)
        assert daemon.mailboxes() == {ONE: options(name="office")}
    assert house.closed == ["one"]


def test_options_that_cannot_be_used_are_refused_with_all_that_is_wrong(house: House) -> None:
    wrong = options(
        type="impa",
        destinations=(
            DestinationOptions(type="memory", name="one", options={"colour": "red"}),
            DestinationOptions(type="nfs", name="two", url="x"),
        ),
    )
    with house.daemon() as daemon, pytest.raises(InvalidOptions) as caught:
        daemon.adopt(ONE, wrong)
    paths = [problem.path for problem in caught.value.problems]
    assert "$.type" in paths
    assert "$.destinations[0].url" in paths
    assert "$.destinations[0].options.colour" in paths
    assert "$.destinations[1].type" in paths
    assert "installed: memory" in str(caught.value)
    assert not house.store.configurations()


def test_a_relative_folder_is_refused_with_its_place(tmp_path: Path) -> None:
    with MailDaemon(MemoryStore(lambda: datetime(2026, 6, 1, tzinfo=UTC))) as daemon:
        relative = MailboxOptions(
            mailbox="a@b.example",
            host="mail.b.example",
            password="hunter2",
            mail_archiving=MailArchiving(active=True),
            destinations=(DestinationOptions(url="mail"),),
        )
        with pytest.raises(InvalidOptions) as caught:
            daemon.adopt(ONE, relative)
        [problem] = caught.value.problems
        assert problem.path == "$.destinations[0].url"
        assert "such as /srv/mail" in problem.message
        here = (DestinationOptions(url=str(tmp_path)),)
        assert daemon.adopt(ONE, attrs.evolve(relative, destinations=here)).id == ONE


def test_a_kind_may_refuse_what_it_cannot_do(house: House) -> None:
    from maildaemon_core.errors import Problem

    picky: Kind[Settings, MailSource] = Kind(
        settings=Settings,
        open=house._source,
        facts=FACTS,
        problems=lambda options, settings: [Problem(path="$.port", message=f"no port for {settings.color}")],
    )
    daemon = house.daemon(sources=Registry(SOURCES, entries=(), memory=picky))
    with pytest.raises(InvalidOptions, match=r"no port for red @ \$\.port"):
        daemon.adopt(ONE, options(options={"color": "red"}))


def test_secrets_are_read_just_before_use_and_never_kept(house: House) -> None:
    def read(secret: Secret) -> Secret:
        assert secret == Secret("env:PASSWORD")
        return Secret("hunter2")

    daemon = house.daemon(read_secret=read)
    daemon.adopt(
        ONE,
        options(
            password=Secret("env:PASSWORD"),
            destinations=(
                DestinationOptions(type="memory", name="one", url="memory:one", password=Secret("env:PASSWORD")),
            ),
        ),
    )
    assert not house.opened
    daemon.sweep_once(ONE)
    assert [each.password for each, _ in house.opened] == [Secret("hunter2")] * 2
    assert "hunter2" not in repr(house.store.configurations())
    assert "env:PASSWORD" not in repr(house.store.configurations())
    assert "hunter2" not in repr((house.told, daemon.infos(), daemon.mailboxes()))


def test_a_kinds_own_settings_arrive_as_its_own_class(house: House) -> None:
    daemon = house.daemon()
    daemon.adopt(ONE, options(options={"color": "red"}))
    daemon.sweep_once(ONE)
    assert [settings for _, settings in house.opened] == [Settings(), Settings(color="red")]


def test_since_now_means_since_the_mailbox_was_first_adopted(house: House) -> None:
    house.server.plant(mail("old"), received=house.now - timedelta(hours=1))
    house.daemon().adopt(ONE, options(since="now"))
    house.now += timedelta(days=1)
    house.server.plant(mail("new"), received=house.now)
    daemon = house.daemon()  # another process, later
    daemon.adopt(ONE, options(since="now"))
    report = daemon.sweep_once(ONE)
    assert report.counts.seen == 1
    assert report.folders[0].older == 1


def test_a_mailbox_that_was_not_adopted_is_a_fault_of_the_caller(house: House) -> None:
    with pytest.raises(KeyError):
        house.daemon().sweep_once(ONE)


# -------------------------------------------------------------------------------------------------- what goes wrong


def test_a_refused_login_fails_the_sweep_and_is_shown_since_when(house: House) -> None:
    daemon = house.daemon()
    daemon.adopt(ONE, options(password=Secret("wrong")))
    began = house.now
    for _ in range(2):
        report = daemon.sweep_once(ONE)
        assert report.state is SweepState.FAILED
        assert report.trouble is not None
        assert (report.trouble.error, report.trouble.remedy) == ("LoginRefused", "correct it")
        house.now += timedelta(minutes=1)
    (info,) = daemon.infos()
    assert (info.failing_since, info.last_success) == (began, None)
    assert info.next_due is not None
    assert info.next_due > house.now + timedelta(seconds=60)  # it backs off
    assert house.closed == ["one", "one"]


@pytest.mark.parametrize(("url", "error"), [("nowhere", "Permanent"), ("odd", "InternalError")])
def test_a_destination_that_cannot_be_opened_fails_the_sweep_and_closes_the_others(
    house: House, url: str, error: str
) -> None:
    daemon = house.daemon()
    both = (
        DestinationOptions(type="memory", name="one", url="memory:one"),
        DestinationOptions(type="memory", name="two", url=url),
    )
    daemon.adopt(ONE, options(destinations=both))
    report = daemon.sweep_once(ONE)
    assert report.state is SweepState.FAILED
    assert report.trouble is not None
    assert report.trouble.error == error
    assert "hunter2" not in str(report)
    assert house.closed == ["one"]
    assert daemon.infos()[0].report == report
    assert [type(event) for event in house.told] == [SweepEnded]  # nobody has to guess


def test_one_bad_mailbox_does_not_stop_another(house: House) -> None:
    daemon = house.daemon()
    daemon.adopt(ONE, options(password=Secret("wrong"), mailbox="one@our.example"))
    daemon.adopt(TWO, options(mailbox="two@our.example"))
    house.server.plant(mail("invoice"))
    assert [daemon.sweep_once(each).state for each in (ONE, TWO)] == [SweepState.FAILED, SweepState.DONE]


def test_a_monitor_that_raises_changes_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("a fault of the monitor")

    house.server.plant(mail("invoice"))
    daemon = house.daemon(monitors=[broken, house.told.append])
    daemon.adopt(ONE, options(delete_mails_on_server=True))
    with caplog.at_level(logging.ERROR):
        report = daemon.sweep_once(ONE)
    assert report.well
    assert house.server.contents() == []
    assert house.told[-1] == SweepEnded(report=report)
    assert "a monitor failed at SweepEnded" in caplog.text


# ------------------------------------------------------------------------------------------------------------ leases


def test_while_another_worker_holds_the_mailbox_nothing_is_done(house: House) -> None:
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    lease = house.store.lease(ONE, 60, owner="farhost pid 7 boot/ns 99 abcd")
    assert lease is not None
    house.server.plant(mail("invoice"))
    report = daemon.sweep_once(ONE)
    assert report.state is SweepState.BUSY
    assert not report.well
    assert report.trouble is not None
    assert "by farhost pid 7 until 00:01:00 UTC" in report.trouble.message
    assert not house.opened
    with pytest.raises(LeaseLost, match="farhost pid 7"):
        daemon.retry_failed(ONE)
    lease.give_back(house.now)
    assert daemon.sweep_once(ONE).counts.stored == 1


def test_the_lease_of_a_worker_that_stopped_renewing_it_is_free_in_the_end(house: House) -> None:
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    house.store.lease(ONE, 60, owner="farhost pid 7 boot/ns 99 abcd")
    house.now += timedelta(seconds=61)
    assert daemon.sweep_once(ONE).well


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="told by /proc only")
def test_the_lease_of_a_dead_process_of_this_machine_is_taken_over_at_once(house: House) -> None:
    program = "from maildaemon_core.engine.holder import this_process; print(this_process())"
    owner = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
    assert house.store.lease(ONE, 3600, owner=owner)
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    assert daemon.sweep_once(ONE).well
    assert daemon.retry_failed(ONE) == 0


def test_a_lease_that_could_not_be_given_back_is_said_with_what_was_done_and_is_in_nobodys_way(house: House) -> None:
    house.server.plant(mail("invoice"))
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    house.fuse.arm(0, place="store.give_back", error=lambda _: StoreUnavailable("the store is away"))
    report = daemon.sweep_once(ONE)
    assert (report.state, report.counts.stored) == (SweepState.PAUSED, 1)
    assert report.trouble is not None
    assert report.trouble.message == "the store is away"
    other = house.daemon()
    other.adopt(ONE, options())
    assert other.sweep_once(ONE).state is SweepState.BUSY, "another one cannot know"
    house.fuse.arm(0, place="store.give_back", error=lambda _: StoreUnavailable("the store is away"))
    with pytest.raises(StoreUnavailable):
        daemon.retry_failed(ONE)
    assert daemon.sweep_once(ONE).well
    assert other.sweep_once(ONE).well


def test_a_lease_that_is_lost_in_the_middle_ends_the_sweep_and_hides_nothing_of_the_other_one(house: House) -> None:
    house.server.plant(mail("invoice"))
    first, second = house.daemon(), house.daemon()
    for daemon in (first, second):
        daemon.adopt(ONE, options(delete_mails_on_server=True))
    reports: list[SweepReport] = []

    def sleep(place: str) -> None:
        if place == "destination.stage":
            house.fuse.hook = None
            house.now += timedelta(seconds=120)
            reports.append(second.sweep_once(ONE))

    house.fuse.hook = sleep
    assert first.sweep_once(ONE).state is SweepState.LOST
    assert reports[0].state is SweepState.DONE
    assert first.infos()[0].report == reports[0]
    assert [path for path, _ in house.places["memory:one"].published] == ["invoice.eml"]


def test_a_late_sweep_that_cannot_give_back_its_lease_does_not_cost_another_thread_its_own(house: House) -> None:
    house.server.plant(mail("invoice"))
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    inside, go_on = Signal(), Signal()
    reports: list[Future[SweepReport]] = []

    def second(place: str) -> None:
        if place == "destination.stage":
            house.fuse.hook = None
            inside.set()
            assert go_on.wait(20)

    def first(place: str) -> None:
        if place == "destination.stage":
            house.fuse.hook = second
            house.now += timedelta(seconds=120)
            reports.append(thread.submit(daemon.sweep_once, ONE))
            assert inside.wait(20)
            house.fuse.arm(0, place="store.give_back", error=lambda _: StoreUnavailable("the store is away"))

    with ThreadPoolExecutor(1) as thread:
        house.fuse.hook = first
        try:
            assert daemon.sweep_once(ONE).state is SweepState.LOST
            assert not house.fuse.armed
            assert daemon.sweep_once(ONE).state is SweepState.BUSY
        finally:
            go_on.set()
        assert reports[0].result(20).state is SweepState.DONE
    assert [path for path, _ in house.places["memory:one"].published] == ["invoice.eml"]


def test_a_lease_is_renewed_while_a_sweep_takes_long(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from maildaemon_core.testing.memory_store import MemoryLease

    monkeypatch.setattr(leasing, "LEASE_SECONDS", 0.03)
    renewed = Signal()
    right = MemoryLease.renew

    def renew(lease: MemoryLease, seconds: float) -> None:
        right(lease, seconds)
        renewed.set()

    monkeypatch.setattr(MemoryLease, "renew", renew)
    house.fuse.hook = lambda place: None if place != "source.open" or renewed.wait(20) else pytest.fail("not renewed")
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    assert daemon.sweep_once(ONE).well
    assert renewed.is_set()


def test_a_crash_leaves_the_lease_and_the_next_worker_finishes(house: House) -> None:
    house.server.plant(mail("invoice"))
    daemon = house.daemon()
    daemon.adopt(ONE, options(delete_mails_on_server=True))
    house.fuse.arm(0, place="destination.published")
    with pytest.raises(Crash):
        daemon.sweep_once(ONE)
    assert daemon.infos()[0].held_by
    house.now += timedelta(seconds=120)
    assert daemon.sweep_once(ONE).counts.stored == 1
    assert len(house.places["memory:one"].published) == 1


# ------------------------------------------------------------------------------------------------------ having a go


def test_failed_mail_is_tried_again_when_a_person_says_so(house: House) -> None:
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    for number in range(3):
        house.server.plant(mail(f"mail {number}"))
    refused = Trouble(error="NameRefused", message="no such names", transient=False)
    place = house.places.setdefault("memory:one", MemoryDestination("memory:one", house.fuse))
    place.refuse = lambda path: refused
    assert daemon.sweep_once(ONE).counts.failed == 3
    place.refuse = lambda path: None
    assert daemon.sweep_once(ONE).counts.seen == 0
    assert daemon.retry_failed(ONE) == 3
    assert daemon.retry_failed(ONE) == 0
    assert daemon.sweep_once(ONE).counts.stored == 3


def test_a_retry_that_the_store_refuses_gives_the_lease_back(house: House) -> None:
    daemon = house.daemon()
    daemon.adopt(ONE, options())
    house.server.plant(mail("invoice"))
    house.server.unreadable.add(mail("invoice"))
    daemon.sweep_once(ONE)
    house.fuse.arm(0, place="store.record", error=lambda place: StoreUnavailable("disk full"))
    with pytest.raises(StoreUnavailable):
        daemon.retry_failed(ONE)
    assert house.store.holder(ONE) is None
    assert house.store.all()[0].stage is Stage.WAITING


def test_a_store_is_opened_by_the_scheme_of_its_url_with_its_own_settings(house: House) -> None:
    opened: list[tuple[str, StoreSettings]] = []

    def open_memory(url: str, settings: StoreSettings) -> Store:
        opened.append((url, settings))
        return house.store

    stores: Registry[Store] = Registry(STORES, entries=(), memory=Kind(settings=StoreSettings, open=open_memory))
    assert open_store("memory+fast://x", stores=stores) is house.store
    with MailDaemon.open(
        "memory:here", stores=stores, sources=house.sources, destinations=house.destinations
    ) as daemon:
        daemon.adopt(ONE, options())
    assert opened == [("memory+fast://x", StoreSettings()), ("memory:here", StoreSettings())]
    given = {"color": "red", "password": "env:DB"}
    open_store("memory:x", given, make=False, stores=stores, read_secret=lambda secret: Secret(f"read {secret.value}"))
    assert opened[-1][1] == StoreSettings(color="red", password=Secret("read env:DB"), make=False)
    with pytest.raises(InvalidOptions, match=r"\$\.colour"):
        open_store("memory:x", {"colour": "red"}, stores=stores)
    with pytest.raises(UnknownKind, match="no store named 'mysql'; installed: memory"):
        open_store("mysql://x", stores=stores)
    with pytest.raises(UnknownKind, match="not the URL of a store"):
        open_store("maildaemon.db", stores=stores)
