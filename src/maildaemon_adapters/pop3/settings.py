"""What an operator can set for the kind ``pop3`` beyond the options that all mailboxes have."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

import attrs

from maildaemon_adapters.oauth import OAuthSettings, oauth_problems
from maildaemon_adapters.tcp.trust import MinimumTls, Trust
from maildaemon_core.errors import Problem
from maildaemon_core.message import FolderRef
from maildaemon_core.options import MailboxOptions, Within, one_line

INBOX: Final = FolderRef("INBOX")
"""What the one folder of a maildrop is called: as it is through IMAP."""


@attrs.frozen(kw_only=True)
class Pop3Settings(OAuthSettings):
    """The kind's own settings, under ``options``.

    ``connect_seconds``: how long TCP may take for all addresses of the host together, and then TLS, and the greeting.
    ``stall_seconds``: how long the server may send nothing at all while an answer is awaited.
    ``command_seconds``: how long a command may take; every byte that arrives adds to it, so that a large mail may take
    long and a server that drips may not.
    ``lock_seconds``: how long to go on trying when the server still has the maildrop locked after a session of ours.
    ``ca_file``: certificates (PEM) that are trusted instead of the system's, for servers with a CA of their own; a full
    path.
    ``fingerprints``: SHA-256 of certificates, one of which the server must have; whoever signed it then does not
    matter.
    ``client_cert_file``: our own certificate (PEM, a full path), for servers that ask for one.
    ``client_key_file``: its key, without a pass phrase; absent if it lies in the same file.
    ``minimum_tls``: older versions of TLS are not used, whatever the server offers.
    ``fetch_count``: how many mails are asked for at once, where the server allows that (PIPELINING, RFC 2449).
    ``oauth_authority``: who gives tokens, without the tenant; absent: Microsoft's global cloud.
    ``oauth_scope``: what the token is to be good for; absent: what POP needs at Microsoft.
    ``oauth_token_url``: asked in place of an authority, for providers other than Microsoft (RFC 6749 §4.4).
    ``oauth_ca_file``: certificates (PEM) that are trusted there; absent: those of ``ca_file``, else the system's.
    """

    connect_seconds: int = attrs.field(default=30, validator=Within(1, 600))
    stall_seconds: int = attrs.field(default=90, validator=Within(1, 3600))
    command_seconds: int = attrs.field(default=300, validator=Within(1, 86400))
    lock_seconds: int = attrs.field(default=10, validator=Within(0, 600))
    ca_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})
    fingerprints: tuple[str, ...] = attrs.field(default=(), validator=one_line)
    client_cert_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})
    client_key_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})
    minimum_tls: MinimumTls | None = None
    fetch_count: int = attrs.field(default=20, validator=Within(1, 100))

    @property
    def trust(self) -> Trust:
        """Which servers are believed, and how we show who we are."""
        return Trust(
            ca_file=self.ca_file,
            fingerprints=self.fingerprints,
            certificate_file=self.client_cert_file,
            key_file=self.client_key_file,
            minimum=self.minimum_tls,
        )


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
    return [*found, *oauth_problems(options, settings), *settings.trust.problems()]
