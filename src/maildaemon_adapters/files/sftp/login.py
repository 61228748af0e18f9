"""From a URL and settings to an SFTP client that is logged in to a server which is the expected one, or to why not.

Nothing of the machine's own SSH takes part but its file of known hosts: no configuration, agent, default key, Kerberos
ticket, proxy or program.
"""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import Collection, Sequence
from pathlib import Path

import asyncssh
import attrs

from maildaemon_adapters.files.obstructed import obstructed
from maildaemon_adapters.files.server_url import ServerUrl
from maildaemon_adapters.files.sftp import PORT, SftpSettings, fingerprint
from maildaemon_adapters.files.sftp.answers import shown
from maildaemon_adapters.files.tree import Fault, TreeError
from maildaemon_adapters.tcp.dialling import dial
from maildaemon_adapters.tcp.obstacles import obstacle_of
from maildaemon_adapters.tcp.quiet import only_warnings
from maildaemon_core.options import Secret

KEEPALIVE: float = 15.0
"""Seconds of silence after which the server is asked whether it is there; the third question without answer ends it."""

_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""First those that processors help with; any other that is not known to be weak is taken as well."""

_OURS = "~/.ssh/known_hosts"


@attrs.frozen(kw_only=True)
class Login:
    """Everything that a connection needs; made once, used again whenever one is made anew."""

    url: ServerUrl
    password: Secret | None
    settings: SftpSettings

    @property
    def port(self) -> int:
        return self.url.port or PORT

    @property
    def where(self) -> str:
        return self.url.server(PORT)

    def dial(self) -> socket.socket:
        """The TCP connection, made in this thread.  Raises ``TreeError``."""
        seconds = self.settings.connect_seconds
        try:
            return dial(self.url.host, self.port, seconds)
        except (OSError, UnicodeError) as error:
            raise obstructed(obstacle_of(error, self.where, seconds=seconds)) from None

    def trusted(self) -> Trusted:
        """Which keys of the server are taken.  Raises ``TreeError``."""
        pinned = frozenset(filter(None, map(fingerprint, self.settings.host_key)))
        if pinned:
            return Trusted(fingerprints=pinned)
        named = self.settings.known_hosts
        file = Path(named) if named else Path(_OURS).expanduser()
        try:
            return Trusted(known=asyncssh.import_known_hosts(file.read_text("utf-8", "replace")), file=str(file))
        except FileNotFoundError:
            if named is None:
                return Trusted(file=str(file))
            what = "it is not there"
        except OSError as error:
            what = error.strerror or str(error)
        except ValueError as error:
            what = str(error)
        raise TreeError(
            Fault.UNTRUSTED,
            f"the known hosts in {file} cannot be read: {what}",
            remedy="correct that file, or name another in options.knownHosts, or write the server's fingerprint into "
            "options.hostKey",
        )

    def key(self) -> asyncssh.SSHKey | None:
        """The private key.  Raises ``TreeError``."""
        if self.settings.private_key is None:
            return None
        phrase = self.settings.passphrase
        try:
            return asyncssh.import_private_key(self.settings.private_key.value, phrase.value if phrase else None)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            said = str(error).casefold()
            encrypted = isinstance(error, asyncssh.KeyEncryptionError) or "passphrase" in said
        if "bcrypt" in said:
            what, remedy = "is encrypted, and needs the package bcrypt", "pip install 'maildaemon[sftp]'"
        elif encrypted and phrase is None:
            what, remedy = "is encrypted", "give its passphrase in options.passphrase"
        elif encrypted:
            what, remedy = "does not open with options.passphrase", "correct the passphrase"
        else:
            what = "is none that can be read"
            remedy = (
                "give a private key in OpenSSH's, PKCS#8 or PEM format: all of its lines, or file:PATH; what ends in "
                ".pub is the other half"
            )
        raise TreeError(Fault.LOGIN, f"options.privateKey {what}", remedy=remedy)


@attrs.frozen(kw_only=True)
class Trusted:
    """What a server is recognised by: fingerprints, or a list of known hosts that was read from a file."""

    fingerprints: Collection[str] = ()
    known: asyncssh.SSHKnownHosts | None = None
    file: str = ""

    def argument(self) -> asyncssh.SSHKnownHosts | tuple[Sequence[str], ...]:
        """As asyncssh wants it; never None, for that would trust anybody."""
        return self.known if self.known is not None else ([], [], [])

    def refusal(self, login: Login, shown: str, algorithm: str, address: str) -> TreeError:
        """What to say of a server that showed this key."""
        if self.fingerprints:
            return TreeError(
                Fault.UNTRUSTED,
                f"the host key of {login.where} ({algorithm}) is {shown}, and options.hostKey expects another",
                remedy="if its operator confirms that this is its key, write that into options.hostKey; if not, "
                "somebody stands between",
            )
        known = self.known is not None and any(
            self.known.match(login.url.host, address, None if login.port == PORT else login.port)[:2]
        )
        if known:
            return TreeError(
                Fault.UNTRUSTED,
                f"the host key of {login.where} ({algorithm}) is {shown}, and {self.file} knows another",
                remedy=f"if its operator confirms that its key was changed, correct {self.file}; if not, somebody "
                "stands between",
            )
        return TreeError(
            Fault.UNTRUSTED,
            f"the host key of {login.where} is not known: {algorithm} {shown}",
            remedy=f"compare it with what the server's operator says, then write {shown} into options.hostKey, or the "
            f"key into {self.file}",
        )


class _Client(asyncssh.SSHClient):
    """Judges the server's key, and keeps what it was for whoever explains why it was refused."""

    def __init__(self, trusted: Trusted) -> None:
        self._trusted = trusted
        self.address = ""
        self.shown = ""
        self.algorithm = ""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown, self.algorithm, self.address = key.get_fingerprint(), key.get_algorithm(), addr
        return self.shown in self._trusted.fingerprints


async def log_in(
    login: Login, sock: socket.socket, trusted: Trusted, key: asyncssh.SSHKey | None
) -> tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]:
    """An SFTP client over the socket, which is closed if there is none.  Raises ``TreeError``."""
    only_warnings("asyncssh")  # it would write paths into the log, which tell of mails
    try:
        getpass.getuser()  # the library wants to know, though nobody is logged in by that name
    except (KeyError, OSError):
        sock.close()
        raise TreeError(
            Fault.OTHER,
            "the user who runs maildaemon has no name on this machine",
            remedy="set LOGNAME in its environment, to any name",
        ) from None
    client = _Client(trusted)
    seconds = login.settings.connect_seconds
    connection = None
    try:
        async with asyncio.timeout(seconds):
            connection = await asyncssh.connect(
                login.url.host,
                login.port,
                sock=sock,
                config=None,
                client_factory=lambda: client,
                known_hosts=trusted.argument(),
                x509_trusted_certs=None,
                x509_trusted_cert_paths=[],
                username=login.url.user or "",
                password=login.password.value if login.password is not None else None,
                client_keys=[key] if key is not None else None,
                client_certs=(),
                agent_path=None,
                gss_host=None,
                gss_kex=False,
                gss_auth=False,
                host_based_auth=False,
                proxy_command=None,
                encryption_algs=_CIPHERS,
                compression_algs=["none"],
                connect_timeout=seconds,
                login_timeout=seconds,
                keepalive_interval=KEEPALIVE,
                keepalive_count_max=3,
                utf8_decode_errors="replace",
            )
            # Version 3, which is what a rename that refuses belongs to, and what servers speak.
            return connection, await connection.start_sftp_client(sftp_version=3)
    except BaseException as error:
        if connection is not None:
            connection.abort()
        sock.close()
        failure = _failure(error, login, trusted, client)
        if failure is None:
            raise
    raise failure


def _failure(error: BaseException, login: Login, trusted: Trusted, client: _Client) -> TreeError | None:
    """What keeps us from logging in; None for what is no business of ours."""
    where, user = login.where, login.url.user
    match error:
        case asyncssh.HostKeyNotVerifiable() if client.shown:
            return trusted.refusal(login, client.shown, client.algorithm, client.address)
        case asyncssh.HostKeyNotVerifiable():
            return TreeError(
                Fault.UNTRUSTED,
                f"the host key of {where} is not trusted: {shown(error.reason)}",
                remedy="ask the server's operator for its key, and write its fingerprint into options.hostKey",
            )
        case asyncssh.PermissionDenied():
            means = " and ".join(
                word
                for word, given in (
                    ("password", login.password is not None),
                    ("private key", login.settings.private_key is not None),
                )
                if given
            )
            return TreeError(
                Fault.LOGIN,
                f"{where} does not accept this {means} for the user {user!r}",
                remedy="check username and what it logs in with; some servers take only keys (options.privateKey), "
                "others only passwords",
            )
        case asyncssh.IllegalUserName():
            return TreeError(Fault.LOGIN, f"the user name {user!r} is not possible", remedy="correct username")
        case TimeoutError():
            what = f"{where} took the connection, but did not answer within {login.settings.connect_seconds} s"
            return TreeError(Fault.GONE, what, remedy="check the port in url; the server may be overloaded")
        case asyncssh.KeyExchangeFailed():
            return TreeError(
                Fault.OTHER,
                f"{where} and this program know no common way to encrypt: {shown(error.reason)}",
                remedy="update the server; what it offers is too old",
            )
        case asyncssh.ChannelOpenError() | asyncssh.SFTPError():
            return TreeError(
                Fault.OTHER,
                f"{where} lets the user {user!r} in, but offers no SFTP: {shown(error.reason)}",
                remedy="have the server's operator switch on the subsystem sftp for this user",
            )
        case asyncssh.ServiceNotAvailable():
            return TreeError(Fault.BUSY, f"{where} lets nobody in at present: {shown(error.reason)}")
        case asyncssh.DisconnectError() if "timeout" in error.reason.casefold():
            what = f"{where} took the connection, but did not answer within {login.settings.connect_seconds} s"
            return TreeError(Fault.GONE, what, remedy="check the port in url; the server may be overloaded")
        case asyncssh.DisconnectError() | OSError():
            said = error.reason if isinstance(error, asyncssh.DisconnectError) else error.strerror or str(error)
            return TreeError(
                Fault.GONE,
                f"{where} broke the connection off before anybody was logged in: {shown(said)}",
                remedy="check that the port in url is that of an SSH server; it may have too many connections, or keep "
                "this address out",
            )
        case ValueError():
            what = f"the user name {user!r}, or the password, holds characters that SSH has no use for"
            return TreeError(Fault.LOGIN, what, remedy="correct them")
        case _:
            return None
