"""Which files of an earlier attempt are the ones that are wished for now, though numbers or names may have changed."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
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


_EXACT: Final[Sequence[Trait]] = (_by_all, _by_name_and_bytes)
_TRAITS: Final[Sequence[Trait]] = (_by_role, *_EXACT, _by_number_and_bytes, _by_number_and_name)
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
    unneeded = _unneeded(wanted, earlier)
    for trait in _TRAITS if earlier else ():
        free: dict[Any, deque[int]] = defaultdict(deque)
        for at, artifact in enumerate(earlier):
            if at in claimed or (trait in _EXACT and at in unneeded):
                continue
            if (known := trait(artifact)) is not None:
                free[known].append(at)
        for position, artifact in enumerate(wanted):
            if position not in found and (same := free.get(trait(artifact))):
                at = same.popleft()
                claimed.add(at)
                found[position] = earlier[at]
    return found


def _unneeded(wanted: Sequence[Artifact], earlier: Sequence[Artifact]) -> set[int]:
    """Of copies that are wanted less often than they were planned, those that are published count, and not these."""
    needed = Counter(map(_by_name_and_bytes, wanted))
    needed.subtract(_by_name_and_bytes(artifact) for artifact in earlier if artifact.receipt)
    unneeded: set[int] = set()
    for at, artifact in enumerate(earlier):
        if not artifact.receipt:
            copies = _by_name_and_bytes(artifact)
            needed[copies] -= 1
            if needed[copies] < 0:
                unneeded.add(at)
    return unneeded


def numbered(wanted: Sequence[Artifact], claimed: Mapping[int, Artifact], earlier: Sequence[Artifact]) -> Sequence[int]:
    """The number under which each of ``wanted`` is remembered: what is known already keeps its own.

    An attachment that is new gets its number in the mail, unless that belongs to something else: then one beyond all.
    So no two artifacts of a mail have one slot.
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
