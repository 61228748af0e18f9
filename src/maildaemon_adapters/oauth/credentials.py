"""What an app registration shows of itself: its secret, or a certificate with the key to it.

A certificate is looked at before anybody is asked: what is wrong with it can be said here in better words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from maildaemon_core.errors import LoginRefused

_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)

_REMEDY: Final = (
    "give clientCertificate one text (PEM) that holds the certificate and its unencrypted RSA key, best as file:PATH"
)


def certificate(written: str) -> Mapping[str, str]:
    """The certificate of PEM text, with its key, as ``msal`` takes it.  Raises ``LoginRefused``, which shows nothing.

    Of several certificates the one that belongs to the key counts.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    blocks = [(found[1], found[0]) for found in _BLOCK.finditer(written)]
    keys = [text for label, text in blocks if label.endswith("PRIVATE KEY")]
    if not keys:
        raise _useless("it holds no private key (PEM)")
    if any(label.startswith("ENCRYPTED") or "Proc-Type: 4,ENCRYPTED" in text for label, text in blocks):
        raise _useless("its key has a pass phrase")
    try:
        key = serialization.load_pem_private_key(keys[0].encode(), None)
        known = [(x509.load_pem_x509_certificate(text.encode()), text) for label, text in blocks if "CERT" in label]
    except (ValueError, TypeError):  # their words may hold some of it
        key, known = None, []
    if key is None:
        raise _useless("it cannot be read")
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _useless("its key is no RSA key")
    public = key.public_key()
    fitting = [(each, text) for each, text in known if each.public_key() == public]
    if not fitting:
        raise _useless("it holds no certificate for its key" if known else "it holds no certificate (PEM)")
    one, text = max(fitting, key=lambda each: each[0].not_valid_after_utc)
    if one.not_valid_after_utc < datetime.now(UTC):
        raise LoginRefused(
            f"the certificate of clientCertificate has expired on {one.not_valid_after_utc:%Y-%m-%d}",
            remedy="make a new one, upload it to the app registration (Certificates & secrets), and enter it here",
        )
    return {"private_key": keys[0], "public_certificate": text}


def _useless(why: str) -> LoginRefused:
    return LoginRefused(f"clientCertificate cannot be used: {why}", remedy=_REMEDY)
