"""Which texts and names a test should be tried with: what strangers really send, and what they could send.

Shipped for authors of plug-ins: a destination that takes every name of ``hostile_names()`` has seen the worst.
"""

from __future__ import annotations

from datetime import UTC
from functools import cache
from typing import Any

from hypothesis import strategies as st

from maildaemon_core.naming import ATTACHMENT_NAMES, DIRECTIVES, MAIL_NAMES, MAX_PARTS, MAX_TEMPLATE
from maildaemon_core.options import DestinationOptions, MailArchiving, MailboxOptions, Move, Secret

_TRAPS = (
    "",
    ".",
    "..",
    "...",
    "/",
    "//",
    "\\",
    "-",
    "--",
    "-rf",
    "~",
    "~root",
    ".maildaemon",
    ".htaccess",
    "../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "C:\\autoexec.bat",
    "C:x",
    "\\\\server\\share\\x",
    "file.txt::$DATA",
    "a.txt:evil",
    "a.txt:evil.exe:$DATA",
    "a.pdf:Zone.Identifier",
    "a\uf022evil",
    "a\uf03aevil\uf05cx",
    "\uff0e\uff0e\uff0fetc",
    "\u2024\u2024\u2215etc",
    "CON",
    "con.txt",
    "Con .txt",
    "nul.tar.gz",
    "COM1",
    "LPT\u00b9.pdf",
    "AUX.",
    "PRN ",
    "COM\u00b3",
    "com1 .txt",
    "aux.c.d",
    "CON\u200b.txt",
    "C\u00adON",
    "\u202eNUL",
    "CONOUT$",
    "a\0b.pdf",
    "line\nbreak\r\n.pdf",
    "\x1b[31mred\x1b[0m.txt",
    "\x9b31mred.txt",
    "invoice\u202efdp.exe",
    "\u2066isolate\u2069.pdf",
    "zero\u200bwidth\ufeff.pdf",
    "\u200b",
    "\u3164",
    "\u2028\u2029",
    "lone\ud800surrogate.pdf",
    "\udcff.pdf",
    "<\u0338.pdf",
    "e\u0301te\u0301.pdf",
    "\u0301",
    "a\u0301\u0323" * 200,
    "\u0301" * 400,
    "PRNx" + "\u0301" * 400,
    "\U0001f600" * 100 + ".pdf",
    "ü" * 300 + ".tar.gz",
    "x" * 300,
    "x" * 251 + ".pdf",
    "x." + "y" * 300,
    "." * 300 + "pdf",
    "a" + "." * 300 + ".pdf",
    "a b" * 200 + " .pdf",
    "%s%n%00%2e%2e%2f",
    "%252e%252e%252fetc",
    "..%c0%af..%5c..%2f",
    "=?utf-8?q?=2E=2E=2Fetc=2Fpasswd?=",
    "=?utf-8?b?Li4vLi4vZXRjL3Bhc3N3ZA==?=",
    "=?utf-8?q?=3D=3Futf-8=3Fq=3F=2E=2E=2F=3F=3D?=",
    "utf-8''%2e%2e%2fetc",
    "&#46;&#46;&#47;etc",
    "\\u002e\\u002e\\u002f",
    "{key}",
    "{sender.__class__}",
    "$(reboot)",
    "`reboot`",
    "$HOME",
    "'; DROP TABLE entries; --",
    "*?.pdf",
    "a.pdf ",
    "a.pdf\u00a0",
    "a.pdf\u3000.",
    "a.pdf\u2003 \t",
    "--help",
    "\u2010rf",
    "a\ufffe.pdf",
    "a\uffff\ufdd0\U0001ffff",
    "\u202a\u202b\u202c\u202d\u2067\u2068\u200e\u200f\u061c.pdf",
    "\U000e0041\U000e0042.pdf",
    "\ufff9a\ufffab\ufffb",
    "\u1112\u1161\u11ab" * 90 + ".pdf",
    "\u0e01\u0e33" * 90 + ".pdf",
    "\u0915\u094d\u0937" * 60 + ".xlsx",
    "\u0627\u0644\u0641\u0627\u062a\u0648\u0631\u0629" * 30 + ".pdf",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 30 + ".jpg",
    "\U00020000" * 80 + ".tar.gz",
    "Z" + "\u0335\u0489\u20dd" * 300 + ".pdf",
    "Rechnung Nr. 5",
    "Überweisung März.pdf",
    "請求書.pdf",
    "archive.tar.gz",
    "mail.eml.gz",
    "thumbs.db",
    "desktop.ini",
)

_SPICE = st.sampled_from(
    [
        *"/\\:*?\"<>|.-_ ~$%{}@'`\0\t\n\r\x1b\x7f\x85\xa0",
        "\u200b",
        "\u202e",
        "\u2028",
        "\ufeff",
        "\ud800",
        "\u0301",
        "\uf03a",
        "\uffff",
        "\u3000",
        "ß",
    ]
)


def texts(*, max_size: int = 300) -> st.SearchStrategy[str]:
    """Any text at all, lone surrogates included, with more of what does harm than chance would bring."""
    anything = st.text(st.characters(), max_size=max_size)
    spiced = st.lists(st.one_of(_SPICE, st.characters(), st.sampled_from("abcABC123")), max_size=min(max_size, 60))
    return st.one_of(anything, spiced.map("".join))


def hostile_names() -> st.SearchStrategy[str]:
    """Names of files, folders and people that have broken programs: escapes, reserved, hidden, invisible, endless."""
    traps = st.sampled_from(_TRAPS)
    ending = st.sampled_from(["", ".pdf", ".PDF", ".tar.gz", ".", " ", "/", ".exe"])
    return st.one_of(
        traps, texts(), st.builds("".join, st.tuples(st.one_of(traps, texts(max_size=40)), texts(max_size=40), ending))
    )


def templates(names: frozenset[str] = ATTACHMENT_NAMES) -> st.SearchStrategy[str]:
    """Sources of templates that are all right, using no other than ``names``; most have folders, some are very long."""
    form = st.lists(
        st.sampled_from([*(f"%{letter}" for letter in DIRECTIVES), "%%", "-", "_", " "]), min_size=1, max_size=4
    )
    dated = form.map(lambda pieces: "{received:%Y" + "".join(pieces) + "%d}")
    spread = st.sampled_from(["{received:%Y/%m/%d}", "{received:%G/W%V}"])
    field = st.sampled_from(sorted("{" + name + "}" for name in names))
    literal = st.sampled_from(["a", "CON", "com1", "mail of ", "{{", "}}", "x.", "Büro", "_", "9-"])
    piece = st.one_of(field, field, literal, *([dated, spread] if "received" in names else []))
    part = (
        st.lists(piece, min_size=1, max_size=5).map("".join).map(lambda text: text + "_" if text[-1] in ". " else text)
    )
    path = st.lists(part, min_size=1, max_size=4).map("/".join)
    long = field.map(lambda text: text * (MAX_TEMPLATE // len(text)))
    return st.one_of(path, path, path, long).filter(
        lambda text: len(text) <= MAX_TEMPLATE and text.count("/") < MAX_PARTS - 2
    )


@cache
def any_json(*, max_leaves: int = 20) -> st.SearchStrategy[Any]:
    """Any value at all that a JSON text can hold, lone surrogates and endless integers included."""
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), texts(max_size=20), st.integers(10**30, 10**40)
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(texts(max_size=10), inner)),
        max_leaves=max_leaves,
    )


@cache
def _words() -> st.SearchStrategy[str]:
    return st.text("abcXYZ019-_.ü ", max_size=12).map(lambda text: f"x{text}")


@cache
def secrets() -> st.SearchStrategy[Secret]:
    """Secrets of any characters; each holds a mark, so that a test can look for it wherever it should not be."""
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=10).map(lambda text: Secret(f"s3cr3t{text}"))


@cache
def _settings() -> st.SearchStrategy[dict[str, Any]]:
    leaves = st.one_of(st.none(), st.booleans(), st.integers(-(2**40), 2**40), _words())
    inner = st.recursive(
        leaves,
        lambda one: st.one_of(st.lists(one, max_size=3), st.dictionaries(_words(), one, max_size=3)),
        max_leaves=5,
    )
    secret = st.fixed_dictionaries({}, optional={"apiKey": secrets().map(lambda secret: secret.value)})
    return st.builds(lambda plain, told: {**plain, **told}, st.dictionaries(_words(), inner, max_size=3), secret)


@cache
def destination_options() -> st.SearchStrategy[DestinationOptions]:
    """Complete options of a destination."""
    fields: dict[str, st.SearchStrategy[Any]] = {
        "name": _words(),
        "type": st.sampled_from(["file", "Local", "sftp", "s3", "webdav", "another"]),
        "url": _words().map("/srv/{}".format),
        "username": st.none() | _words(),
        "password": st.none() | secrets(),
        "path_template": templates(),
        "on_conflict": st.sampled_from(["suffix", "fail"]),
        "options": _settings(),
    }
    return st.fixed_dictionaries(fields).map(lambda drawn: DestinationOptions(**drawn))


@cache
def mailbox_options(*, complete: bool = False) -> st.SearchStrategy[MailboxOptions]:
    """Options of a mailbox as a document may hold them; with ``complete`` also active and sound for any kind."""

    def required(value: str) -> st.SearchStrategy[str | None]:
        return st.just(value) if complete else st.sampled_from([None, value])

    wide = st.just(True) if complete else st.booleans()
    move = _words().map(lambda name: Move(move=f"Done/{name}"))
    archiving = st.fixed_dictionaries(
        {
            "active": wide,
            "compression": st.sampled_from(["none", "gzip"]),
            "metadata": st.booleans(),
            "path_template": templates(MAIL_NAMES),
            "destinations": st.none() | st.sets(st.integers(0, 2), min_size=1),
        }
    )
    fields = {
        "active": wide,
        "name": st.none() | _words(),
        "mailbox": required("jane@example.com"),
        "host": required("mail.example.com"),
        "type": st.sampled_from([None, "imap", "IMAP4", "pop3", "graph", "another"]),
        "port": st.integers(0, 65535),
        "tls": st.sampled_from([None, "implicit", "starttls", "none"]),
        "client_id": required("client"),
        "tenant_id": required("tenant"),
        "client_secret": secrets(),
        "username": st.none() | _words(),
        "password": secrets() if complete else st.none() | secrets(),
        "folders": st.lists(st.sampled_from(["INBOX", "In*", "\\Sent", "Büro/2024"]), unique=True).map(tuple),
        "exclude_folders": st.lists(_words(), max_size=2).map(tuple),
        "path": st.none() | _words().map("/mail/{}".format),
        "delete_mails_on_server": st.booleans(),
        "after_store": st.none() | st.just("seen") | move,
        "on_no_match": st.just("keep") | move,
        "mail_archiving": archiving if complete else st.none() | archiving,
        "allowed_email_extensions": st.lists(st.sampled_from(["@firm.de", ".de", "jane@firm.de"])).map(tuple),
        "export_attachments": st.booleans(),
        "allowed_attachments": st.lists(st.sampled_from(["pdf", "invoice-*.pdf", "image/*"])).map(tuple),
        "attached_mails": st.sampled_from(["keep", "open", "both"]),
        "inline_pictures": st.booleans(),
        "destinations": st.lists(
            destination_options(), min_size=int(complete), max_size=3, unique_by=lambda destination: destination.name
        ).map(tuple),
        "since": st.none() | st.just("now") | st.datetimes(timezones=st.just(UTC)),
        "max_message_bytes": st.none() | st.integers(1, 2**63 - 1),
        "poll_interval_seconds": st.integers(5, 86400),
        "idle": st.booleans(),
        "options": _settings(),
    }
    return st.fixed_dictionaries(fields).map(_consistent)


def _consistent(fields: dict[str, Any]) -> MailboxOptions:
    """Options of these fields, without what contradicts itself or could only destroy mail."""
    destinations, archiving = fields["destinations"], fields["mail_archiving"]
    if archiving is not None:
        chosen = archiving["destinations"]
        names = tuple(each.name for at, each in enumerate(destinations) if chosen is None or at in chosen)
        fields["mail_archiving"] = MailArchiving(**{**archiving, "destinations": names if chosen and names else None})
    stores = fields["export_attachments"] or (archiving is not None and archiving["active"])
    if fields["delete_mails_on_server"]:
        fields["delete_mails_on_server"] = stores and bool(destinations) and fields["after_store"] is None
    return MailboxOptions(**fields)
