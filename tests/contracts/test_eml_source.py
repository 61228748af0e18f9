"""Folders of .eml files: the laws of the port, and what is particular to files that anybody puts there by any means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maildaemon_adapters.local.disk import Disk
from maildaemon_adapters.local.eml import EmlSource
from maildaemon_adapters.local.settings import EmlSettings
from maildaemon_core.errors import FolderMissing, FolderRefused, SourceUnavailable, Trouble
from maildaemon_core.message import FolderRef
from maildaemon_core.options import KEEP, Action, Aftercare
from maildaemon_core.ports import Fetched, Known, Level, Settled, Unfetched, Vanished
from maildaemon_core.testing.source_conformance import OpenSource, Post, SourceConformance, a_mail
from tests.contracts.spools import FileSpool

INBOX = FolderRef("INBOX")
DELETE = Aftercare(Action.DELETE)
AT_ONCE = EmlSettings(quiet_seconds=0)


class EmlPost:
    """The folder as those see it who put files there."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.number = 0

    def folder(self, folder: str) -> Path:
        return self.top if folder == "INBOX" else self.top / folder

    def plant(self, folder: str, raw: bytes) -> Path:
        self.number += 1
        path = self.folder(folder) / f"mail-{self.number:05}.eml"
        path.write_bytes(raw)
        os.utime(path, ns=(0, (1_700_000_000 + self.number) * 10**9))
        return path

    def files(self, folder: str) -> list[Path]:
        return sorted(path for path in self.folder(folder).iterdir() if path.suffix == ".eml")

    def peek(self, folder: str) -> list[tuple[bytes, frozenset[str]]]:
        return [(path.read_bytes(), frozenset()) for path in self.files(folder)]

    def remove(self, folder: str, raw: bytes) -> None:
        next(path for path in self.files(folder) if path.read_bytes() == raw).unlink()

    def renumber(self, folder: str) -> None:
        raise NotImplementedError


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "drop").mkdir()
    return tmp_path / "drop"


@pytest.fixture
def post(top: Path) -> EmlPost:
    return EmlPost(top)


class TestEmlSource(SourceConformance):
    renumbers = False
    actions = frozenset({Action.KEEP, Action.MOVE, Action.DELETE})

    @pytest.fixture
    def post(self, top: Path) -> Post:
        return EmlPost(top)

    @pytest.fixture
    def open_source(self, top: Path) -> OpenSource:
        return lambda: EmlSource(Disk(str(top)), AT_ONCE, FileSpool())
