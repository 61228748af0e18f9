"""A small file system in memory on a folder, where this machine lets us mount one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.availability import not_available

REMEDY = "run them as root, on a kernel that lets root mount"


@contextmanager
def mounted(folder: Path, options: str = "size=2m,mode=0777", *, lazy: bool = False) -> Iterator[None]:
    """Else the test is skipped (a failure in CI).  Who leaves a file open in it fails, unless that is ``lazy``."""
    if os.geteuid() != 0:
        not_available("only root may mount a small file system", REMEDY)
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "maildaemon-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        not_available(f"this machine lets nobody mount a file system: {done.stderr.strip()}", REMEDY)
    try:
        yield
    finally:
        umount = ["umount", *(["--lazy"] if lazy else []), str(folder)]
        done = subprocess.run(umount, capture_output=True, text=True, check=False)
        if done.returncode:  # a fault, but none that may outlive the test
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        assert not done.returncode, done.stderr
