"""The catalog: made, changed and read again, secrets sealed and kept, one that does not open in nobody's way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.sealing import VARIABLE, Vault, master_keys, new_master_key
from maildaemon_core import codec
from maildaemon_core.engine.catalog import Catalog, Kept, UnknownMailbox, Unusable
from maildaemon_core.engine.daemon import open_store
from maildaemon_core.engine.seals import Rotation
from maildaemon_core.errors import InvalidOptions, NoMasterKey, Problem, StaleVersion
from maildaemon_core.message import MailboxId
from maildaemon_core.options import MASK, MailboxOptions, Secret
from maildaemon_core.ports import SecretStore
from maildaemon_core.soundness import problems
from maildaemon_core.store_port import Configuration
from maildaemon_core.testing.memory_store import MemoryStore
from maildaemon_core.testing.strategies import any_json, mailbox_options
from tests.engine.test_daemon import House as Around
from tests.engine.test_daemon import options as around_options

OLD, NEW = new_master_key(), new_master_key()
SFTP = {"name": "archive", "type": "sftp", "url": "sftp://files.example/in", "password": "d3stination"}
WANTED: dict[str, Any] = {
    "mailbox": "jane@firm.example",
    "host": "mail.firm.example",
    "password": "pa55word",
    "exportAttachments": True,
    "destinations": [SFTP],
}


def vault(*keys: str) -> Vault:
    return Vault(master_keys({VARIABLE: " ".join(keys)}) if keys else ())


class House:
    """A store, and catalogs upon it with other keys."""

    def __init__(self) -> None:
        self.now = datetime(2026, 6, 1, tzinfo=UTC)
        self.store = MemoryStore(lambda: self.now)

    def catalog(self, *keys: str, **others: Any) -> Catalog:
        return Catalog(self.store, vault(*keys), problems, **others)

    def made(self, document: Mapping[str, Any] = WANTED, *keys: str) -> MailboxId:
        return self.catalog(*(keys or (OLD,))).create(document, by="maker").configuration.id

    def kept(self, mailbox: MailboxId) -> Configuration:
        kept = self.store.configuration(mailbox)
        assert kept is not None
        return kept


@pytest.fixture
def house() -> House:
    return House()


def faults(caught: pytest.ExceptionInfo[InvalidOptions]) -> dict[str, str]:
    return {problem.path: problem.message for problem in caught.value.problems}


def password(kept: Kept | Unusable) -> str | None:
    assert isinstance(kept, Kept)
    return None if kept.options.password is None else kept.options.password.value


# -------------------------------------------------------------------------------------------------------------- making


def test_what_is_created_can_be_used_and_the_store_holds_it_sealed(house: House) -> None:
    made = house.catalog(OLD).create(WANTED, by="maker")
    configuration = made.configuration
    assert (configuration.version, configuration.name, configuration.created_by) == (1, "jane@firm.example", "maker")
    assert configuration.document["password"] == MASK
    assert set(configuration.secrets) == {"password", "destinations/archive/password"}
    assert not [word for word in ("pa55word", "d3stination") if word in repr(made) + json.dumps(configuration.secrets)]
    assert made.options.password == Secret("pa55word")
    assert made.options.destinations[0].password == Secret("d3stination")
    assert house.catalog(OLD).get(configuration.id) == made
    assert house.catalog(OLD).all() == [made]


@given(mailbox_options(complete=True))
def test_whatever_is_created_is_read_back_the_same(options: MailboxOptions) -> None:
    house = House()
    document = codec.write(options, secrets="reveal")
    made = Catalog(house.store, vault(OLD), lambda options: ()).create(document)
    since = house.now if options.since == "now" else options.since
    assert made.options == attrs.evolve(options, since=since)
    assert "s3cr3t" not in json.dumps([made.configuration.document, made.configuration.secrets])


def test_everything_that_is_wrong_is_said_at_once(house: House) -> None:
    with pytest.raises(InvalidOptions) as caught:
        house.catalog(OLD).create({"password": MASK, "port": "x", "hosst": "h", "destinations": [{"password": MASK}]})
    assert set(faults(caught)) == {
        "$.password", "$.port", "$.hosst", "$.destinations[0].password",
    }  # fmt: skip
    with pytest.raises(InvalidOptions) as caught:
        house.catalog(OLD).create({})
    assert {"$.host", "$.password", "$.destinations"} <= set(faults(caught))
    assert house.store.configurations() == []


def test_without_a_master_key_no_secret_is_taken_but_references_are(house: House) -> None:
    with pytest.raises(NoMasterKey) as caught:
        house.catalog().create(WANTED)
    assert "maildaemon master-key new" in caught.value.remedy
    assert house.store.configurations() == []
    named = {**WANTED, "password": "env:MAIL", "destinations": [{**SFTP, "password": "file:sftp.txt"}]}
    made = house.catalog().create(named)
    assert dict(made.configuration.secrets) == {
        "password": "ref:env:MAIL",
        "destinations/archive/password": "ref:file:sftp.txt",
    }
    assert made.options.password == Secret("env:MAIL")
    assert house.catalog().change(made.configuration.id, {"active": False}).configuration.version == 2
    with pytest.raises(NoMasterKey):
        house.catalog().create({**WANTED, "password": "plain:env:MAIL"})
    literal = house.catalog(OLD).create({**WANTED, "password": "plain:env:MAIL"})
    assert not literal.configuration.secrets["password"].startswith("ref:")
    assert literal.options.password == Secret("plain:env:MAIL")


def test_references_beyond_the_limits_are_problems_with_their_path(house: House) -> None:
    def refused(secret: Secret) -> str | None:
        return "not allowed" if secret.value.startswith("env:") else None

    limited = house.catalog(OLD, refused=refused)
    with pytest.raises(InvalidOptions) as caught:
        limited.create({**WANTED, "password": "env:PATH", "destinations": [{**SFTP, "password": "env:HOME"}]})
    assert faults(caught) == {"$.password": "not allowed", "$.destinations[0].password": "not allowed"}
    mailbox = limited.create(WANTED).configuration.id
    with pytest.raises(InvalidOptions) as caught:
        limited.change(mailbox, {"password": "env:PATH"})
    assert faults(caught) == {"$.password": "not allowed"}


def test_an_id_that_is_taken_is_not_overwritten(house: House) -> None:
    mailbox = house.made()
    with pytest.raises(StaleVersion):
        house.catalog(OLD).create({**WANTED, "password": "other"}, mailbox=mailbox)
    assert password(house.catalog(OLD).get(mailbox)) == "pa55word"


# ------------------------------------------------------------------------------------------------------------ changing


def test_a_patch_changes_what_it_says_and_keeps_the_secrets(house: House) -> None:
    mailbox = house.made()
    before = house.kept(mailbox)
    house.now += timedelta(hours=1)
    changed = house.catalog(OLD).change(mailbox, {"folders": ["INBOX", "Bills"]}, by="changer")
    assert changed.configuration.version == 2
    assert (changed.configuration.created_by, changed.configuration.changed_by) == ("maker", "changer")
    assert changed.options.folders == ("INBOX", "Bills")
    assert password(changed) == "pa55word"
    assert changed.configuration.secrets == before.secrets


def test_what_changes_nothing_moves_neither_version_nor_date(house: House) -> None:
    mailbox = house.made()
    before = house.kept(mailbox)
    house.now += timedelta(hours=1)
    held = house.catalog(OLD)
    for same in ({}, {"password": "pa55word"}, {"password": MASK}, {"mailbox": "jane@firm.example"}):
        assert held.change(mailbox, same, by="x").configuration == before
    assert held.replace(mailbox, WANTED).configuration == before
    assert held.replace(mailbox, before.document).configuration == before
    assert house.kept(mailbox) == before


def test_a_new_secret_is_a_new_version_with_the_other_secrets_as_they_were(house: House) -> None:
    mailbox = house.made()
    before = house.kept(mailbox)
    changed = house.catalog(OLD).change(mailbox, {"password": "another"}).configuration
    assert changed.version == 2
    assert changed.document == before.document
    assert changed.secrets["password"] != before.secrets["password"]
    assert changed.secrets["destinations/archive/password"] == before.secrets["destinations/archive/password"]


def test_a_password_is_not_carried_to_another_host(house: House) -> None:
    mailbox = house.made()
    before = house.kept(mailbox)
    held = house.catalog(OLD)
    for attempt in ({"host": "evil.example"}, {"host": "evil.example", "password": MASK}):
        with pytest.raises(InvalidOptions, match="enter it again") as caught:
            held.change(mailbox, attempt)
        assert set(faults(caught)) == {"$.password"}
    elsewhere = {**before.document, "destinations": [{**SFTP, "url": "sftp://evil.example", "password": MASK}]}
    with pytest.raises(InvalidOptions, match="enter it again") as caught:
        held.replace(mailbox, elsewhere)
    assert set(faults(caught)) == {"$.destinations[0].password"}
    assert house.kept(mailbox) == before
    moved = held.change(mailbox, {"host": "new.example", "password": "pa55word"})
    assert password(moved) == "pa55word"
    assert moved.configuration.secrets["password"] != before.secrets["password"]


def test_one_who_writes_the_database_cannot_have_a_password_sent_elsewhere(house: House) -> None:
    mailbox = house.made()
    other = house.made({**WANTED, "mailbox": "joe@firm.example", "host": "other.example"})
    there, here = house.kept(mailbox), house.kept(other)
    tampered = (
        attrs.evolve(there, document={**there.document, "host": "evil.example"}),
        attrs.evolve(there, document={**there.document, "tls": "none", "useSsl": False}),
        attrs.evolve(there, secrets={**there.secrets, "password": here.secrets["password"]}),
        attrs.evolve(there, secrets={**there.secrets, "password": there.secrets["destinations/archive/password"]}),
    )
    for configuration in tampered:
        house.store.save(configuration)
        found = house.catalog(OLD).get(mailbox)
        assert isinstance(found, Unusable)
        assert found.trouble.error == "Sealed"
        assert "jane@firm.example" in found.trouble.message
    house.store.save(there)
    assert password(house.catalog(OLD).get(mailbox)) == "pa55word"


def test_one_who_writes_over_a_mask_or_doubles_a_name_is_sent_nothing(house: House) -> None:
    """Nor may a harmless change of somebody else make what was written in good."""
    account = {"token_uri": "https://good.example", "private_key": "k3y"}
    mailbox = house.made({**WANTED, "destinations": [{**SFTP, "options": {"credentials": account}}]})
    there = house.kept(mailbox)
    masked = there.document["destinations"][0]
    written_over = {**masked, "options": {"credentials": {**account, "private_key": MASK}}}
    double = {**masked, "url": "sftp://evil.example"}
    for destinations in ([written_over], [masked, double], [double, masked]):
        house.store.save(attrs.evolve(there, document={**there.document, "destinations": destinations}))
        assert isinstance(house.catalog(OLD).get(mailbox), Unusable)
        with pytest.raises(InvalidOptions):
            house.catalog(OLD).change(mailbox, {"folders": ["INBOX"]})
        assert {each.mailbox for each in house.catalog(NEW, OLD).rotate().unopened} == {mailbox}
    house.store.save(there)
    assert password(house.catalog(OLD).get(mailbox)) == "pa55word"


def test_a_secret_that_is_no_text_keeps_no_other_mailbox_from_being_used(house: House) -> None:
    odd, fine = house.made(), house.made({**WANTED, "mailbox": "joe@firm.example"})
    there = house.kept(odd)
    wrong: Any = {**there.secrets, "password": 5, "destinations/archive/password": None}
    house.store._configurations[odd] = attrs.evolve(there, secrets=wrong)
    found = {each.configuration.id: each for each in house.catalog(OLD).all()}
    assert isinstance(trouble := found[odd], Unusable)
    assert trouble.trouble.error == "Sealed"
    assert password(found[fine]) == "pa55word"
    assert len(house.catalog(NEW, OLD).rotate().unopened) == 2


def test_a_patch_of_tls_overrules_what_the_stored_document_says_of_use_ssl(house: House) -> None:
    mailbox = house.made()
    held = house.catalog(OLD)
    assert held.change(mailbox, {"tls": "starttls", "password": "new"}).options.tls_mode == "starttls"
    assert held.change(mailbox, {"useSsl": True, "password": "new"}).options.tls_mode == "implicit"
    with pytest.raises(InvalidOptions, match="contradicts"):
        held.change(mailbox, {"tls": "none", "useSsl": True, "password": "new"})


def test_a_replacement_drops_what_it_does_not_say(house: House) -> None:
    mailbox = house.made()
    document = {key: value for key, value in WANTED.items() if key != "password"}
    with pytest.raises(InvalidOptions) as caught:
        house.catalog(OLD).replace(mailbox, document)
    assert set(faults(caught)) == {"$.password"}
    replaced = house.catalog(OLD).replace(mailbox, {**document, "active": False})
    assert replaced.options.password is None
    assert set(replaced.configuration.secrets) == {"destinations/archive/password"}


def test_the_version_that_is_expected_must_be_the_present_one(house: House) -> None:
    mailbox = house.made()
    held = house.catalog(OLD)
    for attempt in (
        lambda: held.change(mailbox, {"active": False}, expected=7),
        lambda: held.replace(mailbox, WANTED, expected=0),
        lambda: held.remove(mailbox, expected=2),
    ):
        with pytest.raises(StaleVersion):
            attempt()
    assert held.change(mailbox, {"active": False}, expected=1).configuration.version == 2
    held.remove(mailbox, expected=2)
    for gone in (lambda: held.get(mailbox), lambda: held.change(mailbox, {}), lambda: held.remove(mailbox)):
        with pytest.raises(UnknownMailbox, match=mailbox):
            gone()


def test_changes_at_the_same_time_are_all_there_afterwards(house: House) -> None:
    mailbox = house.made()

    def change(number: int) -> None:
        house.catalog(OLD).change(mailbox, {"options": {f"n{number}": number}})

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert house.kept(mailbox).document["options"] == {f"n{number}": number for number in range(8)}
    assert house.kept(mailbox).version == 9


def test_a_patch_that_is_no_object_is_refused(house: House) -> None:
    with pytest.raises(InvalidOptions, match="object"):
        house.catalog(OLD).change(house.made(), [1])


# ----------------------------------------------------------------------------------------------------- not to be opened


def test_one_that_does_not_open_is_told_and_the_others_are_there(house: House) -> None:
    lost = house.made(WANTED, NEW)
    fine = house.made({**WANTED, "mailbox": "joe@firm.example"})
    adopted = MailboxId("00000000-0000-0000-0000-0000000000ff")
    house.store.save(Configuration(id=adopted, name="from a file", document=house.kept(fine).document))
    strange = MailboxId("00000000-0000-0000-0000-0000000000fe")
    house.store.save(Configuration(id=strange, name="of a later release", document={"quantum": True}))
    found = {each.configuration.id: each for each in house.catalog(OLD).all()}
    assert password(found[fine]) == "pa55word"
    troubles = {mailbox: each.trouble for mailbox, each in found.items() if isinstance(each, Unusable)}
    assert {mailbox: trouble.error for mailbox, trouble in troubles.items()} == {
        lost: "Sealed", adopted: "Sealed", strange: "InvalidOptions"
    }  # fmt: skip
    assert "configuration file" in troubles[adopted].remedy
    assert {type(each) for each in house.catalog().all()} == {Unusable}


def test_a_secret_that_does_not_open_can_be_entered_again(house: House) -> None:
    mailbox = house.made(WANTED, NEW)
    held = house.catalog(OLD)
    with pytest.raises(InvalidOptions) as caught:
        held.change(mailbox, {"active": False})
    assert set(faults(caught)) == {"$.password", "$.destinations[0].password"}
    mended = held.change(mailbox, {"password": "again", "destinations": [{**SFTP, "password": "again"}]})
    assert password(mended) == "again"


# ------------------------------------------------------------------------------------------------------------ rotation


def test_rotation_seals_everything_anew_and_twice_is_the_same_as_once(house: House) -> None:
    mailboxes = [house.made({**WANTED, "mailbox": f"m{number}@firm.example"}) for number in range(3)]
    named = house.made({**WANTED, "password": "env:MAIL"})
    before = {mailbox: house.kept(mailbox) for mailbox in (*mailboxes, named)}
    house.now += timedelta(hours=1)
    both = house.catalog(NEW, OLD)
    assert both.rotate() == Rotation(mailboxes=4, resealed=7, current=0, references=1)
    assert both.rotate() == Rotation(mailboxes=4, resealed=0, current=7, references=1)
    for mailbox, old in before.items():
        new = house.kept(mailbox)
        assert (new.version, new.changed, new.document) == (old.version, old.changed, old.document)
        assert isinstance(house.catalog(NEW).get(mailbox), Kept)
    assert password(house.catalog(NEW).get(mailboxes[0])) == "pa55word"


def test_what_does_not_open_is_told_by_a_rotation_and_left_as_it_is(house: House) -> None:
    third = new_master_key()
    lost, fine = house.made(WANTED, third), house.made()
    before = house.kept(lost)
    rotation = house.catalog(NEW, OLD).rotate()
    assert (rotation.mailboxes, rotation.resealed) == (2, 2)
    assert {(each.mailbox, each.place) for each in rotation.unopened} == {
        (lost, "password"), (lost, "destinations/archive/password")
    }  # fmt: skip
    assert house.kept(lost) == before
    assert password(house.catalog(NEW).get(fine)) == "pa55word"
    with pytest.raises(NoMasterKey):
        house.catalog().rotate()


def test_a_rotation_meets_somebody_who_changes_the_same_mailbox(house: House) -> None:
    mailbox = house.made()
    there: SecretStore = vault(NEW, OLD)
    meddled: list[str] = []

    class Meddling(Vault):
        def seal(self, secret: Secret, about: str) -> str:
            if secret.value and not meddled:
                meddled.append(secret.value)
                house.catalog(OLD).change(mailbox, {"password": "meanwhile"})
            return super().seal(secret, about)

    rotation = Catalog(house.store, Meddling(master_keys({VARIABLE: f"{NEW} {OLD}"})), problems).rotate()
    assert meddled
    assert rotation.resealed == 2
    assert all(there.is_current(text) for text in house.kept(mailbox).secrets.values())
    assert password(house.catalog(NEW).get(mailbox)) == "meanwhile"


@given(st.sampled_from([{}, {"password": "pa55word"}, {"active": False}, {"password": "new"}]))
def test_every_write_seals_with_the_present_key(patch: dict[str, Any]) -> None:
    house = House()
    mailbox = house.made()
    changed = house.catalog(NEW, OLD).change(mailbox, patch).configuration
    assert all(vault(NEW).is_current(text) for text in changed.secrets.values())
    assert house.kept(mailbox) == changed
    assert changed.version == (2 if patch.get("active") is False or patch.get("password") == "new" else 1)


def test_problems_of_a_kind_are_asked_for_with_the_secrets_in_place(house: House) -> None:
    seen: list[MailboxOptions] = []

    def asked(options: MailboxOptions) -> Sequence[Problem]:
        seen.append(options)
        return [Problem(path="$.url", message="no")] if len(seen) > 1 else ()

    held = Catalog(house.store, vault(OLD), asked)
    mailbox = held.create(WANTED).configuration.id
    with pytest.raises(InvalidOptions):
        held.change(mailbox, {"active": False})
    assert [options.password for options in seen] == [Secret("pa55word")] * 2


def outcome(attempt: Callable[[], Kept]) -> Kept | InvalidOptions:
    """What came of it; any other exception is a failure of the test."""
    try:
        return attempt()
    except InvalidOptions as fault:
        return fault


@given(any_json(), st.sampled_from(["create", "replace", "change"]))
def test_any_json_at_all_is_taken_or_refused_with_problems(document: object, how: str) -> None:
    house = House()
    mailbox = house.made()
    held = house.catalog(OLD)
    attempts = {
        "create": lambda: held.create(document),
        "replace": lambda: held.replace(mailbox, document),
        "change": lambda: held.change(mailbox, document),
    }
    found = outcome(attempts[how])
    assert isinstance(found, Kept) or (found.problems and str(found).encode())


@given(st.dictionaries(st.sampled_from(list(WANTED)), any_json(max_leaves=5)))
def test_any_change_of_what_there_is_is_taken_or_refused_with_problems(patch: dict[str, Any]) -> None:
    house = House()
    mailbox = house.made()
    before = house.kept(mailbox)
    found = outcome(lambda: house.catalog(OLD).change(mailbox, patch))
    if isinstance(found, Kept):
        assert house.catalog(OLD).get(mailbox) == found
    else:
        assert found.problems
        assert house.kept(mailbox) == before


def test_odd_texts_do_not_keep_a_store_from_opening_what_it_sealed(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    try:
        odd = 'nul\0 quote" back\\slash / ~1 line\n é \U0001f600'
        document = {
            **WANTED,
            "password": odd,
            "options": {odd: {"token": odd, "endpoint": odd}},
            "destinations": [{**SFTP, "name": 'q" \\ / ~1 é', "password": odd, "options": {"host": odd}}],
        }
        made = Catalog(store, vault(OLD), lambda options: ()).create(document)
        (kept,) = Catalog(store, vault(OLD), lambda options: ()).all()
        assert kept == made
        assert made.options.destinations[0].password == made.options.password == Secret(odd)
    finally:
        store.close()


def test_a_mailbox_of_the_catalog_is_swept_and_what_the_store_keeps_of_it_stays() -> None:
    around = Around()
    daemon = around.daemon()
    document = codec.write(around_options(password=Secret("pa55word")), secrets="reveal")
    kept = daemon.catalog(vault(OLD)).create(document)
    mailbox = kept.configuration.id
    daemon.take_on(kept)
    assert daemon.sweep_once(mailbox).well
    assert around.opened[-1][0].password == Secret("pa55word")
    assert daemon.store.configuration(mailbox) == kept.configuration
    gone = attrs.evolve(kept, options=attrs.evolve(kept.options, type="gone"))
    with pytest.raises(InvalidOptions, match=r"\$\.type"):
        daemon.take_on(gone)
    assert daemon.mailboxes() == {mailbox: kept.options}
