"""How a mail server is shown a token: XOAUTH2 and OAUTHBEARER, with what their servers answer to one they refuse.

XOAUTH2: https://developers.google.com/workspace/gmail/imap/xoauth2-protocol, and the same at Microsoft:
https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth.
OAUTHBEARER: RFC 7628.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Final, Literal

from maildaemon_adapters.tcp.words import said

Mechanism = Literal["XOAUTH2", "OAUTHBEARER"]

_FAREWELLS: Final[dict[Mechanism, bytes]] = {"XOAUTH2": b"", "OAUTHBEARER": b"\x01"}
"""What is answered to a refusal, so that the server ends the exchange: an empty line, and RFC 7628 §3.2.3."""

_TELLING: Final = ("status", "error", "error_description", "schemes", "scope")

_LONG: Final = re.compile(r"[\w+/=.~-]{40,}")
"""What could be a piece of a token, or of a message that held it in Base64."""


def xoauth2(user: str, token: str) -> bytes:
    """The first and only message of XOAUTH2, not yet in Base64.  Raises ValueError for what it cannot carry."""
    return f"user={_bare(user)}\x01auth=Bearer {_bare(token)}\x01\x01".encode()


def oauthbearer(user: str, token: str, host: str, port: int) -> bytes:
    """The first message of OAUTHBEARER (RFC 7628 §3.1), not yet in Base64.  Raises ValueError as ``xoauth2`` does."""
    name = _bare(user).replace("=", "=3D").replace(",", "=2C")  # a saslname, RFC 5801 §4
    return f"n,a={name},\x01host={_bare(host)}\x01port={port}\x01auth=Bearer {_bare(token)}\x01\x01".encode()


def _bare(text: str) -> str:
    if "\x01" in text or "\0" in text:
        raise ValueError("a control character that ends a field of the login")
    return text


class Bearer:
    """One login with a token, as a dialogue: ``first`` is said once, and never again whatever the server answers.

    A server that refuses the token does not say so at once: it sends a challenge that holds the reason, and wants a
    farewell before it says NO.  ``reason`` tells what the challenge said.
    """

    def __init__(self, mechanism: Mechanism, user: str, token: str, *, host: str = "", port: int = 0) -> None:
        self.mechanism: Mechanism = mechanism
        self.first = xoauth2(user, token) if mechanism == "XOAUTH2" else oauthbearer(user, token, host, port)
        self._told = False
        self._challenge: bytes | None = None

    def __repr__(self) -> str:
        return f"Bearer({self.mechanism!r}, ***)"

    def opening(self) -> bytes:
        """The first message, where it goes along with the command.  ``answer`` will not give it any more."""
        self._told = True
        return self.first

    def answer(self, challenge: bytes) -> bytes | None:
        """What to say to what the server sent (neither in Base64); None: break the exchange off (``*``)."""
        if not self._told:
            return self.opening()
        if self._challenge is not None:
            return None
        self._challenge = challenge
        return _FAREWELLS[self.mechanism]

    @property
    def reason(self) -> str:
        """What the server said of the token, for people; ``""`` if nothing."""
        if not self._challenge:
            return ""
        text = self._challenge.decode("utf-8", "replace")
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            told = None
        if isinstance(told, dict):
            text = ", ".join(f"{name} {told[name]}" for name in _TELLING if isinstance(told.get(name), (str, int)))
        return without_tokens(text)


def without_tokens(text: str) -> str:
    """A server's words as one line that may be shown: some repeat what they were told, whole or cut off."""
    return said(_LONG.sub("***", text))


def choose(abilities: Collection[str]) -> Mechanism | None:
    """The mechanism for a server that announces these (``AUTH=…``); XOAUTH2 is what providers document first."""
    known: tuple[Mechanism, ...] = ("XOAUTH2", "OAUTHBEARER")
    return next((each for each in known if f"AUTH={each}" in abilities), None)
