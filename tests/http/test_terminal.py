"""On a narrow terminal no figure is hidden and no word broken; on a wide one there are tables."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.monitoring import Counts, FolderReport, MailboxInfo, SweepReport, SweepState
from maildaemon_http import tables
from maildaemon_http.terminal import Terminal
from tests.core.entries import artifact, entry

BOX = MailboxId("00000000-0000-0000-0000-000000000001")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
REPORT = SweepReport(
    mailbox=BOX,
    state=SweepState.DONE,
    started=NOW,
    ended=NOW,
    folders=tuple(
        FolderReport(
            folder=FolderRef(name), counts=Counts(stored=12345, skipped=678, failed=90, pending=4321), older=77
        )
        for name in ("INBOX", "Invoices/Suppliers")
    ),
    tidied=9876,
)
INFO = MailboxInfo(
    mailbox=BOX, name="joe@example.com", address="joe@example.com", active=True, report=REPORT, last_success=NOW
)


def shown(width: int, *results: object) -> str:
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=False, color_system=None)
    Terminal(out=console, err=console).show(*results)  # type: ignore[arg-type]
    return out.getvalue()


def all_tables() -> list[object]:
    failed, stored = entry(), entry(artifacts=(artifact("2026/a.eml"), artifact("2026/b.pdf", index=1)))
    return [
        tables.sweeps_table([("joe@example.com", REPORT)], ["later@example.com"]),
        tables.mailboxes_table([(INFO, True)]),
        tables.failed_table([failed], {failed.mailbox: "joe@example.com"}),
        tables.successful_table([stored], {stored.mailbox: "joe@example.com"}),
    ]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("width", [40, 60, 80, 99, 100, 120, 200])
def test_every_word_of_a_table_is_there_whatever_the_width(number: int, width: int) -> None:
    whole, narrow = (shown(each, all_tables()[number]) for each in (1000, width))
    missing = {word.strip("=+,") for word in whole.split() if "─" not in word} - {
        word.strip("=+,") for word in narrow.split()
    }
    assert missing <= {"mailbox", "id"}  # the name of the first column, which stands for itself where it is stacked
    assert "…" not in narrow


def test_a_narrow_terminal_gets_lines_and_a_wide_one_a_table() -> None:
    narrow, wide = (shown(width, all_tables()[0]) for width in (80, 200))
    assert "─" in wide
    assert "─" not in narrow
    assert "seen = 17434   stored 12345   + skipped 678   + failed 90" in narrow
    assert max(map(len, narrow.splitlines())) <= 80


def test_the_command_heeds_the_columns_of_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('[[mailboxes]]\nname = "a-mailbox-with-a-name@example.com"\nactive = false\n')
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "maildaemon_http.cli", "monitoring", "mailboxes", "m.toml"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "80", "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(theirs)
    said = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0, done.stderr
    assert "a-mailbox-with-a-name@example.com" in said
    assert "last sweep never" in said
    assert "\u2500" not in said
