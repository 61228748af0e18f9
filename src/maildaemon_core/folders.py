"""Which folders of a mailbox are watched: names, globs and special uses, and what they leave out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import attrs

from maildaemon_core.message import FolderRef
from maildaemon_core.options import MailboxOptions
from maildaemon_core.ports import FolderInfo

NEVER_BY_GLOB = frozenset({"\\Trash", "\\Junk", "\\Drafts", "\\All"})
"""Special uses (RFC 6154) that a glob never takes: they must be named."""

INBOX = "INBOX"


@attrs.frozen(kw_only=True)
class Choice:
    """``folders`` to be watched, each once; ``missing`` are the patterns that nothing answers to."""

    folders: tuple[FolderRef, ...]
    missing: tuple[str, ...] = ()


def is_pattern(text: str) -> bool:
    """Whether it takes a look at the server's folders to know what is meant."""
    return text.startswith("\\") or any(character in text for character in "*?[")


def needs_listing(options: MailboxOptions) -> bool:
    return any(map(is_pattern, options.watched_folders))


def named_folders(options: MailboxOptions) -> Choice:
    """The choice when every folder is named; whether they exist shows when they are read."""
    named = [_named(text) for text in options.watched_folders if not _excluded(text, frozenset(), options)]
    return Choice(folders=tuple(dict.fromkeys(named)))


def choose_folders(options: MailboxOptions, existing: Iterable[FolderInfo]) -> Choice:
    """The choice among the folders there are.  The target of a move is never taken by a glob."""
    infos = [info for info in existing if info.selectable]
    targets = {care.folder for care in (options.aftercare, options.no_match_care) if care.folder}
    chosen: list[FolderRef] = []
    missing: list[str] = []
    for text in options.watched_folders:
        if not is_pattern(text):
            chosen.append(_named(text))
            continue
        found = _matching(text, infos, targets)
        if not found:
            missing.append(text)
        chosen += found
    uses = {info.name: info.special_use for info in infos}
    kept = (name for name in chosen if not _excluded(name, uses.get(name, frozenset()), options))
    return Choice(folders=tuple(dict.fromkeys(kept)), missing=tuple(missing))


def _named(text: str) -> FolderRef:
    return FolderRef(INBOX if text.upper() == INBOX else text)  # RFC 9051 §5.1: INBOX in any case


def _matching(text: str, infos: Sequence[FolderInfo], targets: set[str]) -> list[FolderRef]:
    if text.startswith("\\"):
        return [info.name for info in infos if text.casefold() in {use.casefold() for use in info.special_use}]
    return [
        info.name
        for info in infos
        if fnmatchcase(info.name, text) and not info.special_use & NEVER_BY_GLOB and info.name not in targets
    ]


def _excluded(name: str, uses: frozenset[str], options: MailboxOptions) -> bool:
    folded = {use.casefold() for use in uses}
    return any(
        pattern.casefold() in folded if pattern.startswith("\\") else fnmatchcase(name, pattern)
        for pattern in options.exclude_folders
    )
