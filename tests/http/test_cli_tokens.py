"""The command with an app registration instead of a password: from the configuration to a file, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.running import Called, call
from tests.servers.dovecot import Dovecot
from tests.servers.tokens import CLIENT, SECRET, TENANT, TokenServer, dovecot_that_asks, passable_folder

CONFIGURATION = """
[[mailboxes]]
mailbox = "{user}"
host = "localhost"
port = {port}
clientId = "{client}"
tenantId = "{tenant}"
clientSecret = "env:CLIENT_SECRET"
mailArchiving = {{ active = true, pathTemplate = "{{subject}}.eml" }}
destinations = [{{ url = "mail" }}]
options = {{ caFile = "{ca}", oauthAuthority = "{authority}", oauthCaFile = "{token_ca}" }}
"""


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with TokenServer(tmp_path_factory.mktemp("tokens")) as server:
        server.speaks_for = "shared@firm.example"
        yield server


@pytest.fixture(scope="module")
def strict(tokens: TokenServer) -> Iterator[Dovecot]:
    with passable_folder() as folder, dovecot_that_asks(tokens, folder=folder) as server:
        yield server


def called(words: str, folder: Path, code: int, secret: str = SECRET) -> Called:
    done = call(*words.split(), cwd=folder, env={"CLIENT_SECRET": secret}, code=code)
    assert SECRET not in done.out + done.err
    return done


def configure(
    folder: Path, tokens: TokenServer, strict: Dovecot, *, tenant: str = TENANT, client: str = CLIENT
) -> None:
    text = CONFIGURATION.format(
        user=tokens.speaks_for,
        port=strict.imaps,
        client=CLIENT,
        tenant=TENANT,
        ca=strict.ca,
        authority=tokens.authority,
        token_ca=tokens.ca,
    )
    (folder / "m.toml").write_text(text, encoding="utf-8")


@pytest.mark.server
def test_mail_is_archived_with_a_token_in_place_of_a_password(
    tokens: TokenServer, strict: Dovecot, tmp_path: Path
) -> None:
    configure(tmp_path, tokens, strict)
    strict.deliver(tokens.speaks_for, b"Subject: invoice\r\n\r\nhello\r\n")
    (report,) = called("run m.toml --once --json", tmp_path, 0).document["mailboxes"]
    assert report["counts"]["stored"] == 1
    assert (tmp_path / "mail" / "invoice.eml").is_file()
    assert tokens.count() == 1
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not [token for token in tokens.tokens if token.encode() in written]


@pytest.mark.server
def test_validate_says_what_is_wrong_with_the_registration(
    tokens: TokenServer, strict: Dovecot, tmp_path: Path
) -> None:
    configure(tmp_path, tokens, strict)
    done = called("validate m.toml", tmp_path, 1, "the-id-of-it")
    words = " ".join((done.out + done.err).split())
    assert f"the client secret of '{CLIENT}' is wrong" in words
    assert "enter the value of the secret, not its id" in words
