"""What an operator can set for the kind ``pop3`` beyond the options that all mailboxes have."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

import attrs

from maildaemon_adapters.mail_servers.settings import MailServerSettings, mail_server_problems
from maildaemon_core.errors import Problem
from maildaemon_core.message import FolderRef
from maildaemon_core.options import MailboxOptions, Within

INBOX: Final = FolderRef("INBOX")
"""What the one folder of a maildrop is called: as it is through IMAP."""


@attrs.frozen(kw_only=True)
class Pop3Settings(MailServerSettings):
    """The kind's own settings, under ``options``, besides those of all mail servers.

    ``lock_seconds``: how long to go on trying when the server still has the maildrop locked after a session of ours.
    ``fetch_count``: how many mails are asked for at once, where the server allows that (PIPELINING, RFC 2449).
    """

    lock_seconds: int = attrs.field(default=10, validator=Within(0, 600))
    fetch_count: int = attrs.field(default=20, validator=Within(1, 100))


def pop3_problems(options: MailboxOptions, settings: Pop3Settings) -> Sequence[Problem]:
    """What this kind cannot do with, each with its place in the document."""
    found = [
        Problem(
            path=f"$.folders[{at}]",
            message=f"pop3 knows one folder, {INBOX}; the others can be read through imap",
        )
        for at, folder in enumerate(options.folders)
        if folder.upper() != INBOX and not fnmatchcase(INBOX, folder.upper())
    ]
    return [*found, *mail_server_problems(options, settings)]
