"""What the commands about the store do: everything into a file, everything out of one, and the tables of today."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from maildaemon_core.engine.holder import for_people, is_dead
from maildaemon_core.errors import BadExport, Permanent
from maildaemon_core.store_port import Movable, Moved, Store, Versioned
from maildaemon_http.compose import open_chosen_store
from maildaemon_http.configfile import ConfigurationFault
from maildaemon_http.documents import Json, moment
from maildaemon_http.terminal import Terminal, writing_to_stdout

STREAM = "-"
"""Stands for stdout or stdin."""

_GZIP = b"\x1f\x8b"
"""How a compressed file begins (RFC 1952 §2.3.1)."""


class NotMovable(Permanent):
    """A store of a kind that has no way to leave it, or to be upgraded."""


def export_store(
    file: str, terminal: Terminal, *, store: str | None, configuration: Path | None, secrets: bool
) -> bool:
    """Writes all of a store to a new file; whether nobody was at work on any of its mailboxes meanwhile.

    Raises ``ConfigurationFault`` for a file that is there already or cannot be written.
    """
    with open_chosen_store(store, configuration, terminal) as there, _written(file) as out:
        moved = _movable(there).leave(out.write, secrets=secrets)
    at_work = {name: held for name, held in moved.at_work.items() if not is_dead(held.owner)}
    # What is on stdout is the export.
    say = terminal.note if file == STREAM else terminal.line
    say(f"written to {'stdout' if file == STREAM else file}: {_amount(moved)}")
    if moved.without_secrets:
        terminal.note(
            f"without the secrets of: {', '.join(moved.without_secrets)} (--secrets takes them along, sealed)"
        )
    if moved.sealed:
        terminal.note(f"with the sealed secrets of: {', '.join(moved.sealed)}; the new place needs the same master key")
    for name, held in at_work.items():
        terminal.note(
            f"WARNING: {name} is being worked on by {for_people(held.owner)}.  What it does from now on is NOT in this "
            "export, and would be delivered again.  Stop it, and export anew.",
            "bold red",
        )
    for name in moved.meanwhile:
        terminal.note(
            f"WARNING: {name} was worked on while this was written.  What was done with it is NOT in this export, and "
            "would be delivered again.  Stop the daemon, and export anew.",
            "bold red",
        )
    working = [{"mailbox": name, "owner": held.owner, "until": moment(held.until)} for name, held in at_work.items()]
    terminal.document({"file": file, **_document(moved), "atWork": working, "meanwhile": list(moved.meanwhile)})
    return not at_work and not moved.meanwhile


def import_store(file: str, terminal: Terminal, *, store: str | None, configuration: Path | None) -> None:
    """Takes up what ``export_store`` wrote.  Raises ``BadExport``, ``StoreNotEmpty``, ``ConfigurationFault``."""
    try:
        # The file first: for one that cannot be read no store is made.
        with _read(file) as lines, open_chosen_store(store, configuration, terminal, make=True) as there:
            try:
                moved = _movable(there).bring_in(lines)
            except BaseException:
                if getattr(there, "made_anew", False):
                    terminal.note(
                        "WARNING: the new store is there and holds nothing.  A run with it would deliver every mail "
                        "once more: import into it first.",
                        "bold red",
                    )
                raise
    except BadExport as error:
        name = "stdin" if file == STREAM else file
        raise BadExport(f"{name}: {error.message}", remedy=error.remedy) from error
    terminal.line(f"taken up: {_amount(moved)}")
    if moved.without_secrets:
        terminal.line(f"enter the secrets again of: {', '.join(moved.without_secrets)}", "yellow")
    if moved.sealed:
        terminal.line(f"the secrets of these open only with the master key of before: {', '.join(moved.sealed)}")
    terminal.document({"file": file, **_document(moved)})


def upgrade_store(terminal: Terminal, *, store: str | None, configuration: Path | None) -> None:
    """Upgrades the tables of a store, and says from which version to which."""
    with open_chosen_store(store, configuration, terminal, upgrade="automatic") as there:
        if not isinstance(there, Versioned):
            raise NotMovable("a store of this kind has no versions", remedy="there is nothing to upgrade")
        before, now = there.upgraded_from, there.version
    if before is None:
        terminal.line(f"nothing to do: the store has version {now} already")
    else:
        terminal.line(f"upgraded from version {before} to {now}", "green")
    terminal.document({"upgraded": before is not None, "from": before or now, "to": now})


def _movable(store: Store) -> Movable:
    if not isinstance(store, Movable):
        raise NotMovable("a store of this kind cannot be exported or imported", remedy="use its own means for that")
    return store


def _amount(moved: Moved) -> str:
    names = {"configuration": "mailbox", "entry": "mail", "artifact": "file name", "api_key": "API key"}
    numbers = {name: moved.rows.get(table, 0) for table, name in names.items()}
    plural = {"mailbox": "mailboxes"}
    return ", ".join(
        f"{number} {name if number == 1 else plural.get(name, name + 's')}" for name, number in numbers.items()
    )


def _document(moved: Moved) -> Json:
    return {"rows": dict(moved.rows), "sealed": list(moved.sealed), "withoutSecrets": list(moved.without_secrets)}


# --------------------------------------------------------------------------------------------------------------- files


class _Stdout:
    """Only its writing can fail as ``StdoutUnwritable``, not what is read for it meanwhile."""

    def write(self, data: bytes) -> int:
        with writing_to_stdout():
            return sys.stdout.buffer.write(data)


@contextmanager
def _written(file: str) -> Iterator[BinaryIO]:
    """A new file that only its owner may read; it goes again unless all of it is written and on the disk."""
    if file == STREAM:
        yield cast("BinaryIO", _Stdout())
        with writing_to_stdout():
            sys.stdout.buffer.flush()
        return
    path = Path(file)
    try:
        raw = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")
    except FileExistsError:
        raise ConfigurationFault(path, "exists already and is left as it is; name another file") from None
    except OSError as error:
        raise ConfigurationFault(path, f"cannot be written: {error.strerror}") from error
    try:
        with raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
                    yield cast("BinaryIO", packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigurationFault(path, f"cannot be written: {error.strerror}") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _read(file: str) -> Iterator[Iterator[bytes]]:
    """The lines of an export, unpacked if it is compressed, whatever it is called."""
    if file == STREAM:
        if sys.stdin is None:  # closed by whoever started us
            raise ConfigurationFault(Path("stdin"), "is closed; name a file, or send the export through a pipe")
        yield _lines(cast("BinaryIO", sys.stdin.buffer))
        return
    path = Path(file)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise ConfigurationFault(path, f"cannot be read: {error.strerror}") from error
    with raw:
        yield _lines(raw)


def _lines(raw: BinaryIO) -> Iterator[bytes]:
    try:
        packed = raw.peek(2)[:2] == _GZIP  # type: ignore[attr-defined]  # what is buffered has it
        with gzip.GzipFile(fileobj=raw, mode="rb") if packed else raw as lines:
            yield from lines
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadExport("the export is damaged or cut off", remedy="export the store anew") from error
    except OSError as error:
        raise BadExport(f"the export cannot be read: {error.strerror}", remedy="look at its disk") from error
