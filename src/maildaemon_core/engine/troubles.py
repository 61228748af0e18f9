"""What can be wrong with storing a mail, as people are told."""

from __future__ import annotations

from maildaemon_core.errors import Trouble
from maildaemon_core.plan import Store
from maildaemon_core.progress import Artifact

LONGEST_NAME = 2500
"""So many bytes a place and a path there may have: an index of PostgreSQL takes 2,704, and a suffix may be added."""


def too_long(plan: Store) -> Trouble | None:
    """The trouble with a mail of which a file would have a name that not every store can keep (law 8)."""
    for wish in plan.wishes:
        size = len(f"{wish.artifact.place}{wish.artifact.path}".encode("utf-8", "surrogatepass"))
        if size > LONGEST_NAME:
            return Trouble(
                error="NameTooLong",
                message=f"a file of it at {wish.artifact.destination!r} would have a name of {size} bytes with the "
                f"folder; up to {LONGEST_NAME} can be remembered",
                remedy="shorten the path template, or the url of the destination, and have the mail tried again",
                transient=False,
            )
    return None


def no_answer(artifact: Artifact) -> Trouble:
    return Trouble(
        error="BrokenPlugin",
        message=f"destination {artifact.destination!r} gave no answer about {artifact.path}",
        remedy="tell the author of its adapter",
    )


def no_name(tried: int) -> Trouble:
    return Trouble(
        error="NoFreeName",
        message=f"no free name was found for the files of this mail in {tried} attempts",
        remedy="use a pathTemplate with {key} in it",
    )


def occupied(artifact: Artifact) -> Trouble:
    return Trouble(
        error="PathOccupied",
        message=f"{artifact.path} exists at {artifact.destination!r} already, and onConflict is 'fail'",
        remedy="take the file away or set onConflict to 'suffix', and have the mail tried again",
        transient=False,
    )


def out_of_reach(artifact: Artifact) -> Trouble:
    return Trouble(
        error="Unconfirmed",
        message=f"{artifact.path} was on its way to {artifact.place}, which is no destination of this mailbox any more",
        remedy="look whether the file arrived there; if it did not, have the mail tried again (--retry-unconfirmed)",
        transient=False,
    )


def unconfirmed(artifact: Artifact) -> Trouble:
    return Trouble(
        error="Unconfirmed",
        message=f"nobody can tell whether {artifact.path} was delivered to {artifact.destination!r}: its batch is gone",
        remedy="look whether the file arrived; if it did not, have the mail tried again (--retry-unconfirmed)",
        transient=False,
    )
