"""Monitoring over the API: what became of every mail, and what people decide about those that failed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.access import Scope
from maildaemon_core.errors import Trouble
from maildaemon_core.message import BatchId, Cursor, MailboxId
from maildaemon_core.ports import Occupied, Staged, Unknown
from maildaemon_core.progress import Entry, Receipt, Stage
from maildaemon_core.store_port import Configuration, FolderState, Lease
from maildaemon_core.testing.lease_conformance import INBOX, leased, some_mailbox
from maildaemon_core.testing.lease_conformance import mail as found_mail
from maildaemon_core.testing.memory_destination import MemoryDestination
from tests.engine.story import mail
from tests.http.api.house import Client, House, problem

LOCKED = Trouble(error="Locked", message="somebody writes this file", remedy="close it")
FOR_GOOD = Trouble(error="PathRefused", message="this name is not taken", remedy="rename it", transient=False)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


def swept(client: Client, mailbox: str) -> dict[str, Any]:
    """What a sweep that was waited for has done."""
    answer = client.post(f"/mailboxes/{mailbox}/sweeps?wait=20")
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()["report"]
    return report


def watched(client: Client, **others: Any) -> str:
    """A new mailbox whose first sweep, which begins by itself, is over: what comes now is found by the next one."""
    mailbox = client.create(**others)
    swept(client, mailbox)
    return mailbox


def listed(client: Client, path: str, **query: Any) -> list[dict[str, Any]]:
    """All items, from however many pages."""
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        asked = {**query, **({"cursor": cursor} if cursor else {})}
        answer = client.get(f"{path}?{urlencode(asked)}")
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        cursor = answer.json()["next"]
    return items


def failed(client: Client, **query: Any) -> list[dict[str, Any]]:
    return listed(client, "/monitoring/failed", **query)


def successful(client: Client, **query: Any) -> list[dict[str, Any]]:
    return listed(client, "/monitoring/successful", **query)


def place(house: House, refuse: Callable[[str], Trouble | None] = lambda path: None) -> MemoryDestination:
    """The destination of the house, which refuses some files."""
    made = house.places["invoices"] = MemoryDestination("invoices")
    made.refuse = refuse
    return made


def a_failed_mail(house: House, client: Client, trouble: Trouble = FOR_GOOD) -> tuple[str, int]:
    """A mailbox, and the number of its only mail, which the destination has refused."""
    mailbox = watched(client)
    place(house, lambda path: trouble)
    house.server.plant(mail("invoice"))
    assert swept(client, mailbox)["counts"]["failed"] == 1
    (entry,) = failed(client)
    number: int = entry["id"]
    return mailbox, number


# ------------------------------------------------------------------------------------------------------ what is shown


def test_a_failed_mail_is_told_with_all_that_is_known_of_it(client: Client, house: House) -> None:
    mailbox = watched(client, folders=["Orders"])
    raw = mail("invoice 7", sender="jane@firm.example")
    house.server.plant(raw, "Orders", received=JUNE)
    place(house, lambda path: LOCKED)
    before = datetime.now(UTC).replace(microsecond=0)
    swept(client, mailbox)
    (entry,) = failed(client)
    after = datetime.now(UTC)
    moments = {name: datetime.fromisoformat(entry.pop(name)) for name in ("firstSeen", "lastTried", "nextTry")}
    assert before <= moments["firstSeen"] <= moments["lastTried"] <= after
    assert moments["lastTried"] < moments["nextTry"] < after + timedelta(minutes=2)
    assert isinstance(entry.pop("id"), int)
    assert entry == {
        "mailbox": mailbox,
        "address": "invoices@example.com",
        "folder": "Orders",
        "subject": "invoice 7",
        "sender": "jane@firm.example",
        "messageId": "<invoice-7@firm.example>",
        "size": len(raw),
        "received": "2026-06-01T00:00:00Z",
        "attempts": 1,
        "dismissed": False,
        "error": "Locked",
        "message": entry["message"],
        "remedy": "close it",
    }
    assert "somebody writes this file" in entry["message"]


def test_a_mail_that_is_not_tried_again_by_itself_is_given_up(client: Client, house: House) -> None:
    a_failed_mail(house, client)
    (entry,) = failed(client)
    assert (entry["nextTry"], entry["error"], entry["attempts"]) == ("given up", "PathRefused", 1)


def test_a_stored_mail_is_told_with_each_of_its_files(client: Client, house: House) -> None:
    mailbox = watched(client, exportAttachments=True)
    raw = mail("invoice", attachments=[("list.csv", "text/csv", b"1;2\n"), ("plan.pdf", "application/pdf", b"%PDF-1")])
    house.server.plant(raw, received=JUNE)
    assert swept(client, mailbox)["counts"] == {"seen": 1, "stored": 1, "skipped": 0, "failed": 0, "pending": 0}
    (entry,) = successful(client)
    assert {name: entry[name] for name in ("mailbox", "subject", "attempts", "dismissed", "size")} == {
        "mailbox": mailbox,
        "subject": "invoice",
        "attempts": 0,
        "dismissed": False,
        "size": len(raw),
    }
    assert "error" not in entry
    stored = house.places["invoices"].visible
    assert len(stored) == 3
    assert {one["path"]: (one["size"], one["sha256"]) for one in entry["artifacts"]} == {
        path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in stored.items()
    }
    assert sorted((one["role"], one["name"], one["destination"]) for one in entry["artifacts"]) == [
        ("attachment", "list.csv", "archive"),
        ("attachment", "plan.pdf", "archive"),
        ("mail", None, "archive"),
    ]
    assert failed(client) == []


def test_what_was_processed_stays_in_sight_when_its_mailbox_is_removed_and_can_only_be_looked_at(
    client: Client, house: House
) -> None:
    mailbox, number = a_failed_mail(house, client)
    client.delete(f"/mailboxes/{mailbox}")
    (entry,) = failed(client, mailbox=mailbox)
    assert (entry["id"], entry["address"]) == (number, "invoices@example.com")
    document = problem(client.post(f"/monitoring/{number}/retry"), 404, "unknown-mailbox")
    assert "create it again" in document["remedy"]
    client.create()
    assert client.post(f"/monitoring/{number}/retry").status_code == 202


# ------------------------------------------------------------------------------------------------------------- filters


@attrs.frozen(kw_only=True)
class Planted:
    """A mail as it was sent, and what became of it."""

    mailbox: str
    folder: str
    sender: str
    subject: str
    received: datetime
    error: str | None


Archive = tuple[Client, Sequence[Planted], Mapping[str, str]]
SENDERS = ("jane@firm.example", "JIM@firm.example", "büro@other.example")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Two mailboxes of two folders each, of whose mails two of three were refused; the ids of the mailboxes by name."""
    house = House(tmp_path_factory.mktemp("archive"))
    house.daemon.start(house.catalog)
    planted = [
        Planted(
            mailbox=box,
            folder=("INBOX", "Orders")[number // 3 % 2],
            sender=SENDERS[number // 2 % 3],
            subject=f"{('Rechnung', 'Große Straße')[number % 2]} {number:02}",
            received=JUNE + timedelta(hours=number),
            error=(None, "Locked", "PathRefused")[number % 3],
        )
        for number in range(24)
        for box in ("one", "two")
    ]
    for one in planted[::2]:
        house.server.plant(mail(one.subject, sender=one.sender), one.folder, received=one.received)
    wanted = {one.subject: one.error for one in planted}
    troubles = {each.error: each for each in (LOCKED, FOR_GOOD)}
    ids = {}
    with house.client() as client:
        for box in ("one", "two"):
            place = house.places[box] = MemoryDestination(box)
            place.refuse = lambda path: troubles.get(wanted[path.removesuffix(".eml")] or "")
            ids[box] = client.create(
                mailbox=f"{box}@example.com",
                folders=["INBOX", "Orders"],
                destinations=[{"name": "archive", "url": box}],
            )
            swept(client, ids[box])
        yield client, planted, ids
    house.daemon.close(deadline=5)


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "mailbox": st.sampled_from(["one", "two"]),
        "folder": st.sampled_from(["INBOX", "Orders", "Elsewhere", "inbox"]),
        "sender": st.sampled_from(["jane", "FIRM.example", "jim@", "BÜRO", "nobody", "%", ""]),
        "subject": st.sampled_from(["rechnung", "STRASSE", "0", "1", "_", ""]),
        "from": st.integers(-1, 25).map(lambda hours: JUNE + timedelta(hours=hours)),
        "to": st.integers(-1, 25).map(lambda hours: JUNE + timedelta(hours=hours)),
        "error": st.sampled_from(["Locked", "PathRefused", "locked", "Other"]),
    },
)


def suits(one: Planted, wanted: Mapping[str, Any]) -> bool:
    """Whether a mail is meant by a filter, by its properties as the reference tells them."""
    return (
        wanted.get("mailbox", one.mailbox) == one.mailbox
        and wanted.get("folder", one.folder) == one.folder
        and wanted.get("sender", "").casefold() in one.sender.casefold()
        and wanted.get("subject", "").casefold() in one.subject.casefold()
        and wanted.get("from", one.received) <= one.received
        and one.received < wanted.get("to", one.received + timedelta(1))
        and wanted.get("error", one.error) == one.error
    )


@given(wanted=FILTERS, limit=st.sampled_from([None, 1, 7, 500]))
def test_every_filter_and_all_of_them_together_find_what_they_say(
    archive: Archive, wanted: Mapping[str, Any], limit: int | None
) -> None:
    client, planted, ids = archive
    query = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in wanted.items()}
    query |= {"mailbox": ids[wanted["mailbox"]]} if "mailbox" in wanted else {}
    query |= {"limit": limit} if limit else {}
    for path, has_failed in (("/monitoring/failed", True), ("/monitoring/successful", False)):
        items = listed(client, path, **query)
        shown = [item["id"] for item in items]
        assert shown == sorted(shown, reverse=True)
        expected = {
            (ids[one.mailbox], one.subject) for one in planted if bool(one.error) is has_failed and suits(one, wanted)
        }
        assert {(item["mailbox"], item["subject"]) for item in items} == expected
        assert len(items) == len(expected)


def test_a_filter_for_no_mailbox_finds_nothing_and_a_wrong_one_is_told(archive: Archive) -> None:
    client, _, _ = archive
    assert failed(client, mailbox="00000000-0000-0000-0000-000000000000") == []
    problem(client.get("/monitoring/failed?mailbox=one"), 400, "invalid-parameter")
    problem(client.get("/monitoring/failed?from=2026-06-01T00:00:00"), 400, "invalid-parameter")


# --------------------------------------------------------------------------------------------------------------- pages


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Client]]:
    """A house in which nothing is swept, so that only the test writes."""
    house = House(tmp_path_factory.mktemp("quiet"))
    with house.client() as client:
        yield house, client
    house.daemon.close()


def arrived(lease: Lease, numbers: range) -> list[int]:
    """Failed mails of these numbers; their ids."""
    entries = [
        attrs.evolve(found_mail(lease.mailbox, number), stage=Stage.GIVEN_UP, due_at=None, trouble=FOR_GOOD)
        for number in numbers
    ]
    admitted: Sequence[Entry] = lease.admit(INBOX, entries, FolderState(cursor=Cursor("1")))
    return [entry.id for entry in admitted if entry.id is not None]


@given(
    number=st.integers(0, 12),
    limit=st.integers(1, 5),
    meanwhile=st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 30), max_size=3)), max_size=6),
    dismissed=st.booleans(),
)
def test_pages_show_everything_once_while_mails_come_and_others_are_dismissed(
    quiet: tuple[House, Client], number: int, limit: int, meanwhile: list[tuple[int, list[int]]], dismissed: bool
) -> None:
    house, client = quiet
    mailbox = some_mailbox()
    house.store.save(Configuration(id=mailbox, name="one", document={"active": False}))
    lease = leased(house.store, mailbox)
    there = arrived(lease, range(number))
    everything, gone = list(there), set[int]()
    path = f"/monitoring/failed?mailbox={mailbox}&limit={limit}&dismissed={str(dismissed).lower()}"
    shown: list[int] = []
    cursor = ""
    while True:
        page = client.get(path + cursor).json()
        assert len(page["items"]) <= limit
        shown += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
        new, removed = meanwhile.pop() if meanwhile else (0, [])
        everything += arrived(lease, range(len(everything), len(everything) + new))
        for one in removed:
            if one < len(everything) and everything[one] not in gone:
                assert client.delete(f"/monitoring/{everything[one]}").status_code == 204
                gone.add(everything[one])
    assert shown == sorted(set(shown), reverse=True), "twice, or out of order"
    assert set(shown) <= set(there), "what came later stands before the first page"
    assert set(there) - set(shown) <= (set() if dismissed else gone), "something was passed over"


# --------------------------------------------------------------------------------------------------------- dismissing


def test_a_failed_mail_that_is_dismissed_is_out_of_sight_and_never_tried_again(client: Client, house: House) -> None:
    mailbox, number = a_failed_mail(house, client, LOCKED)
    assert client.delete(f"/monitoring/{number}").status_code == 204
    assert failed(client) == []
    (entry,) = failed(client, dismissed="true")
    assert (entry["id"], entry["dismissed"], entry["nextTry"]) == (number, True, "given up")
    fetched = len(house.server.fetches)
    place(house)  # it would take the mail now
    assert swept(client, mailbox)["counts"]["stored"] == 0
    assert client.post("/monitoring/failed/retry").json() == {"retried": 0}
    assert len(house.server.fetches) == fetched
    assert house.server.contents() == [mail("invoice")]
    assert successful(client, dismissed="true") == []


def test_dismissing_twice_is_the_same_as_once(client: Client, house: House) -> None:
    _, number = a_failed_mail(house, client)
    answers = [client.delete(f"/monitoring/{number}") for _ in range(2)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b"")] * 2


def test_a_stored_mail_that_is_dismissed_is_not_processed_a_second_time(client: Client, house: House) -> None:
    house.server.plant(mail("invoice"))
    mailbox = client.create()
    swept(client, mailbox)
    (entry,) = successful(client)
    assert client.delete(f"/monitoring/{entry['id']}").status_code == 204
    assert successful(client) == []
    assert successful(client, dismissed="true") == [{**entry, "dismissed": True}]
    assert swept(client, mailbox)["counts"]["seen"] == 0
    house.server.renumber()  # the mails look new, and are told by what is remembered of them
    swept(client, mailbox)
    assert len(house.places["invoices"].published) == 1


# ------------------------------------------------------------------------------------------------------------ retrying


def test_one_mail_is_tried_again_though_it_was_given_up_or_dismissed(client: Client, house: House) -> None:
    mailbox, number = a_failed_mail(house, client)
    client.delete(f"/monitoring/{number}")
    place(house)
    answer = client.post(f"/monitoring/{number}/retry")
    assert (answer.status_code, answer.json()) == (202, {"retried": 1})
    swept(client, mailbox)
    (entry,) = successful(client)
    assert (entry["id"], entry["dismissed"]) == (number, False)
    assert failed(client, dismissed="true") == []
    document = problem(client.post(f"/monitoring/{number}/retry"), 409, "refused")
    assert document["detail"] == f"mail {number} is stored"


def test_a_retry_that_is_sent_twice_with_its_key_is_carried_out_once(client: Client, house: House) -> None:
    mailbox, number = a_failed_mail(house, client)
    place(house)
    first = client.post(f"/monitoring/{number}/retry", idempotency_key="once")
    swept(client, mailbox)
    again = client.post(f"/monitoring/{number}/retry", idempotency_key="once")  # else 409: it is stored by now
    assert (first.status_code, again.status_code, again.json()) == (202, 202, {"retried": 1})
    problem(client.post(f"/monitoring/{number}/retry", idempotency_key="another"), 409, "refused")


def test_those_that_a_filter_finds_are_tried_again_and_no_others(client: Client, house: House) -> None:
    for subject in ("one", "two", "three"):
        house.server.plant(mail(subject))
    troubles = {"one.eml": FOR_GOOD, "two.eml": attrs.evolve(LOCKED, transient=False), "three.eml": FOR_GOOD}
    place(house, troubles.get)
    mailbox = client.create()
    swept(client, mailbox)
    house.places["invoices"].refuse = lambda path: None
    assert client.post("/monitoring/failed/retry", {"error": "Nothing"}).json() == {"retried": 0}
    assert client.post("/monitoring/failed/retry", {"error": "PathRefused", "subject": "THR"}).json() == {"retried": 1}
    swept(client, mailbox)
    assert [one["subject"] for one in successful(client)] == ["three"]
    assert client.post("/monitoring/failed/retry", {"mailbox": mailbox}).json() == {"retried": 2}
    swept(client, mailbox)
    assert sorted(house.places["invoices"].visible) == ["one.eml", "three.eml", "two.eml"]
    document = problem(client.post("/monitoring/failed/retry", {"sendr": "x"}), 422, "invalid-options")
    assert "did you mean sender?" in str(document["errors"])


class Forgetful(MemoryDestination):
    """A destination whose staging area is gone when a file is to be shown: nobody can tell whether it was."""

    def publish(self, batch: BatchId, staged: Sequence[Staged]) -> Mapping[str, Receipt | Occupied | Unknown | Trouble]:
        self.staging.clear()
        return super().publish(batch, staged)


def test_a_mail_of_which_nobody_knows_whether_it_was_delivered_is_tried_again_only_on_demand(
    client: Client, house: House
) -> None:
    house.server.plant(mail("invoice"))
    house.places["invoices"] = Forgetful("invoices")
    mailbox = client.create(deleteMailsOnServer=True)
    swept(client, mailbox)
    (entry,) = failed(client)
    assert (entry["nextTry"], len(house.server.contents())) == ("given up", 1)
    path = f"/monitoring/{entry['id']}/retry"
    document = problem(client.post(path), 409, "refused")
    assert "it would come twice" in document["detail"]
    assert '"unconfirmed"' in document["remedy"]
    assert client.post("/monitoring/failed/retry").json() == {"retried": 0}
    place(house)
    assert client.post(path, {"unconfirmed": True}).status_code == 202
    swept(client, mailbox)
    assert (list(house.places["invoices"].visible), house.server.contents()) == (["invoice.eml"], [])


# --------------------------------------------------------------------------------------------------------------- infos


def infos(client: Client) -> dict[str, dict[str, Any]]:
    return {info["name"]: info for info in listed(client, "/monitoring/mailboxes")}


def adds_up(counts: Mapping[str, int]) -> bool:
    return counts["seen"] == counts["stored"] + counts["skipped"] + counts["failed"] + counts["pending"]


def test_a_mailbox_is_told_with_its_last_sweep_whose_counts_add_up(client: Client, house: House) -> None:
    mailbox = watched(client, folders=["INBOX", "Orders"], allowedEmailExtensions=["firm.example"])
    place(house, lambda path: LOCKED if path == "refused.eml" else None)
    for subject in ("stored", "refused"):
        house.server.plant(mail(subject))
    house.server.plant(mail("unwanted", sender="eve@evil.example"), "Orders")
    swept(client, mailbox)
    info = infos(client)["invoices@example.com"]
    sweep = info["lastSweep"]
    assert sweep["counts"] == {"seen": 3, "stored": 1, "skipped": 1, "failed": 1, "pending": 0}
    assert {one["folder"]: one["counts"]["seen"] for one in sweep["folders"]} == {"INBOX": 2, "Orders": 1}
    assert all(adds_up(one["counts"]) for one in (sweep, *sweep["folders"]))
    assert (info["mailbox"], info["address"], info["active"], info["configured"]) == (
        mailbox,
        "invoices@example.com",
        True,
        True,
    )
    assert (sweep["state"], sweep["well"], sweep["server"]) == ("done", False, "memory")
    assert sweep["started"] <= sweep["ended"] <= info["lastSuccess"] < info["nextSweep"]
    assert (info["failingSince"], info["heldBy"], info["backlog"]) == (None, None, {"INBOX": 1})


def test_what_waits_for_a_destination_is_the_backlog(client: Client, house: House) -> None:
    mailbox = watched(client, folders=["Orders"])
    place(house).down = True
    for number in range(3):
        house.server.plant(mail(f"invoice {number}"), "Orders")
    report = swept(client, mailbox)
    assert (report["state"], report["counts"]["pending"], adds_up(report["counts"])) == ("paused", 3, True)
    assert infos(client)["invoices@example.com"]["backlog"] == {"Orders": 3}
    house.places["invoices"].down = False
    assert swept(client, mailbox)["counts"] == {"seen": 3, "stored": 3, "skipped": 0, "failed": 0, "pending": 0}
    assert infos(client)["invoices@example.com"]["backlog"] == {}


def test_since_when_a_mailbox_fails_and_why_is_told_until_it_works_again(client: Client, house: House) -> None:
    house.server.down = True
    mailbox = client.create()
    first = swept(client, mailbox)
    assert (first["state"], first["trouble"]["error"], first["trouble"]["remedy"]) == (
        "failed",
        "SourceUnavailable",
        "start it",
    )
    since = infos(client)["invoices@example.com"]["failingSince"]
    assert since is not None
    swept(client, mailbox)
    info = infos(client)["invoices@example.com"]
    assert (info["failingSince"], info["lastSuccess"]) == (since, None)
    house.server.down = False
    swept(client, mailbox)
    info = infos(client)["invoices@example.com"]
    assert (info["failingSince"], info["lastSuccess"] is None, info["lastSweep"]["trouble"]) == (None, False, None)


def test_mailboxes_are_listed_by_name_in_pages_and_an_inactive_one_has_no_next_sweep(
    client: Client, house: House
) -> None:
    names = ["Zebra", "alpha", "beta", "gamma"]
    for name in names:
        client.create(name=name, mailbox=f"{name}@example.com", active=False)
    one_by_one = [info["name"] for info in listed(client, "/monitoring/mailboxes", limit=1)]
    assert one_by_one == sorted(names)
    assert [(info["active"], info["lastSweep"], info["nextSweep"]) for info in infos(client).values()] == [
        (False, None, None)
    ] * 4


def test_who_works_on_a_mailbox_is_told(client: Client, house: House) -> None:
    mailbox = MailboxId(client.create(active=False))
    leased(house.store, mailbox, owner="another machine")
    assert infos(client)["invoices@example.com"]["heldBy"] == "another machine"


# -------------------------------------------------------------------------------------------------------------- scopes


def test_who_may_only_read_can_neither_dismiss_nor_retry(client: Client, house: House) -> None:
    mailbox, number = a_failed_mail(house, client)
    reader = client.another(house.key(Scope.MONITORING_READ))
    assert [one["id"] for one in failed(reader)] == [number]
    for answer in (
        reader.delete(f"/monitoring/{number}"),
        reader.post(f"/monitoring/{number}/retry"),
        reader.post("/monitoring/failed/retry"),
    ):
        assert "monitoring:write" in problem(answer, 403, "scope-missing")["remedy"]
    problem(reader.post(f"/mailboxes/{mailbox}/sweeps"), 403, "scope-missing")
    problem(reader.get("/mailboxes"), 403, "scope-missing")
    (entry,) = failed(client)
    assert (entry["dismissed"], entry["nextTry"]) == (False, "given up")
    writer = client.another(house.key(Scope.MONITORING_WRITE))
    problem(writer.get("/monitoring/failed"), 403, "scope-missing")
    assert writer.delete(f"/monitoring/{number}").status_code == 204
