"""What an editor gets by with: answers sent back as they are, never a password that others have entered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from maildaemon_adapters.secrets import allowed
from maildaemon_core import codec
from maildaemon_core.engine.catalog import Catalog, Kept
from maildaemon_core.errors import InvalidOptions
from maildaemon_core.options import MASK, Secret
from maildaemon_core.soundness import problems
from maildaemon_core.store_port import Configuration
from tests.engine.test_catalog import OLD, SFTP, WANTED, House, faults, password, vault

ONE, TWO = (
    {**SFTP, "name": name, "url": f"sftp://{name}.example/in", "password": f"for {name}"} for name in ("a", "b")
)
STORED: dict[str, Any] = {
    **WANTED,
    "options": {"apiKey": "k3y", "fetchCount": 10},
    "destinations": [{**ONE, "username": "in", "options": {"token": "t0ken", "endpoint": "https://a.example"}}, TWO],
}
OWN = {"$.password", "$.options.apiKey"}
OF_A = {"$.destinations[0].password", "$.destinations[0].options.token"}
ELSEWHERE = {"token": MASK, "endpoint": "https://evil.example"}


@pytest.fixture
def house() -> House:
    return House()


def lenient(house: House) -> Catalog:
    """One that finds nothing wrong with sound documents of any kind."""
    return Catalog(house.store, vault(OLD), lambda options: ())


def write(held: Catalog, how: str, kept: Configuration, change: Mapping[str, Any]) -> Kept:
    """The change of a configuration, as a patch or as a whole document."""
    if how == "replace":
        return held.replace(kept.id, {**kept.document, **change})
    return held.change(kept.id, change)


# --------------------------------------------------------------------------------------------- what only answers have


def answer(kept: Kept) -> dict[str, Any]:
    there = kept.configuration
    return {
        **there.document,
        "uuid": there.id,
        "version": there.version,
        "created": f"{there.created:%Y-%m-%dT%H:%M:%S.%fZ}",
        "changed": f"{there.changed:%Y-%m-%dT%H:%M:%SZ}",
        "createdBy": there.created_by,
        "changedBy": there.changed_by,
        "warnings": [codec.write(each) for each in kept.warnings],
        "adopted": kept.adopted,
    }


def test_an_answer_can_be_sent_back_as_it_is_and_with_what_shall_be_changed(house: House) -> None:
    held = house.catalog(OLD)
    made = held.create(WANTED, by="maker")
    mailbox = made.configuration.id
    assert held.replace(mailbox, answer(made), by="other").configuration == made.configuration
    assert held.change(mailbox, answer(made), by="other").configuration == made.configuration
    changed = held.replace(mailbox, {**answer(made), "folders": ["Bills"]}, by="changer")
    assert (changed.configuration.version, changed.configuration.changed_by) == (2, "changer")
    assert changed.configuration.document.keys() == made.configuration.document.keys()
    assert password(changed) == "pa55word"
    with pytest.raises(InvalidOptions) as caught:  # it is the first version's answer
        held.replace(mailbox, {**answer(made), "uuid": "another", "port": "x"})
    assert {path: "cannot be changed" in said for path, said in faults(caught).items()} == {
        "$.version": True, "$.changedBy": True, "$.uuid": True, "$.port": False
    }  # fmt: skip
    with pytest.raises(InvalidOptions) as caught:
        held.change(mailbox, {"version": 1, "active": False})
    assert set(faults(caught)) == {"$.version"}


def test_a_copy_of_an_answer_makes_no_second_mailbox_and_says_what_to_leave_out(house: House) -> None:
    held = house.catalog(OLD)
    made = held.create(WANTED)
    only = answer(made).keys() - made.configuration.document.keys()
    with pytest.raises(InvalidOptions) as caught:
        held.create({**answer(made), "host": "other.example"})
    assert set(faults(caught)) == {f"$.{name}" for name in only} | {"$.password", "$.destinations[0].password"}
    assert all("leave it out" in faults(caught)[f"$.{name}"] for name in only)


# ------------------------------------------------------------------------------------------------------- under the mask


@pytest.mark.parametrize("how", ["replace", "change"])
@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"host": "evil.example"}, OWN),
        ({"port": 4993}, OWN),
        ({"tls": "starttls", "useSsl": False}, OWN),
        ({"tls": "none", "useSsl": False}, OWN),
        ({"useSsl": False, "tls": None}, OWN),
        ({"tenantId": "evil"}, OWN),
        ({"type": "pop3"}, OWN),
        ({"type": "another"}, OWN),
        ({"path": "sftp://evil.example"}, OWN),
        ({"options": {"apiKey": MASK, "endpoint": "https://evil.example"}}, OWN),
        ({"a": {"url": "sftp://evil.example/in"}}, OF_A),
        ({"a": {"type": "webdav"}}, OF_A),
        ({"a": {"options": ELSEWHERE}}, OF_A),
        ({"a": {"options": {**ELSEWHERE, "endpoint": "https://a.example", "proxy": "evil"}}}, OF_A),
        ({"a": {"name": "other"}}, OF_A),
    ],
)
def test_an_editor_is_asked_for_each_secret_anew_that_might_go_elsewhere(
    house: House, how: str, change: dict[str, Any], asked: set[str]
) -> None:
    mailbox = lenient(house).create(STORED).configuration.id
    before = house.kept(mailbox)
    first, second = before.document["destinations"]
    wanted = {key: value for key, value in change.items() if key != "a"}
    if "a" in change:
        wanted["destinations"] = [{**first, **change["a"]}, second]
    with pytest.raises(InvalidOptions) as caught:
        write(lenient(house), how, before, wanted)
    assert set(faults(caught)) == asked
    assert house.kept(mailbox) == before


@pytest.mark.parametrize("change", [{"username": "jane2"}, {"mailbox": "joe@firm.example"}, {"clientId": "another"}])
def test_whoever_logs_in_the_password_goes_to_the_same_server(house: House, change: dict[str, Any]) -> None:
    mailbox = lenient(house).create(STORED).configuration.id
    places = house.kept(mailbox).secrets
    changed = lenient(house).change(mailbox, change)
    assert password(changed) == "pa55word"
    assert changed.configuration.secrets == places
    assert len(places) == 5


def test_without_a_host_another_user_name_asks_for_the_password_anew(house: House) -> None:
    held = lenient(house)
    mailbox = held.create({**STORED, "host": None, "type": "exchange"}).configuration.id
    with pytest.raises(InvalidOptions) as caught:
        held.change(mailbox, {"username": "joe@evil.example"})
    assert set(faults(caught)) == OWN
    assert password(held.change(mailbox, {"mailbox": "joe@firm.example"})) == "pa55word"


@pytest.mark.parametrize("how", ["replace", "change"])
def test_destinations_that_change_places_or_logins_keep_their_own_secrets(house: House, how: str) -> None:
    mailbox = house.made(STORED)
    held = house.catalog(OLD)
    first, second = house.kept(mailbox).document["destinations"]
    for destinations in ([second, first], [{**first, "username": "out"}, second], [first, second]):
        changed = write(held, how, house.kept(mailbox), {"destinations": destinations})
        found = {each.name: each for each in changed.options.destinations}
        assert {name: each.password for name, each in found.items()} == {"a": Secret("for a"), "b": Secret("for b")}
        assert found["a"].options["token"] == "t0ken"
    held.change(mailbox, {"destinations": [second]})
    with pytest.raises(InvalidOptions) as caught:  # it is gone, and does not come back with its name
        held.change(mailbox, {"destinations": [second, first]})
    assert set(faults(caught)) == {"$.destinations[1].password", "$.destinations[1].options.token"}


def test_the_name_of_one_destination_upon_another_brings_no_secret_there(house: House) -> None:
    mailbox = house.made(STORED)
    first, second = house.kept(mailbox).document["destinations"]
    swapped = [{**first, "name": "b"}, {**second, "name": "a"}]
    with pytest.raises(InvalidOptions) as caught:
        house.catalog(OLD).change(mailbox, {"destinations": swapped})
    assert {"$.destinations[0].password", "$.destinations[1].password"} <= set(faults(caught))


@pytest.mark.parametrize("how", ["replace", "change"])
def test_two_destinations_of_one_name_are_refused_whichever_is_masked(house: House, how: str) -> None:
    mailbox = house.made(STORED)
    first = house.kept(mailbox).document["destinations"][0]
    evil = {**first, "url": "sftp://evil.example"}
    for destinations in ([first, evil], [evil, first], [first, {**evil, "password": "mine"}], [first, first]):
        for held in (house.catalog(OLD), lenient(house)):
            with pytest.raises(InvalidOptions) as caught:
                write(held, how, house.kept(mailbox), {"destinations": destinations})
            assert all(path.startswith("$.destinations[") for path in faults(caught))
    assert house.kept(mailbox).version == 1


def test_a_mask_where_nothing_is_stored_is_a_fault_wherever_it_stands(house: House) -> None:
    held = house.catalog(OLD)
    masks = {
        **WANTED,
        "clientSecret": MASK,
        "options": {"deep": [{"accessToken": MASK}], "colour": MASK},
        "destinations": [{**SFTP, "password": MASK, "options": {"sasToken": MASK}}],
    }
    asked = {
        "$.clientSecret",
        "$.options.deep[0].accessToken",
        "$.destinations[0].password",
        "$.destinations[0].options.sasToken",
    }
    mailbox = held.create({**WANTED, "destinations": [{"name": "archive", "url": "/srv/mail"}]}).configuration.id
    attempts: Sequence[Callable[[], Kept]] = (
        lambda: held.create(masks),
        lambda: held.replace(mailbox, masks),
        lambda: held.change(mailbox, masks),
    )
    for attempt in attempts:
        with pytest.raises(InvalidOptions) as caught:
            attempt()
        assert {path for path, said in faults(caught).items() if "no secret is stored" in said} == asked


# ----------------------------------------------------------------------------------------------------------- references

THEIRS = ("env:PATH", "env:MAILDAEMON_MASTER_KEY", "file:../theirs", "file:link", "file:/etc/passwd", "env:", "file:")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for secrets with one in it, and a link out of it."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "mine").write_text("m1ne")
    (tmp_path / "theirs").write_text("the1rs")
    (folder / "link").symlink_to(tmp_path / "theirs")
    return folder


def limited(house: House, folder: Path, *names: str) -> Catalog:
    return house.catalog(
        OLD, refused=lambda secret: allowed(secret, folder=folder, environment_names=names, folder_only=folder)
    )


@pytest.mark.parametrize("how", ["create", "replace", "change"])
@pytest.mark.parametrize("reference", THEIRS)
def test_a_reference_that_the_service_does_not_allow_is_refused_wherever_it_stands(
    house: House, folder: Path, reference: str, how: str
) -> None:
    held = limited(house, folder, "MAIL")
    made = held.create({**WANTED, "password": "env:MAIL", "options": {"apiKey": "file:mine"}})
    for change, place in (
        ({"password": reference}, "$.password"),
        ({"options": {"apiKey": reference}}, "$.options.apiKey"),
        ({"destinations": [{**SFTP, "password": reference}]}, "$.destinations[0].password"),
        ({"destinations": [{**SFTP, "options": {"token": reference}}]}, "$.destinations[0].options.token"),
    ):
        with pytest.raises(InvalidOptions) as caught:
            held.create({**UNLIKE, **change}) if how == "create" else write(held, how, made.configuration, change)
        assert set(faults(caught)) == {place}
    literal = held.change(made.configuration.id, {"password": f"plain:{reference}"})
    assert literal.options.password == Secret(f"plain:{reference}")
    assert not literal.configuration.secrets["password"].startswith("ref:")


UNLIKE = {**WANTED, "mailbox": "joe@firm.example"}


def test_a_reference_that_is_not_allowed_any_more_must_be_replaced_by_the_next_change(
    house: House, folder: Path
) -> None:
    mailbox = limited(house, folder, "MAIL").create({**WANTED, "password": "env:MAIL"}).configuration.id
    with pytest.raises(InvalidOptions) as caught:
        limited(house, folder).change(mailbox, {"folders": ["Bills"]})
    assert set(faults(caught)) == {"$.password"}
    assert password(limited(house, folder).change(mailbox, {"password": "pa55word"})) == "pa55word"


def test_the_mask_carries_no_reference_to_another_host_either(house: House, folder: Path) -> None:
    held = limited(house, folder, "MAIL")
    mailbox = held.create({**WANTED, "password": "env:MAIL"}).configuration.id
    with pytest.raises(InvalidOptions, match="enter it again"):
        held.change(mailbox, {"host": "evil.example"})


def test_the_rules_for_secrets_hold_for_an_inactive_mailbox_too(house: House) -> None:
    held = Catalog(house.store, vault(OLD), problems)
    mailbox = held.create({**STORED, "active": False}).configuration.id
    with pytest.raises(InvalidOptions) as caught:
        held.change(mailbox, {"host": "evil.example", "active": False})
    assert set(faults(caught)) == OWN
