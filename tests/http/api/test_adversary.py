"""What somebody with a key for little, or with none, tries in order to stop the service or to learn what it keeps."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import attrs
import pytest
from litestar.testing import TestClient

from maildaemon_adapters.sealing import Vault, master_keys, new_master_key
from maildaemon_core.access import Scope, name_fault
from maildaemon_core.confinement import Confinement
from maildaemon_core.engine.catalog import FROM_FILE
from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.errors import StoreUnavailable
from maildaemon_core.message import MailboxId
from maildaemon_core.options import MASK
from maildaemon_core.store_port import Store
from maildaemon_core.testing.memory_source import MemorySource
from maildaemon_http.api import service as services
from maildaemon_http.api.app import create_app
from maildaemon_http.api.problems import Refused
from maildaemon_http.api.service import Answer
from maildaemon_http.api.settings import ApiSettings, Limits
from maildaemon_http.api.work import THREADS, Work
from tests.http.api.house import MAILBOX, Client, House, paths, problem
from tests.http.api.served import served


@contextmanager
def house_with(folder: Path, **limits: Any) -> Iterator[House]:
    made = House(folder, settings=ApiSettings(limits=Limits(guesses=1000, **limits)))
    made.daemon.start(made.catalog)
    try:
        yield made
    finally:
        made.daemon.close(deadline=5)


# --------------------------------------------------------------------------------------------------------- the scopes


def test_who_may_only_look_has_the_service_log_in_nowhere_and_store_nothing(house: House, client: Client) -> None:
    mailbox = client.create()
    reader, editor = client.another(house.key(Scope.MAILBOXES_READ)), client.another(house.key(Scope.MAILBOXES_WRITE))
    for path in (f"/mailboxes/{mailbox}/validate", "/mailboxes/validate"):
        problem(reader.post(path, MAILBOX), 403, "scope-missing")
        assert editor.post(path, MAILBOX).status_code == 200


def test_without_its_scope_nobody_learns_which_mailboxes_and_mails_there_are(house: House, client: Client) -> None:
    there, not_there = client.create(), "00000000-0000-0000-0000-000000000000"
    stranger = client.another(house.key(Scope.SWEEPS_RUN))
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answers = {stranger.send(method, f"/mailboxes/{each}", {}).json()["type"] for each in (there, not_there, "x")}
        assert answers == {"urn:maildaemon:problem:scope-missing"}
    for number in ("1", "999", "x"):
        problem(stranger.delete(f"/monitoring/{number}"), 403, "scope-missing")
    nobody = client.another("")
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "ANY"):
        for path in ("/mailboxes", f"/mailboxes/{there}", "/nothing", "/metrics", "/health/ready"):
            assert nobody.send(method, path).status_code == 401, (method, path)


@pytest.mark.parametrize(
    "path",
    ["/health/live/", "//health/live", "/health/live;x", "/health/live/../ready", "/page/../mailboxes", "/HEALTH/LIVE"],
)
def test_only_the_open_paths_themselves_are_open(house: House, path: str) -> None:
    with served(house.app) as url:
        answer = _raw(url, f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 401 "), answer


def test_an_operation_whose_request_did_not_come_through_the_gate_is_not_carried_out(house: House) -> None:
    inner = _inside(house.app)

    async def around(scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("state", {})["request_id"] = "none"
        await inner(scope, receive, send)

    with TestClient(cast(Any, around), raise_server_exceptions=False) as client:
        assert client.get("/mailboxes").status_code == 500
        assert client.post("/mailboxes", json=MAILBOX).status_code == 500
    assert not house.store.configurations()


def test_web_sockets_are_closed(house: House) -> None:
    sent: list[Any] = []

    async def nothing() -> Any:
        return {"type": "websocket.connect"}

    async def keep(message: Any) -> None:
        sent.append(message)

    anyio.run(house.app, {"type": "websocket", "path": "/mailboxes", "headers": []}, nothing, keep)
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_while_the_store_is_away_nobody_learns_which_keys_there_are(client: Client, house: House) -> None:
    key = client.headers["x-api-key"]
    assert client.get("/openapi.json").status_code == 200
    away = _Away(house.store)
    app = create_app(cast(Any, _Around(house.daemon, store=away)), house.catalog, house.settings)
    with TestClient(cast(Any, app), raise_server_exceptions=False) as inner:
        somebody = Client(inner, {"x-api-key": key})
        assert somebody.get("/openapi.json").status_code == 200
        away.is_away = True
        assert somebody.get("/openapi.json").status_code == 200  # who was good a moment ago is good
        wrong = f"{key[: len('md_0123456789')]}_{'A' * 43}"
        for guess in (wrong, "md_0123456789_" + "A" * 43):
            problem(somebody.another(guess).get("/openapi.json"), 503, "store-unavailable")


def test_no_key_is_called_like_the_configuration_file_whose_mailboxes_are_not_swept(house: House) -> None:
    assert name_fault(FROM_FILE)
    with pytest.raises(ValueError, match="choose another"):
        house.key(name=FROM_FILE)


# ------------------------------------------------------------------------------------------------------------ secrets


def test_what_another_release_left_unmasked_is_masked_and_what_it_alone_knows_is_left_out(
    client: Client, house: House
) -> None:
    mailbox = client.create()
    kept = house.store.configuration(MailboxId(mailbox))
    assert kept is not None
    document = {
        **kept.document,
        "password": "hunter3",
        "options": {"apiToken": "hunter4"},
        "destinations": [{"name": "a", "url": "x", "password": "hunter5", "options": {"secret": {"a": ["hunter6"]}}}],
        "brandNew": "hunter7",
    }  # fmt: skip
    house.store.save(attrs.evolve(kept, document=document), by="another release")
    for answer in (client.get(f"/mailboxes/{mailbox}"), client.get("/mailboxes")):
        assert answer.status_code == 200
        assert "hunter" not in answer.text
        assert MASK in answer.text
    assert client.get(f"/mailboxes/{mailbox}").json()["trouble"] is not None


def test_an_answer_is_given_again_to_nobody_with_another_key_even_of_the_same_name(
    client: Client, house: House
) -> None:
    first = client.another(house.key(name="desk"))
    made = first.post("/mailboxes", MAILBOX, idempotency_key="once")
    assert made.status_code == 201
    (*_, desk) = house.store.keys()
    house.store.revoke_key(desk.prefix, desk.created)
    second = client.another(house.key(name="desk"))
    answer = second.post("/mailboxes", MAILBOX, idempotency_key="once")
    assert "uuid" not in problem(answer, 422, "idempotency-key-reused")
    problem(first.post("/mailboxes", MAILBOX, idempotency_key="once"), 401, "no-valid-key")


def test_the_mask_and_references_are_refused_where_options_are_only_tried(client: Client) -> None:
    client.create(destinations=[{"name": "archive", "url": "invoices", "password": "hunter4"}])
    for secret in (MASK, "env:MAILDAEMON_MASTER_KEY", "file:/etc/passwd"):
        body = {**MAILBOX, "password": secret, "destinations": [{"name": "archive", "url": "x", "password": secret}]}
        document = problem(client.post("/mailboxes/validate", body), 422, "invalid-options")
        assert paths(document) >= {"$.password", "$.destinations[0].password"}


# ----------------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize("depth", [65, 200, 450, 900, 5000])
@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"options":', b"}")], ids=["arrays", "objects"])
def test_however_deep_a_body_is_nested_it_is_a_fault_of_the_body(
    client: Client, depth: int, begin: bytes, end: bytes
) -> None:
    mailbox = client.create()
    body = begin * depth + b"1" + end * depth
    for answer in (
        client.post("/mailboxes", body),
        client.patch(f"/mailboxes/{mailbox}", body),
        client.post(f"/mailboxes/{mailbox}/sweeps", body),
        client.post("/mailboxes/validate", body, idempotency_key="deep"),
    ):
        assert "nested too deep" in problem(answer, 400, "malformed-json")["detail"]


def test_a_body_with_very_much_in_it_is_refused_before_each_part_is_looked_at(client: Client) -> None:
    many = {f"x{number}": 1 for number in range(60_000)}
    began = time.perf_counter()
    document = problem(client.post("/mailboxes", many), 413, "body-too-large")
    assert paths(document) == {"$"}
    assert time.perf_counter() - began < 60
    some = {**MAILBOX, "options": dict(list(many.items())[:2000])}
    document = problem(client.post("/mailboxes", some), 422, "list-too-long")
    assert paths(document) == {"$.options"}
    spread = {"destinations": [{f"x{number}": 1 for number in range(100)}] * 200}
    problem(client.post("/mailboxes", spread), 413, "body-too-large")


def test_a_query_of_thousands_of_parameters_is_refused_at_once(client: Client) -> None:
    query = "&".join(f"{number:x}=1" for number in range(5_000))
    document = problem(client.get(f"/mailboxes?{query}"), 400, "invalid-parameter")
    assert len(document["errors"]) == 1


def test_numbers_that_are_too_long_are_told_in_our_words(client: Client) -> None:
    document = problem(client.post("/mailboxes", b'{"port": ' + b"9" * 5000 + b"}"), 400, "malformed-json")
    assert document["detail"] == "a number has too many digits"
    for number in (b"9" * 4000, b"1e999", b"-1e999", b"1e-999"):
        body = b'{"port": %b, "maxMessageBytes": %b, "options": {"a": %b}}' % (number, number, number)
        problem(client.post("/mailboxes", body), 422, "invalid-options")


def test_two_mailboxes_with_very_many_folders_are_compared_within_a_moment(client: Client) -> None:
    hostile = {
        "folders": [f"f{number}*" for number in range(900)],
        "excludeFolders": [f"g{number}*" for number in range(900)],
    }
    began = time.perf_counter()
    for _ in range(3):
        assert client.post("/mailboxes", {**MAILBOX, **hostile}).status_code == 201
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize("name", ["folders", "excludeFolders"])
def test_a_glob_that_takes_hours_to_read_is_refused_at_once(client: Client, name: str) -> None:
    client.create()
    began = time.perf_counter()
    for path in ("/mailboxes", "/mailboxes/validate"):
        document = problem(client.post(path, {**MAILBOX, name: ["A*", "[" * 100_000]}), 422, "invalid-options")
        assert paths(document) == {f"$.{name}[1]"}
    assert time.perf_counter() - began < 10
    assert client.post("/mailboxes", {**MAILBOX, name: ["[Gmail]/*", "[A-Z][0-9]*"]}).status_code == 201


def test_what_is_wrong_with_a_body_is_told_in_not_much_more_than_it_has(client: Client) -> None:
    destinations = [{"name": f"{number}" + "n" * 500, "url": f"{number}"} for number in range(900)]
    body = {
        **MAILBOX,
        "destinations": destinations,
        "mailArchiving": {"active": True, "destinations": [f"x{number}" for number in range(900)]},
    }
    answer = client.post("/mailboxes", body)
    assert paths(problem(answer, 422, "invalid-options")) == {"$.mailArchiving.destinations"}
    assert len(answer.content) < 10_000


def test_a_body_without_a_length_has_the_same_limit(tmp_path: Path) -> None:
    with house_with(tmp_path, body_bytes=2048) as house, served(house.app) as url:
        head = f"POST /mailboxes HTTP/1.1\r\nhost: x\r\nx-api-key: {house.key()}\r\nconnection: close\r\n"
        chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
        answer = _raw(url, head.encode() + b"transfer-encoding: chunked\r\n\r\n" + chunk * 3 + b"0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413 "), answer
        answer = _raw(url, head.encode() + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 422 "), answer


def test_who_sends_a_body_slowly_or_goes_away_holds_up_nobody_and_is_no_fault_of_the_service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with house_with(tmp_path, request_seconds=1) as house, served(house.app) as url:
        head = f"POST /mailboxes HTTP/1.1\r\nhost: x\r\nx-api-key: {house.key()}\r\nconnection: close\r\n"
        began = time.monotonic()
        answer = _raw(url, head.encode() + b"content-length: 20\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 504 "), answer
        assert b"the body was not here within 1 s" in answer
        assert time.monotonic() - began < 10
        with caplog.at_level(logging.INFO), _connected(url) as gone:
            gone.sendall(head.encode() + b"content-length: 20\r\n\r\n{")
            time.sleep(0.2)
            gone.close()
            _until(lambda: any(record.__dict__.get("status") == 400 for record in caplog.records))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_long_path_is_cut_in_the_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "maildaemon_http.access"):
        client.get("/" + "a" * 20_000)
    (record,) = caplog.records
    assert len(record.getMessage()) < 400
    assert len(record.__dict__["path"]) < 400
    assert "(20001 characters)" in record.__dict__["path"]


# ------------------------------------------------------------------------------------------------------------ threads


def test_however_many_wait_for_sweeps_others_are_answered(
    client: Client, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox = client.create()
    client.post(f"/mailboxes/{mailbox}/sweeps?wait=20")
    goes_on = threading.Event()
    monkeypatch.setattr(MemorySource, "list_since", _waiting_for(goes_on, MemorySource.list_since))
    runner = client.another(house.key(Scope.SWEEPS_RUN))
    with ThreadPoolExecutor(THREADS + 10) as pool:
        waiting = [pool.submit(runner.post, f"/mailboxes/{mailbox}/sweeps?wait=60") for _ in range(THREADS + 10)]
        try:
            _until(lambda: sum(each.done() for each in waiting) >= THREADS + 10 - services.WAITERS)
            began = time.monotonic()
            assert client.get("/mailboxes").status_code == 200
            assert time.monotonic() - began < 30
            assert {each.result().json()["state"] for each in waiting if each.done()} == {"queued"}
        finally:
            goes_on.set()
    assert [each.result().status_code for each in waiting].count(200) == services.WAITERS


def test_what_hangs_costs_no_more_threads_than_there_are_turns() -> None:
    goes_on = threading.Event()
    before = set(threading.enumerate())

    async def storm() -> list[object]:
        work = Work(0.2, threads=3)
        found: list[object] = []

        async def ask() -> None:
            try:
                found.append(await work.run(goes_on.wait))
            except Refused as error:
                found.append(error.case.name)

        for _ in range(4):
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(ask)
        assert len([one for one in set(threading.enumerate()) - before if "AnyIO" in one.name]) == 3
        goes_on.set()
        while True:  # the turns come back
            await ask()
            if found[-1] is True:
                return found

    assert anyio.run(storm)[:20] == ["timed-out"] * 20


# --------------------------------------------------------------------------------------------------- sent once more


def test_a_create_whose_outcome_the_store_did_not_tell_makes_no_second_mailbox(
    client: Client, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = house.store.save

    def saved_and_lost(*arguments: Any, **more: Any) -> Any:
        save(*arguments, **more)
        raise StoreUnavailable("the connection was lost at the commit")

    with monkeypatch.context() as patched:
        patched.setattr(house.store, "save", saved_and_lost)
        problem(client.post("/mailboxes", MAILBOX, idempotency_key="k"), 503, "store-unavailable")
    problem(client.post("/mailboxes", MAILBOX, idempotency_key="k"), 409, "idempotency-key-in-use")
    monkeypatch.setattr("maildaemon_http.api.repeating.ABANDONED", _AT_ONCE)
    again = client.post("/mailboxes", MAILBOX, idempotency_key="k")
    assert again.status_code == 201, again.text
    assert [one.id for one in house.store.configurations()] == [again.json()["uuid"]]


def test_a_create_that_was_not_broken_off_after_all_is_made_once(
    client: Client, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maildaemon_http.api.repeating.ABANDONED", _AT_ONCE)
    save, together = house.store.save, threading.Barrier(2)

    def slowly(*arguments: Any, **more: Any) -> Any:
        time.sleep(0.5)
        return save(*arguments, **more)

    monkeypatch.setattr(house.store, "save", slowly)

    def ask() -> Any:
        together.wait()
        return client.post("/mailboxes", MAILBOX, idempotency_key="k")

    with ThreadPoolExecutor(2) as pool:
        one, other = (each.result() for each in [pool.submit(ask), pool.submit(ask)])
    assert (one.status_code, other.status_code) == (201, 201), (one.text, other.text)
    assert one.json()["uuid"] == other.json()["uuid"]
    third = client.post("/mailboxes", MAILBOX, idempotency_key="k")
    assert (third.json()["uuid"], len(house.store.configurations())) == (one.json()["uuid"], 1)


# ---------------------------------------------------------------------------------------------------------- the files


@pytest.mark.parametrize("url", ["%0a", "%1b[31m", "%ff", "%ed%a0%80", "%00", "%3Fpassword=x", "%3A%3Ax"])
def test_what_is_escaped_in_the_url_of_a_folder_is_refused_as_if_it_were_not(tmp_path: Path, url: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    house = House(tmp_path)
    daemon = MailDaemon(house.store, confinement=Confinement(roots=(str(root),)), spool=tmp_path / "spool")
    catalog = daemon.catalog(Vault(master_keys({"MAILDAEMON_MASTER_KEY": new_master_key()})))
    app = create_app(daemon, catalog, house.settings)
    body = {**MAILBOX, "host": "203.0.113.1", "destinations": [{"name": "a", "url": f"file://{root}/a{url}"}]}
    with TestClient(cast(Any, app), raise_server_exceptions=False) as inner:
        editor = Client(inner, {"x-api-key": house.key()})
        for path in ("/mailboxes", "/mailboxes/validate"):
            document = problem(editor.post(path, body), 422, "invalid-options")
            assert paths(document) == {"$.destinations[0].url"}
    assert not list(root.iterdir())
    daemon.close()


def test_an_answer_with_what_is_no_text_is_an_answer_all_the_same() -> None:
    response = Answer[Any](document=[{"subject": "a\udcffb"}]).response()
    assert response.content == b'[{"subject": "a?b"}]'


_AT_ONCE = timedelta(seconds=-60)  # whatever the two clocks of one moment say


class _Around:
    """Something with some of its attributes replaced."""

    def __init__(self, inner: Any, **others: Any) -> None:
        self.__dict__.update(others, _inner=inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Away(_Around):
    """A store whose keys cannot be looked up while it ``is_away``."""

    is_away = False

    def __init__(self, store: Store) -> None:
        super().__init__(store)

    def key(self, prefix: str) -> Any:
        if self.is_away:
            raise StoreUnavailable("the database is away")
        return self._inner.key(prefix)


def _inside(app: Any) -> Any:
    """Litestar's application, behind everything that stands before it."""
    while hasattr(app, "_inner"):
        app = app._inner
    return app


def _waiting_for(goes_on: threading.Event, act: Callable[..., Any]) -> Callable[..., Any]:
    def wait(*arguments: Any, **more: Any) -> Any:
        goes_on.wait(60)
        return act(*arguments, **more)

    return wait


@contextmanager
def _connected(url: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 20) as made:
        yield made


def _raw(url: str, request: bytes) -> bytes:
    """What is answered to a request as it is written, up to the end of the connection."""
    with _connected(url) as made:
        made.sendall(request)
        return b"".join(iter(lambda: made.recv(65536), b""))


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)
