"""Which names a local destination takes: where its root is, and which paths below it; without touching a disk."""

from __future__ import annotations

import os
from urllib.parse import unquote_to_bytes, urlsplit

from maildaemon_core.errors import InvalidOptions, Permanent, Problem, Transient

STAGING = ".maildaemon"
"""The folder inside the root that no consumer looks into: hidden names are never published."""

LONGEST = 255
"""Bytes of one name: NAME_MAX of every common file system; some allow fewer, and say so when asked."""


class PathRefused(Permanent):
    """No file can lie under this path, now or later: it would leave the destination, or is not a name at all."""


class PathBlocked(Transient):
    """A link or a file stands where a folder of the path belongs: when somebody moves it away, files can lie there."""


def root_of(url: str | None) -> str:
    """The folder that a destination's ``url`` names: a local path, or a ``file:`` URL (RFC 8089) of this machine.

    Raises ``InvalidOptions``.  A relative path passes: it is relative to something that only the caller knows.
    """
    fault = ""
    path = url or ""
    if not path.strip():
        fault = "a destination of type file needs a url: the folder to store into"
    elif "::" in path:
        fault = "chained file systems (::) are not taken; name the folder itself"
    elif path.lower().startswith("file:"):
        parts = urlsplit(path)
        if parts.netloc.lower() not in {"", "localhost"}:
            fault = f"names another machine, {parts.netloc!r}; a folder of this one is written file:///folder"
        elif parts.query or parts.fragment:
            fault = "a file URL has no ? and no #; write %3F and %23, or the path without file:"
        path = os.fsdecode(unquote_to_bytes(parts.path))
        if not fault and not path.startswith("/"):
            fault = "a file URL is absolute: file:///folder"
    elif "://" in path:
        scheme = path.partition("://")[0]
        fault = f"type file stores into a folder of this machine; for {scheme}:// write type = {scheme!r}"
    elif path.startswith("~"):
        fault = "~ is not expanded here; write the whole path"
    if not fault and "\0" in path:
        fault = "a path cannot hold a NUL"
    if fault:
        raise InvalidOptions([Problem(path="$.url", message=fault)])
    return path


def components(path: str) -> tuple[str, ...]:
    """The names that a path consists of.  Raises ``PathRefused``.

    The core has made the path harmless already; a second look costs nothing and holds whoever calls.
    """
    parts = tuple(path.split("/"))
    for part in parts:
        component(part, path)
    return parts


def component(part: str, path: str) -> str:
    """One name, as a part of ``path``.  Raises ``PathRefused``."""
    if not part or part.startswith("."):
        reason = "its parts must neither be empty nor start with a dot"
    elif "\0" in part or "/" in part:
        reason = "a name cannot hold a NUL or a slash"
    else:
        try:
            length = len(os.fsencode(part))
        except UnicodeEncodeError:
            reason = "a name holds characters that cannot be written here"
        else:
            if length <= LONGEST:
                return part
            reason = f"a name has {length} bytes, and at most {LONGEST} are possible"
    raise PathRefused(f"the path {path!r} is not taken: {reason}", remedy="change the path template")
