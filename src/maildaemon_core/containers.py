"""What opens a part of a mail that holds files itself (winmail.dat, S/MIME): the port for openers, and their budget."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn, Protocol, runtime_checkable

import attrs

from maildaemon_core.message import BytesContent, Content

Keep = Callable[[Iterable[bytes]], Content]
"""Holds what is read from an iterator, so that it can be read again: ``Spool.keep``."""


def keep_in_memory(pieces: Iterable[bytes]) -> Content:
    """Holds everything in memory; for tests and for small mails."""
    return BytesContent(b"".join(pieces))


class BudgetSpent(Exception):
    """Opening a container took more than it may; the text says what of."""


@attrs.frozen(kw_only=True)
class OpeningLimits:
    """What opening the containers of one mail may cost, all of them together.

    ``read`` and ``made`` are bytes that openers read of containers, and bytes of what they found inside; ``files`` how
    many files that may be; ``seconds`` how long it may take.
    """

    read: int = 1 << 30
    made: int = 1 << 30
    files: int = 1_000
    seconds: float = 60.0


class Budget:
    """What is left of ``OpeningLimits`` for one mail.

    An opener gets its container's content ``metered``, which counts what is read and looks at the clock, so that an
    endless loop over a container ends by itself.  What it unpacks it gives to ``keep``, which counts what is made.
    Each method raises ``BudgetSpent``; an opener lets it through.
    """

    def __init__(
        self,
        limits: OpeningLimits | None = None,
        *,
        keep: Keep = keep_in_memory,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._limits = limits or OpeningLimits()
        self._keep = keep
        self._clock = clock
        self._began = clock()
        self._read = self._made = self._files = 0
        self._spent: str | None = None

    def keep(self, pieces: Iterable[bytes]) -> Content:
        """Holds what an opener made, in memory or in a file, whichever is right for its size."""
        return self._keep(self._counted(pieces))

    def _counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.make(len(piece))
            yield piece

    def metered(self, content: Content) -> Metered:
        """The same content; reading it is counted until it is ``free``."""
        self._spent = None
        return Metered(content, self)

    @property
    def spent(self) -> str | None:
        """What was refused since a container was last metered, whoever has caught that; None if nothing was."""
        return self._spent

    def read(self, size: int) -> None:
        """Counts bytes that were read of a container."""
        self._read += size
        if self._read > self._limits.read:
            self._refuse(f"more than {self._limits.read} bytes of containers to be read")
        self.look_at_the_clock()

    def make(self, size: int) -> None:
        """Counts bytes that came out of a container."""
        self._made += size
        if self._made > self._limits.made:
            self._refuse(f"more than {self._limits.made} bytes in containers")
        self.look_at_the_clock()

    def file(self) -> None:
        """Counts a file that was found in a container."""
        self._files += 1
        if self._files > self._limits.files:
            self._refuse(f"more than {self._limits.files} files in containers")
        self.look_at_the_clock()

    def look_at_the_clock(self) -> None:
        """For an opener that works long without reading."""
        if self._clock() - self._began > self._limits.seconds:
            self._refuse(f"opening containers took more than {self._limits.seconds:g} seconds")

    def _refuse(self, text: str) -> NoReturn:
        self._spent = text
        raise BudgetSpent(text)


class Metered:
    """The content of a container: what an opener reads of it is counted.

    It may stay in the hands of files that were found in it; whoever reads these later does not open anything any more.
    """

    def __init__(self, content: Content, budget: Budget) -> None:
        self._content = content
        self._budget: Budget | None = budget

    def free(self) -> None:
        """From now on nothing is counted."""
        self._budget = None

    @property
    def size(self) -> int:
        return self._content.size

    @property
    def sha256(self) -> str:
        return self._content.sha256

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        if self._budget is not None:
            self._budget.look_at_the_clock()
        for piece in self._content.chunks(start, stop):
            if self._budget is not None:
                self._budget.read(len(piece))
            yield piece

    def close(self) -> None:
        pass  # the reader of the mail owns it


class SliceContent:
    """Bytes of another content, from ``start`` to before ``stop``: nothing is copied.

    Closing leaves the other open, and it must stay open while this is read.  Raises ValueError for bounds that do not
    lie in ``parent``.
    """

    def __init__(self, parent: Content, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= parent.size:
            raise ValueError(f"{start}:{stop} does not lie in {parent.size} bytes")
        self._parent = parent
        self._start = start
        self._stop = stop
        self._sha256: str | None = None

    def __repr__(self) -> str:
        return f"SliceContent({self._start}:{self._stop})"

    @property
    def size(self) -> int:
        return self._stop - self._start

    @property
    def sha256(self) -> str:
        if self._sha256 is None:
            digest = hashlib.sha256()
            for piece in self.chunks():
                digest.update(piece)
            self._sha256 = digest.hexdigest()
        return self._sha256

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        first = self._start + start
        last = self._stop if stop is None else min(self._stop, self._start + stop)
        if first < last:
            yield from self._parent.chunks(first, last)

    def close(self) -> None:
        pass


@attrs.frozen(kw_only=True)
class Container:
    """A part that may hold files.

    ``content_type`` is in lower case without parameters, ``name`` as sent or None, ``smime_type`` the parameter of that
    name in lower case or ``""`` (RFC 8551 §3.2.2).  ``content`` is without its transfer encoding; reading any piece of
    it costs no more than that piece.
    """

    content_type: str
    name: str | None
    smime_type: str
    content: Content


@attrs.frozen(kw_only=True)
class InnerFile:
    """A file in a container: its name as sent, its type in lower case (``application/octet-stream`` if unknown)."""

    name: str | None
    content_type: str
    content: Content


@attrs.frozen(kw_only=True)
class Opened:
    """What was in a container.

    ``files`` are attachments.  ``entity`` is a MIME entity (header and body, RFC 2045 §2.4) that is read as if it stood
    in the container's place: its texts are bodies, its attachments attachments.  ``losses`` say what may be missing:
    with one, the mail does not count as read to its end (law 6).  ``notes`` lose nothing.  ``encrypted``: what it
    holds can only be read by somebody who has a key.
    """

    files: Sequence[InnerFile] = ()
    entity: Content | None = None
    losses: Sequence[str] = ()
    notes: Sequence[str] = ()
    encrypted: bool = False


@runtime_checkable
class Opener(Protocol):
    """Opens one kind of container.  Registered as an object under the entry-point group ``maildaemon.openers``.

    Laws (``maildaemon_core.testing.opener_conformance``):

    - ``open`` is total: for any bytes it returns, or raises ``BudgetSpent``; what it could not read it lists.
    - The same container always gives the same files in the same order.
    - It reads ``container.content`` in pieces and a bounded number of times; memory does not grow with its size.
    - It writes nothing but through ``budget.keep``, asks nobody, and keeps nothing of a mail after it.

    The reader of mails keeps the container itself as an attachment, whatever comes out of it, and goes on without what
    an opener that raises anything else would have found.
    """

    @property
    def name(self) -> str:
        """What it is called in messages, such as ``TNEF``."""
        ...

    def recognises(self, container: Container) -> bool:
        """Whether this may be a container of that kind, by type and name; its content is not read for that."""
        ...

    def open(self, container: Container, budget: Budget) -> Opened:
        """What is in it."""
        ...
