"""What the commands about keys do: a key is shown once, when it is made, and never by anything afterwards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from rich import box
from rich.table import Table

from maildaemon_core.access import (
    ALL_SCOPES,
    CHANCE_BYTES,
    ApiKey,
    KeyState,
    Scope,
    make_key,
    name_fault,
    named,
    read_expiry,
    read_scopes,
    without_secret,
)
from maildaemon_core.errors import InvalidOptions, Permanent, Problem
from maildaemon_core.store_port import Keys
from maildaemon_http import documents, tables
from maildaemon_http.compose import open_chosen_store
from maildaemon_http.terminal import StdoutUnwritable, Terminal, text

_COLOURS = {KeyState.GOOD: "green", KeyState.EXPIRED: "yellow", KeyState.REVOKED: "red"}


class NoSuchKey(Permanent):
    """No key has that name or prefix."""


class KeyNotShown(Permanent):
    """A key could not be shown to the one who had it made."""


@attrs.frozen(kw_only=True)
class KeyWish:
    """A key that somebody wants, found to be possible."""

    name: str
    scopes: frozenset[Scope]
    expires: datetime | None


def key_wish(name: str, *, scopes: Sequence[str] | None, expires: str | None) -> KeyWish:
    """What is wanted, as people type it; without scopes: all.  Raises ``InvalidOptions`` with all faults at once."""
    problems = []
    wanted, until = ALL_SCOPES, None
    if fault := name_fault(name):
        problems.append(Problem(path="NAME", message=fault))
    try:
        wanted = read_scopes(scopes) if scopes else ALL_SCOPES
    except ValueError as error:
        problems.append(Problem(path="--scope", message=str(error)))
    try:
        until = read_expiry(expires, now=datetime.now(UTC)) if expires is not None else None
    except ValueError as error:
        problems.append(Problem(path="--expires", message=str(error)))
    if problems:
        raise InvalidOptions(problems)
    return KeyWish(name=name, scopes=wanted, expires=until)


def create_key(wish: KeyWish, terminal: Terminal, *, store: str | None, configuration: Path | None) -> None:
    """Makes a key and shows it.

    Raises ``KeyExists``, or ``KeyNotShown`` when nobody could read it; then it is revoked.
    """
    with open_chosen_store(store, configuration, terminal, make=True) as keeper:
        add_key(keeper, wish, terminal)


def add_key(keeper: Keys, wish: KeyWish, terminal: Terminal) -> None:
    """Makes a key where keys are kept, and shows it, this once.  Raises as ``create_key``."""
    now = datetime.now(UTC)
    key, kept = make_key(os.urandom(CHANCE_BYTES), wish.name, now=now, scopes=wish.scopes, expires=wish.expires)
    keeper.add_key(kept)
    try:
        terminal.line(key.value)
        terminal.document(
            {
                "key": key.value,
                "prefix": kept.prefix,
                "name": kept.name,
                "scopes": sorted(kept.scopes),
                "expires": documents.moment(kept.expires),
            }
        )
    except (StdoutUnwritable, BrokenPipeError, SystemExit) as error:  # rich makes an exit of a pipe nobody reads
        keeper.revoke_key(kept.prefix, datetime.now(UTC))
        why = error.reason if isinstance(error, StdoutUnwritable) else "nobody reads it"
        raise KeyNotShown(
            f"the key {kept.name!r} could not be shown ({why}); it is revoked",
            remedy="make stdout a file that can be written, or a terminal, and make the key again",
        ) from None
    terminal.note(
        f"key {kept.name!r} for {_scopes(kept)}, {_until(kept)}.  It is shown only now: keep it in a safe place."
    )


def show_keys(terminal: Terminal, *, store: str | None, configuration: Path | None) -> None:
    """Shows what is known of each key, oldest first."""
    with open_chosen_store(store, configuration, terminal) as keeper:
        there = keeper.keys()
    now = datetime.now(UTC)
    if there:
        terminal.show(_table(there, now))
    else:
        terminal.line("there is no key")
    terminal.document({"items": [_document(key, now) for key in there]})


def revoke_key(wanted: str, terminal: Terminal, *, store: str | None, configuration: Path | None) -> None:
    """Revokes the key of this prefix or name, or says that it was already.  Raises ``NoSuchKey``."""
    now = datetime.now(UTC)
    with open_chosen_store(store, configuration, terminal) as keeper:
        there = keeper.keys()
        meant = named(there, wanted)
        if meant is None:
            raise _no_such_key(wanted, there, now)
        done = keeper.revoke_key(meant.prefix, now)
        key = keeper.key(meant.prefix) or meant
    if done:
        terminal.line(f"key {key.name!r} ({key.prefix}) is revoked: it opens nothing any more")
    else:
        terminal.line(f"key {key.name!r} ({key.prefix}) was revoked already, {tables.moment(key.revoked)}")
    terminal.document({**_document(key, now), "already": not done})


def _no_such_key(wanted: str, there: Sequence[ApiKey], now: datetime) -> NoSuchKey:
    left = [f"{key.name!r} ({key.prefix})" for key in there if key.state(now=now) is not KeyState.REVOKED]
    return NoSuchKey(
        f"there is no key {without_secret(wanted)!r}",
        remedy=f"there are: {', '.join(left)}"
        if left
        else "there is none that is not revoked; see: maildaemon keys list",
    )


def _document(key: ApiKey, now: datetime) -> documents.Json:
    return {
        "prefix": key.prefix,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created": documents.moment(key.created),
        "expires": documents.moment(key.expires),
        "lastUsed": documents.moment(key.last_used),
        "revoked": documents.moment(key.revoked),
        "state": key.state(now=now).value,
    }


def _table(keys: Sequence[ApiKey], now: datetime) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("prefix", "name", "scopes", "created", "expires", "last used", "state"):
        table.add_column(column, overflow="fold")
    for key in keys:
        state = key.state(now=now)
        dates: Any = map(tables.moment, (key.created, key.expires, key.last_used))
        table.add_row(key.prefix, text(key.name), _scopes(key), *dates, text(state.value, _COLOURS[state]))
    return table


def _scopes(key: ApiKey) -> str:
    return "everything" if key.scopes == ALL_SCOPES else ", ".join(sorted(key.scopes)) or "nothing"


def _until(key: ApiKey) -> str:
    return "until it is revoked" if key.expires is None else f"until {tables.moment(key.expires)}"
