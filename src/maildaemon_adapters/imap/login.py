"""From options to a connection that is logged in, or to an error that says what is in the way and what to do."""

from __future__ import annotations

import base64
import imaplib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from maildaemon_adapters.imap.settings import ImapSettings
from maildaemon_adapters.imap.translate import for_people, is_temporary, pause, response
from maildaemon_adapters.imap.transport import Patience
from maildaemon_adapters.imap.wire import Broken, Connection, Refused, Unparsable, plain_reply
from maildaemon_core.confinement import ConnectionForbidden, OutOfBounds
from maildaemon_core.errors import LoginRefused, MaildaemonError, SourceUnavailable
from maildaemon_core.options import MailboxOptions, Tls

Made = TypeVar("Made")

PORTS: Final = {"implicit": 993, "starttls": 143, "none": 143}
"""RFC 8314 §3.2 and RFC 9051 §2.1."""

_EXPIRED, _NOT_YET, _WRONG_NAME = frozenset({10}), frozenset({9}), frozenset({62, 64})
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, _CERT_NOT_YET_VALID, _HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH."""


def port_of(options: MailboxOptions) -> int:
    return options.port or PORTS[options.tls_mode]


def log_in(options: MailboxOptions, settings: ImapSettings) -> Connection:
    """Connects, secures the connection as the options demand, and logs in.

    Raises ``LoginRefused`` when the credentials are not accepted or cannot be sent, ``OutOfBounds`` when the service
    does not let mailboxes connect there, ``SourceUnavailable`` for all else.
    """
    logging.getLogger("imapclient.imaplib").setLevel(logging.WARNING)  # at DEBUG it would write mails into the log
    connection = connect(options, settings)
    try:
        _authenticate(connection, options)
    except BaseException:
        connection.leave()
        raise
    return connection


def connect(options: MailboxOptions, settings: ImapSettings) -> Connection:
    """A connection that may be trusted with a password, as far as the options say."""
    host, port, mode = options.host or "", port_of(options), options.tls_mode
    context = None if mode == "none" else _context(settings)
    patience = Patience(stall=settings.stall_seconds, allowance=settings.command_seconds)

    def dial() -> Connection:
        return Connection(
            host,
            port,
            context=context if mode == "implicit" else None,
            connect_seconds=settings.connect_seconds,
            patience=patience,
        )

    connection = _reaching(dial, host, port, mode, settings)
    if mode == "starttls":
        assert context is not None
        try:
            _secure(connection, context, options, settings)
        except BaseException:
            connection.leave()
            raise
    return connection


def _secure(connection: Connection, context: ssl.SSLContext, options: MailboxOptions, settings: ImapSettings) -> None:
    host, port = options.host or "", port_of(options)
    remedy = (
        "write useSsl: true (TLS from the first byte, mostly on port 993); only tls: none would send the password in "
        "plain text"
    )
    if connection.preauthenticated:
        # Nothing can be secured after a PREAUTH; whoever stands between could send one (RFC 9051 §6.2.1).
        raise SourceUnavailable(f"{host}:{port} greets with PREAUTH, so STARTTLS is not possible", remedy=remedy)
    if "STARTTLS" not in connection.abilities():
        raise SourceUnavailable(f"{host}:{port} offers no STARTTLS; nothing was sent", remedy=remedy)
    refusal = ""
    try:
        _reaching(lambda: connection.secure(context), host, port, "starttls", settings)
    except Refused as error:
        refusal = for_people(str(error))
    if refusal:
        raise SourceUnavailable(f"{host}:{port} refuses STARTTLS: {refusal}; nothing was sent", remedy=remedy)


def _context(settings: ImapSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError) as error:  # no such file, no certificates in it
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it holds no certificate (PEM)"
        named = settings.ca_file or _environment()
        raise SourceUnavailable(
            f"the certificates in {named or 'the system'} cannot be used: {reason}",
            remedy="name a readable PEM file in options.caFile" if settings.ca_file else f"correct {named}",
        ) from None


def _environment() -> str:
    """What of the environment changes which certificates OpenSSL trusts."""
    return " and ".join(
        f"{name}={os.environ[name]}" for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ
    )


def _reaching(act: Callable[[], Made], host: str, port: int, mode: Tls, settings: ImapSettings) -> Made:
    """``act``, with what keeps it from reaching the server as ``unreachable`` has it."""
    try:
        return act()
    except (OSError, UnicodeError, imaplib.IMAP4.error, Broken) as error:
        made = unreachable(error, host, port, mode, settings)
    raise made


def unreachable(error: Exception, host: str, port: int, mode: Tls, settings: ImapSettings) -> MaildaemonError:
    """What a failed connection means for people: ``OutOfBounds`` if it was not allowed, else ``SourceUnavailable``."""
    where = f"{host}:{port}"
    otherwise = "starttls or none" if mode == "implicit" else "implicit"
    match error:
        case ConnectionForbidden():
            return OutOfBounds(f"{where} is not for mailboxes of this service: {error.fault}", remedy=error.remedy)
        case socket.gaierror() | UnicodeError():
            message, remedy = f"the host name {host!r} does not resolve", "check host, and this machine's name service"
        case ssl.SSLCertVerificationError():
            message, remedy = _distrusted(error, where, settings)
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            message = f"{where} hung up in the middle of the TLS handshake"
            remedy = f"check port; tls {otherwise} may be what this port speaks"
        case ssl.SSLError():
            message = f"no TLS with {where}: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
            remedy = f"check port; tls {otherwise} may be what this port speaks"
        case ConnectionRefusedError():
            message, remedy = f"nothing listens on {where}", "check port; see that the server runs, and firewalls"
        case TimeoutError():
            message = f"{where} did not answer within {settings.connect_seconds} s"
            remedy = f"check host, port and firewalls; tls {otherwise} may be what this port speaks"
        case OSError():
            message, remedy = (
                f"{where} cannot be reached: {error.strerror or error}",
                "check host, port and the network",
            )
        case _:
            said = error.args[0] if error.args else ""
            text = for_people(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said))
            message = f"{where} does not greet as an IMAP server does: {text}"
            remedy = f"check port; tls {otherwise} may be what this port speaks; the server may be overloaded"
    return SourceUnavailable(message, remedy=remedy)


def _distrusted(error: ssl.SSLCertVerificationError, where: str, settings: ImapSettings) -> tuple[str, str]:
    if error.verify_code in _EXPIRED:
        return f"the certificate of {where} has expired", "have it renewed on the server; check this machine's clock"
    if error.verify_code in _NOT_YET:
        return f"the certificate of {where} is not valid yet", "check this machine's clock, and the server's"
    if error.verify_code in _WRONG_NAME:
        return (
            f"the certificate of {where} is for another name: {error.verify_message}",
            "write into host a name that the certificate bears",
        )
    if settings.ca_file:
        remedy = f"check that {settings.ca_file} holds the CA that signed the server's certificate"
    else:
        remedy = "if the server has a CA of its own, name its file in options.caFile"
        if environment := _environment():
            remedy += f"; the environment says {environment}, which replaces the system's certificates"
    return f"the certificate of {where} is not trusted: {error.verify_message}", remedy


def _authenticate(connection: Connection, options: MailboxOptions) -> None:
    where, user = options.host or "", options.login or ""
    if connection.preauthenticated:
        return  # with tls implicit or none: the server knows who we are, by a certificate or because it runs locally
    password = options.password.value if options.password is not None else ""
    if not user or not password:
        raise LoginRefused(f"no user name or no password for {where}", remedy="give username and password")
    secrets = (base64.b64encode(plain_reply(user, password)).decode(), password)
    failure: MaildaemonError
    try:
        abilities = connection.abilities()
        plain = _must_be_plain(user, password, abilities, where, options.tls_mode)
        connection.log_in(user, password, plain=plain)
    except Refused as error:
        failure = _refused(str(error), where, user, secrets)
    except (Broken, Unparsable) as error:
        said = for_people(str(error), secrets=secrets)
        failure = SourceUnavailable(
            f"{where} broke the connection off while logging in: {said}", remedy="try again later"
        )
    else:
        return
    raise failure  # outside of the handlers, lest the server's own words hang on to it


def _must_be_plain(user: str, password: str, abilities: frozenset[str], where: str, mode: Tls) -> bool:
    """Whether AUTHENTICATE PLAIN has to be used: LOGIN is forbidden, or cannot carry these characters."""
    offered = "AUTH=PLAIN" in abilities
    if "\0" in user + password:
        raise LoginRefused(f"NUL is in the user name or the password for {where}", remedy="correct them")
    if "LOGINDISABLED" in abilities and not offered:
        remedy = (
            "write tls: starttls, or useSsl: true" if mode == "none" else "allow a login with a password on the server"
        )
        raise LoginRefused(f"{where} allows no login with a password on this connection (LOGINDISABLED)", remedy=remedy)
    if all(" " <= character <= "~" for character in user + password):
        return "LOGINDISABLED" in abilities
    if not offered:
        raise LoginRefused(
            f"{where} offers no AUTH=PLAIN, and LOGIN carries only printable ASCII",
            remedy="use a user name and a password in ASCII",
        )
    return True


def _refused(said: str, where: str, user: str, secrets: Iterable[str]) -> MaildaemonError:
    shown = for_people(said, secrets=secrets)
    if is_temporary(said):
        message = f"{where} lets nobody in at present: {shown}"
        return SourceUnavailable(message, remedy="it will be tried again later", retry_after=pause(said))
    code, _ = response(said)
    if code == "PRIVACYREQUIRED":
        return LoginRefused(f"{where} wants TLS before a login: {shown}", remedy="write tls: starttls, or useSsl: true")
    if code == "EXPIRED":
        return LoginRefused(f"the password of {user!r} at {where} has expired", remedy="set a new one there and here")
    return LoginRefused(
        f"{where} does not accept this user name and password for {user!r}: {shown}",
        remedy="check username and password; some providers want a password made for this application",
    )
