"""Threads that can be left behind: in order, in the context of whoever asks, and never in the way of the end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from contextvars import ContextVar
from threading import Barrier, current_thread
from threading import Event as Signal

import pytest

from maildaemon_core.engine.lanes import Lanes

WORD: ContextVar[str] = ContextVar("word", default="none")


def test_one_lane_runs_one_call_at_a_time_in_their_order() -> None:
    seen: list[tuple[int, str]] = []
    with Lanes(1, "source") as lane:
        for number in range(50):
            lane.submit(lambda number=number: seen.append((number, current_thread().name)))  # type: ignore[misc]
    assert seen == [(number, "source_0") for number in range(50)]


def test_several_lanes_run_calls_side_by_side_and_no_more_threads_than_needed() -> None:
    with Lanes(3, "destination") as lanes:
        assert lanes.submit(lambda: current_thread().name).result(20) == "destination_0"
        together = Barrier(3)
        futures = [lanes.submit(together.wait, 20) for _ in range(3)]
        assert sorted(future.result(20) for future in futures) == [0, 1, 2]


def test_what_a_call_raises_comes_out_of_its_future_and_the_lane_goes_on() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with Lanes(1, "lane") as lane:
        with pytest.raises(SystemExit):
            lane.submit(leave).result(20)
        assert lane.submit(lambda: 7).result(20) == 7


def test_each_call_runs_in_the_context_of_whoever_submits_it() -> None:
    with Lanes(1, "lane") as lane:
        token = WORD.set("mine")
        future = lane.submit(WORD.get)
        WORD.reset(token)
        assert (future.result(20), lane.submit(WORD.get).result(20)) == ("mine", "none")


def test_a_lane_that_is_closed_works_off_what_came_and_takes_nothing_more() -> None:
    go_on = Signal()
    lane = Lanes(1, "lane")
    lane.submit(go_on.wait, 20)
    kept = lane.submit(lambda: "done")
    lane.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="closed"):
        lane.submit(lambda: None)
    go_on.set()
    assert kept.result(20) == "done"
    lane.shutdown()


def test_calls_that_have_not_begun_can_be_cancelled_at_the_end() -> None:
    go_on = Signal()
    lane = Lanes(1, "lane")
    first = lane.submit(go_on.wait, 20)
    waiting = lane.submit(lambda: "done")
    while not first.running():
        pass
    lane.shutdown(wait=False, cancel_futures=True)
    go_on.set()
    lane.shutdown()
    assert waiting.cancelled()
    assert first.result(20)


def test_a_call_that_never_returns_does_not_keep_the_process() -> None:
    program = """
        import time
        from maildaemon_core.engine.lanes import Lanes
        lane = Lanes(1, "lane")
        lane.submit(time.sleep, 60)
        print("over")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr) == ("over\n", "")
