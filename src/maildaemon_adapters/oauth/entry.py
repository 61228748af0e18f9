"""From the options of a mailbox to a token: what adapters call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from maildaemon_adapters.oauth.granting import INSTALL, Registration, is_installed
from maildaemon_adapters.oauth.settings import OAuthSettings, settings_problems
from maildaemon_adapters.oauth.tokens import Tokens
from maildaemon_core.errors import LoginRefused, Problem
from maildaemon_core.options import MailboxOptions, Secret

EXCHANGE_MAIL: Final = "https://outlook.office365.com/.default"
"""What a token for IMAP and POP at Microsoft is good for: all that the app was given there."""

_tokens = Tokens()


def token_for(
    options: MailboxOptions, settings: OAuthSettings, *, scope: str = EXCHANGE_MAIL, ca_file: str | None = None
) -> str:
    """A token of the app registration that the options name, which is good for a while yet.

    ``scope``: what the kind needs at Microsoft, unless ``oauth_scope`` says otherwise; a ``oauth_token_url`` is sent
    only the latter.  ``ca_file``: the certificates of the kind's own settings, trusted unless ``oauth_ca_file`` names
    others.  Takes at most 15 s.  Raises ``LoginRefused`` for what a person must change, ``SourceUnavailable`` with
    ``retry_after`` if one was given, ``OutOfBounds``, ``BrokenPlugin`` without msal.
    """
    if not options.client_id:
        raise LoginRefused("no clientId is given, so nobody knows which app logs in", remedy="give clientId")
    wanted = Registration(
        authority=settings.authority,
        tenant=options.tenant_id or "",
        token_url=settings.oauth_token_url,
        client=options.client_id,
        scope=settings.oauth_scope or (scope if settings.oauth_token_url is None else None),
        secret=_given(options.client_secret),
        certificate=_given(options.client_certificate),
        ca_file=settings.oauth_ca_file or ca_file,
    )
    return _tokens.get(wanted)


def forget(token: str) -> None:
    """To be called when a mail server refused the token: the next ``token_for`` asks anew, if that can help."""
    _tokens.forget(token)


def oauth_problems(options: MailboxOptions, settings: OAuthSettings) -> Sequence[Problem]:
    """What of the options and settings an app registration cannot log in with; touches nothing."""
    found = list(settings_problems(settings))
    if not options.app_only:
        return found
    if settings.oauth_token_url is not None:
        if _given(options.client_certificate) is not None:
            message = "only a clientSecret is shown to options.oauthTokenUrl; certificates are for oauthAuthority"
            found.append(Problem(path="$.clientCertificate", message=message))
        return found
    tenant = (options.tenant_id or "").lower()
    if tenant in {"common", "organizations", "consumers"}:
        message = f"{tenant} is no tenant of its own; an app logs in to one: write its directory (tenant) id"
        found.append(Problem(path="$.tenantId", message=message))
    elif tenant and settings.authority.lower().endswith(f"/{tenant}"):
        message = "must not end with the tenant: tenantId names that"
        found.append(Problem(path="$.options.oauthAuthority", message=message))
    if not is_installed():
        found.append(
            Problem(path="$.clientId", message=f"a login with clientId needs msal, which is not installed: {INSTALL}")
        )
    return found


def _given(secret: Secret | None) -> Secret | None:
    return secret if secret is not None and secret.value else None
