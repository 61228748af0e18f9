"""The door of the ``maildaemon`` command: what must be installed, how errors are told, with which code it ends.

This module imports nothing that an extra brings, for it also has to say which extra is missing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from maildaemon_http.stopping import exit_code, interrupted_document

NEEDED = ("cyclopts", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit code: 0 all is well, 1 something failed, 2 the configuration or usage is wrong.

    Whatever happens is told in sentences; a trace is shown only with ``--debug``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stderr is None:  # closed by whoever started us (docs.python.org/3/library/sys.html#sys.__stderr__)
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (for as long as we run)
    if sys.stdout is None:
        # The next file that is opened would take its place, and be written into by whoever prints.
        print("maildaemon: stdout is closed; make it a file, a pipe or /dev/null", file=sys.stderr)
        return 2
    for stream in (sys.stdout, sys.stderr):
        # A terminal or file of another encoding shows what it cannot write escaped, instead of ending the command.
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"maildaemon: the command needs {' and '.join(missing)}, not installed here: pip install 'maildaemon[cli]'",
            file=sys.stderr,
        )
        return 2
    try:
        return _call(given)
    except KeyboardInterrupt as how:
        print("\ninterrupted", file=sys.stderr)
        if "--json" in given:
            print(json.dumps(interrupted_document()), flush=True)
        return exit_code(how)
    except BrokenPipeError:
        _give_stdout_up()  # whoever read along has gone
        return 1


def _give_stdout_up() -> None:
    """What could not be written to it is forgotten: Python would complain once more when it flushes at the end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _call(arguments: list[str]) -> int:
    from cyclopts import CycloptsError

    from maildaemon_http.commands import app
    from maildaemon_http.log import start_logging

    start_logging(debug="--debug" in arguments)
    try:
        code = app(arguments, exit_on_error=False, result_action="return_value")
    except CycloptsError:
        return 2  # cyclopts has said what is wrong
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001  (no trace ever reaches a person; with --debug the log has it)
        return _tell(error, as_json="--json" in arguments)
    return code if isinstance(code, int) else 0


def _tell(error: Exception, *, as_json: bool) -> int:
    """Says what went wrong and what to do about it; the exit code for it."""
    from maildaemon_core.errors import BrokenPlugin, InvalidOptions, MaildaemonError, NoMasterKey, UnknownKind
    from maildaemon_http.configfile import ConfigurationFault
    from maildaemon_http.tables import problem_lines
    from maildaemon_http.terminal import StdoutUnwritable, Terminal

    if isinstance(error, StdoutUnwritable):
        _give_stdout_up()
    terminal = Terminal.of(json=as_json)
    problems = error.problems if isinstance(error, ConfigurationFault) else ()
    if isinstance(error, MaildaemonError):
        name, message, remedy = type(error).__name__, error.message, error.remedy
    else:
        logging.getLogger(__name__).debug("this is where it came from", exc_info=error)
        name, message = "InternalError", f"something unexpected happened: {type(error).__name__}: {error}"
        remedy = "run it again with --debug to see where, and report that; nothing was lost"
    terminal.note(f"maildaemon: {message}")
    for line in problem_lines(problems):
        terminal.err.print(line, soft_wrap=True)
    if remedy:
        terminal.note(f"  what to do: {remedy}")
    faults = error.problems if isinstance(error, (ConfigurationFault, InvalidOptions)) else ()
    found = [{"path": problem.path, "message": problem.message} for problem in faults]
    try:
        terminal.document({"error": {"error": name, "message": message, "remedy": remedy, "problems": found}})
    except StdoutUnwritable:  # what could not be written there is no reason to hide what went wrong
        _give_stdout_up()
    return 2 if isinstance(error, (ConfigurationFault, InvalidOptions, UnknownKind, BrokenPlugin, NoMasterKey)) else 1


if __name__ == "__main__":
    sys.exit(main())
