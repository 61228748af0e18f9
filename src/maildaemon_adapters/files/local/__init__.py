"""Destinations that are folders: their kinds, as handed over through the entry points."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from maildaemon_adapters.files.local.destination import FileDestination
from maildaemon_adapters.files.paths import root_of
from maildaemon_core.errors import InvalidOptions, Problem
from maildaemon_core.options import DestinationOptions, KindFacts
from maildaemon_core.ports import Destination, Kind

__all__ = ["FILE", "FileDestination", "FileSettings", "open_file"]


@attrs.frozen(kw_only=True)
class FileSettings:
    """What may stand under ``options`` of a destination of type ``file``: nothing, there is nothing to choose."""


def open_file(options: DestinationOptions, settings: FileSettings) -> Destination:
    """The folder that ``options.url`` names: an absolute path or a ``file:`` URL.  It need not exist yet.

    Touches nothing.  Raises ``InvalidOptions``.
    """
    root = root_of(options.url)
    if not root.startswith("/"):
        raise InvalidOptions([_relative(root)])
    return FileDestination(root, verify=options.verify)


def _relative(root: str) -> Problem:
    # A configuration file gives its own folder to relative paths; a program that adopts options has none to give.
    return Problem(
        path="$.url", message=f"the folder {root!r} must be an absolute path; write the whole one, such as /srv/mail"
    )


def problems(options: DestinationOptions, settings: FileSettings) -> Sequence[Problem]:
    """What of the options a folder can do nothing with."""
    found: list[Problem] = []
    try:
        root = root_of(options.url or "/")  # that it is missing is said of every kind
    except InvalidOptions as error:
        found += error.problems
    else:
        if not root.startswith("/"):
            found.append(_relative(root))
    if options.username is not None or options.password is not None:
        found.append(
            Problem(
                path="$.username" if options.username is not None else "$.password",
                message="a folder of this machine takes no login; leave username and password out, "
                "and give the user who runs maildaemon its rights",
            )
        )
    return found


FILE: Kind[FileSettings, Destination] = Kind(
    settings=FileSettings,
    open=open_file,
    facts=KindFacts(needs_host=False, needs_login=False, needs_path=True),
    problems=problems,
)
