"""Whether a server is the right one: its certificate, and in which words a connection that came to nothing is told."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import ssl
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any, Final

from maildaemon_adapters.files.tree import Fault, TreeError
from maildaemon_core.confinement import ConnectionForbidden
from maildaemon_core.errors import Problem

_EXPIRED, _NOT_YET, _WRONG_NAME = frozenset({10}), frozenset({9}), frozenset({62, 64})
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, _CERT_NOT_YET_VALID, _HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

LONGEST_SAYING: Final = 300
"""Characters of a server's own words that are shown."""


class OtherCertificate(ssl.SSLError):
    """The server's certificate has none of the fingerprints; ``shown`` is the one that it has."""

    def __init__(self, shown: str) -> None:
        super().__init__(0, f"the certificate has the fingerprint {shown}")
        self.shown = shown


class _Pinned(ssl.SSLContext):
    """A context that believes a certificate by its fingerprint alone: whoever signed it, and for whatever name."""

    fingerprints: frozenset[str] = frozenset()

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """TLS on a connection.  Raises ``OtherCertificate``; nothing but the handshake was sent by then."""
        wrapped = super().wrap_socket(*args, **kwargs)
        shown = hashlib.sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest()
        if shown not in self.fingerprints:
            wrapped.close()
            raise OtherCertificate(shown)
        return wrapped


def context_of(ca_file: str | None, fingerprints: Sequence[str]) -> ssl.SSLContext:
    """What checks the server's certificate: by the fingerprints, else by the CA of that file, else by the system's.

    Raises ``TreeError``.  With a file or fingerprints of its own nothing that the environment says counts.
    """
    if fingerprints:
        pinned = _Pinned(ssl.PROTOCOL_TLS_CLIENT)
        pinned.check_hostname = False
        pinned.verify_mode = ssl.CERT_NONE
        pinned.fingerprints = frozenset(map(plain_fingerprint, fingerprints))
        return pinned
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # no such file, no certificates in it
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it holds no certificate (PEM)"
        named = ca_file or _environment()
    raise TreeError(
        Fault.UNTRUSTED,
        f"the certificates in {named or 'the system'} cannot be used: {reason}",
        remedy="name a readable PEM file in options.caFile" if ca_file else f"correct {named}",
    )


def plain_fingerprint(fingerprint: str) -> str:
    """A fingerprint as it is compared: 64 hex digits in lower case, or whatever else was written."""
    return fingerprint.replace(":", "").replace(" ", "").lower().removeprefix("sha256")


def trust_problems(ca_file: str | None, fingerprints: Sequence[str]) -> Sequence[Problem]:
    """What is wrong with these settings, as problems of a destination; touches nothing."""
    found = []
    if ca_file is not None and not PurePath(ca_file).is_absolute():
        found.append(
            Problem(path="$.options.caFile", message="must be a full path, since a service may start anywhere")
        )
    if ca_file is not None and fingerprints:
        found.append(
            Problem(
                path="$.options.fingerprints",
                message="only one of caFile and fingerprints can say which certificate is believed; leave one out",
            )
        )
    found += (
        Problem(
            path=f"$.options.fingerprints[{at}]",
            message="must be the SHA-256 of the server's certificate in 64 hex digits, with or without colons; "
            "openssl x509 -noout -fingerprint -sha256 shows it",
        )
        for at, each in enumerate(fingerprints)
        if not _DIGEST.fullmatch(plain_fingerprint(each))
    )
    return found


def no_way_there(
    error: BaseException, where: str, *, seconds: float, ca_file: str | None, hint: str, named: str = "url"
) -> TreeError:
    """Why no connection with ``where`` (host and port) came about.

    ``hint`` is what to try when the port does not speak as expected; ``seconds`` how long was waited; ``named`` which
    property names the server.
    """
    fault = Fault.GONE
    match error:
        case ConnectionForbidden():
            what, remedy = f"this service lets no mailbox connect to {where}: {error.fault}", error.remedy
        case socket.gaierror() | UnicodeError():
            host = where.rpartition(":")[0]
            what, remedy = f"the host name {host!r} does not resolve", f"check {named}, and this machine's name service"
        case OtherCertificate():
            fault = Fault.UNTRUSTED
            what = f"the certificate of {where} has another fingerprint, {error.shown}"
            remedy = "make sure that this is the right server, and write that one into options.fingerprints"
        case ssl.SSLCertVerificationError():
            fault = Fault.UNTRUSTED
            what, remedy = _distrusted(error, where, ca_file)
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            what, remedy = f"{where} hung up in the middle of the TLS handshake", f"check the port; {hint}"
        case ssl.SSLError():
            reason = (error.reason or "handshake failed").replace("_", " ").lower()
            what, remedy = f"no TLS with {where}: {reason}", f"check the port; {hint}"
        case ConnectionRefusedError():
            what = f"nothing listens on {where}"
            remedy = f"check the port in {named}; see that the server runs, and firewalls"
        case TimeoutError():
            what = f"{where} did not answer within {seconds:g} s"
            remedy = f"check host and port in {named}, and firewalls; {hint}"
        case OSError() if error.strerror:
            what, remedy = f"{where} cannot be reached: {error.strerror}", "check host, port and the network"
        case _:
            words = said(str(error))
            what = f"{where} broke the connection off" + (f": {words}" if words else "")
            remedy = f"check the port; {hint}; the server may be overloaded"
    return TreeError(fault, what, remedy=remedy)


def _distrusted(error: ssl.SSLCertVerificationError, where: str, ca_file: str | None) -> tuple[str, str]:
    if error.verify_code in _EXPIRED:
        return f"the certificate of {where} has expired", "have it renewed on the server; check this machine's clock"
    if error.verify_code in _NOT_YET:
        return f"the certificate of {where} is not valid yet", "check this machine's clock, and the server's"
    if error.verify_code in _WRONG_NAME:
        return (
            f"the certificate of {where} is for another name: {said(error.verify_message)}",
            "write into url a name that the certificate bears",
        )
    if ca_file:
        remedy = f"check that {ca_file} holds the CA that signed the server's certificate"
    else:
        remedy = "if the server has a CA of its own, name its file in options.caFile"
        if environment := _environment():
            remedy += f"; the environment says {environment}, which replaces the system's certificates"
    return f"the certificate of {where} is not trusted: {said(error.verify_message)}", remedy


def said(text: str, secrets: Iterable[str] = ()) -> str:
    """What a server said as one harmless line: no control characters, not endless, none of the secrets.

    Some servers repeat a command that they do not understand, and that may have been the login.
    """
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    line = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)
    line = " ".join(line.split())
    return line if len(line) <= LONGEST_SAYING else f"{line[: LONGEST_SAYING - 1]}…"


def _environment() -> str:
    """What of the environment changes which certificates OpenSSL trusts."""
    return " and ".join(
        f"{name}={os.environ[name]}" for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ
    )
