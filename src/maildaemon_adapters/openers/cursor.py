"""Reading a content once from its beginning to its end, a few bytes at a time, without holding it."""

from __future__ import annotations

from maildaemon_core.message import Content

MOST = 1 << 16
"""No more than this many bytes are held for one ``take``."""


class Ended(Exception):
    """There is less than what was to be read."""


class Cursor:
    """A place in a content that only moves forward, so that the whole of it is read at most once.

    ``tally`` is the sum of all bytes before that place; differences of it are checksums, and may be nested.
    """

    def __init__(self, content: Content) -> None:
        self.size = content.size
        self._pieces = content.chunks()
        self._piece = b""
        self._start = 0  # of the piece, in the content
        self._at = 0  # in the piece
        self._sum = 0
        self._summed = 0  # how much of the piece is in the sum

    @property
    def position(self) -> int:
        return self._start + self._at

    def tally(self) -> int:
        """The sum of all bytes before ``position``."""
        self._sum += sum(self._piece[self._summed : self._at])
        self._summed = self._at
        return self._sum

    def take(self, length: int) -> bytes:
        """The next bytes; raises ``Ended`` if there are fewer.  ``length`` is at most ``MOST``."""
        if length > MOST:
            raise ValueError(f"{length} bytes are more than are taken in one go")
        stop = self._at + length
        if stop <= len(self._piece):
            data = self._piece[self._at : stop]
            self._at = stop
            return data
        parts = [self._piece[self._at :]]
        missing = length - len(parts[0])
        self._at = len(self._piece)
        while missing:
            self._next_piece()
            part = self._piece[:missing]
            self._at = len(part)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def number(self, length: int) -> int:
        """The next bytes as an unsigned number, the lowest first; raises ``Ended``."""
        return int.from_bytes(self.take(length), "little")

    def some(self, stop: int) -> bytes:
        """What can be had in one go of what lies before ``stop``, at least one byte; raises ``Ended``."""
        if self._at >= len(self._piece):
            self._next_piece()
        data = self._piece[self._at : min(self._at + MOST, max(stop - self._start, 0))]
        self._at += len(data)
        return data

    def go_to(self, position: int) -> None:
        """Moves forward; raises ``Ended`` for a place behind the end, and then stands at the end."""
        if position < self.position:
            raise ValueError(f"{position} lies before {self.position}")
        while position > self._start + len(self._piece):
            self._at = len(self._piece)
            self._next_piece()
        self._at = position - self._start

    def _next_piece(self) -> None:
        self.tally()
        piece = next(self._pieces, None)
        if piece is None:
            raise Ended
        self._start += len(self._piece)
        self._piece, self._at, self._summed = piece, 0, 0
