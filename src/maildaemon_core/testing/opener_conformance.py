"""The laws of ``containers.Opener`` as tests that every opener has to pass; shipped for authors of plug-ins.

class TestMine(OpenerConformance):
    opener = OPENER
    samples = (BuiltContainer(raw=…, name="a.box", files=(("a.txt", "text/plain", b"…"),)), …)
"""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maildaemon_core.containers import Budget, BudgetSpent, Opened, Opener, OpeningLimits
from maildaemon_core.message import CHUNK, BytesContent, Content
from maildaemon_core.testing.built_containers import BuiltContainer, Crumbled, taken, told, whole

SMALL: Final = 1 << 16
"""Bytes that may be read of a container besides a multiple of its size."""

LONGEST: Final = 1000
"""Characters; a sentence about a container that is longer quotes it."""

_CRUMBS: Final = ((1,), (2, 3), (7, 1, 64), (4096,))
_LENIENT = settings(
    deadline=None,  # how long an example takes depends on who else uses the machine
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.differing_executors],
)


class Unread:
    """A content that must not be read."""

    size = 1
    sha256 = hashlib.sha256(b"?").hexdigest()

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        raise AssertionError("recognises reads the content")

    def close(self) -> None:
        raise AssertionError("recognises closes the content")


def keep_strictly(pieces: Iterable[bytes]) -> Content:
    """Holds what an opener made, and sees that it comes in pieces."""
    held = []
    for piece in pieces:
        assert len(piece) <= CHUNK, f"a piece of {len(piece)} bytes is given to be kept"
        held.append(piece)
    return BytesContent(b"".join(held))


@st.composite
def edits(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Ways to damage a container: cut out, put in, overwrite, repeat; anywhere, one after the other."""
    steps = draw(
        st.lists(
            st.tuples(
                st.integers(0, 1 << 16),
                st.integers(0, 40),
                st.sampled_from((b"", b"\0", b"\xff", b"\x80", b"\xff\xff\xff\xff", b"\0\0\0\0"))
                | st.binary(max_size=12),
                st.booleans(),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def edit(raw: bytes) -> bytes:
        for at, length, new, again in steps:
            start = at % (len(raw) + 1)
            end = start + length
            raw = raw[:start] + (raw[start:end] * 2 if again else b"") + new + raw[end:]
        return raw

    return edit


class OpenerConformance:
    """Inherit from it and give the opener and samples of what it opens.

    ``read_factor``: how many times the size of a container may be read of it, at most.
    """

    opener: ClassVar[Opener]
    samples: ClassVar[Sequence[BuiltContainer]]
    read_factor: ClassVar[int] = 4

    def _open(self, sample: BuiltContainer, content: Content | None = None, **limits: int) -> Opened:
        container = sample.container(content)
        return self.opener.open(container, Budget(OpeningLimits(**limits), keep=keep_strictly))

    def _sound(self, opened: Opened) -> None:
        """What is true of whatever an opener gives, for whatever container."""
        for text in (*opened.losses, *opened.notes):
            assert 0 < len(text) <= LONGEST, f"a sentence of {len(text)} characters"
            text.encode()
        assert not opened.encrypted or opened.losses, "encrypted, and nothing is said to be missing"
        for file in opened.files:
            assert file.name is None or file.name.encode()
            assert file.content_type == file.content_type.lower()
            assert "/" in file.content_type
            file.content_type.encode("ascii")
            self._readable(file.content)
        if opened.entity is not None:
            self._readable(opened.entity)

    def _readable(self, content: Content) -> None:
        """It is a content: the same bytes at each reading and from any place, in pieces, as many as it says."""
        pieces = list(content.chunks())
        data = b"".join(pieces)
        assert all(0 < len(piece) <= CHUNK for piece in pieces)
        assert b"".join(content.chunks()) == data, "it cannot be read twice"
        assert content.size == len(data)
        assert content.sha256 == hashlib.sha256(data).hexdigest()
        middle = len(data) // 2
        assert b"".join(content.chunks(middle)) == data[middle:]
        assert b"".join(content.chunks(middle // 2, middle)) == data[middle // 2 : middle]

    def _bounded(self, sample: BuiltContainer) -> Opened:
        """Opens with a meter on."""
        content = Crumbled(sample.raw, (CHUNK,))
        container = sample.container(Budget().metered(content))
        opened = self.opener.open(container, Budget(keep=keep_strictly))
        most = self.read_factor * len(sample.raw) + SMALL
        assert content.read <= most, f"{content.read} bytes are read of {len(sample.raw)}"
        return opened

    # --------------------------------------------------------------------------------------- what is in a container

    def test_there_are_samples_with_something_in_them(self) -> None:
        assert self.opener.name
        assert any(sample.files or sample.entity is not None for sample in self.samples)

    def test_its_samples_are_recognised_by_type_and_name_alone(self) -> None:
        for sample in self.samples:
            assert self.opener.recognises(sample.container(Unread()))

    def test_an_ordinary_part_is_not_recognised(self) -> None:
        for kind, name in (("text/plain", None), ("application/pdf", "a.pdf"), ("message/rfc822", "a.eml")):
            part = BuiltContainer(raw=b"", content_type=kind, name=name)
            assert not self.opener.recognises(part.container(Unread()))

    def test_what_is_in_a_sample_is_found(self) -> None:
        for sample in self.samples:
            opened = self._open(sample)
            self._sound(opened)
            assert [taken(file) for file in opened.files] == list(sample.files)
            assert (None if opened.entity is None else whole(opened.entity)) == sample.entity
            assert opened.encrypted == sample.encrypted
            assert (not opened.losses) == sample.whole, opened.losses

    def test_the_same_container_gives_the_same(self) -> None:
        for sample in self.samples:
            assert told(self._open(sample)) == told(self._open(sample))

    def test_it_makes_no_difference_in_which_pieces_the_container_comes(self) -> None:
        for sample in self.samples:
            expected = told(self._open(sample))
            for lengths in _CRUMBS:
                assert told(self._open(sample, Crumbled(sample.raw, lengths))) == expected

    def test_nothing_is_kept_of_a_container(self) -> None:
        for sample in self.samples:
            content = Crumbled(sample.raw)
            gone = weakref.ref(content)
            opened = self._open(sample, content)
            del content, opened
            gc.collect()
            assert gone() is None, "the opener holds the content of a container that it has opened"

    # -------------------------------------------------------------------------------------- what is in a damaged one

    @_LENIENT
    @given(data=st.data())
    def test_a_damaged_container_is_opened_as_far_as_it_goes(self, data: st.DataObject) -> None:
        sample = data.draw(st.sampled_from(tuple(self.samples)))
        raw = data.draw(edits())(sample.raw)
        damaged = BuiltContainer(
            raw=raw, content_type=sample.content_type, name=sample.name, smime_type=sample.smime_type
        )
        opened = self._bounded(damaged)
        self._sound(opened)
        crumbled = Crumbled(raw, data.draw(st.sampled_from(_CRUMBS)))
        assert told(self._open(damaged, crumbled)) == told(opened)

    @_LENIENT
    @given(data=st.data(), raw=st.binary(max_size=300))
    def test_anything_at_all_is_opened(self, data: st.DataObject, raw: bytes) -> None:
        sample = data.draw(st.sampled_from(tuple(self.samples)))
        self._sound(self._bounded(BuiltContainer(raw=raw, content_type=sample.content_type, name=sample.name)))

    @_LENIENT
    @given(data=st.data())
    def test_what_is_cut_off_is_told(self, data: st.DataObject) -> None:
        sample = data.draw(st.sampled_from(tuple(self.samples)))
        length = data.draw(st.integers(0, len(sample.raw)))
        opened = self._open(sample, BytesContent(sample.raw[:length]))
        self._sound(opened)
        if opened.losses or length in sample.seams:
            return
        contents = [whole(file.content) for file in opened.files]
        assert contents == [content for _, _, content in sample.files]
        assert (None if opened.entity is None else whole(opened.entity)) == sample.entity

    # ---------------------------------------------------------------------------------------------------- the budget

    def test_no_more_is_read_than_a_few_times_the_size(self) -> None:
        for sample in self.samples:
            self._bounded(sample)

    def test_an_opener_that_may_not_read_on_says_so(self) -> None:
        for sample in self.samples:
            content = Crumbled(sample.raw, (CHUNK,))
            self._open(sample, content)
            budget = Budget(OpeningLimits(read=max(0, content.read - 1)), keep=keep_strictly)
            if content.read:
                with pytest.raises(BudgetSpent):
                    self.opener.open(sample.container(budget.metered(BytesContent(sample.raw))), budget)

    def test_an_opener_that_takes_too_long_says_so(self) -> None:
        for sample in self.samples:
            budget = Budget(OpeningLimits(seconds=0), keep=keep_strictly, clock=iter(range(1 << 30)).__next__)
            with pytest.raises(BudgetSpent):
                self.opener.open(sample.container(budget.metered(BytesContent(sample.raw))), budget)

    def test_every_file_counts(self) -> None:
        for sample in self.samples:
            count = len(self._open(sample).files)
            self._open(sample, files=count)
            if count:
                with pytest.raises(BudgetSpent):
                    self._open(sample, files=count - 1)

    def test_every_byte_that_comes_out_counts(self) -> None:
        for sample in self.samples:
            opened = self._open(sample)
            size = sum(file.content.size for file in opened.files) + (opened.entity.size if opened.entity else 0)
            if size:
                with pytest.raises(BudgetSpent):
                    self._open(sample, made=size - 1)
