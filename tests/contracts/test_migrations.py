"""A store of any released version becomes one of this, whole or not at all, and is then like one that is made anew."""

from __future__ import annotations

import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import attrs
import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from maildaemon_adapters.sql import SqlSettings, SqlStore, migrations, schema, sqlite, tables
from maildaemon_core.engine.daemon import open_store
from maildaemon_core.errors import PathsTaken, StoreTooNew, StoreTooOld, StoreUnavailable
from maildaemon_core.monitoring import SweepState
from maildaemon_core.progress import EntryId, Stage
from maildaemon_core.testing.lease_conformance import STATE
from maildaemon_core.testing.memory_store import MemoryStore
from tests.contracts.stores import kept
from tests.contracts.stores.history import HISTORIES, INBOX, LAST_NUMBER, SWEPT, Clock, answers, file, mail
from tests.engine.story import MAILBOX, Story, counted
from tests.engine.story import mail as raw_mail

NEWEST = schema.HEAD
VERSIONS = [step.revision for step in migrations.script_directory().walk_revisions()][::-1]
ON_POSTGRESQL = VERSIONS[1:]
"""0001 knew SQLite only: no store of that version was ever on PostgreSQL."""

every_kept_store = pytest.mark.parametrize(
    ("place", "version"),
    [
        *((kept.SQLITE, version) for version in VERSIONS),
        *(pytest.param(kept.POSTGRESQL, version, marks=pytest.mark.server) for version in ON_POSTGRESQL),
    ],
    indirect=["place"],
)

# ------------------------------------------------------------------------------------------------- the databases


@attrs.frozen
class Place:
    """An empty database.  ``connect`` is a way in that is not the store's."""

    url: str
    load: Callable[[str], None]
    connect: Callable[[], Any]
    structure: Callable[[], dict[str, Any]]

    @property
    def kind(self) -> str:
        return self.url.partition(":")[0]

    def at(self, version: str) -> Place:
        """With the store that is kept of this version; where there is none, with tables of that version."""
        text = kept.file_of(version, self.kind)
        if text.exists():
            self.load(text.read_text(encoding="utf-8"))
        else:
            with self.engine() as engine, engine.begin() as connection:
                migrations.run(connection, version)
        return self

    @contextmanager
    def engine(self) -> Iterator[sa.Engine]:
        if self.kind == kept.SQLITE:
            engine = sqlite.Sqlite(self.url).engine
        else:
            engine = sa.create_engine(self.url.replace("://", "+psycopg://"))
        yield engine
        engine.dispose()

    def rows(self) -> dict[str, list[str]]:
        """Every row of every table."""
        with self.engine() as engine, engine.connect() as connection:
            names = sa.inspect(connection).get_table_names()
            return {name: sorted(map(repr, connection.exec_driver_sql(f'SELECT * FROM "{name}"'))) for name in names}

    def execute(self, *statements: str) -> None:
        with closing(self.connect()) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()


@pytest.fixture
def in_a_file(tmp_path: Path) -> Place:
    path = tmp_path / "maildaemon.db"
    return Place(
        f"sqlite:///{path}",
        lambda text: kept.load_sqlite(text, path),
        lambda: sqlite3.connect(path),
        lambda: _structure_of_sqlite(path),
    )


@pytest.fixture
def on_a_server(postgres_url: str) -> Place:
    return Place(
        postgres_url,
        lambda text: kept.load_postgresql(text, postgres_url),
        lambda: psycopg.connect(postgres_url),
        lambda: _structure_of_postgresql(postgres_url),
    )


@pytest.fixture(params=[kept.SQLITE, pytest.param(kept.POSTGRESQL, marks=pytest.mark.server)])
def place(request: pytest.FixtureRequest) -> Place:
    found = request.getfixturevalue("in_a_file" if request.param == kept.SQLITE else "on_a_server")
    assert isinstance(found, Place)
    return found


@pytest.fixture
def another_place(place: Place, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Of the same kind."""
    if place.kind == kept.SQLITE:
        path = tmp_path / "another.db"
        yield attrs.evolve(place, url=f"sqlite:///{path}", structure=lambda: _structure_of_sqlite(path))
    else:
        server = request.getfixturevalue("postgres")
        url = server.fresh_database()
        yield attrs.evolve(place, url=url, structure=lambda: _structure_of_postgresql(url))
        server.drop_database(url)


def _structure_of_sqlite(path: Path) -> dict[str, Any]:
    """What each table and index is, but for the order of the columns: they are used by name."""
    with closing(sqlite3.connect(path)) as database:
        texts = {name: text for name, text in database.execute("SELECT name, sql FROM sqlite_master") if text}
        lists = {
            name: sorted(row[1:] for row in database.execute(f'PRAGMA index_list("{name}")'))
            for name, text in texts.items()
            if text.startswith("CREATE TABLE")
        }
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    return {"texts": {name: _parts(text) for name, text in texts.items()}, "lists": lists}


def _parts(text: str) -> list[str]:
    before, _, inner = text.partition("(")
    parts = [part.strip() for part in re.split(r",\s*(?![^(]*\))", inner[: inner.rindex(")")])]
    begin = " ".join(before.replace('"', "").split())
    return [begin, *sorted(parts), inner[inner.rindex(")") :]]


def _structure_of_postgresql(url: str) -> dict[str, Any]:
    questions = {
        "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2",
        "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
        "sequences": "SELECT sequencename, data_type::text, increment_by FROM pg_sequences ORDER BY 1",
    }
    with psycopg.connect(url) as connection:
        return {name: connection.execute(question).fetchall() for name, question in questions.items()}


def opened(place: Place, clock: Clock | None = None, **settings: Any) -> SqlStore:
    return SqlStore(place.url, SqlSettings(**{"upgrade": "automatic", **settings}), clock=clock)


# ----------------------------------------------------------------------------------------------- steps and tables


def test_the_steps_are_one_chain_whose_end_is_this_release() -> None:
    directory = migrations.script_directory()
    assert directory.get_heads() == [NEWEST]
    assert [f"{number:04}" for number in range(1, len(VERSIONS) + 1)] == VERSIONS
    assert [*HISTORIES] == VERSIONS


def test_all_steps_from_nothing_make_the_tables_of_this_release(place: Place, another_place: Place) -> None:
    with place.engine() as engine, engine.begin() as connection:
        migrations.run(connection, "0001")
        assert _differences(connection)
        migrations.run(connection)
        assert _differences(connection) == []
    opened(another_place).close()
    assert place.structure() == another_place.structure()


def test_the_first_step_makes_the_tables_of_0001(in_a_file: Place, tmp_path: Path) -> None:
    with in_a_file.engine() as engine, engine.begin() as connection:
        migrations.run(connection, "0001")
    made = in_a_file.structure()
    path = tmp_path / "released.db"
    kept.load_sqlite(kept.file_of("0001", kept.SQLITE).read_text(encoding="utf-8"), path)
    released = _structure_of_sqlite(path)
    for part in made.values():
        del part[schema.VERSION_TABLE]
    assert {**made["texts"], f"sqlite_autoindex_{schema.VERSION_TABLE}_1": None}.keys() >= released["texts"].keys()
    assert made == released


def _differences(connection: sa.Connection) -> list[Any]:
    context = MigrationContext.configure(
        connection,
        opts={"version_table": schema.VERSION_TABLE, "compare_type": True, "compare_server_default": True},
    )
    found: list[Any] = compare_metadata(context, tables.metadata)
    return found


# -------------------------------------------------------------------------------------------- stores of each release


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_of_each_version_is_kept(version: str) -> None:
    """The newest one may still be in the making: it is kept by the time of its release."""
    kinds = [kept.SQLITE, *([kept.POSTGRESQL] if version in ON_POSTGRESQL else [])]
    there = [kind for kind in kinds if kept.file_of(version, kind).exists()]
    assert there == kinds or version == NEWEST, "run: python -m tests.contracts.stores, with the code of that release"


def test_the_kept_store_of_the_newest_version_is_as_this_code_makes_it(place: Place, another_place: Place) -> None:
    text = kept.file_of(NEWEST, place.kind)
    if not text.exists():
        pytest.skip("this version was not released yet")
    place.at(NEWEST)
    opened(another_place).close()
    hint = "if it was not released yet, run: python -m tests.contracts.stores --again; else add a migration"
    assert place.structure() == another_place.structure(), hint


@every_kept_store
def test_a_kept_store_answers_every_question_as_before(place: Place, version: str) -> None:
    twin, clock = MemoryStore(Clock()), Clock()
    HISTORIES[version](twin, cast("Clock", twin._clock))
    clock.now = cast("Clock", twin._clock).now
    store = opened(place.at(version), clock)
    assert store.upgraded_from == (None if version == NEWEST else version)
    assert not store.made_anew
    assert answers(store, clock) == answers(twin, clock)
    lease = store.lease(SWEPT, 60, owner="worker")
    assert lease is not None
    state = lease.folder(INBOX)
    assert state is not None
    (known, new) = (mail(SWEPT, uid, artifacts=(file("new.eml"),)) for uid in (1, 99))
    assert lease.admit(INBOX, [known, new], state) == [attrs.evolve(new, id=EntryId(LAST_NUMBER + 1))]
    for taken in ("invoice.eml", "first 3.eml", "p.pdf"):
        with pytest.raises(PathsTaken):
            lease.record([attrs.evolve(new, id=EntryId(LAST_NUMBER + 1), artifacts=(file(taken),))])
    store.close()
    again = opened(place, clock)
    assert again.upgraded_from is None
    assert again.entry(EntryId(LAST_NUMBER + 1)) == attrs.evolve(new, id=EntryId(LAST_NUMBER + 1))
    again.close()


@every_kept_store
def test_a_sweep_goes_on_with_a_kept_store(place: Place, version: str) -> None:
    clock, story = Clock(), Story()
    clock.wait(86_400)
    store = opened(place.at(version), clock)
    story.store, story.now = cast("MemoryStore", store), clock.now
    assert MAILBOX == SWEPT
    for subject in ("stored already", "found", "failed", "invoice"):
        story.server.plant(raw_mail(subject))
    report = story.sweep()
    assert report.state is SweepState.DONE
    assert counted(report) == (3, 0, 0, 0)
    # The name invoice.eml stays that of the first mail, which is not stored again.
    names = sorted(story.one.visible)
    assert [re.sub("-[0-9a-f]{12}[.]", "-KEY.", name) for name in names] == [
        *(f"Straße {uid}, 100 % '_.eml" for uid in (2, 3)),
        "invoice-KEY.eml",
    ]
    assert [entry.stage for number in (2, 3) if (entry := store.entry(EntryId(number)))] == [Stage.SETTLED] * 2
    store.close()


# ----------------------------------------------------------------------------------- who is upgraded, who is refused


def test_a_file_is_upgraded_by_itself_and_a_server_is_not(place: Place) -> None:
    place.at("0001")
    if place.kind == kept.SQLITE:
        open_store(place.url).close()
    else:
        before = place.rows()
        with pytest.raises(StoreTooOld, match="has version 0001, this release needs") as refusal:
            open_store(place.url)
        assert "maildaemon store upgrade" in refusal.value.remedy
        assert place.rows() == before
        open_store(place.url, {"upgrade": "automatic"}).close()
    assert place.rows()[schema.VERSION_TABLE] == [repr((NEWEST,))]
    open_store(place.url, {"upgrade": "never"}).close()


def test_what_is_not_to_be_upgraded_is_refused_and_left_alone(place: Place) -> None:
    before = place.at("0001").rows()
    with pytest.raises(StoreTooOld, match="was written by an older release"):
        opened(place, upgrade="never")
    assert place.rows() == before


@pytest.mark.parametrize("upgrade", ["automatic", "never"])
def test_a_newer_store_is_refused_and_left_alone(place: Place, upgrade: str) -> None:
    place.at(NEWEST).execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    before = place.rows()
    with pytest.raises(StoreTooNew, match=f"has version 9999, this release knows {NEWEST}") as refusal:
        opened(place, upgrade=upgrade)
    assert "newer release" in refusal.value.remedy
    assert place.rows() == before


@pytest.mark.parametrize("table", ["alembic_version", "person"])
def test_the_database_of_another_program_is_refused_and_left_alone(place: Place, table: str) -> None:
    place.execute(f"CREATE TABLE {table} (version_num TEXT)", f"INSERT INTO {table} VALUES ('0001')")
    before = place.rows()
    with pytest.raises(StoreUnavailable, match=f"database of another program.*{table}"):
        opened(place)
    assert place.rows() == before


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (f"DELETE FROM {schema.VERSION_TABLE}", "is damaged: maildaemon_version has 0 rows"),
        (f"UPDATE {schema.VERSION_TABLE} SET version_num = '0000'", "cannot be upgraded from version 0000"),
    ],
)
def test_a_version_that_no_release_wrote_is_refused_by_message(place: Place, statement: str, message: str) -> None:
    place.at(NEWEST).execute(statement)
    before = place.rows()
    with pytest.raises(StoreUnavailable, match=message) as refusal:
        opened(place)
    assert "backup" in refusal.value.remedy
    assert place.rows() == before


# ---------------------------------------------------------------------------------------------------- all or nothing

_STEP = """
import os, signal
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = {version!r}, {before!r}, None, None
def upgrade():
    op.create_table("half", sa.Column("done", sa.Text))
    op.execute("UPDATE entry SET subject = 'half done'")
    op.drop_table("folder")
    {end}
"""


def _with_a_step(folder: Path, end: str) -> str:
    """The folder of all steps, and one more behind them that ends like this."""
    steps = folder / "migrations"
    shutil.copytree(Path(str(migrations.__file__)).parent, steps, ignore=shutil.ignore_patterns("__pycache__"))
    version = f"{int(NEWEST) + 1:04}"
    (steps / "versions" / f"{version}_ends.py").write_text(_STEP.format(version=version, before=NEWEST, end=end))
    return str(steps)


def _with_a_mail(place: Place) -> Place:
    """Of 0001, with something in it."""
    place.at("0001")
    if place.kind == kept.POSTGRESQL:
        columns, values = "folder, cursor, older", "'INBOX', '1:3', 4"
        place.execute(f"INSERT INTO folder (mailbox, {columns}) VALUES ('{SWEPT}', {values})")
        place.execute(
            "INSERT INTO configuration (id, name, document, version, created, changed) "
            f"VALUES ('{SWEPT}', 'swept', '{{}}', 1, 2, 3)"
        )
    return place


def test_a_step_that_fails_leaves_the_store_as_it_was(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_a_mail(place)
    before = place.rows(), place.structure()
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "SCRIPTS", _with_a_step(tmp_path, 'raise ZeroDivisionError("in the middle")'))
        with pytest.raises(ZeroDivisionError):
            opened(place)
    assert (place.rows(), place.structure()) == before
    store = opened(place)
    assert store.upgraded_from == "0001"
    assert SWEPT in [each.id for each in store.configurations()]
    store.close()


def test_a_database_that_fails_in_a_step_is_unavailable_and_as_it_was(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_a_mail(place)
    before = place.rows(), place.structure()
    monkeypatch.setattr(migrations, "SCRIPTS", _with_a_step(tmp_path, 'op.execute("SELECT absent FROM nowhere")'))
    with pytest.raises(StoreUnavailable, match="nowhere"):
        opened(place)
    assert (place.rows(), place.structure()) == before


def test_a_process_killed_in_a_step_leaves_the_store_as_it_was(place: Place, tmp_path: Path) -> None:
    _with_a_mail(place)
    before = place.rows(), place.structure()
    steps = _with_a_step(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    program = (
        "from maildaemon_adapters.sql import SqlSettings, SqlStore, migrations\n"
        f"migrations.SCRIPTS = {steps!r}\n"
        f"SqlStore({place.url!r}, SqlSettings(upgrade='automatic'))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert (place.rows(), place.structure()) == before
    store = opened(place)
    assert store.upgraded_from == "0001"
    store.close()


_OPENING = """
import sys, time
from pathlib import Path
from maildaemon_adapters.sql import SqlSettings, SqlStore, migrations
folder = Path(sys.argv[2])
(folder / f"{sys.argv[3]}.ready").touch()
while len(list(folder.glob("*.ready"))) < 3:
    time.sleep(0.001)
store = SqlStore(sys.argv[1], SqlSettings(upgrade="automatic"))
print(store.upgraded_from, len(store.configurations()), store.keys())
store.close()
"""


def test_of_several_processes_that_open_an_old_store_one_upgrades_it(place: Place, tmp_path: Path) -> None:
    _with_a_mail(place)
    arguments = [[sys.executable, "-c", _OPENING, place.url, str(tmp_path), str(number)] for number in range(3)]
    processes = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for each in arguments]
    said = Counter(process.communicate(timeout=100)[0].strip() for process in processes)
    number = 1 if place.kind == kept.POSTGRESQL else 3
    assert said == {f"0001 {number} []": 1, f"None {number} []": 2}


# -------------------------------------------------------------------------------------- what only a file goes through


def test_an_older_process_that_has_the_file_open_goes_on_with_its_mails(in_a_file: Place) -> None:
    """It should have been stopped; it harms nothing: it leases, records and finds, and cannot be started again."""
    columns = "mailbox, folder, uidvalidity, uid, fingerprint, strong, key, received, first_seen, sender, subject, "
    columns += "sender_folded, subject_folded, message_id, size, stage, outcome, due_at, attempts, suspect, in_hand, "
    columns += "last_tried, batch, complete, care, care_folder, error, trouble, reason, defects"
    with closing(sqlite3.connect(in_a_file.at("0001").url.removeprefix("sqlite:///"))) as older:
        older.execute("PRAGMA foreign_keys=ON")
        copy = f"INSERT INTO entry ({columns}) SELECT {columns.replace('uid,', '?,')} FROM entry WHERE id = 2"
        older.execute(copy, ("77",))
        older.commit()
        store = opened(in_a_file)
        older.execute(copy, ("78",))
        older.execute("UPDATE lease SET token = token + 1 WHERE mailbox = ?", (SWEPT,))
        older.execute("UPDATE configuration SET document = '{}', version = 3 WHERE id = ?", (SWEPT,))
        older.commit()
        new = store.entry(EntryId(LAST_NUMBER + 2))
        assert new is not None
        assert (new.ref.uid, new.dismissed) == ("78", False)
        with pytest.raises(sqlite3.IntegrityError):
            older.execute(
                "INSERT INTO configuration (id, name, document, version, created, changed) VALUES (1,1,1,1,1,1)"
            )
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            older.execute("SELECT version FROM maildaemon_schema")
        store.close()


def test_a_process_of_0002_that_has_the_file_open_goes_on_and_sees_those_that_were_dropped(in_a_file: Place) -> None:
    with closing(sqlite3.connect(in_a_file.at("0002").url.removeprefix("sqlite:///"))) as older:
        store = opened(in_a_file)
        store.drop(SWEPT)
        older.execute(
            "INSERT INTO configuration (id, name, document, secrets, version, created, changed, created_by, "
            "changed_by) VALUES ('new', 'new', '{}', '{}', 1, 1, 1, '', '')"
        )
        older.execute("UPDATE configuration SET document = '{}', version = version + 1 WHERE id = ?", (SWEPT,))
        older.commit()
        assert "new" in [each.id for each in store.configurations()]
        assert [(each.id, each.version, each.secrets) for each in store.former()] == [(SWEPT, 4, {})]
        store.close()


def test_an_upgrade_waits_for_whoever_writes(in_a_file: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    monkeypatch.setitem(sqlite._PATIENCE, sqlite3.SQLITE_BUSY, 0.2)
    before = in_a_file.at("0001").rows()
    with closing(in_a_file.connect()) as writer:
        writer.execute("UPDATE folder SET older = 5")
        with pytest.raises(StoreUnavailable, match="has been locked by another program") as refusal:
            opened(in_a_file)
        assert "try again later" in refusal.value.remedy
        writer.rollback()
    assert in_a_file.rows() == before
    opened(in_a_file).close()


def test_a_store_that_is_up_to_date_is_opened_without_alembic(place: Place) -> None:
    place.at(NEWEST)
    program = (
        "import sys\n"
        "from maildaemon_adapters.sql import SqlSettings, SqlStore\n"
        f"SqlStore({place.url!r}, SqlSettings(upgrade='automatic')).close()\n"
        "print([name for name in sys.modules if name.partition('.')[0] in {'alembic', 'mako'}])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_an_upgrade_writes_nothing_to_the_terminal_and_touches_no_logging(in_a_file: Place) -> None:
    in_a_file.at("0001")
    program = (
        "import logging\n"
        "from maildaemon_adapters.sql import SqlSettings, SqlStore\n"
        f"assert SqlStore({in_a_file.url!r}).upgraded_from == '0001'\n"
        "assert not logging.getLogger().handlers and logging.getLogger().level == logging.WARNING\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


# ----------------------------------------------------------------------------------- what only a server goes through


@pytest.mark.server
def test_a_store_is_found_again_though_a_schema_comes_to_stand_before_it(on_a_server: Place) -> None:
    store = opened(on_a_server)
    store.close()
    on_a_server.execute("CREATE SCHEMA maildaemon")  # the name of the user: it comes first in the usual search_path
    again = opened(on_a_server)
    assert not again.made_anew
    again.close()


@pytest.mark.server
def test_a_schema_of_ones_own_may_stand_before_that_of_other_programs(on_a_server: Place) -> None:
    on_a_server.execute(
        "CREATE SCHEMA maildaemon",
        "CREATE TABLE public.entry (theirs text)",
        "CREATE TABLE public.alembic_version (version_num text)",
        "INSERT INTO public.entry VALUES ('theirs')",
    )
    for made_anew in (True, False):
        store = opened(on_a_server)
        assert store.made_anew is made_anew
        lease = store.lease(SWEPT, 60, owner="worker")
        assert lease is not None
        lease.admit(INBOX, [mail(SWEPT, made_anew)], STATE)
        lease.give_back()
        store.close()
    with on_a_server.connect() as connection:
        assert connection.execute("SELECT * FROM public.entry").fetchall() == [("theirs",)]
        assert connection.execute("SELECT count(*) FROM maildaemon.entry").fetchall() == [(2,)]


@pytest.mark.server
def test_a_table_of_another_program_in_front_of_ours_is_said(on_a_server: Place) -> None:
    opened(on_a_server).close()
    on_a_server.execute("CREATE SCHEMA maildaemon", "CREATE TABLE maildaemon.entry (theirs text)")
    with pytest.raises(
        StoreUnavailable, match="tables in the schema public, but entry is found in maildaemon"
    ) as refusal:
        opened(on_a_server)
    assert "search_path" in refusal.value.remedy
