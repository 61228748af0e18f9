"""What every answer has, and what wrong requests are answered."""

from __future__ import annotations

import logging

import pytest

from maildaemon_http.api.problems import all_cases
from maildaemon_http.api.settings import ApiSettings, Limits
from tests.http.api.house import MAILBOX, Client, House, paths, problem


def test_nothing_but_liveness_is_told_without_a_key(house: House, client: Client) -> None:
    client.headers = {}
    assert client.get("/health/live").json() == {"status": "alive"}
    for path in ("/mailboxes", "/openapi.json", "/metrics", "/health/ready", "/nothing", "/kinds"):
        answer = client.get(path)
        document = problem(answer, 401, "no-valid-key")
        assert "maildaemon keys create" in document["remedy"]
        assert "ApiKey" in answer.headers["www-authenticate"]
    problem(client.post("/health/live"), 401, "no-valid-key")


def test_a_key_is_good_in_either_header_and_a_wrong_one_is_told_nothing(client: Client, house: House) -> None:
    key = client.headers.pop("x-api-key")
    assert client.get("/mailboxes", authorization=f"Bearer {key}").status_code == 200
    assert client.get("/mailboxes", authorization=f"bearer {key}").status_code == 200
    prefix = key[: len("md_0123456789")]  # there may be more of _ behind it
    texts = set()
    for wrong in (f"{prefix}_{'A' * 43}", "md_0123456789_" + "A" * 43, "x", "md_", key + "x"):
        answer = client.get("/mailboxes", x_api_key=wrong)
        document = problem(answer, 401, "no-valid-key")
        texts.add((document["detail"], document["remedy"]))
    assert len(texts) == 1
    assert house.store.keys()[0].last_used is not None


def test_guessing_is_slowed_and_then_refused_and_a_good_key_goes_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    house = House(tmp_path_factory.mktemp("guessing"), settings=ApiSettings(limits=Limits(guesses=3)))
    with house.client() as client:
        for _ in range(3):
            problem(client.get("/kinds", x_api_key="wrong"), 401, "no-valid-key")
        answer = client.get("/kinds", x_api_key="wrong")
        problem(answer, 429, "too-many-guesses")
        assert answer.headers["retry-after"] == "60"
        assert client.get("/kinds").status_code == 200
    house.daemon.close()


def test_revoked_and_expired_keys_open_nothing(client: Client, house: House) -> None:
    (kept,) = house.store.keys()
    assert client.get("/kinds").status_code == 200
    house.store.revoke_key(kept.prefix, kept.created)
    problem(client.get("/kinds"), 401, "no-valid-key")


def test_every_answer_says_its_version_and_an_unknown_one_is_refused(client: Client) -> None:
    for answer in (client.get("/kinds"), client.get("/nothing"), client.get("/kinds", x_api_key="wrong")):
        assert answer.headers["x-api-version"] == "1.2"
    assert client.get("/kinds", x_api_version="1.2").status_code == 200
    document = problem(client.get("/kinds", x_api_version="2"), 400, "unknown-version")
    assert "1.2" in document["remedy"]


def test_a_request_id_goes_in_and_out_and_into_the_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "maildaemon_http.access"):
        assert client.get("/kinds?x-api-key=hunter2", x_request_id="mine-1").headers["x-request-id"] == "mine-1"
    (record,) = caplog.records
    assert (record.getMessage(), record.__dict__["status"]) == ("GET /kinds 200", 200)
    assert "hunter2" not in str(record.__dict__)
    assert client.headers["x-api-key"] not in str(record.__dict__)
    made = client.get("/kinds", x_request_id="not good").headers["x-request-id"]
    assert made != "not good"


def test_a_body_that_is_no_json_is_told_where(client: Client) -> None:
    for body in (b"{", b"", b"\xff", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000, b"hunter2"):
        document = problem(client.post("/mailboxes", body), 400, "malformed-json")
        assert "hunter2" not in str(document)
    problem(client.post("/mailboxes", b"{}", content_type="text/plain"), 415, "unsupported-media-type")


def test_every_fault_of_a_body_is_told_at_once_with_its_path(client: Client) -> None:
    body = {"hosst": "a", "port": "993", "active": 1, "destinations": [{"url": 7}], "mailArchiving": {"format": "pst"}}
    document = problem(client.post("/mailboxes", body), 422, "invalid-options")
    assert paths(document) >= {
        "$.hosst",
        "$.port",
        "$.active",
        "$.destinations[0].url",
        "$.mailArchiving.format",
    }
    assert "did you mean host?" in str(document["errors"])
    for other in (b"[]", b'"text"', b"7", b"null"):
        problem(client.post("/mailboxes", other), 422, "invalid-options")


def test_too_much_of_anything_is_refused(client: Client) -> None:
    problem(client.post("/mailboxes", b" " * (1 << 20) + b"{}"), 413, "body-too-large")
    document = problem(client.post("/mailboxes", {**MAILBOX, "folders": ["a"] * 1001}), 422, "list-too-long")
    assert paths(document) == {"$.folders"}
    document = problem(client.get("/mailboxes?limit=100000"), 400, "invalid-parameter")
    assert paths(document) == {"limit"}


def test_wrong_parameters_are_told_by_name(client: Client) -> None:
    document = problem(client.get("/monitoring/failed?sendr=x&limit=0&from=yesterday"), 400, "invalid-parameter")
    assert paths(document) == {"sendr", "limit", "from"}
    problem(client.get("/monitoring/failed?cursor=nonsense"), 422, "unknown-cursor")
    problem(client.get("/monitoring/failed?limit=1&limit=2"), 400, "invalid-parameter")
    problem(client.get("/mailboxes/not-a-uuid"), 400, "invalid-parameter")
    problem(client.get("/mailboxes/00000000-0000-0000-0000-000000000000"), 404, "unknown-mailbox")
    problem(client.delete("/monitoring/x"), 400, "invalid-parameter")
    problem(client.delete(f"/monitoring/{2**31}"), 400, "invalid-parameter")
    problem(client.delete("/monitoring/7"), 404, "unknown-entry")


def test_an_unknown_path_or_method_is_a_problem_document_too(client: Client) -> None:
    problem(client.get("/nothing"), 404, "not-found")
    answer = client.put("/mailboxes", {})
    problem(answer, 405, "method-not-allowed")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


def test_no_two_problems_share_a_type() -> None:
    names = [case.name for case in all_cases()]
    assert len(names) == len(set(names))
