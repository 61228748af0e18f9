"""What an operator can ask for: the options of a mailbox and of its destinations, and what follows from them.

The values hold any document of the right shape, complete or not; ``soundness`` decides whether it may be used.  Field
names are the API's in snake_case.  In documents null means absent, for every property.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final, Literal, NoReturn, final

import attrs

MASK: Final = "********"
"""What answers show in place of a secret."""

Tls = Literal["implicit", "starttls", "none"]
"""TLS from the first byte, STARTTLS required (RFC 8314 §3, RFC 2595), or everything in plain text."""

AttachedMails = Literal["keep", "open", "both"]
"""A mail within a mail stays one file (``.eml``), its attachments take its place, or both."""


@final
class Secret:
    """Something that goes in and never comes out: a password, or a reference to one (``env:NAME``, ``file:PATH``).

    Neither ``repr`` nor ``str`` nor a format shows ``value``; it is no attrs class, so that ``attrs.asdict`` of what
    holds it does not either, and it refuses to be pickled.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    @property
    def value(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down; write what it is with codec.write, which masks it")


def a_secret(value: Secret | str | None) -> Secret | None:
    """A converter: a text becomes a ``Secret``, so that no ``repr`` ever shows it.  Raises TypeError for the rest."""
    if value is None or isinstance(value, Secret):
        return value
    if isinstance(value, str):
        return Secret(value)
    raise TypeError(f"a secret is a text or a Secret, not {type(value).__name__}")


class Action(IntEnum):
    """What can be done to a mail on its server, mildest first."""

    KEEP = 0
    SEEN = 1
    MOVE = 2
    DELETE = 3


@attrs.frozen
class Aftercare:
    """What is to happen to a mail on its server; ``folder`` is the target of a move, else None."""

    action: Action
    folder: str | None = None


KEEP: Final = Aftercare(Action.KEEP)
"""Leave the mail as it is."""


def milder(then: Aftercare, now: Aftercare) -> Aftercare:
    """The one that does less to the mail; between two of the same kind, the present one (law 6: options may change)."""
    return then if then.action < now.action else now


@attrs.frozen(kw_only=True)
class KindFacts:
    """What a kind of source needs to be complete, and what it can do to a mail; given by its adapter.

    ``needs_host``: there is no default server.  ``needs_login``: a name with a password, or app credentials.
    ``needs_path``: a folder, file or URL in ``path``.  ``actions``: what it can do on the server.
    ``instead_of_password``, ``instead_of_tenant``: the kind's own settings, as they are written under ``options``, with
    one of which nobody has to enter a password, or ``tenantId``.
    """

    needs_host: bool = True
    needs_login: bool = True
    needs_path: bool = False
    actions: frozenset[Action] = frozenset(Action)
    instead_of_password: tuple[str, ...] = ()
    instead_of_tenant: tuple[str, ...] = ()


def one_line(_instance: object, _attribute: object, value: Any) -> None:
    """A validator: texts, or none, without control characters, which could end a protocol's command: ValueError."""
    if value is None:
        return
    for text in (value,) if type(value) is str else value:
        if not text.isprintable() and any(unicodedata.category(one) in {"Cc", "Zl", "Zp"} for one in text):
            raise ValueError("control characters and line breaks are not allowed here")


def a_name(instance: object, attribute: object, value: Any) -> None:
    """A validator: texts as ``one_line`` has them, none of them empty or only blanks.  Raises ValueError."""
    for text in (value,) if type(value) is str else value:
        if not text or text.isspace():
            raise ValueError("must not be empty")
    one_line(instance, attribute, value)


@attrs.frozen
class Within:
    """A validator: a number from ``low`` to ``high``, both included, or None.  Called, it raises ValueError."""

    low: float
    high: float

    def __call__(self, _instance: object, _attribute: object, value: Any) -> None:
        if value is not None and not self.low <= value <= self.high:
            raise ValueError(f"must be from {self.low} to {self.high}")


_AUTHORITY = re.compile(r"://([^/?#]*)")
_LITERAL_HOST = re.compile(r"(?<=://)((?:[^/?#@\[]*@)?)\[[0-9A-Fa-f:.]+\]")
_TELLING = re.compile(r"[?&#][^=&#]*(?:password|passwd|secret|token|credential|sig|signature)=", re.IGNORECASE)


def without_password(instance: object, attribute: object, value: str | None) -> None:
    """A validator: a URL or path that carries no secret, since these are shown and logged.  Raises ValueError.

    Secrets are looked for where RFC 3986 §3.2.1 has passwords, and in query parameters that are called like one.
    """
    if value is None:
        return
    one_line(instance, attribute, value)
    for authority in _AUTHORITY.findall(value):
        login, _, server = authority.rpartition("@")
        port = server.rpartition("]")[2].partition(":")[2]
        if ":" in login or (port and not port.isdecimal()):
            raise ValueError("holds a password, or a port that is none; write them into password and username")
    if _TELLING.search(value):
        raise ValueError("holds a secret as a parameter; write it into the property password")


def a_place(instance: object, attribute: object, value: str | None) -> None:
    """A validator: as ``without_password``, and no chain of file systems (``zip::…``).  Raises ValueError."""
    if value and "::" in value and "::" in _LITERAL_HOST.sub(r"\1", value, count=1):
        raise ValueError("chained file systems (::) are not taken; name the one that holds the files")
    without_password(instance, attribute, value)


@attrs.frozen(kw_only=True)
class Move:
    """Move the mail to the folder of this name."""

    move: str = attrs.field(validator=a_name)


AfterStore = Literal["seen"] | Move | None
OnNoMatch = Literal["keep"] | Move

SPELLINGS: Final = {
    "imap4": "imap",
    "imap4rev1": "imap",
    "imap4rev2": "imap",
    "imaps": "imap",
    "imap4s": "imap",
    "pop": "pop3",
    "pops": "pop3",
    "pop3s": "pop3",
    "ews": "exchange",
    "exchangeews": "exchange",
    "exchangeserver": "exchange",
    "exchangeonprem": "exchange",
    "exchangeonline": "graph",
    "msgraph": "graph",
    "microsoftgraph": "graph",
    "microsoft365": "graph",
    "office365": "graph",
    "o365": "graph",
    "m365": "graph",
    "local": "file",
    "disk": "file",
    "folder": "file",
    "directory": "file",
    "filesystem": "file",
    "ssh": "sftp",
    "ftps": "ftp",
    "cifs": "smb",
    "samba": "smb",
    "dav": "webdav",
    "webdavs": "webdav",
    "aws": "s3",
    "amazons3": "s3",
    "azureblob": "azure",
    "abfs": "azure",
    "gs": "gcs",
    "googlecloudstorage": "gcs",
}
"""Common spellings of kinds, in lower case without blanks, hyphens and underscores."""


def kind_of(type_: str) -> str:
    """The name of the adapter that ``type_`` means: ``IMAP4`` is ``imap``, ``Office 365`` is ``graph``.

    What no spelling is known for is given back in lower case, without the blanks around it.
    """
    plain = type_.strip().casefold()
    return SPELLINGS.get("".join(character for character in plain if character not in " -_"), plain)


@attrs.frozen(kw_only=True)
class MailArchiving:
    """Storing whole mails.

    ``active``: whether they are stored; ``{}`` therefore means no archiving.
    ``format``: ``eml``, byte for byte what the server gave.
    ``compression``: ``gzip`` stores ``.eml.gz``.
    ``metadata``: a ``.json`` beside each mail, with its headers and what was stored of it.
    ``path_template``: names mail and sidecar.
    ``destinations``: the names of those that get the mail; None: all of them.
    """

    active: bool = False
    format: Literal["eml"] = "eml"
    compression: Literal["none", "gzip"] = "none"
    metadata: bool = False
    path_template: str = attrs.field(default="{received:%Y/%m/%d}/{key}.eml", validator=a_name)
    destinations: tuple[str, ...] | None = None


@attrs.frozen(kw_only=True)
class DestinationOptions:
    """A place where artifacts go.

    ``type``: a destination kind (``file``, ``sftp``, …).
    ``name``: what it is known by, unique in its mailbox; secrets are matched by it.  Absent: the kind, so that two
    without a name are distinct while their kinds are, and no name ever depends on a position.
    ``url``: where, without a password; for ``file`` a folder.  ``username``, ``password``: the login there.
    ``path_template``: names the attachments.
    ``on_conflict``: what to do when the path belongs to something else: ``suffix`` appends ``-{key}``, ``fail`` fails
    the mail.  Nothing is ever overwritten.
    ``verify``: how it is made sure that a file arrived whole before anybody sees it: ``size`` asks for its size,
    ``digest`` reads it back and compares its SHA-256.
    ``done_marker``: an empty file named like each one, with ``.done`` appended, is stored after it, for consumers that
    may only touch what is announced.
    ``options``: the kind's own settings as they were written; the kind's closed class reads them.
    """

    type: str = attrs.field(default="file", validator=a_name)
    name: str = attrs.field(default=attrs.Factory(lambda self: kind_of(self.type), takes_self=True), validator=a_name)
    url: str | None = attrs.field(default=None, validator=a_place)
    username: str | None = attrs.field(default=None, validator=one_line)
    password: Secret | None = attrs.field(default=None, converter=a_secret)
    path_template: str = attrs.field(default="{received:%Y/%m/%d}/{key}-{filename}", validator=a_name)
    on_conflict: Literal["suffix", "fail"] = "suffix"
    verify: Literal["size", "digest"] = "size"
    done_marker: bool = False
    options: dict[str, Any] = attrs.field(factory=dict, repr=False, hash=False)

    @property
    def kind(self) -> str:
        """The adapter's name."""
        return kind_of(self.type)


def _utc(since: datetime | Literal["now"] | None) -> datetime | Literal["now"] | None:
    # A naive one would be taken for the machine's own time zone; it is left as it is, for the validator to refuse.
    return since.astimezone(UTC) if isinstance(since, datetime) and since.utcoffset() is not None else since


def _aware(_instance: object, _attribute: object, value: datetime | str | None) -> None:
    if isinstance(value, datetime) and value.utcoffset() is None:
        raise ValueError("a date-time needs an offset or Z")


@attrs.frozen(kw_only=True)
class MailboxOptions:
    r"""A mailbox configuration.

    ``active``: whether it is swept; an inactive one may be incomplete.
    ``name``: what the mailbox is known by in a configuration file; see ``label``.
    ``mailbox``: the mail address.  ``username``: the login name, by default the address.
    ``host``: the server.  ``type``: the kind of source; absent: ``imap``.  ``port``: 0 is the protocol's own.
    ``use_ssl``: TLS from the first byte, else STARTTLS required; by default what ``tls`` says, without it true.
    ``tls``: the same said exactly; only ``none`` sends anything in plain text.
    ``client_id``, ``tenant_id`` and ``client_secret`` or ``client_certificate``: app-only OAuth; else ``password``.
    ``folders``: names, globs or special uses (``\Sent``); none: INBOX.  ``exclude_folders`` takes away.
    ``path``: for kinds that read files: a folder, file or URL.
    ``delete_mails_on_server``: delete once everything is stored.  ``after_store``: mark as seen or move instead.
    ``on_no_match``: what happens to mail of which nothing is stored; it is never deleted.
    ``mail_archiving``: store whole mails.  ``export_attachments``: store the attachments that are allowed.
    ``allowed_email_extensions``: endings of senders' addresses; ``allowed_attachments``: extensions, globs or types;
    none: all.
    ``attached_mails``: a mail within the mail is one attachment (``keep``), its own attachments take its place
    (``open``), or both.  ``inline_pictures``: pictures that the HTML of a mail shows are attachments too.
    ``destinations``: where to; all of them must confirm before a mail counts as processed.
    ``since``: mail received before it (aware, kept in UTC) is left alone; ``"now"``: before the creation.
    ``max_message_bytes``: larger mail is failed and never tidied; None: no limit.
    ``poll_interval_seconds``: how often to look, at least 5.  ``idle``: be told by the server, where it can.
    ``options``: the kind's own settings as they were written; the kind's closed class reads them.
    """

    active: bool = True
    name: str | None = attrs.field(default=None, validator=one_line)
    mailbox: str | None = attrs.field(default=None, validator=one_line)
    host: str | None = attrs.field(default=None, validator=one_line)
    type: str | None = attrs.field(default=None, validator=one_line)
    port: int = attrs.field(default=0, validator=Within(0, 65535))
    tls: Tls | None = None
    use_ssl: bool = attrs.Factory(lambda self: self.tls in {None, "implicit"}, takes_self=True)
    client_id: str | None = attrs.field(default=None, validator=one_line)
    tenant_id: str | None = attrs.field(default=None, validator=one_line)
    client_secret: Secret | None = attrs.field(default=None, converter=a_secret)
    client_certificate: Secret | None = attrs.field(default=None, converter=a_secret)
    username: str | None = attrs.field(default=None, validator=one_line)
    password: Secret | None = attrs.field(default=None, converter=a_secret)
    folders: tuple[str, ...] = attrs.field(default=(), validator=a_name)
    exclude_folders: tuple[str, ...] = attrs.field(default=(), validator=a_name)
    path: str | None = attrs.field(default=None, validator=without_password)
    delete_mails_on_server: bool = False
    after_store: AfterStore = None
    on_no_match: OnNoMatch = "keep"
    mail_archiving: MailArchiving | None = None
    allowed_email_extensions: tuple[str, ...] = ()
    export_attachments: bool = False
    allowed_attachments: tuple[str, ...] = ()
    attached_mails: AttachedMails = "keep"
    inline_pictures: bool = False
    destinations: tuple[DestinationOptions, ...] = ()
    since: datetime | Literal["now"] | None = attrs.field(default=None, converter=_utc, validator=_aware)
    max_message_bytes: int | None = attrs.field(default=None, validator=Within(1, 2**63 - 1))
    poll_interval_seconds: int = attrs.field(default=60, validator=Within(5, 2**31 - 1))
    idle: bool = True
    options: dict[str, Any] = attrs.field(factory=dict, repr=False, hash=False)

    @property
    def kind(self) -> str:
        """The adapter's name, ``imap`` when no type is given."""
        return kind_of(self.type or "") or "imap"

    @property
    def tls_mode(self) -> Tls:
        """How the connection is protected."""
        return self.tls or ("implicit" if self.use_ssl else "starttls")

    @property
    def address(self) -> str | None:
        """The address, or what comes closest."""
        return self.mailbox or self.username or None

    @property
    def login(self) -> str | None:
        """The name to log in with."""
        return self.username or self.mailbox or None

    @property
    def label(self) -> str:
        """What people know the mailbox by: its name, else its address, else ``username@host``, else where it lies."""
        if self.name or self.mailbox:
            return self.name or self.mailbox or ""
        return "@".join(filter(None, (self.username, self.host))) or self.path or self.kind

    @property
    def app_only(self) -> bool:
        """Whether an app registration logs in (OAuth 2.0 client credentials, RFC 6749 §4.4), not a person."""
        return any((self.client_id, self.tenant_id, _given(self.client_secret), _given(self.client_certificate)))

    @property
    def watched_folders(self) -> tuple[str, ...]:
        """The folders to look into: names, globs and special uses."""
        return self.folders or ("INBOX",)

    @property
    def aftercare(self) -> Aftercare:
        """What happens to a mail once everything of it is stored."""
        if self.delete_mails_on_server:
            return Aftercare(Action.DELETE)
        return Aftercare(Action.SEEN) if self.after_store == "seen" else _moving(self.after_store)

    @property
    def no_match_care(self) -> Aftercare:
        """What happens to a mail of which nothing is stored: kept or moved, never deleted."""
        return _moving(self.on_no_match)

    @property
    def archiving(self) -> MailArchiving | None:
        """How whole mails are stored, None when they are not."""
        return self.mail_archiving if self.mail_archiving and self.mail_archiving.active else None

    @property
    def exports(self) -> bool:
        """Whether attachments are stored."""
        return self.export_attachments

    def destinations_for_mail(self) -> tuple[DestinationOptions, ...]:
        """Where whole mails go; none without archiving."""
        if self.archiving is None:
            return ()
        wanted = self.archiving.destinations
        return tuple(each for each in self.destinations if wanted is None or each.name in wanted)

    def destinations_for_attachments(self) -> tuple[DestinationOptions, ...]:
        """Where attachments go: everywhere, or nowhere without export."""
        return self.destinations if self.exports else ()


def _given(secret: Secret | None) -> bool:
    return secret is not None and secret.value != ""


def _moving(care: Literal["keep", "seen"] | Move | None) -> Aftercare:
    return Aftercare(Action.MOVE, care.move) if isinstance(care, Move) else KEEP
