"""What an operator can set for the kind ``imap`` beyond the options that all mailboxes have."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from maildaemon_adapters.oauth import OAuthSettings, oauth_problems
from maildaemon_adapters.tcp.trust import MinimumTls, Trust
from maildaemon_core.errors import Problem
from maildaemon_core.options import MailboxOptions, Within, one_line


@attrs.frozen(kw_only=True)
class ImapSettings(OAuthSettings):
    """The kind's own settings, under ``options``.

    ``connect_seconds``: how long TCP may take for all addresses of the host together, and then TLS, and the greeting.
    ``stall_seconds``: how long the server may send nothing at all while an answer is awaited.
    ``command_seconds``: how long a command may take; every byte that arrives adds to it, so that a large mail may take
    long and a server that drips may not.
    ``ca_file``: certificates (PEM) that are trusted instead of the system's, for servers with a CA of their own; a full
    path.
    ``fingerprints``: SHA-256 of certificates, in place of that: the server must have one of these, whoever signed it.
    ``minimum_tls``: older versions of TLS are not used.
    ``client_cert_file``: our own certificate (PEM), for servers that ask for one; a full path.  Without a password it
    logs in by itself (SASL EXTERNAL).
    ``client_key_file``: the key to it, without a pass phrase, if it does not lie in the same file; a full path.
    ``fetch_count``: how many mails one FETCH asks for.
    ``idle_seconds``: how long a session waits to be told of new mail before it shows itself again; servers may end one
    after half an hour (RFC 2177), and some firewalls forget it earlier.
    ``oauth_authority``: who gives tokens to the app registration, without the tenant; absent: Microsoft's global cloud.
    ``oauth_scope``: what the token is to be good for; absent: what Microsoft wants for IMAP.
    ``oauth_token_url``: asked in place of an authority, for providers other than Microsoft (RFC 6749 §4.4).
    ``oauth_ca_file``: certificates (PEM) that are trusted there; absent: those of ``ca_file``, else the system's.
    """

    connect_seconds: int = attrs.field(default=30, validator=Within(1, 600))
    stall_seconds: int = attrs.field(default=90, validator=Within(1, 3600))
    command_seconds: int = attrs.field(default=300, validator=Within(1, 86400))
    ca_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})
    fingerprints: tuple[str, ...] = attrs.field(default=(), validator=one_line)
    minimum_tls: MinimumTls = "1.2"
    client_cert_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})
    client_key_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})
    fetch_count: int = attrs.field(default=100, validator=Within(1, 100))
    idle_seconds: int = attrs.field(default=1680, validator=Within(10, 1740))

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


def imap_problems(options: MailboxOptions, settings: ImapSettings) -> Sequence[Problem]:
    """What this kind cannot do with, each with its place in the document."""
    return [*oauth_problems(options, settings), *settings.trust.problems()]
