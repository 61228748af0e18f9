"""The destinations of a mailbox, asked side by side: what they answer, and which of them do not work at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

import attrs

from maildaemon_core.errors import DestinationsAlike, MaildaemonError, Trouble
from maildaemon_core.message import BatchId, MailboxId
from maildaemon_core.options import DestinationOptions
from maildaemon_core.ports import Destination
from maildaemon_core.progress import Artifact

logger = logging.getLogger(__name__)

T = TypeVar("T")
A = TypeVar("A")


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
    def place(self) -> str:
        return self.destination.place


@attrs.frozen(kw_only=True)
class Answers:
    """What was answered: ``parts`` by place and part; ``down`` are the places that answered nothing, and why."""

    parts: Mapping[tuple[str, str], object]
    down: Mapping[str, Trouble]

    def about(self, artifact: Artifact) -> object:
        """The answer about a staged part; the destination's own trouble if it gave none."""
        answer = self.parts.get((artifact.place, artifact.part))
        return self.down.get(artifact.place) if answer is None else answer


class Targets:
    """All destinations of a mailbox.  ``lanes`` lets them work side by side."""

    def __init__(self, targets: Sequence[Target], lanes: Executor) -> None:
        self._targets = {target.place: target for target in targets}
        if len(self._targets) < len(targets):
            names = ", ".join(repr(target.options.name) for target in targets)
            raise DestinationsAlike(
                f"of the destinations {names}, two are one and the same place",
                remedy="make one destination of them, or give each its own folder",
            )
        self._lanes = lanes
        self._probes: dict[str, Trouble | None] = {}

    def has(self, place: str) -> bool:
        return place in self._targets

    def places(self) -> Mapping[str, str]:
        """The place of each destination, by its name."""
        return {target.options.name: place for place, target in self._targets.items()}

    def options(self, place: str) -> DestinationOptions:
        return self._targets[place].options

    def ask(
        self, work: Mapping[str, Sequence[T]], call: Callable[[Destination, Sequence[T]], Mapping[str, A]]
    ) -> Answers:
        """Asks each destination about its own part of the work."""
        self._probes.clear()
        asked = [place for place, its in work.items() if its]
        futures = {place: self._lanes.submit(self._one, place, call, work[place]) for place in asked[1:]}
        # The first one is asked in this thread: with a single destination no other is needed.
        said = {place: self._one(place, call, work[place]) for place in asked[:1]}
        said.update({place: future.result() for place, future in futures.items()})
        parts: dict[tuple[str, str], object] = {}
        down: dict[str, Trouble] = {}
        for place, answer in said.items():
            if isinstance(answer, Trouble):
                down[place] = answer
            else:
                parts.update({(place, part): value for part, value in answer.items()})
        return Answers(parts=parts, down=down)

    def probe(self, place: str) -> Trouble | None:
        """Law 8: whether a small file can be stored there; asked once after each round of work."""
        if place not in self._probes:
            answer = self._one(place, lambda destination, _: {"": destination.probe()}, ())
            self._probes[place] = answer if isinstance(answer, Trouble) else answer[""]
        return self._probes[place]

    def forget(self, batch: BatchId) -> None:
        for target in self._targets.values():
            with suppress(MaildaemonError):  # a later sweep clears it
                target.destination.forget(batch)

    def clear(self, mailbox: MailboxId, before: int, nonce: str, needed: Iterable[BatchId | None]) -> None:
        """Removes what earlier leases of this store have left behind of a mailbox, but for what is still needed."""
        kept = set(needed)
        for target in self._targets.values():
            with suppress(MaildaemonError):
                for batch in target.destination.batches():
                    ours = (batch.mailbox, batch.nonce) == (mailbox, nonce)
                    if ours and batch.token < before and batch not in kept:
                        target.destination.forget(batch)

    def _one(
        self, place: str, call: Callable[[Destination, Sequence[T]], Mapping[str, A]], its: Sequence[T]
    ) -> Mapping[str, A] | Trouble:
        target = self._targets[place]
        try:
            return call(target.destination, its)
        except MaildaemonError as error:
            return error.trouble()
        except Exception as error:
            logger.exception("destination %s failed", target.options.name)
            return internal_trouble(f"destination {target.options.name!r}", error)


def internal_trouble(what: str, error: BaseException) -> Trouble:
    """The trouble with something that should never have been raised."""
    return Trouble(
        error="InternalError",
        message=f"{what} failed unexpectedly ({type(error).__name__})",
        remedy="the log has the details; please report them",
    )
