"""Where a service listens: its sockets, whether others than this machine reach them, and its certificate."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import attrs

from maildaemon_core.errors import Permanent
from maildaemon_http.service_table import TlsTable

BACKLOG = 2048
"""So many connections wait at most to be accepted (listen(2))."""

_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""This machine has not this one of the addresses that a name stands for: ::1, where IPv6 is turned off."""

_PRIVILEGED = 1024


class UnusableHost(Permanent):
    """No address of this machine is called like that."""


class UnusableCertificate(Permanent):
    """A certificate, or its key, that cannot be used; ``key`` tells which of the two."""

    def __init__(self, message: str, *, remedy: str = "", key: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.key = key


class CannotListen(Permanent):
    """The address cannot be listened on: somebody else does, or this user may not."""


@attrs.frozen
class Address:
    """An address of this machine as ``bind`` takes it."""

    family: socket.AddressFamily
    place: tuple[str, int] | tuple[str, int, int, int]

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ip_address(self.place[0].partition("%")[0]).is_loopback


def addresses_of(host: str, port: int) -> Sequence[Address]:
    """The addresses that a host is known by here.  Raises ``UnusableHost``."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is no name of a host"
        raise UnusableHost(
            f"{host!r} cannot be listened on: {why}",
            remedy="give an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all that it has",
        ) from None
    ip = {socket.AF_INET, socket.AF_INET6}
    return list(dict.fromkeys(Address(family, place) for family, _, _, _, place in found if family in ip))  # type: ignore[arg-type]


class Door:
    """The sockets of a service: bound first, so that it is known whether the port is free; listened on later."""

    def __init__(self, host: str, addresses: Sequence[Address]) -> None:
        """Raises ``CannotListen`` if another process listens there, or this user may not."""
        self._host = host
        self.sockets: list[socket.socket] = []
        absent: list[OSError] = []
        try:
            for address in addresses:
                try:
                    self._bind(address)
                except OSError as error:
                    if error.errno not in _ABSENT:
                        raise self._refused(address, error) from None
                    absent.append(error)
            if not self.sockets:
                raise self._refused(addresses[0], absent[0]) if absent else CannotListen(f"{host!r} has no address")
        except CannotListen:
            self.close()
            raise

    @property
    def port(self) -> int:
        port: int = self.sockets[0].getsockname()[1]
        return port

    def url(self, *, tls: bool) -> str:
        """Where clients find it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if tls else 'http'}://{host}:{self.port}"

    def open(self) -> None:
        """Connections are taken from now on.  Raises ``CannotListen`` if another process was faster."""
        for each in self.sockets:
            try:
                each.listen(BACKLOG)
            except OSError as error:
                raise self._refused(Address(each.family, each.getsockname()), error) from None

    def close(self) -> None:
        for each in self.sockets:
            each.close()

    def _bind(self, address: Address) -> None:
        place = address.place
        if place[1] == 0 and self.sockets:  # any free port, but one for all addresses
            place = (place[0], self.port, *place[2:])
        made = socket.socket(address.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # those that were closed lately do not count
            if address.family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(place)
        except OSError:
            made.close()
            raise
        self.sockets.append(made)

    def _refused(self, address: Address, error: OSError) -> CannotListen:
        host, port = address.place[:2]
        where = f"port {port} of {host}"
        if error.errno == errno.EADDRINUSE:
            return CannotListen(
                f"{where} is in use: another process listens there, perhaps another maildaemon serve",
                remedy="stop that one, or choose another port: --port",
            )
        if error.errno in {errno.EACCES, errno.EPERM} and port < _PRIVILEGED:
            return CannotListen(
                f"{where} is not for this user: ports below {_PRIVILEGED} need the right to",
                remedy="choose a higher one: --port; and put a proxy before it, or give it CAP_NET_BIND_SERVICE",
            )
        if error.errno in _ABSENT:
            return CannotListen(
                f"{where} cannot be listened on: this machine has no address {host}",
                remedy="give one that it has, such as 127.0.0.1, or 0.0.0.0 for all of them: --host",
            )
        return CannotListen(f"{where} cannot be listened on: {error.strerror}", remedy="choose another: --host, --port")


# ----------------------------------------------------------------------------------------------------------------- TLS


def tls_context(table: TlsTable) -> ssl.SSLContext:
    """What a server needs to speak TLS 1.2 or later.  Raises ``UnusableCertificate``."""
    key = table.key or table.certificate
    for path in (table.certificate, key):
        try:
            with Path(path).open("rb") as file:
                file.read(1)
        except OSError as error:
            raise UnusableCertificate(
                f"{path} cannot be read: {error.strerror}",
                remedy="name a file that this user may read",
                key=path != table.certificate,
            ) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    try:
        context.load_cert_chain(table.certificate, key, password=_no_password)
    except _EncryptedError:
        raise UnusableCertificate(
            f"the key in {key} is encrypted, and nobody is there to enter its password",
            remedy="keep it without one, readable by this user alone: openssl pkey -in ENCRYPTED -out KEY",
            key=table.key is not None,
        ) from None
    except ssl.SSLError as error:
        raise _unusable(table, key, error) from None
    return context


class _EncryptedError(Exception):
    """A password is asked for."""


def _no_password() -> str:
    raise _EncryptedError


def _unusable(table: TlsTable, key: str, error: ssl.SSLError) -> UnusableCertificate:
    if error.reason == "KEY_VALUES_MISMATCH":
        return UnusableCertificate(
            f"the key in {key} is not that of the first certificate in {table.certificate}",
            remedy="name the two that were made together; the server's own certificate stands first in its file",
            key=table.key is not None,
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(table.certificate)
    except ssl.SSLError:
        return UnusableCertificate(
            f"{table.certificate} holds no certificate", remedy="name a PEM file (RFC 7468), its own certificate first"
        )
    return UnusableCertificate(
        f"{key} holds no private key that can be used",
        remedy="name a PEM file (RFC 7468) with the key that belongs to the certificate",
        key=table.key is not None,
    )
