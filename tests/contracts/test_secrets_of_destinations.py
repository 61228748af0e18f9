"""What of the settings of destinations is secret, and what a stored secret was entered for: all else that is said."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from maildaemon_adapters.files.azure import AZURE
from maildaemon_adapters.files.ftp import FTP
from maildaemon_adapters.files.gcs import GCS
from maildaemon_adapters.files.local import FILE
from maildaemon_adapters.files.s3 import S3
from maildaemon_adapters.files.sftp import SFTP
from maildaemon_adapters.files.smb import SMB
from maildaemon_adapters.files.webdav import WEBDAV
from maildaemon_core import codec, wire
from maildaemon_core.confidential import carry, take_apart
from maildaemon_core.options import MASK, MailboxOptions

KINDS: dict[str, Any] = {
    "file": FILE,
    "sftp": SFTP,
    "smb": SMB,
    "ftp": FTP,
    "webdav": WEBDAV,
    "s3": S3,
    "azure": AZURE,
    "gcs": GCS,
}


def settings() -> list[tuple[str, str, str]]:
    """Kind, name as it is written, and type, of every setting."""
    return [
        (kind, codec.wire_names(KINDS[kind].settings)[each.name], str(each.type))
        for kind in KINDS
        for each in attrs.fields(KINDS[kind].settings)
    ]


SECRETS = [(kind, name) for kind, name, type_ in settings() if "Secret" in type_]
OTHERS = [(kind, name, type_) for kind, name, type_ in settings() if "Secret" not in type_ and type_ != "int"]


def document(kind: str, options: dict[str, Any], url: str = "x://here/in") -> dict[str, Any]:
    destination = {"type": kind, "name": "there", "url": url, "password": "pw", "options": options}
    return {"mailbox": "in@our.example", "host": "imap.example", "password": "pw", "destinations": [destination]}


def asked_anew(before: dict[str, Any], wanted: dict[str, Any]) -> set[str]:
    """Which of the masks in what is wanted are not filled with what is stored."""
    apart = take_apart(codec.read(MailboxOptions, before))
    assert apart.document["destinations"][0]["password"] == MASK
    destination = wanted["destinations"][0]
    destination["password"] = MASK
    destination["options"] |= dict.fromkeys(set(destination["options"]) & {name for _, name in SECRETS}, MASK)
    return {problem.path for problem in carry(wanted, apart.document, set(apart.secrets)).problems}


@pytest.mark.parametrize(("kind", "name", "type_"), settings())
def test_a_setting_is_masked_if_it_is_a_secret_and_no_other_is(kind: str, name: str, type_: str) -> None:
    assert wire.sounds_secret(name) is ("Secret" in type_)


@pytest.mark.parametrize(("kind", "name", "type_"), OTHERS)
def test_whatever_else_is_set_the_password_and_every_other_secret_is_asked_for_anew(
    kind: str, name: str, type_: str
) -> None:
    """It may decide where a secret goes, or how well it is protected on its way."""
    secrets = {each: "s" for of, each in SECRETS if of == kind}
    one: Any
    other: Any
    one, other = (["a"], ["b"]) if type_.startswith("tuple") else ("a", "b")
    expected = {f"$.destinations[0].{path}" for path in ("password", *(f"options.{each}" for each in secrets))}
    assert asked_anew(document(kind, {**secrets, name: one}), document(kind, {**secrets, name: one})) == set()
    for before, after in (({name: one}, {name: other}), ({}, {name: one}), ({name: one}, {})):
        assert asked_anew(document(kind, {**secrets, **before}), document(kind, {**secrets, **after})) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_another_url_asks_for_every_secret_anew(kind: str) -> None:
    secrets = {each: "s" for of, each in SECRETS if of == kind}
    for url in ("x://elsewhere/in", "x://here:99/in", "y://here/in", "x://here/other"):
        found = asked_anew(document(kind, {**secrets}), document(kind, {**secrets}, url))
        assert len(found) == 1 + len(secrets)
