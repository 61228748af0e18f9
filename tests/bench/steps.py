"""One archiving run with a stopwatch at every port: where the time goes, and how many round trips and commits it takes.

    python -m tests.bench.steps CONFIG.toml

Prints one JSON document: seconds of the main thread and of the source's thread by step, and counts.
"""

from __future__ import annotations

import imaplib
import json
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import attrs
import sqlalchemy

from maildaemon_core.engine import sweep
from maildaemon_core.engine.daemon import MailDaemon, open_store
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, Registry, installed_destinations, installed_sources
from maildaemon_core.message import mailbox_id
from tests.proofs.runner import STORE, options_of


class Stopwatch:
    """Adds up seconds by thread and step; a step within another counts for the inner one only."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.calls: Counter[str] = Counter()
        self._here = threading.local()

    def around(self, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            inner = self._enter()
            began = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self._leave(step, time.perf_counter() - began, inner)

        return timed

    def each(self, step: str, items: Iterator[Any]) -> Iterator[Any]:
        following = self.around(step, lambda: next(items, self))
        while (item := following()) is not self:
            yield item

    def _enter(self) -> list[float]:
        stack: list[list[float]] = self._here.__dict__.setdefault("stack", [])
        stack.append([0.0])
        return stack[-1]

    def _leave(self, step: str, took: float, inner: list[float]) -> None:
        stack: list[list[float]] = self._here.stack
        stack.pop()
        if stack:
            stack[-1][0] += took
        self.calls[step] += 1
        thread = "main" if threading.current_thread() is threading.main_thread() else "source"
        self.seconds[thread][step] += took - inner[0]


class Timed:
    """Any port, with a stopwatch around each of its methods."""

    def __init__(self, port: Any, name: str, watch: Stopwatch) -> None:
        self._port, self._name, self._watch = port, name, watch

    def __getattr__(self, method: str) -> Any:
        there = getattr(self._port, method)
        step = f"{self._name}.{method}"
        if not callable(there):
            return there
        if method == "fetch":
            return lambda refs: self._watch.each(step, there(refs))
        if method == "lease":
            return lambda *a, **k: self._leased(self._watch.around(step, there)(*a, **k))
        return self._watch.around(step, there)

    def _leased(self, lease: Any) -> Any:
        return None if lease is None else Timed(lease, "ledger", self._watch)

    def __enter__(self) -> Timed:
        self._port.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._port.__exit__(*error)


def timed_kinds(group: str, installed: Registry[Any], kinds: set[str], name: str, watch: Stopwatch) -> Registry[Any]:
    def opening(kind: Any) -> Any:
        return attrs.evolve(kind, open=lambda *arguments: Timed(kind.open(*arguments), name, watch))

    return Registry(group, (), **{each: opening(installed.kind(each)) for each in kinds})


def main(configuration: Path) -> None:
    watch = Stopwatch()
    counts: Counter[str] = Counter()
    (options,) = options_of(configuration)
    store = open_store(f"sqlite:///{configuration.parent / STORE}")

    def committed(_: object) -> None:
        counts["SQL transactions"] += 1

    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", committed)
    tag = imaplib.IMAP4._new_tag  # type: ignore[attr-defined]

    def counted(client: Any) -> Any:
        counts["IMAP commands"] += 1
        return tag(client)

    imaplib.IMAP4._new_tag = counted  # type: ignore[attr-defined]
    Future.result = watch.around("wait for the source", Future.result)  # type: ignore[method-assign]
    for function, step in (("read_message", "read"), ("plan_message", "plan")):
        setattr(sweep, function, watch.around(step, getattr(sweep, function)))
    daemon = MailDaemon(
        Timed(store, "store", watch),
        sources=timed_kinds(SOURCES, installed_sources(), {options.kind}, "source", watch),
        destinations=timed_kinds(
            DESTINATIONS, installed_destinations(), {each.kind for each in options.destinations}, "destination", watch
        ),
    )
    mailbox = mailbox_id(options.label)
    daemon.adopt(mailbox, options)
    counts.clear()
    cpu, began = time.process_time(), time.perf_counter()
    report = daemon.sweep_once(mailbox)
    whole = time.perf_counter() - began
    counts["batches"] = watch.calls["destination.stage"]
    answer = {
        "whole": whole,
        "processor": time.process_time() - cpu,
        "stored": report.counts.stored,
        "seconds": watch.seconds,
        "counts": {**counts, **{step: number for step, number in watch.calls.items() if step.startswith("ledger.")}},
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
