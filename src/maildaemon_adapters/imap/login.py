"""From options to a connection that is logged in, or to an error that says what is in the way and what to do."""

from __future__ import annotations

import base64
import imaplib
import ssl
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from maildaemon_adapters.imap.sasl import with_certificate, with_token
from maildaemon_adapters.imap.settings import ImapSettings
from maildaemon_adapters.imap.translate import for_people, is_temporary, pause, response
from maildaemon_adapters.imap.wire import Broken, Connection, Refused, Unparsable, plain_reply
from maildaemon_adapters.mail_servers import reaching
from maildaemon_adapters.oauth.sasl import choose
from maildaemon_adapters.tcp.quiet import only_warnings
from maildaemon_adapters.tcp.trust import Unusable
from maildaemon_core.errors import LoginRefused, MaildaemonError, SourceUnavailable
from maildaemon_core.options import MailboxOptions, Tls

Made = TypeVar("Made")

PORTS: Final = {"implicit": 993, "starttls": 143, "none": 143}
"""RFC 8314 §3.2 and RFC 9051 §2.1."""


def port_of(options: MailboxOptions) -> int:
    return options.port or PORTS[options.tls_mode]


def log_in(options: MailboxOptions, settings: ImapSettings) -> Connection:
    """Connects, secures the connection as the options demand, and logs in.

    Raises ``LoginRefused`` when the credentials are not accepted or cannot be sent, ``OutOfBounds`` when the service
    does not let mailboxes connect there, ``SourceUnavailable`` for all else.
    """
    only_warnings("imapclient.imaplib")  # at DEBUG it would write mails into the log
    connection = connect(options, settings)
    try:
        _authenticate(connection, options, settings)
    except BaseException:
        connection.leave()
        raise
    return connection


def connect(options: MailboxOptions, settings: ImapSettings) -> Connection:
    """A connection that may be trusted with a password, as far as the options say."""
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
        _reaching(lambda: connection.secure(context), options, settings)
    except Refused as error:
        refusal = for_people(str(error))
    if refusal:
        raise SourceUnavailable(f"{host}:{port} refuses STARTTLS: {refusal}; nothing was sent", remedy=remedy)


def _reaching(act: Callable[[], Made], options: MailboxOptions, settings: ImapSettings) -> Made:
    """``act``, with what keeps it from reaching the server as ``unreachable`` has it."""
    try:
        return act()
    except (OSError, UnicodeError, Unusable, imaplib.IMAP4.error, Broken) as error:
        made = unreachable(error, options.host or "", port_of(options), options.tls_mode, settings)
    raise made


def unreachable(error: Exception, host: str, port: int, mode: Tls, settings: ImapSettings) -> MaildaemonError:
    """What a failed connection means for people: ``OutOfBounds`` if it was not allowed, else ``SourceUnavailable``."""
    where = f"{host}:{port}"
    if isinstance(error, imaplib.IMAP4.error | Broken):
        said = error.args[0] if error.args else ""
        text = for_people(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said))
        return reaching.no_greeting(where, mode, "an IMAP", text)
    return reaching.unreachable(error, where, mode, settings)


def _authenticate(connection: Connection, options: MailboxOptions, settings: ImapSettings) -> None:
    where, user = options.host or "", options.login or ""
    if connection.preauthenticated:
        return  # with tls implicit or none: the server knows who we are, by a certificate or because it runs locally
    password = options.password.value if options.password is not None else ""
    if options.app_only:
        with_token(connection, options, settings, port_of(options))
        return
    if user and not password and settings.client_cert_file is not None:
        with_certificate(connection, user, where)
        return
    if not user or not password:
        raise LoginRefused(f"no user name or no password for {where}", remedy="give username and password")
    secrets = (base64.b64encode(plain_reply(user, password)).decode(), password)
    failure: MaildaemonError
    abilities: frozenset[str] = frozenset()
    try:
        abilities = connection.abilities()
        plain = _must_be_plain(user, password, abilities, where, options.tls_mode)
        connection.log_in(user, password, plain=plain)
    except Refused as error:
        failure = _refused(str(error), where, user, secrets, takes_tokens=choose(abilities) is not None)
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


def _refused(said: str, where: str, user: str, secrets: Iterable[str], *, takes_tokens: bool) -> MaildaemonError:
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
        remedy="check username and password; some providers want a password made for this application"
        + (", and this one takes an app registration (clientId, tenantId, clientSecret)" if takes_tokens else ""),
    )
