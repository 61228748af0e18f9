"""The mail source ``pop3``: what the entry point hands over."""

from __future__ import annotations

from maildaemon_adapters.pop3.settings import Pop3Settings, pop3_problems
from maildaemon_adapters.pop3.source import Pop3Source, open_pop3
from maildaemon_core.options import Action, KindFacts
from maildaemon_core.ports import Kind

__all__ = ["KIND", "Pop3Settings", "Pop3Source", "open_pop3"]

KIND: Kind[Pop3Settings, Pop3Source] = Kind(
    settings=Pop3Settings,
    open=open_pop3,
    facts=KindFacts(
        needs_host=True,
        needs_login=True,
        actions=frozenset({Action.KEEP, Action.DELETE}),
        instead_of_password=("clientCertFile",),
        instead_of_tenant=("oauthTokenUrl",),
    ),
    problems=pop3_problems,
)
