"""Why no token is given, in words for people: what those who give tokens answer, and what can be done about it.

Error codes of Microsoft Entra: https://learn.microsoft.com/entra/identity-platform/reference-error-codes; of all
others: RFC 6749 §5.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from maildaemon_adapters.tcp.words import said
from maildaemon_core.errors import LoginRefused, MaildaemonError, SourceUnavailable


@attrs.frozen
class _Words:
    """``what`` and ``remedy`` may name the ``{client}``, the ``{tenant}`` and the ``{scope}``."""

    what: str
    remedy: str


_NO_TENANT: Final = _Words(
    "there is no tenant {tenant!r}", "check tenantId: the directory (tenant) id, or a domain of it, at the right cloud"
)
_NO_CLIENT: Final = _Words(
    "the tenant {tenant!r} has no app registration {client!r}",
    "check clientId and tenantId; the app must be registered in that tenant, and an administrator must have consented",
)
_WRONG_SECRET: Final = _Words(
    "the client secret of {client!r} is wrong",
    "enter the value of the secret, not its id; make a new one under Certificates & secrets if nobody knows it",
)
_WRONG_CERTIFICATE: Final = _Words(
    "the certificate is none of those of {client!r}",
    "upload it to the app registration (Certificates & secrets), and see that the key here is the one to it",
)
_WRONG_SCOPE: Final = _Words(
    "the scope {scope!r} is not one that an app can have there",
    "leave options.oauthScope out, or write the address of the service with /.default at its end",
)
_NO_SERVICE: Final = _Words(
    "the tenant {tenant!r} does not have the service of {scope!r}",
    "check options.oauthScope, and that the tenant has Exchange Online",
)

_ENTRA: Final[Mapping[int, _Words]] = {
    90002: _NO_TENANT,
    900021: _NO_TENANT,
    900023: _NO_TENANT,
    50059: _NO_TENANT,
    700016: _NO_CLIENT,
    7000229: _NO_CLIENT,
    90013: _WRONG_SCOPE,
    70011: _WRONG_SCOPE,
    1002012: _WRONG_SCOPE,
    500011: _NO_SERVICE,
    650057: _NO_SERVICE,
    7000215: _WRONG_SECRET,
    7000216: _WRONG_SECRET,
    7000222: _Words(
        "the client secret of {client!r} has expired",
        "make a new one in the app registration (Certificates & secrets), and enter it here",
    ),
    700027: _WRONG_CERTIFICATE,
    700030: _WRONG_CERTIFICATE,
    7000272: _Words(
        "the certificate of {client!r} has expired",
        "make a new one, upload it to the app registration (Certificates & secrets), and enter it here",
    ),
    700024: _Words("the clock of this machine is wrong", "set it; a signed login is good for a few minutes only"),
    7000112: _Words("the app {client!r} is disabled", "enable it in the tenant, under Enterprise applications"),
    53003: _Words(
        "a rule of the tenant {tenant!r} (Conditional Access) blocks the app {client!r}",
        "have its administrator allow this app from this machine's address",
    ),
    50105: _Words("the app {client!r} is assigned to nobody", "assign it in the tenant, under Enterprise applications"),
    501051: _Words("the app {client!r} has no role there", "assign it in the tenant, under Enterprise applications"),
}

_LATER: Final = frozenset({90033, 90024, 90055, 50196, 50058, 90012, 90006})
"""Codes of Entra that say: try again later."""

_OTHERS: Final[Mapping[str, _Words]] = {
    "invalid_client": _Words(
        "the app {client!r} is not known there, or its secret is wrong", "check clientId and clientSecret"
    ),
    "unauthorized_client": _Words(
        "the app {client!r} may not ask for a token of its own", "have the grant type client_credentials allowed for it"
    ),
    "invalid_scope": _Words("the scope {scope!r} is not known there", "check options.oauthScope"),
    "unsupported_grant_type": _Words(
        "tokens for apps (client_credentials) are not given there", "use another provider's address, or a password"
    ),
    "invalid_tenant": _NO_TENANT,
}
_ANY: Final = _Words("the app {client!r} is given no token", "check the app registration, and the log of its provider")
_LATER_ERRORS: Final = frozenset({"temporarily_unavailable", "server_error", "slow_down"})

_CODE: Final = re.compile(r"AADSTS([0-9]{4,8})")
_TRACES: Final = re.compile(r"\s*(?:Trace ID|Correlation ID|Timestamp):.*", re.DOTALL)


def refusal(
    answer: Mapping[str, Any], where: str, *, client: str, tenant: str, scope: str, secrets: Iterable[str] = ()
) -> MaildaemonError:
    """The error that an answer without a token means: ``LoginRefused``, or ``SourceUnavailable`` if it may pass."""
    secrets = tuple(secrets)
    error = answer.get("error")
    name = error if isinstance(error, str) else ""
    text = answer.get("error_description")
    told = _TRACES.sub("", text) if isinstance(text, str) else ""
    codes = [int(each) for each in _CODE.findall(told)]
    codes += [each for each in _listed(answer.get("error_codes")) if each not in codes]
    shown = said(told or name or "no reason given", secrets)
    if name in _LATER_ERRORS or _LATER & set(codes):
        return SourceUnavailable(f"{where} gives no token at present: {shown}", remedy="it will be asked again later")
    ordinary = (
        _ANY if codes else _OTHERS.get(name, _ANY)
    )  # a code says more than invalid_client, to whoever looks it up
    words = next((_ENTRA[code] for code in codes if code in _ENTRA), ordinary)
    names = {"client": client, "tenant": tenant, "scope": scope}
    return LoginRefused(f"{where}: {words.what.format(**names)}; it says: {shown}", remedy=words.remedy.format(**names))


def _listed(codes: object) -> list[int]:
    return [each for each in codes if isinstance(each, int)] if isinstance(codes, list) else []
