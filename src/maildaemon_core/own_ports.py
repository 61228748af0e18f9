"""Which TCP ports the protocols of mailboxes have of their own, used where none is written."""

from __future__ import annotations

from typing import Final

from maildaemon_core.options import Tls

_PORTS: Final[dict[tuple[str, Tls], int]] = {
    ("imap", "implicit"): 993,
    ("imap", "starttls"): 143,
    ("imap", "none"): 143,
    ("pop3", "implicit"): 995,
    ("pop3", "starttls"): 110,
    ("pop3", "none"): 110,
    ("exchange", "implicit"): 443,
    ("graph", "implicit"): 443,
}
"""RFC 8314 §7, RFC 9051 §2.1, RFC 1939 §3, RFC 9110 §4.2.2."""


def own_port(kind: str, mode: Tls) -> int:
    """The port of a kind with or without TLS; 0 where it has none."""
    return _PORTS.get((kind, mode), 0)


def own_ports(kind: str) -> frozenset[int]:
    """All of them, whatever the TLS."""
    return frozenset(port for (each, _), port in _PORTS.items() if each == kind)
