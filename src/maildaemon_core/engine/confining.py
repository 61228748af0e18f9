"""Who may connect where: every connection that this process makes from Python is judged by its actual address.

Python announces each of them (PEP 578, the audit events of ``socket``), so that no library, redirect, endpoint or
answer of a name server escapes.  What C libraries connect to by themselves is not announced.  PostgreSQL's client is
one, which the service itself uses; an adapter of mailboxes that uses one cannot be confined.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import ip_address
from pathlib import Path
from threading import Lock
from typing import Any, Final

import attrs

from maildaemon_core.confinement import (
    ALLOWING,
    Confinement,
    ConnectionForbidden,
    OutOfBounds,
    address_fault,
    placed,
    require_within,
)

_NAME_SERVICE: Final = 53
_TRIAL: Final = "maildaemon.confining"


@attrs.frozen
class _Scope:
    """What was said about the work that goes on: what confines it, None if nothing does."""

    confinement: Confinement | None


@attrs.define
class _Process:
    """What confines work about which nothing was said, and whether connections are judged at all."""

    confinement: Confinement | None = None
    judging: bool = False


_scope: ContextVar[_Scope | None] = ContextVar("maildaemon_confinement", default=None)
_process = _Process()
_installing = Lock()


def confine_process(confinement: Confinement | None) -> None:
    """From now on confines all work of this process that is not in ``trusted`` or ``confined``; None: none of it.

    So it holds for threads that libraries start, which know nothing of the work that they are for.
    """
    _judge_connections()
    _process.confinement = confinement


@contextmanager
def confined(confinement: Confinement) -> Iterator[None]:
    """Connections that are made in here, in any thread that works in this context (``Lanes``), are confined."""
    _judge_connections()
    with _said(confinement):
        yield


@contextmanager
def trusted() -> Iterator[None]:
    """Connections that are made in here, in any thread that works in this context (``Lanes``), are not confined."""
    with _said(None):
        yield


@contextmanager
def _said(confinement: Confinement | None) -> Iterator[None]:
    token = _scope.set(_Scope(confinement))
    try:
        yield
    finally:
        _scope.reset(token)


def confining() -> Confinement | None:
    """What confines the work that asks; None if nothing does."""
    scope = _scope.get()
    return _process.confinement if scope is None else scope.confinement


# --------------------------------------------------------------------------------------------------------- connections


def _judge_connections() -> None:
    """Has every connection judged from now on; once is enough, and for ever."""
    with _installing:
        if _process.judging:
            return
        sys.addaudithook(_hook())
        sys.audit(_TRIAL)
        if not _process.judging:  # another hook can keep ours out, without a word (sys.addaudithook)
            raise RuntimeError("this process lets no audit hook be added, so that nothing can be confined")


def _hook() -> Callable[[str, tuple[Any, ...]], None]:
    # It is called for each of very many events, and until the very end of the process, when modules are empty already.
    judged, trial, process, confines, judge = _EVENTS, _TRIAL, _process, confining, _forbidden

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in judged:
            if event == trial:
                process.judging = True
            return
        confinement = confines()
        if confinement is not None and (forbidden := judge(confinement, event, *arguments[:2])) is not None:
            raise forbidden

    return hook


_EVENTS: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
"""Also sending, since that can connect (TCP Fast Open, RFC 7413), and datagrams need no connection."""


def _forbidden(confinement: Confinement, event: str, sock: socket.socket, address: Any) -> ConnectionForbidden | None:
    if address is None:  # over a connection that was judged when it was made
        return None
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        # Docker, databases, buses, agents with keys: who may connect to these may do what this process's user may.
        return ConnectionForbidden(f"{_shown(address)!r} is no server of a network", "name one")
    host, port = _shown(address[0]), address[1]
    if event != "socket.connect" and sock.type == socket.SOCK_DGRAM and port == _NAME_SERVICE:
        return None  # a resolver in Python asks the name service that the machine is set to, which often is itself
    try:
        ip_address(host)
    except ValueError:  # the system would look it up once more, and nobody could see what it found
        return ConnectionForbidden(f"{host!r} is connected to by name, unseen", "give its address")
    fault = address_fault(confinement, host)
    return None if fault is None else ConnectionForbidden(fault, ALLOWING)


def _shown(host: Any) -> str:
    return bytes(host).decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else str(host)


# ---------------------------------------------------------------------------------------------------------------- files


def real_place(path: str, folders: Sequence[str]) -> str:
    """Where a path of a mailbox really lies, links followed, which is in one of the folders; nothing need be there.

    A relative path begins at the first folder.  Raises ``OutOfBounds``; what lies outside as it is written is not even
    looked at.
    """
    whole = placed(path, folders)
    try:
        real = os.path.realpath(whole)
        require_within(real, real_folders(folders))
    except (OSError, ValueError, OutOfBounds):
        raise OutOfBounds(
            f"{path!r} does not really lie below the folder that this service has for mailboxes: a link leads away",
            remedy="name another, or have the operator of this service remove the link",
        ) from None
    return real


def real_folders(folders: Sequence[str]) -> Sequence[str]:
    """The folders with the links in their paths followed: those are the operator's."""
    return [os.path.realpath(folder) for folder in folders]


def real_file(path: str, folders: Sequence[str]) -> str:
    """As ``real_place``, for what is to be read as a file: no pipe, no device."""
    real = real_place(path, folders)
    try:
        if not stat.S_ISREG(Path(real).stat().st_mode):
            raise OutOfBounds(f"{path!r} is no file", remedy="name one")
    except OSError:
        pass  # who opens it says so best
    return real
