"""What is not as it should be: the loop, plug-ins, mailboxes and folders that make no progress, each with a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, Final, Literal

import attrs

from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.plugins import Installed, installed_stores
from maildaemon_core.engine.watched import PATIENCE, Watched, is_dead, is_stuck
from maildaemon_core.errors import BrokenPlugin, MaildaemonError, Trouble
from maildaemon_core.message import FolderRef, MailboxId
from maildaemon_core.monitoring import Event, SweepEnded, SweepReport, SweepState

NOBODY: Final = MailboxId("00000000-0000-0000-0000-000000000000")
"""No mailbox has this id (RFC 9562 §5.9)."""

NOBODYS: Final = timedelta(days=1)
"""So long a mailbox of a file that this process was not given may go unswept: others may sweep it once a night."""

FROM_ELSEWHERE: Final = "FromFile"
"""The trouble of such a mailbox."""


@attrs.frozen(kw_only=True)
class HealthFinding:
    """Something that is not as it should be.

    ``concerns``: ``service`` is what everything needs, the store and the loop that begins the sweeps; a mailbox or a
    plug-in harms no other.  ``subject`` names it, ``remedy`` says what to do about it.
    """

    concerns: Literal["service", "plug-in", "mailbox"]
    subject: str
    message: str
    remedy: str


@attrs.frozen
class UnreadFolder:
    """A folder that sweeps go past: since when, and why; the mailbox itself is well."""

    folder: FolderRef
    since: datetime
    trouble: Trouble


class FolderWatch:
    """A monitor that knows which folders the sweeps of this process could not read, and since when."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._unread: dict[MailboxId, dict[FolderRef, UnreadFolder]] = {}

    def __call__(self, event: Event, /) -> None:
        """Takes note of how a sweep ended."""
        if isinstance(event, SweepEnded) and (event.report.folders or event.report.state is SweepState.DONE):
            self._ended(event.report)

    def of(self, mailbox: MailboxId) -> Sequence[UnreadFolder]:
        """Those of a mailbox."""
        with self._lock:
            return tuple(self._unread.get(mailbox, {}).values())

    def _ended(self, report: SweepReport) -> None:
        now = self._clock()
        with self._lock:
            before = self._unread.pop(report.mailbox, {})
            told = {each.folder for each in report.folders}
            # A sweep that was cut short says nothing of folders that it did not come to.
            kept = (
                {} if report.state is SweepState.DONE else {key: one for key, one in before.items() if key not in told}
            )
            for each in report.unwell_folders:
                assert each.trouble is not None
                since = before[each.folder].since if each.folder in before else now
                kept[each.folder] = UnreadFolder(each.folder, since, each.trouble)
            if kept:
                self._unread[report.mailbox] = kept


def of_store(message: str, remedy: str = "") -> HealthFinding:
    """The store does not answer."""
    remedy = remedy or "see whether the database runs and has room; the service goes on by itself when it answers again"
    return HealthFinding(concerns="service", subject="store", message=message, remedy=remedy)


def findings_of(
    daemon: MailDaemon, folders: FolderWatch, now: datetime, *, all_of_it: bool = True
) -> list[HealthFinding]:
    """Everything that is in the way but the store; unless ``all_of_it``, only what all mailboxes need."""
    found = [*_of_scheduler(daemon.last_tick, now)]
    if all_of_it:
        found += _of_plugins("source", daemon.sources)
        found += _of_plugins("destination", daemon.destinations)
        found += _of_plugins("store", installed_stores())
        found += _of_plugins("opener", daemon.openers)
        watched = daemon.watched()
        for each in watched:
            found += about_mailbox(each, folders.of(each.mailbox), now)
        found += _nobodys(daemon, watched, now)
    return found


def about_mailbox(watched: Watched, unread: Sequence[UnreadFolder], now: datetime) -> list[HealthFinding]:
    """Why a mailbox, or some of its folders, makes no progress, if it should and does not."""
    if not watched.active:
        return []
    if (whole := finding_about(watched, now)) is not None:
        return [whole]
    late = [one for one in unread if now - one.since > max(3 * watched.interval, PATIENCE)]
    return [
        _about(
            watched,
            f"the folder {one.folder!r} has not been read since {_moment(one.since)} ({_for(now - one.since)}): "
            f"{one.trouble.message}",
            one.trouble.remedy,
        )
        for one in late
    ]


def finding_about(watched: Watched, now: datetime) -> HealthFinding | None:
    """Why a mailbox makes no progress at all, if it should and does not."""
    trouble = watched.trouble
    if watched.active and watched.next_due is None and watched.running_since is None and trouble is not None:
        message = f"it cannot be swept: {trouble.message}"
    elif not is_stuck(watched, now):
        return None
    elif watched.running_since is not None:
        heard = watched.heard or watched.running_since
        message = f"its sweep has done nothing since {_moment(heard)} ({_for(now - heard)})"
        trouble = None  # that of the sweep before
    else:
        message = f"no sweep has gone through since {_moment(watched.since)} ({_for(now - watched.since)})"
        message += f": {trouble.message}" if trouble else ""
    return _about(watched, message, trouble.remedy if trouble else "")


def _about(watched: Watched, message: str, remedy: str) -> HealthFinding:
    remedy = remedy or "POST /mailboxes/{uuid}/validate tells what works and what does not; the log names this mailbox"
    return HealthFinding(
        concerns="mailbox",
        subject=f"mailbox {watched.label!r} ({watched.mailbox})",
        message=message,
        remedy=remedy.replace("{uuid}", watched.mailbox),
    )


def is_left_to_others(watched: Watched) -> bool:
    """Whether it comes from a configuration file that this process was not given."""
    return watched.trouble is not None and watched.trouble.error == FROM_ELSEWHERE


def _nobodys(daemon: MailDaemon, watched: Sequence[Watched], now: datetime) -> Iterator[HealthFinding]:
    """Those that are left to others, and no other sweeps them: a file that lost them, or was not given to anybody."""
    left = {each.mailbox: each for each in watched if is_left_to_others(each)}
    try:
        infos = daemon.infos() if left else ()
    except MaildaemonError:
        return  # that is told of the store
    for info in infos:
        one = left.get(info.mailbox)
        if one is None or not info.active:
            continue
        last = info.report.ended if info.report is not None else one.since
        if now - last > NOBODYS:
            yield _about(
                one,
                f"nobody has swept it since {_moment(last)} ({_for(now - last)}): it comes from a configuration file "
                "that this service was not given",
                "give that file to a service; or, if the mailbox was taken out of the file for good, "
                "DELETE /mailboxes/{uuid}",
            )


def _of_scheduler(last_tick: datetime | None, now: datetime) -> Iterator[HealthFinding]:
    if last_tick is None:
        message = "it was not started: nothing is swept by itself"
        remedy = "start the service with maildaemon serve; a program that embeds it calls MailDaemon.start"
    elif is_dead(last_tick, now):
        message = f"it has not looked around since {_moment(last_tick)}: no sweep begins any more"
        remedy = "start the service again, nothing is lost by that; its log tells why, which is worth a report"
    else:
        return
    yield HealthFinding(concerns="service", subject="scheduler", message=message, remedy=remedy)


def _of_plugins(noun: str, registry: Installed[Any]) -> Iterator[HealthFinding]:
    """Broken ones.  That a package is not installed which one of ours needs is the choice of who installed it; if a
    mailbox needs it, that mailbox says so."""
    for name in registry.names():
        try:
            registry.get(name)
        except BrokenPlugin as error:
            if not isinstance(error.__cause__, ModuleNotFoundError) or "maildaemon[" not in error.remedy:
                yield HealthFinding(
                    concerns="plug-in", subject=f"{noun} {name!r}", message=error.message, remedy=error.remedy
                )


def _moment(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _for(lasting: timedelta) -> str:
    minutes = int(lasting.total_seconds() // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"  # noqa: PLR2004
