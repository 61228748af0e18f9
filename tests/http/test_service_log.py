"""The log of the service: lines that programs and people can read, in which no secret is, wherever one was put."""

from __future__ import annotations

import io
import json
import logging
import secrets
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any
from urllib.parse import quote

import attrs
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.sealing import new_master_key
from maildaemon_core.access import CHANCE_BYTES, make_key
from maildaemon_core.errors import Trouble
from maildaemon_core.message import FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.monitoring import (
    Counts,
    EntriesRecorded,
    FolderReport,
    Remarked,
    SweepEnded,
    SweepReport,
    SweepState,
)
from maildaemon_core.options import Secret
from maildaemon_core.progress import Entry, EntryId, Stage
from maildaemon_http.api.frame import REQUEST_ID
from maildaemon_http.log import start_logging
from maildaemon_http.redaction import redacted, text
from maildaemon_http.service_log import LogMonitor, formatter, start_service_logging
from tests.http.small_service import SmallService

ONE = MailboxId("00000000-0000-0000-0000-000000000001")
INBOX = FolderRef("INBOX")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
TOUCHED = (
    *("", "maildaemon_core", "maildaemon_adapters", "maildaemon_http", "uvicorn", "uvicorn.error", "uvicorn.access"),
    *("uvicorn.asgi", "imapclient", "py.warnings"),
)


class Log:
    """What was written to stderr."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        """The only one."""
        (line,) = self.lines
        return line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging belongs to the whole process: it is as before afterwards."""
    loggers = [logging.getLogger(name) for name in TOUCHED]
    before = [(one, one.level, list(one.handlers), one.propagate) for one in loggers]
    hook, shown = threading.excepthook, warnings.showwarning
    yield
    for one, level, handlers, propagate in before:
        one.setLevel(level)
        one.handlers[:] = handlers
        one.propagate = propagate
    threading.excepthook = hook
    logging.captureWarnings(capture=False)
    warnings.showwarning = shown
    structlog.reset_defaults()


def begin(monkeypatch: pytest.MonkeyPatch, *, debug: bool = False, as_json: bool | None = True) -> Log:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    start_service_logging(debug=debug, as_json=as_json)
    return Log(stream)


def fail(words: str) -> None:
    raise ZeroDivisionError(words)


# ----------------------------------------------------------------------------------------------------- what a line has


def test_a_line_says_when_how_bad_who_what_and_for_which_request(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch)
    token = REQUEST_ID.set("r-1")
    logging.getLogger("maildaemon_core.engine.sweep").warning("%d mails of %s", 3, "office", extra={"folder": "INBOX"})
    REQUEST_ID.reset(token)
    line = log.line
    assert list(line)[:5] == ["timestamp", "level", "logger", "event", "request_id"]
    assert datetime.now(UTC) - datetime.fromisoformat(line["timestamp"]) < timedelta(minutes=1)
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)
    assert (line["level"], line["logger"]) == ("warning", "maildaemon_core.engine.sweep")
    assert (line["event"], line["request_id"], line["folder"]) == ("3 mails of office", "r-1", "INBOX")


def test_what_structlog_is_told_goes_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch)
    structlog.get_logger("maildaemon_http.x").warning("took %s", "long", seconds=3, password="hunter2")
    assert log.line["event"] == "took long"
    assert (log.line["logger"], log.line["seconds"], log.line["password"]) == ("maildaemon_http.x", 3, "********")


def test_ours_and_the_server_s_are_told_and_of_others_only_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch, debug=True)
    logging.getLogger("imapclient").setLevel(logging.DEBUG)  # somebody wants to see what the server says
    logging.getLogger("imapclient.imaplib").debug("> LOGIN jane hunter2")
    logging.getLogger("imapclient").warning("odd")
    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("uvicorn.access").info("GET /?key=1")
    logging.getLogger("maildaemon_core.x").debug("a detail")
    assert [line["event"] for line in log.lines] == ["odd", "started", "a detail"]


def test_details_are_for_debug_only(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch)
    logging.getLogger("maildaemon_core.x").debug("a detail")
    logging.getLogger("maildaemon_core.x").info("something")
    assert [line["event"] for line in log.lines] == ["something"]


def test_json_is_for_programs_and_a_terminal_gets_what_people_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for stream, is_json in ((io.StringIO(), True), (Terminal(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        start_service_logging(debug=False)
        logging.getLogger("maildaemon_http.x").info("hello", extra={"mailbox": "office"})
        (line,) = stream.getvalue().splitlines()
        assert line.startswith("{") == is_json
        assert ("\x1b[" in line) != is_json
        assert "hello" in line
        assert "office" in line


def test_a_terminal_is_not_coloured_for_those_who_want_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    start_service_logging(debug=False)
    logging.getLogger("maildaemon_http.x").info("hello")
    assert "\x1b" not in stream.getvalue()


def test_an_error_is_its_class_and_with_debug_its_trace_on_the_same_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for debug in (False, True):
        log = begin(monkeypatch, debug=debug)
        try:
            fail("postgresql://jane:hunter2@db/mail does not answer")
        except ZeroDivisionError:
            logging.getLogger("maildaemon_core.x").exception("it failed")
        assert "hunter2" not in log.text
        if debug:
            assert "Traceback" in log.line["exception"]
            assert "in fail" in log.line["exception"]
            assert "ZeroDivisionError: postgresql://jane:********@db/mail" in log.line["exception"]
        else:
            assert log.line["exception"] == "ZeroDivisionError"


def test_the_commands_still_log_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(debug=False)
    logging.getLogger("maildaemon_core.x").warning("odd")
    assert capsys.readouterr().err == "maildaemon: warning: odd\n"


def test_a_thread_that_fails_is_a_line_and_no_trace_between_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch)
    thread = Thread(target=fail, args=("password='hunter2'",), name="looking")
    thread.start()
    thread.join()
    assert (log.line["level"], log.line["exception"], log.line["thread_of"]) == (
        "error",
        "ZeroDivisionError",
        "looking",
    )


def test_a_warning_of_python_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        log = begin(monkeypatch)
        warnings.warn("this goes away", DeprecationWarning, stacklevel=1)
    assert "this goes away" in log.line["event"]
    assert log.line["logger"] == "py.warnings"


@pytest.mark.parametrize("as_json", [True, False])
def test_the_words_of_strangers_move_no_cursor_and_make_no_line(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    log = begin(monkeypatch, as_json=as_json)
    evil = 'a\nmaildaemon: all is well \x1b[2J \u202e {"level": "info"} \ud800'
    logging.getLogger("maildaemon_core.x").warning(evil, extra={"mailbox": evil, evil: 1})
    assert len(log.text.splitlines()) == 1
    assert log.text.rstrip("\n").isprintable()


def test_arguments_that_do_not_fit_lose_no_line_and_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch)
    logging.getLogger("maildaemon_core.x").warning("%d mails", {"password": "hunter2"})
    logging.getLogger("maildaemon_core.x").warning("%s and %s", "password=hunter2")  # noqa: PLE1206
    assert [line["event"][:8] for line in log.lines] == ["%d mails", "%s and %"]
    assert "hunter2" not in log.text


class Rude:
    def __str__(self) -> str:
        raise ZeroDivisionError("hunter2")

    __repr__ = __str__


def test_what_cannot_be_shown_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch)
    logging.getLogger("maildaemon_core.x").warning("it is %s", Rude())
    logging.getLogger("maildaemon_core.x").warning(Rude())
    logging.getLogger("maildaemon_core.x").warning("fields", extra={"field": Rude()})
    assert [line["event"] for line in log.lines] == [
        "it is %s (its arguments cannot be shown: ZeroDivisionError)",
        "a line cannot be shown: ZeroDivisionError",
        "fields",
    ]
    assert "hunter2" not in log.text


def test_a_stderr_that_is_closed_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    begin(monkeypatch)
    sys.stderr.close()
    logging.getLogger("maildaemon_core.x").warning("nobody hears")


def test_the_access_log_has_its_fields_and_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch)
    logging.getLogger("maildaemon_http.access").info(
        "%s %s %s", "GET", "/mailboxes", 200,
        extra={"method": "GET", "path": "/mailboxes", "status": 200, "milliseconds": 1.5, "key": "ops"},
    )  # fmt: skip
    line = log.line
    assert line["event"] == "GET /mailboxes 200"
    assert (line["method"], line["status"], line["milliseconds"], line["key"]) == ("GET", 200, 1.5, "ops")


def test_a_request_to_the_service_is_a_line_under_its_id_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    service = SmallService()
    key = service.key()
    log = begin(monkeypatch, debug=True)
    with service.client() as get:
        answer = get(f"/mailboxes/{key}?password=hunter2", **{"x-request-id": "r-2", "x-api-key": key})
    service.daemon.close(deadline=5)
    assert answer.status_code == 400
    (line,) = [each for each in log.lines if each["logger"] == "maildaemon_http.access"]
    assert (line["request_id"], line["status"], line["key"]) == ("r-2", 400, "key 0")
    assert line["path"].startswith("/mailboxes/md_")
    assert key[14:] not in log.text
    assert "hunter2" not in log.text


# ------------------------------------------------------------------------------------------------------ what sweeps do


def entry(**others: Any) -> Entry:
    return Entry(
        **{
            "mailbox": ONE,
            "ref": MessageRef(folder=INBOX, uidvalidity="1", uid="7"),
            "identity": Identity(fingerprint="y"),
            "key": "0123456789ab",
            "received": NOON,
            "first_seen": NOON,
            "id": EntryId(7),
            "sender": "jane@private.example",
            "subject": "my diagnosis",
            "message_id": "<private@x>",
            "stage": Stage.WAITING,
            "due_at": NOON,
            "attempts": 2,
            "trouble": Trouble(error="DestinationUnavailable", message="cannot write my diagnosis.pdf"),
            **others,
        }
    )


def test_the_end_of_a_sweep_is_told_with_its_mailbox_counts_and_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch)
    monitor = LogMonitor({ONE: "office"}.__getitem__)
    folder = FolderReport(folder=INBOX, counts=Counts(stored=3, failed=1))
    report = SweepReport(
        mailbox=ONE, state=SweepState.DONE, started=NOON, ended=NOON + timedelta(seconds=2.5), folders=(folder,)
    )
    trouble = Trouble(error="LoginRefused", message="the server refuses the password", remedy="correct it")
    monitor(SweepEnded(report=report))
    monitor(SweepEnded(report=attrs.evolve(report, state=SweepState.FAILED, trouble=trouble)))
    done, failed = log.lines
    assert (done["event"], done["level"], done["state"]) == ("sweep ended", "info", "done")
    assert (done["mailbox"], done["mailbox_id"], done["seconds"]) == ("office", ONE, 2.5)
    assert (done["seen"], done["stored"], done["failed"]) == (4, 3, 1)
    assert (failed["level"], failed["error"], failed["remedy"]) == ("warning", "LoginRefused", "correct it")


def test_a_sweep_that_found_nothing_is_a_detail(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch)
    LogMonitor()(SweepEnded(report=SweepReport(mailbox=ONE, state=SweepState.DONE, started=NOON, ended=NOON)))
    assert log.text == ""


def test_the_first_sweep_that_goes_through_again_is_told_though_it_found_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, monitor = begin(monkeypatch), LogMonitor()
    well = SweepReport(mailbox=ONE, state=SweepState.DONE, started=NOON, ended=NOON)
    for state in (SweepState.DONE, SweepState.FAILED, SweepState.DONE, SweepState.DONE):
        monitor(SweepEnded(report=attrs.evolve(well, state=state)))
    assert [(line["level"], line["state"]) for line in log.lines] == [("warning", "failed"), ("info", "done")]


def test_a_folder_that_a_sweep_went_past_is_a_warning_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch)
    trouble = Trouble(error="FolderMissing", message="there is no folder 'INBOX'", remedy="create it")
    report = SweepReport(
        mailbox=ONE,
        state=SweepState.DONE,
        started=NOON,
        ended=NOON,
        folders=(FolderReport(folder=INBOX, trouble=trouble),),
    )
    LogMonitor()(SweepEnded(report=report))
    assert (log.line["level"], log.line["state"]) == ("warning", "done")
    assert log.line["folders"] == [{"folder": INBOX, "error": "FolderMissing", "trouble": trouble.message}]


def test_a_mail_that_was_in_hand_when_a_process_died_is_not_told_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch)
    LogMonitor()(EntriesRecorded(mailbox=ONE, entries=(entry(trouble=None, suspect=True),)))
    assert (log.line["event"], log.line["level"], log.line["entry_id"]) == ("mail taken up again", "info", 7)


def test_a_failed_mail_is_told_by_number_and_never_by_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch, debug=True)
    stored = entry(stage=Stage.SETTLED, trouble=None)
    LogMonitor()(EntriesRecorded(mailbox=ONE, entries=(entry(), stored)))
    line = log.line
    assert (line["event"], line["entry_id"], line["entry_key"]) == ("mail failed", 7, "0123456789ab")
    assert (line["error"], line["attempts"], line["stage"]) == ("DestinationUnavailable", 2, "waiting")
    for private in ("private", "diagnosis", "jane"):
        assert private not in log.text


def test_a_remark_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    log = begin(monkeypatch)
    LogMonitor()(Remarked(mailbox=ONE, remark="folder INBOX was renumbered"))
    assert (log.line["event"], log.line["remark"]) == ("remark", "folder INBOX was renumbered")


# ------------------------------------------------------------------------------------------------------- no secret


KEY = make_key(bytes(range(CHANCE_BYTES)), "k", now=NOON)[0].value
MARK = st.builds(lambda: secrets.token_hex(12))
SECRET_NAMES = st.sampled_from(
    ["password", "client_secret", "clientSecret", "api-key", "sasToken", "Authorization", "cookie", "privateKey"]
)
SIGNS = st.text("abcXYZ019 :/@#?&=,;'\"\\{}[]()%+-_.~\n\té", max_size=8)


@st.composite
def hidden(draw: st.DrawFn, inside: str) -> Any:
    """A value in which a secret stands in some way by which it can be known as one."""
    name = draw(SECRET_NAMES)
    value = draw(SIGNS) + inside + draw(SIGNS)
    way = draw(st.sampled_from(range(10)))
    if way == 0:
        return Secret(value)
    if way == 1:
        return {name: draw(st.sampled_from([value, [value], {"x": value}, value.encode()]))}
    if way == 2:
        return f"{draw(SIGNS)}{KEY[:14]}{inside}{'x' * (43 - len(inside))} {draw(SIGNS)}"
    if way == 3:
        scheme, user = draw(st.sampled_from(["postgresql", "smb", "https"])), draw(st.sampled_from(["", "jane"]))
        return f"see {scheme}://{user}:{quote(value)}@host.example/x?y=z#@ for more"
    if way == 4:
        return f"https://host.example/x?a=1&{name}={quote(value)}&b=2"
    if way == 5:
        return repr({"a": 1, name: value, "b": [2]})
    if way == 6:
        return json.dumps({"a": [1], name: value})
    if way == 7:
        return f"{draw(st.sampled_from(['Basic', 'Bearer', 'bearer']))} {inside}"
    if way == 8:
        return f"Settings({name.replace('-', '_')}={value!r}, host='x')"
    return new_master_key()[:10] + inside


@st.composite
def wrapped(draw: st.DrawFn, inside: str) -> Any:
    value = draw(hidden(inside))
    for _ in range(draw(st.integers(0, 3))):
        way = draw(st.integers(0, 4))
        if way == 0:
            value = {"a": 1, "thing": value}
        elif way == 1:
            value = [1, value, None]
        elif way == 2:
            value = (value,)
        elif way == 3 and isinstance(value, str):
            value = {value: True}
        elif way == 4 and isinstance(value, str):
            value = ValueError(value)
    return value


@given(data=st.data(), mark=MARK, as_json=st.booleans(), debug=st.booleans(), place=st.integers(0, 6))
def test_wherever_a_secret_is_put_into_a_record_it_is_in_no_line(
    data: st.DataObject, mark: str, as_json: bool, debug: bool, place: int
) -> None:
    value = data.draw(wrapped(mark))
    record = logging.LogRecord("maildaemon_core.x", logging.WARNING, __file__, 1, "plain", (), None)
    if place == 0:
        record.msg = value
    elif place == 1:
        record.msg, record.args = "it is %s", (value,)
    elif place == 2:
        record.msg, record.args = "it is %(thing)r", {"thing": value}
    elif place == 3:
        record.msg, record.args = "%d of %s", (value,)
    elif place == 4:
        record.__dict__["field"] = value
    elif place == 5:
        record.__dict__.update(value if isinstance(value, dict) else {str(value): 1})
        record.__dict__.pop("a", None)
    else:
        try:
            fail(value if isinstance(value, str) else repr(redacted(value)))
        except ZeroDivisionError:
            record.exc_info = sys.exc_info()
    line = formatter(debug=debug, as_json=as_json).format(record)
    assert mark not in line
    assert line
    if as_json:
        assert json.loads(line)["logger"] == "maildaemon_core.x"
        assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (f"who has {KEY}?", "who has md_0001020304_…?"),
        ("mdmk_AAAAAAAAAAAAAAAAAAAA= is it", "mdmk_******** is it"),
        ("Bearer abcdefabcdefabcdef was sent", "Bearer ******** was sent"),
        ("authorization: Basic amFuZTpo", "authorization: ********"),
        ("X-Api-Key: something", "X-Api-Key: ********"),
        ("to postgresql://jane:hun@ter2@db/mail now", "to postgresql://jane:********@db/mail now"),
        ("https://x/y?a=1&access_token=hunter2&b=2", "https://x/y?a=1&access_token=********&b=2"),
        ("https://x/y?sv=1&sig=hunter2", "https://x/y?sv=1&sig=********"),
        ("{'password': 'hun\\'ter2', 'a': 1}", "{'password': ********, 'a': 1}"),
        ('{"clientSecret": "hun\\"ter2", "a": 1}', '{"clientSecret": ********, "a": 1}'),
        ('a "{\\"password\\": \\"hunter2\\"}"', 'a "{\\"password\\": ********'),
        ("{'passwords': ['hunter2', 'a]b']}", "{'passwords': ********"),
        ("Settings(password='hun ter2', host='x')", "Settings(password=********, host='x')"),
        ("x=password=hunter2 y", "x=password=******** y"),
        ("password = 'never closed hunter2", "password = ********"),
    ],
)
def test_every_kind_of_secret_is_known_and_what_stands_beside_it_stays(given: str, shown: str) -> None:
    assert text(given) == shown


def test_what_is_no_secret_stays_as_it_is() -> None:
    for plain in (
        "the server refuses the password: correct it",
        "https://host.example:8025/x?limit=5",
        "postgresql://jane@db/mail",
        "folder 'A = B' has 3 mails (2 new), key 0123456789ab",
        "GET /mailboxes/2b7e1516-28ae-42a6-abf7-158809cf4f3c 200",
        "token 7 is older than 8: the lease has passed on",
    ):
        assert text(plain) == plain
    assert redacted({"status": 200, "key": "ops", "ok": True, "none": None}) == {
        "status": 200, "key": "ops", "ok": True, "none": None
    }  # fmt: skip


def test_neither_mail_nor_what_may_be_mail_is_in_a_field() -> None:
    assert redacted(b"From: jane\r\n") == "<12 bytes>"
    assert redacted(entry()) == "<Entry>"
    assert len(redacted("x" * 100_000)) < 5000
    deep: Any = "x"
    for _ in range(50):
        deep = [deep]
    assert "…" in json.dumps(redacted(deep), ensure_ascii=False)
    assert redacted([float("nan"), SweepState.DONE, NOON]) == ["nan", "done", str(NOON)]


@pytest.mark.parametrize(
    "given",
    ["://a:" * 20000 + "@", "a='" * 30000, "x" * 200_000 + "=", '"\\' * 50000, "a= " * 40000, "pwd=" + " " * 90000],
)
def test_long_hostile_texts_are_read_in_time_that_grows_no_faster_than_they_do(given: str) -> None:
    began = datetime.now(UTC)
    text(given)
    assert datetime.now(UTC) - began < timedelta(seconds=5)
