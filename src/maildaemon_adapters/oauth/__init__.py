"""Tokens of app registrations (OAuth 2.0 client credentials), and how mail servers are shown them.

Shared by all adapters that log in with ``clientId``: they ask for a token just before they use it, since one is good
for about an hour, and are given the one that is still good or a new one.
"""

from __future__ import annotations

from maildaemon_adapters.oauth.entry import forget, oauth_problems, token_for
from maildaemon_adapters.oauth.sasl import Bearer
from maildaemon_adapters.oauth.settings import OAuthSettings

__all__ = ["Bearer", "OAuthSettings", "forget", "oauth_problems", "token_for"]
