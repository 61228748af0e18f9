"""Saying who we are: USER and PASS, or AUTH with what they cannot carry; and what a refusal means."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection

from maildaemon_adapters.mail_servers.reaching import is_not_connected
from maildaemon_adapters.oauth import Bearer, forget, token_for
from maildaemon_adapters.oauth.sasl import choose, without_tokens
from maildaemon_adapters.pop3.settings import Pop3Settings
from maildaemon_adapters.pop3.wire import Connection, Refused
from maildaemon_adapters.pop3.words import WAIT_SECONDS, busy, for_people, mechanisms, response
from maildaemon_core.errors import LoginRefused, MaildaemonError, SourceUnavailable
from maildaemon_core.options import MailboxOptions


class Locked(SourceUnavailable):
    """Another session has the maildrop."""


def authenticate(connection: Connection, options: MailboxOptions, settings: Pop3Settings, port: int) -> None:
    """Logs in as the options say: by token, by certificate, or with user name and password.

    What was refused is not sent again.  Raises ``LoginRefused``, ``Locked``, ``SourceUnavailable`` and ``OutOfBounds``,
    and ``Broken`` and ``Unparsable`` of the wire.
    """
    if options.app_only:
        _with_token(connection, options, settings, port)
        return
    where, user = options.host or "", options.login or ""
    password = options.password.value if options.password is not None else ""
    if user and not password and settings.client_cert_file is not None:
        _with_certificate(connection, options)
        return
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


def _with_certificate(connection: Connection, options: MailboxOptions) -> None:
    """SASL EXTERNAL (RFC 4422 Appendix A): TLS has told the server who we are."""
    where, user = options.host or "", options.login or ""
    if "EXTERNAL" not in mechanisms(connection.abilities):
        raise LoginRefused(
            f"{where} lets nobody log in by certificate alone (no SASL EXTERNAL), and no password is given",
            remedy="give a password too, or have the server ask for client certificates on this port",
        )
    try:
        connection.authenticate("EXTERNAL", _once(user.encode()))
    except Refused as error:
        failure = _refused(str(error), connection, options)
    else:
        return
    raise failure


def _with_token(connection: Connection, options: MailboxOptions, settings: Pop3Settings, port: int) -> None:
    where, user = options.host or "", options.login or ""
    if not user:
        raise LoginRefused(f"no mailbox is given for {where}", remedy="give mailbox, the address to be read")
    offered = mechanisms(connection.abilities)
    mechanism = choose({f"AUTH={each}" for each in offered or ("XOAUTH2",)})
    if mechanism is None:
        raise LoginRefused(
            f"{where} takes no tokens (XOAUTH2); it offers {', '.join(sorted(offered))}",
            remedy="log in with username and password, or allow XOAUTH2 for POP on the server",
        )
    token = token_for(options, settings, ca_file=settings.ca_file)
    try:
        bearer = Bearer(mechanism, user, token, host=where, port=port)
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
    shown = without_tokens(for_people(said, secrets=[*secrets_of(options), token]))
    code = response(said)[0]
    match busy(said) or ("SYS/TEMP" if is_not_connected(said) else ""):
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


def secrets_of(options: MailboxOptions) -> Collection[str]:
    """What of the login a server may repeat, and nobody must see."""
    password = options.password.value if options.password is not None else ""
    if not password:
        return ()
    plain = base64.b64encode(f"\0{options.login}\0{password}".encode()).decode()
    return (plain, password)


def _seconds(text: str) -> float:
    """The argument of LOGIN-DELAY (RFC 2449 §6.5), which may be followed by ``USER``."""
    found = re.match(r"[0-9]{1,5}(?![0-9])", text)
    return float(found[0]) if found else 0.0
