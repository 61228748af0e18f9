"""How names in a Maildir are read: of mails, with their flags, and of folders (Maildir++)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from maildaemon_adapters.local.shelf import Steps
from maildaemon_core.folders import INBOX
from maildaemon_core.message import FolderRef

SPECIAL: Final = {
    "archive": "\\Archive",
    "drafts": "\\Drafts",
    "junk": "\\Junk",
    "spam": "\\Junk",
    "sent": "\\Sent",
    "trash": "\\Trash",
}
"""What folders of these names are for, by custom: a Maildir itself does not say."""

_ENCODED: Final = re.compile(r"&([^-]*)-")
_PLAIN: Final = re.compile(r"[\x20-\x7e]*")


def unique_part(name: str) -> str:
    """What of a file's name stays as long as the mail lies there (https://cr.yp.to/proto/maildir.html): all before the
    colon behind which the flags are."""
    return name.partition(":")[0]


def flags_of(name: str) -> str | None:
    """The flags in a file's name (``RS``); None where the name has none."""
    _, colon, info = name.partition(":")
    return info[2:].partition(",")[0] if colon and info.startswith("2,") else None


def seen_name(name: str) -> str:
    """The name with the flag S, and its flags in the order of the alphabet; what else is behind them stays."""
    unique, _, info = name.partition(":")
    flags, comma, rest = info[2:].partition(",") if info.startswith("2,") else ("", "", "")
    return f"{unique}:2,{''.join(sorted({*flags, 'S'}))}{comma}{rest}"


def steps_of(folder: FolderRef) -> Steps | None:
    """Where a folder lies below the top: ``a.b`` in ``.a.b``.  None for a name that none can have."""
    if folder == INBOX:
        return ()
    if "/" in folder or "\0" in folder or not all(folder.split(".")):
        return None
    return (f".{_encode(folder)}",)


def folder_of(name: str) -> FolderRef | None:
    """The folder that lies in ``.a.b``; None where the name is none of a folder."""
    if not name.startswith(".") or not all(name[1:].split(".")):
        return None
    folder = FolderRef(_decode(name[1:]))
    return folder if steps_of(folder) == (name,) and folder.upper() != INBOX and folder.isprintable() else None


def _decode(name: str) -> str:
    """From modified UTF-7 (RFC 3501 §5.1.3), in which Maildir++ has the names of folders."""

    def decoded(found: re.Match[str]) -> str:
        if not found[1]:
            return "&"
        try:
            packed = found[1].replace(",", "/")
            return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True).decode("utf-16-be")
        except (binascii.Error, UnicodeDecodeError):
            return found[0]

    return _ENCODED.sub(decoded, name)


def _encode(folder: str) -> str:
    pieces = []
    for run in re.findall(r"[\x20-\x7e]+|[^\x20-\x7e]+", folder):
        if _PLAIN.fullmatch(run):
            pieces.append(run.replace("&", "&-"))
        else:
            packed = base64.b64encode(run.encode("utf-16-be", "surrogatepass")).decode("ascii").rstrip("=")
            pieces.append(f"&{packed.replace('/', ',')}-")
    return "".join(pieces)
