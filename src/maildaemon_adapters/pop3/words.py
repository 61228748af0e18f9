"""What a POP3 server's words mean: response codes, abilities, and what is shown to people.  Talks to nobody."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from maildaemon_adapters.tcp.words import said

LONGEST_SAYING: Final = 200
"""Characters of what a server said that are shown to people."""

BUSY: Final = frozenset({"IN-USE", "LOGIN-DELAY", "SYS/TEMP"})
"""Response codes (RFC 2449 §8.1, RFC 3206 §4) that say: not now."""

WAIT_SECONDS: Final = {"IN-USE": 60.0, "LOGIN-DELAY": 120.0}
"""So long a server that says this is left alone, unless it said how long itself."""

_CODE = re.compile(r"(?:\[([A-Za-z0-9/-]+)(?: ([^\]]*))?\] ?)?(.*)", re.DOTALL)
_LOCKED = re.compile(
    r"in use|\block|\bbusy\b|already (?:open|logged|active)|another (?:session|connection|client|pop)", re.IGNORECASE
)
_TEMPORARY = re.compile(r"too many|try (?:again|later)|temporar|simultaneous|exceeded|unavailable", re.IGNORECASE)


def response(text: str) -> tuple[str, str]:
    """The code of a response in upper case (``""`` when it has none) and its text for people (RFC 2449 §8)."""
    found = _CODE.fullmatch(text.strip())
    assert found is not None  # every part of it is optional
    return (found[1] or "").upper(), found[3].strip()


def busy(text: str) -> str:
    """Which code of ``BUSY`` a refusal has, or means where it has none; ``""`` if it is not about being busy."""
    code, words = response(text)
    if code:
        return code if code in BUSY else ""
    if _LOCKED.search(words) and "account" not in words.lower():  # an account that is locked stays so
        return "IN-USE"
    return "SYS/TEMP" if _TEMPORARY.search(words) else ""


def for_people(text: str, *, secrets: Iterable[str] = ()) -> str:
    """What a server said as one harmless line; some repeat a command that they do not understand."""
    return said(text, secrets, longest=LONGEST_SAYING)


def read_abilities(lines: Iterable[bytes]) -> dict[str, str]:
    """The answer to CAPA: each ability in upper case, and what stands behind it (RFC 2449 §5)."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
        if name:
            found.setdefault(name.upper(), rest.strip())
    return found


def mechanisms(abilities: Mapping[str, str]) -> frozenset[str]:
    """How the server lets one log in with AUTH (RFC 5034 §6)."""
    return frozenset(abilities.get("SASL", "").upper().split())
