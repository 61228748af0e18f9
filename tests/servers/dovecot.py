"""A Dovecot 2.3 of one's own on loopback: any number at once, as root or as anybody, ready in about 0.1 s.

    with Dovecot() as server:
        server.deliver("jane@example.com", b"Subject: hello\\r\\n\\r\\nhello\\r\\n")
        # IMAP with STARTTLS on server.imap, implicit TLS on server.imaps, CA in server.ca

Settings: https://doc.dovecot.org/2.3/.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from tests.servers.availability import dovecot_program
from tests.servers.certificates import make_ca
from tests.servers.homed import Homed
from tests.servers.process import Process, ServerFailed, free_port

ATTEMPTS = 3
"""How often it is started anew when somebody took its port in the meantime."""


class Dovecot(Homed):
    """A server with its mail, its configuration and its log in a temporary folder that goes when it stops.

    ``pop3`` True: it speaks POP3 as well (Debian's package dovecot-pop3d).
    ``users`` maps names to passwords; without it any name can log in with ``password``.  ``imap_capability`` replaces
    what the server announces (it still understands the rest).  ``separator`` and ``prefix`` are those of its one
    namespace.  ``tls`` False: neither STARTTLS nor a port ``imaps``.  ``settings`` is put at the end of dovecot.conf.

    Known once started: ``imap`` and ``imaps`` (ports; with ``pop3`` also ``pop`` and ``pops``), ``ca`` (PEM file),
    ``root`` (folder).
    """

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        password: str = "secret",
        imap_capability: str = "",
        separator: str = ".",
        prefix: str = "",
        tls: bool = True,
        pop3: bool = False,
        settings: str = "",
    ) -> None:
        self.users = users
        self.password = password
        self.imap_capability = imap_capability
        self.separator = separator
        self.prefix = prefix
        self.tls = tls
        self.pop3 = pop3
        self.settings = settings
        self._folders: dict[tuple[str, str], Path] = {}
        self._lock = threading.Lock()
        self._stamp = 0

    def _start(self) -> None:
        program = dovecot_program(pop3=self.pop3)
        self.root.chmod(0o755)
        for folder in ("run", "state", "mail"):
            (self.root / folder).mkdir()
        certificates = make_ca(self.root / "tls")
        self.ca = certificates.ca
        self.mail_user, self.mail_group = _mail_owner()
        self._give(self.root / "mail")
        for attempt in range(1, ATTEMPTS + 1):
            self.imap, self.imaps, self.pop, self.pops = free_port(), free_port(), free_port(), free_port()
            self.configuration = self.root / "dovecot.conf"
            self.configuration.write_text(self._configuration(str(certificates.certificate), str(certificates.key)))
            self.process = Process([program, "-F", "-c", self.configuration], log=self.root / "output.log")
            try:
                self.process.wait_for(self.imap, b"* OK")
                if self.pop3:
                    self.process.wait_for(self.pop, b"+OK")
                return
            except ServerFailed as failure:
                self.process.stop()
                log = (self.root / "dovecot.log").read_text() if (self.root / "dovecot.log").exists() else ""
                if attempt == ATTEMPTS or "Address already in use" not in f"{failure}{log}":
                    raise ServerFailed(f"{failure}\n{log[-2000:]}") from None

    # ---- what tests do to it behind the back of the client under test ----

    def deliver(self, user: str, raw: bytes, folder: str = "INBOX", *, received: datetime | None = None) -> Path:
        """Puts a mail into the folder, which is made when absent, and returns its file.

        The client fetches what ``as_served`` says.  ``received`` becomes its INTERNALDATE (absent: now); UIDs follow
        the order of calls.  The file is moved into place, so an open session never sees half of it.
        """
        home = self._folder(user, folder)
        with self._lock:
            self._stamp = max(self._stamp + 1, time.time_ns() // 1000)
            seconds, micros = divmod(self._stamp, 1_000_000)
        # S and W are the sizes as stored and as served: with them Dovecot need not read the file to know.
        name = f"{seconds}.M{micros:06}P{os.getpid()}.localhost,S={len(raw)},W={len(as_served(raw))}"
        temporary, final = home / "tmp" / name, home / "new" / name
        temporary.write_bytes(raw)
        self._give(temporary)
        if received is not None:
            os.utime(temporary, (received.timestamp(), received.timestamp()))
        return temporary.rename(final)

    def doveadm(self, *arguments: str) -> str:
        """Runs doveadm on this server, waits, and gives its output; ServerFailed with its complaint if it fails."""
        done = subprocess.run(
            [shutil.which("doveadm") or "/usr/bin/doveadm", "-c", str(self.configuration), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(f"doveadm {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def kick(self, user: str) -> None:
        """Throws every session of the user out.  Nobody there to throw out is fine."""
        try:
            self.doveadm("kick", user)
        except ServerFailed as failure:
            if "exit 68" not in str(failure):  # EX_NOHOST: no session of that user
                raise

    def set_uidvalidity(self, user: str, folder: str, uidvalidity: int) -> None:
        """Renumbers the folder; open sessions in it are cut off."""
        self.doveadm("mailbox", "update", "-u", user, "--uid-validity", str(uidvalidity), folder)

    def uids(self, user: str, folder: str = "INBOX") -> list[int]:
        """The UIDs in the folder, ascending."""
        found = self.doveadm("search", "-u", user, "mailbox", folder, "all")
        return sorted(int(line.split()[1]) for line in found.splitlines())

    def messages(self, user: str, folder: str = "INBOX") -> list[bytes]:
        """Every mail of the folder as it is stored, byte for byte, in the order of file names (of delivery)."""
        home = self._folder(user, folder)
        files = [file for part in ("new", "cur") for file in (home / part).iterdir()]
        return [file.read_bytes() for file in sorted(files, key=lambda file: file.name)]

    # ---- within ----

    def _folder(self, user: str, folder: str) -> Path:
        """The Maildir of a folder.  Where that is only Dovecot knows (separators, modified UTF-7): it is asked once."""
        if not re.fullmatch(r"[\w.@+-]+", user):
            raise ValueError(f"no user name for a test: {user!r}")
        with self._lock:
            known = self._folders.get((user, folder))
            if known is not None and known.is_dir():
                return known
            if folder == "INBOX":
                home = self.root / "mail" / user / "Maildir"
            else:
                if folder not in self.doveadm("mailbox", "list", "-u", user, folder).splitlines():
                    self.doveadm("mailbox", "create", "-u", user, folder)
                home = Path(self.doveadm("mailbox", "path", "-u", user, folder).strip())
            for made in (home.parent, home, home / "tmp", home / "new", home / "cur"):
                if not made.is_dir():
                    made.mkdir(parents=True, mode=0o700)
                    self._give(made)
            self._folders[user, folder] = home
            return home

    def _give(self, path: Path) -> None:
        if os.getuid() == 0:
            shutil.chown(path, self.mail_user, self.mail_group)

    def _configuration(self, certificate: str, key: str) -> str:
        privileged = os.getuid() == 0
        # Without root nothing can change its user or its root folder: then everything is us, and stays where it is.
        chroot = "" if privileged else "chroot ="
        me = (
            ""
            if privileged
            else f"default_internal_user = {self.mail_user}\ndefault_login_user = {self.mail_user}\n"
            f"default_internal_group = {self.mail_group}"
        )
        if self.users is None:
            passdb = f"driver = static\n  args = password={self.password}"
        else:
            entries = self.root / "users"
            entries.write_text("".join(f"{name}:{{PLAIN}}{word}\n" for name, word in self.users.items()))
            entries.chmod(0o644)
            passdb = f"driver = passwd-file\n  args = username_format=%u {entries}"
        return CONFIGURATION.format(
            root=self.root,
            instance=self.root.name,
            ssl="yes" if self.tls else "no",
            certificate=certificate,
            key=key,
            mail_user=self.mail_user,
            mail_group=self.mail_group,
            me=me,
            chroot=chroot,
            passdb=passdb,
            separator=self.separator,
            prefix=self.prefix,
            imap=self.imap,
            imaps=self.imaps if self.tls else 0,
            imap_capability=self.imap_capability,
            protocols="imap pop3" if self.pop3 else "imap",
            pop3=POP3.format(
                chroot=chroot, pop=self.pop, pops=self.pops if self.tls else 0, ssl="yes" if self.tls else "no"
            )
            if self.pop3
            else "",
            settings=self.settings,
        )


def as_served(raw: bytes) -> bytes:
    """What ``FETCH BODY[]`` gives for a mail stored as ``raw``: each bare LF becomes CRLF, and NUL becomes 0x80.

    The first is every IMAP server's duty (RFC 9051 §2.3.4 counts octets of CRLF lines); the second is Dovecot's way
    round the NUL that a literal may not hold (RFC 9051 §4.3).
    """
    return re.sub(rb"(?<!\r)\n", b"\r\n", raw).replace(b"\0", b"\x80")


def _mail_owner() -> tuple[str, str]:
    """Whose the mails are: ourselves; as root somebody else, for Dovecot refuses to open mail as uid 0."""
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_name, grp.getgrgid(nobody.pw_gid).gr_name
    return pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name


# The connection limit is far above Dovecot's own 10, for tests open many; the penalty socket is shut, for otherwise a
# wrong password makes the next login from the same address wait for seconds.
CONFIGURATION = """\
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/dovecot.log
instance_name = {instance}
listen = 127.0.0.1
protocols = {protocols}
{me}

ssl = {ssl}
ssl_cert = <{certificate}
ssl_key = <{key}

disable_plaintext_auth = no
auth_mechanisms = plain login
auth_cache_size = 0
auth_failure_delay = 0
passdb {{
  {passdb}
}}
userdb {{
  driver = static
  args = uid={mail_user} gid={mail_group} home={root}/mail/%u allow_all_users=yes
}}

mail_location = maildir:{root}/mail/%u/Maildir
mail_uid = {mail_user}
mail_gid = {mail_group}
first_valid_uid = 0
mail_fsync = never
mail_max_userip_connections = 200
namespace inbox {{
  inbox = yes
  separator = {separator}
  prefix = {prefix}
  mailbox Sent {{
    auto = create
    special_use = \\Sent
  }}
  mailbox Trash {{
    auto = create
    special_use = \\Trash
  }}
}}

service imap-login {{
  {chroot}
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = {ssl}
  }}
}}
service anvil {{
  {chroot}
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  {chroot}
}}
protocol imap {{
  imap_capability = {imap_capability}
}}
{pop3}
{settings}
"""

# Without no_flag_updates a mail that was read through POP3 is marked as seen.
POP3 = """\
service pop3-login {{
  {chroot}
  inet_listener pop3 {{
    port = {pop}
  }}
  inet_listener pop3s {{
    port = {pops}
    ssl = {ssl}
  }}
}}
pop3_no_flag_updates = yes
"""
