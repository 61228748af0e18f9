"""Configurations over the API: made, read, changed, removed, and what the page's own fields mean."""

from __future__ import annotations

from typing import Any

import pytest

from maildaemon_core.access import Scope
from maildaemon_core.message import MailboxId
from maildaemon_core.options import MASK
from tests.engine.story import mail
from tests.http.api.house import MAILBOX, Client, House, paths, problem

SAMPLE = {
    "active": True,
    "mailbox": "user@example.com",
    "port": 0,
    "useSsl": True,
    "deleteMailsOnServer": True,
    "exportAttachments": True,
}
"""What the public page shows as an example."""

EVERY = {
    **SAMPLE,
    "host": "imap.example.com",
    "type": "IMAP",
    "port": 993,
    "clientId": "id",
    "tenantId": "tenant",
    "clientSecret": "hunter3",
    "username": "user",
    "password": "hunter2",
    "folders": ["INBOX", "Orders"],
    "mailArchiving": {"active": True},
    "allowedEmailExtensions": ["@firm.example", ".de"],
    "allowedAttachments": ["pdf", "image/*"],
    "destinations": [{"name": "archive", "type": "file", "url": "invoices"}],
}
"""Every property that the page names, set."""


def test_the_sample_of_the_page_is_understood_and_its_gaps_are_named(client: Client) -> None:
    document = problem(client.post("/mailboxes", SAMPLE), 422, "invalid-options")
    assert paths(document) >= {"$.host", "$.password", "$.destinations"}
    answer = client.post("/mailboxes", {**SAMPLE, "active": False, "deleteMailsOnServer": False})
    assert answer.status_code == 201
    assert answer.json()["useSsl"] is True


def test_every_property_of_the_page_is_taken_and_given_back(client: Client) -> None:
    answer = client.post("/mailboxes", EVERY)
    assert answer.status_code == 201, answer.text
    shown = client.get(answer.headers["location"]).json()
    secrets = {"password": MASK, "clientSecret": MASK}
    assert {name: shown[name] for name in {*EVERY} - {"mailArchiving", "destinations", *secrets}} == {
        name: EVERY[name] for name in {*EVERY} - {"mailArchiving", "destinations", *secrets}
    }
    assert {name: shown[name] for name in secrets} == secrets
    assert shown["mailArchiving"]["active"] is True
    assert shown["destinations"][0]["url"] == "invoices"


def test_null_is_as_if_a_property_were_absent(client: Client) -> None:
    nothing = dict.fromkeys(EVERY)
    absent = problem(client.post("/mailboxes", {}), 422, "invalid-options")
    null = problem(client.post("/mailboxes", nothing), 422, "invalid-options")
    assert null["errors"] == absent["errors"]
    inactive = {**nothing, "active": False}
    shown = client.post("/mailboxes", inactive).json()
    bare = client.post("/mailboxes", {"active": False}).json()
    own = {"uuid", "created", "changed"}
    assert {k: v for k, v in shown.items() if k not in own} == {k: v for k, v in bare.items() if k not in own}


def test_a_mailbox_is_made_read_changed_replaced_and_removed(client: Client) -> None:
    answer = client.post("/mailboxes", MAILBOX)
    assert answer.status_code == 201
    made = answer.json()
    assert (answer.headers["location"], answer.headers["etag"]) == (f"/mailboxes/{made['uuid']}", '"1"')
    assert (made["createdBy"], made["managedBy"], made["adopted"]) == ("the tests", "api", False)
    path = f"/mailboxes/{made['uuid']}"
    assert client.get(path).json() == made
    changed = client.patch(path, {"folders": ["Orders"]})
    assert (changed.json()["folders"], changed.json()["password"], changed.headers["etag"]) == (["Orders"], MASK, '"2"')
    back = client.put(path, {**changed.json(), "folders": None})
    assert (back.status_code, back.json()["folders"], back.json()["version"]) == (200, [], 3), back.text
    assert client.delete(path).status_code == 204
    problem(client.get(path), 404, "unknown-mailbox")
    problem(client.delete(path), 404, "unknown-mailbox")


def test_only_the_configuration_that_was_read_is_changed_if_the_request_says_so(client: Client) -> None:
    path = f"/mailboxes/{client.create()}"
    assert client.patch(path, {"name": "new"}, if_match='"1"').status_code == 200
    for wrong, status, name in (('"1"', 412, "stale-version"), ("*2", 400, "invalid-parameter")):
        problem(client.patch(path, {"name": "newer"}, if_match=wrong), status, name)
        problem(client.put(path, MAILBOX, if_match=wrong), status, name)
        problem(client.delete(path, if_match=wrong), status, name)
    assert client.get(path).json()["name"] == "new"
    assert client.delete(path, if_match='"2"').status_code == 204


def test_a_create_that_is_repeated_with_its_key_makes_no_second_mailbox(client: Client, house: House) -> None:
    first = client.post("/mailboxes", MAILBOX, idempotency_key="once")
    again = client.post("/mailboxes", MAILBOX, idempotency_key="once")
    assert (again.status_code, again.json(), again.headers["etag"]) == (201, first.json(), first.headers["etag"])
    assert again.headers["location"] == first.headers["location"]
    assert len(house.store.configurations()) == 1
    problem(client.post("/mailboxes", {**MAILBOX, "name": "x"}, idempotency_key="once"), 422, "idempotency-key-reused")
    other = client.another(house.key())  # whose keys for requests are others
    assert other.post("/mailboxes", {"active": False}, idempotency_key="once").status_code == 201


def test_a_refused_create_may_be_corrected_under_the_same_key(client: Client) -> None:
    problem(client.post("/mailboxes", {}, idempotency_key="k"), 422, "invalid-options")
    assert client.post("/mailboxes", MAILBOX, idempotency_key="k").status_code == 201


def test_the_list_is_newest_first_and_its_pages_stay_as_they_are_while_others_write(client: Client) -> None:
    ids = [client.create(mailbox=f"box{n}@example.com") for n in range(5)]
    first = client.get("/mailboxes?limit=2").json()
    client.create(mailbox="new@example.com")
    client.delete(f"/mailboxes/{ids[4]}")
    second = client.get(f"/mailboxes?limit=2&cursor={first['next']}").json()
    third = client.get(f"/mailboxes?limit=2&cursor={second['next']}").json()
    shown = [one["uuid"] for page in (first, second, third) for one in page["items"]]
    assert (shown, third["next"]) == (ids[::-1], None)


def test_what_is_active_is_swept_at_once_and_a_change_takes_effect_at_once(client: Client, house: House) -> None:
    house.server.plant(mail("first"))
    mailbox = client.create()
    report = client.post(f"/mailboxes/{mailbox}/sweeps?wait=20").json()["report"]
    assert report["well"], report
    assert list(house.places["invoices"].visible) == ["first.eml"]
    client.patch(f"/mailboxes/{mailbox}", {"mailArchiving": {"pathTemplate": "new/{subject}.eml"}})
    house.server.plant(mail("second"))
    assert client.post(f"/mailboxes/{mailbox}/sweeps?wait=20").json()["state"] == "ended"
    assert sorted(house.places["invoices"].visible) == ["first.eml", "new/second.eml"]


def test_skipped_mail_comes_back_only_when_asked_for(client: Client, house: House) -> None:
    house.server.plant(mail("invoice", sender="jane@firm.example"))
    mailbox = client.create(allowedEmailExtensions=["@other.example"])
    sweeps = f"/mailboxes/{mailbox}/sweeps?wait=20"
    client.post(sweeps)
    client.patch(f"/mailboxes/{mailbox}", {"allowedEmailExtensions": None})
    client.post(sweeps)
    assert not house.places["invoices"].visible
    assert client.post(sweeps, {"again": "skipped"}).json()["report"]["counts"]["stored"] == 1
    assert list(house.places["invoices"].visible) == ["invoice.eml"]


def test_the_same_account_again_is_told_and_after_a_removal_nothing_is_delivered_twice(
    client: Client, house: House
) -> None:
    house.server.plant(mail("invoice"))
    mailbox = client.create()
    client.post(f"/mailboxes/{mailbox}/sweeps?wait=20")
    twin = client.post("/mailboxes", {**MAILBOX, "name": "twin"})
    assert (twin.status_code, bool(twin.json()["warnings"])) == (201, True), twin.text
    client.delete(twin.headers["location"] + "?forget=true")
    problem(client.post("/mailboxes", {**MAILBOX, "deleteMailsOnServer": True}), 409, "rival-mailbox")
    client.delete(f"/mailboxes/{mailbox}")
    again = client.post("/mailboxes", MAILBOX).json()
    assert (again["uuid"], again["adopted"]) == (mailbox, True)
    counts = client.post(f"/mailboxes/{mailbox}/sweeps?wait=20").json()["report"]["counts"]
    assert counts["stored"] == 0
    client.delete(f"/mailboxes/{mailbox}?forget=true")
    anew = client.post("/mailboxes", MAILBOX).json()
    assert (anew["uuid"] != mailbox, anew["adopted"]) == (True, False)


@pytest.mark.parametrize(
    "change",
    [
        {"host": "evil.example"},
        {"port": 144},
        {"useSsl": False},
        {"tls": "none"},
        {"tenantId": "another"},
        {"host": "evil.example", "password": MASK},
        {"destinations": [{"name": "archive", "url": "//evil.example/share", "password": MASK}]},
        {"destinations": [{"name": "other", "url": "invoices", "password": MASK}]},
        {"options": {"token": MASK}},
    ],
    ids=str,
)
def test_a_stored_secret_goes_nowhere_else_than_where_it_was_entered_for(
    client: Client, change: dict[str, Any]
) -> None:
    destination = {"name": "archive", "url": "invoices", "password": "hunter4", "username": "jane"}
    mailbox = client.create(destinations=[destination])
    problem(client.patch(f"/mailboxes/{mailbox}", change), 422, "invalid-options")
    assert client.get(f"/mailboxes/{mailbox}").json()["version"] == 1


def test_destinations_may_be_reordered_under_the_mask(client: Client, house: House) -> None:
    first = {"name": "one", "url": "one", "password": "secret of one"}
    second = {"name": "two", "url": "two", "password": "secret of two"}
    mailbox = client.create(destinations=[first, second])
    masked = [{**second, "password": MASK}, {**first, "password": MASK}]
    assert client.patch(f"/mailboxes/{mailbox}", {"destinations": masked}).status_code == 200
    found = house.catalog.get(MailboxId(mailbox))
    kept = {one.name: one.password.value for one in found.options.destinations}  # type: ignore[union-attr]
    assert kept == {"one": "secret of one", "two": "secret of two"}


@pytest.mark.parametrize("secret", ["env:MAILDAEMON_MASTER_KEY", "file:/etc/passwd", "file:secrets/../mail.db"])
def test_an_editor_cannot_refer_to_the_secrets_of_the_service(client: Client, secret: str) -> None:
    document = problem(client.post("/mailboxes", {**MAILBOX, "password": secret}), 422, "invalid-options")
    assert paths(document) == {"$.password"}
    assert client.post("/mailboxes", {**MAILBOX, "password": f"plain:{secret}"}).status_code == 201
    assert client.post("/mailboxes", {**MAILBOX, "password": "env:ALLOWED"}).status_code == 201


def test_without_a_master_key_no_secret_is_taken_and_the_way_to_one_is_told(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    house = House(tmp_path_factory.mktemp("unsealed"), sealed=False)
    try:
        with house.client() as client:
            document = problem(client.post("/mailboxes", MAILBOX), 409, "no-master-key")
            assert "maildaemon master-key new" in document["remedy"]
            assert "hunter2" not in str(document)
            assert client.post("/mailboxes", {**MAILBOX, "password": None, "active": False}).status_code == 201
    finally:
        house.daemon.close()


def test_validation_tells_what_works_and_what_does_not(client: Client, house: House) -> None:
    mailbox = client.create()
    findings = client.post(f"/mailboxes/{mailbox}/validate").json()
    assert {one["level"] for one in findings} == {"fine", "warning"}, findings
    unsaved = client.post("/mailboxes/validate", {**MAILBOX, "password": "wrong"}).json()
    assert ("fault", "the server refuses the password") in {(one["level"], one["message"]) for one in unsaved}
    problem(client.post("/mailboxes/validate", {"host": 7}), 422, "invalid-options")
    assert len(house.store.configurations()) == 1


def test_each_scope_opens_its_own_operations_only(house: House) -> None:
    with house.client(Scope.MAILBOXES_READ) as reader:
        assert reader.get("/mailboxes").status_code == 200
        document = problem(reader.post("/mailboxes", MAILBOX), 403, "scope-missing")
        assert "mailboxes:write" in document["detail"]
        problem(reader.get("/monitoring/failed"), 403, "scope-missing")
        problem(reader.post(f"/mailboxes/{MailboxId('0' * 32)}/sweeps"), 403, "scope-missing")
