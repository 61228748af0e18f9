"""A tree that goes wrong at a step: whoever used it died there, or the server did something else than it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock

from maildaemon_adapters.files.tree import Named, Showing, Stat, Tree
from maildaemon_core.ports import Finding
from maildaemon_core.testing.faults import Crash


class BrokenTree:
    """Goes wrong at its ``step``-th step, once: before or after a call, or between two pieces of a file.

    ``error`` makes what is raised then, by the name of the call; a ``Crash`` if None.  ``steps`` counts.
    """

    def __init__(self, tree: Tree, step: int, error: Callable[[str], BaseException] | None = None) -> None:
        self._tree = tree
        self._step = step
        self._error = error or Crash
        self._lock = Lock()
        self.steps = 0

    @property
    def place(self) -> str:
        return self._tree.place

    @property
    def showing(self) -> Showing:
        return self._tree.showing

    @property
    def at_once(self) -> int:
        return self._tree.at_once

    def stat(self, path: str) -> Stat | None:
        self._tick("stat")
        found = self._tree.stat(path)
        self._tick("stat")
        return found

    def write(self, path: str, pieces: Iterable[bytes], size: int | None = None) -> None:
        self._tick("write")
        self._tree.write(path, self._pieces(pieces), size)
        self._tick("write")

    def read(self, path: str) -> Iterator[bytes]:
        self._tick("read")
        for piece in self._tree.read(path):
            yield piece
            self._tick("read")

    def publish(self, source: str, target: str) -> str | None:
        self._tick("publish")
        etag = self._tree.publish(source, target)
        self._tick("publish")
        return etag

    def remove(self, path: str) -> None:
        self._tick("remove")
        self._tree.remove(path)
        self._tick("remove")

    def make_folder(self, path: str) -> None:
        self._tick("make_folder")
        self._tree.make_folder(path)
        self._tick("make_folder")

    def remove_folder(self, path: str) -> None:
        self._tick("remove_folder")
        self._tree.remove_folder(path)
        self._tick("remove_folder")

    def names(self, folder: str) -> Sequence[Named]:
        self._tick("names")
        found = self._tree.names(folder)
        self._tick("names")
        return found

    def findings(self) -> Sequence[Finding]:
        return self._tree.findings()

    def close(self) -> None:
        """Nothing: the tree is another's."""

    def _pieces(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            self._tick("piece")

    def _tick(self, call: str) -> None:
        with self._lock:
            self.steps += 1
            if self.steps != self._step + 1:
                return
        raise self._error(call)
