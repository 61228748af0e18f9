"""The tests that openers inherit: a right opener passes all of them, and a wrong one fails where it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from maildaemon_core.containers import Budget, BudgetSpent, Container, InnerFile, Opened, Opener, SliceContent
from maildaemon_core.message import BytesContent, Content
from maildaemon_core.testing.built_containers import BuiltContainer, whole
from maildaemon_core.testing.opener_conformance import OpenerConformance

MAGIC = b"BOX1"


def box(*files: tuple[str, bytes]) -> BuiltContainer:
    """A made-up container: after the magic, how many files, and of each the lengths of name and content, and both."""
    body = b"".join(
        bytes((len(name.encode()), len(data) >> 8, len(data) & 0xFF)) + name.encode() + data for name, data in files
    )
    return BuiltContainer(
        raw=MAGIC + bytes((len(files),)) + body,
        content_type="application/x-box",
        name="a.box",
        files=tuple((name, "application/octet-stream", data) for name, data in files),
    )


class BoxOpener:
    """Opens a box, rightly."""

    name = "box"

    def recognises(self, container: Container) -> bool:
        return container.content_type == "application/x-box"

    def open(self, container: Container, budget: Budget) -> Opened:
        files: list[InnerFile] = []
        losses = [] if self.at(container.content, 0, 4) == MAGIC else ["no box"]
        if not losses:
            losses += self.read(container.content, files, budget)
        return Opened(files=files, losses=losses)

    def at(self, content: Content, start: int, length: int) -> bytes:
        return b"".join(content.chunks(start, start + length))

    def read(self, content: Content, files: list[InnerFile], budget: Budget) -> Iterator[str]:
        place = 5
        for _ in range((self.at(content, 4, 1) or b"\xff")[0]):
            head = self.at(content, place, 3)
            if len(head) < 3:
                yield "it ends early"
                return
            start = place + 3 + head[0]
            stop = start + (head[1] << 8) + head[2]
            budget.file()
            name = self.at(content, place + 3, head[0]).decode("utf-8", "replace") or None
            found = self.content(content, min(start, content.size), min(stop, content.size), budget)
            files.append(InnerFile(name=name, content_type="application/octet-stream", content=found))
            if stop > content.size:
                yield "it ends early"
                return
            place = stop

    def content(self, content: Content, start: int, stop: int, budget: Budget) -> Content:
        budget.make(stop - start)
        return SliceContent(content, start, stop)


class Raising(BoxOpener):
    def at(self, content: Content, start: int, length: int) -> bytes:
        data = super().at(content, start, length)
        if len(data) < length:
            raise EOFError
        return data


class Silent(BoxOpener):
    def open(self, container: Container, budget: Budget) -> Opened:
        opened = super().open(container, budget)
        return Opened(files=opened.files)


class Remembering(BoxOpener):
    def __init__(self) -> None:
        self.seen: list[Container] = []

    def open(self, container: Container, budget: Budget) -> Opened:
        self.seen.append(container)
        return super().open(container, budget)


class Fickle(BoxOpener):
    def __init__(self) -> None:
        self.times = 0

    def open(self, container: Container, budget: Budget) -> Opened:
        self.times += 1
        opened = super().open(container, budget)
        return Opened(files=opened.files, losses=opened.losses, notes=(f"time {self.times}",))


class ByPieces(BoxOpener):
    """Takes the first piece for the whole."""

    def at(self, content: Content, start: int, length: int) -> bytes:
        return next(content.chunks(start, start + length), b"") if start < content.size else b""


class Greedy(BoxOpener):
    """Reads all of it for each byte."""

    def at(self, content: Content, start: int, length: int) -> bytes:
        return b"".join(whole(content)[place : place + 1] for place in range(start, start + length))


class Deaf(BoxOpener):
    """Goes on when the budget is spent."""

    def open(self, container: Container, budget: Budget) -> Opened:
        try:
            return super().open(container, budget)
        except BudgetSpent:
            return Opened(losses=("too much",))


class Uncounting(BoxOpener):
    def content(self, content: Content, start: int, stop: int, budget: Budget) -> Content:
        return SliceContent(content, start, stop)


class Numberless(BoxOpener):
    def read(self, content: Content, files: list[InnerFile], budget: Budget) -> Iterator[str]:
        return super().read(content, files, Budget(keep=budget.keep))

    def content(self, content: Content, start: int, stop: int, budget: Budget) -> Content:
        return SliceContent(content, start, stop)


class Once:
    """A content that can be read once."""

    def __init__(self, data: bytes) -> None:
        self._content = BytesContent(data)
        self.size, self.sha256 = self._content.size, self._content.sha256
        self._pieces = self._content.chunks()

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        pass


class Fleeting(BoxOpener):
    def content(self, content: Content, start: int, stop: int, budget: Budget) -> Content:
        budget.make(stop - start)
        return Once(b"".join(content.chunks(start, stop)))


class Peeking(BoxOpener):
    def recognises(self, container: Container) -> bool:
        return self.at(container.content, 0, 4) == MAGIC


class Grasping(BoxOpener):
    def recognises(self, container: Container) -> bool:
        return True


class Surrogate(BoxOpener):
    """Lets out what is no Unicode."""

    def open(self, container: Container, budget: Budget) -> Opened:
        opened = super().open(container, budget)
        name = whole(container.content)[:40].decode("utf-8", "surrogateescape")
        return Opened(files=opened.files, losses=opened.losses, notes=(name,) if name else ())


class Lump(BoxOpener):
    """Has it kept in one piece, however large."""

    def content(self, content: Content, start: int, stop: int, budget: Budget) -> Content:
        return budget.keep([b"".join(content.chunks(start, stop)), bytes(1 << 20)][: 1 + (stop - start > 60_000)])


SMALL_ONES = (box(), box(("a.txt", b"content"), ("b", b""), ("ü", b"x" * 300)))
LARGE = box(("c", b"y" * 65_000))


def a_test_of(opener_: Opener, name: str, samples_: tuple[BuiltContainer, ...]) -> Callable[[], None]:
    """A test of the kit, bound to an opener."""

    class Kit(OpenerConformance):
        opener = opener_
        samples = samples_

    test: Callable[[], None] = getattr(Kit(), f"test_{name}")
    return test


class TestRightOpener(OpenerConformance):
    """It passes all of them."""

    opener = BoxOpener()
    samples = (*SMALL_ONES, LARGE)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Raising, "anything_at_all_is_opened"),
        (Silent, "what_is_cut_off_is_told"),
        (Remembering, "nothing_is_kept_of_a_container"),
        (Fickle, "the_same_container_gives_the_same"),
        (ByPieces, "it_makes_no_difference_in_which_pieces_the_container_comes"),
        (Greedy, "no_more_is_read_than_a_few_times_the_size"),
        (Deaf, "an_opener_that_may_not_read_on_says_so"),
        (Deaf, "an_opener_that_takes_too_long_says_so"),
        (Uncounting, "every_byte_that_comes_out_counts"),
        (Numberless, "every_file_counts"),
        (Fleeting, "what_is_in_a_sample_is_found"),
        (Peeking, "its_samples_are_recognised_by_type_and_name_alone"),
        (Grasping, "an_ordinary_part_is_not_recognised"),
        (Surrogate, "a_damaged_container_is_opened_as_far_as_it_goes"),
        (Lump, "what_is_in_a_sample_is_found"),
    ],
)
def test_a_wrong_opener_fails_where_it_is_wrong(make: Callable[[], Opener], expected: str) -> None:
    samples = (LARGE,) if make in {Greedy, Lump} else SMALL_ONES
    with pytest.raises((AssertionError, EOFError, UnicodeEncodeError, pytest.fail.Exception)):
        a_test_of(make(), expected, samples)()


def test_samples_without_anything_in_them_prove_nothing() -> None:
    with pytest.raises(AssertionError):
        a_test_of(BoxOpener(), "there_are_samples_with_something_in_them", (box(),))()
