"""The smallest configuration that works, as ``maildaemon init`` writes it and the README shows it."""

from __future__ import annotations

from pathlib import Path

from maildaemon_http.configfile import ConfigurationFault

TEXT = """\
# maildaemon: put your address, server and password here; the rest works as it stands.
#   maildaemon validate FILE      what works, what does not, and what to do about it; changes nothing
#   maildaemon run FILE --once    each mailbox once
# Paths are relative to the folder of this file.  What was done is remembered beside it, in maildaemon.db.

[[mailboxes]]
mailbox = "user@example.com"         # the address; the login name too, unless `username` says otherwise
host = "imap.example.com"
password = "env:MAIL_PASSWORD"       # from the environment; or "file:password.txt", from a file
exportAttachments = true             # store attachments,
mailArchiving = { active = true }    # and whole mails, byte for byte,
destinations = [{ url = "mail" }]    # in this folder
# deleteMailsOnServer = true         # delete a mail once all of it is stored; without this, the server stays as it is
"""


def write_smallest(path: Path) -> None:
    """Writes it to ``path``; raises ``ConfigurationFault`` if something is there already, or it cannot be written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEXT)
    except FileExistsError:
        raise ConfigurationFault(path, "exists already and is left as it is; name another file") from None
    except OSError as error:
        raise ConfigurationFault(path, f"cannot be written: {error.strerror}") from error
