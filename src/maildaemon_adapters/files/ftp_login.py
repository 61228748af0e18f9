"""From a URL to a connection with an FTP server that is logged in, or to an error that says what is in the way."""

from __future__ import annotations

import ftplib
from collections.abc import Callable, Sequence
from typing import Final, Literal

from maildaemon_adapters.files.ftp_wire import Wire
from maildaemon_adapters.files.ftp_words import crowded, login_fault, words_of
from maildaemon_adapters.files.server_url import ServerUrl
from maildaemon_adapters.files.tree import Fault, TreeError
from maildaemon_adapters.files.trust import context_of, no_way_there

FtpTls = Literal["explicit", "implicit", "none"]
"""TLS demanded on the open connection (AUTH TLS, RFC 4217), from the first byte, or everything in plain text."""

PORTS: Final = {"explicit": 21, "implicit": 990, "none": 21}


def log_in(
    url: ServerUrl,
    password: str,
    *,
    tls: FtpTls,
    ca_file: str | None,
    fingerprints: Sequence[str],
    connect_seconds: float,
    answer_seconds: float,
) -> Wire:
    """Connects, secures the connection as ``tls`` demands, and logs in.  Raises ``TreeError``."""
    port = url.port or PORTS[tls]
    where = f"{url.host}:{port}"
    other = " or ".join(mode for mode in PORTS if mode not in {tls, "none"})
    hint = f"tls = {other} may be what this port speaks"
    wire = Wire(
        url.host,
        port,
        context=None if tls == "none" else context_of(ca_file, fingerprints),
        implicit=tls == "implicit",
        connect_seconds=connect_seconds,
        answer_seconds=answer_seconds,
    )

    def step(act: Callable[[], None], refused: Callable[[ftplib.Error], TreeError]) -> None:
        """Does the next step; ``refused`` says what it means that the server does not want it."""
        failure: TreeError
        try:
            act()
        except (ftplib.error_perm, ftplib.error_temp) as error:
            failure = refused(error)
        except (OSError, EOFError, UnicodeError, ftplib.Error) as error:
            failure = no_way_there(error, where, seconds=connect_seconds, ca_file=ca_file, hint=hint)
        except BaseException:
            wire.hang_up()
            raise
        else:
            return
        wire.hang_up()
        raise failure  # outside of the handlers, lest the server's own words hang on to it

    def unwelcome(error: ftplib.Error) -> TreeError:
        return crowded(f"{where} takes no connection at present: {words_of(error)}")

    def insecure(error: ftplib.Error) -> TreeError:
        return TreeError(
            Fault.UNTRUSTED,
            f"{where} offers no TLS ({words_of(error)}); no password was sent",
            remedy="turn TLS on in the server; only tls = none under options would send the password in plain text",
        )

    def kept_out(error: ftplib.Error) -> TreeError:
        return login_fault(error, where, url.user or "", (password,), private=tls != "none")

    step(wire.reach, unwelcome)
    if tls != "none":
        step(wire.secure, insecure)
    step(lambda: wire.come_in(url.user or "", password), kept_out)
    return wire
