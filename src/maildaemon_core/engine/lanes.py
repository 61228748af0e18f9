"""An executor that can be left behind: calls that never return keep neither their caller nor the process from ending.

``concurrent.futures`` waits for its threads when the interpreter ends, however long a server says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import Context, copy_context
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Call = tuple[Future[Any], Context, Callable[[], Any]]


class Lanes(Executor):
    """Up to ``width`` calls at once, in the order in which they come, each in the context of whoever submits it."""

    def __init__(self, width: int, name: str) -> None:
        self._width = width
        self._name = name
        self._lock = Lock()
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._open = 0  # calls that are not over
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Raises RuntimeError after ``shutdown``."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("this lane is closed")
            self._open += 1
            if self._open > len(self._threads) < self._width:
                thread = Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
                thread.start()
                self._threads.append(thread)
            self._calls.put((future, copy_context(), lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls; those that came are still worked off, unless cancelled."""
        with self._lock:
            self._closed = True
            while cancel_futures and not self._calls.empty():
                call = self._calls.get_nowait()
                if call is not None:
                    call[0].cancel()
            for _ in self._threads:
                self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, context, act = call
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(context.run(act))
                except BaseException as error:  # noqa: BLE001  (it comes out of the future, whatever it is)
                    future.set_exception(error)
            with self._lock:
                self._open -= 1
            del call, future, context, act  # so that a thread that waits holds nothing of what is over
