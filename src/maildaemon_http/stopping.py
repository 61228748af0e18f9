"""With which code a command ends that was stopped, and what a program reads then; loads nothing."""

from __future__ import annotations

from typing import Any, Final

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
