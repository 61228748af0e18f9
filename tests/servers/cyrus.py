"""A Cyrus of one's own on loopback, from packages that are unpacked and not installed, for they shut out Dovecot's.

    with Cyrus() as server:
        server.add_user("jane")
        # IMAP with STARTTLS on server.imap, implicit TLS on server.imaps, CA in server.ca, password server.password

Other than Dovecot it has lasting ids of mails (RFC 8474), "/" between folders, and is strict about the mail it takes.
Settings: https://www.cyrusimap.org/imap/reference/manpages/configs/imapd.conf.html
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import threading
from pathlib import Path
from typing import Final

from imapclient import IMAPClient

from tests.servers.availability import cyrus_folder
from tests.servers.certificates import make_ca
from tests.servers.homed import Homed
from tests.servers.process import LOOPBACK, Process, ServerFailed, free_port

ATTEMPTS: Final = 3

OWNER: Final = "mail"
"""Whose it is; root starts it."""

LIBRARIES: Final = (
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib/aarch64-linux-gnu",
)


class Cyrus(Homed):
    """Known once started: ``imap`` and ``imaps`` (ports), ``ca`` (PEM file), ``password``, ``root``.

    ``settings`` stand at the end of imapd.conf.
    """

    password = "secret"

    def __init__(self, *, settings: str = "") -> None:
        self.settings = settings
        self._lock = threading.Lock()

    def add_user(self, name: str) -> None:
        """From now on somebody of this name can log in, and has an empty INBOX."""
        with self._lock:
            subprocess.run(
                [
                    self._programs / "usr/sbin/saslpasswd2",
                    "-p",
                    "-c",
                    "-f",
                    self.root / "users",
                    "-u",
                    "localhost",
                    name,
                ],
                input=self.password.encode(),
                check=True,
                capture_output=True,
                env=self._environment(),
            )
            self._give(self.root / "users")

    def client(self, user: str) -> IMAPClient:
        """A session of another mail program."""
        client = IMAPClient(LOOPBACK, port=self.imap, ssl=False, timeout=10)
        client.login(user, self.password)
        return client

    def hang_up(self) -> None:
        """Ends every session: the processes that serve them end, and new ones take their place."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            with contextlib.suppress(OSError):  # it ended by itself
                if Path(f"/proc/{child}/comm").read_text().strip() == "imapd":
                    os.kill(int(child), signal.SIGKILL)

    def _start(self) -> None:
        self._programs = cyrus_folder()
        self.root.chmod(0o755)
        for folder in ("conf", "spool", "search", "proc", "lock"):
            (self.root / folder).mkdir()
        certificates = make_ca(self.root / "tls")
        self.ca = certificates.ca
        certificates.key.chmod(0o600)
        self.add_user("nobody")  # for there to be a file of users
        programs = self._programs / "usr/lib/cyrus/bin"
        for attempt in range(1, ATTEMPTS + 1):
            self.imap, self.imaps = free_port(), free_port()
            configuration, services = self.root / "imapd.conf", self.root / "cyrus.conf"
            configuration.write_text(
                _CONFIGURATION.format(
                    root=self.root,
                    certificate=certificates.certificate,
                    key=certificates.key,
                    owner=OWNER,
                    settings=self.settings,
                )
            )
            services.write_text(
                _SERVICES.format(programs=programs, configuration=configuration, imap=self.imap, imaps=self.imaps)
            )
            for path in (self.root, *self.root.rglob("*")):
                self._give(path)
            self.process = Process(
                [programs / "master", "-C", configuration, "-M", services, "-p", self.root / "master.pid"],
                log=self.root / "output.log",
                environment=self._environment(),
            )
            try:
                self.process.wait_for(self.imap, b"* OK")
                return
            except ServerFailed:
                self.process.stop()
                if attempt == ATTEMPTS:
                    raise

    def _environment(self) -> dict[str, str]:
        folders = [self._programs / each for each in LIBRARIES]
        # What Debian has installed of SASL serves as well as what was unpacked.
        plugins = [*(each / "sasl2" for each in folders), *(Path("/") / each / "sasl2" for each in LIBRARIES)]
        return {
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, folders)),
            "SASL_PATH": os.pathsep.join(str(each) for each in plugins if each.is_dir()),
        }

    def _give(self, path: Path) -> None:
        account = pwd.getpwnam(OWNER)
        os.chown(path, account.pw_uid, account.pw_gid)


_CONFIGURATION: Final = """\
configdirectory: {root}/conf
proc_path: {root}/proc
mboxname_lockpath: {root}/lock
defaultpartition: default
partition-default: {root}/spool
search_engine: none
cyrus_user: {owner}
cyrus_group: {owner}
servername: localhost
admins: admin
allowplaintext: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {root}/users
sasl_mech_list: PLAIN LOGIN
virtdomains: userid
defaultdomain: localhost
unixhierarchysep: yes
altnamespace: yes
tls_server_cert: {certificate}
tls_server_key: {key}
tls_session_timeout: 0
autocreate_users: anyone
autocreate_quota: 0
autocreate_inbox_folders: Sent | Trash
xlist-sent: Sent
xlist-trash: Trash
idlesocket: {root}/idle.sock
notifysocket: {root}/notify.sock
conversations: yes
conversations_db: twoskip
expunge_mode: immediate
delete_mode: immediate
duplicatesuppression: no
imapidlepoll: 1
quota_db: quotalegacy
munge8bit: no
{settings}
"""

_SERVICES: Final = """\
START {{
  recover cmd="{programs}/ctl_cyrusdb -C {configuration} -r"
}}
SERVICES {{
  imap cmd="{programs}/imapd -C {configuration} -U 30" listen="127.0.0.1:{imap}" prefork=1
  imaps cmd="{programs}/imapd -C {configuration} -s -U 30" listen="127.0.0.1:{imaps}" prefork=0
}}
DAEMON {{
  idled cmd="{programs}/idled -C {configuration}"
}}
EVENTS {{
}}
"""
