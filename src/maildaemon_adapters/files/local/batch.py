"""The batch folder of a file destination: ``<root>/.maildaemon/<batch>/``, where parts wait to become visible."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import attrs

from maildaemon_adapters.files.local.folders import empty, look, made, names_in, open_folder
from maildaemon_adapters.files.paths import STAGING
from maildaemon_core.message import BatchId

FORGOTTEN = ".forgotten"
"""Ends the name of a batch that is being removed: it stands no more, though its parts are not all gone yet."""

TRIAL = "trial-"
"""Begins the name of a folder in which it is tried whether files can be stored; no batch's name looks like that."""

DAY = 86_400.0
"""Seconds."""

TRIES = 20
"""How often a folder is made again that somebody else tidies away at the same time."""


@attrs.frozen
class Batch:
    """A batch folder that stood when it was opened: descriptors of the root, of the staging folder and of itself."""

    root: int
    staging: int
    folder: int
    name: str
    new: bool = False

    def stands(self) -> bool:
        """Whether it still stands under its name: else it was forgotten, and its parts say nothing any more."""
        found = look(self.name, self.staging)
        return found is not None and os.path.samestat(found, os.fstat(self.folder))

    def part(self, name: str) -> os.stat_result | None:
        """A part as it lies there, None if it does not."""
        return look(name, self.folder)

    def discard(self, part: str) -> None:
        """Removes a part, as far as that is possible."""
        with suppress(OSError):
            os.unlink(part, dir_fd=self.folder)


@contextmanager
def staging_in(root: int, *, make: bool) -> Iterator[int | None]:
    """The staging folder of an open root; None if there is none.  Raises OSError."""
    if make:
        made(STAGING, root)
    with ExitStack() as stack:
        try:
            descriptor = open_folder(STAGING, root)
        except FileNotFoundError:
            yield None
            return
        stack.callback(os.close, descriptor)
        yield descriptor


@contextmanager
def standing(root: int, name: str) -> Iterator[Batch | None]:
    """The batch's folder; None if it does not stand.  Raises OSError."""
    with staging_in(root, make=False) as staging:
        if staging is None:
            yield None
            return
        try:
            folder = open_folder(name, staging)
        except FileNotFoundError:
            yield None
            return
        try:
            yield Batch(root, staging, folder, name)
        finally:
            os.close(folder)


@contextmanager
def beginning(root: int, name: str) -> Iterator[Batch]:
    """The batch's folder, made if need be.  Raises OSError."""
    for _ in range(TRIES):
        with staging_in(root, make=True) as staging:
            if staging is None:
                continue
            try:
                new = made(name, staging)
                folder = open_folder(name, staging)
            except FileNotFoundError:  # another worker found the staging folder empty and removed it
                continue
            try:
                yield Batch(root, staging, folder, name, new)
            finally:
                os.close(folder)
            return
    raise OSError(errno.EBUSY, "somebody keeps removing its staging folder")


def forget(root: int, name: str) -> None:
    """Removes a batch.  First it loses its name, so that a half removed one is never taken for a published one."""
    doomed = name + FORGOTTEN
    with staging_in(root, make=False) as staging:
        if staging is None:
            return
        empty(doomed, staging)
        with suppress(FileNotFoundError):
            os.rename(name, doomed, src_dir_fd=staging, dst_dir_fd=staging)
            empty(doomed, staging)


def batches(root: int) -> list[BatchId]:
    """The batches that stand."""
    with staging_in(root, make=False) as staging:
        if staging is None:
            return []
        parsed = ((name, BatchId.parse(name)) for name in names_in(staging))
        return [batch for name, batch in parsed if batch is not None and _is_folder(name, staging)]


def tidy(root: int) -> None:
    """Removes what crashes left of forgotten batches and old trials, and the staging folder if nothing lies in it."""
    with staging_in(root, make=False) as staging:
        if staging is None:
            return
        for name in names_in(staging):
            found = look(name, staging) if name.startswith(TRIAL) else None
            if name.endswith(FORGOTTEN) or (found is not None and time.time() - found.st_mtime > DAY):
                empty(name, staging)
    with suppress(OSError):
        os.rmdir(STAGING, dir_fd=root)


def _is_folder(name: str, inside: int) -> bool:
    found = look(name, inside)
    return found is not None and stat.S_ISDIR(found.st_mode)
