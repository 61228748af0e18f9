"""Whether a server is the right one, and how we show who we are: certificates, as the settings of a kind name them."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, Final, Literal

import attrs

from maildaemon_core.errors import Problem

MinimumTls = Literal["1.2", "1.3"]

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class OtherCertificate(ssl.SSLError):
    """The server's certificate has none of the fingerprints; ``shown`` is the one that it has."""

    def __init__(self, shown: str) -> None:
        super().__init__(0, f"the certificate has the fingerprint {shown}")
        self.shown = shown


class Unusable(Exception):
    """The files that ``Trust`` names cannot be used: ``what`` is a clause that says why, ``remedy`` what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


@attrs.frozen(kw_only=True)
class Trust:
    """Which servers are believed, and by which certificate they know us.  All files are PEM.

    ``ca_file``: the certificates that are trusted instead of the system's.
    ``fingerprints``: SHA-256 of certificates, one of which the server must have; who signed it and for which name then
    does not matter.
    ``certificate_file``: our own certificate, and those that lead to its CA, for servers that ask for one.
    ``key_file``: its key, without a pass phrase; absent if it lies in the same file.
    ``minimum``: older versions of TLS are not used, whatever the server offers; absent: as OpenSSL is set up, at least
    1.2.
    """

    ca_file: str | None = None
    fingerprints: Sequence[str] = ()
    certificate_file: str | None = None
    key_file: str | None = None
    minimum: MinimumTls | None = None

    def context(self) -> ssl.SSLContext:
        """What checks the server's certificate: by the fingerprints, else by the CA of that file, else by the system's.

        Raises ``Unusable``.  With a file or fingerprints of its own nothing that the environment says counts.
        """
        made = _pinned(self.fingerprints) if self.fingerprints else self._checking()
        if self.minimum is not None:
            made.minimum_version = max(made.minimum_version, _VERSIONS[self.minimum])
        if self.certificate_file is not None:
            _show(made, self.certificate_file, self.key_file)
        return made

    def problems(self) -> Sequence[Problem]:
        """What is wrong with these settings, which stand under ``options``; touches nothing."""
        found = [
            Problem(path=f"$.options.{name}", message="must be a full path, since a service may start anywhere")
            for name, file in (
                ("caFile", self.ca_file),
                ("clientCertFile", self.certificate_file),
                ("clientKeyFile", self.key_file),
            )
            if file is not None and not PurePath(file).is_absolute()
        ]
        if self.ca_file is not None and self.fingerprints:
            found.append(
                Problem(
                    path="$.options.fingerprints",
                    message="only one of caFile and fingerprints can say which certificate is believed; leave one out",
                )
            )
        if self.key_file is not None and self.certificate_file is None:
            found.append(
                Problem(path="$.options.clientKeyFile", message="is of no use without a certificate in clientCertFile")
            )
        found += (
            Problem(
                path=f"$.options.fingerprints[{at}]",
                message="must be the SHA-256 of the server's certificate in 64 hex digits, with or without colons; "
                "openssl x509 -noout -fingerprint -sha256 shows it",
            )
            for at, each in enumerate(self.fingerprints)
            if not _DIGEST.fullmatch(_plain(each))
        )
        return found

    def _checking(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ValueError) as error:  # no such file, no certificates in it
            told = error.strerror if isinstance(error, OSError) else ""
        reason = told or "it holds no certificate (PEM)"
        named = self.ca_file or environment()
        raise Unusable(
            f"the certificates in {named or 'the system'} cannot be used: {reason}",
            "name a readable PEM file in options.caFile" if self.ca_file else f"correct {named}",
        )


class _Pinned(ssl.SSLContext):
    """A context that believes a certificate by its fingerprint alone: whoever signed it, and for whatever name."""

    fingerprints: frozenset[str] = frozenset()

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """TLS on a connection.  Raises ``OtherCertificate``; nothing but the handshake was sent by then."""
        wrapped = super().wrap_socket(*args, **kwargs)
        shown = hashlib.sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest()
        if shown not in self.fingerprints:
            wrapped.close()
            raise OtherCertificate(shown)
        return wrapped


def _pinned(fingerprints: Iterable[str]) -> _Pinned:
    pinned = _Pinned(ssl.PROTOCOL_TLS_CLIENT)
    pinned.check_hostname = False
    pinned.verify_mode = ssl.CERT_NONE
    pinned.fingerprints = frozenset(map(_plain, fingerprints))
    return pinned


def _plain(fingerprint: str) -> str:
    """A fingerprint as it is compared: 64 hex digits in lower case, or whatever else was written."""
    return fingerprint.replace(":", "").replace(" ", "").lower().removeprefix("sha256")


def _show(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    """Has the context show our certificate to servers that ask for one.  Raises ``Unusable``."""
    asked = False

    def no_phrase() -> str:
        nonlocal asked
        asked = True
        return ""  # without this OpenSSL would ask whoever sits at the terminal

    for name, file in (("clientCertFile", certificate), ("clientKeyFile", key)):
        if file is not None and (reason := _unreadable(file)):
            raise Unusable(f"{file} cannot be read: {reason}", f"name a readable PEM file in options.{name}")
    held_in = key or certificate
    try:
        context.load_cert_chain(certificate, key, no_phrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            what = f"the key in {held_in} is not that of the first certificate in {certificate}"
            remedy = "put the client's own certificate first, and name its key in options.clientKeyFile"
        elif asked:
            what, remedy = f"the key in {held_in} has a pass phrase", "store it without one, readable for us alone"
        else:
            what = f"{certificate} holds no certificate, or {held_in} no private key (PEM)"
            remedy = "name PEM files in options.clientCertFile and options.clientKeyFile"
    else:
        return
    raise Unusable(what, remedy)


def _unreadable(file: str) -> str:
    try:
        with Path(file).open("rb"):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


def environment() -> str:
    """What of the environment changes which certificates OpenSSL trusts."""
    return " and ".join(
        f"{name}={os.environ[name]}" for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ
    )
