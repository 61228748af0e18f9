"""An SFTP server inside the process (asyncssh), with passwords and with switches for what servers can be like.

with AsyncSftp({"jane": "secret"}) as server:
    # log in to server.port; server.data is the root that its users see
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

from tests.servers.process import LOOPBACK


class AsyncSftp:
    """``users`` maps names to passwords, and may be changed at any time.

    ``posix_rename`` False: the server has no rename that replaces.  ``replacing`` True: its plain rename replaces.
    ``syncs`` False: it syncs no files.  ``denied``: nobody may make folders or open files.
    ``fail_after``: so many bytes more can be written; then the disk is full, or what ``fault`` says.
    ``silent``: requests are not answered any more.  ``crashes``: so often its SFTP ends, while the connection stays.
    Known once started: ``port``, ``host_key``, ``data``.
    """

    def __init__(
        self, users: Mapping[str, str], *, posix_rename: bool = True, replacing: bool = False, syncs: bool = True
    ) -> None:
        self.users = dict(users)
        self.posix_rename = posix_rename
        self.replacing = replacing
        self.syncs = syncs
        self.denied = False
        self.crashes = 0
        self.fail_after: int | None = None
        self.fault = "No space left on device"
        self.silent = False
        self.logins = 0

    @property
    def known_hosts(self) -> str:
        """A line of a file of known hosts."""
        return f"[{LOOPBACK}]:{self.port} {self.host_key}\n"

    def __enter__(self) -> Self:
        self.data = Path(tempfile.mkdtemp(prefix="maildaemon-sftp-")).resolve()
        started: list[BaseException | None] = []
        ready = threading.Event()

        async def main() -> None:
            try:
                key = asyncssh.generate_private_key("ssh-ed25519")
                self.host_key = key.export_public_key().decode().strip()
                listener = await asyncssh.listen(
                    LOOPBACK,
                    0,
                    server_factory=self._login,
                    server_host_keys=[key],
                    sftp_factory=self._files,
                    allow_scp=False,
                )
            except BaseException as error:  # noqa: BLE001 - told to whoever waits
                started.append(error)
                ready.set()
                return
            self.port = listener.get_port()
            self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
            started.append(None)
            ready.set()
            await self._end.wait()
            listener.close()
            self.silent = False
            for connection in tuple(self._connections):
                connection.abort()
            await listener.wait_closed()

        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(main()), name="sftp server", daemon=True)
        self._thread.start()
        ready.wait(10)
        if started != [None]:
            shutil.rmtree(self.data, ignore_errors=True)
            raise started[0] if started and started[0] else TimeoutError("the server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        shutil.rmtree(self.data, ignore_errors=True)

    def _login(self) -> asyncssh.SSHServer:
        outer = self

        class Login(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                self._connection = conn
                outer._connections.add(conn)

            def connection_lost(self, exc: Exception | None) -> None:
                outer._connections.discard(self._connection)

            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                good = outer.users.get(username) == password
                outer.logins += good
                return good

        return Login()

    def _files(self, channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        outer = self

        class Files(asyncssh.SFTPServer):
            def __init__(self) -> None:
                super().__init__(channel, chroot=str(outer.data).encode())

            async def lstat(self, path: bytes) -> Any:
                if outer.crashes:
                    outer.crashes -= 1
                    channel.abort()
                while outer.silent:
                    await asyncio.sleep(0.05)
                return super().lstat(path)

            def rename(self, oldpath: bytes, newpath: bytes) -> Any:
                return (super().posix_rename if outer.replacing else super().rename)(oldpath, newpath)

            def posix_rename(self, oldpath: bytes, newpath: bytes) -> Any:
                if not outer.posix_rename:
                    raise asyncssh.SFTPOpUnsupported("posix-rename not supported")
                return super().posix_rename(oldpath, newpath)

            def fsync(self, file_obj: object) -> Any:
                if not outer.syncs:
                    raise asyncssh.SFTPOpUnsupported("fsync not supported")
                return super().fsync(file_obj)

            def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
                if outer.denied:
                    raise asyncssh.SFTPPermissionDenied("Permission denied")
                return super().open(path, pflags, attrs)

            def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> Any:
                if outer.denied:
                    raise asyncssh.SFTPPermissionDenied("Permission denied")
                return super().mkdir(path, attrs)

            def write(self, file_obj: object, offset: int, data: bytes) -> Any:
                if outer.fail_after is not None:
                    outer.fail_after -= len(data)
                    if outer.fail_after < 0:
                        raise asyncssh.SFTPFailure(outer.fault)
                return super().write(file_obj, offset, data)

        return Files()
