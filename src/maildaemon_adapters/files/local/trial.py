"""Whether a destination would work: a small file is stored and removed again, and the free space counted."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from maildaemon_adapters.files.local.batch import TRIAL, beginning, forget, tidy
from maildaemon_adapters.files.local.durability import sync_file, sync_folder
from maildaemon_adapters.files.local.faults import unavailable, whoami
from maildaemon_adapters.files.local.folders import opened_root
from maildaemon_adapters.files.local.rename import Rename, refuses_in_the_kernel
from maildaemon_core.errors import DestinationUnavailable, Trouble
from maildaemon_core.ports import Finding, Level

_SAMPLE: Final = b"maildaemon looks whether it can store files here; this one is removed at once.\n" * 50
_LEAST_FREE: Final = 100_000_000
_LEAST_SHARE: Final = 0.01


def probe(root: str, rename: Rename, *, met: bool) -> Trouble | None:
    """Whether a small file can be stored just now: None if so.  ``met``: the root was there before, and has to be."""
    try:
        nearest = _nearest(root)
        if nearest == root or met:
            _store_a_sample(root, rename)
        elif (finding := _of_root(root, nearest)).level is Level.FAULT:
            return DestinationUnavailable(finding.message, remedy=finding.remedy).trouble()
    except DestinationUnavailable as error:
        return error.trouble()
    return None


def findings(root: str, rename: Rename) -> Sequence[Finding]:
    """What works, what does not, what to do about it.  Leaves nothing behind."""
    nearest = _nearest(root)
    found = [_of_root(root, nearest)]
    if found[0].level is not Level.FAULT:
        if nearest == root:
            found.append(_of_sample(root, rename))
        found.append(_of_space(root, nearest))
    return found


def _of_root(root: str, nearest: str) -> Finding:
    if not Path(nearest).is_dir():
        return Finding(
            level=Level.FAULT,
            subject=root,
            message=f"{nearest} is not a folder",
            remedy="name another folder, or move away what lies there",
        )
    if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            level=Level.FAULT,
            subject=root,
            message=f"the user {whoami()} may not write into {nearest}, or it is mounted read-only",
            remedy=f"give that user the right to read, write and search {nearest} (chown, chmod u+rwx), "
            "or mount it for writing",
        )
    if nearest != root:
        return Finding(level=Level.FINE, subject=root, message=f"will be made: {nearest} is there and can be written")
    return Finding(level=Level.FINE, subject=root, message="is there and can be written")


def _of_sample(root: str, rename: Rename) -> Finding:
    try:
        alone = _store_a_sample(root, rename)
    except DestinationUnavailable as error:
        return Finding.of(root, error)
    if not alone:
        return Finding(
            level=Level.WARNING,
            subject=root,
            message="a file was written, renamed, read back and removed; but this file system cannot refuse to rename "
            "over another file by itself",
            remedy="let no other program make files of the same names there, or use another file system",
        )
    return Finding(level=Level.FINE, subject=root, message="a file was written, renamed, read back and removed")


def _of_space(root: str, nearest: str) -> Finding:
    space = os.statvfs(nearest)
    free, total = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    message = f"{_size(free)} of {_size(total)} are free"
    if total and (free < _LEAST_FREE or free < total * _LEAST_SHARE):
        return Finding(
            level=Level.WARNING, subject=root, message=f"only {message}", remedy="free some space before it is full"
        )
    return Finding(level=Level.FINE, subject=root, message=message)


def _store_a_sample(root: str, rename: Rename) -> bool:
    """Stores and removes a file in the staging folder, where no consumer looks.

    True if the file system itself refuses to rename over another file.  Raises ``DestinationUnavailable``.
    """
    name = TRIAL + secrets.token_hex(8)
    try:
        with opened_root(root) as folder:
            try:
                with beginning(folder, name) as into:
                    _write(into.folder, "sample")
                    rename(into.staging, f"{into.name}/sample", into.folder, "renamed")
                    with open(
                        "renamed", "rb", opener=lambda name, flags: os.open(name, flags, dir_fd=into.folder)
                    ) as file:
                        if file.read() != _SAMPLE:
                            raise OSError("what was written does not read back")
                    sync_folder(into.folder)
                    _write(into.folder, "sample")
                    return refuses_in_the_kernel(into.folder, "sample", "renamed")
            finally:
                forget(folder, name)
                tidy(folder)
    except OSError as error:
        raise unavailable(error, root) from error


def _write(folder: int, name: str) -> None:
    descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    try:
        os.write(descriptor, _SAMPLE)
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def _nearest(path: str) -> str:
    """The path itself, or the closest above it that exists."""
    return next((str(above) for above in (Path(path), *Path(path).parents) if os.path.lexists(above)), "/")


def _size(number: float) -> str:
    """A number of bytes for people, in powers of ten."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:  # noqa: PLR2004 - what the units are about
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
