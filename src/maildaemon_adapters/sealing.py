"""How secrets are kept: sealed with AES-256-GCM (NIST SP 800-38D) under a master key that is never in the store.

A sealed text is ``KEYID.`` and then, in base64url, the nonce, the ciphertext and its tag.  What it is about is not in
it: it is the associated data, so that a sealed text opens only for the thing it was sealed about.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from maildaemon_core.errors import BrokenPlugin, NoMasterKey, Sealed
from maildaemon_core.options import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

logger = logging.getLogger(__name__)

VARIABLE: Final = "MAILDAEMON_MASTER_KEY"
FILE_VARIABLE: Final = "MAILDAEMON_MASTER_KEY_FILE"
CREDENTIAL: Final = "maildaemon-master-key"
"""The name of the systemd credential (systemd.exec(5), ``LoadCredential=``)."""

LARGEST: Final = 1 << 16
"""Bytes of the largest file that is read for keys."""

_PREFIX = "mdmk_"
_KEY_BYTES, _CHECK_BYTES, _NONCE_BYTES, _TAG_BYTES = 32, 4, 12, 16
_SHAPE = re.compile(f"{_PREFIX}[A-Za-z0-9_-]{{{(_KEY_BYTES + _CHECK_BYTES) * 4 // 3}}}")
_ABOUT = b"maildaemon secret 1\0"
_MAKE_ONE = (
    f"make a key with: maildaemon master-key new; give it to the service in {VARIABLE}, in a file that {FILE_VARIABLE} "
    f"names, or as the systemd credential {CREDENTIAL}, and keep a copy apart from the backups of the store"
)


class MasterKeyUnreadable(NoMasterKey):
    """A master key is given and cannot be used; its text is never part of the message."""


class CryptographyMissing(BrokenPlugin):
    """The package that seals is not installed."""


@attrs.frozen
class MasterKey:
    """256 bits, and the id by which sealed texts name them."""

    key: bytes = attrs.field(repr=False)

    @property
    def id(self) -> str:
        """It follows from the key and tells nothing about it."""
        return _digest(b"id", self.key).hex()[:8]


def new_master_key(chance: Callable[[int], bytes] = os.urandom) -> str:
    """A fresh key as text, with a checksum that tells a typing mistake."""
    key = chance(_KEY_BYTES)
    return _PREFIX + urlsafe_b64encode(key + _checksum(key)).decode("ascii")


def master_keys(environment: Mapping[str, str]) -> Sequence[MasterKey]:
    """The keys that this process was given, none if it was given none: the first one seals, all of them open.

    They come from the variable ``MAILDAEMON_MASTER_KEY``, from the file that ``MAILDAEMON_MASTER_KEY_FILE`` names, and
    from the systemd credential ``maildaemon-master-key``; all three are read, in this order.  Several keys stand apart
    by blanks, line ends or commas; in files ``#`` begins a comment.

    Raises ``MasterKeyUnreadable``, which names the place and never what stands there.
    """
    found: dict[MasterKey, None] = {}
    for source, text in _texts(environment):
        words = [word for word in re.split(r"[\s,]+", text) if word]
        if not words:
            raise MasterKeyUnreadable(f"{source} holds no master key: it is empty", remedy=_MAKE_ONE)
        for number, word in enumerate(words, start=1):
            which = source if len(words) == 1 else f"key {number} of {len(words)} in {source}"
            found[_key_of(word, which)] = None
    return tuple(found)


def _texts(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What each source holds, with its name for people."""
    if (text := environment.get(VARIABLE)) is not None:
        yield f"the variable {VARIABLE}", text
    if (name := environment.get(FILE_VARIABLE)) is not None:
        if not name:
            raise MasterKeyUnreadable(
                f"the variable {FILE_VARIABLE} is empty", remedy="name a file in it, or do not set it"
            )
        source = f"the file {name} ({FILE_VARIABLE})"
        yield source, _from_file(Path(name), source)
    if folder := environment.get("CREDENTIALS_DIRECTORY"):
        path = Path(folder, CREDENTIAL)
        if path.exists():  # systemd gives other credentials through that folder as well
            source = f"the systemd credential {CREDENTIAL}"
            yield source, _from_file(path, source)


def _from_file(path: Path, source: str) -> str:
    try:
        with path.open("rb") as file:
            others = os.fstat(file.fileno()).st_mode & (stat.S_IROTH | stat.S_IWOTH)
            data = file.read(LARGEST + 1)
        text = data.decode("ascii")
    except (OSError, ValueError) as error:
        reason = error.strerror or "not found" if isinstance(error, OSError) else "it holds what no key has"
        raise MasterKeyUnreadable(
            f"{source} cannot be read: {reason}", remedy="write the key into it, readable by this user only"
        ) from None  # a decoding error holds what was read
    if len(data) > LARGEST:
        raise MasterKeyUnreadable(f"{source} has more than {LARGEST} bytes", remedy="write nothing but keys into it")
    if others:
        logger.warning("%s may be read or changed by every user of this machine: chmod 600 it", source)
    return "\n".join(line.partition("#")[0] for line in text.splitlines())


def _key_of(word: str, source: str) -> MasterKey:
    if not word.startswith(_PREFIX):
        fault = f"is no master key: these begin with {_PREFIX}"
    elif not _SHAPE.fullmatch(word):
        fault = "is no whole master key: characters are missing, too many or wrong"
    else:
        data = urlsafe_b64decode(word.removeprefix(_PREFIX))
        key, check = data[:_KEY_BYTES], data[_KEY_BYTES:]
        if check == _checksum(key):
            return MasterKey(key)
        fault = "is no master key that was ever made: a character in it is wrong"
    raise MasterKeyUnreadable(f"{source} {fault}", remedy="copy the key again, or " + _MAKE_ONE)


def _checksum(key: bytes) -> bytes:
    return _digest(b"check", key)[:_CHECK_BYTES]


def _digest(purpose: bytes, key: bytes) -> bytes:
    return hashlib.sha256(b"maildaemon master key " + purpose + b"\0" + key).digest()


class Vault:
    """A ``SecretStore`` with these keys: the first one seals, all of them open."""

    def __init__(self, keys: Sequence[MasterKey] = ()) -> None:
        self._keys = tuple(keys)

    def __repr__(self) -> str:
        return f"<vault with the keys {', '.join(key.id for key in self._keys) or 'none'}>"

    def seal(self, secret: Secret, about: str) -> str:
        """As in the port; also raises ``CryptographyMissing``."""
        if not self._keys:
            raise NoMasterKey("a secret is to be stored, and there is no master key to seal it with", remedy=_MAKE_ONE)
        key = self._keys[0]
        # Random nonces: after 2**32 secrets under one key the chance that two are the same is 2**-32 (SP 800-38D §8.3).
        nonce = os.urandom(_NONCE_BYTES)
        sealed = _cipher(key).encrypt(nonce, secret.value.encode("utf-8", "surrogatepass"), _associated(about))
        return f"{key.id}.{urlsafe_b64encode(nonce + sealed).decode('ascii').rstrip('=')}"

    def open(self, sealed: str, about: str) -> Secret:
        """As in the port; also raises ``CryptographyMissing``."""
        key_id, separator, text = sealed.partition(".")
        data = _decoded(text)
        if not separator or not re.fullmatch("[0-9a-f]{8}", key_id) or len(data) < _NONCE_BYTES + _TAG_BYTES:
            raise Sealed("a stored secret is damaged: it is no sealed text", remedy="enter the secret again")
        if not self._keys:
            raise NoMasterKey(
                f"a stored secret is sealed with the master key {key_id}, and no key is given",
                remedy=f"give that key to the service in {VARIABLE} or {FILE_VARIABLE}; if it is lost, enter the "
                "secret again",
            )
        own = [key for key in self._keys if key.id == key_id]
        if not own:
            raise Sealed(
                f"a stored secret is sealed with the master key {key_id}; given are "
                + ", ".join(key.id for key in self._keys),
                remedy="give that key to the service as well, behind the newer one; if it is lost, enter the secret "
                "again",
            )
        nonce, ciphertext = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
        for key in own:
            if (value := _opened(key, nonce, ciphertext, about)) is not None:
                return Secret(value)
        raise Sealed(
            "a stored secret does not open here: it is damaged, or was sealed for another server, mailbox or place",
            remedy="enter the secret again; if nobody has changed the database by hand, look into how this came about",
        )

    def is_current(self, sealed: str) -> bool:
        return bool(self._keys) and sealed.partition(".")[0] == self._keys[0].id


def _opened(key: MasterKey, nonce: bytes, ciphertext: bytes, about: str) -> str | None:
    cipher = _cipher(key)
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(nonce, ciphertext, _associated(about)).decode("utf-8", "surrogatepass")
    except (InvalidTag, UnicodeDecodeError):
        return None


def _associated(about: str) -> bytes:
    return _ABOUT + about.encode("utf-8", "surrogatepass")


def _decoded(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""


def _cipher(key: MasterKey) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise CryptographyMissing(
            f"sealing secrets needs the package cryptography, which cannot be loaded: {error}",
            remedy="pip install 'maildaemon[secrets]'",
        ) from None
    return AESGCM(key.key)
