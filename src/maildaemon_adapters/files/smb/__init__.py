"""The destination ``smb``: what an operator can set, and what is wrong with it; the library is loaded in ``open``.

Files come whole: written into the staging folder, flushed to disk, and renamed to a new name by a request that refuses
one that is taken (MS-FSCC §2.4.42.2, ``ReplaceIfExists`` false).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import attrs

from maildaemon_adapters.files.needs import missing, require
from maildaemon_adapters.files.server_url import read_url, url_problems
from maildaemon_core.errors import InvalidOptions, Problem
from maildaemon_core.options import DestinationOptions, KindFacts, Within
from maildaemon_core.ports import Destination, Kind

EXAMPLE: Final = "smb://files.example.com/share/mail"
PORT: Final = 445

_SCHEMES: Final = frozenset({"smb"})

Protection = Literal["encrypted", "signed"]


@attrs.frozen(kw_only=True)
class SmbSettings:
    r"""The kind's own settings, under ``options``.  A domain is part of the user: ``DOMAIN\jane`` or ``jane@domain``.

    ``protection``: ``encrypted``: nobody on the way reads or changes anything; servers need SMB 3 for it.  ``signed``:
    nobody on the way changes anything, but may read it.
    ``connect_seconds``: how long connecting may take, and then each step of logging in.
    ``answer_seconds``: how long the server may leave one request unanswered.
    """

    protection: Protection = "encrypted"
    connect_seconds: int = attrs.field(default=5, validator=Within(1, 60))
    answer_seconds: int = attrs.field(default=60, validator=Within(1, 600))


def open_smb(options: DestinationOptions, settings: SmbSettings) -> Destination:
    """The folder of the share that ``options.url`` names; it is connected to when it is first used.

    Raises ``InvalidOptions``, and ``BrokenPlugin`` where the library is not installed.
    """
    found = problems(options, settings)
    if found:
        raise InvalidOptions(found)
    require("smb", "smbprotocol")
    from maildaemon_adapters.files.publishing import PublishingDestination
    from maildaemon_adapters.files.smb.tree import SmbTree

    assert options.password is not None
    tree = SmbTree(read_url(options, _SCHEMES, EXAMPLE), options.password, settings)
    return PublishingDestination(tree, verify=options.verify)


def problems(options: DestinationOptions, settings: SmbSettings) -> Sequence[Problem]:
    """What of the options this kind cannot do with, each with its place in the document."""
    found = [*missing("smb", "smbprotocol"), *url_problems(options, _SCHEMES, EXAMPLE)]
    if not any(problem.path == "$.url" for problem in found):
        url = read_url(options, _SCHEMES, EXAMPLE)
        if not url.path:
            found.append(Problem(path="$.url", message=f"names no share; write {EXAMPLE}"))
        if url.user is None:
            found.append(Problem(path="$.username", message="smb needs a user; guests could not be told from others"))
    if options.password is None:
        found.append(Problem(path="$.password", message="smb needs a password (NTLM); Kerberos is not used"))
    return found


SMB: Kind[SmbSettings, Destination] = Kind(
    settings=SmbSettings,
    open=open_smb,
    facts=KindFacts(needs_host=False, needs_login=True),
    problems=problems,
)
