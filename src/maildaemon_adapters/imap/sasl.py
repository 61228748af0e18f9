"""Logins without a password: with a token of an app registration, or by the certificate that TLS has shown already."""

from __future__ import annotations

from typing import Final

from maildaemon_adapters.imap.settings import ImapSettings
from maildaemon_adapters.imap.translate import is_temporary, pause
from maildaemon_adapters.imap.wire import Broken, Connection, Refused, Unparsable
from maildaemon_adapters.mail_servers.reaching import is_not_connected
from maildaemon_adapters.oauth import Bearer, forget, token_for
from maildaemon_adapters.oauth.sasl import choose, without_tokens
from maildaemon_core.errors import LoginRefused, MaildaemonError, SourceUnavailable
from maildaemon_core.options import MailboxOptions

LONGEST_AT_ONCE: Final = 5000
"""Bytes of a message that goes along with its command: in Base64 the line stays below 8192 (RFC 9051 §4)."""


def with_token(connection: Connection, options: MailboxOptions, settings: ImapSettings, port: int) -> None:
    """XOAUTH2 or OAUTHBEARER; the token is sent once, and forgotten if it was refused.

    Raises ``LoginRefused``, ``SourceUnavailable``, ``OutOfBounds``.
    """
    where, user = options.host or "", options.login or ""
    if not user:
        raise LoginRefused(f"no mailbox is named for {where}", remedy="give mailbox: the address that is to be opened")
    failure: MaildaemonError
    try:
        mechanism = choose(connection.abilities())
    except (Refused, Broken, Unparsable) as error:
        failure = _broken(where, error)
    else:
        if mechanism is None:
            raise LoginRefused(
                f"{where} takes no tokens on this connection (neither AUTH=XOAUTH2 nor AUTH=OAUTHBEARER)",
                remedy="log in with username and password"
                + (", or write tls: starttls" if options.tls_mode == "none" else ""),
            )
        token = token_for(options, settings, ca_file=settings.ca_file)
        bearer = Bearer(mechanism, user, token, host=where, port=port)
        at_once = len(bearer.first) <= LONGEST_AT_ONCE
        try:
            connection.authenticate(mechanism, bearer.opening if at_once else None, bearer.answer)
        except Refused as error:
            failure = _refused(str(error), bearer, where, user, options.client_id or "")
            if isinstance(failure, LoginRefused):
                forget(token)
        except (Broken, Unparsable) as error:
            failure = _broken(where, error)
        else:
            return
    raise failure  # outside of the handlers, lest the server's own words hang on to it


def with_certificate(connection: Connection, user: str, where: str) -> None:
    """SASL EXTERNAL (RFC 4422 Appendix A): TLS has told the server who we are.  Raises as ``with_token`` does."""
    said = iter((user.encode(),))
    failure: MaildaemonError
    try:
        if "AUTH=EXTERNAL" not in connection.abilities():
            raise LoginRefused(
                f"{where} lets nobody log in by certificate alone (no AUTH=EXTERNAL), and no password is given",
                remedy="give a password too, or have the server ask for client certificates on this port",
            )
        connection.authenticate("EXTERNAL", lambda: next(said), lambda _: next(said, None))
    except Refused as error:
        shown = without_tokens(str(error))
        if is_temporary(str(error)):
            failure = SourceUnavailable(f"{where} lets nobody in at present: {shown}", remedy="it will be tried again")
        else:
            failure = LoginRefused(
                f"{where} does not let {user!r} in by the certificate of options.clientCertFile: {shown}",
                remedy="check username, and which certificate the server expects of it",
            )
    except (Broken, Unparsable) as error:
        failure = _broken(where, error)
    else:
        return
    raise failure


def _refused(said: str, bearer: Bearer, where: str, user: str, client: str) -> MaildaemonError:
    reason = f" ({bearer.reason})" if bearer.reason else ""
    shown = without_tokens(said) + reason
    if is_temporary(said) or is_not_connected(said):
        message = f"{where} lets nobody in at present: {shown}"
        return SourceUnavailable(message, remedy="it will be tried again later", retry_after=pause(said))
    return LoginRefused(
        f"{where} does not accept the token of the app {client!r} for {user!r}: {shown}",
        remedy="check mailbox, and that the app may open it: at Microsoft 365 with IMAP.AccessAsApp and an "
        "administrator's consent, New-ServicePrincipal with the object id of the enterprise application, and "
        "Add-MailboxPermission",
    )


def _broken(where: str, error: Exception) -> SourceUnavailable:
    return SourceUnavailable(
        f"{where} broke the connection off while logging in: {without_tokens(str(error))}", remedy="try again later"
    )
