"""A folder on an SFTP server as a tree: what each request is, and what the server's answers mean."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final

import asyncssh
from asyncssh.constants import (
    FILEXFER_TYPE_DIRECTORY,
    FILEXFER_TYPE_UNKNOWN,
    FXF_CREAT,
    FXF_EXCL,
    FXF_READ,
    FXF_TRUNC,
    FXF_WRITE,
)

from maildaemon_adapters.files.blocks import blocks
from maildaemon_adapters.files.contents import Unreadable, apart
from maildaemon_adapters.files.joint import Joint
from maildaemon_adapters.files.paths import STAGING
from maildaemon_adapters.files.server_url import ServerUrl
from maildaemon_adapters.files.sftp import PORT, SftpSettings
from maildaemon_adapters.files.sftp.answers import MISSING, blocked, fault_of, shown, taken, told
from maildaemon_adapters.files.sftp.login import Login
from maildaemon_adapters.files.sftp.session import Session
from maildaemon_adapters.files.tree import Fault, Named, Showing, Stat, TreeError
from maildaemon_core.options import Secret
from maildaemon_core.ports import Finding, Level

_BLOCK: Final = 1 << 18
"""Bytes that are sent as one; a server that takes less at once gets several requests for it."""

_IN_FLIGHT: Final = 16
"""Blocks that may be on their way at once: 4 MiB keep a line busy that is long and fast."""

_READ: Final = 1 << 21
_CLEANING: Final = 5.0  # seconds for taking away what was left of a file that could not be written
_SEEN: Final = 5.0  # seconds for which a folder is believed to lie where it was seen to lie


class SftpTree:
    """A ``Tree``.  One connection, over which several threads can send requests at once."""

    showing = Showing.RENAME
    at_once = 8

    def __init__(self, url: ServerUrl, password: Secret | None, settings: SftpSettings) -> None:
        self.place = url.place(PORT)
        self._login = Login(url=url, password=password, settings=settings)
        first, _, rest = url.path.partition("/")
        # As curl has it: /~/ is the folder in which the user arrives.
        self._root = (rest or ".") if first == "~" else f"/{url.path}"
        self._joint = Joint(self._connect)
        self._seen: dict[bytes, float] = {}

    def __repr__(self) -> str:
        return f"SftpTree({self.place!r})"

    # ------------------------------------------------------------------------------------------------ looking, reading

    def stat(self, path: str) -> Stat | None:
        with self._asking() as session:
            try:
                return _stat(session.ask(self._looked(session, path)))
            except MISSING:
                return None

    def read(self, path: str) -> Iterator[bytes]:
        with self._asking() as session:
            file = session.ask(_opened(session.client, self._at(path), FXF_READ))
            try:
                offset = 0
                while piece := _bytes(session.ask(file.read(_READ, offset))):
                    offset += len(piece)
                    yield piece
            finally:
                with suppress(TreeError, asyncssh.Error, OSError):
                    session.ask(file.close(), _CLEANING)

    def names(self, folder: str) -> Sequence[Named]:
        with self._asking() as session:
            try:
                found = session.ask(session.client.readdir(self._at(folder)))
            except MISSING:
                return []
        named = [Named(name=_text(each.filename), is_folder=_stat(each.attrs).is_folder) for each in found]
        return [each for each in named if each.name not in {".", ".."}]

    # ------------------------------------------------------------------------------------------------ writing, showing

    def write(self, path: str, pieces: Iterable[bytes], size: int | None = None) -> None:
        try:
            self._write(path, apart(lambda: pieces))
        except Unreadable as error:
            raise error.error from None

    def _write(self, path: str, pieces: Iterable[bytes]) -> None:
        with self._asking() as session:
            self._stay_within(session, path)
            file = session.ask(_opened(session.client, self._at(path), FXF_WRITE | FXF_CREAT | FXF_TRUNC))
            flight: deque[Future[int]] = deque()
            try:
                offset = 0
                for block in blocks(pieces, _size_of_blocks(session.client.limits.max_write_len)):
                    if len(flight) == _IN_FLIGHT:
                        session.wait(flight.popleft())
                    flight.append(session.start(file.write(block, offset)))
                    offset += len(block)
                while flight:
                    session.wait(flight.popleft())
                session.ask(_synced(file))
            except BaseException as error:
                for future in flight:
                    future.cancel()
                # Asked now, for there is room again once the file is gone.
                meant = self._told(error, session) if isinstance(error, asyncssh.SFTPError) else None
                self._discard(session, file, path)
                if meant is None:
                    raise
            else:
                return
            raise meant

    def _discard(self, session: Session, file: asyncssh.SFTPClientFile, path: str) -> None:
        for act in (file.close, lambda: session.client.remove(self._at(path))):
            with suppress(TreeError, asyncssh.Error, OSError):
                session.ask(act(), _CLEANING)

    def publish(self, source: str, target: str) -> str | None:
        with self._asking() as session:
            self._stay_within(session, target)
            # The rename itself refuses a name that is taken: this is for servers that are not as they should be.
            if self._lies(session, target):
                raise taken()
            try:
                session.ask(session.client.rename(self._at(source), self._at(target)))
            except asyncssh.SFTPFailure as error:
                # That is all that OpenSSH says of it.
                if self._lies(session, target):
                    raise taken() from None
                raise self._told(error, session) from None
            except asyncssh.SFTPFileAlreadyExists:
                raise taken() from None
            return None

    def _lies(self, session: Session, path: str) -> bool:
        try:
            session.ask(session.client.lstat(self._at(path)))
        except MISSING:
            return False
        return True

    def _stay_within(self, session: Session, path: str) -> None:
        """Raises ``BLOCKED`` when a link on the way to the file leads out of the root, as far as the server tells."""
        folder = self._at(path.rpartition("/")[0])
        if folder == self._at("") or self._seen.get(folder, 0.0) > time.monotonic():
            return
        try:
            root, real = (_bytes(session.ask(session.client.realpath(each))) for each in (self._at(""), folder))
        except asyncssh.SFTPError:
            return  # missing, which the request itself tells, or a server that does not say
        if not (real == root or real.startswith(root.rstrip(b"/") + b"/")):
            raise TreeError(
                Fault.BLOCKED,
                "a link on the way to it leads out of the destination's folder",
                remedy="replace the link by a folder",
            )
        if len(self._seen) > 10_000:  # noqa: PLR2004 - some megabytes
            self._seen.clear()
        self._seen[folder] = time.monotonic() + _SEEN

    # ------------------------------------------------------------------------------------------------ folders, the rest

    def remove(self, path: str) -> None:
        with self._asking() as session, suppress(*MISSING):
            session.ask(session.client.remove(self._at(path)))

    def make_folder(self, path: str) -> None:
        with self._asking() as session:
            self._stay_within(session, path)
            try:
                session.ask(session.client.mkdir(self._at(path)))
            except MISSING as error:
                above = path.rpartition("/")[0]
                if path and above and self._is_folder(session, above) is False:
                    raise blocked() from None
                if path:
                    raise self._told(error, session) from None
                session.ask(session.client.makedirs(self._at(""), exist_ok=True))
            except asyncssh.SFTPError as error:
                # Something is there, which may be said in any words, even as a lack of rights.
                there = self._is_folder(session, path)
                if there is None:
                    raise self._told(error, session) from None
                if not there:
                    raise blocked() from None

    def _is_folder(self, session: Session, path: str) -> bool | None:
        """None if nothing is there, or nobody says what."""
        try:
            return _stat(session.ask(self._looked(session, path))).is_folder
        except asyncssh.SFTPError:
            return None

    def _looked(self, session: Session, path: str) -> Coroutine[Any, Any, asyncssh.SFTPAttrs]:
        """Links are only followed to the root itself: that is the operator's."""
        return session.client.lstat(self._at(path)) if path else session.client.stat(self._at(""))

    def remove_folder(self, path: str) -> None:
        with self._asking() as session:
            self._seen.clear()
            # A mere failure is what most servers say of a folder that is not empty.
            with suppress(*MISSING, asyncssh.SFTPDirNotEmpty, asyncssh.SFTPFailure):
                session.ask(session.client.rmdir(self._at(path)))

    def findings(self) -> Sequence[Finding]:
        try:
            with self._asking() as session:
                syncs, replaces = _tried(session, self._at(STAGING))
        except TreeError:
            return []  # which is said by whoever tries to store something
        found = []
        if syncs is False:
            found.append(
                Finding(
                    level=Level.WARNING,
                    subject=self.place,
                    message="this server cannot be asked to sync files to its disk (fsync@openssh.com): a loss of "
                    "power there may take away what it has just confirmed",
                    remedy="let mails stay on their server for some time, or use another server",
                )
            )
        if replaces:
            found.append(
                Finding(
                    level=Level.WARNING,
                    subject=self.place,
                    message="this server renames over files that are there already, against the protocol",
                    remedy="let no other program make files of the same names there",
                )
            )
        return found

    def close(self) -> None:
        self._joint.close()

    # ------------------------------------------------------------------------------------------------------- connection

    @contextmanager
    def _asking(self) -> Iterator[Session]:
        """A session, and nothing but ``TreeError`` from whatever the library raises in here."""
        session = self._joint.get()
        try:
            yield session
        except (asyncssh.Error, OSError, UnicodeError) as error:
            made = self._told(error, session)
        else:
            return
        raise made

    def _connect(self) -> Session:
        session = Session(self._login)
        self._seen.clear()
        return session

    def _at(self, path: str) -> bytes:
        """The path on the server, in UTF-8, which is what all but the oldest of them expect."""
        whole = self._root if not path else f"{self._root.rstrip('/')}/{path}"
        return whole.encode("utf-8", "surrogateescape")

    def _told(self, error: BaseException, session: Session) -> TreeError:
        """What an answer of the server means; may ask it for its free space."""
        if isinstance(error, UnicodeError):
            return TreeError(Fault.NAME, "it holds characters that cannot be sent", remedy="change the path template")
        if not isinstance(error, asyncssh.SFTPError) or not session.alive:
            return session.broken(error)
        fault = fault_of(error)
        if fault is Fault.GONE:
            return session.broken(error)
        if fault is Fault.OTHER and self._is_full(session):
            fault = Fault.FULL
        return told(fault, shown(error.reason) or type(error).__name__, self._login.url.user)

    def _is_full(self, session: Session) -> bool:
        try:
            room = session.ask(session.client.statvfs(self._at("")), _CLEANING)
        except (TreeError, asyncssh.Error, OSError):
            return False
        return (room.bavail or 0) * (room.frsize or 0) < _BLOCK or (bool(room.files) and not room.favail)


def _stat(found: asyncssh.SFTPAttrs) -> Stat:
    # A server that does not tell what something is tells no size of folders either.
    is_folder = found.type == FILEXFER_TYPE_DIRECTORY or (found.type == FILEXFER_TYPE_UNKNOWN and found.size is None)
    return Stat(size=0 if is_folder else found.size or 0, is_folder=is_folder)


def _text(name: Any) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)


def _bytes(path: Any) -> bytes:
    return path if isinstance(path, bytes) else str(path).encode("utf-8", "surrogateescape")


async def _opened(client: asyncssh.SFTPClient, path: bytes, how: int) -> asyncssh.SFTPClientFile:
    return await client.open(path, how, encoding=None, max_requests=_IN_FLIGHT)


async def _synced(file: asyncssh.SFTPClientFile) -> None:
    """On disk where the server can promise that, and closed; what closing fails with counts as well."""
    with suppress(asyncssh.SFTPOpUnsupported):
        await file.fsync()
    await file.close()


def _tried(session: Session, folder: bytes) -> tuple[bool | None, bool | None]:
    """Whether the server syncs files, and renames over what is there; None where it did not come to that."""
    client, nonce = session.client, secrets.token_hex(8)
    here, there = (b"%s/trial-%s-%s" % (folder, nonce.encode(), each) for each in (b"here", b"there"))
    syncs = replaces = None
    with suppress(asyncssh.SFTPError):
        session.ask(client.mkdir(folder))
    try:
        for each in (here, there):
            file = session.ask(_opened(client, each, FXF_WRITE | FXF_CREAT | FXF_EXCL))
            try:
                session.ask(file.fsync())
                syncs = True
            except asyncssh.SFTPOpUnsupported:
                syncs = False
            session.ask(file.close())
        replaces = False
        session.ask(client.rename(here, there))
        replaces = True
    except asyncssh.SFTPError:
        pass  # as it should be; or nothing can be stored, which is said elsewhere
    finally:
        for act, path in ((client.remove, here), (client.remove, there), (client.rmdir, folder)):
            with suppress(asyncssh.SFTPError):
                session.ask(act(path), _CLEANING)
    return syncs, replaces


def _size_of_blocks(largest: int) -> int:
    """So many bytes that no request is a small rest: a server's largest, or several of them."""
    return largest * max(1, _BLOCK // largest) if 0 < largest <= 4 * _BLOCK else _BLOCK
