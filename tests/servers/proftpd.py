"""A ProFTPD of one's own on loopback, with its defaults: nothing is resumed, nothing overwritten, TLS goes on or ends.

    with Proftpd() as server:
        # log in as server.user with server.password to server.port; the folder /data is the folder server.data

It takes connections with TLS and without.  ``settings`` stand at the end of its configuration; ``implicit``: TLS from
the first byte.  http://www.proftpd.org/docs/directives/linked/configuration.html
"""

from __future__ import annotations

import grp
import os
import pwd
from typing import Final

from tests.servers.availability import proftpd_modules, proftpd_program
from tests.servers.certificates import make_ca
from tests.servers.homed import Homed
from tests.servers.process import Process, ServerFailed, free_port

ATTEMPTS: Final = 3

PASSWORD: Final = "correct horse: battery"
_HASH: Final = (
    "$6$maildaemontest$539A5rZwZflcrufb4AhQlx/WBVy6ImE/dJfazmlB0Svp4sjzoH8VbrShhVcYrETJX4.rBi0zd288g9va1rxAw1"
)
"""Of the password, as crypt(5) has it."""


class Proftpd(Homed):
    """Known once started: ``port``, ``user``, ``password``, ``data``, ``ca``, ``root``.

    Started by root, it works as ``nobody``: it lets nobody in as root, and root may write where others may not.
    """

    user = "mails"
    password = PASSWORD

    def __init__(self, *, settings: str = "", tls: str = "", implicit: bool = False) -> None:
        self.settings = settings
        self.tls = tls
        self.implicit = implicit

    def _start(self) -> None:
        program = proftpd_program()
        self.root.chmod(0o755)
        account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self.home = self.root / "home"
        self.data = self.home / "data"
        for folder in (self.home, self.data):
            folder.mkdir()
            os.chown(folder, account.pw_uid, account.pw_gid)
        certificates = make_ca(self.root / "tls")
        self.ca = certificates.ca
        users = self.root / "users"
        users.write_text(f"{self.user}:{_HASH}:{account.pw_uid}:{account.pw_gid}::{self.home}:/bin/sh\n")
        users.chmod(0o600)
        for attempt in range(1, ATTEMPTS + 1):
            self.port = free_port()
            configuration = self.root / "proftpd.conf"
            configuration.write_text(
                _CONFIGURATION.format(
                    root=self.root,
                    port=self.port,
                    modules=proftpd_modules(),
                    users=users,
                    certificate=certificates.certificate,
                    key=certificates.key,
                    implicit="TLSOptions UseImplicitSSL" if self.implicit else "",
                    tls=self.tls,
                    settings=self.settings,
                    owner=account.pw_name,
                    group=grp.getgrgid(account.pw_gid).gr_name,
                )
            )
            self.process = Process([program, "-n", "-q", "-c", configuration], log=self.root / "output.log")
            try:
                self.process.wait_for(self.port, b"" if self.implicit else b"220")
                return
            except ServerFailed:
                self.process.stop()
                if attempt == ATTEMPTS:
                    raise


_CONFIGURATION: Final = """
LoadModule mod_tls.c
ModulePath {modules}
ServerName test
ServerType standalone
ServerIdent on
DefaultAddress 127.0.0.1
SocketBindTight on
UseIPv6 off
Port {port}
UseReverseDNS off
User {owner}
Group {group}
PidFile {root}/pid
ScoreboardFile {root}/scoreboard
SystemLog {root}/proftpd.log
TransferLog none
WtmpLog off
DefaultRoot ~
RequireValidShell off
AuthOrder mod_auth_file.c
AuthUserFile {users}
<IfModule mod_auth_pam.c>
  AuthPAM off
</IfModule>
<IfModule mod_delay.c>
  DelayEngine off
</IfModule>
TLSEngine on
TLSRequired off
TLSLog {root}/tls.log
TLSECCertificateFile {certificate}
TLSECCertificateKeyFile {key}
{implicit}
{tls}
{settings}
"""
