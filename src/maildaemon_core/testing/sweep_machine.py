"""A state machine over the whole way of a mail, on memory twins.

Mails arrive, vanish and are renumbered; a consumer takes each file as soon as it sees it; somebody else's file is in
the way; sweeps crash or falter at any place; a worker sleeps through its lease while another one works; options change;
a person dismisses failures, or has them tried again.
Then comes calm.  It asks: nothing lost, nothing doubled, nothing tidied before it is stored, all comes to rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from maildaemon_core.engine.marking import Marking
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.engine.sweep import Bounds, Sweep
from maildaemon_core.engine.targets import Target, Targets
from maildaemon_core.errors import (
    DestinationUnavailable,
    LeaseLost,
    SourceUnavailable,
    SpoolFull,
    StoreUnavailable,
    Trouble,
)
from maildaemon_core.message import MailboxId, MessageRef
from maildaemon_core.monitoring import EntryQuery, SweepReport, SweepState
from maildaemon_core.options import DestinationOptions, MailArchiving, MailboxOptions
from maildaemon_core.plan import DONE
from maildaemon_core.progress import STEPS, Again, Entry, Outcome, Stage, advance
from maildaemon_core.schedule import LONGEST_WAIT
from maildaemon_core.store_port import Configuration, Store
from maildaemon_core.testing.faults import PLACES, Crash, Fuse
from maildaemon_core.testing.inline import Inline
from maildaemon_core.testing.memory_destination import MemoryDestination
from maildaemon_core.testing.memory_source import EPOCH, INBOX, MemoryServer, MemorySource
from maildaemon_core.testing.memory_store import MemoryStore

MAILBOX = MailboxId("00000000-0000-0000-0000-000000000001")
LEASE_SECONDS = 60.0
TEMPLATES = ("{subject}.eml", "{received:%Y/%m}/{subject}.eml", "{key}.eml")
WHERE = st.sampled_from(PLACES) | st.sampled_from(("store.admit", "destination.publish", "store.record"))
"""Any place, and more often those between which most can go wrong."""

ERRORS = {
    "source": lambda place: SourceUnavailable(f"the connection broke at {place}"),
    "destination": lambda place: DestinationUnavailable(f"the share vanished at {place}"),
    "store": lambda place: StoreUnavailable(f"the database went away at {place}"),
    "spool": lambda place: SpoolFull(f"no room at {place}"),
}


@attrs.define
class Planted:
    """What the world knows of a mail: how many copies arrived, and how many of them another client removed."""

    wanted: bool
    copies: int = 0
    removed: int = 0


class SweepMachine(RuleBasedStateMachine):
    """``calm_rounds`` sweeps, each after the longest back-off, must bring everything to rest."""

    calm_rounds = 6

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 6, 1, tzinfo=UTC)
        self.fuse = Fuse()
        self.server = MemoryServer()
        self.store = self.open_store()
        self.store.save(Configuration(id=MAILBOX, name="machine", document={}))
        self.one = MemoryDestination("memory:one", self.fuse)
        self.two = MemoryDestination("memory:two", self.fuse)
        self.planted: dict[bytes, Planted] = {}
        self.refs: dict[MessageRef, bytes] = {}
        self.foreign: list[tuple[MemoryDestination, str]] = []
        self.template = TEMPLATES[0]
        self.delete = True
        self.marker = False
        self.turned = False
        self.workers = 0
        self.number = 0
        self.doubt = False

    def open_store(self) -> Store:
        """The store to be worked with; its clock is ``self.now``.  Another one may be put in its place."""
        return MemoryStore(lambda: self.now, self.fuse)

    # ------------------------------------------------------------------------------------------------- the world

    @initialize(
        both=st.booleans(), delete=st.booleans(), consumer=st.booleans(), small=st.booleans(), marker=st.booleans()
    )
    def begin(self, both: bool, delete: bool, consumer: bool, small: bool, marker: bool) -> None:
        self.marker = marker
        self.places = [self.one, self.two] if both else [self.one]
        self.delete = delete
        self.bounds = Bounds(mails=2, bytes=1000) if small else Bounds()
        if consumer:
            for place in self.places:
                place.consumer = _taker(place)

    @rule(subject=st.sampled_from(["invoice", "order"]), message_id=st.sampled_from("ab"), wanted=st.booleans())
    def mail_arrives(self, subject: str, message_id: str, wanted: bool) -> None:
        """Subjects and Message-IDs repeat, and several arrive at one time; bodies and dates do not repeat."""
        self.number += 1
        sender = "jane@firm.example" if wanted or self.number % 3 else "x@evil-firm.example"
        raw = (
            f"From: {sender}\r\nTo: in@our.example\r\nSubject: {subject}\r\nMessage-ID: <{message_id}@firm.example>\r\n"
            f"Date: {self.number}\r\n\r\nbody {self.number}\r\n"
        ).encode()
        received = EPOCH + timedelta(days=7, minutes=self.number // 3)
        self._plant(raw, wanted=sender.endswith("@firm.example"), received=received)

    @precondition(lambda self: self.planted)
    @rule(data=st.data())
    def the_same_mail_arrives_once_more(self, data: st.DataObject) -> None:
        raw = data.draw(st.sampled_from(sorted(self.planted)))
        self._plant(raw, wanted=self.planted[raw].wanted)

    @precondition(lambda self: self._on_server())
    @rule(data=st.data())
    def another_client_removes_a_mail(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(sorted(self._on_server())))
        self.planted[self._on_server()[ref]].removed += 1
        self.server.remove(ref)

    @rule(reverse=st.booleans())
    def the_folder_is_renumbered(self, reverse: bool) -> None:
        self.server.renumber(reverse=reverse)

    @rule(reverse=st.booleans())
    def the_folder_is_renumbered_and_its_times_are_lost(self, reverse: bool) -> None:
        """Now nobody can tell a mail from a later copy of it."""
        self.doubt = True
        self.server.renumber(reverse=reverse, new_times=True)

    @rule(same=st.booleans(), dates=st.booleans())
    def the_folder_is_empty_for_a_sweep_and_comes_back(self, same: bool, dates: bool) -> None:
        """A share that is not mounted, a restored backup: under the numbers it had, or others that were used before."""
        folder = self.server.folders[INBOX]
        mails, uidvalidity, next_uid = dict(folder.mails), folder.uidvalidity, folder.next_uid
        folder.mails, folder.uidvalidity, folder.next_uid = {}, self.server.next_uidvalidity(), 1
        self._sweep()
        folder.mails, folder.next_uid = mails, next_uid
        if same:
            folder.uidvalidity = uidvalidity
        else:
            self.doubt = self.doubt or dates
            self.server.renumber(new_times=dates)

    @rule(path=st.sampled_from(["invoice.eml", "order.eml", "2026/01/invoice.eml"]), first=st.booleans())
    def somebody_else_puts_a_file_there(self, path: str, first: bool) -> None:
        place = self.places[0 if first else -1]
        if path not in place.visible:
            place.visible[path] = b"not ours"
            self.foreign.append((place, path))

    @rule(template=st.sampled_from(TEMPLATES))
    def the_template_changes(self, template: str) -> None:
        self.template = template

    @rule(marker=st.booleans())
    def markers_are_turned(self, marker: bool) -> None:
        self.turned = self.turned or marker is not self.marker
        self.marker = marker

    @rule(delete=st.booleans())
    def deletion_is_turned(self, delete: bool) -> None:
        self.delete = delete

    # --------------------------------------------------------------------------------------------------- sweeping

    @rule()
    def sweep(self) -> None:
        self._sweep()

    @rule(after=st.integers(0, 40))
    def sweep_and_crash(self, after: int) -> None:
        self.fuse.arm(after)
        self._sweep()

    @rule(after=st.integers(0, 3), place=WHERE)
    def sweep_and_crash_there(self, after: int, place: str) -> None:
        self.fuse.arm(after, place=place)
        self._sweep()

    @rule(after=st.integers(0, 3), place=WHERE)
    def sweep_and_falter(self, after: int, place: str) -> None:
        self.fuse.arm(after, place=place, error=ERRORS[place.partition(".")[0]])
        self._sweep()

    @rule(full=st.booleans())
    def sweep_while_a_destination_is_out_of_order(self, full: bool) -> None:
        place = self.places[-1]
        place.full, place.down = full, not full
        self._sweep()
        place.full = place.down = False

    @rule(path=st.sampled_from(["invoice", "order"]))
    def sweep_while_some_files_are_refused(self, path: str) -> None:
        refused = Trouble(error="DestinationRefused", message="a virus, it says")
        self.places[0].refuse = lambda at: refused if path in at else None
        self._sweep()
        self.places[0].refuse = lambda at: None

    @precondition(lambda self: self.planted)
    @rule(data=st.data(), breaks=st.booleans())
    def sweep_while_a_mail_cannot_be_read(self, data: st.DataObject, breaks: bool) -> None:
        bad = self.server.poison if breaks else self.server.unreadable
        bad.add(data.draw(st.sampled_from(sorted(self.planted))))
        self._sweep()
        bad.clear()

    @rule(after=st.integers(0, 30), crash=st.booleans())
    def sleep_through_the_lease(self, after: int, crash: bool) -> None:
        """While one worker sleeps, another takes the mailbox over; then the first one goes on, none the wiser."""
        ticks = 0

        def hook(_place: str) -> None:
            nonlocal ticks
            ticks += 1
            if ticks == after + 1:
                self.fuse.hook = None
                self.now += timedelta(seconds=2 * LEASE_SECONDS)
                if crash:
                    self.fuse.arm(after % 7)
                self._sweep()

        self.fuse.hook = hook
        self._sweep()
        self.fuse.hook = None

    @precondition(lambda self: self._failed())
    @rule(data=st.data())
    def a_person_dismisses_a_failure(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from([entry.id for entry in self._failed()]))
        assert number is not None
        entry = self.store.dismiss(number)
        assert entry is not None
        assert entry.dismissed, "what failed can be dismissed"

    @rule(after=st.integers(0, 1))
    def failures_are_dismissed_of_which_something_is_published(self, after: int) -> None:
        """They failed before; now their destination goes away as they become visible, and its answers with it."""
        refused = Trouble(error="DestinationRefused", message="a virus, it says")
        self.places[0].refuse = lambda at: refused
        self._sweep()
        self.places[0].refuse = lambda at: None
        self.now += LONGEST_WAIT
        self.fuse.arm(after, place="destination.published", error=ERRORS["destination"])
        self._sweep()
        for entry in self._failed():
            assert entry.id is not None
            self.store.dismiss(entry.id)

    @rule()
    def a_person_has_everything_tried_again(self) -> None:
        """But for what may have been delivered: whoever has that tried again has looked whether it was."""
        try:
            lease = self.store.lease(MAILBOX, LEASE_SECONDS, owner="a person")
        except (Crash, StoreUnavailable):
            return
        if lease is None:
            return
        again = [
            advance(entry, Again(), self.now)
            for entry in self._failed(dismissed=True)
            if Again in STEPS[entry.stage] and entry.stage is not Stage.UNCONFIRMED
        ]
        lease.record(again)
        lease.give_back(self.now)

    @rule(minutes=st.integers(1, 300))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    # -------------------------------------------------------------------------------------------------- what holds

    @invariant()
    def what_is_visible_is_whole(self) -> None:
        for place in (self.one, self.two):
            for path, data in _mails(place):
                assert data in self.planted, f"{path} holds something that never arrived: {data!r}"

    @invariant()
    def nothing_unwanted_is_delivered(self) -> None:
        for place in (self.one, self.two):
            for path, data in _mails(place):
                assert self.planted[data].wanted, f"{path} was not wanted"

    @invariant()
    def nothing_is_delivered_twice(self) -> None:
        for place in (self.one, self.two):
            for data, number in Counter(data for _, data in _mails(place)).items():
                mail = self.planted[data]
                assert number <= mail.copies or self.doubt, f"delivered {number} times: {data!r}"

    @invariant()
    def no_two_mails_share_a_path(self) -> None:
        for place in (self.one, self.two):
            for path, number in Counter(path for path, _ in place.published).items():
                assert number == 1, f"{path} was used {number} times"

    @invariant()
    def what_is_announced_is_there_already(self) -> None:
        for place in (self.one, self.two):
            seen: set[str] = set()
            for path, data in place.published:
                if path.endswith(DONE):
                    assert not data, f"{path} is not empty"
                    assert path.removesuffix(DONE) in seen, f"{path} came before what it announces"
                seen.add(path)

    @invariant()
    def nothing_is_overwritten(self) -> None:
        for place, path in self.foreign:
            assert place.visible[path] == b"not ours", f"{path} was overwritten"

    @invariant()
    def nothing_is_tidied_before_it_is_stored(self) -> None:
        present = Counter(self.server.contents())
        for raw, mail in self.planted.items():
            tidied = mail.copies - mail.removed - present[raw]
            for place in getattr(self, "places", ()):
                stored = sum(data == raw for _, data in _mails(place))
                assert tidied <= stored or (mail.copies > 1 and self.doubt), (
                    f"{tidied} deleted and {stored} stored of {raw!r}"
                )

    def teardown(self) -> None:
        """Then comes calm: everything works, and all comes to rest."""
        if not hasattr(self, "places"):
            return
        self.fuse.disarm()
        self._nothing_is_tried_again_by_itself()
        self.a_person_has_everything_tried_again()
        report = None
        for _ in range(self.calm_rounds):
            self.now += 2 * LONGEST_WAIT
            report = self._sweep()
        assert report is not None
        assert report.state is SweepState.DONE, report
        assert not report.counts.pending, report
        assert not any(self.store.infos()[0].backlog.values()), self.store.infos()
        failed = self._failed(dismissed=True)
        assert not failed, failed
        for raw, mail in self.planted.items():
            for place in self.places:
                stored = sum(data == raw for _, data in _mails(place))
                if mail.wanted and (mail.copies == 1 or not self.doubt):
                    assert stored >= mail.copies - mail.removed, f"lost: {raw!r}"
        self.what_was_to_be_announced_is()
        for place in self.places:
            assert not place.staging, f"left behind: {place.staging}"
        self.what_is_visible_is_whole()
        self.nothing_is_delivered_twice()
        self.no_two_mails_share_a_path()
        self.nothing_is_tidied_before_it_is_stored()

    def what_was_to_be_announced_is(self) -> None:
        """Each file has its marker, if all were stored since markers are turned on for good."""
        for place in self.places if self.marker and not self.turned else ():
            paths = {path for path, _ in place.published}
            missing = {path for path, _ in _mails(place) if path + DONE not in paths}
            assert not missing, f"nobody is told of {missing}"

    # -------------------------------------------------------------------------------------------------------- parts

    def _plant(self, raw: bytes, *, wanted: bool, received: datetime | None = None) -> None:
        ref = self.server.plant(raw, received=received)
        mail = self.planted.setdefault(raw, Planted(wanted=wanted))
        mail.copies += 1
        self.refs[ref] = raw

    def _nothing_is_tried_again_by_itself(self) -> None:
        """What is dismissed comes to rest as it is, unless it was staged and turns out to have been delivered."""
        dismissed = [entry for entry in self._failed(dismissed=True) if entry.dismissed]
        self.now += 2 * LONGEST_WAIT
        self._sweep()
        failed = {entry.id: entry for entry in self._failed(dismissed=True)}
        for entry in dismissed:
            now = failed.get(entry.id)
            assert now is not None or entry.stage is Stage.PLANNED, f"dismissed, and tried again: {entry}"
            assert now is None or not now.open, f"dismissed, and still to be tried again: {now}"

    def _failed(self, *, dismissed: bool = False) -> Sequence[Entry]:
        query = EntryQuery(outcome=Outcome.FAILED, dismissed=dismissed, limit=1000)
        return self.store.entries(query).entries

    def _on_server(self) -> dict[MessageRef, bytes]:
        return {
            MessageRef(folder, str(box.uidvalidity), str(uid)): mail.raw
            for folder, box in self.server.folders.items()
            for uid, mail in box.mails.items()
        }

    def _options(self) -> MailboxOptions:
        return MailboxOptions(
            mailbox="in@our.example",
            host="memory",
            mail_archiving=MailArchiving(active=True, path_template=self.template),
            allowed_email_extensions=("firm.example",),
            delete_mails_on_server=self.delete,
            destinations=tuple(
                DestinationOptions(name=place.place, url=place.place, done_marker=self.marker) for place in self.places
            ),
        )

    def _sweep(self) -> SweepReport | None:
        """One worker's sweep; None if it crashed, or the mailbox was held by another one."""
        self.workers += 1
        options = self._options()
        try:
            lease = self.store.lease(MAILBOX, LEASE_SECONDS, owner=f"worker {self.workers}")
        except (Crash, StoreUnavailable):
            self.now += timedelta(seconds=2 * LEASE_SECONDS)
            return None
        if lease is None:
            return None
        targets = [
            Target(destination, Marking(place))
            for destination, place in zip(options.destinations, self.places, strict=True)
        ]
        sweep = Sweep(
            lease,
            options,
            Targets(targets, Inline()),
            lambda: MemorySource(self.server, FolderSpool(), self.fuse),
            lane=Inline(),
            clock=lambda: self.now,
            tell=lambda event: None,
            nonce="ours",
            bounds=self.bounds,
        )
        try:
            report = sweep.run()
            if report.state is not SweepState.LOST:
                lease.give_back(self.now, report)
        except Crash:
            self.now += timedelta(seconds=2 * LEASE_SECONDS)  # nobody gives the lease back
            return None
        except (StoreUnavailable, LeaseLost):
            self.now += timedelta(seconds=2 * LEASE_SECONDS)
            return None
        finally:
            self.fuse.disarm()
        return report


def _mails(place: MemoryDestination) -> Sequence[tuple[str, bytes]]:
    """What became visible there, without the markers."""
    return [(path, data) for path, data in place.published if not path.endswith(DONE)]


def _taker(place: MemoryDestination) -> Callable[[str], None]:
    def take(path: str) -> None:
        place.take(path)

    return take
