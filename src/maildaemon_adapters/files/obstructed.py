"""What keeps us from a server, as a tree says it."""

from __future__ import annotations

from typing import Final

from maildaemon_adapters.files.tree import Fault, TreeError
from maildaemon_adapters.tcp.obstacles import Hindrance, Obstacle

_FAULTS: Final = {
    Hindrance.FORBIDDEN: Fault.GONE,
    Hindrance.UNTRUSTED: Fault.UNTRUSTED,
    Hindrance.UNREACHABLE: Fault.GONE,
}


def obstructed(obstacle: Obstacle) -> TreeError:
    """The obstacle, to be raised in place of what showed it."""
    return TreeError(_FAULTS[obstacle.kind], obstacle.what, remedy=obstacle.remedy)
