"""From options to a connection that is logged in, or to an error that says what is in the way and what to do."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable, Collection
from typing import Final, TypeVar

from maildaemon_adapters.oauth import Bearer, forget, token_for
from maildaemon_adapters.pop3.settings import Pop3Settings
from maildaemon_adapters.pop3.wire import Broken, Connection, Refused, Unparsable
from maildaemon_adapters.pop3.words import WAIT_SECONDS, busy, for_people, mechanisms, response
from maildaemon_adapters.tcp.obstacles import Hindrance, obstacle_of
from maildaemon_adapters.tcp.patience import Patience
from maildaemon_adapters.tcp.trust import Unusable
from maildaemon_core.confinement import OutOfBounds
from maildaemon_core.errors import LoginRefused, MaildaemonError, SourceUnavailable
from maildaemon_core.options import MailboxOptions

Made = TypeVar("Made")

PORTS: Final = {"implicit": 995, "starttls": 110, "none": 110}
"""RFC 8314 §3.3 and RFC 1939 §3."""


class Locked(SourceUnavailable):
    """Another session has the maildrop."""


def port_of(options: MailboxOptions) -> int:
    return options.port or PORTS[options.tls_mode]


def log_in(options: MailboxOptions, settings: Pop3Settings) -> Connection:
    """Connects, secures the connection as the options demand, and logs in.

    Raises ``LoginRefused`` when the credentials are not accepted or cannot be sent, ``OutOfBounds`` when the service
    does not let mailboxes connect there, ``SourceUnavailable`` for all else, as ``Locked`` when somebody else is in.
    """
    connection = _connect(options, settings)
    try:
        _translated(lambda: _authenticate(connection, options, settings), options)
        _translated(connection.learn, options)  # it may be more after the login (RFC 2449 §5)
    except BaseException:
        connection.leave()
        raise
    return connection


def _connect(options: MailboxOptions, settings: Pop3Settings) -> Connection:
    """A connection that may be trusted with a password, as far as the options say; its abilities are known."""
    host, port, mode = options.host or "", port_of(options), options.tls_mode
    context = None if mode == "none" else _reaching(settings.trust.context, options, settings)
    patience = Patience(stall=settings.stall_seconds, allowance=settings.command_seconds)

    def dial() -> Connection:
        return Connection(
            host,
            port,
            context=context if mode == "implicit" else None,
            connect_seconds=settings.connect_seconds,
            patience=patience,
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
    hint = f"tls {'starttls or none' if mode == 'implicit' else 'implicit'} may be what this port speaks"
    if isinstance(error, Unparsable | Broken):
        return SourceUnavailable(
            f"{where} does not greet as a POP3 server does: {for_people(str(error))}",
            remedy=f"check port; {hint}; the server may be overloaded",
        )
    obstacle = obstacle_of(error, where, seconds=settings.connect_seconds, trust=settings.trust, hint=hint, named=None)
    kind = OutOfBounds if obstacle.kind is Hindrance.FORBIDDEN else SourceUnavailable
    return kind(obstacle.what, remedy=obstacle.remedy)


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
        said = for_people(str(error), secrets=_secrets(options))
    raise SourceUnavailable(
        f"{options.host} broke the connection off while logging in: {said}", remedy="it will be tried again later"
    )


def _authenticate(connection: Connection, options: MailboxOptions, settings: Pop3Settings) -> None:
    if options.app_only:
        _with_token(connection, options, settings)
        return
    where, user = options.host or "", options.login or ""
    password = options.password.value if options.password is not None else ""
    if not user or not password:
        raise LoginRefused(f"no user name or no password for {where}", remedy="give username and password")
    if set("\0\r\n") & set(user + password):
        raise LoginRefused(f"NUL or an end of line is in the user name or password for {where}", remedy="correct them")
    plain = _must_be_plain(connection, user, password, where)
    try:
        if plain:
            connection.authenticate("PLAIN", _once(f"\0{user}\0{password}".encode()))
        else:
            connection.command(f"USER {user}")
            connection.command(f"PASS {password}")
    except Refused as error:
        failure = _refused(str(error), connection, options)
    else:
        return
    raise failure  # outside of the handler, lest the server's own words hang on to it


def _once(reply: bytes) -> Callable[[bytes], bytes | None]:
    """Says it once, whatever the server asks afterwards."""
    replies = [reply]
    return lambda _: replies.pop() if replies else None


def _must_be_plain(connection: Connection, user: str, password: str, where: str) -> bool:
    """Whether AUTH PLAIN has to be used: there is no USER, or it cannot carry these characters (RFC 1939 §3)."""
    offered = "PLAIN" in mechanisms(connection.abilities)
    no_user = bool(connection.abilities) and "USER" not in connection.abilities
    if no_user and not offered:
        known = ", ".join(sorted(mechanisms(connection.abilities))) or "nothing"
        raise LoginRefused(
            f"{where} allows no login with a password on this connection; it offers {known}",
            remedy="write tls: starttls or useSsl: true if this is plain text; else allow it on the server, "
            "or log in with an app registration (clientId)",
        )
    if all("!" <= character <= "~" for character in user) and all(" " <= character <= "~" for character in password):
        return no_user
    if not offered:
        raise LoginRefused(
            f"{where} offers no AUTH PLAIN, and USER and PASS carry only printable ASCII",
            remedy="use a user name and a password in ASCII",
        )
    return True


def _with_token(connection: Connection, options: MailboxOptions, settings: Pop3Settings) -> None:
    where, user = options.host or "", options.login or ""
    if not user:
        raise LoginRefused(f"no mailbox is given for {where}", remedy="give mailbox, the address to be read")
    offered = mechanisms(connection.abilities)
    mechanism = "OAUTHBEARER" if "OAUTHBEARER" in offered and "XOAUTH2" not in offered else "XOAUTH2"
    if offered and mechanism not in offered:
        raise LoginRefused(
            f"{where} takes no tokens (XOAUTH2); it offers {', '.join(sorted(offered))}",
            remedy="log in with username and password, or allow XOAUTH2 for POP on the server",
        )
    token = token_for(options, settings, ca_file=settings.ca_file)
    try:
        bearer = Bearer(
            "OAUTHBEARER" if mechanism == "OAUTHBEARER" else "XOAUTH2", user, token, host=where, port=port_of(options)
        )
    except ValueError:
        raise LoginRefused(f"the name of the mailbox cannot be sent to {where}", remedy="correct mailbox") from None
    try:
        connection.authenticate(mechanism, bearer.answer)
    except Refused as error:
        failure = _refused(str(error), connection, options, token=token, reason=bearer.reason)
    else:
        return
    if isinstance(failure, LoginRefused):
        forget(token)
    raise failure


def _refused(
    said: str, connection: Connection, options: MailboxOptions, *, token: str = "", reason: str = ""
) -> MaildaemonError:
    where, user = options.host or "", options.login or ""
    shown = for_people(said, secrets=[*_secrets(options), token])
    code = response(said)[0]
    match busy(said):
        case "IN-USE":
            return Locked(
                f"another session has the mailbox of {user!r} at {where} open: {shown}",
                remedy="POP3 lets one session in at a time: close the other program, or wait",
                retry_after=WAIT_SECONDS["IN-USE"],
            )
        case "LOGIN-DELAY":
            wait = _seconds(connection.abilities.get("LOGIN-DELAY", "")) or WAIT_SECONDS["LOGIN-DELAY"]
            return SourceUnavailable(
                f"{where} wants longer pauses between logins: {shown}",
                remedy=f"write pollIntervalSeconds: {wait:.0f} or more",
                retry_after=wait,
            )
        case "SYS/TEMP":
            return SourceUnavailable(
                f"{where} lets nobody in at present: {shown}", remedy="it will be tried again later"
            )
    if code == "SYS/PERM":
        return SourceUnavailable(
            f"{where} cannot open the mailbox of {user!r}: {shown}",
            remedy="tell those who run the server: it says that this does not pass by itself",
        )
    if token:
        told = f" ({reason})" if reason else ""
        return LoginRefused(
            f"{where} does not accept the token for {user!r}: {shown}{told}",
            remedy="give the app the permission POP.AccessAsApp with admin consent, register its service principal in "
            "Exchange, and let it open this mailbox; then wait half an hour",
        )
    return LoginRefused(
        f"{where} does not accept this user name and password for {user!r}: {shown}",
        remedy="check username and password, and that POP is allowed for the account; some providers want a password "
        "made for this application",
    )


def _secrets(options: MailboxOptions) -> Collection[str]:
    password = options.password.value if options.password is not None else ""
    if not password:
        return ()
    plain = base64.b64encode(f"\0{options.login}\0{password}".encode()).decode()
    return (plain, password)


def _seconds(text: str) -> float:
    """The argument of LOGIN-DELAY (RFC 2449 §6.5), which may be followed by ``USER``."""
    found = re.match(r"[0-9]{1,5}(?![0-9])", text)
    return float(found[0]) if found else 0.0
