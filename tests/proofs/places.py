"""A place of each kind on a real server, how a configuration has it, and the line to it that can be cut."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from maildaemon_adapters.files.paths import STAGING
from tests.contracts.object_grounds import AzureGround, GcsGround, Ground, Outside, S3Ground, at
from tests.proofs.box import Box
from tests.proofs.watchers import Consumer, Onlooker, Shopper
from tests.servers.dovecot import Dovecot
from tests.servers.process import LOOPBACK
from tests.servers.proxy import NO_FAULT, ChaosProxy, Fault
from tests.servers.pyftpd import Pyftpd
from tests.servers.samba import Samba
from tests.servers.sshd import Sshd
from tests.servers.webdav import WebDav


class Line:
    """The way to a server: through a proxy, and through one more for each port that it opens for data, as FTP does."""

    def __init__(self, port: int) -> None:
        self._main = ChaosProxy(port)
        self._data: list[ChaosProxy] = []
        self.port = self._main.port

    def __enter__(self) -> Line:
        self._main.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()
        self._main.__exit__(None, None, None)

    def through(self, port: int) -> int:
        """The port to say in place of this one, which the server opened for data."""
        way = ChaosProxy(port)
        way.fault = self._main.fault
        self._data.append(way.__enter__())
        return way.port

    def cut(self, fault: Fault = NO_FAULT) -> None:
        """Ends every connection; ``fault`` is what happens to the next ones."""
        for way in (self._main, *self._data):
            way.fault = fault
            way.drop_all()

    def spoil(self, fault: Fault) -> None:
        """What happens from now on, to connections that there are as well."""
        for way in (self._main, *self._data):
            way.fault = fault

    def rest(self) -> None:
        """While nothing runs: it is whole again, and what nobody uses is gone."""
        self._main.fault = NO_FAULT
        while self._data:
            self._data.pop().__exit__(None, None, None)


class Straight(Line):
    """No way but the server's own port."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.port = port

    def through(self, port: int) -> int:
        return port


@attrs.frozen(kw_only=True)
class Place:
    """``destination`` is what stands in the configuration.

    ``root``: where the files lie on the server's own disk, in the folder ``home``; or else ``outside`` sees them.
    """

    line: Line
    destination: Mapping[str, Any]
    home: Path
    root: Path | None = None
    outside: Outside | None = None

    @property
    def renames(self) -> bool:
        """Whether each file comes once, whatever happens."""
        return self.root is not None

    def box(self, dovecot: Dovecot, user: str, folder: Path) -> Box:
        kind = Box if self.outside is None else type("ShelfBox", (ShelfBox,), {"outside": self.outside})
        made: Box = kind(dovecot, user, folder, delete=True, destination=self.destination, target=self.root)
        return made

    def consumer(self, box: Box) -> Onlooker:
        """Takes each file as soon as it can be seen."""
        return Consumer(box, self.home) if self.outside is None else Shopper(box, self.outside)


class ShelfBox(Box):
    """Whose files are objects."""

    outside: Outside

    def staged(self) -> list[Path]:
        return sorted(Path(name) for name in self.outside.names() if name.startswith(f"{STAGING}/"))


def of_user(name: str, folder: Path) -> Path:
    """A new folder that belongs to whom the one above it belongs to."""
    made = folder / name
    made.mkdir()
    owner = folder.stat()
    if os.geteuid() == 0:
        os.chown(made, owner.st_uid, owner.st_gid)
    return made


@contextmanager
def sftp(_folder: Path, way: type[Line]) -> Iterator[Place]:
    with Sshd() as server, way(server.port) as line:
        root = of_user("in", server.data)
        yield Place(
            line=line,
            destination={
                "type": "sftp",
                "url": f"sftp://{server.user}@{LOOPBACK}:{line.port}{root}",
                "options": {"privateKey": server.key.read_text(), "hostKey": [server.host_key]},
            },
            home=server.root,
            root=root,
        )


@contextmanager
def smb(_folder: Path, way: type[Line]) -> Iterator[Place]:
    with Samba() as server, way(server.port) as line:
        yield Place(
            line=line,
            destination={
                "type": "smb",
                "url": f"smb://{LOOPBACK}:{line.port}/data/in",
                "username": server.user,
                "password": server.password,
            },
            home=server.root,
            root=of_user("in", server.data),
        )


@contextmanager
def ftp(folder: Path, way: type[Line]) -> Iterator[Place]:
    """In plain text: there nothing but the size tells a file that was cut off from one that came to its end."""
    shelf = of_user("shelf", folder)
    with Pyftpd(shelf) as server, way(server.port) as line:
        server.passive_port = line.through
        yield Place(
            line=line,
            destination={
                "type": "ftp",
                "url": f"ftp://{server.user}@localhost:{line.port}/in",
                "password": server.password,
                "options": {"tls": "none"},
            },
            home=folder,
            root=of_user("in", shelf),
        )


@contextmanager
def webdav(folder: Path, way: type[Line]) -> Iterator[Place]:
    shelf = of_user("shelf", folder)
    with WebDav(shelf) as server, way(server.port) as line:
        yield Place(
            line=line,
            destination={
                "type": "webdav",
                "url": f"{server.scheme}://localhost:{line.port}/in",
                "username": server.user,
                "password": server.password,
                "options": {"tls": "none"},
            },
            home=folder,
            root=of_user("in", shelf),
        )


@contextmanager
def objects(made: Callable[[], AbstractContextManager[Ground]], folder: Path, way: type[Line]) -> Iterator[Place]:
    with ExitStack() as stack:
        ground = stack.enter_context(made())
        line = stack.enter_context(way(ground.port))
        bucket = ground.fresh()
        options = ground.options(bucket, endpoint=at(ground, line.port))
        assert options.password is not None
        named = {"type": options.type, "url": options.url, "username": options.username}
        yield Place(
            line=line,
            destination={
                **{name: value for name, value in named.items() if value is not None},
                "password": options.password.value,
                "options": options.options,
            },
            home=folder,
            outside=ground.outside(bucket),
        )


_KINDS: Mapping[str, Callable[[Path, type[Line]], AbstractContextManager[Place]]] = {
    "sftp": sftp,
    "smb": smb,
    "ftp": ftp,
    "webdav": webdav,
    "s3": partial(objects, S3Ground),
    "azure": partial(objects, AzureGround),
    "gcs": partial(objects, GcsGround),
}

KINDS = list(_KINDS)


def place_of(kind: str, folder: Path, way: type[Line] = Line) -> AbstractContextManager[Place]:
    """A new server, its files below ``folder`` if it does not choose a place of its own."""
    return _KINDS[kind](folder, way)
