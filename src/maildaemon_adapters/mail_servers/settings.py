"""What an operator can set for a mail server of any protocol: how long it may take, whom to believe, how to log in."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from maildaemon_adapters.oauth import OAuthSettings, oauth_problems
from maildaemon_adapters.tcp.patience import Patience
from maildaemon_adapters.tcp.trust import MinimumTls, Trust
from maildaemon_core.errors import Problem
from maildaemon_core.options import MailboxOptions, Within, one_line


@attrs.frozen(kw_only=True)
class MailServerSettings(OAuthSettings):
    """What the settings of a kind hold that connects to a mail server; they inherit it.

    ``connect_seconds``: how long TCP may take for all addresses of the host together, and then TLS, and the greeting.
    ``stall_seconds``: how long the server may send nothing at all while an answer is awaited.
    ``command_seconds``: how long a command may take; every byte that arrives adds to it, so that a large mail may take
    long and a server that drips may not.
    ``ca_file``: certificates (PEM) that are trusted instead of the system's, for servers with a CA of their own; a full
    path.
    ``fingerprints``: SHA-256 of certificates, in place of that: the server must have one of these, whoever signed it.
    ``minimum_tls``: older versions of TLS are not used, whatever the server offers.
    ``client_cert_file``: our own certificate (PEM), for servers that ask for one; a full path.  Without a password it
    logs in by itself (SASL EXTERNAL).
    ``client_key_file``: the key to it, without a pass phrase, if it does not lie in the same file; a full path.
    """

    connect_seconds: int = attrs.field(default=30, validator=Within(1, 600))
    stall_seconds: int = attrs.field(default=90, validator=Within(1, 3600))
    command_seconds: int = attrs.field(default=300, validator=Within(1, 86400))
    ca_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})
    fingerprints: tuple[str, ...] = attrs.field(default=(), validator=one_line)
    minimum_tls: MinimumTls | None = None
    client_cert_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})
    client_key_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})

    @property
    def trust(self) -> Trust:
        """Which servers are believed, and by which certificate they know us."""
        return Trust(
            ca_file=self.ca_file,
            fingerprints=self.fingerprints,
            minimum=self.minimum_tls,
            certificate_file=self.client_cert_file,
            key_file=self.client_key_file,
        )

    def patience(self) -> Patience:
        """How long one connection is waited for."""
        return Patience(stall=self.stall_seconds, allowance=self.command_seconds)


def mail_server_problems(options: MailboxOptions, settings: MailServerSettings) -> Sequence[Problem]:
    """What is wrong with these settings, each with its place in the document; touches nothing."""
    return [*oauth_problems(options, settings), *settings.trust.problems()]
