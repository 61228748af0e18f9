"""No secret is anywhere but where it belongs: not in the database and its logs, an export, our log, an error or a repr.

Secrets are random and marked; everything that is written or said is searched for them as bytes, in each way of writing
them that might come about.
"""

from __future__ import annotations

import base64
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from traceback import format_exception
from typing import Any
from urllib.parse import quote

import attrs
import pytest

from maildaemon_adapters.imap import KIND as IMAP
from maildaemon_adapters.sealing import VARIABLE, MasterKey, Vault, master_keys, new_master_key
from maildaemon_core import codec
from maildaemon_core.access import CHANCE_BYTES, make_key
from maildaemon_core.engine.catalog import Catalog, Kept
from maildaemon_core.engine.daemon import MailDaemon, open_store
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, Registry
from maildaemon_core.errors import DestinationUnavailable, LoginRefused, MaildaemonError
from maildaemon_core.options import MASK, DestinationOptions, KindFacts, MailboxOptions, Secret, a_secret
from maildaemon_core.ports import Destination, Kind, MailSource, Spool
from maildaemon_core.store_port import Movable, Store
from maildaemon_core.testing.memory_destination import MemoryDestination
from tests.servers.postgres import Postgres
from tests.servers.scripted_imap import Conversation, ScriptedImap

HEX = 24
"""Letters of the random part of a secret: no chance finds it anywhere."""


class Secrets:
    """The secrets of one run, and what finds them."""

    def __init__(self) -> None:
        self.forms: dict[bytes, str] = {}

    def new(self, what: str) -> str:
        """A secret with signs that are written differently here and there."""
        mark = secrets.token_hex(HEX // 2)
        self.look_for(what, mark.encode())
        return f'{mark}+/ä "%\\'

    def look_for(self, what: str, core: bytes) -> None:
        self.forms[core.hex().encode()] = f"{what} in hex"
        self.forms[core.hex().upper().encode()] = f"{what} in hex"
        self.forms[core.decode("latin-1").encode("utf-16-le")] = f"{what} in UTF-16"
        self.forms[quote(core).encode()] = f"{what} in a URL"
        self.forms[repr(core)[2:-1].encode()] = f"{what} as Python writes bytes"
        self.forms[core] = what
        for shift in range(3):  # wherever in the text that was encoded it stood
            whole = base64.b64encode(b"\0" * shift + core)
            inner = whole[4 if shift else 0 : -4]
            self.forms[inner] = self.forms[inner.translate(bytes.maketrans(b"+/", b"-_"))] = f"{what} in base64"

    def found_in(self, data: bytes) -> set[str]:
        return {what for form, what in self.forms.items() if form in data}


@attrs.frozen(kw_only=True)
class HollowSettings:
    token: Secret | None = attrs.field(default=None, converter=a_secret)


def refuse(talk: Conversation) -> None:
    """Says again what it was told, as some servers do."""
    talk.send(f"{{tag}} NO [AUTHENTICATIONFAILED] nobody may {talk.line}\r\n".encode("latin-1"))


class World:
    """A catalog upon a store, mailboxes with secrets in every place, and all that was said about them."""

    def __init__(self, url: str, server: ScriptedImap) -> None:
        self.secrets = Secrets()
        self.said: list[str] = []
        self.refused = True
        self.keys = [new_master_key(), new_master_key()]
        for number, text in enumerate(self.keys):
            self.secrets.look_for(f"the text of master key {number}", text.removeprefix("mdmk_")[:40].encode())
            self.secrets.look_for(f"master key {number}", self.key(number).key)
        self.store: Store = open_store(url)
        self.daemon = MailDaemon(
            self.store,
            sources=Registry(SOURCES, entries=(), imap=IMAP, hollow=Kind(
                settings=HollowSettings, open=self._source, facts=KindFacts(needs_host=False)
            )),
            destinations=Registry(DESTINATIONS, entries=(), hollow=Kind(
                settings=HollowSettings, open=self._destination
            )),
            monitors=[self.say],
        )  # fmt: skip
        self.server = server

    def key(self, number: int) -> MasterKey:
        return master_keys({VARIABLE: self.keys[number]})[0]

    def catalog(self, *numbers: int) -> Catalog:
        vault = Vault([self.key(number) for number in numbers])
        self.say(vault, self.key(0))
        catalog = self.daemon.catalog(vault)
        self.say(catalog)
        return catalog

    def _source(self, options: MailboxOptions, settings: HollowSettings, spool: Spool) -> MailSource:
        self.say(options, settings)
        raise LoginRefused(f"nobody may log in as {options.login}", remedy="correct it")

    def _destination(self, options: DestinationOptions, settings: HollowSettings) -> Destination:
        self.say(options, settings)
        if self.refused:
            raise DestinationUnavailable(f"{options.url} is away", remedy="wait")
        return MemoryDestination("hollow")

    def document(self, **others: Any) -> dict[str, Any]:
        new = self.secrets.new
        return {
            "type": "hollow",
            "mailbox": f"{secrets.token_hex(4)}@firm.example",
            "password": new("a password"),
            "clientId": "client",
            "tenantId": "tenant",
            "clientSecret": new("a client secret"),
            "exportAttachments": True,
            "options": {"token": new("a token")},
            "destinations": [
                {
                    "type": "hollow",
                    "name": name,
                    "url": f"hollow://{name}",
                    "password": new("a destination's password"),
                    "options": {"token": new("a destination's token")},
                }
                for name in ("one", "two/three")
            ],
            **others,
        }

    def imap_document(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.server.port,
            "tls": "none",
            "mailbox": "jane@firm.example",
            "password": self.secrets.new("an IMAP password").replace("ä", ""),
            "exportAttachments": True,
            "destinations": [{"type": "hollow", "url": "hollow://three"}],
        }

    # ---- what is said ----

    def say(self, *values: object) -> None:
        for value in values:
            self.said += (repr(value), str(value))

    def tell(self, error: BaseException) -> None:
        """An error as it may be shown in any way, with all that it hangs on."""
        self.said += format_exception(error)
        seen: set[int] = set()
        waiting: list[BaseException] = [error]
        while waiting:
            at = waiting.pop()
            if id(at) not in seen:
                seen.add(id(at))
                self.say(at, at.args, vars(at))
                if isinstance(at, MaildaemonError):
                    self.say(at.trouble())
                waiting += [each for each in (at.__cause__, at.__context__) if each is not None]

    def fails(self, attempt: Callable[[], object]) -> None:
        with pytest.raises(MaildaemonError) as caught:
            attempt()
        self.tell(caught.value)


@pytest.fixture
def world(store_url: str, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    caplog.set_level(logging.DEBUG)
    with ScriptedImap() as server:
        server.instead("LOGIN", refuse, always=True)
        server.instead("AUTHENTICATE", refuse, always=True)
        world = World(store_url, server)
        yield world
        with suppress(MaildaemonError):
            world.daemon.close()


def live(world: World) -> None:
    """A life of a few mailboxes in which about everything goes wrong."""
    new = world.secrets.new
    first = world.catalog(0)
    made = [first.create(world.document(), by="somebody") for _ in range(3)]
    made.append(first.create(world.imap_document()))
    mailbox = made[0].configuration.id
    world.say(*made, *(each.options for each in made), *(each.configuration for each in made))
    world.say(*(codec.write(each.options) for each in made))
    changed = first.change(mailbox, {"password": new("a changed password"), "options": {"token": new("another token")}})
    world.say(changed)
    replaced = first.replace(mailbox, {**codec.write(changed.options), "clientSecret": new("a replaced secret")})
    assert replaced.configuration.version == 3

    literal, wrong = new("a refused password"), new("a secret in the wrong place")
    world.fails(lambda: first.create({**world.document(), "port": wrong, "password": literal, "pasword": literal}))
    world.fails(lambda: first.change(mailbox, {"host": "evil.example", "password": MASK}))
    world.fails(lambda: first.change(mailbox, {"folders": [wrong, 7], "password": {"a": literal}}))
    world.fails(lambda: first.change(mailbox, {"active": False}, expected=99))
    world.fails(lambda: world.catalog().create(world.document()))
    world.fails(lambda: world.daemon.adopt(mailbox, attrs.evolve(changed.options, type="nowhere")))

    for kept in first.all():
        assert isinstance(kept, Kept)
        world.daemon.take_on(kept)
        world.refused = not world.refused
        for _ in range(2):
            report = world.daemon.sweep_once(kept.configuration.id)
            assert report.trouble is not None
            world.say(report, report.trouble)
        world.say(world.daemon.validate(kept.configuration.id, kept.options))
    world.say(world.daemon.mailboxes(), world.daemon.infos())

    shown, key = make_key(secrets.token_bytes(CHANCE_BYTES), "a key", now=datetime.now(UTC))
    world.secrets.look_for("an API key", shown.value.split("_", 2)[2][:32].encode())
    world.store.add_key(key)
    world.say(shown, key, world.store.keys())

    for each in world.catalog(1).all():
        world.say(each)
    world.fails(lambda: world.catalog(1).options_of(replaced.configuration))
    world.fails(lambda: world.catalog().options_of(replaced.configuration))
    there = replaced.configuration
    world.fails(lambda: first.options_of(attrs.evolve(there, document={**there.document, "host": "evil.example"})))
    rotation = world.catalog(1, 0).rotate()
    assert rotation.resealed == 3 * 7 + 1
    world.say(rotation)
    assert isinstance(world.catalog(1).get(mailbox), Kept)


def exported(store: Store) -> bytes:
    assert isinstance(store, Movable)
    lines: list[bytes] = []
    for with_secrets in (False, True):
        store.leave(lines.append, secrets=with_secrets)
    assert b"jane@firm.example" in b"".join(lines)
    return b"".join(lines)


def check(world: World, caplog: pytest.LogCaptureFixture, files: list[Path]) -> None:
    log = "\n".join([caplog.text, *(repr(vars(record)) for record in caplog.records)])
    assert caplog.records
    said = "\n".join(world.said)
    assert world.secrets.found_in(log.encode("utf-8", "surrogateescape")) == set()
    assert world.secrets.found_in(said.encode("utf-8", "surrogateescape")) == set()
    assert world.secrets.found_in(exported(world.store)) == set()
    check_files(world, files)


def check_files(world: World, files: list[Path]) -> None:
    for path in files:
        assert world.secrets.found_in(path.read_bytes()) == set(), path


class TestSqlite:
    @pytest.fixture
    def store_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'maildaemon.db'}"

    def test_it_is_nowhere(self, world: World, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
        live(world)
        files = sorted(tmp_path.glob("maildaemon.db*"))
        assert [path.name for path in files] == ["maildaemon.db", "maildaemon.db-shm", "maildaemon.db-wal"]
        assert b"jane@firm.example" in b"".join(path.read_bytes() for path in files)
        check(world, caplog, files)
        world.daemon.close()
        check_files(world, [tmp_path / "maildaemon.db"])


@pytest.mark.server
class TestPostgresql:
    @pytest.fixture
    def server(self) -> Iterator[Postgres]:
        with Postgres(settings=("log_statement=all", "log_parameter_max_length=-1")) as server:
            yield server

    @pytest.fixture
    def store_url(self, server: Postgres) -> str:
        return server.fresh_database()

    def test_it_is_nowhere(self, world: World, caplog: pytest.LogCaptureFixture, server: Postgres) -> None:
        live(world)
        assert b"jane@firm.example" in server.log.read_bytes(), "the server does not log what it is told"
        check(world, caplog, [server.log])
        world.daemon.close()
        server.stop()  # everything is in its files then
        files = [path for path in server.data.rglob("*") if path.is_file()]
        assert any("pg_wal" in path.parts and b"jane@firm.example" in path.read_bytes() for path in files)
        check_files(world, files)


@pytest.mark.parametrize(
    "written",
    [
        lambda text: text.encode(),
        lambda text: repr([text]).encode(),
        lambda text: quote(text).encode(),
        lambda text: text.encode().hex().encode(),
        lambda text: text.encode("utf-16"),
        lambda text: base64.b64encode(b"\0jane\0" + text.encode()),
        lambda text: base64.b64encode(b"\0joe\0" + text.encode()),
        lambda text: base64.urlsafe_b64encode(b"jim" + text.encode()),
    ],
)
def test_the_search_would_find_it(written: Callable[[str], bytes]) -> None:
    known = Secrets()
    text = known.new("a password")
    assert known.found_in(b"...." + written(text) + b"....")
    assert not known.found_in(b"...." + written(text[::-1]) + b"....")
