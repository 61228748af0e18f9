"""The table in the documents is the one that the code goes by."""

from __future__ import annotations

from pathlib import Path

from maildaemon_core.progress import STEPS, Stage

PAGE = Path(__file__).parents[2] / "docs/explanation/the-way-of-a-mail.md"
OUTCOMES = {
    Stage.FOUND: "pending",
    Stage.WAITING: "failed",
    Stage.PLANNED: "pending",
    Stage.STORED: "stored",
    Stage.SETTLED: "stored",
    Stage.UNTIDIED: "failed",
    Stage.SKIPPED: "skipped",
    Stage.VANISHED: "skipped",
    Stage.SET_ASIDE: "skipped",
    Stage.GIVEN_UP: "failed",
    Stage.UNCONFIRMED: "failed",
}


def drawn() -> str:
    rows = ["| stage | outcome | what may happen |", "|---|---|---|"]
    for stage, steps in STEPS.items():
        happenings = ", ".join(f"{each.__name__} → {after.value}" for each, after in steps.items())
        rows.append(f"| {stage.value} | {OUTCOMES[stage]} | {happenings} |")
    return "\n".join(rows)


def test_the_documented_table_is_the_table_in_use() -> None:
    text = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- stages: drawn from progress.STEPS -->\n", "\n<!-- end of stages -->"
    assert text[text.index(begin) + len(begin) : text.index(end)] == drawn()
