"""Deleting mails: exactly these, after a look whether they are still the same; done only once QUIT says so.

DELE only marks.  What is marked goes when the server answers QUIT with +OK (RFC 1939 §6); a session that ends in any
other way deletes nothing.  So each call ends its session, and the next command begins another one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from maildaemon_adapters.pop3.fetching import of_this_numbering
from maildaemon_adapters.pop3.heads import Head
from maildaemon_adapters.pop3.maildrop import Maildrop
from maildaemon_adapters.pop3.session import Session
from maildaemon_adapters.pop3.settings import INBOX
from maildaemon_adapters.pop3.wire import Broken, Refused
from maildaemon_adapters.pop3.words import busy, for_people
from maildaemon_core.errors import Trouble
from maildaemon_core.message import MessageRef
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.ports import Known, Settled

Outcome = Settled | Trouble

SEARCHED = 1000
"""So many mails at most are looked through for those whose ids seem to have changed."""


def settle(session: Session, mails: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Outcome]:
    """As ``MailSource.settle``."""
    if not mails or care.action is Action.KEEP:
        return {mail.ref: Settled() for mail in mails}
    if care.action is not Action.DELETE:
        return {mail.ref: _impossible() for mail in mails}
    session.only_inbox(mails[0].ref.folder)
    with session.translated(f"deleting mails in {INBOX}"):
        outcomes: dict[MessageRef, Outcome] = {
            mail.ref: _renumbered() for mail in mails if not of_this_numbering(session, mail.ref)
        }
        ours = {mail.ref.uid: mail for mail in mails if mail.ref not in outcomes}
        try:
            verdicts, refused = _look(session, session.maildrop(), ours)
        except Broken:  # the server may have waited too long for us; nothing was done yet
            verdicts, refused = _look(session, session.fresh(), ours)
        if refused:
            # Perhaps another program has deleted them; only a new login tells, and it counts the others anew.
            verdicts, refused = _look(session, session.fresh(), ours)
            verdicts |= {uid: _unknown(uid, said) for uid, said in refused.items()}
        agreed = [uid for uid in ours if uid not in verdicts]
        verdicts |= _delete(session, {uid: ours[uid] for uid in agreed})
        return outcomes | {mail.ref: verdicts[uid] for uid, mail in ours.items()}


def _look(session: Session, maildrop: Maildrop, ours: Mapping[str, Known]) -> tuple[dict[str, Outcome], dict[str, str]]:
    """What keeps each of these from being deleted, none for those that may be; and what the server would not show."""
    verdicts: dict[str, Outcome] = {uid: _shared(uid) for uid in ours if maildrop.ambiguous(uid)}
    missing = [uid for uid in ours if uid not in maildrop.numbers and uid not in verdicts]
    verdicts |= _missing(session, maildrop, {uid: ours[uid] for uid in missing}, len(missing) == len(ours))
    there = {maildrop.numbers[uid]: uid for uid in ours if uid not in verdicts}
    refused: dict[str, str] = {}
    for number, head in session.heads().read(list(there)).items():
        uid = there[number]
        if isinstance(head, Refused):
            refused[uid] = str(head)
        elif head.headers.fingerprint != ours[uid].identity.fingerprint:
            verdicts[uid] = _another(uid)
    return verdicts, refused


def _missing(
    session: Session, maildrop: Maildrop, missing: Mapping[str, Known], all_of_them: bool
) -> dict[str, Outcome]:
    """Mails that are not there under their ids: gone, unless the server may have given them other ones."""
    if session.numbering is not None or not all_of_them or not maildrop.numbers:
        return {uid: Settled(gone=True) for uid in missing}
    heads = session.heads().read(list(maildrop.numbers.values())[:SEARCHED])
    there = {head.headers.fingerprint for head in heads.values() if isinstance(head, Head)}
    return {
        uid: _renumbered() if mail.identity.fingerprint in there else Settled(gone=True)
        for uid, mail in missing.items()
    }


def _delete(session: Session, mails: Mapping[str, Known]) -> dict[str, Outcome]:
    if not mails:
        return {}
    numbers = session.maildrop().numbers
    connection = session.connection
    verdicts: dict[str, Outcome] = {}
    for uid, answer in zip(mails, list(connection.delete(numbers[uid] for uid in mails)), strict=True):
        verdicts[uid] = _refused(uid, str(answer)) if isinstance(answer, Refused) else Settled()
    marked = [uid for uid, verdict in verdicts.items() if isinstance(verdict, Settled)]
    try:
        connection.quit()
    except Refused as error:
        # Some of them may be deleted and some not (RFC 1939 §6).
        verdicts |= _after_refusal(session, marked, str(error))
        marked = [uid for uid in marked if isinstance(verdicts[uid], Settled)]
    finally:
        session.drop()
    session.deleted({uid: mails[uid].identity.fingerprint for uid in marked})
    return verdicts


def _after_refusal(session: Session, marked: Collection[str], said: str) -> dict[str, Outcome]:
    left = session.fresh().numbers
    return {uid: _refused(uid, said) if uid in left else Settled() for uid in marked}


def _impossible() -> Trouble:
    return Trouble(
        error="AbilityMissing",
        message="POP3 can neither mark nor move mails; it was kept",
        remedy="do without this aftercare, or read this mailbox through imap",
        transient=False,
    )


def _renumbered() -> Trouble:
    return Trouble(
        error="FolderRenumbered",
        message="the server has given its mails other ids (UIDL): nothing was done under the old one",
        remedy="delete it by hand, if the next sweep does not recognise it",
        transient=False,
    )


def _another(uid: str) -> Trouble:
    return Trouble(
        error="AnotherMail",
        message=f"under the id {uid} is another mail than the one that was stored; it was kept",
        remedy="nothing to do, unless this happens often: then the server gives its ids (UIDL) more than once",
        transient=False,
    )


def _shared(uid: str) -> Trouble:
    return Trouble(
        error="SharedId",
        message=f"several mails have the id {uid.partition(' ')[0]} (UIDL), and nobody can tell for sure which is "
        "which; they were kept",
        remedy="delete them by hand, or read this mailbox through imap, whose numbers are unique",
        transient=False,
    )


def _unknown(uid: str, said: str) -> Trouble:
    return Trouble(
        error="MailNotRead",
        message=f"the server does not say what is under the id {uid}, so it was left alone: {for_people(said)}",
        remedy="it will be tried again",
    )


def _refused(uid: str, said: str) -> Trouble:
    return Trouble(
        error="ServerRefused",
        message=f"the server does not delete the mail with the id {uid}: {for_people(said)}",
        remedy="it will be tried again; if it stays so, see whether the account may delete through POP",
        transient=busy(said) != "" or "read-only" not in said.lower(),
    )
