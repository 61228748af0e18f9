"""Which folders of a mailbox are watched: names, globs and special uses, and what they leave out."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import attrs

from maildaemon_core.message import FolderRef
from maildaemon_core.options import MailboxOptions
from maildaemon_core.ports import FolderInfo

NEVER_BY_GLOB = frozenset({"\\trash", "\\junk", "\\drafts", "\\all"})
"""Special uses (RFC 6154), in lower case, that a glob never takes: they must be named."""

INBOX = "INBOX"


@attrs.frozen(kw_only=True)
class Choice:
    """``folders`` to be watched, each once; ``missing`` are the patterns that nothing answers to."""

    folders: tuple[FolderRef, ...]
    missing: tuple[str, ...] = ()


def is_pattern(text: str) -> bool:
    """Whether it takes a look at the server's folders to know what is meant."""
    return _is_use(text) or any(character in text for character in "*?[")


def needs_listing(options: MailboxOptions) -> bool:
    return any(map(is_pattern, options.watched_folders)) or any(map(_is_use, options.exclude_folders))


def named_folders(options: MailboxOptions) -> Choice:
    """The choice when every folder is named; whether they exist shows when they are read."""
    named = map(_named, options.watched_folders)
    return Choice(folders=tuple(dict.fromkeys(name for name in named if not _excluded(name, frozenset(), options))))


def choose_folders(options: MailboxOptions, existing: Iterable[FolderInfo]) -> Choice:
    """The choice among the folders there are.

    What is a folder's very name means that folder, whatever characters it has (``[Gmail]/Sent Mail``).  The target of a
    move is never taken by a glob or a special use: what was moved there would come back.
    """
    infos = [info for info in existing if info.selectable]
    uses = {info.name: frozenset(map(str.casefold, info.special_use)) for info in infos}
    targets = {_named(care.folder) for care in (options.aftercare, options.no_match_care) if care.folder}
    chosen: list[FolderRef] = []
    missing: list[str] = []
    for text in options.watched_folders:
        if not is_pattern(text) or text in uses:
            chosen.append(_named(text))
            continue
        found = [name for name, its in uses.items() if _matches(text, name, its)]
        if not found:
            missing.append(text)
        chosen += (name for name in found if name not in targets)
    kept = (name for name in chosen if not _excluded(name, uses.get(name, frozenset()), options))
    return Choice(folders=tuple(dict.fromkeys(kept)), missing=tuple(missing))


def _named(text: str) -> FolderRef:
    return FolderRef(INBOX if text.upper() == INBOX else text)  # RFC 9051 §5.1: INBOX in any case


def _matches(text: str, name: FolderRef, uses: frozenset[str]) -> bool:
    if _is_use(text):
        return text.casefold() in uses
    return fnmatchcase(name, text) and not uses & NEVER_BY_GLOB


def _is_use(text: str) -> bool:
    return text.startswith("\\")


def _excluded(name: FolderRef, uses: frozenset[str], options: MailboxOptions) -> bool:
    return any(
        pattern.casefold() in uses if _is_use(pattern) else name == _named(pattern) or fnmatchcase(name, pattern)
        for pattern in options.exclude_folders
    )
