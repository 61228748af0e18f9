"""How files lie in an object store, where folders are nothing but parts of names: one tree for every vendor's store.

A staged object gets a mark of its own when it is written, which a copy on the server carries along: so a copy that was
made already, though the answer got lost, is told from what somebody else has put there.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, TypeVar

import attrs

from maildaemon_adapters.files.claims import claim_of
from maildaemon_adapters.files.paths import STAGING
from maildaemon_adapters.files.staging import TRIAL
from maildaemon_adapters.files.tree import Fault, Named, Showing, Stat, TreeError
from maildaemon_core.ports import Finding

BLOCK: Final = 8 * 1024 * 1024
"""Bytes of one block of a large object, each a round trip: more than the 5 MiB that S3 takes at least, and as much as
Google advises, in multiples of 256 KiB.  Each thread holds one, and two for a moment."""

LONGEST_KEY: Final = 1024
"""Bytes of a whole name (S3, Google) or characters (Azure)."""

MARK: Final = "maildaemonpart"
"""The name of the mark among an object's metadata; letters only, for Azure takes nothing else that all others take."""

AT_ONCE: Final = 8
"""Threads, and with each as many connections: a small object costs round trips, and hardly anything else."""

_SOON: Final = 3.0
_PAUSE: Final = 0.3
_PASSING: Final = frozenset({Fault.GONE, Fault.BUSY, Fault.OTHER})

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Seen:
    """An object as it lies there: its size in bytes, its mark ("" for what is not ours), its version or ETag."""

    size: int
    mark: str
    version: str


class Upload(Protocol):
    """A large object on its way, which nobody sees before it is finished."""

    def add(self, block: bytes) -> None:
        """Sends the next ``BLOCK`` bytes.  A call that raised may be made once more, with the same block."""
        ...

    def finish(self, rest: bytes) -> None:
        """Sends what is left, fewer bytes than a block, and makes it an object; may be called once more, as ``add``."""
        ...

    def discard(self) -> None:
        """Throws away what was sent.  Raises ``TreeError``."""
        ...


class ObjectStore(Protocol):
    """One bucket, or container, of one vendor.  Each call is tried once, and raises ``TreeError`` alone.

    Keys are whole names in the bucket.  Used by several threads at once.
    """

    @property
    def place(self) -> str:
        """The bucket as a URL, without credentials and without a slash at its end."""
        ...

    @property
    def largest(self) -> int:
        """The most bytes that the server copies within itself at once, so that the copy is seen whole or not at all."""
        ...

    def head(self, key: str) -> Seen | None:
        """None if there is no such object."""
        ...

    def put(self, key: str, data: bytes, mark: str) -> None:
        """Makes a small object, or replaces it."""
        ...

    def begin(self, key: str, mark: str) -> Upload:
        """Begins a large object, which replaces what is there when it is finished."""
        ...

    def get(self, key: str) -> Iterator[bytes]:
        """``MISSING``."""
        ...

    def copy(self, source: str, target: str) -> str:
        """Copies on the server, mark and all, and gives the copy's version.  ``EXISTS``, ``MISSING``."""
        ...

    def delete(self, key: str) -> None:
        """One that is not there is fine."""
        ...

    def names(self, prefix: str) -> Iterator[Named]:
        """What follows the prefix, up to the next slash; folders once each."""
        ...

    def findings(self, trial: str) -> Sequence[Finding]:
        """What this very server cannot promise; ``trial`` is a key that may be used to find out."""
        ...

    def close(self) -> None: ...


class ObjectTree:
    """The tree of the objects of a store whose names begin with ``root/``; with all of them if ``root`` is empty."""

    def __init__(self, store: ObjectStore, root: str) -> None:
        self._store = store
        self._root = root
        self._start = f"{root}/" if root else ""

    def __repr__(self) -> str:
        return f"ObjectTree({self.place!r})"

    @property
    def place(self) -> str:
        return f"{self._store.place}/{self._root}"

    @property
    def showing(self) -> Showing:
        return Showing.COPY

    @property
    def at_once(self) -> int:
        return AT_ONCE

    def stat(self, path: str) -> Stat | None:
        if not path:
            self.names("")  # so that a bucket that is not there is told
            return Stat(size=0, is_folder=True)
        found = self._head(path)
        return None if found is None else Stat(size=found.size)

    def write(self, path: str, pieces: Iterable[bytes], size: int | None = None) -> None:
        key, mark = self._key(path), secrets.token_hex(16)
        self._require_copyable(size or 0)
        upload: Upload | None = None
        try:
            sent = 0
            for block in blocks(pieces):
                sent += len(block)
                self._require_copyable(sent)
                if len(block) == BLOCK:
                    upload = upload or _again(partial(self._store.begin, key, mark))
                    _again(partial(upload.add, block))
                elif upload is None:
                    _again(partial(self._store.put, key, block, mark))
                else:
                    _again(partial(upload.finish, block))
                del block  # else it would stay while the next one is gathered
        except BaseException:
            with suppress(TreeError):
                if upload is not None:
                    upload.discard()
            with suppress(TreeError):  # an answer may be lost when the object is there
                self._store.delete(key)
            raise

    def read(self, path: str) -> Iterator[bytes]:
        yield from self._store.get(self._key(path))

    def publish(self, source: str, target: str) -> str | None:
        # Not every server heeds a condition on a copy.  So it is looked first, by one thread of this process at a time;
        # whoever comes from elsewhere in between is kept out by the condition, where it is heeded.
        claim = claim_of(f"{self.place}/{target}")
        with claim.lock:
            return self._publish(source, target)

    def _publish(self, source: str, target: str) -> str:
        here, there = self._key(source), self._key(target)
        found = self._head(target)
        if found is None:
            try:
                version = _again(partial(self._store.copy, here, there))
            except TreeError as error:
                if error.fault is not Fault.EXISTS or (found := self._head(target)) is None:
                    raise
            else:
                self.remove(source)
                return version
        staged = self._head(source)
        if staged is None:
            raise TreeError(Fault.MISSING, "there is no such object")
        if not staged.mark or staged.mark != found.mark:
            raise TreeError(Fault.EXISTS, "there is an object of that name already")
        self.remove(source)
        return found.version

    def remove(self, path: str) -> None:
        _again(partial(self._store.delete, self._key(path)))

    def make_folder(self, path: str) -> None:
        """Nothing: a folder is there as soon as something lies in it."""

    def remove_folder(self, path: str) -> None:
        """Nothing: a folder goes with the last thing in it."""

    def names(self, folder: str) -> Sequence[Named]:
        prefix = f"{self._start}{folder}/" if folder else self._start
        # An empty object that ends in a slash is how some consoles show a folder; it has no name of its own in there.
        return _again(lambda: [named for named in self._store.names(prefix) if named.name])

    def findings(self) -> Sequence[Finding]:
        return self._store.findings(self._key(f"{STAGING}/{TRIAL}{time.time():.0f}-{secrets.token_hex(8)}/condition"))

    def close(self) -> None:
        self._store.close()

    def _require_copyable(self, size: int) -> None:
        if size > self._store.largest:
            raise TreeError(
                Fault.REFUSED_FILE,
                f"it has more than {self._store.largest:,} bytes, and this store copies no more at once",
                remedy="store such files on another kind of destination",
            )

    def _head(self, path: str) -> Seen | None:
        return _again(partial(self._store.head, self._key(path)))

    def _key(self, path: str) -> str:
        key = self._start + path
        if len(key.encode()) > LONGEST_KEY:
            raise TreeError(
                Fault.NAME,
                f"its whole name has more than {LONGEST_KEY} bytes",
                remedy="shorten the path template, or the path in the url",
            )
        return key


def blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of ``BLOCK``; the last one, which may be empty, has fewer."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= BLOCK:
            with memoryview(held) as view:
                block = bytes(view[:BLOCK])
            del held[:BLOCK]
            yield block
            del block
    yield bytes(held)


def _again(call: Callable[[], T]) -> T:
    """The call, and once more if it failed at once in a way that may pass: a connection that the server had closed."""
    began = time.monotonic()
    try:
        return call()
    except TreeError as error:
        if error.fault not in _PASSING or error.retry_after or time.monotonic() - began > _SOON:
            raise
    time.sleep(_PAUSE)
    return call()
