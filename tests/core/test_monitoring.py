"""What people see: counts that add up by construction, and answers that hold exactly what was asked for."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.errors import Trouble
from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.monitoring import Counts, EntryQuery, FolderReport, SweepReport, SweepState
from maildaemon_core.progress import Outcome, Stage
from maildaemon_core.testing.entry_strategies import entries, sweep_reports
from tests.core.entries import BOX, NOW, THEN, entry, ref

TROUBLE = Trouble(error="Odd", message="it is odd")


@given(st.lists(st.sampled_from(Outcome)), st.lists(st.sampled_from(Outcome)))
def test_counts_add_up_and_can_be_added_up(one: list[Outcome], other: list[Outcome]) -> None:
    counts = Counts.of(one)
    assert counts.seen == len(one) == counts.stored + counts.skipped + counts.failed + counts.pending
    number = Counter(one)
    assert counts == Counts(**{outcome.value: number[outcome] for outcome in Outcome})
    assert counts + Counts.of(other) == Counts.of(one + other)


@given(sweep_reports(BOX))
def test_a_report_counts_what_its_folders_count(report: SweepReport) -> None:
    assert report.counts.seen == sum(folder.counts.seen for folder in report.folders)


def report(**fields: Any) -> SweepReport:
    return attrs.evolve(SweepReport(mailbox=BOX, state=SweepState.DONE, started=NOW, ended=NOW), **fields)


def folder(**fields: Any) -> tuple[FolderReport, ...]:
    return (attrs.evolve(FolderReport(folder=FolderRef("INBOX")), **fields),)


def test_well_is_a_sweep_in_which_nothing_failed_at_all() -> None:
    assert report().well
    assert report(folders=folder(counts=Counts(stored=3, skipped=2, pending=1))).well


@pytest.mark.parametrize(
    "unwell",
    [
        report(state=SweepState.PAUSED),
        report(state=SweepState.FAILED),
        report(state=SweepState.BUSY),
        report(state=SweepState.LOST),
        report(trouble=TROUBLE),
        report(folders=folder(counts=Counts(failed=1))),
        report(folders=folder(trouble=TROUBLE)),
    ],
)
def test_anything_else_is_not(unwell: SweepReport) -> None:
    assert not unwell.well


def test_a_query_takes_everything_of_its_outcome_by_default() -> None:
    assert EntryQuery(outcome=Outcome.STORED).matches(entry(stage=Stage.SETTLED))
    assert not EntryQuery(outcome=Outcome.FAILED).matches(entry(stage=Stage.SETTLED))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"mailbox": BOX}, {"mailbox": MailboxId("another")}),
        ({"folder": FolderRef("Invoices")}, {"folder": FolderRef("INBOX")}),
        ({"sender": "FIRM.example"}, {"sender": "other.example"}),
        ({"subject": "STRASSE"}, {"subject": "strase"}),
        ({"received_from": THEN}, {"received_from": THEN + timedelta(seconds=1)}),
        ({"received_to": THEN + timedelta(seconds=1)}, {"received_to": THEN}),
        ({"error": "Odd"}, {"error": "odd"}),
    ],
)
def test_each_filter_takes_what_it_names_and_nothing_else(right: dict[str, Any], wrong: dict[str, Any]) -> None:
    failed = entry("Hauptstraße 3", ref=ref(folder="Invoices"), stage=Stage.GIVEN_UP, trouble=TROUBLE)
    query = EntryQuery(outcome=Outcome.FAILED)
    assert attrs.evolve(query, **right).matches(failed)
    assert not attrs.evolve(query, **wrong).matches(failed)
    assert not attrs.evolve(query, error="Odd").matches(attrs.evolve(failed, trouble=None))


@given(entries(BOX))
def test_every_entry_is_found_under_exactly_one_outcome(one: object) -> None:
    assert sum(EntryQuery(outcome=outcome).matches(one) for outcome in Outcome) == 1  # type: ignore[arg-type]
