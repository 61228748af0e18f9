"""What a configuration file says: the store, the spool and the mailboxes, with every fault at once and its place.

The file is TOML.  A mailbox is known by its name, and its id is made from that: its host, type and place in the file
may change without anything being delivered twice.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from maildaemon_core import codec
from maildaemon_core.errors import Permanent, Problem
from maildaemon_core.message import MailboxId, mailbox_id
from maildaemon_core.options import MailboxOptions, a_name
from maildaemon_core.retention import FOR_EVER, Retention
from maildaemon_core.rivalry import rivalry
from maildaemon_http.service_table import ServiceTable, located

FILE = "maildaemon.toml"
"""What such a file is usually called."""

STORE = "maildaemon.db"
"""The store of a file that names none, beside the file."""

SPOOL = "maildaemon-spool"
"""The folder for large mails in transit, beside the store; made when the first one comes."""

LARGEST = 16 << 20
"""Bytes of the largest file that is read as a configuration."""

Check = Callable[[MailboxOptions], Sequence[Problem]]
StoreCheck = Callable[[str, Mapping[str, Any]], Sequence[Problem]]


class ConfigurationFault(Permanent):
    """A configuration file that cannot be used: with ``message`` as a whole, or with ``problems`` at places in it."""

    def __init__(self, path: Path, message: str = "", *, remedy: str = "", problems: Sequence[Problem] = ()) -> None:
        number = len(problems)
        said = message or ("one thing is wrong" if number == 1 else f"{number} things are wrong")
        super().__init__(f"{path}: {said}", remedy=remedy)
        self.path = path
        self.problems = tuple(problems)


@attrs.frozen(kw_only=True)
class Mailbox:
    """A mailbox of the file: ``options`` are as written, with their relative paths made absolute."""

    id: MailboxId
    name: str
    options: MailboxOptions


@attrs.frozen(kw_only=True)
class Setup:
    """A configuration file as read: ``store`` is a URL; the folders of ``spool`` and ``service`` need not exist yet.

    ``store_is_given``: the store is not the file's, but one that was named beside it.
    """

    path: Path
    store: str = attrs.field(repr=False)
    store_options: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    store_is_given: bool = False
    spool: Path
    retention: Retention = FOR_EVER
    service: ServiceTable = attrs.field(factory=ServiceTable)
    mailboxes: tuple[Mailbox, ...]

    @property
    def store_file(self) -> Path | None:
        """The file of a store that is one."""
        return sqlite_file(self.store)

    @property
    def store_name(self) -> str:
        """What people know the store by: its file, or its URL without a login."""
        return store_name(self.store)

    def chosen(self, names: Sequence[str]) -> tuple[Mailbox, ...]:
        """The mailboxes of these names, all if none is given.  Raises ``ConfigurationFault`` for an unknown one."""
        known = [mailbox.name for mailbox in self.mailboxes]
        for name in names:
            if name not in known:
                there = f"there are: {', '.join(known)}" if known else "the file has none"
                raise ConfigurationFault(self.path, f"no mailbox is called {name!r}", remedy=there)
        return tuple(mailbox for mailbox in self.mailboxes if not names or mailbox.name in names)


@attrs.frozen(kw_only=True)
class StoreTable:
    """``url``: where is remembered what was done; a relative file is beside the configuration.

    ``options``: settings of that kind of store.
    """

    url: str | None = attrs.field(default=None, validator=attrs.validators.optional(a_name))
    options: dict[str, Any] = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class SpoolTable:
    """``path``: the folder in which large mails are held while they are worked off."""

    path: str | None = attrs.field(default=None, validator=attrs.validators.optional(a_name))


@attrs.frozen(kw_only=True)
class Document:
    """The tables of a configuration file."""

    store: StoreTable = StoreTable()
    spool: SpoolTable = SpoolTable()
    retention: Retention = FOR_EVER
    service: ServiceTable = attrs.field(factory=ServiceTable)
    mailboxes: tuple[MailboxOptions, ...] = ()


def read_setup(
    path: Path,
    check: Check = lambda options: (),
    check_store: StoreCheck = lambda url, options: (),
    *,
    store: str | None = None,
    for_service: bool = False,
) -> Setup:
    """The configuration at ``path``; ``check`` says what else is wrong with the options of a mailbox, ``check_store``
    with those of the store at a URL.

    ``store``: the URL of another store, which goes before that of the file and its options.  ``for_service``: there may
    be no mailboxes.  Raises ``ConfigurationFault`` with everything that is wrong in the whole file.
    """
    document = _parsed(path)
    folder = path.absolute().parent
    listed = document.pop("mailboxes", None)
    if for_service and (listed is None or listed == []):
        listed = ()
    readable, faults_of_tables = codec.read_what_can_be(Document, document)
    tables = readable or Document()
    found: list[Problem] = [*faults_of_tables]
    mailboxes: list[tuple[int, Mailbox]] = []
    written = listed if isinstance(listed, list) else []
    for at, options, faults in _each(listed, found):
        placed = _placed(options, folder)
        mailboxes.append((at, Mailbox(id=mailbox_id(options.label), name=options.label, options=placed)))
        more = check(placed)
        if faults:  # what seems to be missing or contradictory may be what could not be read
            more = [
                problem
                for problem in more
                if codec.has(written[at], problem.path) and not any(_holds(problem.path, one.path) for one in faults)
            ]
        found += (in_mailbox(at, problem) for problem in [*faults, *more])
    found += _namesakes(mailboxes)
    found += _rivals(mailboxes)
    written_store = absolute_store(tables.store.url, folder)
    found += (of_the_store(problem) for problem in check_store(written_store, tables.store.options))
    if found:
        raise ConfigurationFault(path, problems=found)
    chosen = store or written_store
    return Setup(
        path=path,
        store=chosen,
        store_options={} if store else tables.store.options,
        store_is_given=store is not None,
        spool=folder / tables.spool.path if tables.spool.path else _spool_beside(chosen, folder),
        retention=tables.retention,
        service=located(tables.service, folder),
        mailboxes=tuple(mailbox for _, mailbox in mailboxes),
    )


def setup_without_file(folder: Path, store: str | None = None) -> Setup:
    """What a file that says nothing would mean in this folder, for a service that is given none."""
    url = store or absolute_store(None, folder)
    return Setup(
        path=folder / FILE,
        store=url,
        store_is_given=store is not None,
        spool=_spool_beside(url, folder),
        service=located(ServiceTable(), folder),
        mailboxes=(),
    )


def _spool_beside(store: str, folder: Path) -> Path:
    beside = sqlite_file(store)
    return (beside.parent if beside else folder) / SPOOL


def in_mailbox(at: int, problem: Problem) -> Problem:
    """A problem of the options of a mailbox as one of the file that holds them."""
    return attrs.evolve(problem, path=f"$.mailboxes[{at}]{problem.path[1:]}")


def of_the_store(problem: Problem) -> Problem:
    """A problem of a store's URL (``$.store``) or of its options (``$.…``) as one of the file that holds them."""
    at = "$.store.url" if problem.path == "$.store" else f"$.store.options{problem.path[1:]}"
    return attrs.evolve(problem, path=at)


def _holds(path: str, below: str) -> bool:
    return below.startswith((f"{path}.", f"{path}["))


# -------------------------------------------------------------------------------------------------------- the document


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        remedy = f"correct the name, or make one: maildaemon init {path}"
        raise ConfigurationFault(path, "there is no such file", remedy=remedy) from None
    except OSError as error:
        raise ConfigurationFault(path, f"cannot be read: {error.strerror}") from error
    if len(data) > LARGEST:
        raise ConfigurationFault(path, f"is larger than {LARGEST >> 20} MiB and is taken for something else")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place(data, error.start)
        fault = ConfigurationFault(path, f"line {line}, column {column}: not UTF-8, as TOML has to be")
        raise fault from None  # the error holds the whole file, secrets and all
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationFault(path, _syntax(str(error), text), remedy="see https://toml.io/en/v1.0.0") from None
    except RecursionError:
        raise ConfigurationFault(path, "is nested too deep") from None


def _place(data: bytes, at: int) -> tuple[int, int]:
    before = data[:at]
    return before.count(b"\n") + 1, at - (before.rfind(b"\n") + 1) + 1


def _syntax(message: str, text: str) -> str:
    """``Expected '=' (at line 3, column 5)`` with its place first; it never holds a value, which may be a secret."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message, re.DOTALL)
    if found is None:
        return f"is not TOML: {message}"
    lines = text.rstrip("\n").split("\n")
    line, column = found[2] or len(lines), found[3] or len(lines[-1]) + 1
    return f"line {line}, column {column}: {found[1]}"


def _each(listed: object, found: list[Problem]) -> Iterator[tuple[int, MailboxOptions, Sequence[Problem]]]:
    """Each mailbox with its place, as far as it can be read, and what is wrong with single properties of it.

    What concerns more than one mailbox, or one that cannot be read at all, is appended to ``found``.
    """
    if listed == ():
        return
    if listed is None or listed == []:
        found.append(Problem(path="$.mailboxes", message="required: one [[mailboxes]] table for each mailbox"))
        return
    if not isinstance(listed, list):
        found.append(
            Problem(path="$.mailboxes", message="must be an array of tables; write [[mailboxes]], twice bracketed")
        )
        return
    for at, written in enumerate(listed):
        options, faults = codec.read_what_can_be(MailboxOptions, written)
        if options is None:
            found += (in_mailbox(at, problem) for problem in faults)
        else:
            yield at, options, faults


def _namesakes(mailboxes: Sequence[tuple[int, Mailbox]]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for at, mailbox in mailboxes:
        earlier = seen.setdefault(mailbox.name, at)
        if earlier != at:
            yield Problem(
                path=f"$.mailboxes[{at}].name",
                message=f"{mailbox.name!r} is the name of $.mailboxes[{earlier}] already; give each its own `name`",
            )


def _rivals(mailboxes: Sequence[tuple[int, Mailbox]]) -> Iterator[Problem]:
    """One account watched twice is taken only while neither of the two changes anything on the server."""
    for number, (at, mailbox) in enumerate(mailboxes):
        for earlier, other in mailboxes[:number]:
            if rivalry(mailbox.options, other.options) == "harmful":
                yield Problem(
                    path=f"$.mailboxes[{at}]",
                    message=f"the same account and folders as $.mailboxes[{earlier}], {other.name!r}, and one of the "
                    "two deletes or moves mail before the other may have seen it; make one mailbox of them",
                )


# ---------------------------------------------------------------------------------------------------------------- paths


def _placed(options: MailboxOptions, folder: Path) -> MailboxOptions:
    """The options with relative paths made absolute: those of ``file`` destinations, and the mailbox's own."""
    destinations = tuple(
        attrs.evolve(one, url=_absolute(one.url, folder)) if one.kind == "file" else one for one in options.destinations
    )
    return attrs.evolve(options, destinations=destinations, path=_absolute(options.path, folder))


def _absolute(path: str | None, folder: Path) -> str | None:
    # What begins with ~ or looks like a URL is left to the adapter, which says what it makes of it.
    if (
        not path
        or path.isspace()
        or path.startswith("~")
        or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path)
        or "\0" in path
    ):
        return path
    return str(folder / path)


_SQLITE = "sqlite:///"


def store_name(url: str) -> str:
    """What people know a store by: its file, or its URL without a login and without parameters."""
    if (file := sqlite_file(url)) is not None:
        return str(file)
    scheme, _, rest = url.partition("://")
    login, _, place = rest.rpartition("@")  # the last one: a password may hold any character, rightly or not
    return f"{scheme}://{'…' if '?' in login else re.split('[?#]', place)[0]}"


def absolute_store(url: str | None, folder: Path) -> str:
    """The URL of a store with a relative file taken as below ``folder``; None is the file that is meant by default."""
    if url is None:
        return f"{_SQLITE}{folder / STORE}"
    if url.startswith(_SQLITE) and (name := url.removeprefix(_SQLITE)):
        return f"{_SQLITE}{folder / name}"
    return url


def sqlite_file(url: str) -> Path | None:
    """The file of a store that is one."""
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) and len(url) > len(_SQLITE) else None
