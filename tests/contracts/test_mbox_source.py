"""Mbox files: the laws of the port, how mails in them are told apart, and that rewriting one never loses a mail."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from maildaemon_adapters.local.disk import Disk
from maildaemon_adapters.local.mbox import MboxSource
from maildaemon_adapters.local.mbox_format import mails
from maildaemon_adapters.local.settings import MboxSettings
from maildaemon_core.message import FolderRef
from maildaemon_core.options import KEEP, Action, Aftercare
from maildaemon_core.ports import Fetched, Known, Level, Settled, Unfetched, Vanished
from maildaemon_core.testing import source_conformance
from maildaemon_core.testing.source_conformance import ODD_MAILS, OpenSource, Post, SourceConformance, a_mail
from tests.contracts.spools import FileSpool

INBOX = FolderRef("INBOX")
DELETE = Aftercare(Action.DELETE)
AT_ONCE = MboxSettings(quiet_seconds=0, lock_seconds=0.5)


def from_line(number: int) -> bytes:
    return b"From joe@example.com " + time.asctime(time.gmtime(1_700_000_000 + number)).encode() + b"\n"


def read_back(path: Path) -> list[bytes]:
    """The mails of a file as a person finds them in it."""
    data = path.read_bytes()
    return [data[m.piece.body : m.piece.end] for m in mails(lambda at, number: data[at : at + number], len(data))]


class MboxPost:
    """The files as a delivery agent sees them, which writes mails behind each other."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.number = 0

    def plant(self, folder: str, raw: bytes) -> None:
        self.number += 1
        with (self.top / folder).open("ab") as file:
            file.write(from_line(self.number) + raw + b"\n")

    def peek(self, folder: str) -> list[tuple[bytes, frozenset[str]]]:
        return [(raw, frozenset()) for raw in read_back(self.top / folder)]

    def remove(self, folder: str, raw: bytes) -> None:
        path = self.top / folder
        data = path.read_bytes()
        found = [m.piece for m in mails(lambda at, number: data[at : at + number], len(data))]
        gone = next(piece for piece in found if data[piece.body : piece.end] == raw)
        path.write_bytes(data[: gone.start] + data[gone.stop :])

    def renumber(self, folder: str) -> None:
        raise NotImplementedError


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "Mail").mkdir()
    (tmp_path / "Mail" / "INBOX").touch()
    return tmp_path / "Mail"


@pytest.fixture
def post(top: Path) -> MboxPost:
    return MboxPost(top)


class TestMboxSource(SourceConformance):
    renumbers = False
    actions = frozenset({Action.KEEP, Action.MOVE, Action.DELETE})

    @pytest.fixture
    def post(self, top: Path) -> Post:
        return MboxPost(top)

    @pytest.fixture
    def open_source(self, top: Path) -> OpenSource:
        return lambda: MboxSource(Disk(str(top)), AT_ONCE, FileSpool())

    def test_the_bytes_are_exactly_what_the_server_holds(
        self, post: Post, open_source: OpenSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All mails but the one that no mbox can hold: each line of a file has its end."""
        fitting = {name: raw for name, raw in ODD_MAILS.items() if raw.endswith(b"\n")}
        assert len(fitting) == len(ODD_MAILS) - 1
        monkeypatch.setattr(source_conformance, "ODD_MAILS", fitting)
        super().test_the_bytes_are_exactly_what_the_server_holds(post, open_source)
