"""What an operator can set for the kind ``imap`` beyond the options that all mailboxes have."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from maildaemon_adapters.tcp.trust import Trust
from maildaemon_core.errors import Problem
from maildaemon_core.options import MailboxOptions, Within, one_line


@attrs.frozen(kw_only=True)
class ImapSettings:
    """The kind's own settings, under ``options``.

    ``connect_seconds``: how long TCP may take for all addresses of the host together, and then TLS, and the greeting.
    ``stall_seconds``: how long the server may send nothing at all while an answer is awaited.
    ``command_seconds``: how long a command may take; every byte that arrives adds to it, so that a large mail may take
    long and a server that drips may not.
    ``ca_file``: certificates (PEM) that are trusted instead of the system's, for servers with a CA of their own; a full
    path.
    ``fetch_count``: how many mails one FETCH asks for.
    ``idle_seconds``: how long a session waits to be told of new mail before it shows itself again; servers may end one
    after half an hour (RFC 2177), and some firewalls forget it earlier.
    """

    connect_seconds: int = attrs.field(default=30, validator=Within(1, 600))
    stall_seconds: int = attrs.field(default=90, validator=Within(1, 3600))
    command_seconds: int = attrs.field(default=300, validator=Within(1, 86400))
    ca_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})
    fetch_count: int = attrs.field(default=100, validator=Within(1, 100))
    idle_seconds: int = attrs.field(default=1680, validator=Within(10, 1740))

    @property
    def trust(self) -> Trust:
        """Which servers are believed."""
        return Trust(ca_file=self.ca_file)


def imap_problems(options: MailboxOptions, settings: ImapSettings) -> Sequence[Problem]:
    """What this kind cannot do with, each with its place in the document."""
    found = []
    if options.app_only:
        found.append(
            Problem(
                path="$.clientId", message="imap logs in with username and password only; an app registration cannot"
            )
        )
    return [*found, *settings.trust.problems()]
