"""Who holds a lease: only a process of this very machine that is certainly gone counts as dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.engine.holder import for_people, is_dead, this_process

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="told by /proc only")


def owner_of(program: str) -> tuple[str, subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process.stdout.readline().strip(), process


PRINT = "from maildaemon_core.engine.holder import this_process; print(this_process(), flush=True); input()"


def test_a_process_that_was_killed_is_dead_even_before_its_parent_has_noticed() -> None:
    owner, process = owner_of(PRINT)
    with process:
        assert not is_dead(owner)
        process.kill()
        try:
            while not is_dead(owner):  # a zombie, until it is waited for
                assert process.returncode is None
        finally:
            process.wait()
    assert is_dead(owner)


def test_this_process_lives_and_says_so_differently_each_time() -> None:
    assert not is_dead(this_process())
    assert this_process() != this_process()


def test_another_process_that_got_the_same_number_is_not_the_holder() -> None:
    host, pid, number, machine, start, nonce = this_process().split()
    assert is_dead(" ".join((host, pid, number, machine, str(int(start) - 1), nonce)))


def test_in_doubt_nobody_is_dead() -> None:
    host, pid, _, machine, start, nonce = this_process().split()
    gone = "4194399"  # above the kernel's largest pid
    assert is_dead(" ".join((host, pid, gone, machine, start, nonce)))
    assert not is_dead(" ".join((host, pid, gone, "another-boot/pid:[1]", start, nonce)))
    assert not is_dead(" ".join((host, pid, gone, "?", start, nonce)))
    assert not is_dead(" ".join((host, pid, gone, machine, "?", nonce)))


@given(st.text(max_size=60) | st.lists(st.sampled_from(["host", "pid", "1", "²", "?", "-", ""])).map(" ".join))
def test_whatever_else_stands_there_is_not_dead(owner: str) -> None:
    assert not is_dead(owner)


def test_people_see_the_host_and_the_process_and_nothing_else() -> None:
    shown = for_people(this_process())
    assert shown.split()[1] == "pid"
    assert len(shown.split()) == 3
