"""Keys of the API: how they are made, what they may do, and whether one that is shown is good.

A key is ``md_PREFIX_SECRET``: the prefix finds it, the secret has 256 random bits and is never kept, only a digest of
the whole.  A slow hash would protect no better what cannot be guessed, and would be a lever to stall the service with.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from maildaemon_core import wire
from maildaemon_core.options import Secret

PREFIX_BYTES = 5
SECRET_BYTES = 32
CHANCE_BYTES = PREFIX_BYTES + SECRET_BYTES
"""So many random bytes make a key."""

LONGEST_NAME = 100
"""Characters that the name of a key may have."""

LONGEST_DAYS = 36_500
"""Days ahead that an expiry may be written as; who wants more wants a key that does not expire."""

_SHAPE = re.compile(r"md_([0-9a-f]{10})_([A-Za-z0-9_-]{43})")
_WITH_SECRET = re.compile(r"(md_[0-9a-f]{10})_[A-Za-z0-9_-]+|([0-9a-f]{10})_[A-Za-z0-9_-]{43}")
_LIKE_A_KEY = re.compile(r".*md_[0-9a-f]{10}.*|[0-9a-f]{10}")
_FILE = "configuration file"
"""Whoever is called so has changed what a file says (``engine.catalog.FROM_FILE``): such mailboxes are not swept."""

_DAYS = re.compile(r"([0-9]{1,6})d")
_NOBODYS = hashlib.sha256(b"").hexdigest()
"""What is compared when there is no key: the digest of nothing, which has not the shape of a key."""


class Scope(StrEnum):
    """What a key may be allowed to do; each name says the thing and the deed."""

    MAILBOXES_READ = "mailboxes:read"
    MAILBOXES_WRITE = "mailboxes:write"
    MONITORING_READ = "monitoring:read"
    MONITORING_WRITE = "monitoring:write"
    SWEEPS_RUN = "sweeps:run"


ALL_SCOPES = frozenset(Scope)


class KeyState(StrEnum):
    GOOD = "good"
    EXPIRED = "expired"
    REVOKED = "revoked"


@attrs.frozen(kw_only=True)
class ApiKey:
    """A key as it is kept.  ``digest``: SHA-256 of the whole key, in hex; dates are UTC.

    ``scopes`` are those that this release knows: one that a newer release gave allows nothing here, and a key made
    with all of them is not given those that come later.
    """

    prefix: str
    name: str
    digest: str = attrs.field(repr=False)
    scopes: frozenset[Scope] = ALL_SCOPES
    created: datetime
    expires: datetime | None = None
    last_used: datetime | None = None
    revoked: datetime | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the key is for this; that it is good is asked besides (``is_good``)."""
        return scope in self.scopes

    def state(self, *, now: datetime) -> KeyState:
        """Whether it opens anything at this time; at the very moment ``expires`` it does not any more."""
        if self.revoked is not None:
            return KeyState.REVOKED
        return KeyState.GOOD if self.expires is None or now < self.expires else KeyState.EXPIRED


# ------------------------------------------------------------------------------------------------------ making a key


def make_key(
    chance: bytes, name: str, *, now: datetime, scopes: Collection[Scope] = ALL_SCOPES, expires: datetime | None = None
) -> tuple[Secret, ApiKey]:
    """The key, to be shown once, and what is kept of it; ``chance``: ``CHANCE_BYTES`` random ones.

    Raises ValueError for another number of bytes, and for a name as ``name_fault`` says.
    """
    if len(chance) != CHANCE_BYTES:
        raise ValueError(f"{CHANCE_BYTES} random bytes are needed, not {len(chance)}")
    if fault := name_fault(name):
        raise ValueError(fault)
    prefix = chance[:PREFIX_BYTES].hex()
    key = f"md_{prefix}_{urlsafe_b64encode(chance[PREFIX_BYTES:]).decode().rstrip('=')}"
    kept = ApiKey(prefix=prefix, name=name, digest=_digest(key), scopes=frozenset(scopes), created=now, expires=expires)
    return Secret(key), kept


def name_fault(name: str) -> str:
    """What is wrong with a name for a key, "" if nothing is; never repeats it, for it may be a key by mistake."""
    if not 1 <= len(name) <= LONGEST_NAME:
        return f"a name has 1 to {LONGEST_NAME} characters, not {len(name)}"
    if not name.isprintable():
        return "a name has printable characters only"
    if name != name.strip():
        return "a name neither begins nor ends with a blank"
    if name == _FILE:
        return "this is what changes by a configuration file are called; choose another"
    if _LIKE_A_KEY.fullmatch(name) or without_secret(name) != name:
        return "this looks like a key or the prefix of one, which no name may"
    return ""


def read_scopes(written: Iterable[str]) -> frozenset[Scope]:
    """The scopes of these names.  Raises ValueError with the unknown ones and all that there are."""
    names = list(written)
    known = kept_scopes(names)
    unknown = [without_secret(name) for name in dict.fromkeys(names) if name not in known]
    if unknown:
        named = ", ".join(map(repr, unknown))
        raise ValueError(f"unknown: {named}; there are: {', '.join(sorted(Scope))}")
    return known


def read_expiry(written: str, *, now: datetime) -> datetime:
    """A date-time of ISO 8601 with offset or Z, or so many days from now (``90d``), as UTC.

    Raises ValueError, also for one that is not in the future.
    """
    if days := _DAYS.fullmatch(written):
        number = int(days[1])
        if not 1 <= number <= LONGEST_DAYS:
            raise ValueError(f"from 1d to {LONGEST_DAYS}d are possible")
        try:
            return now + timedelta(days=number)
        except OverflowError:
            raise ValueError("lies outside the years 1 to 9999") from None
    try:
        expires = wire.moment(written)
    except ValueError as error:
        raise ValueError(f"{error}; or days from now, such as 90d") from None
    if expires <= now:
        raise ValueError("has passed already")
    return expires


# ----------------------------------------------------------------------------------------------------- looking at one


def prefix_of(shown: str) -> str | None:
    """The prefix of what is shown as a key; None if it cannot be one."""
    found = _SHAPE.fullmatch(shown)
    return found[1] if found else None


def is_good(shown: str, kept: ApiKey | None, *, now: datetime) -> bool:
    """Whether what is shown is the kept key and that is still good.

    Does the same work whether there is no such key, its secret is another, or it has ended: nobody learns from the
    time that it takes which prefixes there are.
    """
    same = hmac.compare_digest(_digest(shown).encode(), (kept.digest if kept else _NOBODYS).encode())
    return same and kept is not None and kept.state(now=now) is KeyState.GOOD


def named(keys: Iterable[ApiKey], wanted: str) -> ApiKey | None:
    """The key that a person means by its prefix, its name, or the key itself.

    Of several of that name it is the one that is not revoked, else the one that was revoked last.
    """
    there = list(keys)
    bare = wanted.removeprefix("md_")
    prefix = prefix_of(f"md_{bare}") or bare
    if found := [key for key in there if key.prefix == prefix]:
        return found[0]
    alike = [key for key in there if key.name == wanted]
    return max(alike, key=lambda key: (key.revoked is None, key.revoked or key.created, key.prefix), default=None)


def kept_scopes(names: Collection[object]) -> frozenset[Scope]:
    """The scopes among these names; others, of a newer release say, are passed over: they allow nothing here."""
    return frozenset(scope for scope in Scope if scope in names)


def without_secret(text: str) -> str:
    """The text with what may be the secret of a key in it left out: for whatever shows what people have written."""
    return _WITH_SECRET.sub(r"\1\2_…", text)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
