"""What wrong requests are answered, each of them sent: the tables of docs/reference/problems.md are made from this.

``python -m tests.http.api.test_problems`` writes them anew.
"""

from __future__ import annotations

import copy
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread
from typing import Any

import attrs
import pytest
from httpx import Response
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.sealing import Vault, master_keys, new_master_key
from maildaemon_core import codec
from maildaemon_core.access import Scope
from maildaemon_core.errors import DestinationUnavailable, MaildaemonError
from maildaemon_core.message import MailboxId
from maildaemon_core.options import MASK, MailboxOptions, Secret
from maildaemon_core.ports import MailSource, Spool
from maildaemon_core.testing.memory_destination import MemoryDestination
from maildaemon_http.api import problems
from maildaemon_http.api.app import create_app
from maildaemon_http.api.problems import Case, all_cases, of_error, refusal
from maildaemon_http.api.settings import ApiSettings, Limits
from tests.engine.story import mail
from tests.http.api.house import MAILBOX, Client, House, Settings, problem
from tests.http.api.test_document import operations, served_document

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "problems.md"
BEGIN, END = "<!-- made by tests/http/api/test_problems.py -->", "<!-- made until here -->"
NOBODY = "00000000-0000-0000-0000-000000000000"
PATIENCE = 20.0
SHOWN = 3

NOT_SENT: Mapping[Case, str] = {
    of_error("Transient"): "no operation lets such an error out at present; a plug-in's would be answered so"
}
"""Problems that no request of ours provokes, and why."""


class Stuck(House):
    """A house whose mail servers do not answer until ``go`` is set; ``asked`` is set when one of them was asked."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.go, self.asked = Event(), Event()
        super().__init__(folder, **more)

    def _source(self, options: MailboxOptions, settings: Settings, spool: Spool) -> MailSource:
        self.asked.set()
        self.go.wait(PATIENCE)
        return super()._source(options, settings, spool)


class Scene:
    """Where wrong requests are sent to: a house for most of them, and others for what needs one of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = ExitStack()
        self._houses = 0
        self.house, self.client = self.another()
        self.mailbox = self.client.create()
        self.path = f"/mailboxes/{self.mailbox}"

    def another(self, **limits: Any) -> tuple[House, Client]:
        """A house, and somebody with a key to it."""
        self._houses += 1
        folder = self.folder / str(self._houses)
        folder.mkdir()
        return self.kept(House(folder, settings=ApiSettings(limits=Limits(**{"guesses": 1000, **limits}))))

    def stuck(self, **limits: Any) -> tuple[Stuck, Client]:
        """As ``another``, and no mail server answers before this is closed."""
        self._houses += 1
        folder = self.folder / str(self._houses)
        folder.mkdir()
        house = Stuck(folder, settings=ApiSettings(limits=Limits(**limits)))
        _, client = self.kept(house)
        self._open.callback(house.go.set)
        return house, client

    def kept(self, house: House) -> tuple[House, Client]:
        self._open.callback(house.daemon.close, 5)
        return house, self._open.enter_context(house.client(name="the tests"))

    def with_key(self, *scopes: Scope) -> Client:
        return self.client.another(self.house.key(*scopes, name="reader"))

    def close(self) -> None:
        self._open.close()


@attrs.frozen
class Wrong:
    """A wrong request in words, the problem that answers it, and how it is sent."""

    request: str
    words: str
    case: Case
    send: Callable[[Scene], Response]


# --------------------------------------------------------------------------------------- requests that take some doing


def guessed(scene: Scene) -> Response:
    _, client = scene.another(guesses=1)
    client.get("/mailboxes", x_api_key="wrong")
    return client.get("/mailboxes", x_api_key="wrong")


def from_a_file(scene: Scene) -> Response:
    mailbox = MailboxId("00000000-0000-0000-0000-00000000000f")
    scene.house.daemon.adopt(mailbox, codec.read(MailboxOptions, {**MAILBOX, "mailbox": "file@example.com"}))
    return scene.client.patch(f"/mailboxes/{mailbox}", {"active": False})


def sent_meanwhile(scene: Scene, send: Callable[[Client], Response], **limits: Any) -> Response:
    """The second of two requests, of which the first is still worked on."""
    house, client = scene.stuck(**limits)
    first = Thread(target=send, args=[client])
    first.start()
    try:
        assert house.asked.wait(PATIENCE)
        return send(client)
    finally:
        house.go.set()
        first.join(PATIENCE)


def with_failed_mail(scene: Scene) -> tuple[House, Client, str]:
    """A house with one mailbox, in which the mail of number 1 has failed."""
    house, client = scene.another()
    house.daemon.start(house.catalog)
    house.server.plant(mail("invoice"))
    place = house.places["invoices"] = MemoryDestination("invoices")
    place.refuse = lambda path: DestinationUnavailable(f"no room for {path}").trouble()
    mailbox = client.create()
    client.post(f"/mailboxes/{mailbox}/sweeps?wait=20")
    return house, client, mailbox


def busy(scene: Scene) -> Response:
    house, client, mailbox = with_failed_mail(scene)
    lease = house.store.lease(MailboxId(mailbox), 60, owner="another service")
    assert lease is not None
    return client.post("/monitoring/1/retry")


def orphaned(scene: Scene) -> Response:
    _, client, mailbox = with_failed_mail(scene)
    client.delete(f"/mailboxes/{mailbox}")
    return client.post("/monitoring/1/retry")


def not_failed(scene: Scene) -> Response:
    house, client, mailbox = with_failed_mail(scene)
    house.places["invoices"].refuse = lambda path: None
    client.post("/monitoring/1/retry")
    client.post(f"/mailboxes/{mailbox}/sweeps?wait=20")
    return client.post("/monitoring/1/retry")


def still_pending(scene: Scene) -> Response:
    house, client = scene.another()
    house.daemon.start(house.catalog)
    house.server.plant(mail("invoice"))
    (place := MemoryDestination("invoices")).down = True
    house.places["invoices"] = place
    client.post(f"/mailboxes/{client.create()}/sweeps?wait=20")
    return client.delete("/monitoring/1")


def inactive(scene: Scene) -> Response:
    house, client = scene.another()
    house.daemon.start(house.catalog)
    return client.post(f"/mailboxes/{client.create(active=False)}/sweeps")


def stopping(scene: Scene) -> Response:
    house, client = scene.another()
    house.daemon.start(house.catalog)
    mailbox = client.create()
    house.daemon.stop()
    return client.post(f"/mailboxes/{mailbox}/sweeps")


def without_master_key(scene: Scene) -> Response:
    (folder := scene.folder / "unsealed").mkdir()
    _, client = scene.kept(House(folder, sealed=False))
    return client.post("/mailboxes", MAILBOX)


def sealed_with_another_key(scene: Scene) -> Response:
    (folder := scene.folder / "other key").mkdir()
    before = House(folder)
    with before.client() as client:
        mailbox = client.create()
    before.daemon.close()
    _, client = scene.kept(House(folder))
    return client.post(f"/mailboxes/{mailbox}/validate")


def reused(scene: Scene) -> Response:
    scene.client.post("/mailboxes", {"active": False}, idempotency_key="once")
    return scene.client.post("/mailboxes", {"active": False, "name": "another"}, idempotency_key="once")


def stale(scene: Scene) -> Response:
    path = f"/mailboxes/{scene.client.create(mailbox='stale@example.com')}"
    scene.client.patch(path, {"pollIntervalSeconds": 120}, if_match='"1"')
    return scene.client.patch(path, {"pollIntervalSeconds": 300}, if_match='"1"')


def masked(scene: Scene) -> Response:
    path = f"/mailboxes/{scene.client.create(mailbox='masked@example.com', password='plain:x')}"
    archive = {"name": "archive", "url": "invoices", "password": MASK}
    return scene.client.patch(path, {"destinations": [archive]})


def elsewhere(scene: Scene) -> Response:
    path = f"/mailboxes/{scene.client.create(mailbox='moved@example.com')}"
    return scene.client.patch(path, {"host": "imap.example.org", "password": MASK})


def broken(scene: Scene) -> Response:
    def refused(secret: Secret) -> str | None:
        raise RuntimeError(f"a fault of the program, with {secret.value} in its words")

    house, _ = scene.another()
    vault = Vault(master_keys({"MAILDAEMON_MASTER_KEY": new_master_key()}))
    house.app = create_app(house.daemon, house.daemon.catalog(vault, refused=refused))
    with house.client() as client:
        return client.post("/mailboxes", MAILBOX)


def store_replaced(scene: Scene) -> Response:
    _, client = scene.another()
    file = scene.folder / str(scene._houses) / "mail.db"
    file.rename(file.with_suffix(".away"))
    file.touch()
    return client.get("/mailboxes")


def too_slow(scene: Scene) -> Response:
    _, client = scene.stuck(validation_seconds=1)
    return client.post("/mailboxes/validate", MAILBOX)


VALIDATE = "POST /mailboxes/validate"
MANY_FAULTS = {"hosst": "a", "port": "993", "active": 1, "destinations": [{"url": 7}]}

WRONG: Sequence[Wrong] = (
    # Not understood.
    Wrong("POST /mailboxes", "the body is cut off", problems.MALFORMED,
          lambda scene: scene.client.post("/mailboxes", b'{"active": tru')),
    Wrong("POST /mailboxes", "no body", problems.MALFORMED, lambda scene: scene.client.post("/mailboxes", b"")),
    Wrong("POST /mailboxes", "one property twice", problems.MALFORMED,
          lambda scene: scene.client.post("/mailboxes", b'{"host": "a", "host": "b"}')),
    Wrong("POST /mailboxes", "not UTF-8", problems.MALFORMED,
          lambda scene: scene.client.post("/mailboxes", b'{"host": "\xff"}')),
    Wrong("GET /mailboxes", "`x-api-version: 2`", problems.UNKNOWN_VERSION,
          lambda scene: scene.client.get("/mailboxes", x_api_version="2")),
    Wrong("GET /mailboxes/invoices", "not a UUID", problems.INVALID_PARAMETER,
          lambda scene: scene.client.get("/mailboxes/invoices")),
    Wrong("DELETE /monitoring/4294967296", "beyond int32", problems.INVALID_PARAMETER,
          lambda scene: scene.client.delete("/monitoring/4294967296")),
    Wrong("GET /monitoring/failed?sendr=jane&limit=0&from=yesterday", "an unknown parameter and two wrong ones",
          problems.INVALID_PARAMETER,
          lambda scene: scene.client.get("/monitoring/failed?sendr=jane&limit=0&from=yesterday")),
    Wrong("GET /mailboxes?limit=5000", "more than this service gives at once", problems.INVALID_PARAMETER,
          lambda scene: scene.client.get("/mailboxes?limit=5000")),
    Wrong("PATCH /mailboxes/{uuid}", "`If-Match: yesterday`", problems.INVALID_PARAMETER,
          lambda scene: scene.client.patch(scene.path, {}, if_match="yesterday")),
    Wrong("POST /mailboxes", "an `Idempotency-Key` of 300 characters", problems.INVALID_PARAMETER,
          lambda scene: scene.client.post("/mailboxes", MAILBOX, idempotency_key="x" * 300)),
    # Not let in.
    Wrong("GET /mailboxes", "no key", problems.NO_KEY, lambda scene: scene.client.get("/mailboxes", x_api_key="")),
    Wrong("GET /mailboxes", "a wrong key, one that was revoked, or one that has expired", problems.NO_KEY,
          lambda scene: scene.client.get("/mailboxes", x_api_key="wrong")),
    Wrong("POST /mailboxes", "a key for reading only", problems.FORBIDDEN,
          lambda scene: scene.with_key(Scope.MAILBOXES_READ).post("/mailboxes", MAILBOX)),
    Wrong("GET /mailboxes", "a wrong key, once too often", problems.TOO_MANY_GUESSES, guessed),
    # Not there.
    Wrong("GET /mailbox", "no such path", problems.NOT_FOUND, lambda scene: scene.client.get("/mailbox")),
    Wrong("DELETE /mailboxes", "no such method", problems.NOT_ALLOWED, lambda scene: scene.client.delete("/mailboxes")),
    Wrong("GET /mailboxes/{uuid}", "no such mailbox", of_error("UnknownMailbox"),
          lambda scene: scene.client.get(f"/mailboxes/{NOBODY}")),
    Wrong("POST /monitoring/1/retry", "its mailbox was removed", of_error("UnknownMailbox"), orphaned),
    Wrong("DELETE /monitoring/7", "no such mail", problems.UNKNOWN_ENTRY,
          lambda scene: scene.client.delete("/monitoring/7")),
    # Not as things are.
    Wrong("PATCH /mailboxes/{uuid}", "it stands in the configuration file", problems.FROM_FILE, from_a_file),
    Wrong(VALIDATE, "again while the first is worked on, with the same `Idempotency-Key`",
          problems.KEY_IN_USE,
          lambda scene: sent_meanwhile(scene, lambda c: c.post("/mailboxes/validate", MAILBOX, idempotency_key="k"))),
    Wrong("POST /monitoring/1/retry", "another service works on the mailbox", of_error("LeaseLost"), busy),
    Wrong("POST /mailboxes", "a secret, and the service has no master key", of_error("NoMasterKey"),
          without_master_key),
    Wrong("POST /mailboxes/{uuid}/validate", "its secrets are sealed with another master key", of_error("Sealed"),
          sealed_with_another_key),
    Wrong("POST /monitoring/1/retry", "the mail is stored already", of_error("Permanent"), not_failed),
    Wrong("POST /mailboxes/{uuid}/sweeps", "the mailbox is not active", of_error("Permanent"), inactive),
    Wrong("POST /mailboxes/{uuid}/sweeps", "the service was told to stop", of_error("Permanent"), stopping),
    Wrong("POST /mailboxes", "the account has a configuration, and this one deletes mail", of_error("Rival"),
          lambda scene: scene.client.post("/mailboxes", {**MAILBOX, "name": "twin", "deleteMailsOnServer": True})),
    Wrong("DELETE /monitoring/1", "nothing was decided about the mail yet", of_error("StillPending"), still_pending),
    Wrong("PATCH /mailboxes/{uuid}", 'somebody else changed it after you read it: `If-Match: "1"`',
          of_error("StaleVersion"), stale),
    # Not that.
    Wrong("POST /mailboxes", "a body of 2 MiB", problems.TOO_LARGE,
          lambda scene: scene.client.post("/mailboxes", b" " * (1 << 21) + b"{}")),
    Wrong("POST /mailboxes", "`Content-Type: text/plain`", problems.UNSUPPORTED,
          lambda scene: scene.client.post("/mailboxes", b"{}", content_type="text/plain")),
    Wrong("POST /mailboxes", "`{}`", of_error("InvalidOptions"), lambda scene: scene.client.post("/mailboxes", {})),
    Wrong("POST /mailboxes", "`[]`", of_error("InvalidOptions"), lambda scene: scene.client.post("/mailboxes", [])),
    Wrong("POST /mailboxes", f"`{MANY_FAULTS}`".replace("'", '"'), of_error("InvalidOptions"),
          lambda scene: scene.client.post("/mailboxes", MANY_FAULTS)),
    Wrong("POST /mailboxes", '`"type": "lotus"`', of_error("InvalidOptions"),
          lambda scene: scene.client.post("/mailboxes", {**MAILBOX, "type": "lotus"})),
    Wrong("POST /mailboxes", "`deleteMailsOnServer` while nothing would be stored", of_error("InvalidOptions"),
          lambda scene: scene.client.post("/mailboxes", {**MAILBOX, "mailArchiving": None,
                                                         "deleteMailsOnServer": True})),
    Wrong("POST /mailboxes", f'`"password": "{MASK}"`, and none is stored', of_error("InvalidOptions"),
          lambda scene: scene.client.post("/mailboxes", {**MAILBOX, "password": MASK})),
    Wrong("PATCH /mailboxes/{uuid}", "the mask in a destination that has no password", of_error("InvalidOptions"),
          masked),
    Wrong("PATCH /mailboxes/{uuid}", "another `host`, and the mask for `password`", of_error("InvalidOptions"),
          elsewhere),
    Wrong("POST /mailboxes", '`"password": "file:/etc/passwd"`', of_error("InvalidOptions"),
          lambda scene: scene.client.post("/mailboxes", {**MAILBOX, "password": "file:/etc/passwd"})),
    Wrong("POST /mailboxes", "`folders` with 1001 names", problems.LIST_TOO_LONG,
          lambda scene: scene.client.post("/mailboxes", {**MAILBOX, "folders": ["a"] * 1001})),
    Wrong("GET /monitoring/failed?cursor=abc", "a cursor that no page gave", problems.UNKNOWN_CURSOR,
          lambda scene: scene.client.get("/monitoring/failed?cursor=abc")),
    Wrong("POST /mailboxes", "another body under the same `Idempotency-Key`", problems.KEY_REUSED, reused),
    # Not now.
    Wrong(VALIDATE, "more at once than the service takes", problems.TOO_MANY_VALIDATIONS,
          lambda scene: sent_meanwhile(scene, lambda c: c.post("/mailboxes/validate", MAILBOX), validations=1)),
    Wrong("POST /mailboxes", "a fault of the program", problems.INTERNAL, broken),
    Wrong("GET /mailboxes", "the file of the store was replaced", of_error("StoreUnavailable"), store_replaced),
    Wrong(VALIDATE, "the mail server takes longer than a validation may", problems.TIMED_OUT, too_slow),
)  # fmt: skip
"""Everything wrong that we could think of, by what becomes of it."""

Answered = Sequence[tuple[Wrong, Response]]


def all_answered(folder: Path) -> Answered:
    scene = Scene(folder)
    try:
        return [(wrong, wrong.send(scene)) for wrong in WRONG]
    finally:
        scene.close()


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Answered:
    return all_answered(tmp_path_factory.mktemp("wrong"))


# --------------------------------------------------------------------------------------------------------- the document


def constant(text: str) -> str:
    """Without what differs from run to run."""
    text = re.sub(r"(?!0{8}-)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "2b7e1516-28ae-42a6-abf7-158809cf4f3c", text)
    text = re.sub(r"(?<![-0-9a-f])[0-9a-f]{8}(?![-0-9a-f])", "0123abcd", text)  # which master key
    text = re.sub(r"/\S+/mail\.db", "/var/lib/maildaemon/mail.db", text)
    return re.sub(r"\b\d\d:\d\d:\d\d\b", "12:00:00", text)


def cell(text: str) -> str:
    return constant(text).replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def code(text: str) -> str:
    return f"`{cell(text)}`"


def errors(document: Mapping[str, Any]) -> str:
    """The first three; those of a query come in any order."""
    found = sorted(document["errors"], key=lambda one: str(one["path"]))
    said = [f"{code(one['path'])} {cell(one['message'])}" for one in found[:SHOWN]]
    return "<br>".join([*said, *(["…"] if len(found) > SHOWN else [])])


def rendered(answered: Answered) -> str:
    """The tables of the reference."""
    lines = ["", "## Types", ""]
    lines += table(("status", "`type`: `urn:maildaemon:problem:` and", "title"), [
        (str(case.status), code(case.name), cell(case.title)) for case in all_cases()
    ])  # fmt: skip
    lines += ["", *(f"{code(case.name)}: {why}." for case, why in NOT_SENT.items())]
    lines += ["", "## What is answered to what", ""]
    lines += [
        "Each of these requests is sent by a test, and this is what was answered; of many errors the first three."
    ]
    for status in sorted({wrong.case.status for wrong, _ in answered}):
        lines += ["", f"### Status {status}", ""]
        rows = [(wrong, answer.json()) for wrong, answer in answered if wrong.case.status == status]
        lines += table(
            ("request", "what is wrong", "type", "detail", "remedy", "errors"),
            [
                (
                    code(wrong.request),
                    cell(wrong.words),
                    code(wrong.case.name),
                    cell(document["detail"]),
                    cell(document["remedy"]),
                    errors(document),
                )
                for wrong, document in rows
            ],
        )
    return "\n".join([*lines, "", ""])


def made_part(text: str) -> str:
    return text.partition(BEGIN)[2].partition(END)[0]


def test_every_wrong_request_is_answered_with_its_own_problem(answered: Answered) -> None:
    for wrong, answer in answered:
        document = problem(answer, wrong.case.status, wrong.case.name)
        assert document["title"] == wrong.case.title
        assert document["detail"], wrong
        assert "hunter2" not in answer.text, wrong


def test_every_problem_says_what_to_do_about_it(answered: Answered) -> None:
    """In its remedy or in each of its errors; for a wrong method the header ``Allow`` does."""
    silent = {wrong.case.name for wrong, answer in answered if not (answer.json()["remedy"] or answer.json()["errors"])}
    assert silent == {"method-not-allowed"}


def test_what_may_pass_says_when_to_come_back(answered: Answered) -> None:
    for wrong, answer in answered:
        if wrong.case.status in {429, 503} or wrong.case is problems.KEY_IN_USE:
            assert int(answer.headers["retry-after"]) > 0, wrong


def test_every_problem_is_one_that_the_document_names_for_its_operation(
    answered: Answered, tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = served_document(tmp_path_factory.mktemp("document"))
    by_length = sorted(operations(document), key=lambda one: one[1].count("{"))  # /mailboxes/validate is no uuid
    for wrong, answer in answered:
        method, path = answer.request.method, answer.request.url.path
        found = (
            operation
            for each, template, operation in by_length
            if each == method and re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path)
        )
        operation = next(found, None)
        if operation is None:
            assert wrong.case in {problems.NOT_FOUND, problems.NOT_ALLOWED}, wrong
        else:
            assert f'"{wrong.case.type}"' in json.dumps(operation["responses"][str(wrong.case.status)]), wrong


def test_every_kind_of_problem_is_provoked_or_it_is_said_why_not() -> None:
    provoked = {wrong.case for wrong in WRONG}
    assert provoked.isdisjoint(NOT_SENT)
    assert {*provoked, *NOT_SENT} == {*all_cases()}


def test_the_reference_shows_what_is_answered(answered: Answered) -> None:
    there = made_part(REFERENCE.read_text(encoding="utf-8"))
    assert there == rendered(answered), "python -m tests.http.api.test_problems writes it anew"


def test_every_error_of_ours_is_some_problem_and_an_unexpected_one_tells_only_its_class() -> None:
    def below(cls: type[MaildaemonError]) -> Iterator[type[MaildaemonError]]:
        for each in cls.__subclasses__():
            yield from (each, *below(each))

    nameless = {cls.__name__ for cls in below(MaildaemonError) if not any(each in problems.CASES for each in cls.mro())}
    assert nameless == {"PathsTaken"}  # which no operation can meet: names are reserved by sweeps alone
    passing = refusal(DestinationUnavailable("the disk is away", remedy="plug it in"))
    assert (passing.case, passing.detail, passing.remedy) == (of_error("Transient"), "the disk is away", "plug it in")
    assert "hunter2" not in str(refusal(KeyError("hunter2")).document("1"))


# ------------------------------------------------------------------------------------------------------------- secrets

SECRET = "correct-horse-7qz"
"""What is sent as a secret, and stands nowhere else."""

EVERY: dict[str, Any] = {
    "active": True,
    "name": "invoices",
    "mailbox": "invoices@example.com",
    "host": "imap.example.com",
    "type": "imap",
    "tls": "implicit",
    "clientId": "id",
    "tenantId": "tenant",
    "clientSecret": "a",
    "username": "user",
    "password": "c",
    "folders": ["INBOX"],
    "excludeFolders": ["Trash"],
    "path": "here",
    "afterStore": {"move": "Done"},
    "onNoMatch": {"move": "Other"},
    "mailArchiving": {"active": True, "format": "eml", "compression": "none", "pathTemplate": "{key}.eml"},
    "allowedEmailExtensions": ["@example.com"],
    "allowedAttachments": ["pdf"],
    "destinations": [
        {"name": "archive", "type": "file", "url": "invoices", "username": "jane", "password": "d",
         "pathTemplate": "{key}", "onConflict": "suffix", "options": {"colour": "red", "token": "e"}}
    ],
    "since": "2026-01-01T00:00:00Z",
    "options": {"colour": "green", "token": "f"},
}  # fmt: skip
"""A body with a text wherever there can be one."""

TOLD = {
    ("type",),
    ("name",),
    ("mailbox",),
    ("allowedEmailExtensions", 0),
    ("allowedAttachments", 0),
    ("mailArchiving", "pathTemplate"),
    ("destinations", 0, "type"),
    ("destinations", 0, "name"),
    ("destinations", 0, "pathTemplate"),
}
"""Where no secret belongs, and a problem may say what stands there, so that people find it."""

Place = tuple[str | int, ...]


def places(document: Any, at: Place = ()) -> Iterator[Place]:
    """Where a document has a text."""
    if isinstance(document, str):
        yield at
    elif isinstance(document, (dict, list)):
        for key, inner in document.items() if isinstance(document, dict) else enumerate(document):
            yield from places(inner, (*at, key))


PLACES = sorted({*places(EVERY), ("clientCertificate",)} - TOLD, key=str)


def put(document: Any, place: Place, value: Any) -> Any:
    """The document with the value there."""
    made = copy.deepcopy(document)
    inner = made
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return made


SHAPES: Sequence[Callable[[str], Any]] = (
    str,
    lambda text: f"file:{text}",  # but not env: with it, since the name of a variable is no secret and is told
    lambda text: f"line\n{text}",
    lambda text: f"//jane:{text}@example.com/x",
    lambda text: f"x://jane:{text}@example.com/x?token={text}",
    lambda text: f"{{{text}}}",
    lambda text: [text],
    lambda text: {"value": text},
)
"""What may be written where a text belongs."""


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Bodies with the secret in some places, wrong in one way or another."""
    document = EVERY
    for place in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3, unique=True)):
        document = put(document, place, draw(st.sampled_from(SHAPES))(SECRET))
    wrong = st.sampled_from(["port", "active", "mailArchiving", "destinations", "passwort", "since"])
    document |= draw(st.dictionaries(wrong, st.sampled_from([SECRET, [SECRET], {"password": SECRET}]), max_size=2))
    body = json.dumps(document).encode()
    return draw(st.sampled_from([body, body, body[:-1], body + b"x", b"\xff" + body, body.replace(b": ", b" ")]))


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, str]]:
    """Somebody who may edit, and the path of a mailbox that has secrets."""
    house = House(tmp_path_factory.mktemp("editor"))
    with house.client() as client:
        yield client, f"/mailboxes/{client.create(options={'token': 'a third'})}"
    house.daemon.close()


@given(body=bodies(), how=st.sampled_from(["POST /mailboxes", "POST /mailboxes/validate", "PUT", "PATCH"]))
def test_no_problem_says_a_secret_again_wherever_in_a_body_it_was_sent(
    editor: tuple[Client, str], body: bytes, how: str
) -> None:
    client, path = editor
    method, _, where = how.partition(" ")
    answer = client.send(method, where or path, body)
    assert answer.status_code != 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == problems.MEDIA_TYPE
        assert SECRET not in answer.text


@given(
    text=st.sampled_from(
        [SECRET, f'"{SECRET}"', f'{{"x": "{SECRET}"', f"{SECRET}: 1", f'{{"{SECRET}": 1, "{SECRET}": 2}}']
    ),
    path=st.sampled_from(["/mailboxes", "/mailboxes/validate", "/monitoring/failed/retry", "/monitoring/1/retry"]),
    content_type=st.sampled_from(["application/json", "text/plain", "application/json; charset=utf-16"]),
)
def test_no_problem_says_again_what_is_no_document_at_all(
    editor: tuple[Client, str], text: str, path: str, content_type: str
) -> None:
    client, _ = editor
    answer = client.send("POST", path, text.encode(), content_type=content_type)
    assert 400 <= answer.status_code < 500, answer.text
    assert SECRET not in answer.text


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = rendered(all_answered(Path(folder)))
    before, _, rest = REFERENCE.read_text(encoding="utf-8").partition(BEGIN)
    REFERENCE.write_text(before + BEGIN + made + END + rest.partition(END)[2], encoding="utf-8")
