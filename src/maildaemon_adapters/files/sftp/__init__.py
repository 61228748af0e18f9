"""The destination ``sftp``: what an operator can set, and what is wrong with it; the library is loaded in ``open``.

Files come whole: written into the staging folder, synced where the server can do that (``fsync@openssh.com``), and
renamed to a new name with the protocol's own rename, which refuses a name that is taken
(draft-ietf-secsh-filexfer-02 §6.5, the version 3 that servers speak).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

import attrs

from maildaemon_adapters.files.needs import missing, require
from maildaemon_adapters.files.server_url import read_url, url_problems
from maildaemon_core.errors import InvalidOptions, Problem
from maildaemon_core.options import DestinationOptions, KindFacts, Secret, Within, a_name, a_secret, one_line
from maildaemon_core.ports import Destination, Kind

EXAMPLE: Final = "sftp://user@files.example.com/srv/mail"
PORT: Final = 22

_SCHEMES: Final = frozenset({"sftp"})
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")
_KEY = re.compile(r"(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+ ([A-Za-z0-9+/]+=*)(?: .*)?")


@attrs.frozen(kw_only=True)
class SftpSettings:
    """The kind's own settings, under ``options``.

    ``host_key``: how the server is recognised: fingerprints as ``ssh-keygen -lf`` prints them (``SHA256:…``), or whole
    public keys (``ssh-ed25519 AAAA…``); one of them has to be the server's.
    ``known_hosts``: a file in OpenSSH's format that has the server's key; a full path.  Without both: the
    ``~/.ssh/known_hosts`` of the user who runs maildaemon.  A server that is not recognised is never logged in to.
    ``private_key``: a key to log in with, instead of the password or besides it: its text, which is a secret, or
    ``file:PATH``.  ``passphrase``: what the key is encrypted with.
    ``connect_seconds``: how long connecting may take, and logging in again so long.
    ``answer_seconds``: how long the server may leave one request unanswered.
    """

    host_key: tuple[str, ...] = attrs.field(default=(), validator=a_name)
    known_hosts: str | None = attrs.field(default=None, validator=one_line, metadata={"local_path": True})
    private_key: Secret | None = attrs.field(default=None, converter=a_secret)
    passphrase: Secret | None = attrs.field(default=None, converter=a_secret)
    connect_seconds: int = attrs.field(default=7, validator=Within(1, 60))
    answer_seconds: int = attrs.field(default=60, validator=Within(1, 600))


def fingerprint(written: str) -> str | None:
    """The fingerprint that an entry of ``host_key`` means, without padding; None if it is none."""
    written = written.strip()
    if _FINGERPRINT.fullmatch(written):
        return written.rstrip("=")
    if key := _KEY.fullmatch(written):
        try:
            blob = base64.b64decode(key[1], validate=True)
        except binascii.Error:
            return None
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return None


def open_sftp(options: DestinationOptions, settings: SftpSettings) -> Destination:
    """The folder on the server that ``options.url`` names; it is connected to when it is first used.

    Raises ``InvalidOptions``, and ``BrokenPlugin`` where the library is not installed.
    """
    found = problems(options, settings)
    if found:
        raise InvalidOptions(found)
    require("sftp", "asyncssh")
    from maildaemon_adapters.files.publishing import PublishingDestination
    from maildaemon_adapters.files.sftp.tree import SftpTree

    tree = SftpTree(read_url(options, _SCHEMES, EXAMPLE), options.password, settings)
    return PublishingDestination(tree, verify=options.verify)


def problems(options: DestinationOptions, settings: SftpSettings) -> Sequence[Problem]:
    """What of the options this kind cannot do with, each with its place in the document."""
    found = [*missing("sftp", "asyncssh"), *url_problems(options, _SCHEMES, EXAMPLE)]
    if not any(problem.path == "$.url" for problem in found) and read_url(options, _SCHEMES, EXAMPLE).user is None:
        found.append(Problem(path="$.username", message="sftp needs a user; write username, or sftp://user@host/path"))
    if options.password is None and settings.private_key is None:
        found.append(Problem(path="$.password", message="sftp needs a password, or options.privateKey"))
    if settings.passphrase is not None and settings.private_key is None:
        found.append(Problem(path="$.options.passphrase", message="there is no options.privateKey that it is for"))
    if settings.known_hosts is not None:
        if not PurePath(settings.known_hosts).is_absolute():
            message = "must be a full path, since a service may start anywhere"
            found.append(Problem(path="$.options.knownHosts", message=message))
        if settings.host_key:
            found.append(Problem(path="$.options.knownHosts", message="hostKey says it already; leave one of them out"))
    for at, written in enumerate(settings.host_key):
        if fingerprint(written) is None:
            found.append(
                Problem(
                    path=f"$.options.hostKey[{at}]",
                    message="is neither a fingerprint such as SHA256:… (43 letters, from ssh-keygen -lf) "
                    "nor a public key such as ssh-ed25519 AAAA…",
                )
            )
    return found


SFTP: Kind[SftpSettings, Destination] = Kind(
    settings=SftpSettings,
    open=open_sftp,
    facts=KindFacts(needs_host=False, needs_login=True),
    problems=problems,
)
