"""Whether a real server can be had on this machine; where not, its tests are not run, and that is said with a count.

Where the environment says ``CI=true`` a missing server is a failure.
"""

from __future__ import annotations

import os
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


def dovecot_program() -> Path:
    """Where Dovecot 2.3 is; else the test is skipped (a failure in CI).  ``MAILDAEMON_DOVECOT`` names another one."""
    named = os.environ.get("MAILDAEMON_DOVECOT")
    reachable = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(named or "dovecot", path=reachable)
    if found is None:
        not_available("dovecot is not installed", "as root: apt-get install -y --no-install-recommends dovecot-imapd")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if not re.match(r"2\.3\.", version):
        # 2.4 reads another configuration language, in which ours is an error from the first line on.
        not_available(f"{found} is Dovecot {version or 'of no version'}", "use Dovecot 2.3 (Debian 12, Ubuntu 24.04)")
    return Path(found)


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
