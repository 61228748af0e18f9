"""Who holds a lease, written so that a later process on this machine can tell whether its holder is dead."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

_PROC = Path("/proc")


_IDLE = "idle"


def this_process(*, idle: bool = False) -> str:
    """``HOST pid PID MACHINE START NONCE``: the machine as booted and as seen from this process, and when it started.

    ``idle``: it does not work, it waits for news; that is the last word then.
    """
    pid = os.getpid()
    owner = f"{socket.gethostname()} pid {pid} {_machine()} {_start(pid)} {secrets.token_hex(4)}"
    return f"{owner} {_IDLE}" if idle else owner


def is_idle(owner: str) -> bool:
    """Whether the holder only waits for news, so that whoever is asked to work may take its lease over."""
    return owner.split()[-1:] == [_IDLE]


def for_people(owner: str) -> str:
    """``HOST pid PID``."""
    return " ".join(owner.split()[:3])


def is_dead(owner: str) -> bool:
    """True only if the holder was a process of this very machine and is certainly gone; in doubt False."""
    match owner.split():
        case [_, "pid", pid, machine, start, _, *_] if (
            pid.isdecimal() and machine == _machine() != "?" and start != "?"
        ):
            return _start(int(pid)) != start
    return False


def _machine() -> str:
    """This boot of this machine, and the pid namespace: a pid means something only within both."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink(_PROC / "self/ns/pid")  # noqa: PTH115  (Path.readlink would resolve what is no path)
    except OSError:
        return "?"
    return f"{boot}/{space}"


def _start(pid: int) -> str:
    """When a process started, in ticks since boot (proc(5), field 22); "-" if there is none, "?" if nobody can tell."""
    if not (_PROC / "self/stat").exists():
        return "?"
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return "-"
    except OSError:
        return "?"
    # A zombie holds nothing any more.
    return "-" if fields[0] in {"Z", "X"} else fields[19]
