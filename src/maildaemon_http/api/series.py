"""The series of each mailbox at the moment of a scrape: what was counted for it, and how it is.

No label holds what grows without end; a mailbox that is gone has no series any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from math import inf
from typing import Final

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from maildaemon_core.engine.watched import Watched, is_dead
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import MailboxInfo, SweepState
from maildaemon_core.progress import Entry, Outcome, Stage
from maildaemon_http.findings import UnreadFolder, about_mailbox

PREFIX: Final = "maildaemon_"

OUTCOMES: Final = (Outcome.STORED, Outcome.SKIPPED, Outcome.FAILED)
"""What can be decided about a mail; how many are pending is told by the backlog."""

_LABELS: Final = ("mailbox", "id")


@attrs.frozen(kw_only=True)
class Snapshot:
    """How the mailboxes were at a moment; ``infos`` is None if the store did not tell.

    ``failed``: the newest mails that have failed; ``unread``: the folders that sweeps go past.
    """

    now: datetime
    infos: Sequence[MailboxInfo] | None
    watched: Sequence[Watched]
    last_tick: datetime | None
    failed: Sequence[Entry] = ()
    unread: Mapping[MailboxId, Sequence[UnreadFolder]] = attrs.field(factory=dict)


@attrs.define
class Tally:
    """What was counted for one mailbox since the process began; ``bytes`` were stored."""

    sweeps: Counter[SweepState] = attrs.field(factory=Counter)
    mails: Counter[Outcome] = attrs.field(factory=Counter)
    bytes: int = 0

    def copy(self) -> Tally:
        return Tally(sweeps=Counter(self.sweeps), mails=Counter(self.mails), bytes=self.bytes)


@attrs.frozen
class MailboxSeries:
    """A collector; ``names`` are the mailboxes that there are."""

    snapshot: Snapshot
    tallies: Mapping[MailboxId, Tally]
    names: Mapping[MailboxId, str]

    def collect(self) -> Iterator[Metric]:
        """Every series, those of one name together."""
        yield self._store()
        yield self._scheduler()
        yield from self._counted()
        yield from self._kept()
        yield from self._troubled()

    def _store(self) -> Metric:
        value = float(self.snapshot.infos is not None)
        return GaugeMetricFamily(f"{PREFIX}store_up", "Whether the store answers.", value)

    def _scheduler(self) -> Metric:
        last_tick = self.snapshot.last_tick
        value = float(last_tick is not None and not is_dead(last_tick, self.snapshot.now))
        return GaugeMetricFamily(f"{PREFIX}scheduler_up", "Whether the loop lives that begins the sweeps.", value)

    def _counted(self) -> Iterator[Metric]:
        sweeps = CounterMetricFamily(f"{PREFIX}sweeps", "Sweeps by how they ended.", labels=[*_LABELS, "state"])
        lost = CounterMetricFamily(
            f"{PREFIX}leases_lost", "Sweeps whose mailbox another worker took over.", labels=_LABELS
        )
        mails = CounterMetricFamily(
            f"{PREFIX}mails",
            "Mails by what was decided; a failed one once in each sweep.",
            labels=[*_LABELS, "outcome"],
        )
        stored = CounterMetricFamily(f"{PREFIX}stored_bytes", "Bytes of the files that were stored.", labels=_LABELS)
        for mailbox in self.names:
            tally, labels = self.tallies.get(mailbox) or Tally(), self._labels(mailbox)
            for state in SweepState:
                sweeps.add_metric([*labels, state.value], tally.sweeps[state])
            for outcome in OUTCOMES:
                mails.add_metric([*labels, outcome.value], tally.mails[outcome])
            lost.add_metric(labels, tally.sweeps[SweepState.LOST])
            stored.add_metric(labels, tally.bytes)
        yield from (sweeps, lost, mails, stored)

    def _kept(self) -> Iterator[Metric]:
        """What the store tells; ages are told of active mailboxes only, for nobody waits for the others."""
        active = GaugeMetricFamily(f"{PREFIX}mailbox_active", "Whether the mailbox is to be swept.", labels=_LABELS)
        backlog = GaugeMetricFamily(
            f"{PREFIX}backlog_mails", "Mails of which something is still to be done.", labels=_LABELS
        )
        age = GaugeMetricFamily(
            f"{PREFIX}last_success_age_seconds",
            "How long ago a sweep last went through; +Inf if none ever did.",
            labels=_LABELS,
        )
        failing = GaugeMetricFamily(
            f"{PREFIX}failing_seconds", "How long all sweeps have failed; 0 if the last one did not.", labels=_LABELS
        )
        due = GaugeMetricFamily(
            f"{PREFIX}next_sweep_seconds",
            "In how many seconds the next sweep is due; below 0 it is late.",
            labels=_LABELS,
        )
        for info in self.snapshot.infos or ():
            labels = self._labels(info.mailbox)
            active.add_metric(labels, float(info.active))
            backlog.add_metric(labels, sum(info.backlog.values()))
            if info.active:
                age.add_metric(labels, self._since(info.last_success) if info.last_success else inf)
                failing.add_metric(labels, self._since(info.failing_since) if info.failing_since else 0)
            if info.active and info.next_due:
                due.add_metric(labels, (info.next_due - self.snapshot.now).total_seconds())
        yield from (active, backlog, age, failing, due)

    def _troubled(self) -> Iterator[Metric]:
        if self.snapshot.infos is not None:
            yield self._failed()
        stuck = GaugeMetricFamily(
            f"{PREFIX}mailbox_stuck",
            "Whether the mailbox, or a folder of it, makes no progress though it should.",
            labels=_LABELS,
        )
        unread = GaugeMetricFamily(
            f"{PREFIX}unread_folders", "Folders that the last sweep could not read.", labels=_LABELS
        )
        waiting = GaugeMetricFamily(
            f"{PREFIX}mailbox_waiting", "Whether the server is to tell this process of new mail.", labels=_LABELS
        )
        for watched in self.snapshot.watched:
            if watched.mailbox in self.names:
                folders, labels = self.snapshot.unread.get(watched.mailbox, ()), self._labels(watched.mailbox)
                stuck.add_metric(labels, float(bool(about_mailbox(watched, folders, self.snapshot.now))))
                unread.add_metric(labels, len(folders))
                waiting.add_metric(labels, float(watched.waiting))
        yield from (stuck, unread, waiting)

    def _failed(self) -> Metric:
        """Those that are given up too, which no sweep counts any more."""
        failed = GaugeMetricFamily(
            f"{PREFIX}failed_mails",
            "Failed mails that nobody has dismissed, of the newest 500; state: retried, given up.",
            labels=[*_LABELS, "state"],
        )
        # Those without a trouble were in hand when a process was cut or died, and have not failed.
        troubled = [each for each in self.snapshot.failed if each.trouble is not None]
        numbers = Counter((each.mailbox, each.stage is Stage.GIVEN_UP) for each in troubled)
        for mailbox in self.names:
            for is_over, state in ((False, "retried"), (True, "given up")):
                failed.add_metric([*self._labels(mailbox), state], numbers[mailbox, is_over])
        return failed

    def _since(self, when: datetime) -> float:
        return max((self.snapshot.now - when).total_seconds(), 0)

    def _labels(self, mailbox: MailboxId) -> list[str]:
        name = self.names.get(mailbox, "")
        return [name.encode("utf-8", "replace").decode(), mailbox]
