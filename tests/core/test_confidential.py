"""Secrets and the rest of the options: taken apart and put together again, kept only for what they were entered for."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core import codec
from maildaemon_core.confidential import (
    Apart,
    Carried,
    about,
    carry,
    filled,
    is_reference,
    missing,
    put_together,
    secrets_of,
    take_apart,
    where,
    without_secrets,
)
from maildaemon_core.errors import InvalidOptions
from maildaemon_core.options import MASK, DestinationOptions, MailboxOptions, Secret
from maildaemon_core.testing.strategies import any_json, mailbox_options

SFTP = {"name": "archive", "type": "sftp", "url": "sftp://files.example/in", "password": "d3st", "options": {}}
FULL: dict[str, Any] = {
    "mailbox": "jane@firm.example",
    "host": "mail.firm.example",
    "password": "pa55",
    "clientSecret": "cl13nt",
    "options": {"apiKey": "k3y", "deep": {"tokens": ["t0", "t1"]}, "fetchCount": 10},
    "destinations": [SFTP, {"type": "s3", "url": "s3://bucket", "options": {"secretAccessKey": "a/b~c", "acl": "no"}}],
}
PLACES = {
    "password",
    "clientSecret",
    "options/apiKey",
    "options/deep/tokens/0",
    "options/deep/tokens/1",
    "destinations/archive/password",
    "destinations/s3/options/secretAccessKey",
}


def stored(document: Mapping[str, Any] = FULL) -> Apart:
    return take_apart(codec.read(MailboxOptions, document))


def patched(patch: object, document: Mapping[str, Any] = FULL) -> Carried:
    there = stored(document)
    wanted = codec.merge_patch(there.document, patch)
    return carry(wanted, there.document, there.secrets.keys(), absence_keeps=True)


def put(document: object, before: Mapping[str, Any] = FULL) -> Carried:
    there = stored(before)
    return carry(document, there.document, there.secrets.keys())


def asked_for(carried: Carried) -> set[str]:
    return {problem.path for problem in carried.problems}


# ------------------------------------------------------------------------------------------------------ apart, together


@given(mailbox_options())
def test_taken_apart_and_put_together_options_are_the_same(options: MailboxOptions) -> None:
    apart = take_apart(options)
    through_json = Apart(document=json.loads(json.dumps(apart.document)), secrets=apart.secrets)
    assert put_together(apart) == put_together(through_json) == options


@given(mailbox_options())
def test_the_masked_document_holds_no_secret_and_what_is_shown_of_them_neither(options: MailboxOptions) -> None:
    apart = take_apart(options)
    assert "s3cr3t" not in json.dumps(apart.document) + repr(apart) + repr(options)
    assert sum("s3cr3t" in secret.value for secret in apart.secrets.values()) == len(apart.secrets)
    assert apart.document == codec.write(options)


@given(mailbox_options())
def test_what_the_codec_masks_is_what_is_found_to_be_secret(options: MailboxOptions) -> None:
    assert dict(secrets_of(options)) == dict(take_apart(options).secrets)
    assert missing(codec.write(options), ()) == [place for place, _ in secrets_of(options)]
    assert take_apart(without_secrets(codec.write(options))).secrets.keys() == take_apart(options).secrets.keys()


def test_each_secret_has_its_place_and_a_destination_is_called_by_its_name() -> None:
    assert {place: secret.value for place, secret in stored().secrets.items()} == {
        "password": "pa55",
        "clientSecret": "cl13nt",
        "options/apiKey": "k3y",
        "options/deep/tokens/0": "t0",
        "options/deep/tokens/1": "t1",
        "destinations/archive/password": "d3st",
        "destinations/s3/options/secretAccessKey": "a/b~c",
    }
    odd = stored({"destinations": [{**SFTP, "name": "a/b~1"}], "options": {"x/y": {"token": "t"}}})
    assert set(odd.secrets) == {"destinations/a~1b~01/password", "options/x~1y/token"}


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("password", "$.password"),
        ("options/deep/tokens/1", "$.options.deep.tokens[1]"),
        ("destinations/s3/options/secretAccessKey", "$.destinations[1].options.secretAccessKey"),
        ("destinations/none/password", "$"),
        ("options/deep/tokens/7", "$"),
    ],
)
def test_a_place_is_told_as_it_stands_in_the_document(place: str, path: str) -> None:
    assert where(FULL, place) == path


def test_a_secret_is_put_in_only_where_the_document_shows_a_mask() -> None:
    apart = stored()
    document = {**apart.document, "password": None, "destinations": []}
    assert put_together(Apart(document=document, secrets=apart.secrets)).password is None
    with pytest.raises(InvalidOptions, match=r"mask.*\$\.password"):
        put_together(Apart(document=apart.document, secrets={}))
    before = copy.deepcopy(apart.document)
    filled(apart.document, apart.secrets)
    assert apart.document == before


def test_what_could_not_be_told_apart_again_is_refused() -> None:
    twice = DestinationOptions(name="one", password="p")
    with pytest.raises(InvalidOptions, match=r"\$\.destinations\[1\]"):
        take_apart(MailboxOptions(destinations=(twice, twice)))
    with pytest.raises(InvalidOptions, match=r"\$\.password"):
        take_apart(MailboxOptions(password=MASK))
    with pytest.raises(InvalidOptions, match=r"\$\.options\.token"):
        take_apart(MailboxOptions(options={"token": MASK}))
    harmless = MailboxOptions(options={"colour": MASK, "token": ""})
    assert put_together(take_apart(harmless)) == harmless


@pytest.mark.parametrize("text", ["env:NAME", "file:password.txt", "env:"])
def test_a_reference_is_told_from_a_secret(text: str) -> None:
    assert is_reference(Secret(text))
    assert not is_reference(Secret(f"plain:{text}"))
    assert not is_reference(Secret(text.replace(":", "")))


# ------------------------------------------------------------------------------------------------------------- keeping


def test_a_patch_that_says_nothing_of_secrets_keeps_all_of_them() -> None:
    carried = patched({"folders": ["INBOX", "Invoices"], "active": False, "options": {"fetchCount": 7}})
    assert carried.kept == PLACES
    assert not carried.problems


def test_the_mask_keeps_what_is_stored_in_a_patch_and_in_a_put() -> None:
    assert patched({"password": MASK}).kept == PLACES
    assert put(stored().document).kept == PLACES


def test_a_put_without_the_property_drops_the_secret() -> None:
    document = {**stored().document}
    del document["password"]
    carried = put(document)
    assert carried.kept == PLACES - {"password"}
    assert not carried.problems


def test_a_patch_with_null_drops_the_secret() -> None:
    assert patched({"password": None, "options": {"deep": None}}).kept == PLACES - {
        "password",
        "options/deep/tokens/0",
        "options/deep/tokens/1",
    }


MAILBOX_SECRETS = {
    "$.password", "$.clientSecret", "$.options.apiKey", "$.options.deep.tokens[0]", "$.options.deep.tokens[1]"
}  # fmt: skip


@pytest.mark.parametrize(
    "patch",
    [
        {"host": "evil.example"},
        {"host": None},
        {"port": 1993},
        {"type": "pop3"},
        {"type": "maildir", "path": "/x"},
        {"path": "sftp://evil.example"},
        {"tls": "none", "useSsl": False},
        {"useSsl": False},
        {"tenantId": "other"},
        {"options": {"endpointUrl": "https://evil.example"}},
        {"options": {"caFile": "/tmp/ca.pem"}},
        {"options": {"verifyTls": False}},
        {"options": {"via": "socks://evil.example"}},
        {"options": {"region": "evil"}},
        {"options": {"share": r"\\evil\x"}},
        {"options": {"sslmode": "disable"}},
        {"options": {"followRedirects": True}},
        {"options": {"port": 1}},
        {"options": {"credentials": {"verify": False}}},
        {"options": {"connectionString": "Endpoint=evil"}},
        {"options": {"tokens": ["https://evil.example"]}},
    ],
)
def test_a_secret_is_asked_for_anew_when_it_might_go_elsewhere(patch: dict[str, Any]) -> None:
    carried = patched(patch)
    assert asked_for(carried) == MAILBOX_SECRETS
    assert all("enter it again" in problem.message and "changed" in problem.message for problem in carried.problems)
    assert carried.kept == {"destinations/archive/password", "destinations/s3/options/secretAccessKey"}
    options = {**patch.get("options", {}), "apiKey": "new", "deep": {"tokens": ["a", "b"]}}
    assert not patched({**patch, "password": "new", "clientSecret": None, "options": options}).problems


@pytest.mark.parametrize(
    "patch",
    [
        {"host": "MAIL.firm.example."},
        {"type": "IMAP4"},
        {"port": 993},
        {"username": "jane", "clientSecret": None},
        {"clientId": "another"},
        {"options": {"fetchCount": 3, "transportation": 1, "exports": 2}},
        {"destinations": None},
    ],
)
def test_what_does_not_lead_elsewhere_costs_no_secret(patch: dict[str, Any]) -> None:
    carried = patched(patch)
    assert carried.problems == ()
    own = {place for place in PLACES if not place.startswith("destinations/")}
    assert own - ({"clientSecret"} & patch.keys()) <= carried.kept


@pytest.mark.parametrize("patch", [{"mailbox": "boss@firm.example"}, {"username": "boss@firm.example"}])
@pytest.mark.parametrize("place", ["clientSecret", "clientCertificate"])
def test_what_an_app_logs_in_with_is_kept_only_for_the_mailbox_that_it_was_entered_for(
    patch: dict[str, Any], place: str
) -> None:
    document = {
        "type": "imap",
        "host": "outlook.office365.com",
        "mailbox": "jane@firm.example",
        "clientId": "app",
        "tenantId": "firm",
        place: "s3cret",
    }
    assert asked_for(patched(patch, document)) == {f"$.{place}"}
    assert not patched({"name": "another", "clientId": "app2"}, document).problems


def test_without_a_host_the_domain_of_the_address_decides_where_the_password_goes() -> None:
    document = {"mailbox": "jane@firm.example", "type": "exchange", "password": "pa55"}
    assert patched({"mailbox": "joe@firm.example"}, document).kept == {"password"}
    assert asked_for(patched({"mailbox": "joe@evil.example"}, document)) == {"$.password"}
    assert asked_for(patched({"username": "joe@evil.example"}, document)) == {"$.password"}


def test_the_secrets_of_destinations_are_matched_by_name_and_never_by_position() -> None:
    one, two = ({**SFTP, "name": name, "url": f"sftp://{name}.example", "password": name} for name in ("one", "two"))
    document = {**FULL, "destinations": [one, two]}
    swapped = [{**two, "password": MASK}, {key: value for key, value in one.items() if key != "password"}]
    carried = patched({"destinations": swapped}, document)
    assert not carried.problems
    options = codec.read(MailboxOptions, filled(carried.document, stored(document).secrets))
    assert {each.name: each.password for each in options.destinations} == {
        "one": Secret("one"), "two": Secret("two")
    }  # fmt: skip


def test_a_destination_that_goes_elsewhere_needs_its_secret_anew_whether_masked_or_left_out() -> None:
    for password in ({"password": MASK}, {}):
        for change in ({"url": "sftp://evil.example"}, {"type": "webdav"}, {"options": {"proxy": "evil"}}):
            wanted = {key: value for key, value in SFTP.items() if key != "password"} | password | change
            assert asked_for(patched({"destinations": [wanted]})) == {"$.destinations[0].password"}
    dropped = patched({"destinations": [{**SFTP, "url": "sftp://evil.example", "password": None}]})
    assert not dropped.problems
    assert "destinations/archive/password" not in dropped.kept
    again = patched({"destinations": [{**SFTP, "url": "sftp://new.example"}]})
    assert not again.problems


def test_a_put_keeps_no_secret_of_a_destination_that_is_left_out() -> None:
    without = {key: value for key, value in SFTP.items() if key != "password"}
    assert put({**FULL, "destinations": [without]}).kept == frozenset()


def test_a_renamed_destination_has_no_stored_secret() -> None:
    carried = patched({"destinations": [{**SFTP, "name": "other", "password": MASK}]})
    assert asked_for(carried) == {"$.destinations[0].password"}
    assert "no secret is stored" in carried.problems[0].message


def test_secrets_in_a_destinations_own_options_are_kept_by_name_too() -> None:
    s3 = FULL["destinations"][1]
    for options in ({"secretAccessKey": MASK, "acl": "no", "parts": 2}, {"acl": "no", "parts": 2}):
        carried = patched({"destinations": [{**s3, "options": options}]})
        assert "destinations/s3/options/secretAccessKey" in carried.kept
        assert not carried.problems
    dropped = patched({"destinations": [{**s3, "options": {"secretAccessKey": None}}]})
    assert "destinations/s3/options/secretAccessKey" not in dropped.kept
    assert not dropped.problems


def test_what_is_secret_as_a_whole_is_entered_together() -> None:
    """Such as the key of a service account, whose ``token_uri`` says where what it signs is sent."""
    account = {"token_uri": "https://good.example", "private_key": "k3y", "scope": "s"}
    drive = {"name": "drive", "type": "gcs", "url": "gs://b", "options": {"credentials": account, "sasToken": "s4s"}}
    there = stored({"destinations": [drive]})
    places = {f"destinations/drive/options/{each}" for each in ("credentials/private_key", "sasToken")}

    def asked(credentials: dict[str, Any], *, patch: bool = True) -> tuple[set[str], set[str]]:
        changed = {**drive, "options": {"credentials": credentials, "sasToken": MASK}}
        carried = carry({"destinations": [changed]}, there.document, there.secrets.keys(), absence_keeps=patch)
        return {each.path for each in carried.problems}, set(carried.kept)

    for credentials in (
        {**account, "token_uri": "https://evil.example", "private_key": MASK},
        {"token_uri": "https://evil.example"},
        {"token_uri": "env:EVIL"},
        {"proxy": "evil"},
        {"verify": False},
    ):
        problems, kept = asked(credentials)
        assert not kept & places
        assert {"$.destinations[0].options.credentials.private_key", "$.destinations[0].options.sasToken"} <= problems
    assert asked({})[1] == asked(dict.fromkeys(account, MASK), patch=False)[1] == set(there.secrets)


def test_a_patch_keeps_the_secrets_of_an_array_as_an_array() -> None:
    three = {"name": "x", "type": "x", "url": "x://y", "options": {"tokens": ["a", "b"], "logins": [{"token": "c"}]}}
    there = stored({"destinations": [three]})
    wanted = {"destinations": [{**three, "options": {}}]}
    carried = carry(wanted, there.document, there.secrets.keys(), absence_keeps=True)
    assert not carried.problems
    options = codec.read(MailboxOptions, filled(carried.document, there.secrets))
    assert options.destinations[0].options == {"tokens": ["a", "b"]}  # what is more than secrets was left out


@pytest.mark.parametrize(("then", "now"), [("fussball.example", "fußball.example"), ("σas.example", "ςas.example")])
def test_hosts_that_only_look_alike_are_others(then: str, now: str) -> None:
    there = stored({**FULL, "host": then, "mailbox": f"jane@{then}"})
    for change in ({"host": now}, {"host": None, "mailbox": f"jane@{now}"}):
        wanted = codec.merge_patch(there.document, change)
        carried = carry(wanted, there.document, there.secrets.keys(), absence_keeps=True)
        assert "password" not in carried.kept
    same = codec.merge_patch(there.document, {"host": f"{then.upper()}."})
    assert then != "fussball.example" or "password" in carry(same, there.document, there.secrets.keys()).kept


def test_what_is_decided_shows_nothing_that_was_entered_anew() -> None:
    assert "n3w" not in repr(patched({"password": "n3w", "options": {"apiKey": "n3w"}}))


def test_a_stored_document_with_something_unmasked_or_a_name_twice_is_not_trusted() -> None:
    """With it the secrets beside would be sent to whoever wrote that into the database."""
    drive = {"name": "d", "type": "gcs", "url": "gs://b", "options": {"credentials": {"token_uri": "u", "key": "k"}}}
    there = stored({"destinations": [drive]})
    masked = there.document["destinations"][0]
    unmasked = {**masked, "options": {"credentials": {"token_uri": "https://evil.example", "key": MASK}}}
    elsewhere = {**masked, "url": "gs://evil"}
    for destinations in ([unmasked], [masked, elsewhere], [elsewhere, masked]):
        document = {**there.document, "destinations": destinations}
        with pytest.raises(InvalidOptions):
            without_secrets(document)
        assert not carry(document, document, there.secrets.keys()).kept


def test_a_mask_in_a_create_is_a_problem_at_each_place() -> None:
    document = stored().document
    carried = carry(document, None, ())
    assert asked_for(carried) == MAILBOX_SECRETS | {
        "$.destinations[0].password",
        "$.destinations[1].options.secretAccessKey",
    }
    assert not carried.kept


def test_other_faults_of_the_document_do_not_make_a_secret_asked_for() -> None:
    carried = patched({"host": 7})
    assert carried.problems == ()
    carried = patched({"host": "evil.example", "folders": 7})
    assert asked_for(carried) == MAILBOX_SECRETS


@given(any_json(), st.booleans())
def test_any_json_at_all_is_decided_on(document: object, absence_keeps: bool) -> None:
    there = stored()
    carried = carry(document, there.document, there.secrets.keys(), absence_keeps=absence_keeps)
    assert carried.kept <= PLACES


@given(mailbox_options(), mailbox_options(), st.booleans())
def test_what_is_kept_is_sealed_about_the_same_thing_and_goes_nowhere_else(
    before: MailboxOptions, after: MailboxOptions, same: bool
) -> None:
    if same:
        after = attrs.evolve(after, **{name: getattr(before, name) for name in _WHERE})
    there, wanted = take_apart(before), take_apart(after)
    carried = carry(wanted.document, there.document, there.secrets.keys())
    for place in carried.kept:
        assert about("id", place, before) == about("id", place, after)
    asked = {place for place in wanted.secrets if where(wanted.document, place) in asked_for(carried)}
    assert carried.kept | asked == set(wanted.secrets)
    assert not carried.kept & asked
    for place in asked & there.secrets.keys():
        assert about("id", place, before) != about("id", place, after)


_WHERE = ("type", "host", "port", "tls", "use_ssl", "tenant_id", "path", "mailbox", "username", "options")


@given(mailbox_options())
def test_what_a_secret_is_sealed_about_holds_no_secret_and_is_of_one_mailbox_and_place(options: MailboxOptions) -> None:
    places = [place for place, _ in secrets_of(options)]
    things = [about(mailbox, place, options) for mailbox in ("one", "two") for place in places]
    assert len(set(things)) == 2 * len(places)
    assert "s3cr3t" not in "".join(things)
    assert [about("one", place, without_secrets(codec.write(options))) for place in places] == things[: len(places)]
