"""Documents and values: the same both ways, every fault at once with its path, secrets never out."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, NewType

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maildaemon_core.codec import has, merge_patch, read, read_what_can_be, write
from maildaemon_core.errors import InvalidOptions, Trouble
from maildaemon_core.message import BatchId, FolderRef, Identity, MailboxId, MessageRef
from maildaemon_core.options import (
    MASK,
    Action,
    Aftercare,
    DestinationOptions,
    MailArchiving,
    MailboxOptions,
    Move,
)
from maildaemon_core.progress import Artifact, Entry, EntryId, Receipt, Role, Stage
from maildaemon_core.testing.strategies import any_json, mailbox_options


def refusal(document: object) -> InvalidOptions | None:
    """Why the document cannot be read; None if it can.  Any other exception is a failure of the test."""
    try:
        read(MailboxOptions, document)
    except InvalidOptions as fault:
        return fault
    return None


def faults(document: object, cls: type[Any] = MailboxOptions) -> dict[str, str]:
    with pytest.raises(InvalidOptions) as caught:
        read(cls, document)
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems)
    return found


@given(mailbox_options())
def test_what_is_written_is_read_back_the_same_also_through_json(options: MailboxOptions) -> None:
    document = write(options, secrets="reveal")
    assert read(MailboxOptions, document) == options
    assert read(MailboxOptions, json.loads(json.dumps(document))) == options
    assert write(read(MailboxOptions, document), secrets="reveal") == document


def entries() -> st.SearchStrategy[Entry]:
    words = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
    moments = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))
    moments = moments.filter(lambda moment: 1 < moment.year < 9999)
    folder, mailbox = words.map(FolderRef), words.map(MailboxId)
    artifact = st.builds(
        Artifact, destination=words, place=words, role=st.sampled_from(Role), index=st.integers(), path=words,
        size=st.integers(), sha256=words, name=st.none() | words,
        receipt=st.none() | st.builds(Receipt, size=st.integers(), at=moments),
    )  # fmt: skip
    return st.builds(
        Entry, mailbox=mailbox, ref=st.builds(MessageRef, folder, words, words), key=words, received=moments,
        identity=st.builds(Identity, words, st.none() | words), first_seen=moments, sender=words, subject=words,
        id=st.none() | st.integers().map(EntryId), size=st.none() | st.integers(), stage=st.sampled_from(Stage),
        due_at=st.none() | moments, attempts=st.integers(), suspect=st.booleans(), in_hand=st.integers(),
        batch=st.none() | st.builds(BatchId, mailbox, st.integers(), st.integers(), words),
        artifacts=st.lists(artifact, max_size=3).map(tuple), complete=st.booleans(),
        care=st.builds(Aftercare, st.sampled_from(Action), st.none() | words),
        trouble=st.none() | st.builds(Trouble, error=words, message=words, retry_after=st.none() | st.floats(0, 1e6)),
        defects=st.lists(words, max_size=2).map(tuple),
    )  # fmt: skip


@given(entries())
def test_what_the_ledger_remembers_comes_back_the_same(entry: Entry) -> None:
    assert read(Entry, json.loads(json.dumps(write(entry)))) == entry


def _without(document: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


@given(mailbox_options(), st.sets(st.sampled_from([each.name for each in attrs.fields(MailboxOptions)])))
def test_a_document_with_any_subset_of_the_properties_still_loads(options: MailboxOptions, missing: set[str]) -> None:
    document = write(options, secrets="reveal")
    absent = {list(document)[[each.name for each in attrs.fields(MailboxOptions)].index(name)] for name in missing}
    fewer = read(MailboxOptions, _without(document, absent))
    assert read(MailboxOptions, {**document, **dict.fromkeys(absent)}) == fewer
    for field in attrs.fields(MailboxOptions):
        if field.name not in missing | {"use_ssl"}:
            assert getattr(fewer, field.name) == getattr(options, field.name)


@given(any_json())
@example({"port": 1e400})
@example({"port": 10**5000})
@example({"maxMessageBytes": 1e300})
@example({"since": "0001-01-01T00:00:00+14:00"})
@example({"mailbox": "\ud800"})
@example({"\ud800": 1})
@example({"options": {"\ud800": "x", "n": float("nan")}})
def test_any_json_at_all_gives_options_or_says_what_is_wrong(document: object) -> None:
    if fault := refusal(document):
        assert fault.problems
        assert str(fault).encode()
    else:
        options = read(MailboxOptions, document)
        assert read(MailboxOptions, write(options, secrets="reveal")) == options


@given(mailbox_options(complete=True), st.data())
def test_any_json_in_any_place_of_good_options_is_no_surprise_either(
    options: MailboxOptions, data: st.DataObject
) -> None:
    document = write(options, secrets="reveal")
    place = data.draw(st.sampled_from([document, document["mailArchiving"], document["destinations"][0]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(any_json())
    fault = refusal(document)
    assert fault is None or fault.problems


PLANTS: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "$.port": lambda document: document.update(port="993"),
    "$.useSsl": lambda document: document.update(useSsl="false"),
    "$.active": lambda document: document.update(active=1),
    "$.idle": lambda document: document.update(idle=[]),
    "$.host": lambda document: document.update(host=7),
    "$.pollIntervalSeconds": lambda document: document.update(pollIntervalSeconds=4),
    "$.maxMessageBytes": lambda document: document.update(maxMessageBytes=True),
    "$.password": lambda document: document.update(password=MASK),
    "$.clientSecret": lambda document: document.update(clientSecret=5),
    "$.tls": lambda document: document.update(tls="ssl"),
    "$.since": lambda document: document.update(since="yesterday"),
    "$.afterStore": lambda document: document.update(afterStore="delete"),
    "$.onNoMatch.move": lambda document: document.update(onNoMatch={}),
    "$.attachedMails": lambda document: document.update(attachedMails="inline"),
    "$.inlinePictures": lambda document: document.update(inlinePictures="no"),
    "$.folders": lambda document: document.update(folders="INBOX"),
    "$.excludeFolders[1]": lambda document: document.update(excludeFolders=["a", None]),
    "$.allowedAttachments[0]": lambda document: document.update(allowedAttachments=[{}]),
    "$.mailArchiving.compression": lambda document: document["mailArchiving"].update(compression="zip"),
    "$.mailArchiving.destinations[0]": lambda document: document["mailArchiving"].update(destinations=[3]),
    "$.destinations[0].url": lambda document: document["destinations"][0].update(url=["x"]),
    "$.destinations[0].onConflict": lambda document: document["destinations"][0].update(onConflict="overwrite"),
    "$.destinations[0].options": lambda document: document["destinations"][0].update(options=[]),
    "$.destinations[0].pasword": lambda document: document["destinations"][0].update(pasword="s3cr3t"),
    "$.delete_mails_on_server": lambda document: document.update(delete_mails_on_server=True),
    '$["x y"]': lambda document: document.update({"x y": 1}),
    "$.options.accessToken": lambda document: document.update(options={"accessToken": MASK}),
}


@given(mailbox_options(complete=True), st.sets(st.sampled_from(sorted(PLANTS)), min_size=1))
def test_every_planted_fault_is_found_at_its_path_and_no_other(options: MailboxOptions, planted: set[str]) -> None:
    document = write(options, secrets="reveal")
    for path in planted:
        PLANTS[path](document)
    assert set(faults(document)) == planted


@given(mailbox_options())
def test_secrets_come_out_of_no_text_of_the_options(options: MailboxOptions) -> None:
    assert "s3cr3t" not in json.dumps(write(options))
    assert "s3cr3t" not in f"{options!r} {options}"
    document = write(options, secrets="reveal")
    secrets = (options.password, options.client_secret, *(each.password for each in options.destinations))
    shown = (document["password"], document["clientSecret"], *(each["password"] for each in document["destinations"]))
    assert shown == tuple(secret and secret.value for secret in secrets)


@given(mailbox_options(complete=True), st.data())
def test_a_fault_never_repeats_a_value(options: MailboxOptions, data: st.DataObject) -> None:
    document = write(options, secrets="reveal")
    for place in (document, document["mailArchiving"], document["destinations"][0]):
        for name in data.draw(st.sets(st.sampled_from(sorted(place)))):
            place[name] = data.draw(
                st.sampled_from(["s3cr3t", ["s3cr3t"], {"x": "s3cr3t"}, {"move": "s3cr3t\n"}, "x://s3cr3t:s3cr3t@h"])
            )
    if fault := refusal(document):
        assert "s3cr3t" not in f"{fault} {fault!r} {fault.problems}"
        assert fault.__suppress_context__  # so that no traceback tells what the fault itself does not


def test_the_body_of_the_public_page_is_taken_as_it_stands() -> None:
    options = read(
        MailboxOptions,
        json.loads("""{"active": true, "mailbox": "user@example.com", "host": null, "type": null, "port": 0,
        "useSsl": true, "clientId": null, "tenantId": null, "clientSecret": null, "username": null, "password": null,
        "folders": null, "deleteMailsOnServer": true, "mailArchiving": {}, "allowedEmailExtensions": null,
        "exportAttachments": true, "allowedAttachments": null, "destinations": null}"""),
    )
    expected = MailboxOptions(
        mailbox="user@example.com", delete_mails_on_server=True, export_attachments=True, mail_archiving=MailArchiving()
    )
    assert options == expected


def test_what_is_written_has_the_names_of_the_wire_and_its_defaults_and_nulls() -> None:
    document = write(MailboxOptions(destinations=(DestinationOptions(),), after_store=Move(move="Done")))
    assert document["useSsl"] is True
    assert document["deleteMailsOnServer"] is False
    assert (document["host"], document["folders"], document["port"]) == (None, [], 0)
    assert document["afterStore"] == {"move": "Done"}
    assert document["destinations"][0] == {
        "type": "file", "name": "file", "url": None, "username": None, "password": None, "onConflict": "suffix",
        "verify": "size", "doneMarker": False,
        "pathTemplate": "{received:%Y/%m/%d}/{key}-{filename}", "options": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ([], "$", "an object"),
        ({"activ": True}, "$.activ", "did you mean active"),
        ({"use_ssl": True}, "$.use_ssl", "did you mean useSsl"),
        ({"EXPORTATTACHMENTS": True}, "$.EXPORTATTACHMENTS", "did you mean exportAttachments"),
        ({"zzz": 1}, "$.zzz", "unknown property"),
        ({"x" * 500: 1}, f'$["{"x" * 60}\\u2026"]', "unknown property"),
        ({"port": True}, "$.port", "an integer"),
        ({"port": 99999}, "$.port", "from 0 to 65535"),
        ({"tls": "ssl"}, "$.tls", '"implicit", "starttls", "none"'),
        ({"afterStore": "gone"}, "$.afterStore", '"seen", or an object with move'),
        ({"onNoMatch": {"move": None}}, "$.onNoMatch.move", "required"),
        ({"since": "2026-01-01T00:00:00"}, "$.since", "offset or Z"),
        ({"since": "soon"}, "$.since", '"now"'),
        ({"password": MASK}, "$.password", "the mask"),
        ({"options": {"deep": {"keyRing": [MASK]}, "password": {"a": MASK}}}, "$.options.password.a", "the mask"),
        ({"mailbox": "\ud800"}, "$.mailbox", "surrogate"),
        ({"destinations": [{"url": "zip::/x"}]}, "$.destinations[0].url", "::"),
    ],
)
def test_a_fault_says_where_and_what_to_write(document: object, path: str, words: str) -> None:
    found = faults(document)
    assert list(found) == [path]
    assert words in found[path]


def test_numbers_without_fraction_are_integers_since_json_knows_no_difference() -> None:
    assert read(MailboxOptions, {"port": 143.0}).port == 143
    assert type(read(MailboxOptions, {"port": 143.0}).port) is int
    assert "$.port" in faults({"port": 143.5})


@pytest.mark.parametrize("text", ["2026-03-01T10:00:00+02:00", "2026-03-01T08:00:00Z", "20260301T080000Z"])
def test_date_times_may_have_any_offset_and_become_utc(text: str) -> None:
    since = read(MailboxOptions, {"since": text}).since
    assert since == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert write(MailboxOptions(since=since))["since"] == "2026-03-01T08:00:00Z"


def test_toml_may_use_its_own_date_times() -> None:
    document = tomllib.loads("since = 2026-03-01T10:00:00+02:00\noptions = {from = 2026-03-01}")
    options = read(MailboxOptions, document)
    assert options.since == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert options.options == {"from": "2026-03-01"}
    assert "offset" in faults(tomllib.loads("since = 2026-03-01T10:00:00"))["$.since"]
    assert "time and offset" in faults({"since": date(2026, 3, 1)})["$.since"]


def test_free_settings_are_copied_bounded_and_masked_by_their_names() -> None:
    given = {
        "apiKey": "k",
        "sas_token": "t",
        "credentials": {"user": "u", "n": 1},
        "keyFile": "/k",
        "list": [{"secret": "s"}],
    }
    options = read(MailboxOptions, {"options": given})
    assert write(options, secrets="reveal")["options"] == given
    assert write(options)["options"] == {
        "apiKey": MASK, "sas_token": MASK, "credentials": {"user": MASK, "n": 1}, "keyFile": "/k",
        "list": [{"secret": MASK}],
    }  # fmt: skip
    given["list"] = []
    assert options.options["list"] == [{"secret": "s"}]
    deep: Any = 1
    for _ in range(20_000):
        deep = [deep]
    (message,) = faults({"options": {"deep": deep}}).values()
    assert "deeper" in message


Celsius = NewType("Celsius", float)


@attrs.frozen(kw_only=True)
class Sunny:
    uv_index: int


@attrs.frozen(kw_only=True)
class Rainy:
    millimetres: float
    from_: str = "west"


@attrs.frozen(kw_only=True)
class Report:
    weather: Sunny | Rainy
    warmth: Celsius
    pair: tuple[int, str] = (1, "x")
    by_place: Mapping[FolderRef, int] = attrs.field(factory=dict)
    note: str | None
    tags: frozenset[str] = frozenset()
    shown: str = attrs.field(default="", metadata={"wire": "@shown"})
    age: int = attrs.field(default=1, validator=[attrs.validators.ge(1), attrs.validators.le(9)])
    length: int = attrs.field(init=False, default=0)


def test_any_class_of_values_can_be_read_and_written() -> None:
    report = Report(
        weather=Rainy(millimetres=2),
        warmth=Celsius(3),
        pair=(2, "y"),
        by_place={FolderRef("a"): 1},
        note=None,
        tags=frozenset("z"),
    )
    document = write(report)
    assert document == {
        "weather": {"millimetres": 2, "from": "west"}, "warmth": 3, "pair": [2, "y"], "byPlace": {"a": 1}, "note": None,
        "tags": ["z"], "@shown": "", "age": 1,
    }  # fmt: skip
    assert read(Report, document) == report
    assert read(Report, {"weather": {"uvIndex": 3}, "warmth": 1, "note": None}).weather == Sunny(uv_index=3)


def test_faults_of_any_class_have_their_paths_too() -> None:
    document = {"weather": {"uvIndex": "x"}, "pair": [1], "byPlace": {"a b": "c"}, "tags": "ab", "age": 10, "length": 3}
    assert set(faults(document, Report)) == {
        "$.weather.uvIndex", "$.warmth", "$.pair", '$.byPlace["a b"]', "$.note", "$.tags", "$.age", "$.length",
    }  # fmt: skip


def test_types_that_cannot_be_told_apart_are_refused_as_the_program_fault_that_they_are() -> None:
    @attrs.frozen
    class Unclear:
        value: int | str

    with pytest.raises(TypeError, match="apart"):
        read(Unclear, {"value": 1})


@given(any_json(), any_json())
def test_a_patch_changes_neither_of_its_two_documents(document: Any, patch: Any) -> None:
    before = copy.deepcopy((document, patch))
    merged = merge_patch(document, patch)
    assert repr((document, patch)) == repr(before)
    assert repr(merge_patch(merged, {})) == repr(merged if isinstance(merged, dict) else {})


@pytest.mark.parametrize(
    ("document", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_patches_do_what_the_appendix_of_rfc_7396_shows(document: Any, patch: Any, merged: Any) -> None:
    assert merge_patch(document, patch) == merged


def test_a_bottomless_patch_is_refused() -> None:
    patch: Any = 1
    for _ in range(20_000):
        patch = {"a": patch}
    with pytest.raises(InvalidOptions):
        merge_patch({}, patch)


@given(mailbox_options(complete=True), st.sets(st.sampled_from(["port", "host", "active", "folders"]), min_size=1))
def test_what_is_not_at_fault_can_still_be_read(options: MailboxOptions, spoilt: set[str]) -> None:
    document = write(options, secrets="reveal")
    wrong = {"port": "993", "host": 5, "active": "yes", "folders": ["INBOX", 5], "hostt": "x"}
    value, faults = read_what_can_be(MailboxOptions, {**document, **{name: wrong[name] for name in spoilt}})
    assert {problem.path for problem in faults} == {"$.folders[1]" if n == "folders" else f"$.{n}" for n in spoilt}
    defaults = {name: getattr(MailboxOptions(), name) for name in spoilt}
    assert value == attrs.evolve(options, **defaults)


def test_of_a_document_that_is_none_nothing_can_be_read() -> None:
    value, faults = read_what_can_be(MailboxOptions, [])
    assert value is None
    assert [problem.path for problem in faults] == ["$"]


def test_a_path_tells_whether_there_is_something() -> None:
    document = {"host": None, "destinations": [{"url": "x"}]}
    there = ["$", "$.host", "$.destinations", "$.destinations[0].url"]
    assert all(has(document, path) for path in there)
    assert not any(has(document, path) for path in ["$.port", "$.destinations[1]", "$.destinations[0].name", "$.hos"])


@pytest.mark.parametrize(
    "name",
    "password Passwd pwd passphrase client_secret secretValue secret_id password1 private-key privateKeys accessKeys "
    "sharedKey signing_key sasToken sas psk bearer authorization jwt sessionCookie clientAssertion credentials".split(),
)
def test_what_sounds_secret_is_masked(name: str) -> None:
    assert write(read(MailboxOptions, {"options": {name: "hunter2"}}))["options"] == {name: MASK}


@pytest.mark.parametrize("name", "keyFile region acl folder pass_through canvas access compass".split())
def test_what_only_looks_a_little_like_it_is_not(name: str) -> None:
    assert write(read(MailboxOptions, {"options": {name: "plain"}}))["options"] == {name: "plain"}
