"""What is done to mails on the server afterwards: to exactly these, after a look whether they are still the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from maildaemon_adapters.imap.session import Session
from maildaemon_adapters.imap.stand_ins import StandIn, stand_in
from maildaemon_adapters.imap.translate import (
    HEADER_FIELDS,
    for_people,
    header_block,
    is_temporary,
    pause,
    response,
    strong_id,
    strong_items,
)
from maildaemon_adapters.imap.wire import Connection, Copied, Opened, Refused, Unparsable
from maildaemon_core.errors import FolderMissing, Trouble
from maildaemon_core.headers import read_headers
from maildaemon_core.message import FolderRef, Headers, MessageRef
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.ports import Known, Settled

Outcome = Settled | Trouble

_FORBIDDEN = re.compile(r"read-only|permission denied", re.IGNORECASE)
"""What servers say that have no response code for it: Cyrus 3 says the latter."""


def settle(session: Session, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Outcome]:
    """As ``MailSource.settle``."""
    if not mails or care.action is Action.KEEP:
        return {mail.ref: Settled() for mail in mails}
    folder = mails[0].ref.folder
    with session.translated(f"tidying {folder!r}"):
        try:
            opened = session.view(folder, writable=True)
        except FolderMissing as error:
            return {mail.ref: error.trouble() for mail in mails}
        except Refused as error:
            return {mail.ref: _refused(folder, error, "change mails") for mail in mails}
        numbered: dict[int, Known] = {}
        outcomes: dict[MessageRef, Outcome] = {}
        for mail in mails:
            if mail.ref.uidvalidity == opened.uidvalidity and mail.ref.uid.isdecimal():
                numbered[int(mail.ref.uid)] = mail
            else:
                outcomes[mail.ref] = _renumbered(folder)
        looked_at = _look(session, numbered)
        ours = {uid: answer for uid, answer in looked_at.items() if not isinstance(answer, Settled | Trouble)}
        done: Mapping[int, Outcome] = _act(session, opened, folder, care, ours) if ours else {}
        for uid, mail in numbered.items():
            answer = looked_at[uid]
            outcomes[mail.ref] = answer if isinstance(answer, Settled | Trouble) else done[uid]
        return outcomes


def _look(session: Session, numbered: Mapping[int, Known]) -> Mapping[int, Outcome | Mapping[bytes, Any]]:
    """What is under each UID: the mail as it is known, given as the server's answer; else what that comes to."""
    connection = session.connection
    items = f"(UID FLAGS {strong_items(session.abilities)}{HEADER_FIELDS})"
    answers = connection.headers(sorted(numbered), items)
    missing = [uid for uid in numbered if header_block(answers.get(uid, {})) is None]
    there = connection.those_there(missing) if missing else set()
    found: dict[int, Outcome | Mapping[bytes, Any]] = {}
    for uid, mail in numbered.items():
        answer = answers.get(uid, {})
        if uid in missing:
            found[uid] = _unknown(mail.ref) if uid in there else Settled(gone=True)
            continue
        headers = read_headers(header_block(answer) or b"")
        if notice := stand_in(headers):
            found[uid] = _made_up(mail.ref, notice)
        elif _is_same(mail, headers, strong_id(answer)):
            found[uid] = answer
        else:
            found[uid] = _another(mail.ref)
    return found


def _is_same(mail: Known, headers: Headers, strong: str | None) -> bool:
    if strong is not None and mail.identity.strong is not None and strong != mail.identity.strong:
        return False
    return headers.fingerprint == mail.identity.fingerprint


def _act(
    session: Session, opened: Opened, folder: FolderRef, care: Aftercare, ours: Mapping[int, Mapping[bytes, Any]]
) -> Mapping[int, Outcome]:
    try:
        match care.action:
            case Action.SEEN:
                return _mark_seen(session, opened, folder, ours)
            case Action.MOVE:
                return _move(session, folder, FolderRef(care.folder or ""), set(ours))
            case _:
                return _delete(session, folder, set(ours))
    except (Refused, Unparsable) as error:
        trouble = _refused(folder, error, {Action.SEEN: "mark", Action.MOVE: "move"}.get(care.action, "delete"))
        if (
            care.folder
            and isinstance(error, Refused)
            and (spelled := session.spelling(FolderRef(care.folder))) != care.folder
        ):
            trouble = attrs.evolve(trouble, remedy=f"this server writes names otherwise: write {spelled}")
        return dict.fromkeys(ours, trouble)


def _mark_seen(
    session: Session, opened: Opened, folder: FolderRef, ours: Mapping[int, Mapping[bytes, Any]]
) -> Mapping[int, Outcome]:
    unseen = [uid for uid, answer in ours.items() if b"\\seen" not in {each.lower() for each in _flags(answer)}]
    lasting = opened.permanent_flags
    if unseen and lasting is not None and "\\Seen" not in lasting:
        trouble = Trouble(
            error="NotAllowed",
            message=f"the server keeps no \\Seen in {folder!r} for this account",
            remedy="give the account the right to mark mails there (ACL: s), or do without afterStore",
            transient=False,
        )
        return {uid: trouble if uid in unseen else Settled() for uid in ours}
    session.connection.store(unseen, "\\Seen")
    return dict.fromkeys(ours, Settled())


def _delete(session: Session, folder: FolderRef, uids: Collection[int]) -> Mapping[int, Outcome]:
    if "UIDPLUS" not in session.abilities:
        return dict.fromkeys(uids, _lacking(session, folder, "UIDPLUS", "deleted"))
    _remove(session.connection, uids)
    return _gone(session.connection, folder, uids)


def _remove(connection: Connection, uids: Collection[int]) -> None:
    connection.store(uids, "\\Deleted")
    connection.expunge_exactly(uids)


def _move(session: Session, folder: FolderRef, target: FolderRef, uids: Collection[int]) -> Mapping[int, Outcome]:
    """With MOVE (RFC 6851) nothing can be left half done.

    Without it the mails are copied and then removed: if we are stopped between the two, they are copied once more the
    next time.  A second copy in the target is better than none.
    """
    if folder == target or folder.upper() == target.upper() == "INBOX":
        return dict.fromkeys(uids, Settled())
    connection = session.connection
    if "MOVE" in session.abilities:
        put = _into(connection, target, lambda: connection.move_to(uids, target))
    elif "UIDPLUS" in session.abilities:
        put = _into(connection, target, lambda: connection.copy_to(uids, target))
        _remove(connection, uids)
    else:
        return dict.fromkeys(uids, _lacking(session, folder, "MOVE nor UIDPLUS", "moved"))
    there = {uid: MessageRef(target, uidvalidity, str(new)) for uid, (uidvalidity, new) in put.items()}
    return {
        uid: attrs.evolve(outcome, moved_to=there.get(uid)) if isinstance(outcome, Settled) else outcome
        for uid, outcome in _gone(connection, folder, uids).items()
    }


def _into(connection: Connection, target: FolderRef, put: Callable[[], Copied]) -> Copied:
    """``put``, once more with the target made if that was missing."""
    try:
        return put()
    except Refused as error:
        code, _ = response(str(error))
        if code not in {"TRYCREATE", "NONEXISTENT"} and (code or connection.listed(target)):
            raise
    connection.create(target)
    return put()


def _gone(connection: Connection, folder: FolderRef, uids: Collection[int]) -> Mapping[int, Outcome]:
    left = connection.those_there(uids)
    still = Trouble(
        error="StillThere",
        message=f"the server said OK, and the mail is still in {folder!r}",
        remedy="it will be tried again; if that does not help, look into the server's log",
    )
    return {uid: still if uid in left else Settled() for uid in uids}


def _flags(answer: Mapping[bytes, Any]) -> Iterable[bytes]:
    flags = answer.get(b"FLAGS")
    return [flag for flag in flags if isinstance(flag, bytes)] if isinstance(flags, tuple) else []


def _renumbered(folder: FolderRef) -> Trouble:
    return Trouble(
        error="FolderRenumbered",
        message=f"{folder!r} was renumbered (another UIDVALIDITY): nothing was done under the old number",
        remedy="tidy it by hand, if the next sweep does not recognise it",
        transient=False,
    )


def _another(ref: MessageRef) -> Trouble:
    return Trouble(
        error="AnotherMail",
        message=f"under UID {ref.uid} in {ref.folder!r} is another mail than the one that was stored; it was kept",
        remedy="nothing to do, unless this happens often: then the server numbers its mails wrongly",
        transient=False,
    )


def _unknown(ref: MessageRef) -> Trouble:
    return Trouble(
        error="MailNotRead",
        message=f"the server does not say what is under UID {ref.uid} in {ref.folder!r}; it was left alone",
        remedy="it will be tried again",
    )


def _made_up(ref: MessageRef, notice: StandIn) -> Trouble:
    return Trouble(
        error="MailNotRead",
        message=f"of the mail with UID {ref.uid} in {ref.folder!r} {notice.words}; it was left alone",
        remedy="look at it with another mail program, on Exchange with Outlook",
        transient=notice.gone,
    )


def _lacking(session: Session, folder: FolderRef, ability: str, done: str) -> Trouble:
    return Trouble(
        error="AbilityMissing",
        message=f"{session.where} has no {ability}, so single mails cannot be {done} safely; it was kept in {folder!r}",
        remedy="do without this aftercare for this server (afterStore: seen works), or tidy by hand",
        transient=False,
    )


def _refused(folder: FolderRef, error: Refused | Unparsable, doing: str) -> Trouble:
    said = str(error)
    code, _ = response(said)
    read_only = code in {"READ-ONLY", "NOPERM", "CANNOT"} or _FORBIDDEN.search(said) is not None
    return Trouble(
        error="NotAllowed" if read_only else "ServerRefused",
        message=f"the server does not let us {doing} in {folder!r}: {for_people(said)}",
        remedy="make room in the mailbox, or have its quota raised"
        if code == "OVERQUOTA"
        else "give this account the right to do so there, or do without this aftercare",
        transient=is_temporary(said) or not read_only,
        retry_after=pause(said),
    )
