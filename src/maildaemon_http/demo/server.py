"""A mail server for the demo: pymap, inside this process, on loopback, the same each time that it starts.

https://github.com/icgood/pymap
"""

from __future__ import annotations

import asyncio
import threading
from argparse import Namespace
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from types import TracebackType
from typing import Self

import attrs
from proxyprotocol.reader import ProxyProtocolReader
from pymap.backend.dict import Config, DictBackend
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxSet
from pymap.imap import IMAPServer
from pymap.parsing.message import AppendMessage
from pymap.user import Passwords, UserMetadata

from maildaemon_core.errors import SourceUnavailable

UIDVALIDITY = 20260401
"""Of the one folder, INBOX: with it and the UIDs, which pymap counts, a second start is the same server again."""

_SECONDS_TO_START = 20


@attrs.frozen(kw_only=True)
class SampleMail:
    """``raw`` as the server gives it; ``received``: its INTERNALDATE."""

    raw: bytes
    received: datetime


class DemoServer:
    """Serves the mails of one user on a free port of 127.0.0.1, without TLS, from its own thread."""

    port: int

    def __init__(self, user: str, password: str, mails: Sequence[SampleMail]) -> None:
        self._user = user
        self._password = password
        self._mails = mails
        self._ready = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="demo server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_SECONDS_TO_START) or self._error is not None:
            raise SourceUnavailable(
                f"the mail server of the demo did not start: {self._error or 'no answer'}", remedy="try it again"
            ) from self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001  (raised again by whoever waits for the start)
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        backend, config = await DictBackend.init(self._arguments(), invalid_user_sleep=0.0)
        config.apply_context()
        hashed = await Passwords(config).hash_password(self._password)
        backend.login.users_dict[self._user] = UserMetadata(config, self._user, password=hashed)
        await self._fill(config)
        async with AsyncExitStack() as stack:
            await backend.start(stack)
            answer = ProxyProtocolReader(config.proxy_protocol).get_callback(IMAPServer(backend.login, config))
            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._over.wait()
            server.close()

    async def _fill(self, config: Config) -> None:
        folders = MailboxSet()
        inbox = await folders.get_mailbox("INBOX")
        inbox._uid_validity = UIDVALIDITY  # pymap throws dice for it, and has no other way to say it
        for mail in self._mails:
            await inbox.append(AppendMessage(mail.raw, mail.received, frozenset()))
        config.set_cache[self._user] = (folders, FilterSet())

    def _arguments(self) -> Namespace:
        """What pymap's own command line would hand over."""
        nothing = dict.fromkeys(("cert", "key", "passlib_cfg", "proxy_protocol", "inherited_sockets"))
        return Namespace(
            host="127.0.0.1",
            port=0,
            debug=False,
            tls=False,
            demo_data=False,
            demo_user=self._user,
            demo_password=self._password,
            **nothing,
        )
