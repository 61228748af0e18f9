"""Which mails are which after a folder was renumbered: matched one to one by identity, and in doubt not at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import attrs

from maildaemon_core.message import Envelope, MessageRef
from maildaemon_core.options import Action
from maildaemon_core.progress import Entry, Stage

EVIDENCE = 3
"""So many mails must all show another time before the server is believed to have changed them."""

_REMOVING = frozenset({Action.MOVE, Action.DELETE})

_LIKE = {
    Stage.FOUND: "open",
    Stage.WAITING: "open",
    Stage.PLANNED: "planned",
    Stage.STORED: "stored",
    Stage.SETTLED: "stored",
    Stage.UNTIDIED: "stored",
    Stage.VANISHED: "open",
    Stage.SKIPPED: "skipped",
    Stage.SET_ASIDE: "skipped",
    Stage.GIVEN_UP: "given up",
    Stage.UNCONFIRMED: "unconfirmed",
}


@attrs.frozen(kw_only=True)
class Recognition:
    """``same``: entries and where their mails lie now.  ``new``: mails that nothing is known of.

    ``doubtful``: mails that look like several known ones, or the other way round, so that nobody can tell which is
    which; they are processed again.  ``lost``: entries whose mail was not found, or only doubtfully.
    """

    same: tuple[tuple[Entry, MessageRef], ...]
    new: tuple[Envelope, ...]
    doubtful: tuple[Envelope, ...]
    lost: tuple[Entry, ...]


def recognise(listed: Sequence[Envelope], remembered: Iterable[Entry]) -> Recognition:
    """Matches the whole of a renumbered folder with the entries that were remembered of it.

    A strong id decides where both sides have one; else the fingerprint does, together with the time of receipt, which
    tells a mail from a later copy of it.  Servers that renumber keep that time; one that evidently made new ones is
    believed without.  So is a mail that was remembered through another kind of source, for each kind has its own notion
    of that time, and some mails agree to the second where others do not.  Never two mails to one entry: that would take
    a mail for stored that is not.
    """
    entries = list(remembered)
    promised = {envelope.strong_id for envelope in listed} & {entry.identity.strong for entry in entries} - {None}
    looking = [entry for entry in entries if entry.identity.strong not in promised]
    unmatched = [envelope for envelope in listed if envelope.strong_id not in promised]

    kinds = {_way_of_naming(envelope.ref) for envelope in unmatched}
    foreign = [entry for entry in looking if _way_of_naming(entry.ref) not in kinds]
    dated = not _times_were_rewritten(unmatched, [entry for entry in looking if _way_of_naming(entry.ref) in kinds])
    exactly = {_look(envelope) for envelope in unmatched} & {_look(entry) for entry in looking} if dated else set()
    undated = {entry.identity.fingerprint for entry in (foreign if dated else looking)}
    candidates: dict[object, list[Entry]] = defaultdict(list)
    alike: dict[object, list[Envelope]] = defaultdict(list)
    # Copies of one mail may share their strong id (RFC 8474 §4): those of one id are look-alikes, too.
    for entry in (each for each in entries if each.identity.strong in promised):
        candidates[entry.identity.strong].append(entry)
    for envelope in (each for each in listed if each.strong_id in promised):
        alike[envelope.strong_id].append(envelope)
    for entry in looking:
        if _look(entry) in exactly or (dated and _way_of_naming(entry.ref) in kinds):
            candidates[_look(entry)].append(entry)
        else:
            candidates[entry.identity.fingerprint, None].append(entry)
    for envelope in unmatched:
        fingerprint, _ = look = _look(envelope)
        alike[look if look in exactly or fingerprint not in undated else (fingerprint, None)].append(envelope)

    same: list[tuple[Entry, MessageRef]] = []
    new: list[Envelope] = []
    doubtful: list[Envelope] = []
    for told_by, envelopes in alike.items():
        # Two different strong ids are two different mails, however alike they look.
        strong = {one.strong_id for one in envelopes}
        known = [e for e in candidates[told_by] if not e.identity.strong or strong & {None, e.identity.strong}]
        theirs = {entry.identity.strong for entry in known}
        apart = bool(strong - theirs - {None} and theirs - strong - {None})
        if isinstance(told_by, tuple) and told_by[1] is None:
            # Without its time a mail is told by its headers alone: these must be unmistakable, and one that we removed
            # ourselves is not there any more.
            known = [entry for entry in known if not _removed(entry)]
            apart = apart or not all(one.headers.message_id for one in envelopes)
        if not known:
            new += envelopes
        elif not apart and _tellable(known, envelopes):
            same += zip(known, (envelope.ref for envelope in envelopes), strict=False)
            new += envelopes[len(known) :]
        else:
            doubtful += envelopes

    matched = {id(entry) for entry, _ in same}
    lost = tuple(entry for entry in entries if id(entry) not in matched)
    return Recognition(same=tuple(same), new=tuple(new), doubtful=tuple(doubtful), lost=lost)


def _look(mail: Entry | Envelope) -> tuple[str, datetime | None]:
    return mail.identity.fingerprint, mail.received


def _way_of_naming(ref: MessageRef) -> str:
    """How a kind of source numbers its folders: a number (IMAP), a word of its own before a colon, or not at all."""
    return "a number" if ref.uidvalidity.isdecimal() else ref.uidvalidity.partition(":")[0]


def _removed(entry: Entry) -> bool:
    """The mail was moved or deleted on the server by us, or may have been."""
    return entry.stage in {Stage.STORED, Stage.SETTLED, Stage.SET_ASIDE} and entry.care.action in _REMOVING


def _times_were_rewritten(listed: Sequence[Envelope], entries: Sequence[Entry]) -> bool:
    """Whether the server gave every mail a new time of receipt when it renumbered them.

    Believed only where several mails that are unmistakable otherwise all have another time than before: one or two
    might as well be copies that arrived later.
    """
    before: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        before[entry.identity.fingerprint].append(entry)
    after: dict[str, list[Envelope]] = defaultdict(list)
    for envelope in listed:
        after[envelope.headers.fingerprint].append(envelope)
    pairs = [(before[look][0], its[0]) for look, its in after.items() if len(its) == 1 and len(before[look]) == 1]
    return len(pairs) >= EVIDENCE and all(entry.received != envelope.received for entry, envelope in pairs)


def _tellable(entries: Sequence[Entry], envelopes: Sequence[Envelope]) -> bool:
    """Whether any pairing of these look-alikes is as good as the right one.

    One with one is.  Several are if all entries are at the same point, for then it does not matter which is which; but
    one mail too many might be the one that was never seen, and must not pass for one that was stored.
    """
    if len(entries) == len(envelopes) == 1:
        return True
    likes = {_LIKE[entry.stage] for entry in entries}
    return len(likes) == 1 and (len(envelopes) <= len(entries) or likes == {"open"})
