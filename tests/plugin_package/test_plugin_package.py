"""A third party's distribution, installed for real: found by its entry points, and no worse off than our own."""

from __future__ import annotations

import importlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.engine.plugins import installed_destinations, installed_sources
from maildaemon_core.errors import BrokenPlugin, InvalidOptions, UnknownKind
from maildaemon_core.message import MailboxId
from maildaemon_core.options import DestinationOptions, MailArchiving, MailboxOptions
from maildaemon_core.ports import Destination, Level
from maildaemon_core.testing.destination_conformance import Consumer, DestinationConformance
from maildaemon_core.testing.mails import simple_mail
from maildaemon_core.testing.memory_store import MemoryStore

DISTRIBUTION = Path(__file__).parent / "distribution"
BOX = MailboxId("00000000-0000-0000-0000-0000000000bb")
NO_CACHE = {"PYTHONDONTWRITEBYTECODE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of packages that holds the distribution, on the path of this process."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "--no-compile", "--target", str(target), str(DISTRIBUTION)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **NO_CACHE},
    )
    assert done.returncode == 0, done.stderr
    sys.path.insert(0, str(target))
    importlib.invalidate_caches()
    yield target
    sys.path.remove(str(target))
    for name in [name for name in sys.modules if name.partition(".")[0] == "pigeonpost"]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def options(tmp_path: Path) -> MailboxOptions:
    return MailboxOptions(
        type="pigeonhole",
        mailbox="in@our.example",
        path=str(tmp_path / "hole.db"),
        delete_mails_on_server=True,
        mail_archiving=MailArchiving(active=True, path_template="{subject}.eml"),
        destinations=(DestinationOptions(type="shoebox", name="box", url=str(tmp_path / "box.db")),),
    )


@pytest.fixture
def hole(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "hole.db", isolation_level=None)) as database:
        database.execute("CREATE TABLE mails (id INTEGER PRIMARY KEY AUTOINCREMENT, received REAL, raw BLOB)")
        yield database


def letters(tmp_path: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(tmp_path / "box.db")) as database:
        return dict(database.execute("SELECT path, data FROM letters").fetchall())


@pytest.mark.usefixtures("site")
def test_its_kinds_are_found_beside_ours() -> None:
    assert {"pigeonhole", "molting"} <= set(installed_sources().names())
    assert "shoebox" in installed_destinations().names()
    told = {plugin.name: plugin for plugin in installed_destinations().plugins()}
    assert told["shoebox"].distribution == "maildaemon-pigeonpost"
    assert told["shoebox"].fault is None


@pytest.mark.usefixtures("site")
def test_mail_goes_from_its_source_to_its_destination(
    options: MailboxOptions, hole: sqlite3.Connection, tmp_path: Path
) -> None:
    raws = [simple_mail(subject=f"letter {number}") for number in range(3)]
    hole.executemany("INSERT INTO mails (received, raw) VALUES (0, ?)", [(raw,) for raw in raws])
    with MailDaemon(MemoryStore()) as daemon:
        daemon.adopt(BOX, options)
        assert not [each for each in daemon.validate(BOX, options) if each.level is Level.FAULT]
        assert daemon.sweep_once(BOX).counts.stored == 3
        assert daemon.sweep_once(BOX).counts.seen == 0
    assert letters(tmp_path) == {f"letter {number}.eml": raw for number, raw in enumerate(raws)}
    assert hole.execute("SELECT count(*) FROM mails").fetchone() == (0,)


@pytest.mark.usefixtures("site")
def test_a_broken_one_is_told_apart_and_harms_nobody_else(options: MailboxOptions, hole: sqlite3.Connection) -> None:
    sources = installed_sources()
    with pytest.raises(BrokenPlugin) as caught:
        sources.kind("molting")
    assert "pigeonpost.molting:KIND" in caught.value.message
    assert "pigeonpost_feathers" in caught.value.message
    told = {plugin.name: plugin for plugin in sources.plugins()}
    assert told["molting"].fault
    assert told["molting"].distribution == "maildaemon-pigeonpost"
    assert told["pigeonhole"].fault is None
    with MailDaemon(MemoryStore()) as daemon:
        daemon.adopt(BOX, options)
        assert daemon.sweep_once(BOX).well


@pytest.mark.usefixtures("site")
def test_an_unknown_name_answers_with_what_is_installed() -> None:
    with pytest.raises(UnknownKind) as caught:
        installed_sources().kind("pigeon")
    assert "molting, pigeonhole" in caught.value.message
    assert caught.value.remedy == "did you mean 'pigeonhole'?"


@pytest.mark.usefixtures("site")
def test_its_settings_are_a_closed_set_like_ours(options: MailboxOptions) -> None:
    wrong = attrs.evolve(options, options={"table": "Robert'); DROP TABLE", "tabel": "x"})
    with MailDaemon(MemoryStore()) as daemon, pytest.raises(InvalidOptions) as caught:
        daemon.adopt(BOX, wrong)
    assert {problem.path for problem in caught.value.problems} >= {"$.options.tabel", "$.options.table"}


@pytest.mark.usefixtures("site")
def test_what_its_source_cannot_do_is_refused(options: MailboxOptions) -> None:
    wrong = attrs.evolve(options, delete_mails_on_server=False, after_store="seen")
    with MailDaemon(MemoryStore()) as daemon, pytest.raises(InvalidOptions, match="pigeonhole cannot mark as seen"):
        daemon.adopt(BOX, wrong)


def test_it_is_found_only_where_it_is_installed() -> None:
    program = "from maildaemon_core.engine import plugins; print('pigeonhole' in plugins.installed_sources().names())"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env={**os.environ, **NO_CACHE}
    )
    assert done.stdout == "False\n"


class Drawer:
    """Whoever reads the letters."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def files(self) -> Mapping[str, bytes]:
        with closing(sqlite3.connect(self._path)) as database:
            return dict(database.execute("SELECT path, data FROM letters").fetchall())

    def take(self, path: str) -> bytes:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as database:
            (data,) = database.execute("DELETE FROM letters WHERE path = ? RETURNING data", (path,)).fetchone()
            assert isinstance(data, bytes)
            return data


@pytest.mark.usefixtures("site")
class TestShoebox(DestinationConformance):
    """The conformance class is of use to somebody who has nothing but what we ship."""

    bounded_memory = False  # a row of SQLite is written in one piece

    @pytest.fixture
    def destination(self, tmp_path: Path) -> Iterator[Destination]:
        kind = installed_destinations().kind("shoebox")
        options = DestinationOptions(type="shoebox", url=str(tmp_path / "box.db"))
        with closing(kind.open(options, kind.settings())) as destination:
            yield destination

    @pytest.fixture
    def consumer(self, tmp_path: Path) -> Consumer:
        return Drawer(tmp_path / "box.db")
