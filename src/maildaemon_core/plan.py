"""What of a mail is to be stored, where, and under which name; and what may be done to it on its server afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

import attrs

from maildaemon_core.compression import Gzipped
from maildaemon_core.errors import Trouble
from maildaemon_core.filters import Unwanted, attachment_verdict, sender_verdict
from maildaemon_core.message import BytesContent, Content, Envelope, MailboxId, Message, MessageRef
from maildaemon_core.naming import ATTACHMENT_NAMES, MAIL_NAMES, Template, Values, candidates, render, split_extension
from maildaemon_core.options import KEEP, Aftercare, DestinationOptions, MailboxOptions, milder
from maildaemon_core.progress import Artifact, Entry, Role
from maildaemon_core.rewishing import claims, numbered
from maildaemon_core.sidecar import sidecar

DONE = ".done"
"""Ends the name of the empty file that announces another."""

_PACKED, _SIDECAR = ".gz", ".json"
_NO_MARKER = "_"
"""Ends the name of a file that would be taken for the announcement of another."""


@attrs.frozen(kw_only=True)
class Wish:
    """One file to be: the artifact as far as it is known, its content, and whether its path may give way to another.

    ``settled``: the path was recorded in an earlier attempt, and nothing new of the same mail may have it.
    """

    artifact: Artifact
    content: Content
    may_yield: bool = True
    settled: bool = False


@attrs.frozen(kw_only=True)
class Store:
    """Store these; ``done`` are artifacts that were published in an earlier attempt, ``care`` is what follows."""

    wishes: tuple[Wish, ...]
    done: tuple[Artifact, ...] = ()
    care: Aftercare = KEEP


@attrs.frozen(kw_only=True)
class Nothing:
    """Store nothing, because of ``reason``; ``care`` is what follows."""

    reason: str
    care: Aftercare = KEEP


def key_of(mailbox: MailboxId, ref: MessageRef) -> str:
    """12 hex digits that tell the mails of all mailboxes apart.

    Over the reference the mail was first seen under, not over its content: Exchange may render other bytes on each
    fetch, and two mails of equal bytes are two mails.
    """
    text = "\0".join((mailbox, ref.folder, ref.uidvalidity, ref.uid))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def envelope_refusal(envelope: Envelope, options: MailboxOptions) -> str | None:
    """Why a mail is not wanted, as far as its headers tell; None if it is."""
    if not envelope.headers.sender and _headerless(envelope):
        return None  # the server gave no headers: the mail itself will tell
    return _refusal(envelope.headers.sender, options)


def too_large(size: int | None, options: MailboxOptions) -> Trouble | None:
    """The trouble with a mail of this many bytes, None if it is small enough."""
    if size is None or options.max_message_bytes is None or size <= options.max_message_bytes:
        return None
    return Trouble(
        error="MessageTooLarge",
        message=f"the mail has {size} bytes, maxMessageBytes allows {options.max_message_bytes}",
        remedy="raise maxMessageBytes and have the mail tried again; until then it stays on the server",
        transient=False,
    )


def plan_message(entry: Entry, message: Message, options: MailboxOptions, places: Mapping[str, str]) -> Store | Nothing:
    """What to store of a mail.

    Where files are announced, names have room for what is appended to them, and none looks like an announcement.
    ``places`` tells for each destination's name where that is.  What an earlier attempt recorded keeps its name (law
    5), and what it has published already is not written again.  The same arguments always give the same plan.
    """
    # The envelope's word counts where it has one: a verdict on headers does not change with the body.
    if reason := _refusal(entry.sender or message.headers.sender, options):
        return Nothing(reason=reason, care=_no_match_care(message, options))
    wishes = [*_mails(entry, message, options, places), *_attachments(entry, message, options, places)]
    if not wishes:
        return Nothing(reason=_nothing_reason(message, options), care=_no_match_care(message, options))
    whole = any(wish.artifact.role is Role.MAIL for wish in wishes)
    return Store(
        wishes=_open_wishes(wishes, entry.artifacts),
        done=tuple(artifact for artifact in entry.artifacts if artifact.receipt),
        care=options.aftercare if message.complete or whole else KEEP,
    )


def _open_wishes(wishes: Sequence[Wish], earlier: Sequence[Artifact]) -> tuple[Wish, ...]:
    """The wishes that are not fulfilled, those that were planned before under their names and numbers of then."""
    wanted = [wish.artifact for wish in wishes]
    claimed = claims(wanted, earlier)
    still_open = []
    for position, (wish, number) in enumerate(zip(wishes, numbered(wanted, claimed, earlier), strict=True)):
        known = claimed.get(position)
        if known is None:
            still_open.append(attrs.evolve(wish, artifact=attrs.evolve(wish.artifact, index=number)))
        elif not known.receipt:
            artifact = attrs.evolve(wish.artifact, index=number, path=known.path)
            still_open.append(attrs.evolve(wish, artifact=artifact, settled=True))
    return tuple(still_open)


def care_now(entry: Entry, options: MailboxOptions) -> Aftercare:
    """What may be done to a stored mail today: the milder of what was decided then and what the options say now (law
    6)."""
    return milder(entry.care, options.aftercare)


def no_match_care_now(entry: Entry, options: MailboxOptions) -> Aftercare:
    """The same for a skipped mail."""
    return milder(entry.care, options.no_match_care)


def choose_path(artifact: Artifact, key: str, taken: Collection[tuple[str, str]], *, marked: bool = False) -> Artifact:
    """The artifact under the first of its possible names that is free (law 3); ``marked``: one is to be announced."""
    names = candidates(artifact.path, key, spare=_spare(marked))
    path = next(path for path in names if (artifact.place, path) not in taken)
    return artifact if path == artifact.path else attrs.evolve(artifact, path=path)


@lru_cache(maxsize=256)
def _template(text: str, allowed: frozenset[str]) -> Template:
    return Template.parse(text, allowed)


def _refusal(sender: str, options: MailboxOptions) -> str | None:
    verdict = sender_verdict(sender, options.allowed_email_extensions)
    return verdict.reason if isinstance(verdict, Unwanted) else None


def _headerless(envelope: Envelope) -> bool:
    headers = envelope.headers
    return not (headers.message_id or headers.date or headers.from_ or headers.to or headers.subject)


def _no_match_care(message: Message, options: MailboxOptions) -> Aftercare:
    # A mail that was not read to its end may hold what is wanted: it stays where it is.
    return options.no_match_care if message.complete else KEEP


def _nothing_reason(message: Message, options: MailboxOptions) -> str:
    if not options.exports:
        return "neither archiving nor export has a destination for it"
    reason = "no attachment is allowed" if message.attachments else "no attachments"
    if not message.complete:
        reason += "; the mail could not be read to its end: " + "; ".join(message.defects[:3])
    return reason


def _values(entry: Entry, options: MailboxOptions) -> Values:
    return Values(
        mailbox=options.label,
        folder=entry.ref.folder,
        received=entry.received,
        sender=entry.sender,
        subject=entry.subject,
        message_id=entry.message_id,
        key=entry.key,
    )


def _wish(
    destination: DestinationOptions,
    places: Mapping[str, str],
    content: Content,
    role: Role,
    path: str,
    *,
    index: int = 0,
    name: str | None = None,
) -> Wish:
    artifact = Artifact(
        destination=destination.name,
        place=places[destination.name],
        role=role,
        index=index,
        path=_announced(destination, path),
        size=content.size,
        sha256=content.sha256,
        name=name,
    )
    return Wish(artifact=artifact, content=content, may_yield=destination.on_conflict == "suffix")


def _spare(marked: bool) -> int:
    """Bytes to be left free in a name, for what is appended to it."""
    return len(DONE) + len(_NO_MARKER) if marked else 0


def _announced(destination: DestinationOptions, path: str) -> str:
    """The path as it is used there: else a mail could announce a file of another before that is there."""
    return path + _NO_MARKER if destination.done_marker and path.casefold().endswith(DONE) else path


def _mails(entry: Entry, message: Message, options: MailboxOptions, places: Mapping[str, str]) -> Sequence[Wish]:
    archiving = options.archiving
    if archiving is None:
        return ()
    packed = archiving.compression == "gzip"
    # The sidecar's ending is the longer one and may replace none: with room for it there is room for both.
    spare = len(_SIDECAR) if archiving.metadata else len(_PACKED) if packed else 0
    spare += _spare(any(destination.done_marker for destination in options.destinations_for_mail()))
    path = render(_template(archiving.path_template, MAIL_NAMES), _values(entry, options), spare=spare)
    content = message.content
    if packed:
        content = Gzipped(content)
        path = path if path.endswith(_PACKED) else f"{path}{_PACKED}"
    wishes = []
    beside = BytesContent(sidecar(entry, message, options)) if archiving.metadata else None
    for destination in options.destinations_for_mail():
        wishes.append(_wish(destination, places, content, Role.MAIL, path))
        if beside is not None:
            stem, _ = split_extension(path)
            wishes.append(_wish(destination, places, beside, Role.METADATA, f"{stem}{_SIDECAR}"))
    return wishes


def _attachments(entry: Entry, message: Message, options: MailboxOptions, places: Mapping[str, str]) -> Sequence[Wish]:
    values = _values(entry, options)
    allowed = [
        attachment
        for attachment in message.attachments
        if not isinstance(
            attachment_verdict(attachment.name, attachment.content_type, options.allowed_attachments), Unwanted
        )
    ]
    wishes = []
    for destination in options.destinations_for_attachments():
        template = _template(destination.path_template, ATTACHMENT_NAMES)
        for attachment in allowed:
            path = render(
                template,
                attrs.evolve(
                    values,
                    filename=attachment.name,
                    index=attachment.index,
                    content_type=attachment.content_type,
                ),
                spare=_spare(destination.done_marker),
            )
            wishes.append(
                _wish(
                    destination,
                    places,
                    attachment.content,
                    Role.ATTACHMENT,
                    path,
                    index=attachment.index,
                    name=attachment.name,
                )
            )
    return wishes
