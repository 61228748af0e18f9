"""Empty files that announce others: ``name.done`` is stored after ``name``, whatever kind the destination is.

A marker is staged beside its file, so that it is published, recovered and forgotten by the same laws.  Whether a part
has one is said by its name, which the ledger keeps: that holds when the option has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from maildaemon_core.errors import Trouble
from maildaemon_core.message import BatchId, BytesContent
from maildaemon_core.plan import DONE
from maildaemon_core.ports import Destination, Finding, Occupied, Put, Staged, StillStaged, Unknown, WasPublished
from maildaemon_core.progress import Receipt

Published = Receipt | Occupied | Unknown | Trouble
Became = StillStaged | WasPublished | Unknown | Trouble

_MARKED: Final = ".marked"
"""Ends the name of a part that has a marker beside it."""

_EMPTY: Final = BytesContent(b"")


def part_name(name: str, *, marked: bool) -> str:
    """What a part is to be called so that it gets a marker, or none."""
    return name + _MARKED if marked else name


class Marking:
    """A destination that also stores the markers of those parts that are to have one."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination

    def __repr__(self) -> str:
        return f"Marking({self._destination!r})"

    @property
    def place(self) -> str:
        return self._destination.place

    def check(self) -> Sequence[Finding]:
        return self._destination.check()

    def probe(self) -> Trouble | None:
        return self._destination.probe()

    def stage(self, batch: BatchId, puts: Sequence[Put]) -> Mapping[str, Staged | Trouble]:
        """Stages each part and its marker; the trouble with one is the trouble with both."""
        markers = [
            Put(part=put.part + DONE, path=put.path + DONE, content=_EMPTY) for put in puts if _is_marked(put.part)
        ]
        answers = self._destination.stage(batch, [*puts, *markers])
        said: dict[str, Staged | Trouble] = {}
        for put in puts:
            answer, marker = answers[put.part], answers.get(put.part + DONE)
            said[put.part] = marker if isinstance(answer, Staged) and isinstance(marker, Trouble) else answer
        return said

    def publish(self, batch: BatchId, staged: Sequence[Staged]) -> Mapping[str, Published]:
        """Publishes each part, and each marker once its part is out.  A marker's name that is taken announces it too.

        A part that is out while its marker has trouble is not confirmed: to be asked for again.
        """
        answers = dict(self._destination.publish(batch, staged))
        out = [_marker(each) for each in staged if _is_marked(each.part) and isinstance(answers[each.part], Receipt)]
        if out:
            said = self._destination.publish(batch, out)
            for each in staged:
                marker = said.get(each.part + DONE)
                if isinstance(marker, Unknown | Trouble):
                    answers[each.part] = marker
        return answers

    def recover(self, batch: BatchId, staged: Sequence[Staged]) -> Mapping[str, Became]:
        """A part that is out while its marker is not is staged and ``out``: publishing it again gives the marker."""
        markers = [_marker(each) for each in staged if _is_marked(each.part)]
        answers = self._destination.recover(batch, [*staged, *markers])
        said: dict[str, Became] = {}
        for each in staged:
            answer, marker = answers[each.part], answers.get(each.part + DONE)
            if isinstance(answer, WasPublished) and marker is not None:
                answer = StillStaged(out=True) if isinstance(marker, StillStaged) else marker
            said[each.part] = answer
        return said

    def forget(self, batch: BatchId) -> None:
        self._destination.forget(batch)

    def batches(self) -> Collection[BatchId]:
        return self._destination.batches()

    def close(self) -> None:
        self._destination.close()


def _is_marked(part: str) -> bool:
    return part.endswith(_MARKED)


def _marker(staged: Staged) -> Staged:
    """The marker of a staged part."""
    return Staged(part=staged.part + DONE, path=staged.path + DONE, size=_EMPTY.size, sha256=_EMPTY.sha256)
