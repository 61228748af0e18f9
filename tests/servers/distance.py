"""A TCP proxy on loopback behind which a server is far away: every byte takes its time, and as many travel at once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Self

from tests.servers.process import LOOPBACK

PIECE = 1 << 16


class FarAway:
    """``with FarAway(server.imaps, round_trip=0.05) as proxy:`` and connect to ``proxy.port``.

    ``round_trip``: seconds that are added to it, half on each way; it may change at any time.  ``connections`` counts.
    """

    def __init__(self, target_port: int, *, round_trip: float = 0.0) -> None:
        self.target_port = target_port
        self.round_trip = round_trip
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="far-away", daemon=True)
        self._ready = threading.Event()
        self._over = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        talks: set[asyncio.Task[None]] = set()

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            talk = self._loop.create_task(self._talk(reader, writer))
            talks.add(talk)
            talk.add_done_callback(talks.discard)

        server = await asyncio.start_server(accepted, LOOPBACK, 0)
        self.port: int = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        for talk in list(talks):
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target_port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        finally:
            writer.close()
            far_writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What is read is written when its time has come; reading goes on meanwhile."""
        travelling: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                due, data = await travelling.get()
                await asyncio.sleep(due - self._loop.time())
                with contextlib.suppress(OSError):
                    if not data:
                        writer.write_eof() if writer.can_write_eof() else writer.close()
                        return
                    writer.write(data)
                    await writer.drain()

        arriving = self._loop.create_task(arrive())
        try:
            data = b"?"
            while data:
                try:
                    data = await reader.read(PIECE)
                except OSError:
                    data = b""
                travelling.put_nowait((self._loop.time() + self.round_trip / 2, data))
            await arriving
        finally:
            arriving.cancel()
