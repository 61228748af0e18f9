"""Which room a module of ours is in, what it imports directly, and which of these imports the house forbids.

The law (docs/decisions/0001-house.md):

    maildaemon_http ──► maildaemon_core             only compose may import maildaemon_adapters as well
    maildaemon_adapters.<x> ──► pure modules of core; never engine, testing or a sibling
                                                    (shared: mail_servers, oauth, secrets, tcp)
    maildaemon_core.engine ──► pure modules, any of the standard library
    maildaemon_core.<pure> ──► attrs, cattrs (codec alone), the standard library without I/O, time and chance
    maildaemon_core.testing ──► core, pytest, hypothesis; nothing else imports testing

An import for type checkers alone counts, and so does one inside a function, and ``import_module`` of a written name.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import attrs

CORE, ADAPTERS, HTTP = "maildaemon_core", "maildaemon_adapters", "maildaemon_http"
OURS = frozenset({CORE, ADAPTERS, HTTP})
SHARED = frozenset({"mail_servers", "oauth", "secrets", "tcp"})
"""Modules of the adapters that every adapter may use."""

NOT_PURE = frozenset(
    """
    _thread asyncio bz2 concurrent ctypes curses dbm faulthandler fcntl fileinput ftplib gc getpass glob http
    imaplib importlib linecache locale logging lzma mailbox mimetypes mmap multiprocessing nntplib ntpath os pathlib
    pkgutil platform poplib posix posixpath pty queue random readline resource runpy sched secrets select selectors
    shelve shutil signal site smtplib socket socketserver sqlite3 ssl subprocess sys syslog tarfile tempfile termios
    thread threading time tkinter tracemalloc tty urllib.request webbrowser xmlrpc zipfile zoneinfo
    """.split()
)
"""The standard library's ways to files, processes, networks, threads, the clock, chance and the machine's settings."""

NOT_PURE_CALLS = {
    "breakpoint": "asks a person",
    "exec": "runs what it is given",
    "eval": "runs what it is given",
    "input": "asks a person",
    "open": "opens a file",
    "print": "writes to the terminal",
    "__import__": "imports what it is given",
    "date.today": "reads the clock",
    "datetime.now": "reads the clock",
    "datetime.today": "reads the clock",
    "datetime.utcnow": "reads the clock",
    "uuid1": "reads the clock",
    "uuid4": "throws dice",
    "uuid.uuid1": "reads the clock",
    "uuid.uuid4": "throws dice",
}

Room = Literal["pure", "facade", "engine", "testing", "adapter", "shared", "http", "compose"]


@attrs.frozen
class Import:
    """``name`` is the whole dotted name that is asked for, ``package.module.thing`` where a thing is taken from it."""

    line: int
    name: str

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    def within(self, package: str) -> bool:
        return self.name == package or self.name.startswith(f"{package}.")


def room_of(module: str) -> Room:
    """The room of one of our modules by its dotted name."""
    top, *rest = module.split(".")
    first = rest[0] if rest else ""
    match top, first:
        case "maildaemon_core", "":
            return "facade"
        case "maildaemon_core", "engine":
            return "engine"
        case "maildaemon_core", "testing":
            return "testing"
        case "maildaemon_core", _:
            return "pure"
        case "maildaemon_adapters", _:
            return "shared" if not first or first in SHARED else "adapter"
        case "maildaemon_http", "compose":
            return "compose"
        case "maildaemon_http", _:
            return "http"
    raise ValueError(f"{module} is none of ours")


def faults(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What the module imports, or calls, against the law; each as ``module:line: what is wrong``."""
    tree = ast.parse(source)
    found = [
        (wanted.line, f"imports {wanted.name}: {reason}")
        for wanted in imports(module, tree, is_package=is_package)
        if (reason := objection(module, wanted))
    ]
    if room_of(module) == "pure":
        found += [(line, f"calls {name}, which {reason}") for line, name, reason in _impure_calls(tree)]
    return [f"{module}:{line}: {text}" for line, text in sorted(found)]


def imports(module: str, tree: ast.AST, *, is_package: bool = False) -> Iterator[Import]:
    """Every direct import of the module, wherever it stands."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (Import(node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=origin, names=names, level=level):
                base = package[: len(package) - level + 1] if level else []
                start = ".".join([*base, *([origin] if origin else [])])
                yield from (Import(node.lineno, f"{start}.{alias.name}") for alias in names)
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]) if _dotted(func) in {
                "import_module",
                "importlib.import_module",
                "__import__",
            }:
                yield Import(node.lineno, name)


def objection(module: str, wanted: Import) -> str | None:
    """Why this module may not import that, or None if it may."""
    if wanted.top in OURS:
        return _between_ours(module, wanted)
    return _from_outside(module, wanted)


def _between_ours(module: str, wanted: Import) -> str | None:
    room = room_of(module)
    if wanted.within(f"{CORE}.testing") and room != "testing":
        return "testing is for tests; nothing imports it"
    allowed, rule = True, ""
    match room:
        case "pure":
            allowed, rule = _is_pure(wanted), "pure modules import pure modules of core alone"
        case "facade" | "engine" | "testing":
            inner = wanted.top == CORE and (room == "testing" or _is_pure(wanted) or wanted.within(f"{CORE}.engine"))
            allowed, rule = inner, "core imports core alone, and not by its front door"
        case "adapter" | "shared":
            own = ".".join(module.split(".")[:2])
            siblings = wanted.top == ADAPTERS and any(wanted.within(f"{ADAPTERS}.{name}") for name in SHARED)
            mine = room == "adapter" and wanted.within(own)
            allowed, rule = _is_pure(wanted) or siblings or mine, "adapters import pure modules of core and themselves"
        case "http":
            allowed, rule = wanted.top in {CORE, HTTP}, "only maildaemon_http.compose imports adapters"
        case "compose":
            pass
    return None if allowed else rule


def _from_outside(module: str, wanted: Import) -> str | None:
    room = room_of(module)
    if wanted.top in sys.stdlib_module_names:
        forbidden = room == "pure" and any(wanted.within(name) for name in NOT_PURE)
        return "pure modules do no I/O, read no clock and throw no dice" if forbidden else None
    allowed: dict[Room, set[str]] = {
        "pure": {"attrs", "cattrs"} if module == f"{CORE}.codec" else {"attrs"},
        "facade": {"attrs"},
        "engine": {"attrs"},
        "testing": {"attrs", "pytest", "hypothesis"},
    }
    if room in allowed and wanted.top not in allowed[room]:
        return f"a module of that room imports, from outside, {' and '.join(sorted(allowed[room]))} alone"
    return None


def _is_pure(wanted: Import) -> bool:
    """Whether it names a pure module of core, or a thing in one; the front door is not one, for it leads everywhere."""
    parts = wanted.name.split(".")
    return len(parts) > 1 and parts[0] == CORE and room_of(wanted.name) == "pure" and parts[1] in pure_modules()


def pure_modules() -> frozenset[str]:
    """The names of the pure modules that exist."""
    folder = SOURCE / CORE
    found = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    return frozenset(found - {"__init__", "engine", "testing"})


def _impure_calls(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := _dotted(node.func)) is not None:
            short = ".".join(name.split(".")[-2:])
            for known in (name, short):
                if known in NOT_PURE_CALLS:
                    yield node.lineno, known, NOT_PURE_CALLS[known]
                    break


def _dotted(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            before = _dotted(value)
            return None if before is None else f"{before}.{attr}"
    return None


SOURCE = Path(__file__).parents[2] / "src"


def modules() -> Iterator[tuple[str, Path]]:
    """Each module of ours by its dotted name, and its file."""
    for package in sorted(OURS):
        for path in sorted((SOURCE / package).rglob("*.py")):
            parts = path.relative_to(SOURCE).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path
