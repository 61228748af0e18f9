"""The tokens of this process: each is asked for once by whoever needs it first, and used by all until it ends.

Nothing of them is ever written down.  A server that asks us to wait is left alone for so long by everybody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import attrs

from maildaemon_adapters.oauth.asking import SECONDS
from maildaemon_adapters.oauth.granting import Granted, Registration, ask
from maildaemon_core.errors import LoginRefused, MaildaemonError, SourceUnavailable

MARGIN: Final = 300.0
"""A new token is asked for so many seconds before the old one ends, or in the last quarter of its life."""

AGAIN: Final = 300.0
"""Seconds within which refusals drop the tokens of a registration once: one that was just given is not too old."""

Key = tuple[str, ...]


@attrs.frozen(kw_only=True)
class _Held:
    token: str = attrs.field(repr=False)
    fresh_until: float
    ends: float


@attrs.define
class _Asking:
    """Somebody asks, and others wait for what comes of it."""

    done: threading.Event = attrs.Factory(threading.Event)
    token: str | None = attrs.field(default=None, repr=False)
    failure: MaildaemonError | None = None


class Tokens:
    """May be used by many threads at once.  ``ask_for`` gives a new token, ``now`` the seconds of a clock."""

    def __init__(
        self, ask_for: Callable[[Registration], Granted] = ask, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask_for = ask_for
        self._now = now
        self._lock = threading.Lock()
        self._held: dict[Key, _Held] = {}
        self._asking: dict[Key, _Asking] = {}
        self._left_alone: dict[Key, tuple[float, str]] = {}
        self._dropped: dict[Key, float] = {}

    def get(self, wanted: Registration) -> str:
        """A token that is good for a while.  Raises as ``granting.ask`` does."""
        key, mine = wanted.key, _Asking()
        while True:
            with self._lock:
                now = self._now()
                held = self._held.get(key)
                asking = self._asking.get(key)
                good = held is not None and now < held.ends
                until, why = self._left_alone.get(key, (now, ""))
                if held is not None and (now < held.fresh_until or (good and (asking is not None or now < until))):
                    return held.token
                if now < until:
                    raise SourceUnavailable(why, remedy="it will be asked again later", retry_after=until - now)
                if asking is None:
                    self._asking[key] = mine
                    break
            # Whoever asks has an end of time; what hinders only that one (its confinement, say) is no answer for us.
            if not asking.done.wait(2 * SECONDS):
                raise SourceUnavailable(
                    f"{wanted.where} has been asked for a token, and nothing has come of it", remedy="try again later"
                )
            if asking.token is not None:
                return asking.token
            if isinstance(asking.failure, (LoginRefused, SourceUnavailable)):
                raise _again(asking.failure)
        try:
            return self._renewed(wanted, key, held if good else None, mine)
        finally:
            with self._lock:
                del self._asking[key]
            mine.done.set()

    def forget(self, token: str) -> None:
        """A server refused this token: the next one who needs one asks anew, but not each time somebody is refused."""
        with self._lock:
            now = self._now()
            for key in [key for key, held in self._held.items() if held.token == token]:
                if now - self._dropped.get(key, -AGAIN) >= AGAIN:
                    self._dropped[key] = now
                    del self._held[key]

    def _renewed(self, wanted: Registration, key: Key, old: _Held | None, mine: _Asking) -> str:
        try:
            granted = self._ask_for(wanted)
        except MaildaemonError as error:
            mine.failure = error
            if isinstance(error, SourceUnavailable) and error.retry_after:
                with self._lock:
                    self._left_alone[key] = (self._now() + error.retry_after, error.message)
            if old is None or not isinstance(error, SourceUnavailable):
                raise
            mine.token = old.token  # it ends soon, and has not yet
        else:
            mine.token = granted.token
            self._keep(key, granted)
        return mine.token

    def _keep(self, key: Key, granted: Granted) -> None:
        margin = min(MARGIN, granted.seconds / 4)
        with self._lock:
            now = self._now()
            self._held = {each: held for each, held in self._held.items() if now < held.ends}
            self._left_alone = {each: alone for each, alone in self._left_alone.items() if now < alone[0]}
            self._dropped = {each: when for each, when in self._dropped.items() if now - when < AGAIN}
            ends = now + granted.seconds
            self._held[key] = _Held(token=granted.token, fresh_until=ends - margin, ends=ends)


def _again(error: MaildaemonError) -> MaildaemonError:
    """The same once more, for another thread: an error that is raised twice mixes up where it came from."""
    return type(error)(error.message, remedy=error.remedy, retry_after=error.retry_after)
