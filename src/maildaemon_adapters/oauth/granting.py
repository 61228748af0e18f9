"""One token, asked for anew: from Microsoft Entra or what speaks like it (through msal), or from any token endpoint."""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import quote, quote_plus, urlsplit

import attrs

from maildaemon_adapters.oauth.asking import Asker
from maildaemon_adapters.oauth.credentials import certificate
from maildaemon_adapters.oauth.refusals import refusal
from maildaemon_adapters.tcp.quiet import only_warnings
from maildaemon_adapters.tcp.trust import Trust
from maildaemon_core.errors import BrokenPlugin, LoginRefused, MaildaemonError, SourceUnavailable
from maildaemon_core.options import Secret

INSTALL: Final = "pip install 'maildaemon[oauth]'"

UNSAID_SECONDS: Final = 300.0
"""How long a token is good of which nobody said how long; the answer should (RFC 6749 §5.1)."""

_SALT: Final = secrets.token_bytes(16)


@attrs.frozen(kw_only=True)
class Registration:
    """Whose token is wanted, from whom, and for what.

    ``authority`` with ``tenant``, or ``token_url``, says who is asked.  ``scope`` may be absent only with the latter.
    """

    authority: str
    tenant: str
    token_url: str | None
    client: str
    scope: str | None
    secret: Secret | None
    certificate: Secret | None
    ca_file: str | None

    @property
    def key(self) -> tuple[str, ...]:
        """What tells apart those who get different tokens.  The credential is in it as a digest."""
        credential = (self.secret or self.certificate or Secret("")).value
        digest = hashlib.sha256(_SALT + credential.encode("utf-8", "surrogateescape")).hexdigest()
        asked = self.token_url or f"{self.authority}/{self.tenant.lower()}"
        return asked, self.client, self.scope or "", digest, self.ca_file or ""

    @property
    def where(self) -> str:
        """Who is asked, for people."""
        return urlsplit(self.token_url or self.authority).netloc


@attrs.frozen(kw_only=True)
class Granted:
    """A token, and for how many seconds it is good."""

    token: str = attrs.field(repr=False)
    seconds: float


def is_installed() -> bool:
    """Whether the extra ``oauth`` is."""
    return find_spec("msal") is not None


def ask(wanted: Registration) -> Granted:
    """A new token.  Raises ``LoginRefused``, ``SourceUnavailable``, ``OutOfBounds``, ``BrokenPlugin``."""
    trust = Trust(ca_file=wanted.ca_file)
    failure: MaildaemonError
    answer: Mapping[str, Any] = {}
    try:
        answer = _from_endpoint(wanted, trust) if wanted.token_url is not None else _from_entra(wanted, trust)
    except MaildaemonError as error:
        failure = error
    else:
        if "error" not in answer and "access_token" in answer:
            return _granted(answer, wanted)
        failure = refusal(
            answer,
            wanted.where,
            client=wanted.client,
            tenant=wanted.tenant,
            scope=wanted.scope or "",
            secrets=_as_sent(wanted),
        )
    # Without what it came through: there the secret stands in the variables of each frame.
    raise failure.with_traceback(None) from None


def _as_sent(wanted: Registration) -> Sequence[str]:
    """The secret in each of the forms in which whoever repeats a request would show it, the longest first."""
    held = [each.value for each in (wanted.secret, wanted.certificate) if each is not None and each.value]
    if wanted.secret is not None and wanted.secret.value:
        held += [_basic(wanted), quote_plus(wanted.secret.value)]
    return sorted(held, key=len, reverse=True)


def _basic(wanted: Registration) -> str:
    """The login of HTTP Basic, as every server must understand it (RFC 6749 §2.3.1)."""
    password = wanted.secret.value if wanted.secret is not None else ""
    return base64.b64encode(f"{quote_plus(wanted.client)}:{quote_plus(password)}".encode()).decode()


def _from_endpoint(wanted: Registration, trust: Trust) -> Mapping[str, Any]:
    """RFC 6749 §4.4.2, the client known by HTTP Basic."""
    assert wanted.token_url is not None
    asker = Asker(trust, named="options.oauthTokenUrl", plain=True)
    form = {"grant_type": "client_credentials"} | ({"scope": wanted.scope} if wanted.scope else {})
    headers = {"Authorization": f"Basic {_basic(wanted)}", "Accept": "application/json"}
    return asker.post(wanted.token_url, headers=headers, data=form).body


def _from_entra(wanted: Registration, trust: Trust) -> Mapping[str, Any]:
    if not is_installed():
        raise BrokenPlugin("a login with clientId needs msal, which is not installed", remedy=INSTALL)
    only_warnings("msal")
    import msal

    shown = certificate(wanted.certificate.value) if wanted.certificate is not None else None
    asker = Asker(trust, named="options.oauthAuthority")
    try:
        # A new application for each token: nothing of it stays, least of all its memory of earlier failures.
        # Nobody but the authority is asked: neither Microsoft about it (instance discovery), nor the machine's cloud.
        application = msal.ConfidentialClientApplication(
            wanted.client,
            client_credential=shown or (wanted.secret.value if wanted.secret is not None else ""),
            authority=f"{wanted.authority}/{quote(wanted.tenant, safe='')}",
            instance_discovery=False,
            azure_region=False,
            http_client=asker,
        )
        answer: Mapping[str, Any] = application.acquire_token_for_client(scopes=[wanted.scope or ""])
        return answer
    except MaildaemonError:
        raise
    except Exception:  # noqa: BLE001 - msal says in sentences, as ValueError mostly, what the server said in JSON
        last = asker.last
    if asker.failure is not None:
        raise asker.failure
    if last is not None and last.body.get("error"):
        return last.body
    raise SourceUnavailable(
        f"{wanted.where} does not answer as an authority does",
        remedy="check options.oauthAuthority; for providers other than Microsoft there is options.oauthTokenUrl",
    )


def _granted(answer: Mapping[str, Any], wanted: Registration) -> Granted:
    token, kind = answer.get("access_token"), answer.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise LoginRefused(
            f"{wanted.where} gives a token that is no bearer token", remedy="mail servers take bearer tokens only"
        )
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token or not token:
        raise SourceUnavailable(f"{wanted.where} gives a token that cannot be sent", remedy="see the provider's log")
    try:
        seconds = float(answer.get("expires_in", UNSAID_SECONDS))
    except (TypeError, ValueError, OverflowError):
        seconds = UNSAID_SECONDS
    return Granted(token=token, seconds=seconds if math.isfinite(seconds) and seconds > 0 else UNSAID_SECONDS)
