"""The memory twin of a source keeps the laws of the port, so what is proven on it holds for real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs
import pytest

from maildaemon_core.errors import Trouble
from maildaemon_core.message import Cursor, FolderRef, MessageRef
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.ports import Fetched, Known, Page, Settled, Unfetched, Vanished
from maildaemon_core.testing.memory_source import INBOX, MemoryServer, MemorySource
from maildaemon_core.testing.source_conformance import OpenSource, Post, SourceConformance
from maildaemon_core.testing.source_machine import Ground, hold_in_any_order
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
    costs = 1


class SkipsAtTheEndOfAPage(MemorySource):
    def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
        page = super().list_since(folder, cursor, limit=limit)
        validity, _, last = page.cursor.partition(":")
        return attrs.evolve(page, cursor=Cursor(f"{validity}:{int(last) + 1}")) if page.more else page


class CallsVanishedWhatWasRenumbered(MemorySource):
    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished | Unfetched]:
        for answer in super().fetch(refs):
            yield Vanished(ref=answer.ref) if isinstance(answer, Unfetched) else answer


class TidiesWhatIsNextToIt(MemorySource):
    def settle(self, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Settled | Trouble]:
        answers = super().settle(mails, care)
        if len(mails) > 1:
            box = self._server.folders[INBOX]
            box.mails.pop(max(box.mails, default=0), None)
        return answers


class ForgetsToSayThatItWasRenumbered(MemorySource):
    def list_since(self, folder: FolderRef, cursor: Cursor | None, *, limit: int) -> Page:
        return attrs.evolve(super().list_since(folder, cursor, limit=limit), renumbered=False)


class ReadsOnlyWhatIsStillThere(MemorySource):
    def fetch(self, refs: Sequence[MessageRef]) -> Iterator[Fetched | Vanished | Unfetched]:
        yield from (answer for answer in super().fetch(refs) if not isinstance(answer, Vanished))


@pytest.mark.parametrize(
    "wrong",
    [
        SkipsAtTheEndOfAPage,
        CallsVanishedWhatWasRenumbered,
        TidiesWhatIsNextToIt,
        ForgetsToSayThatItWasRenumbered,
        ReadsOnlyWhatIsStillThere,
    ],
)
def test_the_state_machine_finds_what_is_wrong_with_a_source(wrong: type[MemorySource]) -> None:
    server = MemoryServer()
    ground = Ground(
        post=MemoryPost(server),
        open_source=lambda: wrong(server, FileSpool()),
        actions=frozenset(Action),
        renumbers=True,
        folder=INBOX,
        target=FolderRef("Done"),
    )
    with pytest.raises((AssertionError, ExceptionGroup)):
        hold_in_any_order(ground, examples=300, shorten=False)


class TestMemorySourceWaits(OnMemory, WakeableConformance):
    @pytest.fixture
    def server(self) -> MemoryServer:
        server = MemoryServer()
        server.tells = True
        return server

    @pytest.fixture
    def hang_up(self, server: MemoryServer) -> Callable[[], None]:
        return server.hang_up
