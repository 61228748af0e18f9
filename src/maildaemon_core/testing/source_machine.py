"""A state machine for mail sources: mail comes and goes, is read, tidied and renumbered, in any order.

It asks what the single tests of ``SourceConformance`` ask, after any story.  Each story begins with an empty folder.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar

import attrs
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from maildaemon_core.errors import Trouble
from maildaemon_core.message import Content, Cursor, FolderRef
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.ports import Fetched, Known, MailSource, Settled, Unfetched, Vanished
from maildaemon_core.testing.source_post import OpenSource, Post, a_mail

_numbers = itertools.count(1000)
"""A mail that no story had before: what a story leaves behind is never taken for its own."""

STEPS = 20

WITHOUT_END = 1000
"""Pages of a folder with some ten mails."""


@attrs.frozen(kw_only=True)
class Ground:
    """What a story is told on: a source, what reaches behind it, and what its kind can do."""

    post: Post
    open_source: OpenSource
    actions: frozenset[Action]
    renumbers: bool
    folder: FolderRef
    target: FolderRef


@attrs.define(kw_only=True)
class _Mail:
    """A mail that lies, or lay, in the folder; ``known`` as the source told it, under the numbering that holds."""

    number: int
    known: Known | None = None
    before: list[Known] = attrs.field(factory=list)


class SourceMachine(RuleBasedStateMachine):
    """A subclass has the ``ground``; see ``hold_in_any_order``."""

    ground: ClassVar[Ground]
    mails = Bundle("mails")

    def __init__(self) -> None:
        super().__init__()
        ground = self.ground
        for raw, _ in ground.post.peek(ground.folder):
            ground.post.remove(ground.folder, raw)
        self.lying: list[_Mail] = []
        self.gone: list[_Mail] = []
        self.cursor: Cursor | None = None
        self.renumbered = False
        self.source: MailSource = ground.open_source().__enter__()

    def teardown(self) -> None:
        self.source.__exit__(None, None, None)
        lies = [raw for raw, _ in self.ground.post.peek(self.ground.folder)]
        assert lies == [a_mail(mail.number) for mail in self.lying], "what lies there is what should"

    # ---- the world ----

    @initialize(target=mails, number=st.integers(0, 4))
    def some_lie_there(self, number: int) -> Any:
        mails = [self.a_mail_arrives() for _ in range(number)]
        self._read(2, pages=number)
        return multiple(*mails)

    @rule(target=mails)
    def a_mail_arrives(self) -> _Mail:
        mail = _Mail(number=next(_numbers))
        self.ground.post.plant(self.ground.folder, a_mail(mail.number))
        self.lying.append(mail)
        return mail

    @rule(mail=mails)
    def another_client_deletes_it(self, mail: _Mail) -> None:
        if mail in self.lying:
            self.ground.post.remove(self.ground.folder, a_mail(mail.number))
            self._goes(mail)

    @precondition(lambda self: self.ground.renumbers and self.lying)
    @rule()
    def the_folder_is_renumbered(self) -> None:
        self.ground.post.renumber(self.ground.folder)
        self.renumbered = True
        for mail in (*self.lying, *self.gone):
            mail.before += [mail.known] if mail.known else []
            mail.known = None
        self._another_session()

    # ---- the source ----

    @rule()
    def another_session_begins(self) -> None:
        self._another_session()

    @rule(limit=st.sampled_from([1, 2, 5, 100]))
    def the_folder_is_read_to_its_end(self, limit: int) -> None:
        # A reading that had begun before may go on with what lay there then; the next one has to find the rest.
        self._read(limit, pages=WITHOUT_END)
        self._read(limit, pages=WITHOUT_END)
        unseen = [mail.number for mail in self.lying if mail.known is None]
        assert not unseen, f"never listed: {unseen}"

    @rule(limit=st.sampled_from([1, 2, 3]), pages=st.integers(1, 2))
    def a_few_pages_are_read(self, limit: int, pages: int) -> None:
        self._read(limit, pages=pages)

    @rule(chosen=st.lists(mails, min_size=1, max_size=4, unique_by=id))
    def they_are_fetched(self, chosen: list[_Mail]) -> None:
        wanted = {mail.known.ref: mail for mail in chosen if mail.known}
        answers = {answer.ref: answer for answer in self.source.fetch(list(wanted))}
        assert answers.keys() == wanted.keys(), "one answer for each reference"
        for ref, mail in wanted.items():
            match answers[ref]:
                case Fetched(content=content):
                    assert _bytes(content) == a_mail(mail.number)
                    content.close()
                case Vanished():
                    assert mail not in self.lying, "only what is gone has vanished"
                case Unfetched(trouble=trouble):
                    raise AssertionError(f"it was not read: {trouble}")

    @rule(
        chosen=st.lists(mails, min_size=1, max_size=3, unique_by=id),
        action=st.sampled_from([Action.DELETE, Action.MOVE]),
    )
    def they_are_tidied_away(self, chosen: list[_Mail], action: Action) -> None:
        if action not in self.ground.actions:
            return
        care = Aftercare(action, self.ground.target if action is Action.MOVE else None)
        wanted = [mail for mail in chosen if mail.known]
        self._settled(wanted, care)
        for mail in wanted:
            if mail in self.lying:
                self._goes(mail)

    @rule(chosen=st.lists(mails, min_size=1, max_size=3, unique_by=id))
    def they_are_marked_as_seen(self, chosen: list[_Mail]) -> None:
        if Action.SEEN not in self.ground.actions:
            return
        wanted = [mail for mail in chosen if mail.known]
        self._settled(wanted, Aftercare(Action.SEEN))
        flags = dict(self.ground.post.peek(self.ground.folder))
        assert all("\\Seen" in flags[a_mail(mail.number)] for mail in wanted if mail in self.lying)

    @precondition(lambda self: any(mail.before for mail in (*self.lying, *self.gone)))
    @rule(choose=st.randoms(use_true_random=False))
    def what_one_was_called_before_a_renumbering_stands_for_nothing(self, choose: Random) -> None:
        known = choose.choice([mail for mail in (*self.lying, *self.gone) if mail.before]).before[-1]
        (answer,) = self.source.fetch([known.ref])
        assert isinstance(answer, Unfetched), "neither read nor called gone"
        if Action.DELETE in self.ground.actions:
            assert isinstance(self.source.settle([known], Aftercare(Action.DELETE))[known.ref], Trouble)

    @invariant()
    def no_reference_stands_for_two_mails(self) -> None:
        refs = [mail.known.ref for mail in (*self.lying, *self.gone) if mail.known]
        assert len(refs) == len(set(refs))

    # ---- parts ----

    def _another_session(self) -> None:
        self.source.__exit__(None, None, None)
        self.source = self.ground.open_source().__enter__()

    def _read(self, limit: int, *, pages: int) -> None:
        for _ in range(pages):
            page = self.source.list_since(self.ground.folder, self.cursor, limit=limit)
            assert len(page.envelopes) <= limit
            if page.renumbered:
                assert self.renumbered, "nobody has renumbered it"
                for mail in (*self.lying, *self.gone):
                    mail.known = None
            else:
                assert not (self.renumbered and self.cursor is not None), "it was renumbered, and that was not told"
            self.renumbered = False
            for envelope in page.envelopes:
                self._listed(envelope.headers.subject, Known(ref=envelope.ref, identity=envelope.identity))
            self.cursor = page.cursor
            if not page.more:
                return
        assert pages < WITHOUT_END, "there is always one more page"

    def _listed(self, subject: str, known: Known) -> None:
        found = [mail for mail in (*self.lying, *self.gone) if subject == f"number {mail.number}"]
        assert found, f"nobody has planted {subject!r}"
        (mail,) = found
        assert mail in self.lying, "it is gone"
        # A source may list again what it has listed, which the ledger knows by its reference; so that must be the same.
        assert mail.known is None or mail.known.ref == known.ref, "two references for one mail under one numbering"
        mail.known = known

    def _settled(self, wanted: Sequence[_Mail], care: Aftercare) -> None:
        known = [mail.known for mail in wanted if mail.known]
        answers = self.source.settle(known, care)
        for mail in wanted:
            assert mail.known is not None
            answer = answers[mail.known.ref]
            assert isinstance(answer, Settled), answer
            # One that another client has just deleted may still be there for this session (RFC 9051 §7.5.1).
            assert not (answer.gone and mail in self.lying), "it is there"

    def _goes(self, mail: _Mail) -> None:
        self.lying.remove(mail)
        self.gone.append(mail)


def hold_in_any_order(told_on: Ground, *, examples: int, shorten: bool = True) -> None:
    """Tells so many stories on it.  Raises AssertionError, with the story, for one after which a law does not hold.

    ``shorten``: it is made as short as possible first, which takes its time.
    """

    class Told(SourceMachine):
        ground = told_on

    run_state_machine_as_test(
        Told,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            phases=tuple(Phase) if shorten else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


def _bytes(content: Content) -> bytes:
    return b"".join(content.chunks())
