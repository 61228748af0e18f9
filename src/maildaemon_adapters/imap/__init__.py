"""The mail source ``imap``: what the entry point hands over."""

from __future__ import annotations

from maildaemon_adapters.imap.settings import ImapSettings
from maildaemon_adapters.imap.source import ImapSource, open_imap
from maildaemon_adapters.mail_servers.settings import mail_server_problems
from maildaemon_core.options import Action, KindFacts
from maildaemon_core.ports import Kind

__all__ = ["KIND", "ImapSettings", "ImapSource", "open_imap"]

KIND: Kind[ImapSettings, ImapSource] = Kind(
    settings=ImapSettings,
    open=open_imap,
    facts=KindFacts(
        needs_host=True,
        needs_login=True,
        actions=frozenset(Action),
        instead_of_password=("clientCertFile",),
        instead_of_tenant=("oauthTokenUrl",),
    ),
    problems=mail_server_problems,
)
