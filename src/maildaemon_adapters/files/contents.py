"""What goes wrong with the bytes that are to be stored, told apart from what goes wrong where they are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from maildaemon_core.errors import MaildaemonError, Trouble


class Unreadable(Exception):
    """What is to be stored cannot be read; ``error`` is what was raised, whatever class that is of."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def apart(read: Callable[[], Iterable[bytes]]) -> Iterator[bytes]:
    """The pieces that ``read`` gives; whatever it and they raise comes as ``Unreadable``."""
    try:
        yield from read()
    except Exception as error:
        raise Unreadable(error) from error


def unreadable(path: str, cause: Exception) -> Trouble:
    """Why nothing could be stored under ``path``."""
    if isinstance(cause, MaildaemonError):
        return cause.trouble()
    return Trouble(
        error="ContentUnreadable",
        message=f"what is to be stored as {path} cannot be read: {cause}",
        remedy="it is fetched again",
    )
