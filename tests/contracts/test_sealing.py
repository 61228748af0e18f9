"""Sealed secrets open with the right key for the right thing and in no other way; keys are read with care."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.sealing import (
    CREDENTIAL,
    FILE_VARIABLE,
    VARIABLE,
    MasterKey,
    MasterKeyUnreadable,
    Vault,
    master_keys,
    new_master_key,
)
from maildaemon_core.errors import NoMasterKey, Sealed
from maildaemon_core.options import Secret
from maildaemon_core.ports import SecretStore

ONE, TWO, THREE = (new_master_key() for _ in range(3))
ABOUT = '["1","id","password",{"host":"mail.firm.example"}]'


def vault(*texts: str) -> Vault:
    return Vault(master_keys({VARIABLE: " ".join(texts)}) if texts else ())


# ------------------------------------------------------------------------------------------------------------- sealing


@given(st.text(), st.text())
def test_what_is_sealed_opens_for_the_same_thing(value: str, about: str) -> None:
    held: SecretStore = vault(ONE)
    sealed = held.seal(Secret(value), about)
    assert held.open(sealed, about) == Secret(value)
    assert re.fullmatch(r"[0-9a-f]{8}\.[A-Za-z0-9_-]{38,}", sealed)


def test_the_same_secret_never_looks_the_same_twice() -> None:
    held = vault(ONE)
    assert len({held.seal(Secret("hunter2"), ABOUT) for _ in range(100)}) == 100


@pytest.mark.parametrize("other", ["", ABOUT + " ", ABOUT.replace("mail.", "evil."), ABOUT.replace("id", "other")])
def test_what_was_sealed_about_one_thing_opens_for_no_other(other: str) -> None:
    held = vault(ONE)
    sealed = held.seal(Secret("hunter2"), ABOUT)
    with pytest.raises(Sealed, match="does not open here") as caught:
        held.open(sealed, other)
    assert caught.value.remedy


@given(st.data())
def test_whatever_is_changed_in_a_sealed_text_it_does_not_open(data: st.DataObject) -> None:
    held = vault(ONE)
    sealed = held.seal(Secret("hunter2"), ABOUT)
    at = data.draw(st.integers(0, len(sealed) - 1))
    letter = data.draw(st.sampled_from("abcXYZ019-_.!é\0"))
    letter = letter if letter != sealed[at] else "q"  # what was sealed is another text each time
    spoilt = sealed[:at] + letter + sealed[at + 1 :]
    try:
        opened = held.open(spoilt, ABOUT)
    except Sealed:
        return
    assert at == len(sealed) - 1, "but for the unused bits of base64's last letter"
    assert opened == Secret("hunter2")


@pytest.mark.parametrize("text", ["", ".", "hunter2", "ref:env:X", "0123abcd.", "0123abcd.AAAA", "0123abcd.é" * 20])
def test_what_is_no_sealed_text_is_told_as_damaged(text: str) -> None:
    with pytest.raises(Sealed, match="damaged"):
        vault(ONE).open(text, ABOUT)


def test_all_keys_open_and_the_first_one_seals() -> None:
    old = vault(ONE).seal(Secret("hunter2"), ABOUT)
    both = vault(TWO, ONE)
    assert both.open(old, ABOUT) == Secret("hunter2")
    assert not both.is_current(old)
    new = both.seal(Secret("hunter2"), ABOUT)
    assert both.is_current(new)
    assert vault(TWO).open(new, ABOUT) == Secret("hunter2")
    with pytest.raises(Sealed, match=re.escape(old.partition(".")[0])) as caught:
        vault(TWO, THREE).open(old, ABOUT)
    assert "give that key" in caught.value.remedy


def test_without_a_key_nothing_is_sealed_and_it_is_said_how_to_make_one() -> None:
    with pytest.raises(NoMasterKey) as caught:
        vault().seal(Secret("hunter2"), ABOUT)
    assert "maildaemon master-key new" in caught.value.remedy
    sealed = vault(ONE).seal(Secret("hunter2"), ABOUT)
    with pytest.raises(NoMasterKey, match=re.escape(sealed.partition(".")[0])):
        vault().open(sealed, ABOUT)
    assert not vault().is_current(sealed)


def test_neither_a_vault_nor_a_key_shows_what_it_is_made_of() -> None:
    (key,) = master_keys({VARIABLE: ONE})
    shown = f"{vault(ONE, TWO)!r} {vault()!r} {key!r} {key} {[key]} {vars(vault(ONE))}"
    for hidden in (ONE, ONE.removeprefix("mdmk_")[:20], key.key.hex(), repr(key.key)):
        assert hidden not in shown
    assert key.id in shown
    assert MasterKey(b"\1" * 32).id != MasterKey(b"\2" * 32).id


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "cryptography.py").write_text("raise ImportError('not here')")
    program = (
        "import sys; from maildaemon_adapters.sealing import *;"
        "assert 'cryptography' not in sys.modules; v = Vault(master_keys({'MAILDAEMON_MASTER_KEY': new_master_key()}));"
        "from maildaemon_core.options import Secret\n"
        "try: v.seal(Secret('x'), 'y')\n"
        "except CryptographyMissing as error: print(error, error.remedy)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert "pip install 'maildaemon[secrets]'" in done.stdout, done.stderr


# ---------------------------------------------------------------------------------------------------------------- keys


def ids(environment: Mapping[str, str]) -> list[str]:
    return [key.id for key in master_keys(environment)]


def test_keys_come_from_all_three_places_in_order_and_each_counts_once(tmp_path: Path) -> None:
    one, two, three = (ids({VARIABLE: key})[0] for key in (ONE, TWO, THREE))
    (tmp_path / "keys").write_text(f"# the new one\n{TWO}  # made today\n\n,{ONE}\n")
    (tmp_path / CREDENTIAL).write_text(THREE)
    for path in tmp_path.iterdir():
        path.chmod(0o600)
    everywhere = {VARIABLE: ONE, FILE_VARIABLE: str(tmp_path / "keys"), "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert ids(everywhere) == [one, two, three]
    del everywhere[VARIABLE]
    assert ids(everywhere) == [two, one, three]
    assert ids({VARIABLE: f"{TWO},{THREE}\t{ONE}\n"}) == [two, three, one]
    assert ids({"CREDENTIALS_DIRECTORY": str(tmp_path / "nowhere")}) == []
    assert ids({}) == []


def test_every_new_key_is_another_one() -> None:
    assert len({new_master_key() for _ in range(100)}) == 100
    assert len(ids({VARIABLE: " ".join(new_master_key() for _ in range(20))})) == 20


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("hunter2", "begin with mdmk_"),
        (ONE[:-1], "missing"),
        (ONE + "A", "too many"),
        (ONE.upper(), "begin with"),
        (f"{ONE} {TWO[:-2]}", r"key 2 of 2 .* missing"),
    ],
    ids=["empty", "blank", "a password", "short", "long", "shouted", "the second"],  # the keys are others each time
)
def test_a_key_that_cannot_be_used_is_told_with_its_place_and_without_its_text(text: str, reason: str) -> None:
    with pytest.raises(MasterKeyUnreadable, match=reason) as caught:
        master_keys({VARIABLE: text})
    assert VARIABLE in caught.value.message
    assert caught.value.remedy
    said = "".join(traceback.format_exception(caught.value)) + caught.value.remedy
    assert not [word for word in text.split() if word in said]


@given(st.integers(len("mdmk_"), len(ONE) - 1), st.sampled_from("abcdefXYZ0189-_"))
def test_one_wrong_letter_is_noticed(at: int, letter: str) -> None:
    if ONE[at] != letter:
        with pytest.raises(MasterKeyUnreadable, match="character in it is wrong"):
            master_keys({VARIABLE: ONE[:at] + letter + ONE[at + 1 :]})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"# nothing\n", "empty"),
        (b"\xff\xfe", "no key"),
        (b"x" * 70000, "more"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(MasterKeyUnreadable, match=reason) as caught:
        master_keys({FILE_VARIABLE: str(path)})
    assert str(path) in caught.value.message
    with pytest.raises(MasterKeyUnreadable, match=FILE_VARIABLE):
        master_keys({FILE_VARIABLE: ""})


def test_a_file_that_others_may_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "key"
    path.write_text(ONE)
    with caplog.at_level(logging.DEBUG):
        path.chmod(0o640)
        assert ids({FILE_VARIABLE: str(path)})
        assert not caplog.records
        path.chmod(0o644)
        assert ids({FILE_VARIABLE: str(path)})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text
    assert ONE not in caplog.text
