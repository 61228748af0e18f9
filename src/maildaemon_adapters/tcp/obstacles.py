"""What keeps us from a server, in words for people: what is wrong, and what they can do about it."""

from __future__ import annotations

import enum
import socket
import ssl

import attrs

from maildaemon_adapters.tcp.trust import OtherCertificate, Trust, Unusable, environment
from maildaemon_adapters.tcp.words import said
from maildaemon_core.confinement import ConnectionForbidden, OutOfBounds
from maildaemon_core.errors import SourceUnavailable

_EXPIRED, _NOT_YET, _WRONG_NAME = frozenset({10}), frozenset({9}), frozenset({62, 64})
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, _CERT_NOT_YET_VALID, _HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH."""


class Hindrance(enum.Enum):
    """What sort of thing an obstacle is."""

    FORBIDDEN = "this service lets no mailbox connect there"
    UNTRUSTED = "nobody can tell whether the server is the expected one, or it is not"
    UNREACHABLE = "nobody is there who speaks as expected"


@attrs.frozen(kw_only=True)
class Obstacle:
    """``what`` is a clause that names the server, ``remedy`` what a person can do; neither ever holds a secret."""

    kind: Hindrance
    what: str
    remedy: str

    def for_source(self, before: str = "") -> OutOfBounds | SourceUnavailable:
        """What a mail source raises of it; ``before``: what is to be said first."""
        kind = OutOfBounds if self.kind is Hindrance.FORBIDDEN else SourceUnavailable
        return kind(f"{before}{self.what}", remedy=self.remedy)


def obstacle_of(
    error: BaseException,
    where: str,
    *,
    seconds: float,
    trust: Trust | None = None,
    hint: str = "",
    named: str | None = "url",
) -> Obstacle:
    """Why no connection with ``where`` (host and port) came about.

    ``seconds``: how long was waited.  ``hint``: what to try when the port does not speak as expected.  ``named``: which
    property names the server; None: ``host`` and ``port`` do.
    """
    trust = trust or Trust()
    kind = Hindrance.UNREACHABLE
    within = f" in {named}" if named else ""
    check_port = f"check the port; {hint}" if hint else "check the port"
    match error:
        case ConnectionForbidden():
            kind = Hindrance.FORBIDDEN
            what, remedy = f"{where} is not for mailboxes of this service: {error.fault}", error.remedy
        case socket.gaierror() | UnicodeError():
            host = where.rpartition(":")[0]
            what = f"the host name {host!r} does not resolve"
            remedy = f"check {named or 'host'}, and this machine's name service"
        case Unusable():
            kind, what, remedy = Hindrance.UNTRUSTED, error.what, error.remedy
        case OtherCertificate():
            kind = Hindrance.UNTRUSTED
            what = f"the certificate of {where} has another fingerprint, {error.shown}"
            remedy = "make sure that this is the right server, and write that one into options.fingerprints"
        case ssl.SSLCertVerificationError():
            kind = Hindrance.UNTRUSTED
            what, remedy = _distrusted(error, where, trust.ca_file, named or "host")
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            what, remedy = f"{where} hung up in the middle of the TLS handshake", check_port
        case ssl.SSLError():
            reason = (error.reason or "handshake failed").replace("_", " ").lower()
            what = f"no TLS with {where}: {reason}"
            too_old = trust.minimum is not None and "protocol" in reason
            remedy = f"TLS {trust.minimum} may be too new for it (options.minimumTls)" if too_old else check_port
        case ConnectionRefusedError():
            what = f"nothing listens on {where}"
            remedy = f"check the port{within}; see that the server runs, and firewalls"
        case TimeoutError():
            what = f"{where} did not answer within {seconds:g} s"
            remedy = f"check host and port{within}, and firewalls" + (f"; {hint}" if hint else "")
        case OSError() if error.strerror:
            what, remedy = f"{where} cannot be reached: {error.strerror}", "check host, port and the network"
        case _:
            words = said(str(error))
            what = f"{where} broke the connection off" + (f": {words}" if words else "")
            remedy = f"{check_port}; the server may be overloaded"
    return Obstacle(kind=kind, what=what, remedy=remedy)


def _distrusted(error: ssl.SSLCertVerificationError, where: str, ca_file: str | None, named: str) -> tuple[str, str]:
    if error.verify_code in _EXPIRED:
        return f"the certificate of {where} has expired", "have it renewed on the server; check this machine's clock"
    if error.verify_code in _NOT_YET:
        return f"the certificate of {where} is not valid yet", "check this machine's clock, and the server's"
    if error.verify_code in _WRONG_NAME:
        return (
            f"the certificate of {where} is for another name: {said(error.verify_message)}",
            f"write into {named} a name that the certificate bears",
        )
    if ca_file:
        remedy = f"check that {ca_file} holds the CA that signed the server's certificate"
    else:
        remedy = "if the server has a CA of its own, name its file in options.caFile"
        if instead := environment():
            remedy += f"; the environment says {instead}, which replaces the system's certificates"
    return f"the certificate of {where} is not trusted: {said(error.verify_message)}", remedy
