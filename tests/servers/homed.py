"""A server with a folder of its own, which is made when it starts and gone when it has stopped."""

from __future__ import annotations

import abc
import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.servers.process import Process


class Homed(abc.ABC):
    """To be used as a context manager: ``root`` is the folder, ``process`` what ``_start`` has started.

    ``farewell`` is the signal that ends it.  The folder does not lie below pytest's own: that is 0700, and a server's
    unprivileged user has to pass through.
    """

    farewell: ClassVar[signal.Signals] = signal.SIGTERM
    root: Path
    process: Process

    @abc.abstractmethod
    def _start(self) -> None:
        """Starts ``process``, with everything that it needs below ``root``; skips where it is not installed."""

    def __enter__(self) -> Self:
        self.root = Path(tempfile.mkdtemp(prefix=f"maildaemon-{type(self).__name__.lower()}-")).resolve()
        try:
            self._start()
        except BaseException:
            shutil.rmtree(self.root, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop(self.farewell)
        shutil.rmtree(self.root, ignore_errors=True)
