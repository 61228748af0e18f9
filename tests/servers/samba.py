"""A Samba of one's own on loopback, with one user and one share: ready in about 0.5 s; only root can run it.

    with Samba() as server:
        # log in as server.user with server.password to server.port; the share "data" is the folder server.data

smb.conf(5).
"""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from tests.servers.availability import smbd_program
from tests.servers.homed import Homed
from tests.servers.process import Process, ServerFailed, free_port

ATTEMPTS = 3
USER = "nobody"
"""It has to be known to the system, and is everywhere."""


class Samba(Homed):
    """``settings`` and ``share`` are put at the end of the global section and of the section of the share.

    Known once started: ``port``, ``user``, ``password``, ``data``, ``root``.
    """

    user = USER
    password = "a secret word"

    def __init__(self, *, settings: str = "", share: str = "") -> None:
        self.settings = settings
        self.share = share

    def _start(self) -> None:
        program = smbd_program()
        self.root.chmod(0o755)
        self.data = self.root / "data"
        for folder in ("data", "lock", "state", "cache", "pid", "private", "ncalrpc"):
            (self.root / folder).mkdir()
        account = pwd.getpwnam(self.user)
        os.chown(self.data, account.pw_uid, account.pw_gid)
        self.configuration = self.root / "smb.conf"
        for attempt in range(1, ATTEMPTS + 1):
            self.port = free_port()
            self.configuration.write_text(
                CONFIGURATION.format(root=self.root, port=self.port, settings=self.settings, share=self.share)
            )
            if attempt == 1:
                self.set_password(self.password)
            command: list[str | Path] = [
                program,
                "--foreground",
                "--no-process-group",
                "--debug-stdout",
                "-s",
                self.configuration,
            ]
            self.process = Process(command, log=self.root / "output.log")
            try:
                self.process.wait_for(self.port)
                return
            except ServerFailed:
                self.process.stop()
                if attempt == ATTEMPTS:
                    raise

    def set_password(self, password: str) -> None:
        """From now on the user logs in with this one."""
        self.password = password
        subprocess.run(
            ["smbpasswd", "-c", str(self.configuration), "-a", "-s", self.user],
            input=f"{password}\n{password}\n".encode(),
            check=True,
            capture_output=True,
        )


CONFIGURATION = """\
[global]
server role = standalone server
netbios name = MDTEST
workgroup = WG
interfaces = 127.0.0.1/8
bind interfaces only = yes
smb ports = {port}
disable netbios = yes
load printers = no
printcap name = /dev/null
disable spoolss = yes
lock directory = {root}/lock
state directory = {root}/state
cache directory = {root}/cache
pid directory = {root}/pid
private dir = {root}/private
ncalrpc dir = {root}/ncalrpc
passdb backend = tdbsam:{root}/private/passdb.tdb
log file = {root}/smbd.log
log level = 1
map to guest = never
server min protocol = SMB2_02
{settings}
[data]
path = {root}/data
read only = no
create mask = 0644
{share}
"""
