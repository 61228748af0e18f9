"""Where an answer of several lines ends, and which of its dots are not its own (RFC 1939 §3); talks to nobody."""

from __future__ import annotations

from typing import Final

_END: Final = b".\r\n"
_DECIDED_AFTER: Final = 1 << 16
"""So many bytes a first line may have; a longer one is taken to end as lines should."""


class Unstuffer:
    """Takes an answer block by block, however it was cut, and gives what it says.

    Lines end with CRLF.  Some servers send mails with the bare LF that they store: where the first line ends so, every
    LF ends one.  Only there, for in any other mail a bare LF is part of a line, and a dot behind it is the mail's own.
    ``bare``: the server ends even its status lines so, and therefore its answers.

    ``over`` once the end has come; ``rest`` is what lies behind it.
    """

    def __init__(self, *, bare: bool = False) -> None:
        self._bare = bare
        self._held = b"\r\n"  # what stands before the first line is as good as the end of one
        self._extra = 2
        self._mark = b""
        self.over = False
        self.rest = b""

    def feed(self, block: bytes) -> bytes:
        """What is certain by now."""
        data = self._held + block
        if not self._mark and not self._decide(data):
            self._held = data
            return b""
        out: list[bytes] = []
        given = at = kept = 0
        while True:
            at = data.find(self._mark, at)
            if at < 0:
                kept = len(data) - self._undecided(data, given)
                break
            dot = at + len(self._mark) - 1
            if length := self._end_at(data, dot):
                self.over = True
                kept, self.rest = dot, data[dot + length :]
                break
            if _END.startswith(data[dot:]):
                kept = at  # the end, or not: the next block tells
                break
            out.append(data[given:dot])
            given = at = dot + 1
        out.append(data[given:kept])
        self._held = b"" if self.over else data[kept:]
        return self._without_extra(b"".join(out))

    def _decide(self, data: bytes) -> bool:
        first = data.find(b"\n", 2)
        if first < 0 and len(data) < _DECIDED_AFTER:
            return False
        loose = first >= 0 and data[first - 1 : first] != b"\r" and data[2:first] != b"."
        self._mark = b"\n." if loose or self._bare else b"\r\n."
        return True

    def _end_at(self, data: bytes, dot: int) -> int:
        if data.startswith(_END, dot):
            return len(_END)
        return 2 if self._bare and data.startswith(b".\n", dot) else 0

    def _undecided(self, data: bytes, given: int) -> int:
        """How many of the last bytes may be the beginning of a mark."""
        for length in range(len(self._mark) - 1, 0, -1):
            if length <= len(data) - given and data.endswith(self._mark[:length]):
                return length
        return 0

    def _without_extra(self, out: bytes) -> bytes:
        dropped = min(self._extra, len(out))
        self._extra -= dropped
        return out[dropped:]
