"""From options to a connection that is logged in, or to an error that says what is in the way and what to do."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TypeVar

from maildaemon_adapters.mail_servers import reaching
from maildaemon_adapters.pop3.credentials import authenticate, secrets_of
from maildaemon_adapters.pop3.settings import Pop3Settings
from maildaemon_adapters.pop3.wire import Broken, Connection, Refused, Unparsable
from maildaemon_adapters.pop3.words import WAIT_SECONDS, busy, for_people
from maildaemon_adapters.tcp.trust import Unusable
from maildaemon_core.errors import MaildaemonError, SourceUnavailable
from maildaemon_core.options import MailboxOptions
from maildaemon_core.own_ports import own_port

Made = TypeVar("Made")


def port_of(options: MailboxOptions) -> int:
    return options.port or own_port("pop3", options.tls_mode)


def log_in(options: MailboxOptions, settings: Pop3Settings) -> Connection:
    """Connects, secures the connection as the options demand, and logs in.

    Raises ``LoginRefused`` when the credentials are not accepted or cannot be sent, ``OutOfBounds`` when the service
    does not let mailboxes connect there, ``SourceUnavailable`` for all else: ``Locked`` when another session is open.
    """
    connection = _connect(options, settings)
    try:
        _translated(lambda: authenticate(connection, options, settings, port_of(options)), options)
        _translated(connection.learn, options)  # it may be more after the login (RFC 2449 §5)
    except BaseException:
        connection.leave()
        raise
    return connection


def _connect(options: MailboxOptions, settings: Pop3Settings) -> Connection:
    """A connection that may be trusted with a password, as far as the options say; its abilities are known."""
    host, port, mode = options.host or "", port_of(options), options.tls_mode
    context = None if mode == "none" else _reaching(settings.trust.context, options, settings)

    def dial() -> Connection:
        return Connection(
            host,
            port,
            context=context if mode == "implicit" else None,
            connect_seconds=settings.connect_seconds,
            patience=settings.patience(),
        )

    connection = _reaching(dial, options, settings)
    try:
        _translated(connection.learn, options)
        if mode == "starttls":
            assert context is not None
            _secure(connection, context, options, settings)
            _translated(connection.learn, options)
    except BaseException:
        connection.leave()
        raise
    return connection


def _secure(connection: Connection, context: ssl.SSLContext, options: MailboxOptions, settings: Pop3Settings) -> None:
    where = f"{options.host}:{port_of(options)}"
    remedy = (
        "write useSsl: true (TLS from the first byte, mostly on port 995); only tls: none would send the password in "
        "plain text"
    )
    # A server without CAPA is asked all the same; one that has it must say that it can.
    if connection.abilities and "STLS" not in connection.abilities:
        raise SourceUnavailable(f"{where} offers no STLS (STARTTLS); nothing was sent", remedy=remedy)
    refusal = ""
    secured = False
    try:
        secured = _reaching(lambda: connection.secure(context), options, settings, greets=False)
    except Refused as error:
        refusal = for_people(str(error))
    if refusal:
        raise SourceUnavailable(f"{where} refuses STLS: {refusal}; nothing was sent", remedy=remedy)
    if not secured:
        raise SourceUnavailable(
            f"{where} sent unexpected plain text between STLS and TLS; nothing was sent",
            remedy="somebody on the way may be tampering; " + remedy,
        )


def _reaching(act: Callable[[], Made], options: MailboxOptions, settings: Pop3Settings, *, greets: bool = True) -> Made:
    """``act``, with what keeps it from reaching the server in words for people; ``Refused`` only if it ``greets``."""
    try:
        return act()
    except (OSError, UnicodeError, Unusable, Unparsable, Broken) as error:
        made = _unreachable(error, options, settings)
    except Refused as error:
        if not greets:
            raise
        made = _turned_away(str(error), options)
    raise made


def _unreachable(error: Exception, options: MailboxOptions, settings: Pop3Settings) -> MaildaemonError:
    """``OutOfBounds`` if it was not allowed, else ``SourceUnavailable``."""
    where, mode = f"{options.host}:{port_of(options)}", options.tls_mode
    if isinstance(error, Unparsable | Broken):
        made = reaching.no_greeting(where, mode, "a POP3", for_people(str(error)))
        if ": * " in str(error):  # RFC 9051 §7.1: only an IMAP server begins like that
            return SourceUnavailable(
                made.message,
                remedy='this is an IMAP server: set type to "imap", or take the port of POP3 (995; 110 for starttls)',
            )
        return made
    return reaching.unreachable(error, where, mode, settings)


def _turned_away(said: str, options: MailboxOptions) -> SourceUnavailable:
    where = f"{options.host}:{port_of(options)}"
    return SourceUnavailable(
        f"{where} takes no connections at present: {for_people(said)}",
        remedy="it will be tried again later",
        retry_after=WAIT_SECONDS.get(busy(said)),
    )


def _translated(act: Callable[[], Made], options: MailboxOptions) -> Made:
    """``act`` on an open connection; that it broke is ``SourceUnavailable``."""
    try:
        return act()
    except (Unparsable, Broken) as error:
        said = for_people(str(error), secrets=secrets_of(options))
    raise SourceUnavailable(
        f"{options.host} broke the connection off while logging in: {said}", remedy="it will be tried again later"
    )
