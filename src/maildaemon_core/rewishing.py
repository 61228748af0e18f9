"""Which files of an earlier attempt are the ones that are wished for now, though numbers or names may have changed."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from maildaemon_core.progress import Artifact, Role

Trait = Callable[[Artifact], Any]


def _by_role(artifact: Artifact) -> Any:
    return None if artifact.role is Role.ATTACHMENT else (artifact.place, artifact.role)


def _by_all(artifact: Artifact) -> Any:
    return _attachment(artifact, artifact.index, artifact.name, artifact.sha256)


def _by_name_and_bytes(artifact: Artifact) -> Any:
    return _attachment(artifact, artifact.name, artifact.sha256)


def _by_number_and_bytes(artifact: Artifact) -> Any:
    return _attachment(artifact, artifact.index, artifact.sha256)


def _by_number_and_name(artifact: Artifact) -> Any:
    # Without a name nothing but the number would speak for it, and numbers are what changes.
    return None if artifact.name is None else _attachment(artifact, artifact.index, artifact.name)


def _attachment(artifact: Artifact, *traits: object) -> Any:
    return (artifact.place, *traits) if artifact.role is Role.ATTACHMENT else None


_TRAITS: Final[Sequence[Trait]] = (_by_role, _by_all, _by_name_and_bytes, _by_number_and_bytes, _by_number_and_name)
"""What a file of a mail is recognised by, None where that does not apply; of attachments the most certain first.

Exchange may render other bytes on each fetch; what is opened differently is numbered differently.
"""


def claims(wanted: Sequence[Artifact], earlier: Sequence[Artifact]) -> Mapping[int, Artifact]:
    """For each of ``wanted`` that was planned before, by its position, the artifact of ``earlier`` that it is.

    Mail and sidecar are what they are at their place; an attachment is recognised by two of number, name and digest.
    No artifact is claimed twice, and the same arguments always give the same answer.
    """
    found: dict[int, Artifact] = {}
    claimed: set[int] = set()
    for trait in _TRAITS if earlier else ():
        free: dict[Any, deque[int]] = defaultdict(deque)
        for at, artifact in enumerate(earlier):
            if at not in claimed and (known := trait(artifact)) is not None:
                free[known].append(at)
        for position, artifact in enumerate(wanted):
            if position not in found and (same := free.get(trait(artifact))):
                at = same.popleft()
                claimed.add(at)
                found[position] = earlier[at]
    unclaimed: dict[Any, deque[Artifact]] = defaultdict(deque)
    for at, artifact in enumerate(earlier):
        if at not in claimed and artifact.receipt and (known := _by_name_and_bytes(artifact)) is not None:
            unclaimed[known].append(artifact)
    for position, artifact in found.items():  # where there are fewer copies than before, those that are there count
        if not artifact.receipt and (copies := unclaimed.get(_by_name_and_bytes(wanted[position]))):
            found[position] = copies.popleft()
    return found


def numbered(wanted: Sequence[Artifact], claimed: Mapping[int, Artifact], earlier: Sequence[Artifact]) -> Sequence[int]:
    """The number under which each of ``wanted`` is remembered: what is known already keeps its own.

    An attachment that is new gets its number in the mail, unless that belongs to something else: then one beyond all.
    So no two artifacts of a mail have one slot, and a path that was reserved for one is never another's (law 3).
    """
    taken = {artifact.slot for artifact in earlier}
    beyond = max((artifact.index for artifact in (*earlier, *wanted)), default=0)
    numbers: list[int] = []
    for position, artifact in enumerate(wanted):
        number = claimed[position].index if position in claimed else artifact.index
        if position not in claimed and artifact.slot in taken:
            beyond += 1
            number = beyond
        numbers.append(number)
    return numbers
