"""Who else watches an account, or has watched it: what a configuration meets among those that the store has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from threading import Lock, RLock
from typing import Any, Final
from weakref import WeakValueDictionary

from maildaemon_core import confidential
from maildaemon_core.errors import InvalidOptions, Problem, Rival
from maildaemon_core.message import MailboxId
from maildaemon_core.options import MailboxOptions
from maildaemon_core.rivalry import rivalry, succeeds
from maildaemon_core.store_port import Configuration, Store

_GUARD: Final = Lock()
_LOCKS: Final[WeakValueDictionary[int, Any]] = WeakValueDictionary()


class Neighbours:
    """The other configurations of a store, those that are and those that were.

    ``deciding`` is held while one looks at them and saves: it is the same for all who use this store in this process.
    What cannot be understood of them is passed over.  Every method raises ``StoreUnavailable`` as the store does.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        with _GUARD:  # whoever holds a lock holds its store too, so that no other can have this number
            self.deciding = _LOCKS.setdefault(id(store), RLock())

    def doubts(self, mailbox: MailboxId, options: MailboxOptions) -> tuple[Problem, ...]:
        """Who watches the same account and folders as this mailbox would, while neither takes mail away.

        Raises ``Rival`` if one of the two would delete or move it.
        """
        found: list[Problem] = []
        if not options.active:
            return ()
        for other, its in _understood(self._store.configurations(), options):
            how = None if other.id == mailbox else rivalry(options, its)
            if how == "harmful":
                raise Rival(
                    f"mailbox {other.name!r} ({other.id}) watches the same account and folders, and one of the two "
                    "would delete or move mail before the other may have seen it",
                    remedy="change that mailbox instead, make it inactive, or give each of them folders of its own",
                )
            if how == "harmless":
                told = f"mailbox {other.name!r} ({other.id}) watches the same account and folders: both store each mail"
                found.append(Problem(path="$", message=told))
        return tuple(found)

    def former(self, options: MailboxOptions) -> MailboxId | None:
        """The mailbox that watched this account before it was removed: the last one, if there were several."""
        former = _understood(self._store.former(), options)
        return next((other.id for other, its in former if succeeds(options, its)), None)

    def has_been(self, mailbox: MailboxId) -> bool:
        """Whether it was removed, and what it processed is still remembered."""
        return any(each.id == mailbox for each in self._store.former())


def _understood(
    configurations: Iterable[Configuration], options: MailboxOptions
) -> Iterator[tuple[Configuration, MailboxOptions]]:
    """Those that may have the same account, and what they say."""
    wanted = {(options.login or "").casefold(), (options.address or "").casefold()}
    for each in configurations:
        if not wanted & _logins(each.document):  # reading them all would take a tenth of a second for a thousand
            continue
        try:
            yield each, confidential.without_secrets(each.document)
        except InvalidOptions:  # of another release, or written by whoever can write the database
            continue


def _logins(document: Mapping[str, Any]) -> set[str]:
    return {str(document.get(name) or "").casefold() for name in ("mailbox", "username")}
