"""An OpenSSH server with SFTP of one's own on loopback, for one user and one key: ready in about 0.1 s.

    with Sshd() as server:
        # log in as server.user with the key in server.key to server.port; server.data is a folder to write to

As root it lets root in, else whoever runs it: it can log in nobody else.  sshd_config(5).
"""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from tests.servers.availability import sshd_program
from tests.servers.homed import Homed
from tests.servers.process import LOOPBACK, Process, ServerFailed, free_port

ATTEMPTS = 3


class Sshd(Homed):
    """Known once started: ``port``, ``user``, ``key`` (file), ``host_key`` (a line of a .pub file), ``data``, ``root``.

    ``sftp`` False: it lets the user in, but has no SFTP.  ``settings`` is put at the end of sshd_config.
    """

    def __init__(self, *, sftp: bool = True, settings: str = "") -> None:
        self.sftp = sftp
        self.settings = settings

    def _start(self) -> None:
        program = sshd_program()
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.data = self.root / "data"
        self.data.mkdir()
        for name in ("host", "client"):
            self.make_key(self.root / name)
        self.key = self.root / "client"
        self.host_key = (self.root / "host.pub").read_text().rpartition(" ")[0]
        (self.root / "authorized_keys").write_text((self.root / "client.pub").read_text())
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)  # without it, it refuses to start
        for attempt in range(1, ATTEMPTS + 1):
            self.port = free_port()
            (self.root / "sshd_config").write_text(
                CONFIGURATION.format(
                    port=self.port,
                    root=self.root,
                    subsystem="Subsystem sftp internal-sftp" if self.sftp else "",
                    settings=self.settings,
                )
            )
            self.process = Process([program, "-D", "-e", "-f", self.root / "sshd_config"], log=self.root / "output.log")
            try:
                self.process.wait_for(self.port, b"SSH-2.0")
                return
            except ServerFailed as failure:
                self.process.stop()
                if attempt == ATTEMPTS or "already in use" not in str(failure):
                    raise

    @property
    def known_hosts(self) -> str:
        """A line of a file of known hosts."""
        return f"[{LOOPBACK}]:{self.port} {self.host_key}\n"

    @staticmethod
    def make_key(path: Path, passphrase: str = "") -> Path:
        """A new private key, with the public one beside it."""
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", str(path)],
            check=True,
            stdin=subprocess.DEVNULL,
        )
        return path


CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {root}/host
PidFile {root}/sshd.pid
AuthorizedKeysFile {root}/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
MaxStartups 100
MaxSessions 100
{subsystem}
{settings}
"""
