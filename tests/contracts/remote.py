"""What the tests of destinations on servers share: what is said of one that does not work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import pytest

from maildaemon_core.errors import DestinationUnavailable, LoginRefused, MaildaemonError, Trouble
from maildaemon_core.ports import Destination, Level
from maildaemon_core.testing.destination_conformance import batch_of, put_of

SOON = 15.0
"""Seconds within which everything that is wrong has to be told."""


class Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


@contextmanager
def closing(thing: C) -> Iterator[C]:
    try:
        yield thing
    finally:
        thing.close()


def told(destination: Destination) -> str:
    """What ``validate`` says of it, in time; and that storing says the same."""
    begun = time.monotonic()
    with closing(destination):
        faults = [finding for finding in destination.check() if finding.level is Level.FAULT]
        assert len(faults) == 1, faults
        assert faults[0].remedy
        assert time.monotonic() - begun < SOON
        with pytest.raises(MaildaemonError) as caught:
            destination.stage(batch_of(1), [put_of("a", "a")])
        assert isinstance(caught.value, DestinationUnavailable | LoginRefused)
        assert caught.value.message == faults[0].message
    return f"{type(caught.value).__name__}: {faults[0].message} — {faults[0].remedy}"


def checked(destination: Destination) -> str:
    """Only what ``validate`` says of it, in time."""
    begun = time.monotonic()
    with closing(destination):
        (finding,) = destination.check()
        assert finding.level is Level.FAULT
        assert time.monotonic() - begun < SOON
        return f"{finding.message} — {finding.remedy}"


def trouble_with(destination: Destination, data: bytes, path: str = "a", number: int = 1) -> Trouble:
    """What is said of one file that cannot be staged."""
    answer = destination.stage(batch_of(number), [put_of("a", path, data)])["a"]
    assert isinstance(answer, Trouble)
    return answer
