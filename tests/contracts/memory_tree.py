"""A tree in memory: what each kind of destination is made of, without a server; every call can be made to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs

from maildaemon_adapters.files.tree import Fault, Named, Showing, Stat, TreeError
from maildaemon_core.ports import Finding

PIECE = 1 << 16


@attrs.define(eq=False)
class MemoryDisk:
    """The server's own disk: what is there whichever tree looks at it.  A path is relative to the root.

    ``versions`` counts what was written or published, so that a version can be given; ``marks`` tell a copy of a file
    from another with the same bytes.  ``touched`` is told each change that consumers could see.
    """

    data: dict[str, bytes] = attrs.field(factory=dict)
    folders: set[str] = attrs.field(factory=lambda: {""})
    lock: threading.RLock = attrs.field(factory=threading.RLock)
    versions: int = 0
    marks: dict[str, int] = attrs.field(factory=dict)
    touched: Callable[[], None] = lambda: None

    def files(self) -> Mapping[str, bytes]:
        """All files, those in the staging folder too."""
        with self.lock:
            return dict(self.data)

    def put(self, path: str, data: bytes) -> None:
        """Puts a file there, past the tree, with its folders."""
        with self.lock:
            for above in _above(path):
                self.folders.add(above)
            self.data[path] = data
            self.marks.pop(path, None)

    def take(self, path: str) -> bytes:
        """Takes a file away, past the tree."""
        with self.lock:
            return self.data.pop(path)


Tick = Callable[[str, str], None]
"""Told a call and its path."""


def nothing(call: str, path: str) -> None:
    """Nothing goes wrong."""


class MemoryTree:
    """A tree on a ``disk``.

    ``before`` and ``after`` are told each step that would reach the server, and may raise what goes wrong before it or
    after it was done; ``real_folders``: whether folders are more than parts of names.
    """

    def __init__(
        self,
        disk: MemoryDisk,
        showing: Showing = Showing.RENAME,
        *,
        at_once: int = 1,
        real_folders: bool = True,
        before: Tick = nothing,
        after: Tick = nothing,
    ) -> None:
        self.disk = disk
        self._showing = showing
        self._at_once = at_once
        self._real = real_folders
        self._before = before
        self._after = after

    @property
    def place(self) -> str:
        return f"memory://disk/{id(self.disk)}"

    @property
    def showing(self) -> Showing:
        return self._showing

    @property
    def at_once(self) -> int:
        return self._at_once

    def stat(self, path: str) -> Stat | None:
        self._before("stat", path)
        with self.disk.lock:
            found = self._stat(path)
        self._after("stat", path)
        return found

    def write(self, path: str, pieces: Iterable[bytes], size: int | None = None) -> None:
        self._before("write", path)
        with self.disk.lock:
            self._folder_of(path)
            self.disk.data[path] = b""
        written = bytearray()
        for piece in pieces:
            self._before("piece", path)
            written += piece
            with self.disk.lock:
                self.disk.data[path] = bytes(written[: PIECE - 1])  # torn until it is closed
        with self.disk.lock:
            self._folder_of(path)
            self.disk.data[path] = bytes(written)
            self.disk.versions += 1
            self.disk.marks[path] = self.disk.versions
        self._after("write", path)

    def read(self, path: str) -> Iterator[bytes]:
        self._before("read", path)
        with self.disk.lock:
            data = self.disk.data.get(path)
        if data is None:
            raise TreeError(Fault.MISSING, "No such file")
        for at in range(0, len(data), PIECE):
            yield data[at : at + PIECE]
        self._after("read", path)

    def publish(self, source: str, target: str) -> str | None:
        self._before("publish", target)
        with self.disk.lock:
            if source not in self.disk.data:
                raise TreeError(Fault.MISSING, "No such file")
            if self._stat(target) is not None and not self._is_copy(source, target):
                raise TreeError(Fault.EXISTS, "File exists")
            self._folder_of(target)
            self.disk.data[target] = self.disk.data[source]
            self.disk.marks[target] = self.disk.marks.get(source, -1)
            if self._showing is Showing.RENAME:
                del self.disk.data[source]
            self.disk.versions += 1
            version = f'"{self.disk.versions}"'
        self.disk.touched()
        if self._showing is Showing.COPY:
            self._before("unlink", source)
            with self.disk.lock:
                self.disk.data.pop(source, None)
        self._after("publish", target)
        return version

    def remove(self, path: str) -> None:
        self._before("remove", path)
        with self.disk.lock:
            self.disk.data.pop(path, None)
        self._after("remove", path)

    def make_folder(self, path: str) -> None:
        self._before("make_folder", path)
        if self._real:
            with self.disk.lock:
                if path in self.disk.data:
                    raise TreeError(Fault.BLOCKED, "Not a directory")
                if path:
                    self._folder_of(path)
                self.disk.folders.add(path)
        self._after("make_folder", path)

    def remove_folder(self, path: str) -> None:
        self._before("remove_folder", path)
        with self.disk.lock:
            if not any(other.startswith(f"{path}/") for other in (*self.disk.data, *self.disk.folders)):
                self.disk.folders.discard(path)
        self._after("remove_folder", path)

    def names(self, folder: str) -> Sequence[Named]:
        self._before("names", folder)
        start = f"{folder}/" if folder else ""
        found: dict[str, bool] = {}
        with self.disk.lock:
            for path in (*self.disk.data, *self.disk.folders):
                if path.startswith(start) and path != folder:
                    name, below, _ = path[len(start) :].partition("/")
                    found[name] = found.get(name, False) or bool(below) or path in self.disk.folders
        self._after("names", folder)
        return [Named(name=name, is_folder=is_folder) for name, is_folder in found.items()]

    def findings(self) -> Sequence[Finding]:
        return ()

    def close(self) -> None:
        pass

    def _is_copy(self, source: str, target: str) -> bool:
        marks = self.disk.marks
        return self._showing is Showing.COPY and source in marks and marks[source] == marks.get(target)

    def _stat(self, path: str) -> Stat | None:
        if path in self.disk.data:
            return Stat(size=len(self.disk.data[path]))
        if path in self.disk.folders or (not self._real and not path):
            return Stat(size=0, is_folder=True)
        return None

    def _folder_of(self, path: str) -> None:
        """Raises if the folder of ``path`` is not there."""
        if not self._real:
            return
        folder = path.rpartition("/")[0]
        if folder in self.disk.data:
            raise TreeError(Fault.BLOCKED, "Not a directory")
        if folder not in self.disk.folders:
            raise TreeError(Fault.MISSING, "No such folder")


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")
    for end in range(len(parts)):
        yield "/".join(parts[:end])
