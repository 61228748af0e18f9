"""Where the log goes and what it looks like: stderr, one line a record, nothing of it interpreted."""

from __future__ import annotations

import logging
import sys

from maildaemon_http.printable import printable

OURS = ("maildaemon_core", "maildaemon_adapters", "maildaemon_http")


class _OneLine(logging.Formatter):
    """A record on one line, what it quotes escaped; traces only for those who asked for them."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__()
        self._debug = debug

    def format(self, record: logging.LogRecord) -> str:
        line = printable(f"maildaemon: {record.levelname.lower()}: {record.getMessage()}")
        if record.exc_info and self._debug:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n  {printable(each)}" for each in trace.splitlines())
        elif record.exc_info and (kind := record.exc_info[0]) is not None:
            line += f" ({kind.__name__}; --debug shows where)"
        return line


def start_logging(*, debug: bool) -> None:
    """The log goes to stderr: warnings, and with ``debug`` everything but what mail servers and clients say.

    What they say is mail and now and then a login; it never belongs in a log.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(debug=debug))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.WARNING)
