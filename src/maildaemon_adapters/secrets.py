"""Where secrets come from: references to the environment and to files, or the secret itself.

``env:NAME`` is an environment variable, ``file:PATH`` the content of a file, ``plain:…`` a secret that looks like one
of these.  Anything else is the secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from maildaemon_core.errors import Permanent
from maildaemon_core.options import Secret

LARGEST = 1 << 16
"""Bytes of the largest file that is taken for a secret: certificates with their keys are far smaller."""

_LITERALLY = "if this is not a reference but the secret itself, write plain: before it"


class SecretUnreadable(Permanent):
    """A reference to a secret leads nowhere; what it would have led to is never part of the message."""


def reading(folder: Path, environment: Mapping[str, str]) -> Callable[[Secret], Secret]:
    """A ``SecretReader`` that takes relative ``file:`` references as below ``folder``, without limit to it.

    A secret is read each time it is needed, so a changed one counts from the next connection on.  The reader raises
    ``SecretUnreadable``.
    """

    def read(secret: Secret, /) -> Secret:
        scheme, separator, rest = secret.value.partition(":")
        match scheme if separator else "":
            case "plain":
                return Secret(rest)
            case "env":
                return Secret(_from_environment(rest, environment))
            case "file":
                return Secret(_from_file(rest, folder))
        return secret

    return read


def reference_fault(secret: Secret) -> str | None:
    """What is wrong with a secret as it is written, whatever it may lead to; None if nothing is."""
    match secret.value.partition(":"):
        case ("env", ":", name) if not name.strip():
            return f"env: names no environment variable; write env:NAME, or, {_LITERALLY}"
        case ("file", ":", name) if not name.strip():
            return f"file: names no file; write file:PATH, or, {_LITERALLY}"
    return None


def _from_environment(name: str, environment: Mapping[str, str]) -> str:
    value = environment.get(name)
    if not value:
        state = "is not set" if value is None else "is empty"
        raise SecretUnreadable(
            f"the secret env:{name} cannot be read: the environment variable {name!r} {state}",
            remedy=f"set it where maildaemon is started, in a shell: export {name}=…; {_LITERALLY}",
        )
    return value


def _from_file(name: str, folder: Path) -> str:
    path = folder / name
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        text = data.decode("utf-8")
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
