"""What an operator can set for the kind ``imap`` beyond the options that all mailboxes have."""

from __future__ import annotations

import attrs

from maildaemon_adapters.mail_servers.settings import MailServerSettings
from maildaemon_adapters.tcp.trust import MinimumTls
from maildaemon_core.options import Within


@attrs.frozen(kw_only=True)
class ImapSettings(MailServerSettings):
    """The kind's own settings, under ``options``, besides those of all mail servers.

    ``minimum_tls``: as there, and never absent.
    ``fetch_count``: how many mails one FETCH asks for.
    ``idle_seconds``: how long a session waits to be told of new mail before it shows itself again; servers may end one
    after half an hour (RFC 2177), and some firewalls forget it earlier.
    """

    minimum_tls: MinimumTls = "1.2"
    fetch_count: int = attrs.field(default=100, validator=Within(1, 100))
    idle_seconds: int = attrs.field(default=1680, validator=Within(10, 1740))
