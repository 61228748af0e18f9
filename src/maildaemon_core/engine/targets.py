"""The destinations of a mailbox, asked side by side: what they answer, and which of them do not work at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

import attrs

from maildaemon_core.errors import MaildaemonError, Trouble
from maildaemon_core.message import BatchId, MailboxId
from maildaemon_core.options import DestinationOptions
from maildaemon_core.ports import Destination
from maildaemon_core.progress import Artifact

logger = logging.getLogger(__name__)

T = TypeVar("T")
A = TypeVar("A")

At = tuple[str, str]
"""A destination's name and place: what an artifact remembers of it."""


class Paused(Exception):
    """Something that concerns all mails is in the way: nothing more can be stored now."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


@attrs.frozen(eq=False)
class Target:
    """A destination of this mailbox, opened."""

    options: DestinationOptions
    destination: Destination

    @property
    def at(self) -> At:
        return (self.options.name, self.destination.place)


@attrs.frozen(kw_only=True)
class Answers:
    """What was answered: ``parts`` by destination and part; ``down`` are those that answered nothing, and why."""

    parts: Mapping[tuple[At, str], object]
    down: Mapping[At, Trouble]

    def about(self, artifact: Artifact) -> object:
        """The answer about a staged part; the destination's own trouble if it gave none."""
        answer = self.parts.get((artifact.at, artifact.part))
        return self.down.get(artifact.at) if answer is None else answer


class Targets:
    """All destinations of a mailbox.  ``lanes`` lets them work side by side."""

    def __init__(self, targets: Sequence[Target], lanes: Executor) -> None:
        self._targets = {target.at: target for target in targets}
        self._lanes = lanes
        self._probes: dict[At, Trouble | None] = {}

    def has(self, at: At) -> bool:
        return at in self._targets

    def places(self) -> Mapping[str, str]:
        """The place of each destination, by its name."""
        return dict(self._targets.keys())

    def options(self, at: At) -> DestinationOptions:
        return self._targets[at].options

    def ask(
        self, work: Mapping[At, Sequence[T]], call: Callable[[Destination, Sequence[T]], Mapping[str, A]]
    ) -> Answers:
        """Asks each destination about its own part of the work."""
        self._probes.clear()
        asked = [at for at, its in work.items() if its]
        futures = {at: self._lanes.submit(self._one, at, call, work[at]) for at in asked[1:]}
        # The first one is asked in this thread: with a single destination no other is needed.
        said = {at: self._one(at, call, work[at]) for at in asked[:1]}
        said.update({at: future.result() for at, future in futures.items()})
        parts: dict[tuple[At, str], object] = {}
        down: dict[At, Trouble] = {}
        for at, answer in said.items():
            if isinstance(answer, Trouble):
                down[at] = answer
            else:
                parts.update({(at, part): value for part, value in answer.items()})
        return Answers(parts=parts, down=down)

    def probe(self, at: At) -> Trouble | None:
        """Law 8: whether a small file can be stored there; asked once after each round of work."""
        if at not in self._probes:
            answer = self._one(at, lambda destination, _: {"": destination.probe()}, ())
            self._probes[at] = answer if isinstance(answer, Trouble) else answer[""]
        return self._probes[at]

    def forget(self, batch: BatchId) -> None:
        for target in self._targets.values():
            with suppress(MaildaemonError):  # a later sweep clears it
                target.destination.forget(batch)

    def clear(self, mailbox: MailboxId, before: int, needed: Iterable[BatchId | None]) -> None:
        """Removes what earlier leases have left behind of this mailbox, but for the batches that are still needed."""
        kept = set(needed)
        for target in self._targets.values():
            with suppress(MaildaemonError):
                for batch in target.destination.batches():
                    if batch.mailbox == mailbox and batch.token < before and batch not in kept:
                        target.destination.forget(batch)

    def _one(
        self, at: At, call: Callable[[Destination, Sequence[T]], Mapping[str, A]], its: Sequence[T]
    ) -> Mapping[str, A] | Trouble:
        target = self._targets[at]
        try:
            return call(target.destination, its)
        except MaildaemonError as error:
            return error.trouble()
        except Exception as error:
            logger.exception("destination %s failed", target.options.name)
            return internal_trouble(f"destination {target.options.name!r}", error)


def internal_trouble(what: str, error: Exception) -> Trouble:
    """The trouble with something that should never have been raised."""
    return Trouble(
        error="InternalError",
        message=f"{what} failed unexpectedly ({type(error).__name__})",
        remedy="the log has the details; please report them",
    )
