"""Where a ``path`` leads: a folder of this machine, or a file system of fsspec, of which only some are taken."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from maildaemon_adapters.local.disk import Disk
from maildaemon_adapters.local.shelf import Shelf
from maildaemon_core.errors import BrokenPlugin, Permanent
from maildaemon_core.options import MailboxOptions

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

TAKEN: Final = frozenset({"ftp", "memory", "zip"})
"""The protocols of fsspec that are taken."""

_FROM_THE_MACHINE: Final = (
    "fsspec takes the login for it from this machine, which is nobody's who writes a configuration"
)
_REFUSED: Final = {
    **dict.fromkeys(("sftp", "ssh"), "fsspec's SFTP takes any host key, so anybody on the way could read the password"),
    **dict.fromkeys(("cifs", "smb"), "fsspec's SMB lets one mailbox read with the login of another"),
    **dict.fromkeys(("abfs", "az", "gcs", "gs", "s3"), _FROM_THE_MACHINE),
    **dict.fromkeys(("http", "https"), "the Web has no folders that can be listed reliably"),
}


def is_url(path: str) -> bool:
    """Whether it is a URL of something else than a file of this machine."""
    found = _URL.match(path)
    return found is not None and found[1].casefold() != "file"


def local_path(path: str) -> str:
    """The path of a folder of this machine, given so or as a ``file:`` URL (RFC 8089)."""
    if path.casefold().startswith("file:"):
        return unquote(urlsplit(path).path, errors="surrogateescape")
    return path


def url_fault(url: str) -> str | None:
    """Why a URL is not taken; None if it is."""
    found = _URL.match(url)
    assert found is not None, "ask is_url first"
    protocol = found[1].casefold()
    if "::" in url:
        return "chained file systems (::) are not taken; for an archive of this machine write zip:///full/path.zip"
    if protocol not in TAKEN:
        why = _REFUSED.get(protocol, f"{protocol} is not known here")
        others = ", ".join(f"{each}://" for each in sorted(TAKEN))
        return f"{why}; taken are a folder of this machine, also one that is mounted, and {others}"
    if protocol == "zip" and url[:7].casefold() != "zip:///":
        return "an archive is named by its full path: zip:///full/path.zip"
    if find_spec("fsspec") is None:
        return f"{protocol}:// needs fsspec, which is not installed: pip install 'maildaemon[fsspec]'"
    return None


def opened(options: MailboxOptions) -> Shelf:
    """The place that the options name.  Raises ``SourceUnavailable``, ``BrokenPlugin`` and ``OutOfBounds``."""
    path = options.path or ""
    if not is_url(path):
        return Disk(local_path(path))
    if fault := url_fault(path):
        raise (BrokenPlugin if "not installed" in fault else NotTaken)(fault, remedy="correct `path`")
    from maildaemon_adapters.local.remote import open_url  # fsspec is an extra

    return open_url(path, options)


def opened_file(options: MailboxOptions) -> tuple[Disk, str | None]:
    """The folder that the options name and None; or that of the file that they name, and its name there.

    Raises ``SourceUnavailable`` and ``NotTaken``.
    """
    path = options.path or ""
    if is_url(path):
        raise NotTaken("an mbox is read from files of this machine only", remedy="copy it here, or mount the folder")
    path = os.path.realpath(local_path(path))
    if Path(path).is_dir() or not Path(path).exists():
        return Disk(path), None
    above, name = os.path.split(path)
    return Disk(above), name


class NotTaken(Permanent):
    """A URL that file sources do not read."""
