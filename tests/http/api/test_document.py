"""The document of the API: it says what the public page says, it is true, and docs/reference/api.md agrees with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.specs.openapi.definitions import OPENAPI_31

from maildaemon_adapters.files.local import FileSettings
from maildaemon_adapters.imap import ImapSettings
from maildaemon_core import codec
from maildaemon_core.access import ALL_SCOPES, CHANCE_BYTES, Scope, make_key
from maildaemon_core.errors import InvalidOptions
from maildaemon_core.options import MailboxOptions
from maildaemon_http.api.kinds import settings_schema
from tests.http.api.house import Client, House, problem

Json = dict[str, Any]
REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "api.md"

PAGE = {
    ("POST", "/mailboxes"): ("Mailbox", "create mailbox configuration"),
    ("GET", "/mailboxes/{uuid}"): ("Mailbox", "get a mailbox configuration via given uuid"),
    ("PATCH", "/mailboxes/{uuid}"): ("Mailbox", "update an existing mailbox"),
    ("DELETE", "/mailboxes/{uuid}"): ("Mailbox", "delete an existing mailbox"),
    ("POST", "/mailboxes/{uuid}/validate"): (
        "Mailbox",
        "validate the connection to the email and destination server",
    ),
    ("GET", "/monitoring/failed"): ("Monitoring", "get all entries from failed processed emails"),
    ("GET", "/monitoring/successful"): ("Monitoring", "get all entries from successful processed emails"),
    ("DELETE", "/monitoring/{id}"): ("Monitoring", "delete monitoring entry"),
    ("GET", "/monitoring/mailboxes"): ("Monitoring", "get all entries from MailboxInfo"),
}
"""The operations of the public page, each with its tag and summary."""

TEXT, TEXTS, TRUTH = {"string"}, ({"array"}, {"string"}), {"boolean"}
PROPERTIES: Mapping[str, Any] = {
    "active": TRUTH,
    "mailbox": TEXT,
    "host": TEXT,
    "type": TEXT,
    "port": {"integer"},
    "useSsl": TRUTH,
    "clientId": TEXT,
    "tenantId": TEXT,
    "clientSecret": TEXT,
    "username": TEXT,
    "password": TEXT,
    "folders": TEXTS,
    "deleteMailsOnServer": TRUTH,
    "mailArchiving": "MailArchiving",
    "allowedEmailExtensions": TEXTS,
    "exportAttachments": TRUTH,
    "allowedAttachments": TEXTS,
    "destinations": ({"array"}, "DestinationOptions"),
}
"""The properties of the page's MailboxOptions: types, with those of the items of an array, or the name of a schema."""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Json:
    return served_document(tmp_path_factory.mktemp("document"))


def served_document(folder: Path) -> Json:
    house = House(folder)
    with house.client() as client:
        made: Json = client.get("/openapi.json").json()
    house.daemon.close()
    return made


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Method, path and what is said of each operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def types_of(schema: Json) -> set[str]:
    """The types that a schema takes, null aside."""
    if "anyOf" in schema:
        return set().union(*(types_of(each) for each in schema["anyOf"]))
    given = schema.get("type", [])
    return {given} - {"null"} if isinstance(given, str) else {*given} - {"null"}


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for inner in schema.values():
            yield from references(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from references(inner)


def validator(document: Json, schema: Json) -> Any:
    """Of a schema that may refer to those of the document."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]}, validate_formats=True)


# ------------------------------------------------------------------------------------------------------------ the page


def test_the_document_has_title_version_tags_and_summaries_of_the_page(document: Json) -> None:
    assert (document["info"]["title"], document["info"]["version"]) == ("Maildaemon API", "1.2")
    assert [tag["name"] for tag in document["tags"]][:2] == ["Mailbox", "Monitoring"]
    said = {(method, path): (one["tags"], one["summary"]) for method, path, one in operations(document)}
    assert {at: said[at] for at in PAGE} == {at: ([tag], summary) for at, (tag, summary) in PAGE.items()}


def test_the_document_has_the_schemas_of_the_page_with_its_properties_and_their_types(document: Json) -> None:
    schemas = document["components"]["schemas"]
    assert {"MailboxOptions", "MailArchiving", "DestinationOptions", "MailboxInfo"} <= schemas.keys()
    properties = schemas["MailboxOptions"]["properties"]
    for name, wanted in PROPERTIES.items():
        has = properties[name]
        outer, inner = wanted if isinstance(wanted, tuple) else (wanted, None)
        for said, one in ((outer, has), (inner, has.get("items", {}))):
            if isinstance(said, str):
                assert f"#/components/schemas/{said}" in {*references(one)}, name
            elif said is not None:
                assert types_of(one) == said, name
    assert properties["port"]["format"] == "int32"


def test_every_operation_takes_an_api_key_and_the_version_and_an_entry_has_an_int32(document: Json) -> None:
    schemes = document["components"]["securitySchemes"]
    assert (schemes["apiKey"]["type"], schemes["apiKey"]["name"], schemes["apiKey"]["in"]) == (
        "apiKey",
        "x-api-key",
        "header",
    )
    for method, path, operation in operations(document):
        headers = {one["name"] for one in operation["parameters"] if one["in"] == "header" and not one["required"]}
        assert "x-api-version" in headers, path
        assert operation.get("security", document["security"]) == (
            [] if path == "/health/live" else [{"apiKey": []}, {"bearer": []}]
        ), (method, path)
    (number,) = (one for one in document["paths"]["/monitoring/{id}"]["delete"]["parameters"] if one["in"] == "path")
    assert (number["schema"]["type"], number["schema"]["format"]) == ("integer", "int32")


# ------------------------------------------------------------------------------------------------------------- validity


def test_the_document_is_valid_openapi(document: Json) -> None:
    assert document["openapi"].startswith("3.1.")
    jsonschema_rs.Draft202012Validator(OPENAPI_31).validate(document)
    for name, schema in document["components"]["schemas"].items():
        jsonschema_rs.meta.validate({**schema, "$schema": "https://json-schema.org/draft/2020-12/schema"})
        assert schema["title"] == name
    operation_ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(operation_ids) == len(set(operation_ids)) > 15
    there = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert {*references(document)} == there, "a reference leads nowhere, or a schema is referred to by nothing"


def test_every_path_parameter_is_said_and_no_parameter_twice(document: Json) -> None:
    for method, path, operation in operations(document):
        named = [(one["in"], one["name"]) for one in operation["parameters"]]
        assert len(named) == len(set(named)), (method, path)
        assert {name for place, name in named if place == "path"} == {*re.findall(r"{(\w+)}", path)}


def test_examples_are_what_their_schemas_say(document: Json) -> None:
    seen = 0
    for schema in document["components"]["schemas"].values():
        for example in schema.get("examples", []):
            validator(document, schema).validate(example)
            seen += 1
    for _, _, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            for example in content.get("examples", {}).values():
                validator(document, content["schema"]).validate(example["value"])
                seen += 1
    assert seen >= 8


def test_the_document_is_the_same_whatever_the_hash_seed(document: Json, tmp_path: Path) -> None:
    program = (
        "import json, pathlib, tempfile; from tests.http.api.test_document import served_document;"
        "print(json.dumps(served_document(pathlib.Path(tempfile.mkdtemp(dir='.')))))"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-W", "ignore", "-c", program]
        made = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True, timeout=120
        )
        assert made.stdout.strip() == json.dumps(document)


# ---------------------------------------------------------------------------------------------------------------- truth


def test_the_service_gives_the_document_and_no_page_of_its_framework(client: Client, document: Json) -> None:
    answer = client.get("/openapi.json")
    assert (answer.headers["content-type"], answer.json()) == ("application/json", document)
    for path in ("/schema", "/schema/openapi.json", "/schema/swagger", "/docs", "/litestar"):
        problem(client.get(path), 404, "not-found")


def test_every_example_of_a_request_works_and_is_answered_as_the_document_says(client: Client, document: Json) -> None:
    tried = 0
    for method, path, operation in operations(document):
        if "/retry" in path and "{id}" in path:
            continue  # which needs a mail that has failed: test_monitoring
        for content in operation.get("requestBody", {}).get("content", {}).values():
            examples = [one["value"] for one in content.get("examples", {}).values()]
            if not examples:
                schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
                examples = schema["examples"]
            for example in examples:
                mailbox = client.create(mailbox=f"box{tried}@example.com")
                answer = client.send(method, path.replace("{uuid}", mailbox), example)
                assert answer.status_code < 300, (method, path, answer.text)
                conforms(document, operation, answer)
                tried += 1
    assert tried >= 8


def conforms(document: Json, operation: Json, answer: Any) -> None:
    """An answer is one that the document names, and is as it says."""
    said = operation["responses"][str(answer.status_code)]
    for name in said["headers"]:
        assert name in answer.headers or name in {"Retry-After", "WWW-Authenticate"}, (name, answer.headers)
    if "content" not in said:
        assert answer.content == b""
        return
    schema = said["content"][answer.headers["content-type"]]["schema"]
    validator(document, schema).validate(answer.json())


def test_what_is_read_is_as_the_document_says(client: Client, document: Json) -> None:
    client.create()
    for method, path, operation in operations(document):
        if method == "GET" and "{" not in path and path != "/metrics":
            answer = client.get(path)
            assert answer.status_code == 200, (path, answer.text)
            conforms(document, operation, answer)


NEEDS_NONE = {("GET", "/health/live"), ("GET", "/openapi.json")}
"""What is told to every key; the first to everybody."""


def test_each_operation_is_refused_to_a_key_without_its_scope_and_to_no_other(house: House, document: Json) -> None:
    key, kept = make_key(bytes(CHANCE_BYTES), "without scopes", now=datetime.now(UTC), scopes=())
    house.store.add_key(kept)
    with house.client() as client:
        nobody = client.another(key.value)
        keys = {scope: client.another(house.key(scope)) for scope in Scope}
        needed = {}
        for method, path, operation in operations(document):
            assert operation["summary"].strip(), path
            at = path.replace("{uuid}", "00000000-0000-0000-0000-000000000000").replace("{id}", "1")
            body: Json | None = {} if "requestBody" in operation else None
            answer = nobody.send(method, at, body)
            if (method, path) in NEEDS_NONE:
                assert answer.status_code == 200
                continue
            assert "urn:maildaemon:problem:scope-missing" in json.dumps(operation["responses"]["403"])
            scope = Scope(problem(answer, 403, "scope-missing")["detail"].rpartition(" ")[2])
            opened = {each for each, one in keys.items() if one.send(method, at, body).status_code != 403}
            assert opened == {scope}, (method, path)
            needed[method, path] = scope
    assert {*needed.values()} == ALL_SCOPES
    assert {at: scope for at, (scope, _) in described_operations().items() if scope} == needed


# ------------------------------------------------------------------------------------------------ schemas and the codec


VALUES: Mapping[str, Sequence[Any]] = {
    "active": (True, None, 1, "true"),
    "mailbox": ("jane@example.com", "", "a\nb", 7, None),
    "port": (0, 65535, 65536, -1, "993", 1.5, None),
    "tls": ("none", "TLS", None),
    "folders": ([], ["INBOX"], [""], "INBOX", [None]),
    "afterStore": ("seen", {"move": "Done"}, {"move": ""}, "delete", None),
    "mailArchiving": ({}, {"active": True, "format": "eml"}, {"format": "pst"}, {"x": 1}, None),
    "attachedMails": ("keep", "open", "both", "OPEN", True, None),
    "inlinePictures": (True, False, "yes", 1, None),
    "since": ("now", "2026-01-01T00:00:00Z", "yesterday", 7, None),
    "maxMessageBytes": (1, 0, 2**63 - 1, 2**63, None),
    "pollIntervalSeconds": (5, 4, 2**31, None),
    "options": ({}, {"a": [1]}, [], None),
    "destinations": ([], [{}], [{"type": ""}], [{"options": {"x": None}}], [{"onConflict": "overwrite"}], None),
    "surprise": (1,),
}


@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in VALUES.items()}))
def test_the_schema_of_a_mailbox_takes_what_the_codec_reads_and_nothing_else(document: Json, sent: Json) -> None:
    schema = {"$ref": "#/components/schemas/MailboxOptions"}
    assert validator(document, schema).is_valid(sent) is is_read(MailboxOptions, sent)


def is_read(cls: type[Any], sent: object) -> bool:
    try:
        codec.read(cls, sent)
    except InvalidOptions:
        return False
    return True


def test_kinds_tell_the_settings_of_each_as_json_schema(client: Client) -> None:
    kinds = client.get("/kinds").json()
    assert {(one["role"], one["name"], one["trouble"]) for one in kinds} == {
        ("source", "imap", None),
        ("destination", "file", None),
    }
    for one in kinds:
        jsonschema_rs.meta.validate(one["options"])
        assert jsonschema_rs.is_valid(one["options"], {"colour": "red", "token": "secret"})
        assert not jsonschema_rs.is_valid(one["options"], {"color": "red"})


@pytest.mark.parametrize("settings", [ImapSettings, FileSettings])
def test_the_settings_of_our_kinds_are_valid_schemas_that_take_what_is_read(settings: type[Any]) -> None:
    schema = settings_schema(settings)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema)
    written: Json = codec.write(codec.read(settings, {}))
    assert {*schema["properties"]} == {*written}
    values: Sequence[Any] = (30, -1, 0, 1.5, "text", "/etc/ca.pem", "a\nb", "", True, [], None)
    one_by_one = [{name: value} for name in written for value in values]
    for sent in ({}, written, dict.fromkeys(written), {"surprise": 1}, *one_by_one):
        assert jsonschema_rs.is_valid(schema, sent) is is_read(settings, sent), sent


# ------------------------------------------------------------------------------------------------------- the reference


def described_operations() -> Mapping[tuple[str, str], tuple[str, str]]:
    """The scope and the meaning of each operation that the reference names, by method and path."""
    text = REFERENCE.read_text(encoding="utf-8")
    found = re.findall(r"^\| `([A-Z]+) ([^` ]+)` \| (?:`([a-z:]+)`|[^|`]*) \| ([^|]+) \|$", text, re.MULTILINE)
    rows = {(method, path): (scope, words) for method, path, scope, words in found}
    assert len(rows) == len(found)
    return rows


def test_the_reference_names_every_operation_and_no_other(document: Json) -> None:
    assert {*described_operations()} == {(method, path) for method, path, _ in operations(document)}


def test_the_reference_names_every_parameter_and_header(document: Json) -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    named = {one["name"] for _, _, operation in operations(document) for one in operation["parameters"]}
    given = {
        name for _, _, one in operations(document) for said in one["responses"].values() for name in said["headers"]
    }
    assert [name for name in sorted(named | given) if not re.search(rf"[`?]{name}\b", text)] == []


def test_the_reference_names_every_property_of_what_is_answered(document: Json) -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    for name in (
        "MailboxConfiguration",
        "FailedEntry",
        "SuccessfulEntry",
        "StoredArtifact",
        "MailboxInfo",
        "SweepReport",
    ):
        own = {*document["components"]["schemas"][name]["properties"]}
        own -= {*document["components"]["schemas"]["MailboxOptions"]["properties"]}  # which stand in configuration.md
        assert [each for each in sorted(own) if f"`{each}`" not in text] == [], name
