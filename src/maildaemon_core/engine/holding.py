"""What is held besides the mails of a batch while it is stored: what must be decoded to be read, what openers found."""

from __future__ import annotations

from collections.abc import Iterable

from maildaemon_core.containers import Keep
from maildaemon_core.message import Content


class Holding:
    """Keeps contents and gives all of them back at once: they are needed until the mail is stored."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._contents: list[Content] = []

    def keep(self, pieces: Iterable[bytes]) -> Content:
        """As a spool's; raises ``SpoolFull``, and what ``pieces`` raises."""
        content = self._keep(pieces)
        self._contents.append(content)
        return content

    def close(self) -> None:
        """Gives everything back; more may be kept afterwards."""
        contents, self._contents = self._contents, []
        for content in contents:
            content.close()
