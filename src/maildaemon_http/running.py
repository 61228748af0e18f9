"""One sweep of every mailbox of a configuration: side by side, each with its report whatever happens to the others."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NoReturn

import attrs
from rich.text import Text

from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.errors import LeaseLost, MaildaemonError, Trouble
from maildaemon_core.monitoring import EntryQuery, SweepReport, SweepState
from maildaemon_core.progress import Entry, Outcome
from maildaemon_core.retention import NOTHING_THINNED, Thinned
from maildaemon_http import compose, documents, tables
from maildaemon_http.configfile import Mailbox, Setup
from maildaemon_http.own_name import own_name
from maildaemon_http.stopping import exit_code, heeding_sigterm, interrupted_document
from maildaemon_http.terminal import Terminal, showing_progress, text

AT_ONCE = 4
"""So many mailboxes are swept side by side."""

HEEDS = 0.5
"""Seconds after which a signal is heard at the latest."""

THINNED_BATCHES = 200
"""So many batches of old history are thinned out by one run; the next one goes on, lest a backlog hold up mail."""

LISTED = 20
"""So many failed mails are shown below the table; the monitoring has them all."""

logger = logging.getLogger(__name__)


class Retry(Enum):
    """Which mails a run tries again besides those that are due."""

    DUE = "none"
    FAILED = "those that failed, were they given up"
    UNCONFIRMED = "those too that may have been delivered"


@attrs.frozen(kw_only=True)
class Swept:
    """What became of one mailbox; ``failed`` are its failed mails that this sweep had to do with, newest first."""

    mailbox: Mailbox
    report: SweepReport
    failed: tuple[Entry, ...] = ()


@attrs.frozen(kw_only=True)
class Run:
    """What a run did.  ``stopped``: the exit code of one that was stopped before its end, in good order.

    ``thinned``: the history that was not to be kept any longer; ``thinning`` is what was in the way of that.
    """

    setup: Setup
    store_is_new: bool
    swept: tuple[Swept, ...]
    inactive: tuple[Mailbox, ...]
    thinned: Thinned = NOTHING_THINNED
    thinning: Trouble | None = None
    stopped: int | None = None

    @property
    def well(self) -> bool:
        """No mail failed, no mailbox failed, was paused or is another's, and the store works."""
        return all(one.report.well for one in self.swept) and self.thinning is None


def run_once(setup: Setup, terminal: Terminal, *, names: Sequence[str] = (), retry: Retry = Retry.DUE) -> Run:
    """Sweeps each active mailbox once, of those named if any are.

    Raises ``ConfigurationFault`` and what opening the store raises; whatever goes wrong with one mailbox is in its
    report.  The first interrupt or SIGTERM lets each sweep finish its batch, the second ends the process at once: what
    is in the ledger then is what has happened.
    """
    chosen = setup.chosen(names)
    known = {mailbox.id: mailbox.name for mailbox in setup.mailboxes}
    with (
        heeding_sigterm(),
        showing_progress(terminal, known) as monitor,
        compose.open_daemon(setup, monitors=[monitor]) as daemon,
    ):
        is_new = bool(getattr(daemon.store, "made_anew", False))
        terminal.note(f"store: {setup.store_name}{' (new)' if is_new else ''}")
        compose.adopt(daemon, setup)
        active = [mailbox for mailbox in chosen if mailbox.options.active]
        stopped: int | None = None
        thinning: Future[Thinned | Trouble] | None = None
        lanes = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sweep")
        try:
            futures = [lanes.submit(_sweep, daemon, mailbox, terminal, retry) for mailbox in active]
            try:
                _wait(futures)
                thinning = lanes.submit(_thin, daemon, setup)
                _wait([thinning])
            except KeyboardInterrupt as how:
                daemon.stop()
                terminal.note("stopping after what is being stored just now; once more to stop at once")
                _wait(futures if thinning is None else [thinning])
                stopped = exit_code(how)
        except KeyboardInterrupt as how:
            _leave(terminal, exit_code(how))
        lanes.shutdown()
        thinned = NOTHING_THINNED if thinning is None else thinning.result()
        return Run(
            stopped=stopped,
            thinned=NOTHING_THINNED if isinstance(thinned, Trouble) else thinned,
            thinning=thinned if isinstance(thinned, Trouble) else None,
            setup=setup,
            store_is_new=is_new,
            swept=tuple(_report(daemon, mailbox, future) for mailbox, future in zip(active, futures, strict=True)),
            inactive=tuple(mailbox for mailbox in chosen if not mailbox.options.active),
        )


def show_run(run: Run, terminal: Terminal) -> None:
    """The table, and below it each trouble with its remedy; or the same as a document."""
    swept = [(one.mailbox.name, one.report) for one in run.swept]
    terminal.line()
    terminal.show(tables.sweeps_table(swept, [mailbox.name for mailbox in run.inactive]))
    troubles = list(tables.trouble_lines(swept))
    if troubles:
        terminal.line()
        terminal.show(*troubles)
    terminal.show(*_failed_lines(run))
    if run.thinned.total:
        more = "; there is more, the next run goes on" if run.thinned.more else ""
        terminal.line(f"the history of {run.thinned.total} old mails was thinned out{more}")
    if run.thinning is not None:
        terminal.line(f"old history could not be thinned out: {run.thinning}", "red")
    terminal.document(_document(run))


def _failed_lines(run: Run) -> Iterator[Text]:
    failed = [(one.mailbox.name, entry) for one in run.swept for entry in one.failed]
    yield from tables.failed_lines(failed[:LISTED])
    hidden = sum(one.report.counts.failed for one in run.swept) - len(failed[:LISTED])
    if hidden > 0:
        yield text("")
        yield text(f"and {hidden} more: {own_name()} monitoring failed {run.setup.path}")


def _document(run: Run) -> documents.Json:
    return {
        "configuration": str(run.setup.path),
        "store": {"name": run.setup.store_name, "new": run.store_is_new},
        "well": run.well,
        "mailboxes": [
            {
                **_identity(one.mailbox),
                **documents.report_document(one.report),
                "failed": [documents.entry_document(entry, one.mailbox.options.address or "") for entry in one.failed],
            }
            for one in run.swept
        ]
        + [{**_identity(mailbox), "state": "inactive"} for mailbox in run.inactive],
        "thinned": {
            **{outcome.value: number for outcome, number in run.thinned.numbers.items()},
            "more": run.thinned.more,
            "trouble": documents.trouble_document(run.thinning),
        },
    }


def _identity(mailbox: Mailbox) -> documents.Json:
    return {
        "mailbox": mailbox.id,
        "name": mailbox.name,
        "address": mailbox.options.address or "",
        "active": mailbox.options.active,
    }


def _sweep(daemon: MailDaemon, mailbox: Mailbox, terminal: Terminal, retry: Retry) -> SweepReport:
    if retry is not Retry.DUE:
        try:
            number = daemon.retry_failed(mailbox.id, unconfirmed=retry is Retry.UNCONFIRMED)
        except LeaseLost:
            pass  # the sweep says who has it
        else:
            terminal.note(f"{mailbox.name}: {number} failed {'mail is' if number == 1 else 'mails are'} tried again")
    return daemon.sweep_once(mailbox.id)


def _thin(daemon: MailDaemon, setup: Setup) -> Thinned | Trouble:
    try:
        return daemon.thin(setup.retention, batches=THINNED_BATCHES)
    except MaildaemonError as error:
        return error.trouble()


def _report(daemon: MailDaemon, mailbox: Mailbox, future: Future[SweepReport]) -> Swept:
    try:
        report = future.result()
        return Swept(mailbox=mailbox, report=report, failed=_failed(daemon, mailbox, report))
    except MaildaemonError as error:
        trouble, state = error.trouble(), SweepState.PAUSED if error.transient else SweepState.FAILED
    except Exception as error:
        logger.exception("the sweep of mailbox %s failed", mailbox.name)
        state = SweepState.FAILED
        trouble = Trouble(
            error="InternalError",
            message=f"the sweep failed unexpectedly ({type(error).__name__})",
            remedy="run again with --debug, and report what it shows",
        )
    now = datetime.now(UTC)
    return Swept(
        mailbox=mailbox, report=SweepReport(mailbox=mailbox.id, state=state, started=now, ended=now, trouble=trouble)
    )


def _failed(daemon: MailDaemon, mailbox: Mailbox, report: SweepReport) -> tuple[Entry, ...]:
    """Those that the report counts: given up long ago is only what the monitoring still shows."""
    if not report.counts.failed:
        return ()
    page = daemon.entries(EntryQuery(outcome=Outcome.FAILED, mailbox=mailbox.id, limit=10 * LISTED))
    counted = (one for one in page.entries if one.open or (one.last_tried or one.first_seen) >= report.started)
    return tuple(counted)[:LISTED]


def _wait(futures: Sequence[Future[Any]]) -> None:
    # Not for ever at once: a signal that comes just before the lock is waited for would be heard only after it.
    while wait(futures, timeout=HEEDS).not_done:
        pass


def _leave(terminal: Terminal, code: int) -> NoReturn:
    """Ends at once.  Waiting for what is in hand would take as long as the largest mail; nothing is lost without it."""
    terminal.note("")
    terminal.note("interrupted: nothing is lost and nothing comes twice; the next run goes on from here")
    terminal.document(interrupted_document())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
