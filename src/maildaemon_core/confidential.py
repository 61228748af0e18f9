"""Which parts of a mailbox's options are secret, where each belongs, and which of those stored may be kept for others.

A *place* says where a secret belongs: ``password``, ``options/NAME``, ``destinations/NAME/password``.

A stored secret is kept only for the server that it was entered for.  Whoever may edit a mailbox may not see its
password; could they change the host and keep the password, the next sweep would send it to a host of theirs.  So each
secret stands for some *facts*, and is asked for anew when one of them changes:

- of the mailbox: kind, host, port and TLS as they take effect, tenant, path (which may be a URL), and the kind's own
  options.  Without a host the domain of the address and of the user name counts, since that is where a server would be
  looked up.
- of a destination: its name, kind, url, and its options.

Of options every text and every switch counts, for nobody knows here which of them leads elsewhere or weakens TLS
(``endpointUrl``, ``region``, ``sslmode``, ``followRedirects``); of the numbers only those that sound like it.  What
stands in an object that is secret as a whole (``credentials``) is entered together: with a new ``tokenUrl`` in it the
key beside that is asked for anew.

User names and ``clientId`` are no facts: with another one the secret still goes to the server that knows it anyway.
But what an app logs in with opens every mailbox that the app may open, of a whole tenant often: with another name to
log in as it is asked for anew, or whoever may edit one mailbox could read all of them.

The same facts are part of what a secret is sealed *about*: one who can write the database, and has no master key,
cannot have a password sent elsewhere by editing the document, nor by moving its sealed text to another place.
References (``env:NAME``, ``file:PATH``) are no secrets; what they may lead to has limits where they are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from maildaemon_core import codec, wire
from maildaemon_core.errors import InvalidOptions, Problem
from maildaemon_core.options import MASK, DestinationOptions, MailboxOptions, Secret
from maildaemon_core.secret_places import (
    Path,
    changed_at,
    destination_of,
    differences,
    escaped,
    hidden_texts,
    located,
    place_of,
    with_the_absent,
    written,
)

STAND_IN: Final = Secret("stand-in")
"""Takes the place of a secret where only the rest of the options matters.  It is never stored and never used."""

_OWN_PORTS: Final = {
    ("imap", "implicit"): 993,
    ("imap", "starttls"): 143,
    ("imap", "none"): 143,
    ("pop3", "implicit"): 995,
    ("pop3", "starttls"): 110,
    ("pop3", "none"): 110,
    ("exchange", "implicit"): 443,
    ("graph", "implicit"): 443,
}
"""RFC 8314 §7, RFC 9051 §2.1, RFC 1939 §3, RFC 9110 §4.2.2."""

_LEADS_ELSEWHERE = re.compile(
    "endpoint|host|server|url|uri|proxy|gateway|authority|address|account|tenant|domain|insecure|verif|trust|cert"
    "|fingerprint"
)
_LEADS_ELSEWHERE_TOO = frozenset({"ca", "cafile", "port", "ssl", "tls", "usessl", "usetls"})
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")

_OF_MAILBOX = ("type", "host", "port", "tls", "useSsl", "tenantId", "path", "mailbox", "username", "options")
_OF_DESTINATION = ("name", "type", "url", "options")
"""The properties that the facts are made of."""

_OF_AN_APP: Final = frozenset({"clientSecret", "clientCertificate"})
"""What opens not one mailbox but each that the app may open: kept for the one that it was entered for."""


@attrs.frozen(kw_only=True)
class Apart:
    """Options taken apart: ``document`` is their JSON form with every secret masked, ``secrets`` are these by place."""

    document: Mapping[str, Any]
    secrets: Mapping[str, Secret]


@attrs.frozen(kw_only=True)
class Carried:
    """What was decided about the masks of a document.

    ``document``: the one that was wanted, with a mask at each place in ``kept``, where what is stored belongs, and with
    no other mask.  ``problems``: what must be entered (again); with any of these nothing may be stored.
    """

    document: object = attrs.field(repr=False)  # what was entered anew stands in it
    kept: frozenset[str]
    problems: tuple[Problem, ...]


def take_apart(options: MailboxOptions) -> Apart:
    """The masked document of the options, and their secrets.

    ``put_together(take_apart(options)) == options``.  Raises ``InvalidOptions`` if two destinations have the same name,
    or a secret is the mask itself: neither could be told apart afterwards.
    """
    document, revealed = codec.write(options), codec.write(options, secrets="reveal")
    secrets: dict[str, Secret] = {}
    for path, text in differences(document, revealed, ()):
        place = place_of(revealed, path)
        if place in secrets:
            raise InvalidOptions([Problem(path=written(path[:2]), message="has the name of an earlier destination")])
        secrets[place] = Secret(text)
    for path, text in hidden_texts(revealed):
        if text == MASK:
            raise InvalidOptions([Problem(path=written(path), message="is the mask, not a secret")])
    return Apart(document=document, secrets=secrets)


def put_together(apart: Apart) -> MailboxOptions:
    """The options again.  A secret belongs only where the document shows the mask.

    Raises ``InvalidOptions`` if the document cannot be read, or shows a mask for which there is no secret.
    """
    return codec.read(MailboxOptions, filled(apart.document, apart.secrets))


def filled(document: object, secrets: Mapping[str, Secret]) -> object:
    """The document with these secrets in the places where it shows the mask; the one given is not touched."""
    for path, text in list(hidden_texts(document)):
        if text == MASK and (secret := secrets.get(place_of(document, path))) is not None:
            document = changed_at(document, path, secret.value)
    return document


def without_secrets(document: object) -> MailboxOptions:
    """What a document that is stored says apart from its secrets, for which ``STAND_IN`` stands.

    Raises ``InvalidOptions``, also if it is not as ``take_apart`` makes them: somebody who writes the database and has
    no master key could put an address where it is masked, or the name of one destination upon another.
    """
    seen: set[str] = set()
    for path, text in hidden_texts(document):
        place = place_of(document, path)
        if text not in {MASK, ""}:
            raise InvalidOptions([Problem(path=written(path), message="is not masked, as all is that is stored here")])
        if text and place in seen:
            raise InvalidOptions([Problem(path=written(path[:2]), message="has the name of an earlier destination")])
        seen.add(place)
    return codec.read(MailboxOptions, _standing_in(document))


def missing(document: object, secrets: Collection[str]) -> Sequence[str]:
    """The places where the document shows the mask of a secret that is not among these."""
    shown = (place_of(document, path) for path, text in hidden_texts(document) if text == MASK)
    return [place for place in shown if place not in secrets]


def about(mailbox: str, place: str, options: MailboxOptions) -> str:
    """What a secret is sealed about: whose it is, where it belongs, and the facts that it was entered for.

    Secrets that were sealed open as long as this gives the same text: it may change only together with a migration.
    """
    text = json.dumps(["1", mailbox, place, _facts(place, options)], sort_keys=True, separators=(",", ":"))
    return text.replace("\\u0000", "\\ufffd")  # which is what a store makes of NUL


def where(document: object, place: str) -> str:
    """Where a place is in this document, as problems write it (``$.destinations[0].password``)."""
    path = located(document, place)
    return "$" if path is None else written(path)


def secrets_of(options: MailboxOptions) -> Sequence[tuple[str, Secret]]:
    """Every secret of the options with its place."""
    document = codec.write(options, secrets="reveal")
    return [(place_of(document, path), Secret(text)) for path, text in hidden_texts(document)]


def is_reference(secret: Secret) -> bool:
    """Whether it only names a secret: ``env:NAME`` or ``file:PATH``."""
    return secret.value.startswith(("env:", "file:"))


def carry(
    wanted: object, stored: Mapping[str, Any] | None, places: Collection[str], *, absence_keeps: bool = False
) -> Carried:
    """Decides which of the stored secrets are kept for the document that is ``wanted``.

    ``stored`` is the masked document that there is (None: nothing is stored), ``places`` are where it has secrets.
    The mask keeps what is stored there, if the facts that it stands for are the same.  With ``absence_keeps``, for a
    merge patch that was applied to ``stored``, so does the absence of a destination's secret (arrays are replaced as a
    whole), but not null, which drops it.  Everything else that is a mask is a problem.
    """
    before = _what_is_stored(stored)
    known: Collection[str] = places if before is not None else ()
    document = with_the_absent(wanted, stored, known) if absence_keeps else wanted
    now, faults = codec.read_what_can_be(MailboxOptions, _standing_in(document))
    kept: set[str] = set()
    problems: list[Problem] = []
    for path, text in list(hidden_texts(document)):
        if text != MASK:
            continue
        place = place_of(document, path)
        if place not in known:
            message = "this is the mask, and no secret is stored for it: enter the secret itself"
        elif changed := _changed(place, path, before, now, faults):
            message = (
                f"enter it again, or null to drop it: {' and '.join(changed)} changed, and it was not meant for that"
            )
        else:
            kept.add(place)
            continue
        problems.append(Problem(path=written(path), message=message))
        document = changed_at(document, path, STAND_IN.value)  # so that nothing more is said of it
    return Carried(document=document, kept=frozenset(kept), problems=tuple(problems))


def _what_is_stored(document: Mapping[str, Any] | None) -> MailboxOptions | None:
    try:
        return None if document is None else without_secrets(document)
    except InvalidOptions:  # nobody can say what its secrets were entered for
        return None


# -------------------------------------------------------------------------------------------------------------- facts


def _facts(place: str, options: MailboxOptions) -> dict[str, Any]:
    """What the secret at this place was entered for; empty if there is no such destination."""
    name = destination_of(place)
    if name is None:
        return _mailbox_facts(options)
    return next((_destination_facts(each) for each in options.destinations if each.name == name), {})


def _mailbox_facts(options: MailboxOptions) -> dict[str, Any]:
    # Not casefold, to which ß is ss: the two are different hosts (RFC 5894 §7.2).
    host = (options.host or "").lower().rstrip(".")
    return {
        "type": options.kind,
        "host": host or [_domain(options.mailbox), _domain(options.username)],
        "port": options.port or _OWN_PORTS.get((options.kind, options.tls_mode), 0),
        "tls": options.tls_mode,
        "tenantId": (options.tenant_id or "").lower(),
        "path": options.path or "",
        "options": dict(_leading_elsewhere(options.options)),
    }


def _destination_facts(options: DestinationOptions) -> dict[str, Any]:
    return {"type": options.kind, "url": options.url or "", "options": dict(_leading_elsewhere(options.options))}


def _domain(address: str | None) -> str:
    return (address or "").rpartition("@")[2].lower() if "@" in (address or "") else ""


def _leading_elsewhere(
    value: Any, path: str = "", counts: bool = False, hidden: bool = False
) -> Iterator[tuple[str, Any]]:
    """What of a kind's own options may decide where a secret goes and how safely; rather too much than too little.

    Texts that are secret themselves are no facts: what is sealed about them must be known before they are opened.
    """
    if isinstance(value, Mapping):
        for key, one in value.items():
            is_hidden = hidden or wire.sounds_secret(key)
            yield from _leading_elsewhere(one, f"{path}/{escaped(key)}", counts or _sounds_like_a_place(key), is_hidden)
    elif isinstance(value, (list, tuple)):
        for at, one in enumerate(value):
            yield from _leading_elsewhere(one, f"{path}/{at}", counts, hidden)
    elif isinstance(value, bool) or (isinstance(value, str) and not hidden):
        yield path, value
    elif isinstance(value, (int, float)) and counts:
        whole = isinstance(value, float) and value.is_integer()  # a database may write 1.0 as 1
        yield path, int(value) if whole else value


def _leading_secretly(value: Any, path: str = "", key: str = "", together: bool = False) -> Iterator[tuple[str, str]]:
    """The secret texts of a kind's own options that may themselves decide where the others go: those that stand with
    others in what is secret as a whole, connection strings, and addresses."""
    if isinstance(value, Mapping):
        inside = together or wire.sounds_secret(key)
        for name, one in value.items():
            yield from _leading_secretly(one, f"{path}/{escaped(name)}", name, inside)
    elif isinstance(value, (list, tuple)):
        for at, one in enumerate(value):
            yield from _leading_secretly(one, f"{path}/{at}", key, together)
    elif isinstance(value, str) and (together or (wire.sounds_secret(key) and _is_address(key, value))):
        yield path, value


def _is_address(key: str, text: str) -> bool:
    return "://" in text or "connectionstring" in key.casefold().replace("_", "").replace("-", "")


def _sounds_like_a_place(key: str) -> bool:
    words = {word.casefold() for word in _WORD.findall(key)}
    return bool(_LEADS_ELSEWHERE.search(key.casefold()) or words & _LEADS_ELSEWHERE_TOO)


def _changed(
    place: str, path: Path, before: MailboxOptions | None, now: MailboxOptions | None, faults: Sequence[Problem]
) -> Sequence[str]:
    """The names of the facts that are others now; none as long as it cannot be told for faults of the document."""
    if before is None or now is None:
        return ()
    is_destination = destination_of(place) is not None
    at = written(path[:2] if is_destination else ())
    unread = {
        "$",
        "$.destinations",
        at,
        *(f"{at}.{name}" for name in (_OF_DESTINATION if is_destination else _OF_MAILBOX)),
    }
    if any(fault.path in unread or fault.path.startswith(f"{at}.options") for fault in faults):
        return ()
    then, since = _facts(place, before), _facts(place, now)
    changed = [name for name in since if since[name] != then.get(name)]
    if "options" not in changed and _new_secrets_lead(place, before) != _new_secrets_lead(place, now):
        changed.append("options")
    if place in _OF_AN_APP and before.login != now.login:
        changed += [name for name in ("mailbox", "username") if getattr(before, name) != getattr(now, name)]
    return changed


def _new_secrets_lead(place: str, options: MailboxOptions) -> dict[str, str]:
    """What of the secrets beside this place may lead elsewhere; those that are kept are stand-ins by now."""
    name = destination_of(place)
    owners = [options.options] if name is None else [one.options for one in options.destinations if one.name == name]
    return dict(_leading_secretly(owners[0])) if owners else {}


def _standing_in(document: object) -> object:
    for path, text in list(hidden_texts(document)):
        if text == MASK:
            document = changed_at(document, path, STAND_IN.value)
    return document
