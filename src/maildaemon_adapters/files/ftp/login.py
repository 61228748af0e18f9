"""From a URL to a connection with an FTP server that is logged in, or to an error that says what is in the way."""

from __future__ import annotations

import ftplib
from collections.abc import Callable

from maildaemon_adapters.files.ftp import PORTS, FtpSettings, tls_of
from maildaemon_adapters.files.ftp.wire import Wire
from maildaemon_adapters.files.ftp.words import crowded, login_fault, words_of
from maildaemon_adapters.files.obstructed import obstructed
from maildaemon_adapters.files.server_url import ServerUrl
from maildaemon_adapters.files.tree import Fault, TreeError
from maildaemon_adapters.tcp.obstacles import obstacle_of
from maildaemon_adapters.tcp.trust import Unusable


def log_in(url: ServerUrl, password: str, settings: FtpSettings) -> Wire:
    """Connects, secures the connection as the settings demand, and logs in.  Raises ``TreeError``."""
    tls, seconds = tls_of(url, settings), settings.connect_seconds
    port = url.port or PORTS[tls]
    where = url.server(port)
    other = " or ".join(mode for mode in PORTS if mode not in {tls, "none"})
    hint = f"tls = {other} may be what this port speaks"

    def obstacle(error: BaseException) -> TreeError:
        return obstructed(obstacle_of(error, where, seconds=seconds, trust=settings.trust, hint=hint))

    try:
        context = None if tls == "none" else settings.trust.context()
    except Unusable as error:
        raise obstacle(error) from None
    wire = Wire(
        url.host,
        port,
        context=context,
        implicit=tls == "implicit",
        connect_seconds=seconds,
        answer_seconds=settings.answer_seconds,
    )

    def step(act: Callable[[], None], refused: Callable[[ftplib.Error], TreeError]) -> None:
        """Does the next step; ``refused`` says what it means that the server does not want it."""
        failure: TreeError
        try:
            act()
        except (ftplib.error_perm, ftplib.error_temp) as error:
            failure = refused(error)
        except (OSError, EOFError, UnicodeError, ftplib.Error) as error:
            failure = obstacle(error)
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
