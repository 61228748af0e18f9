"""Maildirs: the laws of the port, and what is particular to mails whose files are renamed by others all the time."""

from __future__ import annotations

import mailbox
import os
from pathlib import Path

import pytest

from maildaemon_adapters.local.disk import Disk
from maildaemon_adapters.local.maildir import MaildirSource
from maildaemon_core.errors import FolderMissing, FolderRefused, SourceUnavailable, Trouble
from maildaemon_core.message import FolderRef
from maildaemon_core.options import KEEP, Action, Aftercare
from maildaemon_core.ports import Fetched, Known, Level, Settled, Unfetched, Vanished
from maildaemon_core.testing.source_conformance import OpenSource, Post, SourceConformance, a_mail
from tests.contracts.spools import FileSpool

INBOX = FolderRef("INBOX")


def make(path: Path) -> Path:
    for name in ("tmp", "new", "cur"):
        (path / name).mkdir(parents=True)
    return path


class MaildirPost:
    """The folders as a delivery agent and a mail client see them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.number = 0

    def folder(self, folder: str) -> Path:
        return self.top if folder == "INBOX" else self.top / f".{folder}"

    def plant(self, folder: str, raw: bytes, *, flags: str | None = None) -> Path:
        self.number += 1
        name = f"17000{self.number:05}.M{self.number}P1.host"
        written = self.folder(folder) / "tmp" / name
        written.write_bytes(raw)
        there = self.folder(folder) / ("new" if flags is None else "cur")
        return written.rename(there / (name if flags is None else f"{name}:2,{flags}"))

    def files(self, folder: str) -> list[Path]:
        found = [path for each in ("new", "cur") for path in (self.folder(folder) / each).iterdir()]
        return sorted(found, key=lambda path: path.name)

    def peek(self, folder: str) -> list[tuple[bytes, frozenset[str]]]:
        return [
            (path.read_bytes(), frozenset({"\\Seen"} if "S" in path.name.partition(":2,")[2] else ()))
            for path in self.files(folder)
        ]

    def remove(self, folder: str, raw: bytes) -> None:
        next(path for path in self.files(folder) if path.read_bytes() == raw).unlink()

    def renumber(self, folder: str) -> None:
        raise NotImplementedError


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make(tmp_path / "Maildir")


@pytest.fixture
def post(top: Path) -> MaildirPost:
    return MaildirPost(top)


@pytest.fixture
def open_source(top: Path) -> OpenSource:
    return lambda: MaildirSource(Disk(str(top)), FileSpool())


class TestMaildirSource(SourceConformance):
    renumbers = False

    @pytest.fixture
    def post(self, top: Path) -> Post:
        return MaildirPost(top)

    @pytest.fixture
    def open_source(self, top: Path) -> OpenSource:
        return lambda: MaildirSource(Disk(str(top)), FileSpool())
