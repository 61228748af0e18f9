"""Keeps a store of the present version, made by the present code: ``python -m tests.contracts.stores``.

To be run before a release whose version of the tables is new.  What was released is not overwritten.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from maildaemon_adapters.sql import SqlStore
from maildaemon_adapters.sql.schema import HEAD
from tests.contracts.stores.history import HISTORIES, Clock
from tests.contracts.stores.kept import POSTGRESQL, SQLITE, file_of, text_of_postgresql, text_of_sqlite
from tests.servers.postgres import Postgres


def made_now(url: str, text_of: Callable[[], str]) -> str:
    """A store of the present version that has seen its history, as text."""
    clock = Clock()
    store = SqlStore(url, clock=clock)
    HISTORIES[HEAD](store, clock)
    store.close()
    return text_of()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.contracts.stores", description=__doc__)
    parser.add_argument("--again", action="store_true", help="overwrite: this version was not released yet")
    again = parser.parse_args().again
    there = [file.name for file in (file_of(HEAD, SQLITE), file_of(HEAD, POSTGRESQL)) if file.exists()]
    if there and not again:
        print(f"there already: {', '.join(there)}; --again overwrites them", file=sys.stderr)
        return 1
    with TemporaryDirectory(prefix="maildaemon-") as folder:
        path = Path(folder) / "maildaemon.db"
        text = made_now(f"sqlite:///{path}", lambda: text_of_sqlite(path))
        file_of(HEAD, SQLITE).write_text(text, encoding="utf-8")
    with Postgres() as server:
        url = server.fresh_database()
        text = made_now(url, lambda: text_of_postgresql(url))
        file_of(HEAD, POSTGRESQL).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
