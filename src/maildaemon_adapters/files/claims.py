"""One at a time may look whether a name is free and then take it, where a server cannot do both in one step."""

from __future__ import annotations

from threading import Lock
from typing import Final
from weakref import WeakValueDictionary


class Claim:
    """``with claim_of(place).lock:``; what it guards is whatever happens at that place in this process."""

    def __init__(self) -> None:
        self.lock = Lock()


_claims: Final[WeakValueDictionary[str, Claim]] = WeakValueDictionary()
_guard: Final = Lock()


def claim_of(place: str) -> Claim:
    """The one claim that all trees of this process have on a place; it lives as long as one of them holds it.

    Other processes are not kept out: between workers the ledger reserves each path for one mail (law 3), and other
    programs have no part in that.
    """
    with _guard:
        claim = _claims.get(place)
        if claim is None:
            claim = _claims[place] = Claim()
        return claim
