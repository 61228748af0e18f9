"""Many at once, and much of everything: clients that read and write while sweeps run, and pages of a long history.

What is asserted are counts and proportions; figures are printed to be read, for machines differ.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import attrs
import httpx
import pytest
import sqlalchemy as sa
from litestar.testing import TestClient

from maildaemon_adapters.sealing import Vault, master_keys, new_master_key
from maildaemon_adapters.sql import SqlSettings, SqlStore, tables
from maildaemon_core import codec
from maildaemon_core.access import CHANCE_BYTES, make_key
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.message import MailboxId
from maildaemon_core.options import MailboxOptions
from maildaemon_core.store_port import Configuration
from maildaemon_core.testing.memory_source import EPOCH, INBOX, MemoryMail, MemoryServer
from maildaemon_http.api.app import create_app
from tests.contracts.test_store_size import fill
from tests.engine.story import mail
from tests.http.api.house import MAILBOX, Client, House
from tests.http.api.served import served

# ------------------------------------------------------------------------------------------------------------- a crowd

CLIENTS = 20
LEAST = 25
"""So many times each of them does something, at least."""
START = 1_000_000
"""The first value of the property that is counted up."""
READS = ("list", "get", "failed", "successful", "infos")


class BusyServer(MemoryServer):
    """Mails arrive while sessions read."""

    def arrive(self, raw: bytes) -> None:
        box = self.folders[INBOX]
        box.mails = {**box.mails, box.next_uid: MemoryMail(raw, EPOCH)}  # whoever goes through them is not disturbed
        box.next_uid += 1


@attrs.frozen(kw_only=True)
class Heard:
    """What one client of a crowd did.

    ``seconds`` of each answer by what was asked; ``statuses``: how often each; ``strange``: what must not be;
    ``counted``: how often each mailbox was counted up by it.
    """

    seconds: dict[str, list[float]] = attrs.field(factory=lambda: defaultdict(list))
    statuses: Counter[int] = attrs.field(factory=Counter)
    strange: list[str] = attrs.field(factory=list)
    counted: Counter[str] = attrs.field(factory=Counter)


class Visitor:
    """One client, with a connection of its own."""

    def __init__(self, number: int, url: str, key: str, mailboxes: Sequence[str]) -> None:
        self.heard = Heard()
        self._number = number
        self._mailboxes = mailboxes
        self._chance = random.Random(number)
        self._client = httpx.Client(base_url=url, headers={"x-api-key": key}, timeout=60, trust_env=False)
        self._cursor: str | None = None

    def visit(self, seconds: float) -> Heard:
        acts = [self._list, self._get, self._failed, self._successful, self._infos]
        until, number = time.monotonic() + seconds, 0
        with self._client:
            while number < LEAST or time.monotonic() < until:
                number += 1
                if number % 8 == 0:
                    self._count(self._chance.choice(self._mailboxes))
                elif number % LEAST == 0:
                    self._make_and_remove(number)
                else:
                    self._chance.choice(acts)()
        return self.heard

    def _send(self, what: str, method: str, path: str, expected: Sequence[int] = (200,), **more: Any) -> httpx.Response:
        began = time.perf_counter()
        answer = self._client.request(method, path, **more)
        self.heard.seconds[what].append(time.perf_counter() - began)
        self.heard.statuses[answer.status_code] += 1
        if answer.status_code not in expected:
            self.heard.strange.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer

    def _list(self) -> None:
        self._send("list", "GET", "/mailboxes", params={"limit": 20})

    def _get(self) -> None:
        self._read(self._chance.choice(self._mailboxes))

    def _read(self, mailbox: str) -> tuple[str, dict[str, Any]]:
        answer = self._send("get", "GET", f"/mailboxes/{mailbox}")
        return self._agreeing(answer)

    def _agreeing(self, answer: httpx.Response) -> tuple[str, dict[str, Any]]:
        """The entity tag and the document, which must speak of the same version."""
        tag, document = answer.headers.get("etag", ""), answer.json()
        if tag != f'"{document.get("version")}"':
            self.heard.strange.append(f"{answer.request.url}: {tag} with version {document.get('version')}")
        return tag, document

    def _failed(self) -> None:
        self._send("failed", "GET", "/monitoring/failed")

    def _successful(self) -> None:
        params = {} if self._cursor is None else {"cursor": self._cursor}
        self._cursor = self._send("successful", "GET", "/monitoring/successful", params=params).json()["next"]

    def _infos(self) -> None:
        self._send("infos", "GET", "/monitoring/mailboxes")

    def _count(self, mailbox: str) -> None:
        """Counts a property up, anew for as long as somebody else was faster."""
        while True:
            tag, document = self._read(mailbox)
            wanted = document["maxMessageBytes"] + 1
            answer = self._send(
                "patch",
                "PATCH",
                f"/mailboxes/{mailbox}",
                (200, 412),
                json={"maxMessageBytes": wanted},
                headers={"If-Match": tag},
            )
            if answer.status_code == 200:
                _, changed = self._agreeing(answer)
                if (changed["version"], changed["maxMessageBytes"]) != (document["version"] + 1, wanted):
                    self.heard.strange.append(f"{mailbox}: {document['version']} became {changed['version']}")
                self.heard.counted[mailbox] += 1
            if answer.status_code != 412:
                return

    def _make_and_remove(self, number: int) -> None:
        document = {"active": False, "mailbox": f"client{self._number}.{number}@example.com"}
        path = self._send("create", "POST", "/mailboxes", (201,), json=document).headers.get("location", "/")
        self._send("delete", "DELETE", path, (204,))


def crowd(url: str, key: str, mailboxes: Sequence[str], seconds: float) -> Sequence[Heard]:
    """What a crowd of clients, all at once and without a pause, has heard."""
    visitors = [Visitor(number, url, key, mailboxes) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(lambda visitor: visitor.visit(seconds), visitors))


@contextmanager
def arriving(server: BusyServer, number: int, seconds: float) -> Iterator[None]:
    """So many mails arrive one after the other meanwhile; all of them have in the end."""
    enough = threading.Event()

    def arrive() -> None:
        for at in range(number):
            server.arrive(mail(f"mail {at}"))
            enough.wait(seconds / number)

    postman = threading.Thread(target=arrive, name="postman")
    postman.start()
    try:
        yield
    finally:
        enough.set()
        postman.join()


def quantile(values: Sequence[float], part: float) -> float:
    return sorted(values)[math.ceil(len(values) * part) - 1]


def told(seconds: Mapping[str, Sequence[float]], lasting: float) -> None:
    print(f"\n{CLIENTS} clients without a pause, {lasting:.0f} s, ms an answer")
    print(f"{'':12}{'number':>8}{'median':>8}{'p99':>8}{'most':>8}")
    reads = [one for name in READS for one in seconds.get(name, ())]
    for name, values in [*sorted(seconds.items()), ("all reads", reads)]:
        if values:
            figures = (statistics.median(values), quantile(values, 0.99), max(values))
            print(f"{name:12}{len(values):8}" + "".join(f"{each * 1000:8.0f}" for each in figures))
    print(f"{sum(map(len, seconds.values())) / lasting:.0f} answers a second")


@pytest.mark.heavy
def test_a_crowd_that_reads_and_writes_while_sweeps_run_meets_no_error_and_loses_no_update(
    house: House, heavy: bool
) -> None:
    seconds, mails = (60.0, 600) if heavy else (3.0, 60)
    server = house.server = BusyServer("INBOX")
    with house.client() as client:
        mailboxes = [
            client.create(
                mailbox=f"box{number}@example.com",
                maxMessageBytes=START,
                pollIntervalSeconds=5,
                destinations=[{"name": "archive", "url": f"place {number}"}],
            )
            for number in range(5)
        ]
        child = multiprocessing.get_context("spawn")  # so that clients and service do not share an interpreter's lock
        with (
            served(house.app) as url,
            ProcessPoolExecutor(1, mp_context=child) as pool,
            arriving(server, mails, seconds),
        ):
            began = time.monotonic()
            heard = pool.submit(crowd, url, house.key(), mailboxes, seconds).result(timeout=seconds + 120)
            lasting = time.monotonic() - began
        by_name: dict[str, list[float]] = defaultdict(list)
        for one in heard:
            for name, values in one.seconds.items():
                by_name[name] += values
        told(by_name, lasting)
        print(sum((one.statuses for one in heard), Counter[int]()))
        assert [each for one in heard for each in one.strange] == []
        counted = sum((one.counted for one in heard), Counter[str]())
        assert set(counted) == set(mailboxes)
        assert {*READS, "patch", "create", "delete"} <= by_name.keys()
        for mailbox in mailboxes:
            shown = client.get(f"/mailboxes/{mailbox}").json()
            assert (shown["maxMessageBytes"], shown["version"]) == (START + counted[mailbox], 1 + counted[mailbox])
            assert client.post(f"/mailboxes/{mailbox}/sweeps?wait=120").json()["state"] == "ended"
        assert len(client.get("/mailboxes").json()["items"]) == len(mailboxes)
        for place in house.places.values():
            assert sorted(place.visible) == sorted({path for path, _ in place.published})
            assert len(place.published) == mails


# ------------------------------------------------------------------------------------------------------ a long history

FULL, SMALL = 100_000, 1000
MILLISECONDS = 50
"""What a page is to take at most, at the median: printed, not asserted."""


def box(number: int) -> MailboxId:
    return MailboxId(f"00000000-0000-0000-0000-{number:012}")


@attrs.frozen(kw_only=True)
class Timed:
    """Milliseconds of some rounds.  Proportions are those of the least: what else the machine does only adds to it."""

    median: float
    least: float


class Archive:
    """A service with so many entries of a hundred mailboxes, one in ten failed, and somebody who turns its pages.

    ``rounds``: so often each page is asked for.
    """

    def __init__(self, url: str, number: int, folder: Path, *, rounds: int) -> None:
        self.number = number
        self.rounds = rounds
        store = SqlStore(url, SqlSettings(synchronous="normal"))
        fill(store, number)
        _furnished(store)
        self._daemon = MailDaemon(store, spool=folder / "spool")
        catalog = self._daemon.catalog(Vault(master_keys({"MAILDAEMON_MASTER_KEY": new_master_key()})))
        self._app = create_app(self._daemon, catalog)
        key, kept = make_key(os.urandom(CHANCE_BYTES), "tests", now=datetime.now(UTC))
        store.add_key(kept)
        self._key = key.value

    @contextmanager
    def opened(self) -> Iterator[Archive]:
        try:
            with TestClient(cast(Any, self._app), raise_server_exceptions=False) as inner:
                self._client = Client(inner, {"x-api-key": self._key})
                yield self
        finally:
            self._daemon.close()

    def page(self, path: str, **query: Any) -> dict[str, Any]:
        answer = self._client.get(f"{path}?{urlencode(query)}")
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def far_down(self, path: str, query: Mapping[str, Any]) -> str | None:
        """The cursor of the last page, found by following all of them; None if there is one page only.

        Nothing is met twice on the way.
        """
        met: list[Any] = []
        last, cursor = None, None
        while True:
            more: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
            page = self.page(path, **{"limit": 40 if self.is_short(path) else 500, **query, **more})
            met += [item.get("id") or item.get("uuid") or item["mailbox"] for item in page["items"]]
            if page["next"] is None:
                assert len(set(met)) == len(met)
                return last
            last = cursor = page["next"]

    def is_short(self, path: str) -> bool:
        return path not in {"/monitoring/failed", "/monitoring/successful"}

    def timed(self, path: str, query: Mapping[str, Any]) -> Timed:
        taken = []
        for _ in range(self.rounds):
            began = time.perf_counter()
            self.page(path, **query)
            taken.append((time.perf_counter() - began) * 1000)
        return Timed(median=statistics.median(taken), least=min(taken))


def _furnished(store: SqlStore) -> None:
    """Makes a hundred mailboxes of the API of those that ``fill`` has made, and failures of some of the entries."""
    document = codec.write(codec.read(MailboxOptions, {**MAILBOX, "password": None, "active": False}))
    entry, artifact = tables.entry, tables.artifact
    with store._database.write() as connection:
        for number in range(100):
            here = entry.c.mailbox == f"box {number}"
            connection.execute(sa.update(entry).where(here).values(mailbox=box(number)))
        failed = sa.and_(entry.c.outcome == "stored", entry.c.id % 10 == 0)
        connection.execute(sa.delete(artifact).where(artifact.c.entry.in_(sa.select(entry.c.id).where(failed))))
        trouble = {"error": "SpoolFull", "message": "no room", "remedy": "", "transient": False, "retry_after": None}
        connection.execute(
            sa.update(entry)
            .where(failed)
            .values(outcome="failed", stage="given up", error="SpoolFull", trouble=trouble, dismissed=False)
        )
    for number in range(100):
        store.drop(MailboxId(f"box {number}"), forget=True)
        own = {**document, "mailbox": f"box{number}@example.com"}
        store.save(Configuration(id=box(number), name=f"box {number}", document=own), by="tests")
    with store._database.make() as connection:
        connection.exec_driver_sql("ANALYZE")


PAGES: Sequence[tuple[str, str, dict[str, Any]]] = (
    ("failed", "/monitoring/failed", {}),
    ("failed, 500 of them", "/monitoring/failed", {"limit": 500}),
    ("failed of a mailbox", "/monitoring/failed", {"mailbox": box(10)}),
    ("failed of an error", "/monitoring/failed", {"error": "SpoolFull"}),
    ("failed of no such error", "/monitoring/failed", {"error": "NoSuchError"}),
    ("successful", "/monitoring/successful", {}),
    ("successful, 500 of them", "/monitoring/successful", {"limit": 500}),
    ("successful of a mailbox", "/monitoring/successful", {"mailbox": box(1)}),
    ("successful of a large one", "/monitoring/successful", {"mailbox": box(0)}),
    ("successful of a folder", "/monitoring/successful", {"folder": "Sent"}),
    ("successful of a domain", "/monitoring/successful", {"sender": "@EXAMPLE.COM"}),
    ("successful of a sender", "/monitoring/successful", {"sender": "sender7@"}),
    ("successful of nobody", "/monitoring/successful", {"sender": "nobody@example.org"}),
    ("successful of a subject", "/monitoring/successful", {"subject": "number 77"}),
    ("mailboxes", "/monitoring/mailboxes", {}),
    ("configurations", "/mailboxes", {}),
)

IN_SEARCH = frozenset(
    {"failed of no such error", "successful of a sender", "successful of nobody", "successful of a subject"}
)
"""Little or nothing is found: a page looks through thousands of entries, of which a short history has not as many."""


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sequence[str]]:
    """Two empty stores."""
    if request.param == "sqlite":
        yield [f"sqlite:///{tmp_path}/{name}.db" for name in ("small", "full")]
        return
    server = request.getfixturevalue("postgres")
    made = [server.fresh_database() for _ in range(2)]
    yield made
    for url in made:
        server.drop_database(url)


@pytest.mark.heavy
@pytest.mark.timeout(1200)
def test_a_page_of_a_long_history_takes_no_longer_than_one_of_a_short_one(
    urls: Sequence[str], tmp_path: Path, heavy: bool
) -> None:
    rounds = 21 if heavy else 2
    with Archive(urls[0], SMALL, tmp_path, rounds=rounds).opened() as archive:
        small = {name: archive.timed(path, query) for name, path, query in PAGES}
    found: dict[str, tuple[Timed, Timed | None]] = {}
    with Archive(urls[1], FULL if heavy else 5 * SMALL, tmp_path, rounds=rounds).opened() as archive:
        print(f"\nms a page, median (least){'':8}{SMALL:>9,}{archive.number:>15,} entries{'far down':>8}")
        for name, path, query in PAGES:
            first, cursor = archive.timed(path, query), archive.far_down(path, query)
            far = None if cursor is None else archive.timed(path, {**query, "cursor": cursor})
            found[name] = (first, far)
            figures = [f"{one.median:7.1f} ({one.least:5.1f})" if one else "" for one in (small[name], first, far)]
            print(f"{name:27}" + "".join(f"{figure:>16}" for figure in figures))
    print(f"over {MILLISECONDS} ms:", [name for name, (first, _) in found.items() if first.median > MILLISECONDS])
    assert found["successful"][1] is not None
    if heavy:
        for name, (first, far) in found.items():
            assert far is None or far.least <= 3 * first.least, name
            assert name in IN_SEARCH or first.least <= 5 * small[name].least, name
