"""Where secrets come from: references to the environment and to files, or the secret itself.

``env:NAME`` is an environment variable, ``file:PATH`` the content of a file, ``plain:…`` a secret that looks like one
of these.  Anything else is the secret.  A service sets limits to what references of its callers may name: they are
checked when a reference is taken on, and again whenever it is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from maildaemon_core.errors import Permanent
from maildaemon_core.options import Secret

LARGEST = 1 << 16
"""Bytes of the largest file that is taken for a secret: certificates with their keys are far smaller."""

_LITERALLY = "if this is not a reference but the secret itself, write plain: before it"


class SecretUnreadable(Permanent):
    """A reference to a secret leads nowhere; what it would have led to is never part of the message."""


class SecretForbidden(SecretUnreadable):
    """A reference names what the service does not allow."""


def reading(
    folder: Path,
    environment: Mapping[str, str],
    *,
    environment_names: Collection[str] | None = None,
    folder_only: Path | None = None,
) -> Callable[[Secret], Secret]:
    """A ``SecretReader`` that takes relative ``file:`` references as below ``folder``.

    The limits are those of ``allowed``.  A secret is read each time it is needed, so a changed one counts from the next
    connection on.  The reader raises ``SecretUnreadable``, and ``SecretForbidden`` for what is beyond the limits.
    """

    def read(secret: Secret, /) -> Secret:
        scheme, separator, rest = secret.value.partition(":")
        match scheme if separator else "":
            case "plain":
                return Secret(rest)
            case "env":
                _forbid(_name_fault(rest, environment_names), f"env:{rest}")
                return Secret(_from_environment(rest, environment))
            case "file" if folder_only is not None:
                _forbid(_path_fault(rest, folder, folder_only), f"file:{rest}")
                return Secret(_from_file(rest, folder, folder_only))
            case "file":
                return Secret(_from_file(rest, folder, None))
        return secret

    return read


def allowed(
    secret: Secret, *, folder: Path, environment_names: Collection[str] | None = None, folder_only: Path | None = None
) -> str | None:
    """Why a secret as it is written is not taken; None if it is.

    ``environment_names`` are the only ones that ``env:`` may name, ``folder_only`` is the folder below which every
    ``file:`` must really lie, links followed; without these there is no limit.  What is allowed need not be there.
    """
    if fault := reference_fault(secret):
        return fault
    match secret.value.partition(":"):
        case ("env", ":", name):
            return _name_fault(name, environment_names)
        case ("file", ":", name) if folder_only is not None:
            return _path_fault(name, folder, folder_only)
    return None


def reference_fault(secret: Secret) -> str | None:
    """What is wrong with a secret as it is written, whatever it may lead to; None if nothing is."""
    match secret.value.partition(":"):
        case ("env", ":", name) if not name.strip():
            return f"env: names no environment variable; write env:NAME, or, {_LITERALLY}"
        case ("file", ":", name) if not name.strip():
            return f"file: names no file; write file:PATH, or, {_LITERALLY}"
    return None


def _name_fault(name: str, names: Collection[str] | None) -> str | None:
    if names is None or name in names:
        return None
    return f"this service does not allow env:{name}; its operator names the variables that may be used; {_LITERALLY}"


def _path_fault(name: str, folder: Path, limit: Path) -> str | None:
    try:
        inside = _below(name, folder, limit) is not None
    except (OSError, ValueError):  # too many links, or no name of a file at all
        inside = False
    if inside:
        return None
    return f"this service allows file: only below its folder for secrets, links followed; {_LITERALLY}"


def _forbid(fault: str | None, reference: str) -> None:
    if fault is not None:
        raise SecretForbidden(
            f"the secret {reference} is not read: {fault}", remedy="allow it in the service, or enter the secret itself"
        )


def _below(name: str, folder: Path, limit: Path) -> tuple[str, ...] | None:
    """The steps from the real ``limit`` down to the real file, which may not exist; None if it lies elsewhere."""
    real, top = Path(os.path.realpath(folder / name)), Path(os.path.realpath(limit))
    return real.relative_to(top).parts or None if real.is_relative_to(top) else None


def _from_environment(name: str, environment: Mapping[str, str]) -> str:
    value = environment.get(name)
    if not value:
        state = "is not set" if value is None else "is empty"
        raise SecretUnreadable(
            f"the secret env:{name} cannot be read: the environment variable {name!r} {state}",
            remedy=f"set it where maildaemon is started, in a shell: export {name}=…; {_LITERALLY}",
        )
    return value


def _from_file(name: str, folder: Path, limit: Path | None) -> str:
    path = folder / name
    try:
        with path.open("rb") if limit is None else os.fdopen(_opened_below(name, folder, limit), "rb") as file:
            data = file.read(LARGEST + 1)
        text = "" if len(data) > LARGEST else data.decode("utf-8")  # what is cut off may be half a character
    except (OSError, ValueError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else "it is no text in UTF-8"
        raise SecretUnreadable(
            f"the secret file:{name} cannot be read from {path}: {reason}",
            remedy=f"put the secret into that file, readable by this user; {_LITERALLY}",
        ) from None  # a decoding error holds what was read
    if len(data) > LARGEST:
        raise SecretUnreadable(
            f"the secret file:{name} is not taken from {path}: it has more than {LARGEST} bytes",
            remedy="name the file that holds the secret and nothing else",
        )
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretUnreadable(
            f"the secret file:{name} cannot be read: {path} is empty", remedy="put the secret into that file"
        )
    return text


def _opened_below(name: str, folder: Path, limit: Path) -> int:
    """A descriptor of the file, reached from ``limit`` step by step without following a link.

    So a link that is put in its way after the limit was checked leads nowhere.  Raises OSError.
    """
    steps = _below(name, folder, limit)
    if steps is None:
        raise OSError(0, "it does not lie below the folder for secrets")
    at = os.open(os.path.realpath(limit), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for number, step in enumerate(steps, start=1):
        kind = os.O_NONBLOCK if number == len(steps) else os.O_DIRECTORY  # a pipe must not keep us waiting
        try:
            inner = os.open(step, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=at)
        finally:
            os.close(at)
        at = inner
    if not stat.S_ISREG(os.fstat(at).st_mode):
        os.close(at)
        raise OSError(0, "it is no file")
    return at
