"""What works with a mailbox, what does not, and what to do about it; nothing is changed by looking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maildaemon_adapters.imap.session import Session
from maildaemon_adapters.imap.wire import Refused, Unparsable
from maildaemon_core.errors import FolderMissing, FolderRefused
from maildaemon_core.message import FolderRef
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.ports import Finding, Level

_WORDS = {Action.SEEN: "marked as seen", Action.MOVE: "moved", Action.DELETE: "deleted"}

_RIGHTS = {Action.SEEN: ("s",), Action.MOVE: ("td", "ed"), Action.DELETE: ("td", "ed")}
"""RFC 4314 §4: one letter of each is needed; ``d`` is what older servers (RFC 2086) have instead."""


def findings(session: Session, folders: Sequence[FolderRef], care: Aftercare) -> Sequence[Finding]:
    """As ``MailSource.check``; that the login works is said by whoever opened the session."""
    with session.translated("looking at the folders"):
        return [
            *(finding for folder in folders for finding in _folder(session, folder, care)),
            *_news(session, folders),
            *_abilities(session, care),
            *(_target(session, FolderRef(care.folder or ""), folders) if care.action is Action.MOVE else ()),
        ]


def _folder(session: Session, folder: FolderRef, care: Aftercare) -> Iterator[Finding]:
    subject = f"folder {folder}"
    try:
        opened = session.open(folder)
    except FolderMissing as error:
        there = ", ".join(sorted(each.name for each in session.connection.listed())[:20])
        yield Finding(
            level=Level.FAULT, subject=subject, message=error.message, remedy=f"{error.remedy}; there are: {there}"
        )
        return
    except FolderRefused as error:
        yield Finding.of(subject, error)
        return
    mails = "1 mail" if opened.exists == 1 else f"{opened.exists} mails"
    yield Finding(level=Level.FINE, subject=subject, message=f"can be read; {mails}")
    if care.action is not Action.KEEP:
        yield from _rights(session, folder, care)


def _rights(session: Session, folder: FolderRef, care: Aftercare) -> Iterator[Finding]:
    if "ACL" not in session.abilities:
        return  # nothing but an attempt would tell
    subject = f"rights in {folder}"
    try:
        rights = session.connection.rights(folder)
    except (Refused, Unparsable):
        return
    lacking = [letters[0] for letters in _RIGHTS[care.action] if not set(letters) & set(rights)]
    if lacking:
        yield Finding(
            level=Level.FAULT,
            subject=subject,
            message=f"mails may not be {_WORDS[care.action]}: the account lacks {', '.join(lacking)} (it has {rights})",
            remedy="give it these rights (ACL, RFC 4314), or do without this aftercare",
        )
    else:
        yield Finding(level=Level.FINE, subject=subject, message=f"mails may be {_WORDS[care.action]} ({rights})")


def _news(session: Session, folders: Sequence[FolderRef]) -> Iterator[Finding]:
    """Whether new mail is told of, in the words of whoever wonders why it takes so long."""
    if not session.idle or not folders:
        return
    message = "the server cannot tell of it (it has no IDLE, RFC 2177): the folders are looked into at the interval"
    if "IDLE" in session.abilities:
        message = f"a service is told of it by the server in {folders[0]} (IDLE), and looks at the interval besides"
    yield Finding(level=Level.FINE, subject="new mail", message=message)


def _abilities(session: Session, care: Aftercare) -> Iterator[Finding]:
    uidplus, move = "UIDPLUS" in session.abilities, "MOVE" in session.abilities
    if (care.action is Action.DELETE and not uidplus) or (care.action is Action.MOVE and not (uidplus or move)):
        yield Finding(
            level=Level.FAULT,
            subject="aftercare",
            message=f"the server has no UIDPLUS (RFC 4315), so single mails cannot be {_WORDS[care.action]} safely",
            remedy="do without this aftercare (afterStore: seen works), or use another server",
        )
    elif care.action is Action.MOVE and not move:
        yield Finding(
            level=Level.WARNING,
            subject="aftercare",
            message="the server has no MOVE (RFC 6851): mails are copied and then deleted",
            remedy="nothing to do; a power cut between the two can leave a mail in both folders",
        )
    elif care.action is not Action.KEEP:
        yield Finding(level=Level.FINE, subject="aftercare", message=f"the server lets mails be {_WORDS[care.action]}")


def _target(session: Session, target: FolderRef, folders: Sequence[FolderRef]) -> Iterator[Finding]:
    subject = f"target {target}"
    connection = session.connection
    if any(target == folder or target.upper() == folder.upper() == "INBOX" for folder in folders):
        yield Finding(level=Level.FAULT, subject=subject, message="is watched itself", remedy="move to another folder")
        return
    found = connection.listed(target)
    spelled = target if found else session.spelling(target)
    if any("\\noselect" in {attribute.lower() for attribute in each.attributes} for each in found):
        level, message, remedy = Level.FAULT, "only holds other folders", "name one that can hold mails"
    elif found:
        level, message, remedy = Level.FINE, "exists", ""
    elif spelled != target:
        level, message, remedy = Level.WARNING, "is not how this server writes names of folders", f"write {spelled}"
    else:
        level, message, remedy = Level.FINE, "does not exist yet; it is made when the first mail is moved", ""
    yield Finding(level=level, subject=subject, message=message, remedy=remedy)
