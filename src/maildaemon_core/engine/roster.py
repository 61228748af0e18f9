"""Which mailboxes this process is to sweep, with which options: those it adopted, and those that a catalog keeps.

Adopted ones are what a configuration file, or a program, says, for as long as this process runs.  Those of the catalog
are what the store says: before each sweep its version is compared with the one that was taken on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from threading import Lock

import attrs

from maildaemon_core.engine.catalog import FROM_FILE, Catalog, UnknownMailbox
from maildaemon_core.engine.targets import internal_trouble
from maildaemon_core.errors import InvalidOptions, MaildaemonError, Permanent, Problem, Trouble
from maildaemon_core.message import MailboxId
from maildaemon_core.options import MailboxOptions
from maildaemon_core.store_port import Configuration, Store

logger = logging.getLogger(__name__)

Stamp = tuple[int, datetime | None]
"""The version of a configuration, and when it was created: one that was forgotten and made anew counts from 1 again."""


class NotSwept(Permanent):
    """The mailbox is configured, and is not to be swept, or not by this process."""


@attrs.frozen(kw_only=True)
class Member:
    """A mailbox as it was taken on.

    ``options`` is None, with a ``trouble``, if it cannot be swept.  ``trusted``: it was adopted, so that it may use
    what the service itself may use.  ``elsewhere``: it comes from a file that this process was not given.
    """

    mailbox: MailboxId
    label: str
    options: MailboxOptions | None = None
    stamp: Stamp | None = None
    trusted: bool = False
    elsewhere: bool = False
    active: bool = True
    trouble: Trouble | None = None

    @cached_property
    def is_due_here(self) -> bool:
        """This process is to sweep it, and can."""
        return self.active and not self.elsewhere and self.options is not None

    @cached_property
    def interval(self) -> timedelta:
        seconds = self.options.poll_interval_seconds if self.options else MailboxOptions().poll_interval_seconds
        return timedelta(seconds=seconds)

    def wanted(self) -> MailboxOptions:
        """The options to sweep with; raises ``NotSwept``, which says what to do."""
        if self.options is None or self.elsewhere:
            trouble = self.trouble or _NOT_HERE
            raise NotSwept(f"mailbox {self.label!r} is not swept: {trouble.message}", remedy=trouble.remedy)
        if not self.active:
            raise NotSwept(f"mailbox {self.label!r} is not active", remedy="set active to true")
        return self.options


class Roster:
    """The mailboxes of this process.  Used by many threads; ``problems`` is what a mailbox of a catalog must pass."""

    def __init__(self, store: Store, problems: Callable[[MailboxOptions], Sequence[Problem]]) -> None:
        self._store = store
        self._problems = problems
        self._lock = Lock()
        self._members: dict[MailboxId, Member] = {}
        self._changes: dict[MailboxId, int] = {}  # how often it was said that one has changed
        self.catalog: Catalog | None = None

    def adopt(self, saved: Configuration, options: MailboxOptions) -> None:
        """Takes on what a configuration file says."""
        member = Member(
            mailbox=saved.id,
            label=options.label,
            options=options,
            stamp=_stamp(saved),
            trusted=True,
            active=options.active,
        )
        with self._lock:
            self._changes[saved.id] = self._changes.get(saved.id, 0) + 1
            self._members[saved.id] = member

    def take_on(self, configuration: Configuration, options: MailboxOptions) -> None:
        """Takes on a mailbox of a catalog.  Raises ``InvalidOptions`` if it cannot be used any more."""
        if faults := self._problems(options):
            raise InvalidOptions(faults)
        with self._lock:
            self._members[configuration.id] = _member(configuration, options)

    def members(self) -> Mapping[MailboxId, Member]:
        with self._lock:
            return dict(self._members)

    def member(self, mailbox: MailboxId) -> Member | None:
        with self._lock:
            return self._members.get(mailbox)

    def changed(self, mailbox: MailboxId) -> Member:
        """A mailbox of which somebody says that it has changed, as it is now.

        Whoever read it before and has not begun yet, reads it again.  Raises as ``current`` does.
        """
        with self._lock:
            self._changes[mailbox] = self._changes.get(mailbox, 0) + 1
        return self.current(mailbox)[0]

    def current(self, mailbox: MailboxId) -> tuple[Member, Configuration]:
        """A mailbox as the store has it at this moment.

        Raises ``UnknownMailbox`` for one that is not there, after which it is no member any more, and
        ``StoreUnavailable``.
        """
        while True:
            with self._lock:
                changes, before = self._changes.get(mailbox, 0), self._members.get(mailbox)
            configuration = self._store.configuration(mailbox)
            after = None if configuration is None else self._as_kept(configuration, before)
            with self._lock:
                if self._changes.get(mailbox, 0) != changes:
                    continue  # what was read may be older than the change
                if after is None:
                    self._members.pop(mailbox, None)
                else:
                    self._members[mailbox] = after
            if configuration is None or after is None:
                raise UnknownMailbox(f"there is no mailbox {mailbox}", remedy="look the id up in the list of mailboxes")
            return after, configuration

    def is_as_kept(self, member: Member) -> bool:
        """Whether the store still says what was taken on.  Raises ``StoreUnavailable``."""
        if member.trusted or self.catalog is None:
            return True
        configuration = self._store.configuration(member.mailbox)
        return configuration is not None and member.stamp == _stamp(configuration)

    def differing(self) -> Sequence[MailboxId]:
        """Those of which the store says something else than what was taken on: new, changed, or gone.

        Raises ``StoreUnavailable``.
        """
        known = self.members()
        kept = {configuration.id: configuration for configuration in self._store.configurations()}
        found = [mailbox for mailbox in known if mailbox not in kept]
        for mailbox, configuration in kept.items():
            member = known.get(mailbox)
            if member is None:
                found += [mailbox] if self.catalog is not None else []
            elif not member.trusted and self.catalog is not None and member.stamp != _stamp(configuration):
                found.append(mailbox)
        return found

    def _as_kept(self, configuration: Configuration, before: Member | None) -> Member | None:
        """None for one that nobody has taken on."""
        catalog = self.catalog
        if before is not None and (before.trusted or catalog is None or before.stamp == _stamp(configuration)):
            return before
        if catalog is None:
            return None
        if configuration.changed_by in {FROM_FILE, ""}:
            return Member(
                mailbox=configuration.id,
                label=configuration.name,
                stamp=_stamp(configuration),
                elsewhere=True,
                active=configuration.document.get("active") is not False,
                trouble=_NOT_HERE,
            )
        try:
            options = catalog.options_of(configuration)
            if options.active and (faults := self._problems(options)):
                raise InvalidOptions(faults)
        except MaildaemonError as error:
            trouble = error.trouble()
        except Exception as error:  # whatever stands in a database, the others go on (law 9)
            logger.exception("the configuration of mailbox %s cannot be used", configuration.name)
            trouble = internal_trouble("reading the configuration", error)
        else:
            return _member(configuration, options)
        return Member(
            mailbox=configuration.id,
            label=configuration.name,
            stamp=_stamp(configuration),
            active=configuration.document.get("active") is not False,
            trouble=trouble,
        )


def _member(configuration: Configuration, options: MailboxOptions) -> Member:
    return Member(
        mailbox=configuration.id,
        label=configuration.name,
        options=options,
        stamp=_stamp(configuration),
        active=options.active,
    )


def _stamp(configuration: Configuration) -> Stamp:
    return configuration.version, configuration.created


_NOT_HERE = Trouble(
    error="FromFile",
    message="it comes from a configuration file that this process was not given",
    remedy="give that file to this process, or leave it to the process that has it",
    transient=False,
)
