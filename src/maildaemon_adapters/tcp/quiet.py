"""Keeps libraries from writing into the log what nobody may read there."""

from __future__ import annotations

import logging


def only_warnings(*loggers: str) -> None:
    """Nothing below a warning from these: what they log of requests holds names, signatures, tokens and mails."""
    for name in loggers:
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)
