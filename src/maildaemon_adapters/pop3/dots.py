"""Where an answer of several lines ends, and which of its dots are not its own (RFC 1939 §3); talks to nobody."""

from __future__ import annotations

from typing import Final

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
        self._dot = b""
        self._ends: tuple[bytes, ...] = ()
        self.over = False
        self.rest = b""

    def feed(self, block: bytes) -> bytes:
        """What is certain by now."""
        data = self._held + block
        if not self._dot and not self._decide(data):
            self._held = data
            return b""
        found = [(at, end) for end in self._ends if (at := data.find(end)) >= 0]
        if found:
            at, end = min(found)
            kept = at + len(self._dot) - 1
            self.over, self._held, self.rest = True, b"", data[at + len(end) :]
        else:
            kept = len(data) - max(_overlap(data, end) for end in self._ends)
            self._held = data[kept:]
        out = data[:kept].replace(self._dot, self._dot[:-1])
        dropped = min(self._extra, len(out))
        self._extra -= dropped
        return out[dropped:]

    def _decide(self, data: bytes) -> bool:
        """How lines end, which the first one tells; False as long as it has not come."""
        first = data.find(b"\n", 2)
        if first < 0 and len(data) < _DECIDED_AFTER:
            return False
        loose = first >= 0 and data[first - 1 : first] != b"\r" and data[2:first] != b"."
        if loose or self._bare:
            self._dot, self._ends = b"\n.", (b"\n.\r\n",)
        else:
            self._dot, self._ends = b"\r\n.", (b"\r\n.\r\n",)
        if self._bare:
            self._ends += (b"\n.\n",)
        return True


def _overlap(data: bytes, end: bytes) -> int:
    """How many of the last bytes may be the beginning of that end."""
    return next((length for length in range(len(end) - 1, 0, -1) if data.endswith(end[:length])), 0)
