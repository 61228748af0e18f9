"""Looking before leaping: what of a configuration works, what does not, and what to do about it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial

import attrs

from maildaemon_core.admission import is_older
from maildaemon_core.engine.connecting import Connector
from maildaemon_core.engine.holder import is_idle, this_process
from maildaemon_core.engine.plugins import Openers
from maildaemon_core.engine.targets import internal_trouble
from maildaemon_core.errors import FolderMissing, FolderRefused, LeaseLost, MaildaemonError
from maildaemon_core.folders import choose_folders, named_folders, needs_listing
from maildaemon_core.message import Cursor, FolderRef, MailboxId
from maildaemon_core.options import Action, DestinationOptions, MailboxOptions
from maildaemon_core.ports import Finding, FolderInfo, Level, MailSource
from maildaemon_core.soundness import warnings
from maildaemon_core.store_port import Store

logger = logging.getLogger(__name__)

COUNTED = 10_000
"""So many new mails are counted in a folder; beyond that it says "more than"."""
PAGE = 500
HELD = 10.0
"""Seconds for which the lease is taken at most: it is given back as soon as the cursors are read."""

_WILL = {
    Action.KEEP: "and left on the server",
    Action.SEEN: "and is then to be marked as seen",
    Action.MOVE: "and is then to be moved to {folder!r}",
    Action.DELETE: "and is then to be DELETED on the server",
}


class Validation:
    """Looks at everything that a sweep would need; leaves nothing behind."""

    def __init__(self, connector: Connector, openers: Openers, store: Store, clock: Callable[[], datetime]) -> None:
        self._connector = connector
        self._openers = openers
        self._store = store
        self._clock = clock

    def run(self, mailbox: MailboxId, options: MailboxOptions) -> Sequence[Finding]:
        faults = self._connector.problems(options)
        if faults:
            return [Finding(level=Level.FAULT, subject=fault.path, message=fault.message) for fault in faults]
        findings = [
            Finding(level=Level.WARNING, subject=warning.path, message=warning.message) for warning in warnings(options)
        ]
        findings += (
            Finding(level=Level.WARNING, subject=f"opener {name!r}", message=error.message, remedy=error.remedy)
            for name, error in self._openers.broken().items()
        )
        findings += self._source(mailbox, options)
        for destination in options.destinations:
            findings += _guarded(f"destination {destination.name}", partial(self._destination, destination))
        return [*findings, *_guarded("spool", self._spool)]

    def _spool(self) -> Sequence[Finding]:
        folder = self._connector.spool.check()
        return [Finding(level=Level.FINE, subject="spool", message=f"large mails can be held: {folder} can be written")]

    def _destination(self, options: DestinationOptions) -> Sequence[Finding]:
        with closing(self._connector.target(options).destination) as destination:
            return destination.check()

    def _source(self, mailbox: MailboxId, options: MailboxOptions) -> Sequence[Finding]:
        def look() -> Sequence[Finding]:
            with self._connector.source(options) as source:
                findings = [Finding(level=Level.FINE, subject="login", message=f"works: {source.server()}")]
                choice = choose_folders(options, source.folders()) if needs_listing(options) else named_folders(options)
                findings += (
                    Finding(
                        level=Level.FAULT,
                        subject=f"folder {pattern}",
                        message="no folder answers to it",
                        remedy=_named(source.folders()),
                    )
                    for pattern in choice.missing
                )
                checked = [*source.check(choice.folders, options.aftercare)]
                if options.no_match_care.action is not Action.KEEP:
                    checked += source.check(choice.folders, options.no_match_care)
                findings += dict.fromkeys(checked)
                findings += self._expected(mailbox, options, source, choice.folders)
            return findings

        return _guarded("server", look)

    def _expected(
        self, mailbox: MailboxId, options: MailboxOptions, source: MailSource, folders: Sequence[FolderRef]
    ) -> Iterator[Finding]:
        """How many mails the next sweep would find in each folder, how many wait, and what it would do with them."""
        configuration = self._store.configuration(mailbox)
        if options.since == "now":
            options = attrs.evolve(options, since=(configuration and configuration.created) or self._clock())
        will = "what is wanted is stored " + _WILL[options.aftercare.action].format(folder=options.aftercare.folder)
        waiting = self._waiting(mailbox) if configuration else {}
        cursors = self._cursors(mailbox, folders) if configuration else {}
        if cursors is None:
            yield Finding(level=Level.FINE, subject="next sweep", message=self._why_uncounted(mailbox))
        for folder in folders:
            found = None if cursors is None else self._count(source, folder, cursors.get(folder), options)
            said = [] if found is None else [f"the next sweep would find {found}"]
            if number := waiting.get(folder):
                said.append(_waiting(number))
            if said:
                message = f"{'; '.join(said)}; {will}"
                yield Finding(level=Level.FINE, subject=f"folder {folder}", message=message)
        for folder, number in waiting.items():
            if number and folder not in folders:
                yield Finding(
                    level=Level.FINE,
                    subject=f"folder {folder}",
                    message=f"{_waiting(number)}, though the folder is not watched any more; {will}",
                )

    def _why_uncounted(self, mailbox: MailboxId) -> str:
        holder = self._store.holder(mailbox)
        if holder is not None and is_idle(holder.owner):
            return "the mailbox is watched: what comes is swept as soon as the server tells of it"
        return "the mailbox is being swept just now"

    def _waiting(self, mailbox: MailboxId) -> Mapping[FolderRef, int]:
        """The open mails of each folder."""
        return next((info.backlog for info in self._store.infos() if info.mailbox == mailbox), {})

    def _cursors(self, mailbox: MailboxId, folders: Sequence[FolderRef]) -> Mapping[FolderRef, Cursor | None] | None:
        """Up to where each folder is known; None while somebody else holds the lease.

        It is given back before the server is asked for anything: whoever comes meanwhile must not find it taken.
        """
        lease = self._store.lease(mailbox, HELD, owner=this_process())
        if lease is None:
            return None
        try:
            states = {folder: lease.folder(folder) for folder in folders}
        finally:
            try:
                lease.give_back()
            except LeaseLost:
                logger.info("the mailbox was taken over during validation")
        return {folder: state.cursor if state else None for folder, state in states.items()}

    def _count(
        self, source: MailSource, folder: FolderRef, cursor: Cursor | None, options: MailboxOptions
    ) -> str | None:
        """So many new mails lie there, in words; None if the folder is missing, which is said elsewhere."""
        number, more = 0, True
        try:
            while more and number <= COUNTED:
                page = source.list_since(folder, cursor, limit=PAGE)
                number += sum(not is_older(envelope, options) for envelope in page.envelopes)
                cursor, more = page.cursor, page.more
        except (FolderMissing, FolderRefused):
            return None
        return f"more than {COUNTED} new mails" if number > COUNTED else _mails(number, "new ")


def _waiting(number: int) -> str:
    return f"{_mails(number)} {'is' if number == 1 else 'are'} waiting from earlier sweeps"


def _mails(number: int, which: str = "") -> str:
    return f"{number} {which}{'mail' if number == 1 else 'mails'}"


def _guarded(subject: str, look: Callable[[], Sequence[Finding]]) -> Sequence[Finding]:
    try:
        return look()
    except MaildaemonError as error:
        return [Finding.of(subject, error)]
    except Exception as error:
        logger.exception("validation of %s failed", subject)
        return [Finding.of(subject, internal_trouble(subject, error))]


def _named(folders: Sequence[FolderInfo]) -> str:
    if not folders:
        return "there is no folder at all: look whether this is the right server, account or path, and what it needs"
    return "there are: " + ", ".join(info.name for info in folders)
