"""What works with a maildrop, what does not, and what to do about it; nothing is changed by looking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maildaemon_adapters.pop3.session import Session, shown
from maildaemon_adapters.pop3.settings import INBOX
from maildaemon_core.errors import FolderMissing, SourceUnavailable
from maildaemon_core.message import FolderRef
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.ports import Finding, Level


def findings(session: Session, folders: Sequence[FolderRef], care: Aftercare) -> Sequence[Finding]:
    """As ``MailSource.check``; that the login works is said by whoever opened the session."""
    with session.translated(f"looking into {INBOX}"):
        found = [finding for folder in folders for finding in _folder(session, folder)]
        return [*found, *_abilities(session), *_aftercare(care)]


def _folder(session: Session, folder: FolderRef) -> Iterator[Finding]:
    subject = f"folder {folder}"
    try:
        session.only_inbox(folder)
        maildrop = session.maildrop()
    except (FolderMissing, SourceUnavailable) as error:
        yield Finding.of(subject, error)
        return
    count = len(maildrop.numbers)
    yield Finding(
        level=Level.FINE, subject=subject, message=f"can be read; {'1 mail' if count == 1 else f'{count} mails'}"
    )
    if maildrop.shared:
        yield Finding(
            level=Level.WARNING,
            subject=subject,
            message=f"{len(maildrop.shared)} mails have an id (UIDL) that others have as well, and are never deleted: "
            f"{shown(sorted(maildrop.shared))}",
            remedy="delete them by hand once they are stored, or read this mailbox through imap",
        )


def _abilities(session: Session) -> Iterator[Finding]:
    can = session.connection.abilities
    if can and "UIDL" not in can and not session.maildrop().numbers:
        yield Finding(
            level=Level.WARNING,
            subject="ids",
            message="the server does not announce lasting ids (UIDL); without them its mails cannot be told apart",
            remedy="look again when there is a mail; if it fails then, read this mailbox through imap",
        )
    if can and "TOP" not in can:
        yield Finding(
            level=Level.WARNING,
            subject="headers",
            message="the server has no TOP: to see a mail's headers it is read whole, so each is transferred twice",
            remedy="nothing to do; imap would be faster",
        )
    days = can.get("EXPIRE", "NEVER").split(" ")[0]
    if days.isdecimal():
        yield Finding(
            level=Level.WARNING,
            subject="retention",
            message=f"the server deletes mails by itself after {days} days (EXPIRE), even those that were not stored",
            remedy="have it changed there, if mails must lie longer while a destination is down",
        )


def _aftercare(care: Aftercare) -> Iterator[Finding]:
    if care.action in {Action.SEEN, Action.MOVE}:
        yield Finding(
            level=Level.FAULT,
            subject="aftercare",
            message="POP3 can neither mark nor move mails",
            remedy="leave afterStore out (deleteMailsOnServer works), or read this mailbox through imap",
        )
    elif care.action is Action.DELETE:
        yield Finding(level=Level.FINE, subject="aftercare", message="mails are deleted when a session ends with QUIT")
