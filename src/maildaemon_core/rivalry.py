"""Whether two mailboxes are one account watched twice, and whether one of them then takes mail away from the other.

In doubt two folders are the same one: what a glob or a special use takes shows only on the server.  Nothing is in doubt
between names, between globs that begin differently, and where one of the two leaves out what the other wants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import chain, product
from typing import Final, Literal

import attrs

from maildaemon_core.folders import INBOX, NEVER_BY_GLOB, is_pattern
from maildaemon_core.options import Action, MailboxOptions
from maildaemon_core.soundness import account_key

Rivalry = Literal["harmful", "harmless"]
"""Harmful: one of the two deletes or moves mail before the other may have seen it.  Harmless: each stores all of it."""

_OF_ONE_USE: Final = frozenset({"\\drafts", "\\junk", "\\sent", "\\trash"})
"""Special uses (RFC 6154 §2) in lower case that no folder has two of, nor has the inbox any."""

_META: Final = "*?["

MOST_BRACKETS: Final = 20
"""So many ``[`` a glob may have to be compared: reading one takes ``fnmatch`` a look at all that follows each."""

COMPARED: Final = 20_000
"""So many pairs of texts are compared, which takes less than a second.  Nobody has so many, but anybody who may edit
mailboxes can write them, and all who save one wait for it."""


def rivalry(one: MailboxOptions, other: MailboxOptions) -> Rivalry | None:
    """How two mailboxes get into each other's way; None if they do not, as one that is inactive never does."""
    if not (one.active and other.active and same_account(one, other) and overlap(one, other)):
        return None
    cares = (care for each in (one, other) for care in (each.aftercare, each.no_match_care))
    return "harmful" if any(care.action in {Action.MOVE, Action.DELETE} for care in cares) else "harmless"


def succeeds(one: MailboxOptions, former: MailboxOptions) -> bool:
    """Whether what was processed for ``former`` was processed for this one: the same account, folders in common.

    Only who says a login or a path has an account that can be told from others; whether they are active is no matter.
    """
    return bool(one.login or one.path) and same_account(one, former) and overlap(one, former)


def same_account(one: MailboxOptions, other: MailboxOptions) -> bool:
    """Whether both say which account they mean, and it is the same (``account_key``)."""
    key = account_key(one)
    return any(key[1:]) and key == account_key(other)


def overlap(one: MailboxOptions, other: MailboxOptions) -> bool:
    """Whether there may be a folder that both watch; in doubt also if there is too much to compare (``COMPARED``)."""
    mine, theirs = ([*_watched(each, leaving_out=(one, other))] for each in (one, other))
    names, others = ([text for text in texts if _sort(text) == "name"] for texts in (mine, theirs))
    if {name.casefold() for name in names} & {name.casefold() for name in others}:
        return True
    if len(mine) * len(theirs) - len(names) * len(others) > COMPARED:
        return True
    patterns, more = ([text for text in texts if _sort(text) != "name"] for texts in (mine, theirs))
    return any(
        _may_be_the_same(text, another)
        and not _only_a_target(one, text, another)
        and not _only_a_target(other, another, text)
        for text, another in chain(product(patterns, theirs), product(names, more))
    )


def _watched(options: MailboxOptions, *, leaving_out: Sequence[MailboxOptions]) -> Iterator[str]:
    """What options watch and none of these leaves out; as if it did not, where there is too much to compare."""
    texts = tuple(dict.fromkeys(options.watched_folders))
    left_out = [_LeftOut.of(each, len(texts)) for each in leaving_out]
    return (text for text in texts if not any(each.has(text) for each in left_out))


@attrs.frozen
class _LeftOut:
    """What options leave out: folders by name, globs as they are written, uses in lower case."""

    names: frozenset[str]
    globs: tuple[str, ...]
    uses: frozenset[str]

    @classmethod
    def of(cls, options: MailboxOptions, number: int) -> _LeftOut:
        written = dict.fromkeys(options.exclude_folders)
        globs = tuple(each for each in written if _sort(each) == "glob" and not is_costly(each))
        return cls(
            names=frozenset(_named(each) for each in written if _sort(each) != "use"),
            globs=globs if number * len(globs) <= COMPARED else (),
            uses=frozenset(each.casefold() for each in written if _sort(each) == "use"),
        )

    def has(self, text: str) -> bool:
        """Whether nothing is watched of what this text, theirs or another's, means."""
        match _sort(text):
            case "name":
                name = _named(text)
                return name in self.names or any(fnmatchcase(name, each) for each in self.globs)
            case "glob":
                return text in self.names or any(_covers(each, text) for each in self.globs)
        return text.casefold() in self.uses


def _may_be_the_same(one: str, other: str) -> bool:
    """Whether two texts that mean folders may mean one and the same; names without case, as some servers take them."""
    if one.casefold() == other.casefold():
        return True
    match _sort(one), _sort(other):
        case "name", "name":
            return False
        case "name", "glob":
            return _takes(other, one)
        case "name", "use":
            return not (_named(one) == INBOX and other.casefold() in _OF_ONE_USE)
        case "glob", "glob":
            begins, begun = _beginning(one).casefold(), _beginning(other).casefold()
            return begins.startswith(begun) or begun.startswith(begins)
        case "glob", "use":  # brackets may be part of a folder's very name, which means it whatever its use
            return other.casefold() not in NEVER_BY_GLOB or "[" in one
        case "use", "use":
            return not {one.casefold(), other.casefold()} <= _OF_ONE_USE
    return _may_be_the_same(other, one)


def _covers(glob: str, other: str) -> bool:
    """Whether a glob takes all that the other does: ``Bills*`` is the only sort of which that is easily told."""
    return glob.endswith("*") and _beginning(glob) == glob[:-1] and _beginning(other).startswith(glob[:-1])


def _only_a_target(options: MailboxOptions, text: str, another: str) -> bool:
    """Whether theirs takes no folder of this name, since they move mail there (``choose_folders``)."""
    targets = {_named(care.folder) for care in (options.aftercare, options.no_match_care) if care.folder}
    return _sort(text) != "name" and _sort(another) == "name" and _named(another) in targets


def _sort(text: str) -> Literal["name", "glob", "use"]:
    if text.startswith("\\"):
        return "use"
    return "glob" if is_pattern(text) else "name"


def _named(text: str) -> str:
    return INBOX if text.upper() == INBOX else text  # RFC 9051 §5.1: INBOX in any case


def is_costly(glob: str) -> bool:
    """Whether a glob would take long to read, as only one does that is made for it."""
    return glob.count("[") > MOST_BRACKETS


def _takes(glob: str, name: str) -> bool:
    return is_costly(glob) or fnmatchcase(name, glob) or fnmatchcase(name.casefold(), glob.casefold())


def _beginning(glob: str) -> str:
    return glob[: min((at for at, character in enumerate(glob) if character in _META), default=len(glob))]
