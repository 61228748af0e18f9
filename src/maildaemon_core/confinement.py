"""What mailboxes that were made over the API may reach: which kinds, servers, addresses and folders.

Whoever may edit mailboxes must not thereby reach what only this machine can reach: the databases beside the service,
the metadata of its cloud with credentials in it, files of other programs.  Names are judged as they are written;
addresses, which nobody can hide behind a name or a redirect, at each connection (``engine.confining``).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import attrs

from maildaemon_core.errors import Permanent, Problem
from maildaemon_core.options import DestinationOptions, MailboxOptions, a_name, kind_of

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class OutOfBounds(Permanent):
    """The service does not allow mailboxes to reach this; its operator can, or the mailbox names something else."""


class ConnectionForbidden(PermissionError):
    """A connection that the service does not let a mailbox make; to libraries it is one that failed.

    ``fault`` is why and ``remedy`` what to do about it, each in a clause; ``strerror`` says all of it in a sentence.
    """

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(errno.EACCES, f"this service lets no mailbox connect there: {fault}; {remedy}")
        self.fault = fault
        self.remedy = remedy


def _networks(_instance: object, _attribute: object, value: Sequence[str]) -> None:
    """A validator: IP networks (RFC 4632 §3.1, RFC 4291 §2.3).  Raises ValueError."""
    for at, each in enumerate(value):
        try:
            ip_network(each)
        except ValueError:
            raise ValueError(f"[{at}] is no network; write one such as 10.1.0.0/16, or an address") from None


_names = attrs.validators.optional(a_name)


@attrs.frozen(kw_only=True)
class Confinement:
    """What mailboxes that were made over the API may reach.  The defaults suit a service that editors need not trust.

    ``sources``, ``destinations``: the kinds that they may use; absent: every one that is installed.
    ``hosts``: globs (``*.example.com``) of the servers that their options may name; none: any.  What a name resolves
    to, and where a server sends a client on to, is judged by address alone.
    ``allow_networks``: networks that are let in though they would not be, such as ``127.0.0.0/8``.
    ``deny_networks``: networks that are kept out.  Of all that hold an address the narrowest decides, those that are
    refused by default (``REFUSED``) among them; so ``0.0.0.0/0`` and ``::/0`` here leave only what is allowed.
    ``roots``: the folders below which mails may be read and stored; relative paths begin at the first.
    ``files``: the folders below which files must lie that settings name, such as certificates; none: no such file.
    """

    sources: tuple[str, ...] | None = attrs.field(default=None, validator=_names)
    destinations: tuple[str, ...] | None = attrs.field(default=None, validator=_names)
    hosts: tuple[str, ...] = attrs.field(default=(), validator=a_name)
    allow_networks: tuple[str, ...] = attrs.field(default=(), validator=_networks)
    deny_networks: tuple[str, ...] = attrs.field(default=(), validator=_networks)
    roots: tuple[str, ...] = attrs.field(default=(), validator=a_name)
    files: tuple[str, ...] = attrs.field(default=(), validator=a_name)


# ----------------------------------------------------------------------------------------------------------- addresses

_METADATA: Final = "metadata of the cloud"

REFUSED: Final = {
    "0.0.0.0/8": "no address of a server",
    "127.0.0.0/8": "this machine itself",
    "169.254.0.0/16": "link-local",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved or broadcast",
    "::/128": "no address of a server",
    "::1/128": "this machine itself",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
    "64:ff9b:1::/48": "translated to an address that cannot be told",
    # Each written out, though most are link-local: who allows a wide network does not mean to allow these.
    "169.254.169.254/32": _METADATA,  # AWS, Google, Azure, Oracle, OpenStack and others
    "169.254.170.2/32": _METADATA,  # AWS ECS: credentials of tasks
    "169.254.170.23/32": _METADATA,  # AWS EKS: credentials of pods
    "169.254.42.42/32": _METADATA,  # Scaleway
    "169.254.0.23/32": _METADATA,  # Tencent
    "100.100.100.200/32": _METADATA,  # Alibaba
    "168.63.129.16/32": _METADATA,  # Azure's platform (WireServer)
    "192.0.0.192/32": _METADATA,  # Oracle Classic
    "fd00:ec2::/32": _METADATA,  # AWS: metadata, pods, names, time
    "fd20:ce::254/128": _METADATA,  # Google
    "fd00:c1::a9fe:a9fe/128": _METADATA,  # Oracle
    "fd00:42::42/128": _METADATA,  # Scaleway
    "fd00:a9fe:a9fe::1/128": _METADATA,  # Akamai
    "fd00:100::100:200/128": _METADATA,  # Alibaba
    "fe80::a9fe:a9fe/128": _METADATA,  # OpenStack
}
"""What is refused unless the operator allows it, and what it is: RFC 6890, RFC 8215, and the clouds' own documents."""

ALLOWING: Final = "its operator can allow more: allowNetworks"
"""What to do about an address that is refused."""

_LAST_32 = tuple(map(IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "::/96")))
"""IPv4-mapped, IPv4-translated (RFC 7915), NAT64 (RFC 6052) and IPv4-compatible addresses (RFC 4291 §2.5.5)."""

_ISATAP: Final = 0x0000_5EFE
"""What precedes the IPv4 address in the second half of an IPv6 address, but for one bit (RFC 5214 §6.1)."""


def address_fault(confinement: Confinement, address: str) -> str | None:
    """Why no connection may go to an IP address as it is written, with a scope or without; None if one may.

    An address that holds IPv4 addresses may only be connected to if each of these may.
    """
    try:
        given = ip_address(address)
    except ValueError:
        return f"{address!r} is a name, and where that leads cannot be judged"
    for each in (given, *_embedded(given)):
        if what := _what_is_refused(confinement, each):
            return f"{address} is {what}" if each == given else f"{address} stands for {each}, which is {what}"
    return None


def _what_is_refused(confinement: Confinement, address: Address) -> str | None:
    decisive: str | None = None
    narrowest = -1
    number = int(address)  # a scope is of no interest here
    for network, what in _rules(confinement.allow_networks, confinement.deny_networks):
        if (
            network.version == address.version
            and network.prefixlen >= narrowest
            and number & int(network.netmask) == int(network.network_address)
        ):
            decisive, narrowest = what, network.prefixlen
    return decisive


@lru_cache(maxsize=16)
def _rules(allowed: Sequence[str], denied: Sequence[str]) -> Sequence[tuple[Network, str | None]]:
    """Networks with what is refused about them, None where nothing is; of equally narrow ones the later counts."""
    return (
        *((ip_network(network), what) for network, what in REFUSED.items()),
        *((ip_network(network), None) for network in allowed),
        *((ip_network(network), "in a network that the operator of this service keeps out") for network in denied),
    )


def _embedded(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address may lead to, by whatever translates or tunnels it."""
    if not isinstance(address, IPv6Address):
        return
    number = int(address)
    bare = IPv6Address(number)
    if number > 1 and any(bare in network for network in _LAST_32):  # :: and ::1 are themselves
        yield IPv4Address(number & 0xFFFF_FFFF)
    if bare.sixtofour is not None:  # RFC 3056
        yield bare.sixtofour
    if bare.teredo is not None:  # RFC 4380: its server, and the client behind its translator
        yield from bare.teredo
    if number >> 32 & 0xFDFF_FFFF == _ISATAP:
        yield IPv4Address(number & 0xFFFF_FFFF)


# ------------------------------------------------------------------------------------------------------------- options

_BUCKETS: Final = frozenset({"s3", "gcs", "azure"})
"""Kinds whose URLs name a bucket of the vendor's where others name a server."""

_GIVING_TOKENS: Final = ("oauthAuthority", "oauthTokenUrl")
"""Settings of sources that name a server too, to which the secret of an app registration is sent."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_AUTHORITY = re.compile(r"//([^/?#]*)")
_BLANKS: Final = "".join(map(chr, range(33)))
"""What a URL may begin with, and nothing takes for a part of it (https://url.spec.whatwg.org/#url-parsing)."""


def options_problems(confinement: Confinement, options: MailboxOptions) -> Sequence[Problem]:
    """What of the options names a kind or a server that may not be used, each with its path.

    Nothing is looked up: what a name resolves to counts when it is connected to.  Folders are judged where they are.
    """
    found = [*source_problems(confinement, options)]
    for at, destination in enumerate(options.destinations):
        found += destination_problems(confinement, destination, f"$.destinations[{at}]")
    return found


def source_problems(confinement: Confinement, options: MailboxOptions) -> Sequence[Problem]:
    """As ``options_problems``, of the mailbox's own server, and of whoever gives it tokens."""
    named = {"$.type": _kind_fault(confinement.sources, options.kind, "sources")}
    if options.host:
        named["$.host"] = host_fault(confinement, options.host)
    named["$.path"] = _url_fault(confinement, options.path, options.kind)
    for name in _GIVING_TOKENS:
        if isinstance(url := options.options.get(name), str):
            named[f"$.options.{name}"] = _url_fault(confinement, url, "")
    return _problems(named)


def destination_problems(confinement: Confinement, options: DestinationOptions, path: str) -> Sequence[Problem]:
    """As ``options_problems``, of one destination, which stands at ``path`` of the document."""
    named = {
        f"{path}.type": _kind_fault(confinement.destinations, options.kind, "destinations"),
        f"{path}.url": _url_fault(confinement, options.url, options.kind),
    }
    endpoint = options.options.get("endpointUrl")
    if isinstance(endpoint, str):  # the server of a bucket, where it is not the vendor's
        whole = endpoint if "://" in endpoint else f"https://{endpoint}"
        named[f"{path}.options.endpointUrl"] = _url_fault(confinement, whole, "")
    return _problems(named)


def host_fault(confinement: Confinement, host: str) -> str | None:
    """Why options may not name this server, a name or an IP address; None if they may."""
    plain = host.strip().strip("[]").casefold().rstrip(".")
    if confinement.hosts and not any(fnmatchcase(plain, glob.casefold().rstrip(".")) for glob in confinement.hosts):
        allowed = ", ".join(confinement.hosts)
        return f"this service allows only the servers {allowed}; its operator can allow more: hosts"
    faults = [address_fault(confinement, each) for each in _known_addresses(plain)]
    return f"this service lets no mailbox connect there: {faults[0]}; {ALLOWING}" if faults and all(faults) else None


def _known_addresses(host: str) -> Sequence[str]:
    """The addresses of a host that are known without asking: its own, and those of ``localhost`` (RFC 6761 §6.3)."""
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1", "::1"
    try:
        ip_address(host)
    except ValueError:
        return ()
    return (host,)


def _kind_fault(allowed: Sequence[str] | None, kind: str, noun: str) -> str | None:
    kinds = None if allowed is None else [kind_of(each) for each in allowed]
    if kinds is None or kind in kinds:
        return None
    known = ", ".join(kinds) or "none"
    return f"this service allows {noun} of these kinds only: {known}; its operator can allow more: {noun}"


def _url_fault(confinement: Confinement, url: str | None, kind: str) -> str | None:
    found = _SCHEME.fullmatch((url or "").lstrip(_BLANKS))
    authority = _AUTHORITY.match(found[2]) if found else None
    if found is None or authority is None or kind in _BUCKETS or found[1].casefold() == "file":
        return None
    if found[1].casefold() == "memory":  # of fsspec: one for all of the process, whoever has put something there
        return "this service lets no mailbox read the memory of its process; name a server, or a folder"
    if "\\" in authority[1]:  # to some it ends the server's name, to others it does not: nobody knows who is meant
        return "a backslash in front of a url's path cannot be judged; write %5C, or the user as username"
    server = authority[1].rpartition("@")[2]
    host = server.partition("]")[0] if server.startswith("[") else server.partition(":")[0]
    return host_fault(confinement, unquote(host)) if host else None


def _problems(named: dict[str, str | None]) -> Sequence[Problem]:
    return [Problem(path=path, message=fault) for path, fault in named.items() if fault is not None]


# ------------------------------------------------------------------------------------------------------------- folders


def local_path(place: str | None, *, is_local_kind: bool) -> str | None:
    """The path on this machine that a ``url`` or ``path`` of options names; None for a URL of something else.

    ``is_local_kind``: the adapter reads or writes files of this machine, so that what merely looks like a URL, without
    naming a server, is a path too.
    """
    if not place:
        return None
    found = _SCHEME.fullmatch(place)
    if found is None:
        return place
    if found[1].casefold() == "file":
        return unquote(urlsplit(found[2]).path, errors="surrogateescape")
    authority = _AUTHORITY.match(found[2])
    return place if is_local_kind and not (authority and authority[1]) else None


def placed(path: str, folders: Sequence[str]) -> str:
    """The path in full, which as it is written lies in one of the folders; a relative one begins at the first.

    Raises ``OutOfBounds``.  Whether it really lies there, links followed, is another question.
    """
    if not folders:
        raise OutOfBounds(
            "this service lets mailboxes use no files of its machine", remedy="have its operator allow it"
        )
    if path.startswith("~"):
        raise OutOfBounds("~ is not expanded here", remedy=_relative)
    whole = path if path.startswith("/") else f"{folders[0]}/{path}"
    if ".." in whole.split("/") or "\0" in whole:
        raise OutOfBounds("a path with .. in it is not taken from mailboxes", remedy=_relative)
    try:
        whole.encode()
    except UnicodeEncodeError:  # %FF of a URL, say: it could neither be shown nor stored
        raise OutOfBounds("a path is text in UTF-8", remedy=_relative) from None
    require_within(whole, folders)
    return "/" + "/".join(_steps(whole))


_relative: Final = 'write one that begins at the service\'s own folder, such as "invoices"'


def require_within(path: str, folders: Sequence[str]) -> None:
    """Raises ``OutOfBounds`` unless one of the folders holds the full path, and nothing hidden is on the way to it."""
    steps = _steps(path)
    inner = [steps[len(top) :] for top in map(_steps, folders) if steps[: len(top)] == top]
    if not inner:
        raise OutOfBounds("this service lets mailboxes use only files below its own folder for them", remedy=_relative)
    if all(any(step.startswith(".") for step in rest) for rest in inner):
        raise OutOfBounds(
            "names that begin with a dot are not for mailboxes: this service has its own files there", remedy=_relative
        )


def _steps(path: str) -> tuple[str, ...]:
    return tuple(step for step in path.split("/") if step not in {"", "."})


def local_path_fields(settings: type[Any]) -> Sequence[str]:
    """The settings of a kind that name a file of this machine: those with metadata ``local_path``."""
    return [each.name for each in attrs.fields(settings) if each.metadata.get("local_path")]
