"""Where tokens are asked for: what an operator can set for kinds that log in with an app registration."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import PurePath
from typing import Final
from urllib.parse import urlsplit

import attrs

from maildaemon_core.errors import Problem
from maildaemon_core.options import one_line, without_password

MICROSOFT: Final = "https://login.microsoftonline.com"
"""The authority of Microsoft's global cloud; national clouds have others:
https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud."""


@attrs.frozen(kw_only=True)
class OAuthSettings:
    """What the settings of a kind hold that logs in with an app registration; they inherit it.

    ``oauth_authority``: who gives tokens, without the tenant; absent: Microsoft's global cloud.
    ``oauth_scope``: what the token is to be good for; absent: what the kind needs at Microsoft.
    ``oauth_token_url``: asked in place of an authority, for providers other than Microsoft (RFC 6749 §4.4).
    ``oauth_ca_file``: certificates (PEM) that are trusted there; absent: those of ``ca_file``, else the system's.
    """

    oauth_authority: str | None = attrs.field(default=None, validator=without_password)
    oauth_scope: str | None = attrs.field(default=None, validator=one_line)
    oauth_token_url: str | None = attrs.field(default=None, validator=without_password)
    oauth_ca_file: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})

    @property
    def authority(self) -> str:
        """The authority that is asked, without a slash at its end."""
        return (self.oauth_authority or MICROSOFT).rstrip("/")


def settings_problems(settings: OAuthSettings) -> Iterator[Problem]:
    """What is wrong with these settings, which stand under ``options``; touches nothing."""
    for name, url, plain in (
        ("oauthAuthority", settings.oauth_authority, False),
        ("oauthTokenUrl", settings.oauth_token_url, True),
    ):
        if url is not None and (fault := url_fault(url, plain=plain)):
            yield Problem(path=f"$.options.{name}", message=fault)
    if settings.oauth_authority is not None and settings.oauth_token_url is not None:
        yield Problem(
            path="$.options.oauthTokenUrl",
            message="only one of oauthAuthority and oauthTokenUrl can be asked; leave one of them out",
        )
    if settings.oauth_ca_file is not None and not PurePath(settings.oauth_ca_file).is_absolute():
        yield Problem(path="$.options.oauthCaFile", message="must be a full path, since a service may start anywhere")


def url_fault(url: str, *, plain: bool) -> str:
    """Why a secret cannot be sent to this URL, ``""`` if it can; ``plain``: on this machine also without TLS."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError as error:
        return f"this is no URL ({error})"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "this is no URL: it is printable ASCII without blanks and backslashes; others are escaped as %XX"
    if parts.username or parts.password or parts.fragment:
        return "the login is written as clientId and clientSecret; an address has none, and no #"
    if parts.hostname and (parts.scheme == "https" or (plain and parts.scheme == "http" and _is_here(parts.hostname))):
        return ""
    return "write https://…: the client secret goes there" + (", in plain text only on this machine" if plain else "")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
