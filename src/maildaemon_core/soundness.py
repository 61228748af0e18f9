"""Whether options may be used: what is missing, what contradicts itself, and what could only destroy mail.

Everything that is wrong is said at once, each with its path as it stands in documents, and with what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from maildaemon_core.errors import Problem
from maildaemon_core.filters import attachment_pattern_fault, sender_pattern_fault
from maildaemon_core.naming import ATTACHMENT_NAMES, MAIL_NAMES, Template, TemplateFault
from maildaemon_core.options import Action, DestinationOptions, KindFacts, MailArchiving, MailboxOptions, Move, Secret
from maildaemon_core.own_ports import own_ports

_OPENED_BY_ADDRESS: Final = frozenset({"exchange", "graph"})
_VERBS: Final = {Action.KEEP: "keep", Action.SEEN: "mark as seen", Action.MOVE: "move", Action.DELETE: "delete"}


def problems(options: MailboxOptions, facts: KindFacts | None = None) -> tuple[Problem, ...]:
    """All that keeps ``options`` from being used with a kind of these ``facts``; nothing if they are sound.

    Active options must be complete.  Inactive ones may lack anything, but what is contradictory or could only destroy
    mail is refused in both.
    """
    facts = facts or KindFacts()
    found = [*_contradictions(options), *_dangers(options), *_beyond(options, facts), *_unreadable(options)]
    if options.active:
        found = [*_gaps(options, facts), *found]
    return tuple(Problem(path=path, message=message) for path, message in found)


def warnings(options: MailboxOptions) -> tuple[Problem, ...]:
    """What may be as intended and yet deserves a second look, each with its path."""
    return tuple(Problem(path=path, message=message) for path, message in _doubts(options))


def account_key(options: MailboxOptions) -> tuple[str, str, int, str, str]:
    """What tells one account from another: kind, host, port, login and path, without case where servers ignore it.

    The protocol's own ports, with TLS or without, are all 0.  Where one login may open many mailboxes, it is the
    address that counts.
    """
    port = 0 if options.port in own_ports(options.kind) else options.port
    login = options.address if options.kind in _OPENED_BY_ADDRESS else options.login
    host = (options.host or "").casefold().rstrip(".")
    return options.kind, host, port, (login or "").casefold(), options.path or ""


Found = Iterator[tuple[str, str]]


def _gaps(options: MailboxOptions, facts: KindFacts) -> Found:
    if facts.needs_host and not options.host:
        yield "$.host", "required: the name of the mail server"
    if facts.needs_path and not options.path:
        yield "$.path", f"required for {options.kind}: the folder, file or URL that holds the mail"
    if facts.needs_login:
        yield from _login_gaps(options, facts)
    if not options.destinations:
        yield "$.destinations", 'required: at least one place to store things at, such as {"url": "/srv/mail"}'
    if options.archiving is None and not options.exports:
        yield (
            "$.mailArchiving",
            "nothing would be stored: turn exportAttachments on for attachments, mailArchiving.active for whole mails",
        )
    for at, destination in enumerate(options.destinations):
        if not destination.url:
            yield (
                f"$.destinations[{at}].url",
                "required: where to store things, such as /srv/mail or sftp://host/folder",
            )


def _login_gaps(options: MailboxOptions, facts: KindFacts) -> Found:
    if not options.login:
        yield "$.mailbox", "required: the mail address, or username if the login is another"
    if not options.app_only:
        if not _given(options.password) and not _said(options, facts.instead_of_password):
            yield "$.password", "required, unless clientId, tenantId and clientSecret log in"
        return
    if not options.client_id:
        yield "$.clientId", "required to log in as an app: the application (client) id of its registration"
    if not options.tenant_id and not _said(options, facts.instead_of_tenant):
        yield "$.tenantId", "required to log in as an app: the directory (tenant) id of its registration"
    if not _given(options.client_secret) and not _given(options.client_certificate):
        yield "$.clientSecret", "required to log in as an app: its secret, or clientCertificate"


def _said(options: MailboxOptions, names: tuple[str, ...]) -> bool:
    """Whether one of these settings of the kind is written."""
    return any(options.options.get(name) for name in names)


def _contradictions(options: MailboxOptions) -> Found:
    if options.host and (bare := _bare(options.host)) != options.host:
        yield "$.host", f"must be the bare name of the server, without scheme, port, path or blanks; write {bare}"
    if options.tls is not None and options.use_ssl != (options.tls == "implicit"):
        fitting = "false" if options.use_ssl else "true"
        yield "$.useSsl", f"contradicts tls, which is {options.tls}: leave useSsl out, or set it to {fitting}"
    if _given(options.client_secret) and _given(options.client_certificate):
        yield "$.clientCertificate", "only one of clientSecret and clientCertificate can log in; leave one of them out"
    if options.delete_mails_on_server and options.after_store is not None:
        yield "$.afterStore", "deleteMailsOnServer is on: a mail is either deleted or this is done to it; leave one out"
    for path, care in (("$.afterStore.move", options.after_store), ("$.onNoMatch.move", options.on_no_match)):
        if isinstance(care, Move) and any(_same_folder(care.move, each) for each in options.watched_folders):
            yield path, "this folder is watched itself: mail moved there would come back; move it to another"
    names = [each.name for each in options.destinations]
    for at, name in enumerate(names):
        if name in names[:at]:
            yield f"$.destinations[{at}].name", f"{name!r} is the name of an earlier destination; give each its own"
    for at, name in enumerate((options.mail_archiving or MailArchiving()).destinations or ()):
        if name not in names:
            known = f"known are {', '.join(map(repr, names))}" if names else "there are none"
            yield f"$.mailArchiving.destinations[{at}]", f"no destination is named {name!r}; {known}"
    if options.archiving is not None and options.archiving.destinations == ():
        yield "$.mailArchiving.destinations", "no mail would be archived anywhere: name destinations, or leave it out"


def _dangers(options: MailboxOptions) -> Found:
    if not options.delete_mails_on_server:
        return
    if options.archiving is None and not options.exports:
        yield (
            "$.deleteMailsOnServer",
            "mail would be deleted and nothing of it stored: turn mailArchiving.active or exportAttachments on",
        )
    if not options.destinations:
        yield "$.deleteMailsOnServer", "mail would be deleted and there is no place to store it at: add a destination"


def _beyond(options: MailboxOptions, facts: KindFacts) -> Found:
    """What the kind cannot do."""
    cannot = f"a mailbox of the kind {options.kind} cannot {{}} mail; leave it out"
    after, unmatched = options.aftercare.action, options.no_match_care.action
    if after not in facts.actions:
        path = "$.deleteMailsOnServer" if after is Action.DELETE else "$.afterStore"
        yield path, cannot.format(_VERBS[after])
    if unmatched not in facts.actions:
        yield "$.onNoMatch", cannot.format(_VERBS[unmatched])


def _unreadable(options: MailboxOptions) -> Found:
    """Patterns and templates that mean nothing, or something else than they seem to."""
    for at, pattern in enumerate(options.allowed_email_extensions):
        if fault := sender_pattern_fault(pattern):
            yield f"$.allowedEmailExtensions[{at}]", fault
    for at, pattern in enumerate(options.allowed_attachments):
        if fault := attachment_pattern_fault(pattern):
            yield f"$.allowedAttachments[{at}]", fault
    if options.mail_archiving and (fault := _template_fault(options.mail_archiving.path_template, MAIL_NAMES)):
        yield "$.mailArchiving.pathTemplate", fault
    for at, destination in enumerate(options.destinations):
        if fault := _template_fault(destination.path_template, ATTACHMENT_NAMES):
            yield f"$.destinations[{at}].pathTemplate", fault


def _template_fault(text: str, names: frozenset[str]) -> str | None:
    try:
        Template.parse(text, names)
    except TemplateFault as fault:
        return str(fault)
    return None


def _doubts(options: MailboxOptions) -> Found:
    if options.delete_mails_on_server and options.archiving is None and options.exports:
        yield (
            "$.deleteMailsOnServer",
            "without mailArchiving, texts and refused attachments are deleted with the mail; turn it on to keep them",
        )
    if options.tls_mode == "none":
        yield "$.tls", "everything, passwords too, crosses the network in plain text; use starttls or implicit"
    if options.archiving is None and options.mail_archiving not in {None, MailArchiving()}:
        yield "$.mailArchiving.active", "mailArchiving has settings but is not active: no mail is archived"
    if options.app_only and _given(options.password):
        yield "$.password", "not used: clientId, tenantId and clientSecret log in; leave one of the two out"
    if options.archiving and not _tells_apart(options.archiving.path_template):
        yield (
            "$.mailArchiving.pathTemplate",
            "without {key} many mails want the same path; later ones get -{key} appended",
        )
    for at, destination in enumerate(options.destinations_for_attachments()):
        if not _tells_apart(destination.path_template):
            yield (
                f"$.destinations[{at}].pathTemplate",
                "without {key} many attachments want the same path; later ones "
                + ("fail" if destination.on_conflict == "fail" else "get -{key} appended"),
            )
    for at in _idle_destinations(options):
        yield (
            f"$.destinations[{at}]",
            "nothing goes there: attachments are not exported and mailArchiving does not name it",
        )


def _bare(host: str) -> str:
    """The name within what people take from a browser or a manual: ``imap://mail.example.com/`` is one."""
    named = "".join(host.split()).replace("\\", "/").rpartition("://")[2].strip("/").partition("/")[0]
    named = named.rpartition("@")[2]
    if named.count(":") == 1:  # an IPv6 address has more of them
        named = named.partition(":")[0]
    return named or "imap.example.com"


def _tells_apart(template: str) -> bool:
    return "{key" in template or "{messageId" in template


def _idle_destinations(options: MailboxOptions) -> Iterator[int]:
    used: set[str] = {each.name for each in _used(options)}
    return (at for at, each in enumerate(options.destinations) if each.name not in used)


def _used(options: MailboxOptions) -> tuple[DestinationOptions, ...]:
    return options.destinations_for_mail() + options.destinations_for_attachments()


def _given(secret: Secret | None) -> bool:
    return secret is not None and secret.value != ""


def _same_folder(one: str, other: str) -> bool:
    """INBOX is the same in any case (RFC 9051 §5.1); other names are exact."""
    return one == other or one.casefold() == other.casefold() == "inbox"
