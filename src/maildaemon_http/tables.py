"""What people see of sweeps, entries, findings and mailboxes: rows of tables, and below them what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from rich import box
from rich.table import Table
from rich.text import Text

from maildaemon_core.engine.holder import is_idle
from maildaemon_core.errors import Problem, Trouble
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import Counts, FolderReport, MailboxInfo, SweepReport, SweepState
from maildaemon_core.ports import Finding, Level
from maildaemon_core.progress import Entry, Stage
from maildaemon_http.terminal import text

_COLOURS = {
    SweepState.DONE: "green", SweepState.PAUSED: "yellow", SweepState.FAILED: "red",
    SweepState.BUSY: "yellow", SweepState.LOST: "yellow",
}  # fmt: skip
_LEVELS = {Level.FINE: ("fine", "green"), Level.WARNING: ("warning", "yellow"), Level.FAULT: ("FAULT", "red")}
_LONGEST = 120
"""Characters of a subject or a sender that are shown in a line."""
_BROKEN_OFF = Trouble(error="NotFinished", message="a sweep broke off while it was in hand", remedy="run again")


def sweeps_table(swept: Sequence[tuple[str, SweepReport]], inactive: Sequence[str]) -> Table:
    """A row for each folder: seen = stored + skipped + failed + pending; a last one for all if there are several."""
    older = any(folder.older for _, report in swept for folder in report.folders)
    table = _table("mailbox", "folder")
    for name in ("seen =", "stored", "+ skipped", "+ failed", "+ pending", *(("older",) if older else ()), "tidied"):
        table.add_column(name, justify="right")
    table.add_column("state")
    rows = 0
    for name, report in swept:
        for number, folder in enumerate(report.folders or (None,)):
            first = number == 0
            table.add_row(
                text(name if first else ""),
                text(folder.folder if folder else "-"),
                *_numbers(folder.counts if folder else Counts()),
                *([str(folder.older if folder else 0)] if older else []),
                str(report.tidied) if first else "",
                _state(report, folder) if first or (folder and folder.trouble) else "",
            )
            rows += 1
    for name in inactive:
        table.add_row(text(name), "-", *[""] * (7 if older else 6), text("inactive", "dim"))
    if rows > 1:
        table.add_section()
        counts = sum((report.counts for _, report in swept), Counts())
        all_older = sum(folder.older for _, report in swept for folder in report.folders)
        tidied = sum(report.tidied for _, report in swept)
        table.add_row("all", "", *_numbers(counts), *([str(all_older)] if older else []), str(tidied), "")
    return table


def _numbers(counts: Counts) -> tuple[str, ...]:
    return tuple(map(str, (counts.seen, counts.stored, counts.skipped, counts.failed, counts.pending)))


def _state(report: SweepReport, folder: FolderReport | None) -> Text:
    if folder is not None and folder.trouble and report.state is SweepState.DONE:
        return text("folder failed", "red")
    return text(report.state.value, _COLOURS[report.state])


def trouble_lines(swept: Sequence[tuple[str, SweepReport]]) -> Iterator[Text]:
    """What went wrong with mailboxes and folders, each with its remedy, and what was remarked."""
    for name, report in swept:
        if report.trouble:
            yield from _said(f"{name}: {report.state.value}", report.trouble)
        for folder in report.unwell_folders:
            if folder.trouble:
                yield from _said(f"{name}, folder {folder.folder}", folder.trouble)
        for remark in report.remarks:
            yield text(f"{name}: {remark}")


def failed_lines(failed: Sequence[tuple[str, Entry]]) -> Iterator[Text]:
    """Failed mails with the names of their mailboxes: what went wrong is said once for all that share it."""
    for trouble, those in _by_trouble([entry for _, entry in failed]).items():
        yield text("")
        yield from _said("failed mail" if len(those) == 1 else "failed mails", trouble)
        for name, entry in failed:
            if any(entry is one for one in those):
                where = f"{name}, folder {entry.ref.folder}"
                what = f"{_short(entry.subject) or '(no subject)'}, from {_sender(entry)}"
                yield text(f"    {where}: {what}; next try: {next_try(entry)}")


def _by_trouble(entries: Sequence[Entry]) -> Mapping[Trouble, Sequence[Entry]]:
    groups: dict[Trouble, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.trouble or _BROKEN_OFF, []).append(entry)
    return groups


def _said(where: str, trouble: Trouble) -> Iterator[Text]:
    yield text(f"{where}", "bold")
    yield text(f"    {trouble.error}: {trouble.message}", "red")
    if trouble.remedy:
        yield text(f"    what to do: {trouble.remedy}")


def problem_lines(problems: Sequence[Problem]) -> Iterator[Text]:
    for problem in problems:
        yield Text.assemble(text(f"  {problem.path}: ", "bold"), text(problem.message))


def finding_lines(findings: Sequence[Finding]) -> Iterator[Text]:
    """A line for each finding, and one more with what to do about it unless it is fine."""
    for finding in findings:
        word, colour = _LEVELS[finding.level]
        yield Text.assemble(text(f"  {word:8}", colour), text(f"{finding.subject}: {finding.message}"))
        if finding.remedy and finding.level is not Level.FINE:
            yield text(f"          what to do: {finding.remedy}")


def failed_table(entries: Sequence[Entry], names: Mapping[MailboxId, str]) -> Table:
    table = _table("id", "mailbox", "folder", "received", "from", "subject", "attempts", "next try")
    for entry in entries:
        table.add_row(*_common(entry, names), str(entry.attempts), next_try(entry))
    return table


def failure_lines(entries: Sequence[Entry]) -> Iterator[Text]:
    """What goes below the table of failed mails: what went wrong with which, and what to do about it."""
    for trouble, those in _by_trouble(entries).items():
        yield from _said(", ".join(str(entry.id) for entry in those), trouble)


def successful_table(entries: Sequence[Entry], names: Mapping[MailboxId, str]) -> Table:
    table = _table("id", "mailbox", "folder", "received", "from", "subject", "files")
    for entry in entries:
        files = Text("\n").join(text(f"{one.path} ({one.size} bytes, at {one.destination})") for one in entry.artifacts)
        table.add_row(*_common(entry, names), files)
    return table


def _common(entry: Entry, names: Mapping[MailboxId, str]) -> tuple[str | Text, ...]:
    return (
        f"{entry.id} dismissed" if entry.dismissed else str(entry.id),
        text(names.get(entry.mailbox, entry.mailbox)),
        text(entry.ref.folder),
        moment(entry.received),
        text(_sender(entry)),
        text(_short(entry.subject)),
    )


def mailboxes_table(infos: Sequence[tuple[MailboxInfo, bool]]) -> Table:
    """How each mailbox is; the second of a pair says whether the configuration file has it."""
    table = _table("mailbox", "state", "last sweep")
    for name in ("seen =", "stored", "+ skipped", "+ failed", "+ pending", "backlog"):
        table.add_column(name, justify="right")
    for name in ("last success", "failing since"):
        table.add_column(name)
    for info, configured in infos:
        report = info.report
        table.add_row(
            text(info.name),
            _mailbox_state(info, configured=configured),
            moment(report.ended) if report else "never",
            *(_numbers(report.counts) if report else [""] * 5),
            str(sum(info.backlog.values())),
            moment(info.last_success),
            moment(info.failing_since),
        )
    return table


def _mailbox_state(info: MailboxInfo, *, configured: bool) -> Text:
    if not configured:
        return text("not in this file", "dim")
    if not info.active:
        return text("inactive", "dim")
    if info.held_by and not is_idle(info.held_by):
        return text("being swept", "yellow")
    return text(info.report.state.value, _COLOURS[info.report.state]) if info.report else text("never swept", "dim")


def next_try(entry: Entry) -> str:
    if entry.due_at is not None:
        return moment(entry.due_at)
    return "never by itself: it may have been delivered" if entry.stage is Stage.UNCONFIRMED else "given up"


def moment(when: datetime | None) -> str:
    """UTC to the second, and said to be."""
    return "-" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _sender(entry: Entry) -> str:
    return _short(entry.sender) or "(unreadable sender)"


def _short(words: str) -> str:
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
