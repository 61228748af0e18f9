"""One SSH connection with a thread of its own, which threads that may wait ask, each for so long and no longer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

import asyncssh

from maildaemon_adapters.files.sftp.answers import shown
from maildaemon_adapters.files.sftp.login import Login, log_in
from maildaemon_adapters.files.tree import Fault, TreeError

T = TypeVar("T")

_NAME = "maildaemon-sftp "
"""How the names of these threads begin."""

_FAREWELL = 2.0
"""Seconds that the server gets to hear a polite end."""


class Session:
    """Connects and logs in; raises ``TreeError``.  ``client`` is only to be used in what ``ask`` and ``start`` run."""

    def __init__(self, login: Login) -> None:
        self._login = login
        trusted, key = login.trusted(), login.key()
        sock = login.dial()
        self._lock = threading.Lock()
        self._ended = False
        self._politely = False
        self._connection: asyncssh.SSHClientConnection | None = None
        self._loop = asyncio.new_event_loop()
        # What breaks is told to whoever waits; asyncio would log it again for each packet and each request.
        self._loop.set_exception_handler(lambda loop, context: None)
        logging.getLogger("asyncio").addFilter(_is_of_others)
        self._thread = threading.Thread(target=self._run, name=f"{_NAME}{login.where}", daemon=True)
        self._thread.start()
        try:
            # A second more than it gives itself: that it took too long is said by whoever knows what took so long.
            connecting = self.start(log_in(login, sock, trusted, key))
            self._connection, self.client = self.wait(connecting, login.settings.connect_seconds + 1)
        except BaseException:
            self.end()
            raise

    @property
    def alive(self) -> bool:
        """Whether it may be asked; a connection that broke without anybody asking is known not to be."""
        return not self._ended and self._connection is not None and not self._connection.is_closed()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begins something and gives what to ``wait`` for.  Raises ``TreeError`` if the connection was ended."""
        with self._lock:
            if not self._ended:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise self._gone("it was closed here")

    def wait(self, future: Future[T], seconds: float | None = None) -> T:
        """What became of it.  An answer that does not come in time ends the connection: ``TreeError``, ``GONE``."""
        limit = self._login.settings.answer_seconds if seconds is None else seconds
        try:
            return future.result(limit)
        except CancelledError:
            raise self._gone("it was closed here") from None
        except TimeoutError:
            if future.done():
                raise
        future.cancel()
        self.end()
        raise self._gone(f"it did not answer within {limit:g} s")

    def ask(self, work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
        """Does it there, and waits for it here."""
        return self.wait(self.start(work), seconds)

    def end(self, *, politely: bool = False) -> None:
        """Breaks off whatever is going on, and leaves.  Never raises; twice is the same as once."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._politely = politely
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_FAREWELL + 1)

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            if self._connection is not None:
                with contextlib.suppress(Exception):
                    loop.run_until_complete(_leave(self._connection, _FAREWELL if self._politely else 0.0))
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def broken(self, error: BaseException) -> TreeError:
        """What to say when the library finds the connection, or what it is for, at its end; the rest is ended too."""
        self.end()
        said = error.reason if isinstance(error, asyncssh.DisconnectError | asyncssh.SFTPError) else str(error)
        return self._gone(shown(said) or type(error).__name__)

    def _gone(self, what: str) -> TreeError:
        return TreeError(
            Fault.GONE,
            f"the connection with {self._login.where} is at an end: {what}",
            remedy="it is made anew when it is needed; see whether the server runs",
        )


def _is_of_others(record: logging.LogRecord) -> bool:
    """A filter for a log: lines that do not come from threads of this kind."""
    return not (record.threadName or "").startswith(_NAME)


async def _leave(connection: asyncssh.SSHClientConnection, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            connection.close()
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()
        await connection.wait_closed()
