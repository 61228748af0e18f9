"""Several things are done at once, each in the context of whoever asked for them; what goes wrong stops the rest."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
A = TypeVar("A")


def at_once(threads: int, items: Sequence[T], work: Callable[[T], A]) -> list[A]:
    """The answers about each item, in their order; up to ``threads`` are worked on at once, in threads of their own.

    The context goes with them, so that what confines the caller confines them too.  What ``work`` raises is raised
    here once no thread works any more; what was not begun until then is left undone.
    """
    if min(threads, len(items)) <= 1:
        return [work(item) for item in items]
    failures: list[BaseException] = []

    def attempt(item: T) -> tuple[A] | None:
        if failures:
            return None
        try:
            return (work(item),)
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            failures.append(error)
            return None

    with ThreadPoolExecutor(min(threads, len(items)), thread_name_prefix="maildaemon-files") as pool:
        futures = [pool.submit(contextvars.copy_context().run, attempt, item) for item in items]
        try:
            answers = [future.result() for future in futures]
        except BaseException as error:
            failures.append(error)
            raise
    if failures:
        raise failures[0]
    return [answer for each in answers if each is not None for answer in each]
