"""What an operator can set for mail in files beyond the options that all mailboxes have, and what cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from maildaemon_adapters.local.places import is_url, local_path, url_fault
from maildaemon_core.errors import Problem
from maildaemon_core.options import Action, MailboxOptions, Within, a_name


@attrs.frozen(kw_only=True)
class MaildirSettings:
    """A Maildir needs no settings."""


@attrs.frozen(kw_only=True)
class EmlSettings:
    """The settings of the kind ``eml``, under ``options``.

    ``quiet_seconds``: a file that was changed, or put there, within so many seconds may still be written to, and waits.
    ``endings``: how the names of files with a mail in them end, in any case.
    """

    quiet_seconds: float = attrs.field(default=3.0, validator=Within(0, 86400))
    endings: tuple[str, ...] = attrs.field(default=(".eml",), validator=a_name)


@attrs.frozen(kw_only=True)
class MboxSettings:
    """The settings of the kind ``mbox``, under ``options``.

    ``quiet_seconds``: while a file was changed within so many seconds, its last mail may still be written to, and
    waits; one without an empty line behind it waits for a minute, for it is not complete.
    ``lock_seconds``: how long to wait for others who have locked a file.
    ``quoting``: what is done to lines of mails that were changed to tell them from the beginning of the next mail:
    ``keep`` leaves them as they are, ``mboxrd`` takes one ``>`` from ``>From ``, ``>>From `` and so on, ``mboxo`` from
    ``>From `` alone.  Nothing in a file says which is right.
    """

    quiet_seconds: float = attrs.field(default=3.0, validator=Within(0, 86400))
    lock_seconds: float = attrs.field(default=20.0, validator=Within(0, 600))
    quoting: Literal["keep", "mboxrd", "mboxo"] = "keep"


def maildir_problems(options: MailboxOptions, _settings: MaildirSettings) -> Sequence[Problem]:
    """What a Maildir can do nothing with, each with its place in the document."""
    return _place_problems(options)


def eml_problems(options: MailboxOptions, settings: EmlSettings) -> Sequence[Problem]:
    """What a folder of mails can do nothing with, each with its place in the document."""
    found = list(_place_problems(options))
    if options.path and any("/" in ending for ending in settings.endings):
        found.append(Problem(path="$.options.endings", message="an ending has no slash in it"))
    return found


def mbox_problems(options: MailboxOptions, _settings: MboxSettings) -> Sequence[Problem]:
    """What an mbox can do nothing with, each with its place in the document."""
    if not is_url(options.path or ""):
        return _place_problems(options)
    message = "an mbox is read from files of this machine only: copy it, or mount the folder"
    return [Problem(path="$.path", message=message)]


def _place_problems(options: MailboxOptions) -> Sequence[Problem]:
    path = options.path or ""
    if not path:
        return ()  # it is said of every kind that needs one
    if not is_url(path):
        found = list(_no_login(options, "a folder of this machine takes no login"))
        if not local_path(path).startswith("/"):
            message = "must be a full path, since a service may start anywhere, or a URL"
            found.insert(0, Problem(path="$.path", message=message))
        return found
    if fault := url_fault(path):
        return [Problem(path="$.path", message=fault)]
    found = list(_only_read(options))
    if path.casefold().startswith("ftp:") and options.tls != "none":
        found.append(
            Problem(path="$.tls", message="ftp:// is read in plain text, its password too: write none if it may be")
        )
    return found


def _no_login(options: MailboxOptions, why: str) -> Sequence[Problem]:
    named = {"$.username": options.username, "$.password": options.password}
    return [
        Problem(path=path, message=f"{why}; leave it out, and give the user who runs maildaemon its rights")
        for path, value in named.items()
        if value is not None
    ]


def _only_read(options: MailboxOptions) -> Sequence[Problem]:
    message = "a URL is only read: leave it out, or name a folder of this machine as path"
    found = []
    if options.aftercare.action is not Action.KEEP:
        deletes = options.aftercare.action is Action.DELETE
        found.append(Problem(path="$.deleteMailsOnServer" if deletes else "$.afterStore", message=message))
    if options.no_match_care.action is not Action.KEEP:
        found.append(Problem(path="$.onNoMatch", message=message))
    return found
