"""Somebody on a server's own disk, who looks at a destination's folder past every adapter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from maildaemon_adapters.files.paths import STAGING


class Disk:
    """All files below a folder.  What is put there belongs to whoever owns the folder, as if that user had put it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def files(self) -> Mapping[str, bytes]:
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and not path.is_symlink()
        }

    def put(self, path: str, data: bytes) -> None:
        target = self.root / path
        for folder in reversed(target.relative_to(self.root).parents):
            if not (self.root / folder).is_dir():
                (self.root / folder).mkdir()
                self._give(self.root / folder)
        target.write_bytes(data)
        self._give(target)

    def take(self, path: str) -> bytes:
        data = (self.root / path).read_bytes()
        (self.root / path).unlink()
        return data

    def _give(self, path: Path) -> None:
        owner = self.root.stat()
        if os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)


class Shelf(Disk):
    """A consumer: sees all files but those in the staging folder."""

    def files(self) -> Mapping[str, bytes]:
        return {path: data for path, data in super().files().items() if not path.startswith(f"{STAGING}/")}
