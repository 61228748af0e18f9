"""The demo from end to end: a configuration is written, sample mails are swept, and all that came of it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from rich.text import Text
from rich.tree import Tree

from maildaemon_core.errors import BrokenPlugin
from maildaemon_core.monitoring import EntryQuery
from maildaemon_core.progress import Entry, Outcome
from maildaemon_http import compose
from maildaemon_http.configfile import ConfigurationFault, Setup
from maildaemon_http.own_name import own_name
from maildaemon_http.running import run_once, show_run
from maildaemon_http.terminal import Terminal, text

CONFIGURATION = "maildaemon.toml"
FILES = "files"
_FIRST_LINE = "# The configuration of `maildaemon demo`, written anew each time that it starts."

_TEXT = """\
{first_line}
# The mail server of the demo runs only while the demo does, on another port each time.

[[mailboxes]]
name = "demo"                               # what the mailbox is known by, wherever it moves
mailbox = "{user}"
host = "127.0.0.1"
port = {port}
tls = "none"                                # on loopback; anywhere else leave this out, and TLS is used
password = "demo"
allowedEmailExtensions = [{allowed}]
exportAttachments = true
mailArchiving = {{ active = true, pathTemplate = "mails/{{received:%Y-%m-%d}}/{{key}}.eml" }}

[[mailboxes.destinations]]
url = "files"
pathTemplate = "attachments/{{senderDomain}}/{{key}}-{{filename}}"
"""


def show_demo(folder: Path, terminal: Terminal) -> bool:
    """Shows it in ``folder``; whether all went well.

    Raises ``ConfigurationFault`` if a configuration that is not the demo's is there, ``BrokenPlugin`` if what the demo
    needs is not installed.
    """
    if find_spec("pymap") is None:
        raise BrokenPlugin(
            "the demo needs the package 'pymap', not installed here", remedy="pip install 'maildaemon[demo]'"
        )
    from maildaemon_http.demo.mails import ALLOWED, USER, sample_mails
    from maildaemon_http.demo.server import DemoServer

    mails = sample_mails()
    terminal.line("maildaemon demo", "bold")
    terminal.line(f"A mail server starts inside this process, with {len(mails)} mails for {USER}.")
    terminal.line(f"They are swept into {folder}/{FILES}.")
    terminal.line()
    with DemoServer(USER, "demo", mails) as server:
        path = _write(folder, _TEXT.format(
            first_line=_FIRST_LINE, user=USER, port=server.port, allowed=", ".join(f'"{each}"' for each in ALLOWED)
        ))  # fmt: skip
        setup = compose.read_configuration(path)
        run = run_once(setup, terminal)
    show_run(run, terminal)
    terminal.line()
    terminal.show(*_mail_lines(setup))
    terminal.line()
    terminal.show(_tree(folder / FILES))
    terminal.line()
    if run.well and not any(one.report.counts.seen for one in run.swept):
        terminal.line(
            "Nothing new: an earlier run has dealt with every mail in the mailbox.  Nothing was stored twice.", "bold"
        )
        terminal.line()
    terminal.show(*_next_lines(path))
    return run.well


def _write(folder: Path, content: str) -> Path:
    path = folder / CONFIGURATION
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(_FIRST_LINE):
            raise ConfigurationFault(
                path,
                "is not the demo's and is left as it is",
                remedy="give the demo a folder of its own: maildaemon demo --folder NAME",
            )
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigurationFault(
            path, f"cannot be written: {error.strerror}", remedy="name another --folder"
        ) from error
    return path


def _mail_lines(setup: Setup) -> Iterator[Text]:
    """What became of each mail, in the order of their arrival."""
    yield text("What became of each mail", "bold")
    with compose.open_daemon(setup) as daemon:
        entries: list[Entry] = []
        for outcome in Outcome:
            entries += daemon.entries(EntryQuery(outcome=outcome, limit=200)).entries
    for entry in sorted(entries, key=lambda each: (each.received, each.id or 0)):
        files = len(entry.artifacts)
        fate = {
            Outcome.STORED: f"stored, {files} {'file' if files == 1 else 'files'}",
            Outcome.SKIPPED: f"skipped: {entry.reason}",
            Outcome.FAILED: f"failed: {entry.trouble.message if entry.trouble else ''}",
            Outcome.PENDING: "not done yet",
        }[entry.outcome]
        defects = f" (it is broken: {entry.defects[0]})" if entry.defects else ""
        yield text(f"  {entry.received:%m-%d %H:%M}  {entry.sender:22}  {entry.subject}: {fate}{defects}")


def _tree(root: Path) -> Tree:
    tree = Tree(text(f"{root}/", "bold"))
    _grow(tree, root)
    return tree


def _grow(tree: Tree, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            _grow(tree.add(text(f"{path.name}/", "bold")), path)
        else:
            tree.add(text(f"{path.name}  ({path.stat().st_size} bytes)"))


def _next_lines(path: Path) -> Iterator[Text]:
    yield text("What to try next", "bold")
    name = own_name()
    commands = {
        f"{name} demo --folder {path.parent}": "again: there is nothing new, and it says so",
        f"{name} monitoring successful {path}": "every stored mail and its files",
        f"{name} monitoring mailboxes {path}": "how the mailbox is",
        f"{name} init": "a configuration of your own",
    }
    width = max(map(len, commands))
    for command, what in commands.items():
        yield text(f"  {command:{width}}  {what}")
