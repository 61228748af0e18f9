"""The commands as people type them: names, arguments and help.  What a command does is loaded when it is called."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.text import Text

from maildaemon_http.arguments import UNWELL, WELL, WRONG, Configuration, Debug, Json, Limit, Names, StoreUrl
from maildaemon_http.key_commands import keys
from maildaemon_http.printable import printable
from maildaemon_http.secret_commands import master_key
from maildaemon_http.store_commands import store

app = App(
    name="maildaemon",
    help="Watches mailboxes, puts the wanted mails and attachments whole and exactly once where you want them, and can "
    "tell what happened to each.",
    version=lambda: version("maildaemon"),
    default_parameter=Parameter(negative=(), show_default=lambda value: value or None),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    error_formatter=lambda error: Text(printable(f"maildaemon: {error}")),
    help_epilogue="Exit codes: 0 all is well; 1 a mail or a mailbox failed, was paused, or another process has it; "
    "2 the configuration or the command is wrong; 130 interrupted; 143 terminated.",
)
NEEDED_TO_SERVE = {
    "litestar": "litestar",
    "prometheus_client": "prometheus-client",
    "structlog": "structlog",
    "uvicorn": "uvicorn",
}
"""Modules with the names of their packages."""

ShowDismissed = Annotated[bool, Parameter(name="--dismissed", help="Those too that somebody has dismissed.")]
monitoring = App(name="monitoring", help="Show what happened.")
for group in (monitoring, store, keys, master_key):
    app.command(group)


@app.command
def init(
    path: Annotated[Path, Parameter(name="PATH", help="The file to write; one that exists is left alone.")] = Path(
        "maildaemon.toml"
    ),
    /,
    *,
    debug: Debug = False,
) -> int:
    """Write the smallest configuration that works, with comments."""
    from maildaemon_http.own_name import own_name
    from maildaemon_http.smallest import write_smallest
    from maildaemon_http.terminal import Terminal

    write_smallest(path)
    terminal = Terminal.of()
    terminal.line(f"{path} is written.  Put your address, server and password in, then:")
    terminal.line(f"  {own_name()} validate {path}")
    terminal.line(f"  {own_name()} run {path} --once")
    return WELL


@app.command
def run(
    configuration: Configuration,
    /,
    *,
    once: Annotated[bool, Parameter(help="Sweep each active mailbox once, then end.")] = False,
    retry_failed: Annotated[bool, Parameter(help="Try every failed mail again now, those given up too.")] = False,
    retry_unconfirmed: Annotated[
        bool,
        Parameter(
            help="As --retry-failed, and the mails too of which nobody knows whether their files arrived: only after "
            "you have looked, for those that did arrive come twice otherwise."
        ),
    ] = False,
    mailbox: Names = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Sweep mailboxes: find mail, store what is wanted, then tidy the server."""
    from maildaemon_http.compose import read_configuration
    from maildaemon_http.own_name import own_name
    from maildaemon_http.running import Retry, run_once, show_run
    from maildaemon_http.terminal import Terminal

    terminal = Terminal.of(json=json)
    if not once:
        terminal.note(
            "run needs --once: it sweeps each mailbox once and ends, for cron or a systemd timer to call.  What keeps "
            f"running, and answers the API, is: {own_name()} serve {shlex.quote(str(configuration))}"
        )
        return WRONG
    retry = Retry.UNCONFIRMED if retry_unconfirmed else Retry.FAILED if retry_failed else Retry.DUE
    setup = read_configuration(configuration, to_sweep=True)
    result = run_once(setup, terminal, names=mailbox or (), retry=retry)
    show_run(result, terminal)
    if result.stopped is not None:
        return result.stopped
    return WELL if result.well else UNWELL


@app.command
def serve(
    configuration: Annotated[
        Path | None,
        Parameter(name="CONFIG", help="The configuration file (TOML); without one all mailboxes come over the API."),
    ] = None,
    /,
    *,
    host: Annotated[
        str | None, Parameter(name="--host", help="The address to listen on: 127.0.0.1 unless the file says another.")
    ] = None,
    port: Annotated[
        int | None,
        Parameter(
            name="--port",
            validator=Number(gte=0, lte=65535),
            help="The port to listen on: 8025 unless the file says another; 0 is any that is free.",
        ),
    ] = None,
    store: StoreUrl = None,
    debug: Debug = False,
) -> int:
    """Run the service: watch the mailboxes and answer the API, until SIGTERM or Ctrl-C."""
    from maildaemon_http.terminal import Terminal

    terminal = Terminal.of()
    if missing := [package for name, package in NEEDED_TO_SERVE.items() if find_spec(name) is None]:
        terminal.note(
            f"maildaemon: the service needs {' and '.join(missing)}, not installed here: pip install 'maildaemon[http]'"
        )
        return WRONG
    from maildaemon_http.serving import Wanted, serve

    return serve(Wanted(configuration=configuration, host=host, port=port, store=store, debug=debug), terminal)


@app.command
def validate(
    configuration: Configuration, /, *, mailbox: Names = None, json: Json = False, debug: Debug = False
) -> int:
    """Say what works, what does not, and what to do about it.  Changes nothing."""
    from maildaemon_http import looking
    from maildaemon_http.compose import read_configuration
    from maildaemon_http.terminal import Terminal

    well = looking.validate(read_configuration(configuration), Terminal.of(json=json), names=mailbox or ())
    return WELL if well else UNWELL


@monitoring.command
def failed(
    configuration: Configuration,
    /,
    *,
    mailbox: Names = None,
    limit: Limit = 50,
    dismissed: ShowDismissed = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show the mails that failed, newest first: why, what to do about it, and when they are tried again."""
    return _entries(configuration, "failed", mailbox, limit, dismissed=dismissed, json=json)


@monitoring.command
def successful(
    configuration: Configuration,
    /,
    *,
    mailbox: Names = None,
    limit: Limit = 50,
    dismissed: ShowDismissed = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show the mails that are stored, newest first, with their files."""
    return _entries(configuration, "stored", mailbox, limit, dismissed=dismissed, json=json)


def _entries(
    configuration: Path, outcome: str, names: list[str] | None, limit: int, *, dismissed: bool, json: bool
) -> int:
    from maildaemon_core.progress import Outcome
    from maildaemon_http.compose import read_configuration
    from maildaemon_http.looking import show_entries
    from maildaemon_http.terminal import Terminal

    setup = read_configuration(configuration)
    show_entries(setup, Terminal.of(json=json), Outcome(outcome), names=names or (), limit=limit, dismissed=dismissed)
    return WELL


@monitoring.command
def dismiss(
    configuration: Configuration,
    numbers: Annotated[
        list[int],
        Parameter(
            name="ID", validator=Number(gte=1), help="The number of a mail, as `monitoring` shows it; or several."
        ),
    ],
    /,
    *,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Take mails out of sight.  What failed is not tried again by itself; the mail stays on the server."""
    from maildaemon_core.progress import EntryId
    from maildaemon_http.compose import read_configuration
    from maildaemon_http.looking import dismiss as dismiss_entries
    from maildaemon_http.terminal import Terminal

    well = dismiss_entries(read_configuration(configuration), Terminal.of(json=json), list(map(EntryId, numbers)))
    return WELL if well else UNWELL


@monitoring.command
def mailboxes(
    configuration: Configuration, /, *, mailbox: Names = None, json: Json = False, debug: Debug = False
) -> int:
    """Show how each mailbox is: its last sweep, its last success, what is still to be done."""
    from maildaemon_http.compose import read_configuration
    from maildaemon_http.looking import show_mailboxes
    from maildaemon_http.terminal import Terminal

    show_mailboxes(read_configuration(configuration), Terminal.of(json=json), names=mailbox or ())
    return WELL


@app.command
def demo(
    *,
    folder: Annotated[Path, Parameter(help="Where the files go.")] = Path("maildaemon-demo"),
    debug: Debug = False,
) -> int:
    """Do the main job on sample mail, with a mail server inside this process, and show what happened."""
    from maildaemon_http.demo.show import show_demo
    from maildaemon_http.terminal import Terminal

    return WELL if show_demo(folder, Terminal.of()) else UNWELL
