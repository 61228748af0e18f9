"""The one connection that threads share, and the bytes whose faults are told from those of the connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from maildaemon_adapters.files.contents import Unreadable, apart, unreadable
from maildaemon_adapters.files.joint import Joint
from maildaemon_adapters.files.tree import Fault, TreeError
from maildaemon_core.errors import SpoolFull


@attrs.define
class Wire:
    alive: bool = True
    ended: str = ""

    def end(self, *, politely: bool) -> None:
        self.alive, self.ended = False, "politely" if politely else "at once"


def test_a_connection_is_kept_while_it_lives_and_made_anew_when_it_does_not() -> None:
    joint = Joint(Wire)
    first = joint.get()
    assert joint.get() is first
    first.alive = False
    second = joint.get()
    assert second is not first
    assert first.ended == "at once"
    joint.close()
    joint.close()
    assert second.ended == "politely"
    assert joint.get() is not second


def test_whoever_waited_while_another_tried_in_vain_does_not_try_once_more() -> None:
    tried: list[int] = []
    begun, waiting = threading.Event(), threading.Event()
    # Once the last of them is here, all have long begun to wait when the first one's attempt ends.
    all_ask = threading.Barrier(3, action=lambda: threading.Timer(1.0, waiting.set).start(), timeout=10)

    def connect() -> Wire:
        tried.append(1)
        begun.set()
        assert waiting.wait(10)
        raise TreeError(Fault.GONE, "nobody is there", remedy="look", retry_after=7)

    joint = Joint(connect)

    def ask(number: int) -> TreeError:
        if number:
            assert begun.wait(10)
            all_ask.wait()
        with pytest.raises(TreeError) as raised:
            joint.get()
        return raised.value

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(ask, range(4)))
    assert len(tried) == 1
    assert {(each.fault, each.what, each.remedy, each.retry_after) for each in told} == {
        (Fault.GONE, "nobody is there", "look", 7)
    }
    assert len(set(map(id, told))) == 4, "each thread raises an error of its own, which it may change"
    with pytest.raises(TreeError):
        joint.get()
    assert len(tried) == 2, "whoever comes later tries"


def test_what_is_wrong_with_the_bytes_is_told_apart() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"some"
        raise OSError("the spool is gone")

    came: list[bytes] = []
    with pytest.raises(Unreadable) as raised:
        came.extend(apart(pieces))
    trouble = unreadable("a/b.eml", raised.value.error)
    assert trouble.error == "ContentUnreadable"
    assert trouble.message == "what is to be stored as a/b.eml cannot be read: the spool is gone"
    assert unreadable("a/b.eml", SpoolFull("full", remedy="make room")).error == "SpoolFull"
