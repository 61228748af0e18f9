"""The mail sources ``maildir``, ``mbox`` and ``eml``: what their entry points hand over."""

from __future__ import annotations

from maildaemon_adapters.local.eml import EmlSource
from maildaemon_adapters.local.maildir import MaildirSource
from maildaemon_adapters.local.mbox import MboxSource
from maildaemon_adapters.local.places import opened, opened_file
from maildaemon_adapters.local.settings import (
    EmlSettings,
    MaildirSettings,
    MboxSettings,
    eml_problems,
    maildir_problems,
    mbox_problems,
)
from maildaemon_core.options import Action, KindFacts, MailboxOptions
from maildaemon_core.ports import Kind, Spool

__all__ = [
    "EML",
    "MAILDIR",
    "MBOX",
    "EmlSettings",
    "MaildirSettings",
    "MboxSettings",
    "open_eml",
    "open_maildir",
    "open_mbox",
]

_FILES = frozenset({Action.KEEP, Action.MOVE, Action.DELETE})


def open_maildir(options: MailboxOptions, settings: MaildirSettings, spool: Spool) -> MaildirSource:
    """Opens the folder, or connects to where it is.  Raises ``SourceUnavailable``."""
    return MaildirSource(opened(options), spool)


def open_eml(options: MailboxOptions, settings: EmlSettings, spool: Spool) -> EmlSource:
    """Opens the folder, or connects to where it is.  Raises ``SourceUnavailable``."""
    return EmlSource(opened(options), settings, spool)


def open_mbox(options: MailboxOptions, settings: MboxSettings, spool: Spool) -> MboxSource:
    """Opens the file, or the folder of files.  Raises ``SourceUnavailable``."""
    disk, only = opened_file(options)
    return MboxSource(disk, settings, spool, only=only)


MAILDIR: Kind[MaildirSettings, MaildirSource] = Kind(
    settings=MaildirSettings,
    open=open_maildir,
    facts=KindFacts(needs_host=False, needs_login=False, needs_path=True),
    problems=maildir_problems,
)

EML: Kind[EmlSettings, EmlSource] = Kind(
    settings=EmlSettings,
    open=open_eml,
    facts=KindFacts(needs_host=False, needs_login=False, needs_path=True, actions=_FILES),
    problems=eml_problems,
)

MBOX: Kind[MboxSettings, MboxSource] = Kind(
    settings=MboxSettings,
    open=open_mbox,
    facts=KindFacts(needs_host=False, needs_login=False, needs_path=True, actions=_FILES),
    problems=mbox_problems,
)
