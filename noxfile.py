"""The project's chores: ``python3 noxfile.py demo``, ``python3 noxfile.py tests``; with ``--list`` it names them all.

Run as a script it needs nothing but Python: it brings nox along in ``.nox/bootstrap`` and hands over to it.  First come
sessions, then nox's own options, and after ``--`` what is for the tool that a session runs:

    python3 noxfile.py tests -- -k naming -x
    python3 noxfile.py lint types --reuse-existing-virtualenvs
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent
CONSTRAINTS = ROOT / "constraints.txt"
OLDEST_PYTHON = (3, 11)


# ---- run as a script: bring nox along -------------------------------------------------------------------------------


def hand_over_to_nox(arguments: list[str]) -> int:
    """Makes ``.nox/bootstrap`` when absent or stale, and becomes the nox in it.  2: this Python cannot do that."""
    wanted = "{}.{}".format(*OLDEST_PYTHON)
    running = "{}.{}".format(*sys.version_info[:2])
    if sys.version_info[:2] < OLDEST_PYTHON:
        return refuse(f"maildaemon needs Python {wanted} or newer, and this is {running}", f"python{wanted} noxfile.py")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        return refuse("this Python cannot make virtual environments", "apt-get install -y python3-venv")

    home = ROOT / ".nox" / "bootstrap"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = home / "made-from"
    made_from = hashlib.sha256(CONSTRAINTS.read_bytes() + sys.executable.encode() + sys.version.encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != made_from or not python.exists():
        print(f"maildaemon: bringing nox along in {home}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        for step in (
            [sys.executable, "-m", "venv", str(home)],
            [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), "nox"],
        ):
            if subprocess.call(step, stdin=subprocess.DEVNULL) != 0:
                return refuse(
                    f"this failed, see above: {' '.join(step)}",
                    "is the package index reachable, and on Debian: apt-get install -y python3-venv",
                )
        stamp.write_text(made_from)

    words = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    command = [str(python), "-m", "nox", "--noxfile", str(Path(__file__).resolve())]
    command += [*(["--session", *words] if words else []), *arguments[len(words) :]]
    if os.name != "nt":
        os.execv(command[0], command)  # noqa: S606 - so that signals and the exit code are nox's own
    return subprocess.call(command)


def refuse(what: str, remedy: str) -> int:
    print(f"maildaemon: {what}\n  try: {remedy}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(hand_over_to_nox(sys.argv[1:]))


# ---- what follows is read by nox ------------------------------------------------------------------------------------

import nox  # noqa: E402 - a fresh machine has no nox before the lines above

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.error_on_missing_interpreters = True

SERVERS = {
    "chromium": "chromium",
    "dovecot": "dovecot-imapd",
    "node": "nodejs",
    "npm": "npm",
    "pop3-login": "dovecot-pop3d",
    "postgres": "postgresql",
    "proftpd": "proftpd-mod-crypto",
    "smbd": "samba",
    "sshd": "openssh-server",
}
"""The real servers, and the browser, that tests talk to: program, and the Debian package that has it."""

SERVICES = {
    "dovecot": ("dovecot.service", "dovecot.socket"),
    "postgres": ("postgresql.service",),
    "proftpd": ("proftpd.service",),
    "smbd": ("smbd.service", "nmbd.service", "samba-ad-dc.service"),
    "sshd": ("ssh.service",),
}
"""What these packages would have started at the next boot."""

FROM_NPM = {"azurite": "3.35.0"}
"""What of the tests' servers comes from npm, with its version; it is kept in ``.nox/npm``."""

UNPACKED = {"cyrus": ("cyrus-imapd", "cyrus-common", "sasl2-bin", "libsasl2-modules", "libsasl2-modules-db")}
"""Debian's packages that cannot be installed beside others (Cyrus shuts out Dovecot): they lie in ``.nox/unpacked``."""

AWAY_FROM_PATH = ("usr/sbin", "usr/local/sbin", "usr/lib/dovecot", "usr/lib/postgresql/*/bin")
"""Where Debian keeps servers, and not everybody's PATH leads to."""

POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program whether a freshly installed service may start; 101 means no."""


ENVIRONMENT: dict[str, str | None] = {"PYTHONDONTWRITEBYTECODE": None}
"""Kept compiled: the tests start some hundred processes, of which each would else compile all of maildaemon again."""


def install(session: nox.Session, *what: str, groups: tuple[str, ...] = ()) -> None:
    """Installs under the constraints; never anything but what they name."""
    listed = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), *groups) if groups else ()
    session.install("--constraint", str(CONSTRAINTS), *what, *listed)


STAMP = ROOT / ".nox" / "tests" / "made-from"
"""Beside what ``tests`` has installed: what that was made from."""


def install_everything(session: nox.Session) -> None:
    """maildaemon with all extras, and what its tests and their types need."""
    install(session, "--editable", ".[all]", groups=("types",))
    stamp = Path(session.virtualenv.location, STAMP.name)
    if not stamp.exists():  # into an environment that is used again perhaps nothing was installed
        stamp.write_text(what_is_wanted())


def what_is_wanted() -> str:
    """A digest of all that decides what is installed."""
    files = (CONSTRAINTS, ROOT / "pyproject.toml")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files) + sys.version.encode()).hexdigest()


@nox.session
def demo(session: nox.Session) -> None:
    """Does the main job on real mail with a server inside the process, and shows what happened."""
    install(session, ".[demo]")
    session.run("maildaemon", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Runs every test that this machine can run, on two cores, and says what it could not run."""
    provide_servers(session)
    provide_from_npm(session)
    provide_unpacked(session)
    install_everything(session)
    session.run("python", "-m", "pytest", "-n", "3", *session.posargs, env=ENVIRONMENT)


@nox.session
def heavy(session: nox.Session) -> None:
    """Runs the heavy cases in full: many examples, many mails, many crashes."""
    provide_servers(session)
    provide_from_npm(session)
    provide_unpacked(session)
    install(session, "--editable", ".[all]", groups=("test",))
    session.run(
        *("python", "-m", "pytest", "-m", "heavy", "-n", "2", "--timeout", "0", *session.posargs),
        env={
            **ENVIRONMENT,
            "MAILDAEMON_HEAVY": "1",
            "MAILDAEMON_HYPOTHESIS": os.environ.get("MAILDAEMON_HYPOTHESIS", "heavy"),
        },
    )


@nox.session
def types(session: nox.Session) -> None:
    """Checks every type, strictly; beside what ``tests`` has installed, if that is all that is wanted now."""
    program = Path(session.virtualenv.location).with_name("tests") / "bin" / "mypy"
    if not (program.is_file() and STAMP.is_file() and STAMP.read_text() == what_is_wanted()):
        install(session, "--editable", ".[all]", groups=("types",))
        program = Path("mypy")
    session.run(str(program), *session.posargs, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Checks style and format; ``python3 noxfile.py lint -- --fix`` mends what can be mended."""
    install(session, groups=("lint",))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", *([] if "--fix" in session.posargs else ["--check", "--diff"]))


if (ROOT / "tests" / "bench" / "__main__.py").is_file():

    @nox.session
    def bench(session: nox.Session) -> None:
        """Measures reading beside Python's email package, destinations beside plain puts, round trips, and archiving
        beside mbsync."""
        provide_servers(session, {"mbsync": "isync", "strace": "strace"})
        provide_from_npm(session)
        install(session, "--editable", ".[all]", groups=("test",))
        session.run("python", "-m", "tests.bench.reading")
        session.run("python", "-m", "tests.bench.destinations")
        session.run("python", "-m", "tests.bench.distance")
        session.run("python", "-m", "tests.bench", *session.posargs)


def provide_servers(session: nox.Session, more: Mapping[str, str] = {}) -> None:
    """Installs the servers that are missing where we may: as root, with apt-get.  Elsewhere says the line."""
    missing = {program: package for program, package in {**SERVERS, **more}.items() if not is_there(program)}
    if not missing:
        return
    line = f"apt-get install -y --no-install-recommends {' '.join(missing.values())}"
    if shutil.which("apt-get") is None:
        session.warn(f"tests against real servers will not run, for want of {', '.join(missing)}; on Debian: {line}")
    elif os.geteuid() != 0:
        session.warn(f"tests against real servers will not run; to run them as well: sudo {line}")
    elif not install_packages(session, missing):
        session.warn(f"tests against real servers will not run, for the installation failed, see above; again: {line}")


def provide_from_npm(session: nox.Session) -> None:
    """Installs what comes from npm, below ``.nox``; where that is not possible says the line."""
    home = ROOT / ".nox" / "npm"
    missing = {name: version for name, version in FROM_NPM.items() if not (home / "node_modules" / name).is_dir()}
    if not missing:
        return
    wanted = [f"{name}@{version}" for name, version in missing.items()]
    line = ["npm", "install", "--prefix", str(home), "--no-audit", "--no-fund", "--silent", *wanted]
    if shutil.which("npm") is None or subprocess.call(line, stdin=subprocess.DEVNULL) != 0:
        session.warn(f"tests against {', '.join(missing)} will not run; to run them as well: {' '.join(line)}")


def provide_unpacked(session: nox.Session) -> None:
    """Unpacks what cannot be installed, with the libraries that this machine lacks; where not possible says so."""
    for name, packages in UNPACKED.items():
        home = ROOT / ".nox" / "unpacked" / name
        if home.is_dir():
            continue
        if shutil.which("apt-get") is None:
            session.warn(f"tests against {name} will not run: there is no apt-get to get {', '.join(packages)} with")
        elif not unpack(session, packages, home):
            session.warn(f"tests against {name} will not run: {', '.join(packages)} cannot be had, see above")


def unpack(session: nox.Session, packages: tuple[str, ...], home: Path) -> bool:
    """Fetches Debian packages and unpacks them into a folder, which is there only if all of it went well."""
    fresh = home.with_name(f"{home.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    downloads = fresh / "downloads"
    downloads.mkdir(parents=True)
    wanted = [*packages, *sorted(lacking_libraries(packages))]
    session.log(f"unpacking {', '.join(wanted)} for the tests")
    if subprocess.call(["apt-get", "download", "-q", *wanted], cwd=downloads, stdin=subprocess.DEVNULL) != 0:
        return False
    for file in sorted(downloads.glob("*.deb")):
        if subprocess.call(["dpkg", "-x", str(file), str(fresh)], stdin=subprocess.DEVNULL) != 0:
            return False
    shutil.rmtree(downloads)
    fresh.rename(home)
    return True


def lacking_libraries(packages: tuple[str, ...]) -> set[str]:
    """The libraries that the packages need, each with those that it needs itself, and that are not installed."""
    lacking: set[str] = set()
    ask = {*packages}
    while ask:
        without = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        told = output_of("apt-cache", "depends", *(f"--no-{each}" for each in without), *sorted(ask))
        needed = set(re.findall(r"^  Depends: (lib[a-z0-9.+-]+)$", told, re.MULTILINE)) - lacking - {*packages}
        known = output_of("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n", *sorted(needed))
        ask = needed - set(re.findall(r"^ii +(.+)$", known, re.MULTILINE)) if needed else set()
        lacking |= ask
    return lacking


def output_of(*command: str) -> str:
    quiet = subprocess.DEVNULL
    done = subprocess.run(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, text=True, check=False)
    return done.stdout


def is_there(program: str) -> bool:
    apart = [str(folder) for pattern in AWAY_FROM_PATH for folder in Path("/").glob(pattern)]
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *apart])) is not None


def install_packages(session: nox.Session, missing: dict[str, str]) -> bool:
    """Installs Debian packages and leaves none of their services running, now or after the next boot."""
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    session.log(f"installing {', '.join(missing.values())} for the tests (no service is started)")
    policy_is_ours = not POLICY.exists()
    try:
        if policy_is_ours:
            POLICY.write_text("#!/bin/sh\nexit 101\n")
            POLICY.chmod(0o755)
        # One broken list among many fails the update, and need not concern us: the installation tells.
        subprocess.call([*apt, "update"], env=quiet, stdin=subprocess.DEVNULL)
        installation = [*apt, "install", "-y", "--no-install-recommends", *missing.values()]
        if subprocess.call(installation, env=quiet, stdin=subprocess.DEVNULL) != 0:
            return False
    except OSError as error:
        session.warn(str(error))
        return False
    finally:
        if policy_is_ours:
            POLICY.unlink(missing_ok=True)
    if Path("/run/systemd/system").is_dir():
        for service in itertools.chain.from_iterable(SERVICES.get(program, ()) for program in missing):
            subprocess.call(["systemctl", "disable", "--quiet", service])
    return True
