"""The walls of the house stand: who may import whom, and what names modules have."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.architecture.imports import CORE, OURS, faults, modules

NO_NAMES = {"utils", "util", "helpers", "common", "base", "manager", "misc"}

HEAVY = {
    *("cyclopts", "fsspec", "hypothesis", "imapclient", "litestar", "maildaemon_adapters", "maildaemon_http"),
    *("pymap", "pytest", "rich", "sqlalchemy"),
}
"""What an import of core may not load: it comes when an adapter or a command needs it."""


def test_no_module_imports_what_its_room_forbids() -> None:
    found = [
        fault
        for name, path in modules()
        for fault in faults(name, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py")
    ]
    assert found == []


def test_every_package_is_looked_at() -> None:
    assert {name.partition(".")[0] for name, _ in modules()} == OURS
    assert f"{CORE}.errors" in dict(modules())


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [name for name, _ in modules() if name.split(".")[-1] in NO_NAMES] == []


def test_every_package_of_ours_says_that_it_is_typed() -> None:
    roots = {path.parent for name, path in modules() if name in OURS}
    assert {root.name for root in roots if (root / "py.typed").is_file()} == OURS


def test_importing_core_loads_no_adapter_and_no_library_of_one() -> None:
    show = f"import sys, {CORE}, {CORE}.errors; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert CORE in run.stdout.split()
    assert HEAVY & set(run.stdout.split()) == set()


# ---- the checker bites ----


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("maildaemon_core.plan", "import os"),
        ("maildaemon_core.plan", "import os.path as p"),
        ("maildaemon_core.plan", "from random import Random"),
        ("maildaemon_core.plan", "from urllib.request import urlopen"),
        ("maildaemon_core.plan", "from urllib import request"),
        ("maildaemon_core.plan", "def f():\n    import socket"),
        ("maildaemon_core.plan", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import threading"),
        ("maildaemon_core.plan", "import logging"),
        ("maildaemon_core.plan", "import cattrs"),
        ("maildaemon_core.codec", "import sqlalchemy"),
        ("maildaemon_core.plan", "import attr"),
        ("maildaemon_core.plan", "from maildaemon_core import engine"),
        ("maildaemon_core.plan", "from maildaemon_core.engine.sweep import Sweep"),
        ("maildaemon_core.plan", "from .engine import sweep"),
        ("maildaemon_core.plan", "from . import testing"),
        ("maildaemon_core.plan", "import maildaemon_core"),
        ("maildaemon_core.plan", "from maildaemon_core import MailDaemon"),
        ("maildaemon_core.plan", "import maildaemon_adapters.imap"),
        ("maildaemon_core.plan", "from datetime import datetime\nnow = datetime.now()"),
        ("maildaemon_core.plan", "import datetime as d\nnow = d.datetime.now(d.UTC)"),
        ("maildaemon_core.plan", "data = open('x').read()"),
        ("maildaemon_core.plan", "from uuid import uuid4\nx = uuid4()"),
        ("maildaemon_core.plan", "os = __import__('os')"),
        ("maildaemon_core.engine.sweep", "import sqlalchemy"),
        ("maildaemon_core.engine.sweep", "from maildaemon_adapters.sql import KIND"),
        ("maildaemon_core.engine.sweep", "import importlib\nimportlib.import_module('maildaemon_adapters.imap')"),
        ("maildaemon_core.engine.sweep", "from maildaemon_core.testing.memory import MemoryStore"),
        ("maildaemon_core.engine.sweep", "from maildaemon_http import cli"),
        ("maildaemon_core", "from maildaemon_core.testing import memory"),
        ("maildaemon_core.testing.memory", "import sqlalchemy"),
        ("maildaemon_core.testing.memory", "from maildaemon_adapters.files import FILE"),
        ("maildaemon_adapters.imap.source", "from maildaemon_core.engine.spool import Spool"),
        ("maildaemon_adapters.imap.source", "from maildaemon_core import engine"),
        ("maildaemon_adapters.imap.source", "from maildaemon_core.testing.conformance import SourceConformance"),
        ("maildaemon_adapters.imap.source", "from maildaemon_core import MailDaemon"),
        ("maildaemon_adapters.imap.source", "from maildaemon_adapters.sql import KIND"),
        ("maildaemon_adapters.imap.source", "from maildaemon_adapters import sql"),
        ("maildaemon_adapters.imap.source", "from ..files import FILE"),
        ("maildaemon_adapters.imap.source", "from maildaemon_http import cli"),
        ("maildaemon_adapters.secrets", "from maildaemon_adapters.imap import KIND"),
        ("maildaemon_adapters", "from maildaemon_adapters.imap import KIND"),
        ("maildaemon_http.cli", "from maildaemon_adapters.imap import KIND"),
        ("maildaemon_http.cli", "def f():\n    import maildaemon_adapters"),
        ("maildaemon_http.cli", "from maildaemon_core.testing import memory"),
        ("maildaemon_http.compose", "from maildaemon_core.testing import memory"),
    ],
)
def test_what_the_law_forbids_is_found(module: str, source: str) -> None:
    assert faults(module, source) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("maildaemon_core.plan", "import attrs, re, hashlib\nfrom email.message import EmailMessage"),
        ("maildaemon_core.plan", "from urllib.parse import urlsplit\nfrom uuid import UUID, uuid5\nuuid5(a, b)"),
        ("maildaemon_core.plan", "from maildaemon_core.errors import Trouble\nfrom maildaemon_core import message"),
        ("maildaemon_core.plan", "from datetime import datetime\nx = datetime.fromisoformat(text)\nreader.open()"),
        ("maildaemon_core.codec", "import cattrs\nfrom cattrs.gen import make_dict_structure_fn"),
        (
            "maildaemon_core",
            "from maildaemon_core.engine.daemon import MailDaemon\nfrom maildaemon_core.errors import Trouble",
        ),
        ("maildaemon_core.engine.sweep", "import os, threading, time\nfrom maildaemon_core.ports import Store"),
        ("maildaemon_core.engine.sweep", "from maildaemon_core.engine import plugins\nfrom . import spool"),
        ("maildaemon_core.testing.memory", "import pytest, hypothesis\nfrom maildaemon_core.engine.sweep import sweep"),
        ("maildaemon_core.testing.machine", "from maildaemon_core.testing.memory import MemoryStore"),
        ("maildaemon_adapters.imap.source", "import socket, imapclient\nfrom maildaemon_core.errors import Trouble"),
        ("maildaemon_adapters.imap.source", "from maildaemon_core import errors, ports\nfrom .login import log_in"),
        (
            "maildaemon_adapters.imap.source",
            "from maildaemon_adapters import oauth\nimport maildaemon_adapters.secrets",
        ),
        ("maildaemon_adapters.imap.source", "from maildaemon_adapters.imap.translate import envelope"),
        (
            "maildaemon_http.cli",
            "import rich\nimport maildaemon_core\nfrom maildaemon_core.engine.daemon import MailDaemon",
        ),
        ("maildaemon_http.compose", "from maildaemon_adapters.imap import KIND"),
    ],
)
def test_what_the_law_allows_is_left_alone(module: str, source: str) -> None:
    assert faults(module, source) == []
