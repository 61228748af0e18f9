"""Whether a mail source that can wait to be told keeps the laws of ``Wakeable``: a class to inherit from.

class TestJmapWaits(WakeableConformance):
    # the fixtures of SourceConformance, and
    @pytest.fixture
    def hang_up(self, jmap_server):  # ends the server's side of every connection
        return jmap_server.hang_up
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import ClassVar

import pytest

from maildaemon_core.errors import SourceUnavailable
from maildaemon_core.message import FolderRef
from maildaemon_core.ports import Armed, MailSource, Wakeable
from maildaemon_core.testing.source_conformance import OpenSource, Post, a_mail

SOON = 10.0
"""Seconds in which news have to come; a server that is asked may take some."""

A_WHILE = 0.3
"""Seconds in which nothing must come."""


class WakeableConformance:
    """Inherit, and give the three fixtures.  ``folder`` exists."""

    folder: ClassVar[FolderRef] = FolderRef("INBOX")

    @pytest.fixture
    def post(self) -> Post:
        raise NotImplementedError("a subclass gives the fixture post")

    @pytest.fixture
    def open_source(self) -> OpenSource:
        raise NotImplementedError("a subclass gives the fixture open_source")

    @pytest.fixture
    def hang_up(self) -> Callable[[], None]:
        raise NotImplementedError("a subclass gives the fixture hang_up")

    def test_a_new_mail_is_told_of(self, post: Post, open_source: OpenSource) -> None:
        post.plant(self.folder, a_mail(1))
        with open_source() as source:
            self._list(source)
            waiting, armed = self._armed(source)
            assert not waiting.drain()
            post.plant(self.folder, a_mail(2))
            assert news(waiting, armed, SOON)

    def test_without_news_nothing_is_told(self, post: Post, open_source: OpenSource) -> None:
        post.plant(self.folder, a_mail(1))
        with open_source() as source:
            self._list(source)
            waiting, armed = self._armed(source)
            assert not news(waiting, armed, A_WHILE)
            assert not waiting.drain()

    def test_a_mail_that_came_after_the_listing_is_news(self, post: Post, open_source: OpenSource) -> None:
        with open_source() as source:
            self._list(source)
            post.plant(self.folder, a_mail(1))
            waiting, armed = self._armed(source)
            assert waiting.drain() or news(waiting, armed, SOON)

    def test_news_that_were_taken_up_are_not_told_again(self, post: Post, open_source: OpenSource) -> None:
        with open_source() as source:
            self._list(source)
            waiting, armed = self._armed(source)
            post.plant(self.folder, a_mail(1))
            assert news(waiting, armed, SOON)
            time.sleep(A_WHILE)  # a server may tell of one mail in several lines
            waiting.drain()
            assert not news(waiting, armed, A_WHILE)

    def test_after_waiting_the_session_works_as_before(self, post: Post, open_source: OpenSource) -> None:
        post.plant(self.folder, a_mail(1))
        with open_source() as source:
            self._list(source)
            for number in (2, 3):
                waiting, armed = self._armed(source)
                post.plant(self.folder, a_mail(number))
                assert news(waiting, armed, SOON)
                waiting.disarm()
                assert self._list(source) == [f"number {each}" for each in range(1, number + 1)]

    def test_it_may_be_ended_though_nothing_came(self, post: Post, open_source: OpenSource) -> None:
        post.plant(self.folder, a_mail(1))
        with open_source() as source:
            waiting, _ = self._armed(source)
            waiting.disarm()
            assert self._list(source) == ["number 1"]

    def test_a_session_may_be_closed_while_it_waits(self, post: Post, open_source: OpenSource) -> None:
        with open_source() as source:
            self._armed(source)
        post.plant(self.folder, a_mail(1))
        with open_source() as source:
            assert self._list(source) == ["number 1"]

    def test_a_server_that_hangs_up_is_noticed_each_time(
        self, open_source: OpenSource, hang_up: Callable[[], None]
    ) -> None:
        with open_source() as source:
            self._list(source)
            waiting, armed = self._armed(source)
            hang_up()
            with pytest.raises(SourceUnavailable):
                news(waiting, armed, SOON)
            with pytest.raises(SourceUnavailable):
                waiting.drain()

    def test_who_did_not_listen_learns_at_the_end_that_the_server_has_hung_up(
        self, open_source: OpenSource, hang_up: Callable[[], None]
    ) -> None:
        with open_source() as source:
            waiting, armed = self._armed(source)
            hang_up()
            select.select([armed.descriptor], [], [], SOON)
            with pytest.raises(SourceUnavailable):
                waiting.disarm()

    def _list(self, source: MailSource) -> list[str]:
        return [each.headers.subject for each in source.list_since(self.folder, None, limit=100).envelopes]

    def _armed(self, source: MailSource) -> tuple[Wakeable, Armed]:
        assert isinstance(source, Wakeable)
        armed = source.arm(self.folder)
        assert armed is not None
        assert armed.seconds > 0
        return source, armed


def news(waiting: Wakeable, armed: Armed, seconds: float) -> bool:
    """Whether news come within so many seconds.  What the server says besides wakes and is no news."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select([armed.descriptor], [], [], left)
        if ready and waiting.drain():
            return True
    return False
