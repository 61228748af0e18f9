"""Looking before leaping: what of a configuration works, what does not, and what to do about it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial

import attrs

from maildaemon_core.admission import is_older
from maildaemon_core.engine.holder import this_process
from maildaemon_core.engine.opening import Opener
from maildaemon_core.engine.targets import internal_trouble
from maildaemon_core.errors import FolderMissing, LeaseLost, MaildaemonError, Trouble
from maildaemon_core.folders import choose_folders, named_folders, needs_listing
from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.options import Action, DestinationOptions, MailboxOptions
from maildaemon_core.ports import Finding, Level, MailSource, Store
from maildaemon_core.soundness import warnings

logger = logging.getLogger(__name__)

COUNTED = 10_000
"""So many new mails are counted in a folder; beyond that it says "more than"."""
PAGE = 500

_WILL = {
    Action.KEEP: "and left on the server",
    Action.SEEN: "and then marked as seen",
    Action.MOVE: "and then moved to {folder!r}",
    Action.DELETE: "and then DELETED on the server",
}


class Validation:
    """Looks at everything that a sweep would need; leaves nothing behind."""

    def __init__(self, opener: Opener, store: Store, clock: Callable[[], datetime]) -> None:
        self._opener = opener
        self._store = store
        self._clock = clock

    def run(self, mailbox: MailboxId, options: MailboxOptions) -> Sequence[Finding]:
        faults = self._opener.problems(options)
        if faults:
            return [Finding(level=Level.FAULT, subject=fault.path, message=fault.message) for fault in faults]
        findings = [
            Finding(level=Level.WARNING, subject=warning.path, message=warning.message) for warning in warnings(options)
        ]
        findings += self._source(mailbox, options)
        for destination in options.destinations:
            findings += _guarded(f"destination {destination.name}", partial(self._destination, destination))
        return findings

    def _destination(self, options: DestinationOptions) -> Sequence[Finding]:
        with closing(self._opener.target(options).destination) as destination:
            return destination.check()

    def _source(self, mailbox: MailboxId, options: MailboxOptions) -> Sequence[Finding]:
        def look() -> Sequence[Finding]:
            with self._opener.source(options) as source:
                findings = [Finding(level=Level.FINE, subject="login", message=source.server())]
                choice = choose_folders(options, source.folders()) if needs_listing(options) else named_folders(options)
                findings += (
                    Finding(
                        level=Level.FAULT,
                        subject=f"folder {pattern}",
                        message="no folder answers to it",
                        remedy="there are: " + ", ".join(info.name for info in source.folders()),
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
        """How many mails the next sweep would find in each folder, and what it would do with them."""
        configuration = self._store.configuration(mailbox)
        if options.since == "now":
            options = attrs.evolve(options, since=(configuration and configuration.created) or self._clock())
        lease = self._store.lease(mailbox, 60, owner=this_process()) if configuration else None
        if configuration and lease is None:
            yield Finding(level=Level.FINE, subject="next sweep", message="the mailbox is being swept just now")
            return
        try:
            for folder in folders:
                state = lease.folder(folder) if lease else None
                number, cursor, more = 0, state.cursor if state else None, True
                try:
                    while more and number <= COUNTED:
                        page = source.list_since(folder, cursor, limit=PAGE)
                        number += sum(not is_older(envelope, options) for envelope in page.envelopes)
                        cursor, more = page.cursor, page.more
                except FolderMissing:
                    continue  # check has said so
                many = f"more than {COUNTED}" if number > COUNTED else str(number)
                will = _WILL[options.aftercare.action].format(folder=options.aftercare.folder)
                yield Finding(
                    level=Level.FINE,
                    subject=f"folder {folder}",
                    message=f"the next sweep would find {many} new mails; what is wanted is stored {will}",
                )
        finally:
            if lease is not None:
                try:
                    lease.give_back()
                except LeaseLost:
                    logger.info("the mailbox was taken over during validation")


def _guarded(subject: str, look: Callable[[], Sequence[Finding]]) -> Sequence[Finding]:
    try:
        return look()
    except MaildaemonError as error:
        return [_fault(subject, error.trouble())]
    except Exception as error:
        logger.exception("validation of %s failed", subject)
        return [_fault(subject, internal_trouble(subject, error))]


def _fault(subject: str, trouble: Trouble) -> Finding:
    return Finding(level=Level.FAULT, subject=subject, message=trouble.message, remedy=trouble.remedy)
