"""What it means not to get as far as a mail server's greeting, or not past its door, whatever it speaks."""

from __future__ import annotations

from maildaemon_adapters.mail_servers.settings import MailServerSettings
from maildaemon_adapters.tcp.obstacles import obstacle_of
from maildaemon_core.errors import MaildaemonError, SourceUnavailable
from maildaemon_core.options import Tls


def unreachable(error: Exception, where: str, mode: Tls, settings: MailServerSettings) -> MaildaemonError:
    """What a connection with ``where`` (host and port) that failed below the protocol means for people."""
    hint = _other_mode(mode)
    return obstacle_of(
        error, where, seconds=settings.connect_seconds, trust=settings.trust, hint=hint, named=None
    ).for_source()


def no_greeting(where: str, mode: Tls, protocol: str, shown: str) -> SourceUnavailable:
    """What it means that somebody is there who does not speak the protocol; ``shown``: why, without secrets."""
    return SourceUnavailable(
        f"{where} does not greet as {protocol} server does: {shown}",
        remedy=f"check port; {_other_mode(mode)}; the server may be overloaded",
    )


def is_not_connected(said: str) -> bool:
    """Whether Exchange Online says that it cannot open the mailbox of a login that it takes; mostly that passes."""
    return "authenticated but not connected" in said.lower()


def _other_mode(mode: Tls) -> str:
    return f"tls {'starttls or none' if mode == 'implicit' else 'implicit'} may be what this port speaks"
