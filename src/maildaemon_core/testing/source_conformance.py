"""Whether a mail source keeps the laws of its port: a class to inherit from, with fixtures that reach behind the port.

    class TestJmap(SourceConformance):
        @pytest.fixture
        def post(self, jmap_server):  # plant, peek, remove and renumber, not through the source
            return JmapPost(jmap_server)

        @pytest.fixture
        def open_source(self, jmap_server):
            return lambda: KIND.open(options_for(jmap_server), JmapSettings(), spool)

Each test gets a mailbox of its own that is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import ClassVar

import pytest
from hypothesis import settings

from maildaemon_core.errors import FolderMissing, Trouble
from maildaemon_core.message import CHUNK, Content, Cursor, Envelope, FolderRef, Identity, MessageRef
from maildaemon_core.options import KEEP, Action, Aftercare
from maildaemon_core.ports import Fetched, Known, Level, MailSource, Settled, Unfetched, Vanished
from maildaemon_core.testing.source_machine import Ground, hold_in_any_order
from maildaemon_core.testing.source_post import OpenSource, Post, a_mail

__all__ = ["DELETE", "ODD_MAILS", "SEEN", "OpenSource", "Post", "SourceConformance", "a_mail"]

DELETE, SEEN = Aftercare(Action.DELETE), Aftercare(Action.SEEN)


ODD_MAILS = {
    "eight bits": b"Subject: j\xc3\xb6rg \xff\xfe\r\nFrom: a@example.com\r\n\r\n\x80\x81 \xe4\r\n",
    "no end of line at the end": b"Subject: short\r\n\r\nno end",
    "headers only": b"Subject: nothing else\r\n\r\n",
    "no headers": b"\r\nbody\r\n",
    "a long line": b"Subject: long\r\n\r\n" + b"x" * 20_000 + b"\r\n",
    "looks like the protocol": b"Subject: ) {3}\r\n\r\n)\r\nA1 OK done\r\n* 1 EXPUNGE\r\n.\r\n..\r\n",
    "a bare CR": b"Subject: cr\r\n\r\na\rb\r\n",
    "a literal of its own": b"Subject: spooled\r\n\r\n" + b"0123456789abcde\n".replace(b"\n", b"\r\n") * 20_000,
}


class SourceConformance:
    """Inherit, and give the two fixtures.

    ``actions``: what the kind can do on the server.  ``renumbers``: whether its references can become void; a kind
    whose ids never change says False.  ``odd_mails``: those of ``ODD_MAILS`` that the kind can hold; ``kept``: what the
    server makes of some of them.  ``folder`` exists; ``target`` does not, and is where mails are moved.
    """

    actions: ClassVar[frozenset[Action]] = frozenset(Action)
    renumbers: ClassVar[bool] = True
    odd_mails: ClassVar[Mapping[str, bytes]] = ODD_MAILS
    kept: ClassVar[Mapping[str, bytes]] = {}
    costs: ClassVar[int] = 10
    folder: ClassVar[FolderRef] = FolderRef("INBOX")
    target: ClassVar[FolderRef] = FolderRef("Done")

    @pytest.fixture
    def post(self) -> Post:
        raise NotImplementedError("a subclass gives the fixture post")

    @pytest.fixture
    def open_source(self) -> OpenSource:
        raise NotImplementedError("a subclass gives the fixture open_source")

    # ---- listing ----

    def test_a_mail_is_listed_with_what_its_headers_say(self, post: Post, open_source: OpenSource) -> None:
        post.plant(self.folder, a_mail(1))
        with open_source() as source:
            (envelope,) = source.list_since(self.folder, None, limit=10).envelopes
        headers = envelope.headers
        assert headers.subject == "number 1"
        assert headers.sender == "joerg1@firm.example"
        assert headers.from_.startswith("Jörg")
        assert headers.message_id == "<1@conformance.example>"
        assert envelope.ref.folder == self.folder
        assert envelope.received.utcoffset() == timedelta(0), "received is in UTC"

    def test_every_mail_is_listed_once_across_pages_oldest_first(self, post: Post, open_source: OpenSource) -> None:
        self._plant(post, range(7))
        with open_source() as source:
            for limit in (1, 2, 3, 7, 100):
                envelopes, _ = self._all(source, None, limit=limit)
                assert _subjects(envelopes) == [f"number {number}" for number in range(7)]
                assert len(set(_refs(envelopes))) == len(envelopes)

    def test_no_page_is_longer_than_asked_for(self, post: Post, open_source: OpenSource) -> None:
        self._plant(post, range(5))
        with open_source() as source:
            page = source.list_since(self.folder, None, limit=2)
        assert _subjects(page.envelopes) == ["number 0", "number 1"][: len(page.envelopes)]
        assert page.more

    def test_the_same_cursor_gives_the_same_mails_again(self, post: Post, open_source: OpenSource) -> None:
        self._plant(post, range(6))
        with open_source() as source:
            first = source.list_since(self.folder, None, limit=2)
            second = source.list_since(self.folder, first.cursor, limit=2)
            third = source.list_since(self.folder, second.cursor, limit=2)
            again = source.list_since(self.folder, first.cursor, limit=2)
        assert _refs(again.envelopes) == _refs(second.envelopes)
        assert not set(_refs(second.envelopes)) & set(_refs(third.envelopes))

    def test_a_cursor_means_the_same_in_another_session(self, post: Post, open_source: OpenSource) -> None:
        self._plant(post, range(4))
        with open_source() as source:
            first = source.list_since(self.folder, None, limit=3)
        with open_source() as source:
            rest = source.list_since(self.folder, first.cursor, limit=3)
        assert [each.headers.subject for each in rest.envelopes] == ["number 3"]
        assert not rest.renumbered

    def test_nothing_is_listed_twice_when_nothing_has_come(self, post: Post, open_source: OpenSource) -> None:
        self._plant(post, range(2))
        with open_source() as source:
            _, cursor = self._all(source, None)
            page = source.list_since(self.folder, cursor, limit=10)
            last = source.list_since(self.folder, page.cursor, limit=10)
        assert page.envelopes == last.envelopes == ()
        assert (page.more, page.renumbered, last.more, last.renumbered) == (False, False, False, False)

    def test_a_mail_that_arrives_later_is_behind_any_cursor_given_out_before(
        self, post: Post, open_source: OpenSource
    ) -> None:
        self._plant(post, range(3))
        with open_source() as source:
            first = source.list_since(self.folder, None, limit=2)
            post.plant(self.folder, a_mail(3))
            envelopes, cursor = self._all(source, first.cursor, limit=2)
            assert "number 2" in _subjects(envelopes)
            post.plant(self.folder, a_mail(4))
            later, _ = self._all(source, cursor, limit=2)
        assert _subjects([*first.envelopes, *envelopes, *later]) == [f"number {number}" for number in range(5)]

    def test_the_cursor_of_an_empty_folder_misses_nothing(self, post: Post, open_source: OpenSource) -> None:
        with open_source() as source:
            page = source.list_since(self.folder, None, limit=10)
            assert (page.envelopes, page.more, page.renumbered) == ((), False, False)
            post.plant(self.folder, a_mail(1))
            later = source.list_since(self.folder, page.cursor, limit=10)
        assert _subjects(later.envelopes) == ["number 1"]
        assert not later.renumbered

    def test_the_cursor_of_an_emptied_folder_misses_nothing(self, post: Post, open_source: OpenSource) -> None:
        post.plant(self.folder, a_mail(1))
        with open_source() as source:
            _, cursor = self._all(source, None)
            post.remove(self.folder, a_mail(1))
            _, cursor = self._all(source, cursor)
            post.plant(self.folder, a_mail(2))
            later, _ = self._all(source, cursor)
        assert _subjects(later) == ["number 2"]

    def test_a_mail_that_goes_away_between_pages_takes_no_other_with_it(
        self, post: Post, open_source: OpenSource
    ) -> None:
        self._plant(post, range(5))
        with open_source() as source:
            first = source.list_since(self.folder, None, limit=2)
            post.remove(self.folder, a_mail(0))
            post.remove(self.folder, a_mail(2))
            rest, _ = self._all(source, first.cursor, limit=2)
        assert [subject for subject in _subjects(rest) if subject != "number 2"] == ["number 3", "number 4"]

    def test_a_cursor_that_nobody_can_read_lists_from_the_beginning_and_says_so(
        self, post: Post, open_source: OpenSource
    ) -> None:
        self._plant(post, range(3))
        with open_source() as source:
            page = source.list_since(self.folder, Cursor("made by another kind of source"), limit=10)
        assert page.renumbered
        assert _subjects(page.envelopes) == ["number 0", "number 1", "number 2"]

    def test_a_renumbering_is_told_and_the_folder_listed_anew(self, post: Post, open_source: OpenSource) -> None:
        self._can_be_renumbered()
        self._plant(post, range(3))
        with open_source() as source:
            before, cursor = self._all(source, None)
        post.renumber(self.folder)
        with open_source() as source:
            page = source.list_since(self.folder, cursor, limit=2)
            rest = source.list_since(self.folder, page.cursor, limit=2)
        assert page.renumbered
        assert not rest.renumbered
        assert _subjects([*page.envelopes, *rest.envelopes]) == ["number 0", "number 1", "number 2"]
        assert [each.identity for each in (*page.envelopes, *rest.envelopes)] == [each.identity for each in before]
        assert not set(_refs(page.envelopes)) & set(_refs(before))

    def test_a_folder_that_does_not_exist_is_said_to_be_missing(self, post: Post, open_source: OpenSource) -> None:
        with open_source() as source:
            with pytest.raises(FolderMissing, match="No such folder"):
                source.list_since(FolderRef("No such folder"), None, limit=10)
            post.plant(self.folder, a_mail(1))
            assert len(source.list_since(self.folder, None, limit=10).envelopes) == 1, "the session goes on"

    # ---- fetching ----

    def test_the_bytes_are_exactly_what_the_server_holds(self, post: Post, open_source: OpenSource) -> None:
        for raw in self.odd_mails.values():
            post.plant(self.folder, raw)
        with open_source() as source:
            refs = _refs(self._all(source, None)[0])
            got = {each.ref: _bytes(each.content) for each in source.fetch(refs) if isinstance(each, Fetched)}
        held = {**self.odd_mails, **self.kept}
        assert {kind: got.get(ref) for kind, ref in zip(held, refs, strict=True)} == held
        assert _raws(post, self.folder) == list(held.values())

    def test_a_large_mail_comes_in_pieces(self, post: Post, open_source: OpenSource) -> None:
        raw = a_mail(1, body=b"0123456789 0123456789 0123456789\r\n" * 100_000)
        post.plant(self.folder, raw)
        with open_source() as source:
            (fetched,) = source.fetch(_refs(self._all(source, None)[0]))
            assert isinstance(fetched, Fetched)
            assert fetched.content.size == len(raw)
            assert all(0 < len(piece) <= CHUNK for piece in fetched.content.chunks())
            assert _bytes(fetched.content) == raw
            assert _bytes(fetched.content) == raw, "it can be read again"
            fetched.content.close()

    def test_there_is_one_answer_for_each_reference(self, post: Post, open_source: OpenSource) -> None:
        self._plant(post, range(12))
        with open_source() as source:
            refs = _refs(self._all(source, None)[0])
            post.remove(self.folder, a_mail(5))
            answers = list(source.fetch(tuple(reversed(refs))))
            assert sorted(each.ref for each in answers) == sorted(refs)
            for each in answers:
                if isinstance(each, Fetched):
                    assert _bytes(each.content) == a_mail(refs.index(each.ref))

    def test_nothing_asked_for_is_nothing_answered(self, post: Post, open_source: OpenSource) -> None:
        post.plant(self.folder, a_mail(1))
        with open_source() as source:
            assert list(source.fetch(())) == []

    def test_what_is_gone_has_vanished_and_nothing_else_has(self, post: Post, open_source: OpenSource) -> None:
        self._plant(post, range(3))
        with open_source() as source:
            refs = _refs(self._all(source, None)[0])
            post.remove(self.folder, a_mail(1))
            answers = {each.ref: each for each in source.fetch(refs)}
        assert [type(answers[ref]) for ref in refs] == [Fetched, Vanished, Fetched]

    def test_a_fetch_that_is_not_read_to_its_end_harms_nothing(self, post: Post, open_source: OpenSource) -> None:
        self._plant(post, range(3))
        with open_source() as source:
            refs = _refs(self._all(source, None)[0])
            next(iter(source.fetch(refs)))
            assert all(isinstance(each, Fetched) for each in source.fetch(refs))

    def test_after_a_renumbering_old_references_are_neither_read_nor_called_gone(
        self, post: Post, open_source: OpenSource
    ) -> None:
        self._can_be_renumbered()
        self._plant(post, range(2))
        with open_source() as source:
            refs = _refs(self._all(source, None)[0])
        post.renumber(self.folder)
        with open_source() as source:
            answers = list(source.fetch(refs))
        assert [type(each) for each in answers] == [Unfetched, Unfetched]

    def test_reading_changes_no_flag(self, post: Post, open_source: OpenSource) -> None:
        self._plant(post, range(3))
        before = post.peek(self.folder)
        with open_source() as source:
            refs = _refs(self._all(source, None)[0])
            assert {type(each) for each in source.fetch(refs)} == {Fetched}
            source.folders()
            source.check([self.folder], DELETE)
        assert post.peek(self.folder) == before

    # ---- settling ----

    def test_keeping_changes_nothing(self, post: Post, open_source: OpenSource) -> None:
        self._plant(post, range(2))
        before = post.peek(self.folder)
        with open_source() as source:
            known = self._known(source)
            assert set(source.settle(known, KEEP).values()) == {Settled()}
        assert post.peek(self.folder) == before

    def test_exactly_the_given_mails_are_deleted(self, post: Post, open_source: OpenSource) -> None:
        self._can(Action.DELETE)
        self._plant(post, range(5))
        with open_source() as source:
            known = self._known(source)
            answers = source.settle([known[1], known[3]], DELETE)
        assert answers == {known[1].ref: Settled(), known[3].ref: Settled()}
        assert _raws(post, self.folder) == [a_mail(0), a_mail(2), a_mail(4)]

    def test_of_two_equal_mails_only_the_given_one_is_deleted(self, post: Post, open_source: OpenSource) -> None:
        self._can(Action.DELETE)
        post.plant(self.folder, a_mail(1))
        post.plant(self.folder, a_mail(1))
        with open_source() as source:
            known = self._known(source)
            source.settle(known[:1], DELETE)
            rest, _ = self._all(source, None)
        assert _raws(post, self.folder) == [a_mail(1)]
        assert _refs(rest) == [known[1].ref]

    def test_exactly_the_given_mails_are_marked_as_seen(self, post: Post, open_source: OpenSource) -> None:
        self._can(Action.SEEN)
        self._plant(post, range(3))
        with open_source() as source:
            known = self._known(source)
            answers = source.settle(known[:2], SEEN)
        assert set(answers.values()) == {Settled()}
        assert ["\\Seen" in flags for _, flags in post.peek(self.folder)] == [True, True, False]

    def test_exactly_the_given_mails_are_moved_and_the_target_is_made(
        self, post: Post, open_source: OpenSource
    ) -> None:
        self._can(Action.MOVE)
        self._plant(post, range(3))
        with open_source() as source:
            known = self._known(source)
            assert set(source.settle(known[:1], self._moving()).values()) == {Settled()}
            assert set(source.settle(known[1:2], self._moving()).values()) == {Settled()}
        assert _raws(post, self.folder) == [a_mail(2)]
        assert _raws(post, self.target) == [a_mail(0), a_mail(1)]

    @pytest.mark.parametrize("action", [Action.DELETE, Action.SEEN, Action.MOVE])
    def test_settling_twice_is_the_same_as_once(self, post: Post, open_source: OpenSource, action: Action) -> None:
        self._can(action)
        self._plant(post, range(3))
        care = self._care(action)
        with open_source() as source:
            known = self._known(source)[:2]
            source.settle(known, care)
        once = (post.peek(self.folder), _raws(post, self.target) if action is Action.MOVE else [])
        with open_source() as source:
            again = source.settle(known, care)
        assert (post.peek(self.folder), _raws(post, self.target) if action is Action.MOVE else []) == once
        assert all(isinstance(answer, Settled) for answer in again.values())

    @pytest.mark.parametrize("action", [Action.DELETE, Action.SEEN, Action.MOVE])
    def test_a_mail_that_is_gone_is_fine(self, post: Post, open_source: OpenSource, action: Action) -> None:
        self._can(action)
        self._plant(post, range(2))
        with open_source() as source:
            known = self._known(source)
            post.remove(self.folder, a_mail(0))
            answers = source.settle(known, self._care(action))
        assert answers == {known[0].ref: Settled(gone=True), known[1].ref: Settled()}

    @pytest.mark.parametrize("action", [Action.DELETE, Action.SEEN, Action.MOVE])
    def test_after_a_renumbering_nothing_is_touched(self, post: Post, open_source: OpenSource, action: Action) -> None:
        self._can(action)
        self._can_be_renumbered()
        self._plant(post, range(2))
        with open_source() as source:
            known = self._known(source)
        post.renumber(self.folder)
        before = post.peek(self.folder)
        with open_source() as source:
            answers = source.settle(known, self._care(action))
        assert all(isinstance(answers[each.ref], Trouble) for each in known)
        assert post.peek(self.folder) == before

    @pytest.mark.parametrize("action", [Action.DELETE, Action.SEEN, Action.MOVE])
    def test_another_mail_in_the_place_of_a_known_one_is_not_touched(
        self, post: Post, open_source: OpenSource, action: Action
    ) -> None:
        self._can(action)
        self._plant(post, range(2))
        before = post.peek(self.folder)
        with open_source() as source:
            known = self._known(source)
            stranger = Known(ref=known[0].ref, identity=Identity(fingerprint="0" * 32, strong=known[0].identity.strong))
            answers = source.settle([stranger, known[1]], self._care(action))
        assert isinstance(answers[stranger.ref], Trouble)
        assert answers[known[1].ref] == Settled()
        assert before[0] in post.peek(self.folder)

    def test_nothing_to_settle_is_fine(self, post: Post, open_source: OpenSource) -> None:
        post.plant(self.folder, a_mail(1))
        with open_source() as source:
            assert dict(source.settle([], KEEP)) == {}

    # ---- looking ----

    def test_the_folder_is_among_the_folders(self, post: Post, open_source: OpenSource) -> None:
        post.plant(self.folder, a_mail(1))
        with open_source() as source:
            found = {info.name: info for info in source.folders()}
        assert found[self.folder].selectable

    def test_a_check_tells_folders_that_work_from_those_that_do_not(self, post: Post, open_source: OpenSource) -> None:
        post.plant(self.folder, a_mail(1))
        missing = FolderRef("No such folder")
        with open_source() as source:
            findings = source.check([self.folder, missing], KEEP)
        faults = [finding for finding in findings if finding.level is Level.FAULT]
        assert [missing in finding.subject for finding in faults] == [True]
        assert all(finding.remedy for finding in faults)
        assert any(self.folder in finding.subject for finding in findings if finding.level is Level.FINE)

    def test_the_server_describes_itself_in_one_line(self, open_source: OpenSource) -> None:
        with open_source() as source:
            line = source.server()
        assert line.strip()
        assert line.isprintable()

    # ---- any story ----

    def test_every_law_holds_whatever_happens_in_whatever_order(self, post: Post, open_source: OpenSource) -> None:
        ground = Ground(
            post=post,
            open_source=open_source,
            actions=self.actions,
            renumbers=self.renumbers,
            folder=self.folder,
            target=self.target,
        )
        usual = (settings.default or settings()).max_examples
        hold_in_any_order(ground, examples=max(usual // self.costs, 3))

    # ---- what the tests are made of ----

    def _plant(self, post: Post, numbers: Iterable[int]) -> None:
        for number in numbers:
            post.plant(self.folder, a_mail(number))

    def _all(self, source: MailSource, cursor: Cursor | None, *, limit: int = 100) -> tuple[list[Envelope], Cursor]:
        """Every envelope behind the cursor, and the cursor behind them all."""
        found: list[Envelope] = []
        for _ in range(1000):
            page = source.list_since(self.folder, cursor, limit=limit)
            found += page.envelopes
            cursor = page.cursor
            if not page.more:
                return found, cursor
        raise AssertionError("there is always one more page")

    def _known(self, source: MailSource) -> list[Known]:
        return [Known(ref=each.ref, identity=each.identity) for each in self._all(source, None)[0]]

    def _moving(self) -> Aftercare:
        return Aftercare(Action.MOVE, self.target)

    def _care(self, action: Action) -> Aftercare:
        return self._moving() if action is Action.MOVE else Aftercare(action)

    def _can(self, action: Action) -> None:
        if action not in self.actions:
            pytest.skip(f"this kind cannot do {action.name}")

    def _can_be_renumbered(self) -> None:
        if not self.renumbers:
            pytest.skip("references of this kind never become void")


def _refs(envelopes: Iterable[Envelope]) -> list[MessageRef]:
    return [envelope.ref for envelope in envelopes]


def _subjects(envelopes: Iterable[Envelope]) -> list[str]:
    return [envelope.headers.subject for envelope in envelopes]


def _bytes(content: Content) -> bytes:
    return b"".join(content.chunks())


def _raws(post: Post, folder: str) -> list[bytes]:
    return [raw for raw, _ in post.peek(folder)]
