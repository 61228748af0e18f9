"""How the commands speak to people: results on stdout, everything else on stderr, nothing of it interpreted."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any, TextIO

import attrs
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from maildaemon_core.errors import Permanent
from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import EntriesRecorded, Event, MailsFound, Remarked, SweepEnded, SweepStarted
from maildaemon_core.ports import Monitor
from maildaemon_core.progress import EntryId, Outcome
from maildaemon_http.printable import json_text, printable

WIDE = 1000
"""Columns of what is no terminal: a program that reads along wants whole lines."""

SECONDS_BETWEEN_LINES = 10.0
"""How often a sweep says how far it is where no bar can be shown."""


def text(words: str, style: str = "") -> Text:
    """Words of anybody as something that rich shows and does not interpret."""
    return Text(printable(words), style)


class StdoutUnwritable(Permanent):
    """Results could not be written; ``reason`` as the system gives it (a full disk).  A closed pipe is no such case."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"stdout cannot be written: {reason}", remedy="make room, or send it elsewhere, and try again")
        self.reason = reason


@contextmanager
def writing_to_stdout() -> Iterator[None]:
    """Raises ``StdoutUnwritable`` for what the system says about it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StdoutUnwritable(error.strerror or str(error)) from error


@attrs.frozen(kw_only=True)
class Terminal:
    """``json``: results are one JSON document; else tables and lines."""

    json: bool = False
    out: Console
    err: Console

    @classmethod
    def of(cls, *, json: bool = False) -> Terminal:
        """On this process's stdout and stderr."""
        return cls(json=json, out=_console(sys.stdout), err=_console(sys.stderr))

    def show(self, *results: RenderableType) -> None:
        """Results for people; without effect when they are to be JSON.  Raises ``StdoutUnwritable``."""
        if self.json:
            return
        with writing_to_stdout():
            for result in results:
                if isinstance(result, Table) and _breaks(result, self.out):
                    for each in _stacked(result, self.out.width):
                        self.out.print(each, soft_wrap=True)
                else:
                    self.out.print(result, soft_wrap=isinstance(result, Text))

    def line(self, words: str = "", style: str = "") -> None:
        """One line of a result for people."""
        self.show(text(words, style))

    def note(self, words: str, style: str = "") -> None:
        """What is no result: on stderr, whatever the results look like."""
        self.err.print(text(words, style), soft_wrap=True)

    def document(self, document: Any) -> None:
        """Results for programs; without effect when they are for people.  Raises ``StdoutUnwritable``."""
        if not self.json:
            return
        with writing_to_stdout():
            self.out.file.write(json_text(document) + "\n")
            self.out.file.flush()


def _breaks(table: Table, console: Console) -> bool:
    """Whether a table would have to break words or hide figures to fit on this terminal."""
    unlimited = console.options.update(width=100 * WIDE)
    return Measurement.get(console, unlimited, table).maximum > console.width


def _stacked(table: Table, width: int) -> Iterator[Text]:
    """A table as lines: the first cell of each row, and below it the others with the names of their columns."""
    names = [_as_text(column.header).plain for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        first, *others = map(_as_text, row)
        if first.plain:
            yield Text.assemble(first, style="bold")
        line = Text("  ")
        for name, value in zip(names[1:], others, strict=True):
            if not value.plain:
                continue
            cell = Text.assemble((f"{name} ", "dim"), value)
            if line.plain.strip() and len(line) + 3 + cell.cell_len > width:
                yield line
                line = Text("  ")
            line = Text.assemble(line, "   " if line.plain.strip() else "", cell)
        if line.plain.strip():
            yield line


def _as_text(cell: RenderableType) -> Text:
    return Text(", ").join(cell.split("\n")) if isinstance(cell, Text) else Text(str(cell))


def _console(file: TextIO) -> Console:
    terminal = file.isatty()
    return Console(
        file=file, markup=False, highlight=False, emoji=False, width=None if terminal else WIDE, legacy_windows=False
    )


# ----------------------------------------------------------------------------------------------------------- progress


@contextmanager
def showing_progress(terminal: Terminal, names: Mapping[MailboxId, str]) -> Iterator[Monitor]:
    """A monitor that shows how far the sweeps are: a bar each on a terminal, a line now and then elsewhere."""
    if terminal.err.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("mails"),
        )
        with Progress(*columns, console=terminal.err, transient=True) as progress:
            yield _Bars(progress, names)
    elif terminal.json:
        yield lambda event: None
    else:
        yield _Lines(terminal, names)


class _Tally:
    """How many mails of each mailbox are known and how many of these are done."""

    def __init__(self) -> None:
        self._known: dict[MailboxId, set[EntryId | None]] = {}
        self._done: dict[MailboxId, set[EntryId | None]] = {}

    def count(self, event: EntriesRecorded) -> tuple[int, int]:
        known = self._known.setdefault(event.mailbox, set())
        done = self._done.setdefault(event.mailbox, set())
        for entry in event.entries:
            known.add(entry.id)
            (done.discard if entry.outcome is Outcome.PENDING else done.add)(entry.id)
        return len(done), len(known)


class _Bars:
    def __init__(self, progress: Progress, names: Mapping[MailboxId, str]) -> None:
        self._progress = progress
        self._names = names
        self._tasks: dict[MailboxId, TaskID] = {}
        self._tally = _Tally()
        self._lock = Lock()

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            match event:
                case SweepStarted(mailbox=mailbox):
                    name = printable(self._names.get(mailbox, mailbox))
                    self._tasks[mailbox] = self._progress.add_task(name, total=None)
                case EntriesRecorded(mailbox=mailbox) if mailbox in self._tasks:
                    done, known = self._tally.count(event)
                    self._progress.update(self._tasks[mailbox], completed=done, total=known)
                case SweepEnded(report=report) if report.mailbox in self._tasks:
                    self._progress.remove_task(self._tasks.pop(report.mailbox))


class _Lines:
    def __init__(self, terminal: Terminal, names: Mapping[MailboxId, str]) -> None:
        self._terminal = terminal
        self._names = names
        self._tally = _Tally()
        self._spoken: dict[MailboxId, float] = {}
        self._lock = Lock()

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            match event:
                case SweepStarted(mailbox=mailbox):
                    self._spoken[mailbox] = time.monotonic()
                    self._say(mailbox, "looking for mail")
                case MailsFound(mailbox=mailbox, folder=folder, number=number):
                    self._say(mailbox, f"{number} new {'mail' if number == 1 else 'mails'} in {folder}")
                case Remarked(mailbox=mailbox, remark=remark):
                    self._say(mailbox, remark)
                case EntriesRecorded(mailbox=mailbox):
                    done, known = self._tally.count(event)
                    if time.monotonic() - self._spoken.get(mailbox, 0) >= SECONDS_BETWEEN_LINES:
                        self._spoken[mailbox] = time.monotonic()
                        self._say(mailbox, f"{done} of {known} mails")
                case SweepEnded():
                    pass  # the table that follows says it better

    def _say(self, mailbox: MailboxId, words: str) -> None:
        self._terminal.note(f"{self._names.get(mailbox, mailbox)}: {words}")
