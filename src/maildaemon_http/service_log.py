"""The log of the running service: lines of JSON for programs, or for people at a terminal, without secrets or mail.

What our modules, uvicorn and other libraries log goes through one chain.  Every line says when (UTC), how bad, who and
what, and to which request it belongs.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, MutableMapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

import structlog

from maildaemon_core.message import MailboxId
from maildaemon_core.monitoring import EntriesRecorded, Event, Remarked, SweepEnded, SweepReport, SweepState
from maildaemon_core.progress import Entry, Outcome
from maildaemon_http.api.frame import REQUEST_ID
from maildaemon_http.log import OURS
from maildaemon_http.printable import printable
from maildaemon_http.redaction import LONGEST, argument, bounded, redacted, text

SERVER: Final = ("uvicorn",)
"""Who else may say what is no warning: when it starts and ends.  Its access log is off, for ours says more."""

LONGEST_TRACE = 10 * LONGEST

EventDict = MutableMapping[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_FIRST: Final = ("timestamp", "level", "logger", "event", "request_id")
_LEVELS: Final = {
    SweepState.DONE: logging.INFO,
    SweepState.BUSY: logging.INFO,
    SweepState.PAUSED: logging.WARNING,
    SweepState.FAILED: logging.WARNING,
    SweepState.LOST: logging.WARNING,
}

logger = logging.getLogger("maildaemon_http.sweeps")


def start_service_logging(*, debug: bool, as_json: bool | None = None) -> None:
    """The log goes to stderr: what we say, warnings of libraries; with ``debug`` our details, and traces of errors.

    ``as_json``: lines of JSON; None: unless stderr is a terminal.  Of libraries nothing below a warning is ever shown:
    what mail servers and clients say is mail, and now and then a login.
    """
    stream = sys.stderr
    is_json = not stream.isatty() if as_json is None else as_json
    handler = _Handler(stream)
    handler.addFilter(_is_for_the_log)
    handler.setFormatter(formatter(debug=debug, as_json=is_json, colors=not is_json and _has_colors(stream)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    for name in SERVER:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        server = logging.getLogger(name)
        server.handlers[:] = []
        server.propagate = name != "uvicorn.access"
    logging.captureWarnings(capture=True)
    threading.excepthook = _thread_failed
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def formatter(*, debug: bool, as_json: bool, colors: bool = False) -> logging.Formatter:
    """What makes a line of a record."""
    render = _as_json if as_json else _for_people(colors=colors)
    return _OneLine(
        processors=[_Shape(debug=debug), render],
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
    )


class LogMonitor:
    """Logs what sweeps do: how each ended, which mails failed and why, and remarks.

    ``name_of`` is what people call a mailbox.  Senders, subjects and names of files are left out: they belong to those
    who wrote the mail, and whoever may see them finds the mail by its number in the monitoring.
    """

    def __init__(self, name_of: Callable[[MailboxId], str] = str) -> None:
        self._name_of = name_of
        self._unwell: set[MailboxId] = set()

    def __call__(self, event: Event, /) -> None:
        """Takes note of an event."""
        match event:
            case SweepEnded(report=report):
                self._ended(report)
            case EntriesRecorded(entries=entries):
                for entry in entries:
                    if entry.outcome is Outcome.FAILED:
                        self._failed(entry)
            case Remarked(mailbox=mailbox, remark=remark):
                self._say(logging.INFO, "remark", mailbox, remark=remark)

    def _ended(self, report: SweepReport) -> None:
        counts = report.counts
        idle = report.well and not (counts.seen or report.tidied or report.remarks)
        trouble = report.trouble
        told = {} if trouble is None else {"error": trouble.error, "trouble": trouble.message, "remedy": trouble.remedy}
        folders = [
            {"folder": one.folder, "error": one.trouble.error, "trouble": one.trouble.message}
            for one in report.unwell_folders
            if one.trouble
        ]
        level = logging.WARNING if folders else _LEVELS[report.state]
        if idle and report.mailbox not in self._unwell:  # the first that goes through again is told all the same
            level = logging.DEBUG
        self._unwell.discard(report.mailbox)
        if not report.well:
            self._unwell.add(report.mailbox)
        self._say(
            level,
            "sweep ended",
            report.mailbox,
            state=report.state.value,
            seconds=round((report.ended - report.started).total_seconds(), 3),
            seen=counts.seen,
            stored=counts.stored,
            skipped=counts.skipped,
            failed=counts.failed,
            pending=counts.pending,
            tidied=report.tidied,
            **told,
            **({"folders": folders} if folders else {}),
        )

    def _failed(self, entry: Entry) -> None:
        # Without a trouble nothing failed: it was in hand when a process was cut or died, and is tried alone now.
        is_cut = entry.trouble is None
        self._say(
            logging.INFO if is_cut else logging.WARNING,
            "mail taken up again" if is_cut else "mail failed",
            entry.mailbox,
            entry_id=entry.id,
            entry_key=entry.key,
            folder=entry.ref.folder,
            stage=entry.stage.value,
            attempts=entry.attempts,
            next_try=entry.due_at,
            error=entry.trouble.error if entry.trouble else "",
        )

    def _say(self, level: int, words: str, mailbox: MailboxId, **fields: Any) -> None:
        if logger.isEnabledFor(level):
            logger.log(level, words, extra={"mailbox": self._name_of(mailbox), "mailbox_id": mailbox, **fields})


# ------------------------------------------------------------------------------------------------- the way of a line


class _Handler(logging.StreamHandler[TextIO]):
    """Never says of a record more than its formatter does: logging itself would print the arguments of one that could
    not be written."""

    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except Exception as error:  # noqa: BLE001  (a field may be of any class, and do anything when it is looked at)
            words = f"a line cannot be shown: {type(error).__name__}"
            told = logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, words, (), None)
            return super().format(told)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name that logging gave it)
        pass  # stderr is closed or full, and there is nobody else to tell


class _OneLine(structlog.stdlib.ProcessorFormatter):
    """Puts a message together so that no argument brings a secret in, and none that does not fit keeps it back."""

    def format(self, record: logging.LogRecord) -> str:
        if not hasattr(record, "_name"):  # else it comes from structlog, and its fields are still apart
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args = _message(record.msg, record.args), ()
        line = super().format(record)
        assert isinstance(line, str)
        return line


def _message(what: object, given: object) -> str:
    if not isinstance(what, str):
        plain = redacted(what) if isinstance(what, (dict, list, tuple, set, frozenset, bytes)) else str(what)
        return plain if isinstance(plain, str) else json.dumps(plain)
    if not given:
        return what
    try:
        return what % (tuple(map(argument, given)) if isinstance(given, tuple) else argument(given))
    except Exception as error:  # noqa: BLE001  (whoever logs must not fail by it)
        return f"{what} (its arguments cannot be shown: {type(error).__name__})"


class _Shape:
    """The fields of a line, the first ones always the same, each without what a log may not say."""

    def __init__(self, *, debug: bool) -> None:
        self._debug = debug

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        record: logging.LogRecord = event.pop("_record")
        event.pop("_from_structlog", None)
        error = _error_of(event.pop("exc_info", None))
        event.pop("stack_info", None)
        said = _message(event.pop("event", ""), event.pop("positional_args", ()))
        made: EventDict = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": redacted(said),
            "request_id": REQUEST_ID.get(),
        }
        if error is not None:
            made["exception"] = self._of(error)
        for name, value in event.items():
            made[f"{name}_" if name in made else bounded(text(name))] = redacted(value, name=name)
        return made

    def _of(self, error: ExcInfo) -> str:
        """Its class: what foreign exceptions say may be anything.  With ``debug`` the trace."""
        if not self._debug:
            return error[0].__name__
        trace = text(logging.Formatter().formatException(error))
        return trace if len(trace) <= LONGEST_TRACE else f"…{trace[-LONGEST_TRACE:]}"  # the end says where it was


def _error_of(given: Any) -> ExcInfo | None:
    """What a record has as ``exc_info``, from whichever library it comes."""
    if isinstance(given, BaseException):
        return type(given), given, given.__traceback__
    found = sys.exc_info() if given and not isinstance(given, tuple) else given
    if not isinstance(found, tuple) or found[0] is None:
        return None
    kind, error, trace = found
    return kind, error, trace


def _as_json(_logger: object, _method: str, event: EventDict) -> str:
    return json.dumps(event)  # in ASCII, so that nothing in it moves a cursor


def _for_people(*, colors: bool) -> Callable[[object, str, EventDict], str]:
    console = structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False, pad_event_to=20)

    def render(logger: object, method: str, event: EventDict) -> str:
        trace = str(event.pop("exception", ""))
        shown = {
            printable(name): _shown(value)
            for name, value in event.items()
            if name in _FIRST[:4] or (value is not None and value != "")
        }
        line = console(logger, method, shown)
        several = trace.splitlines()
        if len(several) == 1:
            return f"{line} exception={printable(trace)}"
        return "\n  ".join([line, *map(printable, several)])

    return render


def _shown(value: Any) -> Any:
    return printable(value if isinstance(value, str) else json.dumps(value))


def _is_for_the_log(record: logging.LogRecord) -> bool:
    """Whoever set the level of a library's logger lower has not meant this log."""
    return record.levelno >= logging.WARNING or _is_below(record.name, (*OURS, *SERVER))


def _is_below(name: str, roots: Sequence[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def _has_colors(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"  # no-color.org


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    """Python would print the trace to stderr, between our lines."""
    if failed.exc_type is SystemExit:
        return
    name = failed.thread.name if failed.thread else ""
    error = failed.exc_value or failed.exc_type()
    logging.getLogger(__name__).error("a thread ended unexpectedly", exc_info=error, extra={"thread_of": name})
