"""Stores as text: always the same for the same history, small, and readable in a review."""

from __future__ import annotations

import itertools
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterable
from pathlib import Path

import psycopg

from tests.servers.availability import postgres_programs

FOLDER = Path(__file__).parent
SQLITE, POSTGRESQL = "sqlite", "postgresql"


def file_of(version: str, kind: str) -> Path:
    return FOLDER / f"{version}.{kind}.sql"


def text_of_sqlite(path: Path) -> str:
    """All of a closed database file."""
    with sqlite3.connect(path) as database:
        lines = list(database.iterdump())
    database.close()
    return _text(lines, "CREATE INDEX", "CREATE UNIQUE INDEX")


def load_sqlite(text: str, path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.executescript(text)
    database.close()


def text_of_postgresql(url: str) -> str:
    """All of a database of which nobody else writes; without what depends on the server."""
    program = str(postgres_programs() / "pg_dump")
    dump = [program, "--no-owner", "--no-privileges", "--inserts", f"--dbname={url}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(dump, capture_output=True, text=True, check=True, env=environment)
    spoken = re.compile(r"--|\\|SET |SELECT pg_catalog\.set_config|$")  # comments, psql's own words, settings
    return _text((line for line in done.stdout.splitlines() if not spoken.match(line)), "INSERT INTO")


def load_postgresql(text: str, url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(text)


def _text(lines: Iterable[str], *unordered: str) -> str:
    """Lines that begin like this are sorted where they stand together: their order is chance, and says nothing."""
    groups = itertools.groupby(lines, key=lambda line: line.startswith(unordered))
    ordered = (sorted(group) if alike else group for alike, group in groups)
    return "".join(f"{line}\n" for group in ordered for line in group)
