"""How a command is stopped, with which code it ends, what a program reads then; loads nothing that an extra brings."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any, Final, NoReturn

INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""

TERMINATED: Final = 143
"""128 + SIGTERM."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: whoever sent it wants what somebody at the keyboard wants with Ctrl-C."""


def exit_code(how: KeyboardInterrupt) -> int:
    """The code that tells which of the two it was."""
    return TERMINATED if isinstance(how, Terminated) else INTERRUPTED


def interrupted_document() -> dict[str, Any]:
    """What stands on stdout instead of a result that nobody waited for."""
    return {
        "error": {
            "error": "Interrupted",
            "message": "interrupted before there was a result",
            "remedy": "run it again: nothing is lost and nothing comes twice",
            "problems": [],
        }
    }


@contextmanager
def heeding_sigterm() -> Iterator[None]:
    """SIGTERM interrupts, as Ctrl-C does; without effect outside the main thread, where signals are not heard."""
    if current_thread() is not main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
