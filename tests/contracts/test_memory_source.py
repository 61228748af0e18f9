"""The memory twin of a source keeps the laws of the port, so what is proven on it holds for real ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from maildaemon_core.message import FolderRef, MessageRef
from maildaemon_core.testing.memory_source import MemoryServer, MemorySource
from maildaemon_core.testing.source_conformance import OpenSource, Post, SourceConformance
from maildaemon_core.testing.wakeable_conformance import WakeableConformance
from tests.contracts.spools import FileSpool


class MemoryPost:
    """The memory server as the world sees it."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def plant(self, folder: str, raw: bytes) -> None:
        self._server.plant(raw, folder)

    def peek(self, folder: str) -> list[tuple[bytes, frozenset[str]]]:
        box = self._server.folders[FolderRef(folder)]
        return [(mail.raw, frozenset(mail.flags)) for mail in box.mails.values()]

    def remove(self, folder: str, raw: bytes) -> None:
        box = self._server.folders[FolderRef(folder)]
        uid = next(uid for uid, mail in box.mails.items() if mail.raw == raw)
        self._server.remove(MessageRef(FolderRef(folder), str(box.uidvalidity), str(uid)))

    def renumber(self, folder: str) -> None:
        self._server.renumber(folder)


class OnMemory:
    """What both conformance classes reach behind the port with."""

    @pytest.fixture
    def server(self) -> MemoryServer:
        return MemoryServer()

    @pytest.fixture
    def post(self, server: MemoryServer) -> Post:
        return MemoryPost(server)

    @pytest.fixture
    def open_source(self, server: MemoryServer) -> OpenSource:
        return lambda: MemorySource(server, FileSpool())


class TestMemorySource(OnMemory, SourceConformance):
    pass


class TestMemorySourceWaits(OnMemory, WakeableConformance):
    @pytest.fixture
    def server(self) -> MemoryServer:
        server = MemoryServer()
        server.tells = True
        return server

    @pytest.fixture
    def hang_up(self, server: MemoryServer) -> Callable[[], None]:
        return server.hang_up
