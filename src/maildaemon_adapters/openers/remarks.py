"""What an opener has to say about a container: each thing once, and not more than anybody reads."""

from __future__ import annotations

_MOST = 30


class Remarks:
    """Sentences in the order in which they first came."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}
        self._more = False

    def add(self, text: str) -> None:
        if text not in self._texts:
            if len(self._texts) < _MOST:
                self._texts[text] = None
            else:
                self._more = True

    def texts(self) -> tuple[str, ...]:
        return (*self._texts, "and more of the kind") if self._more else tuple(self._texts)
