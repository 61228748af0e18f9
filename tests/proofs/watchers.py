"""Who looks at the target while a run goes on: one that only looks, and one that takes everything at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.proofs.box import ROOT, STAGING, Box, visible
from tests.proofs.samples import Print, print_of


class Onlooker(Protocol):
    """Knows at any time what consumers have seen."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def seen(self) -> Counter[Print]:
        """Every file that has been visible until now, once for each time it appeared."""
        ...

    @property
    def faults(self) -> list[str]:
        """Files that were not whole when they were first seen, and what else must not be."""
        ...


class Watcher:
    """Lists the target again and again, and reads each file at first sight; files must neither change nor go."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._seen: dict[Path, Print] = {}
        self._looking = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def seen(self) -> Counter[Print]:
        self._look()
        return Counter(self._seen.values())

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self._look()

    def _look(self) -> None:
        with self._looking:
            there = set(visible(self._box.target))
            for path in there - self._seen.keys():
                self._seen[path] = print_of(path.read_bytes())
                if self._seen[path] not in self._box.known:
                    self.faults.append(f"{path} was not whole at first sight")
            self.faults += (f"{path} went away" for path in self._seen.keys() - there)


class Shelf(Protocol):
    """What somebody sees of a store of objects past every adapter."""

    def names(self) -> list[str]: ...

    def take(self, path: str) -> bytes: ...


class Shopper:
    """Lists a store of objects again and again, and takes each one out as soon as it is listed; staged ones aside."""

    def __init__(self, box: Box, shelf: Shelf) -> None:
        self._box = box
        self._shelf = shelf
        self._taken: list[Print] = []
        self._looking = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._shop, name="shopper", daemon=True)
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def seen(self) -> Counter[Print]:
        while self._look():
            pass
        assert self._thread.is_alive(), "the shopper has ended"
        return Counter(self._taken)

    def _shop(self) -> None:
        while not self._over.wait(0.03):
            self._look()

    def _look(self) -> int:
        """How many it took."""
        with self._looking:
            names = [name for name in self._shelf.names() if not name.startswith(f"{STAGING}/")]
            for name in names:
                found = print_of(self._shelf.take(name))
                self._taken.append(found)
                if found not in self._box.known:
                    self.faults.append(f"{name} was not whole")
        return len(names)


class Consumer:
    """A process that takes each file as soon as it is visible (``tests.proofs.consumer``)."""

    def __init__(self, box: Box, folder: Path) -> None:
        self._box = box
        self._taken = folder / "taken"
        self._list = folder / "taken.list"
        self._process: subprocess.Popen[bytes] | None = None
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._taken.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.proofs.consumer", str(self._box.target), str(self._taken)],
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        shutil.rmtree(self._taken)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def seen(self) -> Counter[Print]:
        assert self._process is not None
        deadline = time.monotonic() + 60
        while list(visible(self._box.target)) or len(self._listed()) < len(list(self._taken.iterdir())):
            assert self._process.poll() is None, "the consumer has ended"
            assert time.monotonic() < deadline, "the consumer does not keep up"
            time.sleep(0.01)
        listed = self._listed()
        self.faults = [f"{path} was not whole" for file, path in listed if file not in self._box.known]
        return Counter(file for file, _ in listed)

    def _listed(self) -> list[tuple[Print, str]]:
        if not self._list.exists():
            return []
        whole = self._list.read_text().rpartition("\n")[0].splitlines()
        fields = [line.split(" ", 3) for line in whole]
        return [((int(size), digest), path) for _, size, digest, path in fields]
