"""The laws of ``ports.Destination`` as tests that every destination has to pass; shipped for authors of adapters.

class TestMine(DestinationConformance):
    @pytest.fixture
    def destination(self) -> Destination: ...  # open on an empty place

    @pytest.fixture
    def consumer(self) -> Consumer: ...  # looks at that place past the adapter

What a kind cannot promise is said by a class attribute, and asks for the rest all the same: ``exactly_once``,
``bounded_memory``.
"""

from __future__ import annotations

import hashlib
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import ClassVar, Final

import pytest

from maildaemon_core.errors import SourceUnavailable, Trouble
from maildaemon_core.message import CHUNK
from maildaemon_core.ports import Destination, Level, Occupied, Staged, StillStaged, Unknown, WasPublished
from maildaemon_core.progress import Receipt
from maildaemon_core.testing.destination_crashes import Breaking, CrashLaws
from maildaemon_core.testing.destination_names import NameLaws
from maildaemon_core.testing.destination_samples import (
    HUGE,
    Consumer,
    Huge,
    Torn,
    batch_of,
    published_of,
    put_of,
    staged_of,
)

__all__ = [
    "Breaking",
    "Consumer",
    "DestinationConformance",
    "Torn",
    "batch_of",
    "published_of",
    "put_of",
    "staged_of",
]

MANY: Final = 200
WORKERS: Final = 4
LITTLE: Final = 24 * 2**20
"""Bytes of memory that any file may take while it is stored."""


class DestinationConformance(NameLaws, CrashLaws):
    """Inherit from it and give the two fixtures.

    Give ``colleague`` too, if the place can be opened a second time, and ``breaking``, if the kind can be made to die
    in the middle of a call.
    """

    bounded_memory: ClassVar[bool] = True
    """Whether memory stays small while a large file is stored.  False where the server is in this very process."""

    huge: ClassVar[int] = HUGE
    """How large that file is, in bytes: well above the memory that it may take."""

    many: ClassVar[int] = MANY
    """How many parts a large batch has."""

    @pytest.fixture
    def destination(self) -> Destination:
        raise NotImplementedError("give a destination on an empty place")

    @pytest.fixture
    def consumer(self) -> Consumer:
        raise NotImplementedError("give somebody who looks at the same place")

    @pytest.fixture
    def colleague(self, destination: Destination) -> Destination:
        """Another worker's way to the same place."""
        return destination

    def test_what_is_staged_is_complete_and_nobody_sees_it(self, destination: Destination, consumer: Consumer) -> None:
        [staged] = staged_of(destination, batch_of(1), [put_of("a", "mails/a.eml", b"whole")])
        assert staged == Staged(part="a", path="mails/a.eml", size=5, sha256=hashlib.sha256(b"whole").hexdigest())
        assert consumer.files() == {}

    def test_publishing_makes_each_part_visible_whole(self, destination: Destination, consumer: Consumer) -> None:
        puts = [put_of("a", "a.eml", b"first"), put_of("b", "folder/b.pdf", b"second")]
        staged = staged_of(destination, batch_of(1), puts)
        answers = destination.publish(batch_of(1), staged)
        assert consumer.files() == {"a.eml": b"first", "folder/b.pdf": b"second"}
        for part in staged:
            receipt = answers[part.part]
            assert isinstance(receipt, Receipt)
            assert receipt.size == part.size
            assert receipt.at.utcoffset() == timedelta(0)

    def test_only_what_is_asked_for_is_published(self, destination: Destination, consumer: Consumer) -> None:
        one, _ = staged_of(destination, batch_of(1), [put_of("a", "a"), put_of("b", "b")])
        assert set(destination.publish(batch_of(1), [one])) == {"a"}
        assert set(consumer.files()) == {"a"}

    def test_nothing_is_ever_overwritten(self, destination: Destination, consumer: Consumer) -> None:
        published_of(destination, batch_of(1), [put_of("a", "folder/same", b"old")])
        puts = [put_of("a", "folder/same", b"new"), put_of("b", "folder/other", b"beside")]
        staged = staged_of(destination, batch_of(2), puts)
        answers = destination.publish(batch_of(2), staged)
        assert answers["a"] == Occupied()
        assert isinstance(answers["b"], Receipt)
        assert consumer.files() == {"folder/same": b"old", "folder/other": b"beside"}
        assert destination.recover(batch_of(2), staged[:1]) == {"a": StillStaged()}

    def test_what_was_refused_can_be_staged_again_under_another_name(
        self, destination: Destination, consumer: Consumer
    ) -> None:
        published_of(destination, batch_of(1), [put_of("a", "same", b"old")])
        staged = staged_of(destination, batch_of(2), [put_of("a", "same", b"new")])
        assert destination.publish(batch_of(2), staged) == {"a": Occupied()}
        published_of(destination, batch_of(2), [put_of("a", "same-1", b"new")])
        assert consumer.files() == {"same": b"old", "same-1": b"new"}

    def test_two_mails_of_the_same_bytes_are_two_files(self, destination: Destination, consumer: Consumer) -> None:
        published_of(destination, batch_of(1), [put_of("a", "same", b"equal")])
        staged = staged_of(destination, batch_of(2), [put_of("a", "same", b"equal")])
        assert destination.publish(batch_of(2), staged) == {"a": Occupied()}
        published_of(destination, batch_of(2), [put_of("a", "same-1", b"equal")])
        assert consumer.files() == {"same": b"equal", "same-1": b"equal"}

    def test_publishing_again_gives_a_receipt_again(self, destination: Destination, consumer: Consumer) -> None:
        staged = published_of(destination, batch_of(1), [put_of("a", "a", b"once"), put_of("b", "b", b"too")])
        again = destination.publish(batch_of(1), staged)
        assert all(isinstance(answer, Receipt) for answer in again.values())
        assert consumer.files() == {"a": b"once", "b": b"too"}

    def test_what_a_consumer_took_stays_published_and_does_not_come_back(
        self, destination: Destination, consumer: Consumer
    ) -> None:
        staged = published_of(destination, batch_of(1), [put_of("a", "out/a", b"once")])
        assert consumer.take("out/a") == b"once"
        assert isinstance(destination.publish(batch_of(1), staged)["a"], Receipt)
        assert isinstance(destination.recover(batch_of(1), staged)["a"], WasPublished)
        assert consumer.files() == {}

    def test_recovering_tells_what_was_published_from_what_was_not(
        self, destination: Destination, consumer: Consumer
    ) -> None:
        staged = staged_of(destination, batch_of(1), [put_of("a", "a", b"12345"), put_of("b", "b")])
        destination.publish(batch_of(1), staged[:1])
        answers = destination.recover(batch_of(1), staged)
        assert answers["b"] == StillStaged()
        published = answers["a"]
        assert isinstance(published, WasPublished)
        assert published.receipt.size == len(b"12345")
        assert set(consumer.files()) == {"a"}

    def test_recovering_changes_nothing(self, destination: Destination, consumer: Consumer) -> None:
        staged = staged_of(destination, batch_of(1), [put_of("a", "new folder/a")])
        first = destination.recover(batch_of(1), staged)
        assert destination.recover(batch_of(1), staged) == first == {"a": StillStaged()}
        assert consumer.files() == {}
        assert isinstance(destination.publish(batch_of(1), staged)["a"], Receipt)

    def test_of_a_batch_that_does_not_stand_nothing_is_known(
        self, destination: Destination, consumer: Consumer
    ) -> None:
        staged_of(destination, batch_of(1), [put_of("a", "a")])
        stranger = Staged(part="a", path="a", size=7, sha256=hashlib.sha256(b"content").hexdigest())
        assert destination.recover(batch_of(2), [stranger]) == {"a": Unknown()}
        assert destination.publish(batch_of(2), [stranger]) == {"a": Unknown()}
        assert consumer.files() == {}

    def test_of_a_forgotten_batch_nothing_is_known(self, destination: Destination, consumer: Consumer) -> None:
        puts = [put_of("a", "a", b"out"), put_of("b", "b", b"never")]
        staged = staged_of(destination, batch_of(1), puts)
        destination.publish(batch_of(1), staged[:1])
        destination.forget(batch_of(1))
        assert destination.recover(batch_of(1), staged) == {"a": Unknown(), "b": Unknown()}
        assert destination.publish(batch_of(1), staged) == {"a": Unknown(), "b": Unknown()}
        assert consumer.files() == {"a": b"out"}

    def test_forgetting_twice_is_the_same_as_once(self, destination: Destination) -> None:
        staged_of(destination, batch_of(1), [put_of("a", "a")])
        destination.forget(batch_of(1))
        destination.forget(batch_of(1))
        destination.forget(batch_of(2))
        assert list(destination.batches()) == []

    def test_the_batches_that_stand_can_be_listed(self, destination: Destination) -> None:
        assert list(destination.batches()) == []
        published_of(destination, batch_of(1), [put_of("a", "a")])
        staged_of(destination, batch_of(2), [put_of("a", "b")])
        staged_of(destination, batch_of(3), [put_of("a", "c")])
        destination.forget(batch_of(2))
        assert set(destination.batches()) == {batch_of(1), batch_of(3)}

    @pytest.mark.parametrize(
        "error", [SourceUnavailable("the server went away"), OSError("read error"), RuntimeError("a bug")]
    )
    def test_a_content_that_breaks_off_harms_no_other(
        self, destination: Destination, consumer: Consumer, error: Exception
    ) -> None:
        puts = [put_of("a", "a", b"before"), put_of("b", "b", Torn(error)), put_of("c", "c", b"after")]
        answers = destination.stage(batch_of(1), puts)
        assert isinstance(answers["b"], Trouble)
        assert str(error) in answers["b"].message
        staged = [answer for answer in answers.values() if isinstance(answer, Staged)]
        assert [each.part for each in staged] == ["a", "c"]
        assert all(isinstance(answer, Receipt) for answer in destination.publish(batch_of(1), staged).values())
        assert consumer.files() == {"a": b"before", "c": b"after"}

    def test_staging_again_replaces(self, destination: Destination, consumer: Consumer) -> None:
        staged_of(destination, batch_of(1), [put_of("a", "a", b"a first and longer draft")])
        published_of(destination, batch_of(1), [put_of("a", "b", b"final")])
        assert consumer.files() == {"b": b"final"}

    def test_two_workers_do_not_disturb_each_other(
        self, destination: Destination, colleague: Destination, consumer: Consumer
    ) -> None:
        mine, theirs = batch_of(1, token=1), batch_of(1, token=2)
        first = staged_of(destination, mine, [put_of("a", "shared/mine", b"mine")])
        second = staged_of(colleague, theirs, [put_of("a", "shared/theirs", b"theirs")])
        assert set(destination.batches()) == set(colleague.batches()) == {mine, theirs}
        assert isinstance(colleague.publish(theirs, second)["a"], Receipt)
        colleague.forget(theirs)
        assert destination.recover(mine, first) == {"a": StillStaged()}
        assert isinstance(destination.publish(mine, first)["a"], Receipt)
        assert consumer.files() == {"shared/mine": b"mine", "shared/theirs": b"theirs"}

    def test_a_worker_sees_what_another_published(
        self, destination: Destination, colleague: Destination, consumer: Consumer
    ) -> None:
        staged = staged_of(destination, batch_of(1), [put_of("a", "a", b"mine")])
        assert isinstance(colleague.publish(batch_of(1), staged)["a"], Receipt)
        consumer.take("a")
        assert isinstance(destination.publish(batch_of(1), staged)["a"], Receipt)
        assert consumer.files() == {}

    def test_of_many_who_want_the_same_path_one_gets_it(
        self, destination: Destination, colleague: Destination, consumer: Consumer
    ) -> None:
        def work(number: int) -> object:
            worker = destination if number % 2 else colleague
            staged = staged_of(worker, batch_of(number), [put_of("a", "new/one", b"%d" % number)])
            return worker.publish(batch_of(number), staged)["a"]

        with ThreadPoolExecutor(WORKERS) as pool:
            answers = list(pool.map(work, range(WORKERS)))
        winners = [number for number, answer in enumerate(answers) if isinstance(answer, Receipt)]
        assert len(winners) == 1, answers
        assert answers.count(Occupied()) == WORKERS - 1
        assert consumer.files() == {"new/one": b"%d" % winners[0]}

    def test_looking_at_it_leaves_nothing_behind(self, destination: Destination, consumer: Consumer) -> None:
        published_of(destination, batch_of(1), [put_of("a", "a", b"there")])
        assert destination.probe() is None
        findings = destination.check()
        assert findings
        assert all(finding.level is not Level.FAULT for finding in findings)
        assert all(finding.message and finding.subject for finding in findings)
        assert all(finding.remedy for finding in findings if finding.level is not Level.FINE)
        assert consumer.files() == {"a": b"there"}
        assert set(destination.batches()) == {batch_of(1)}

    def test_big_content_comes_through(self, destination: Destination, consumer: Consumer) -> None:
        data = hashlib.sha256(b"seed").digest() * (8 * CHUNK // 32) + b"and an odd end"
        [staged] = published_of(destination, batch_of(1), [put_of("a", "big", data)])
        assert (staged.size, staged.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert consumer.files() == {"big": data}

    def test_empty_content_is_a_file_too(self, destination: Destination, consumer: Consumer) -> None:
        [staged] = published_of(destination, batch_of(1), [put_of("a", "empty", b"")])
        assert staged.size == 0
        assert consumer.files() == {"empty": b""}

    def test_a_batch_may_have_many_parts_in_many_folders(self, destination: Destination, consumer: Consumer) -> None:
        puts = [put_of(f"{number}.part", f"{number % 7}/{number}.eml", b"%d" % number) for number in range(self.many)]
        published_of(destination, batch_of(1), puts)
        assert consumer.files() == {f"{number % 7}/{number}.eml": b"%d" % number for number in range(self.many)}

    def test_many_workers_at_once_do_not_mix_their_files_up(
        self, destination: Destination, colleague: Destination, consumer: Consumer
    ) -> None:
        def work(number: int) -> None:
            worker = destination if number % 2 else colleague
            puts = [put_of(f"{each}", f"shared/{number}-{each}", b"%d-%d" % (number, each)) for each in range(5)]
            published_of(worker, batch_of(number), puts)
            worker.forget(batch_of(number))

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(work, range(2 * WORKERS)))
        names = [f"{number}-{each}" for number in range(2 * WORKERS) for each in range(5)]
        assert consumer.files() == {f"shared/{name}": name.encode() for name in names}
        assert list(destination.batches()) == []

    def test_memory_does_not_grow_with_a_file(self, destination: Destination, consumer: Consumer) -> None:
        content = Huge(self.huge)
        published_of(destination, batch_of(1), [put_of("a", "warm", b"up")])
        tracemalloc.start()
        try:
            [staged] = published_of(destination, batch_of(2), [put_of("a", "huge", content)])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (staged.size, staged.sha256) == (content.size, content.sha256)
        assert hashlib.sha256(consumer.take("huge")).hexdigest() == content.sha256
        if self.bounded_memory:
            assert peak < LITTLE, f"{peak / 2**20:.0f} MiB for a file of {content.size / 2**20:.0f} MiB"

    def test_its_place_is_the_same_for_all_who_use_it(self, destination: Destination, colleague: Destination) -> None:
        assert destination.place == colleague.place != ""
        before = destination.place
        published_of(destination, batch_of(1), [put_of("a", "a")])
        assert destination.place == before

    def test_closing_twice_is_fine_and_loses_nothing(
        self, destination: Destination, colleague: Destination, consumer: Consumer
    ) -> None:
        published_of(destination, batch_of(1), [put_of("a", "a", b"kept")])
        staged_of(destination, batch_of(2), [put_of("a", "b", b"waiting")])
        destination.close()
        destination.close()
        assert consumer.files() == {"a": b"kept"}
        if colleague is not destination:
            assert set(colleague.batches()) == {batch_of(1), batch_of(2)}
