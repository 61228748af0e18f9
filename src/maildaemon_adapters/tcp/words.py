"""What a server said, as it may be shown to people."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

LONGEST_SAYING: Final = 300
"""Characters of a server's own words that are shown."""


def said(text: str, secrets: Iterable[str] = (), *, longest: int = LONGEST_SAYING) -> str:
    """What a server said as one harmless line: no control characters, not endless, none of the secrets.

    Some servers repeat a command that they do not understand, and that may have been the login.
    """
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    line = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)
    line = " ".join(line.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
